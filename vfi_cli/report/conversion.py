"""The report of a conversion: what was made of what, how, and where it was hard."""

from __future__ import annotations

import math
import os
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from vfi_cli.api import ConvertResult, Listener
from vfi_cli.io.decode import SourceInfo
from vfi_cli.io.streams import StreamItem
from vfi_cli.models import Interpolator
from vfi_cli.plan import Plan, RenderSettings
from vfi_cli.report.charts import Mark, Panel, Series
from vfi_cli.report.difficulty import Difficulty, measure
from vfi_cli.report.moments import Shown, pictures
from vfi_cli.report.page import Page, versions
from vfi_cli.report.text import clock, name_of, number
from vfi_cli.timeline import format_rate, spoken
from vfi_cli.wording import counted, file_size

#: Names of code points of ITU-T H.273, of what is common.
_MATRICES = {0: "RGB", 1: "BT.709", 5: "BT.601", 6: "BT.601", 9: "BT.2020", 10: "BT.2020"}
_TRANSFERS = {16: "PQ", 18: "HLG"}


class RunTimes(Listener):
    """Passes on what a conversion tells, and remembers how long its parts took."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener or Listener()
        self._began = self._ended = math.nan
        self._last = 0
        self.earlier = 0  # output frames that an unfinished run had made before

    def planned(self, plan: Plan, output: Path) -> None:
        self._began = time.monotonic()
        self._listener.planned(plan, output)

    def progress(self, done: int) -> None:
        if done > self._last + 1:  # what an earlier run left comes a segment at a time
            self.earlier += done - self._last
        self._last = done
        self._listener.progress(done)

    def rendered(self) -> None:
        self._ended = time.monotonic()
        self._listener.rendered()

    @property
    def rate(self) -> float | None:
        """Output frames a second while rendering; None where nothing was left to render."""
        made, seconds = self._last - self.earlier, self._ended - self._began
        return made / seconds if made > 0 and seconds > 0 else None


def write_report(
    path: str | os.PathLike[str],
    result: ConvertResult,
    interpolator: Interpolator,
    times: RunTimes | None = None,
    *,
    command: str = "",
    overwrite: bool = False,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Look through the source once more and write the page. Raises OutputError.

    ``interpolator`` is the model that made the frames; ``times`` was the conversion's listener,
    where the page is to say how fast it was. ``command``: what was typed. ``on_frame`` is told
    how many source frames of how many are looked at.
    """
    found = measure(result.plan, result.counts.frames, interpolator, on_frame=on_frame)
    shown = list(pictures(result.plan.info, result.output, found.moments))
    made = page(result, interpolator, times or RunTimes(), found, shown, command)
    made.write(path, overwrite=overwrite)


def page(
    result: ConvertResult,
    interpolator: Interpolator,
    times: RunTimes,
    found: Difficulty,
    shown: list[Shown],
    command: str = "",
) -> Page:
    """The page of a conversion, from all that is known of it."""
    plan, info = result.plan, result.plan.info
    made = Page(f"{name_of(info.path)} → {name_of(result.output)}", _in_short(plan))
    made.summary(_summary(result, times))
    made.notes(result.warnings, warning=True)
    made.section("Over time", _about_time(plan, found))
    _timeline(made, plan, result, found)
    _hard_moments(made, plan, info, found, shown)
    made.section("What was done")
    if command:
        made.code(command)
    made.facts("Source", _source(info))
    made.facts("Output", _output(result))
    made.facts("Model", _model(plan.settings, interpolator))
    made.facts("Run", _run(result, times))
    made.facts("Versions", versions())
    _streams(made, plan)
    return made


def _in_short(plan: Plan) -> str:
    info, grid = plan.info, plan.grid
    rate = f"{format_rate(info.nominal_rate)}{' (variable)' if info.variable else ''}"
    slower = f", {format_rate(grid.stretch)} times slower" if grid.stretch != 1 else ""
    return f"{info.width}×{info.height}, {rate} → {format_rate(grid.fps)} fps{slower}"


def _summary(result: ConvertResult, times: RunTimes) -> list[tuple[str, object]]:
    counts, rate = result.counts, times.rate
    figures: list[tuple[str, object]] = [
        ("frames", counts.frames),
        ("of them new", counts.new),
        ("duration", clock(float(result.duration), 0.1)),
    ]
    if result.plan.settings.cuts:
        figures.append(("cuts respected", counts.cuts))
    if result.plan.settings.dedupe:
        figures.append(("repeated frames replaced", counts.repeats))
    figures.append(("took", spoken(result.seconds)))
    if rate is not None:
        figures.append(("frames a second", number(rate)))
    return [*figures, ("size", file_size(result.size))]


def _about_time(plan: Plan, found: Difficulty) -> str:
    settings = plan.settings
    said = [
        "How neighbouring frames of the source differ."
        if not found.has_motion
        else "How neighbouring frames of the source differ, how far things move between them, and "
        "what still differs when both are moved to the middle: what is covered or uncovered, "
        "blurred, or moved wrongly. The more of that, the harder a new frame is to make."
    ]
    if found.cuts and not settings.cuts:
        said.append("New frames were made across cuts too (--no-cuts).")
    if found.repeats and not settings.dedupe:
        said.append("Repeated frames were shown as they are; --dedupe replaces them by new ones.")
    return " ".join(said)


