"""ScopeFlow: optical flow by the IRR-PWC network, as EQVI uses it.

Bar-Haim and Wolf, "ScopeFlow: Dynamic Scene Scoping for Optical Flow", CVPR 2020, whose network
is that of Hur and Roth, "Iterative Residual Refinement for Joint Optical Flow and Occlusion
Estimation", CVPR 2019. Only the flow from the first frame to the second is computed: it does
not depend on the occlusions and the opposite flow, which the published network finds as well.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.base import Network
from vfi_cli.models.blocks import conv_leaky, dtype_of
from vfi_cli.models.fused_scopeflow import FusedFlowNet, fused
from vfi_cli.models.packed import fusible
from vfi_cli.models.registry import Architecture, StateDict
from vfi_cli.native.ops import backwarp, correlation

_PYRAMID = (3, 16, 32, 64, 96, 128, 196)
_RANGE = 4
_CORRELATION = (2 * _RANGE + 1) ** 2
_PROJECTED = 32
#: Widths of the densely connected convolutions.
_DENSE = (128, 128, 96, 64, 32)
#: Widths and dilations of the convolutions that look around.
_CONTEXT = ((128, 1), (128, 2), (128, 4), (96, 8), (64, 16), (32, 1))
#: Widths of those that weigh neighbours.
_BILATERAL = (128, 128, 64, 64, 32, 32)
#: Coarse-to-fine levels at which flow is estimated: 1/64 to 1/4 of the size.
_LEVELS = 5
#: The network's flow is in units of 20 pixels of the frames.
_UNIT = 0.05
#: Bilinear weights inside the picture that count as all of it, whatever their rounding.
_SEEN = 0.99999

#: Convolutions in bfloat16 move flow by a hundredth of a pixel, because it is added up in float32.
SAFE_DTYPES = frozenset({torch.float32, torch.bfloat16})

#: The key that tells weights of our own (see :class:`FlowNet`).
KEY = "scaled_once"

#: Keys of what the flow from first to second frame does not need.
OTHER_OUTPUTS = (
    "occ_estimators.",
    "occ_context_networks.",
    "occ_shuffle_upsample.",
    "refine_occ.",
    "conv_1x1_1.",
)


def _plain(channels_in: int, channels_out: int) -> nn.Sequential:
    """A convolution without activation, under the key that one with activation has."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, 1, 1))


