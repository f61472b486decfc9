"""Option types shared by the commands, each declared once.

A command's signature uses them as annotations (``model: Model = "default"``).
Values arrive checked for form: times are exact fractions of a second, sizes
are (width, height). Whether a model, a device or an encoder exists is found
out by whoever opens it. Typer hands a parser its default too, parsed already.
"""

from __future__ import annotations

import os
import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from vfi_cli import timeline
from vfi_cli.errors import ModelError, UsageError

_INTERPOLATION = "Interpolation"
_ENCODING = "Encoding"
_RANGE = "Part of the input"
_RUN = "Run"

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_SIZE = re.compile(r"(\d+)[xX×](\d+)", re.ASCII)
_SHUTTER = re.compile(r"([-+]?(?:\d+(?:\.\d+)?|\.\d+)):([-+]?(?:\d+(?:\.\d+)?|\.\d+))", re.ASCII)
_DEVICE = re.compile(r"auto|cpu|cuda(?::\d+)?", re.ASCII)

MAX_PIXELS_A_SIDE = 32768

#: What --tta averages over; those of :data:`vfi_cli.models.base.ENSEMBLES`, which imports torch.
VIEWS = ("flip", "rotate", "reverse", "multiscale")
PLAIN_TTA = "flip"  # what --tta alone means


def parse_rate(text: str | Fraction) -> Fraction:
    """A frame rate, as :func:`vfi_cli.timeline.parse_rate` reads it."""
    return text if isinstance(text, Fraction) else timeline.parse_rate(text)


def parse_factor(text: str | Fraction) -> Fraction:
    """A factor, as :func:`vfi_cli.timeline.parse_factor` reads it."""
    return text if isinstance(text, Fraction) else timeline.parse_factor(text)


def parse_time(text: str | Fraction) -> Fraction:
    """Seconds (``93.5``) or ``[HH:]MM:SS[.mmm]`` as an exact fraction of a second ≥ 0.

    Raises UsageError for anything else.
    """
    if isinstance(text, Fraction):
        return text
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"'{text}' is not a time: write seconds (93.5) or HH:MM:SS.mmm (0:01:33.5)"
        )
    hours, minutes, seconds = match.groups()
    rest = Fraction(seconds if not seconds.endswith(".") else seconds[:-1])
    if minutes is not None and (rest >= 60 or (hours is not None and int(minutes) >= 60)):
        raise UsageError(f"'{text}' is not a time: minutes and seconds go from 0 to 59")
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + rest


def parse_size(text: str | tuple[int, int]) -> tuple[int, int]:
    """``1280x720`` as (width, height) in pixels, both at least 1. Raises UsageError."""
    if isinstance(text, tuple):
        return text
    match = _SIZE.fullmatch(text.strip())
    width, height = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= width <= MAX_PIXELS_A_SIDE and 1 <= height <= MAX_PIXELS_A_SIDE):
        raise UsageError(f"'{text}' is not a size: write WIDTHxHEIGHT in pixels, such as 1280x720")
    return width, height


