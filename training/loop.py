"""The part that every recipe shares: budget, learning rate, averaged weights, checkpoints that resume, and the log."""

from __future__ import annotations

import ast
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from uigc.export.modules.checkpoint import digest
from uigc.runtime.errors import InputError, UigcError
from uigc.runtime.io.atomic import replace as replace_file
from uigc.training.averaging import Average
from uigc.training.optimizers import Optimizers
from uigc.training.timing import Timer

WARM_UP = 100  # steps
MOST_PASSED_OVER = 100  # steps in a row; a few are normal, so many mean that something computes nothing but NaN
DECISIVE = ("seed", "batch", "photo_limit", "steps", "minutes")
"""The options that decide what a run learns."""


@dataclass(frozen=True)
class RunOptions:
    """Where, how long (``steps``, or ``minutes`` of work over all resumes), and its seed."""

    images: Path
    output: Path
    steps: int | None
    minutes: float | None
    batch: int
    seed: int
    device: torch.device
    save_every: float = 180.0  # seconds
    photo_limit: int | None = None
    stop_after: int | None = None  # steps in this session; the run resumes later
    compiled: bool = False  # torch.compile: a minute or two first, then 1.4 times faster on a CPU


class Stateful(Protocol):
    """Something that can be saved and resumed."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def save_image(path: Path, image: Tensor) -> None:
    """Write (3, H, W) in [0, 1] as PNG."""
    pixels = (image.detach().float().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)


class Run:
    """One training run: iterate over :meth:`steps` and call :meth:`descend` in each; it saves, logs and resumes.

    To repeat, the module must have been made after ``torch.manual_seed(options.seed)``.
    """

    def __init__(
        self,
        name: str,
        options: RunOptions,
        module: nn.Module,
        optimizers: Optimizers,
        subject: dict[str, object],
        companions: Mapping[str, Stateful] | None = None,
    ) -> None:
        """Set up a run.

        ``subject``: identifies the module and its training data; a checkpoint with another subject, or other options
        that decide what is learned, is not resumed.
        ``companions``: other objects that learn with optimizers of their own, such as the adversary; they are saved and
        resumed beside the module.
        """
        self.name, self.options, self.module = name, options, module
        decisive = {name: getattr(options, name) for name in DECISIVE}
        self.subject = json.dumps({**subject, **decisive}, sort_keys=True)
        self.optimizers, self.companions = optimizers, dict(companions or {})
        # A run that goes on from the weights of another sees other crops; the same run, begun anew, the same ones.
        self.rng = random.Random(f"{options.seed} {self.subject} {digest(module)}")
        torch.manual_seed(self.rng.getrandbits(63))
        self.average = Average(module)
        self.step, self.elapsed, self.passed_over = 0, 0.0, 0
        self.concluded = False
        """Whether nothing is left to do: what was written stays as it is."""
        self.timer = Timer(options.device)
        self.figures: dict[str, float] = {}
        options.output.mkdir(parents=True, exist_ok=True)
        self.checkpoint = options.output / f"{name}.checkpoint"
        if self.checkpoint.exists():
            self._resume()

    @property
    def progress(self) -> float:
        """The share of the budget that is spent, 0..1."""
        if self.options.minutes is not None:
            return min(1.0, self.elapsed / (60 * self.options.minutes))
        return min(1.0, self.step / max(1, self.options.steps or 1))

    @property
    def completed(self) -> bool:
        """True if the budget is spent, and the results are still to be written."""
        return self.progress >= 1 and not self.concluded

    def conclude(self) -> None:
        """Note that the results are written. A run that ended before this makes them when it is called again."""
        self.concluded = True
        self.save()

    @property
    def pace(self) -> float:
        """The learning rate of this step as a share of the highest: it rises at first and falls to 0 at the end."""
        return min(1.0, (self.step + 1) / WARM_UP) * (1 - self.progress)

    def precision(self) -> torch.autocast:
        return mixed_precision(self.options.device)

    def interrupted(self, first: int) -> bool:
        limit = self.options.stop_after
        return limit is not None and self.step - first >= limit

    def steps(self, unit: str) -> Iterator[int]:
        """Yield step numbers until the budget is spent; ``unit`` names what the steps count."""
        self.module.train()
        begun, before, saved = time.monotonic(), self.elapsed, time.monotonic()
        first = told = self.step
        self.timer = Timer(self.options.device)
        layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining} {postfix}"
        with tqdm(total=100, initial=100 * self.progress, unit="%", bar_format=layout) as bar:
            bar.set_description(self.name)
            while self.progress < 1 and not self.interrupted(first):
                yield self.step
                self.step += 1
                self.elapsed = before + time.monotonic() - begun
                bar.n = round(100 * self.progress, 1)
                shown = {key: f"{value:.4f}" for key, value in self.figures.items()}
                bar.set_postfix({f"{unit}/s": f"{self.timer.rate:.1f}", "step": self.step, **shown})
                if time.monotonic() - saved > self.options.save_every:
                    self._tell(unit)
                    saved, told = time.monotonic(), self.step
            if 0 < self.step - first <= self.passed_over:
                raise self._learned_nothing()
            if self.step > told:
                self._tell(unit)

    def _tell(self, unit: str) -> None:
        """Save, and report the speed and where the time went since the last time."""
        with self.timer("save"):
            self.save()
        self.report(**{f"{unit}_per_second": round(self.timer.rate, 2), "time": self.timer.take()})

    def reporting(self, unit: str, report: Callable[[bool], object]) -> Iterator[int]:
        """Iterate over :meth:`steps` and call ``report`` after every tenth of the budget, and with True at its end."""
        checked = self.progress
        for step in self.steps(unit):
            yield step
            if self.progress - checked >= 0.1:
                checked = self.progress
                with self.timer("report"):
                    report(False)
        if self.completed:
            report(True)

    def descend(self, items: int, **figures: Tensor) -> None:
        """Take one step down the gradients that the weights have, and drop them.

        ``items``: how many crops or windows they come from. ``figures`` are averaged for the progress bar and the log.
        A gradient that is not finite is passed over; raises an :class:`UigcError` when nothing else comes.
        """
        with self.timer("optimizer"):
            norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            if torch.isfinite(norm):
                self.optimizers.step(self.pace)
                self.average.update(self.module)
                self.passed_over = 0
            else:
                self.optimizers.zero_grad()
                self._pass_over()
        self.timer.count(items)
        self.note(**figures)

    def _pass_over(self) -> None:
        """Count a step that taught nothing. A run of them would spend its budget and look as if it had learned."""
        self.passed_over += 1
        if self.passed_over >= MOST_PASSED_OVER:
            raise self._learned_nothing()

    def _learned_nothing(self) -> UigcError:
        other = ", or try without --compile" if self.options.compiled else ""
        kept = f" {self.checkpoint.name} is as it was saved last." if self.checkpoint.exists() else ""
        return UigcError(
            f"The gradients of {self.name!r} were not finite in {self.passed_over} steps in a row, so it learns "
            f"nothing; look for NaN in the weights that it started with{other}.{kept}"
        )

    def note(self, **figures: Tensor) -> None:
        """Average figures for the progress bar and the log; those that are not finite are left out."""
        for key, value in figures.items():
            new = float(value.detach())
            if math.isfinite(new):  # what is not would stay in the mean for ever
                self.figures[key] = 0.98 * self.figures.get(key, new) + 0.02 * new

    def log(self, **figures: object) -> None:
        """Append one JSON object to ``NAME.jsonl``."""
        line = {"step": self.step, "seconds": round(self.elapsed, 1), **self.figures, **figures}
        with open(self.options.output / f"{self.name}.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def report(self, **figures: object) -> None:
        """Log figures and print them above the progress bar."""
        self.log(**figures)
        tqdm.write(json.dumps({"step": self.step, **figures}))

    def save(self) -> None:
        state = {
            "subject": self.subject,
            "module": self.module.state_dict(),
            "average": self.average.state,
            "updates": self.average.updates,
            "optimizers": self.optimizers.state_dict(),
            "companions": {name: companion.state_dict() for name, companion in self.companions.items()},
            "step": self.step,
            "elapsed": self.elapsed,
            "concluded": self.concluded,
            "figures": self.figures,
            "random": repr(self.rng.getstate()),
            "torch_random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state() if self.options.device.type == "cuda" else None,
        }
        replace_file(self.checkpoint, lambda part: torch.save(state, part))

    def _resume(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.options.device, weights_only=True)
        if state["subject"] != self.subject:
            raise InputError(
                f"{self.checkpoint} belongs to another run ({_differences(state['subject'], self.subject)}); remove "
                "it, or give another --output."
            )
        if "optimizers" not in state:
            raise InputError(f"{self.checkpoint} is of an earlier recipe; remove it, and begin anew.")
        self.module.load_state_dict(state["module"])
        self.average.state, self.average.updates = state["average"], state["updates"]
        self.optimizers.load_state_dict(state["optimizers"])
        for name, companion in self.companions.items():
            companion.load_state_dict(state["companions"][name])
        self.step, self.elapsed, self.figures = state["step"], state["elapsed"], state["figures"]
        self.concluded = state.get("concluded", self.progress >= 1)  # earlier versions did not note it
        self.rng.setstate(ast.literal_eval(state["random"]))
        torch.set_rng_state(state["torch_random"].cpu())
        if state["cuda_random"] is not None:
            torch.cuda.set_rng_state(state["cuda_random"].cpu())
        print(f"{self.name}: resuming at step {self.step} after {self.elapsed / 60:.1f} minutes")


def _differences(theirs: str, ours: str) -> str:
    """Say by what the subjects of two runs differ."""
    one, other = json.loads(theirs), json.loads(ours)
    names = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
    return ", ".join(f"{name} {one.get(name)} there and {other.get(name)} here" for name in names)


def uses_bfloat16(device: torch.device) -> bool:
    """Whether networks train in bfloat16: on GPUs and on CPUs that multiply it (1.8 times faster there),
    else in float32 (1.4 times faster on other CPUs)."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def mixed_precision(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bfloat16(device))
