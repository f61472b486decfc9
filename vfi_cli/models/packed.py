"""Convolutions prepared for inference on a CPU, and when to prefer them to the plain ones.

A prepared convolution has its weights in the order in which oneDNN wants them (reordering them at
every call costs more than small convolutions do), and bias and activation are part of it. It lives
outside of the module that it is made from, which stays what it is: a module on whose weights one
can train. Weights that have changed are prepared again.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.native import motion_ops

T = TypeVar("T")

_LAST = torch.channels_last

_prepared: WeakKeyDictionary[nn.Module, tuple[object, object]] = WeakKeyDictionary()


def fusible(module: nn.Module, frames: Tensor) -> bool:
    """Whether the fused operators can do this: inference on a CPU, with the kernels at hand."""
    weight = next(module.parameters())
    return (
        frames.device.type == "cpu"
        and frames.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and not module.training
        and not torch.is_grad_enabled()
        and frames.numel() > 0
        and motion_ops.available()
    )


def prepared(module: nn.Module, prepare: Callable[[], T]) -> T:
    """What ``prepare`` made of the module's weights, made again where they have changed."""
    state = tuple(
        (weight.data_ptr(), weight._version, weight.dtype) for weight in module.parameters()
    )
    known = _prepared.get(module)
    if known is None or known[0] != state:
        known = (state, prepare())
        _prepared[module] = known
    return known[1]  # type: ignore[return-value]


class PackedConv:
    """A convolution (weight, bias) with what follows it.

    ``slope``: of a leaky ReLU, 1 for none. Inputs and outputs are channels-last, in the dtype of
    the weight.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        stride: int = 1,
        padding: int = 1,
        groups: int = 1,
        slope: float = 1.0,
    ) -> None:
        self._geometry = ([padding] * 2, [stride] * 2, [1, 1], groups)
        self._bias = None if bias is None else bias.detach().to(weight.dtype)
        self._slope = slope
        self._weight = weight.detach().contiguous(memory_format=_LAST)
        self._packed = _has_packing()
        if self._packed:
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, *self._geometry
            )

    def __call__(self, x: Tensor) -> Tensor:
        if not self._packed:
            padding, stride, dilation, groups = self._geometry
            y = F.conv2d(x, self._weight, self._bias, stride, padding, dilation, groups)
            return y if self._slope == 1 else F.leaky_relu_(y, self._slope)
        after: tuple[str, list[float]] = ("none", [])
        if self._slope != 1:
            after = ("leaky_relu", [self._slope])
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self._bias, *self._geometry, *after, ""
        )


def _has_packing() -> bool:
    """oneDNN's own kernels; on other processors torch has it call those of other libraries."""
    return torch.backends.mkldnn.is_available() and platform.machine().lower() in (
        "x86_64",
        "amd64",
    )


def packed_conv(conv: nn.Conv2d, slope: float = 1.0) -> PackedConv:
    """A convolution as it is, with a leaky ReLU of ``slope`` behind it."""
    stride, padding = int(conv.stride[0]), int(conv.padding[0])
    return PackedConv(
        conv.weight, conv.bias, stride=stride, padding=padding, groups=conv.groups, slope=slope
    )


def reading(conv: nn.Conv2d, places: list[int], channels: int, slope: float = 1.0) -> PackedConv:
    """A convolution whose input channel number i is found at ``places[i]`` of ``channels``."""
    weight = conv.weight.detach()
    spread = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    spread[:, places] = weight
    return PackedConv(
        spread, conv.bias, stride=int(conv.stride[0]), padding=int(conv.padding[0]), slope=slope
    )


def tiled(conv: nn.ConvTranspose2d, shuffle: int = 1, keep: int | None = None) -> PackedConv:
    """A transposed convolution of 4 × 4, stride 2, padding 1 as a convolution of 2 × 2 that puts
    out tiles (see :mod:`vfi_cli.native.motion_ops`), with a pixel shuffle by ``shuffle`` done.

    ``keep``: how many of its output channels (after the shuffle) are wanted.
    """
    assert (conv.kernel_size, conv.stride, conv.padding) == ((4, 4), (2, 2), (1, 1))
    # Output row 2i − 1 + d is made of input rows i − 1 and i, by these rows of the kernel.
    taps = torch.tensor([[2, 0], [3, 1]])
    r = shuffle
    weight = conv.weight.detach().unflatten(1, (-1, r, r))[:, :keep]  # in, n, sy, sx, ky, kx
    weight = weight[..., taps, :][..., taps]  # in, n, sy, sx, dy, ty, dx, tx
    n = weight.shape[1]
    weight = weight.permute(4, 2, 6, 3, 1, 0, 5, 7).reshape(4 * r * r * n, -1, 2, 2)
    bias = None
    if conv.bias is not None:
        bias = conv.bias.detach().unflatten(0, (-1, r, r))[:keep].permute(1, 2, 0)  # sy, sx, n
        bias = bias[None, :, None].expand(2, r, 2, r, n).flatten()
    return PackedConv(weight, bias, padding=1)
