"""Charts: SVG that stretches with the page, with axes in HTML so that their text never does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from vfi_cli.report.axis import Axis, AxisKind, log_axis, position_axis, value_axis
from vfi_cli.report.text import escaped, number

#: Points of a line, and cells of a lane; what is longer is drawn as its extremes per bin.
BINS = 600
#: Places that have a tooltip of their own.
_TIPS = 200
#: More vertical lines than that hide what they should mark; the lane above still shows them.
_MOST_LINES = 60
#: Colours of the style sheet, --series-0 and so on.
COLOURS = 6

_WIDTH, _HEIGHT = 1000, 100  # of an SVG before it is stretched


@dataclass(frozen=True, slots=True)
class Series:
    """A line: values at ascending places. None or NaN interrupts it."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int | None = None  # of COLOURS; None: the next one

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{self.name}: {len(self.x)} places for {len(self.y)} values")


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram of a chart: lines that share a vertical axis."""

    title: str  # what the values are, with their unit
    series: Sequence[Series]
    from_zero: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happens at one place: a cut, a repeated frame, a picture shown below."""

    x: float
    kind: str  # marks of one kind share a lane, which is called by it
    text: str = ""  # shown where the pointer rests


@dataclass(frozen=True, slots=True)
class Point:
    """A dot of a scatter chart."""

    x: float
    y: float
    name: str
    highlight: bool = False


def chart(
    panels: Sequence[Panel],
    *,
    x_label: str = "",
    x_kind: AxisKind = "number",
    x_range: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    lines: Sequence[str] = ("cut",),
) -> str:
    """Markup of diagrams above each other that share a horizontal axis.

    Above them each kind of mark has a lane; marks whose kind is among ``lines`` are drawn
    through the diagrams as well. ``x_kind`` "time": places are seconds. Long series are
    reduced to their extremes, so that a chart of ten hours is no larger than one of a minute.
    """
    places = [x for panel in panels for one in panel.series for x in one.x]
    places += [mark.x for mark in marks]
    low, high = x_range or (min(places, default=0.0), max(places, default=1.0))
    axis = position_axis(low, high, x_kind)
    kinds = dict.fromkeys(mark.kind for mark in marks)
    rows = [
        _lane(kind, [mark for mark in marks if mark.kind == kind], axis, row)
        for row, kind in enumerate(kinds)
    ]
    through = [mark for mark in marks if mark.kind in lines]
    drawn = through if len(through) <= _MOST_LINES else []
    first = 0
    for panel in panels:
        rows.append(_panel(panel, axis, drawn, first))
        first += len(panel.series)
    label = f'<div class="x-label">{escaped(x_label)}</div>' if x_label else ""
    return f'<figure class="chart">{"".join(rows)}{_x_axis(axis)}{label}</figure>'


def bar_chart(
    items: Sequence[tuple[str, float]], *, unit: str = "", highlight: Iterable[str] = ()
) -> str:
    """Markup of horizontal bars from zero, each with its name and value, in the given order."""
    largest = max((abs(v) for _, v in items if math.isfinite(v)), default=0.0) or 1.0
    marked = set(highlight)
    rows = []
    for name, value in items:
        share = min(abs(value) / largest, 1.0) if math.isfinite(value) else 0.0
        chosen = ' class="highlight"' if name in marked else ""
        rows.append(
            f"<dt{chosen}><bdi>{escaped(name)}</bdi></dt><dd{chosen}>"
            f'<span class="bar" style="width:{_percent(0.82 * share)}"></span>'
            f"<span>{number(value)} {escaped(unit)}</span></dd>"
        )
    return f'<dl class="bars">{"".join(rows)}</dl>'


