"""What several architectures are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.native.ops import backwarp


def conv_prelu(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size (divided by the stride), and a PReLU of each channel."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, (kernel - 1) // 2),
        nn.PReLU(channels_out),
    )


def conv_leaky(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size (divided by the stride), and a LeakyReLU of slope 0.1."""
    return nn.Sequential(
        nn.Conv2d(
            channels_in, channels_out, kernel, stride, (kernel - 1) // 2 * dilation, dilation
        ),
        nn.LeakyReLU(0.1),
    )


def resize(x: Tensor, factor: float) -> Tensor:
    """``x`` (B, C, H, W) with its height and width times ``factor``, bilinear, between pixels."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def resize_flow(flow: Tensor, factor: float) -> Tensor:
    """A flow at another resolution: its vectors change their length with the picture."""
    return flow if factor == 1 else resize(flow, factor) * factor


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Each pixel of ``x`` fetched from where the flow (B, 2, H, W) points, edges repeated.

    A flow in float32 and features in half precision go together.
    """
    if x.shape[0] != flow.shape[0]:
        x = x.expand(flow.shape[0], -1, -1, -1)
    return backwarp(x, flow)


def dtype_of(module: nn.Module) -> torch.dtype:
    """The dtype of a module's weights, in which it wants its inputs."""
    return next(module.parameters()).dtype
