"""``vfi eval``: models on the benchmarks of the papers, or on a clip of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vfi_cli.cli import messages
from vfi_cli.cli import options as opt
from vfi_cli.datasets.benchmarks import BENCHMARKS, Benchmark

if TYPE_CHECKING:
    from rich.console import Console

    from vfi_cli.api import ModelOptions
    from vfi_cli.evaluate.results import ClipResult, ModelScores, SetResult

EXAMPLES = """\
[bold]Examples[/bold]
  vfi eval clip holiday.mp4 --model rife-v4.26     which model suits my footage?
  vfi eval --list                                  the benchmarks, and where to get them
  vfi eval vimeo-triplet --data ~/vimeo_triplet
"""
_CLIP = """\
[bold]Examples[/bold]
  vfi eval clip holiday.mp4
  vfi eval clip holiday.mp4 -m default -m rife-v4.26 --start 1:20 --frames 121
  vfi eval clip slow.mov --factor 4 --metrics psnr,ssim,flicker
"""

#: Who takes part beside the models that are asked for.
BASELINES = ("blend", "nearest", "minterpolate")

#: What stands behind a figure that is not ours.
PUBLISHED = "published"

_WHAT = "What is scored"


def parse_metrics(text: Any) -> tuple[str, ...]:
    """Parser of --metrics (Typer also hands it defaults)."""
    from vfi_cli.quality.metrics import parse_metrics as parse

    return text if isinstance(text, tuple) else parse(text)


def show_list(wanted: bool) -> None:
    """What --list prints."""
    if not wanted:
        return
    for benchmark in BENCHMARKS.values():
        typer.echo(f"{benchmark.name:<17} {benchmark.title}: {benchmark.judges}")
        typer.echo(f"{'':<17} {benchmark.page}")
    raise typer.Exit()


List = Annotated[
    bool,
    typer.Option(
        "--list",
        metavar="",
        callback=show_list,
        is_eager=True,
        help="Show the benchmarks, what they judge and where to get them.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A model's name, or a file with published weights. Give it several times to compare.",
        show_default="default",
        rich_help_panel="Interpolation",
    ),
]
Data = Annotated[
    Path,
    typer.Option(
        metavar="DIR",
        envvar="VFI_DATASETS",
        help="The data set's folder, or one that holds it under its usual name.",
        rich_help_panel=_WHAT,
    ),
]
Metrics = Annotated[
    Any,
    typer.Option(
        parser=parse_metrics,
        metavar="NAME,…",
        help="What is measured: psnr, psnr-y, ssim, ssim-rgb, msssim, ie, niqe of single frames; "
        "flicker, duplicates, strred, viideo of frames in motion.",
        show_default="those of the papers",
        rich_help_panel=_WHAT,
    ),
]
ClipMetrics = Annotated[
    Any,
    typer.Option(
        parser=parse_metrics,
        metavar="NAME,…",
        help="What is measured: psnr, psnr-y, ssim, ssim-rgb, msssim, ie, niqe of single frames; "
        "flicker, duplicates, strred, viideo of frames in motion.",
        show_default="psnr,ssim",
        rich_help_panel=_WHAT,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Score only so many items, spread over the set: quick, but not the papers' mean.",
        show_default="all",
        rich_help_panel=_WHAT,
    ),
]
AllowMissing = Annotated[
    bool,
    typer.Option(
        "--allow-missing",
        metavar="",
        help="Score what is there, and say how much is missing.",
        rich_help_panel=_WHAT,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Also write the score of every frame into this file.",
        show_default=False,
    ),
]
Factor = Annotated[
    Literal["2", "4"],
    typer.Option(
        metavar="2|4",
        help="Keep every second frame, or one of four, and rebuild the others.",
        rich_help_panel=_WHAT,
    ),
]
Frames = Annotated[
    int,
    typer.Option(
        min=3,
        metavar="N",
        help="Look at so many frames, from --start.",
        rich_help_panel=_WHAT,
    ),
]
Duration = Annotated[
    Fraction | None,
    typer.Option(
        parser=opt.parse_time,
        metavar="TIME",
        help="Look no further than that after --start: seconds or HH:MM:SS.mmm.",
        show_default=False,
        rich_help_panel=_WHAT,
    ),
]
Video = Annotated[Path, typer.Argument(metavar="VIDEO", show_default=False)]


def evaluate(listed: List = False, debug: opt.Debug = False) -> None:
    """Score models on the papers' benchmarks, or on a clip of your own."""


