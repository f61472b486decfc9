"""Scoring models on a benchmark: every item in its protocol, and the mean as the papers take it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vfi_cli.api import ModelOptions
from vfi_cli.datasets.benchmarks import (
    Item,
    benchmark_named,
    check_complete,
    incomplete,
    items,
)
from vfi_cli.datasets.clips import Picture
from vfi_cli.datasets.pictures import PictureReader
from vfi_cli.datasets.published import published
from vfi_cli.errors import InputError, UsageError
from vfi_cli.evaluate.gallery import Gallery
from vfi_cli.evaluate.rebuild import Given, ModelRebuilder
from vfi_cli.evaluate.results import (
    FrameScore,
    ModelScores,
    RowScore,
    SetResult,
    mean_by,
    mean_of,
)
from vfi_cli.quality.image import Rgb
from vfi_cli.quality.metrics import METRICS, Metric
from vfi_cli.quality.video import Row

#: Frames of a row after which it is measured, and a new one begins: what is kept in memory.
ROW_FRAMES = 33

Report = Callable[[int, int], None]


def evaluate_set(
    name: str,
    root: Path,
    models: Sequence[ModelOptions],
    *,
    metrics: Sequence[str] | None = None,
    limit: int | None = None,
    allow_missing: bool = False,
    gallery: Gallery | None = None,
    on_frame: Report = lambda done, total: None,
) -> SetResult:
    """Score models on a benchmark.

    root: the data set's folder, or one that holds it. metrics: None for those of the papers.
    limit: only so many items, spread evenly over the set. allow_missing: leave out clips of which
    files are missing, and say so in the result. gallery: is offered all pictures. on_frame is
    told after each rebuilt frame how many are done, and of how many.

    Raises UsageError, InputError that names the first file that is missing, ModelError and
    DeviceError.
    """
    benchmark = benchmark_named(name)
    found = items(name, root)
    usable, wrong = check_complete(name, found)
    if (wrong and not allow_missing) or not usable:
        raise incomplete(name, wrong)
    chosen = spread(usable, limit)
    wanted = [METRICS[metric] for metric in metrics or benchmark.metrics]
    check_rows(chosen, wanted)
    truth = TrueRows()
    rebuilders = [ModelRebuilder.open(options) for options in models]
    scorers = [Scorer(model.name, wanted, truth, gallery) for model in rebuilders]
    total = len(scorers) * sum(len(item.targets) for item in chosen)
    done = 0
    with PictureReader() as reader:
        for item in chosen:
            pictures = load(reader, item, benchmark.crop)
            for rebuilder, scorer in zip(rebuilders, scorers, strict=True):
                made, seconds = rebuild(rebuilder, item, pictures)
                scorer.measure(item, pictures, made, seconds)
                done += len(made)
                on_frame(done, total)
    return SetResult(
        benchmark=name,
        title=benchmark.title,
        protocol=benchmark.notes,
        metrics=tuple(metric.name for metric in wanted),
        models=tuple(
            scorer.result(benchmark.mean, rebuilder.runs_on)
            for scorer, rebuilder in zip(scorers, rebuilders, strict=True)
        ),
        items=len(chosen),
        all_items=len(found),
        clips=len({item.clip for item in chosen}),
        all_clips=benchmark.clips,
        wrong=wrong,
        published=published(name),
    )


def spread(found: Sequence[Item], limit: int | None) -> list[Item]:
    """``limit`` of the items, evenly spread; all of them for None or where there are no more."""
    if limit is None or limit >= len(found):
        return list(found)
    if limit < 1:
        raise UsageError("--limit must be 1 or more")
    return [found[n * len(found) // limit] for n in range(limit)]


def check_rows(chosen: Sequence[Item], wanted: Iterable[Metric]) -> None:
    """Raise UsageError for a measure that needs longer rows of frames than there are."""
    longest = length = 0
    previous: Item | None = None
    for item in chosen:
        length = (length if continues(previous, item) else 1) + len(item.targets) + 1
        longest, previous = max(longest, min(length, ROW_FRAMES)), item
    for metric in wanted:
        if metric.least_frames > longest:
            raise UsageError(
                f"{metric.title} needs rows of {metric.least_frames} frames; the longest here "
                f"has {longest}"
            )


def continues(previous: Item | None, item: Item) -> bool:
    """Whether an item begins with the frame that the one before ended with."""
    return previous is not None and previous.clip == item.clip and previous.second == item.first


def load(reader: PictureReader, item: Item, crop: int | None) -> Mapping[Picture, Rgb]:
    """An item's pictures. Raises InputError that names the first of another size."""
    pictures = reader.read(item.pictures)
    first = pictures[item.first].shape
    for picture, pixels in pictures.items():
        if pixels.shape != first:
            raise InputError(
                f"{picture} is {pixels.shape[1]}×{pixels.shape[0]}, but {item.first} is "
                f"{first[1]}×{first[0]}; the pictures of an item must be of one size"
            )
    if crop is None:
        return pictures
    return {picture: centre(pixels, crop) for picture, pixels in pictures.items()}


