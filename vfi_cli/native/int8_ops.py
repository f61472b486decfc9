"""Convolutions of 8-bit numbers, for processors that multiply these faster than others.

Weights are rounded once, each output channel by its own scale; inputs when they are read, all of a
sample by the largest of them, which the operator that made them has found on its way. Two inputs
that lie side by side need not be concatenated, and each has a largest of its own. Products are
added up exactly. Everything else (bias, shortcut, activation) is float32, and what is put out is
float32 or bfloat16 like the input, channels-last.

Integer arithmetic as in Jacob et al., "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 2, but symmetric, and with the ranges of
activations found while running.

Where there are no kernels, and within :func:`~vfi_cli.native.ops.use_reference`, the twins in
:mod:`vfi_cli.native.int8_reference` run, which are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.native import int8_reference as reference
from vfi_cli.native import ops

#: What is one number a channel is read in sixteens, and so has sixteen more.
_SLACK = 16


@lru_cache
def kernels() -> str | None:
    """The instruction set that the kernels use here, or None where there are none."""
    return ops.said_by_library("vfi_int8_kernels")


class Packed(NamedTuple):
    """A convolution's numbers as :func:`conv_int8` reads them; made by :func:`pack`. Of each input
    its weights, what its sums begin with, and the scales of its weights."""

    weights: list[Tensor]
    starts: list[Tensor]
    scales: list[Tensor]
    factors: Tensor
    channels: int


class Input(NamedTuple):
    """Channels of what a convolution sees.

    ``x``: (B, c, H, W) float32 or bfloat16, channels-last; ``peak``: (B,) float32, at least the
    magnitude of everything in a sample; ``grow``: 1, or 2 where it is enlarged bilinearly by that.
    """

    x: Tensor
    peak: Tensor
    grow: int = 1


def pack(
    weight: Tensor,
    bias: Tensor | None,
    slopes: Tensor | float = 1.0,
    inputs: Sequence[int] | None = None,
) -> Packed:
    """Prepare a convolution.

    Args:
        weight: (n, c, k, k) of any dtype, k up to 8.
        bias: (n,) or None.
        slopes: what negative results are multiplied by, for all channels or (n,); 1 for nothing.
        inputs: of how many channels each input is, one or two that make c; by default one.
    """
    weight = weight.detach().float()
    n = weight.shape[0]
    # Narrow registers, which take a seventh more, where wide ones would have many empty lanes.
    lanes = 8 if 1.15 * _padded(n, 8) < _padded(n, 16) else 16
    parts = weight.split(list(inputs or weight.shape[1:2]), 1)
    packed = [_packed(part, lanes) for part in parts]
    factors = weight.new_zeros(2, _padded(n, lanes) + _SLACK)
    if bias is not None:
        factors[0, :n] = bias.detach()
    factors[1, :n] = slopes
    weights, starts, scales = ([part[i] for part in packed] for i in range(3))
    return Packed(weights, starts, scales, factors, n)


def _packed(weight: Tensor, lanes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (n, c, k, k) rounded and in order, what sums begin with, and the scales."""
    n, c, kernel, _ = weight.shape
    columns = _padded(n, lanes)
    scale = weight.abs().amax((1, 2, 3)) / reference.PEAK
    # A channel of zeros only stays one, whatever it is divided by.
    whole = (weight / torch.where(scale > 0, scale, 1)[:, None, None, None]).round()
    room = (0, 0, 0, 0, 0, -c % 4, 0, columns - n)
    parts = F.pad(whole, room).view(columns // lanes, lanes, -1, 4, kernel, kernel)
    packed = parts.permute(0, 4, 5, 2, 1, 3).reshape(columns // lanes, kernel, -1, lanes, 4)
    # Inputs are stored with 128 for 0, which each product brings along.
    start = -128 * packed.sum((1, 2, 4)).flatten()
    return (
        packed.to(torch.int8).contiguous(),
        start.to(torch.int32),
        F.pad(scale, (0, columns + _SLACK - n)),
    )


def _padded(n: int, lanes: int) -> int:
    return -(-n // lanes) * lanes


def int8_peak(x: Tensor) -> Tensor:
    """The largest magnitude of each sample of (B, C, H, W), (B,) float32; NaN is none."""
    return _run("int8_peak", x)


def conv_int8(
    inputs: Sequence[Input],
    packed: Packed,
    *,
    stride: int = 1,
    padding: int = 1,
    before: Tensor | None = None,
    after: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A convolution, with what follows it: activated(conv(inputs) + bias + before) + after.

    Args:
        inputs: one or two, side by side as if concatenated, each rounded by its own largest.
        before, after: like the result, or None.

    Returns:
        (B, n, H', W') in the dtype of the inputs, channels-last, and the largest magnitude of each
        of its samples, (B,) float32.
    """
    weights, starts, scales, factors, channels = packed
    return _run(
        "conv_int8",
        [each.x for each in inputs],
        [each.grow for each in inputs],
        [each.peak for each in inputs],
        weights,
        starts,
        scales,
        factors,
        channels,
        stride,
        padding,
        before,
        after,
    )


def _run(name: str, x: Any, *arguments: Any) -> Any:
    device = (x[0] if isinstance(x, list) else x).device
    native = device.type == "cpu" and ops.native_wanted() and kernels() is not None
    return getattr(torch.ops.vfi if native else reference, name)(x, *arguments)


if ops.available():
    # The twins also say what comes out where tensors have no values.
    torch.library.register_fake("vfi::int8_peak", reference.int8_peak)
    torch.library.register_fake("vfi::conv_int8", reference.conv_int8)
