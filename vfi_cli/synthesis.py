"""New frames: a window goes through colour, model and colour again.

The only place where frames and models meet.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any

import torch
from torch import Tensor

from vfi_cli.errors import OutOfMemoryError
from vfi_cli.fit import Demand, Fit, TileChoice, choose, most_at_once, smaller
from vfi_cli.frame import Frame, Window
from vfi_cli.io.color import from_rgb, to_alpha, to_rgb
from vfi_cli.models import Interpolator
from vfi_cli.models.base import ensemble_names, is_out_of_memory
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
    windows they belong to; midpoints of a pair are computed once each. Where the
    memory proves too small, fewer frames are made at once, then in tiles, then in
    smaller tiles. Not thread-safe: one per renderer.
    """

    def __init__(
        self,
        interpolator: Interpolator,
        *,
        scale: float = 1.0,
        tta: bool | str | Iterable[str] = False,
        ensemble: bool = False,
        tile: TileChoice = "off",
    ) -> None:
        self._interpolator = interpolator
        self._options: dict[str, Any] = {"scale": scale, "tta": tta, "ensemble": ensemble}
        self._tile: TileChoice = tile
        #: How frames are made; chosen for the first one's size unless it is set before.
        self.fit: Fit | None = None
        self.made = 0  # new frames so far
        #: What a person should hear of.
        self.warnings: list[str] = []
        #: Told of the fit when it is chosen, and when it had to become smaller.
        self.on_fit: Callable[[Fit], None] = lambda fit: None
        #: Told the warning when it had to become smaller, before the frame is tried again.
        self.on_refit: Callable[[str], None] = lambda warning: None
        # Keyed by identity; holding the frame keeps its identity from being used again.
        self._sources: OrderedDict[int, tuple[Frame, _Picture]] = OrderedDict()
        self._kept = interpolator.frames_seen  # sources
        self._midpoints: dict[Fraction, _Picture] = {}
        self._pair: tuple[Frame, Frame] | None = None

    @property
    def frames_seen(self) -> int:
        """Frames in a window: 2 or 4."""
        return self._interpolator.frames_seen

    @property
    def at_once(self) -> int:
        """How many windows of the same frames :meth:`several` is best given, at most."""
        if self.fit is not None:
            return self.fit.batch
        return most_at_once(self._interpolator)

    def between(self, window: Window) -> Frame:
        """The frame at ``window.timestep`` between the middle two frames of the window."""
        return self.several([window])[0]

    def several(self, windows: Sequence[Window]) -> list[Frame]:
        """The new frames of windows that differ in nothing but their times, which grow."""
        made: list[Frame] = []
        while len(made) < len(windows):
            made.extend(
                self._in_memory(
                    lambda fit: self._make(windows[len(made) :][: fit.batch], fit),
                    windows[0].frames,
                )
            )
        return made

    def rows(self, strips: Sequence[Strip]) -> Frame:
        """The frame that is put together from strips, for a model that takes t as a map."""
        known = {id(frame) for strip in strips for frame in strip.frames}
        self._kept = max(self._kept, len(known))
        frames = [frame for strip in strips for frame in strip.frames]
        return self._in_memory(lambda fit: [self._put_together(strips, fit)], frames)[0]

    def choose_fit(self, width: int, height: int) -> None:
        """Choose how frames of this size are made, unless that is known already."""
        if self.fit is None:
            self.fit = choose(self._interpolator, self._demand(width, height), self._tile)
            self.on_fit(self.fit)

    def _demand(self, width: int, height: int) -> Demand:
        views = 2 ** len(ensemble_names(self._options["tta"]))
        return Demand(width, height, self._options["scale"], views)

    def _in_memory(
        self, make: Callable[[Fit], list[Frame]], frames: Sequence[Frame | None]
    ) -> list[Frame]:
        """What ``make`` makes, with a fit that is small enough for the memory."""
        like = next(frame for frame in frames if frame is not None)
        demand = self._demand(like.width, like.height)
        self.choose_fit(like.width, like.height)
        assert self.fit is not None
        while True:
            try:
                made = make(self.fit)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                less = smaller(self._interpolator, demand, self.fit)
                if less is None:
                    raise _too_large(self._interpolator, demand) from error
            else:
                self.made += len(made)
                return made
            # Not within ``except``: the error holds on to all that was allocated on its way.
            self._refit(less)

    def _refit(self, less: Fit) -> None:
        self._interpolator.forget()
        self._pair, self._midpoints = None, {}
        device = self._interpolator.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        warning = f"{device} has too little memory for {self.fit}; new frames are made as {less}"
        self.warnings.append(warning)
        self.fit = less
        self.on_fit(less)
        self.on_refit(warning)

    def _make(self, windows: Sequence[Window], fit: Fit) -> list[Frame]:
        frames = [frame for frame in without_gaps(windows[0].frames) if frame is not None]
        left, right = frames[len(frames) // 2 - 1 :][:2]
        times = [window.timestep for window in windows]
        if self._interpolator.any_timestep:
            seen = [self._picture(frame) for frame in frames]
            t = times[0] if len(times) == 1 else torch.tensor([float(time) for time in times])
            return [_as_frame(made, left) for made in self._interpolate(seen, t, fit)]
        made = []
        for time in times:
            nearest = dyadic(time, BISECTION_DEPTH)
            if nearest in (0, 1):
                made.append(right if nearest else left)
            else:
                made.append(_as_frame(self._bisect(left, right, nearest, fit).tensor[0], left))
        return made

    def _put_together(self, strips: Sequence[Strip], fit: Fit) -> Frame:
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
                    seen, times.view(1, 1, -1, 1).expand(1, 1, height, width), fit
                )
            made.append(picture[0, :, strip.first : strip.stop])
        like = next(frame for frame in strips[0].frames if frame is not None)
        return _as_frame(torch.cat(made, dim=-2), like)

    @torch.inference_mode()
    def _interpolate(self, seen: list[_Picture], t: Fraction | Tensor, fit: Fit) -> Tensor:
        """New pictures at the times ``t``, (T, C, H, W), not clamped."""
        options = {**self._options, "tile": fit.tile}
        names = [picture.name for picture in seen]
        # (1, n, C, H, W)
        nominal = torch.stack([picture.tensor for picture in seen], dim=1).clamp_(0, 1)
        made = self._interpolator.interpolate(nominal[:, :, :3], t, keys=names, **options)
        if nominal.shape[2] == 4:
            # Alpha moves as the picture would: the model sees it as a grey picture of its own.
            alpha = nominal[:, :, 3:].expand(-1, -1, 3, -1, -1)
            keys = [("alpha", name) for name in names]
            moved = self._interpolator.interpolate(alpha, t, keys=keys, **options)
            made = torch.cat([made, moved.mean(dim=1, keepdim=True)], dim=1)
        del nominal
        middle = len(seen) // 2
        return _with_common_excess(made, seen[middle - 1].tensor, seen[middle].tensor)

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

    def _bisect(self, left: Frame, right: Frame, t: Fraction, fit: Fit) -> _Picture:
        if self._pair is None or self._pair[0] is not left or self._pair[1] is not right:
            self._pair = (left, right)
            self._midpoints = {}
        picture = self._midpoint(t, fit)
        # Times only grow within a pair: of what lies before, just the nearest can be needed again.
        passed = sorted(time for time in self._midpoints if time <= t)
        for time in passed[:-1]:
            del self._midpoints[time]
        return picture

    def _midpoint(self, t: Fraction, fit: Fit) -> _Picture:
        assert self._pair is not None
        if t in (0, 1):
            return self._picture(self._pair[int(t)])
        if t not in self._midpoints:
            step = Fraction(1, t.denominator)
            ends = [self._midpoint(t - step, fit), self._midpoint(t + step, fit)]
            self._midpoints[t] = _Picture(self._interpolate(ends, Fraction(1, 2), fit))
        return self._midpoints[t]


def without_gaps(frames: tuple[Frame | None, ...]) -> tuple[Frame | None, ...]:
    """The frames of a window, or the middle two where an outer one is missing: between them a
    four-frame model interpolates linearly."""
    return frames[1:3] if len(frames) == 4 and None in (frames[0], frames[3]) else frames


def _as_frame(made: Tensor, like: Frame) -> Frame:
    """A picture (C, H, W) in the layout of a source frame."""
    return like.with_planes(from_rgb(made[:3], like, made[3:] if like.layout.alpha else None))


def _too_large(interpolator: Interpolator, demand: Demand) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"{interpolator.device} has too little memory for {interpolator.name} at "
        f"{demand.width}×{demand.height}, even in the smallest tiles; try a smaller --scale, "
        "--dtype float16 or another model"
    )


def _with_common_excess(made: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``made`` plus what lies outside [0, 1] at the same place in both frames, (1, C, H, W).

    Limited-range video has whites above white and saturated colours outside of
    RGB, which models do not know. Where nothing moves they must not flicker
    between source frames and new ones, so what both frames agree on is kept.
    """
    made = made + torch.minimum(left, right).sub_(1).clamp_(min=0)
    return made.add_(torch.maximum(left, right).clamp_(max=0))
