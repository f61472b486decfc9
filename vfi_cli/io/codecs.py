"""Choose an encoder and its settings for a source, and say what the choice changes."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any, Self

import av
from av.codec import Codec

from vfi_cli.errors import OutputError, UsageError
from vfi_cli.frame import ColorSpec, PlaneLayout
from vfi_cli.io.formats import PixelFormat, pixel_format
from vfi_cli.io.source import HdrInfo, SourceInfo


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """What a person asked for. ``codec`` is a family (see CODECS) or an FFmpeg encoder's name."""

    codec: str = "auto"
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str = "auto"


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


@dataclass(frozen=True, slots=True)
class _Family:
    """How one of the known encoders is set."""

    encoder: str
    options: Callable[[float | None, str | None], dict[str, str]]
    crf: tuple[float, float] | None = None  # the range, None where there is no such thing
    presets: tuple[str, ...] = ()
    lossless: bool = False  # grey and RGB are kept as they are
    even: bool = False  # subsampled sizes must divide
    alpha: tuple[str, ...] | None = None  # formats with alpha that it takes in truth


_X26X: tuple[str, ...] = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)


def _x264(crf: float | None, preset: str | None) -> dict[str, str]:
    # The number of threads shapes the result, so it must not follow the machine.
    options = {
        "crf": f"{18 if crf is None else crf:g}",
        "preset": preset or "medium",
        "threads": "8",
    }
    if "AVX512F" in _cpu_features():
        # x264's macroblock tree in AVX-512 reads beyond its rows where the width in macroblocks
        # is no multiple of 8: two runs then differ. With AVX2 they do not.
        options["x264-params"] = "asm=avx2"
    return options


@lru_cache(maxsize=1)
def _cpu_features() -> frozenset[str]:
    """What NumPy found the processor to know; empty where it does not say."""
    try:
        from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
            __cpu_features__ as found,
        )
    except ImportError:
        return frozenset()
    return frozenset(name for name, there in found.items() if there)


def _x265(crf: float | None, preset: str | None) -> dict[str, str]:
    # info=0: the text that x265 writes into the stream names the machine's features.
    return {
        "crf": f"{20 if crf is None else crf:g}",
        "preset": preset or "medium",
        "x265-params": "log-level=none:open-gop=0:frame-threads=3:info=0",
    }


def _svtav1(crf: float | None, preset: str | None) -> dict[str, str]:
    return {"crf": f"{26 if crf is None else crf:g}", "preset": preset or "6"}


def _vp9(crf: float | None, preset: str | None) -> dict[str, str]:
    return {
        "crf": f"{24 if crf is None else crf:g}",
        "b": "0",
        "deadline": "good",
        "cpu-used": preset or "3",
        "row-mt": "1",
        "tile-columns": "2",
        "threads": "auto",
        "auto-alt-ref": "1",
        "lag-in-frames": "25",
    }


def _ffv1(crf: float | None, preset: str | None) -> dict[str, str]:
    return {"level": "3", "g": "1", "coder": "1", "context": "1", "slices": "16", "slicecrc": "1"}


def _plain(crf: float | None, preset: str | None) -> dict[str, str]:
    return {}


