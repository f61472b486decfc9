"""RIFE 4.x: an IFNet that takes any timestep, in all its published members.

Architecture of Practical-RIFE (Huang et al., hzwer/Practical-RIFE, MIT), 4.0 to 4.26 with lite and
heavy. One class serves all: what tells them apart is read off keys and shapes (:class:`Spec`).

Every block looks at the frames through a bilinear reduction by an even factor s, which reads the
middle two by two pixels of each s by s block and nothing else. So, where the next block's s is
four or more, warping is done at those pixels alone: the same picture for a fraction of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.base import Memo, Motion, Network
from vfi_cli.models.blocks import dtype_of, resize, warp
from vfi_cli.models.devices import WITH_INT8
from vfi_cli.models.fused import fused
from vfi_cli.models.packed import fusible
from vfi_cli.models.registry import Architecture, StateDict

#: The reductions of each block's input, coarse to fine, by the number of blocks.
SCALES = {4: (8, 4, 2, 1), 5: (16, 8, 4, 2, 1)}
#: 4.25.lite alone has other reductions; nothing but its widths tells it from 4.25.
LITE_WIDTHS = (192, 128, 96, 64, 24)
LITE_SCALES = (32, 16, 8, 4, 1)
#: Beginnings of keys that published files have beside the network's.
TRAINING_ONLY = ("teacher.", "block_tea.", "caltime.")


@dataclass(frozen=True)
class Spec:
    """The hyperparameters of a member of the family.

    ``widths``: channels of each block's body. ``scales``: reduction of each block's input.
    ``body``: "beta" (scaled residual convolutions), "plain" or "prelu" (with an outer shortcut,
    and the coarse-to-fine scales doubled for large motion). ``groups`` of the body's convolutions.
    ``extra``: channels that a block puts out beside flow and mask; ``carried``: whether the next
    block sees them. ``shuffle``: output by pixel shuffle at the block's own size, else at half.
    ``head``: "" (none), "pair", "sequence" or "cnn", with ``head_width`` and ``head_out`` channels.
    """

    widths: tuple[int, ...] = (192, 128, 96, 64, 32)
    scales: tuple[int, ...] = SCALES[5]
    body: str = "beta"
    groups: int = 1
    extra: int = 8
    carried: bool = True
    shuffle: bool = True
    head: str = "cnn"
    head_width: int = 16
    head_out: int = 4

    @property
    def mask_residual(self) -> bool:
        """Before there was a head, each block added to the mask instead of replacing it."""
        return not self.head


class Stage(NamedTuple):
    """What one block leaves behind, where the next one looks: ``flow`` (B, 4, h, w) in pixels of
    the frames, to frame 0 (u, v) and to frame 1 (u, v), at pixel rows ``ys`` and columns ``xs``."""

    flow: Tensor
    ys: Tensor
    xs: Tensor


class _Conv(nn.Sequential):
    def __init__(self, c_in: int, c_out: int, stride: int, prelu: bool) -> None:
        act: nn.Module = nn.PReLU(c_out) if prelu else nn.LeakyReLU(0.2, inplace=True)
        super().__init__(nn.Conv2d(c_in, c_out, 3, stride, 1), act)


class ResConv(nn.Module):
    """A convolution whose output is weighted channel by channel before it is added."""

    def __init__(self, c: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, 1, 1, groups=groups)
        self.beta = nn.Parameter(torch.ones((1, c, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(torch.addcmul(x, self.conv(x), self.beta), 0.2, inplace=True)


class Head(nn.Module):
    """Features of one frame at its own size, which every warp takes along with the picture."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(3, width, 3, 2, 1)
        self.cnn1 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn2 = nn.Conv2d(width, width, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(width, out, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.cnn0(x), 0.2, inplace=True)
        x = F.leaky_relu(self.cnn1(x), 0.2, inplace=True)
        x = F.leaky_relu(self.cnn2(x), 0.2, inplace=True)
        return self.cnn3(x)


def _head(spec: Spec) -> nn.Module:
    """4.7 has two convolutions; 4.10 and later four, first as a sequence, then by name."""
    width, out = spec.head_width, spec.head_out
    if spec.head == "cnn":
        return Head(width, out)
    last = nn.ConvTranspose2d(width, out, 4, 2, 1)
    if spec.head == "pair":
        return nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), last)
    layers: list[nn.Module] = []
    for c_in, stride in ((3, 2), (width, 1), (width, 1)):
        layers += [nn.Conv2d(c_in, width, 3, stride, 1), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, last)


