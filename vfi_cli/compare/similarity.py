"""SSIM fast enough for every frame of a video."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.frame import Samples

_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = 0.01**2, 0.03**2  # for values in [0, 1]


def ssim(first: Samples, second: Samples, peak: int) -> float:
    """What :func:`vfi_cli.quality.image.ssim` measures, in float32: at most 1.

    Pictures are (3, H, W) code values up to ``peak``. The window is a Gaussian of 11 × 11 × 11
    over rows, columns and channels; beyond the ends is the nearest sample. Wang et al., "Image
    Quality Assessment: From Error Visibility to Structural Similarity", 2004, equation 13.
    """
    # Half is taken off so that squares and squared means, whose difference counts, stay small.
    a, b = (_planes(picture, peak).sub_(0.5) for picture in (first, second))
    mean_a, mean_b, aa, bb, ab = (_blurred(maps) for maps in (a, b, a * a, b * b, a * b))
    covariance = ab.sub_(mean_a * mean_b).mul_(2).add_(_C2)
    variances = aa.sub_(mean_a.square()).add_(bb.sub_(mean_b.square())).add_(_C2)
    mean_a.add_(0.5)
    mean_b.add_(0.5)
    means = (mean_a * mean_b).mul_(2).add_(_C1)
    squares = mean_a.square_().add_(mean_b.square_()).add_(_C1)
    return float(means.mul_(covariance).div_(squares.mul_(variances)).mean(dtype=torch.float64))


def _planes(picture: Samples, peak: int) -> Tensor:
    return torch.from_numpy(picture.astype(np.float32)).mul_(1 / peak)


def _taps() -> list[float]:
    weights = [math.exp(-(place**2) / (2 * _SIGMA**2)) for place in range(-_RADIUS, _RADIUS + 1)]
    return [weight / sum(weights) for weight in weights]


def _blurred(maps: Tensor) -> Tensor:
    """(C, H, W) weighted by the window over C, H and W."""
    taps, channels = _taps(), maps.shape[0]
    across = torch.zeros(channels, channels)
    for to in range(channels):
        for tap, weight in enumerate(taps):
            across[to, min(max(to + tap - _RADIUS, 0), channels - 1)] += weight
    # One plane at a time, which a cache holds; sums of shifted planes are faster than torch's
    # convolution of so few channels.
    planes = []
    for plane in torch.einsum("oc,chw->ohw", across, maps):
        wide = F.pad(plane[None, None], (_RADIUS,) * 4, mode="replicate")[0, 0]
        planes.append(_weighted(_weighted(wide, taps, 0), taps, 1))
    return torch.stack(planes)


def _weighted(plane: Tensor, taps: list[float], dim: int) -> Tensor:
    size = plane.shape[dim] - 2 * _RADIUS
    result = plane.narrow(dim, 0, size) * taps[0]
    for place, weight in enumerate(taps[1:], start=1):
        result.add_(plane.narrow(dim, place, size), alpha=weight)
    return result
