"""Segments and the source's other streams become the output, which is then read back.

The join copies packets and never encodes the picture again. :func:`verify` is the
last word: an output gets its name only when it was read and agrees with the plan.
"""

from __future__ import annotations

import errno
import math
import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol, cast

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from vfi_cli.errors import InputError, OutputError
from vfi_cli.io.copier import CopyReport, Sent, StreamCopier
from vfi_cli.io.mux import OutputMux
from vfi_cli.io.streams import Source, StreamItem, StreamPlan, codec_name

#: Time bases finer than this are rounded: MP4 counts in 32 bits a second.
_FINEST = 1_000_000


class JoinSource(Source, Protocol):
    @property
    def sample_aspect_ratio(self) -> Fraction: ...


@dataclass(frozen=True)
class JoinReport:
    """What the join wrote, and what a person should hear of."""

    sent: dict[int, Sent]  # by the input's stream index
    lost: tuple[StreamItem, ...]  # promised streams that the container refused
    warnings: tuple[str, ...]


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
    until: Fraction | None = None,
) -> JoinReport:
    """Write ``output_tmp`` from the segments' pictures and the source's other streams.

    Frame k of the ``frames`` frames stands at (start + k / grid_fps) where ``start`` is the
    source time of the first frame, mapped by the plan's time map. ``until`` (source time) cuts
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
            report = _write(found, output_tmp, info, grid_fps, start, stream_plan, until, left_out)
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
    return JoinReport(report.sent, tuple(lost), tuple([*warnings, *report.warnings]))


def _write(
    found: _Segments,
    output_tmp: Path,
    info: JoinSource,
    fps: Fraction,
    start: Fraction,
    plan: StreamPlan,
    until: Fraction | None,
    left_out: set[int],
) -> CopyReport:
    with ExitStack() as stack:
        source = stack.enter_context(_open(info.path))
        source.streams[info.stream_index].discard = Discard.all
        first = stack.enter_context(_open(found.paths[0]))
        mux = stack.enter_context(OutputMux(output_tmp, plan.muxer, tags=plan.tags))
        copier = StreamCopier(source, plan, left_out=left_out, until=until)

        def add_picture() -> None:
            mux.add_video(
                first.streams.video[0],
                fps=fps,
                tags=dict(plan.video_tags),
                disposition=plan.video_disposition,
                sample_aspect_ratio=info.sample_aspect_ratio or None,
                display_matrix=plan.display_matrix,
            )

        copier.add_streams(mux, info.stream_index, add_picture)
        pictures = picture_packets(found, fps, plan.time_map.output(start), plan.muxer)
        _interleave(mux, pictures, copier.packets())
        report = copier.report
        mux.close()
    with output_tmp.open("rb") as written:
        os.fsync(written.fileno())
    return report


def _interleave(
    mux: OutputMux, pictures: Iterator[Packet], others: Iterator[tuple[int, Packet]]
) -> None:
    """Both kinds of packets in order of decoding time; one of each is held at a time."""
    picture = next(pictures, None)
    other = next(others, None)
    while picture is not None or other is not None:
        if picture is not None and (other is None or _time(picture) <= _time(other[1])):
            mux.mux_video(picture)
            picture = next(pictures, None)
        else:
            assert other is not None
            mux.mux_other(*other)
            other = next(others, None)


def _time(packet: Packet) -> Fraction:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return Fraction(-1) if stamp is None else stamp * packet.time_base


# the picture


def _inspect(segments: Sequence[Path], fps: Fraction) -> _Segments:
    """Read all segments' packets once: counts, reorder depth, and whether they fit together."""
    if not segments:
        raise OutputError("there are no segments to join")
    counts, depth = [], 0
    expected: tuple[object, ...] | None = None
    for path in segments:
        with _open(path) as container:
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
    for packet in container.demux(stream):
        if packet.size == 0:
            continue
        if packet.pts is None:
            raise OutputError(f"{path}: a packet of this segment has no time")
        if base is None:
            # A closed group of pictures begins with its first frame. NUT moves all
            # times so that the first decoding time is not negative.
            base = packet.pts
        number = (packet.pts - base) * packet.time_base * fps
        if number.denominator != 1:
            raise OutputError(f"{path}: a frame of this segment is off the {fps} fps grid")
        yield packet, int(number)