def clip(
    video: Video,
    *,
    model: Models = None,
    factor: Factor = "2",
    start: opt.Start = None,
    duration: Duration = None,
    frames: Frames = 61,
    metrics: ClipMetrics = ("psnr", "ssim"),
    architecture: opt.Architecture = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    scale: opt.ScaleOption = "auto",
    tta: opt.Tta = (),
    ensemble: opt.Ensemble = False,
    csv: Csv = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Which model suits your footage: frames are removed, rebuilt by each, and compared.

    Beside the models take part: blend, nearest, and ffmpeg's minterpolate. Frames at cuts, and
    where nothing moves, are not scored.
    """
    from vfi_cli.evaluate.clip import ClipPart, evaluate_clip

    check_csv(csv, overwrite=overwrite)
    names = list(dict.fromkeys([*(model or ["default"]), *BASELINES]))
    shared = _shared(architecture, device, dtype, scale, tta, ensemble)
    console = messages.console(stderr=json, quiet=quiet)
    with progress(quiet=quiet) as on_frame:
        result = evaluate_clip(
            video,
            [_options(name, shared) for name in names],
            factor=int(factor),
            part=ClipPart(start or Fraction(0), duration, frames),
            metrics=metrics,
            on_frame=on_frame,
        )
    write_csv(csv, result.models, result.metrics)
    show_clip(console, result)
    if json:
        print_result(result)
    return 0


def command_for(benchmark: Benchmark) -> Callable[..., int]:
    """The command that scores models on one benchmark."""

    def score(
        *,
        model: Models = None,
        data: Data = Path(),
        metrics: Metrics = None,
        limit: Limit = None,
        allow_missing: AllowMissing = False,
        architecture: opt.Architecture = None,
        device: opt.Device = "auto",
        dtype: opt.Dtype = "auto",
        scale: opt.ScaleOption = "auto",
        tta: opt.Tta = (),
        ensemble: opt.Ensemble = False,
        csv: Csv = None,
        overwrite: opt.Overwrite = False,
        json: opt.Json = False,
        quiet: opt.Quiet = False,
        debug: opt.Debug = False,
    ) -> int:
        from vfi_cli.evaluate.sets import evaluate_set

        check_csv(csv, overwrite=overwrite)
        names = list(dict.fromkeys(model or ["default"]))
        shared = _shared(architecture, device, dtype, scale, tta, ensemble)
        console = messages.console(stderr=json, quiet=quiet)
        with progress(quiet=quiet) as on_frame:
            result = evaluate_set(
                benchmark.name,
                data,
                [_options(name, shared) for name in names],
                metrics=metrics,
                limit=limit,
                allow_missing=allow_missing,
                on_frame=on_frame,
            )
        write_csv(csv, result.models, result.metrics)
        show_set(console, result)
        if json:
            print_result(result)
        return 0

    score.__doc__ = f"{benchmark.title}: {benchmark.judges}.\n\nThe data set: {benchmark.page}"
    return score


def _shared(
    architecture: str | None, device: str, dtype: str, scale: opt.Scale, tta: Any, ensemble: bool
) -> dict[str, Any]:
    return {
        "architecture": architecture,
        "device": device,
        "dtype": dtype,
        "scale": opt.scale_value(scale),
        "tta": tta,
        "ensemble": ensemble,
    }


def _options(name: str, shared: Mapping[str, Any]) -> ModelOptions:
    """A model with the options that are shared by all, but for those a baseline has no use for."""
    from vfi_cli.api import ModelOptions

    if name in BASELINES:
        return ModelOptions(name=name, device=shared["device"])
    return ModelOptions(name=name, **shared)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A line of progress that begins once it is known how much there is to do."""
    from vfi_cli.cli.progress import Progress

    lines: list[Progress] = []

    def on_frame(done: int, total: int) -> None:
        if not lines:
            lines.append(Progress(total, None, messages.console(quiet=quiet), quiet))
        lines[0].update(done)

    try:
        yield on_frame
    finally:
        for line in lines:
            line.close()


def check_csv(path: Path | None, *, overwrite: bool) -> None:
    """Refuse a file that cannot be written before hours of work, and not after."""
    from vfi_cli.errors import OutputError

    if path is None:
        return
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file after --csv")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; --overwrite replaces it")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"the folder {path.parent} does not exist; make it, or choose another")


def write_csv(path: Path | None, models: Sequence[ModelScores], metrics: Sequence[str]) -> None:
    """Every frame's scores, as a table for programs."""
    import csv

    from vfi_cli.errors import OutputError
    from vfi_cli.evaluate.results import table

    if path is None:
        return
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table(models, metrics))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def print_result(result: SetResult | ClipResult) -> None:
    """The result as JSON on stdout."""
    from vfi_cli.evaluate.results import summary

    messages.print_json(summary(result))


