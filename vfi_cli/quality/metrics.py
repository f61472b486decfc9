"""The measures by name: what they are called, which way is better, what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from vfi_cli.errors import UsageError
from vfi_cli.quality import image, video
from vfi_cli.quality.image import Rgb
from vfi_cli.quality.video import Row

OfFrame = Callable[[Rgb, Rgb], float]
OfRow = Callable[[Row, Sequence[Rgb]], float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure, of single frames (``frame``) or of rows of them (``row``)."""

    name: str
    title: str
    better: Literal["higher", "lower"]
    digits: int  # that tell something
    frame: OfFrame | None = None
    row: OfRow | None = None
    least_frames: int = 1  # of a row

    def format(self, value: float) -> str:
        return f"{value:.{self.digits}f}"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("psnr", "PSNR, dB", "higher", 2, frame=image.psnr),
        Metric("psnr-y", "PSNR of luma, dB", "higher", 2, frame=image.psnr_luma),
        Metric("ssim", "SSIM", "higher", 4, frame=image.ssim),
        Metric("ssim-rgb", "SSIM of the channels", "higher", 4, frame=image.ssim_channels),
        Metric("msssim", "MS-SSIM", "higher", 4, frame=image.ms_ssim),
        Metric("ie", "IE", "lower", 2, frame=image.interpolation_error),
        Metric("niqe", "NIQE", "lower", 2, frame=video.niqe),
        Metric("strred", "ST-RRED", "lower", 2, row=video.strred, least_frames=3),
        Metric("viideo", "VIIDEO", "lower", 3, row=video.viideo, least_frames=8),
        Metric("flicker", "flicker", "lower", 2, row=video.flicker, least_frames=2),
        Metric("duplicates", "duplicates", "lower", 3, row=video.duplicates, least_frames=2),
    )
}


def deciding(names: Sequence[str]) -> str | None:
    """Which of these measures decides: PSNR, or else the first of single frames; None without."""
    of_frames = [name for name in names if METRICS[name].frame is not None]
    return "psnr" if "psnr" in of_frames else next(iter(of_frames), None)


def parse_metrics(text: str) -> tuple[str, ...]:
    """``psnr,ssim`` as names, each once. Raises UsageError that lists the known ones."""
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in METRICS:
            raise UsageError(f"'{name}' is not a measure; choose among {', '.join(METRICS)}")
    if not names:
        raise UsageError(f"no measure was named; choose among {', '.join(METRICS)}")
    return names
