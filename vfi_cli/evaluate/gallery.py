"""The pictures of the frames that are hardest to rebuild, kept for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from vfi_cli.evaluate.results import FrameScore
from vfi_cli.quality.image import Rgb
from vfi_cli.quality.metrics import METRICS, deciding
from vfi_cli.report import Picture, embed

#: How many frames are kept.
KEPT = 6


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A frame as it truly is, as the mean of the frames that were given, and as models made it."""

    score: FrameScore  # of the first model
    true: Picture
    blend: Picture
    made: dict[str, Picture] = field(default_factory=dict)  # by model


class Gallery:
    """Collects the frames that the first model rebuilt worst, one an item at most, with what the
    other models made of them.

    Every frame is offered by the first model before the others. Pictures are reduced to what a
    report shows as they come, so that memory stays small.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        self.metric = deciding(metrics)
        self._first: str | None = None
        self._kept: list[Exhibit] = []

    def offer(
        self, model: str, score: FrameScore, true: Rgb, made: Rgb, given: tuple[Rgb, Rgb]
    ) -> None:
        """Keep a frame if it is among the worst so far."""
        if self.metric is None:
            return
        self._first = self._first or model
        if model != self._first:
            for one in self._kept:
                if _frame(one.score) == _frame(score):
                    one.made[model] = embed(made)
            return
        same = next((one for one in self._kept if _item(one.score) == _item(score)), None)
        loser = same or (self._kept[-1] if len(self._kept) == KEPT else None)
        if loser is not None and self._badness(score) <= self._badness(loser.score):
            return
        if loser is not None:
            self._kept.remove(loser)
        share = float(score.t)
        blend = (given[0] * (1 - share) + given[1] * share) / 255
        self._kept.append(Exhibit(score, embed(true), embed(blend), {model: embed(made)}))
        self._kept.sort(key=lambda one: -self._badness(one.score))

    def worst(self) -> list[Exhibit]:
        """What was kept, the worst first."""
        return list(self._kept)

    def _badness(self, score: FrameScore) -> float:
        assert self.metric is not None
        value = score.values[self.metric]
        return -value if METRICS[self.metric].better == "higher" else value


def _item(score: FrameScore) -> tuple[str, str]:
    return score.clip, score.item


def _frame(score: FrameScore) -> tuple[str, str, Fraction]:
    return score.clip, score.item, score.t