def _timeline(made: Page, plan: Plan, result: ConvertResult, found: Difficulty) -> None:
    def series(name: str, values: array[float]) -> Series:
        return Series(name, found.times, values)

    panels = [
        Panel(
            "Difference of neighbouring frames, 0 to 255", [series("difference", found.difference)]
        )
    ]
    if found.has_motion:
        panels = [
            *panels,
            Panel(
                "Motion, pixels from frame to frame",
                [series("mean", found.motion), series("fastest 1 %", found.fastest)],
            ),
            Panel(
                "What motion does not explain, 0 to 255",
                [series("difference after motion", found.disagreement)],
            ),
        ]
    marks = [Mark(at, "cut", "a cut") for at in found.cuts]
    marks += [Mark(at, "repeated frame", "repeats the frame before") for at in found.repeats]
    marks += [
        Mark(float(moment.time), "shown below", f"frame {moment.number}, shown below")
        for moment in found.moments
    ]
    begin = float(plan.grid.start - plan.timeline.start)
    length = float(result.duration / plan.grid.stretch)
    made.chart(
        panels, "time in the source", marks=marks, x_kind="time", x_range=(begin, begin + length)
    )


def _hard_moments(
    made: Page, plan: Plan, info: SourceInfo, found: Difficulty, shown: list[Shown]
) -> None:
    if not shown:
        return
    by = "motion explains least" if found.has_motion else "neighbouring frames differ most"
    text = (
        f"New frames where {by}. Left of the line, both source frames laid over each other; right "
        "of it, the new frame. The lists choose other pictures."
    )
    if info.hdr is not None or info.color.transfer in _TRANSFERS:
        text += " HDR pictures are shown without tone mapping, so they look pale."
    made.section("Hard moments", text)
    for one in shown:
        moment = one.moment
        made.slider(
            [
                ("plain blend", one.blend),
                ("source frame before", one.before),
                ("source frame after", one.after),
                ("new frame", one.made),
            ],
            f"{clock(float(moment.time))} · frame {moment.number}, between source frames "
            f"{moment.left} and {moment.right} · t = {_timestep(moment.timestep)} · "
            f"difference {number(moment.score)}",
        )


def _timestep(value: Fraction) -> str:
    return str(value) if value.denominator < 100 else f"{float(value):.3f}"


def _source(info: SourceInfo) -> Iterator[tuple[str, object]]:
    yield "file", info.path
    yield "picture", f"{info.width}×{info.height}, {info.codec}, {info.pix_fmt}"
    yield "frame rate", f"{format_rate(info.nominal_rate)}{', variable' if info.variable else ''}"
    yield "frames", len(info.pts)
    yield "duration", clock(float(info.duration))
    with suppress(OSError):
        yield "size", file_size(Path(info.path).stat().st_size)
    color = info.color
    parts = [
        _MATRICES.get(color.matrix, ""),
        "full range" if color.full_range else "limited range",
        _TRANSFERS.get(color.transfer, ""),
        "interlaced" if info.interlaced else "",
    ]
    yield "colour", ", ".join(part for part in parts if part)


def _output(result: ConvertResult) -> Iterator[tuple[str, object]]:
    plan, encoder = result.plan, result.plan.encoder
    yield "file", result.output
    yield "picture", f"{encoder.encoder}, {encoder.pix_fmt}"
    yield "frame rate", format_rate(plan.grid.fps)
    yield "frames", f"{number(result.counts.frames)}, {number(result.counts.new)} of them new"
    yield "duration", clock(float(result.duration))
    yield "size", file_size(result.size)
    yield from encoder.options.items()


def _model(settings: RenderSettings, interpolator: Interpolator) -> Iterator[tuple[str, object]]:
    yield "model", settings.model
    yield "licence", interpolator.licence
    if settings.weights != settings.model:
        yield "weights", settings.weights[:16]
    yield "device", f"{interpolator.device}, {settings.dtype}"
    yield "operators", settings.operators
    yield "motion found at", f"{settings.scale:g} × the size"
    if isinstance(settings.tile, int):
        yield "made in", f"tiles of {settings.tile} pixels"
    if settings.tta or settings.ensemble:
        yield "averaged over", ", ".join([*settings.tta, *["both directions"] * settings.ensemble])
    threshold = "" if settings.cuts_threshold is None else f", from {settings.cuts_threshold:g} on"
    yield "cuts", f"respected{threshold}" if settings.cuts else "not looked for"
    yield "repeated frames", "replaced" if settings.dedupe else "shown"
    if settings.rolling_shutter is not None:
        top, bottom = (float(value) * 1000 for value in settings.rolling_shutter)
        yield "rolling shutter", f"rows exposed {top:.1f} to {bottom:.1f} ms later"


def _run(result: ConvertResult, times: RunTimes) -> Iterator[tuple[str, object]]:
    yield "took", spoken(result.seconds)
    if times.earlier:
        yield "made before", f"{counted(times.earlier, 'frame')}, by an interrupted run"
    if times.rate is not None:
        real = times.rate / float(result.plan.grid.fps)
        yield "rendering", f"{number(times.rate)} frames a second, {number(real)} × real time"
    yield "segments", len(result.plan.segments)
    yield "checked", "frame count, times and streams, read back from the file"


def _streams(made: Page, plan: Plan) -> None:
    rows = [
        [item.index, item.kind, item.codec, item.language, item.title, _fate(item)]
        for item in plan.streams.items
    ]
    if rows:
        made.section("Other streams")
        made.table(["#", "kind", "codec", "language", "title", "in the output"], rows)
    made.notes(plan.streams.notes)


def _fate(item: StreamItem) -> str:
    if item.action == "copy":
        return "copied"
    what = f"becomes {item.target}" if item.action == "convert" else "left out"
    return f"{what}: {item.reason}" if item.reason else what
