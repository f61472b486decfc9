"""RIFE and RIFEm by prepared convolutions, and everything between them in fused kernels.

The same network as in :mod:`vfi_cli.models.rife`; compare :mod:`vfi_cli.models.fused`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.base import Memo
from vfi_cli.models.blocks import dtype_of, resize
from vfi_cli.models.packed import (
    ActivatedConv,
    BandedConv,
    Side,
    Values,
    activated,
    packed_conv,
    prepared,
    see,
    slopes_of,
    spread,
    tiling,
)
from vfi_cli.native.motion_ops import (
    MAX_SCALE,
    Steps,
    activate_,
    input_channels,
    motion_blend,
    motion_flow,
    motion_input,
    untile,
    warp_concat,
)

if TYPE_CHECKING:
    from vfi_cli.models.rife import RIFE, DoubleConv, FlowBlock

#: Channels of a frame as it is sampled, and where motion_input puts what: frames warped, flow,
#: mask, t, two zeros, frames as they are.
_SIDE = 4
_WARPED = [*range(3), *range(_SIDE, _SIDE + 3)]
_FLOW = 2 * _SIDE
_MASK, _TIME = _FLOW + 4, _FLOW + 5
_UNWARPED = [_FLOW + 8 + place for place in _WARPED]


def fused(network: RIFE, scales: Iterable[float]) -> FusedRIFE | None:
    """The network prepared for its weights, or None where it cannot work at these scales."""
    if network.first_stride != 2:
        return None  # RIFE-2R
    if cast(nn.Conv2d, network.contextnet.conv1.conv1[0]).out_channels % 4:
        return None  # narrower than any that is published; warp_concat takes fours
    if any((s != 1 and s % 2) or 2 * s > MAX_SCALE for s in scales):
        return None
    return prepared(network, lambda: FusedRIFE(network))


class FusedRIFE:
    """A RIFE's new frames, from its weights as they are when this is made."""

    def __init__(self, network: RIFE) -> None:
        self.dtype = dtype_of(network)
        int8 = network.int8
        time = [_TIME] if network.any_timestep else []
        flow = list(range(_FLOW, _FLOW + 4))
        blocks = [cast("FlowBlock", network.get_submodule(f"block{i}")) for i in range(3)]
        later = [*_UNWARPED, *time, *_WARPED, _MASK, *flow]
        self.blocks = [
            _FusedFlow(block, later if i else [*_WARPED, *time], unwarped=i > 0, int8=int8)
            for i, block in enumerate(blocks)
        ]
        context = network.contextnet
        self.context = [
            _FusedDouble(conv, int8)
            for conv in (context.conv1, context.conv2, context.conv3, context.conv4)
        ]
        unet = network.unet
        first = cast(nn.Conv2d, unet.down0.conv1[0])
        places = [*_UNWARPED, *_WARPED, _MASK, *flow]
        self.down0 = BandedConv(first, places, input_channels(_SIDE, 0, True))
        self.down0_slopes = slopes_of(unet.down0.conv1[1])
        self.down0_second = activated(unet.down0.conv2, int8=int8)
        self.downs = [_FusedDouble(conv, int8) for conv in (unet.down1, unet.down2, unet.down3)]
        ups = (unet.up0, unet.up1, unet.up2, unet.up3)
        self.ups = [
            (
                ActivatedConv(*tiling(cast(nn.ConvTranspose2d, up[0])), int8=int8),
                slopes_of(up[1]),
            )
            for up in ups
        ]
        self.last = packed_conv(unet.conv)

    def __call__(
        self, frames: Tensor, timestep: Tensor, scales: Iterable[float], memo: Memo | None
    ) -> Tensor:
        """The new frame, (B, 3, H, W) float32; frames and t as RIFE sees them."""
        sides = tuple(self._see(frames[:, i], i, memo) for i in (0, 1))
        height, width = frames.shape[-2:]
        steps = Steps(2, sum_masks=True)

        def look(scale: int, unwarped: bool) -> Callable[[range], Tensor]:
            time = timestep if timestep.shape[2:] == (1, 1) else resize(timestep, 1 / scale)
            values = (sides[0].values, sides[1].values)
            return lambda rows: motion_input(
                *values, steps, time, scale, unwarped=unwarped, rows=rows
            )

        for block, s in zip(self.blocks, (round(scale) for scale in scales), strict=True):
            tiles = block(look(s, block.unwarped), height // s, width // s)
            steps = steps.plus(tiles, 2 * s)
        context = [self._context(side.values, i, memo) for i, side in enumerate(sides)]
        residual = self._refine(look(1, True), height, width, context, motion_flow(steps, 2))
        return motion_blend(sides[0].picture, sides[1].picture, steps, residual=residual)[0]

    def _see(self, frame: Tensor, position: int, memo: Memo | None) -> Side:
        if memo is None:
            return see(frame, self.dtype)
        return memo("side", (position,), lambda: see(frame, self.dtype))

    def _context(self, values: Tensor, position: int, memo: Memo | None) -> list[Tensor]:
        def compute() -> list[Tensor]:
            x = Values(values)
            return [(x := conv(x)).x for conv in self.context]

        return compute() if memo is None else memo("side context", (position,), compute)

    def _refine(
        self,
        read: Callable[[range], Tensor],
        height: int,
        width: int,
        context: list[list[Tensor]],
        flow: Tensor,
    ) -> Tensor:
        """The residual before its sigmoid, (B, 3, H, W); ``flow`` at half the size."""
        x = activate_(self.down0(read, height, width), self.down0_slopes)
        skips = [self.down0_second(Values(x)).x]
        for level, down in enumerate([*self.downs, None]):
            x = warp_concat(skips[-1], context[0][level], context[1][level], flow)
            if down is not None:
                skips.append(down(Values(x)).x)
                flow = F.avg_pool2d(flow, 2) / 2
        for (up, slopes), skip in zip(self.ups, (*skips[2::-1], None), strict=True):
            x = untile(up(Values(x)).x, slopes, skip=skip)
        return self.last(x)


class _FusedDouble:
    """A DoubleConv; a frame's three channels are read as they are packed."""

    def __init__(self, double: DoubleConv, int8: bool) -> None:
        first = cast(nn.Conv2d, double.conv1[0])
        if first.in_channels == 3:
            weight = spread(first.weight.detach(), [0, 1, 2], _SIDE)
            slopes = slopes_of(double.conv1[1])
            self.first = ActivatedConv(weight, first.bias, slopes, stride=int(first.stride[0]))
        else:
            self.first = activated(double.conv1, int8=int8)
        self.second = activated(double.conv2, int8=int8)

    def __call__(self, values: Values) -> Values:
        return self.second(self.first(values))


class _FusedFlow:
    """What motion_input makes to a step in tiles. ``unwarped``: whether it sees the frames so."""

    def __init__(self, block: FlowBlock, places: list[int], *, unwarped: bool, int8: bool) -> None:
        self.unwarped = unwarped
        first, second = (cast(nn.Sequential, module) for module in block.conv0)
        channels = input_channels(_SIDE, 0, unwarped)
        self.first = BandedConv(cast(nn.Conv2d, first[0]), places, channels)
        self.first_slopes = slopes_of(first[1])
        self.second = activated(second, int8=int8)
        self.convs = [
            activated(cast(nn.Sequential, module), int8=int8) for module in block.convblock
        ]
        self.last = ActivatedConv(*tiling(block.lastconv), int8=int8)

    def __call__(self, read: Callable[[range], Tensor], height: int, width: int) -> Tensor:
        """``read`` gives rows of the input, which has this height and width."""
        x = activate_(self.first(read, height, width), self.first_slopes)
        values = self.second(Values(x))
        shortcut = values.x
        for conv in self.convs[:-1]:
            values = conv(values)
        return self.last(self.convs[-1](values, after=shortcut)).x
