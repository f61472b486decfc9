"""Models without weights: what every other model must beat, and what always works."""

from __future__ import annotations

import torch
from torch import Tensor

from vfi_cli.models.base import Memo, Motion, Network
from vfi_cli.models.devices import FLOAT32_ONLY


class _Baseline(Network):
    timestep_map = True
    size_multiple = 1
    has_scale = True  # there is no flow, so any resolution of it is the same
    has_ensemble = True
    has_motion = True
    safe_dtypes = FLOAT32_ONLY

    def share(self, timestep: Tensor) -> Tensor:
        """The share of the frame before, in [0, 1]."""
        raise NotImplementedError

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        return torch.lerp(frames[:, 1], frames[:, 0], self.share(timestep))

    def motion(
        self, frames: Tensor, timestep: Tensor, *, scale: float = 1.0, memo: Memo | None = None
    ) -> Motion:
        batch, (height, width) = timestep.shape[0], frames.shape[-2:]
        still = frames.new_zeros(batch, 2, height, width)
        mask = self.share(timestep).expand(batch, 1, height, width)
        return Motion(still, still, mask)


class Blend(_Baseline):
    """The average of both frames, each the heavier the nearer it is."""

    def share(self, timestep: Tensor) -> Tensor:
        return 1 - timestep


class Nearest(_Baseline):
    """The nearer frame; the one before where both are as near."""

    def share(self, timestep: Tensor) -> Tensor:
        return (timestep <= 0.5).to(timestep.dtype)


BASELINES: dict[str, type[Network]] = {"blend": Blend, "nearest": Nearest}
