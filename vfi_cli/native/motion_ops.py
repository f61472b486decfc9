"""The fused operators of inference: what surrounds the convolutions of a coarse-to-fine network.

Such a network finds motion in steps. Each of its blocks sees both frames, warped by what is
known, at some reduction of their size, and puts out a step on a grid: flow to frame 0 (u, v) and
to frame 1 (u, v) in units of the grid, a mask before its sigmoid, and perhaps more that the next
block is told. The flow of the frames is the sum of all steps, each enlarged bilinearly to the
frames' size and multiplied by its scale. No operator here makes that sum as a tensor: each
evaluates it where it is needed, in float32, row by row.

A step comes in tiles. A transposed convolution of 4 × 4 and stride 2 is a convolution of 2 × 2
whose result at each corner between four pixels holds the four (with a pixel shuffle: sixteen)
points around it. So a step is (B, side² · n, h/side + 1, w/side + 1), channels last, for n
channels on a grid of h × w points: tiles of ``side`` × ``side`` points, row by row, channels of a
point together, the first tile beginning at point (−side/2, −side/2). Nothing moves it to rows.

All operators work without derivatives on float32 or bfloat16, on CUDA also float16 (called
*values* below), in channels-last memory, and on float32 where that is said. A position that is NaN
is column or row 0. Where there are no kernels, and within
:func:`~vfi_cli.native.ops.use_reference`, the twins in :mod:`vfi_cli.native.motion_reference` run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vfi_cli.native import motion_reference as reference
from vfi_cli.native import ops

#: The largest scale of a step.
MAX_SCALE = 128


@dataclass(frozen=True)
class Steps:
    """The steps so far, coarse to fine.

    ``tiles``: of each step, see above; ``scales``: how much coarser than the frames its grid is;
    ``side`` of the tiles, 2 or 4; ``sum_masks``: whether the mask is the sum of all steps' (else
    it is the last one's).
    """

    side: int
    sum_masks: bool
    tiles: tuple[Tensor, ...] = ()
    scales: tuple[int, ...] = ()

    def plus(self, tiles: Tensor, scale: int) -> Steps:
        """These steps and one more."""
        return Steps(self.side, self.sum_masks, (*self.tiles, tiles), (*self.scales, scale))


def available(device: torch.device | str = "cpu") -> bool:
    """Whether the kernels for ``device`` are there and wanted."""
    return ops.native_wanted(device)


def _run(name: str, where: Tensor, *arguments: Any) -> Any:
    source = torch.ops.vfi if available(where.device) else reference
    return getattr(source, name)(*arguments)


def input_channels(side_channels: int, carried: int, unwarped: bool) -> int:
    """How many channels :func:`motion_input` makes."""
    return (4 if unwarped else 2) * side_channels + 8 + -(-carried // 8) * 8


def motion_input(
    side0: Tensor,
    side1: Tensor,
    steps: Steps,
    time: Tensor,
    scale: int,
    *,
    carried: int = 0,
    unwarped: bool = False,
    rows: range | None = None,
) -> Tensor:
    """What a block sees: both sides warped by the motion so far, reduced, and the motion.

    Args:
        side0, side1: (B or 1, C, H, W) values, each frame and its features; C a multiple of 4.
        steps: the motion so far; without any it is zero.
        time: (B, 1, 1, 1) or (B, 1, H/scale, W/scale) float32.
        scale: the reduction, bilinear: 1, or even. Each step's is the same, or a multiple of
            twice it.
        carried: how many channels behind the mask of the last step go along.
        unwarped: whether both sides also go along as they are.
        rows: those of the result that are wanted, all by default. Rows outside of it are 0, as a
            convolution pads.

    Returns:
        (B, :func:`input_channels`, H/scale, W/scale) values, in this order: side0 and side1 warped
        (C each); flow (4, in units of the result's pixels), mask, time, two zeros; the carried
        channels and zeros up to a multiple of 8; side0 and side1 unwarped (C each).
    """
    rows = range(side0.shape[2] // scale) if rows is None else rows
    return _run(
        "motion_input",
        side0,
        side0,
        side1,
        list(steps.tiles),
        list(steps.scales),
        steps.side,
        steps.sum_masks,
        time,
        scale,
        carried,
        unwarped,
        rows.start,
        len(rows),
    )


def motion_blend(
    frame0: Tensor,
    frame1: Tensor,
    steps: Steps,
    *,
    residual: Tensor | None = None,
    disagreement: bool = False,
) -> tuple[Tensor, Tensor]:
    """The new frame: both frames warped, and blended by the sigmoid of the mask.

    Args:
        frame0, frame1: (B or 1, 4, H, W) float32, channels-last; the fourth channel is not used.
        steps: all of the motion.
        residual: (B, 3, H, W) values; 2·sigmoid − 1 of it is added, and the sum limited to [0, 1].
        disagreement: whether to measure it; H and W must be multiples of 8 then.

    Returns:
        The frame, (B, 3, H, W) float32, contiguous; and in cells of 8 × 8 pixels, (B, 3, H/8,
        W/8): by how much the frames differ in the mean; the most that they differ over 2 × 2
        pixels; by how much the warped frames differ in the mean. Means are over the channels too.
        Without ``disagreement`` this is empty.
    """
    picture, cells = _run(
        "motion_blend",
        frame0,
        frame0,
        frame1,
        list(steps.tiles),
        list(steps.scales),
        steps.side,
        steps.sum_masks,
        residual,
        disagreement,
    )
    return picture, cells


def motion_flow(steps: Steps, scale: int) -> Tensor:
    """The flow reduced by ``scale``, in pixels of that size: (B, 4, H/scale, W/scale), float32."""
    tiles = list(steps.tiles)
    return _run("motion_flow", tiles[0], tiles, list(steps.scales), steps.side, scale)


def fade_still_(
    made: Tensor, frame0: Tensor, frame1: Tensor, time: Tensor, share: Tensor
) -> Tensor:
    """Blend the plain mix of the frames into ``made``, (B, 3, H, W) float32, in place.

    ``frame0``, ``frame1``: (B or 1, 3, H, W); ``time``: (B, 1, 1, 1) or (B, 1, H, W);
    ``share``: of the mix, (B, 1, H/8, W/8), enlarged bilinearly. All float32 and planar.
    """
    _run("fade_still_", made, made, frame0, frame1, time, share)
    return made


def pack_picture(
    picture: Tensor,
    *,
    features: Tensor | None = None,
    side: int = 2,
    channels: int,
    dtype: torch.dtype,
) -> Tensor:
    """A frame with its channels side by side: (B, channels, H, W) in ``dtype``, channels-last.

    ``picture``: (B, 3, H, W) float32; then come the ``features``, n channels in tiles at the
    frame's size, and zeros.
    """
    return _run("pack_picture", picture, picture, features, side, channels, dtype)


def activate_(
    x: Tensor, slopes: Tensor, *, before: Tensor | None = None, after: Tensor | None = None
) -> Tensor:
    """PReLU of (x + before), plus after: in place, (B, C, H, W) values, ``slopes`` (C,) float32."""
    _run("activate_", x, x, slopes, before, after)
    return x


def untile(tiles: Tensor, slopes: Tensor, *, side: int = 2, skip: Tensor | None = None) -> Tensor:
    """PReLU of n channels in tiles, and the channels of ``skip`` behind: (B, n + m, h, w)."""
    return _run("untile", tiles, tiles, slopes, side, skip)


def warp_concat(first: Tensor, features0: Tensor, features1: Tensor, flow: Tensor) -> Tensor:
    """``first`` (B, N, h, w) and both features (B or 1, C, h, w), each warped by its two channels
    of ``flow`` (B, 4, h, w) float32, as one: (B, N + 2C, h, w). C is a multiple of 4."""
    return _run("warp_concat", first, first, features0, features1, flow)


# ------------------------------------------------------------------------ fake kernels


def _last(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    made = like.new_empty(shape, dtype=dtype or like.dtype)
    return made.contiguous(memory_format=torch.channels_last)


def _fake_input(
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
    channels = input_channels(side0.shape[1], carried, unwarped)
    return _last(side0, time.shape[0], channels, rows, side0.shape[3] // scale)


def _fake_blend(
    frame0: Tensor,
    frame1: Tensor,
    steps: Sequence[Tensor],
    scales: Sequence[int],
    side: int,
    sum_masks: bool,
    residual: Tensor | None,
    disagreement: bool,
) -> tuple[Tensor, Tensor]:
    batch, (height, width) = steps[0].shape[0], frame0.shape[2:]
    cells = (height // 8, width // 8) if disagreement else (0, 0)
    return frame0.new_empty(batch, 3, height, width), frame0.new_empty(batch, 3, *cells)


def _fake_flow(steps: Sequence[Tensor], scales: Sequence[int], side: int, scale: int) -> Tensor:
    batch, _, rows, columns = steps[0].shape
    height, width = ((n - 1) * side * scales[0] // scale for n in (rows, columns))
    return steps[0].new_empty(batch, 4, height, width, dtype=torch.float32)


def _fake_untile(tiles: Tensor, slopes: Tensor, side: int, skip: Tensor | None) -> Tensor:
    batch, channels, rows, columns = tiles.shape
    channels = channels // side**2 + (0 if skip is None else skip.shape[1])
    return _last(tiles, batch, channels, (rows - 1) * side, (columns - 1) * side)


def _register() -> None:
    fakes: dict[str, Callable[..., object]] = {
        "motion_input": _fake_input,
        "motion_blend": _fake_blend,
        "motion_flow": _fake_flow,
        "fade_still_": lambda made, frame0, frame1, time, share: None,
        "pack_picture": lambda picture, features, side, channels, dtype: _last(
            picture, picture.shape[0], channels, *picture.shape[2:], dtype=dtype
        ),
        "activate_": lambda x, slopes, before, after: None,
        "untile": _fake_untile,
        "warp_concat": lambda first, features0, features1, flow: _last(
            first, flow.shape[0], first.shape[1] + 2 * features0.shape[1], *flow.shape[2:]
        ),
    }
    for name, fake in fakes.items():
        torch.library.register_fake(f"vfi::{name}", fake)


if ops.available():
    _register()