#: The families that ``--codec`` names.
CODECS: dict[str, _Family] = {
    "h264": _Family("libx264", _x264, (0, 51), _X26X, even=True),
    "hevc": _Family("libx265", _x265, (0, 51), _X26X, even=True, alpha=()),
    "av1": _Family("libsvtav1", _svtav1, (1, 63), tuple(str(n) for n in range(14))),
    "vp9": _Family(
        "libvpx-vp9", _vp9, (0, 63), tuple(str(n) for n in range(9)), alpha=("yuva420p",)
    ),
    "ffv1": _Family("ffv1", _ffv1, lossless=True),
    "prores": _Family("prores_ks", _plain, lossless=False),
    "dnxhd": _Family("dnxhd", _plain),
    "rawvideo": _Family("rawvideo", _plain, lossless=True),
}
_BY_ENCODER = {family.encoder: name for name, family in CODECS.items()}
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
_MUXERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".qt": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".m2ts": "mpegts",
    ".mts": "mpegts",
    ".flv": "flv",
    ".mxf": "mxf",
    ".nut": "nut",
    ".y4m": "yuv4mpegpipe",
    ".3gp": "3gp",
    ".mpg": "mpeg",
    ".mpeg": "mpeg",
    ".asf": "asf",
    ".wmv": "asf",
    ".ogv": "ogg",
}
#: Muxers that would take any codec, and what their formats define in truth.
_DEFINED = {
    "mpegts": {"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4"},
    "mpeg": {"mpeg1video", "mpeg2video"},
    "ogg": {"theora", "vp8"},
    "flv": {"h264", "flv1"},
}
#: What a muxer's table names but its header refuses.
_REFUSED = {"mov": {"vp8", "vp9", "av1"}}
#: Encoders that close their GOPs only where cuts make no keyframes.
_FIXED_GOPS = {
    *("mpeg1video", "mpeg2video", "mpeg4", "h263", "h263p", "flv1"),
    *("wmv1", "wmv2", "msmpeg4v2", "msmpeg4v3", "rv10", "rv20"),
}
#: Full-length alternatives in the order of preference.
_FALLBACKS = ("h264", "hevc", "vp9", "av1", "ffv1", "mpeg2video", "mpeg4")
_Y4M_CHROMA = {(1, 1), (1, 0), (0, 0), (2, 0)}


def muxer_of(suffix: str) -> str:
    """FFmpeg's muxer for a file suffix (".mp4"); "-" is a pipe of NUT.

    Raises UsageError where no video can be written under it.
    """
    if suffix == "-":
        return "nut"
    try:
        return _MUXERS[suffix.lower()]
    except KeyError:
        known = " ".join(sorted(_MUXERS))
        raise UsageError(f"cannot write {suffix or 'a file without suffix'}; use {known}") from None


@lru_cache(maxsize=256)
def container_holds(muxer: str, encoder: str) -> bool:
    """Whether a muxer takes what an encoder makes, by the rules of the container."""
    if muxer == "yuv4mpegpipe":
        return encoder == "rawvideo"
    if encoder == "rawvideo":
        return muxer in ("nut", "matroska", "avi", "mov")
    codec = Codec(encoder, "w").canonical_name
    if muxer in _DEFINED:
        return codec in _DEFINED[muxer]
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


def choose_encoder(options: EncoderOptions, info: SourceInfo, suffix: str) -> EncoderConfig:
    """An encoder for a source and an output suffix (".mkv", or "-" for a pipe).

    Raises UsageError for options that make no sense, OutputError where the source's picture
    cannot be held at all.
    """
    muxer = muxer_of(suffix)
    name = _auto_codec(info, muxer) if options.codec == "auto" and suffix != "-" else options.codec
    if name == "auto":
        name = "rawvideo"
    family = CODECS.get(name) or CODECS.get(_BY_ENCODER.get(name, ""))
    codec = _encoder(family.encoder if family else name)
    if not container_holds(muxer, codec.name):
        fitting = [n for n, f in CODECS.items() if container_holds(muxer, f.encoder)]
        others = [s for s, m in _MUXERS.items() if container_holds(m, codec.name)]
        raise UsageError(
            f"{suffix} cannot hold {name}; it holds {', '.join(fitting)}"
            + (f", and {name} goes into {' '.join(others)}" if others else "")
        )
    form = _choose_format(options.pix_fmt, codec, family, info, muxer)
    notes: list[str] = []
    color = _output_color(info, form.layout)
    _note_changes(notes, info, form, name=name, color=color, even=_needs_even(codec, family))
    if suffix == "-":
        _note_pipe(notes, info, form)
    settings = _settings(options, codec, family, name)
    settings |= _profile(name, form.layout)
    _add_hdr(settings, notes, codec.name, info.hdr)
    if muxer == "avi":
        _without_reordering(settings, codec.name)
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


def _auto_codec(info: SourceInfo, muxer: str) -> str:
    if muxer == "yuv4mpegpipe":
        return "rawvideo"
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
    for name in fitting:
        family = CODECS.get(name)
        codec = Codec(family.encoder if family else name, "w")
        if any(f.layout.bits >= info.layout.bits for f in _formats(codec)):
            return name
    return fitting[0]


def _formats(codec: Codec) -> list[PixelFormat]:
    listed = [fmt.name for fmt in codec.video_formats or ()]
    if codec.name == "rawvideo":
        listed = _raw_formats()
    found = [pixel_format(name) for name in listed]
    return [f for f in found if f is not None and not f.full_range and f.element[0] != ">"]


