"""An HTTP server that compresses and decompresses, and stays up: python server.py --port 8000

POST /compress?mask=edge   image -> .uigc file          GET /health    what it serves, 200 while it does
POST /decompress           .uigc file -> PNG            GET /metrics   counters, as Prometheus reads them

A request takes one of ``workers + queue`` places before its body is read, and is answered with 503 if none is free; so
neither bodies nor images pile up in memory. Bodies that are too long, too slow or refused by the codec are answered
with 413, 408 or the status of the codec's error, and cost nobody else anything.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from uigc import Codec
from uigc.runtime import errors

STATUS = {
    errors.UsageError: 400,
    errors.PriorMismatchError: 409,
    errors.TooLargeError: 413,
    errors.UnrecognizedFileError: 415,
    errors.UnsupportedVersionError: 415,
    errors.InputError: 422,
    errors.CorruptFileError: 422,
    errors.InexactError: 422,
}
"""What a client did wrong; every other error is the server's."""


@dataclass(frozen=True)
class Limits:
    """Images worked on at a time, requests that wait for them, bytes of a body, and seconds that it may take."""

    workers: int = 2
    queue: int = 8
    max_body: int = 1 << 25
    body_seconds: float = 10.0


class TooLong(Exception):
    """A body has more bytes than are admitted."""


class Server:
    """The routes, around one codec."""

    def __init__(self, codec: Codec, limits: Limits) -> None:
        self.codec, self.limits = codec, limits
        self.pool = ThreadPoolExecutor(limits.workers)
        self.taken = 0
        self.answers: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/compress", self.compress, methods=["POST"]),
                Route("/decompress", self.decompress, methods=["POST"]),
                Route("/health", self.health),
                Route("/metrics", self.metrics),
            ]
        )

    async def compress(self, request: Request) -> Response:
        mask = request.query_params.get("mask", "edge")
        return await self.serve(request, lambda body: self.codec.compress(body, mask), "image/x-uigc")

    async def decompress(self, request: Request) -> Response:
        return await self.serve(request, self.png, "image/png")

    def png(self, body: bytes) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(self.codec.decompress(body)).save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()

    async def serve(self, request: Request, work: Callable[[bytes], bytes], media_type: str) -> Response:
        """Answer a request whose body is worked on, within the limits, and count it."""
        begin, route = time.perf_counter(), request.url.path.strip("/")
        if self.taken >= self.limits.workers + self.limits.queue:
            response = refused(503, "Overloaded", "All places are taken; try again.", {"Retry-After": "1"})
        else:
            self.taken += 1
            try:
                response = await self.answer(request, work, media_type)
            finally:
                self.taken -= 1
        self.answers[route, response.status_code] += 1
        self.seconds[route] += time.perf_counter() - begin
        return response

    async def answer(self, request: Request, work: Callable[[bytes], bytes], media_type: str) -> Response:
        try:
            body = await asyncio.wait_for(self.body(request), self.limits.body_seconds)
            result = await asyncio.get_running_loop().run_in_executor(self.pool, work, body)
            return Response(result, media_type=media_type)
        except TooLong:
            return refused(413, "TooLong", f"The body has more than {self.limits.max_body} bytes; send fewer.")
        except (TimeoutError, ClientDisconnect):
            return refused(408, "TooSlow", "The body did not arrive in time; send it again.")
        except errors.UigcError as error:
            status = next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)
            return refused(status, type(error).__name__, str(error))

    async def body(self, request: Request) -> bytes:
        """Read a body; stops at the limit, whatever the header says of its length."""
        stated = request.headers.get("content-length", "0")
        if not stated.isdecimal() or int(stated) > self.limits.max_body:
            raise TooLong
        parts, length = [], 0
        async for part in request.stream():
            length += len(part)
            if length > self.limits.max_body:
                raise TooLong
            parts.append(part)
        return b"".join(parts)

    async def health(self, request: Request) -> Response:
        places = self.limits.workers + self.limits.queue
        return JSONResponse({"prior": self.codec.bundle.prior_id.hex(), "taken": self.taken, "places": places})

    async def metrics(self, request: Request) -> Response:
        lines = [f'uigc_answers_total{{route="{route}",status="{status}"}} {count}'
                 for (route, status), count in sorted(self.answers.items())]  # fmt: skip
        lines += [f'uigc_seconds_total{{route="{route}"}} {total:.6f}' for route, total in sorted(self.seconds.items())]
        return PlainTextResponse("\n".join([*lines, f"uigc_places_taken {self.taken}"]) + "\n")


def refused(status: int, name: str, message: str, headers: dict[str, str] | None = None) -> Response:
    # The connection is not used again: what is left of a body is neither read nor waited for.
    return JSONResponse({"error": name, "message": message}, status, {"Connection": "close", **(headers or {})})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--bundle")
    parser.add_argument("--workers", type=int, default=Limits.workers, help="images worked on at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of each")
    parser.add_argument("--queue", type=int, default=Limits.queue, help="requests that may wait")
    parser.add_argument("--max-body", type=int, default=Limits.max_body, help="bytes")
    parser.add_argument("--max-pixels", type=int, default=1 << 22, help="pixels of an image")
    parser.add_argument("--body-seconds", type=float, default=Limits.body_seconds, help="time for a body to arrive")
    options = parser.parse_args()
    codec = Codec(options.bundle, threads=options.threads, max_pixels=options.max_pixels)
    limits = Limits(options.workers, options.queue, options.max_body, options.body_seconds)
    codec.decompress(codec.compress(Image.new("RGB", (64, 64))))  # loads the graphs before the port is open
    uvicorn.run(Server(codec, limits).app(), host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
