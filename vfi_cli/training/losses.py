"""The losses of the interpolation papers, on frames (B, 3, H, W) in [0, 1].

Each is a mean over pixels, so that it does not depend on the size of crops and batches.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    """Sum over a Laplacian pyramid's levels of the mean absolute difference.

    Niklaus and Liu, "Context-aware Synthesis for Video Frame Interpolation", CVPR 2018 (its L_Lap),
    with all levels weighted alike, as RIFE and EQVI use it. The pyramid is linear, so it is built
    once, of the difference. H and W must be at least 3·2^(levels − 2), so that the coarsest level
    can be blurred.
    """
    d = a - b
    total = d.new_zeros(())
    for _ in range(levels - 1):
        low = _blur(d, 2)
        up = F.interpolate(low, size=d.shape[2:], mode="bilinear", align_corners=False)
        total = total + (d - up).abs().mean()
        d = low
    return total + d.abs().mean()


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference (RRIN, Li et al., ICASSP 2020)."""
    return (a - b).abs().mean()


def charbonnier(a: Tensor, b: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean of sqrt(d² + eps²): L1 that is smooth at zero (IFRNet, Kong et al., CVPR 2022: its ρ
    with α = 1/2, ε = 1e-3)."""
    return ((a - b).square() + eps * eps).sqrt().mean()


def census(a: Tensor, b: Tensor, radius: int = 3) -> Tensor:
    """Soft Hamming distance of the ternary census transforms of the grey pictures.

    Meister et al., "UnFlow", AAAI 2018, as IFRNet uses it (its L_cen). Each pixel is
    described by the signs of its differences to the (2·radius + 1)² pixels around it, so light
    and contrast do not matter; the outermost ``radius`` pixels are left out.
    """
    grey = torch.tensor(_GREY, dtype=a.dtype, device=a.device).view(1, 3, 1, 1) * 255
    return _census((a * grey).sum(1, keepdim=True), (b * grey).sum(1, keepdim=True), radius)


def geometry(features: Sequence[Tensor], truth: Sequence[Tensor]) -> Tensor:
    """Sum over levels of the census distance, in 3 × 3 pixels of each channel, of intermediate
    features (B, C, h, w) to those of the true frame (IFRNet: its L_g, feature space
    geometry consistency)."""
    parts = [_census(a.float(), b.float(), 1) for a, b in zip(features, truth, strict=True)]
    return torch.stack(parts).sum()


def _census(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Of each channel by itself: the mean over channels, neighbours and inner pixels."""

    def transform(x: Tensor) -> Tensor:
        around = F.unfold(x, 2 * radius + 1).unflatten(1, (x.shape[1], -1))
        h, w = x.shape[2] - 2 * radius, x.shape[3] - 2 * radius
        centre = x[:, :, radius : radius + h, radius : radius + w].flatten(2)[:, :, None]
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


def endpoint_error(flow: Tensor, truth: Tensor) -> Tensor:
    """Mean length of the error of a flow (B, 2, H, W)."""
    return (flow - truth).square().sum(1).add(1e-12).sqrt().mean()


#: PWC-Net weighs the sums over the pixels of 1/64, 1/32, … 1/4 of the size by these; those
#: levels have so many pixels for each at 1/64.
_LEVEL_WEIGHTS = (0.32, 0.08, 0.02, 0.01, 0.005)


def multiscale_flow(levels: Sequence[Tensor], truth: Tensor) -> Tensor:
    """Weighted mean over levels, coarse (1/64 of the size) to fine (1/4), of the endpoint error
    in pixels of the frames; ``truth`` (B, 2, H, W) is averaged down to each.

    Sun et al., "PWC-Net", CVPR 2018 (training loss), as IRR-PWC and ScopeFlow use it. Sums over
    pixels are means here: a level's weight is the published one times its share of the pixels.
    """
    total, weights = truth.new_zeros(()), 0.0
    for level, (flow, published) in enumerate(zip(levels, _LEVEL_WEIGHTS, strict=True)):
        weight = published * 4.0**level
        small = F.adaptive_avg_pool2d(truth, (flow.shape[2], flow.shape[3]))
        total = total + weight * endpoint_error(flow, small)
        weights += weight
    return total / weights


def flow_distillation(flow: Tensor, reference: Tensor, coarse: Sequence[Tensor]) -> Tensor:
    """What a reference flow teaches the coarser ones where the task agrees with it.

    IFRNet (its L_d, task-oriented flow distillation): with the error e in pixels of the final
    ``flow`` (B, 2, H, W) to the ``reference``, each pixel has the robustness P = exp(−0.3·e), and
    each of the ``coarse`` flows (B, 2, H, W), enlarged, the loss (d² + ε²)^α of its difference d
    with α = P/2 and ε = 10^((1 − 10·P)/3): L1 where both agree, nearly nothing where the
    reference misleads.
    """
    with torch.no_grad():
        error = (flow - reference).square().sum(1, keepdim=True).sqrt()
        robust = torch.exp(-0.3 * error)
        epsilon = 10 ** ((1 - 10 * robust) / 3)
    parts = [
        ((other - reference).square() + epsilon.square()).pow(robust / 2).mean() for other in coarse
    ]
    return torch.stack(parts).sum()


def distillation(
    flow: Tensor, teacher: Tensor, picture: Tensor, teacher_picture: Tensor, truth: Tensor
) -> Tensor:
    """Distance of a flow (B, 4, H, W) to a teacher's, counted where the teacher's picture is
    nearer to the truth by more than 0.01.

    RIFE (Huang et al., ECCV 2022), privileged distillation, L_dis: the root of the mean square
    over the flow's components, as the weight of 0.01 that the paper gives it was chosen for.
    """
    with torch.no_grad():
        own = (picture - truth).abs().mean(1, keepdim=True)
        other = (teacher_picture - truth).abs().mean(1, keepdim=True)
        better = (own > other + 0.01).to(flow.dtype)
    distance = (flow - teacher.detach()).square().mean(1, keepdim=True)
    return ((distance + 1e-12).sqrt() * better).mean()