@lru_cache(maxsize=1)
def _raw_formats() -> list[str]:
    names = [
        f"yuv{alpha}{chroma}p{depth}"
        for alpha in ("", "a")
        for chroma in ("420", "422", "444")
        for depth in ("", "9le", "10le", "12le", "16le")
    ]
    names += [f"yuv{chroma}p{depth}" for chroma in ("420", "422", "444") for depth in ("14le",)]
    names += ["yuv410p", "yuv411p", "yuv440p", "yuv440p10le", "yuv440p12le"]
    names += [
        f"gbr{alpha}p{d}" for alpha in ("", "a") for d in ("", "10le", "12le", "14le", "16le")
    ]
    names += ["gbrp9le", "gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le"]
    names += ["ya8", "ya16le"]
    return [name for name in names if pixel_format(name) is not None and _exists(name)]


def _exists(name: str) -> bool:
    try:
        av.VideoFormat(name)
    except ValueError:
        return False
    return True


def _fits_size(form: PixelFormat, info: SourceInfo, even: bool) -> bool:
    if not even:
        return True
    layout = form.layout
    return (
        info.width % (1 << layout.log2_chroma_w) == 0
        and info.height % (1 << layout.log2_chroma_h) == 0
    )


def _needs_even(codec: Codec, family: _Family | None) -> bool:
    return family.even if family else codec.canonical_name in ("h264", "hevc")


def _choose_format(
    asked: str, codec: Codec, family: _Family | None, info: SourceInfo, muxer: str
) -> PixelFormat:
    formats = _formats(codec)
    if not formats:
        raise UsageError(f"{codec.name} takes no pixel format that can be written here")
    even = _needs_even(codec, family)
    if muxer == "yuv4mpegpipe":
        formats = [f for f in formats if _fits_y4m(f.layout)]
    if asked != "auto":
        for form in formats:
            if form.name == asked:
                if not _fits_size(form, info, even):
                    raise UsageError(
                        f"{codec.canonical_name} cannot hold {info.width}×{info.height} as "
                        f"{asked}: the size is odd; leave --pix-fmt out, or crop the source"
                    )
                return form
        names = " ".join(f.name for f in formats)
        raise UsageError(f"{codec.name} does not take pixel format {asked!r}; it takes {names}")
    usable = [form for form in formats if _fits_size(form, info, even)]
    if family is not None and family.alpha is not None:
        usable = [f for f in usable if not f.layout.alpha or f.name in family.alpha]
    keep_kind = (family is not None and family.lossless) or info.codec == codec.canonical_name
    source = info.layout
    if not keep_kind and any(form.layout.kind == "yuv" for form in usable):
        # Few players show monochrome or RGB streams of these codecs.
        usable = [form for form in usable if form.layout.kind == "yuv"]
    if not usable:
        raise OutputError(f"{codec.name} cannot hold a picture of {info.width}×{info.height}")
    return min(usable, key=lambda form: _loss(source, form.layout))


def _fits_y4m(layout: PlaneLayout) -> bool:
    if layout.kind == "gray":
        return not layout.alpha and layout.bits in (8, 9, 10, 12, 16)
    chroma = (layout.log2_chroma_w, layout.log2_chroma_h)
    if layout.kind != "yuv" or layout.alpha or chroma not in _Y4M_CHROMA:
        return False
    return layout.bits == 8 or (chroma != (2, 0) and layout.bits in (9, 10, 12, 14, 16))


def _loss(source: PlaneLayout, target: PlaneLayout) -> tuple[float, ...]:
    """What is lost, most important first; then what is spent without need."""
    kinds = {"gray": 0, "yuv": 1, "rgb": 2}
    color = source.kind != "gray" and target.kind == "gray"
    alpha = source.alpha and not target.alpha
    depth = max(0, source.bits - target.bits)
    if source.kind == "gray":
        chroma = 0
    else:
        chroma = max(0, target.log2_chroma_w - source.log2_chroma_w)
        chroma += max(0, target.log2_chroma_h - source.log2_chroma_h)
    kind = 0 if source.kind in ("gray", target.kind) else 1
    waste = 4 * (target.bits - source.bits) + 3 * abs(kinds[source.kind] - kinds[target.kind])
    if source.kind == "gray":
        waste += 6 - target.log2_chroma_w - target.log2_chroma_h if target.kind != "gray" else 0
        waste += 2 * (target.log2_chroma_w + target.log2_chroma_h > 2)
    else:
        waste += source.log2_chroma_w - target.log2_chroma_w
        waste += source.log2_chroma_h - target.log2_chroma_h
    waste += 5 * (target.alpha and not source.alpha)
    return (color, depth, alpha, chroma, kind, waste)