def picture_packets(
    found: _Segments, fps: Fraction, start: Fraction, muxer: str
) -> Iterator[Packet]:
    """All segments' packets on one time line; ``start``: output time of frame 0, seconds."""
    tick, offset = _tick(fps, start, muxer)
    step = (1 / fps) / tick
    assert step.denominator == 1
    decoded = 0
    first = 0
    for path, count in zip(found.paths, found.counts, strict=True):
        with _open(path) as container:
            for packet, number in _numbered(container, container.streams.video[0], fps, path):
                packet.time_base = tick
                packet.pts = offset + (first + number) * int(step)
                packet.dts = offset + (decoded - found.depth) * int(step)
                packet.duration = int(step)
                decoded += 1
                yield packet
        first += count


def _tick(fps: Fraction, start: Fraction, muxer: str) -> tuple[Fraction, int]:
    """(time base in which both frame times and the start are whole, the start in it)."""
    frame = 1 / fps
    if muxer == "avi":
        return frame, round(start / frame)
    tick = Fraction(
        math.gcd(frame.numerator * start.denominator, start.numerator * frame.denominator),
        frame.denominator * start.denominator,
    )
    if tick.denominator > _FINEST:
        tick = frame / math.ceil(frame * 90_000)
    return tick, round(start / tick)


# what can go wrong


def _open(path: str | os.PathLike[str]) -> InputContainer:
    try:
        return av.open(os.fspath(path), metadata_errors="replace")
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{os.fspath(path)}: cannot be read ({error})") from error


def _is_disk_fault(error: OutputError) -> bool:
    """Full disk, quota, no permission: no stream is to blame."""
    cause = error.__cause__
    faults = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
    return isinstance(cause, OSError) and cause.errno in faults


class _Nowhere:
    """A file that keeps nothing."""

    name = "trial"

    def __init__(self) -> None:
        self._position = 0
        self._end = 0

    def write(self, data: bytes) -> int:
        self._position += len(data)
        self._end = max(self._end, self._position)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._end)[whence]
        return self._position

    def tell(self) -> int:
        return self._position


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
                _open(info.path) as source,
                OutputMux(cast("os.PathLike[str]", _Nowhere()), plan.muxer) as mux,
            ):
                copier = StreamCopier(source, plan, left_out=others, until=until)
                copier.add_streams(mux, info.stream_index, lambda: None)
                for key, packet in copier.packets():
                    mux.mux_other(key, packet)
        except OutputError as error:
            cause = error.__cause__
            guilty.append((item, getattr(cause, "strerror", None) or str(cause)))
    return guilty


# reading back


@dataclass(frozen=True)
class VerifiedOutput:
    """What was read back from the finished file."""

    frames: int
    fps: Fraction
    duration: Fraction  # of the picture, seconds
    streams: tuple[str, ...]  # one line for each stream
    size: int  # bytes


@dataclass
class _Seen:
    packets: int = 0
    bytes: int = 0
    first: Fraction | None = None
    key: bool = False


