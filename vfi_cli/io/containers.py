"""What each container can hold, found out from FFmpeg where FFmpeg knows it.

FFmpeg's own answer (``avformat_query_codec``, reached through a trial stream in
memory) decides about codecs. A few facts it does not tell stand here as tables:
what a container holds besides coded streams, and which codec a stream that does
not fit is converted to.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import av
import av.error

from vfi_cli.errors import UsageError

#: File suffix → FFmpeg muxer. ``.m4v`` is plain MP4: the iTunes brand allows hardly a codec.
MUXERS: dict[str, str] = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".qt": "mov",
    ".mkv": "matroska",
    ".mk3d": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".m2t": "mpegts",
    ".m2ts": "mpegts",
    ".mts": "mpegts",
    ".nut": "nut",
}


@dataclass(frozen=True, slots=True)
class Container:
    """What a muxer can hold besides coded audio and video."""

    name: str  # the muxer
    said: str  # how people call it
    chapters: bool = False
    attachments: bool = False  # fonts and other files
    cover: bool = False  # a picture that belongs to the file, not to its time line
    stream_tags: bool = False  # title and other words about a stream
    languages: bool = True
    any_tags: bool = False  # tags of any name
    rotation: bool = False  # display matrix
    mastering: bool = False  # HDR mastering display and content light level
    offsets: bool = True  # streams may start at different times
    reordering_times: bool = True  # presentation times survive (AVI knows decode order alone)
    dispositions: int = 0  # FFmpeg's flags that survive, on sound and subtitles


CONTAINERS: dict[str, Container] = {
    "mp4": Container(
        "mp4", "MP4", chapters=True, cover=True, stream_tags=True, rotation=True, mastering=True
    ),
    "mov": Container(
        "mov", "QuickTime", chapters=True, stream_tags=True, any_tags=True, rotation=True,
        mastering=True,
    ),
    "matroska": Container(
        "matroska", "Matroska", chapters=True, attachments=True, cover=True, stream_tags=True,
        any_tags=True, rotation=True, mastering=True,
    ),
    "webm": Container(
        "webm", "WebM", chapters=True, stream_tags=True, any_tags=True, rotation=True,
        mastering=True,
    ),
    "avi": Container("avi", "AVI", languages=False, offsets=False, reordering_times=False),
    "mpegts": Container("mpegts", "MPEG-TS"),
    "nut": Container("nut", "NUT", chapters=True, stream_tags=True, any_tags=True),
}  # fmt: skip

#: Text subtitles can be turned into one another.
TEXT_SUBTITLES = frozenset({"subrip", "ass", "ssa", "webvtt", "mov_text", "text", "srt"})

#: What a text subtitle becomes where the container does not hold its codec.
SUBTITLE_TARGET: dict[str, str] = {
    "mp4": "mov_text",
    "mov": "mov_text",
    "matroska": "subrip",
    "webm": "webvtt",
}

#: MPEG-TS takes any codec as private data, but only these come out again.
MPEGTS_CODECS = frozenset(
    {
        "h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "av1", "dirac", "vc1",
        "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "mp1", "mp2", "mp3", "opus",
        "s302m", "dvb_subtitle", "dvb_teletext", "klv", "smpte_klv", "scte_35", "timed_id3",
    }
)  # fmt: skip

#: Codecs that lose nothing, beside everything called pcm_*.
LOSSLESS_AUDIO = frozenset({"flac", "alac", "wavpack", "tta", "mlp", "truehd", "ape", "shorten"})

#: Muxer → encoders for (lossless, lossy) audio whose own codec it does not hold. ``pcm`` stands
#: for the PCM codec of the source's sample width.
AUDIO_TARGET: dict[str, tuple[str, str]] = {
    "mp4": ("flac", "aac"),
    "mov": ("pcm", "aac"),
    "matroska": ("pcm", "aac"),
    "webm": ("libopus", "libopus"),
    "avi": ("pcm", "libmp3lame"),
    "mpegts": ("aac", "aac"),
    "nut": ("pcm", "aac"),
}


def muxer_for(suffix: str) -> str:
    """FFmpeg's muxer for a file suffix such as ``.mkv`` (case does not matter)."""
    try:
        return MUXERS[suffix.lower()]
    except KeyError:
        known = " ".join(MUXERS)
        raise UsageError(
            f"no container is known for {suffix or 'no suffix'}; use one of {known}"
        ) from None


def container_for(suffix: str) -> Container:
    """The container that a file suffix stands for."""
    return CONTAINERS[muxer_for(suffix)]


@cache
def holds_codec(muxer: str, codec: str) -> bool:
    """Whether ``muxer`` can hold streams of an FFmpeg codec name."""
    if muxer == "mpegts":
        return codec in MPEGTS_CODECS
    trial = av.open(io.BytesIO(), "w", format=muxer)
    try:
        trial.add_mux_stream(codec)
    except (ValueError, av.error.FFmpegError):
        return False
    finally:
        trial.close()
    return True
