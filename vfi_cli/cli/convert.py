"""``vfi convert``: videos at another frame rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import typer

from vfi_cli.cli import options as opt
from vfi_cli.errors import UsageError

EXAMPLES = """\
[bold]Examples[/bold]
  vfi convert holiday.mp4 --fps 60
  vfi convert film.mkv --fps 59.94 --codec hevc --crf 18 -o film60.mkv
  vfi convert *.mp4 --factor 2 -o converted/
  vfi convert anime.mkv --fps 60 --dedupe
  ffmpeg -i in.mov -f nut -c:v rawvideo - | vfi convert - --fps 50 -o out.mkv
"""


Inputs = Annotated[
    list[str],
    typer.Argument(metavar="INPUT...", help="Videos, folders of videos, or - for a pipe."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="File, or a folder for several inputs, or - for a pipe.",
        show_default="beside the input, as in.60fps.mp4",
    ),
]
Fps = Annotated[
    Fraction | None,
    typer.Option(
        parser=opt.parse_rate,
        metavar="RATE",
        help="Output rate: 60, 30000/1001, or 23.976 (NTSC decimals mean their exact fractions).",
        show_default=False,
    ),
]
Factor = Annotated[
    Fraction | None,
    typer.Option(
        parser=opt.parse_factor,
        metavar="N",
        help="Output rate as a multiple of the input's.",
        show_default=False,
    ),
]
AllowTruncated = Annotated[
    bool,
    typer.Option(
        "--allow-truncated",
        metavar="",
        help="Accept an input that breaks off: exit 0 with what could be converted.",
        rich_help_panel="Run",
    ),
]
PipeFormat = Annotated[
    Literal["auto", "nut", "y4m"],
    typer.Option(
        "--pipe-format",
        metavar="auto|nut|y4m",
        help="What -o - writes; auto answers YUV4MPEG2 with the same, anything else with NUT.",
        rich_help_panel="Encoding",
    ),
]


def convert(
    ctx: typer.Context,
    inputs: Inputs,
    output: Output = None,
    fps: Fps = None,
    factor: Factor = None,
    model: opt.Model = "default",
    architecture: opt.Architecture = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    scale: opt.ScaleOption = "auto",
    tta: opt.Tta = (),
    ensemble: opt.Ensemble = False,
    tile: opt.Tile = "auto",
    cuts: opt.Cuts = True,
    cuts_threshold: opt.CutsThreshold = None,
    dedupe: opt.Dedupe = False,
    rolling_shutter: opt.RollingShutter = None,
    codec: opt.Codec = "auto",
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    pix_fmt: opt.PixFmt = "auto",
    hwaccel: opt.Hwaccel = "none",
    pipe_format: PipeFormat = "auto",
    start: opt.Start = None,
    end: opt.End = None,
    allow_truncated: AllowTruncated = False,
    overwrite: opt.Overwrite = False,
    report: opt.Report = None,
    dry_run: opt.DryRun = False,
    quick: opt.Quick = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Convert videos to another frame rate.

    Sound, subtitles, chapters and all else that the container can hold come along
    unchanged. Source frames that fall on an output time are shown as they are;
    scene cuts stay cuts. A run that was interrupted goes on when the same command
    is given again; of several inputs, those whose outputs are complete are left alone.
    """
    if (fps is None) == (factor is None):
        raise UsageError("say the output rate with either --fps RATE or --factor N")
    from vfi_cli.cli.run import conversion, run_all
    from vfi_cli.plan import Timing

    timing = Timing(fps=fps, factor=factor, start=start, end=end)
    return run_all(inputs, output, conversion(ctx.params, timing), ctx.params)
