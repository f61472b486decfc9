"""Repeated frames, and the cadence they follow.

Anime is drawn on twos and threes, film becomes 30 or 60 frames a second by
showing some of its frames once more. A repeated frame makes motion stop; left
out, and the kept frames set at even times again, motion goes on evenly.

Everything here looks at a bounded neighbourhood alone: ``REPEAT_BEFORE``,
``REPEAT_AFTER`` and so on say how far, so that segments of a clip agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from vfi_cli.cuts import Signature

#: A frame repeated more often than this is a still shot, and left as it is.
MAX_RUN = 5
#: How many differences before and after one tell how much motion is usual here.
REPEAT_REACH = 6
#: How many frames before and after one tell its cadence.
CADENCE_REACH = 15

_CELL = 4  # sparse samples a side
# Measured on footage repeated and encoded again by x264 at crf 23 and 30: nine of ten repeats
# differ by at most 7 and 16 in the worst cell, frames that move by 22 to 124.
_CELL_LIMIT = 14.0
_RATIO = 0.3  # of the motion around
_MEAN_RATIO = 0.8  # a keyframe between two equal pictures changes all of them a little
_STILL = 4.0  # less motion than that in the worst cell is none


@dataclass(frozen=True, slots=True)
class Difference:
    """How much a frame differs from the one before, in 8-bit code values of its luma."""

    mean: float
    largest: float  # the mean of the cell that differs most: a mouth that moves on a still face


def difference(previous: Signature, current: Signature) -> Difference:
    """Compare the sparse samples of two frames."""
    a, b = previous.detail, current.detail
    if a.shape != b.shape:
        return Difference(255.0, 255.0)
    # |a - b| without leaving 8 bits
    delta = np.maximum(a, b) - np.minimum(a, b)
    rows = np.arange(0, delta.shape[0], _CELL)
    columns = np.arange(0, delta.shape[1], _CELL)
    bands = np.stack([delta[r : r + _CELL].sum(axis=0, dtype=np.uint16) for r in rows])
    sums = np.add.reduceat(bands, columns, axis=1, dtype=np.uint32)
    # cells cut short by the border count as whole ones: too little to tell a repeat by
    largest = float(sums.max()) / (min(_CELL, delta.shape[0]) * min(_CELL, delta.shape[1]))
    return Difference(float(bands.sum(dtype=np.uint64)) / delta.size, largest)


def is_repeat(around: Sequence[Difference | None]) -> bool:
    """Whether a frame repeats the one before.

    ``around`` holds ``2 * REPEAT_REACH + 1`` differences, that of the frame in
    the middle; None beyond the clip's ends and across cuts.
    """
    if len(around) != 2 * REPEAT_REACH + 1:
        raise ValueError(f"{len(around)} differences, not {2 * REPEAT_REACH + 1}")
    here = around[REPEAT_REACH]
    if here is None or here.largest > _CELL_LIMIT:
        return False
    scene = [here]
    for side in (around[REPEAT_REACH - 1 :: -1], around[REPEAT_REACH + 1 :]):
        for other in side:
            if other is None:
                break
            scene.append(other)
    usual = max(d.largest for d in scene)
    usual_mean = max(d.mean for d in scene)
    # where nothing moves there is nothing to repeat: noise of a still shot
    return (
        usual >= _STILL
        and here.largest < _RATIO * usual
        and here.mean <= max(_MEAN_RATIO * usual_mean, 0.1)
    )


def is_kept(repeats: Sequence[bool | None], cut_after: bool) -> bool:
    """Whether a frame stays, from the repeats of ``2 * (MAX_RUN + 1) + 1`` frames around it.

    None beyond the clip's ends; a frame that begins a scene is never a repeat.
    The last frame of a scene or of the clip always stays: it is held to its own end.
    """
    middle = MAX_RUN + 1
    if len(repeats) != 2 * middle + 1:
        raise ValueError(f"{len(repeats)} frames, not {2 * middle + 1}")
    if not repeats[middle] or cut_after or repeats[middle + 1] is None:
        return True
    first = middle
    while first > 0 and repeats[first - 1]:
        first -= 1
    last = middle
    while last + 1 < len(repeats) and repeats[last + 1]:
        last += 1
    return last - first + 1 > MAX_RUN


@dataclass(frozen=True, slots=True)
class Shown:
    """A source frame as the cadence sees it."""

    time: Fraction  # seconds (or any unit)
    kept: bool
    cut_after: bool = False


def _scene(around: Sequence[Shown | None], middle: int) -> tuple[int, int]:
    """First and last index of the frames around that belong to the middle one's scene."""
    first = middle
    while first > 0:
        before = around[first - 1]
        if before is None or before.cut_after:
            break
        first -= 1
    last = middle
    while last + 1 < len(around):
        here = around[last]
        if around[last + 1] is None or (here is not None and here.cut_after):
            break
        last += 1
    return first, last


