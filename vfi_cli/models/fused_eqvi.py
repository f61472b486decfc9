"""EQVI's convolutions on a CPU, by oneDNN with the activation in them.

The same networks as in :mod:`vfi_cli.models.eqvi`, which calls either. They are nearly all of the
time, and what lies between them is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.blocks import dtype_of, resize
from vfi_cli.models.fused_scopeflow import join, through
from vfi_cli.models.packed import PackedConv, packed_conv, prepared, reading
from vfi_cli.native.motion_ops import pack_picture

if TYPE_CHECKING:
    from vfi_cli.models.eqvi import Gradient, QuadraticModel, RefineNet, SynthesisNet, ThreeConvs


def fused(network: QuadraticModel, slope: float) -> FusedModel:
    """The networks prepared for the model's weights; ``slope`` of its leaky ReLUs."""
    return prepared(network, lambda: FusedModel(network, slope))


def fused_mask(network: ThreeConvs, slope: float) -> FusedThreeConvs:
    """The network of a mask prepared for its weights."""
    return prepared(network, lambda: FusedThreeConvs(network, slope))


class FusedModel:
    """What a QuadraticModel's networks make, from its weights as they are when this is made."""

    def __init__(self, network: QuadraticModel, slope: float) -> None:
        self._dtype = dtype_of(network)
        self._features = _reading(network.feat_ext, range(3), 4)
        self._gradient = _gradient(network.get_grad)
        self.mask = FusedThreeConvs(network.masknet, slope)
        self._refine = _Levels(network.refinenet, _convs(network.refinenet, 2, slope), slope)
        self._refined = _conv(network.refinenet, "conv3", slope)
        # Each context as it is: features and gradients, which are apart in the published order.
        n = network.feat_ext.out_channels
        first, second = range(n + 3), range(n + 3, 2 * (n + 3))
        places = [*first[:n], *second[:n], *first[n:], *second[n:]]
        places += range(len(places), len(places) + 6)
        synthesis = network.synthesisnet
        heads = [
            _reading(synthesis.conv1, places, len(places), slope),
            *_convs(synthesis, 3, slope)[1:],
        ]
        self._synthesis = _Levels(synthesis, heads, slope)
        self._residual = _conv(synthesis, "conv4")

    def refine(self, *seen: Tensor) -> tuple[Tensor, Tensor]:
        features = self._refine(join(*seen, dtype=self._dtype))
        return _planes(self._refined(features)), features

    def context(self, frame: Tensor) -> Tensor:
        frame = frame.contiguous()
        features = self._features(pack_picture(frame, channels=4, dtype=self._dtype))
        slopes = self._gradient(pack_picture(frame, channels=4, dtype=torch.float32)).square_()
        across, down = slopes.split(3, 1)
        return join(features, across.add_(down).add_(1e-6).sqrt_())

    def residual(self, *seen: Tensor) -> Tensor:
        return _planes(self._residual(self._synthesis(join(*seen))))


def _gradient(network: Gradient) -> PackedConv:
    """Both central differences of each of a picture's channels, float32."""
    weight = torch.zeros(2, 3, 4, 3, 3, device=network.weight_h.device)
    for kernels, kernel in zip(weight, (network.weight_h, network.weight_v), strict=True):
        kernels[range(3), range(3)] = kernel.detach().float()[0, 0]
    return PackedConv(weight.flatten(0, 1), None)


class FusedThreeConvs:
    """A map in [0, 1], float32, from pictures and features."""

    def __init__(self, network: ThreeConvs, slope: float) -> None:
        self._dtype = dtype_of(network)
        self._convs = _convs(network, 2, slope)
        self._last = _conv(network, "conv3")

    def __call__(self, *seen: Tensor) -> Tensor:
        x = through(self._convs, join(*seen, dtype=self._dtype))
        return torch.sigmoid(_planes(self._last(x)))


class _Levels:
    """The first convolutions of a U-Net, and its levels down and up: its last features."""

    def __init__(
        self, network: RefineNet | SynthesisNet, heads: list[PackedConv], slope: float
    ) -> None:
        levels = range(1, len(network.widths))
        self._heads = heads
        self._downs = [_convs(network.get_submodule(f"down{n}"), 2, slope) for n in levels]
        self._ups = [_convs(network.get_submodule(f"up{n}"), 2, slope) for n in levels]

    def __call__(self, x: Tensor) -> Tensor:
        bridges = [through(self._heads, x)]
        for down in self._downs:
            bridges.append(through(down, F.avg_pool2d(bridges[-1], 2)))
        x = bridges.pop()
        for first, second in self._ups:
            x = second(join(first(resize(x, 2)), bridges.pop()))
        return x


def _reading(
    conv: nn.Conv2d, places: Sequence[int], channels: int, slope: float = 1.0
) -> PackedConv:
    return reading(conv, list(places), channels, slope, padding=int(conv.padding[0]))


def _conv(module: nn.Module, name: str, slope: float = 1.0) -> PackedConv:
    return packed_conv(cast(nn.Conv2d, module.get_submodule(name)), slope)


def _convs(module: nn.Module, count: int, slope: float) -> list[PackedConv]:
    """``conv1`` and so on."""
    return [_conv(module, f"conv{n + 1}", slope) for n in range(count)]


def _planes(x: Tensor) -> Tensor:
    return x.to(torch.float32, memory_format=torch.contiguous_format)
