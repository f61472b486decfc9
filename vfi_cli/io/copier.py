"""Moves everything but the picture from the input to the output, as a StreamPlan says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
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
from vfi_cli.io.streams import StreamItem, StreamPlan, TimeMap, map_chapters, stream_tags
from vfi_cli.io.subtitles import SubtitleConverter

_COVER_NAMES = {"mjpeg": ("jpg", "image/jpeg")}


class Converter(Protocol):
    def add_to(self, mux: OutputMux, *, tags: dict[str, str], disposition: int) -> None: ...
    def convert(self, packet: Packet) -> list[Packet]: ...
    def flush(self) -> list[Packet]: ...


@dataclass
class Sent:
    """What was handed to the output for one stream."""

    packets: int = 0
    bytes: int = 0
    first: Fraction | None = None  # output time of the first packet


@dataclass
class CopyReport:
    sent: dict[int, Sent] = field(default_factory=dict)  # by the input's stream index
    warnings: list[str] = field(default_factory=list)


class StreamCopier:
    """Everything but the picture, from an open input to an OutputMux.

    ``add_streams`` makes the output's streams; afterwards give each input packet to
    ``feed``, in any order, and call ``flush`` at the end: both return (stream index, packet)
    pairs for ``OutputMux.mux_other``, times already the output's. A stream whose packets
    cannot be converted gives warnings, not errors. ``left_out`` are streams of the plan that
    an earlier attempt found impossible; ``until`` is a source time after which nothing is wanted.
    """

    def __init__(
        self,
        source: InputContainer,
        plan: StreamPlan,
        *,
        left_out: Collection[int] = (),
        until: Fraction | None = None,
    ) -> None:
        self._source = source
        self._plan = plan
        self._items = {
            item.index: item
            for item in plan.items
            if item.action != "drop" and item.index not in left_out
        }
        self._times = plan.time_map
        self._until = _earlier(plan.time_map.end, until)
        self._converters: dict[int, Converter] = {}
        self._shifts: dict[int, int] = {}
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
            mux.set_chapters(map_chapters(self._source.chapters(), self._times))
        mux.start()
        for index, packet in covers.items():
            if self._plan.muxer not in ("matroska", "webm"):
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
            else:
                mux.add_copied(stream, tags=tags, disposition=item.disposition)
        elif item.action == "copy":
            mux.add_copied(stream, tags=tags, disposition=item.disposition)
            if self._times.stretch == 1 and stream.time_base:
                self._shifts[item.index] = round(-self._times.origin / stream.time_base)
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
        if not self._wanted(packet, item):
            return []
        converter = self._converters.get(index)
        if converter is None:
            return self._count(index, [self._moved(packet)])
        try:
            packets = converter.convert(packet)
        except av.error.FFmpegError as error:
            self._warn(item, packet, error)
            return []
        if item.kind == "subtitle":
            packets = [self._moved(made) for made in packets]
        return self._count(index, packets)

    def flush(self) -> list[tuple[int, Packet]]:
        """What converters still hold, after the last packet."""
        result = []
        for index, converter in self._converters.items():
            try:
                result += self._count(index, converter.flush())
            except av.error.FFmpegError as error:
                self._warn(self._items[index], None, error)
        return result

    def packets(self) -> Iterator[tuple[int, Packet]]:
        """All packets of a seekable input in its order, ready for the output."""
        streams = self.streams
        if streams:
            faults = 0
            demuxer = self._source.demux(streams)
            while True:
                try:
                    packet = next(demuxer)
                except StopIteration:
                    break
                except av.error.FFmpegError as error:
                    faults += 1
                    said = error.strerror or str(error)
                    self.report.warnings.append(f"the input's other streams break off ({said})")
                    break
                yield from self.feed(packet)
        yield from self.flush()

    def _wanted(self, packet: Packet, item: StreamItem) -> bool:
        """Whether any of the packet lies in the wanted part of the source."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return True
        time = stamp * packet.time_base
        if self._until is not None and time >= self._until:
            return False
        begin = self._times.begin
        if begin is None or time >= begin:
            return True
        if item.kind == "audio":
            return False
        return time + (packet.duration or 0) * packet.time_base > begin

    def _moved(self, packet: Packet) -> Packet:
        """The packet with output times, in its own time base."""
        times, tick = self._times, packet.time_base
        shift = self._shifts.get(packet.stream_index if packet.stream else -1)
        if times.stretch == 1 and times.begin is None:
            move = round(-times.origin / tick) if shift is None else shift
            if packet.pts is not None:
                packet.pts += move
            if packet.dts is not None:
                packet.dts += move
            return packet
        start = packet.pts if packet.pts is not None else packet.dts
        if start is not None:
            stop = (start + (packet.duration or 0)) * tick
            first = _clamped(start * tick, times, self._until)
            last = _clamped(stop, times, self._until)
            packet.pts = round(times.output(first) / tick)
            packet.dts = packet.pts
            if packet.duration:
                packet.duration = max(0, round((last - first) * times.stretch / tick))
        return packet

    def _count(self, index: int, packets: list[Packet]) -> list[tuple[int, Packet]]:
        for packet in packets:
            sent = self.report.sent.setdefault(index, Sent())
            sent.packets += 1
            sent.bytes += packet.size
            if sent.first is None and packet.pts is not None:
                sent.first = packet.pts * packet.time_base
        return [(index, packet) for packet in packets]

    def _warn(self, item: StreamItem, packet: Packet | None, error: Exception) -> None:
        said = getattr(error, "strerror", None) or str(error)
        when = ""
        if packet is not None and packet.pts is not None:
            when = f" at {float(packet.pts * packet.time_base):.2f} s"
        self.report.warnings.append(f"{item.label} has a damaged packet{when} ({said})")


def _earlier(first: Fraction | None, second: Fraction | None) -> Fraction | None:
    times = [time for time in (first, second) if time is not None]
    return min(times, default=None)


def _clamped(time: Fraction, times: TimeMap, until: Fraction | None) -> Fraction:
    if times.begin is not None:
        time = max(time, times.begin)
    if until is not None:
        time = min(time, until)
    return time
