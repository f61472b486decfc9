"""Segments and the source's other streams become the output, which is then read back.

The join copies packets and never encodes the picture again. :func:`verify` is the
last word: an output gets its name only when it was read and agrees with the plan.
"""

from __future__ import annotations

import errno
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from vfi_cli.errors import OutputError
from vfi_cli.frame import ColorSpec
from vfi_cli.io.copier import CopyReport, Sent, StreamCopier
from vfi_cli.io.mux import Nowhere, OutputMux, PictureTraits
from vfi_cli.io.readback import VerifiedOutput, verify_output
from vfi_cli.io.source import HdrInfo, open_input
from vfi_cli.io.streams import Source, StreamItem, StreamPlan
from vfi_cli.io.timecode import convert_timecode
from vfi_cli.wording import said

#: Time bases finer than this are rounded: MP4 counts in 32 bits a second.
_FINEST = 1_000_000
#: Units a second in which no rounding matters.
_FINE = 90_000


class JoinSource(Source, Protocol):
    @property
    def sample_aspect_ratio(self) -> Fraction: ...
    @property
    def hdr(self) -> HdrInfo | None: ...


@dataclass(frozen=True)
class JoinReport:
    """What the join wrote, and what a person should hear of."""

    sent: dict[int, Sent]  # by the input's stream index
    chapters: int
    lost: tuple[StreamItem, ...] = ()  # promised streams that the container refused
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Segments:
    paths: tuple[Path, ...]
    counts: tuple[int, ...]  # frames in each
    depth: int  # how many frames decoding runs ahead of showing


def join(
    segments: Sequence[Path],
    output_tmp: Path,
    *,
    info: JoinSource,
    grid_fps: Fraction,
    start: Fraction,
    frames: int,
    stream_plan: StreamPlan,
    color: ColorSpec | None = None,
    until: Fraction | None = None,
) -> JoinReport:
    """Write ``output_tmp`` from the segments' pictures and the source's other streams.

    Frame k of the ``frames`` frames stands at (start + k / grid_fps) where ``start`` is the
    source time of the first frame, mapped by the plan's time map. ``color`` is stated where the
    segments cannot, whose container leaves it to the codec. ``until`` (source time) cuts
    the other streams where a truncated source's picture ends. The file is fsynced, not renamed.
    Raises OutputError where segments do not fit together or the container cannot be written.
    A secondary stream that the container refuses is left out and reported, not fatal.
    """
    found = _inspect(segments, grid_fps)
    if sum(found.counts) != frames:
        raise OutputError(
            f"the segments hold {sum(found.counts)} frames, the plan wants {frames}; "
            "delete the work folder and start again"
        )
    left_out: set[int] = set()
    lost: list[StreamItem] = []
    warnings: list[str] = []
    while True:
        try:
            report = _write(
                found,
                output_tmp,
                info,
                fps=grid_fps,
                start=start,
                plan=stream_plan,
                color=color,
                until=until,
                left_out=left_out,
            )
            break
        except OutputError as error:
            if _is_disk_fault(error):
                raise
            culprits = _culprits(info, stream_plan, until, left_out)
            if not culprits:
                raise
            for item, reason in culprits:
                left_out.add(item.index)
                lost.append(item)
                warnings.append(f"{item.label} could not be written and was left out ({reason})")
    return JoinReport(report.sent, report.chapters, tuple(lost), (*warnings, *report.warnings))


def _write(
    found: _Segments,
    output_tmp: Path,
    info: JoinSource,
    *,
    fps: Fraction,
    start: Fraction,
    plan: StreamPlan,
    color: ColorSpec | None,
    until: Fraction | None,
    left_out: set[int],
) -> CopyReport:
    with ExitStack() as stack:
        source = stack.enter_context(open_input(info.path))
        source.streams[info.stream_index].discard = Discard.all
        first = stack.enter_context(open_input(found.paths[0]))
        options = movie_options(plan, source.streams, plan.time_map.output(start))
        mux = stack.enter_context(
            OutputMux(output_tmp, plan.muxer, tags=plan.tags, options=options)
        )
        copier = StreamCopier(source, plan, left_out=left_out, until=until)

        tick, _ = frame_clock(fps, plan.time_map.output(start), plan.muxer)
        tags = dict(plan.video_tags)
        if "alpha_mode" in first.streams.video[0].metadata:  # VP9's second picture, beside each
            tags["alpha_mode"] = "1"
        if plan.timecode and (label := _timecode(plan, source, info, fps, start)):
            tags["timecode"] = label

        traits = PictureTraits(
            tags,
            plan.video_disposition,
            info.sample_aspect_ratio,
            plan.display_matrix,
            info.hdr,
        )

        def add_picture() -> None:
            mux.add_video(first.streams.video[0], traits, fps=fps, time_base=tick, color=color)

        copier.add_streams(mux, info.stream_index, add_picture)
        pictures = picture_packets(found, fps, plan.time_map.output(start), plan.muxer)
        _interleave(mux, pictures, copier.packets())
        report = copier.report
        mux.close()
    with output_tmp.open("rb") as written:
        os.fsync(written.fileno())
    return report