def retimed(around: Sequence[Shown | None]) -> Fraction:
    """The time at which a kept frame should stand, from ``2 * CADENCE_REACH + 1`` frames.

    Where kept and left-out frames alternate in a period (2:3 pulldown: 3 2 3 2), a kept
    frame is set to the mean over one period around it, which spaces the frames of a
    regular cadence exactly evenly and keeps their times on average. Elsewhere, and for
    the first and last frame of the clip, the time stays.
    """
    middle = CADENCE_REACH
    if len(around) != 2 * middle + 1:
        raise ValueError(f"{len(around)} frames, not {2 * middle + 1}")
    here = around[middle]
    if here is None or not here.kept:
        raise ValueError("only a kept frame has a time")
    if around[middle - 1] is None or around[middle + 1] is None:
        return here.time
    first, last = _scene(around, middle)
    scene = [s for s in around[first : last + 1] if s is not None]
    kept = [s.kept for s in scene]
    position = middle - first
    period, start, end = _cadence(kept, position)
    count = sum(kept[start : start + period])  # kept frames in a period
    if count < 2 or count == period:
        return here.time  # no cadence; twos, threes: even already; or nothing left out
    times = [s.time for s in scene[start:end] if s.kept]
    if len(times) <= count:
        return here.time
    time = _even(times, sum(kept[start:position]), count)
    return time if _between(time, around, middle) else here.time


def _cadence(kept: list[bool], position: int) -> tuple[int, int, int]:
    """The period that the longest stretch around a frame follows, and that stretch [start, end).

    (0, 0, 0) where the pattern is not seen to come again, or where frames are shown for
    times that differ by more than one frame, as no pulldown does.
    """
    best, found = 0, (0, 0, 0)
    for period in range(2, len(kept) - 4):
        start = 0
        for m in range(len(kept) - period + 1):
            if m < len(kept) - period and kept[m] == kept[m + period]:
                continue
            end = m + period  # kept[start:end] repeats with this period
            length = end - start
            if start <= position < end and length > best and _comes_again(kept[start:end], period):
                best, found = length, (period, start, end)
            start = m + 1
    period, start, end = found
    first = [n for n in range(start, end) if kept[n]]
    runs = {b - a for a, b in pairwise(first)}
    return found if runs and max(runs) - min(runs) <= 1 else (0, 0, 0)


def _comes_again(kept: list[bool], period: int) -> bool:
    """Whether a stretch of that period shows enough of it twice to be no chance.

    One repeat among many frames has any period; so the repeats must come again, and a
    long period more than once.
    """
    seen, once = kept.count(False), kept[:period].count(False)
    return (
        len(kept) - period >= max(period / 2, 5)
        and 2 * seen >= 3 * once
        and seen >= (2 if period <= 6 else 3)
    )


def _even(times: list[Fraction], index: int, count: int) -> Fraction:
    """Mean time over one period of ``count`` frames around ``times[index]``."""
    # a period begins half a period before the frame, or as near to that as the cadence allows
    start = min(max(index - count // 2, 0), len(times) - 1 - count)
    step = (times[start + count] - times[start]) / count
    centre = start + Fraction(count - 1, 2)
    mean = sum(times[start : start + count], Fraction(0)) / count
    return mean + (index - centre) * step


def _between(time: Fraction, around: Sequence[Shown | None], middle: int) -> bool:
    """Whether a time is nearer to its own frame than to its kept neighbours: order is kept."""
    here = around[middle]
    assert here is not None
    for side in (range(middle - 1, -1, -1), range(middle + 1, len(around))):
        for index in side:
            other = around[index]
            if other is None:
                break
            if other.kept:
                if 2 * abs(time - here.time) >= abs(other.time - here.time):
                    return False
                break
    return True
