"""Find out what an input is: its picture stream, colour, and the time of every frame."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import gcd

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vfi_cli.errors import InputError
from vfi_cli.io.feed import STRICT_CODECS, decode_packet, decoder_of
from vfi_cli.io.formats import readable_format
from vfi_cli.io.scan import PacketList, find_rate, one_duration, reorder_delay, scan_packets
from vfi_cli.io.source import DEMUX_ERRORS, SourceInfo, open_input, picture_stream
from vfi_cli.io.stated import chroma_location, color_of, side_data, uncarried
from vfi_cli.timeline import format_time

#: Frames that are decoded to see whether the decoder agrees with the packets.
_SAMPLE = 12
#: Keyframes at which decoding is tried to start.
_STARTS = 20
#: Headers of these state how long the picture is, apart from what the packets say.
_STATES_DURATION = ("mov", "matroska", "avi", "flv", "asf")


@dataclass(slots=True)
class _Timeline:
    """When frames are shown, however that was found out."""

    pts: list[int]
    end: int
    time_base: Fraction
    seekable: bool
    keys: list[tuple[int, int]] = field(default_factory=list)  # (pts, dts)
    decode_order: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def probe(path: str | os.PathLike[str]) -> SourceInfo:
    """Read an input's packets and its first frames.

    Raises InputError where it is missing, empty, no video, or holds nothing that decodes.
    """
    name = os.fspath(path)
    with open_input(name) as container:
        stream, warnings = picture_stream(container, name)
        index = stream.index
        packets = scan_packets(container, stream)
    if not any(packets.shown):
        raise InputError(f"{name}: its picture stream is empty")
    if packets.failure:
        warnings.append(f"cannot be read to its end ({packets.failure})")
    first, sample, ended, strict = _find_start(name, index, packets)
    with open_input(name) as container:
        stream = container.streams[index]  # type: ignore[assignment]
        if not sample:
            codec = stream.codec_context.name
            raise InputError(f"{name}: its {codec} picture stream does not decode")
        timeline = _from_packets(packets, first, sample, ended, stream)
        if timeline is None:
            timeline = _from_decoding(name, stream, packets, first)
        if not timeline.pts:
            raise InputError(f"{name}: its picture stream does not decode")
        if first > 0:
            begin = format_time(timeline.pts[0] * timeline.time_base)
            warnings.append(
                f"the first {first} packets do not decode; the picture begins at {begin}"
            )
        info = _describe(
            name,
            container=container,
            stream=stream,
            sample=sample,
            timeline=timeline,
            packets=packets,
            warnings=warnings,
        )
        corrupt = tuple(
            number for number, found in enumerate(packets.corrupt) if found and number >= first
        )
        return replace(info, first_packet=first, strict=strict, corrupt_packets=corrupt)


def _find_start(
    name: str, index: int, packets: PacketList
) -> tuple[int, list[VideoFrame], bool, bool]:
    """The packet at which decoding starts, and :func:`_sample` of it.

    That is the first keyframe, or a later one where the first does not decode.
    """
    keys = [number for number, key in enumerate(packets.key) if key][:_STARTS] or [0]
    first_choice = None
    for first in keys:
        sample, ended, strict = _sample(name, index, first)
        if first_choice is None and sample:
            first_choice = (first, sample, ended, strict)
        stamp, due = (sample[0].pts if sample else None), packets.pts[first]
        late = stamp is not None and due is not None and packets.shown[first] and stamp > due
        if sample and not sample[0].is_corrupt and not late:
            return first, sample, ended, strict
    return first_choice or (keys[0], [], True, False)


def _sample(name: str, index: int, first: int) -> tuple[list[VideoFrame], bool, bool]:
    """The first frames, whether they are all there are, and whether to decode strictly.

    A stream that a strict decoder finds fault with from its very beginning is not damaged
    but careless, and is decoded as everybody else does.
    """
    with open_input(name) as container:
        strict = container.streams[index].codec_context.codec.canonical_name in STRICT_CODECS
    frames, ended, faults = _decode_start(name, index, first, strict=strict)
    if strict and faults:
        relaxed, relaxed_ended, relaxed_faults = _decode_start(name, index, first, strict=False)
        if relaxed_faults < faults:
            return relaxed, relaxed_ended, False
    return frames, ended, strict


def _decode_start(
    name: str, index: int, first: int, *, strict: bool
) -> tuple[list[VideoFrame], bool, int]:
    """The first frames that a decoder delivers, whether they are all, and the faults it found."""
    frames: list[VideoFrame] = []
    faults = 0
    with open_input(name) as container:
        stream: VideoStream = container.streams[index]  # type: ignore[assignment]
        context = decoder_of(stream, threads=1, strict=strict)
        for packet in packets_from(container, stream, first):
            try:
                frames += decode_packet(context, packet)
            except av.error.FFmpegError:
                faults += 1
                if frames and not strict:
                    return frames, False, faults
            if len(frames) >= _SAMPLE or faults > 250:
                return frames, False, faults
    return frames, True, faults


def packets_from(container: InputContainer, stream: VideoStream, first: int) -> Iterator[Packet]:
    """The stream's packets from number ``first`` on, and an empty one at the end."""
    number = 0
    try:
        for packet in container.demux(stream):
            if packet.size:
                if number >= first:
                    yield packet
                number += 1
    except DEMUX_ERRORS:
        pass
    yield Packet()


