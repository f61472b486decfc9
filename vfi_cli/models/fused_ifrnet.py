"""IFRNet by prepared convolutions, and what lies between them in fused kernels.

The same network as in :mod:`vfi_cli.models.ifrnet`; compare :mod:`vfi_cli.models.fused`. Flow is
added up, and says where to sample, in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vfi_cli.models.base import Memo
from vfi_cli.models.blocks import dtype_of, resize, resize_flow
from vfi_cli.models.packed import ActivatedConv, Values, prepared, slopes_of, spread, tiling
from vfi_cli.native.motion_ops import pack_picture, untile, warp_concat

if TYPE_CHECKING:
    from vfi_cli.models.ifrnet import Decoder, IFRNet, SideResBlock

_LAST = torch.channels_last


def fused(network: IFRNet) -> FusedIFRNet:
    """The network prepared for its weights."""
    return prepared(network, lambda: FusedIFRNet(network))


class FusedIFRNet:
    """What an IFRNet estimates, from its weights as they are when this is made."""

    def __init__(self, network: IFRNet) -> None:
        self.dtype = dtype_of(network)
        int8 = network.int8
        levels = [cast(nn.Sequential, level) for level in network.encoder.children()]
        widths = [
            cast(nn.Conv2d, cast(nn.Sequential, level[1])[0]).out_channels for level in levels
        ]
        self.levels: list[tuple[_Activated, _Activated]] = []
        places, room = list(range(3)), 4
        for level, width in zip(levels, widths, strict=True):
            # The picture itself is not rounded.
            first = _Activated(
                cast(nn.Sequential, level[0]), int8 and bool(self.levels), places=places, room=room
            )
            places, room = list(range(width)), _room(width)
            second = _Activated(cast(nn.Sequential, level[1]), int8, made=room)
            self.levels.append((first, second))
        w = widths[3]
        coarsest = [*range(w), *(_room(w) + c for c in range(w)), 2 * _room(w)]
        room = 2 * _room(w)
        # Time and flow are rounded by themselves, as they differ from features in size.
        self.decoder4 = _FusedDecoder(network.decoder4, coarsest, int8, [room, 1])
        self.decoders = []
        for decoder, w in zip(
            (network.decoder3, network.decoder2, network.decoder1), widths[2::-1], strict=True
        ):
            # Flow comes first here, and last in the published order.
            own, warped = 4, 4 + w
            places = [*range(own, own + 3 * w), *range(4)]
            places[2 * w : 3 * w] = range(warped + _room(w), warped + _room(w) + w)
            rest = w + 2 * _room(w)
            self.decoders.append(_FusedDecoder(decoder, places, int8, [own, rest]))

    def __call__(
        self, frames: Tensor, timestep: Tensor, scale: float, memo: Memo | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Flows to both sides, the mask and the residual as IFRNet estimates them."""

        def encode() -> tuple[list[Tensor], list[Tensor]]:
            return self._encode(frames, scale)

        side0, side1 = encode() if memo is None else memo("sides", (0, 1), encode)
        batch, (height, width) = timestep.shape[0], side0[3].shape[2:]
        if timestep.shape[2:] == (1, 1):
            embedding = timestep.expand(batch, 1, height, width)
        else:
            embedding = F.interpolate(timestep, size=(height, width), mode="bilinear")
        ends = [side[3].expand(batch, -1, -1, -1) for side in (side0, side1)]
        x = torch.cat((*ends, embedding.to(self.dtype)), 1).contiguous(memory_format=_LAST)
        out = self.decoder4(x)
        flow = _flow_of(out)
        for level, decoder in zip((2, 1, 0), self.decoders, strict=True):
            out[:, :4] = flow
            out = decoder(warp_concat(out, side0[level], side1[level], flow))
            flow = _flow_of(out).add_(resize_flow(flow, 2))
        flow = resize_flow(flow, 1 / scale)
        mask = resize(torch.sigmoid(out[:, 4:5].float()), 1 / scale)
        residual = resize(out[:, 5:].float(), 1 / scale)
        return flow[:, :2], flow[:, 2:], mask, residual

    def _encode(self, frames: Tensor, scale: float) -> tuple[list[Tensor], list[Tensor]]:
        """The features of both sides at 1/2, 1/4, 1/8 and 1/16 of the size."""
        centred = frames - frames.mean((1, 2, 3, 4), keepdim=True)
        x = resize(centred.flatten(0, 1), scale)
        x = pack_picture(x, channels=4, dtype=self.dtype)
        sides: tuple[list[Tensor], list[Tensor]] = ([], [])
        values = Values(x)
        for first, second in self.levels:
            values = second(first(values))
            for side, feature in zip(
                sides, values.x.unflatten(0, frames.shape[:2]).unbind(1), strict=True
            ):
                side.append(feature)
        return sides


