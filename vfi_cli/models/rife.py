"""RIFE, RIFEm and RIFE-2R: intermediate flow from coarse to fine, then a residual.

Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame Interpolation", ECCV 2022.
Three blocks estimate the flows from the new frame to both sources and a blending mask; a
context net and a U-Net add what warping cannot give. RIFEm also sees the time t, and 2R works
at twice the resolution throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vfi_cli.models.base import Memo, Motion, Network
from vfi_cli.models.blocks import conv_prelu, dtype_of, resize, resize_flow, warp
from vfi_cli.models.devices import ALL_DTYPES, WITH_INT8
from vfi_cli.models.fused_rife import fused
from vfi_cli.models.packed import fusible
from vfi_cli.models.registry import Architecture, StateDict

#: Downscaling of the three blocks.
_SCALES = (4, 2, 1)
#: Widths of the three blocks as published.
_WIDTHS = (240, 150, 90)


class FlowBlock(nn.Module):
    """Flow and mask (5 channels) from pictures, and from the flow so far where there is one."""

    def __init__(self, channels_in: int, width: int, first_stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(
            conv_prelu(channels_in, width // 2, stride=first_stride),
            conv_prelu(width // 2, width, stride=2),
        )
        self.convblock = nn.Sequential(*(conv_prelu(width, width) for _ in range(8)))
        self.lastconv = nn.ConvTranspose2d(width, 5, 4, 2, 1)
        self.upscale = first_stride  # what is left of the strides after lastconv

    def forward(self, x: Tensor, flow: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
        x = resize(x, 1 / scale)
        if flow is not None:
            x = torch.cat((x, resize_flow(flow, 1 / scale)), 1)
        x = self.conv0(x.to(dtype_of(self)))
        x = self.lastconv(self.convblock(x) + x).float()
        grown = resize(x, scale * self.upscale)
        return grown[:, :4] * (scale * self.upscale), grown[:, 4:5]


class DoubleConv(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int = 2) -> None:
        super().__init__()
        self.conv1 = conv_prelu(channels_in, channels_out, stride=stride)
        self.conv2 = conv_prelu(channels_out, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class ContextNet(nn.Module):
    """Features of one frame at four resolutions, not yet warped."""

    def __init__(self, width: int, first_stride: int) -> None:
        super().__init__()
        self.conv1 = DoubleConv(3, width, first_stride)
        self.conv2 = DoubleConv(width, 2 * width)
        self.conv3 = DoubleConv(2 * width, 4 * width)
        self.conv4 = DoubleConv(4 * width, 8 * width)

    def forward(self, frame: Tensor) -> list[Tensor]:
        features = [self.conv1(frame.to(dtype_of(self)))]
        for conv in (self.conv2, self.conv3, self.conv4):
            features.append(conv(features[-1]))
        return features


class RefineNet(nn.Module):
    """A U-Net over the pictures, the warped pictures, the flow and the warped features."""

    def __init__(self, width: int, first_stride: int) -> None:
        super().__init__()
        self.down0 = DoubleConv(17, 2 * width, first_stride)
        self.down1 = DoubleConv(4 * width, 4 * width)
        self.down2 = DoubleConv(8 * width, 8 * width)
        self.down3 = DoubleConv(16 * width, 16 * width)
        self.up0 = _upconv_prelu(32 * width, 8 * width)
        self.up1 = _upconv_prelu(16 * width, 4 * width)
        self.up2 = _upconv_prelu(8 * width, 2 * width)
        self.up3 = _upconv_prelu(4 * width, width)
        self.conv = nn.Conv2d(width, 3, 3, 3 - first_stride, 1)

    def forward(self, x: Tensor, context0: list[Tensor], context1: list[Tensor]) -> Tensor:
        """The residual, (B, 3, H, W) in [-1, 1], float32."""
        s0 = self.down0(x.to(dtype_of(self)))
        s1 = self.down1(torch.cat((s0, context0[0], context1[0]), 1))
        s2 = self.down2(torch.cat((s1, context0[1], context1[1]), 1))
        s3 = self.down3(torch.cat((s2, context0[2], context1[2]), 1))
        y = self.up0(torch.cat((s3, context0[3], context1[3]), 1))
        y = self.up1(torch.cat((y, s2), 1))
        y = self.up2(torch.cat((y, s1), 1))
        y = self.up3(torch.cat((y, s0), 1))
        return torch.sigmoid(self.conv(y).float()) * 2 - 1


def _upconv_prelu(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(channels_in, channels_out, 4, 2, 1), nn.PReLU(channels_out)
    )


class RIFE(Network):
    """RIFE at t = 1/2, or RIFEm at any t (``timed``).

    first_stride: 2, or 1 for RIFE-2R, whose blocks and nets skip their first halving.
    """

    size_multiple = 32
    has_motion = True
    safe_dtypes = WITH_INT8

    def __init__(
        self,
        widths: tuple[int, ...] = _WIDTHS,
        context_width: int = 16,
        *,
        timed: bool = False,
        first_stride: int = 2,
    ) -> None:
        super().__init__()
        self.any_timestep = self.timestep_map = timed
        self.first_stride = first_stride
        if first_stride != 2:
            self.safe_dtypes = ALL_DTYPES  # plain operators do its convolutions
        for number, width in enumerate(widths):
            channels = (17 if number else 6) + timed
            self.add_module(f"block{number}", FlowBlock(channels, width, first_stride))
        self.contextnet = ContextNet(context_width, first_stride)
        self.unet = RefineNet(context_width, first_stride)

    def _estimate(
        self, frames: Tensor, timestep: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The flow (4 channels), the mask before its sigmoid, and both warped frames."""
        batch, (height, width) = timestep.shape[0], frames.shape[-2:]
        frames = frames.expand(batch, -1, -1, -1, -1)
        img0, img1 = frames[:, 0], frames[:, 1]
        fixed = [img0, img1]
        if self.any_timestep:
            fixed.append(timestep.expand(batch, 1, height, width))
        flow, mask = self.get_submodule("block0")(torch.cat(fixed, 1), None, _SCALES[0] / scale)
        warped0, warped1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:])
        for number, downscale in enumerate(_SCALES[1:], 1):
            block = self.get_submodule(f"block{number}")
            seen = torch.cat((*fixed, warped0, warped1, mask), 1)
            more_flow, more_mask = block(seen, flow, downscale / scale)
            flow, mask = flow + more_flow, mask + more_mask
            warped0, warped1 = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:])
        return flow, mask, warped0, warped1

    def _context(self, frame: Tensor, position: int, memo: Memo | None) -> list[Tensor]:
        if memo is None:
            return self.contextnet(frame)
        return memo("context", (position,), lambda: self.contextnet(frame))

    def _warp_context(self, features: list[Tensor], flow: Tensor) -> list[Tensor]:
        """Features warped by the flow at each one's resolution."""
        warped = []
        for number, feature in enumerate(features):
            if number or self.first_stride == 2:
                flow = resize_flow(flow, 0.5)
            warped.append(warp(feature, flow))
        return warped

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        if fusible(self, frames):
            scales = [own / scale for own in _SCALES]
            if (quick := fused(self, scales)) is not None:
                return quick(frames, timestep, scales, memo)
        flow, mask, warped0, warped1 = self._estimate(frames, timestep, scale)
        context = [
            self._warp_context(self._context(frames[:, side], side, memo), half)
            for side, half in enumerate((flow[:, :2], flow[:, 2:]))
        ]
        img0, img1 = frames.expand(flow.shape[0], -1, -1, -1, -1).unbind(1)
        seen = torch.cat((img0, img1, warped0, warped1, mask, flow), 1)
        residual = self.unet(seen, *context)
        # Linear in the mask, and exact at both of its ends.
        merged = torch.lerp(warped1, warped0, torch.sigmoid(mask))
        return (merged + residual).clamp(0, 1)

    def motion(
        self, frames: Tensor, timestep: Tensor, *, scale: float = 1.0, memo: Memo | None = None
    ) -> Motion:
        flow, mask, _, _ = self._estimate(frames, timestep, scale)
        return Motion(flow[:, :2], flow[:, 2:], torch.sigmoid(mask))


