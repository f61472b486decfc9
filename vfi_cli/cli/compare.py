"""``vfi compare``: videos seen side by side, or measured against each other."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vfi_cli.cli import messages
from vfi_cli.cli import options as opt
from vfi_cli.errors import TruncatedInputError, UsageError
from vfi_cli.timeline import spoken
from vfi_cli.wording import counted, file_size

if TYPE_CHECKING:
    from vfi_cli.compare.video import ComparisonOptions, ComparisonPlan

EXAMPLES = """\
[bold]Examples[/bold]
  vfi compare in.mp4 in.60fps.mp4                        how much they differ
  vfi compare in.mp4 in.60fps.mp4 -o side.mp4            side by side
  vfi compare a.mp4 b.mp4 --mode split --slow 4 -o split.mp4
  vfi compare a.mp4 b.mp4 --mode diff --start 12 --duration 3 -o diff.mkv
  vfi compare in.mp4 a.mp4 b.mp4 c.mp4 --labels source,rife,eqvi,ours -o 4.mp4
  vfi compare a.mp4 b.mp4 -o report.html                 a page to look at
  vfi compare before.mp4 after.mp4 --min-psnr 45         exit 1 below 45 dB
"""

_VIDEO = "Video"

Inputs = Annotated[
    list[Path], typer.Argument(metavar="A B...", help="Two videos or more; A is the reference.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="A video to make of them, or a page that tells how they differ (report.html).",
        show_default="a table of differences",
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE.html",
        help="The page, as -o FILE.html writes it.",
        show_default=False,
    ),
]
Fps = Annotated[
    Fraction | None,
    typer.Option(
        parser=opt.parse_rate,
        metavar="RATE",
        help="How many times a second to compare: 60, 30000/1001, or 23.976.",
        show_default="the highest rate of the videos",
    ),
]
Mode = Annotated[
    Literal["side", "split", "stack", "diff"],
    typer.Option(
        metavar="side|split|stack|diff",
        help="side: next to each other (four: two by two); split: one picture, with a line that "
        "moves; stack: one above the other; diff: B minus A, eight times, around grey.",
        rich_help_panel=_VIDEO,
    ),
]
Slow = Annotated[
    Fraction,
    typer.Option(
        parser=opt.parse_factor,
        metavar="N",
        help="Play so many times slower: the same frames at 1/N of the rate.",
        rich_help_panel=_VIDEO,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,NAME",
        help="Names to burn in.",
        show_default="the files' names",
        rich_help_panel=_VIDEO,
    ),
]
NoLabels = Annotated[
    bool,
    typer.Option("--no-labels", metavar="", help="Burn in no names.", rich_help_panel=_VIDEO),
]
Duration = Annotated[
    Fraction | None,
    typer.Option(
        parser=opt.parse_time,
        metavar="TIME",
        help="Compare so much.",
        show_default="to the end of the shortest",
        rich_help_panel="Part of the input",
    ),
]
MinPsnr = Annotated[
    float | None,
    typer.Option(
        "--min-psnr",
        metavar="DB",
        help="Exit with 1 where a video's PSNR against A is lower.",
        show_default=False,
    ),
]

Ssim = Annotated[
    bool,
    typer.Option(
        "--ssim/--no-ssim", metavar="", help="Measure SSIM too, which takes most of the time."
    ),
]

#: Options that say how a video looks, by parameter name.
_OF_VIDEOS = ("mode", "slow", "labels", "no_labels", "codec", "crf", "preset", "pix_fmt")


def compare(
    ctx: typer.Context,
    inputs: Inputs,
    output: Output = None,
    report: Report = None,
    min_psnr: MinPsnr = None,
    ssim: Ssim = True,
    fps: Fps = None,
    mode: Mode = "side",
    slow: Slow = Fraction(1),
    labels: Labels = None,
    no_labels: NoLabels = False,
    start: opt.Start = None,
    duration: Duration = None,
    codec: opt.Codec = "auto",
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    pix_fmt: opt.PixFmt = "auto",
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Show videos side by side, or measure how they differ.

    Frames are matched by time: at each moment every video shows what is on its
    screen then, counted from its own first frame. Pictures are turned upright and
    brought to A's size, colour and bit depth. The comparison ends with the shortest.
    The sound is A's, unless time is slowed down.
    """
    if len(inputs) < 2:
        raise UsageError("a comparison takes two videos or more: vfi compare A B")
    if duration == 0:
        raise UsageError("--duration must be above zero")
    if report is not None:
        if output is not None:
            raise UsageError("a comparison is either shown or measured: leave out -o or --report")
        if not is_report(report):
            raise UsageError(f"--report {report}: a page's name ends in .html")
        output = report
    from vfi_cli.compare.video import ComparisonOptions
    from vfi_cli.io.encode import EncoderOptions

    options = ComparisonOptions(
        mode=mode,
        slow=slow,
        fps=fps,
        start=start or Fraction(0),
        duration=duration,
        labels=() if no_labels else None if labels is None else tuple(labels.split(",")),
        encoder=EncoderOptions(codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt),
        overwrite=overwrite,
    )
    if output is not None and not is_report(output):
        if min_psnr is not None:
            raise UsageError("--min-psnr measures the videos: leave -o out, or write a report")
        return _show(inputs, output, options, as_json=json, quiet=quiet)
    _refuse(ctx)
    from vfi_cli.cli.compare_measure import measure_all

    return measure_all(
        inputs, output, options, min_psnr=min_psnr, ssim=ssim, as_json=json, quiet=quiet
    )


