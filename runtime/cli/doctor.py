"""``uigc doctor``: check the installed packages, the providers and the bundle; the verdict comes first."""

from __future__ import annotations

import json
import platform
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from uigc.runtime import providers, tuning_cache
from uigc.runtime.bundle import Bundle
from uigc.runtime.entry_points import installed
from uigc.runtime.environment import PACKAGES, gpu_names, machine_name, package_version
from uigc.runtime.errors import DependencyError, ProviderError, UigcError
from uigc.runtime.io.streams import show
from uigc.runtime.providers import Provider, ProviderOptions

SECTIONS = ("uigc", "python", "machine", "packages", "bundle", "proof", "providers", "nodes", "tuned")
RUNS, NOT_INSTALLED = "runs", "not installed"
CHECKS = "uigc.checks"  # entry points: functions of a bundle that return one line, or raise a UigcError


def _providers(bundle: Bundle | None) -> tuple[dict[str, str], UigcError | None]:
    """Return "runs" for each provider, or the reason why it does not; with a bundle, one graph is loaded and run.

    Also return the error if the default provider is there and refuses the graph: what another one makes of the bundle
    is then no comfort, all the less as it may have run what it kept of the same graph elsewhere.
    """
    states: dict[str, str] = {}
    refused: UigcError | None = None
    for name in providers.names():
        try:
            provider = providers.loaded(name)
            states[name] = provider.problem() or RUNS
            if states[name] == RUNS and bundle:
                _run(provider, bundle)
        except (ImportError, UigcError) as error:
            ran = states.get(name) == RUNS
            if ran and name == providers.DEFAULT and isinstance(error, UigcError):
                refused = error
            states[name] = f"cannot be loaded: {error}" if ran or isinstance(error, ImportError) else str(error)
    return states, refused


def _run(provider: Provider, bundle: Bundle) -> None:
    """Load the graph of a stage and run it."""
    precision = bundle.choose(("stage0",), None, provider.precisions)
    graph = provider.load(bundle.graph("stage0", precision), ProviderOptions())
    if not provider.takes_engines:  # which may be for other sizes; the others may load when they are called
        graph(np.full((1, bundle.window, bundle.window), bundle.unknown, np.int32))
    graph.close()


def _proof(bundle: Bundle, prove: bool) -> tuple[dict[str, Any], UigcError | None]:
    """Return the findings on exactness, and the first error.

    They are the bundle's certificates, which loading it has matched with its files, and with ``prove`` the results of
    new proofs. The packages above the runtime do the proving; their checks are found as entry points.
    """
    certificates = {
        (stage, precision): bundle.certificate(f"stage{stage}", precision)
        for stage in range(len(bundle.schedule))
        for precision in bundle.precisions(f"stage{stage}")
    }
    findings: dict[str, Any] = {"certificates": len(certificates)}
    for kind in sorted({kind for certificate in certificates.values() for kind in certificate["tightest"]}):
        slack, name, node = min(
            (found["slack_bits"], f"stage{stage} {precision}", found["node"])
            for (stage, precision), certificate in certificates.items()
            if (found := certificate["tightest"].get(kind))
        )
        findings[kind] = f"{slack} bits to spare, at {node} of {name}"
    if not prove:
        return findings, None
    checks = installed(CHECKS).values()
    if not checks:
        return findings, DependencyError(
            "Nothing installed can prove graphs; install it with: pip install 'uigc[export]'."
        )
    try:
        for entry in checks:
            findings[entry.name] = entry.load()(bundle)
    except ImportError as error:
        return findings, DependencyError(f"Proving needs a package that is missing ({error}); install uigc[export].")
    except UigcError as error:
        findings[entry.name] = str(error)
        return findings, error
    return findings, None


def _nodes(bundle: Bundle) -> dict[str, str]:
    """Return the numbers of nodes of the graphs in each precision."""
    graphs = bundle.manifest["graphs"]
    counts: dict[str, list[str]] = {}
    for name, graph in graphs.items():
        for precision, variant in graph["precisions"].items():
            counts.setdefault(precision, []).append(f"{name} {variant.get('nodes', '?')}")
    return {precision: ", ".join(each) for precision, each in counts.items()}


