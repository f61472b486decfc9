"""Writing a container packet by packet: one picture stream and what came with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, cast

import av
import av.error
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.packet import Packet
from av.stream import AttachmentStream, Disposition, Stream
from av.video.stream import VideoStream

from vfi_cli.errors import OutputError
from vfi_cli.frame import ColorSpec
from vfi_cli.io import avi, matroska, mp4_boxes
from vfi_cli.io.encode import EncoderConfig, add_video_stream, open_encoder
from vfi_cli.io.source import HdrInfo
from vfi_cli.wording import said

if TYPE_CHECKING:
    from av.container.core import Chapter

#: Muxer options. Matroska would otherwise move every stream so that the first decoding time of a
#: picture with B-frames is not negative; it stores no such time.
_OPTIONS: dict[str, dict[str, str]] = {
    "mp4": {"strict": "experimental"},
    "mov": {"movflags": "+use_metadata_tags", "strict": "experimental"},
    "matroska": {"avoid_negative_ts": "disabled", "default_mode": "passthrough"},
    "webm": {"avoid_negative_ts": "disabled", "default_mode": "passthrough"},
    "nut": {},
    "mpegts": {},
    "avi": {"avoid_negative_ts": "disabled"},
}


#: Codecs whose headers MPEG-TS wants in front of keyframes, and its muxer does not put there.
_REPEATED_HEADERS = frozenset({"mpeg1video", "mpeg2video", "mpeg4"})

#: Codecs whose tag in the container alone tells the pixel format.
_TOLD_BY_TAG = frozenset({"rawvideo", "utvideo"})


class Sink(Protocol):
    """A file object to write to; most containers also want ``seek`` and ``tell``."""

    def write(self, data: bytes, /) -> int | None: ...


def _can_seek(target: Sink) -> bool:
    seekable = getattr(target, "seekable", None)
    return hasattr(target, "seek") and (seekable is None or bool(seekable()))


@dataclass(frozen=True, slots=True)
class PictureTraits:
    """What a container says of the picture beside its packets."""

    tags: Mapping[str, str] = field(default_factory=dict)
    disposition: int = 0  # FFmpeg's flags
    sample_aspect_ratio: Fraction | None = None
    display_matrix: Sequence[int] | None = None  # nine values; None: upright
    hdr: HdrInfo | None = None


class OutputMux:
    """A container being written to a path or a file object.

    Add the streams in the order that the output shall have, then set the chapters, then
    give packets; packets of all streams should come roughly in order of time. Every
    failure of the container is an OutputError that names the target.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Sink,
        muxer: str,
        *,
        tags: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.muxer = muxer
        self.name = (
            os.fspath(target)
            if isinstance(target, str | os.PathLike)
            else str(getattr(target, "name", "the output"))
        )
        self._held: matroska.HeldHeader | None = None
        if not isinstance(target, str | os.PathLike) and not _can_seek(target):
            # What comes after the header cannot be changed any more: it is changed on its way.
            self._held = target = matroska.HeldHeader(target)
        chosen = {k: v for k, v in {**_OPTIONS.get(muxer, {}), **(options or {})}.items() if v}
        try:
            self._out = av.open(
                # The prefix keeps FFmpeg from reading a protocol into a name such as "a:b.mp4".
                f"file:{self.name}" if isinstance(target, str | os.PathLike) else target,
                "w",
                format=muxer,
                container_options=chosen,
                metadata_errors="replace",
            )
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"{self.name}: cannot be written ({said(error)})") from error
        self._out.metadata.update(tags or {})
        self._video: Stream | None = None
        self._repeat: BitStreamFilterContext | None = None
        self._tags = dict(tags or {})
        self._path = self.name if isinstance(target, str | os.PathLike) else None
        self._track = 0  # number of the next stream that becomes a track
        self._mp4 = mp4_boxes.Additions()
        self._covers: tuple[tuple[str, bytes], ...] = ()
        self._matroska: matroska.Additions | None = None
        self._languages: dict[int, str] = {}  # by stream
        self._kinds: dict[int, str] = {}  # of the streams that become tracks, in order
        self._firsts: dict[int, Fraction] = {}  # time of the first packet, by stream
        self._streams: dict[int, Stream] = {}
        self._last_dts: dict[int, int] = {}
        self._closed = False

    # streams

    def add_video(
        self,
        template: VideoStream,
        traits: PictureTraits | None = None,
        *,
        fps: Fraction,
        time_base: Fraction | None = None,
        color: ColorSpec | None = None,
    ) -> Stream:
        """The picture: packets coded as ``template``'s, one every 1 / fps seconds.

        ``time_base`` is that of the packets to come, 1 / fps where it is not given.
        """
        traits = traits or PictureTraits()
        stream = self._out.add_stream_from_template(template, opaque=True)
        context = stream.codec_context
        stream.time_base = time_base or 1 / fps
        context.framerate = fps
        if color is not None:
            context.color_range = 2 if color.full_range else 1
            context.colorspace = color.matrix
            context.color_primaries = color.primaries
            context.color_trc = color.transfer
        if traits.sample_aspect_ratio:
            context.sample_aspect_ratio = traits.sample_aspect_ratio
        if context.name in _TOLD_BY_TAG:
            context.codec_tag = template.codec_context.codec_tag
        self._picture(stream, traits)
        if self.muxer == "mpegts" and context.codec.canonical_name in _REPEATED_HEADERS:
            self._repeat = BitStreamFilterContext("dump_extra", template)
        return stream

    def _picture(self, stream: VideoStream, traits: PictureTraits) -> None:
        """What the container says of the picture, however its packets come."""
        context = stream.codec_context
        if self.muxer in ("mp4", "mov") and context.codec.canonical_name == "hevc":
            context.codec_tag = "hvc1"  # the tag that Apple's players ask for
        if traits.display_matrix is not None:
            stream.set_display_matrix(traits.display_matrix)
        self._describe(stream, traits.tags, traits.disposition)
        hdr, aspect = traits.hdr, traits.sample_aspect_ratio
        sar = aspect if aspect not in (None, 0, 1) else None
        if self.muxer in ("matroska", "webm") and (sar or hdr) and (self._path or self._held):
            name = stream.metadata.get("title", "")
            stream.metadata["title"] = matroska.padded_name(name)
            self._matroska = matroska.Additions(self._track, name, sar, hdr)
            if self._held is not None:
                self._held.additions = self._matroska
        elif hdr:
            self._mp4 = mp4_boxes.Additions(hdr=hdr)
        self._kinds[stream.index] = "picture"
        self._track += 1
        self._video = stream

    def add_picture(
        self,
        config: EncoderConfig,
        traits: PictureTraits,
        *,
        fps: Fraction,
        width: int,
        height: int,
    ) -> VideoStream:
        """The picture, encoded on the spot: give what the stream encodes to mux_video."""
        stream = add_video_stream(
            self._out,
            config,
            fps=fps,
            width=width,
            height=height,
            color=config.color,
            sample_aspect_ratio=traits.sample_aspect_ratio or Fraction(1),
        )
        open_encoder(stream, config)
        self._picture(stream, traits)
        return stream

    def add_copied(
        self, template: Stream, *, tags: Mapping[str, str] | None = None, disposition: int = 0
    ) -> Stream:
        """A stream whose packets are copied as they are. Key for mux_other: template.index."""
        stream = self._adding(self._out.add_stream_from_template, template, opaque=True)
        if isinstance(stream, AudioStream) and isinstance(template, AudioStream):
            # AVI and others say how many channels there are, not which; MP4 wants to know.
            stream.codec_context.layout = named_layout(template)
        elif isinstance(template, VideoStream) and template.average_rate:
            stream.codec_context.framerate = template.average_rate
        self._describe(stream, tags, disposition)
        if not disposition & Disposition.attached_pic:
            self._kinds[stream.index] = stream.type
            self._track += 1
        self._streams[template.index] = stream
        return stream

    def _adding(self, action: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        try:
            return action(*arguments, **more)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise OutputError(f"{self.name}: cannot hold a stream ({said(error)})") from error

    def _describe(self, stream: Stream, tags: Mapping[str, str] | None, disposition: int) -> None:
        stream.metadata.update(tags or {})
        stream.disposition = Disposition(disposition)
        if language := (tags or {}).get("language"):
            self._languages[stream.index] = language

    def add_attachment(self, template: AttachmentStream) -> None:
        """A font or another file; it has no packets."""
        name = template.name or f"attachment{template.index}"
        mimetype = template.mimetype or "application/octet-stream"
        stream = self._out.add_attachment(name, mimetype, template.data)
        stream.metadata.update(dict(template.metadata))

    def add_file(self, name: str, mimetype: str, data: bytes, tags: Mapping[str, str]) -> None:
        """An attachment from its bytes (Matroska keeps cover art so)."""
        stream = self._out.add_attachment(name, mimetype, data)
        stream.metadata.update({**tags, "filename": name, "mimetype": mimetype})

    def add_cover(self, codec: str, picture: bytes) -> None:
        """Cover art that the finished MP4 or QuickTime file gets (codec mjpeg, png or bmp)."""
        self._covers += ((codec, picture),)

    def add_encoded(
        self,
        key: int,
        encoder: str,
        *,
        rate: int | None = None,
        tags: Mapping[str, str] | None = None,
        disposition: int = 0,
        **settings: Any,
    ) -> Stream:
        """A stream that a converter encodes; ``settings`` go to its codec context."""
        stream = self._adding(self._out.add_stream, encoder, rate=rate)
        for name, value in settings.items():
            self._adding(setattr, stream.codec_context, name, value)
        self._describe(stream, tags, disposition)
        self._kinds[stream.index] = stream.type
        self._track += 1
        self._streams[key] = stream
        return stream

    def set_chapters(self, chapters: list[dict[str, Any]]) -> None:
        self._out.set_chapters(cast("list[Chapter]", chapters))

    def start(self) -> None:
        """Write the header (the first packet does it otherwise)."""
        try:
            self._out.start_encoding()
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise OutputError(f"{self.name}: cannot be begun ({said(error)})") from error

    # packets

    def mux_video(self, packet: Packet) -> None:
        """A picture packet; its times are in its own time_base."""
        assert self._video is not None
        packets = [packet] if self._repeat is None else self._repeat.filter(packet)
        for ready in packets:
            ready.stream = self._video
            self._mux(ready)

    def mux_other(self, key: int, packet: Packet) -> None:
        """A packet of another stream, added under ``key`` (the input's stream index).

        Decoding times that do not increase, which muxers refuse, are moved by the least possible.
        """
        stream = self._streams[key]
        packet.stream = stream
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.dts is not None:
            last = self._last_dts.get(key)
            least = None if last is None else last + (stream.type in ("audio", "video"))
            if least is not None and packet.dts < least:
                packet.dts = least
                if packet.pts is not None and packet.pts < least:
                    packet.pts = least
            if stream.type == "audio" and last is not None and not packet.duration:
                packet.duration = packet.dts - last  # MP4 ends before a last one that has none
            self._last_dts[key] = packet.dts
        self._mux(packet)

    def _mux(self, packet: Packet) -> None:
        if packet.dts is not None:
            self._firsts.setdefault(packet.stream_index, packet.dts * packet.time_base)
        try:
            self._out.mux(packet)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise OutputError(f"{self.name}: cannot be written ({said(error)})") from error

    # the end

    def close(self) -> None:
        """Write what is buffered and the index. The file is complete afterwards."""
        if self._closed:
            return
        self._closed = True
        try:
            self._out.close()
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise OutputError(f"{self.name}: cannot be finished ({said(error)})") from error
        if self._path:
            self._complete(self._path)

    def _complete(self, path: str) -> None:
        """Add to the finished file what the muxer left out."""
        try:
            if self._matroska is not None:
                matroska.complete(path, self._matroska)
            elif self.muxer == "avi" and self._firsts:
                late = {
                    stream.index: self._firsts[stream.index]
                    for stream in self._streams.values()
                    if stream.type == "audio" and stream.index in self._firsts
                }
                avi.set_starts(path, late)
            elif self.muxer in ("mp4", "mov"):
                with av.open(f"file:{path}", metadata_errors="replace") as written:
                    there = {key.lower() for key in written.metadata}
                missing = {k: v for k, v in self._tags.items() if k.lower() not in there}
                tracks = self._tracks()
                # QuickTime's own language numbers, which FFmpeg prefers, lack many.
                spoken = self._languages if self.muxer == "mov" else {}
                additions = replace(
                    self._mp4,
                    picture=next((tracks[i] for i, k in self._kinds.items() if k == "picture"), 0),
                    languages={tracks[i]: name for i, name in spoken.items() if i in tracks},
                    tags=missing if self.muxer == "mp4" else {},
                    covers=self._covers,
                )
                mp4_boxes.complete(path, additions)
                mp4_boxes.move_to_front(path)
        except (ValueError, av.error.FFmpegError, OSError) as error:
            raise OutputError(f"{self.name}: cannot be finished ({said(error)})") from error

    def _tracks(self) -> dict[int, int]:
        """Stream → number of its track in a finished MP4: what has no samples is not written."""
        written = [
            index
            for index, kind in self._kinds.items()
            if index in self._firsts or kind == "subtitle"
        ]
        return {index: number for number, index in enumerate(written)}

    def abort(self) -> None:
        """Let go of the target without minding whether it is complete."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(Exception):
                self._out.close()

    def __enter__(self) -> OutputMux:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def named_layout(stream: AudioStream) -> str:
    """The channel layout of a sound stream, FFmpeg's usual one where the source names none."""
    layout = stream.codec_context.layout
    if "channels" not in layout.name:
        return layout.name
    return _USUAL_LAYOUTS.get(layout.nb_channels, layout.name)


_USUAL_LAYOUTS = dict(
    enumerate(("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1"), start=1)
)


class Nowhere:
    """A file that keeps nothing, to try what a container accepts."""

    name = "a trial"

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


def accepts(muxer: str, stream: Stream) -> bool:
    """Whether a container takes this very stream, found by beginning one that is not kept."""
    try:
        mux = OutputMux(Nowhere(), muxer)
        try:
            mux.add_copied(stream)
            mux.start()
        finally:
            mux.abort()
    except (OutputError, ValueError, av.error.FFmpegError):
        return False
    return True
