"""ScopeFlow's convolutions on a CPU, by oneDNN with the activation in them.

The same convolutions as in :mod:`vfi_cli.models.scopeflow`, whose :class:`FlowNet` calls either.
They are nearly all of the time, and what lies between them is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vfi_cli.models.blocks import dtype_of
from vfi_cli.models.packed import PackedConv, packed_conv, prepared

if TYPE_CHECKING:
    from vfi_cli.models.scopeflow import FlowNet


_LAST = torch.channels_last
#: Channels of the flow, that come to what the estimator has seen.
_ROOM = 2


def fused(network: FlowNet) -> FusedFlowNet:
    """The convolutions prepared for the network's weights."""
    return prepared(network, lambda: FusedFlowNet(network))


class FusedFlowNet:
    """What a FlowNet's convolutions make, from its weights as they are when this is made."""

    def __init__(self, network: FlowNet) -> None:
        self._dtype = dtype_of(network)
        self._levels = [_chain(level) for level in network.feature_pyramid_extractor.convs]
        self._project = [_chain(conv) for conv in network.conv_1x1]
        *dense, (last,) = (_chain(m, _ROOM) for m in network.flow_estimators.children())
        self._dense, self._residual = [conv for (conv,) in dense], last
        self._around = _chain(network.context_networks)
        self._weigh = _chain(network.refine_flow)

    def pyramid(self, frame: Tensor) -> list[Tensor]:
        x = frame.to(self._dtype, memory_format=_LAST)
        features = []
        for level in self._levels:
            x = through(level, x)
            features.append(x)
        return features[::-1]

    def project(self, level: int, x: Tensor) -> Tensor:
        return through(self._project[level], x)

    def estimate(self, *seen: Tensor) -> tuple[Tensor, Tensor]:
        # Room behind, for the flow that the next network sees too.
        x = join(*seen, seen[-1].new_zeros(1).expand_as(seen[-1]), dtype=self._dtype)
        for conv in self._dense:
            x = join(conv(x), x)
        return x, self._residual(x)

    def look_around(self, dense: Tensor, flow: Tensor) -> Tensor:
        dense[:, -_ROOM:] = flow
        return through(self._around, dense)

    def weigh(self, *seen: Tensor) -> Tensor:
        return through(self._weigh, join(*seen, dtype=self._dtype))


def join(*parts: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The channels of all, (B, n, H, W), channels-last: torch.cat takes several times as long."""
    widths = [part.shape[1] for part in parts]
    size = (parts[0].shape[0], sum(widths), *parts[0].shape[2:])
    made = torch.empty(
        size, dtype=dtype or parts[0].dtype, device=parts[0].device, memory_format=_LAST
    )
    for part, place in zip(parts, made.split(widths, 1), strict=True):
        place.copy_(part)
    return made


def through(convs: Sequence[PackedConv], x: Tensor) -> Tensor:
    """One convolution behind the other."""
    for conv in convs:
        x = conv(x)
    return x


def _chain(module: nn.Module, room: int = 0) -> list[PackedConv]:
    """The module's convolutions, each with its activation; the first leaves out ``room`` channels
    behind its own."""
    made: list[PackedConv] = []
    for pair in module.modules():
        if isinstance(pair, nn.Sequential) and isinstance(pair[0], nn.Conv2d):
            slope = cast(nn.LeakyReLU, pair[1]).negative_slope if pair[1:] else 1.0
            made.append(packed_conv(pair[0], slope, room=0 if made else room))
    return made