def _output_color(info: SourceInfo, layout: PlaneLayout) -> ColorSpec:
    """What the output states of its colour: the source's, but for a change between RGB and YUV."""
    color = info.color
    if (info.layout.kind == "rgb") == (layout.kind == "rgb"):
        return color
    if layout.kind == "rgb":
        return replace(color, matrix=0, full_range=True)
    guess = 9 if color.primaries == 9 else 6 if info.height < 720 else 1
    return replace(color, matrix=guess, full_range=False)


def _note_pipe(notes: list[str], info: SourceInfo, form: PixelFormat) -> None:
    """What a reader of raw pictures in NUT has to be told otherwise."""
    lost = []
    if info.color.matrix not in (0, 2) and form.layout.kind == "yuv":
        lost.append("the colour matrix")
    if info.color.full_range and form.layout.kind == "yuv":
        lost.append("the full range")
    if info.sample_aspect_ratio != 1:
        lost.append(f"the sample aspect ratio {info.sample_aspect_ratio}")
    if lost:
        notes.append(f"a pipe of NUT does not carry {', '.join(lost)}: tell the program that reads")


def _note_changes(
    notes: list[str],
    info: SourceInfo,
    form: PixelFormat,
    *,
    name: str,
    color: ColorSpec,
    even: bool,
) -> None:
    source, target = info.layout, form.layout
    if source.alpha and not target.alpha:
        notes.append(f"transparency is dropped: {name} in {form.name} has none")
    if target.bits < source.bits:
        notes.append(f"{source.bits}-bit becomes {target.bits}-bit: {name} holds no more")
    elif target.bits > source.bits:
        notes.append(f"{source.bits}-bit is kept as {target.bits}-bit {form.name}")
    if source.kind == "rgb" and target.kind == "yuv":
        matrix = {1: "BT.709", 6: "BT.601", 9: "BT.2020"}.get(color.matrix, "YCbCr")
        where = "; --pix-fmt yuv420p plays everywhere" if form.name == "yuv444p" else ""
        notes.append(f"RGB becomes {form.name} ({matrix}){where}")
    elif source.kind == "yuv" and target.kind == "yuv":
        before = (source.log2_chroma_w, source.log2_chroma_h)
        after = (target.log2_chroma_w, target.log2_chroma_h)
        if before != after:
            less = sum(after) > sum(before)
            odd = even and not less and (info.width % 2 or info.height % 2)
            why = (
                f"{name} has no {info.width}×{info.height} in {info.pix_fmt}, and the size is kept"
                if odd
                else f"{name} does not hold {info.pix_fmt}"
            )
            notes.append(f"chroma is {'reduced to' if less else 'kept as'} {form.name}: {why}")
    elif source.kind == "gray" and target.kind != "gray":
        notes.append(f"grey is stored as {form.name} without colour")


def _settings(
    options: EncoderOptions, codec: Codec, family: _Family | None, name: str
) -> dict[str, str]:
    if family is None:
        return _generic_settings(options, codec)
    if options.crf is not None:
        if family.crf is None:
            raise UsageError(f"{name} has no --crf: its quality is fixed; leave --crf out")
        low, high = family.crf
        if not low <= options.crf <= high:
            raise UsageError(f"--crf {options.crf:g} is outside of {low:g} to {high:g} for {name}")
    if options.preset is not None:
        if not family.presets:
            raise UsageError(f"{name} has no --preset; leave --preset out")
        if options.preset not in family.presets:
            raise UsageError(
                f"{name} has no preset {options.preset!r}; it has {' '.join(family.presets)}"
            )
    return family.options(options.crf, options.preset)


