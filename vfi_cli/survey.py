"""A look through the source before anything is made: its cuts, its repeats, what will be new.

The decisions are those of rendering, taken by the same code on the same frames; only the
models are left out.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice

from vfi_cli.cuts import signature
from vfi_cli.frame import Frame
from vfi_cli.io.decode import Broken, FrameReader
from vfi_cli.io.prefetch import Prefetch
from vfi_cli.plan import Plan, Segment
from vfi_cli.render import QUEUE_FRAMES, Counts, reading, scene_stream
from vfi_cli.scenes import Decided
from vfi_cli.windows import Shown, place, place_rows


@dataclass(frozen=True)
class Survey:
    """What was seen in the part of the source that is converted."""

    counts: Counts  # as the conversion will report them
    cuts: tuple[Fraction, ...]  # source times in seconds of the frames that begin a new scene
    #: Source times in seconds of the frames that repeat the one before, replaced or not.
    repeats: tuple[Fraction, ...]
    frames: int  # source frames that were decoded
    seconds: float  # that it took
    cpu_seconds: float  # of all its threads
    broken: Broken | None = None  # where the source stops being decodable


def survey(plan: Plan, on_frame: Callable[[int, int], None] = lambda done, total: None) -> Survey:
    """Decode the source once and find what the plan's rendering will find.

    Repeats are looked for whether the plan replaces them or not. ``on_frame`` is told how
    many frames are done of how many.
    """
    began, cpu_began = time.monotonic(), time.process_time()
    info, timeline = plan.info, plan.timeline
    scenes = scene_stream(replace(plan.settings, dedupe=True))
    looked_at = replace(plan, settings=replace(plan.settings, dedupe=True))
    part, start_pts = reading(looked_at, Segment(0, 0, plan.frames))
    begins, ends = plan.grid.time(0), plan.clip_end
    first = bisect_left(info.pts, start_pts)
    total = min(len(timeline), timeline.index_at(ends) + 1 + scenes.context) - first
    like: Frame | None = None
    times: list[Fraction] = []
    decided: list[Decided[Frame]] = []
    reader = FrameReader(info, start_pts=start_pts)
    with reader, Prefetch(islice(reader, total), depth=QUEUE_FRAMES) as frames:
        for frame in frames:
            like = like or frame  # stands for all: windows are counted, not looked into
            times.append(timeline.time_of(frame.pts))
            outside = not begins <= times[-1] < ends
            decided += scenes.feed(like, signature(frame), times[-1], context=outside)
            on_frame(len(times), total)
        decided += scenes.flush()
    if reader.broken is not None:
        ends = min(ends, reader.broken.time)
    if part.settled is not None:
        decided = [one for one in decided if one.source_time >= part.settled]
        times = [at for at in times if at >= part.settled]
    kept = {one.source_time for one in decided}
    repeats = tuple(at for at in times if at not in kept and begins <= at < ends)
    counts = _count(plan, decided, times, ends)
    counts.cuts, counts.repeats = scenes.cuts, len(repeats) if plan.settings.dedupe else 0
    return Survey(
        counts=counts,
        cuts=_cut_times(decided, times, begins, ends),
        repeats=repeats,
        frames=len(times),
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu_began,
        broken=reader.broken,
    )


def _cut_times(
    decided: list[Decided[Frame]], times: list[Fraction], begins: Fraction, ends: Fraction
) -> tuple[Fraction, ...]:
    """Times of the frames after the cuts."""
    before = [one.source_time for one in decided if one.cut_after]
    return tuple(times[bisect_left(times, at) + 1] for at in before if begins <= at < ends)


def _count(
    plan: Plan, decided: list[Decided[Frame]], times: list[Fraction], end: Fraction
) -> Counts:
    """How many output frames there will be, and how many of them are new."""
    counts = Counts()
    if not decided:
        return counts
    like = decided[0].payload
    if plan.settings.dedupe:
        shown = (Shown(like, one.time, one.cut_after, one.gap_after) for one in decided)
    else:  # repeats are shown too; nothing is cut after one
        known = {one.source_time: (one.cut_after, one.gap_after) for one in decided}
        shown = (Shown(like, at, *known.get(at, (False, False))) for at in times)
    span = (shown, plan.grid, 0, plan.frames)
    shutter = plan.settings.rolling_shutter
    if shutter is None:
        placed = place(*span, end=lambda last: end, frames_seen=2)
    else:
        placed = place_rows(*span, end=lambda last: end, frames_seen=2, shutter=shutter)
    for one in placed:
        counts.frames += 1
        counts.new += not isinstance(one.content, Frame)
    return counts
