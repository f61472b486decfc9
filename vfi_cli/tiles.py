"""A picture in overlapping parts, for where the whole one does not fit into memory.

The parts lie on a lattice, so that a network sees each as it lies in the whole picture. Where two
overlap they are blended: the outer quarter of the overlap is context that is never shown, because
motion brings in there what lies beyond the part, and in between the one goes over into the other
(feathering). At every pixel the weights sum to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

#: Pixels that two parts share where motion is estimated at full resolution. Motion of up to half
#: of it, where the parts have equal weights, finds what it needs in both.
OVERLAP = 128


@dataclass(frozen=True, slots=True)
class Span:
    """A part along one axis: pixels ``start`` … ``stop`` − 1, and the weight of each."""

    start: int
    stop: int
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A part of a picture. The weight of a pixel is that of its row times that of its column."""

    rows: Span
    columns: Span


@lru_cache(maxsize=64)
def tiles(height: int, width: int, side: int, overlap: int, multiple: int) -> tuple[Tile, ...]:
    """Cover a picture with parts of at most ``side`` × ``side`` pixels, in reading order.

    overlap: pixels that neighbours share at least; less where ``side`` is not twice as much.
    multiple: parts begin, and all but the last end, at multiples of this.

    Raises ValueError for a side below twice the multiple.
    """
    rows = spans(height, side, overlap, multiple)
    columns = spans(width, side, overlap, multiple)
    return tuple(Tile(*pair) for pair in product(rows, columns))


def spans(size: int, side: int, overlap: int, multiple: int) -> tuple[Span, ...]:
    """The parts along one axis of ``size`` pixels; see :func:`tiles`."""
    if size <= side:
        return (Span(0, size, (1.0,) * size),)
    length = side // multiple  # counted in multiples from here on
    if length < 2:
        raise ValueError(f"tiles of {side} pixels for a network that needs multiples of {multiple}")
    shared = min(-(-overlap // multiple), length // 2)
    whole = -(-size // multiple)
    count = 1 + -(-(whole - length) // (length - shared))
    starts = [round(n * (whole - length) / (count - 1)) * multiple for n in range(count)]
    stops = [min(start + length * multiple, size) for start in starts]
    least = shared * multiple
    ramps = [
        [
            _rise(at - start, least, start > 0) * _rise(stop - 1 - at, least, stop < size)
            for at in range(start, stop)
        ]
        for start, stop in zip(starts, stops, strict=True)
    ]
    total = [0.0] * size
    for start, ramp in zip(starts, ramps, strict=True):
        for place, weight in enumerate(ramp, start):
            total[place] += weight
    return tuple(
        Span(start, stop, tuple(w / total[at] for at, w in enumerate(ramp, start)))
        for start, stop, ramp in zip(starts, stops, ramps, strict=True)
    )


def _rise(distance: int, overlap: int, inner: bool) -> float:
    """The weight so many pixels from an edge: 0 for a quarter of the overlap, then rising to 1
    over half of it. Edges of the picture itself have nothing beyond them."""
    if not inner:
        return 1.0
    return min(1.0, max(0.0, (distance + 0.5 - overlap / 4) / (overlap / 2)))


def largest_side(fits: Callable[[int], bool], height: int, width: int, multiple: int) -> int | None:
    """The longest side, a multiple of ``multiple``, of square parts that fit; None: none does.

    Parts of one picture need not be longer than it.
    """
    longest = -(-max(height, width) // multiple)
    sides = (count * multiple for count in range(longest, 1, -1))
    return next((side for side in sides if fits(side)), None)
