"""How the cost grows with the picture and with the clip: a table and a plot (SVG).

    python benchmarks/scaling.py [--model default] [--repeat 3] [--out benchmarks/results/scaling]

Seconds for a new frame over its pixels, the model alone; and seconds of rendering over the clip's
frames, at 320×192. Medians. A line through the points is fitted by least squares, and R² says
how much of what is measured it explains.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np
from conversion import head, row

from vfi_cli import memory
from vfi_cli.api import ConvertOptions, Listener, convert_file
from vfi_cli.bench import example_window, machine, open_model, write_moving_clip
from vfi_cli.models import Interpolator
from vfi_cli.plan import Plan, Timing

SIZES = ((320, 192), (640, 384), (960, 576), (1280, 768), (1600, 960), (1920, 1152))
LENGTHS = (4, 8, 16, 24, 32, 48)
CLIP_SIZE = (320, 192)


@dataclass(frozen=True)
class Series:
    """Measured points, and the line through them."""

    title: str
    unit: str  # of x
    xs: list[float]
    seconds: list[float]

    @property
    def line(self) -> tuple[float, float]:
        """Slope and intercept."""
        slope, intercept = np.polyfit(self.xs, self.seconds, 1)
        return float(slope), float(intercept)

    @property
    def explained(self) -> float:
        """R², of the line."""
        slope, intercept = self.line
        left = np.array(self.seconds) - slope * np.array(self.xs) - intercept
        return 1 - float(left.var() / np.var(self.seconds))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, help="writes OUT.md and OUT.svg")
    given = parser.parse_args()
    memory.prepare()
    model = open_model(given.model, device=given.device, dtype="auto")
    series = [by_pixels(model, given.repeat), by_frames(model, given.repeat)]
    lines: list[str] = []
    for one in series:
        slope, intercept = one.line
        lines += [f"## {one.title}", "", head(one.unit, "seconds", f"seconds a {one.unit}")]
        lines += [
            row(f"{x:g}", f"{s:.3f}", f"{s / x:.4f}")
            for x, s in zip(one.xs, one.seconds, strict=True)
        ]
        lines += ["", f"{slope:.4f} s a {one.unit} + {intercept:.3f} s, R² {one.explained:.4f}", ""]
    print(*lines, sep="\n")
    if given.out is not None:
        what = f"{model.name}, {str(model.dtype).removeprefix('torch.')}. {machine(given.device)}"
        picture = given.out.with_suffix(".svg")
        picture.write_text(plot(series))
        text = ["# How the cost grows", "", what, "", f"![plot]({picture.name})", "", *lines]
        given.out.with_suffix(".md").write_text("\n".join(text).rstrip() + "\n")


def by_pixels(model: Interpolator, repeat: int) -> Series:
    """Seconds for a new frame over megapixels."""
    seconds = []
    for width, height in SIZES:
        frames = example_window(model, width, height)
        seconds.append(
            timed(lambda frames=frames: model.interpolate(frames, 0.5).sum().item(), repeat)
        )
    pixels = [width * height / 1e6 for width, height in SIZES]
    return Series("A new frame over its pixels, the model alone", "megapixel", pixels, seconds)


def by_frames(model: Interpolator, repeat: int) -> Series:
    """Seconds of rendering twice the rate over the clip's frames."""

    class Clock(Listener):
        def planned(self, plan: Plan, output: Path) -> None:
            self.began = time.perf_counter()

        def rendered(self) -> None:
            self.seconds = time.perf_counter() - self.began

    def once(clip: Path) -> float:
        clock = Clock()
        options = ConvertOptions(Timing(factor=Fraction(2)), audio="drop", overwrite=True)
        output = clip.with_name("out.mp4")
        convert_file(clip, output, options, listener=clock, interpolator=lambda: model)
        return clock.seconds

    seconds = []
    with tempfile.TemporaryDirectory(prefix="vfi-scaling-") as folder:
        for length in LENGTHS:
            clip = Path(folder, f"{length}.mp4")
            write_moving_clip(clip, CLIP_SIZE, length)
            once(clip)
            seconds.append(median(once(clip) for _ in range(repeat)))
    return Series(
        "Rendering over the clip's frames, 320×192 to twice the rate",
        "frame",
        [float(n) for n in LENGTHS],
        seconds,
    )


