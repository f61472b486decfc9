"""What is known of an input before its pictures are rendered, and how it is opened."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vfi_cli.errors import InputError
from vfi_cli.frame import ColorSpec, PlaneLayout
from vfi_cli.timeline import SourceTimeline
from vfi_cli.wording import said

#: Streams found late (transport streams, subtitles that begin late) still count.
_OPEN_OPTIONS = {"probesize": "20000000", "analyzeduration": "10000000"}
#: What demuxing may raise; IndexError is PyAV's where a stream appears in the middle of a file.
DEMUX_ERRORS = (av.error.FFmpegError, IndexError)
_NOT_SHOWN = Disposition.attached_pic | Disposition.timed_thumbnails


@dataclass(frozen=True, slots=True)
class HdrInfo:
    """Static HDR metadata: SMPTE ST 2086 mastering display and CTA-861.3 content light.

    Chromaticities are (x, y) for red, green, blue; luminances are (min, max) in cd/m².
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    white_point: tuple[Fraction, Fraction] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    max_content_light: int | None = None  # MaxCLL, cd/m²
    max_frame_average_light: int | None = None  # MaxFALL, cd/m²


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """An input's picture stream. Times are integers in ``time_base``, or Fractions of seconds."""

    path: str
    container: str  # FFmpeg's format name
    stream_index: int
    codec: str
    width: int  # pixels
    height: int
    layout: PlaneLayout
    color: ColorSpec
    pix_fmt: str  # FFmpeg's name of what the decoder delivers
    sample_aspect_ratio: Fraction
    rotation: int  # degrees clockwise that show the picture upright: 0, 90, 180, 270, …
    time_base: Fraction  # seconds
    pts: tuple[int, ...]  # of every displayable frame, in display order, strictly increasing
    key_pts: tuple[int, ...]  # where a decoder can start, a subset of pts
    key_dts: tuple[int, ...]  # decoding time of each of these
    decode_order: tuple[int, ...]  # per frame, its packet's number in the stream (0 the first)
    reorder: int  # the most frames that are shown before one but decoded after it
    end_pts: int  # the last frame's pts and its duration
    nominal_rate: Fraction  # frames a second on average, for showing
    #: Where every pts but for rounding is start + n / base_rate, n whole; frames may be missing.
    base_rate: Fraction | None
    variable: bool  # gaps differ by more than the time base's rounding
    seekable: bool  # False: order and times are known by decoding from the start alone
    first_packet: int  # number of the packet at which decoding starts
    strict: bool  # the decoder is asked to report all damage
    interlaced: bool
    hdr: HdrInfo | None = None
    display_matrix: tuple[int, ...] | None = None  # nine numbers, as in FFmpeg's side data
    uncarried: tuple[str, ...] = ()  # what the pictures carry that no output will have, in words
    corrupt_packets: tuple[int, ...] = ()  # numbers of those that the demuxer found incomplete
    declared_end: Fraction | None = None  # seconds; set where the file ends clearly before it
    warnings: tuple[str, ...] = ()

    @property
    def start(self) -> Fraction:
        """When the first frame is shown, in seconds of the container's clock."""
        return self.pts[0] * self.time_base

    def number_of(self, pts: int) -> int:
        """Which frame that pts is, or len(pts) where it is none."""
        place = bisect_left(self.pts, pts)
        return place if place < len(self.pts) and self.pts[place] == pts else len(self.pts)

    @property
    def timeline(self) -> SourceTimeline:
        """When each frame is shown, exactly."""
        return SourceTimeline(self.pts, self.time_base, self.end_pts, self.base_rate)

    @property
    def duration(self) -> Fraction:
        """From the first frame to the end of the last, in seconds."""
        return self.timeline.duration


@dataclass(frozen=True, slots=True)
class Broken:
    """Where the picture stops because the input is damaged."""

    time: Fraction  # seconds: when the first frame that is missing would be shown
    reason: str  # "invalid data in packet 1236"


def open_input(path: str | os.PathLike[str], **options: Any) -> InputContainer:
    """Open a regular file for demuxing. The caller closes it.

    Raises InputError where it is missing, no file, empty, or nothing that FFmpeg knows.
    """
    name = os.fspath(path)
    try:
        status = os.stat(name)
    except FileNotFoundError:
        raise InputError(f"{name}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read ({said(error)})") from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError(
            f"{name}: is a folder, not a video; `vfi frames` converts folders of images"
        )
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{name}: is no regular file; a pipe is read with - as the input")
    if status.st_size == 0:
        raise InputError(f"{name}: is empty")
    try:
        # The prefix keeps FFmpeg from reading a protocol into a name such as "cam:1.mp4".
        return av.open(
            "file:" + name, metadata_errors="replace", container_options=dict(_OPEN_OPTIONS)
        )
    except av.error.PermissionError:
        raise InputError(f"{name}: may not be read (permission denied)") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{name}: {_why_unreadable(name, error)}") from None


def _why_unreadable(name: str, error: Exception) -> str:
    with open(name, "rb") as file:
        head = file.read(64)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
        return "the file was cut off or never finished: its index (moov) is missing"
    if isinstance(error, av.error.InvalidDataError):
        return "is not a video, or is damaged at its beginning"
    return f"cannot be opened ({said(error)})"


def is_image(container: InputContainer) -> bool:
    """Whether the file is one still picture and no video."""
    name = container.format.name
    return name.endswith("_pipe") or name in ("image2", "ico", "webp", "fits")


def picture_stream(container: InputContainer, name: str) -> tuple[VideoStream, list[str]]:
    """The stream that is converted, and warnings about others that might have been meant.

    Cover art and thumbnails do not count. Of several the default one is taken, else the largest.
    Raises InputError where there is none that can be decoded.
    """
    if is_image(container):
        if container.format.name == "webp_pipe" and len(container.streams.video) == 1:
            with open(name, "rb") as file:
                animated = b"ANIM" in file.read(64)
            if animated:
                raise InputError(
                    f"{name}: animated WebP cannot be decoded; convert it to GIF or APNG first"
                )
        raise InputError(
            f"{name}: is a still image, not a video; `vfi frames` interpolates between images"
        )
    if container.format.name in ("concat", "hls", "dash", "imf"):
        raise InputError(f"{name}: is a list of other files; join them into one video first")
    if container.format.name == "tty":
        raise InputError(f"{name}: is a text file, not a video")
    streams = [s for s in container.streams.video if not s.disposition & _NOT_SHOWN]
    if not streams:
        if container.streams.audio:
            cover = " and a cover picture" if container.streams.video else ""
            raise InputError(f"{name}: holds sound{cover} but no video")
        raise InputError(f"{name}: holds no picture stream")
    known = [s for s in streams if s.codec_context is not None and s.codec_context.width]
    if not known:
        codec = streams[0].codec_context
        what = codec.name if codec is not None else "unknown codec"
        raise InputError(f"{name}: its picture stream cannot be decoded ({what})")

    def preference(stream: VideoStream) -> tuple[bool, int, int]:
        area = stream.codec_context.width * stream.codec_context.height
        return bool(stream.disposition & Disposition.default), area, -stream.index

    chosen = max(known, key=preference)
    warnings = []
    if len(streams) > 1:
        size = f"{chosen.codec_context.width}×{chosen.codec_context.height}"
        warnings.append(
            f"has {len(streams)} picture streams; stream {chosen.index} ({size}) is converted"
        )
    return chosen, warnings
