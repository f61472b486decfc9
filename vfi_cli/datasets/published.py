"""Figures that the authors of models published, for the benchmarks of this package.

Sources: RIFE and RIFEm, Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame
Interpolation", ECCV 2022, and its repository; IFRNet, Kong et al., CVPR 2022, and its repository;
DVF as these two quote it; EQVI, Liu et al., ECCV Workshops 2020, and its repository.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One published mean. ``group`` is a class of clips where a benchmark has several."""

    benchmark: str
    model: str
    metric: str
    value: float
    group: str = ""


_PSNR_SSIM = {
    "vimeo-triplet": {
        "RIFE": (35.61, 0.978),
        "RIFEm": (35.46, 0.978),
        "RIFE-Large": (36.19, 0.981),
        "IFRNet-S": (35.59, 0.9786),
        "IFRNet": (35.80, 0.9794),
        "IFRNet-L": (36.20, 0.9808),
        "DVF": (34.56, 0.973),
    },
    "ucf101": {
        "RIFE": (35.28, 0.969),
        "RIFEm": (35.22, 0.969),
        "RIFE-Large": (35.41, 0.970),
        "IFRNet-S": (35.28, 0.9691),
        "IFRNet": (35.29, 0.9693),
        "IFRNet-L": (35.42, 0.9698),
        "DVF": (34.92, 0.968),
    },
    "gopro": {"IFRNet": (29.84, 0.920)},
    "adobe240": {"IFRNet": (31.93, 0.943)},
    "reds-vtsr5": {
        "EQVI Stage3": (24.9633, 0.7268),
        "EQVI Stage4": (24.9706, 0.7263),
        "EQVI Stage123": (25.0699, 0.7296),
        "EQVI-P": (24.9684, 0.7237),
    },
}
_ONE: dict[tuple[str, str], dict[str, float]] = {
    ("middlebury", "ie"): {"RIFE": 1.96, "RIFEm": 2.16, "RIFE-Large": 1.82, "DVF": 2.47},
    ("hd", "psnr-y"): {"RIFE": 32.14, "RIFEm": 32.31, "RIFE-Large": 32.31, "DVF": 31.47},
    ("x-test", "psnr"): {"RIFEm": 30.58},
    ("reds-vtsr", "psnr"): {
        "EQVI Stage3": 24.0354,
        "EQVI Stage4": 24.0562,
        "EQVI Stage123": 24.0962,
        "EQVI-P": 24.0069,
    },
}
_SNU = {
    "RIFE": (40.06, 35.75, 30.10, 24.84),
    "IFRNet-S": (39.96, 35.92, 30.36, 25.05),
    "IFRNet": (40.03, 35.94, 30.41, 25.05),
    "IFRNet-L": (40.10, 36.12, 30.63, 25.27),
}
_HD_4X = {"RIFEm": {"544p": 22.95, "720p": 31.87, "1080p": 34.25}}


def _all() -> list[Figure]:
    found = [
        Figure(benchmark, model, metric, value)
        for benchmark, models in _PSNR_SSIM.items()
        for model, values in models.items()
        for metric, value in zip(("psnr", "ssim"), values, strict=True)
    ]
    found += [
        Figure(benchmark, model, metric, value)
        for (benchmark, metric), models in _ONE.items()
        for model, value in models.items()
    ]
    found += [
        Figure(f"snu-film-{level}", model, "psnr", value)
        for model, values in _SNU.items()
        for level, value in zip(("easy", "medium", "hard", "extreme"), values, strict=True)
    ]
    found += [
        Figure("hd-4x", model, "psnr-y", value, group)
        for model, groups in _HD_4X.items()
        for group, value in groups.items()
    ]
    return found


FIGURES: tuple[Figure, ...] = tuple(_all())


def published(benchmark: str) -> tuple[Figure, ...]:
    """The figures for one benchmark; none for one that nobody's paper here reports."""
    return tuple(figure for figure in FIGURES if figure.benchmark == benchmark)
