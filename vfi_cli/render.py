"""Rendering: source frames in, output frames out, in three overlapping stages.

Decoding (with the small pictures that cuts are found on) and encoding run in
threads of their own, with bounded queues between; the model runs in the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from vfi_cli.cuts import DEFAULT_THRESHOLD, Signature, signature
from vfi_cli.duplicates import CADENCE_REACH
from vfi_cli.follow import Follower
from vfi_cli.frame import Frame, Window
from vfi_cli.io.decode import Broken, FrameReader
from vfi_cli.io.encode import VideoWriter
from vfi_cli.io.prefetch import Outbox, Prefetch
from vfi_cli.models import Interpolator
from vfi_cli.plan import Plan, RenderSettings, Segment
from vfi_cli.scenes import Decided, SceneStream
from vfi_cli.synthesis import Synthesizer
from vfi_cli.timeline import OutputGrid
from vfi_cli.windows import Placed, Shown, Strip, place, place_rows

#: Frames that may wait between two stages. Small: a 4K frame in 10 bits takes 25 MB.
QUEUE_FRAMES = 4


@dataclass
class Counts:
    """What a run met and made."""

    frames: int = 0  # output frames written
    new: int = 0  # of them, made by the model
    cuts: int = 0
    repeats: int = 0

    def add(self, other: Counts) -> None:
        self.frames += other.frames
        self.new += other.new
        self.cuts += other.cuts
        self.repeats += other.repeats


@dataclass(frozen=True)
class SegmentResult:
    """What rendering a segment gave. JSON-able through ``to_json`` and back."""

    counts: Counts
    broken: Broken | None = None  # where the input stopped being decodable

    def to_json(self) -> dict[str, Any]:
        broken = self.broken and {"time": str(self.broken.time), "reason": self.broken.reason}
        return {"counts": asdict(self.counts), "broken": broken}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> SegmentResult:
        broken = record["broken"]
        return cls(
            Counts(**record["counts"]),
            broken and Broken(Fraction(broken["time"]), broken["reason"]),
        )


@dataclass(frozen=True)
class Part:
    """Which output frames are wanted, and from when on decisions about source frames hold."""

    first: int = 0
    stop: int | None = None  # None: to the end of the source
    #: Source time in seconds; frames before it only tell about cuts and repeats, because reading
    #: did not begin at the clip's beginning. None: it did.
    settled: Fraction | None = None


def pictures(
    decoded: Iterable[tuple[Frame, Fraction, Signature | None]],
    synthesizer: Synthesizer | Follower,
    settings: RenderSettings,
    grid: OutputGrid,
    part: Part,
    *,
    end: Callable[[Shown], Fraction],
    counts: Counts,
) -> Iterator[Frame]:
    """The output frames of ``part``, from source frames as (frame, exact time, signature).

    ``end`` says until when, in seconds of source time, the last frame is shown.
    """
    scenes = scene_stream(settings)
    begins = grid.time(part.first)
    ends = None if part.stop is None else grid.time(part.stop)

    def shown() -> Iterator[Shown]:
        def usable(decided: Iterable[Decided[Frame]]) -> Iterator[Shown]:
            for one in decided:
                counts.cuts, counts.repeats = scenes.cuts, scenes.repeats
                if part.settled is None or one.source_time >= part.settled:
                    yield Shown(one.payload, one.time, one.cut_after, one.gap_after)

        for frame, time, sign in decoded:
            outside = time < begins or (ends is not None and time >= ends)
            yield from usable(scenes.feed(frame, sign, time, context=outside))
        yield from usable(scenes.flush())

    seen, shutter = synthesizer.frames_seen, settings.rolling_shutter
    span = (shown(), grid, part.first, part.stop)
    made: Iterator[Placed]
    if shutter is None:
        made = place(*span, end=end, frames_seen=seen)
    else:
        made = place_rows(*span, end=end, frames_seen=seen, shutter=shutter)
    for content in _together(made, synthesizer):
        if isinstance(content, tuple):
            assert isinstance(synthesizer, Synthesizer), "what follows has no times for rows"
            counts.frames += 1
            counts.new += 1
            yield synthesizer.rows(content)
            continue
        windows = [one for one in content if isinstance(one, Window)]
        new = iter(synthesizer.several(windows) if windows else ())
        for one in content:
            counts.frames += 1
            counts.new += isinstance(one, Window)
            yield next(new) if isinstance(one, Window) else one


def _together(
    placed: Iterable[Placed], synthesizer: Synthesizer | Follower
) -> Iterator[list[Frame | Window] | tuple[Strip, ...]]:
    """What output frames are made of, in order: with windows that are best made at once come the
    source frames that are shown between them."""
    waiting: list[Frame | Window] = []
    windows: list[Window] = []  # of what waits
    for one in placed:
        content = one.content
        if windows and not isinstance(content, Frame):
            together = isinstance(content, Window) and synthesizer.goes_with(windows[-1], content)
            if not together:
                yield waiting
                waiting, windows = [], []
        if isinstance(content, tuple):
            yield content
            continue
        waiting.append(content)
        if isinstance(content, Window):
            windows.append(content)
        most = synthesizer.at_once
        # Where many source frames are shown as they are, none waits for long.
        if not windows or len(windows) >= most or len(waiting) >= 3 * most:
            yield waiting
            waiting, windows = [], []
    if waiting:
        yield waiting


def scene_stream(settings: RenderSettings) -> SceneStream[Any]:
    """The finder of cuts and repeats that the settings ask for."""
    threshold = settings.cuts_threshold
    return SceneStream(
        cuts=settings.cuts,
        threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
        dedupe=settings.dedupe,
        gap=settings.gap,
    )


def measured(
    frames: Iterable[Frame], time_of: Callable[[Frame], Fraction], settings: RenderSettings
) -> Iterator[tuple[Frame, Fraction, Signature | None]]:
    """Decoded frames with their exact times and, where cuts or repeats matter, signatures."""
    wanted = scene_stream(settings).needs_signatures
    for frame in frames:
        yield frame, time_of(frame), signature(frame) if wanted else None


def synthesizer_for(settings: RenderSettings, interpolator: Interpolator) -> Synthesizer:
    """A synthesizer with the settings' options."""
    return Synthesizer(
        interpolator,
        scale=settings.scale,
        tta=settings.tta,
        ensemble=settings.ensemble,
        tile=settings.tile,
    )


