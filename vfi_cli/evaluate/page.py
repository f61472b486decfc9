"""Pages of evaluations: the table, quality over speed, every frame's score, the worst frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from vfi_cli.evaluate.gallery import Gallery
from vfi_cli.evaluate.results import ClipResult, FrameScore, ModelScores, SetResult, Values
from vfi_cli.quality.metrics import METRICS
from vfi_cli.report import Page, Point, Series, versions
from vfi_cli.report.text import name_of, number
from vfi_cli.timeline import format_rate
from vfi_cli.wording import counted, grouped

#: Lines of the table of the worst items.
_WORST = 10


def page(result: SetResult | ClipResult, gallery: Gallery, command: str = "") -> Page:
    """The page of an evaluation; ``gallery`` collected the pictures meanwhile."""
    made = _clip(result, gallery) if isinstance(result, ClipResult) else _set(result, gallery)
    _worst_frames(made, result.models, gallery)
    made.section("How it was done")
    if command:
        made.code(command)
    made.facts("Models", [(one.model, one.runs_on or "no model") for one in result.models])
    made.facts("Versions", versions())
    return made


def _set(result: SetResult, gallery: Gallery) -> Page:
    first = result.models[0]
    made = Page(f"{result.title}: {', '.join(one.model for one in result.models)}", result.protocol)
    made.summary(
        [
            *_means(first.means, result.metrics),
            ("items", result.items),
            ("clips", result.clips),
            ("seconds a frame", number(first.seconds)),
        ]
    )
    if not result.complete:
        made.notes(
            [
                f"{grouped(result.items)} of {counted(result.all_items, 'item')} and "
                f"{grouped(result.clips)} of {counted(result.all_clips, 'clip')} were scored: not "
                "to be set beside the published figures.",
                *result.wrong,
            ],
            warning=True,
        )
    _table(made, result)
    _speed(made, result.models, gallery.metric)
    if gallery.metric is not None:
        made.section(
            "From the hardest frame to the easiest",
            "Every rebuilt frame's score, in the order of each model's own.",
        )
        made.line_chart(
            [_ranked(one, gallery.metric) for one in result.models],
            "frames, %",
            METRICS[gallery.metric].title,
            from_zero=False,
        )
        made.section(f"Hardest items for {first.model}")
        made.table(
            ["item", "clip", "t", *(METRICS[name].title for name in first.frames[0].values)],
            [
                [one.item, one.clip, str(one.t), *one.values.values()]
                for one in _hardest(first, gallery.metric)[:_WORST]
            ],
        )
    return made


def _clip(result: ClipResult, gallery: Gallery) -> Page:
    made = Page(
        f"{', '.join(one.model for one in result.models)} on {name_of(result.path)}",
        f"{result.width}×{result.height}, {format_rate(result.rate)} fps; "
        f"{grouped(result.rebuilt)} of {counted(result.frames, 'frame')} removed and rebuilt",
    )
    first = result.models[0]
    made.summary(
        [
            *_means(first.means, result.metrics),
            ("seconds a frame", number(first.seconds)),
            ("frames rebuilt", result.rebuilt),
            *([("left out at cuts", result.at_cuts)] if result.at_cuts else []),
            *([("left out, as nothing moves", result.still)] if result.still else []),
        ]
    )
    made.notes([result.recommendation] if result.recommendation else [])
    made.notes(result.notes, warning=True)
    _table(made, result)
    _speed(made, result.models, gallery.metric)
    if gallery.metric is not None:
        made.section("Over time", "The score of every rebuilt frame.")
        made.line_chart(
            [_over_time(one, gallery.metric, result) for one in result.models],
            "time in the clip",
            METRICS[gallery.metric].title,
            x_kind="time",
            from_zero=False,
        )
    return made


def _means(means: Values, metrics: Sequence[str]) -> list[tuple[str, object]]:
    return [
        (METRICS[name].title, METRICS[name].format(means[name]))
        for name in metrics
        if name in means
    ]


def _table(made: Page, result: SetResult | ClipResult) -> None:
    """The means of all models and, where there are, the published ones; the best of ours stands
    out."""
    groups = list(result.models[0].groups)
    columns = [(name, group) for name in result.metrics for group in ("", *groups)]
    rows: list[list[object]] = [
        [
            one.model,
            *((one.groups.get(g, {}) if g else one.means).get(name) for name, g in columns),
            one.seconds,
            one.runs_on,
        ]
        for one in result.models
    ]
    highlight = set()
    for place, (name, _) in enumerate(columns, start=1):
        values = [value for row in rows if isinstance(value := row[place], float)]
        if len(rows) > 1 and values:
            best = max(values) if METRICS[name].better == "higher" else min(values)
            highlight |= {(r, place) for r, row in enumerate(rows) if row[place] == best}
    if isinstance(result, SetResult):
        for model in dict.fromkeys(figure.model for figure in result.published):
            found = {(f.metric, f.group): f.value for f in result.published if f.model == model}
            if found.keys() & set(columns):
                rows.append([model, *(found.get(column) for column in columns), None, "published"])
    heads = [f"{METRICS[name].title} {group}".rstrip() for name, group in columns]
    made.section("Means")
    made.table(["model", *heads, "seconds a frame", ""], rows, highlight=highlight)


def _speed(made: Page, models: Sequence[ModelScores], metric: str | None) -> None:
    points = [
        Point(1 / one.seconds, one.means[metric], one.model, highlight=number_ == 0)
        for number_, one in enumerate(models)
        if metric is not None and one.seconds > 0
    ]
    if len(points) > 1 and metric is not None:
        made.section("Quality and speed", "On the machine that this was measured on.")
        made.scatter_chart(points, "new frames a second", METRICS[metric].title, x_logarithmic=True)


def _hardest(scores: ModelScores, metric: str) -> list[FrameScore]:
    higher = METRICS[metric].better == "higher"
    return sorted(scores.frames, key=lambda one: one.values[metric], reverse=not higher)


def _ranked(scores: ModelScores, metric: str) -> Series:
    values = [one.values[metric] for one in _hardest(scores, metric)]
    count = len(values)
    places = [100 * (n + 0.5) / count for n in range(count)]
    return Series(scores.model, places, [v if math.isfinite(v) else None for v in values])


def _over_time(scores: ModelScores, metric: str, result: ClipResult) -> Series:
    gap = Fraction(result.factor) / result.rate
    places = [_seconds(one.item) + float(one.t * gap) for one in scores.frames]
    return Series(scores.model, places, [one.values[metric] for one in scores.frames])


def _seconds(time: str) -> float:
    """The seconds that ``1:02:03.450`` means."""
    total = 0.0
    for part in time.split(":"):
        total = 60 * total + float(part)
    return total


def _worst_frames(made: Page, models: Sequence[ModelScores], gallery: Gallery) -> None:
    worst = gallery.worst()
    if not worst or gallery.metric is None:
        return
    measure, first = METRICS[gallery.metric], models[0].model
    made.section(
        f"Where {first} is furthest from the truth",
        "Left of the line the true frame, right of it the rebuilt one. The lists choose others.",
    )
    for one in worst:
        value = measure.format(one.score.values[gallery.metric])
        others = [(name, picture) for name, picture in one.made.items() if name != first]
        blend = [] if "blend" in one.made else [("plain blend", one.blend)]
        made.slider(
            [("true frame", one.true), *blend, *others, (first, one.made[first])],
            f"{' · '.join(dict.fromkeys([one.score.clip, one.score.item]))} · t = {one.score.t} · "
            f"{measure.title}: {value}",
        )