def _is_rife(state: StateDict, *, timed: bool) -> bool:
    """Three blocks of plain convolutions with a fused lastconv, and the two refining nets."""
    first = state.get("block0.conv0.0.0.weight")
    return (
        first is not None
        and first.dim() == 4
        and first.shape[1] == 6 + timed
        and any(key.startswith("contextnet.") for key in state)
    )


def _build(state: StateDict, *, timed: bool, first_stride: int) -> RIFE:
    widths = tuple(state[f"block{number}.lastconv.weight"].shape[0] for number in range(3))
    return RIFE(
        widths,
        state["contextnet.conv1.conv1.0.weight"].shape[0],
        timed=timed,
        first_stride=first_stride,
    )


def _architecture(name: str, description: str, *, timed: bool, first_stride: int) -> Architecture:
    return Architecture(
        name=name,
        matches=lambda state: _is_rife(state, timed=timed),
        build=lambda state: _build(state, timed=timed, first_stride=first_stride),
        prototype=lambda: RIFE(timed=timed, first_stride=first_stride),
        description=description,
        licence="MIT",
        training_only=("block_tea.",),
        explicit=first_stride == 1,
    )


ARCHITECTURES = (
    _architecture("rife", "RIFE (ECCV 2022), the middle frame", timed=False, first_stride=2),
    _architecture("rifem", "RIFE (ECCV 2022), any t", timed=True, first_stride=2),
    _architecture(
        "rife-2r", "RIFE at doubled resolution, the middle frame", timed=False, first_stride=1
    ),
)
