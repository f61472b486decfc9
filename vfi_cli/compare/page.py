"""A page of measured differences: ``vfi compare A B -o report.html``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vfi_cli.compare.arrange import AMPLIFICATION
from vfi_cli.compare.inputs import Input
from vfi_cli.compare.measure import Comparison, Moment
from vfi_cli.frame import Samples
from vfi_cli.report import Mark, Page, Panel, Series, versions
from vfi_cli.timeline import format_rate, format_time
from vfi_cli.wording import counted

_PEAK = 255  # differences are told in steps of 8-bit values
_DECIMALS = 2


def write_page(
    found: Comparison, names: Sequence[str], path: Path, *, overwrite: bool = False
) -> None:
    """Write the page. ``names`` are the inputs'. Raises OutputError where it cannot be written."""
    reference, others = names[0], names[1:]
    page = Page(f"{', '.join(others)} against {reference}", _about(found))
    page.summary(_summary(found, others))
    page.notes([*found.warnings, *([found.truncated] if found.truncated else [])], warning=True)
    page.notes(found.notes)
    page.table(_HEADERS, [_row(found, number, name) for number, name in enumerate(others)])
    page.section(
        "Over time",
        "At each time, what is on screen then. The root mean square of the differences of R, G "
        "and B, in steps of 8 bits, and the same as PSNR; equal frames have none.",
    )
    _curves(page, found, others)
    for name, one in zip(others, found.differences, strict=True):
        if one.worst:
            page.section(
                f"Where {name} differs most",
                f"{reference} on the left, {name} on the right; the lists under them offer their "
                f"difference, {AMPLIFICATION} times, around grey.",
            )
        for moment in one.worst:
            caption = f"{format_time(moment.time)}, {moment.psnr:.2f} dB"
            page.slider(_pictures(moment, reference, name), caption)
    page.section("Details")
    for name, source in zip(names, found.inputs, strict=True):
        page.facts(name, _facts(source))
    page.facts("Made with", versions())
    page.write(path, overwrite=overwrite)


_HEADERS = (
    "video", "PSNR, dB", "lowest, dB", "at", "SSIM", "frames at equal times", "their PSNR, dB",
    "only in the reference", "only here",
)  # fmt: skip


def _row(found: Comparison, number: int, name: str) -> list[object]:
    one = found.differences[number]
    time, lowest = found.lowest(one)
    aligned = one.alignment
    return [
        name,
        _finite(one.psnr),
        _finite(lowest),
        format_time(time),
        one.mean_ssim,
        aligned.common,
        _finite(one.psnr_at_equal_times),
        aligned.only_first,
        aligned.only_second,
    ]


def _about(found: Comparison) -> str:
    length = format_time(found.frames / found.grid.rate)
    return f"{counted(found.frames, 'time')}, {format_rate(found.grid.rate)} a second, {length}"


def _summary(found: Comparison, names: Sequence[str]) -> list[tuple[str, object]]:
    if len(names) > 1:
        pairs = zip(names, found.differences, strict=True)
        return [(f"PSNR, {n}", _psnr(one.psnr)) for n, one in pairs]
    one = found.differences[0]
    time, lowest = found.lowest(one)
    figures: list[tuple[str, object]] = [
        ("PSNR", _psnr(one.psnr)),
        ("lowest", _psnr(lowest)),
        ("at", format_time(time)),
    ]
    if one.mean_ssim is not None:
        figures.append(("SSIM", f"{one.mean_ssim:.4f}"))
    return figures


def _curves(page: Page, found: Comparison, names: Sequence[str]) -> None:
    times = [float(found.grid.time(number)) for number in range(found.frames)]
    pairs = list(zip(names, found.differences, strict=True))
    panels = [
        Panel(
            f"Difference, of {_PEAK}",
            [Series(n, times, [_PEAK * math.sqrt(s) for s in one.squares]) for n, one in pairs],
        ),
        Panel(
            "PSNR, dB",
            [Series(n, times, [_finite(psnr) for psnr in one.psnrs]) for n, one in pairs],
            from_zero=False,
        ),
    ]
    if any(one.ssim for _, one in pairs):
        panels.append(
            Panel("SSIM", [Series(n, times, one.ssim) for n, one in pairs], from_zero=False)
        )
    marks = [
        Mark(float(moment.time), "shown below", f"{name}, {moment.psnr:.2f} dB")
        for name, one in pairs
        for moment in one.worst
    ]
    page.chart(panels, "time", marks=marks, x_kind="time")


def _pictures(moment: Moment, reference: str, name: str) -> list[tuple[str, Samples]]:
    change = moment.second.astype(np.int16) - moment.first
    shown: Samples = (change * AMPLIFICATION + 128).clip(0, 255).astype(np.uint8)
    return [(reference, moment.first), ("difference", shown), (name, moment.second)]


def _facts(source: Input) -> list[tuple[str, object]]:
    info = source.info
    rate = format_rate(info.nominal_rate) + (", variable" if info.variable else "")
    return [
        ("file", info.path),
        ("size", f"{info.width}×{info.height}"),
        ("frames a second", rate),
        ("frames", len(info.pts)),
        ("length", format_time(source.duration)),
        ("codec", f"{info.codec} {info.pix_fmt}"),
    ]


def _finite(psnr: float | None) -> float | None:
    return None if psnr is None or math.isinf(psnr) else round(psnr, _DECIMALS)


def _psnr(psnr: float) -> str:
    return "equal" if math.isinf(psnr) else f"{psnr:.{_DECIMALS}f} dB"
