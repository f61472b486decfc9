"""RRIN's U-Nets by prepared convolutions with the activation in them.

The same networks as in :mod:`vfi_cli.models.rrin`. What lies between the U-Nets is little beside
their convolutions, and is computed there in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.blocks import dtype_of
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

        def conv(
            module: nn.Module,
            slope: float = 1.0,
            inputs: Sequence[int] | None = None,
            pictures: bool = False,
        ) -> ActivatedConv:
            # Pictures and flow differ too much in size to be rounded alike.
            plain, quick = cast(nn.Conv2d, module), int8 and not pictures
            return ActivatedConv(plain.weight, plain.bias, slope, int8=quick, inputs=inputs)

        def pair(
            module: nn.Module, inputs: Sequence[int] | None = None, pictures: bool = False
        ) -> tuple[ActivatedConv, ActivatedConv]:
            block = cast("_Pair", module).block
            return conv(block[0], slope, inputs, pictures), conv(block[2], slope)

        self.downs = [
            pair(down, pictures=level == 0) for level, down in enumerate(network.down_path)
        ]
        self.middle = conv(network.midconv, slope)
        ups = [cast("_Up", up) for up in network.up_path]
        self.ups = []
        for up in ups:
            grown = cast(nn.Conv2d, up.up[1])
            self.ups.append((conv(grown), *pair(up.conv_block, [grown.out_channels] * 2)))
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
            values = second(first(conv(values, grow=2), bridges.pop()))
        return self.last(values.x).to(torch.float32, memory_format=torch.contiguous_format)
