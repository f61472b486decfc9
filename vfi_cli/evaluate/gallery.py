"""The pictures of the frames that a model rebuilt worst, kept for a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vfi_cli.evaluate.results import FrameScore
from vfi_cli.quality.image import Rgb
from vfi_cli.quality.metrics import METRICS
from vfi_cli.report import Picture, embed

#: How many frames of each model are kept.
KEPT = 4


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A rebuilt frame beside the true one and the mean of the frames that were given."""

    score: FrameScore
    true: Picture
    blend: Picture
    made: Picture


class Gallery:
    """Collects the worst frames of each model by one measure, one an item at most.

    Pictures are reduced to what a report shows as they come, so that memory stays small.
    """

    def __init__(self, metrics: Sequence[str]) -> None:
        judges = [name for name in metrics if METRICS[name].frame is not None]
        #: the measure that decides: PSNR, or else the first of single frames; None without any
        self.metric = "psnr" if "psnr" in judges else next(iter(judges), None)
        self._kept: dict[str, list[Exhibit]] = {}

    def offer(
        self, model: str, score: FrameScore, true: Rgb, made: Rgb, given: tuple[Rgb, Rgb]
    ) -> None:
        """Keep a frame if it is among the model's worst so far."""
        if self.metric is None:
            return
        kept = self._kept.setdefault(model, [])
        same = next((one for one in kept if _name(one.score) == _name(score)), None)
        loser = same or (kept[-1] if len(kept) == KEPT else None)
        if loser is not None and self._badness(score) <= self._badness(loser.score):
            return
        if loser is not None:
            kept.remove(loser)
        share = float(score.t)
        blend = (given[0] * (1 - share) + given[1] * share) / 255
        kept.append(Exhibit(score, embed(true), embed(blend), embed(made)))
        kept.sort(key=lambda one: -self._badness(one.score))

    def worst(self, model: str) -> list[Exhibit]:
        """A model's worst frames, the worst first."""
        return list(self._kept.get(model, ()))

    def _badness(self, score: FrameScore) -> float:
        assert self.metric is not None
        value = score.values[self.metric]
        return -value if METRICS[self.metric].better == "higher" else value


def _name(score: FrameScore) -> tuple[str, str]:
    return score.clip, score.item
