"""New frames: a window goes through colour, model and colour again.

The only place where frames and models meet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count
from typing import Any

import torch
from torch import Tensor

from vfi_cli.errors import OutOfMemoryError
from vfi_cli.fit import Demand, Fit, TileChoice, are_small, choose, most_at_once, smaller
from vfi_cli.frame import Frame, Window
from vfi_cli.io.color import codings, split, store
from vfi_cli.models import Interpolator
from vfi_cli.models.base import ensemble_names, is_out_of_memory
from vfi_cli.native.plane_ops import decode_planes, encode_planes
from vfi_cli.native.plane_reference import common_excess
from vfi_cli.timeline import dyadic
from vfi_cli.transfer import upload
from vfi_cli.windows import Strip

#: A midpoint-only model is driven to the nearest multiple of 1/2^depth.
BISECTION_DEPTH = 5

#: Room for so many more source frames than a window has. Whenever it is full, those frames of the
#: next window that are known are copied to its beginning.
_SPARE_SLOTS = 1

_names = count()


#: What a frame is made of: its colours, and where it has one its alpha as a grey picture.
_Parts = tuple[Tensor, ...]


@dataclass(frozen=True, eq=False)
class _Source:
    """A source frame with its planes on the device, and a name by which a model knows it again."""

    frame: Frame
    planes: tuple[Sequence[Tensor], ...]  # of each part
    name: int = field(default_factory=lambda: next(_names))


@dataclass(frozen=True, eq=False)
class _Midpoint:
    """A frame made between two others, and its name."""

    parts: _Parts  # (1, 3, H, W) each, in [0, 1]
    name: int = field(default_factory=lambda: next(_names))


class _Shelf:
    """Source frames side by side as a model sees them, in [0, 1] and padded: what follows each
    other in the stream lies so in memory, and a window is a view."""

    def __init__(self, part: int, shape: tuple[int, int, int, int], device: torch.device) -> None:
        self._part = part
        self._pictures = torch.empty(shape, device=device)
        self._held: list[_Source | None] = [None] * shape[0]

    def window(self, sources: Sequence[_Source]) -> Tensor:
        """(1, n, 3, H or more, W or more); valid until the next window is asked for."""
        held = self._held
        first = held.index(sources[0]) if sources[0] in held else 0
        if first + len(sources) > len(held):
            first = 0  # begins anew: what is known already moves there
        for place, source in enumerate(sources, first):
            if held[place] is source:
                continue
            if source in held:
                self._pictures[place].copy_(self._pictures[held.index(source)])
            else:
                coding = codings(source.frame)[self._part]
                decode_planes(source.planes[self._part], coding, self._pictures[place], limit=True)
            held[place] = source
        return self._pictures[None, first : first + len(sources)].expand(-1, -1, 3, -1, -1)


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
        #: Told the model's own warnings.
        self.on_warning: Callable[[str], None] = lambda warning: None
        self._sources: deque[_Source] = deque(maxlen=interpolator.frames_seen)
        self._shelves: list[_Shelf] = []  # of each part
        self._midpoints: dict[Fraction, _Midpoint] = {}
        self._pair: tuple[Frame, Frame] | None = None

    @property
    def frames_seen(self) -> int:
        """Frames in a window: 2 or 4."""
        return self._interpolator.frames_seen

    @property
    def at_once(self) -> int:
        """How many windows :meth:`several` is best given, at most."""
        if self.fit is not None:
            return self.fit.batch
        return most_at_once(self._interpolator)

    def goes_with(self, window: Window, other: Window) -> bool:
        """Whether two windows are best made at once: of the same frames, or of small ones."""
        if all(a is b for a, b in zip(window.frames, other.frames, strict=True)):
            return True
        if not self._interpolator.any_timestep or self.at_once == 1:
            return False
        frames, others = without_gaps(window.frames), without_gaps(other.frames)
        left = frames[0]
        return (
            len(frames) == len(others) and left is not None and are_small(left.width, left.height)
        )

    def between(self, window: Window) -> Frame:
        """The frame at ``window.timestep`` between the middle two frames of the window."""
        return self.several([window])[0]

    def several(self, windows: Sequence[Window]) -> list[Frame]:
        """The new frames of windows that go together (:meth:`goes_with`), in order."""
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
        frames = [frame for strip in strips for frame in strip.frames]
        self._make_room(frames)
        return self._in_memory(lambda fit: [self._put_together(strips, fit)], frames)[0]

    def choose_fit(self, width: int, height: int) -> None:
        """Choose how frames of this size are made, unless that is known already."""
        if self.fit is None:
            self.fit = choose(self._interpolator, self._demand(width, height), self._tile)
            self.on_fit(self.fit)

    def _demand(self, width: int, height: int) -> Demand:
        options = self._options
        views = 2 ** len(ensemble_names(options["tta"]))
        return Demand(width, height, options["scale"], views, options["ensemble"])

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
                self._pass_on_warnings()
                return made
            # Not within ``except``: the error holds on to all that was allocated on its way.
            self._refit(less)

    def _pass_on_warnings(self) -> None:
        while self._interpolator.warnings:
            warning = self._interpolator.warnings.pop(0)
            self.warnings.append(warning)
            self.on_warning(warning)

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
        views = [without_gaps(window.frames) for window in windows]
        frames = [[frame for frame in view if frame is not None] for view in views]
        middle = len(frames[0]) // 2
        pairs = [(view[middle - 1], view[middle]) for view in frames]
        times = [window.timestep for window in windows]
        if self._interpolator.any_timestep:
            self._make_room([frame for view in frames for frame in view])
            seen = [[self._source(frame) for frame in view] for view in frames]
            if all(view == seen[0] for view in seen):
                del seen[1:]
            t = times[0] if len(times) == 1 else torch.tensor([float(time) for time in times])
            made = self._interpolate(seen, t, fit)
            return [
                self._between(tuple(part[n] for part in made), *pair)
                for n, pair in enumerate(pairs)
            ]
        left, right = pairs[0]
        shown = []
        for time in times:
            nearest = dyadic(time, BISECTION_DEPTH)
            if nearest in (0, 1):
                shown.append(right if nearest else left)
            else:
                parts = self._bisect(left, right, nearest, fit).parts
                shown.append(self._between(tuple(part[0] for part in parts), left, right))
        return shown

    def _between(self, parts: _Parts, left: Frame, right: Frame) -> Frame:
        """The frame whose parts, (3, H, W) each, lie between two source frames."""
        before, after = self._source(left), self._source(right)
        planes: list[Tensor] = []
        for part, coding, *sides in zip(
            parts, codings(left), before.planes, after.planes, strict=True
        ):
            planes += encode_planes(part, coding, between=(sides[0], sides[1]))
        return left.with_planes(store(planes, left))

    @torch.inference_mode()
    def _put_together(self, strips: Sequence[Strip], fit: Fit) -> Frame:
        like = next(frame for frame in strips[0].frames if frame is not None)
        made: list[_Parts] = []
        for strip in strips:
            seen = [
                self._source(frame) for frame in without_gaps(strip.frames) if frame is not None
            ]
            parts = _nominal(seen[0])
            if len(seen) > 1:
                # Beyond the strip the times go on, so that nothing ends at its edge.
                row = torch.arange(like.height, dtype=torch.float64)
                times = (float(strip.origin) + float(strip.step) * row).clamp_(0, 1).float()
                t = times.view(1, 1, -1, 1).expand(1, 1, -1, like.width)
                left, right = seen[len(seen) // 2 - 1 :][:2]
                parts = tuple(
                    new[0] + common_excess(before, after)
                    for new, before, after in zip(
                        self._interpolate([seen], t, fit),
                        _nominal(left),
                        _nominal(right),
                        strict=True,
                    )
                )
            made.append(tuple(part[:, strip.first : strip.stop] for part in parts))
        planes: list[Tensor] = []
        for coding, *rows in zip(codings(like), *made, strict=True):
            planes += encode_planes(torch.cat(rows, dim=-2), coding)
        return like.with_planes(store(planes, like))

    @torch.inference_mode()
    def _interpolate(
        self, windows: Sequence[Sequence[_Source | _Midpoint]], t: Fraction | Tensor, fit: Fit
    ) -> _Parts:
        """New pictures at the times ``t``, (T, 3, H, W) of each part, in [0, 1].

        Of one window at all times, or of as many windows at one time each, of which the model
        cannot remember anything. Alpha moves as the picture would: the model sees it as a grey
        picture of its own.
        """
        keys = [picture.name for picture in windows[0]] if len(windows) == 1 else None
        like = self._sources[-1].frame
        # Where the model turns the frames or cuts them into tiles, it pads the outcome itself.
        rowwise = isinstance(t, Tensor) and t.dim() > 1
        padded = fit.tile is None and not self._options["tta"] and not rowwise
        made = []
        for part in range(len(codings(like))):
            if len(windows) == 1:
                frames = self._window(windows[0], part, like)
            else:
                frames = torch.cat([self._window(seen, part, like).clone() for seen in windows])
            new = self._interpolator.interpolate(
                frames if padded else frames[..., : like.height, : like.width],
                t,
                keys=keys if part == 0 or keys is None else [("alpha", name) for name in keys],
                tile=fit.tile,
                **self._options,
            )
            made.append(new[..., : like.height, : like.width])
        return tuple(made)

    def _window(self, seen: Sequence[_Source | _Midpoint], part: int, like: Frame) -> Tensor:
        """What the model sees, (1, n, 3, H or more, W or more)."""
        if not self._shelves:
            multiple = self._interpolator.multiple(self._options["scale"])
            height, width = (-(-size // multiple) * multiple for size in (like.height, like.width))
            slots = self._interpolator.frames_seen + _SPARE_SLOTS
            self._shelves = [
                _Shelf(part, (slots, channels, height, width), self._interpolator.device)
                for part, channels in enumerate((3, 1)[: len(codings(like))])
            ]
        sources = [one for one in seen if isinstance(one, _Source)]
        if len(sources) == len(seen):
            return self._shelves[part].window(sources)
        pictures = [
            self._shelves[part].window([one])[:, 0, :, : like.height, : like.width]
            if isinstance(one, _Source)
            else one.parts[part]
            for one in seen
        ]
        return torch.stack(pictures, dim=1)

    def _make_room(self, frames: Sequence[Frame | None]) -> None:
        """See to it that these source frames are known together."""
        if len(known := set(map(id, frames))) > (self._sources.maxlen or 0):
            self._sources = deque(self._sources, maxlen=len(known))

    def _source(self, frame: Frame) -> _Source:
        for known in self._sources:
            if known.frame is frame:
                return known
        planes = split(frame, upload(frame.planes, self._interpolator.device))
        self._sources.append(_Source(frame, planes))
        return self._sources[-1]

    def _bisect(self, left: Frame, right: Frame, t: Fraction, fit: Fit) -> _Midpoint:
        if self._pair is None or self._pair[0] is not left or self._pair[1] is not right:
            self._pair = (left, right)
            self._midpoints = {}
        picture = self._midpoint(t, fit)
        # Times only grow within a pair: of what lies before, just the nearest can be needed again.
        passed = sorted(time for time in self._midpoints if time <= t)
        for time in passed[:-1]:
            del self._midpoints[time]
        assert isinstance(picture, _Midpoint), "a source frame is shown itself"
        return picture

    def _midpoint(self, t: Fraction, fit: Fit) -> _Source | _Midpoint:
        assert self._pair is not None
        if t in (0, 1):
            return self._source(self._pair[int(t)])
        if t not in self._midpoints:
            step = Fraction(1, t.denominator)
            ends = [self._midpoint(t - step, fit), self._midpoint(t + step, fit)]
            self._midpoints[t] = _Midpoint(self._interpolate([ends], Fraction(1, 2), fit))
        return self._midpoints[t]


def _nominal(source: _Source) -> _Parts:
    """The parts of a source frame as they are, (3, H, W) each, not limited."""
    frame = source.frame
    return tuple(
        decode_planes(
            planes, coding, torch.empty(3, frame.height, frame.width, device=planes[0].device)
        )
        for planes, coding in zip(source.planes, codings(frame), strict=True)
    )


def without_gaps(frames: tuple[Frame | None, ...]) -> tuple[Frame | None, ...]:
    """The frames of a window, or the middle two where an outer one is missing: between them a
    four-frame model interpolates linearly."""
    return frames[1:3] if len(frames) == 4 and None in (frames[0], frames[3]) else frames


def _too_large(interpolator: Interpolator, demand: Demand) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"{interpolator.device} has too little memory for {interpolator.name} at "
        f"{demand.width}×{demand.height}, even in the smallest tiles; try a smaller --scale, "
        "--dtype float16 or another model"
    )
