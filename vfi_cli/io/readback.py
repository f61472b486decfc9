"""Reads a finished output back and compares it with what was promised."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
from av.container import InputContainer
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from vfi_cli.errors import OutputError
from vfi_cli.io.copier import Sent
from vfi_cli.io.fate import codec_name
from vfi_cli.io.streams import StreamItem, StreamPlan
from vfi_cli.wording import said

_MPEG_LAYERS = {"mp1", "mp2", "mp3"}
#: Seconds by which a reader may place sound otherwise than it was written: FFmpeg's of MP4 counts
#: the beginning of Vorbis in whole packets.
_READERS_OWN = Fraction(1, 1000)


@dataclass(frozen=True)
class VerifiedOutput:
    """What was read back from the finished file."""

    frames: int
    fps: Fraction
    start: Fraction  # of the picture, seconds
    duration: Fraction  # of the picture, seconds
    streams: tuple[str, ...]  # one line for each stream
    size: int  # bytes
    warnings: tuple[str, ...] = ()


class MismatchError(Exception):
    """The output does not agree with the plan; the text says where."""


@dataclass
class _Seen:
    packets: int = 0
    bytes: int = 0
    first: int | None = None  # in the stream's time base
    last: int | None = None


def verify_output(
    output: str | os.PathLike[str],
    *,
    frames: int,
    grid_fps: Fraction,
    start: Fraction,
    stream_plan: StreamPlan,
    sent: Mapping[int, Sent],
    chapters: int,
    lost: Collection[StreamItem] = (),
) -> VerifiedOutput:
    """Compare a finished file with the plan: frames and their times, streams, the picture's ends.

    ``start`` is the source time of frame 0; ``sent``, ``chapters`` and ``lost`` are what the join
    reported.
    Raises OutputError that names the first disagreement.
    """
    path = os.fspath(output)
    try:
        return _verify(
            path,
            frames,
            grid_fps,
            start,
            plan=stream_plan,
            sent=sent,
            chapters=chapters,
            lost=lost,
        )
    except MismatchError as mismatch:
        raise OutputError(f"{path}: the finished file is wrong: {mismatch}") from mismatch
    except (av.error.FFmpegError, OSError) as error:
        raise OutputError(f"{path}: the finished file cannot be read ({said(error)})") from error


def _verify(
    path: str,
    frames: int,
    fps: Fraction,
    start: Fraction,
    *,
    plan: StreamPlan,
    sent: Mapping[int, Sent],
    chapters: int,
    lost: Collection[StreamItem],
) -> VerifiedOutput:
    missing = {item.index for item in lost}
    promised = [i for i in plan.items if i.action != "drop" and i.index not in missing]
    with _open(path) as file:
        warnings: list[str] = []
        picture, pairs, absent = _match(file, promised, plan.picture, sent)
        warnings += [f"{item.label} is empty and was left out" for item in absent]
        stamps, last_key, seen = _read(file, picture)
        assert picture.time_base is not None
        times = array("q", sorted(stamps))
        # These containers shift all streams together, or know no start at all.
        floating = plan.muxer in ("mpegts", "nut") or not plan.container.offsets
        begin = plan.time_map.output(start)
        if floating and times:
            begin = times[0] * picture.time_base
        _check_grid(times, picture.time_base, frames, fps, begin)
        _check_duration(picture, begin + frames / fps, fps)
        for item, stream in pairs:
            warnings += _check_stream(item, stream, plan)
            if item.index in sent and item.kind not in ("attachment", "cover"):
                one = seen[stream.index]
                if warning := _check_packets(item, one, sent[item.index]):
                    warnings.append(warning)
                if plan.container.offsets:
                    shift = begin - plan.time_map.output(start)
                    _check_offset(item, stream, one, sent[item.index], shift, picture.time_base)
        if (there := len(file.chapters())) != chapters:
            warnings.append(f"the output has {there} chapters instead of {chapters}")
        lines = tuple(f"{s.type} {codec_name(s)}".rstrip() for s in file.streams)
        index = picture.index
    _decode_ends(path, index, last_key, max(stamps))
    return VerifiedOutput(
        frames=frames,
        fps=fps,
        start=begin,
        duration=frames / fps,
        streams=lines,
        size=os.stat(path).st_size,
        warnings=tuple(warnings),
    )


def _open(path: str) -> InputContainer:
    return av.open("file:" + path, metadata_errors="replace")


def _match(
    file: InputContainer, promised: list[StreamItem], main: int, sent: Mapping[int, Sent]
) -> tuple[Stream, list[tuple[StreamItem, Stream]], list[StreamItem]]:
    """(the picture, (plan item, output stream) pairs, items that are not there).

    Matched by kind and order. ``main`` is the picture's index in the input, which the output's
    order follows. Streams without a packet may be missing: some muxers leave them out.
    """
    kinds: dict[str, list[Stream]] = {}
    for stream in file.streams:
        cover = stream.type == "video" and stream.disposition & Disposition.attached_pic
        kinds.setdefault("cover" if cover else stream.type, []).append(stream)
    before = sum(1 for item in promised if item.kind == "video" and item.index < main)
    pictures = kinds.get("video", [])
    if len(pictures) <= before:
        raise MismatchError("it holds no picture")
    picture = pictures.pop(before)
    pairs, absent = [], []
    for kind in dict.fromkeys(item.kind for item in promised):
        wanted = [item for item in promised if item.kind == kind]
        there = kinds.get(kind, [])
        if len(there) < len(wanted) and kind != "attachment":
            absent += [item for item in wanted if item.index not in sent]
            wanted = [item for item in wanted if item.index in sent]
        if len(there) < len(wanted):
            raise MismatchError(f"{wanted[len(there)].label} is missing")
        pairs += list(zip(wanted, there, strict=False))
    return picture, pairs, absent


def _read(file: InputContainer, picture: Stream) -> tuple[array[int], int, dict[int, _Seen]]:
    """(times of the frames in decoding order, time of the last keyframe, sums of all streams)."""
    stamps = array("q")
    last_key: int | None = None
    seen = {stream.index: _Seen() for stream in file.streams}
    gapless = {stream.index for stream in file.streams if codec_name(stream) == "mov_text"}
    for packet in file.demux():
        if packet.size == 0:
            continue
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.stream_index == picture.index:
            if stamp is None:
                raise MismatchError("a frame has no time")
            stamps.append(stamp)
            if packet.is_keyframe:
                last_key = stamp
        # MP4 fills the gaps between texts with empty ones, two bytes of length each.
        elif packet.size > 2 or packet.stream_index not in gapless:
            one = seen[packet.stream_index]
            one.packets += 1
            one.bytes += packet.size
            if stamp is not None:
                one.first = stamp if one.first is None else one.first
                one.last = stamp
    if last_key is None:
        raise MismatchError("its picture has no keyframe")
    return stamps, last_key, seen


def _check_grid(
    times: array[int], tick: Fraction, frames: int, fps: Fraction, begin: Fraction
) -> None:
    """Each frame must stand on the grid, within the container's rounding."""
    if len(times) != frames:
        raise MismatchError(f"it holds {len(times)} frames instead of {frames}")
    # In whole numbers, for there may be a million of them: all times in units of 1 / unit.
    frame = 1 / fps
    unit = math.lcm(tick.denominator, begin.denominator, frame.denominator)
    one, zero, step = (int(time * unit) for time in (tick, begin, frame))
    # MP4 counts the start in units of the movie, which may be others than the track's.
    allowed = one + unit // 45_000
    for k, stamp in enumerate(times):
        if abs(stamp * one - zero - k * step) > allowed:
            raise MismatchError(
                f"frame {k} stands at {float(stamp * tick):.6f} s instead of "
                f"{float(begin + k / fps):.6f} s"
            )


