"""How videos differ, measured frame by frame: what is behind ``vfi compare`` without a video."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vfi_cli.compare.inputs import (
    Alignment,
    Input,
    Screen,
    align,
    common_grid,
    damage,
    length_notes,
    same_time,
    warnings_of,
)
from vfi_cli.compare.picture import Fitter, Target, notes_on
from vfi_cli.compare.similarity import ssim
from vfi_cli.errors import InputError
from vfi_cli.frame import Samples
from vfi_cli.timeline import OutputGrid

#: How many of the most different moments are kept to be looked at, and how far apart.
WORST = 6
_APART = Fraction(1, 2)  # seconds


@dataclass(frozen=True)
class MeasureOptions:
    """Which times are compared."""

    fps: Fraction | None = None  # times a second; None: the highest rate of the inputs
    start: Fraction = Fraction(0)  # seconds after each input's first frame
    duration: Fraction | None = None  # seconds
    ssim: bool = True  # takes most of the time
    pictures: bool = False  # keep the most different moments, to be looked at


@dataclass(frozen=True)
class Moment:
    """What two videos show at one time. Pictures are R'G'B' (H, W, 3), uint8."""

    time: Fraction  # seconds after the first frames
    psnr: float  # dB
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]


@dataclass
class Difference:
    """One video against the first. Squared errors are of R'G'B' in [0, 1]."""

    path: str
    alignment: Alignment
    squares: array[float] = field(default_factory=lambda: array("d"))  # mean, at each time
    ssim: array[float] = field(default_factory=lambda: array("d"))  # at each time
    #: of the pairs of frames that begin at the same time, once each
    squares_at_equal_times: array[float] = field(default_factory=lambda: array("d"))
    worst: list[Moment] = field(default_factory=list)  # the most different first

    @property
    def psnr(self) -> float:
        """dB, of the mean squared error over all times; infinite where nothing differs."""
        return decibels(_mean(self.squares))

    @property
    def psnr_at_equal_times(self) -> float | None:
        """dB, of the frames that begin at the same time in both, or None where there are none."""
        return decibels(_mean(self.squares_at_equal_times)) if self.squares_at_equal_times else None

    @property
    def mean_ssim(self) -> float | None:
        """None where it was not asked for."""
        return _mean(self.ssim) if self.ssim else None

    @property
    def psnrs(self) -> list[float]:
        """dB at each time."""
        return [decibels(square) for square in self.squares]


@dataclass(frozen=True)
class Comparison:
    """Inputs against the first of them, at the times of a grid."""

    inputs: tuple[Input, ...]
    grid: OutputGrid
    frames: int  # times that were compared
    differences: tuple[Difference, ...]  # of inputs[1:]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    truncated: str | None  # which input is damaged and where, if the comparison ends there

    def lowest(self, difference: Difference) -> tuple[Fraction, float]:
        """When a video differs most (seconds), and its PSNR then."""
        number = int(np.argmax(difference.squares))
        return self.grid.time(number), decibels(difference.squares[number])


@dataclass(frozen=True)
class MeasurePlan:
    """What will be measured."""

    inputs: tuple[Input, ...]
    grid: OutputGrid
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        assert self.grid.count is not None
        return self.grid.count


def plan_measurement(
    paths: Sequence[str | os.PathLike[str]], options: MeasureOptions
) -> MeasurePlan:
    """Probe the inputs. Raises a VfiError before any work is done."""
    inputs = tuple(Input.open(path) for path in paths)
    grid = common_grid(inputs, fps=options.fps, start=options.start, duration=options.duration)
    notes = (*notes_on([one.info for one in inputs]), *length_notes(inputs, grid))
    return MeasurePlan(inputs, grid, notes)


