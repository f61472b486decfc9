"""From source frames in time to what each output frame is made of.

Pure bookkeeping: which output times fall between which source frames, where a
cut forbids mixing, and which neighbours a four-frame model may see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from vfi_cli.frame import Frame, Window
from vfi_cli.timeline import OutputGrid, timestep


@dataclass(frozen=True, slots=True)
class Shown:
    """A source frame, the exact source time in seconds it stands at, and whether a cut follows."""

    frame: Frame
    time: Fraction
    cut_after: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """Output frame ``number`` is this source frame itself, or lies inside this window."""

    number: int
    content: Frame | Window


def place(
    shown: Iterable[Shown],
    grid: OutputGrid,
    first: int,
    stop: int | None,
    *,
    end: Callable[[Shown], Fraction],
    frames_seen: int,
) -> Iterator[Placed]:
    """Yield output frames ``first`` … ``stop`` − 1 in order, each exactly once.

    ``shown`` are source frames in strictly increasing time; it may begin before
    and end after what is needed, and is read no further than necessary. The last
    frame is held until ``end`` of it. An output time that falls on a source frame
    shows that frame itself; within a cut the nearer frame is shown (the earlier of
    two equally near). With ``frames_seen`` 4 the outer frames of a window are None
    where the clip ends or a cut lies in between.
    """
    k = first
    previous: Shown | None = None
    left: Shown | None = None
    right: Shown | None = None
    source = iter(shown)

    def within(limit: Fraction) -> bool:
        return (stop is None or k < stop) and grid.time(k) < limit

    while stop is None or k < stop:
        after = next(source, None)
        if left is None or right is None:
            if left is None:
                left = after
            else:
                right = after
            if after is not None:
                continue
            break
        # Two-frame models need no look ahead, but a uniform delay of one frame keeps this simple.
        while within(right.time):
            yield Placed(k, _content(grid.time(k), (previous, left, right, after), frames_seen))
            k += 1
        previous, left, right = left, right, after
        if right is None:
            break
    if left is None or right is not None:
        return
    while within(end(left)):
        yield Placed(k, left.frame)
        k += 1


def _content(
    time: Fraction, around: tuple[Shown | None, Shown, Shown, Shown | None], frames_seen: int
) -> Frame | Window:
    previous, left, right, after = around
    t = timestep(time, left.time, right.time)
    if t <= 0:
        return left.frame
    if left.cut_after:
        return left.frame if t <= Fraction(1, 2) else right.frame
    if frames_seen == 2:
        return Window((left.frame, right.frame), t)
    outer_left = None if previous is None or previous.cut_after else previous.frame
    outer_right = None if after is None or right.cut_after else after.frame
    return Window((outer_left, left.frame, right.frame, outer_right), t)
