"""Convolutions prepared for inference, and when to prefer them to the plain ones.

On a CPU a prepared convolution has its weights in the order in which oneDNN wants them (reordering
them at every call costs more than small convolutions do), and bias and activation are part of it.
On a GPU they are channels-last. It lives outside of the module that it is made from, which stays
what it is: a module on whose weights one can train. Weights that have changed, or moved, are
prepared again.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.blocks import resize
from vfi_cli.models.devices import has_bfloat16
from vfi_cli.native import int8_ops, motion_ops
from vfi_cli.native.motion_ops import activate_, pack_picture

T = TypeVar("T")

_LAST = torch.channels_last

#: Weights that the fused operators take.
_DTYPES = {
    "cpu": (torch.float32, torch.bfloat16),
    "cuda": (torch.float32, torch.bfloat16, torch.float16),
}

#: A band has so many bytes of input, and at least so many rows of output.
_BAND_BYTES = 4 << 20
_BAND_ROWS = 8

#: For so many sizes of input a convolution keeps its weights in order: bands, tiles and the levels
#: of a pyramid have some.
_SIZES = 8

_prepared: WeakKeyDictionary[nn.Module, tuple[object, object]] = WeakKeyDictionary()


def fusible(module: nn.Module, frames: Tensor) -> bool:
    """Whether the fused operators can do this: inference where there are kernels for it."""
    weight = next(module.parameters())
    return (
        frames.device == weight.device
        and frames.dtype == torch.float32
        and weight.dtype in _DTYPES.get(weight.device.type, ())
        and not module.training
        and not torch.is_grad_enabled()
        and frames.numel() > 0
        and motion_ops.available(weight.device)
    )


def prepared(module: nn.Module, prepare: Callable[[], T]) -> T:
    """What ``prepare`` made of the module's weights, made again where they have changed."""
    weights = tuple(
        # Weights made in inference mode keep no count of their changes.
        (
            weight.device,
            weight.data_ptr(),
            0 if weight.is_inference() else weight._version,
            weight.dtype,
        )
        for weight in module.parameters()
    )
    state = (weights, getattr(module, "int8", False))
    known = _prepared.get(module)
    if known is None or known[0] != state:
        known = (state, prepare())
        _prepared[module] = known
    return known[1]  # type: ignore[return-value]


class Side(NamedTuple):
    """A frame as the network samples it, and as the new frame does: ``values`` (1, C, H, W) with
    its features in the dtype of the weights, ``picture`` (1, 4, H, W) float32."""

    values: Tensor
    picture: Tensor


def see(frame: Tensor, dtype: torch.dtype) -> Side:
    """A frame (1, 3, H, W) float32 without features: its values have 4 channels, the last is 0."""
    picture = pack_picture(frame, channels=4, dtype=torch.float32)
    if dtype == torch.float32:
        return Side(picture, picture)
    return Side(pack_picture(frame, channels=4, dtype=dtype), picture)


def slopes_of(activation: nn.Module) -> Tensor:
    """Of a PReLU, one a channel; of anything else none."""
    if isinstance(activation, nn.PReLU):
        return activation.weight.detach().float()
    return torch.empty(0)


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
        padding: int | tuple[int, int] = 1,
        dilation: int = 1,
        groups: int = 1,
        slope: float = 1.0,
    ) -> None:
        around = [padding] * 2 if isinstance(padding, int) else list(padding)
        self._geometry = (around, [stride] * 2, [dilation] * 2, groups)
        self._bias = None if bias is None else bias.detach().to(weight.dtype)
        self._slope = slope
        self._weight = weight.detach().contiguous(memory_format=_LAST)
        self._packs = weight.device.type == "cpu" and _has_packing(weight.dtype)
        self._packed: dict[tuple[torch.Size, int], Tensor] = {}

    def __call__(self, x: Tensor) -> Tensor:
        if not self._packs:
            padding, stride, dilation, groups = self._geometry
            y = F.conv2d(x, self._weight, self._bias, stride, padding, dilation, groups)
            return y if self._slope == 1 else F.leaky_relu_(y, self._slope)
        after: tuple[str, list[float]] = ("none", [])
        if self._slope != 1:
            after = ("leaky_relu", [self._slope])
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._weight_for(x), self._bias, *self._geometry, *after, ""
        )

    def _weight_for(self, x: Tensor) -> Tensor:
        """The weight in the order that oneDNN wants for inputs of this size and so many threads;
        in another order it would be put into this one at every call."""
        key = (x.shape, torch.get_num_threads())
        packed = self._packed.get(key)
        if packed is None:
            if len(self._packed) == _SIZES:
                del self._packed[next(iter(self._packed))]
            packed = self._packed[key] = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, *self._geometry, list(x.shape)
            )
        return packed


