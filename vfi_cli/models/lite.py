"""The network that vfi trains itself: RIFE 4.25's motion, trusted where it explains the frames.

A light network moves what stands still and invents motion where there is no texture; plain
blending is better there. So the frame is blended, locally, in the measure in which motion fails
to make the two source frames agree better than they do as they are. With the mean disagreement
s of the frames and f of the warped frames around a pixel, the share of the blend is

    (f + e)^p / ((f + e)^p + (s + e)^p),

and 1 where the frames differ by no more than noise. The checkpoint holds the four numbers under
the key ``trust``; without it the file is a RIFE 4.25.

It has any number of blocks of any widths, which may look twice at the same reduction of the frames:
a block that sees at 1/16 what it has learned to see at 1/8 finds motion of twice the length, for a
quarter of the time. Reductions that are not RIFE 4.25's are in the checkpoint, under ``scales``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.models.blocks import warp
from vfi_cli.models.registry import Architecture, StateDict
from vfi_cli.models.rife4 import (
    SCALES,
    TRAINING_ONLY,
    IFNet,
    MotionEstimate,
    Spec,
    read_spec,
)

KEY = "trust"

#: p; e; the difference up to which frames are equal but for noise, and the one from which they
#: surely are not. Differences in 8-bit code values.
TRUST = (3.0, 1.0, 4.0, 12.0)

#: Disagreement is measured in cells of 8 × 8 pixels, and smoothed over 3 × 3 of them.
_CELL = 8
_CELLS = 3

#: The key of the reductions of the blocks' inputs.
LOOKS = "scales"
LARGEST_SCALE = 64

#: What ships.
SPEC = Spec(widths=(192, 128, 128, 96, 96, 48, 24), scales=(16, 16, 8, 8, 4, 2, 1))


class LiteNet(IFNet):
    """RIFE 4.25 of any blocks, with blending where its motion explains nothing."""

    trust: Tensor
    int8_measured = True

    def __init__(self, spec: Spec | None = None) -> None:
        super().__init__(spec or SPEC)
        self.register_buffer(KEY, torch.tensor(TRUST))
        if self.spec.scales != SCALES.get(len(self.spec.widths)):
            self.register_buffer(LOOKS, torch.tensor(self.spec.scales, dtype=torch.float32))

    def _blend(self, frames: Tensor, found: MotionEstimate, timestep: Tensor) -> Tensor:
        flow = found.flow()
        frame0, frame1 = (frames[:, i].expand(len(flow), -1, -1, -1) for i in (0, 1))
        warped0, warped1 = warp(frame0, flow[:, :2]), warp(frame1, flow[:, 2:])
        moved = torch.lerp(warped1, warped0, torch.sigmoid(found.mask()))
        still = torch.lerp(frame0, frame1, timestep.to(frame0.dtype))
        share = self._share(frame0, frame1, warped0, warped1)
        return torch.lerp(moved, still, share)

    def _share(self, frame0: Tensor, frame1: Tensor, warped0: Tensor, warped1: Tensor) -> Tensor:
        """How much of the blend to take, (B, 1, H, W) in [0, 1]."""
        apart = (frame0 - frame1).abs().mean(1, keepdim=True)
        missed = (warped0 - warped1).abs().mean(1, keepdim=True)
        largest = F.max_pool2d(F.avg_pool2d(apart, 2), _CELL // 2)
        share = self._share_of_cells(
            F.avg_pool2d(apart, _CELL), largest, F.avg_pool2d(missed, _CELL)
        )
        return F.interpolate(share, size=frame0.shape[-2:], mode="bilinear", align_corners=False)

    def _cell_share(self) -> Callable[[Tensor], Tensor]:
        return lambda cells: self._share_of_cells(*cells.split(1, 1))

    def _share_of_cells(self, apart: Tensor, largest: Tensor, missed: Tensor) -> Tensor:
        """The share of each cell, (B, 1, H/8, W/8), from what its pixels differ by in the mean,
        from the most that they do, and from what they differ by when warped."""
        power, floor, low, high = self.trust.float()
        s, f = ((_around(x * 255) + floor) ** power for x in (apart, missed))
        equal = ((high - largest * 255) / (high - low)).clamp(0, 1)
        return torch.maximum(f / (f + s), equal)


def _around(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, _CELLS, 1, _CELLS // 2, count_include_pad=False)


def usable(scales: Sequence[int]) -> bool:
    """Whether blocks can look at these reductions one after the other: powers of two, of which
    none is larger than the one before."""
    known = {2**power for power in range(LARGEST_SCALE.bit_length())}
    return known.issuperset(scales) and list(scales) == sorted(scales, reverse=True)


def grown(state: StateDict, sources: Sequence[int]) -> dict[str, Tensor]:
    """Weights in which block number i is a copy of ``state``'s block ``sources[i]``. KeyError
    where there is no such block."""
    named = {key: value for key, value in state.items() if not key.startswith("block")}
    for number, source in enumerate(sources):
        block = f"block{source}."
        own = [key for key in state if key.startswith(block)]
        if not own:
            raise KeyError(block[:-1])
        named |= {f"block{number}.{key.removeprefix(block)}": state[key].clone() for key in own}
    return named


def _read(state: StateDict) -> Spec:
    """Raises KeyError, IndexError, ZeroDivisionError or ValueError where these are no such
    weights."""
    scales: tuple[int, ...] = ()
    if LOOKS in state:
        scales = tuple(int(scale) for scale in state[LOOKS].tolist())
    spec = read_spec({k: v for k, v in state.items() if k not in (KEY, LOOKS)}, scales)
    if len(spec.scales) != len(spec.widths) or not usable(spec.scales):
        raise ValueError("no reductions for these blocks")
    return spec


def _matches(state: StateDict) -> bool:
    try:
        found = _read(state)
    except (KeyError, IndexError, ZeroDivisionError, ValueError):
        return False
    return KEY in state and replace(found, widths=SPEC.widths, scales=SPEC.scales) == SPEC


ARCHITECTURES = (
    Architecture(
        name="vfi-lite",
        matches=_matches,
        build=lambda state: LiteNet(_read(state)),
        prototype=LiteNet,
        description="vfi's own: RIFE 4.25's motion where it explains the frames, else a blend",
        licence="MIT",
        training_only=TRAINING_ONLY,
    ),
)
