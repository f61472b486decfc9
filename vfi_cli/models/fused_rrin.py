"""RRIN's U-Nets by prepared convolutions with the activation in them.

The same networks as in :mod:`vfi_cli.models.rrin`. What lies between the U-Nets is little beside
their convolutions, and is computed there in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.blocks import dtype_of, resize
from vfi_cli.models.packed import packed_conv, prepared

if TYPE_CHECKING:
    from vfi_cli.models.rrin import UNet, _Pair, _Up


def fused(network: UNet, slope: float) -> FusedUNet:
    """The U-Net prepared for its weights; ``slope`` of its leaky ReLUs."""
    return prepared(network, lambda: FusedUNet(network, slope))


class FusedUNet:
    """What a U-Net makes, from its weights as they are when this is made."""

    def __init__(self, network: UNet, slope: float) -> None:
        self.dtype = dtype_of(network)
        self.downs = [_FusedPair(cast("_Pair", pair), slope) for pair in network.down_path]
        self.middle = packed_conv(network.midconv, slope)
        self.ups = [_FusedUp(cast("_Up", up), slope) for up in network.up_path]
        self.last = packed_conv(network.last)

    def __call__(self, x: Tensor) -> Tensor:
        """Values (B, C, H, W) to values, (B, n, H, W) float32."""
        x = x.to(self.dtype, memory_format=torch.channels_last)
        bridges: list[Tensor] = []
        for level, down in enumerate(self.downs):
            x = down(F.avg_pool2d(x, 2) if level else x)
            bridges.append(x)
        x = self.middle(bridges.pop())
        for up in self.ups:
            x = up(x, bridges.pop())
        return self.last(x).to(torch.float32, memory_format=torch.contiguous_format)


class _FusedPair:
    def __init__(self, pair: _Pair, slope: float) -> None:
        self.convs = [packed_conv(cast(nn.Conv2d, pair.block[i]), slope) for i in (0, 2)]

    def __call__(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = conv(x)
        return x


class _FusedUp:
    def __init__(self, up: _Up, slope: float) -> None:
        self.conv = packed_conv(cast(nn.Conv2d, up.up[1]))
        self.pair = _FusedPair(up.conv_block, slope)

    def __call__(self, x: Tensor, bridge: Tensor) -> Tensor:
        return self.pair(torch.cat((self.conv(resize(x, 2)), bridge), 1))
