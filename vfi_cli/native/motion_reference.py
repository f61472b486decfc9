"""The fused operators of inference in plain torch, step by step and at full size.

They define what :mod:`vfi_cli.native.motion_ops` means, and compute in float32. Slow: networks
that run without the kernels have operators of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.native.reference import backwarp

#: Pixels along the edge of a cell in which disagreement is measured.
CELL = 8


def resize(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def reduced(x: Tensor, scale: int) -> Tensor:
    return resize(x, 1 / scale) if scale > 1 else x


def tiles_to_grid(tiles: Tensor, side: int) -> Tensor:
    """(B, side² · n, h/side + 1, w/side + 1) to (B, n, h, w)."""
    batch, channels, rows, columns = tiles.shape
    tiles = tiles.view(batch, side, side, channels // side**2, rows, columns)
    grid = tiles.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, rows * side, columns * side)
    half = side // 2
    return grid[:, :, half : half + (rows - 1) * side, half : half + (columns - 1) * side]


def grid_to_tiles(grid: Tensor, side: int) -> Tensor:
    """The inverse of :func:`tiles_to_grid`; what lies outside of the grid is 0."""
    batch, channels, height, width = grid.shape
    half = side // 2
    grid = F.pad(grid, (half, half, half, half))
    tiles = grid.view(batch, channels, height // side + 1, side, width // side + 1, side)
    return tiles.permute(0, 3, 5, 1, 2, 4).reshape(
        batch, side**2 * channels, height // side + 1, width // side + 1
    )


def full_flow(steps: Sequence[Tensor], scales: Sequence[int], side: int) -> Tensor:
    """The flow (B, 4, H, W) in pixels of the frames, at their size."""
    grids = [tiles_to_grid(step.float(), side)[:, :4] for step in steps]
    grown = [resize(grid, scale) * scale for grid, scale in zip(grids, scales, strict=True)]
    return torch.stack(grown).sum(0)


def told(
    steps: Sequence[Tensor], scales: Sequence[int], side: int, sum_masks: bool, scale: int
) -> tuple[Tensor, Tensor]:
    """The mask and what is carried, reduced by ``scale`` from the frames' size; what a step put
    out on this very grid stays as it is."""
    grown = []
    for step, own in zip(steps, scales, strict=True):
        grid = tiles_to_grid(step.float(), side)[:, 4:]
        if own != scale:
            grid = reduced(resize(grid, own), scale)
        grown.append(grid)
    masks = [grid[:, :1] for grid in grown]
    return torch.stack(masks).sum(0) if sum_masks else masks[-1], grown[-1][:, 1:]


def _warp(picture: Tensor, flow: Tensor) -> Tensor:
    return backwarp(picture.float().expand(len(flow), -1, -1, -1), flow, "border", True)


def motion_input(
    side0: Tensor,
    side1: Tensor,
    steps: Sequence[Tensor],
    scales: Sequence[int],
    side: int,
    sum_masks: bool,
    time: Tensor,
    scale: int,
    carried: int,
    unwarped: bool,
    first_row: int,
    rows: int,
) -> Tensor:
    """See :func:`vfi_cli.native.motion_ops.motion_input`."""
    batch, (height, width) = time.shape[0], side0.shape[2:]
    if steps:
        flow = full_flow(steps, scales, side)
        mask, extra = told(steps, scales, side, sum_masks, scale)
    else:
        flow = side0.new_zeros(batch, 4, height, width).float()
        mask, extra = (
            side0.new_zeros(batch, n, height // scale, width // scale).float() for n in (1, carried)
        )
    parts = [
        reduced(_warp(side0, flow[:, :2]), scale),
        reduced(_warp(side1, flow[:, 2:]), scale),
        reduced(flow, scale) / scale,
        mask,
        time.expand_as(mask),
        torch.zeros_like(mask).expand(-1, 2, -1, -1),
    ]
    if carried:
        parts.append(F.pad(extra[:, :carried], (0, 0, 0, 0, 0, -carried % 8)))
    if unwarped:
        parts += [reduced(x.float(), scale).expand(batch, -1, -1, -1) for x in (side0, side1)]
    seen = torch.cat(parts, 1)
    above, below = max(-first_row, 0), max(first_row + rows - seen.shape[2], 0)
    seen = F.pad(seen, (0, 0, above, below))[:, :, first_row + above :][:, :, :rows]
    return seen.to(side0.dtype).contiguous(memory_format=torch.channels_last)


def motion_blend(
    frame0: Tensor,
    frame1: Tensor,
    steps: Sequence[Tensor],
    scales: Sequence[int],
    side: int,
    sum_masks: bool,
    residual: Tensor | None,
    disagreement: bool,
) -> tuple[Tensor, Tensor]:
    """See :func:`vfi_cli.native.motion_ops.motion_blend`."""
    flow = full_flow(steps, scales, side)
    mask, _ = told(steps, scales, side, sum_masks, 1)
    warped0, warped1 = _warp(frame0[:, :3], flow[:, :2]), _warp(frame1[:, :3], flow[:, 2:])
    made = torch.lerp(warped1, warped0, torch.sigmoid(mask))
    if residual is not None:
        made = (made + 2 * torch.sigmoid(residual.float()) - 1).clamp(0, 1)
    if not disagreement:
        return made, made.new_empty(len(made), 3, 0, 0)
    apart = (frame0[:, :3] - frame1[:, :3]).abs().mean(1, keepdim=True)
    apart = apart.expand(len(made), -1, -1, -1)
    missed = (warped0 - warped1).abs().mean(1, keepdim=True)
    largest = F.max_pool2d(F.avg_pool2d(apart, 2), CELL // 2)
    cells = (F.avg_pool2d(apart, CELL), largest, F.avg_pool2d(missed, CELL))
    return made, torch.cat(cells, 1)


def motion_flow(steps: Sequence[Tensor], scales: Sequence[int], side: int, scale: int) -> Tensor:
    """See :func:`vfi_cli.native.motion_ops.motion_flow`."""
    return reduced(full_flow(steps, scales, side), scale) / scale


def fade_still_(made: Tensor, frame0: Tensor, frame1: Tensor, time: Tensor, share: Tensor) -> None:
    """See :func:`vfi_cli.native.motion_ops.fade_still_`."""
    still = torch.lerp(frame0, frame1, time)
    made.copy_(torch.lerp(made, still, resize(share, CELL)))


def pack_picture(
    picture: Tensor, features: Tensor | None, side: int, channels: int, dtype: torch.dtype
) -> Tensor:
    """See :func:`vfi_cli.native.motion_ops.pack_picture`."""
    parts = [picture.to(dtype)]
    if features is not None:
        parts.append(tiles_to_grid(features, side))
    packed = torch.cat(parts, 1)
    packed = F.pad(packed, (0, 0, 0, 0, 0, channels - packed.shape[1]))
    return packed.contiguous(memory_format=torch.channels_last)


def activate_(x: Tensor, slopes: Tensor, before: Tensor | None, after: Tensor | None) -> None:
    """See :func:`vfi_cli.native.motion_ops.activate_`."""
    value = x.float() if before is None else x.float() + before.float()
    value = F.prelu(value, slopes)
    x.copy_(value if after is None else value + after.float())


def untile(tiles: Tensor, slopes: Tensor, side: int, skip: Tensor | None) -> Tensor:
    """See :func:`vfi_cli.native.motion_ops.untile`."""
    grid = F.prelu(tiles_to_grid(tiles.float(), side), slopes).to(tiles.dtype)
    if skip is not None:
        grid = torch.cat((grid, skip.expand(len(grid), -1, -1, -1)), 1)
    return grid.contiguous(memory_format=torch.channels_last)


def warp_concat(first: Tensor, features0: Tensor, features1: Tensor, flow: Tensor) -> Tensor:
    """See :func:`vfi_cli.native.motion_ops.warp_concat`."""
    warped = [_warp(features0, flow[:, :2]), _warp(features1, flow[:, 2:])]
    parts = [first.expand(len(flow), -1, -1, -1), *(x.to(first.dtype) for x in warped)]
    return torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)
