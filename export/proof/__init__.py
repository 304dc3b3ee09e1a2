"""The proof that a prior's graph computes the same bits everywhere; see ``docs/EXACTNESS.md``."""

from uigc.export.proof.checks import Check, ProofError
from uigc.export.proof.prove import VERSION, Domain, Proof, prove, prove_file, token_domain

__all__ = ["VERSION", "Check", "Domain", "Proof", "ProofError", "prove", "prove_file", "token_domain"]
