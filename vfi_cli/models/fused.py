"""RIFE 4.x by prepared convolutions, and everything between them in a few fused kernels.

The same network as in :mod:`vfi_cli.models.rife4`, which says what is computed; here is how little
of it need be written to memory. Convolutions see values in the dtype of the weights; flow, the
places where frames are sampled, and the new frame are float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from vfi_cli.models.base import Memo
from vfi_cli.models.blocks import dtype_of, resize
from vfi_cli.models.packed import (
    ActivatedConv,
    BandedConv,
    Side,
    Values,
    activated,
    prepared,
    reading,
    see,
    slopes_of,
    tiling,
)
from vfi_cli.native.motion_ops import (
    MAX_SCALE,
    Steps,
    activate_,
    fade_still_,
    input_channels,
    motion_blend,
    motion_input,
    pack_picture,
)
from vfi_cli.native.motion_reference import tiles_to_grid

if TYPE_CHECKING:
    from vfi_cli.models.rife4 import IFBlock, IFNet, Spec


def fused(network: IFNet, scale: float) -> FusedIFNet | None:
    """The network prepared for its weights, or None where it cannot work at this scale."""
    spec = network.spec
    scales = [own / scale for own in spec.scales]
    # 4.0 may double its scales, and a block's output may have half the size of its input.
    grows = (2 if spec.body == "prelu" else 1) * (1 if spec.shuffle else 2)
    if any(s != 1 and s % 2 for s in scales) or grows * scales[0] > MAX_SCALE:
        return None
    return prepared(network, lambda: FusedIFNet(network))


class FusedIFNet:
    """An IFNet's new frames, from its weights as they are when this is made."""

    def __init__(self, network: IFNet) -> None:
        spec = self.spec = network.spec
        self.side = 4 if spec.shuffle else 2
        self.dtype = dtype_of(network)
        self.features = spec.head_out if spec.head else 0
        self.side_channels = _side_channels(self.features)
        self.encode = _FusedHead(network.encode, network.int8) if spec.head else None
        self.blocks: list[_FusedBlock] = []
        for i in range(len(spec.widths)):
            block = cast("IFBlock", network.get_submodule(f"block{i}"))
            told = spec.extra if spec.carried and i else 0
            tells = spec.extra if spec.carried and i + 1 < len(spec.widths) else 0
            places = self._places(told, i > 0)
            self.blocks.append(_FusedBlock(block, spec, places, told, tells, network.int8))

    def _places(self, told: int, later: bool) -> list[int]:
        """Where a block's published input channels are in what motion_input makes."""
        c, n = self.side_channels, self.features
        motion = 2 * c
        places = [*range(3), *range(c, c + 3), *range(3, 3 + n), *range(c + 3, c + 3 + n)]
        places.append(motion + 5)
        if later:
            places += [motion + 4, *range(motion + 8, motion + 8 + told)]
            places += range(motion, motion + 4)
        return places

    def __call__(
        self,
        frames: Tensor,
        timestep: Tensor,
        scale: float,
        memo: Memo | None,
        share: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """The new frame, (B, 3, H, W) float32; frames and t as an IFNet sees them.

        ``share``: how much of the plain mix of the frames to take, (B, 1, H/8, W/8), from the
        disagreement that :func:`motion_blend` measures.
        """
        frames = frames if frames.stride(-1) == 1 else frames.contiguous()
        sides = (self._see(frames[:, 0], 0, memo), self._see(frames[:, 1], 1, memo))
        steps = self._estimate(sides, timestep, scale)
        pictures = (sides[0].picture, sides[1].picture)
        made, cells = motion_blend(*pictures, steps, disagreement=share is not None)
        if share is not None:
            fade_still_(made, frames[:, 0], frames[:, 1], timestep, share(cells))
        return made

    def _see(self, frame: Tensor, position: int, memo: Memo | None) -> Side:
        def compute() -> Side:
            side = see(frame, self.dtype)
            if self.encode is None:
                return side
            features = self.encode(side.values)
            values = pack_picture(
                frame, features=features, channels=self.side_channels, dtype=self.dtype
            )
            return Side(values, side.picture)

        return compute() if memo is None else memo("side", (position,), compute)

    def _estimate(self, sides: tuple[Side, Side], timestep: Tensor, scale: float) -> Steps:
        spec = self.spec
        scales = [round(own / scale) for own in spec.scales]
        grow = 1 if spec.shuffle else 2
        height, width = sides[0].values.shape[2:]

        def look(i: int, steps: Steps) -> Tensor:
            s = scales[i]
            time = timestep if timestep.shape[2:] == (1, 1) else resize(timestep, 1 / s)
            block = self.blocks[i]

            def read(rows: range) -> Tensor:
                return motion_input(
                    sides[0].values,
                    sides[1].values,
                    steps,
                    time,
                    s,
                    carried=block.told,
                    rows=rows,
                )

            return block(read, height // s, width // s)

        start = Steps(self.side, spec.mask_residual)
        steps = start
        for i in range(len(scales)):
            tiles = look(i, steps)
            if i == 1 and spec.body == "prelu" and _is_large(tiles, 2 * scales[i]):
                # 4.0 starts again at half the resolution where the first correction is large.
                scales = [2 * s for s in scales]
                steps = start.plus(look(0, start), grow * scales[0])
                tiles = look(i, steps)
            steps = steps.plus(tiles, grow * scales[i])
        return steps


def _side_channels(features: int) -> int:
    """Room for a picture and its features, in the blocks in which they are sampled."""
    return 4 if features <= 1 else -(-(3 + features) // 8) * 8


def _is_large(tiles: Tensor, scale: int) -> bool:
    """Whether both flows of a step correct by more than 32 pixels somewhere."""
    flow = tiles_to_grid(tiles, 2)[:, :4].float() * scale
    return bool((flow[:, :2].abs().amax() > 32) & (flow[:, 2:].abs().amax() > 32))


class _FusedHead:
    """A frame (1, 4, H, W) to its features in tiles."""

    def __init__(self, head: nn.Module, int8: bool) -> None:
        modules = [m for m in head.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        convs = [m for m in modules if isinstance(m, nn.Conv2d)]
        last = modules[-1]
        assert isinstance(last, nn.ConvTranspose2d)
        # A head of one convolution has no activations.
        slope = 0.2 if len(convs) > 1 else 1.0
        self.first = reading(convs[0], [0, 1, 2], 4, slope)
        self.convs = [ActivatedConv(conv.weight, conv.bias, slope, int8=int8) for conv in convs[1:]]
        self.last = ActivatedConv(*tiling(last), int8=int8)

    def __call__(self, frame: Tensor) -> Tensor:
        values = Values(self.first(frame))
        for conv in self.convs:
            values = conv(values)
        return self.last(values).x


class _FusedBlock:
    """What motion_input makes to a step in tiles.

    ``told``: channels that it is told by the block before; ``tells``: that the next is told.
    """

    def __init__(
        self, block: IFBlock, spec: Spec, places: list[int], told: int, tells: int, int8: bool
    ) -> None:
        self.told = told
        self.body = spec.body
        slope = 1.0 if spec.body == "prelu" else 0.2
        channels = input_channels(_side_channels(spec.head_out if spec.head else 0), told, False)
        first, second = (cast(nn.Sequential, module) for module in block.conv0)
        # Pictures and flow differ too much in size to be rounded alike: never 8-bit numbers.
        self.first = BandedConv(cast(nn.Conv2d, first[0]), places, channels, slope)
        self.first_slopes = slopes_of(first[1])
        self.second = activated(second, int8=int8)
        self.convs: list[ActivatedConv] = []
        for module in block.convblock:
            if spec.body == "beta":
                conv = cast(nn.Conv2d, module.conv)
                beta = cast(Tensor, module.beta).detach().float().flatten()
                weight = (conv.weight.detach().float() * beta[:, None, None, None]).to(
                    conv.weight.dtype
                )
                bias = None if conv.bias is None else conv.bias.detach().float() * beta
                slopes = torch.full_like(beta, 0.2)
                self.convs.append(
                    ActivatedConv(weight, bias, slopes, groups=conv.groups, int8=int8)
                )
            else:
                self.convs.append(activated(cast(nn.Sequential, module), int8=int8))
        last = block.lastconv[0] if spec.shuffle else block.lastconv  # type: ignore[index]
        shuffle = 2 if spec.shuffle else 1
        weight, bias = tiling(cast(nn.ConvTranspose2d, last), shuffle, keep=5 + tells)
        self.last = ActivatedConv(weight, bias, int8=int8)

    def __call__(self, read: Callable[[range], Tensor], height: int, width: int) -> Tensor:
        """``read`` gives rows of the input, which has this height and width."""
        x = self.first(read, height, width)
        if self.body == "prelu":
            activate_(x, self.first_slopes)
        values = self.second(Values(x))
        shortcut = values.x
        for i, conv in enumerate(self.convs):
            ends = self.body == "prelu" and i + 1 == len(self.convs)
            values = conv(
                values,
                before=values.x if self.body == "beta" else None,
                after=shortcut if ends else None,
            )
        return self.last(values).x