def scatter_chart(
    points: Sequence[Point], *, x_label: str, y_label: str, x_logarithmic: bool = False
) -> str:
    """Markup of named dots; places and values that are not finite are left out."""
    shown = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if x_logarithmic:
        shown = [point for point in shown if point.x > 0]
        across = log_axis(point.x for point in shown)
    else:
        across = value_axis((point.x for point in shown), ticks=7)
    up = value_axis((point.y for point in shown), from_zero=False, ticks=5)
    dots = "".join(
        f'<span class="{_dot_class(point, shown, across, up)}" '
        f'style="left:{_percent(across.share(point.x))};bottom:{_percent(up.share(point.y))}" '
        f'title="{escaped(point.name)}: '
        f'{number(point.x)} · {number(point.y, 4)}"><i></i><bdi>{escaped(point.name)}</bdi></span>'
        for point in shown
    )
    grid = _grid(up) + "".join(
        f'<line class="grid" x1="{_x(across, value)}" x2="{_x(across, value)}" y1="0" '
        f'y2="{_HEIGHT}"/>'
        for value, _ in across.ticks()
    )
    return (
        f'<figure class="chart scatter"><div class="panel"><div class="legend">{escaped(y_label)}'
        f'</div>{_y_axis(up)}<div class="canvas">{_svg(grid, y_label)}{dots}</div></div>'
        f'{_x_axis(across)}<div class="x-label">{escaped(x_label)}</div></figure>'
    )


def _dot_class(point: Point, points: Sequence[Point], across: Axis, up: Axis) -> str:
    """The name stands on the right, but before the dot at the right end, and above it where
    another dot is in the way."""
    x, y = across.share(point.x), up.share(point.y)
    in_the_way = any(
        other is not point
        and 0 <= across.share(other.x) - x < 0.25
        and abs(up.share(other.y) - y) < 0.06
        for other in points
    )
    side = " before" if x > 0.75 else " above" if in_the_way else ""
    return "dot" + side + (" highlight" if point.highlight else "")


def _lane(kind: str, marks: list[Mark], axis: Axis, row: int) -> str:
    """A row of cells, the darker the more marks of a kind fall into them."""
    count = Counter(min(int(axis.share(mark.x) * BINS), BINS - 1) for mark in marks)
    texts = {min(int(axis.share(mark.x) * BINS), BINS - 1): mark for mark in reversed(marks)}
    most = max(count.values())
    width = _WIDTH / BINS
    cells = []
    for cell in sorted(count):
        mark, many = texts[cell], count[cell]
        said = f"{axis.text(mark.x)}  {mark.text or kind}"
        if many > 1:
            said += f" and {many - 1} more"
        opacity = 0.35 + 0.65 * many / most
        cells.append(
            f'<rect x="{cell * width:.2f}" y="0" width="{width:.2f}" height="{_HEIGHT}" '
            f'fill-opacity="{opacity:.2f}"><title>{escaped(said)}</title></rect>'
        )
    title = f"{kind}: {len(marks)}"
    return (
        f'<div class="lane lane-{row % 3}"><div class="legend">{escaped(kind)} '
        f'<b>{number(len(marks))}</b></div><div class="canvas">{_svg("".join(cells), title)}'
        "</div></div>"
    )


def _panel(panel: Panel, x: Axis, lines: Sequence[Mark], first_colour: int) -> str:
    values = [v for one in panel.series for v in one.y if v is not None]
    y = value_axis(values, from_zero=panel.from_zero)
    body = [_grid(y)]
    for mark in lines:
        place = _x(x, mark.x)
        body.append(f'<line class="mark" x1="{place}" x2="{place}" y1="0" y2="{_HEIGHT}"/>')
    names = []
    reduced = []
    for number_, one in enumerate(panel.series):
        colour = (first_colour + number_ if one.colour is None else one.colour) % COLOURS
        points = reduce(one, x.low, x.high)
        reduced.append((one.name, points))
        body.append(_line(points, x, y, colour, filled=len(panel.series) == 1 and y.low >= 0))
        names.append(f'<span><i class="swatch s{colour}"></i><bdi>{escaped(one.name)}</bdi></span>')
    body.append(_tips(reduced, lines, x))
    legend = f"<b>{escaped(panel.title)}</b>" + ("".join(names) if len(names) > 1 else "")
    return (
        f'<div class="panel"><div class="legend">{legend}</div>{_y_axis(y)}'
        f'<div class="canvas">{_svg("".join(body), panel.title)}</div></div>'
    )


Points = list[tuple[float, float | None]]


