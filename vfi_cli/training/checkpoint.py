"""What a run leaves on disk so that it goes on exactly, and whether it is worth keeping."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vfi_cli.errors import InputError, ModelError, OutputError, UsageError, VfiError
from vfi_cli.models.checkpoint import read_state_dict
from vfi_cli.models.weights import locate
from vfi_cli.wording import said

LAST = "last.pt"


class DivergedError(VfiError):
    """The losses or gradients are beyond repair; the last good checkpoint is kept."""


def save(state: dict[str, Any], target: Path) -> None:
    """Writes beside the target first, so that a kill leaves the one before. Raises OutputError."""
    part = target.with_suffix(".part")
    with writing(target):
        try:
            torch.save(state, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Makes the folder of a run's file, and an OutputError of what goes wrong on its way there."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, RuntimeError) as error:  # torch's own, where a disk is full
        raise OutputError(f"{target}: cannot be written ({said(error)}) (run.out)") from None


def read(path: Path) -> dict[str, Any]:
    """The state in a checkpoint of a run. Raises InputError where there is none."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no checkpoint of a run (run.out)") from None
    except Exception as error:
        # What torch raises for damaged files is not documented and spans all kinds of errors.
        reason = said(error).partition(". ")[0]
        raise InputError(f"{path}: is no checkpoint of a training run ({reason})") from None
    if not isinstance(state, dict) or not {"ema", "optimiser", "config"} <= state.keys():
        raise InputError(f"{path}: is no checkpoint of a training run")
    return state


def check_same(path: Path, before: str, now: str) -> None:
    """Raises UsageError that names the keys in which two configurations differ."""
    if before != now:
        keys = changed(json.loads(before), json.loads(now))
        differ = "differs" if len(keys) == 1 else "differ"
        raise UsageError(
            f"{path}: belongs to another configuration ({', '.join(keys)} {differ}); "
            "--set run.out=… begins anew"
        )


def changed(before: Any, now: Any, name: str = "") -> list[str]:
    """The keys that differ, by name, such as ``phases[1].crop``."""
    if isinstance(before, dict) and isinstance(now, dict):
        names = []
        for key in sorted(before.keys() | now.keys()):
            inner = f"{name}.{key}" if name else key
            names += changed(before.get(key), now.get(key), inner)
        return names
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            found
            for number, (a, b) in enumerate(zip(before, now, strict=True))
            for found in changed(a, b, f"{name}[{number}]")
        ]
    return [] if before == now else [name]


def starting_weights(given: str, path: Path) -> dict[str, Tensor]:
    """Weights to begin with: of a run's checkpoint (averaged), of a file, or of a model by name.

    Raises ModelError or InputError where there are none.
    """
    try:
        found = path if path.is_file() else locate(given).path
        with suppress(InputError):
            if found.suffix == ".pt":
                return dict(read(found)["ema"])
        return read_state_dict(found)
    except ModelError as error:
        raise ModelError(f"model.init_from: {error}") from None


class Watch:
    """Tells a run that learns from one that falls apart, by its smoothed loss.

    Gradients are clipped, so a run that diverges seldom ends in NaN: its loss rises by a multiple
    of the least it had in the phase.
    """

    #: Multiples of the least loss: beyond the first nothing is saved, beyond the second it ends.
    doubtful, hopeless = 2.0, 8.0
    _memory, _warm_up = 0.98, 100

    def __init__(self) -> None:
        self.mean, self.least, self.count, self.phase = 0.0, math.inf, 0, -1

    def add(self, loss: float, phase: int) -> None:
        if phase != self.phase:  # another phase has other losses
            self.mean, self.least, self.count, self.phase = 0.0, math.inf, 0, phase
        self.count += 1
        self.mean += (loss - self.mean) * max(1 - self._memory, 1 / self.count)
        if self.count >= self._warm_up:
            self.least = min(self.least, self.mean)

    @property
    def is_good(self) -> bool:
        return self.mean <= self.doubtful * self.least

    @property
    def is_lost(self) -> bool:
        return self.mean > self.hopeless * self.least

    def state(self) -> dict[str, float]:
        return dict(vars(self))

    def load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
