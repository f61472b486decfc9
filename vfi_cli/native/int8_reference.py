"""The convolution of 8-bit numbers in plain torch: what :mod:`vfi_cli.native.int8_ops` means."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: The largest magnitude of a quantized number.
PEAK = 127


def int8_peak(x: Tensor) -> Tensor:
    return torch.nan_to_num(x.float().abs().flatten(1), nan=0, posinf=torch.inf).amax(1)


def conv_int8(
    inputs: Sequence[Tensor],
    grow: Sequence[int],
    peaks: Sequence[Tensor],
    weights: Sequence[Tensor],
    starts: Sequence[Tensor],
    scales: Sequence[Tensor],
    factors: Tensor,
    channels: int,
    stride: int,
    padding: int,
    before: Tensor | None,
    after: Tensor | None,
) -> tuple[Tensor, Tensor]:
    bias, slopes = factors[:, :channels, None, None].unbind()
    y = bias
    for x, larger, peak, weight, scale in zip(inputs, grow, peaks, weights, scales, strict=True):
        of_sample = peak.view(-1, 1, 1, 1)
        # Divided as such: torch multiplies a number by the reciprocal of a tensor.
        share = torch.where(of_sample > 0, torch.full_like(of_sample, PEAK) / of_sample, 0)
        seen = x.float()
        if larger > 1:
            seen = F.interpolate(seen, scale_factor=larger, mode="bilinear", align_corners=False)
        # Exact: what is added up here needs no more than 53 bits.
        quantized = torch.nan_to_num(seen * share).round().double()
        kernel = kernels(weight, channels, x.shape[1]).double()
        sums = F.conv2d(quantized, kernel, None, stride, padding).float()
        y = y + sums * (scale[:channels, None, None] * (of_sample / PEAK))
    if before is not None:
        y = y + before.float()
    y = torch.where(y < 0, y * slopes, y)
    if after is not None:
        y = y + after.float()
    made = y.to(inputs[0].dtype).contiguous(memory_format=torch.channels_last)
    return made, int8_peak(y)


def kernels(weight: Tensor, channels: int, channels_in: int) -> Tensor:
    """Packed weights as (channels, channels_in, kernel, kernel)."""
    vectors, kernel, quads, lanes, _ = weight.shape
    parts = weight.view(vectors, kernel, kernel, quads // kernel, lanes, 4)
    whole = parts.permute(0, 4, 3, 5, 1, 2).reshape(vectors * lanes, -1, kernel, kernel)
    return whole[:channels, :channels_in]
