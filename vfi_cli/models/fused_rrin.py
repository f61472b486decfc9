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
from vfi_cli.models.packed import ActivatedConv, Values, packed_conv, prepared

if TYPE_CHECKING:
    from vfi_cli.models.rrin import UNet, _Pair, _Up


def fused(network: UNet, slope: float) -> FusedUNet:
    """The U-Net prepared for its weights; ``slope`` of its leaky ReLUs."""
    return prepared(network, lambda: FusedUNet(network, slope))


class FusedUNet:
    """What a U-Net makes, from its weights as they are when this is made."""

    def __init__(self, network: UNet, slope: float) -> None:
        self.dtype = dtype_of(network)
        int8 = network.int8

        def conv(module: nn.Module, slope: float = 1.0, pictures: bool = False) -> ActivatedConv:
            # Pictures and flow differ too much in size to be rounded alike.
            plain = cast(nn.Conv2d, module)
            return ActivatedConv(plain.weight, plain.bias, slope, int8=int8 and not pictures)

        def pair(module: nn.Module, pictures: bool = False) -> tuple[ActivatedConv, ActivatedConv]:
            block = cast("_Pair", module).block
            return conv(block[0], slope, pictures), conv(block[2], slope)

        self.downs = [pair(down, level == 0) for level, down in enumerate(network.down_path)]
        self.middle = conv(network.midconv, slope)
        ups = [cast("_Up", up) for up in network.up_path]
        self.ups = [(conv(up.up[1]), *pair(up.conv_block)) for up in ups]
        self.last = packed_conv(network.last)

    def __call__(self, x: Tensor) -> Tensor:
        """Values (B, C, H, W) to values, (B, n, H, W) float32."""
        x = x.to(self.dtype, memory_format=torch.channels_last)
        values = Values(x)
        bridges: list[Values] = []
        for level, (first, second) in enumerate(self.downs):
            if level:
                values = Values(F.avg_pool2d(values.x, 2), values.peak)
            values = second(first(values))
            bridges.append(values)
        values = self.middle(bridges.pop())
        for conv, first, second in self.ups:
            grown = conv(Values(resize(values.x, 2), values.peak))
            values = second(first(_beside(grown, bridges.pop())))
        return self.last(values.x).to(torch.float32, memory_format=torch.contiguous_format)


def _beside(a: Values, b: Values) -> Values:
    peak = None if a.peak is None or b.peak is None else torch.maximum(a.peak, b.peak)
    return Values(torch.cat((a.x, b.x), 1), peak)
