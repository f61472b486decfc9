"""The packets of a picture stream from a keyframe on, each with its number in the file."""

from __future__ import annotations

from collections.abc import Iterator

import av
from av.codec import Codec
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vfi_cli.errors import InputError
from vfi_cli.io.source import DEMUX_ERRORS, SourceInfo, open_input

#: How far before a keyframe to look for it when a container's index leads past it, in seconds.
_SEEK_BACK = (0, 2, 15)
#: Decoders that pass damage over in silence unless asked not to.
STRICT_CODECS = frozenset({"hevc", "mjpeg"})
#: Decoders that with frame threads now and then spoil the frame before a damaged one.
_SLICES_ONLY = frozenset({"ffv1"})
#: Decoders that show the alpha which FFmpeg's own ones for the codec leave out.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def decoder_of(
    stream: VideoStream, *, threads: int, strict: bool, hwaccel: str = "none"
) -> VideoCodecContext:
    """A stream's decoder, not yet open. ``threads`` 0 is one a core; strict reports all damage.

    ``hwaccel``: the CUDA device whose NVDEC decodes what it can ("cuda:1"), or "none".
    """
    context = stream.codec_context
    if hwaccel != "none":
        from vfi_cli.io.device import hardware_decoder

        hardware = hardware_decoder(stream, hwaccel)
        if hardware is not None:
            context, threads = hardware, 1
    name = context.codec.canonical_name
    # Matroska's own element reads "alpha_mode", a tag of that name "ALPHA_MODE".
    stated = {key.lower(): value for key, value in stream.metadata.items()}
    if stated.get("alpha_mode") == "1" and name in _ALPHA_DECODERS:
        try:
            other = Codec(_ALPHA_DECODERS[name], "r").create("video")
        except ValueError:
            pass  # a build without it: the picture is shown without its alpha
        else:
            other.extradata = context.extradata
            other.color_primaries = context.color_primaries
            other.color_trc = context.color_trc
            context = other
    by_frame = threads != 1 and name not in _SLICES_ONLY
    context.thread_type = "AUTO" if by_frame else "SLICE"
    context.thread_count = threads
    if strict:
        context.options = {"err_detect": "explode"}
    return context


class PacketFeed:
    """Numbered packets for a decoder, which is set up but not yet open.

    Starts with the ``key``-th keyframe of ``info``, or with ``info.first_packet`` where ``key``
    is 0. A demuxer that gives up ends the packets; the frames that are missing will tell.
    ``hwaccel`` as in :func:`decoder_of`.
    """

    def __init__(self, info: SourceInfo, key: int, *, threads: int, hwaccel: str = "none") -> None:
        self._info = info
        self._container: InputContainer | None = None
        self._found: Packet | None = None
        self._number = 0
        self.stream = self._open()
        if key > 0 and not self._seek(key):
            self.stream = self._open()
        self.context = decoder_of(self.stream, threads=threads, strict=info.strict, hwaccel=hwaccel)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open(self) -> VideoStream:
        self.close()
        self._container = open_input(self._info.path)
        streams = self._container.streams
        if self._info.stream_index >= len(streams):
            raise InputError(f"{self._info.path}: has changed since it was read first")
        for other in streams:
            if other.index != self._info.stream_index:
                other.discard = av.stream.Discard.all
        stream: VideoStream = streams[self._info.stream_index]  # type: ignore[assignment]
        self._packets = self._container.demux(stream)
        return stream

    def _seek(self, key: int) -> bool:
        """Stand at a keyframe's packet; False where the container cannot be made to go there."""
        info = self._info
        pts, dts = info.key_pts[key], info.key_dts[key]
        for back in _SEEK_BACK:
            target = min(pts, dts) - int(back / info.time_base)
            if back and target <= info.pts[0]:
                return False
            assert self._container is not None
            try:
                self._container.seek(target, stream=self.stream)
            except av.error.FFmpegError:
                return False
            self._packets = self._container.demux(self.stream)
            found = _skip_to(self._packets, pts, dts)
            if found is not None:
                self._found = found
                self._number = info.decode_order[info.number_of(pts)]
                return True
            self.stream = self._open()
        return False

    def __iter__(self) -> Iterator[tuple[int, Packet]]:
        """(number, packet); the last one is empty and flushes the decoder."""
        first = self._info.first_packet
        # What comes after the last frame's packet was left out for a reason.
        last = max(self._info.decode_order, default=None)
        number = self._number
        if self._found is not None:
            yield number, self._found
            number += 1
            first = 0
        try:
            for packet in self._packets:
                if packet.size == 0:
                    continue
                if last is not None and number > last:
                    break
                if number >= first:
                    yield number, packet
                number += 1
        except DEMUX_ERRORS:
            pass
        yield number, Packet()


def _skip_to(packets: Iterator[Packet], pts: int, dts: int) -> Packet | None:
    """The keyframe's packet, or None where the container's index led past it."""
    try:
        for packet in packets:
            if packet.size == 0:
                continue
            if packet.pts == pts and packet.is_keyframe:
                return packet
            if packet.dts is not None and packet.dts > dts:
                return None
    except DEMUX_ERRORS:
        pass
    return None


def decode_packet(context: VideoCodecContext, packet: Packet) -> list[VideoFrame]:
    """The frames that a packet brings out; an empty packet brings out all that are left."""
    return context.decode(packet if packet.size else None)
