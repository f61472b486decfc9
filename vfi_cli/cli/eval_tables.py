"""What ``vfi eval`` shows to people: tables of models, what was scored, and what to make of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vfi_cli.wording import counted, grouped

if TYPE_CHECKING:
    from rich.console import Console

    from vfi_cli.evaluate.results import ClipResult, SetResult

#: What stands behind a figure that is not ours.
PUBLISHED = "published"


def show_set(console: Console, result: SetResult) -> None:
    """The means beside the published ones, and what they are means of."""
    from vfi_cli.quality.metrics import METRICS

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
        console.print(f"… and {grouped(len(result.wrong) - 3)} more", style="yellow")


def scope(result: SetResult) -> str:
    """What was scored: ``3 782 items of 3 782 clips``, and how much of the set that is."""
    text = f"{counted(result.items, 'item')} of {counted(result.clips, 'clip')}"
    if result.complete:
        return f"{text}, the whole set"
    return (
        f"{text}; the whole set has {counted(result.all_clips, 'clip')}: "
        "not to be set beside the published figures"
    )


def show_clip(console: Console, result: ClipResult) -> None:
    """The table, what was left out, and the recommendation."""
    from vfi_cli.quality.metrics import METRICS
    from vfi_cli.timeline import format_rate

    left_out = [
        f"{grouped(count)} {why}"
        for count, why in ((result.at_cuts, "at cuts"), (result.still, "where nothing moves"))
        if count
    ]
    console.print(
        f"{Path(result.path).name}  {result.width}×{result.height}  "
        f"{format_rate(result.rate)} fps  {grouped(result.rebuilt)} of "
        f"{counted(result.frames, 'frame')} removed and rebuilt"
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