def measure(
    plan: MeasurePlan,
    options: MeasureOptions,
    on_frames: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Compare the inputs at each time of the grid. ``on_frames`` is told how many are done."""
    inputs, grid = plan.inputs, plan.grid
    first = inputs[0]
    target = Target.of(first.info)
    until = None if options.duration is None else options.start + options.duration
    meters = [
        _Meter(
            Difference(one.info.path, align(first, one, options.start, until)),
            same_time(first, one),
            peak=target.layout.peak,
            ssim=options.ssim,
            pictures=options.pictures,
        )
        for one in inputs[1:]
    ]
    done, truncated = 0, None
    with ExitStack() as stack:
        screens = [
            stack.enter_context(Screen(one, grid.start, Fitter(one.info, target).rgb))
            for one in inputs
        ]
        for number in range(plan.frames):
            time = grid.time(number)
            shown = [screen.at(time) for screen in screens]
            truncated = damage(inputs, screens, shown)
            if truncated:
                break
            seen = [one for one in shown if one is not None]
            for meter, other in zip(meters, seen[1:], strict=True):
                meter.add(time, (seen[0].time, other.time), seen[0].picture, other.picture)
            done += 1
            on_frames(done)
    if not done:
        raise InputError(truncated or f"{first.info.path}: no picture could be decoded")
    return Comparison(
        inputs=inputs,
        grid=grid,
        frames=done,
        differences=tuple(meter.difference for meter in meters),
        notes=plan.notes,
        warnings=warnings_of(inputs),
        truncated=truncated,
    )


class _Meter:
    """Adds up how one video differs from the first."""

    def __init__(
        self,
        difference: Difference,
        same: Callable[[Fraction, Fraction], bool],
        *,
        peak: int,
        ssim: bool,
        pictures: bool,
    ) -> None:
        self.difference = difference
        self._same = same
        self._peak = peak
        self._ssim = ssim
        self._pictures = pictures
        self._times: tuple[Fraction, Fraction] | None = None  # of the pair that was seen last

    def add(
        self,
        time: Fraction,
        times: tuple[Fraction, Fraction],
        first: Samples,
        second: Samples,
    ) -> None:
        """What both show at ``time``, and when each of the two frames came on screen."""
        found = self.difference
        if times == self._times:  # still the same two frames
            found.squares.append(found.squares[-1])
            found.ssim.extend(found.ssim[-1:])
            return
        self._times = times
        square = mean_square(first, second, self._peak)
        found.squares.append(square)
        if self._ssim:
            found.ssim.append(ssim(first, second, self._peak) if square else 1.0)
        if self._same(*times):
            found.squares_at_equal_times.append(square)
        if self._pictures:
            self._keep(time, square, first, second)

    def _keep(self, time: Fraction, square: float, first: Samples, second: Samples) -> None:
        kept, psnr = self.difference.worst, decibels(square)
        if square == 0 or (len(kept) == WORST and psnr >= kept[-1].psnr):
            return
        near = [one for one in kept if abs(one.time - time) < _APART]
        if any(one.psnr <= psnr for one in near):
            return
        moment = Moment(time, psnr, _seen(first, self._peak), _seen(second, self._peak))
        kept[:] = sorted(
            (*(one for one in kept if one not in near), moment), key=lambda one: one.psnr
        )[:WORST]


def mean_square(first: Samples, second: Samples, peak: int) -> float:
    """Mean squared difference of code values (3, H, W), as a share of ``peak``²."""
    difference = np.subtract(first, second, dtype=np.float32)
    rows = np.einsum("chw,chw->ch", difference, difference)  # short sums, which float32 holds well
    return float(rows.sum(dtype=np.float64)) / difference.size / peak**2


def decibels(square: float) -> float:
    """The PSNR of a mean squared error of values in [0, 1]; infinite for none."""
    return -10 * math.log10(square) if square > 0 else math.inf


def _mean(values: array[float]) -> float:
    return math.fsum(values) / len(values)


def _seen(picture: Samples, peak: int) -> NDArray[np.uint8]:
    """(H, W, 3) in 8 bits."""
    values = picture if peak == 255 else np.round(picture * (255 / peak))
    return np.ascontiguousarray(values.transpose(1, 2, 0), np.uint8)
