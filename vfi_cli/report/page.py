"""A page: sections of figures, tables, charts and comparisons, in one file without references."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cache
from importlib import metadata, resources
from itertools import groupby
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vfi_cli import __version__
from vfi_cli.errors import OutputError
from vfi_cli.io.atomic import publish
from vfi_cli.report import charts
from vfi_cli.report.axis import AxisKind
from vfi_cli.report.charts import Mark, Panel, Point, Series
from vfi_cli.report.pictures import Picture, embed
from vfi_cli.report.slider import slider
from vfi_cli.report.text import escaped, number
from vfi_cli.wording import said

#: What the page may load: what is written in it, and nothing from anywhere else.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


class Page:
    """Collects the parts of a report in their order and writes them as one HTML file.

    Text is escaped here: pass names and messages as they are. Nothing is printed.
    """

    def __init__(self, title: str, subtitle: str = "", *, when: datetime | None = None) -> None:
        self._title, self._subtitle = title, subtitle
        self._when = when or datetime.now().astimezone()
        self._parts: list[tuple[str, str]] = []  # (kind, markup); neighbouring sliders form a grid

    def _add(self, kind: str, markup: str) -> None:
        self._parts.append((kind, markup))

    def section(self, title: str, text: str = "") -> None:
        """Begin a section, with a sentence or two of what there is to see."""
        self._add("head", f"<h2>{escaped(title)}</h2>")
        if text:
            self.text(text)

    def text(self, text: str) -> None:
        """A paragraph."""
        self._add("text", f"<p>{escaped(text)}</p>")

    def code(self, text: str) -> None:
        """A command or output as it was typed; lines stay lines."""
        lines = "\n".join(escaped(line) for line in text.splitlines())
        self._add("code", f'<pre dir="ltr">{lines}</pre>')

    def summary(self, figures: Sequence[tuple[str, object]]) -> None:
        """The few figures that matter most, large: (label, value)."""
        tiles = "".join(
            f"<div><dt>{escaped(label)}</dt><dd><bdi>{_shown(value)}</bdi></dd></div>"
            for label, value in figures
        )
        self._add("summary", f'<dl class="summary">{tiles}</dl>')

    def facts(self, title: str, facts: Iterable[tuple[str, object]]) -> None:
        """A block of details: (label, value). Neighbouring blocks stand side by side."""
        rows = "".join(
            f"<div><dt>{escaped(label)}</dt><dd><bdi>{_shown(value)}</bdi></dd></div>"
            for label, value in facts
        )
        self._add(
            "facts", f'<section class="facts"><h3>{escaped(title)}</h3><dl>{rows}</dl></section>'
        )

    def notes(self, notes: Iterable[str], *, warning: bool = False) -> None:
        """Things to know, one a line; as warnings they catch the eye. None: nothing appears."""
        lines = "".join(f"<li>{escaped(note)}</li>" for note in notes)
        if lines:
            kind = "warnings" if warning else "notes"
            self._add("notes", f'<ul class="{kind}">{lines}</ul>')

    def table(
        self,
        headers: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        caption: str = "",
        highlight: Collection[tuple[int, int]] = (),
    ) -> None:
        """A table. Numbers are right-aligned; None is a dash.

        ``highlight``: (row, column) of cells that stand out, such as the best of a column.
        """
        for row in rows:
            if len(row) != len(headers):
                raise ValueError(f"a row of {len(row)} cells under {len(headers)} headers")
        columns = [_column([row[n] for row in rows]) for n in range(len(headers))]
        style = [' class="number"' if right else "" for _, right in columns]
        head = "".join(
            f'<th scope="col"{style[n]}>{escaped(text)}</th>' for n, text in enumerate(headers)
        )
        body = ""
        for r in range(len(rows)):
            cells = "".join(
                f"<td{style[n]}>{_marked(texts[r], (r, n) in highlight)}</td>"
                for n, (texts, _) in enumerate(columns)
            )
            body += f"<tr>{cells}</tr>"
        title = f"<caption>{escaped(caption)}</caption>" if caption else ""
        self._add(
            "table",
            f'<div class="table"><table>{title}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>",
        )

    def line_chart(
        self,
        series: Sequence[Series],
        x_label: str = "",
        y_label: str = "",
        *,
        marks: Sequence[Mark] = (),
        x_kind: AxisKind = "number",
        from_zero: bool = True,
    ) -> None:
        """Lines over one axis; see :func:`charts.chart`."""
        panel = Panel(y_label, series, from_zero)
        self._add("chart", charts.chart([panel], x_label=x_label, x_kind=x_kind, marks=marks))

    def chart(
        self,
        panels: Sequence[Panel],
        x_label: str = "",
        *,
        marks: Sequence[Mark] = (),
        x_kind: AxisKind = "number",
        x_range: tuple[float, float] | None = None,
    ) -> None:
        """Several diagrams over one axis; see :func:`charts.chart`."""
        self._add(
            "chart",
            charts.chart(panels, x_label=x_label, x_kind=x_kind, x_range=x_range, marks=marks),
        )

    def bar_chart(
        self, items: Sequence[tuple[str, float]], unit: str = "", *, highlight: Iterable[str] = ()
    ) -> None:
        """Horizontal bars from zero: (name, value)."""
        self._add("chart", charts.bar_chart(items, unit=unit, highlight=highlight))

    def scatter_chart(
        self, points: Sequence[Point], x_label: str, y_label: str, *, x_logarithmic: bool = False
    ) -> None:
        """Named dots, such as quality over speed."""
        markup = charts.scatter_chart(
            points, x_label=x_label, y_label=y_label, x_logarithmic=x_logarithmic
        )
        self._add("chart", markup)

    def slider(
        self, pictures: Sequence[tuple[str, NDArray[Any] | Picture]], caption: str = ""
    ) -> None:
        """Two or more pictures of one size to compare: (label, R'G'B' array or Picture).

        The first is on the left and the last on the right; arrays as for :func:`embed`.
        Neighbouring sliders form a grid.
        """
        ready = [(label, _picture(picture)) for label, picture in pictures]
        self._add("slider", slider(ready, caption))

    def picture(self, picture: NDArray[Any] | Picture, caption: str = "") -> None:
        """One picture."""
        ready = _picture(picture)
        self._add(
            "slider",
            f'<figure class="picture"><img src="{ready.uri}" width="{ready.width}" '
            f'height="{ready.height}" alt="{escaped(caption)}">'
            f"<figcaption>{escaped(caption)}</figcaption></figure>",
        )

    def html(self) -> str:
        """The whole page."""
        body = ""
        for kind, group in groupby(self._parts, key=lambda part: part[0]):
            markup = "".join(text for _, text in group)
            body += f'<div class="grid-{kind}">{markup}</div>' if kind in _GRIDS else markup
        when = self._when.strftime("%Y-%m-%d %H:%M")
        subtitle = f"<p><bdi>{escaped(self._subtitle)}</bdi></p>" if self._subtitle else ""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f'<link rel="icon" href="data:,"><title>{escaped(self._title)}</title>'
            f"<style>{_asset('page.css')}</style></head><body>"
            f"<header><div><h1><bdi>{escaped(self._title)}</bdi></h1>{subtitle}</div>"
            '<button id="theme" type="button">Light / dark</button></header>'
            f"<main>{body}</main><footer>vfi {escaped(__version__)} · {when}</footer>"
            f"<script>{_asset('page.js')}</script></body></html>\n"
        )

    def write(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the page; it appears whole or not at all.

        Raises OutputError where it cannot be written, or where ``path`` exists and may not be
        replaced.
        """
        target = Path(path)
        check_report(target, overwrite=overwrite)
        data = self.html().encode()
        temporary = _part_of(target)
        try:
            temporary.write_bytes(data)
            publish(temporary, target, overwrite)
        except OSError as error:
            raise OutputError(f"cannot write {target}: {said(error)}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return target


#: Kinds of parts of which neighbours stand side by side.
_GRIDS = ("slider", "facts")


def check_report(path: Path, *, overwrite: bool) -> None:
    """Refuse a place where no report can be written, before the work that it is to describe.

    A file is begun there and taken away again. Raises OutputError.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"a report is a page: name it {path.with_suffix('.html').name}")
    try:
        if not path.parent.is_dir():
            raise OutputError(
                f"the folder {path.parent} does not exist; make it, or choose another"
            )
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"the folder {path.parent} cannot be written to; choose another")
        if path.is_dir():
            raise OutputError(f"{path} is a folder")
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already; add --overwrite to replace it")
        part = _part_of(path)
        part.touch()
        part.unlink()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {said(error)}") from error


def _part_of(path: Path) -> Path:
    """Where a page is written before it has its name."""
    return path.with_name(f".vfi-report-{os.getpid()}.part")


def versions() -> list[tuple[str, str]]:
    """(name, version) of this program and of what it stands on; of packages that are installed."""
    found = [("vfi", __version__)]
    for package, name in (("torch", "PyTorch"), ("av", "PyAV"), ("numpy", "NumPy")):
        with suppress(metadata.PackageNotFoundError):
            found.append((name, metadata.version(package)))
    system = f"{platform.system()} {platform.machine()}"
    return [*found, ("Python", platform.python_version()), ("system", system)]


def _picture(picture: NDArray[Any] | Picture) -> Picture:
    return picture if isinstance(picture, Picture) else embed(picture)


def _shown(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else escaped(value)


def _column(cells: Sequence[object]) -> tuple[list[str], bool]:
    """The texts of a column, and whether it is one of numbers, which share their decimals."""
    if not all(isinstance(cell, int | float | None) for cell in cells):
        return [f"<bdi>{_shown(cell)}</bdi>" for cell in cells], False
    sizes = [abs(c) for c in cells if isinstance(c, float) and math.isfinite(c)]
    if not sizes:
        return [_shown(cell) for cell in cells], True
    places = min(max(0, 3 - math.floor(math.log10(max(sizes)))), 6) if max(sizes) else 0
    return [_shown(c) if c is None else number(c, places=places) for c in cells], True  # type: ignore[arg-type]


def _marked(text: str, marked: bool) -> str:
    return f"<strong>{text}</strong>" if marked else text


@cache
def _asset(name: str) -> str:
    return resources.files("vfi_cli.report").joinpath(name).read_text(encoding="utf-8")
