"""Scoring models on a clip of one's own: frames are removed, rebuilt and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vfi_cli import memory
from vfi_cli.api import ModelOptions
from vfi_cli.cuts import signature
from vfi_cli.datasets.benchmarks import Item
from vfi_cli.datasets.clips import Picture
from vfi_cli.datasets.pictures import rgb8
from vfi_cli.errors import InputError, UsageError
from vfi_cli.evaluate.advice import recommendation
from vfi_cli.evaluate.gallery import Gallery
from vfi_cli.evaluate.rebuild import MINTERPOLATE, ModelRebuilder, minterpolate
from vfi_cli.evaluate.results import ClipResult, ModelScores
from vfi_cli.evaluate.sets import Scorer, TrueRows, check_rows, continues, rebuild
from vfi_cli.io.decode import FrameReader, SourceInfo, probe
from vfi_cli.quality.image import Rgb
from vfi_cli.quality.metrics import METRICS, Metric, deciding
from vfi_cli.scenes import SceneStream
from vfi_cli.timeline import format_time
from vfi_cli.wording import counted

if TYPE_CHECKING:
    from vfi_cli.frame import Frame

FACTORS = (2, 4)
METRICS_OF_CLIPS = ("psnr", "ssim")
#: Mean difference in code values below which nothing moves.
STILL = 0.25


@dataclass(frozen=True)
class ClipPart:
    """Which frames are looked at, ``frames`` at most: all of them are kept in memory."""

    start: Fraction = Fraction(0)  # seconds after the clip's own beginning
    duration: Fraction | None = None
    frames: int | None = 61


@dataclass
class _Clip:
    """The frames looked at, with their exact times."""

    info: SourceInfo
    pictures: dict[Picture, Rgb] = field(default_factory=dict)
    times: list[Fraction] = field(default_factory=list)
    cuts: set[int] = field(default_factory=set)  # frames after which a scene ends
    notes: list[str] = field(default_factory=list)

    def picture(self, index: int) -> Picture:
        return Picture(Path(self.info.path), index)

    def cut_between(self, first: int, second: int) -> bool:
        low, high = sorted((first, second))
        return any(index in self.cuts for index in range(low, high))

    def neighbour(self, index: int, beside: int) -> Picture | None:
        """That frame, where there is one and no cut lies between it and the one beside it."""
        if not 0 <= index < len(self.times) or self.cut_between(index, beside):
            return None
        return self.picture(index)


def evaluate_clip(
    path: str | Path,
    models: Sequence[ModelOptions],
    *,
    factor: int = 2,
    part: ClipPart | None = None,
    metrics: Sequence[str] = METRICS_OF_CLIPS,
    everything: bool = False,
    gallery: Gallery | None = None,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> ClipResult:
    """Remove all but every ``factor``-th frame, rebuild them with each model and compare.

    models: as conversions take them; one named ``minterpolate`` stands for ffmpeg's filter.
    Removed frames beside which a cut lies cannot be rebuilt, and those where nothing moves say
    nothing: both are left out, unless ``everything`` is scored. All is compared as 8-bit R'G'B'.
    A time between two frames is exact where the rate varies. ``gallery`` is offered all pictures.

    Raises UsageError, InputError for a clip that is too short, does not move or cannot be read,
    ModelError and DeviceError.
    """
    if factor not in FACTORS:
        raise UsageError(f"--factor must be {' or '.join(map(str, FACTORS))}, not {factor}")
    clip = _read(path, part or ClipPart())
    found = list(_items(clip, factor))
    if not found:
        raise InputError(
            f"{path}: has {counted(len(clip.times), 'frame')}; {factor + 1} or more are needed"
        )
    at_cuts = [] if everything else [item for item in found if _at_cut(clip, item)]
    rest = [item for item in found if item not in at_cuts]
    still = [] if everything else [item for item in rest if _stands_still(clip, item)]
    chosen = [item for item in rest if item not in still]
    if not chosen:
        raise InputError(
            f"{path}: nothing moves in the {len(clip.times)} frames looked at, or cuts lie "
            "between all of them; choose another part with --start"
        )
    wanted = [METRICS[name] for name in metrics]
    check_rows(chosen, wanted)
    scores = _Contest(clip, chosen, rest, factor, wanted, gallery, on_frame).run(models)
    first, judge = clip.pictures[clip.picture(0)], deciding(metrics)
    between = factor - 1
    return ClipResult(
        path=str(path),
        width=first.shape[1],
        height=first.shape[0],
        rate=clip.info.nominal_rate,
        factor=factor,
        frames=len(clip.times),
        rebuilt=len(chosen) * between,
        at_cuts=len(at_cuts) * between,
        still=len(still) * between,
        metrics=tuple(metrics),
        models=tuple(scores),
        recommendation=recommendation(scores, judge) if judge else "",
        notes=tuple(clip.notes),
    )


class _Contest:
    """Every model on the same items."""

    def __init__(
        self,
        clip: _Clip,
        chosen: Sequence[Item],
        rest: Sequence[Item],
        factor: int,
        metrics: Sequence[Metric],
        gallery: Gallery | None,
        on_frame: Callable[[int, int], None],
    ) -> None:
        self._clip, self._chosen, self._rest = clip, chosen, rest
        self._factor, self._metrics, self._on_frame = factor, metrics, on_frame
        self._gallery = gallery
        self._truth = TrueRows()
        self._done = self._total = 0

    def run(self, models: Sequence[ModelOptions]) -> list[ModelScores]:
        """The scores of each. ffmpeg's filter is left out, with a note, where it cannot work."""
        self._total = len(models) * sum(len(item.targets) for item in self._chosen)
        scores = []
        for options in models:
            if options.name == MINTERPOLATE:
                found = self._minterpolate()
            else:
                found = self._model(ModelRebuilder.open(options))
            if found is not None:
                scores.append(found)
        return scores

    def _model(self, rebuilder: ModelRebuilder) -> ModelScores:
        scorer = Scorer(rebuilder.name, self._metrics, self._truth, self._gallery)
        for item in self._chosen:
            self._measure(scorer, item, *rebuild(rebuilder, item, self._clip.pictures))
        return scorer.result("items", rebuilder.runs_on)

    def _measure(self, scorer: Scorer, item: Item, made: Sequence[Rgb], seconds: float) -> None:
        scorer.measure(item, self._clip.pictures, made, seconds)
        self._done += len(made)
        self._on_frame(self._done, self._total)

    def _minterpolate(self) -> ModelScores | None:
        pictures, scored = self._clip.pictures, set(self._chosen)
        scorer = Scorer(MINTERPOLATE, self._metrics, self._truth, self._gallery)
        try:
            for row in _rows(self._rest):
                kept = [pictures[item.first] for item in row] + [pictures[row[-1].second]]
                began = time.perf_counter()
                made = minterpolate(kept, self._factor)
                seconds = (time.perf_counter() - began) / (len(row) * (self._factor - 1))
                for item, between in zip(row, made, strict=True):
                    if item in scored:
                        self._measure(scorer, item, between, seconds)
        except InputError as error:
            self._clip.notes.append(str(error))
            return None
        if self._clip.info.variable:
            self._clip.notes.append(
                "minterpolate knows no variable frame rate and puts its frames at even times"
            )
        return scorer.result("items", "ffmpeg's filter")