class FeaturePyramid(nn.Module):
    """Features of a frame at 1/64, 1/32, … 1/2 of its size, coarsest first."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(conv_leaky(before, width, stride=2), conv_leaky(width, width))
            for before, width in pairwise(_PYRAMID)
        )

    def forward(self, frame: Tensor) -> list[Tensor]:
        features = [frame.to(dtype_of(self))]
        for level in self.convs:
            features.append(level(features[-1]))
        return features[:0:-1]


class DenseEstimator(nn.Module):
    """Five densely connected convolutions: all their features, and the flow's residual."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        channels = channels_in
        for number, width in enumerate(_DENSE, 1):
            self.add_module(f"conv{number}", conv_leaky(channels, width))
            channels += width
        self.conv_last = _plain(channels, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for number in range(1, len(_DENSE) + 1):
            x = torch.cat((self.get_submodule(f"conv{number}")(x), x), 1)
        return x, self.conv_last(x)


class ContextNetwork(nn.Module):
    """Dilated convolutions that look far around a flow, for its residual."""

    def __init__(self, channels_in: int) -> None:
        super().__init__()
        widths = (channels_in, *(width for width, _ in _CONTEXT))
        self.convs = nn.Sequential(
            *(
                conv_leaky(before, width, dilation=dilation)
                for before, (width, dilation) in zip(widths, _CONTEXT, strict=False)
            ),
            _plain(widths[-1], 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class BilateralRefinement(nn.Module):
    """From flow, difference of the pictures and features, how to weigh a flow's neighbours."""

    def __init__(self) -> None:
        super().__init__()
        widths = (2 + 1 + _PROJECTED, *_BILATERAL, 9)
        self.convs = nn.Sequential(*(conv_leaky(a, b) for a, b in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


def _mean_of_neighbours(flow: Tensor, x: Tensor) -> Tensor:
    """The flow's 3 × 3 neighbours weighted by what the refinement puts out, (B, 9, h, w)."""
    weights = torch.softmax(-(x.float() ** 2), dim=1).unsqueeze(1)
    neighbours = F.unfold(F.pad(flow, (1, 1, 1, 1), mode="replicate"), 3)
    neighbours = neighbours.view(flow.shape[0], 2, 9, *flow.shape[2:])
    return (neighbours * weights).sum(2)


def _join(*parts: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.cat([part.to(dtype) for part in parts], 1)


def _resize_as(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


def _axes(flow: Tensor, x: float, y: float) -> Tensor:
    """The flow with its components times ``x`` and ``y``."""
    return flow * flow.new_tensor((x, y)).view(1, 2, 1, 1)


def _warp(x: Tensor, flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Fetch by a flow in units of a picture of ``size``; zero where that leads outside.

    The published network measures both from corner to corner, hence the −1.
    """
    height, width = x.shape[2:]
    to_pixels = (width - 1) / max(size[1] - 1, 1), (height - 1) / max(size[0] - 1, 1)
    local = _axes(flow, to_pixels[0] / _UNIT, to_pixels[1] / _UNIT)
    ones = torch.ones_like(x[:, :1], dtype=torch.float32)
    seen = backwarp(ones, local, padding_mode="zeros")
    return backwarp(x, local, padding_mode="zeros") * (seen >= _SEEN).to(x.dtype)


class FlowNet(nn.Module):
    """The network under its published keys; flow in float32.

    The published code scales in place, so that the refined flow of each level is scaled once more
    than its units ask for, and the published weights are trained with it. Weights that hold the
    key ``scaled_once`` are of our own, and without it: each level hands the next what it found.
    """

    def __init__(self, *, scaled_once: bool = False) -> None:
        super().__init__()
        if scaled_once:
            self.register_buffer(KEY, torch.ones(1))
        channels = _CORRELATION + _PROJECTED + 2
        self.feature_pyramid_extractor = FeaturePyramid()
        self.flow_estimators = DenseEstimator(channels)
        self.context_networks = ContextNetwork(channels + sum(_DENSE) + 2)
        self.conv_1x1 = nn.ModuleList(
            conv_leaky(width, _PROJECTED, kernel=1) for width in _PYRAMID[:-_LEVELS:-1]
        )
        self.refine_flow = BilateralRefinement()

    def _parts(self, frame: Tensor) -> FlowNet | FusedFlowNet:
        """The convolutions, as modules or prepared."""
        return fused(self) if fusible(self, frame) else self

    def pyramid(self, frame: Tensor) -> list[Tensor]:
        """Features of a frame, coarsest first."""
        return self.feature_pyramid_extractor(frame)

    def project(self, level: int, x: Tensor) -> Tensor:
        """A level's features in fewer channels."""
        return self.conv_1x1[level](x)

    def estimate(self, *seen: Tensor) -> tuple[Tensor, Tensor]:
        """From costs, features and flow: all that was made of them, and the flow's residual."""
        return self.flow_estimators(_join(*seen, dtype=dtype_of(self)))

    def look_around(self, dense: Tensor, flow: Tensor) -> Tensor:
        """From what :meth:`estimate` has made, and the flow with its residual: one more."""
        return self.context_networks(_join(dense, flow, dtype=dense.dtype))

    def weigh(self, *seen: Tensor) -> Tensor:
        """From flow, contrast and features what :func:`_mean_of_neighbours` weighs by."""
        return self.refine_flow(_join(*seen, dtype=dtype_of(self)))

    def features(self, frame: Tensor) -> list[Tensor]:
        """What :meth:`between` needs of a frame (B, 3, H, W), sizes multiples of 64."""
        return self._parts(frame).pyramid(frame)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Flow from ``first`` to ``second``, (B, 2, H, W), in pixels."""
        return self.between(first, self.features(first), second, self.features(second))

    def between(
        self,
        first: Tensor,
        features0: list[Tensor],
        second: Tensor,
        features1: list[Tensor],
        levels: list[Tensor] | None = None,
    ) -> Tensor:
        """Flow from the first frame to the second, from frames and their features; the flow of
        each level (B, 2, h, w), in pixels of the frames, goes to ``levels``."""
        parts = self._parts(first)
        height, width = first.shape[2:]
        flow = first.new_zeros(first.shape[0], 2, *features0[0].shape[2:])
        for level in range(_LEVELS):
            x0, x1 = features0[level], features1[level]
            warped = x1
            if level:
                flow = _resize_as(flow, x0)
                warped = _warp(x1, flow, (height, width))
            cost = F.leaky_relu(correlation(x0, warped, _RANGE), 0.1)
            projected = parts.project(level, x0) if level < _LEVELS - 1 else x0
            # The estimators see and give flow in pixels of their own level.
            unit = (_UNIT * width / x0.shape[3], _UNIT * height / x0.shape[2])
            local = _axes(flow, 1 / unit[0], 1 / unit[1])
            dense, residual = parts.estimate(cost, projected, local)
            local = local + residual.float()
            local = local + parts.look_around(dense, local).float()
            flow = _axes(local, *unit)
            small0, small1 = _resize_as(first, x0), _resize_as(second, x0)
            difference = small0 - _warp(small1, flow, (height, width))
            centred, contrast = flow - flow.mean((2, 3), keepdim=True), difference.norm(dim=1)
            flow = _mean_of_neighbours(flow, parts.weigh(centred, contrast.unsqueeze(1), projected))
            if KEY not in self._buffers:
                flow = _axes(flow, *unit)
            if levels is not None:
                levels.append(flow / _UNIT)
        # Two steps, at half size and at full size, as published: one would not be the same.
        return _resize_as(_resize_as(flow, features0[_LEVELS]), first) / _UNIT

    def _load_from_state_dict(self, state_dict: StateDict, prefix: str, *args: Any) -> None:
        """Goes by the weights that are loaded."""
        self._buffers.pop(KEY, None)
        if prefix + KEY in state_dict:
            self.register_buffer(KEY, torch.ones(1))
        super()._load_from_state_dict(state_dict, prefix, *args)


class ScopeFlow(Network, FlowNet):
    """Optical flow alone: it makes no frames."""

    size_multiple = 64
    has_scale = False
    has_frames = False
    has_flow = True
    safe_dtypes = SAFE_DTYPES

    def flow(self, frames: Tensor) -> Tensor:
        return FlowNet.forward(self, frames[:, 0], frames[:, 1])

    def stages(self, first: Tensor, second: Tensor) -> tuple[Tensor, list[Tensor]]:
        """For training: the flow (B, 2, H, W) from the first frame to the second, and those of
        the levels at 1/64, 1/32, … 1/4 of the size, all in pixels of the frames."""
        levels: list[Tensor] = []
        found = self.between(first, self.features(first), second, self.features(second), levels)
        return found, levels


def _matches(state: StateDict) -> bool:
    return "feature_pyramid_extractor.convs.0.0.0.weight" in state


ARCHITECTURES = (
    Architecture(
        name="scopeflow",
        matches=_matches,
        build=lambda state: ScopeFlow(scaled_once=KEY in state),
        prototype=ScopeFlow,
        description="ScopeFlow (CVPR 2020), optical flow for EQVI",
        licence="Apache-2.0",
        training_only=OTHER_OUTPUTS,
    ),
)
