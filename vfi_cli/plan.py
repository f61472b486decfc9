"""What will be rendered: the output grid, its segments, and a fingerprint of it all.

A plan is complete before the first frame is decoded. Rendering one of its
segments is a pure function of (input, plan, segment number).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vfi_cli.errors import InputError, UsageError
from vfi_cli.timeline import OutputGrid, SourceTimeline, format_time
from vfi_cli.wording import said

if TYPE_CHECKING:
    from vfi_cli.io.decode import SourceInfo
    from vfi_cli.io.encode import EncoderConfig
    from vfi_cli.io.streams import StreamPlan

#: Bump when the same plan would render other frames than before: unfinished runs are then refused.
PLAN_VERSION = 5

#: Segments are about this long in output time, and begin on a source keyframe.
SEGMENT_SECONDS = Fraction(5)

#: From this width or height on, ``scale`` "auto" estimates motion at half resolution, as the
#: authors of RIFE advise for UHD.
UHD_SIDE = 2560

_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Timing:
    """What the user asks of time. Exactly one of ``fps`` and ``factor``, or only a ``stretch``."""

    fps: Fraction | None = None  # output frames a second
    factor: Fraction | None = None  # output rate as a multiple of the source's
    stretch: Fraction = Fraction(1)  # slow motion: output seconds per source second
    start: Fraction | None = None  # seconds after the first frame
    end: Fraction | None = None  # seconds after the first frame


@dataclass(frozen=True)
class RenderSettings:
    """Everything beside time and encoder that decides how a new frame looks."""

    model: str = "default"
    weights: str = ""  # fingerprint of the model's weights
    device: str = "cpu"  # kind of device: other kinds round differently
    dtype: str = "float32"
    operators: str = ""  # which build of the operators computed it
    scale: float = 1.0  # resolution at which motion is estimated
    tta: tuple[str, ...] = ()  # names of the test-time ensembles
    ensemble: bool = False
    #: Longest side of the parts that frames are made in, pixels; "auto": where the memory is too
    #: small for whole ones; "off". What was found to fit is kept in the work folder.
    tile: int | Literal["auto", "off"] = "auto"
    cuts: bool = True
    cuts_threshold: float | None = None  # None: the detector's default
    dedupe: bool = False
    #: Seconds without a source frame from which on the last one is held; None: never.
    gap: Fraction | None = None
    #: How many seconds later than the frame's time its top and its bottom row were exposed.
    rolling_shutter: tuple[Fraction, Fraction] | None = None
    #: The CUDA device that decodes, and from which NVENC reads; "none": the CPU decodes.
    hwaccel: str = "none"


@dataclass(frozen=True)
class Segment:
    """Output frames first … first + count − 1, rendered to a file of their own."""

    number: int
    first: int
    count: int

    @property
    def stop(self) -> int:
        return self.first + self.count


@dataclass(frozen=True)
class Plan:
    """A complete description of one conversion."""

    info: SourceInfo
    grid: OutputGrid
    segments: tuple[Segment, ...]
    settings: RenderSettings
    encoder: EncoderConfig
    streams: StreamPlan
    input: str  # fingerprint of the input's content
    fingerprint: str  # of that and of all the rest

    @property
    def timeline(self) -> SourceTimeline:
        """When each source frame is shown."""
        return self.info.timeline

    @property
    def frames(self) -> int:
        """Number of output frames."""
        return sum(segment.count for segment in self.segments)

    @property
    def clip_end(self) -> Fraction:
        """Source time in seconds at which the converted part ends."""
        return self.grid.time(self.frames)

    def describe(self) -> dict[str, Any]:
        """JSON-able summary, kept in the work folder and printed by ``--json``."""
        return {
            "input": self.info.path,
            "frames": self.frames,
            "fps": str(self.grid.fps),
            "start": str(self.grid.start),
            "stretch": str(self.grid.stretch),
            "segments": len(self.segments),
            "settings": asdict(self.settings),
            "encoder": asdict(self.encoder),
        }


def output_grid(info: SourceInfo, timing: Timing) -> OutputGrid:
    """Where the output frames stand. Raises UsageError where nothing would be left."""
    timeline = info.timeline
    fps = output_rate(info.nominal_rate, timing)
    start, end = timeline.start, timeline.end
    if timing.start is not None:
        start += timing.start
    if timing.end is not None:
        end = min(end, timeline.start + timing.end)
    if start >= timeline.end:
        raise beyond_the_end(info.path, timeline.duration)
    if end <= start:
        raise UsageError("--end must lie after --start")
    return OutputGrid.spanning(start, end, fps, timing.stretch)


def beyond_the_end(path: str, duration: Fraction) -> UsageError:
    """What is wrong with a start where there is nothing any more."""
    return UsageError(
        f"--start lies beyond the end of {path}, which is {format_time(duration)} long"
    )


def output_rate(source_rate: Fraction, timing: Timing) -> Fraction:
    """Frames a second that the output is shown at."""
    if timing.fps is not None:
        return timing.fps
    return source_rate * (timing.factor or 1)


def split_segments(
    grid: OutputGrid, boundaries: Sequence[Fraction], seconds: Fraction
) -> tuple[Segment, ...]:
    """Divide the grid at keyframe times (seconds), ``seconds`` or more apart."""
    assert grid.count is not None
    shortest = max(1, int(seconds * grid.fps))
    starts = [0]
    for time in boundaries:
        k = grid.first_at_or_after(time)
        if k - starts[-1] >= shortest and k < grid.count:
            starts.append(k)
    stops = [*starts[1:], grid.count]
    return tuple(
        Segment(number, first, stop - first)
        for number, (first, stop) in enumerate(zip(starts, stops, strict=True))
    )


def make_plan(
    info: SourceInfo,
    grid: OutputGrid,
    settings: RenderSettings,
    encoder: EncoderConfig,
    streams: StreamPlan,
) -> Plan:
    """Plan a conversion of a probed input, of which ``grid`` is wanted."""
    # Where a decoder cannot start in the middle, one segment is all there is.
    boundaries = [info.timeline.time_of(pts) for pts in info.key_pts] if info.seekable else []
    segments = split_segments(grid, boundaries, SEGMENT_SECONDS)
    source = input_fingerprint(Path(info.path))
    content = {
        "version": PLAN_VERSION,
        "input": source,
        "stream": info.stream_index,
        "grid": [str(grid.start), str(grid.rate), str(grid.fps), grid.count],
        "segments": [segment.first for segment in segments],
        "settings": asdict(settings),
        "encoder": asdict(encoder),
        "streams": streams.to_json(),
    }
    text = json.dumps(content, sort_keys=True, default=str)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    return Plan(info, grid, segments, settings, encoder, streams, source, fingerprint)


def automatic_scale(width: int, height: int) -> float:
    """The resolution factor for motion estimation that ``--scale auto`` stands for."""
    return 0.5 if max(width, height) >= UHD_SIDE else 1.0


def input_fingerprint(path: Path) -> str:
    """SHA-256 over the size and samples from the start, middle and end of a file.

    A copy or a touched file is the same input; reading all of a long film would
    cost more than it is worth.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(str(size).encode())
            for offset in sorted({0, size // 2, max(0, size - _SAMPLE_BYTES)}):
                file.seek(offset)
                digest.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise InputError(f"cannot read {path}: {said(error)}") from error
    return digest.hexdigest()
