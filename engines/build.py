"""Build one engine from one graph, with the types that the graph states."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from uigc.engines import inspector, plan_census, precision
from uigc.engines.backend import Backend
from uigc.engines.profile import Profile, Shape
from uigc.engines.sidecar import Sidecar, source_of
from uigc.runtime.bundle import Bundle
from uigc.runtime.bundle.graph_entry import graph_entry, tf32_is_exact
from uigc.runtime.errors import EngineError
from uigc.runtime.io.atomic import replace as replace_file

LOG = logging.getLogger("uigc")
REMEDY = "build it in another precision, for another target, or see docs/ENGINES.md"


def options(proof: dict[str, Any]) -> dict[str, Any]:
    """Return the builder's options besides targets and profiles. TF32 is cleared unless the graph has a proof by which
    it rounds nothing; types are the graph's own."""
    return {"typed": "strongly", "tf32": tf32_is_exact(proof), "verbosity": "detailed"}


def describe_engine(
    bundle: Bundle,
    backend: Backend,
    graph: str,
    chosen: str,
    targets: tuple[str, ...],
    profiles: Iterable[Profile],
    gpu: str = "",
) -> Sidecar:
    """Return the sidecar of an engine that is yet to be built: everything that identifies it."""
    entry = graph_entry(bundle.graph(graph, chosen))
    described = tuple(asdict(profile) for profile in profiles)
    return Sidecar(source_of(entry), backend.name, backend.version, targets, gpu, described, options(entry.proof))


def build(
    bundle: Bundle, backend: Backend, sidecar: Sidecar, profiles: Iterable[Profile], cache: Path | None = None
) -> tuple[bytes, Sidecar]:
    """The plan of what ``sidecar`` describes, and the sidecar completed with what was built; nothing is written but
    the timing ``cache``, where TensorRT times kernels.

    Raises :class:`EngineError` if TensorRT refuses, or shows that it built another precision than was asked for.
    """
    source, trt = sidecar.source, backend.trt
    began = time.perf_counter()
    builder = backend.made(lambda: trt.Builder(backend.logger), "start its builder")
    # The parser is kept, because it holds weights of the network.
    network, _parser = _parsed(backend, builder, bundle.graph(source.graph, source.precision))
    shapes = [_shapes(profile, bundle, source.graph) for profile in profiles]
    config = _config(backend, builder, network, sidecar, shapes)
    if cache is not None:
        _use_timings(backend, config, cache)
    made = builder.build_serialized_network(network, config)
    blob = bytes(backend.checked(made, f"build {source.graph} in {source.precision}", REMEDY))
    if cache is not None:
        _keep_timings(backend, config, cache)
    counts = _census(backend, blob, _products(trt, network), len(shapes), sidecar.options["tf32"])
    warning = precision.check(source.graph, source.precision, counts)
    return blob, replace(
        sidecar,
        products=counts,
        warning=warning or "",
        plan_bytes=len(blob),
        plan_sha256=hashlib.sha256(blob).hexdigest(),
        seconds=round(time.perf_counter() - began, 2),
    )


def _parsed(backend: Backend, builder: Any, path: Path) -> tuple[Any, Any]:
    """Return the graph as TensorRT's network, and its parser."""
    trt = backend.trt
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = backend.checked(builder.create_network(typed), "make a network")
    parser = backend.checked(trt.OnnxParser(network, backend.logger), "start its parser")
    if not parser.parse_from_file(str(path)):
        faults = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        reason = faults[0].strip().splitlines()[0] if faults and faults[0].strip() else backend.log.take()
        raise EngineError(f"{backend.name} {backend.version} could not parse {path.name}: {reason}; {REMEDY}.")
    return network, parser


def _shapes(profile: Profile, bundle: Bundle, graph: str) -> tuple[Shape, Shape, Shape]:
    return profile.shapes(graph, bundle.patch, bundle.window, planes=not bundle.has_byte_images)


def _config(
    backend: Backend, builder: Any, network: Any, sidecar: Sidecar, shapes: Iterable[tuple[Shape, Shape, Shape]]
) -> Any:
    trt = backend.trt
    config = backend.checked(builder.create_builder_config(), "make a configuration")
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if sidecar.options["tf32"]:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    if backend.targets():
        chosen = backend.chosen_targets(sidecar.targets)
        config.num_compute_capabilities = len(chosen)
        for index, (name, target) in enumerate(chosen.items()):
            backend.checked(config.set_compute_capability(target, index), f"take the target {name}")
    tensor = network.get_input(0).name
    for least, usual, largest in shapes:
        profile = backend.checked(builder.create_optimization_profile(), "make a profile")
        profile.set_shape(tensor, least, usual, largest)
        backend.checked(config.add_optimization_profile(profile) >= 0, f"take inputs from {least} to {largest}")
    return config


def _use_timings(backend: Backend, config: Any, path: Path) -> None:
    """Let the builder take known timings of kernels from the file, and add to them."""
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known) or config.create_timing_cache(b"")
    backend.checked(cache, f"read {path}", "remove that file")
    backend.checked(config.set_timing_cache(cache, ignore_mismatch=False), f"use {path}", "remove that file")


def _keep_timings(backend: Backend, config: Any, path: Path) -> None:
    """Write the timings of kernels for the next build, which is only slower without them."""
    known = config.get_timing_cache()
    timings = known.serialize() if known is not None else None
    if timings is None:
        LOG.warning("The timings of kernels cannot be kept: %s.", backend.log.take())
        return
    replace_file(path, lambda part: part.write_bytes(bytes(timings)))


def _census(backend: Backend, blob: bytes, products: list[str], profiles: int, tf32: bool) -> dict[str, int]:
    """Products by precision, from the plan where it is built ahead of time, else by the inspector on this GPU."""
    if backend.targets():
        return plan_census.completed(plan_census.census(blob), len(products) * profiles)
    return inspector.census(backend, blob, products, tf32)


def _products(trt: Any, network: Any) -> list[str]:
    """Return the names of the network's matrix products and convolutions."""
    kinds = trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return [str(layer.name) for layer in layers if layer.type in kinds]
