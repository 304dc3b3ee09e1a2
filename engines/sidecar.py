"""An engine is two files: the plan, ``decoder.fp16.engine``, and its sidecar, ``decoder.fp16.json``: what it is.

Plans are known by what they were made of, never by their bytes, which differ from build to build.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.graph_entry import GraphEntry
from uigc.runtime.errors import EngineError
from uigc.runtime.io.atomic import replace as replace_file

FORMAT = "uigc-engine"
VERSION = 2
SUFFIX = ".engine"
IDENTITY = "source", "backend", "version", "targets", "gpu", "profiles", "options"
AGAIN = "build the engine again"


@dataclass(frozen=True)
class Source:
    """The graph that an engine is of: SHA-256 of the ONNX file and of the bundle's weights, and the prior's id."""

    graph: str
    precision: str
    graph_sha256: str
    weights_sha256: str
    prior: str


def source_of(entry: GraphEntry) -> Source:
    """Return the source that an ONNX file of a bundle is."""
    manifest = entry.manifest
    hashes = entry.sha256, manifest["weights"]["sha256"]
    return Source(entry.graph, entry.precision, *hashes, manifest["prior"]["id"])


@dataclass(frozen=True)
class Sidecar:
    """The description of an engine.

    The fields from ``source`` to ``options`` identify it: two engines with equal values are interchangeable.
    ``gpu``: the model of the GPU that it was built on, and runs on; empty where engines are built ahead of time.
    ``products``: how many products were built in each precision; ``warning``: what is wrong with that.
    """

    source: Source
    backend: str
    version: str
    targets: tuple[str, ...]
    gpu: str
    profiles: tuple[dict[str, Any], ...]
    options: dict[str, Any]
    products: dict[str, int] = field(default_factory=dict)
    warning: str = ""
    plan_bytes: int = 0
    plan_sha256: str = ""
    seconds: float = 0.0

    @property
    def identity(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {name: facts[name] for name in IDENTITY}

    @property
    def key(self) -> str:
        """SHA-256 of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    def write(self, plan_path: Path) -> None:
        facts = {"format": FORMAT, "format_version": VERSION, "key": self.key, **asdict(self)}
        text = json.dumps(facts, indent=1) + "\n"
        replace_file(sidecar_path(plan_path), lambda part: part.write_text(text, encoding="utf-8"))

    @classmethod
    def read(cls, plan_path: Path, remedy: str = AGAIN) -> Sidecar:
        """The sidecar of a plan; an :class:`EngineError` if there is none that can be understood."""
        path = sidecar_path(plan_path)
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if (facts.pop("format"), facts.pop("format_version")) != (FORMAT, VERSION):
                raise ValueError("another format or version")
            key = facts.pop("key")
            facts["source"] = Source(**facts["source"])
            facts["targets"], facts["profiles"] = tuple(facts["targets"]), tuple(facts["profiles"])
            sidecar = cls(**facts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise EngineError(f"{path} is not the sidecar of an engine ({error}); {remedy}.") from None
        if sidecar.key != key:
            raise EngineError(f"{path} was changed after it was written; {remedy}.")
        return sidecar


def plan_path(folder: Path, graph: str, precision: str) -> Path:
    return folder / f"{graph}.{precision}{SUFFIX}"


def sidecar_path(plan: Path) -> Path:
    return plan.with_suffix(".json")


def precisions(folder: Path, graph: str) -> list[str]:
    """Return the precisions in which the folder has an engine of that graph, valid or not."""
    return [name for name in layout.PRECISIONS if plan_path(folder, graph, name).is_file()]


def store(plan_path: Path, plan: bytes, sidecar: Sidecar) -> None:
    """Write both, each whole or not at all; a plan whose sidecar is another's is refused when it is loaded."""
    replace_file(plan_path, lambda part: part.write_bytes(plan))
    sidecar.write(plan_path)


def read_checked_plan(plan_path: Path, sidecar: Sidecar, remedy: str = AGAIN) -> bytes:
    """Return the plan of a sidecar; raises an :class:`EngineError` if it is truncated or another."""
    try:
        plan = plan_path.read_bytes()
    except OSError as error:
        raise EngineError(f"{plan_path} cannot be read ({error.strerror}); {remedy}.") from None
    if len(plan) != sidecar.plan_bytes:
        raise EngineError(
            f"{plan_path.name} has {len(plan)} bytes and its sidecar says {sidecar.plan_bytes}, so it is truncated or "
            f"belongs to another engine; {remedy}."
        )
    if hashlib.sha256(plan).hexdigest() != sidecar.plan_sha256:
        raise EngineError(f"{plan_path.name} does not have the hash of its sidecar; {remedy}.")
    return plan


def mismatch(found: Sidecar, needed: Sidecar) -> str:
    """Return why an engine is not the one that is ``needed``, in words; empty if it is.

    ``needed``: with the one target and the GPU that are here; its profiles do not matter.
    """
    source, backend, version, (target,) = needed.source, needed.backend, needed.version, needed.targets
    if (found.source.graph, found.source.precision) != (source.graph, source.precision):
        return f"is of {found.source.graph} in {found.source.precision}"
    if found.source != source:
        return "was built from another graph or other weights"
    if found.backend != backend:
        return f"was built by {found.backend}, and {backend} is to run it"
    if found.version != version:
        return f"was built by {backend} {found.version}, and {version} is installed"
    if found.options != needed.options:
        return "was built with other options than this version of uigc builds with"
    if target not in found.targets:
        return f"was built for {', '.join(found.targets)}, and this GPU is {target}"
    if found.gpu and found.gpu != needed.gpu:
        return f"was built on {found.gpu}, whose kernels it timed, and this GPU is {needed.gpu}"
    return ""
