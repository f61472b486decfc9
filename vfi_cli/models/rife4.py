"""RIFE 4.x: IFNet that takes any timestep, with all its published widths and heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Rife4Spec:
    """What distinguishes one 4.x network from another; everything else follows from it.

    ``widths`` are the channels of each block's residual body, ``scales`` the factor by which
    each block's input is shrunk, ``head`` the channels of the per-frame feature extractor
    (0: none), ``carried`` the channels a block hands to the next beside flow and mask.
    """

    widths: tuple[int, ...] = (192, 128, 96, 64, 32)
    scales: tuple[int, ...] = (16, 8, 4, 2, 1)
    head: int = 4
    head_width: int = 16
    carried: int = 8
    mask_residual: bool = False


class Stage(NamedTuple):
    """What one block leaves behind: the flow (B, 4, H, W) from the new frame to frame 0 (u, v)
    and to frame 1 (u, v), in pixels, and the blending mask before its sigmoid (B, 1, H, W)."""

    flow: Tensor
    mask: Tensor


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Sample ``image`` (B, C, H, W) at x + flow (B, 2, H, W), border repeated, in float32."""
    b, _, h, w = flow.shape
    flow = flow.float()
    x = torch.arange(w, device=flow.device, dtype=torch.float32)
    y = torch.arange(h, device=flow.device, dtype=torch.float32)[:, None]
    grid = torch.stack(
        (
            (x + flow[:, 0]) * (2 / max(image.shape[3] - 1, 1)) - 1,
            (y + flow[:, 1]) * (2 / max(image.shape[2] - 1, 1)) - 1,
        ),
        3,
    )
    return F.grid_sample(
        image.float(), grid, mode="bilinear", padding_mode="border", align_corners=True
    )


def resize(x: Tensor, factor: float) -> Tensor:
    """Bilinear resize by ``factor``, as the published code calls it."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class Head(nn.Module):
    """Features of one frame, at its own size, that travel with it through every warp."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(3, width, 3, 2, 1)
        self.cnn1 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn2 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(width, out, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.cnn0(x), 0.2)
        x = F.leaky_relu(self.cnn1(x), 0.2)
        x = F.leaky_relu(self.cnn2(x), 0.2)
        return self.cnn3(x)


class ResConv(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1)
        self.beta = nn.Parameter(torch.ones((1, c, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(x) * self.beta + x, 0.2)


def _down(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, 2, 1), nn.LeakyReLU(0.2, inplace=True))


class IFBlock(nn.Module):
    """One refinement of flow and mask at one scale."""

    def __init__(self, c_in: int, c: int, carried: int, depth: int = 8) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_down(c_in, c // 2), _down(c // 2, c))
        self.convblock = nn.Sequential(*(ResConv(c) for _ in range(depth)))
        self.lastconv = nn.Sequential(
            nn.ConvTranspose2d(c, 4 * (5 + carried), 4, 2, 1), nn.PixelShuffle(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.lastconv(self.convblock(self.conv0(x)))


class IFNet(nn.Module):
    """The network on padded input. Frames (B, 3, H, W) in [0, 1], H and W multiples of
    four times the largest scale divided by ``scale``."""

    def __init__(self, spec: Rife4Spec | None = None) -> None:
        super().__init__()
        spec = spec or Rife4Spec()
        self.spec = spec
        first = 2 * (3 + spec.head) + 1
        later = first + 1 + spec.carried + 4
        for i, c in enumerate(spec.widths):
            self.add_module(f"block{i}", IFBlock(first if i == 0 else later, c, spec.carried))
        if spec.head:
            self.encode = Head(spec.head_width, spec.head)

    @property
    def blocks(self) -> list[nn.Module]:
        return [getattr(self, f"block{i}") for i in range(len(self.spec.widths))]

    def stages(
        self, img0: Tensor, img1: Tensor, timestep: Tensor, scale: float = 1.0
    ) -> tuple[Tensor, list[Stage]]:
        """The new frame, and what each block had estimated (for training)."""
        side0, side1 = img0, img1
        if self.spec.head:
            side0 = torch.cat((img0, self.encode(img0).float()), 1)
            side1 = torch.cat((img1, self.encode(img1).float()), 1)
        h, w = img0.shape[2:]
        flow = mask = carried = None
        warped0, warped1 = side0, side1
        result: list[Stage] = []
        for i, (block, own) in enumerate(zip(self.blocks, self.spec.scales, strict=True)):
            s = own / scale
            small0, small1 = resize(warped0, 1 / s), resize(warped1, 1 / s)
            time = timestep.expand(-1, 1, *small0.shape[2:])
            parts = [small0[:, :3], small1[:, :3], small0[:, 3:], small1[:, 3:], time]
            if flow is not None:
                parts.append(resize(mask, 1 / s))
                if carried is not None:
                    parts.append(resize(carried, 1 / s))
                parts.append(resize(flow, 1 / s) / s)
            x = torch.cat(parts, 1).contiguous(memory_format=torch.channels_last)
            raw = block(x).float()
            flow_step = resize(raw[:, :4], s) * s
            mask_step = resize(raw[:, 4:5], s)
            if self.spec.carried:
                carried = resize(raw[:, 5:], s)
            flow = flow_step if flow is None else flow + flow_step
            mask = mask + mask_step if mask is not None and self.spec.mask_residual else mask_step
            last = i == len(self.spec.widths) - 1
            warped0 = warp(img0 if last else side0, flow[:, :2])
            warped1 = warp(img1 if last else side1, flow[:, 2:])
            result.append(Stage(flow, mask))
        assert mask is not None and warped0.shape[2:] == (h, w)
        blend = torch.sigmoid(mask)
        return warped0 * blend + warped1 * (1 - blend), result

    def forward(self, img0: Tensor, img1: Tensor, timestep: Tensor, scale: float = 1.0) -> Tensor:
        return self.stages(img0, img1, timestep, scale)[0]