def parse_device(text: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Raises UsageError for anything else."""
    if _DEVICE.fullmatch(text.strip().lower()) is None:
        raise UsageError(f"'{text}' is not a device: choose auto, cpu, cuda or cuda:0, cuda:1, …")
    return text.strip().lower()


def parse_shutter(text: str | tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    """``0:0.7`` or ``0.2:-0.4`` as two exact fractions. Raises UsageError."""
    if isinstance(text, tuple):
        return text
    match = _SHUTTER.fullmatch(text.strip())
    top, bottom = (Fraction(match[n]) if match else Fraction(2) for n in (1, 2))
    if max(abs(top), abs(bottom)) > 1:
        raise UsageError(
            f"--rolling-shutter: '{text}' is not TOP:BOTTOM; write two numbers from -1 to 1, "
            "such as 0:0.7"
        )
    return top, bottom


def parse_views(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """``flip,rotate`` as names out of :data:`VIEWS`, in its order. Raises UsageError."""
    names = [name.strip() for name in text.split(",")] if isinstance(text, str) else text
    for name in names:
        if name not in VIEWS:
            raise UsageError(f"--tta: '{name}' is not a view; choose among {', '.join(VIEWS)}")
    return tuple(view for view in VIEWS if view in names)


def parse_tile(text: str | int) -> int | Literal["auto", "off"]:
    """``auto``, ``off`` or a number of pixels. Raises UsageError for anything else."""
    if text in ("auto", "off"):
        return text  # type: ignore[return-value]
    if not str(text).isdecimal() or int(text) < 1:
        raise UsageError(f"--tile: '{text}' is not a size; write auto, off or pixels such as 512")
    return int(text)


class Command(TyperCommand):
    """A command whose --tta may stand alone; Typer's options have a value always or never."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any("--tta" in parameter.opts for parameter in self.params):
            args = with_tta_value(args)
        return super().parse_args(ctx, args)


def with_tta_value(args: list[str]) -> list[str]:
    """The arguments with ``--tta=flip`` where --tta stands without names of views behind it.

    What follows is the next argument where it is an option, or reads as a file; else it is taken
    for a list of names, so that a wrong one is told.
    """
    spelt: list[str] = []
    for number, argument in enumerate(args):
        if argument == "--":
            return spelt + args[number:]
        following = args[number + 1] if number + 1 < len(args) else ""
        known = {*following.replace(" ", "").split(",")} & {*VIEWS}
        is_next = not following or following[0] == "-" or "." in following
        alone = argument == "--tta" and not known and (is_next or os.path.exists(following))
        spelt.append(f"--tta={PLAIN_TTA}" if alone else argument)
    return spelt


def scale_value(scale: Scale) -> float | None:
    """The number behind ``--scale``; None for auto."""
    return None if scale == "auto" else float(scale)


def _codecs() -> list[str]:
    return ["auto", "h264", "hevc", "av1", "vp9", "ffv1", "prores", "h264_nvenc", "hevc_nvenc"]


def _models(incomplete: str) -> list[str]:
    """Names for --model: what is on this machine, then what others published."""
    from vfi_cli.models import weights

    try:
        names = ["default", *weights.available(), *weights.read_manifest().entries]
    except ModelError:
        names = ["default", *weights.WITHOUT_WEIGHTS]  # a shell is no place to be told
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def _devices() -> list[str]:
    return ["auto", "cpu", "cuda", "cuda:0"]


# Interpolation

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A model's name, or a file with published weights.",
        autocompletion=_models,
        rich_help_panel=_INTERPOLATION,
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What the file of --model holds, where its keys do not tell (rife-2r).",
        show_default=False,
        rich_help_panel=_INTERPOLATION,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        parser=parse_device,
        metavar="DEVICE",
        help="Where the model runs: auto, cpu, cuda or cuda:N.",
        autocompletion=_devices,
        rich_help_panel=_INTERPOLATION,
    ),
]
DtypeName = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Dtype = Annotated[
    DtypeName,
    typer.Option(
        metavar="TYPE",
        help="Precision of the network: auto, float32, bfloat16, float16 or int8.",
        rich_help_panel=_INTERPOLATION,
    ),
]
Scale = Literal["auto", "0.25", "0.5", "1", "2"]
ScaleOption = Annotated[
    Scale,
    typer.Option(
        metavar="X",
        help="Resolution at which motion is estimated: auto, 0.25 or 0.5 (4K, fast motion, less "
        "time), 1, or 2 (small pictures).",
        rich_help_panel=_INTERPOLATION,
    ),
]
Tta = Annotated[
    Any,
    typer.Option(
        "--tta",
        parser=parse_views,
        metavar="[NAMES]",
        help="Also interpolate other views of the picture and average: better, at twice the time "
        f"for each. Any of {', '.join(VIEWS)}; alone, {PLAIN_TTA}.",
        show_default=False,
        rich_help_panel=_INTERPOLATION,
    ),
]
Ensemble = Annotated[
    bool,
    typer.Option(
        "--ensemble",
        metavar="",
        help="Also interpolate backwards in time and average, where the model knows how.",
        rich_help_panel=_INTERPOLATION,
    ),
]
Tile = Annotated[
    Any,
    typer.Option(
        "--tile",
        parser=parse_tile,
        metavar="auto|off|N",
        help="Make frames in overlapping parts of at most N×N pixels, in less memory: auto where "
        "whole ones would not fit.",
        rich_help_panel=_INTERPOLATION,
    ),
]
Cuts = Annotated[
    bool,
    typer.Option(
        "--cuts/--no-cuts",
        metavar="",
        help="Find scene cuts and show the nearer frame there instead of a morph.",
        rich_help_panel=_INTERPOLATION,
    ),
]
CutsThreshold = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        min=0.0,
        help="How different two frames must be to be a cut: lower finds more.",
        show_default="the tested one",
        rich_help_panel=_INTERPOLATION,
    ),
]
Dedupe = Annotated[
    bool,
    typer.Option(
        "--dedupe",
        metavar="",
        help="Replace repeated frames (anime on twos, 3:2 telecine) by interpolated ones.",
        rich_help_panel=_INTERPOLATION,
    ),
]
RollingShutter = Annotated[
    Any,
    typer.Option(
        "--rolling-shutter",
        parser=parse_shutter,
        metavar="TOP:BOTTOM",
        help="Bring all rows to one time: when the sensor's top and bottom row are exposed, in "
        "frame intervals after the frame's time (0:0.7). Frames at source times are then new too.",
        show_default=False,
        rich_help_panel=_INTERPOLATION,
    ),
]