def _generic_settings(options: EncoderOptions, codec: Codec) -> dict[str, str]:
    """Settings of an encoder that was asked for by its FFmpeg name."""
    private = {option.name: option for option in codec.create().supported_options.private}
    settings: dict[str, str] = {}
    if options.preset is not None:
        if "preset" not in private:
            raise UsageError(f"{codec.name} has no --preset; leave --preset out")
        choices = [choice.name for choice in private["preset"].choices]
        if choices and options.preset not in choices:
            raise UsageError(
                f"{codec.name} has no preset {options.preset!r}; it has {' '.join(choices)}"
            )
        settings["preset"] = options.preset
    if codec.canonical_name in _FIXED_GOPS:
        settings["sc_threshold"] = "1000000000"
    if codec.canonical_name == "mjpeg":
        settings["strict"] = "unofficial"  # limited range is no JPEG, but common
    hardware = codec.name.rsplit("_", 1)[-1]
    crf = options.crf
    if hardware == "nvenc":
        settings |= {"rc": "vbr", "cq": f"{19 if crf is None else crf:g}", "b": "0"}
        settings |= {"forced-idr": "1"}
    elif hardware == "qsv":
        settings["global_quality"] = f"{20 if crf is None else crf:.0f}"
    elif hardware == "amf":
        quality = f"{20 if crf is None else crf:.0f}"
        settings |= {"rc": "cqp", "qp_i": quality, "qp_p": quality, "qp_b": quality}
        settings = {key: value for key, value in settings.items() if key in private}
    elif hardware in ("vaapi", "vulkan"):
        settings["qp"] = f"{20 if crf is None else crf:.0f}"
    elif "crf" in private:
        if crf is not None:
            settings["crf"] = f"{crf:g}"
    elif crf is not None:
        raise UsageError(f"{codec.name} has no --crf; leave --crf out")
    elif not codec.lossless:
        # Encoders with neither a rate factor nor a quality of their own: a fixed fine quantiser.
        settings |= {"flags": "+qscale", "global_quality": str(3 * 118)}
    return settings


def _profile(name: str, layout: PlaneLayout) -> dict[str, str]:
    full = (layout.log2_chroma_w, layout.log2_chroma_h) == (0, 0)
    if name in ("prores", "prores_ks"):
        return {"profile": "4444" if full or layout.alpha else "hq", "vendor": "apl0"}
    if name == "dnxhd":
        if full:
            return {"profile": "dnxhr_444"}
        return {"profile": "dnxhr_hqx" if layout.bits > 8 else "dnxhr_hq"}
    return {}


def _without_reordering(settings: dict[str, str], encoder: str) -> None:
    """AVI knows no display order."""
    if encoder == "libx265":
        settings["x265-params"] += ":bframes=0"
    elif encoder == "libx264":
        settings["bf"] = "0"


def _units(value: Fraction, unit: int) -> int:
    return round(value * unit)


def _add_hdr(settings: dict[str, str], notes: list[str], encoder: str, hdr: HdrInfo | None) -> None:
    """Mastering display and content light, where the encoder can write them."""
    if hdr is None:
        return
    key = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}.get(
        encoder
    )
    if key is None:
        notes.append(f"HDR metadata (mastering display, content light) is lost: {encoder}")
        return
    parts = []
    if hdr.primaries and hdr.white_point and hdr.luminance:
        points = {"R": hdr.primaries[0], "G": hdr.primaries[1], "B": hdr.primaries[2]}
        points["WP"] = hdr.white_point
        low, high = hdr.luminance
        if encoder == "libsvtav1":
            text = "".join(f"{c}({float(x):.5f},{float(y):.5f})" for c, (x, y) in points.items())
            parts.append(f"mastering-display={text}L({float(high):.4f},{float(low):.4f})")
        else:
            order = ("G", "B", "R", "WP")
            text = "".join(
                f"{c}({_units(points[c][0], 50000)},{_units(points[c][1], 50000)})" for c in order
            )
            text += f"L({_units(high, 10000)},{_units(low, 10000)})"
            parts.append(
                f"{'master-display' if encoder == 'libx265' else 'mastering-display'}={text}"
            )
    if hdr.max_content_light is not None:
        light = f"{hdr.max_content_light},{hdr.max_frame_average_light or 0}"
        names = {"libx265": "max-cll", "libx264": "cll", "libsvtav1": "content-light"}
        parts.append(f"{names[encoder]}={light}")
    if parts:
        settings[key] = ":".join([*([settings[key]] if key in settings else []), *parts])
