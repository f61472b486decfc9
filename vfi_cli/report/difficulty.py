"""What was hard about a clip: how much its frames differ, how far things move, what does not fit.

One more look through the source, on small pictures, after a conversion. It depends on the input
and the plan alone, so that an interrupted and resumed conversion is described as any other.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from vfi_cli.cuts import Signature, signature
from vfi_cli.duplicates import difference
from vfi_cli.frame import Frame, Samples
from vfi_cli.io.color import to_rgb
from vfi_cli.io.decode import FrameReader
from vfi_cli.io.prefetch import Prefetch
from vfi_cli.models import Interpolator
from vfi_cli.models.weights import WITHOUT_WEIGHTS
from vfi_cli.native.ops import backwarp
from vfi_cli.plan import Plan, Segment
from vfi_cli.render import QUEUE_FRAMES, reading, scene_stream
from vfi_cli.scenes import Decided, SceneStream
from vfi_cli.timeline import OutputGrid

#: Motion is looked for in pictures of this size (the longest side in pixels; 224 × 126 fits the
#: multiples of 64 that networks pad to) …
SMALL_SIDE = 224
#: … and in so many pairs of frames at most, evenly chosen: it costs the most.
MOTION_PAIRS = 1500
#: How many hard moments are kept, and the least part of the clip that lies between two.
HARD_MOMENTS = 6
_APART = Fraction(1, 40)


@dataclass(frozen=True, slots=True)
class Moment:
    """A new frame that was hard to make."""

    number: int  # of the output frame
    time: Fraction  # seconds of source time, after the first frame
    timestep: Fraction  # between its source frames
    left: int  # numbers of its source frames
    right: int
    score: float  # the measure it was chosen by; larger is harder


@dataclass
class Difficulty:
    """What was measured between neighbouring source frames, in order.

    The columns have one value for a pair of neighbours; NaN where there is none, as across cuts
    and gaps that no new frame bridges. Differences are in steps of 8-bit codes, motion in pixels
    of the full picture.
    """

    times: array[float] = field(default_factory=lambda: array("d"))  # of the pair's middle, s
    difference: array[float] = field(default_factory=lambda: array("d"))  # mean, of the luma
    motion: array[float] = field(default_factory=lambda: array("d"))  # mean length of the flow
    fastest: array[float] = field(default_factory=lambda: array("d"))  # what 1 % exceed
    #: mean difference that is left when both frames are moved to the middle between them
    disagreement: array[float] = field(default_factory=lambda: array("d"))
    cuts: array[float] = field(default_factory=lambda: array("d"))  # s, first frame of a scene
    repeats: array[float] = field(default_factory=lambda: array("d"))  # s
    moments: list[Moment] = field(default_factory=list)  # hardest first

    @property
    def has_motion(self) -> bool:
        """Whether the model told how things move."""
        return any(not math.isnan(value) for value in self.motion)


@dataclass(frozen=True, slots=True)
class _Seen:
    """A source frame as it waits to be compared."""

    number: int
    time: Fraction  # seconds, its own
    sign: Signature
    small: Frame


def measure(
    plan: Plan,
    frames: int,
    interpolator: Interpolator,
    *,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Difficulty:
    """Look through what a plan converted, of which ``frames`` output frames were made.

    Cuts are those that were respected; where that was not asked for, those that there are. The
    same holds of repeated frames. ``on_frame`` is told how many source frames of how many are
    done. An input that breaks off is described up to there.
    """
    found = Difficulty()
    meter = _Meter(plan, frames, interpolator, found)
    previous: tuple[_Seen, Fraction, Decided[_Seen] | None] | None = None
    for seen, time, known in _scenes(plan, frames, on_frame):
        start = plan.timeline.start
        if known is None:
            found.repeats.append(float(seen.time - start))
            if plan.settings.dedupe:
                continue
        if previous is not None:
            left, stood, before = previous
            cut = before is not None and before.cut_after
            if cut:
                found.cuts.append(float(seen.time - start))
            gap = before is not None and before.gap_after
            meter.pair(left, seen, (stood, time), apart=gap or (cut and plan.settings.cuts))
        previous = seen, time, known
    found.moments = meter.hardest()
    interpolator.forget()
    return found


def _scenes(
    plan: Plan, frames: int, on_frame: Callable[[int, int], None]
) -> Iterator[tuple[_Seen, Fraction, Decided[_Seen] | None]]:
    """(frame, time it stands at, what is known; None: it repeats the one before), in order."""
    asked = plan.settings
    settings = replace(asked, cuts=asked.cuts or not asked.dedupe, dedupe=True)
    scenes: SceneStream[_Seen] = scene_stream(settings)
    info, timeline = plan.info, plan.timeline
    begins, ends = plan.grid.time(0), plan.grid.time(frames)
    _, start_pts = reading(replace(plan, settings=settings), Segment(0, 0, frames))
    first = bisect_left(info.pts, start_pts)
    last = timeline.index_at(ends)  # and the one after it, with which it makes new frames
    last = min(last + (timeline.time(last) < ends), len(timeline) - 1)
    wanted = range(timeline.index_at(begins), last + 1)
    stop = min(len(timeline), wanted.stop + scenes.context)
    waiting: deque[_Seen] = deque()

    def source(reader: FrameReader) -> Iterator[_Seen]:
        for number, frame in zip(range(first, stop), reader, strict=False):
            small = shrink(frame, SMALL_SIDE)
            yield _Seen(number, timeline.time_of(frame.pts), signature(frame), small)

    def decided(
        kept: Iterator[Decided[_Seen]],
    ) -> Iterator[tuple[_Seen, Fraction, Decided[_Seen] | None]]:
        for one in kept:
            while waiting:
                seen = waiting.popleft()
                itself = seen.number == one.payload.number
                if seen.number in wanted:
                    time = one.time if itself and asked.dedupe else seen.time
                    yield seen, time, one if itself else None
                if itself:
                    break

    reader = FrameReader(info, start_pts=start_pts)
    with reader, Prefetch(source(reader), depth=QUEUE_FRAMES) as pictures:
        for seen in pictures:
            waiting.append(seen)
            outside = seen.number not in wanted
            yield from decided(scenes.feed(seen, seen.sign, seen.time, context=outside))
            on_frame(seen.number + 1 - first, stop - first)
        yield from decided(scenes.flush())


class _Meter:
    """Measures pairs of neighbours, and remembers the hardest of each stretch of the clip."""

    def __init__(
        self, plan: Plan, frames: int, interpolator: Interpolator, found: Difficulty
    ) -> None:
        self._plan, self._frames, self._found = plan, frames, found
        moves = interpolator.network.has_motion and interpolator.name not in WITHOUT_WEIGHTS
        self._interpolator = interpolator if moves else None
        grid, timeline = plan.grid, plan.timeline
        pairs = timeline.index_at(grid.time(frames)) - timeline.index_at(grid.start)
        self._every = max(1, -(-pairs // MOTION_PAIRS))
        self._apart = (grid.time(frames) - grid.start) * _APART
        self._best: dict[int, Moment] = {}  # by stretch of the clip

    def pair(
        self, left: _Seen, right: _Seen, times: tuple[Fraction, Fraction], *, apart: bool
    ) -> None:
        """Measure two neighbours that stand at these times, in seconds.

        ``apart``: no new frame is made of the two.
        """
        found, start = self._found, self._plan.timeline.start
        differs = math.nan if apart else difference(left.sign, right.sign).mean
        moved = (math.nan, math.nan, math.nan)
        looked = self._interpolator is not None and len(found.times) % self._every == 0
        if looked and not apart:
            moved = self._motion(left, right)
        found.times.append(float((times[0] + times[1]) / 2 - start))
        found.difference.append(differs)
        for column, value in zip(
            (found.motion, found.fastest, found.disagreement), moved, strict=True
        ):
            column.append(value)
        score = differs if self._interpolator is None else moved[2]
        number = new_frame_within(self._plan.grid, times, self._frames)
        if number is None or math.isnan(score) or score <= 0:
            return
        time = self._plan.grid.time(number)
        timestep = (time - times[0]) / (times[1] - times[0])
        moment = Moment(number, time - start, timestep, left.number, right.number, score)
        stretch = int((time - self._plan.grid.start) / self._apart)
        best = self._best.get(stretch)
        if best is None or best.score < score:
            self._best[stretch] = moment

    def hardest(self) -> list[Moment]:
        """The hardest moments, none right after another."""
        chosen: list[Moment] = []
        for moment in sorted(self._best.values(), key=lambda one: (-one.score, one.number)):
            if all(abs(moment.time - other.time) >= self._apart for other in chosen):
                chosen.append(moment)
        return chosen[:HARD_MOMENTS]

    def _motion(self, left: _Seen, right: _Seen) -> tuple[float, float, float]:
        """Mean and nearly largest motion from the left frame to the right, and what disagrees."""
        model = self._interpolator
        assert model is not None
        frames = [to_rgb(seen.small, device=model.device).clamp(0, 1) for seen in (left, right)]
        pair = torch.stack(frames)[None]
        keys = [("difficulty", seen.number) for seen in (left, right)]
        motion = model.motion(pair, 0.5, keys=keys)
        enlarged = self._plan.info.width / left.small.width
        length = (motion.flow1 - motion.flow0).norm(dim=1).flatten() * enlarged
        last = max(1, round(0.99 * length.numel()))
        moved = [backwarp(pair[:, n], (motion.flow0, motion.flow1)[n]) for n in (0, 1)]
        differs = (moved[0] - moved[1]).abs().mean() * 255
        return float(length.mean()), float(length.kthvalue(last).values), float(differs)


def new_frame_within(grid: OutputGrid, times: tuple[Fraction, Fraction], frames: int) -> int | None:
    """The output frame nearest to the middle between two source times, strictly within them."""
    middle = (sum(times, Fraction(0)) / 2 - grid.start) * grid.rate
    number = round(middle)
    inside = 0 <= number < frames and times[0] < grid.time(number) < times[1]
    return number if inside else None


def shrink(frame: Frame, side: int) -> Frame:
    """A frame's small picture, ``side`` pixels at its longest side or as large as it is.

    Means of its samples in 8 bits, without chroma subsampling and alpha.
    """
    factor = max(1.0, max(frame.width, frame.height) / side)
    width, height = (max(1, round(size / factor)) for size in (frame.width, frame.height))
    layout = replace(frame.layout, bits=8, log2_chroma_w=0, log2_chroma_h=0, alpha=False)
    shift = frame.layout.bits - 8
    planes = tuple(
        _mean(plane, height, width, shift) for plane in frame.host_planes[: layout.components]
    )
    return replace(frame, planes=planes, width=width, height=height, layout=layout)


def _mean(plane: Samples, height: int, width: int, shift: int) -> NDArray[np.uint8]:
    rows, columns = _cells(plane.shape[0], height), _cells(plane.shape[1], width)
    # Each cell is the mean over at most 4 × 4 of its samples: more would cost more than it tells.
    wide = np.stack([plane[:, at] for at in columns]).sum(axis=0, dtype=np.uint32)
    total = np.stack([wide[at] for at in rows]).sum(axis=0, dtype=np.uint32)
    mean = total / (len(rows) * len(columns) * (1 << shift))
    return np.clip(mean.round(), 0, 255).astype(np.uint8)


@lru_cache(maxsize=32)
def _cells(size: int, cells: int) -> list[NDArray[np.int64]]:
    """Positions to average over: one array for each of up to four samples a cell."""
    count = min(4, max(1, size // cells))
    offsets = (np.arange(count) + 0.5) / count
    return [
        np.minimum(((np.arange(cells) + o) * size / cells).astype(int), size - 1) for o in offsets
    ]
