"""Moves everything but the picture from the input to the output, as a StreamPlan says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol, cast

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Stream
from av.subtitles.stream import SubtitleStream

from vfi_cli.io.audio import AudioConverter
from vfi_cli.io.mux import OutputMux
from vfi_cli.io.streams import StreamItem, StreamPlan, map_chapters, stream_tags
from vfi_cli.io.subtitles import SubtitleConverter
from vfi_cli.wording import said

#: Faults of the input that are read over before its other streams are given up.
_PATIENCE = 100
_COVER_NAMES = {"mjpeg": ("jpg", "image/jpeg")}


class Converter(Protocol):
    warnings: list[str]

    def add_to(self, mux: OutputMux, *, tags: dict[str, str], disposition: int) -> None: ...
    def convert(self, packet: Packet) -> list[Packet]: ...
    def flush(self) -> list[Packet]: ...


@dataclass
class Sent:
    """What was handed to the output for one stream."""

    packets: int = 0
    bytes: int = 0
    first: Fraction | None = None  # output time of the first packet
    last: Fraction | None = None  # and of the last


@dataclass
class CopyReport:
    sent: dict[int, Sent] = field(default_factory=dict)  # by the input's stream index
    chapters: int = 0
    warnings: list[str] = field(default_factory=list)


class StreamCopier:
    """Everything but the picture, from an open input to an OutputMux.

    ``add_streams`` makes the output's streams; afterwards give each input packet to
    ``feed``, in any order, and call ``flush`` at the end: both return (stream index, packet)
    pairs for ``OutputMux.mux_other``, times already the output's. A stream whose packets
    cannot be converted gives warnings, not errors. ``left_out`` are streams of the plan that
    an earlier attempt found impossible; ``until`` is a source time after which nothing is wanted;
    ``covers`` are packets by stream, cover pictures among them, where ``source`` is read by others.
    """

    def __init__(
        self,
        source: InputContainer,
        plan: StreamPlan,
        *,
        left_out: Collection[int] = (),
        until: Fraction | None = None,
        covers: Mapping[int, Packet] | None = None,
    ) -> None:
        self._source = source
        self._given = covers
        self._plan = plan
        self._items = {
            item.index: item
            for item in plan.items
            if item.action != "drop" and item.index not in left_out
        }
        self._times = plan.time_map
        self._until = _earlier(plan.time_map.end, until)
        self._converters: dict[int, Converter] = {}
        self._before: dict[int, Packet] = {}  # the last packet before what is wanted
        self.report = CopyReport()

    @property
    def streams(self) -> list[Stream]:
        """The input streams whose packets ``feed`` wants."""
        return [
            self._source.streams[index]
            for index, item in self._items.items()
            if item.kind not in ("attachment", "cover")
        ]

    def add_streams(self, mux: OutputMux, picture: int, add_picture: Callable[[], object]) -> None:
        """Make all output streams in the input's order; ``add_picture`` is called in its place."""
        covers = self._covers()
        for stream in self._source.streams:
            if stream.index == picture:
                add_picture()
            elif stream.index in self._items:
                self._add(mux, stream, self._items[stream.index], covers.get(stream.index))
        if self._plan.chapters:
            chapters = map_chapters(self._source.chapters(), replace(self._times, end=self._until))
            mux.set_chapters(chapters)
            self.report.chapters = len(chapters)
        mux.start()
        for index, packet in covers.items():
            if self._plan.muxer == "mp4":
                packet.pts = packet.dts = 0
                mux.mux_other(index, packet)
            self.report.sent[index] = Sent(1, packet.size)

    def _add(self, mux: OutputMux, stream: Stream, item: StreamItem, cover: Packet | None) -> None:
        tags = stream_tags(
            stream, self._plan.muxer, same=item.action == "copy" and self._times.stretch == 1
        )
        if item.kind == "attachment":
            mux.add_attachment(cast(AttachmentStream, stream))
        elif item.kind == "cover":
            if cover is None:
                self.report.warnings.append(f"{item.label} is empty and was left out")
            elif self._plan.muxer == "matroska":
                suffix, usual = _COVER_NAMES.get(item.codec, (item.codec, f"image/{item.codec}"))
                name = tags.pop("filename", None) or f"cover.{suffix}"
                mimetype = tags.pop("mimetype", None) or usual
                mux.add_file(name, mimetype, bytes(cover), tags)
            elif self._plan.muxer == "mov":  # whose muxer knows no covers
                mux.add_cover(item.codec, bytes(cover))
            else:
                mux.add_copied(stream, tags=tags, disposition=item.disposition)
        elif item.action == "copy":
            mux.add_copied(stream, tags=tags, disposition=item.disposition)
        else:
            converter: Converter
            if item.kind == "audio":
                converter = AudioConverter(
                    cast(AudioStream, stream),
                    item.target,
                    stretch=self._times.stretch,
                    origin=self._times.origin,
                )
            else:
                converter = SubtitleConverter(cast(SubtitleStream, stream), item.target)
            converter.add_to(mux, tags=tags, disposition=item.disposition)
            self._converters[item.index] = converter

    def _covers(self) -> dict[int, Packet]:
        """The one packet of each cover picture; the demuxer gives them first."""
        wanted = {i: item for i, item in self._items.items() if item.kind == "cover"}
        if self._given is not None:
            return {index: packet for index, packet in self._given.items() if index in wanted}
        found: dict[int, Packet] = {}
        if wanted:
            streams = [self._source.streams[index] for index in wanted]
            for packet in self._source.demux(streams):
                if packet.size and packet.stream_index not in found:
                    found[packet.stream_index] = packet
                if len(found) == len(wanted):
                    break
        return found

    # packets

    def feed(self, packet: Packet) -> list[tuple[int, Packet]]:
        """What the output gets for one input packet (often one, sometimes none)."""
        index = packet.stream_index
        item = self._items.get(index)
        if item is None or item.kind in ("attachment", "cover") or packet.size == 0:
            return []
        if item.target == "mov_text" and packet.size <= 2:
            return []  # MP4's empty text between two texts; the muxer makes new ones
        converter = self._converters.get(index)
        result: list[Packet] = []
        for part in self._cut(packet, item):
            if converter is None:
                result.append(self._moved(part, item))
                continue
            try:
                made = converter.convert(part)
            except av.error.FFmpegError as error:
                self._warn(item, part, error)
                continue
            result += [self._moved(p, item) for p in made] if item.kind == "subtitle" else made
        return self._count(index, result)

    def flush(self) -> list[tuple[int, Packet]]:
        """What converters still hold, after the last packet."""
        result = []
        for index, converter in self._converters.items():
            try:
                result += self._count(index, converter.flush())
            except av.error.FFmpegError as error:
                self._warn(self._items[index], None, error)
            label = self._items[index].label
            self.report.warnings += [f"{label}: {text}" for text in converter.warnings]
        return result

    def packets(self) -> Iterator[tuple[int, Packet]]:
        """All packets of a seekable input in its order, ready for the output."""
        streams = self.streams
        faults = 0
        demuxer = self._source.demux(streams) if streams else iter(())
        while True:
            try:
                packet = next(demuxer)
            except StopIteration:
                break
            except IndexError:
                # PyAV trips, after the last packet, over streams that a damaged transport
                # stream announces half way.
                break
            except av.error.FFmpegError as error:
                faults += 1
                if faults == 1 or faults > _PATIENCE:
                    more = " and cannot be read on" if faults > _PATIENCE else ""
                    self.report.warnings.append(
                        f"the input is damaged between its packets ({said(error)}){more}"
                    )
                if faults > _PATIENCE:
                    break
                demuxer = self._source.demux(streams)
                continue
            yield from self.feed(packet)
        yield from self.flush()

    def _cut(self, packet: Packet, item: StreamItem) -> list[Packet]:
        """What is wanted of a packet: all, nothing, or for raw sound a part of its samples."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        begin, until = self._times.begin, self._until
        if begin is None and self._hides(packet, item):
            self._before[item.index] = packet
            return []
        if stamp is None or (begin is None and until is None):
            return self._with_before(packet, item)
        start = stamp * packet.time_base
        stop = start + (packet.duration or 0) * packet.time_base
        if until is not None and start >= until:
            return []
        block = _block_size(self._source.streams[item.index]) if item.action == "copy" else 0
        if item.kind == "audio" and block:
            return cut_samples(packet, block, start, begin, until)
        if begin is None or start >= begin:
            return self._with_before(packet, item)
        if item.kind != "audio":
            return [packet] if stop > begin else []
        if self._plan.muxer == "avi":
            return []  # nothing can lie before the picture
        if stop > begin:
            return self._with_before(packet, item)
        # AAC needs the packet before to sound right; an edit list hides it in MP4.
        if item.codec == "aac" and self._plan.muxer in ("mp4", "mov"):
            self._before[item.index] = packet
        return []

    def _hides(self, packet: Packet, item: StreamItem) -> bool:
        """Whether the input's edit list leaves a packet out, and the output has no such list.

        Of those before the wanted sound the last is sent all the same: a decoder needs it.
        """
        return (
            packet.is_discard
            and item.kind == "audio"
            and item.action == "copy"
            and self._plan.muxer not in ("mp4", "mov")
        )

    def _with_before(self, packet: Packet, item: StreamItem) -> list[Packet]:
        before = self._before.pop(item.index, None)
        return [packet] if before is None else [before, packet]

    def _moved(self, packet: Packet, item: StreamItem) -> Packet:
        """The packet with output times, in its own time base."""
        times, tick = self._times, packet.time_base
        if times.stretch == 1:
            shift = round(-times.origin / tick)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        else:
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                packet.pts = packet.dts = round(times.output(stamp * tick) / tick)
            packet.duration = round((packet.duration or 0) * times.stretch)
        if item.kind == "subtitle" and packet.pts is not None:
            first, last = packet.pts, packet.pts + (packet.duration or 0)
            if times.begin is not None:
                first = max(0, first)
            if self._until is not None:
                last = max(first, min(last, round(times.output(self._until) / tick)))
            packet.pts = packet.dts = first
            if packet.duration:
                packet.duration = last - first
        return packet

    def _count(self, index: int, packets: list[Packet]) -> list[tuple[int, Packet]]:
        for packet in packets:
            sent = self.report.sent.setdefault(index, Sent())
            sent.packets += 1
            sent.bytes += packet.size
            if packet.pts is not None:
                sent.last = packet.pts * packet.time_base
                sent.first = sent.last if sent.first is None else sent.first
        return [(index, packet) for packet in packets]

    def _warn(self, item: StreamItem, packet: Packet | None, error: Exception) -> None:
        when = ""
        if packet is not None and packet.pts is not None:
            when = f" at {float(packet.pts * packet.time_base):.2f} s"
        self.report.warnings.append(f"{item.label} has a damaged packet{when} ({said(error)})")


def _earlier(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    times = [time for time in (first, second) if time is not None]
    return min(times, default=None)


def _block_size(stream: Stream) -> int:
    """Bytes of one sample of all channels of raw sound; 0 for everything else."""
    if not isinstance(stream, AudioStream):
        return 0
    match = re.fullmatch(r"pcm_(?:[suf](\d+)(?:le|be)?|alaw|mulaw)", stream.codec_context.name)
    if match is None:
        return 0
    return int(match[1] or 8) // 8 * stream.codec_context.layout.nb_channels


def cut_samples(
    packet: Packet, block: int, start: Fraction, begin: Fraction | None, until: Fraction | None
) -> list[Packet]:
    """The samples of a packet of raw sound between two times: one packet, or none.

    ``block`` is the size in bytes of one sample of all channels.
    """
    tick = packet.time_base
    data = bytes(packet)
    count = len(data) // block
    length = (packet.duration or 0) * tick
    if not length or not count:
        return [packet]
    rate = count / length
    first = 0 if begin is None else max(0, math.ceil((begin - start) * rate))
    last = count if until is None else min(count, math.ceil((until - start) * rate))
    if first == 0 and last == count:
        return [packet]
    if first >= last:
        return []
    part = Packet(data[first * block : last * block])
    part.time_base = tick
    part.pts = part.dts = round((start + first / rate) / tick)
    part.duration = round((last - first) / rate / tick)
    part.is_keyframe = True
    return [part]