class IFBlock(nn.Module):
    """One refinement of flow and mask, at the resolution of its input."""

    def __init__(self, c_in: int, c: int, spec: Spec) -> None:
        super().__init__()
        prelu = spec.body == "prelu"
        self.shortcut = prelu
        self.shuffle = spec.shuffle
        self.conv0 = nn.Sequential(_Conv(c_in, c // 2, 2, prelu), _Conv(c // 2, c, 2, prelu))
        if spec.body == "beta":
            self.convblock = nn.Sequential(*(ResConv(c, spec.groups) for _ in range(8)))
        else:
            self.convblock = nn.Sequential(*(_Conv(c, c, 1, prelu) for _ in range(8)))
        out = 5 + spec.extra
        self.lastconv: nn.Module = nn.ConvTranspose2d(c, out, 4, 2, 1)
        if spec.shuffle:
            self.lastconv = nn.Sequential(
                nn.ConvTranspose2d(c, 4 * out, 4, 2, 1), nn.PixelShuffle(2)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 5 + extra, h, w) float32: flow in units of the output's pixels, mask, the rest; at
        the size of ``x``, or half of it without the pixel shuffle."""
        weight = next(self.parameters())
        layout = torch.contiguous_format
        if weight.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        x = self.conv0(x.to(weight.dtype).contiguous(memory_format=layout))
        y = self.convblock(x.clone() if self.shortcut else x)
        return self.lastconv(y + x if self.shortcut else y).float()


# What is kept must serve training too, whoever asks first.
@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _lattice(size: int, s: int, device: torch.device) -> Tensor:
    """The pixels, of ``size`` in a row, that a bilinear reduction by the even ``s`` reads."""
    first = torch.arange(s // 2 - 1, size, s, device=device)
    return torch.stack((first, first + 1), 1).flatten()


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _enlarging(count: int, factor: int, s: int, device: torch.device) -> Tensor:
    """The matrix (pixels of the lattice of ``s``, count) of a bilinear enlargement by ``factor``
    that is evaluated at those pixels alone."""
    at = _lattice(count * factor, s, device)
    place = ((at + 0.5) / factor - 0.5).clamp(0, count - 1)
    low = place.floor().long().clamp(max=max(count - 2, 0))
    share = (place - low).float()
    matrix = torch.zeros(len(at), count, device=device)
    rows = torch.arange(len(at), device=device)
    matrix[rows, low] = 1 - share
    if count > 1:
        matrix[rows, low + 1] = share
    return matrix


def _sample(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """``x`` (B, C, H, W) at the coordinates (B, h, w), edges repeated, as backwarp samples."""
    h, w = x.shape[2:]
    grid = torch.stack((xs * (2 / max(w - 1, 1)) - 1, ys * (2 / max(h - 1, 1)) - 1), 3)
    # NaN is outside: torch's own kernel would read through it at a wild address.
    grid = torch.nan_to_num(grid, nan=-2.0)
    return F.grid_sample(x.float(), grid, "bilinear", "border", align_corners=True)


class MotionEstimate:
    """Flow and mask so far: the sum of what each block put out at its own resolution."""

    def __init__(self, spec: Spec, height: int, width: int) -> None:
        self.spec = spec
        self.size = (height, width)
        self.steps: list[tuple[Tensor, float]] = []  # flow in pixels, reduction of its grid
        self.masks: list[tuple[Tensor, float]] = []
        self.extra: tuple[Tensor, float] | None = None
        self._full: Tensor | None = None
        self._summed = 0

    def add(self, raw: Tensor, s: float) -> None:
        """``raw`` is a block's output on a grid that is ``s`` times coarser than the frames."""
        mask = (raw[:, 4:5], s)
        self.steps.append((raw[:, :4] * s, s))
        self.masks = [*self.masks, mask] if self.spec.mask_residual else [mask]
        if self.spec.carried:
            self.extra = (raw[:, 5:], s)

    def flow(self) -> Tensor:
        """(B, 4, H, W) at the frames' size."""
        for step, s in self.steps[self._summed :]:
            full = resize(step, s)
            self._full = full if self._full is None else self._full + full
        self._summed = len(self.steps)
        assert self._full is not None
        return self._full

    def flow_at(self, s: int) -> Tensor:
        """(B, 4, 2H/s, 2W/s): the flow at the pixels that a reduction by ``s`` reads."""
        total: Tensor | None = None
        for step, own in self.steps:
            h, w = step.shape[2:]
            rows = _enlarging(h, round(own), s, step.device)
            columns = _enlarging(w, round(own), s, step.device)
            part = rows @ step @ columns.T
            total = part if total is None else total + part
        assert total is not None
        return total

    def mask(self) -> Tensor:
        """(B, 1, H, W) at the frames' size, before the sigmoid."""
        return _total([resize(mask, s) for mask, s in self.masks])

    def reduced(self, s: float, flow: Tensor | None) -> list[Tensor]:
        """Mask, carried features and flow as a block at reduction ``s`` sees them. ``flow`` is
        given where it was already reduced."""
        if flow is None:
            flow = resize(self.flow(), 1 / s)
        parts = [_total([_change(mask, own, s) for mask, own in self.masks])]
        if self.extra is not None:
            parts.append(_change(*self.extra, s))
        return [*parts, flow / s]


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _change(x: Tensor, own: float, s: float) -> Tensor:
    """From reduction ``own`` through the frames' size to reduction ``s``, as published. Where both
    are even multiples the way through the full size and the direct one give the same. What is at
    ``s`` already stays as it is; no published member has such."""
    if own == s:
        return x
    if _is_even(s) and _is_even(own / s):
        return resize(x, own / s)
    return resize(resize(x, own), 1 / s)


def _is_even(s: float) -> bool:
    return s >= 2 and s % 2 == 0


def _turned(raw: Tensor) -> Tensor:
    """A block's output for swapped frames, as it reads for the frames in order."""
    return torch.cat((raw[:, 2:4], raw[:, :2], -raw[:, 4:5]), 1)


class IFNet(Network):
    """RIFE 4.x. Frames of sizes that are multiples of 4 * the coarsest scale."""

    timestep_map = True
    has_motion = True
    safe_dtypes = WITH_INT8

    def __init__(self, spec: Spec | None = None) -> None:
        super().__init__()
        spec = spec or Spec()
        self.spec = spec
        # 4.0 may start again at half the resolution.
        self.size_multiple = (8 if spec.body == "prelu" else 4) * spec.scales[0]
        self.has_ensemble = not spec.carried
        seen = 2 * (3 + (spec.head_out if spec.head else 0)) + 1
        later = seen + 5 + (spec.extra if spec.carried else 0)
        for i, c in enumerate(spec.widths):
            self.add_module(f"block{i}", IFBlock(later if i else seen, c, spec))
        if spec.head:
            self.encode = _head(spec)

    def _side(self, frame: Tensor, position: int, memo: Memo | None) -> Tensor:
        """A frame and its features, (B, 3 + head_out, H, W), float32."""
        if not self.spec.head:
            return frame

        def compute() -> Tensor:
            features = self.encode(frame.to(dtype_of(self.encode)))
            return torch.cat((frame, features.float()), 1)

        return compute() if memo is None else memo("encode", (position,), compute)

    def _estimate(
        self,
        frames: Tensor,
        timestep: Tensor,
        scale: float,
        ensemble: bool = False,
        memo: Memo | None = None,
        *,
        stages: list[Stage] | None = None,
        depth: int | None = None,
    ) -> MotionEstimate:
        """Flow and mask after ``depth`` blocks; what the blocks had so far goes to ``stages``."""
        batch = timestep.shape[0]
        sides = (
            self._side(frames[:, 0], 0, memo).expand(batch, -1, -1, -1),
            self._side(frames[:, 1], 1, memo).expand(batch, -1, -1, -1),
        )
        scales = [own / scale for own in self.spec.scales[:depth]]
        found = MotionEstimate(self.spec, *frames.shape[-2:])
        for i in range(len(scales)):
            s = scales[i]
            block: nn.Module = getattr(self, f"block{i}")
            inputs = self._inputs(sides, timestep, s, found, stages)
            raw = self._look(block, *inputs)
            if i == 1 and self.spec.body == "prelu" and _is_large(raw, s):
                # 4.0 starts again at half the resolution where the first correction is large.
                scales = [2 * own for own in scales]
                found = MotionEstimate(self.spec, *frames.shape[-2:])
                first = self._inputs(sides, timestep, scales[0], found)
                found.add(self._look(self.get_submodule("block0"), *first), 2 * scales[0])
                inputs = self._inputs(sides, timestep, scales[i], found)
                raw = self._look(block, *inputs)
            if ensemble:
                warped0, warped1, time, rest = inputs
                if rest:
                    mask, flow = rest
                    rest = [-mask, flow[:, [2, 3, 0, 1]]]
                raw = (
                    raw[:, :5] + _turned(self._look(block, warped1, warped0, 1 - time, rest))
                ) / 2
            found.add(raw, scales[i] if self.spec.shuffle else 2 * scales[i])
        return found

    def _inputs(
        self,
        sides: tuple[Tensor, Tensor],
        timestep: Tensor,
        s: float,
        found: MotionEstimate,
        stages: list[Stage] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """Both frames (with features) as warped so far, t, and the estimate, reduced by ``s``."""
        side0, side1 = sides
        flow = None
        if not found.steps:
            warped0, warped1 = resize(side0, 1 / s), resize(side1, 1 / s)
        elif s >= 4 and _is_even(s) and all(_is_even(own / s) for _, own in found.steps):
            warped0, warped1, flow = self._warp_at(side0, side1, found, int(s), stages)
        else:
            full = found.flow()
            warped0 = resize(warp(side0, full[:, :2]), 1 / s)
            warped1 = resize(warp(side1, full[:, 2:]), 1 / s)
            if stages is not None:
                stages.append(_everywhere(full))
        rest = found.reduced(s, flow) if found.steps else []
        if timestep.shape[2:] == (1, 1):
            time = timestep.expand(-1, 1, *warped0.shape[2:])
        else:
            time = resize(timestep, 1 / s)
        return warped0, warped1, time, rest

    def _warp_at(
        self,
        side0: Tensor,
        side1: Tensor,
        found: MotionEstimate,
        s: int,
        stages: list[Stage] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both frames warped and reduced by ``s``, and the flow reduced by ``s``, in pixels."""
        flow = found.flow_at(s)
        ys = _lattice(found.size[0], s, flow.device)
        xs = _lattice(found.size[1], s, flow.device)
        if stages is not None:
            stages.append(Stage(flow, ys, xs))
        warped0 = _sample(side0, flow[:, 0] + xs, flow[:, 1] + ys[:, None])
        warped1 = _sample(side1, flow[:, 2] + xs, flow[:, 3] + ys[:, None])
        return F.avg_pool2d(warped0, 2), F.avg_pool2d(warped1, 2), F.avg_pool2d(flow, 2)

    def _look(
        self,
        block: Callable[[Tensor], Tensor],
        a: Tensor,
        b: Tensor,
        time: Tensor,
        rest: list[Tensor],
    ) -> Tensor:
        parts = [a[:, :3], b[:, :3]]
        if self.spec.head:
            parts += [a[:, 3:], b[:, 3:]]
        return block(torch.cat([*parts, time, *rest], 1))

    def _blend(self, frames: Tensor, found: MotionEstimate, timestep: Tensor) -> Tensor:
        batch = found.flow().shape[0]
        warped0 = warp(frames[:, 0].expand(batch, -1, -1, -1), found.flow()[:, :2])
        warped1 = warp(frames[:, 1].expand(batch, -1, -1, -1), found.flow()[:, 2:])
        return torch.lerp(warped1, warped0, torch.sigmoid(found.mask()))

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        if not ensemble and fusible(self, frames) and (quick := fused(self, scale)) is not None:
            return quick(frames, timestep, scale, memo, self._cell_share())
        found = self._estimate(frames, timestep, scale, ensemble, memo)
        return self._blend(frames, found, timestep)

    def _cell_share(self) -> Callable[[Tensor], Tensor] | None:
        """For networks that blend in the plain mix of the frames: how much, by the disagreement
        in cells that :func:`vfi_cli.native.motion_ops.motion_blend` measures."""
        return None

    def motion(
        self, frames: Tensor, timestep: Tensor, *, scale: float = 1.0, memo: Memo | None = None
    ) -> Motion:
        found = self._estimate(frames, timestep, scale, memo=memo)
        return Motion(found.flow()[:, :2], found.flow()[:, 2:], torch.sigmoid(found.mask()))

    def stages(
        self, frames: Tensor, timestep: Tensor, *, depth: int | None = None
    ) -> tuple[Tensor, list[Stage]]:
        """For training: the new frame after ``depth`` blocks (all by default), and the flow after
        each of them. Coarse blocks are cheap to train before the fine ones join."""
        stages: list[Stage] = []
        found = self._estimate(frames, timestep, 1.0, stages=stages, depth=depth)
        stages.append(_everywhere(found.flow()))
        return self._blend(frames, found, timestep), stages


def _everywhere(flow: Tensor) -> Stage:
    h, w = flow.shape[2:]
    return Stage(flow, torch.arange(h, device=flow.device), torch.arange(w, device=flow.device))


def _is_large(raw: Tensor, s: float) -> bool:
    """Whether both flows of 4.0's second block correct by more than 32 pixels somewhere."""
    flow = raw[:, :4] * (2 * s)
    return bool((flow[:, :2].abs().amax() > 32) & (flow[:, 2:].abs().amax() > 32))


def read_spec(state: StateDict, scales: tuple[int, ...] = ()) -> Spec:
    """Reads the hyperparameters off keys and shapes; KeyError where it is another family's.

    ``scales``: of blocks that look elsewhere than the published ones of so many.
    """
    widths: list[int] = []
    while (key := f"block{len(widths)}.conv0.1.0.weight") in state:
        widths.append(state[key].shape[0])
    body = "plain"
    groups = 1
    if "block0.convblock.0.beta" in state:
        body = "beta"
        groups = widths[0] // state["block0.convblock.0.conv.weight"].shape[1]
    elif "block0.conv0.0.1.weight" in state:
        body = "prelu"
    shuffle = "block0.lastconv.0.weight" in state
    last = state["block0.lastconv.0.weight" if shuffle else "block0.lastconv.weight"]
    extra = (last.shape[1] // 4 if shuffle else last.shape[1]) - 5
    head, width, out = "", Spec.head_width, Spec.head_out
    for kind, first, final in (("cnn", "cnn0", "cnn3"), ("sequence", "0", "6"), ("pair", "0", "1")):
        if f"encode.{final}.weight" in state:
            head = kind
            width = state[f"encode.{first}.weight"].shape[0]
            out = state[f"encode.{final}.weight"].shape[1]
            break
    seen, later = (state[f"block{i}.conv0.0.0.weight"].shape[1] for i in (0, 1))
    lite = tuple(widths) == LITE_WIDTHS
    return Spec(
        widths=tuple(widths),
        scales=scales or (LITE_SCALES if lite else SCALES[len(widths)]),
        body=body,
        groups=groups,
        extra=extra,
        carried=later > seen + 5,
        shuffle=shuffle,
        head=head,
        head_width=width,
        head_out=out,
    )


def fits(state: StateDict, expected: Spec, any_width: bool) -> bool:
    """Whether these are the weights of such a member, of any widths or of the expected ones."""
    try:
        found = read_spec(state)
    except (KeyError, IndexError, ZeroDivisionError):
        return False
    return (replace(found, widths=expected.widths) if any_width else found) == expected


def _architecture(
    name: str, description: str, spec: Spec, *, any_width: bool = False
) -> Architecture:
    return Architecture(
        name=name,
        matches=lambda state: fits(state, spec, any_width),
        build=lambda state: IFNet(read_spec(state)),
        prototype=lambda: IFNet(spec),
        description=description,
        licence="MIT",
        training_only=TRAINING_ONLY,
    )


_FOUR = Spec(widths=(192, 128, 96, 64), scales=SCALES[4], extra=1, carried=False, head="")
_BARE = replace(_FOUR, extra=0)
_LARGE = replace(_FOUR, head="cnn", head_width=32, head_out=8)
_SMALL = replace(_FOUR, widths=(128, 96, 64, 48), head="cnn")
_CARRY = replace(_LARGE, extra=8, carried=True)

ARCHITECTURES = (
    _architecture("rife-v4.0", "RIFE 4.0, 4.1", replace(_BARE, body="prelu", shuffle=False)),
    _architecture("rife-v4.2", "RIFE 4.2 to 4.4", replace(_BARE, body="plain", shuffle=False)),
    _architecture("rife-v4.5", "RIFE 4.5", _BARE),
    _architecture("rife-v4.6", "RIFE 4.6", _FOUR),
    _architecture("rife-v4.7", "RIFE 4.7 to 4.9", replace(_FOUR, head="pair")),
    _architecture("rife-v4.10", "RIFE 4.10 to 4.12", replace(_LARGE, head="sequence")),
    _architecture(
        "rife-v4.12.lite",
        "RIFE 4.12.lite, 4.13.lite",
        replace(_SMALL, head="sequence", head_width=32),
    ),
    _architecture("rife-v4.13", "RIFE 4.13 to 4.15, 4.17 to 4.19, 4.24", _LARGE),
    _architecture("rife-v4.14.lite", "RIFE 4.14.lite", replace(_LARGE, groups=2)),
    _architecture("rife-v4.15.lite", "RIFE 4.15.lite to 4.17.lite", _SMALL),
    _architecture("rife-v4.20", "RIFE 4.20", replace(_LARGE, widths=(384, 192, 96, 48))),
    _architecture("rife-v4.21", "RIFE 4.21 to 4.23", replace(_CARRY, widths=(256, 192, 96, 48))),
    _architecture(
        "rife-v4.22.lite",
        "RIFE 4.22.lite",
        replace(_CARRY, widths=(192, 128, 64, 32), head_width=16, head_out=4),
    ),
    _architecture(
        "rife-v4.25.lite", "RIFE 4.25.lite", Spec(widths=LITE_WIDTHS, scales=LITE_SCALES)
    ),
    _architecture("rife-v4.25.heavy", "RIFE 4.25.heavy", Spec(widths=(384, 256, 192, 128, 64))),
    _architecture("rife-v4.26.heavy", "RIFE 4.26.heavy", Spec(head_out=16)),
    # Last, because it takes any widths: those of 4.25, 4.26 and of networks trained here.
    _architecture("rife-v4.25", "RIFE 4.25, 4.26", Spec(), any_width=True),
)