def render_segment(
    plan: Plan,
    segment: Segment,
    synthesizer: Synthesizer,
    target: Path,
    *,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[SegmentResult, Ending]:
    """Render one segment to a file: the same decoded pictures whoever renders it, whenever.

    ``on_frame`` is called after each frame handed to the encoder. Where the input
    stops being decodable the segment ends early, and the result says where. The file is
    complete when its ending is over.
    """
    part, start_pts = reading(plan, segment)
    timeline = plan.timeline
    counts = Counts()
    reader = FrameReader(plan.info, start_pts=start_pts, hwaccel=plan.settings.hwaccel)

    def end(last: Shown) -> Fraction:
        if reader.broken is not None:
            return min(reader.broken.time, plan.clip_end)
        return plan.clip_end

    with reader:
        source = measured(reader, lambda frame: timeline.time_of(frame.pts), plan.settings)
        with Prefetch(source, depth=QUEUE_FRAMES) as decoded:
            made = pictures(
                decoded, synthesizer, plan.settings, plan.grid, part, end=end, counts=counts
            )
            ending = begin_writing(made, video_writer(plan, target), on_frame)
        broken = None
        if counts.frames < segment.count:
            last = plan.grid.time(segment.first + counts.frames)
            broken = reader.broken or Broken(last, "fewer frames than the file announces")
        return SegmentResult(counts, broken), ending


def reading(plan: Plan, segment: Segment) -> tuple[Part, int]:
    """What to ask :func:`pictures` for, and the timestamp to start reading at."""
    timeline = plan.timeline
    # Before the frame that the segment begins on: the outer frame of a four-frame window, and,
    # where frames are dropped or retimed, the kept one before.
    lead = 2 + (CADENCE_REACH if plan.settings.dedupe else 0)
    # Rows that were exposed later than their frame's time are looked for before.
    later = max((Fraction(0), *(plan.settings.rolling_shutter or ())))
    first = max(0, timeline.index_at(plan.grid.time(segment.first) - later) - lead)
    start = max(0, first - scene_stream(plan.settings).context)
    settled = timeline.time(first) if start > 0 else None
    return Part(segment.first, segment.stop, settled), int(timeline.pts[start])


def video_writer(plan: Plan, target: Path) -> VideoWriter:
    """The encoder of one segment of the plan."""
    info = plan.info
    return VideoWriter(
        target,
        plan.encoder,
        fps=plan.grid.fps,
        width=info.width,
        height=info.height,
        sample_aspect_ratio=info.sample_aspect_ratio,
        hwaccel=plan.settings.hwaccel,
    )


class Ending:
    """A video whose frames are all made, and the last of them still being encoded in a thread."""

    def __init__(self, outbox: Outbox[Frame], writer: VideoWriter) -> None:
        self._outbox, self._writer = outbox, writer

    @property
    def is_over(self) -> bool:
        """Whether :meth:`wait` returns, or raises, at once."""
        return self._outbox.is_idle

    def wait(self) -> None:
        """Return when the file is complete and on disk. Raises OutputError."""
        try:
            self._outbox.close()
        except BaseException:
            self._writer.abort()
            raise


def begin_writing(
    frames: Iterable[Frame], writer: VideoWriter, on_frame: Callable[[], None]
) -> Ending:
    """Encode frames in a thread of its own, so that the next is made meanwhile.

    An encoder holds dozens of frames back; what it still has when the last one is made, it
    writes while the caller goes on.
    """
    outbox = Outbox(writer.write, depth=QUEUE_FRAMES, at_end=writer.close)
    try:
        for frame in frames:
            outbox.put(frame)
            on_frame()
        outbox.finish()
    except BaseException:
        outbox.abort()
        writer.abort()
        raise
    return Ending(outbox, writer)


def write(frames: Iterable[Frame], writer: VideoWriter, on_frame: Callable[[], None]) -> None:
    """As :func:`begin_writing`, and wait for the file."""
    begin_writing(frames, writer, on_frame).wait()