def reduce(series: Series, low: float, high: float, bins: int = BINS) -> Points:
    """The points of a series, or where there are many, the extremes of each bin in their order.

    An interruption remains one: the point (x, None).
    """
    x = np.asarray(series.x, dtype=np.float64)
    y = np.array(series.y, dtype=np.float64)  # None becomes NaN
    y[~np.isfinite(y)] = np.nan
    chosen = np.arange(len(x))
    if len(x) > 2 * bins and high > low:
        edges = np.flatnonzero(np.diff(np.floor((x - low) / (high - low) * bins))) + 1
        chosen = np.array(
            [
                start + place
                for start, part in zip([0, *edges], np.split(y, edges), strict=True)
                for place in _extremes(part)
            ]
        )
    return [
        (place, None if math.isnan(value) else value)
        for place, value in zip(x[chosen].tolist(), y[chosen].tolist(), strict=True)
    ]


def _extremes(values: NDArray[np.float64]) -> list[int]:
    """Where the smallest and the largest value stand, in order; the first where there is none."""
    if np.isnan(values).all():
        return [0]
    return sorted({int(np.nanargmin(values)), int(np.nanargmax(values))})


def _line(points: Points, x: Axis, y: Axis, colour: int, *, filled: bool) -> str:
    strokes, areas = [], []
    for missing, group in groupby(points, key=lambda point: point[1] is None):
        if missing:
            continue
        run = [(_x(x, px), _y(y, py)) for px, py in group if py is not None]
        path = "L".join(f"{px} {py}" for px, py in run)
        strokes.append(f"M{path}" if len(run) > 1 else f"M{path}h0")
        if filled and len(run) > 1:
            areas.append(f"M{run[0][0]} {_HEIGHT}L{path}L{run[-1][0]} {_HEIGHT}Z")
    area = f'<path class="area a{colour}" d="{"".join(areas)}"/>' if areas else ""
    return f'{area}<path class="line s{colour}" d="{"".join(strokes)}"/>' if strokes else ""


def _tips(reduced: Sequence[tuple[str, Points]], marks: Sequence[Mark], x: Axis) -> str:
    """Invisible columns that tell their values where the pointer rests."""
    count = min(_TIPS, max((len(points) for _, points in reduced), default=0))
    if not count:
        return ""
    columns: list[list[str]] = [[] for _ in range(count)]

    def column(place: float) -> int:
        return min(int(x.share(place) * count), count - 1)

    for name, points in reduced:
        largest: dict[int, float] = {}
        for place, value in points:
            if value is not None:
                at = column(place)
                largest[at] = max(value, largest.get(at, -math.inf))
        for at, value in largest.items():
            columns[at].append(f"{name}: {number(value)}")
    for mark in marks:
        columns[column(mark.x)].append(mark.text or mark.kind)
    width = _WIDTH / count
    step = (x.high - x.low) / count
    return "".join(
        f'<rect class="tip" x="{at * width:.2f}" y="0" width="{width:.2f}" height="{_HEIGHT}">'
        f"<title>{escaped(x.text(x.low + at * step))}\n"
        + "\n".join(escaped(line) for line in dict.fromkeys(lines))
        + "</title></rect>"
        for at, lines in enumerate(columns)
        if lines
    )


def _grid(y: Axis) -> str:
    return "".join(
        f'<line class="grid" x1="0" x2="{_WIDTH}" y1="{_y(y, value)}" y2="{_y(y, value)}"/>'
        for value, _ in y.ticks()
    )


def _x_axis(x: Axis) -> str:
    ticks = ""
    for value, text in x.ticks():
        share = x.share(value)
        # What stands at the end would stick out at the page's side, if it were centred.
        end = ' class="end"' if share > 0.95 else ""
        ticks += f'<span style="left:{_percent(share)}"{end}>{text}</span>'
    return f'<div class="x-axis">{ticks}</div>'


def _y_axis(y: Axis) -> str:
    ticks = "".join(
        f'<span style="bottom:{_percent(y.share(value))}">{text}</span>'
        for value, text in y.ticks()
    )
    return f'<div class="y-axis">{ticks}</div>'


def _svg(body: str, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escaped(title)}">{body}</svg>'
    )


def _x(axis: Axis, value: float) -> str:
    return f"{axis.share(value) * _WIDTH:.1f}"


def _y(axis: Axis, value: float) -> str:
    return f"{(1 - axis.share(value)) * _HEIGHT:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"