def verify(
    output_tmp: Path,
    *,
    frames: int,
    grid_fps: Fraction,
    start: Fraction,
    stream_plan: StreamPlan,
    report: JoinReport,
) -> VerifiedOutput:
    """Read a finished output back and compare it with the plan.

    ``start`` is the source time of frame 0, as for :func:`join`. Raises OutputError that names
    the first disagreement.
    """
    container_facts = stream_plan.container
    start = stream_plan.time_map.output(start)

    def wrong(what: str) -> OutputError:
        return OutputError(f"{output_tmp.name}: the finished file is wrong: {what}")

    try:
        output = _open(output_tmp)
    except InputError as error:
        raise wrong("it cannot be opened") from error
    with output:
        lost = {item.index for item in report.lost}
        promised = [i for i in stream_plan.items if i.action != "drop" and i.index not in lost]
        picture, pairs = _match(output, promised, wrong)
        stamps = array("q")
        seen = {stream.index: _Seen() for stream in output.streams}
        try:
            for packet in output.demux():
                if packet.size == 0:
                    continue
                stamp = packet.pts if packet.pts is not None else packet.dts
                if packet.stream_index == picture.index:
                    if stamp is None:
                        raise wrong("a frame has no time")
                    stamps.append(stamp)
                one = seen.get(packet.stream_index)
                if one is not None:
                    one.packets += 1
                    one.bytes += packet.size
                    if one.first is None and stamp is not None:
                        one.first = stamp * packet.time_base
        except av.error.FFmpegError as error:
            raise wrong(f"it cannot be read to its end ({error})") from error
        if len(stamps) != frames:
            raise wrong(f"it holds {len(stamps)} frames instead of {frames}")
        tick = picture.time_base
        assert tick is not None
        times = sorted(stamps)
        zero = times[0] * tick
        if not container_facts.reordering_times or stream_plan.muxer == "mpegts":
            begin = zero
        else:
            begin = start
        for k, stamp in enumerate(times):
            if abs(stamp * tick - begin - k / grid_fps) > tick:
                raise wrong(
                    f"frame {k} stands at {float(stamp * tick):.6f} s instead of "
                    f"{float(begin + k / grid_fps):.6f} s"
                )
        for item, stream in pairs:
            _check_stream(item, stream, seen[stream.index], report, stream_plan, wrong)
        _decode_ends(output_tmp, picture.index, wrong)
        lines = tuple(f"{s.type} {codec_name(s)}".rstrip() for s in output.streams)
        return VerifiedOutput(
            frames=frames,
            fps=grid_fps,
            duration=frames / grid_fps,
            streams=lines,
            size=output_tmp.stat().st_size,
        )


def _match(output, promised, wrong):  # type: ignore[no-untyped-def]
    """(the picture's stream, (plan item, output stream) pairs), by kind and order."""
    from av.stream import Disposition

    kinds: dict[str, list[Stream]] = {}
    picture = None
    for stream in output.streams:
        kind = stream.type
        if kind == "video":
            if stream.disposition & Disposition.attached_pic:
                kind = "cover"
            elif picture is None:
                picture = stream
                continue
        kinds.setdefault(kind, []).append(stream)
    if picture is None:
        raise wrong("it holds no picture")
    pairs = []
    for item in promised:
        left = kinds.get(item.kind, [])
        if not left:
            raise wrong(f"{item.label} is missing")
        pairs.append((item, left.pop(0)))
    return picture, pairs


def _check_stream(item, stream, seen, report, plan, wrong):  # type: ignore[no-untyped-def]
    facts = plan.container
    if item.action == "copy" and item.codec and codec_name(stream) != item.codec:
        raise wrong(f"{item.label} was read back as {codec_name(stream)}")
    if (
        facts.stream_tags
        and item.language not in ("", "und")
        and item.kind in ("audio", "subtitle")
    ):
        if stream.language not in (item.language, None) or (
            stream.language is None and plan.muxer not in ("avi", "mov")
        ):
            raise wrong(f"{item.label} has lost its language")
    sent = report.sent.get(item.index)
    if sent is None or item.kind in ("attachment", "cover", "data"):
        return
    if item.action == "copy" and not item.codec.startswith("pcm_") and plan.muxer != "mpegts":
        if seen.packets < sent.packets:
            raise wrong(f"{item.label} has {seen.packets} packets instead of {sent.packets}")


def _decode_ends(path: Path, index: int, wrong) -> None:  # type: ignore[no-untyped-def]
    """Decode the first frame, and from the last keyframe to the end."""
    try:
        with _open(path) as output:
            stream = output.streams[index]
            next(iter(output.decode(stream)))
        with _open(path) as output:
            stream = output.streams[index]
            if stream.duration:
                output.seek((stream.start_time or 0) + stream.duration, stream=stream)
            elif output.duration:
                output.seek((output.start_time or 0) + output.duration)
            last = None
            for frame in output.decode(stream):
                last = frame
            if last is None:
                raise wrong("its last frame cannot be decoded")
    except (av.error.FFmpegError, StopIteration) as error:
        raise wrong(f"its picture cannot be decoded ({error})") from error
