"""IFRNet: one encoder, and a decoder that finds flow and intermediate features together.

Kong et al., "IFRNet: Intermediate Feature Refine Network for Efficient Frame Interpolation",
CVPR 2022, in its sizes S, base and L, and the adaptation for high resolution by varunjain3 with
GELU for PReLU, with and without batch norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vfi_cli.models.base import Memo, Motion, Network
from vfi_cli.models.blocks import dtype_of, resize, resize_flow, warp
from vfi_cli.models.devices import WITH_INT8
from vfi_cli.models.fused_ifrnet import fused
from vfi_cli.models.packed import fusible
from vfi_cli.models.registry import Architecture, StateDict


@dataclass(frozen=True)
class Widths:
    """The hyperparameters of a member of the family, all to be read off the shapes."""

    pyramid: tuple[int, int, int, int] = (32, 48, 72, 96)
    side: int = 32
    first_kernel: int = 3
    activation: str = "prelu"  # prelu, gelu or gelu-bn


def _activation(channels: int, kind: str) -> list[nn.Module]:
    if kind == "prelu":
        return [nn.PReLU(channels)]
    if kind == "gelu":
        return [nn.GELU()]
    return [nn.BatchNorm2d(channels), nn.GELU()]


def _conv(
    channels_in: int, channels_out: int, kind: str, kernel: int = 3, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, (kernel - 1) // 2),
        *_activation(channels_out, kind),
    )


class SideResBlock(nn.Module):
    """A residual block whose last ``side`` channels also pass convolutions of their own."""

    def __init__(self, channels: int, side: int, kind: str) -> None:
        super().__init__()
        self.side = side
        self.conv1 = _conv(channels, channels, kind)
        self.conv2 = _conv(side, side, kind)
        self.conv3 = _conv(channels, channels, kind)
        self.conv4 = _conv(side, side, kind)
        self.conv5 = nn.Conv2d(channels, channels, 3, 1, 1)
        # Named for what it is in the published files; without PReLU it has no weights.
        self.prelu = nn.PReLU(channels) if kind == "prelu" else nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y = self._beside(self.conv1(x), self.conv2)
        y = self._beside(self.conv3(y), self.conv4)
        return self.prelu(x + self.conv5(y))

    def _beside(self, x: Tensor, conv: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.cat((x[:, : -self.side], conv(x[:, -self.side :])), 1)


class Encoder(nn.Module):
    """Features of one frame at 1/2, 1/4, 1/8 and 1/16 of its size."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        before = 3
        for number, width in enumerate(widths.pyramid, 1):
            kernel = widths.first_kernel if number == 1 else 3
            level = nn.Sequential(
                _conv(before, width, widths.activation, kernel, stride=2),
                _conv(width, width, widths.activation),
            )
            self.add_module(f"pyramid{number}", level)
            before = width

    def forward(self, frame: Tensor) -> list[Tensor]:
        features = [frame.to(dtype_of(self))]
        for level in self.children():
            features.append(level(features[-1]))
        return features[1:]


class Decoder(nn.Module):
    """One level: from features of both frames and what the level above found, to twice the size."""

    def __init__(self, channels_in: int, width: int, channels_out: int, widths: Widths) -> None:
        super().__init__()
        self.convblock = nn.Sequential(
            _conv(channels_in, width, widths.activation),
            SideResBlock(width, widths.side, widths.activation),
            nn.ConvTranspose2d(width, channels_out, 4, 2, 1),
        )

    def forward(self, *parts: Tensor) -> Tensor:
        return self.convblock(torch.cat([part.to(parts[0].dtype) for part in parts], 1))


