"""Prove a bundle's stages again and compare with their certificates; ``uigc doctor --prove`` runs it."""

from __future__ import annotations

import time

from uigc.export.proof.checks import ProofError
from uigc.export.proof.prove import prove_file, token_domain
from uigc.runtime.bundle import Bundle


def check(bundle: Bundle) -> str:
    """Return one line that reports the proofs; raises :class:`ProofError` if a graph or its certificate is wrong."""
    start, count = time.perf_counter(), 0
    domain = token_domain(bundle.pad)
    for stage in range(len(bundle.schedule)):
        for precision in bundle.precisions(f"stage{stage}"):
            path = bundle.graph(f"stage{stage}", precision)
            stated = bundle.certificate(f"stage{stage}", precision)
            found = prove_file(path, domain).certificate(domain)
            different = [key for key, value in found.items() if stated.get(key) != value]
            if different:
                raise ProofError(
                    f"The certificate of {path.name} differs from its proof in {', '.join(different)}; export the "
                    "bundle again with this version."
                )
            count += 1
    return f"{count} graphs proven again in {time.perf_counter() - start:.1f} s, equal to their certificates"
