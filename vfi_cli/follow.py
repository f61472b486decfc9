"""Other pictures of the same scene, moved as the frames move: depth maps, masks, normals.

The motion between two frames carries whatever belongs to their pixels (section 4.4 of the RIFE
paper). Samples are moved as they are: there is no colour to convert, and the depth stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from vfi_cli.errors import InputError, ModelError
from vfi_cli.frame import Frame, Window
from vfi_cli.io.color import to_rgb
from vfi_cli.io.naming import Clip
from vfi_cli.models import Interpolator
from vfi_cli.models.base import Motion
from vfi_cli.native.ops import backwarp
from vfi_cli.synthesis import BISECTION_DEPTH, without_gaps
from vfi_cli.timeline import dyadic


def check_model(interpolator: Interpolator) -> None:
    """Raise ModelError for a model that does not tell the motion that it found."""
    if not interpolator.network.has_motion:
        raise ModelError(
            f"{interpolator.name} does not tell where its pixels come from, so --follow has no "
            "motion to go by; choose another with --model, such as default"
        )


def check_same_names(guide: Clip, followed: Clip) -> None:
    """Raise InputError naming the first image that has no counterpart of the same stem."""
    for image, other in zip_longest(guide.images, followed.images):
        if image is None or other is None or image.stem != other.stem:
            have, lack = (image, followed) if other is None else (other, guide)
            if image is not None and other is not None:
                raise InputError(
                    f"{other}: is not named as {image.name} in {guide.folder}; images that "
                    "follow others need the same names, but for their endings"
                )
            raise InputError(f"{have}: has no counterpart in {lack.folder}")


def carry(before: Tensor, after: Tensor, motion: Motion) -> Tensor:
    """What belongs to the frames before and after, (B, C, H, W), at the time of the motion."""
    mask = motion.mask.to(before.dtype)
    return torch.lerp(backwarp(after, motion.flow1), backwarp(before, motion.flow0), mask)


class Follower:
    """Stands where a :class:`~vfi_cli.synthesis.Synthesizer` stands, for the followed pictures.

    ``guides`` holds, by a frame's ``pts``, the picture that motion is found on; what a window
    shows may be taken out once a later window was asked for. Midpoint-only models find the
    motion to other times by halving.
    """

    def __init__(
        self, interpolator: Interpolator, guides: Mapping[int, Frame], *, scale: float = 1.0
    ) -> None:
        self._interpolator = interpolator
        self._guides = guides
        self._scale = scale
        self._pictures: OrderedDict[int, Tensor] = OrderedDict()
        #: by time within the pair: the guide there, and what follows it
        self._midpoints: dict[Fraction, tuple[Tensor, Tensor]] = {}
        self._pair: tuple[int, int] | None = None

    @property
    def frames_seen(self) -> int:
        """Frames in a window: 2 or 4."""
        return self._interpolator.frames_seen

    @property
    def at_once(self) -> int:
        """How many windows :meth:`several` is best given."""
        return 1

    def goes_with(self, window: Window, other: Window) -> bool:
        """Whether two windows are best made at once."""
        return False

    def several(self, windows: Sequence[Window]) -> list[Frame]:
        """The followed pictures of windows one after the other."""
        return [self.between(window) for window in windows]

    def between(self, window: Window) -> Frame:
        """The followed picture at ``window.timestep`` between the middle two of the window."""
        frames = [frame for frame in without_gaps(window.frames) if frame is not None]
        middle = len(frames) // 2
        left, right = frames[middle - 1], frames[middle]
        if self._interpolator.any_timestep:
            seen = [self._picture(frame.pts) for frame in frames]
            motion = self._interpolator.motion(
                torch.stack(seen, dim=1),
                window.timestep,
                scale=self._scale,
                keys=[frame.pts for frame in frames],
            )
            return self._as_frame(carry(self._samples(left), self._samples(right), motion), left)
        nearest = dyadic(window.timestep, BISECTION_DEPTH)
        if nearest in (0, 1):
            return right if nearest else left
        if self._pair != (left.pts, right.pts):
            self._pair = (left.pts, right.pts)
            self._midpoints = {
                Fraction(number): (self._picture(frame.pts), self._samples(frame))
                for number, frame in enumerate((left, right))
            }
        return self._as_frame(self._midpoint(nearest)[1], left)

    def _midpoint(self, t: Fraction) -> tuple[Tensor, Tensor]:
        if t not in self._midpoints:
            step = Fraction(1, t.denominator)
            (left, before), (right, after) = self._midpoint(t - step), self._midpoint(t + step)
            pair, half = torch.stack([left, right], dim=1), Fraction(1, 2)
            motion = self._interpolator.motion(pair, half, scale=self._scale)
            guide = self._interpolator.interpolate(pair, half, scale=self._scale)
            self._midpoints[t] = guide, carry(before, after, motion)
        return self._midpoints[t]

    def _picture(self, number: int) -> Tensor:
        """(1, 3, H, W) in [0, 1]."""
        if number not in self._pictures:
            rgb = to_rgb(self._guides[number], device=self._interpolator.device)
            self._pictures[number] = rgb[None].clamp(0, 1)
            while len(self._pictures) > self.frames_seen:
                self._pictures.popitem(last=False)
        self._pictures.move_to_end(number)
        return self._pictures[number]

    def _samples(self, frame: Frame) -> Tensor:
        """(1, C, H, W), code values in float32, which holds 16 bits exactly."""
        stacked = np.stack([plane.astype(np.float32) for plane in frame.host_planes])
        return torch.from_numpy(stacked)[None].to(self._interpolator.device)

    @staticmethod
    def _as_frame(made: Tensor, like: Frame) -> Frame:
        values = made[0].round().clamp(0, like.layout.peak).cpu().numpy()
        return like.with_planes(
            tuple(np.ascontiguousarray(v).astype(like.layout.dtype) for v in values)
        )
