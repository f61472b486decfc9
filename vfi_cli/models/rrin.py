"""RRIN: flows between the frames, taken to time t and refined, then a refined blend.

Li et al., "Video Frame Interpolation via Residue Refinement", ICASSP 2020, from its equations.
Four U-Nets: one for the flows between both frames, one for the residue of the flows at t, one
for the two visibility masks, one for the residue of the picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.base import Memo, Motion, Network, WithInt8
from vfi_cli.models.blocks import dtype_of, resize
from vfi_cli.models.devices import WITH_INT8
from vfi_cli.models.fused_rrin import fused
from vfi_cli.models.packed import fusible
from vfi_cli.models.registry import Architecture, StateDict
from vfi_cli.native.ops import backwarp

_SLOPE = 0.1
#: Keeps the quotient of the masks finite.
_EPSILON = 1e-8


class _Pair(nn.Module):
    """Two convolutions, each with its activation; ``block`` as the published keys say."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, 1, 1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(channels_out, channels_out, 3, 1, 1),
            nn.LeakyReLU(_SLOPE),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class _Up(nn.Module):
    """Twice the size and half the channels, joined with the same level of the way down."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Identity(), nn.Conv2d(channels_in, channels_out, 3, 1, 1))
        self.conv_block = _Pair(channels_in, channels_out)

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        return self.conv_block(torch.cat((self.up(resize(x, 2)), bridge), 1))


class UNet(WithInt8):
    """``depth`` levels, 32 channels at the first and twice as many at each following one."""

    def __init__(self, channels_in: int, channels_out: int, depth: int, width: int = 32) -> None:
        super().__init__()
        widths = [width << level for level in range(depth)]
        before = [channels_in, *widths]
        self.down_path = nn.ModuleList(
            _Pair(before[level], widths[level]) for level in range(depth)
        )
        self.midconv = nn.Conv2d(widths[-1], widths[-1], 3, 1, 1)
        self.up_path = nn.ModuleList(
            _Up(widths[level + 1], widths[level]) for level in reversed(range(depth - 1))
        )
        self.last = nn.Conv2d(width, channels_out, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        if fusible(self, x):
            return fused(self, _SLOPE)(x)
        x = x.to(dtype_of(self))
        bridges: list[Tensor] = []
        for level, down in enumerate(self.down_path):
            x = down(F.avg_pool2d(x, 2) if level else x)
            bridges.append(x)
        x = F.leaky_relu(self.midconv(x), _SLOPE)
        for up, bridge in zip(self.up_path, reversed(bridges[:-1]), strict=True):
            x = up(x, bridge)
        return self.last(x).float()


def _warp(x: Tensor, flow: Tensor) -> Tensor:
    """Fetch as RRIN was trained: nothing outside of the picture, and corners one pixel apart.

    Its coordinates run from 0 at the first pixel to 1 one pixel behind the last, but are looked
    up as if 1 were the last: position x is found at x·(W − 1)/W.
    """
    height, width = x.shape[2:]
    columns = torch.arange(width, device=x.device, dtype=flow.dtype)
    rows = torch.arange(height, device=x.device, dtype=flow.dtype).unsqueeze(1)
    u = flow[:, 0] - (flow[:, 0] + columns) / width
    v = flow[:, 1] - (flow[:, 1] + rows) / height
    return backwarp(x, torch.stack((u, v), 1), padding_mode="zeros")


class RRIN(Network):
    """RRIN at any t; trained at t = 1/2."""

    size_multiple = 16
    timestep_map = True
    has_scale = False
    has_motion = True
    safe_dtypes = WITH_INT8

    def __init__(self) -> None:
        super().__init__()
        self.Mask = UNet(16, 2, 4)
        self.Flow_L = UNet(6, 4, 5)
        self.refine_flow = UNet(10, 4, 4)
        self.final = UNet(9, 3, 4)

    def _estimate(
        self, frames: Tensor, timestep: Tensor, memo: Memo | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The flows to both sides (4 channels), and the warped frames."""
        both = frames.flatten(1, 2)

        def between() -> Tensor:
            return self.Flow_L(both)

        flow = between() if memo is None else memo("flow", (0, 1), between)
        forth, back = flow[:, :2], flow[:, 2:]
        t, rest = timestep, 1 - timestep
        # Each flow at t from both flows between the frames, as in Super SloMo.
        flow = torch.cat(
            (t * t * back - rest * t * forth, rest * rest * forth - t * rest * back), 1
        )
        both = both.expand(timestep.shape[0], -1, -1, -1)
        flow = flow + self.refine_flow(torch.cat((flow, both), 1))
        return flow, _warp(both[:, :3], flow[:, :2]), _warp(both[:, 3:], flow[:, 2:])

    def _shares(
        self, frames: Tensor, timestep: Tensor, flow: Tensor, warped0: Tensor, warped1: Tensor
    ) -> Tensor:
        """The share of the frame before."""
        both = frames.flatten(1, 2).expand(timestep.shape[0], -1, -1, -1)
        seen = torch.sigmoid(self.Mask(torch.cat((flow, both, warped0, warped1), 1)))
        weight0, weight1 = (1 - timestep) * seen[:, :1], timestep * seen[:, 1:]
        return weight0 / (weight0 + weight1 + _EPSILON)

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        return self._merge(frames, timestep, *self._estimate(frames, timestep, memo))

    def _merge(
        self, frames: Tensor, timestep: Tensor, flow: Tensor, warped0: Tensor, warped1: Tensor
    ) -> Tensor:
        share = self._shares(frames, timestep, flow, warped0, warped1)
        merged = torch.lerp(warped1, warped0, share)
        both = frames.flatten(1, 2).expand(timestep.shape[0], -1, -1, -1)
        return (merged + self.final(torch.cat((both, merged), 1))).clamp(0, 1)

    def stages(self, frames: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """For training: the new frame, and its flow (B, 4, H, W) in pixels."""
        found = self._estimate(frames, timestep, None)
        return self._merge(frames, timestep, *found), found[0]

    def motion(
        self, frames: Tensor, timestep: Tensor, *, scale: float = 1.0, memo: Memo | None = None
    ) -> Motion:
        flow, warped0, warped1 = self._estimate(frames, timestep, memo)
        share = self._shares(frames, timestep, flow, warped0, warped1)
        return Motion(flow[:, :2], flow[:, 2:], share)


def _matches(state: StateDict) -> bool:
    return "Flow_L.midconv.weight" in state and "Mask.midconv.weight" in state


ARCHITECTURES = (
    Architecture(
        name="rrin",
        matches=_matches,
        build=lambda state: RRIN(),
        prototype=RRIN,
        description="RRIN (ICASSP 2020)",
        licence="non-commercial use only",
    ),
)
