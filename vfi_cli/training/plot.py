"""The curves of a run as a picture: losses, validation, learning rate."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from vfi_cli.errors import InputError, OutputError
from vfi_cli.report.axis import Axis, log_axis, position_axis, value_axis
from vfi_cli.wording import NBSP, said

METRICS = "metrics.jsonl"

Rgb = tuple[int, int, int]
_PAPER: Rgb = (255, 255, 255)
_INK: Rgb = (45, 48, 56)
_FAINT: Rgb = (226, 228, 232)
_COLOURS: tuple[Rgb, ...] = (
    (31, 111, 191),
    (214, 96, 24),
    (38, 138, 86),
    (150, 76, 168),
    (120, 120, 36),
    (196, 48, 84),
    (24, 140, 160),
)
#: Drawn so many times larger and then reduced, for smooth lines.
_FINE = 3
_LEFT, _RIGHT, _HEAD, _BETWEEN, _FOOT = 74, 150, 34, 30, 44
_PANEL = 210


@dataclass
class Curve:
    """Values by step. ``smooth``: a running mean is drawn over the pale values themselves."""

    name: str
    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    smooth: bool = True


@dataclass
class Diagram:
    title: str
    curves: list[Curve]
    logarithmic: bool = False


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, of a folder or a file, one at least. Raises InputError."""
    file = path / METRICS if path.is_dir() else path
    found = read_lines(file)
    if not found:
        raise InputError(f"{file}: holds no metrics yet")
    return found


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a file of metrics, but for a last one that a kill cut off. Raises
    InputError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            del lines[-1]
        found = [json.loads(line) for line in lines if line.strip()]
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({said(error)})") from None
    except ValueError as error:
        raise InputError(f"{file}: is no file of metrics ({error})") from None
    return [line for line in found if isinstance(line, dict) and "step" in line]


def diagrams(metrics: Sequence[dict[str, Any]]) -> list[Diagram]:
    """What there is to be drawn: the loss, its parts, the PSNR of validation, the learning rate."""
    curves: dict[str, Curve] = {}
    for line in metrics:
        for name, value in line.items():
            if name not in ("step", "seconds", "psnr") and isinstance(value, int | float):
                curve = curves.setdefault(name, Curve(name))
                curve.steps.append(line["step"])
                curve.values.append(value)
    rate = curves.pop("lr", None)
    curves.pop("gradient", None)
    loss = curves.pop("loss", None)
    found = []
    if loss:
        found.append(Diagram("loss", [loss], logarithmic=True))
    if curves:
        found.append(
            Diagram("parts of the loss, unweighted", list(curves.values()), logarithmic=True)
        )
    clips = Curve("all clips", smooth=False)
    for line in metrics:
        if "psnr" in line:
            clips.steps.append(line["step"])
            clips.values.append(line["psnr"])
    if clips.steps:
        found.append(Diagram("validation: PSNR (dB)", [clips]))
    if rate:
        rate.smooth = False
        found.append(Diagram("learning rate", [rate], logarithmic=True))
    return found