# What people read


def show_set(console: Console, result: SetResult) -> None:
    """The means beside the published ones, and what they are means of."""
    from vfi_cli.quality.metrics import METRICS

    number = messages.number
    protocol = f"; {result.protocol}" if result.protocol else ""
    console.print(f"{result.title}{protocol}", style="bold")
    console.print(scope(result))
    columns = [(name, group) for name in result.metrics for group in ("", *_groups(result))]
    lines = [["model", *(_heading(*column) for column in columns), "s/frame", ""]]
    for scores in result.models:
        means = (
            scores.means if not group else scores.groups.get(group, {}) for _, group in columns
        )
        cells = (
            METRICS[name].format(values[name]) if name in values else "–"
            for (name, _), values in zip(columns, means, strict=True)
        )
        lines.append([scores.model, *cells, f"{scores.seconds:.3f}", scores.runs_on])
    for model in dict.fromkeys(figure.model for figure in result.published):
        found = {
            (f.metric, f.group): METRICS[f.metric].format(f.value)
            for f in result.published
            if f.model == model
        }
        if found.keys() & set(columns):
            cells = (found.get(column, "–") for column in columns)
            lines.append([model, *cells, "–", PUBLISHED])
    show_table(console, lines)
    for line in result.wrong[:3]:
        console.print(line, style="yellow")
    if len(result.wrong) > 3:
        console.print(f"… and {number(len(result.wrong) - 3)} more", style="yellow")


def scope(result: SetResult) -> str:
    """What was scored: ``3 782 items of 3 782 clips``, and how much of the set that is."""
    number = messages.number
    text = f"{number(result.items)} items of {number(result.clips)} clips"
    if result.complete:
        return f"{text}, the whole set"
    return (
        f"{text}; the whole set has {number(result.all_clips)} clips: "
        "not to be set beside the published figures"
    )


def show_clip(console: Console, result: ClipResult) -> None:
    """The table, what was left out, and the recommendation."""
    from vfi_cli.quality.metrics import METRICS
    from vfi_cli.timeline import format_rate

    left_out = [
        f"{messages.number(count)} {why}"
        for count, why in ((result.at_cuts, "at cuts"), (result.still, "where nothing moves"))
        if count
    ]
    console.print(
        f"{Path(result.path).name}  {result.width}×{result.height}  "
        f"{format_rate(result.rate)} fps  {messages.number(result.rebuilt)} of "
        f"{messages.number(result.frames)} frames removed and rebuilt"
        + (f"  (not scored: {', '.join(left_out)})" if left_out else "")
    )
    columns = [_heading(name, "") for name in result.metrics]
    lines = [["model", *columns, "s/frame", f"speed at {result.factor}×", ""]]
    for scores in result.models:
        cells = (
            METRICS[name].format(scores.means[name]) if name in scores.means else "–"
            for name in result.metrics
        )
        speed = f"{result.real_time(scores.seconds):.2g}× real time"
        lines.append([scores.model, *cells, f"{scores.seconds:.3f}", speed, scores.runs_on])
    show_table(console, lines)
    for note in result.notes:
        console.print(note, style="yellow")
    if result.recommendation:
        console.print(result.recommendation)


def show_table(console: Console, lines: Sequence[Sequence[str]]) -> None:
    """Columns below their names: the first and the last to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for number, (first, *numbers, last) in enumerate(lines):
        cells = [cell.rjust(width) for cell, width in zip(numbers, widths[1:-1], strict=True)]
        text = "   ".join([first.ljust(widths[0]), *cells, last]).rstrip()
        style = "bold" if number == 0 else "dim" if last == PUBLISHED else None
        console.print(text, style=style)


def _heading(metric: str, group: str) -> str:
    from vfi_cli.quality.metrics import METRICS

    return f"{METRICS[metric].title} {group}".rstrip()


def _groups(result: SetResult) -> list[str]:
    return list(result.models[0].groups) if result.models else []


#: The commands of ``vfi eval``, with the examples that go under their pages.
SUBCOMMANDS: tuple[tuple[str, Callable[..., int], str], ...] = (
    ("clip", clip, _CLIP),
    *(
        (
            benchmark.name,
            command_for(benchmark),
            f"[bold]Examples[/bold]\n  vfi eval {benchmark.name} --data DIR\n"
            f"  vfi eval {benchmark.name} --data DIR -m default -m blend --csv scores.csv\n",
        )
        for benchmark in BENCHMARKS.values()
    ),
)