def movie_options(plan: StreamPlan, streams: Iterable[Stream], start: Fraction) -> dict[str, str]:
    """MP4 counts the delay before a stream begins in units of the movie: they must be fine enough.

    Milliseconds, the usual unit, stay where they are exact.
    """
    if plan.muxer not in ("mp4", "mov"):
        return {}
    kept = {item.index for item in plan.items if item.action != "drop"}
    sounds = [s for s in streams if s.index in kept and isinstance(s, AudioStream)]
    delays = [start] + [
        plan.time_map.output(s.start_time * s.time_base)
        for s in sounds
        if s.start_time is not None and s.time_base
    ]
    unit = 1000
    if any(delays) or plan.time_map.stretch != 1:
        rates = [s.codec_context.sample_rate or 1 for s in sounds]
        unit = math.lcm(1000, *(delay.denominator for delay in delays), *rates)
        if unit > _FINEST:
            unit = math.lcm(*(delay.denominator for delay in delays))
        if unit > _FINEST:
            unit = _FINE
        # The muxer rounds down, and a track's own units are not always a divisor.
        unit *= math.ceil(Fraction(_FINE, unit))
    options = {"movie_timescale": str(unit)}
    if plan.timecode and plan.muxer == "mp4":
        options["write_tmcd"] = "1"
    return options


def _timecode(
    plan: StreamPlan, source: InputContainer, info: JoinSource, fps: Fraction, start: Fraction
) -> str | None:
    """The timecode of the output's first picture, counted at the output's rate."""
    picture = source.streams[info.stream_index]
    rate = picture.average_rate
    first = (picture.start_time or 0) * (picture.time_base or Fraction(0))
    if plan.timecode is None or not rate:
        return None
    return convert_timecode(plan.timecode, rate, fps, start - first)


def _interleave(
    mux: OutputMux, pictures: Iterator[Packet], others: Iterator[tuple[int, Packet]]
) -> None:
    """Both kinds of packets in order of decoding time; one of each is held at a time."""
    picture = next(pictures, None)
    other = next(others, None)
    picture_time = _time(picture)
    other_time = _time(other and other[1])
    while picture is not None or other is not None:
        if picture is not None and (other is None or picture_time <= other_time):
            mux.mux_video(picture)
            picture = next(pictures, None)
            picture_time = _time(picture)
        else:
            assert other is not None
            mux.mux_other(*other)
            other = next(others, None)
            other_time = _time(other and other[1])


def _time(packet: Packet | None) -> float:
    """Seconds at which a packet is decoded. It decides the order in the file, nothing else."""
    stamp = None if packet is None else packet.dts if packet.dts is not None else packet.pts
    return -1.0 if packet is None or stamp is None else stamp * float(packet.time_base)


def verify(
    output_tmp: Path,
    *,
    frames: int,
    grid_fps: Fraction,
    start: Fraction,
    stream_plan: StreamPlan,
    report: JoinReport,
) -> VerifiedOutput:
    """Read a joined file back and compare it with the plan.

    Checks the number of pictures, the time of each against the grid, the length, every promised
    stream with its codec, packets and its offset to the picture, and decodes the first and the
    last picture. ``start`` is the source time of frame 0, as for :func:`join`. Raises OutputError
    that names the first disagreement; a language, a disposition or a chapter that is not as
    planned, or a single missing packet, is named in the result's ``warnings``.
    """
    return verify_output(
        output_tmp,
        frames=frames,
        grid_fps=grid_fps,
        start=start,
        stream_plan=stream_plan,
        sent=report.sent,
        chapters=report.chapters,
        lost=report.lost,
    )


# the picture