def timed(work: Callable[[], object], repeat: int) -> float:
    """Median seconds, after one time that is not counted."""
    work()
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return median(seconds)


# The plot

WIDTH, HEIGHT = 360, 260
LEFT, TOP, RIGHT, BOTTOM = 48, 34, 12, 40


def plot(series: list[Series]) -> str:
    """All series side by side; light and dark as the reader's system is."""
    panels = "".join(panel(one, number * WIDTH) for number, one in enumerate(series))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * len(series)} {HEIGHT}" '
        f'font-family="sans-serif" font-size="11">\n<style>\n'
        "text { fill: #333 } .axis { stroke: #999 } .grid { stroke: #ddd } .line { stroke: #0a7 }\n"
        ".point { fill: #0a7 }\n@media (prefers-color-scheme: dark) { text { fill: #ddd }\n"
        f".axis {{ stroke: #777 }} .grid {{ stroke: #444 }} }}\n</style>\n{panels}</svg>\n"
    )


def panel(series: Series, left: int) -> str:
    """One plot, ``left`` units from the left."""
    x_most, x_step = scale_of(max(series.xs))
    y_most, y_step = scale_of(max(series.seconds))

    def x_at(value: float) -> float:
        return round(left + LEFT + value / x_most * (WIDTH - LEFT - RIGHT), 1)

    def y_at(value: float) -> float:
        return round(HEIGHT - BOTTOM - value / y_most * (HEIGHT - TOP - BOTTOM), 1)

    def line(kind: str, *ends: float) -> str:
        x1, y1, x2, y2 = ends
        return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>\n'

    def text(x: float, y: float, anchor: str, words: str) -> str:
        return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>\n'

    parts = [text(left + WIDTH / 2, 16, "middle", series.title)]
    for value in np.arange(y_step, y_most + y_step / 2, y_step):
        parts.append(line("grid", x_at(0), y_at(value), x_at(x_most), y_at(value)))
        parts.append(text(x_at(0) - 5, y_at(value) + 4, "end", f"{value:g}"))
    for value in np.arange(0, x_most + x_step / 2, x_step):
        parts.append(text(x_at(value), y_at(0) + 15, "middle", f"{value:g}"))
    parts.append(line("axis", x_at(0), y_at(0), x_at(x_most), y_at(0)))
    parts.append(line("axis", x_at(0), y_at(0), x_at(0), y_at(y_most)))
    parts.append(text(x_at(x_most / 2), HEIGHT - 8, "middle", f"{series.unit}s"))
    parts.append(text(left + 6, TOP - 4, "start", "seconds"))
    slope, intercept = series.line
    first, last = min(series.xs), max(series.xs)
    ends = [(x, max(0.0, slope * x + intercept)) for x in (first, last)]
    parts.append(line("line", *(at for x, y in ends for at in (x_at(x), y_at(y)))))
    for x, y in zip(series.xs, series.seconds, strict=True):
        parts.append(f'<circle class="point" cx="{x_at(x)}" cy="{y_at(y)}" r="3.5"/>\n')
    return "".join(parts)


def scale_of(most: float) -> tuple[float, float]:
    """Where an axis ends that holds ``most``, and from mark to mark: 1, 2 or 5 times a power."""
    power = 10.0 ** np.floor(np.log10(most))
    step = next(s * power / 10 for s in (1, 2, 5, 10, 20) if most / (s * power / 10) <= 7)
    return float(np.ceil(most / step) * step), float(step)


if __name__ == "__main__":
    main()