def _from_packets(
    packets: PacketList,
    first: int,
    sample: Sequence[VideoFrame],
    ended: bool,
    stream: VideoStream,
) -> _Timeline | None:
    """The timeline as the packets state it, or None where it cannot be trusted."""
    count = len(packets)
    while count > first + 1 and packets.corrupt[count - 1]:
        count -= 1  # the recording was cut off within a picture
    numbered: dict[int, int] = {}
    last_dts: int | None = None
    for number in range(first, count):
        dts = packets.dts[number]
        if dts is not None:
            if last_dts is not None and dts < last_dts:
                return None
            last_dts = dts
        if not packets.shown[number]:
            continue
        pts = packets.pts[number]
        if pts is None or pts in numbered:
            return None
        numbered[pts] = number
    start = sample[0].pts
    if start is None or start not in numbered:
        return None
    order = sorted(pts for pts in numbered if pts >= start)
    if any(frame.interlaced_frame for frame in sample) and _may_hold_fields(order):
        return None
    seen = [frame.pts for frame in sample]
    if seen[: len(order)] != order[: len(seen)] or (ended and len(seen) < len(order)):
        return None
    assert stream.time_base is not None
    last = order[-1]
    end = last + (packets.duration[numbered[last]] or _last_gap(order))
    keys = [
        (pts, packets.dts[numbered[pts]])
        for pts in order
        if packets.key[numbered[pts]] or pts == start
    ]
    return _Timeline(
        order,
        end,
        stream.time_base,
        seekable=True,
        keys=[(pts, pts if dts is None else dts) for pts, dts in keys],
        decode_order=[numbered[pts] for pts in order],
    )


def _may_hold_fields(pts: Sequence[int]) -> bool:
    """Whether some packets come at half the distance of others, as single fields do."""
    gaps = sorted(b - a for a, b in itertools.pairwise(pts))
    if len(gaps) < 8:
        return False
    edge = len(gaps) // 50
    return gaps[edge] * 5 <= gaps[-1 - edge] * 3


def _last_gap(pts: Sequence[int]) -> int:
    return pts[-1] - pts[-2] if len(pts) > 1 else 0


def _from_decoding(name: str, stream: VideoStream, packets: PacketList, first: int) -> _Timeline:
    """The timeline as a decoder delivers it, for packets that do not state it."""
    stamps: list[int | None] = []
    with open_input(name) as container:
        again: VideoStream = container.streams[stream.index]  # type: ignore[assignment]
        context = decoder_of(again, threads=0, strict=False)
        for packet in packets_from(container, again, first):
            try:
                frames = decode_packet(context, packet)
            except av.error.FFmpegError:
                continue
            stamps += [frame.pts for frame in frames]
    assert stream.time_base is not None
    base = stream.time_base
    known = [pts for pts in stamps if pts is not None]
    numbered = {pts: n for n, pts in enumerate(packets.pts) if pts is not None}
    increasing = all(a < b for a, b in itertools.pairwise(known))
    if known and len(known) == len(stamps) and increasing and all(pts in numbered for pts in known):
        unique = len(numbered) == sum(pts is not None for pts in packets.pts)
        last = packets.duration[numbered[known[-1]]]
        gap = _last_gap(known)
        keys = [(p, packets.dts[numbered[p]]) for p in known if packets.key[numbered[p]]]
        if unique and keys:
            return _Timeline(
                known,
                known[-1] + max(last, gap),  # a field's duration is half a frame's
                base,
                seekable=True,
                keys=[(p, p if d is None else d) for p, d in keys],
                decode_order=[numbered[p] for p in known],
            )
    # A stream whose delay is constant shows its frames in the order of the decoding times.
    dts = [value for value in packets.dts[first:] if value is not None]
    complete = len(dts) == len(packets) - first == len(stamps)
    if complete and all(a < b for a, b in itertools.pairwise(dts)):
        gap = _last_gap(dts) or packets.duration[-1]
        return _Timeline(dts, dts[-1] + gap, base, seekable=False)
    if len(known) * 2 > len(stamps):
        return _repaired(stamps, base, _stated_rate(stream))
    rate = _stated_rate(stream)
    step = 1 / rate
    start = known[0] * base - stamps.index(known[0]) * step if known else Fraction(0)
    whole = Fraction(
        gcd(start.numerator * step.denominator, step.numerator * start.denominator),
        start.denominator * step.denominator,
    )  # the largest unit of which both are multiples
    origin, ticks = int(start / whole), int(step / whole)
    times = [origin + n * ticks for n in range(len(stamps))]
    return _Timeline(
        times,
        origin + len(stamps) * ticks,
        whole,
        seekable=False,
        warnings=[f"states no times; shown at {float(rate):.6g} frames a second"],
    )


