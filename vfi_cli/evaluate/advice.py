"""What the scores of a clip tell a person, in words; only where the difference is clear."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vfi_cli.evaluate.results import ModelScores, mean_by
from vfi_cli.quality.metrics import METRICS

#: Items below which nothing is said.
FEWEST = 4
#: Differences that nobody sees, by metric.
_SMALL = {"psnr": 0.1, "psnr-y": 0.1, "ssim": 0.001}
#: Standard errors of the mean difference beyond which it is no accident.
_SURE = 2.0
_WITHOUT_MOTION = ("blend", "nearest")


def recommendation(models: Sequence[ModelScores], metric: str) -> str:
    """Which model to take for such a clip, by its frames' scores; '' for a single model."""
    if len(models) < 2:
        return ""
    if len(mean_by(models[0].frames, lambda frame: frame.item)) < FEWEST:
        return "Too few frames were rebuilt to say which is best."
    sign = 1 if METRICS[metric].better == "higher" else -1
    ranked = sorted(models, key=lambda scores: -sign * scores.means[metric])
    best, *others = ranked
    equal = [other for other in others if not clearly_better(best, other, metric)]
    if not equal:
        return _alone(best, others[0], metric)
    among = [best, *equal]
    fastest = min(among, key=lambda scores: scores.seconds)
    names = _listed([scores.model for scores in among])
    text = f"{names} are equally good here; {fastest.model} is the fastest of them."
    if any(scores.model in _WITHOUT_MOTION for scores in among):
        text += " Motion hardly matters in this clip, so another part may tell more."
    return text


def clearly_better(a: ModelScores, b: ModelScores, metric: str) -> bool:
    """Whether the mean over items differs by more than accident and more than nobody sees."""
    sign = 1 if METRICS[metric].better == "higher" else -1
    pairs = zip(
        mean_by(a.frames, lambda frame: frame.item),
        mean_by(b.frames, lambda frame: frame.item),
        strict=True,
    )
    differences = [sign * (one[metric] - other[metric]) for one, other in pairs]
    count = len(differences)
    mean = sum(differences) / count
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / max(1, count - 1))
    return mean > _SMALL.get(metric, 0.0) and mean > _SURE * spread / math.sqrt(count)


def _alone(best: ModelScores, second: ModelScores, metric: str) -> str:
    measure = METRICS[metric]
    gap = measure.format(abs(best.means[metric] - second.means[metric]))
    unit = " dB" if metric.startswith("psnr") else ""
    text = f"{best.model} rebuilds this clip best: {gap}{unit} of {measure.name.upper()} ahead of "
    text += second.model
    if best.seconds > 1.2 * second.seconds > 0:
        text += f", in {best.seconds / second.seconds:.1f} times the time"
    return text + "."


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