def _has_packing(dtype: torch.dtype) -> bool:
    """Whether oneDNN has kernels of its own for such weights; on other processors torch has it
    call those of other libraries."""
    if not torch.backends.mkldnn.is_available():
        return False
    of_its_own = platform.machine().lower() in ("x86_64", "amd64")
    return of_its_own and (dtype != torch.bfloat16 or has_bfloat16())


def packed_conv(conv: nn.Conv2d, slope: float = 1.0, room: int = 0) -> PackedConv:
    """A convolution as it is, with a leaky ReLU of ``slope`` behind it; so many channels more of
    its input, behind its own, do not count."""
    return PackedConv(
        F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, room)),
        conv.bias,
        stride=int(conv.stride[0]),
        padding=int(conv.padding[0]),
        dilation=int(conv.dilation[0]),
        groups=conv.groups,
        slope=slope,
    )


class Values(NamedTuple):
    """What a convolution put out, (B, C, H, W), and the largest magnitude of each sample where
    that is known, (B,)."""

    x: Tensor
    peak: Tensor | None = None


class ActivatedConv:
    """A convolution (weight, bias) and what follows it: activated(conv(x) + before) + after.

    ``slopes``: of a leaky ReLU, where nothing is added, or of each channel, (n,) float32.
    ``int8``: multiply 8-bit numbers (:mod:`vfi_cli.native.int8_ops`) where it can be done;
    ``inputs``: of how many channels each part of x is that is rounded by itself then.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        slopes: float | Tensor = 1.0,
        *,
        stride: int = 1,
        padding: int = 1,
        groups: int = 1,
        int8: bool = False,
        inputs: Sequence[int] | None = None,
    ) -> None:
        self._stride, self._padding = stride, padding
        self._inputs = list(inputs or weight.shape[1:2])
        self._int8 = int8_ops.pack(weight, bias, slopes, inputs) if int8 and groups == 1 else None
        self._slopes = slopes if isinstance(slopes, Tensor) else None
        if self._int8 is None:
            slope = 1.0 if isinstance(slopes, Tensor) else slopes
            self._conv = PackedConv(
                weight, bias, stride=stride, padding=padding, groups=groups, slope=slope
            )

    def __call__(
        self,
        *values: Values,
        grow: int = 1,
        before: Tensor | None = None,
        after: Tensor | None = None,
    ) -> Values:
        """``values``: x, or its parts side by side; enlarged bilinearly by ``grow``, 1 or 2."""
        if self._int8 is None:
            x = values[0].x if len(values) == 1 else torch.cat([part.x for part in values], 1)
            y = self._conv(resize(x, grow) if grow > 1 else x)
            if self._slopes is not None:
                activate_(y, self._slopes, before=before, after=after)
            elif before is not None or after is not None:
                raise ValueError("with a leaky ReLU in the convolution nothing can be added")
            return Values(y)
        if len(values) < len(self._inputs):
            values = tuple(Values(part) for part in values[0].x.split(self._inputs, 1))
        made = int8_ops.conv_int8(
            [
                int8_ops.Input(x, int8_ops.int8_peak(x) if peak is None else peak, grow)
                for x, peak in values
            ],
            self._int8,
            stride=self._stride,
            padding=self._padding,
            before=before,
            after=after,
        )
        return Values(*made)


def activated(module: nn.Sequential, *, int8: bool) -> ActivatedConv:
    """A convolution and its PReLU or leaky ReLU."""
    conv, activation = cast(nn.Conv2d, module[0]), module[1]
    leaky = isinstance(activation, nn.LeakyReLU)
    return ActivatedConv(
        conv.weight,
        conv.bias,
        cast(nn.LeakyReLU, activation).negative_slope if leaky else slopes_of(activation),
        stride=int(conv.stride[0]),
        padding=int(conv.padding[0]),
        groups=conv.groups,
        int8=int8,
    )


class BandedConv:
    """A convolution of 3 × 3, stride 2, that asks for its input in bands of rows.

    What it reads is larger than anything else in the network, and would be written to memory and
    read again; on a CPU a band stays in the cache, and so does the memory that it is written to.
    """

    def __init__(
        self, conv: nn.Conv2d, places: list[int], channels: int, slope: float = 1.0
    ) -> None:
        assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (2, 2), (1, 1))
        self._conv = reading(conv, places, channels, slope, padding=(0, 1))
        self._bands = conv.weight.device.type == "cpu"
        self._row_bytes = channels * conv.weight.element_size()

    def __call__(self, read: Callable[[range], Tensor], height: int, width: int) -> Tensor:
        """``read`` gives rows of the input, zeros outside; height and width are the input's."""
        if not self._bands:
            return self._conv(read(range(-1, height)))
        rows = max(_BAND_BYTES // (2 * self._row_bytes * width), _BAND_ROWS)
        bands = [
            self._conv(read(range(2 * start - 1, min(2 * (start + rows), height))))
            for start in range(0, height // 2, rows)
        ]
        return bands[0] if len(bands) == 1 else torch.cat(bands, 2)


def reading(
    conv: nn.Conv2d,
    places: list[int],
    channels: int,
    slope: float = 1.0,
    padding: int | tuple[int, int] = 1,
) -> PackedConv:
    """A convolution whose input channel number i is found at ``places[i]`` of ``channels``."""
    weight = spread(conv.weight.detach(), places, channels)
    return PackedConv(weight, conv.bias, stride=int(conv.stride[0]), padding=padding, slope=slope)


def spread(weight: Tensor, places: list[int], channels: int) -> Tensor:
    """A weight (n, c, h, w) for an input in which the c channels are at ``places``."""
    wide = weight.new_zeros(weight.shape[0], channels, *weight.shape[2:])
    wide[:, places] = weight
    return wide


def tiling(
    conv: nn.ConvTranspose2d, shuffle: int = 1, keep: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """A transposed convolution of 4 × 4, stride 2, padding 1 as the weight and bias of a
    convolution of 2 × 2 and padding 1 that puts out tiles (see :mod:`vfi_cli.native.motion_ops`),
    with a pixel shuffle by ``shuffle`` done.

    ``keep``: how many of its output channels (after the shuffle) are wanted.
    """
    assert (conv.kernel_size, conv.stride, conv.padding) == ((4, 4), (2, 2), (1, 1))
    # Output row 2i − 1 + d is made of input rows i − 1 and i, by these rows of the kernel.
    taps = torch.tensor([[2, 0], [3, 1]], device=conv.weight.device)
    r = shuffle
    weight = conv.weight.detach().unflatten(1, (-1, r, r))[:, :keep]  # in, n, sy, sx, ky, kx
    weight = weight[..., taps, :][..., taps]  # in, n, sy, sx, dy, ty, dx, tx
    n = weight.shape[1]
    weight = weight.permute(4, 2, 6, 3, 1, 0, 5, 7).reshape(4 * r * r * n, -1, 2, 2)
    bias = None
    if conv.bias is not None:
        bias = conv.bias.detach().unflatten(0, (-1, r, r))[:keep].permute(1, 2, 0)  # sy, sx, n
        bias = bias[None, :, None].expand(2, r, 2, r, n).flatten()
    return weight, bias