def is_report(output: Path) -> bool:
    """Whether an output is a page to be read and no video."""
    return output.suffix.lower() in (".html", ".htm")


def _refuse(ctx: typer.Context) -> None:
    """Options that only a video can follow are wrong where none is made."""
    for name in _OF_VIDEOS:
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = name.replace("_", "-")
            raise UsageError(f"--{option} is for a video: say where it goes, such as -o out.mp4")


def _show(
    inputs: list[Path], output: Path, options: ComparisonOptions, *, as_json: bool, quiet: bool
) -> int:
    """Make the video."""
    from vfi_cli.cli.progress import Progress
    from vfi_cli.compare.video import plan_comparison, render_comparison

    plan = plan_comparison(inputs, output, options)
    console = messages.console(quiet=quiet)
    for line in _planned(plan):
        console.print(line)
    try:
        with Progress(plan.frames, plan.grid.fps, console, quiet) as progress:
            made = render_comparison(plan, options, progress.update)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"nothing is left of {output.name}.") from None
    for warning in made.warnings:
        messages.warn(warning, quiet=quiet)
    console.print(
        f"✓ {output.name}  {counted(made.frames, 'frame')}, "
        f"{messages.clock(made.duration)}, read back and checked  "
        f"{spoken(made.seconds)}  {file_size(made.size)}"
    )
    if as_json:
        messages.print_json(
            {
                "inputs": [str(path) for path in inputs],
                "output": str(output),
                "mode": plan.mode,
                "fps": str(plan.grid.fps),
                "slow": str(plan.grid.stretch),
                "width": plan.arrangement.width,
                "height": plan.arrangement.height,
                "frames": made.frames,
                "duration": float(made.duration),
                "encoder": plan.encoder.as_dict(),
                "bytes": made.size,
                "seconds": round(made.seconds, 3),
                "warnings": list(made.warnings),
                "truncated": made.truncated,
            }
        )
    if made.truncated:
        raise TruncatedInputError(f"{made.truncated}; compared up to there: {output}", made)
    return 0


def _planned(plan: ComparisonPlan) -> list[str]:
    """What goes in and what comes out, as a person reads it before the work begins."""
    from vfi_cli.cli.run import describe_input
    from vfi_cli.timeline import format_rate

    names = [Path(one.info.path).name for one in plan.inputs]
    left = max(map(len, (*names, plan.output.name)))
    lines = [
        f"{name:<{left}}  {describe_input(one.info)}"
        for name, one in zip(names, plan.inputs, strict=True)
    ]
    sound = " + audio" * bool(plan.streams.kept or plan.streams.converted)
    slow = f", {format_rate(plan.grid.stretch)}× slower" * (plan.grid.stretch != 1)
    lines.append(
        f"{plan.output.name:<{left}}  {plan.arrangement.width}×{plan.arrangement.height}  "
        f"{format_rate(plan.grid.fps)} fps{slow}  {counted(plan.frames, 'frame')}  "
        f"{plan.encoder.encoder} {plan.encoder.pix_fmt}{sound}"
    )
    said: list[Any] = [*plan.notes, *plan.encoder.notes, *plan.streams.lines()]
    return lines + [f"  {note}" for note in said]
