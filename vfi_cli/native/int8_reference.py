"""The convolution of 8-bit numbers in plain torch: what :mod:`vfi_cli.native.int8_ops` means."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

#: The largest magnitude of a quantized number.
PEAK = 127


def int8_peak(x: Tensor) -> Tensor:
    return torch.nan_to_num(x.float().abs().flatten(1), nan=0, posinf=torch.inf).amax(1)


def conv_int8(
    x: Tensor,
    peak: Tensor,
    weight: Tensor,
    start: Tensor,
    factors: Tensor,
    channels: int,
    stride: int,
    padding: int,
    before: Tensor | None,
    after: Tensor | None,
) -> tuple[Tensor, Tensor]:
    scale, bias, slopes = factors.view(3, -1)[:, :channels, None, None].unbind()
    of_sample = peak.view(-1, 1, 1, 1)
    # Divided as such: torch multiplies a number by the reciprocal of a tensor.
    share = torch.where(of_sample > 0, torch.full_like(of_sample, PEAK) / of_sample, 0)
    # Exact: what is added up here needs no more than 53 bits.
    quantized = torch.nan_to_num(x.float() * share).round().double()
    sums = F.conv2d(
        quantized, kernels(weight, channels, x.shape[1]).double(), None, stride, padding
    )
    y = sums.float() * (scale * (of_sample / PEAK)) + bias
    if before is not None:
        y = y + before.float()
    y = torch.where(y < 0, y * slopes, y)
    if after is not None:
        y = y + after.float()
    last = torch.channels_last
    return y.to(x.dtype).contiguous(memory_format=last), int8_peak(y)


def kernels(weight: Tensor, channels: int, channels_in: int) -> Tensor:
    """Packed weights as (channels, channels_in, kernel, kernel)."""
    vectors, kernel, quads, lanes, _ = weight.shape
    parts = weight.view(vectors, kernel, kernel, quads // kernel, lanes, 4)
    whole = parts.permute(0, 4, 3, 5, 1, 2).reshape(vectors * lanes, -1, kernel, kernel)
    return whole[:channels, :channels_in]
