"""What an evaluation found, as plain data: single frames, rows of frames, means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from vfi_cli.datasets.published import Figure

Values = Mapping[str, float]  # by the metric's name


@dataclass(frozen=True, slots=True)
class FrameScore:
    """One rebuilt frame."""

    item: str
    clip: str
    group: str  # a class of clips with a mean of its own; mostly empty
    t: Fraction  # between the frames given, 0 … 1
    seconds: float  # that making it took
    values: Values


@dataclass(frozen=True, slots=True)
class RowScore:
    """A row of frames in motion, given and rebuilt ones."""

    clip: str
    group: str
    first: str  # the item that it begins with
    frames: int
    values: Values


@dataclass(frozen=True)
class ModelScores:
    """How one model did. ``means`` are taken as the benchmark's papers take them, ``groups`` has
    the same for each class of clips; ``seconds`` is the mean for a frame, without the first
    item's, which warms everything up, where there are more."""

    model: str  # as it was asked for
    runs_on: str  # "float32 on cpu, scale 1"; empty for what is no model of ours
    frames: tuple[FrameScore, ...]
    rows: tuple[RowScore, ...]
    means: Values
    groups: Mapping[str, Values]
    seconds: float


@dataclass(frozen=True)
class SetResult:
    """The result of :func:`vfi_cli.evaluate.sets.evaluate_set`."""

    benchmark: str
    title: str
    protocol: str
    metrics: tuple[str, ...]
    models: tuple[ModelScores, ...]
    items: int  # scored
    all_items: int  # of the clips that are there
    clips: int  # scored
    all_clips: int  # of the complete set
    wrong: tuple[str, ...]  # what is missing, a line each
    published: tuple[Figure, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the means are those of the whole set."""
        return self.items == self.all_items and not self.wrong


@dataclass(frozen=True)
class ClipResult:
    """The result of :func:`vfi_cli.evaluate.clip.evaluate_clip`. ``rate`` is that of the clip."""

    path: str
    width: int  # pixels, as scored
    height: int
    rate: Fraction
    factor: int
    frames: int  # looked at
    rebuilt: int  # removed and rebuilt
    at_cuts: int  # removed, not scored: a cut lies between the frames beside them
    still: int  # removed, not scored: nothing moves between the frames beside them
    metrics: tuple[str, ...]
    models: tuple[ModelScores, ...]
    recommendation: str
    notes: tuple[str, ...] = ()

    def real_time(self, seconds: float) -> float:
        """How fast this clip's rate would be multiplied by ``factor``, as a multiple of real
        time, at so many seconds for each new frame."""
        new = float(self.rate) * (self.factor - 1)
        return 1 / (seconds * new) if seconds and new else 0.0


def mean_of(values: Iterable[Values]) -> dict[str, float]:
    """The mean of each metric."""
    rows = list(values)
    return {name: sum(row[name] for row in rows) / len(rows) for name in (rows[0] if rows else ())}


def mean_by(scores: Sequence[Any], key: Callable[[Any], str]) -> list[dict[str, float]]:
    """The means of the scores that share a key, in the order in which keys appear."""
    found: dict[str, list[Values]] = {}
    for score in scores:
        found.setdefault(key(score), []).append(score.values)
    return [mean_of(values) for values in found.values()]


def summary(result: SetResult | ClipResult) -> dict[str, Any]:
    """A result for programs: everything. ``version`` counts up when a key changes its meaning."""
    kind = "clip" if isinstance(result, ClipResult) else "benchmark"
    return {"version": 1, "kind": kind, **asdict(result)}


def table(models: Sequence[ModelScores], metrics: Sequence[str]) -> list[list[str]]:
    """One line for each rebuilt frame of each model, with a head line: what --csv writes.

    Measures of rows of frames stand on lines of their own, with the row's length in place of t.
    """
    lines = [["model", "clip", "item", "t", "frames", *metrics, "seconds"]]
    for scores in models:
        for frame in scores.frames:
            values = [_cell(frame.values, name) for name in metrics]
            seconds = f"{frame.seconds:.6f}"
            lines.append(
                [scores.model, frame.clip, frame.item, str(frame.t), "1", *values, seconds]
            )
        for row in scores.rows:
            values = [_cell(row.values, name) for name in metrics]
            lines.append([scores.model, row.clip, row.first, "", str(row.frames), *values, ""])
    return lines


def _cell(values: Values, name: str) -> str:
    return f"{values[name]:.6f}" if name in values else ""
