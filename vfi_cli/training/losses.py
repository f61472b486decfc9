"""The losses of the interpolation papers, on frames (B, 3, H, W) in [0, 1]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_GREY = (0.299, 0.587, 0.114)


def _blur(x: Tensor, stride: int = 1) -> Tensor:
    """Binomial 5×5 blur, separable, reflected at the borders, every ``stride``-th pixel kept."""
    c = x.shape[1]
    k = torch.tensor(_BINOMIAL, dtype=x.dtype, device=x.device)
    x = F.pad(x, (2, 2, 2, 2), mode="reflect")
    x = F.conv2d(x, k.view(1, 1, 5, 1).expand(c, 1, 5, 1), groups=c, stride=(stride, 1))
    return F.conv2d(x, k.view(1, 1, 1, 5).expand(c, 1, 1, 5), groups=c, stride=(1, stride))


def laplacian(a: Tensor, b: Tensor, levels: int = 5) -> Tensor:
    """Sum over a Laplacian pyramid's levels of the mean absolute difference (as RIFE's).

    The pyramid is linear, so it is built once, of the difference. H and W must be at least
    3·2^(levels − 2), so that the coarsest level can be blurred.
    """
    d = a - b
    total = d.new_zeros(())
    for _ in range(levels - 1):
        low = _blur(d, 2)
        up = F.interpolate(low, size=d.shape[2:], mode="bilinear", align_corners=False)
        total = total + (d - up).abs().mean()
        d = low
    return total + d.abs().mean()


def charbonnier(a: Tensor, b: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean of sqrt(d² + eps²): L1 that is smooth at zero."""
    return ((a - b).square() + eps * eps).sqrt().mean()


def census(a: Tensor, b: Tensor, radius: int = 3) -> Tensor:
    """Soft Hamming distance of the ternary census transforms of the grey pictures (as IFRNet's).

    Each pixel is described by the signs of its differences to the (2·radius + 1)² pixels around
    it, so light and contrast do not matter; the outermost ``radius`` pixels are left out.
    """
    grey = torch.tensor(_GREY, dtype=a.dtype, device=a.device).view(1, 3, 1, 1)

    def transform(x: Tensor) -> Tensor:
        x = (x * grey).sum(1, keepdim=True) * 255
        around = F.unfold(x, 2 * radius + 1).unflatten(1, (-1, 1))
        h, w = x.shape[2] - 2 * radius, x.shape[3] - 2 * radius
        centre = x[:, :, radius : radius + h, radius : radius + w].flatten(2)[:, None]
        d = around - centre
        return d / (0.81 + d.square()).sqrt()

    d = (transform(a) - transform(b)).square()
    return (d / (0.1 + d)).mean()


def flow_l1(flow: Tensor, truth: Tensor, cap: float | None = None) -> Tensor:
    """Mean absolute error of a flow in pixels, (B, C, H, W) each; where ``cap`` is given, what
    is beyond it counts with a slope of a tenth."""
    error = (flow - truth).abs()
    if cap is not None:
        error = torch.where(error > cap, cap + 0.1 * (error - cap), error)
    return error.mean()


def distillation(
    flow: Tensor, teacher: Tensor, picture: Tensor, teacher_picture: Tensor, truth: Tensor
) -> Tensor:
    """Distance of a flow (B, C, H, W) to a teacher's, counted where the teacher's picture is
    nearer to the truth by more than 0.01 (RIFE's privileged distillation)."""
    with torch.no_grad():
        own = (picture - truth).abs().mean(1, keepdim=True)
        other = (teacher_picture - truth).abs().mean(1, keepdim=True)
        better = (own > other + 0.01).to(flow.dtype)
    distance = (flow - teacher.detach()).square().sum(1, keepdim=True)
    return ((distance + 1e-6).sqrt() * better).mean()
