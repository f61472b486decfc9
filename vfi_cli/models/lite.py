"""The networks that vfi trains itself: RIFE 4.25's motion, trusted where it explains the frames.

A light network moves what stands still and invents motion where there is no texture; plain
blending is better there. So the frame is blended, locally, in the measure in which motion fails
to make the two source frames agree better than they do as they are. With the mean disagreement
s of the frames and f of the warped frames around a pixel, the share of the blend is

    (f + e)^p / ((f + e)^p + (s + e)^p),

and 1 where the frames differ by no more than noise. The checkpoint holds the four numbers under
the key ``trust``; without it the file is a RIFE 4.25.

vfi-fine is the same with seven blocks: it looks twice at a quarter of the resolution and twice at
all of it. Each of its blocks can begin as one of vfi-lite's (:func:`grown`).
"""

from __future__ import annotations

from collections.abc import Callable

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
    fits,
    read_spec,
)

KEY = "trust"

#: p; e; the difference up to which frames are equal but for noise, and the one from which they
#: surely are not. Differences in 8-bit code values.
TRUST = (3.0, 1.0, 4.0, 12.0)

#: Disagreement is measured in cells of 8 × 8 pixels, and smoothed over 3 × 3 of them.
_CELL = 8
_CELLS = 3

FINE = Spec(widths=(192, 128, 96, 96, 48, 48, 24), scales=SCALES[7])
#: For each block of vfi-fine the one of vfi-lite that it begins as.
_GROWN_FROM = (0, 1, 2, 2, 3, 3, 4)


class LiteNet(IFNet):
    """RIFE 4.25 of any widths and five or seven blocks, with blending where its motion explains
    nothing."""

    trust: Tensor
    int8_measured = True

    def __init__(self, spec: Spec | None = None) -> None:
        super().__init__(spec)
        self.register_buffer(KEY, torch.tensor(TRUST))

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


def grown(state: StateDict) -> dict[str, Tensor]:
    """A vfi-lite's weights as those of a vfi-fine that takes some of its steps twice."""
    named = {key: value for key, value in state.items() if not key.startswith("block")}
    for number, source in enumerate(_GROWN_FROM):
        for key, value in state.items():
            if key.startswith(f"block{source}."):
                named[f"block{number}.{key.partition('.')[2]}"] = value.clone()
    return named


def _without_trust(state: StateDict) -> StateDict:
    return {key: value for key, value in state.items() if key != KEY}


def _architecture(name: str, description: str, spec: Spec) -> Architecture:
    return Architecture(
        name=name,
        matches=lambda state: KEY in state and fits(_without_trust(state), spec, any_width=True),
        build=lambda state: LiteNet(read_spec(_without_trust(state))),
        prototype=lambda: LiteNet(spec),
        description=description,
        licence="MIT",
        training_only=TRAINING_ONLY,
    )


ARCHITECTURES = (
    _architecture(
        "vfi-lite",
        "vfi's own: RIFE 4.25's motion where it explains the frames, else a blend",
        Spec(),
    ),
    _architecture("vfi-fine", "vfi's own: vfi-lite with seven blocks", FINE),
)
