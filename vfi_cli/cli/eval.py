"""``vfi eval``: models on the benchmarks of the papers, or on a clip of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from vfi_cli.cli import messages
from vfi_cli.cli import options as opt
from vfi_cli.cli.eval_tables import show_clip, show_set
from vfi_cli.datasets.benchmarks import BENCHMARKS, Benchmark
from vfi_cli.errors import InputError, OutputError, UsageError

if TYPE_CHECKING:
    from vfi_cli.api import ModelOptions
    from vfi_cli.evaluate.gallery import Gallery
    from vfi_cli.evaluate.results import ClipResult, ModelScores, SetResult

EXAMPLES = """\
[bold]Examples[/bold]
  vfi eval clip holiday.mp4 --model rife-v4.26     which model suits my footage?
  vfi eval --list                                  the benchmarks
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
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="VFI_DATASETS",
        help="The data set's folder, or one that holds it under its usual name.",
        show_default="the current folder",
        rich_help_panel=_WHAT,
    ),
]


def _metrics(default: str) -> Any:
    return typer.Option(
        parser=parse_metrics,
        metavar="NAME,…",
        help="What is measured: psnr, psnr-y, ssim, ssim-rgb, msssim, ie, niqe of single frames; "
        "flicker, duplicates, strred, viideo of frames in motion.",
        show_default=default,
        rich_help_panel=_WHAT,
    )


Metrics = Annotated[Any, _metrics("those of the papers")]
ClipMetrics = Annotated[Any, _metrics("psnr,ssim")]
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
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.html",
        help="Also write a page to look at: the table, every frame's score, the worst frames.",
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
    report: Report = None,
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
    gallery = gallery_for(report, metrics, overwrite=overwrite)
    names = list(dict.fromkeys([*(model or ["default"]), *BASELINES]))
    shared = _shared(architecture, device, dtype, scale, tta, ensemble)
    console = messages.console(stderr=json, quiet=quiet)
    with progress(quiet=quiet) as on_frame:
        result = evaluate_clip(
            video,
            [options_of(name, shared) for name in names],
            factor=int(factor),
            part=ClipPart(start or Fraction(0), duration, frames),
            metrics=metrics,
            gallery=gallery,
            on_frame=on_frame,
        )
    write_csv(csv, result.models, result.metrics)
    write_report(report, result, gallery, overwrite=overwrite)
    show_clip(console, result)
    if json:
        print_result(result)
    return 0


def command_for(benchmark: Benchmark) -> Callable[..., int]:
    """The command that scores models on one benchmark."""

    def score(
        *,
        model: Models = None,
        data: Data = None,
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
        report: Report = None,
        overwrite: opt.Overwrite = False,
        json: opt.Json = False,
        quiet: opt.Quiet = False,
        debug: opt.Debug = False,
    ) -> int:
        from vfi_cli.evaluate.sets import evaluate_set

        check_csv(csv, overwrite=overwrite)
        gallery = gallery_for(report, metrics or benchmark.metrics, overwrite=overwrite)
        names = list(dict.fromkeys(model or ["default"]))
        shared = _shared(architecture, device, dtype, scale, tta, ensemble)
        console = messages.console(stderr=json, quiet=quiet)
        with progress(quiet=quiet) as on_frame, found_here(data):
            result = evaluate_set(
                benchmark.name,
                data or Path.cwd(),
                [options_of(name, shared) for name in names],
                metrics=metrics,
                limit=limit,
                allow_missing=allow_missing,
                gallery=gallery,
                on_frame=on_frame,
            )
        write_csv(csv, result.models, result.metrics)
        write_report(report, result, gallery, overwrite=overwrite)
        show_set(console, result)
        if json:
            print_result(result)
        return 0

    score.__doc__ = f"{benchmark.title}: {benchmark.judges}.\n\nThe data set: {benchmark.page}"
    return score


@contextmanager
def found_here(data: Path | None) -> Iterator[None]:
    """Says how to name the data set's folder where none was named and it is not the current one."""
    try:
        yield
    except InputError as error:
        raise error if data else InputError(f"{error}; --data names another folder") from None


class EvalGroup(TyperGroup):
    """Tells those who name a video in place of a benchmark what they want."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and Path(args[0]).is_file():
            raise UsageError(f"{args[0]} is a file and no benchmark: vfi eval clip {args[0]}")
        return super().resolve_command(ctx, args)


GROUP = EvalGroup


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


def options_of(name: str, shared: Mapping[str, Any]) -> ModelOptions:
    """A model with the options that are shared by all, but for those that do not concern it: a
    baseline has no use for them, and a model that is known by name has its architecture."""
    from vfi_cli.api import ModelOptions

    if name in BASELINES:
        return ModelOptions(name=name, device=shared["device"])
    options = ModelOptions(name=name, **shared)
    return options if Path(name).is_file() else replace(options, architecture=None)


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

    from vfi_cli.evaluate.results import table

    if path is None:
        return
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table(models, metrics))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def gallery_for(report: Path | None, metrics: Sequence[str], *, overwrite: bool) -> Gallery | None:
    """What collects pictures for the report, where one is asked for and can be written."""
    from vfi_cli.evaluate.gallery import Gallery
    from vfi_cli.report import check_report

    if report is None:
        return None
    check_report(report, overwrite=overwrite)
    return Gallery(metrics)


def write_report(
    report: Path | None, result: SetResult | ClipResult, gallery: Gallery | None, *, overwrite: bool
) -> None:
    """The result as a page."""
    from vfi_cli.cli.report import command_line
    from vfi_cli.evaluate.page import page

    if report is not None and gallery is not None:
        page(result, gallery, command_line()).write(report, overwrite=overwrite)


def print_result(result: SetResult | ClipResult) -> None:
    """The result as JSON on stdout."""
    from vfi_cli.evaluate.results import summary

    messages.print_json(summary(result))


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