def _check_duration(picture: Stream, end: Fraction, fps: Fraction) -> None:
    """What the header says of the picture's length must be what the frames say."""
    if picture.duration is not None and picture.time_base is not None:
        stated = ((picture.start_time or 0) + picture.duration) * picture.time_base
        if abs(stated - end) > max(1 / fps, 2 * picture.time_base) + Fraction(1, 1000):
            raise MismatchError(
                f"its header says the picture ends at {float(stated):.3f} s instead of "
                f"{float(end):.3f} s"
            )


def _check_stream(item: StreamItem, stream: Stream, plan: StreamPlan) -> list[str]:
    """The codec must be right; a language or a disposition that is not gives a warning."""
    found = codec_name(stream)
    # MP4 has one number for all layers of MPEG sound; the packets themselves tell.
    same = found == item.codec or {found, item.codec} <= _MPEG_LAYERS
    if item.action == "copy" and item.codec and not same:
        raise MismatchError(f"{item.label} was read back as {found or 'nothing'}")
    warnings = []
    if item.kind in ("audio", "subtitle"):
        promised = item.language if plan.container.holds_language(item.language) else ""
        if promised not in ("", "und") and stream.language != promised:
            warnings.append(f"{item.label} was read back with the language {stream.language}")
        kept = Disposition(item.disposition & plan.container.dispositions)
        if lost := [flag.name or "" for flag in Disposition if flag & kept & ~stream.disposition]:
            warnings.append(f"{item.label} was read back without {', '.join(lost)}")
    return warnings


