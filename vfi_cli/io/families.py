"""The encoders that ``--codec`` names, and their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from av.codec import Codec

from vfi_cli.errors import UsageError
from vfi_cli.frame import PlaneLayout
from vfi_cli.io.source import HdrInfo


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """What a person asked for. ``codec`` is a family (see CODECS) or an FFmpeg encoder's name."""

    codec: str = "auto"
    crf: float | None = None
    preset: str | None = None
    pix_fmt: str = "auto"


@dataclass(frozen=True, slots=True)
class Family:
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
    # The number of threads shapes the result, so it must not follow the machine. Unless they are
    # told to take a frame each, they share the slices of one (PyAV's choice for all encoders),
    # which takes a quarter longer on two cores and makes the file 5 % larger.
    options = {
        "crf": f"{18 if crf is None else crf:g}",
        "preset": preset or "medium",
        "threads": "6",
        "thread_type": "frame",
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
        "crf": f"{26 if crf is None else crf:g}",
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
CODECS: dict[str, Family] = {
    "h264": Family("libx264", _x264, (0, 51), _X26X, even=True),
    "hevc": Family("libx265", _x265, (0, 51), _X26X, even=True, alpha=()),
    "av1": Family("libsvtav1", _svtav1, (1, 63), tuple(str(n) for n in range(14))),
    "vp9": Family(
        "libvpx-vp9", _vp9, (0, 63), tuple(str(n) for n in range(9)), alpha=("yuva420p",)
    ),
    "ffv1": Family("ffv1", _ffv1, lossless=True),
    "prores": Family("prores_ks", _plain),
    "dnxhd": Family("dnxhd", _plain),
    "rawvideo": Family("rawvideo", _plain, lossless=True),
}
BY_ENCODER = {family.encoder: name for name, family in CODECS.items()}
#: Encoders that close their GOPs only where cuts make no keyframes.
_FIXED_GOPS = {
    *("mpeg1video", "mpeg2video", "mpeg4", "h263", "h263p", "flv1"),
    *("wmv1", "wmv2", "msmpeg4v2", "msmpeg4v3", "rv10", "rv20"),
}


def settings_of(
    options: EncoderOptions, codec: Codec, family: Family | None, name: str
) -> dict[str, str]:
    """An encoder's options for FFmpeg. Raises UsageError for a crf or preset that it lacks."""
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


def profile_of(name: str, layout: PlaneLayout) -> dict[str, str]:
    """The profile of the editing codecs, which their layout decides."""
    full = (layout.log2_chroma_w, layout.log2_chroma_h) == (0, 0)
    if name in ("prores", "prores_ks"):
        return {"profile": "4444" if full or layout.alpha else "hq", "vendor": "apl0"}
    if name == "dnxhd":
        if full:
            return {"profile": "dnxhr_444"}
        return {"profile": "dnxhr_hqx" if layout.bits > 8 else "dnxhr_hq"}
    return {}


def without_reordering(settings: dict[str, str], encoder: str) -> None:
    """AVI knows no display order."""
    if encoder == "libx265":
        settings["x265-params"] += ":bframes=0"
    elif encoder == "libx264":
        settings["bf"] = "0"


def _units(value: Fraction, unit: int) -> int:
    return round(value * unit)


def add_hdr(
    settings: dict[str, str],
    notes: list[str],
    encoder: str,
    hdr: HdrInfo | None,
    *,
    stated: bool,
) -> None:
    """Mastering display and content light, where the encoder can write them.

    ``stated``: the container says them in any case, so that nothing is lost.
    """
    if hdr is None:
        return
    key = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}.get(
        encoder
    )
    if key is None:
        if not stated:
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