def _inspect(segments: Sequence[Path], fps: Fraction) -> _Segments:
    """Read all segments' packets once: counts, reorder depth, and whether they fit together."""
    if not segments:
        raise OutputError("there are no segments to join")
    counts, depth = [], 0
    expected: tuple[object, ...] | None = None
    for path in segments:
        with open_input(path) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            described = (
                context.name, context.extradata, context.width, context.height, context.pix_fmt
            )  # fmt: skip
            if expected is None:
                expected = described
            elif described != expected:
                raise OutputError(
                    f"{path}: coded differently from the segments before it; "
                    "delete the work folder and start again"
                )
            numbers = array("q")
            for j, number in enumerate(_frame_numbers(container, stream, fps, path)):
                depth = max(depth, j - number)
                numbers.append(number)
            if sorted(numbers) != list(range(len(numbers))):
                raise OutputError(f"{path}: frames are missing or doubled in this segment")
            counts.append(len(numbers))
    return _Segments(tuple(Path(p) for p in segments), tuple(counts), depth)


def _frame_numbers(
    container: InputContainer, stream: VideoStream, fps: Fraction, path: Path
) -> Iterator[int]:
    """The number within its segment of each packet's frame, in decoding order."""
    for packet, number in _numbered(container, stream, fps, path):
        del packet
        yield number


def _numbered(
    container: InputContainer, stream: VideoStream, fps: Fraction, path: Path
) -> Iterator[tuple[Packet, int]]:
    base: int | None = None
    assert stream.time_base is not None
    ratio = stream.time_base * fps  # frames a tick
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.pts is None:
            raise OutputError(f"{path}: a packet of this segment has no time")
        if base is None:
            # A closed group of pictures begins with its first frame, wherever the container
            # moved it to keep decoding times from being negative.
            base = packet.pts
        # Matroska, which alone keeps some streams, rounds times to its own ticks.
        exact = (packet.pts - base) * ratio.numerator
        number = (2 * exact + ratio.denominator) // (2 * ratio.denominator)
        if abs(exact - number * ratio.denominator) > ratio.numerator:
            raise OutputError(f"{path}: a frame of this segment is off the {fps} fps grid")
        yield packet, number


def picture_packets(
    found: _Segments, fps: Fraction, start: Fraction, muxer: str
) -> Iterator[Packet]:
    """All segments' packets on one time line; ``start``: output time of frame 0, seconds."""
    tick, offset = frame_clock(fps, start, muxer)
    whole = (1 / fps) / tick
    assert whole.denominator == 1
    step = int(whole)
    decoded = 0
    first = 0
    for path, count in zip(found.paths, found.counts, strict=True):
        with open_input(path) as container:
            for packet, number in _numbered(container, container.streams.video[0], fps, path):
                packet.time_base = tick
                packet.pts = offset + (first + number) * step
                packet.dts = offset + (decoded - found.depth) * step
                if muxer == "avi":  # it has one time a packet, that of decoding
                    packet.pts = packet.dts = offset + decoded
                packet.duration = step
                decoded += 1
                yield packet
        first += count


def frame_clock(fps: Fraction, start: Fraction, muxer: str) -> tuple[Fraction, int]:
    """(time base in which both frame times and the start are whole, the start in it)."""
    frame = 1 / fps
    if muxer == "avi":
        return frame, round(start / frame)
    tick = Fraction(
        math.gcd(frame.numerator * start.denominator, start.numerator * frame.denominator),
        frame.denominator * start.denominator,
    )
    if tick.denominator > _FINEST:
        tick = frame / math.ceil(frame * _FINE)
    return tick, round(start / tick)


# what can go wrong


def _is_disk_fault(error: OutputError) -> bool:
    """Full disk, quota, no permission: no stream is to blame."""
    cause = error.__cause__
    faults = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
    return isinstance(cause, OSError) and cause.errno in faults


def _culprits(
    info: JoinSource, plan: StreamPlan, until: Fraction | None, left_out: set[int]
) -> list[tuple[StreamItem, str]]:
    """Which secondary streams the container refuses, found by writing each alone to nowhere."""
    guilty = []
    candidates = [i for i in plan.items if i.action != "drop" and i.index not in left_out]
    for item in candidates:
        others = {other.index for other in plan.items if other is not item}
        try:
            with (
                open_input(info.path) as source,
                OutputMux(Nowhere(), plan.muxer) as mux,
            ):
                copier = StreamCopier(source, plan, left_out=others, until=until)
                copier.add_streams(mux, info.stream_index, lambda: None)
                for key, packet in copier.packets():
                    mux.mux_other(key, packet)
        except OutputError as error:
            guilty.append((item, said(error.__cause__ or error)))
    return guilty
