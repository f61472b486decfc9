"""New frames: a window goes through colour, model and colour again.

The only place where frames and models meet.
"""

from __future__ import annotations

from collections import OrderedDict
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from vfi_cli.frame import Frame, Window
from vfi_cli.io.color import from_rgb, to_alpha, to_rgb
from vfi_cli.models import Interpolator
from vfi_cli.timeline import dyadic

#: A midpoint-only model is driven to the nearest multiple of 1/2^depth.
BISECTION_DEPTH = 5


class Synthesizer:
    """Makes the new frames of one stream, in order, in the layout of its source frames.

    Source frames are converted and moved to the device once, however many
    windows they belong to; midpoints of a pair are computed once each.
    Not thread-safe: one per renderer.
    """

    def __init__(
        self,
        interpolator: Interpolator,
        *,
        scale: float = 1.0,
        tta: bool = False,
        ensemble: bool = False,
    ) -> None:
        self._interpolator = interpolator
        self._options: dict[str, Any] = {"scale": scale, "tta": tta, "ensemble": ensemble}
        # Keyed by identity; holding the frame keeps its identity from being used again.
        self._tensors: OrderedDict[int, tuple[Frame, Tensor]] = OrderedDict()
        self._midpoints: dict[Fraction, Tensor] = {}
        self._pair: tuple[Frame, Frame] | None = None

    @property
    def frames_seen(self) -> int:
        """Frames in a window: 2 or 4."""
        return self._interpolator.frames_seen

    def between(self, window: Window) -> Frame:
        """The frame at ``window.timestep`` between the middle two frames of the window."""
        middle = len(window.frames) // 2
        left, right = window.frames[middle - 1], window.frames[middle]
        assert left is not None
        assert right is not None
        if self._interpolator.any_timestep:
            picture = self._run(window.frames, window.timestep)
        else:
            nearest = dyadic(window.timestep, BISECTION_DEPTH)
            if nearest in (0, 1):
                return right if nearest else left
            picture = self._bisect(left, right, nearest)
        rgb, alpha = picture[:, :3], picture[:, 3:]
        planes = from_rgb(rgb[0], left, alpha[0] if left.layout.alpha else None)
        return left.with_planes(planes)

    def _run(self, frames: tuple[Frame | None, ...], t: Fraction) -> Tensor:
        """(1, 3 or 4, H, W): the picture, and alpha where the source has it."""
        tensors = [None if frame is None else self._tensor(frame) for frame in frames]
        if len(tensors) == 4 and None in (tensors[0], tensors[3]):
            tensors = tensors[1:3]  # a four-frame model interpolates linearly between two
        present = [tensor for tensor in tensors if tensor is not None]
        return self._interpolate(present, t)

    def _interpolate(self, pictures: list[Tensor], t: Fraction) -> Tensor:
        stacked = torch.stack(pictures, dim=1)  # (1, n, C, H, W)
        nominal = stacked.clamp(0, 1)
        result = self._interpolator.interpolate(nominal[:, :, :3], t, **self._options)
        if stacked.shape[2] == 4:
            # Alpha moves as the picture would: the model sees it as a grey picture of its own.
            alpha = nominal[:, :, 3:].expand(-1, -1, 3, -1, -1)
            moved = self._interpolator.interpolate(alpha, t, **self._options)
            result = torch.cat([result, moved.mean(dim=1, keepdim=True)], dim=1)
        return result + _common_excess(stacked - nominal)

    def _tensor(self, frame: Frame) -> Tensor:
        """(1, 3 or 4, H, W), not clamped."""
        key = id(frame)
        if key not in self._tensors:
            rgb = to_rgb(frame, device=self._interpolator.device)
            if frame.layout.alpha:
                alpha = to_alpha(frame, device=self._interpolator.device)
                assert alpha is not None
                rgb = torch.cat([rgb, alpha])
            self._tensors[key] = (frame, rgb[None])
            while len(self._tensors) > self._interpolator.frames_seen:
                self._tensors.popitem(last=False)
        self._tensors.move_to_end(key)
        return self._tensors[key][1]

    def _bisect(self, left: Frame, right: Frame, t: Fraction) -> Tensor:
        if self._pair is None or self._pair[0] is not left or self._pair[1] is not right:
            self._pair = (left, right)
            self._midpoints = {}
        picture = self._midpoint(t)
        # Times only grow within a pair: of what lies before, just the nearest can be needed again.
        passed = sorted(time for time in self._midpoints if time <= t)
        for time in passed[:-1]:
            del self._midpoints[time]
        return picture

    def _midpoint(self, t: Fraction) -> Tensor:
        assert self._pair is not None
        if t in (0, 1):
            return self._tensor(self._pair[int(t)])
        if t not in self._midpoints:
            step = Fraction(1, t.denominator)
            ends = [self._midpoint(t - step), self._midpoint(t + step)]
            self._midpoints[t] = self._interpolate(ends, Fraction(1, 2))
        return self._midpoints[t]


def _common_excess(excess: Tensor) -> Tensor:
    """What lies outside [0, 1] at the same place in both middle frames, (1, C, H, W).

    Limited-range video has whites above white and saturated colours outside of
    RGB, which models do not know. Where nothing moves they must not flicker
    between source frames and new ones, so what both frames agree on is kept.
    """
    middle = excess.shape[1] // 2
    left, right = excess[:, middle - 1], excess[:, middle]
    smaller = torch.minimum(left.abs(), right.abs())
    return torch.where(left * right > 0, torch.sign(left) * smaller, torch.zeros_like(left))