class IFRNet(Network):
    """IFRNet of any width; ``timestep`` is a feature of the coarsest level."""

    size_multiple = 16
    timestep_map = True
    has_motion = True
    safe_dtypes = WITH_INT8

    def __init__(self, widths: Widths | None = None) -> None:
        super().__init__()
        widths = widths or Widths()
        w1, w2, w3, w4 = widths.pyramid
        self.encoder = Encoder(widths)
        self.decoder4 = Decoder(2 * w4 + 1, 2 * w4, w3 + 4, widths)
        self.decoder3 = Decoder(3 * w3 + 4, 3 * w3, w2 + 4, widths)
        self.decoder2 = Decoder(3 * w2 + 4, 3 * w2, w1 + 4, widths)
        self.decoder1 = Decoder(3 * w1 + 4, 3 * w1, 8, widths)

    def _estimate(
        self,
        frames: Tensor,
        timestep: Tensor,
        scale: float,
        memo: Memo | None,
        levels: list[tuple[Tensor, Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Flows to both sides, the mask and the residual, all at the size of the frames; what
        the coarser levels found (flow and features) goes to ``levels``."""
        batch = timestep.shape[0]

        def encode() -> tuple[list[Tensor], list[Tensor]]:
            # The mean is that of both frames together, so their features belong to the pair.
            centred = frames - frames.mean((1, 2, 3, 4), keepdim=True)
            both = self.encoder(resize(centred.flatten(0, 1), scale))
            pairs = [feature.unflatten(0, frames.shape[:2]) for feature in both]
            return [pair[:, 0] for pair in pairs], [pair[:, 1] for pair in pairs]

        features = encode() if memo is None else memo("encoder", (0, 1), encode)
        side0, side1 = ([x.expand(batch, -1, -1, -1) for x in side] for side in features)
        height, width = side0[3].shape[-2:]
        if timestep.shape[2:] == (1, 1):
            embedding = timestep.expand(batch, 1, height, width)
        else:
            embedding = nn.functional.interpolate(
                timestep, size=(height, width), mode="bilinear", align_corners=False
            )
        out = self.decoder4(side0[3], side1[3], embedding)
        flow = out[:, :4].float()
        for level, decoder in ((2, self.decoder3), (1, self.decoder2), (0, self.decoder1)):
            if levels is not None:
                levels.append((flow, out[:, 4:]))
            warped0 = warp(side0[level], flow[:, :2])
            warped1 = warp(side1[level], flow[:, 2:])
            out = decoder(out[:, 4:], warped0, warped1, flow)
            flow = out[:, :4].float() + resize_flow(flow, 2)
        flow = resize_flow(flow, 1 / scale)
        mask = resize(torch.sigmoid(out[:, 4:5].float()), 1 / scale)
        residual = resize(out[:, 5:].float(), 1 / scale)
        return flow[:, :2], flow[:, 2:], mask, residual

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        return self._merge(frames, *self._find(frames, timestep, scale, memo))

    def _find(
        self, frames: Tensor, timestep: Tensor, scale: float, memo: Memo | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What :meth:`_estimate` does, by the fused operators where they can."""
        if fusible(self, frames):
            return fused(self)(frames, timestep, scale, memo)
        return self._estimate(frames, timestep, scale, memo)

    def _merge(
        self, frames: Tensor, flow0: Tensor, flow1: Tensor, mask: Tensor, residual: Tensor
    ) -> Tensor:
        warped0, warped1 = warp(frames[:, 0], flow0), warp(frames[:, 1], flow1)
        return (torch.lerp(warped1, warped0, mask) + residual).clamp(0, 1)

    def motion(
        self, frames: Tensor, timestep: Tensor, *, scale: float = 1.0, memo: Memo | None = None
    ) -> Motion:
        flow0, flow1, mask, _ = self._find(frames, timestep, scale, memo)
        return Motion(flow0, flow1, mask)

    def stages(
        self, frames: Tensor, timestep: Tensor
    ) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """For training: the new frame, its flow (B, 4, H, W) in pixels, and at 1/8, 1/4 and 1/2
        of the size the flow in pixels of that size and the intermediate features."""
        levels: list[tuple[Tensor, Tensor]] = []
        found = self._estimate(frames, timestep, 1.0, None, levels)
        return self._merge(frames, *found), torch.cat(found[:2], 1), levels


def _widths(state: StateDict) -> Widths:
    first = state["encoder.pyramid1.0.0.weight"]
    w1, w2, w3, w4 = (state[f"encoder.pyramid{n}.0.0.weight"].shape[0] for n in range(1, 5))
    if "encoder.pyramid1.0.1.running_mean" in state:
        activation = "gelu-bn"
    else:
        activation = "prelu" if "encoder.pyramid1.0.1.weight" in state else "gelu"
    return Widths(
        pyramid=(w1, w2, w3, w4),
        side=state["decoder4.convblock.1.conv2.0.weight"].shape[0],
        first_kernel=first.shape[-1],
        activation=activation,
    )


def _matches(state: StateDict, expected: Widths) -> bool:
    try:
        return _widths(state) == expected
    except (KeyError, IndexError):
        return False


def _architecture(name: str, description: str, widths: Widths) -> Architecture:
    return Architecture(
        name=name,
        matches=lambda state: _matches(state, widths),
        build=lambda state: IFRNet(_widths(state)),
        prototype=lambda: IFRNet(widths),
        description=description,
        licence="MIT",
    )


ARCHITECTURES = (
    _architecture("ifrnet", "IFRNet (CVPR 2022)", Widths()),
    _architecture("ifrnet-s", "IFRNet small", Widths((24, 36, 54, 72), 24)),
    _architecture("ifrnet-l", "IFRNet large", Widths((64, 96, 144, 192), 64, 7)),
    _architecture("ifrnet-gelu", "IFRNet with GELU", Widths(activation="gelu")),
    _architecture(
        "ifrnet-gelu-bn", "IFRNet with GELU and batch norm", Widths(activation="gelu-bn")
    ),
)
