"""The bundle: a folder with ``manifest.json``, ONNX graphs for the encoder, every stage and the decoder, and one
``weights.safetensors`` that the graphs' external data points into. ``docs/BUNDLE.md`` specifies it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uigc.runtime.bundle import manifest as layout
from uigc.runtime.bundle.manifest import CODEWORDS, TABLES, WEIGHTS
from uigc.runtime.bundle.prior_id import prior_id
from uigc.runtime.bundle.safetensors import TensorFile
from uigc.runtime.errors import BundleError
from uigc.runtime.format.block_choice import in_steps
from uigc.runtime.format.schedule import Schedule

PRIOR_PREFIX = "prior."
MAX_FAULTS = 100  # that one error lists


def default_path() -> Path:
    """Return the path of the default bundle, which is installed with the package."""
    return Path(__file__).parent.parent / "default_bundle"


@dataclass(frozen=True)
class Bundle:
    """A validated bundle: its folder, its manifest, and the files that the manifest names."""

    path: Path
    manifest: dict[str, Any]
    schedule: Schedule
    stamps: Mapping[Path, layout.Stamp] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, path: Path | str | None = None, recompute: bool = True) -> Bundle:
        """Read and validate a bundle (None: the default bundle); one error reports its faults, a hundred at most.

        ``recompute``: whether to derive the prior's id from the weights again. A codec skips it to start sooner: the
        hashes of all files are checked in any case, so the id is the one that the exporter derived from them.
        """
        folder = Path(path) if path is not None else default_path()
        manifest = layout.read(folder)
        stamps = {path: stamp for path in layout.files(folder, manifest) if (stamp := layout.stamp(path))}
        try:
            faults = [layout.shown(fault) for fault in islice(layout.faults(folder, manifest), MAX_FAULTS)]
        except (AttributeError, KeyError, OSError, OverflowError, TypeError, ValueError) as error:
            faults = [layout.shown(f"the manifest is malformed ({type(error).__name__}: {error})")]
        if faults:
            raise BundleError(f"The bundle {folder} is not usable: {'; '.join(faults)}; export it again.")
        schedule = Schedule.from_json(manifest["schedule"]["tile"], manifest["schedule"]["stages"])
        bundle = cls(folder, manifest, schedule, stamps)
        if recompute:
            bundle._check_prior_id()
        return bundle

    def check_unchanged(self) -> None:
        """Raise a :class:`BundleError` if graphs or weights were changed or replaced since their hashes were checked.

        Graphs are loaded when they are first needed, and weights may be read from the file whenever a graph runs.
        """
        for path, stamp in self.stamps.items():
            if layout.stamp(path) != stamp:
                raise BundleError(
                    f"{path} was changed while the bundle was in use, so the results are thrown away; open the bundle "
                    "again, and install new bundles in folders of their own."
                )

    @property
    def prior_id(self) -> bytes:
        """The SHA-256 (32 bytes) of everything that decides symbols."""
        return bytes.fromhex(self.manifest["prior"]["id"])

    @property
    def codebook(self) -> int:
        """The codebook size; tokens are 0..codebook-1."""
        return int(self.manifest["prior"]["codebook"])

    @property
    def has_sums(self) -> bool:
        """True if stages return sums behind their logits, False if not (up to version 3, and with 4096 codewords)."""
        return layout.has_sums(self.manifest["version"], self.codebook)

    @property
    def window(self) -> int:
        """The side of the prior's windows in tokens."""
        return int(self.manifest["prior"]["window"])

    @property
    def unknown(self) -> int:
        """The prior's token for a position that is not known yet."""
        return int(self.manifest["prior"]["unknown"])

    @property
    def pad(self) -> int:
        """The prior's token for a position outside the image."""
        return int(self.manifest["prior"]["pad"])

    @property
    def patch(self) -> int:
        """The side of a token in pixels."""
        return int(self.manifest["patch"])

    @property
    def has_byte_images(self) -> bool:
        """True if encoder and decoder take and give images in bytes, False if in planes of floats (version 2)."""
        return layout.IMAGES[self.manifest["version"]] == "uint8"

    @property
    def local(self) -> bool:
        """True if encoder and pixel decoder compute the same for a tile with a halo as for the whole image."""
        return bool(self.manifest.get("tokenizer", {}).get("local", True))

    @property
    def halos(self) -> dict[str, int]:
        """The halos of ``encoder`` and ``decoder``: how many tokens around a tile its inside depends on.

        A graph that is not local has none, nor has one whose manifest does not state it.
        """
        graphs = {name: self.manifest["graphs"][name].get("halo") for name in self.pixel_graphs}
        return {name: halo for name, halo in graphs.items() if halo is not None}

    @property
    def pixel_graphs(self) -> list[str]:
        """``encoder`` and ``decoder``; a bundle that only decodes has no encoder."""
        return [name for name in ("encoder", "decoder") if name in self.manifest["graphs"]]

    def precisions(self, name: str) -> list[str]:
        """Return the precisions of the graph ``encoder``, ``stage0`` ... or ``decoder``."""
        return list(self.manifest["graphs"][name]["precisions"])

    def graph(self, name: str, precision: str = "fp32") -> Path:
        """Return the path of a graph. All precisions of a stage compute the same logits."""
        if name == "encoder":
            self.expect_encoder()
        variants = self.manifest["graphs"][name]["precisions"]
        if precision not in variants:
            raise BundleError(f"{self.path.name} has no {name} in {precision!r}; choose one of: {', '.join(variants)}.")
        return self.path / str(variants[precision]["file"])

    def expect_encoder(self) -> None:
        """Raise a :class:`BundleError` for a bundle that only decodes."""
        if "encoder" not in self.pixel_graphs:
            raise BundleError(
                f"The bundle {self.path.name} only decodes: it has no encoder; use the one that it was made from."
            )

    def choose(self, names: Sequence[str], asked: str | None, offered: Sequence[str]) -> str:
        """Choose the precision of the graphs ``names``.

        It is the one ``asked`` for, never another; or if that is None, the first one ``offered`` that all graphs have.
        """
        available = [name for name in layout.PRECISIONS if all(name in self.precisions(graph) for graph in names)]
        chosen = next((name for name in ([asked] if asked else offered) if name in available), None)
        if chosen is None:
            missing = asked == "int8" and set(names) == {"encoder", "decoder"}
            calibrate = f"run 'uigc calibrate {self.path} --images DIR', or " if missing else ""
            raise BundleError(
                f"{self.path.name} has no {' and '.join(names)} in {asked or ' or '.join(offered)!r}; {calibrate}"
                f"choose one of: {', '.join(available)}."
            )
        return chosen

    def certificate(self, stage: str, precision: str) -> dict[str, Any]:
        """Return the exporter's proof that a stage's graph is exact (``docs/EXACTNESS.md``)."""
        return dict(self.manifest["graphs"][stage]["precisions"][precision]["proof"])

    @cached_property
    def weights(self) -> TensorFile:
        """The tensors of ``weights.safetensors``."""
        return TensorFile(self.path / WEIGHTS)

    @cached_property
    def codewords(self) -> NDArray[np.int64]:
        """The codewords (codebook, dim) in whole steps, with which an encoder measures losses."""
        return in_steps(self.weights.read(CODEWORDS))

    def table(self, name: str) -> NDArray[np.int32]:
        """Read an integer table from the weights."""
        return self.weights.read(name).astype(np.int32)

    def _check_prior_id(self) -> None:
        """Derive the prior's id from the weights again, and refuse a manifest that states another.

        A bundle that only decodes has the prior's weights in the layout of its graphs alone; its id is the one of the
        bundle that it was made from.
        """
        if "encoder" not in self.pixel_graphs:
            return
        names = [name for name in self.weights if name.startswith(PRIOR_PREFIX)]
        try:
            found = prior_id(
                ((name, self.weights.read(name)) for name in names),
                {name: self.table(name) for name in TABLES},
                self.manifest["prior"]["config"],
                self.manifest["schedule"],
            )
        except ValueError as error:
            reason = layout.shown(str(error).rstrip("."))
            raise BundleError(
                f"The weights of {self.path} hold no prior ({reason}); export the bundle again."
            ) from None
        if found != self.prior_id:
            raise BundleError(
                f"The weights of {self.path} have the prior id {found.hex()[:16]} and its manifest states "
                f"{self.prior_id.hex()[:16]}; export the bundle again."
            )
