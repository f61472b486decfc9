"""``vfi bench``: what models cost, and where the time of a conversion goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vfi_cli.cli import messages
from vfi_cli.cli import options as opt
from vfi_cli.errors import ModelError
from vfi_cli.wording import file_size

if TYPE_CHECKING:
    from vfi_cli.bench import ModelRow, ModelsReport, RunReport

EXAMPLES = """\
[bold]Examples[/bold]
  vfi bench                                  where the time of a conversion goes
  vfi bench --model rife-v4.6 --size 1920x1080 --device cuda
  vfi bench models --only default,rife-v4.6  what models cost
"""
_MODELS = """\
[bold]Examples[/bold]
  vfi bench models
  vfi bench models --only default,ifrnet,flownet.pkl --repeat 3
"""

Size = Annotated[
    Any,
    typer.Option(parser=opt.parse_size, metavar="WxH", help="Size of the frames in pixels."),
]
Repeat = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Timed frames of each model; the median counts."),
]
Only = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,…",
        help="These architectures, models or files, with commas between.",
        show_default="all",
    ),
]
Limit = Annotated[
    float, typer.Option(min=1, metavar="SECONDS", help="Leave a model out that takes longer.")
]
Frames = Annotated[int, typer.Option(min=2, metavar="N", help="Length of the clip.")]

#: A machine on which others use more than this share is not quiet enough for timing.
QUIET = 0.25

HEADER = ("model", "parameters", "GFLOP", "ms/frame", "fps", "memory", "type")
WIDTHS = (18, 10, 8, 9, 7, 8, 8)


def bench(
    ctx: typer.Context,
    *,
    model: opt.Model = "default",
    size: Size = "1280x720",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    frames: Frames = 12,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Measure models and conversions on this machine.

    Without a command, shows where the time goes when a moving clip gets twice its frame rate:
    first the whole conversion is timed, then each of its stages alone. Reading, making and
    writing frames overlap, so that the slowest of the three sets the pace.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    from vfi_cli.bench import measure_run

    report = measure_run(model, size=size, device=device, dtype=dtype, frames=frames)
    console = messages.console(stderr=json, quiet=quiet)
    for line in stage_lines(report):
        console.print(line)
    if json:
        derived = {
            "bottleneck": report.bottleneck.name,
            "fps": report.fps,
            "realtime": report.speed,
        }
        messages.print_json(asdict(report) | derived)
    return 0


def models(
    *,
    size: Size = "1280x720",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    repeat: Repeat = 5,
    only: Only = None,
    limit: Limit = 600,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Show what every model costs: parameters, operations, time and memory for a frame.

    Architectures run with random weights, so that nothing need be downloaded.
    """
    from vfi_cli.bench import measure_models

    console = messages.console(stderr=json, quiet=quiet)
    head = iter([HEADER])  # shown before the first row, when nothing else can be wrong

    def show(row: ModelRow) -> None:
        for names in head:
            console.print(_aligned(names), style="bold")
        console.print(_aligned(cells(row)))

    report = measure_models(
        None if only is None else [name.strip() for name in only.split(",")],
        size=size,
        device=device,
        dtype=dtype,
        repeat=repeat,
        limit=limit,
        on_row=show,
    )
    for line in explanation(report):
        console.print(line)
    if json:
        rows = [asdict(row) | {"fps": row.fps} for row in report.rows]
        messages.print_json(asdict(report) | {"rows": rows})
    return ModelError.exit_code if all(row.problem for row in report.rows) else 0


#: The commands of ``vfi bench``, with the examples that go under their pages.
SUBCOMMANDS: tuple[tuple[str, Callable[..., int], str], ...] = (("models", models, _MODELS),)


def cells(row: ModelRow) -> tuple[str, ...]:
    """A row of the table under ``HEADER``; one that failed says why after its name."""
    if row.problem:
        return row.name, messages.one_line(row.problem)
    assert row.parameters is not None
    assert row.operations is not None
    assert row.seconds is not None
    return (
        row.name,
        f"{row.parameters / 1e6:.2f} M",
        f"{row.operations / 1e9:.1f}",
        f"{row.seconds * 1e3:.{0 if row.seconds > 0.1 else 1}f}",
        f"{1 / row.seconds:.{2 if row.seconds > 0.1 else 1}f}",
        "?" if row.peak_memory is None else file_size(row.peak_memory),
        row.dtype or "",
    )


def explanation(report: ModelsReport) -> list[str]:
    """What the numbers mean and where they come from."""
    on_gpu = any((row.device or "").startswith("cuda") for row in report.rows)
    memory = (
        "the most that torch had allocated on the device, weights included"
        if on_gpu
        else "resident memory gained by the model's process, weights and frames included"
    )
    width, height = report.size
    lines = [
        f"GFLOP: of the convolutions for a 1280×720 frame as it is padded, a multiply-add being "
        f"two; counted on a small picture and scaled by the pixels. ms: median "
        f"of {report.repeat} at {width}×{height} after one more, nothing reused between frames. "
        f"Memory: {memory}.",
        report.machine,
    ]
    return lines + _busy_note(report.busy)


def stage_lines(report: RunReport) -> list[str]:
    """The result of ``vfi bench`` for people."""
    width, height = report.size
    whole = sum(stage.seconds for stage in report.stages)
    lines = [
        f"{report.model}, {report.dtype} on {report.device}, {width}×{height}, "
        f"{report.frames} frames of which every second is new",
        f"{report.machine}",
        "",
        "each stage by itself, for a frame of the output:",
    ]
    for stage in report.stages:
        mark = "  ← bottleneck" if stage is report.bottleneck else ""
        lines.append(
            f"  {stage.name:<9}{stage.seconds * 1e3:>9.2f} ms  "
            f"{stage.seconds / whole:>4.0%}  {stage.thread}{mark}"
        )
    threads = ", ".join(f"{name} {took * 1e3:.1f} ms" for name, took in report.threads.items())
    lines += [
        "",
        f"threads, which overlap: {threads}",
        f"all together: {report.fps:.2f} frames a second, {report.speed:.3g} × real time at 60 fps",
    ]
    return lines + _busy_note(report.busy)


def _busy_note(busy: float | None) -> list[str]:
    if busy is None or busy < QUIET:
        return []
    return [
        f"The machine was busy with other things ({busy:.1f} running processes a core "
        "before measuring): times are longer than they need be."
    ]


def _aligned(line: tuple[str, ...]) -> str:
    if len(line) == 2:
        return f"{line[0]:<{WIDTHS[0]}}  {line[1]}"
    first, *middle, last = line
    numbers = (cell.rjust(width) for cell, width in zip(middle, WIDTHS[1:-1], strict=True))
    return "  ".join((first.ljust(WIDTHS[0]), *numbers, last))
