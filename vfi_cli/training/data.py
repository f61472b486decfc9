"""Training batches: windows of real clips and rendered scenes, drawn by number.

Everything a sample is cut from lies on disk and is mapped, not read, so that it costs a copy of its
crop. A draw depends on the seed and the draw's number alone: a resumed run sees what the
uninterrupted one would have seen, whoever draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from vfi_cli.training.clips import Clips, Mixture, Windows
from vfi_cli.training.pool import Pool, Sample, augment

__all__ = ["Batch", "Clips", "Mixture", "Pool", "Sample", "Windows", "augment", "draw_batch"]


@dataclass(frozen=True)
class Batch:
    """Frames (B, 3, H, W) float32 in [0, 1]; ``t`` (B, 1, 1, 1).

    ``flow`` (B, 4, H, W): pixels from the new frame to frames 0 and 1, where ``has_flow`` (B,)
    says so, zeros elsewhere; ``seen`` (B, 2, H, W): 1 where the new frame's point is known to be
    visible there. ``before`` and ``after``: the frames at −1 and 2, with windows of four, and
    ``around`` (B, 8, H, W): the flows 0 → 1, 0 → −1, 1 → 0 and 1 → 2 where ``has_flow``.
    """

    frame0: Tensor
    middle: Tensor
    frame1: Tensor
    t: Tensor
    flow: Tensor
    has_flow: Tensor
    seen: Tensor | None = None
    before: Tensor | None = None
    after: Tensor | None = None
    around: Tensor | None = None

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        values = (getattr(self, item.name) for item in fields(self))
        return Batch(*(None if value is None else function(value) for value in values))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Batch:
        """On a device; from pinned memory without waiting for the copy."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """In memory that a GPU copies from by itself."""
        return self._map(lambda tensor: tensor.pin_memory())


def draw_batch(
    seed: int,
    number: int,
    *,
    clips: Windows | None,
    pool: Pool | None,
    synthetic: float,
    batch: int,
    height: int,
    width: int,
    largest: float = 40.0,
    shifted: float = 0.0,
    four: bool = False,
) -> Batch:
    """Batch ``number`` of the run: each sample rendered with probability ``synthetic``; with
    ``four``, windows of four frames and the new one."""
    rng = np.random.default_rng((seed, number))
    samples = []
    for _ in range(batch):
        if pool is not None and (clips is None or rng.random() < synthetic):
            if rng.random() < shifted:
                sample = pool.draw_shift(rng, height, width, four=four)
            else:
                sample = pool.draw(rng, height, width, largest=largest, four=four)
        else:
            assert clips is not None
            cut = clips.draw(rng, height, width, four=four)
            pictures = torch.from_numpy(cut.pictures).permute(0, 3, 1, 2)
            sample = Sample(pictures.float() / 255, cut.t)
        samples.append(augment(rng, sample))
    frames = torch.stack([sample.frames for sample in samples], 1)
    middle = len(frames) // 2

    def stacked(planes: list[Tensor | None], channels: int) -> Tensor:
        zeros = torch.zeros(channels, height, width)
        return torch.stack([zeros if plane is None else plane for plane in planes])

    return Batch(
        frames[middle - 1],
        frames[middle],
        frames[middle + 1],
        torch.tensor([sample.t for sample in samples], dtype=torch.float32).view(-1, 1, 1, 1),
        stacked([sample.flow for sample in samples], 4),
        torch.tensor([sample.flow is not None for sample in samples]),
        stacked([sample.seen for sample in samples], 2),
        frames[0] if four else None,
        frames[-1] if four else None,
        stacked([sample.around for sample in samples], 8) if four else None,
    )
