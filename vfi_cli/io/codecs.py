"""Choose an encoder and its settings for a source, and say what the choice changes."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Self

import av
from av.codec import Codec

from vfi_cli.errors import OutputError, UsageError
from vfi_cli.frame import ColorSpec, PlaneLayout
from vfi_cli.io.containers import CONTAINERS, MUXERS, muxer_for
from vfi_cli.io.families import (
    BY_ENCODER,
    CODECS,
    EncoderOptions,
    add_hdr,
    profile_of,
    settings_of,
    without_reordering,
)
from vfi_cli.io.layouts import (
    choose_format,
    formats_of,
    needs_even,
    note_changes,
    note_pipe,
    output_color,
)
from vfi_cli.io.source import SourceInfo

__all__ = [
    "CODECS",
    "EncoderConfig",
    "EncoderOptions",
    "choose_encoder",
    "container_holds",
    "video_encoders",
]


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """An encoder with all of its settings; :meth:`as_dict` and :meth:`from_dict` are for JSON."""

    encoder: str  # FFmpeg's name
    codec: str  # of the stream that it makes
    pix_fmt: str
    layout: PlaneLayout
    color: ColorSpec  # what the output states
    container: str  # FFmpeg's name of the container that segments are kept in
    options: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # what changes, for people

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(
            **{
                **values,
                "layout": PlaneLayout(**values["layout"]),
                "color": ColorSpec(**values["color"]),
                "notes": tuple(values["notes"]),
            }
        )


#: What becomes of a source's codec where ``--codec auto`` is asked.
_KEEP = {
    **{name: name for name in CODECS if name != "rawvideo"},
    "vp8": "vp9",
    **dict.fromkeys(
        [
            "rawvideo",
            "huffyuv",
            "ffvhuff",
            "utvideo",
            "magicyuv",
            "v210",
            "v410",
            "r210",
            "lagarith",
            "hq_hqa",
        ],
        "ffv1",
    ),
}


#: What pipes carry, beside the suffixes that stand for containers.
_PIPES = {"-": "nut", ".y4m": "yuv4mpegpipe"}

#: MPEG-TS's muxer would take any codec; these are pictures that its readers know.
_IN_MPEGTS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"})

#: What a muxer's table names but its header refuses.
_REFUSED = {"mov": {"vp8", "vp9", "av1"}}

#: Codecs that can keep transparency, those that play in most programs first.
_WITH_ALPHA = ("vp9", "prores", "ffv1")

#: Full-length alternatives in the order of preference.
_FALLBACKS = ("h264", "hevc", "vp9", "av1", "ffv1", "mpeg2video", "mpeg4")


@lru_cache(maxsize=256)
def container_holds(muxer: str, encoder: str) -> bool:
    """Whether a muxer takes what an encoder makes, by the rules of the container."""
    if muxer == "yuv4mpegpipe":
        return encoder == "rawvideo"
    if encoder == "rawvideo":
        return muxer in ("nut", "matroska", "avi", "mov")
    codec = Codec(encoder, "w").canonical_name
    if muxer == "mpegts":
        return codec in _IN_MPEGTS
    if codec in _REFUSED.get(muxer, ()):
        return False
    with av.open(io.BytesIO(), "w", format=muxer) as out:
        try:
            out.add_stream(encoder, rate=25)
        except (ValueError, av.error.FFmpegError):
            return False
    return True


@lru_cache(maxsize=1)
def video_encoders() -> tuple[str, ...]:
    """Names of all video encoders of this build."""
    names = []
    for name in sorted(av.codecs_available):
        try:
            if Codec(name, "w").type == "video":
                names.append(name)
        except ValueError:
            continue
    return tuple(names)


def _encoder(name: str) -> Codec:
    try:
        codec = Codec(name, "w")
        if codec.type == "video":
            return codec
    except ValueError:
        pass
    related = [n for n in video_encoders() if n.split("_")[0] == name.split("_", maxsplit=1)[0]]
    offer = related or [n for n in video_encoders() if "_" in n or n.startswith("lib")]
    raise UsageError(
        f"there is no encoder {name!r} in this build of FFmpeg; it has "
        f"{', '.join([*CODECS, *offer])}"
    )


#: x265's CU tree writes beyond its buffers where the picture is 48 pixels wide or less.
_X265_NARROW = 64
#: FFV1 cannot divide pictures of a few pixels, a side, into all of its slices.
_FFV1_SMALL = 16


def choose_encoder(options: EncoderOptions, info: SourceInfo, suffix: str) -> EncoderConfig:
    """An encoder for a source and an output suffix (".mkv"; for pipes "-", which is NUT, and
    ".y4m").

    Raises UsageError for options that make no sense, OutputError where the source's picture
    cannot be held at all.
    """
    piped = suffix in _PIPES
    muxer = _PIPES[suffix] if piped else muxer_for(suffix)
    name = options.codec
    if name == "auto":
        name = "rawvideo" if piped else _auto_codec(info, muxer)
    family = CODECS.get(name) or CODECS.get(BY_ENCODER.get(name, ""))
    codec = _encoder(family.encoder if family else name)
    if not container_holds(muxer, codec.name):
        fitting = [n for n, f in CODECS.items() if container_holds(muxer, f.encoder)]
        others = [s for s, m in MUXERS.items() if container_holds(m, codec.name)]
        said = "YUV4MPEG2" if muxer == "yuv4mpegpipe" else suffix
        raise UsageError(
            f"{said} cannot hold {name}; it holds {', '.join(fitting)}"
            + (f", and {name} goes into {' '.join(others)}" if others else "")
        )
    form = choose_format(options.pix_fmt, codec, family, info, muxer)
    notes: list[str] = []
    color = output_color(info, form.layout)
    better = ""
    if info.layout.alpha and not form.layout.alpha and options.pix_fmt == "auto":
        better = next((n for n in _WITH_ALPHA if _keeps_alpha(n, info, muxer)), "")
    even = needs_even(codec, family)
    note_changes(notes, info, form, name=name, color=color, even=even, better=better)
    if piped:
        note_pipe(notes, info, form, muxer)
    settings = settings_of(options, codec, family, name)
    settings |= profile_of(name, form.layout)
    stated = muxer in CONTAINERS and CONTAINERS[muxer].hdr
    add_hdr(settings, notes, codec.name, info.hdr, stated=stated)
    if codec.name == "ffv1" and min(info.width, info.height) < _FFV1_SMALL:
        settings["slices"] = "1"
    if codec.name == "libx265" and info.width < _X265_NARROW:
        settings["x265-params"] = f"{settings.get('x265-params', '')}:cutree=0".lstrip(":")
    if muxer == "avi":
        without_reordering(settings, codec.name)
    return EncoderConfig(
        encoder=codec.name,
        codec=codec.canonical_name,
        pix_fmt=form.name,
        layout=form.layout,
        color=color,
        container=_segment_container(muxer, codec.name, form.layout),
        options=settings,
        notes=tuple(notes),
    )


def _segment_container(muxer: str, encoder: str, layout: PlaneLayout) -> str:
    """NUT, whose time base is exact for any rate; what it cannot hold goes to MOV."""
    if muxer == "yuv4mpegpipe":
        return muxer
    if encoder == "libvpx-vp9" and layout.alpha:
        return "matroska"  # which alone keeps VP9's alpha, beside each packet
    for choice in ("nut", "mov", "matroska"):
        if container_holds(choice, encoder):
            return choice
    return muxer


def _keeps_alpha(name: str, info: SourceInfo, muxer: str) -> bool:
    """Whether a codec keeps the source's transparency in a container."""
    family = CODECS[name]
    if not info.layout.alpha or family.encoder not in av.codecs_available:
        return False
    if not container_holds(muxer, family.encoder):
        return False
    return choose_format("auto", _encoder(family.encoder), family, info, muxer).layout.alpha


def _auto_codec(info: SourceInfo, muxer: str) -> str:
    deep = info.layout.bits > 8 or info.hdr is not None
    second = "hevc" if deep else "h264"
    order = [_KEEP.get(info.codec, second), second, *_FALLBACKS]
    fitting = []
    for name in dict.fromkeys(order):
        family = CODECS.get(name)
        encoder = family.encoder if family else name
        if encoder in av.codecs_available and container_holds(muxer, encoder):
            fitting.append(name)
    if not fitting:
        raise OutputError(f"no encoder of this build fits into {muxer}")
    if fitting[0] == _KEEP.get(info.codec) and _keeps_alpha(fitting[0], info, muxer):
        return fitting[0]  # ProRes 4444 is decoded to 12 bits and encoded from 10
    for name in fitting:
        family = CODECS.get(name)
        codec = Codec(family.encoder if family else name, "w")
        if any(f.layout.bits >= info.layout.bits for f in formats_of(codec)):
            return name
    return fitting[0]
