"""``vfi slowmo``: time stretched by a factor."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

import typer

from vfi_cli.cli import options as opt
from vfi_cli.cli.convert import AllowTruncated, Fps, Inputs, Output

EXAMPLES = """\
[bold]Examples[/bold]
  vfi slowmo jump.mp4 --factor 8
  vfi slowmo jump.mp4 --factor 4 --start 2.5 --end 6 --audio stretch
  vfi slowmo jump.mp4 --factor 10 --fps 60 -o jump-slow.mkv
"""

Slowness = Annotated[
    Fraction,
    typer.Option(
        "--factor",
        parser=opt.parse_factor,
        metavar="N",
        help="How many times slower.",
        show_default=False,
    ),
]
Audio = Annotated[
    Literal["drop", "stretch"],
    typer.Option(
        metavar="drop|stretch", help="Leave the sound out, or stretch it and keep its pitch."
    ),
]


def slowmo(
    ctx: typer.Context,
    inputs: Inputs,
    factor: Slowness,
    output: Output = None,
    fps: Fps = None,
    audio: Audio = "drop",
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
    """Stretch time: slow motion by any factor.

    The output plays at the input's rate unless --fps says otherwise. Subtitles and
    chapters are stretched with the picture; the sound is left out unless
    --audio stretch.
    """
    from vfi_cli.cli.run import conversion, run_all
    from vfi_cli.plan import Timing

    timing = Timing(fps=fps, stretch=factor, start=start, end=end)
    return run_all(inputs, output, conversion(ctx.params, timing, audio), ctx.params)
