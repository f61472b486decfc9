"""What each input shows at the times of one grid."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Generic, Self, TypeVar

from vfi_cli.errors import UsageError
from vfi_cli.frame import Frame
from vfi_cli.io.decode import FrameReader, SourceInfo, probe
from vfi_cli.io.prefetch import Prefetch
from vfi_cli.timeline import OutputGrid, SourceTimeline, format_time

T = TypeVar("T")

#: Pictures that may wait for each input. Small: a 4K frame in 10 bits takes 25 MB.
_QUEUE = 3
#: Containers with times in milliseconds (Matroska, FLV) move the frames of a variable rate by
#: up to this many seconds.
_ROUNDING = Fraction(1, 1000)


@dataclass(frozen=True)
class Input:
    """One video. Its times count in seconds from its own first frame."""

    info: SourceInfo

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Input:
        """Read what a video holds. Raises InputError where it cannot be compared."""
        return cls(probe(path))

    @property
    def timeline(self) -> SourceTimeline:
        return self.info.timeline

    @property
    def duration(self) -> Fraction:
        return self.timeline.duration

    def time(self, index: int) -> Fraction:
        """When frame ``index`` comes on screen."""
        return self.timeline.time(index) - self.timeline.start

    def index_at(self, time: Fraction) -> int:
        """The frame that is on screen at a time."""
        return self.timeline.index_at(self.timeline.start + time)


def common_grid(
    inputs: Sequence[Input],
    *,
    fps: Fraction | None = None,
    start: Fraction = Fraction(0),
    duration: Fraction | None = None,
    slow: Fraction = Fraction(1),
) -> OutputGrid:
    """The times at which inputs are compared: as long as all of them are there.

    ``fps`` is the highest rate of the inputs where it is None; shown ``slow`` times slower.
    Raises UsageError where an input ends before ``start``.
    """
    rate = fps or max(one.info.nominal_rate for one in inputs)
    shortest = min(inputs, key=lambda one: one.duration)
    if start >= shortest.duration:
        raise UsageError(
            f"--start lies beyond the end of {shortest.info.path}, which is "
            f"{format_time(shortest.duration)} long"
        )
    end = shortest.duration if duration is None else min(shortest.duration, start + duration)
    return OutputGrid.spanning(start, end, rate / slow, slow)


@dataclass(frozen=True)
class Alignment:
    """How the frames of two inputs lie in time, from the packets alone."""

    common: int  # frames that begin at the same time in both
    only_first: int  # frames at whose time the other begins none
    only_second: int


def same_time(first: Input, second: Input) -> Callable[[Fraction, Fraction], bool]:
    """Whether two times are one: exactly, but for what a container rounds at variable rates."""
    tolerance = _ROUNDING if first.info.variable or second.info.variable else 0
    return lambda a, b: abs(a - b) <= tolerance


def align(first: Input, second: Input, begin: Fraction, end: Fraction | None) -> Alignment:
    """Count the frames of ``begin`` ≤ time < ``end`` (None: to the end of each)."""
    same = same_time(first, second)

    def times(one: Input) -> list[Fraction]:
        every = (one.time(index) for index in range(len(one.timeline)))
        return [time for time in every if begin <= time and (end is None or time < end)]

    ours, theirs = times(first), times(second)
    common = i = j = 0
    while i < len(ours) and j < len(theirs):
        if same(ours[i], theirs[j]):
            common, i, j = common + 1, i + 1, j + 1
        elif ours[i] < theirs[j]:
            i += 1
        else:
            j += 1
    return Alignment(common, len(ours) - common, len(theirs) - common)


@dataclass(frozen=True)
class Shown(Generic[T]):
    """A picture on screen."""

    picture: T
    time: Fraction  # when it came on screen


class Screen(Generic[T]):
    """What one input shows at times that only grow; a context manager.

    Frames are decoded, and made into pictures by ``convert``, in a thread of its own.
    """

    def __init__(self, source: Input, start: Fraction, convert: Callable[[Frame], T]) -> None:
        first = source.index_at(start)
        self._source = source
        self._reader = FrameReader(source.info, start_pts=int(source.info.pts[first]))
        self._convert = convert
        self._pictures = Prefetch(self._run(), depth=_QUEUE, name="screen")
        self._shown: Shown[T] | None = None
        self._next = next(self._pictures, None)

    def _run(self) -> Iterator[Shown[T]]:
        timeline = self._source.timeline
        with self._reader as frames:
            for frame in frames:
                yield Shown(self._convert(frame), timeline.time_of(frame.pts) - timeline.start)

    @property
    def broken_at(self) -> Fraction | None:
        """Where the picture stops because the input is damaged; known once it is reached."""
        broken = self._reader.broken
        return None if broken is None else broken.time - self._source.timeline.start

    @property
    def reason(self) -> str:
        """Why the picture stops there."""
        return "" if self._reader.broken is None else self._reader.broken.reason

    def at(self, time: Fraction) -> Shown[T] | None:
        """What is on screen, or None where the input is damaged from there on."""
        while self._next is not None and self._next.time <= time:
            self._shown, self._next = self._next, next(self._pictures, None)
        if self._next is None and self.broken_at is not None and time >= self.broken_at:
            return None
        return self._shown

    def close(self) -> None:
        self._pictures.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def damage(
    inputs: Sequence[Input], screens: Sequence[Screen[Any]], shown: Sequence[Shown[Any] | None]
) -> str | None:
    """Which input shows nothing any more, where and why; None where all do."""
    for one, screen, picture in zip(inputs, screens, shown, strict=True):
        if picture is None:
            at = format_time(screen.broken_at or 0)
            return f"{one.info.path}: the picture cannot be decoded after {at} ({screen.reason})"
    return None


def length_notes(inputs: Sequence[Input], grid: OutputGrid) -> list[str]:
    """Which inputs go on after the comparison has ended because another is shorter."""
    shortest = min(one.duration for one in inputs)
    assert grid.count is not None
    if grid.time(grid.count) < shortest:
        return []
    return [
        f"{one.info.path} is {format_time(one.duration - shortest)} longer; "
        "the comparison ends with the shortest"
        for one in inputs
        if one.duration - shortest > 1 / one.info.nominal_rate
    ]


def warnings_of(inputs: Sequence[Input]) -> tuple[str, ...]:
    """What was found wrong with the inputs when they were opened."""
    warnings = []
    for one in inputs:
        info = one.info
        warnings += [f"{info.path} {text}" for text in info.warnings]
        if info.declared_end is not None:
            warnings.append(
                f"{info.path}: the file ends at {format_time(one.duration)}, before the "
                f"{format_time(info.declared_end)} it announces"
            )
    return tuple(warnings)