def _check_packets(item: StreamItem, seen: _Seen, sent: Sent) -> str | None:
    """Whether what went in came out; a warning where it nearly did.

    Muxers add and take headers, and readers cut raw sound anew, so either the number of packets
    or that of bytes must agree. Damaged packets that get lost are no reason to refuse the file.
    """
    if seen.packets == sent.packets or seen.bytes == sent.bytes:
        return None
    text = f"{item.label} has {seen.packets} packets instead of {sent.packets}"
    if abs(sent.packets - seen.packets) <= max(1, sent.packets // 10) and seen.packets:
        return text
    raise MismatchError(text)


def _check_offset(
    item: StreamItem,
    stream: Stream,
    seen: _Seen,
    sent: Sent,
    shift: Fraction,
    picture_tick: Fraction,
) -> None:
    """The stream must lie where it was relative to the picture: its first packet or its last.

    (A damaged packet at one end may be missing.) ``shift``: how far the picture was moved.
    """
    tick = stream.time_base
    offsets = [
        got * tick - shift - expected
        for got, expected in ((seen.first, sent.first), (seen.last, sent.last))
        if got is not None and expected is not None and tick is not None
    ]
    allowed = max((tick or 0) + picture_tick + Fraction(1, 48000), _READERS_OWN)
    if offsets and min(abs(off) for off in offsets) > allowed:
        raise MismatchError(f"{item.label} lies {float(offsets[0]) * 1000:+.1f} ms off the picture")


def _decode_ends(path: str, index: int, last_key: int, last: int) -> None:
    """Decode the first frame, and from the last keyframe to the last frame."""
    with _open(path) as file:
        if next(iter(file.decode(file.streams[index])), None) is None:
            raise MismatchError("its first frame cannot be decoded")
    # Seeking is inexact in some containers: begin earlier until the last frame comes.
    for back in (0, 10, None):
        with _open(path) as file:
            stream = file.streams[index]
            assert isinstance(stream, VideoStream)
            stream.thread_type = "AUTO"  # frames side by side, where the codec can
            for other in file.streams:
                if other.index != index:
                    other.discard = Discard.all
            if back is not None:
                assert stream.time_base is not None
                try:
                    file.seek(last_key - round(back / stream.time_base), stream=stream)
                except av.error.FFmpegError:
                    continue
            final = None
            for frame in file.decode(stream):
                final = frame
            if final is not None and (final.pts is None or final.pts >= last or back is None):
                return
    raise MismatchError("its last frame cannot be decoded")