def _repaired(stamps: Sequence[int | None], base: Fraction, rate: Fraction) -> _Timeline:
    """Make times that repeat, are missing or go back strictly increasing.

    A frame whose time is not after the one before comes one frame duration later; where the
    clock itself jumped back, all that follows is moved by the same amount. Frames before the first
    time that is stated (Matroska's readers lose negative ones) lead up to it.
    """
    step = max(1, round(1 / (rate * base)))
    leading = next((n for n, stamp in enumerate(stamps) if stamp is not None), 0)
    begin = (stamps[leading] or 0) - round(leading / (rate * base))
    times: list[int] = []
    offset = 0
    changed = 0
    for number, stamp in enumerate(stamps):
        if not times:
            times.append(begin)
            changed += stamp is None
            continue
        previous = times[-1]
        if stamp is not None and stamp + offset > previous:
            times.append(stamp + offset)
            continue
        changed += 1
        later = next(
            (s + offset for s in stamps[number + 1 : number + 4] if s is not None), previous
        )
        if stamp is not None and later <= previous:  # the clock went back and stays there
            offset += previous + step - (stamp + offset)
            times.append(previous + step)
        elif later > previous + 1:
            times.append(previous + min(step, max(1, (later - previous) // 2)))
        else:
            times.append(previous + 1 if later > previous else previous + step)
    for place in range(1, len(times)):
        times[place] = max(times[place], times[place - 1] + 1)
    where = format_time(times[0] * base)
    return _Timeline(
        times,
        times[-1] + step,
        base,
        seekable=False,
        warnings=[
            f"{changed} of {len(times)} timestamps repeat, go back or are missing and were "
            f"repaired (counting from {where})"
        ],
    )


def _stated_rate(stream: VideoStream) -> Fraction:
    context = stream.codec_context
    for rate in (context.framerate, stream.average_rate, stream.base_rate):
        if rate:
            return Fraction(rate)
    return Fraction(25)


def _describe(
    name: str,
    *,
    container: InputContainer,
    stream: VideoStream,
    sample: Sequence[VideoFrame],
    timeline: _Timeline,
    packets: PacketList,
    warnings: list[str],
) -> SourceInfo:
    frame = sample[0]
    form = readable_format(frame.format.name)
    if form is None:
        raise InputError(f"{name}: its pixel format {frame.format.name} cannot be read")
    context = stream.codec_context
    aspect = stream.sample_aspect_ratio
    hdr, matrix = side_data(frame)
    warnings += timeline.warnings
    rate = find_rate(
        timeline.pts,
        timeline.end,
        timeline.time_base,
        (stream.base_rate, context.framerate),
        stream.average_rate,
    )
    if timeline.end <= timeline.pts[-1]:
        timeline.end = timeline.pts[-1] + max(1, round(1 / (rate.nominal * timeline.time_base)))
    keys = sorted(timeline.keys)
    return SourceInfo(
        path=name,
        container=container.format.name,
        stream_index=stream.index,
        codec=context.codec.canonical_name,
        width=frame.width,
        height=frame.height,
        layout=form.layout,
        color=replace(color_of(frame), chroma_location=chroma_location(frame)),
        pix_fmt=frame.format.name,
        sample_aspect_ratio=Fraction(aspect) if aspect else Fraction(1),
        rotation=-frame.rotation % 360,
        time_base=timeline.time_base,
        pts=tuple(timeline.pts),
        key_pts=tuple(pts for pts, _ in keys),
        key_dts=tuple(dts for _, dts in keys),
        decode_order=tuple(timeline.decode_order),
        reorder=reorder_delay(timeline.decode_order),
        end_pts=timeline.end,
        nominal_rate=rate.nominal,
        base_rate=rate.nominal if rate.agrees else None,
        variable=not rate.complete,
        seekable=timeline.seekable,
        first_packet=0,
        strict=False,
        corrupt_packets=(),
        interlaced=any(shown.interlaced_frame for shown in sample),
        hdr=hdr,
        display_matrix=matrix,
        uncarried=uncarried(sample),
        declared_end=_declared_end(container, stream, timeline, packets),
        warnings=tuple(warnings),
    )


def _declared_end(
    container: InputContainer,
    stream: VideoStream,
    timeline: _Timeline,
    packets: PacketList,
) -> Fraction | None:
    """Where the header says that the picture ends, if the packets stop clearly before it."""
    if not any(kind in container.format.name for kind in _STATES_DURATION):
        return None
    end = timeline.end * timeline.time_base
    frame = Fraction(timeline.end - timeline.pts[0], len(timeline.pts)) * timeline.time_base
    slack = max(3 * frame, Fraction(1, 5))
    if one_duration(container):
        if container.duration is None:
            return None
        declared = Fraction(container.duration, av.time_base)
        # The header knows one duration for all streams: only if none reaches it was it cut.
        reached = max(end, packets.file_end or end)
        if declared - reached > slack:
            return declared
        return None
    if stream.duration is not None:
        declared = ((stream.start_time or 0) + stream.duration) * Fraction(stream.time_base or 0)
        if declared - end > slack:
            return declared
    return None