# Encoding

Codec = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="h264, hevc, av1, vp9, ffv1, prores, or the name of an FFmpeg encoder such as "
        "h264_nvenc. vfi doctor lists what is there.",
        autocompletion=_codecs,
        rich_help_panel=_ENCODING,
    ),
]
Crf = Annotated[
    float | None,
    typer.Option(
        metavar="Q",
        min=0.0,
        max=63.0,
        help="Quality: lower is better and larger.",
        show_default="the codec's",
        rich_help_panel=_ENCODING,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The encoder's speed, in its own words (slow, medium, 8).",
        show_default="the codec's",
        rich_help_panel=_ENCODING,
    ),
]
PixFmt = Annotated[
    str,
    typer.Option(
        metavar="auto|NAME",
        help="Pixel format, such as yuv420p10le; auto keeps depth and subsampling.",
        rich_help_panel=_ENCODING,
    ),
]
Hwaccel = Annotated[
    Literal["none", "auto", "cuda"],
    typer.Option(
        metavar="none|auto|cuda",
        help="Who decodes: the CPU, or NVDEC, whose frames stay on the GPU, up to an encoder such "
        "as h264_nvenc. auto: NVDEC where the model runs on the GPU. Never tried on one yet.",
        rich_help_panel=_ENCODING,
    ),
]

# Part of the input

Start = Annotated[
    Fraction | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        help="Begin here: seconds or HH:MM:SS.mmm.",
        show_default="the beginning",
        rich_help_panel=_RANGE,
    ),
]
End = Annotated[
    Fraction | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME",
        help="Stop here: seconds or HH:MM:SS.mmm.",
        show_default="the end",
        rich_help_panel=_RANGE,
    ),
]

# Run

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", metavar="", help="Replace an output that exists.", rich_help_panel=_RUN
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", metavar="", help="Say what would be done, and stop.", rich_help_panel=_RUN
    ),
]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick",
        metavar="",
        help="A dry run that neither looks for cuts nor measures a sample.",
        rich_help_panel=_RUN,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="Also write a page to look at: a timeline of cuts and motion, the hardest frames, all "
        "settings. A folder for several inputs.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", metavar="", help="Print the result as JSON on stdout.", rich_help_panel=_RUN
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", metavar="", help="Show errors only.", rich_help_panel=_RUN),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        metavar="",
        help="Show the traceback of an error. Place it anywhere.",
        rich_help_panel=_RUN,
    ),
]
