"""The operators in plain torch: the twins of the kernels, and what runs where these are missing.

They define what an operator means, values and gradients alike; ``ops.py`` has the public
functions and checks the arguments. Coordinates are float32 whatever the dtype of the picture
(float64 for float64), because half precision cannot name a pixel beyond column 2048.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which coordinates and sums are computed for values of ``dtype``."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _positions(flow: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Where each pixel points to, (B, H, W) each for x and y, in pixels."""
    height, width = flow.shape[-2:]
    flow = flow.to(dtype)
    x = flow[:, 0] + torch.arange(width, dtype=dtype, device=flow.device)
    y = flow[:, 1] + torch.arange(height, dtype=dtype, device=flow.device).unsqueeze(1)
    return x, y


def backwarp(input: Tensor, flow: Tensor, padding_mode: str, align_corners: bool) -> Tensor:
    """See :func:`vfi_cli.native.ops.backwarp`."""
    dtype = compute_dtype(input.dtype)
    if input.numel() == 0:
        return input + flow.sum().to(input.dtype)
    axes = []
    for target, size in zip(_positions(flow, dtype), input.shape[:1:-1], strict=True):
        position = target if align_corners else target * (size / max(size - 1, 1)) - 0.5
        # Far outside is as good as infinitely far, and has weights that are numbers: those of
        # an infinite coordinate are NaN, and NaN times the padding's 0 is NaN.
        near = position.nan_to_num(nan=-8.0).clamp(-8.0, size + 7.0)
        # Normalised for align_corners=False, which unlike the other convention can name
        # positions of an axis of one pixel.
        axes.append((2 * near + 1) / size - 1)
    grid = torch.stack(axes, dim=-1)
    warped = F.grid_sample(input.to(dtype), grid, "bilinear", padding_mode, align_corners=False)
    return warped.to(input.dtype)


def correlation(a: Tensor, b: Tensor, max_displacement: int) -> Tensor:
    """See :func:`vfi_cli.native.ops.correlation`."""
    dtype = compute_dtype(a.dtype)
    d = max_displacement
    height, width = a.shape[-2:]
    first = a.to(dtype)
    second = F.pad(b.to(dtype), (d, d, d, d))
    maps = [
        (first * second[:, :, dy : dy + height, dx : dx + width]).mean(dim=1)
        for dy in range(2 * d + 1)
        for dx in range(2 * d + 1)
    ]
    return torch.stack(maps, dim=1).to(a.dtype)


def splat(input: Tensor, flow: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """See :func:`vfi_cli.native.ops.splat`."""
    dtype = compute_dtype(input.dtype)
    batch, channels, height, width = input.shape
    values = torch.cat([input.to(dtype), torch.ones_like(input[:, :1], dtype=dtype)], dim=1)
    values = values.flatten(2)
    x, y = _positions(flow, dtype)
    # Landing points that are not numbers, or far away, land where all four neighbours are outside.
    x = x.nan_to_num(nan=-8.0).clamp(-8.0, width + 7.0).flatten(1)
    y = y.nan_to_num(nan=-8.0).clamp(-8.0, height + 7.0).flatten(1)
    left, top = x.detach().floor(), y.detach().floor()
    # One place more than there are pixels: what falls outside is added up there and cut off.
    sums = values.new_zeros(batch, channels + 1, height * width + 1)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        to_x, to_y = left + column, top + row
        dx, dy = x - to_x, y - to_y
        if mode == "gaussian":
            weight = torch.exp(-(dx * dx + dy * dy))
        else:
            weight = (1 - dx.abs()) * (1 - dy.abs())
        inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
        index = torch.where(inside, to_y.long() * width + to_x.long(), height * width)
        sums = sums.scatter_add(2, index.unsqueeze(1).expand_as(values), values * weight[:, None])
    sums = sums[:, :, :-1].unflatten(2, (height, width)).to(input.dtype)
    return sums[:, :channels].contiguous(), sums[:, channels:].contiguous()
