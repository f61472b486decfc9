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
from typing import Literal

import av
import av.error
from av.stream import Disposition

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
    titles: bool = False  # a stream may have a title
    languages: Literal["any", "letters", "none"] = "any"  # letters: three, as in ISO 639-2
    tags: tuple[str, ...] | None = None  # the only names of tags of the file; None: any
    rotation: bool = False  # display matrix
    hdr: bool = False  # mastering display and content light, whatever the codec says
    timecode: bool = False  # SMPTE timecode of the first picture
    offsets: bool = True  # streams may start at different times, frames have presentation times
    dispositions: int = 0  # of sound and subtitles, those that survive

    def holds_language(self, language: str) -> bool:
        """Whether a language tag (``eng``, ``pt-BR``) comes out as it went in."""
        if self.languages == "letters":
            return len(language) == 3 and language.isascii() and language.isalpha()
        return self.languages == "any"


_D = Disposition
_MP4_ROLES = (
    _D.default | _D.dub | _D.comment | _D.forced | _D.captions | _D.descriptions
    | _D.hearing_impaired | _D.visual_impaired
)  # fmt: skip
_MATROSKA_ROLES = (
    _D.default | _D.dub | _D.original | _D.comment | _D.forced | _D.hearing_impaired
    | _D.visual_impaired
)  # fmt: skip

CONTAINERS: dict[str, Container] = {
    "mp4": Container(
        "mp4", "MP4", chapters=True, cover=True, titles=True, rotation=True, hdr=True,
        timecode=True, languages="letters", dispositions=_MP4_ROLES,
    ),
    "mov": Container(
        "mov", "QuickTime", chapters=True, cover=True, titles=True, rotation=True, hdr=True,
        timecode=True, languages="letters", dispositions=_D.default,
    ),
    "matroska": Container(
        "matroska", "Matroska", chapters=True, attachments=True, cover=True, titles=True,
        rotation=True, hdr=True, timecode=True, dispositions=_MATROSKA_ROLES,
    ),
    "webm": Container(
        "webm", "WebM", chapters=True, titles=True, rotation=True, hdr=True, timecode=True,
        dispositions=_D.default | _D.forced,
    ),
    "avi": Container("avi", "AVI", titles=True, languages="none", offsets=False),
    "mpegts": Container(
        "mpegts", "MPEG-TS", tags=("service_name", "service_provider"),
        languages="letters", dispositions=_D.hearing_impaired | _D.visual_impaired,
    ),
    "nut": Container(
        "nut", "NUT", chapters=True, titles=True,
        dispositions=_D.default | _D.dub | _D.original | _D.comment | _D.lyrics | _D.karaoke,
    ),
}  # fmt: skip

#: Text subtitles can be turned into one another.
TEXT_SUBTITLES = frozenset({"subrip", "ass", "ssa", "webvtt", "mov_text", "text", "srt"})

#: What a text subtitle becomes where the container does not hold its codec.
SUBTITLE_TARGET: dict[str, str] = {
    "mp4": "mov_text",
    "mov": "mov_text",
    "matroska": "subrip",
    "webm": "webvtt",
    "nut": "ass",
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
        folder = "" if suffix else "; if it is to be a folder, make that first"
        raise UsageError(
            f"no container is known for {suffix or 'a file without suffix'}; "
            f"use one of {known}{folder}"
        ) from None


def container_for(suffix: str) -> Container:
    """The container that a file suffix stands for."""
    return CONTAINERS[muxer_for(suffix)]


@cache
def holds_codec(muxer: str, codec: str) -> bool:
    """Whether ``muxer`` can hold streams of an FFmpeg codec name."""
    if muxer == "mpegts":
        return codec in MPEGTS_CODECS
    if muxer == "nut" and codec == "eac3":
        return False  # it comes out again as AC-3
    trial = av.open(io.BytesIO(), "w", format=muxer)
    try:
        trial.add_mux_stream(codec)
    except (ValueError, av.error.FFmpegError):
        return False
    finally:
        trial.close()
    return True