def _room(width: int) -> int:
    """Channels in which features of this width can be sampled."""
    return -(-width // 4) * 4


def _flow_of(out: Tensor) -> Tensor:
    return out[:, :4].to(torch.float32, memory_format=torch.contiguous_format)


class _Activated:
    """A convolution, its batch norm and its activation.

    ``places`` of the input's channels among ``room``; ``made``: channels to put out, the last of
    them zero; ``inputs``: see :class:`~vfi_cli.models.packed.ActivatedConv`.
    """

    def __init__(
        self,
        module: nn.Sequential,
        int8: bool,
        *,
        places: list[int] | None = None,
        room: int | None = None,
        made: int | None = None,
        inputs: list[int] | None = None,
    ) -> None:
        conv, dtype = cast(nn.Conv2d, module[0]), dtype_of(module)
        if isinstance(module[1], nn.BatchNorm2d):
            conv = _with_norm(conv, module[1])
        weight, bias = conv.weight.detach(), cast(Tensor, conv.bias).detach()
        if places is not None:
            weight = spread(weight, places, room or len(places))
        more = 0 if made is None else made - weight.shape[0]
        self.gelu = not isinstance(module[-1], nn.PReLU)
        self.conv = ActivatedConv(
            F.pad(weight, (0, 0, 0, 0, 0, 0, 0, more)).to(dtype),
            F.pad(bias, (0, more)),
            1.0 if self.gelu else F.pad(slopes_of(module[-1]), (0, more)),
            stride=int(conv.stride[0]),
            padding=int(conv.padding[0]),
            int8=int8,
            inputs=inputs,
        )

    def __call__(self, values: Values) -> Values:
        values = self.conv(values)
        return _gelu(values.x) if self.gelu else values


def _gelu(x: Tensor) -> Values:
    return Values(torch.ops.aten.gelu_(x))


def _with_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Both as one convolution, in float32."""
    wide = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        cast("tuple[int, int]", conv.kernel_size),
        cast("tuple[int, int]", conv.stride),
        cast("tuple[int, int]", conv.padding),
        device=conv.weight.device,
    )
    wide.load_state_dict(conv.state_dict())
    wide_norm = nn.BatchNorm2d(conv.out_channels, eps=norm.eps, device=conv.weight.device)
    wide_norm.load_state_dict(norm.state_dict())
    return fuse_conv_bn_eval(wide.eval(), wide_norm.eval())


class _FusedDecoder:
    """A decoder, of an input with its channels in other places."""

    def __init__(self, decoder: Decoder, places: list[int], int8: bool, inputs: list[int]) -> None:
        first, body, last = decoder.convblock
        last = cast(nn.ConvTranspose2d, last)
        self.first = _Activated(
            cast(nn.Sequential, first), int8, places=places, room=sum(inputs), inputs=inputs
        )
        self.body = _FusedResidual(cast("SideResBlock", body), int8)
        self.last = ActivatedConv(*tiling(last), int8=int8)
        self.plain = last.weight.new_ones(last.out_channels, dtype=torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        return untile(self.last(self.body(self.first(Values(x)))).x, self.plain)


class _FusedResidual:
    def __init__(self, block: SideResBlock, int8: bool) -> None:
        self.side = block.side
        self.wide = [_Activated(block.conv1, int8), _Activated(block.conv3, int8)]
        self.narrow = [_Activated(block.conv2, int8), _Activated(block.conv4, int8)]
        self.gelu = not isinstance(block.prelu, nn.PReLU)
        slopes = torch.ones(block.conv5.out_channels, device=block.conv5.weight.device)
        self.last = ActivatedConv(
            block.conv5.weight,
            block.conv5.bias,
            slopes if self.gelu else slopes_of(block.prelu),
            int8=int8,
        )

    def __call__(self, values: Values) -> Values:
        shortcut = values.x
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            values = wide(values)
            beside = values.x[:, -self.side :]
            beside.copy_(narrow(Values(beside.contiguous(memory_format=_LAST))).x)
            values = Values(values.x)  # no longer of the peak that was found
        values = self.last(values, before=shortcut)
        return _gelu(values.x) if self.gelu else values