def _tuned(bundle: Bundle, names: Iterable[str]) -> dict[str, str]:
    """Return the measurements of ``uigc doctor --tune`` on this machine, for each of these providers and of all."""
    chosen = tuning_cache.read_provider(bundle)
    between = {"by default": f"{chosen['provider']} ({_shown(chosen['milliseconds'])})"} if chosen else {}
    here = [providers.loaded(name) for name in names]
    measured = [
        each.measured_as(device) for each in here for device in range(max(1, len(gpu_names())) if each.on_gpu else 1)
    ]
    found = {name: tuning_cache.read(bundle, name) for name in measured}
    return between | {
        name: ", ".join(
            f"{networks}: {choice[key]} ({_shown(choice[times])})"
            for networks, key, times in (
                ("prior", "precision", "milliseconds"),
                ("pixel networks", "pixel_precision", "pixel_milliseconds"),
            )
            if key in choice and times in choice
        )
        for name, choice in found.items()
        if choice
    }


def _shown(milliseconds: dict[str, float]) -> str:
    return ", ".join(f"{each} {ms} ms" for each, ms in milliseconds.items())


def examine(bundle_path: Path | str | None, prove: bool = False) -> tuple[dict[str, Any], UigcError | None]:
    """Return all findings, and the first error that keeps the codec from working."""
    findings: dict[str, Any] = {
        "uigc": package_version("uigc") or NOT_INSTALLED,
        "python": platform.python_version(),
        "machine": machine_name(),
        "packages": {name: package_version(name) for name in PACKAGES},
    }
    problem: UigcError | None = None
    bundle: Bundle | None = None
    try:
        bundle = Bundle.load(bundle_path)
        findings["bundle"] = {
            "path": str(bundle.path),
            "prior": bundle.prior_id.hex(),
            "codebook": bundle.codebook,
            "stages": len(bundle.schedule),
            "pixels": " ".join(
                each for each in bundle.precisions("decoder") if each in bundle.precisions(bundle.pixel_graphs[0])
            ),
            "megabytes": round(sum(file.stat().st_size for file in bundle.path.iterdir()) / 1e6, 1),
            "state": "valid",
        }
    except UigcError as error:
        findings["bundle"] = {"state": str(error)}
        problem = error
    if bundle:
        findings["proof"], problem = _proof(bundle, prove)
    findings["providers"], refused = _providers(bundle)
    if refused and (problem is None or isinstance(problem, DependencyError)):
        findings["bundle"]["state"], problem = str(refused), refused
    if bundle:
        findings["nodes"] = _nodes(bundle)
        running = [name for name, state in findings["providers"].items() if state == RUNS]
        findings["tuned"] = _tuned(bundle, running)
    if (problem is None or isinstance(problem, DependencyError)) and RUNS not in findings["providers"].values():
        reasons = findings["providers"]
        usual = providers.DEFAULT if providers.DEFAULT in reasons else next(iter(reasons), None)
        problem = ProviderError(f"No provider can run here: {reasons[usual] if usual else 'none is installed'}")
    return findings, problem


def verdict(findings: dict[str, Any], problem: UigcError | None) -> str:
    """Return in a few lines whether uigc works here, on what, and with which bundle."""
    name = "uigc" if findings["uigc"] == NOT_INSTALLED else f"uigc {findings['uigc']}"
    if problem is not None and not isinstance(problem, DependencyError):
        return f"{name} does not work here: {problem}"
    running = [provider for provider, state in findings["providers"].items() if state == RUNS]
    others = [provider for provider in findings["providers"] if provider not in running]
    elsewhere = f" (not on {', '.join(others)}; 'uigc doctor -v' says why)" if others else ""
    bundle, count = findings["bundle"], findings["proof"]["certificates"]
    lines = [
        f"{name} works here, on {', '.join(running)}{elsewhere}.",
        f"The bundle {bundle['path']} is complete; its prior is {bundle['prior'][:8]}, with {count} certificates.",
    ]
    return "\n".join([*lines, *([f"Its graphs were not proven again: {problem}"] if problem else [])])


def report(bundle_path: Path | str | None, as_json: bool, prove: bool = False, shown: Container[str] = ()) -> None:
    """Print the verdict and the sections of the findings in ``shown``, or all as JSON; then raise the error, if any."""
    findings, problem = examine(bundle_path, prove)
    if as_json:
        show(json.dumps(findings, indent=1))
    else:
        show(verdict(findings, problem))
        for section, value in findings.items():
            if section in shown:
                _show_section(section, value)
    if problem:
        raise problem


def _show_section(section: str, value: Any) -> None:
    if not isinstance(value, dict):
        show(f"{section:22}{value}")
        return
    show(f"{section}:")
    for name, state in value.items():
        show(f"  {name:20}{NOT_INSTALLED if state is None else state}")
