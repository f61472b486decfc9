"""New frames: a window goes through colour, model and colour again.

The only place where frames and models meet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any

import torch
from torch import Tensor

from vfi_cli.frame import Frame, Window
from vfi_cli.io.color import from_rgb, to_alpha, to_rgb
from vfi_cli.models import Interpolator
from vfi_cli.timeline import dyadic
from vfi_cli.windows import Strip

#: A midpoint-only model is driven to the nearest multiple of 1/2^depth.
BISECTION_DEPTH = 5

_names = count()


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture on the device, and a name by which a model knows it again."""

    tensor: Tensor  # (1, 3 or 4, H, W), R'G'B' and alpha, not clamped
    name: int = field(default_factory=lambda: next(_names))


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
        tta: bool | str | Iterable[str] = False,
        ensemble: bool = False,
    ) -> None:
        self._interpolator = interpolator
        self._options: dict[str, Any] = {"scale": scale, "tta": tta, "ensemble": ensemble}
        # Keyed by identity; holding the frame keeps its identity from being used again.
        self._sources: OrderedDict[int, tuple[Frame, _Picture]] = OrderedDict()
        self._kept = interpolator.frames_seen  # sources
        self._midpoints: dict[Fraction, _Picture] = {}
        self._pair: tuple[Frame, Frame] | None = None

    @property
    def frames_seen(self) -> int:
        """Frames in a window: 2 or 4."""
        return self._interpolator.frames_seen

    def between(self, window: Window) -> Frame:
        """The frame at ``window.timestep`` between the middle two frames of the window."""
        frames = without_gaps(window.frames)
        middle = len(frames) // 2
        left, right = frames[middle - 1], frames[middle]
        assert left is not None
        assert right is not None
        if self._interpolator.any_timestep:
            seen = [self._picture(frame) for frame in frames if frame is not None]
            made = self._interpolate(seen, window.timestep).tensor
        else:
            nearest = dyadic(window.timestep, BISECTION_DEPTH)
            if nearest in (0, 1):
                return right if nearest else left
            made = self._bisect(left, right, nearest).tensor
        return _as_frame(made, left)

    def rows(self, strips: Sequence[Strip]) -> Frame:
        """The frame that is put together from strips, for a model that takes t as a map."""
        known = {id(frame) for strip in strips for frame in strip.frames}
        self._kept = max(self._kept, len(known))
        made: list[Tensor] = []
        for strip in strips:
            seen = [
                self._picture(frame) for frame in without_gaps(strip.frames) if frame is not None
            ]
            picture = seen[0].tensor
            if len(seen) > 1:
                # Beyond the strip the times go on, so that nothing ends at its edge.
                height, width = picture.shape[-2:]
                row = torch.arange(height, dtype=torch.float64)
                times = (float(strip.origin) + float(strip.step) * row).clamp_(0, 1).float()
                picture = self._interpolate(
                    seen, times.view(1, 1, -1, 1).expand(1, 1, height, width)
                ).tensor
            made.append(picture[..., strip.first : strip.stop, :])
        like = next(frame for frame in strips[0].frames if frame is not None)
        return _as_frame(torch.cat(made, dim=-2), like)

    def _interpolate(self, seen: list[_Picture], t: Fraction | Tensor) -> _Picture:
        stacked = torch.stack([picture.tensor for picture in seen], dim=1)  # (1, n, C, H, W)
        names = [picture.name for picture in seen]
        nominal = stacked.clamp(0, 1)
        made = self._interpolator.interpolate(nominal[:, :, :3], t, keys=names, **self._options)
        if stacked.shape[2] == 4:
            # Alpha moves as the picture would: the model sees it as a grey picture of its own.
            alpha = nominal[:, :, 3:].expand(-1, -1, 3, -1, -1)
            keys = [("alpha", name) for name in names]
            moved = self._interpolator.interpolate(alpha, t, keys=keys, **self._options)
            made = torch.cat([made, moved.mean(dim=1, keepdim=True)], dim=1)
        return _Picture(made + _common_excess(stacked - nominal))

    def _picture(self, frame: Frame) -> _Picture:
        key = id(frame)
        if key not in self._sources:
            rgb = to_rgb(frame, device=self._interpolator.device)
            if frame.layout.alpha:
                alpha = to_alpha(frame, device=self._interpolator.device)
                assert alpha is not None
                rgb = torch.cat([rgb, alpha])
            self._sources[key] = (frame, _Picture(rgb[None]))
            while len(self._sources) > self._kept:
                self._sources.popitem(last=False)
        self._sources.move_to_end(key)
        return self._sources[key][1]

    def _bisect(self, left: Frame, right: Frame, t: Fraction) -> _Picture:
        if self._pair is None or self._pair[0] is not left or self._pair[1] is not right:
            self._pair = (left, right)
            self._midpoints = {}
        picture = self._midpoint(t)
        # Times only grow within a pair: of what lies before, just the nearest can be needed again.
        passed = sorted(time for time in self._midpoints if time <= t)
        for time in passed[:-1]:
            del self._midpoints[time]
        return picture

    def _midpoint(self, t: Fraction) -> _Picture:
        assert self._pair is not None
        if t in (0, 1):
            return self._picture(self._pair[int(t)])
        if t not in self._midpoints:
            step = Fraction(1, t.denominator)
            ends = [self._midpoint(t - step), self._midpoint(t + step)]
            self._midpoints[t] = self._interpolate(ends, Fraction(1, 2))
        return self._midpoints[t]


def without_gaps(frames: tuple[Frame | None, ...]) -> tuple[Frame | None, ...]:
    """The frames of a window, or the middle two where an outer one is missing: between them a
    four-frame model interpolates linearly."""
    return frames[1:3] if len(frames) == 4 and None in (frames[0], frames[3]) else frames


def _as_frame(made: Tensor, like: Frame) -> Frame:
    return like.with_planes(from_rgb(made[0, :3], like, made[0, 3:] if like.layout.alpha else None))


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
