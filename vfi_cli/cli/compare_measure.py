"""``vfi compare`` without a video: the table of measured differences, or a page of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfi_cli.cli import messages
from vfi_cli.errors import TruncatedInputError
from vfi_cli.wording import counted, grouped

if TYPE_CHECKING:
    from vfi_cli.compare.measure import Comparison, Difference
    from vfi_cli.compare.video import ComparisonOptions

#: What a program gets where --min-psnr is missed: what ``cmp`` and ``diff`` return too.
TOO_DIFFERENT = 1


def measure_all(
    inputs: Sequence[Path],
    output: Path | None,
    options: ComparisonOptions,
    *,
    min_psnr: float | None,
    ssim: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Measure the inputs and say what was found; returns the exit code."""
    from vfi_cli.cli.progress import Progress
    from vfi_cli.cli.run import describe_input
    from vfi_cli.compare.labels import default_labels
    from vfi_cli.compare.measure import MeasureOptions, measure, plan_measurement
    from vfi_cli.compare.page import write_page
    from vfi_cli.report import check_report

    if output is not None:
        check_report(output, overwrite=options.overwrite)
    wanted = MeasureOptions(
        fps=options.fps,
        start=options.start,
        duration=options.duration,
        ssim=ssim,
        pictures=output is not None,
    )
    plan = plan_measurement(inputs, wanted)
    names = default_labels(inputs)
    console = messages.console(quiet=quiet)
    width = max(map(len, names))
    for name, one in zip(names, plan.inputs, strict=True):
        console.print(f"{name:<{width}}  {describe_input(one.info)}")
    for note in plan.notes:
        console.print(f"  {note}")
    try:
        with Progress(plan.frames, plan.grid.rate, console, quiet) as progress:
            found = measure(plan, wanted, progress.update)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was written.") from None
    for warning in found.warnings:
        messages.warn(warning, quiet=quiet)
    if as_json:
        messages.print_json(described(found))
    elif not quiet:
        print_table(found, names)
    if output is not None:
        write_page(found, names, output, overwrite=options.overwrite)
        console.print(f"✓ {output}")
    if found.truncated:
        raise TruncatedInputError(f"{found.truncated}; compared up to there", found)
    missed = [
        (name, one.psnr)
        for name, one in zip(names[1:], found.differences, strict=True)
        if min_psnr is not None and one.psnr < min_psnr
    ]
    for name, psnr in missed:
        messages.fail(f"{name}: its PSNR is {said_psnr(psnr)}, below {min_psnr:g} dB")
    return TOO_DIFFERENT if missed else 0


def said_psnr(psnr: float) -> str:
    """``34.56 dB``, or ``equal``."""
    return "equal" if math.isinf(psnr) else f"{psnr:.2f} dB"


def rows_of(found: Comparison, one: Difference, reference: str) -> list[tuple[str, str]]:
    """What is said of one video, as (measure, value)."""
    time, lowest = found.lowest(one)
    equal = one.psnr_at_equal_times
    rows = [
        ("PSNR", said_psnr(one.psnr)),
        (
            "largest difference",
            "none"
            if math.isinf(lowest)
            else f"{said_psnr(lowest)} at {messages.clock(time, decimals=2)}",
        ),
        ("SSIM", "" if one.mean_ssim is None else f"{one.mean_ssim:.4f}"),
        ("frames at equal times", grouped(one.alignment.common)),
        ("  their PSNR", "" if equal is None else said_psnr(equal)),
        (f"frames only in {reference}", grouped(one.alignment.only_first)),
        ("frames only in this", grouped(one.alignment.only_second)),
    ]
    return [(measure, value) for measure, value in rows if value or measure != "SSIM"]


def print_table(found: Comparison, names: Sequence[str]) -> None:
    """Measures down, videos across, on stdout."""
    from rich.table import Table

    from vfi_cli.timeline import format_rate

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"against {names[0]}")
    for name in names[1:]:
        table.add_column(name, justify="right")
    columns = [rows_of(found, one, names[0]) for one in found.differences]
    for rows in zip(*columns, strict=True):
        table.add_row(rows[0][0], *(value for _, value in rows))
    console = messages.console(stderr=False)
    console.print(table)
    console.print(
        f"{counted(found.frames, 'time')}, {format_rate(found.grid.rate)} a second, "
        f"what is on screen then; PSNR and SSIM of R'G'B'"
    )


def described(found: Comparison) -> dict[str, Any]:
    """The measured differences as plain data; a PSNR of equal pictures is null."""

    def number(psnr: float | None) -> float | None:
        return None if psnr is None or math.isinf(psnr) else psnr

    def difference(one: Difference) -> dict[str, Any]:
        time, lowest = found.lowest(one)
        return {
            "input": one.path,
            "equal": not any(one.squares),
            "psnr": number(one.psnr),
            "ssim": one.mean_ssim,
            "lowest_psnr": number(lowest),
            "lowest_at": float(time),
            "frames_at_equal_times": one.alignment.common,
            "psnr_at_equal_times": number(one.psnr_at_equal_times),
            "frames_only_in_reference": one.alignment.only_first,
            "frames_only_here": one.alignment.only_second,
        }

    return {
        "reference": found.inputs[0].info.path,
        "fps": str(found.grid.rate),
        "frames": found.frames,
        "differences": [difference(one) for one in found.differences],
        "notes": list(found.notes),
        "warnings": list(found.warnings),
        "truncated": found.truncated,
    }