def draw(metrics: Sequence[dict[str, Any]], title: str, width: int = 1000) -> Image.Image:
    """Diagrams above each other that share the axis of steps."""
    parts = diagrams(metrics)
    height = _HEAD + len(parts) * (_PANEL + _BETWEEN) + _FOOT - _BETWEEN + 14
    picture = Image.new("RGB", (width * _FINE, height * _FINE), _PAPER)
    canvas = _Canvas(ImageDraw.Draw(picture))
    canvas.text(_LEFT, 8, title, size=15)
    steps = [step for part in parts for curve in part.curves for step in curve.steps]
    across = position_axis(min(0, *steps), max(1, *steps), "number")
    for number, part in enumerate(parts):
        top = _HEAD + 20 + number * (_PANEL + _BETWEEN)
        _draw_diagram(canvas, part, across, top, width, last=number == len(parts) - 1)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _draw_diagram(
    canvas: _Canvas, part: Diagram, across: Axis, top: int, width: int, *, last: bool
) -> None:
    values = [value for curve in part.curves for value in curve.values]
    up = log_axis(values) if part.logarithmic else value_axis(values, from_zero=False)
    right, bottom = width - _RIGHT, top + _PANEL - 20

    def x(step: float) -> float:
        return _LEFT + across.share(step) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - up.share(value) * (bottom - top)

    canvas.text(_LEFT, top - 19, part.title, size=13)
    for value, text in up.ticks():
        canvas.line([(_LEFT, y(value)), (right, y(value))], _FAINT)
        canvas.text(_LEFT - 8, y(value) - 8, text, anchor="ra")
    for step, text in across.ticks():
        canvas.line([(x(step), top), (x(step), bottom)], _FAINT)
        if last:
            canvas.text(x(step), bottom + 5, text, anchor="ma")
    if last:
        canvas.text((_LEFT + right) / 2, bottom + 22, "step", anchor="ma")
    for number, curve in enumerate(part.curves):
        colour = _COLOURS[number % len(_COLOURS)]
        line = [(x(s), y(v)) for s, v in zip(curve.steps, curve.values, strict=True)]
        if curve.smooth:
            pale = tuple(round(255 - (255 - channel) * 0.35) for channel in colour)
            canvas.line(line, pale, 1.0)  # type: ignore[arg-type]
            smooth = _running_mean(curve.values)
            line = [(x(s), y(v)) for s, v in zip(curve.steps, smooth, strict=True)]
        canvas.line(line, colour, 1.8)
        if not curve.smooth and len(line) < 60:
            canvas.dots(line, colour)
        place = top + 4 + 18 * number
        canvas.line([(right + 12, place + 8), (right + 30, place + 8)], colour, 2.5)
        canvas.text(right + 36, place, curve.name)


def _running_mean(values: Sequence[float]) -> list[float]:
    """Exponential, over about a thirtieth of the values, and exact at the beginning."""
    memory = 1 - 1 / max(1.0, len(values) / 30)
    found, mean, weight = [], 0.0, 0.0
    for value in values:
        mean, weight = memory * mean + (1 - memory) * value, memory * weight + (1 - memory)
        found.append(mean / weight)
    return found


class _Canvas:
    """Draws in pixels of the finished picture."""

    def __init__(self, pen: ImageDraw.ImageDraw) -> None:
        self.pen = pen

    def line(self, points: list[tuple[float, float]], colour: Rgb, width: float = 1.0) -> None:
        if len(points) > 1:
            self.pen.line(list(self._fine(points)), colour, round(width * _FINE), joint="curve")

    def dots(self, points: list[tuple[float, float]], colour: Rgb) -> None:
        for x, y in self._fine(points):
            r = 2.6 * _FINE
            self.pen.ellipse((x - r, y - r, x + r, y + r), colour)

    def text(self, x: float, y: float, text: str, *, size: int = 12, anchor: str = "la") -> None:
        font = ImageFont.load_default(size=size * _FINE)
        text = text.replace(NBSP, " ")  # for which the font has a box
        self.pen.text((x * _FINE, y * _FINE), text, _INK, font, anchor=anchor)

    @staticmethod
    def _fine(points: list[tuple[float, float]]) -> Iterator[tuple[float, float]]:
        return ((x * _FINE, y * _FINE) for x, y in points)


def plot(run: Path, target: Path | None = None) -> Path:
    """Draws the curves of a run (its folder, or a file of metrics) into a picture; returns its
    path, by default a PNG beside the metrics.

    Raises InputError where there are no metrics, OutputError where it cannot be written.
    """
    metrics = read_metrics(run)
    if run.is_dir() or run.name == METRICS:
        folder = run if run.is_dir() else run.parent
        name, place = folder.resolve().name, folder / "curve.png"
    else:  # kept under a name of its own
        name, place = run.stem, run.with_suffix(".png")
    target = target or place
    try:
        draw(metrics, name).save(target)
    except (OSError, ValueError) as error:
        raise OutputError(f"{target}: cannot be written ({said(error)})") from None
    return target
