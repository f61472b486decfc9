"""From source frames in time to what each output frame is made of.

Pure bookkeeping: which output times fall between which source frames, where a
cut or a gap forbids mixing, and which neighbours a four-frame model may see.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from vfi_cli.frame import Frame, Window
from vfi_cli.timeline import OutputGrid, timestep


@dataclass(frozen=True, slots=True)
class Shown:
    """A source frame, the exact source time in seconds it stands at, and what follows."""

    frame: Frame
    time: Fraction
    cut_after: bool
    gap_after: bool = False  # it is held until the next one's time

    @property
    def parted_after(self) -> bool:
        """Whether nothing may be made of this frame and the next together."""
        return self.cut_after or self.gap_after


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows ``first`` … ``stop`` − 1 of an output frame, each at a time of its own.

    ``frames`` are those of a window, 2 or 4, and row y lies at ``origin`` + ``step`` · y between
    the middle two, which for these rows is in [0, 1]; a single frame gives its own rows.
    """

    first: int
    stop: int
    frames: tuple[Frame | None, ...]
    origin: Fraction = Fraction(0)
    step: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class Placed:
    """Output frame ``number``: this source frame itself, inside this window, or these strips,
    which follow each other from the top row to the last."""

    number: int
    content: Frame | Window | tuple[Strip, ...]


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
    two equally near), within a gap the earlier. With ``frames_seen`` 4 the outer frames
    of a window are None where the clip ends or a cut or gap lies in between.
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
    if t <= 0 or left.gap_after:
        return left.frame
    if left.cut_after:
        return left.frame if t <= Fraction(1, 2) else right.frame
    if frames_seen == 2:
        return Window((left.frame, right.frame), t)
    outer_left = None if previous is None or previous.parted_after else previous.frame
    outer_right = None if after is None or right.parted_after else after.frame
    return Window((outer_left, left.frame, right.frame, outer_right), t)


def place_rows(
    shown: Iterable[Shown],
    grid: OutputGrid,
    first: int,
    stop: int | None,
    *,
    end: Callable[[Shown], Fraction],
    frames_seen: int,
    shutter: tuple[Fraction, Fraction],
) -> Iterator[Placed]:
    """As :func:`place`, for frames whose rows were exposed one after the other.

    ``shutter`` tells by how many seconds the top and the bottom row were exposed later than
    the frame's time; between them it runs linearly. Every row of an output frame is taken from
    the pair of frames between whose exposures of this row the output's time falls. An output
    frame is made of one scene, the one that the middle row is nearer to (within a gap the
    earlier); rows before the scene's first and after its last exposure show that exposure.
    """
    earliest, latest = -max(shutter), -min(shutter)
    held: deque[Shown] = deque()
    source = iter(shown)
    ended = False
    k = first
    while stop is None or k < stop:
        time = grid.time(k)
        # The frame that ends the last pair, and, for four-frame models, the one after it.
        while not ended and (len(held) < 2 or held[-2].time <= max(time, time + latest)):
            after = next(source, None)
            if after is None:
                ended = True
            else:
                held.append(after)
        if not held or (ended and held[-1].time <= time and end(held[-1]) <= time):
            return
        while len(held) > 3 and held[2].time <= time + earliest:
            held.popleft()  # of what came before the first pair, one frame may be looked at
        yield Placed(k, _rows(time, held, frames_seen, shutter))
        k += 1


def _rows(
    time: Fraction, held: Sequence[Shown], frames_seen: int, shutter: tuple[Fraction, Fraction]
) -> Frame | Window | tuple[Strip, ...]:
    top, bottom = shutter
    height = held[0].frame.height
    slope = (bottom - top) / max(1, height - 1)  # seconds from row to row
    scene = _scene(time - (top + bottom) / 2, held)
    frames = [one.frame for one in scene]

    def wanted(rank: int) -> Fraction:
        """Source time of a row; ranks count rows in the order of these times."""
        return time - top - slope * (height - 1 - rank if slope > 0 else rank)

    ranks = [0, *(bisect_left(range(height), one.time, key=wanted) for one in scene), height]
    strips = []
    for number in range(len(scene) + 1):
        low, high = ranks[number], ranks[number + 1]
        if low == high:
            continue
        if slope > 0:
            low, high = height - high, height - low
        if number == 0 or number == len(scene):
            strips.append(Strip(low, high, (frames[max(0, number - 1)],)))
            continue
        left, right = scene[number - 1], scene[number]
        origin = timestep(time - top, left.time, right.time)
        step = -slope / (right.time - left.time)
        seen: tuple[Frame | None, ...] = (left.frame, right.frame)
        if step == origin == 0:
            seen = (left.frame,)
        elif frames_seen == 4:
            before = frames[number - 2] if number > 1 else None
            seen = (before, *seen, frames[number + 1] if number + 1 < len(scene) else None)
        strips.append(Strip(low, high, seen, origin, step))
    alone = strips[0]
    if len(strips) == 1 and len(alone.frames) == 1 and alone.frames[0] is not None:
        return alone.frames[0]
    if len(strips) == 1 and alone.step == 0:
        return Window(alone.frames, alone.origin)
    return tuple(sorted(strips, key=lambda strip: strip.first))


def _scene(time: Fraction, held: Sequence[Shown]) -> list[Shown]:
    """Those of the frames that no cut or gap divides from the time."""
    at = max((n for n, one in enumerate(held) if one.time <= time), default=0)
    if held[at].cut_after and not held[at].gap_after and at + 1 < len(held):
        at += timestep(time, held[at].time, held[at + 1].time) > Fraction(1, 2)
    begin, last = at, at
    while begin > 0 and not held[begin - 1].parted_after:
        begin -= 1
    while last + 1 < len(held) and not held[last].parted_after:
        last += 1
    return [held[n] for n in range(begin, last + 1)]
