"""Encode frames into a file or a pipe.

Public: :class:`EncoderOptions`, :class:`EncoderConfig`, :func:`choose_encoder`,
:class:`VideoWriter`, :func:`check_encoder`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import av
from av.codec import Codec
from av.codec.hwaccel import HWAccel
from av.container import OutputContainer
from av.video.stream import VideoStream

from vfi_cli.errors import OutputError
from vfi_cli.frame import ColorSpec, Frame
from vfi_cli.io import y4m
from vfi_cli.io.codecs import CODECS, EncoderConfig, EncoderOptions, choose_encoder
from vfi_cli.io.formats import pack
from vfi_cli.wording import said

if TYPE_CHECKING:
    from vfi_cli.io.device import Surfaces

__all__ = [
    "CODECS",
    "EncoderConfig",
    "EncoderOptions",
    "VideoWriter",
    "check_encoder",
    "choose_encoder",
]

#: Seconds between keyframes of the output.
KEYFRAME_SECONDS = 3
#: How the names end of encoders that take frames on a CUDA device.
_TAKES_SURFACES = "_nvenc"


class VideoWriter:
    """A stream of frames at a constant rate: the k-th frame written is shown at k / fps.

    ``target`` is a path, or a binary file object that need not be seekable (it is flushed but
    not closed). ``container`` is FFmpeg's muxer name, the configuration's own where it is None.
    GOPs are closed, and the stream's parameter sets depend on the configuration alone, so that
    segments of one configuration can be joined.

    ``hwaccel``: the CUDA device ("cuda:1") from which an NVENC encoder takes frames whose planes
    lie there, where their layout allows it; or "none".

    Raises OutputError where the encoder does not open or the target cannot be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | BinaryIO,
        config: EncoderConfig,
        *,
        fps: Fraction,
        width: int,
        height: int,
        color: ColorSpec | None = None,
        sample_aspect_ratio: Fraction = Fraction(1),
        container: str | None = None,
        hwaccel: str = "none",
    ) -> None:
        self._surfaces: Surfaces | None = None
        if hwaccel != "none" and config.encoder.endswith(_TAKES_SURFACES):
            config = self._use_device(config, width, height)
        self.config = config
        self._hwaccel = hwaccel
        self.color = config.color if color is None else color
        self.frames = 0
        self._size = (width, height)
        self._fps = Fraction(fps)
        self._aspect = sample_aspect_ratio
        self._muxer = container or config.container
        self._out: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._closed = False
        self._path = os.fspath(target) if isinstance(target, str | os.PathLike) else None
        self._name = self._path or getattr(target, "name", None) or "the output"
        if self._path is not None:
            try:
                self._file: BinaryIO = open(self._path, "wb")  # noqa: SIM115
            except OSError as error:
                raise self._failure(error) from None
        else:
            self._file = target  # type: ignore[assignment]
        try:
            self._begin()
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def _begin(self) -> None:
        width, height = self._size
        if self._muxer == "yuv4mpegpipe":
            head = y4m.header(
                self.config.layout,
                self.color,
                width=width,
                height=height,
                fps=self._fps,
                sample_aspect_ratio=self._aspect,
            )
            self._guard(y4m.write_all, self._file, head)
            return
        self._out = av.open(
            self._file,
            "w",
            format=self._muxer,
            container_options={"avoid_negative_ts": "disabled", "fflags": "+bitexact"},
        )
        if self._surfaces is None:
            self._stream = self._add_stream(None)
        else:
            from vfi_cli.io.device import accelerator, context_of

            try:
                with context_of(self._hwaccel):
                    self._stream = self._add_stream(accelerator(self._hwaccel))
            except av.error.FFmpegError as error:
                raise OutputError(f"{self._hwaccel} cannot be used to encode ({error})") from error
        self._guard(self._out.start_encoding)

    def _add_stream(self, hwaccel: HWAccel | None) -> VideoStream:
        """The stream, with the encoder open."""
        assert self._out is not None
        width, height = self._size
        stream = add_video_stream(
            self._out,
            self.config,
            fps=self._fps,
            width=width,
            height=height,
            color=self.color,
            sample_aspect_ratio=self._aspect,
            hwaccel=hwaccel,
        )
        open_encoder(stream, self.config)
        return stream

    def _use_device(self, config: EncoderConfig, width: int, height: int) -> EncoderConfig:
        """The configuration that takes the same samples in surfaces, where there are such."""
        from vfi_cli.io.device import Surfaces, surface_format

        form = surface_format(config.layout, width, height)
        if form is None:
            return config
        self._surfaces = Surfaces(config.layout, width, height)
        return replace(config, pix_fmt=form)

    def write(self, frame: Frame) -> None:
        """Encode the next frame, in the encoder's layout; its own time does not matter."""
        if self._closed:
            raise ValueError("the writer is closed")
        if (frame.width, frame.height) != self._size:
            raise ValueError(f"a frame of {frame.width}×{frame.height} for {self._size}")
        if self._stream is None:
            frame = fitted(frame, self.config, self.color)
            self._guard(y4m.write_frame, self._file, frame)
        else:
            self._guard(self._encode, self._picture(frame))
        self.frames += 1

    def _picture(self, frame: Frame) -> av.VideoFrame:
        if self._surfaces is not None and frame.layout == self.config.layout:
            from vfi_cli.io.device import on_device

            if on_device(frame.planes):
                picture = self._surfaces.picture(frame.planes, self.frames)
                return _described(picture, self.color, self.frames, self._fps)
        return to_picture(frame, self.config, self.color, self.frames, self._fps)

    def _encode(self, picture: av.VideoFrame | None) -> None:
        assert self._stream is not None
        assert self._out is not None
        for packet in self._stream.encode(picture):
            if self._surfaces is not None:
                self._surfaces.release(packet.pts)
            packet.duration = packet.duration or 1
            self._out.mux_one(packet)

    def close(self) -> None:
        """Flush the encoder and finish the file, on disk when this returns."""
        if self._closed:
            return
        try:
            if self._stream is not None:
                self._guard(self._encode, None)
            if self._out is not None:
                out, self._out = self._out, None
                self._guard(out.close)
            self._guard(self._file.flush)
            if self._path is not None:
                self._guard(os.fsync, self._file.fileno())
        except BaseException:
            self.abort()
            raise
        self._closed = True
        self._stream = None  # an encoder keeps dozens of frames as long as it is there
        if self._path is not None:
            self._guard(self._file.close)

    def abort(self) -> None:
        """Let go of everything; what was written stays and is worth nothing."""
        self._closed = True
        out, self._out = self._out, None
        self._stream = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        if out is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError, ValueError):
                out.close()

    def _guard(self, action: Any, *arguments: Any) -> None:
        """Run something that writes; what the system says against it becomes an OutputError."""
        try:
            action(*arguments)
        except (av.error.FFmpegError, OSError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> OutputError:
        code = getattr(error, "errno", None)
        name = self._name
        if code in (errno.EACCES, errno.EPERM, errno.EROFS):
            return OutputError(f"{name}: may not be written (permission denied)")
        if code == errno.ENOENT:
            return OutputError(f"{name}: its folder does not exist")
        if code == errno.EISDIR:
            return OutputError(f"{name}: is a folder")
        if code == errno.EPIPE:
            return OutputError(f"{name}: the program that reads the pipe has gone")
        return OutputError(f"{name}: cannot be written ({said(error)})")


def add_video_stream(
    out: OutputContainer,
    config: EncoderConfig,
    *,
    fps: Fraction,
    width: int,
    height: int,
    color: ColorSpec,
    sample_aspect_ratio: Fraction,
    hwaccel: HWAccel | None = None,
) -> VideoStream:
    """A stream of an output container with everything set and the encoder not yet open."""
    options = dict(config.options)
    options.setdefault("g", str(max(1, round(fps * KEYFRAME_SECONDS))))
    if Codec(config.encoder, "w").intra_only:
        options["g"] = "1"
    else:
        options["flags"] = options.get("flags", "") + "+cgop"
    if color.chroma_location:
        options["chroma_sample_location"] = str(color.chroma_location)
    size = {"width": width, "height": height}
    stream = out.add_stream(config.encoder, rate=fps, options=options, hwaccel=hwaccel, **size)
    assert isinstance(stream, VideoStream)
    stream.pix_fmt = config.pix_fmt
    context = stream.codec_context
    context.time_base = 1 / fps
    stream.time_base = 1 / fps
    context.sample_aspect_ratio = sample_aspect_ratio
    context.color_range = 2 if color.full_range else 1
    context.colorspace = color.matrix
    context.color_primaries = color.primaries
    context.color_trc = color.transfer
    return stream


def open_encoder(stream: VideoStream, config: EncoderConfig) -> None:
    """Open the encoder now, so that a missing device is told before any work is done."""
    context = stream.codec_context
    # SVT-AV1 prints its settings to stderr, past FFmpeg's log, unless it is told to keep to errors.
    os.environ.setdefault("SVT_LOG", "1")
    try:
        context.open()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        where = "; choose another with --codec"
        if config.encoder.rsplit("_", 1)[-1] in ("nvenc", "qsv", "amf", "vaapi", "videotoolbox"):
            where = "; is its hardware, with a driver, in this machine? --codec h264 needs none"
        rate = Fraction(context.framerate or 0)
        # FFmpeg's log, where somebody listens to it, tells more than its "Invalid argument".
        logged = (getattr(error, "log", None) or ("", "", ""))[2].strip().rstrip(".")
        raise OutputError(
            f"the encoder {config.encoder} does not open for {context.width}×{context.height} "
            f"{config.pix_fmt} at {float(rate):.6g} fps ({logged or said(error)}){where}"
        ) from error
    unused = [key for key in config.options if key in context.options]
    if unused:
        raise OutputError(f"the encoder {config.encoder} does not know {', '.join(unused)}")


def check_encoder(
    config: EncoderConfig, *, fps: Fraction, width: int, height: int, container: str | None = None
) -> None:
    """Open and close the encoder. Raises OutputError where it does not work for this picture."""
    sink = io.BytesIO()
    VideoWriter(sink, config, fps=fps, width=width, height=height, container=container).abort()


def fitted(frame: Frame, config: EncoderConfig, color: ColorSpec) -> Frame:
    """The frame in the layout and the colour that the encoder takes."""
    if frame.layout == config.layout:
        return frame
    from vfi_cli.io.color import convert_layout

    return convert_layout(frame, config.layout, color)


def to_picture(
    frame: Frame, config: EncoderConfig, color: ColorSpec, number: int, fps: Fraction
) -> av.VideoFrame:
    """Output frame ``number``, ready for the encoder."""
    planes = fitted(frame, config, color).host_planes
    picture = pack(planes, config.pix_fmt, frame.width, frame.height)
    return _described(picture, color, number, fps)


def _described(
    picture: av.VideoFrame, color: ColorSpec, number: int, fps: Fraction
) -> av.VideoFrame:
    picture.pts = number
    picture.time_base = 1 / fps
    picture.color_range = 2 if color.full_range else 1
    picture.colorspace = color.matrix
    picture.color_primaries = color.primaries
    picture.color_trc = color.transfer
    return picture