def centre(pixels: Rgb, side: int) -> Rgb:
    """The square in the middle; all of what is smaller."""
    height, width = pixels.shape[:2]
    top, left = (max(0, (length - side) // 2) for length in (height, width))
    return pixels[top : top + side, left : left + side]


def rebuild(
    rebuilder: ModelRebuilder, item: Item, pictures: Mapping[Picture, Rgb]
) -> tuple[list[Rgb], float]:
    """An item's frames as a model makes them, and the seconds that each took."""

    def given(picture: Picture) -> Given:
        return Given(picture, pictures[picture])

    began = time.perf_counter()
    made = rebuilder.between(
        given(item.first),
        given(item.second),
        [t for t, _ in item.targets],
        before=None if item.before is None else given(item.before),
        after=None if item.after is None else given(item.after),
    )
    return made, (time.perf_counter() - began) / len(made)


@dataclass
class Scorer:
    """Collects the scores of one model on its way through the items."""

    model: str
    metrics: Sequence[Metric]
    truth: TrueRows  # shared by all that score the same items
    gallery: Gallery | None = None
    frames: list[FrameScore] = field(default_factory=list)
    rows: RowScorer = field(init=False)

    def __post_init__(self) -> None:
        self.rows = RowScorer([m for m in self.metrics if m.row is not None], self.truth)

    def measure(
        self, item: Item, pictures: Mapping[Picture, Rgb], made: Sequence[Rgb], seconds: float
    ) -> None:
        """Compare an item's frames with what was made of it, at so many seconds a frame."""
        truth = [pictures[picture] for _, picture in item.targets]
        for (t, _), true, picture in zip(item.targets, truth, made, strict=True):
            values = {m.name: m.frame(true, picture) for m in self.metrics if m.frame is not None}
            score = FrameScore(item.name, item.clip, item.group, t, seconds, values)
            self.frames.append(score)
            if self.gallery is not None:
                given = pictures[item.first], pictures[item.second]
                self.gallery.offer(self.model, score, true, picture, given)
        self.rows.add(item, pictures[item.first], truth, made, pictures[item.second])

    def result(self, mean: Literal["items", "clips"], runs_on: str) -> ModelScores:
        """The means over everything scored, of items or of the clips' means."""
        self.rows.close()
        groups = list(dict.fromkeys(frame.group for frame in self.frames if frame.group))
        return ModelScores(
            model=self.model,
            runs_on=runs_on,
            frames=tuple(self.frames),
            rows=tuple(self.rows.scores),
            means=means(mean, self.frames, self.rows.scores),
            groups={
                group: means(
                    mean,
                    [frame for frame in self.frames if frame.group == group],
                    [row for row in self.rows.scores if row.group == group],
                )
                for group in groups
            },
            seconds=seconds_per_frame(self.frames),
        )


def means(
    kind: Literal["items", "clips"], frames: Sequence[FrameScore], rows: Sequence[RowScore]
) -> dict[str, float]:
    """The mean of items, each the mean of its frames; or of clips, each the mean of its frames."""
    if kind == "clips":
        parts = [mean_by(scores, lambda score: score.clip) for scores in (frames, rows)]
    else:
        parts = [mean_by(frames, lambda frame: frame.item), [dict(row.values) for row in rows]]
    return mean_of(parts[0]) | mean_of(parts[1])


def seconds_per_frame(frames: Sequence[FrameScore]) -> float:
    """The mean, without the first item's where there are more."""
    later = [frame.seconds for frame in frames if frame.item != frames[0].item]
    taken = later or [frame.seconds for frame in frames]
    return sum(taken) / len(taken) if taken else 0.0


@dataclass
class TrueRows:
    """The true row that was asked for last: what is known of its motion serves every model."""

    _name: tuple[str, int] = ("", 0)
    _row: Row | None = None

    def row(self, first: str, frames: Sequence[Rgb]) -> Row:
        """The row of these frames, which begins with the item of that name."""
        if self._row is None or self._name != (first, len(frames)):
            self._name, self._row = (first, len(frames)), Row(frames)
        return self._row


@dataclass
class RowScorer:
    """Collects the frames of items that follow each other, and measures them as they move."""

    metrics: Sequence[Metric]
    truth: TrueRows
    scores: list[RowScore] = field(default_factory=list)
    _truth: list[Rgb] = field(default_factory=list)
    _made: list[Rgb] = field(default_factory=list)
    _begin: Item | None = None
    _last: Item | None = None

    def add(
        self, item: Item, first: Rgb, truth: Sequence[Rgb], made: Sequence[Rgb], second: Rgb
    ) -> None:
        """The next item's frames: given, true and made between, given."""
        if not self.metrics:
            return
        full = len(self._made) + len(made) + 1 > ROW_FRAMES
        if full or not continues(self._last, item):
            self.close()
            self._truth, self._made, self._begin = [first], [first], item
        self._truth += [*truth, second]
        self._made += [*made, second]
        self._last = item

    def close(self) -> None:
        """Measure what was collected. Rows that are too short for a measure are left out of it."""
        if self._begin is None:
            return
        row = self.truth.row(self._begin.name, self._truth)
        values = {
            metric.name: metric.row(row, self._made)
            for metric in self.metrics
            if metric.row is not None and len(row) >= metric.least_frames
        }
        if len(values) == len(self.metrics):
            item = self._begin
            self.scores.append(RowScore(item.clip, item.group, item.name, len(row), values))
        self._truth, self._made, self._begin, self._last = [], [], None, None