def _read(path: str | Path, part: ClipPart) -> _Clip:
    """The frames of the part, and where scenes end in them."""
    info = probe(path)
    clip = _Clip(info)
    begin = info.start + part.start
    end = None if part.duration is None else begin + part.duration
    first = next((pts for pts in info.pts if pts * info.time_base >= begin), None)
    if first is None:
        raise UsageError(
            f"--start {format_time(part.start)} lies beyond the end of {path} "
            f"({format_time(info.duration)})"
        )
    there = sum(pts >= first and (end is None or pts * info.time_base < end) for pts in info.pts)
    _check_memory(info, there if part.frames is None else min(there, part.frames))
    scenes: SceneStream[int] = SceneStream()
    with FrameReader(info, start_pts=first) as reader:
        for index, frame in enumerate(_taken(reader, end, part.frames)):
            clip.times.append(frame.time)
            clip.pictures[clip.picture(index)] = rgb8(frame)
            sign = signature(frame)
            clip.cuts |= {d.payload for d in scenes.feed(index, sign, frame.time) if d.cut_after}
    clip.cuts |= {decided.payload for decided in scenes.flush() if decided.cut_after}
    if reader.broken is not None:
        when = format_time(reader.broken.time)
        clip.notes.append(f"the picture cannot be decoded after {when} ({reader.broken.reason})")
    return clip


def _check_memory(info: SourceInfo, count: int) -> None:
    """Raise UsageError where so many frames would take most of the memory that is left."""
    free = memory.available()
    each = 3 * info.width * info.height
    if free is not None and count * each > free // 2:
        raise UsageError(
            f"{count} frames of {info.width}×{info.height} take {count * each / 1e9:.1f} GB of "
            f"memory, and {free / 1e9:.1f} GB are left; look at fewer with --frames"
        )


def _taken(reader: FrameReader, end: Fraction | None, most: int | None) -> Iterator[Frame]:
    for number, frame in enumerate(reader):
        if (most is not None and number >= most) or (end is not None and frame.time >= end):
            return
        yield frame


def _items(clip: _Clip, factor: int) -> Iterator[Item]:
    """Every pair of kept frames with what lies between; times are shares of the true ones."""
    times = clip.times
    for left in range(0, len(times) - factor, factor):
        right = left + factor
        gap = times[right] - times[left]
        yield Item(
            name=format_time(times[left] - clip.info.start, decimals=3),
            clip=Path(clip.info.path).name,
            first=clip.picture(left),
            second=clip.picture(right),
            targets=tuple(
                ((times[index] - times[left]) / gap, clip.picture(index))
                for index in range(left + 1, right)
            ),
            before=clip.neighbour(left - factor, left),
            after=clip.neighbour(right + factor, right),
        )


def _at_cut(clip: _Clip, item: Item) -> bool:
    assert item.first.index is not None
    assert item.second.index is not None
    return clip.cut_between(item.first.index, item.second.index)


def _stands_still(clip: _Clip, item: Item) -> bool:
    first = clip.pictures[item.first].astype(np.int16)
    others = [picture for _, picture in item.targets] + [item.second]
    return all(float(np.abs(clip.pictures[p] - first).mean()) < STILL for p in others)


def _rows(found: Sequence[Item]) -> Iterator[list[Item]]:
    """The items in rows of those that follow each other."""
    row: list[Item] = []
    for item in found:
        if row and not continues(row[-1], item):
            yield row
            row = []
        row.append(item)
    if row:
        yield row
