"""Axes: round numbers for ticks, and where values lie between an axis's ends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from vfi_cli.report.text import clock, number

#: What an axis counts: plain numbers, or seconds that are written as times.
AxisKind = Literal["number", "time"]

_TIME_STEPS = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400),
)


@dataclass(frozen=True, slots=True)
class Axis:
    """The range of one direction of a chart, ``low`` < ``high``, and its ticks."""

    low: float
    high: float
    step: float
    kind: AxisKind = "number"
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one; clamped."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[tuple[float, str]]:
        """(value, text) of the round values within the range."""
        if self.logarithmic:
            return [(value, number(value)) for value in _decades(self.low, self.high)]
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        values = [round(n * self.step, 10) for n in range(first, last + 1)]
        return [(value, self.text(value)) for value in values]

    def text(self, value: float) -> str:
        """A value as the axis writes it."""
        return clock(value, self.step) if self.kind == "time" else number(value)


def value_axis(values: Iterable[float], *, from_zero: bool = True, ticks: int = 4) -> Axis:
    """An axis over the finite values, its ends on round numbers."""
    low, high = _range(values)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high <= low:
        high = low + (abs(low) or 1.0)
    step = _round_step((high - low) / ticks)
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, step)


def position_axis(low: float, high: float, kind: AxisKind, ticks: int = 8) -> Axis:
    """An axis over exactly [low, high]; its ticks lie on round numbers or times."""
    if high <= low:
        high = low + 1.0
    rough = (high - low) / ticks
    if kind == "number":
        return Axis(low, high, _round_step(rough))
    step = next((step for step in _TIME_STEPS if step >= rough), _TIME_STEPS[-1])
    return Axis(low, high, max(step, (high - low) / 50), "time")


def log_axis(values: Iterable[float]) -> Axis:
    """A logarithmic axis over the positive values."""
    low, high = _range(value for value in values if value > 0)
    low, high = (low, high) if low > 0 else (1.0, 10.0)
    margin = max((high / low) ** 0.08, 1.15)
    return Axis(low / margin, high * margin, 1.0, logarithmic=True)


def _range(values: Iterable[float]) -> tuple[float, float]:
    finite: Sequence[float] = [value for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def _round_step(rough: float) -> float:
    """The smallest of 1, 2, 5, 10 × a power of ten that is not below ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        found = [m * 10.0**e for e in range(first, last + 1) for m in multiples]
        found = [value for value in found if low <= value <= high]
        if len(found) >= 3:
            return found
    return found
