"""Read frames from a pipe as they come: YUV4MPEG2, NUT, Matroska, or what else streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from typing import BinaryIO, Self

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vfi_cli.errors import InputError
from vfi_cli.frame import Frame
from vfi_cli.io.feed import decode_packet, decoder_of
from vfi_cli.io.formats import readable_format, unpack
from vfi_cli.io.source import Broken, SourceInfo, open_input, picture_stream
from vfi_cli.io.stated import chroma_location, color_of, side_data, uncarried
from vfi_cli.wording import said

#: Packets before the first picture that are tried before giving up.
_PATIENCE = 500


class _Forward:
    """A file object that only reads on, and does not wait for more than there is."""

    def __init__(self, file: BinaryIO) -> None:
        self._read = getattr(file, "read1", file.read)
        self.total = 0  # bytes read

    def read(self, size: int) -> bytes:
        data: bytes = self._read(size)
        self.total += len(data)
        return data


def open_stream(
    file: BinaryIO, *, on_packet: Callable[[Packet], None] | None = None, name: str = "the pipe"
) -> StreamReader:
    """Open a pipe and wait for its first picture. The file object is not closed.

    ``on_packet`` gets the packets of the other streams, in the pipe's order: those before the
    first picture at once, the rest while frames are read. Raises InputError where nothing comes, or
    nothing that is a video.
    """
    source = _Forward(file)
    try:
        container = av.open(source, "r", metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if source.total == 0:
            raise InputError(f"{name}: nothing came through it") from None
        raise InputError(
            f"{name}: is no YUV4MPEG2, NUT or Matroska, nor another video that streams "
            f"({said(error)})"
        ) from None
    try:
        return StreamReader(container, source, on_packet, name)
    except BaseException:
        container.close()
        raise


def read_through(
    path: str | os.PathLike[str], *, on_packet: Callable[[Packet], None] | None = None
) -> StreamReader:
    """Read a file in one pass, as if it came through a pipe."""
    container = open_input(path)
    try:
        return StreamReader(container, _Forward(BytesIO()), on_packet, os.fspath(path))
    except BaseException:
        container.close()
        raise


class StreamReader:
    """The frames of a pipe in display order; a context manager and an iterator.

    ``info`` is known up front, but for the times: its ``pts`` holds the first frame's alone.
    Every frame's duration is exact, since it is delivered when the next one's time is known; the
    last one's is what its packet says, else the gap before it, else the rate's. ``broken`` says
    where damage ended the stream.
    """

    def __init__(
        self,
        container: InputContainer,
        source: _Forward,
        on_packet: Callable[[Packet], None] | None,
        name: str,
    ) -> None:
        self.container = container
        self._source = source
        self._fault: str | None = None
        self._read_to = 0  # where the last picture's packet ended
        self.on_packet = on_packet
        self.broken: Broken | None = None
        self.warnings: list[str] = []
        self._name = name
        self._early: list[Packet] = []
        self._durations: dict[int, int] = {}
        if "mp4" in container.format.name and any(
            s.codec_context is not None and not s.codec_context.width
            for s in container.streams.video
        ):
            raise self._index_at_its_end()
        self._stream, warnings = picture_stream(container, name)
        self.warnings += warnings
        assert self._stream.time_base is not None
        self.time_base: Fraction = self._stream.time_base
        self._decoder = decoder_of(self._stream, threads=0, strict=False)
        self._packets = self._demux()
        self._queue = self._first_pictures()
        self.info = self._describe(self._queue[0])
        self._frames = self._run()
        self._hand_over()

    @property
    def other_streams(self) -> list[av.stream.Stream]:
        """The streams whose packets go to ``on_packet``."""
        return [s for s in self.container.streams if s.index != self._stream.index]

    def _demux(self) -> Iterator[Packet]:
        """The picture's packets and a last empty one; the others are handed over on the way."""
        try:
            for packet in self.container.demux():
                if packet.size == 0:
                    continue
                if packet.stream_index == self._stream.index:
                    self._read_to = (packet.pos or 0) + packet.size
                    yield packet
                else:
                    self._early.append(packet)
        except av.error.FFmpegError as error:
            self.warnings.append(f"cannot be read to its end ({said(error)})")
        except IndexError:
            pass  # PyAV's, at the end, where streams had appeared on the way
        yield Packet()
        left = self._source.total - self._read_to
        if self.container.format.name == "yuv4mpegpipe" and left > len("FRAME"):
            self._fault = "the last picture is cut off"

    def _hand_over(self) -> None:
        early, self._early = self._early, []
        if self.on_packet is not None:
            for packet in early:
                self.on_packet(packet)

    def _first_pictures(self) -> list[VideoFrame]:
        for tried, packet in enumerate(self._packets):
            try:
                pictures = self._decode(packet)
            except av.error.FFmpegError:
                pictures = []
            if pictures:
                return pictures
            if tried > _PATIENCE or not packet.size:
                break
        if "mp4" in self.container.format.name:
            raise self._index_at_its_end()
        raise InputError(f"{self._name}: no picture of its {self._stream.name} stream decodes")

    def _index_at_its_end(self) -> InputError:
        return InputError(
            f"{self._name}: an MP4 or MOV whose index is at its end cannot be read in one "
            "pass; name the file instead of -"
        )

    def _decode(self, packet: Packet) -> list[VideoFrame]:
        if packet.size and packet.pts is not None and packet.duration:
            self._durations[packet.pts] = packet.duration
        return decode_packet(self._decoder, packet)

    def _describe(self, picture: VideoFrame) -> SourceInfo:
        stream: VideoStream = self._stream
        form = readable_format(picture.format.name)
        if form is None:
            raise InputError(f"{self._name}: pixel format {picture.format.name} cannot be read")
        hdr, matrix = side_data(picture)
        rate = stream.average_rate or stream.base_rate or stream.codec_context.framerate
        rate = Fraction(rate) if rate else Fraction(25)
        first = picture.pts or 0
        aspect = stream.sample_aspect_ratio
        return SourceInfo(
            path=self._name,
            container=self.container.format.name,
            stream_index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            width=picture.width,
            height=picture.height,
            layout=form.layout,
            color=replace(color_of(picture), chroma_location=chroma_location(picture)),
            pix_fmt=picture.format.name,
            sample_aspect_ratio=Fraction(aspect) if aspect else Fraction(1),
            rotation=-picture.rotation % 360,
            time_base=self.time_base,
            pts=(first,),
            key_pts=(),
            key_dts=(),
            decode_order=(),
            reorder=0,
            end_pts=first + max(1, round(1 / (rate * self.time_base))),
            nominal_rate=rate,
            base_rate=None,
            variable=True,
            seekable=False,
            first_packet=0,
            strict=False,
            corrupt_packets=(),
            interlaced=picture.interlaced_frame,
            hdr=hdr,
            display_matrix=matrix,
            uncarried=uncarried([picture]),
            warnings=tuple(self.warnings),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Let go of the decoder. Closing twice, or midway, is fine."""
        self._frames.close()
        self.container.close()

    def _pictures(self) -> Iterator[VideoFrame]:
        """Pictures until the end or the first damage."""
        yield from self._queue
        for number, packet in enumerate(self._packets, start=len(self._queue) + 1):
            self._hand_over()
            try:
                pictures = self._decode(packet)
            except av.error.FFmpegError:
                self._fault = f"invalid data near packet {number}"
                return
            for picture in pictures:
                fault = self._fault_of(picture)
                if fault is not None:
                    self._fault = fault
                    return
                yield picture
        self._hand_over()

    def _fault_of(self, picture: VideoFrame) -> str | None:
        info = self.info
        if (picture.width, picture.height) != (info.width, info.height):
            return f"the picture's size changes to {picture.width}×{picture.height}"
        form = readable_format(picture.format.name)
        if form is None or form.layout != info.layout:
            return f"the pixel format changes to {picture.format.name}"
        return "damaged picture" if picture.is_corrupt else None

    def _run(self) -> Generator[Frame, None, None]:
        info = self.info
        step = info.end_pts - info.pts[0]
        repaired = 0
        gap = 0
        held: Frame | None = None
        for picture in self._pictures():
            pts = picture.pts
            if held is not None and (pts is None or pts <= held.pts):
                repaired += 1
                pts = held.pts + step
            pts = 0 if pts is None else pts
            if held is not None:
                gap = pts - held.pts
                yield replace(held, duration=gap)
            held = Frame(
                unpack(picture)[1],
                info.width,
                info.height,
                info.layout,
                info.color,
                pts,
                self.time_base,
                duration=self._durations.pop(pts, 0),
                interlaced=picture.interlaced_frame,
            )
            if len(self._durations) > 1000:
                self._durations.clear()
        if held is not None:
            held = replace(held, duration=held.duration or gap or step)
            yield held
            if self._fault is not None:
                end = (held.pts + held.duration) * self.time_base
                self.broken = Broken(end, self._fault)
        if repaired:
            self.warnings.append(f"{repaired} timestamps repeat, go back or are missing")
