"""Bring the pictures of inputs that differ to the first one's size, way up and colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Samples
from vfi_cli.io.color import convert_layout, effective_matrix, from_rgb, to_rgb
from vfi_cli.io.decode import SourceInfo

Planes = tuple[Samples, ...]

_PQ, _HLG = 16, 18  # code points of HDR transfer characteristics
_CHROMA_LEFT = 1


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is turned for showing: transposed first, then mirrored."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, matrix: Sequence[int] | None) -> Orientation:
        """From a display matrix (a b u, c d v, x y w): x' = ax + cy, y' = bx + dy."""
        if matrix is None:
            return cls()
        a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
        if abs(a) >= abs(b):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def apply(self, picture: Tensor) -> Tensor:
        """The picture (…, H, W) the way up that it is shown."""
        if self.transpose:
            picture = picture.transpose(-1, -2)
        mirrored = [dim for dim, on in ((-1, self.mirror_x), (-2, self.mirror_y)) if on]
        return picture.flip(mirrored) if mirrored else picture


@dataclass(frozen=True)
class Target:
    """What all pictures of a comparison become: the first input's size and colour, upright."""

    width: int  # pixels
    height: int
    layout: PlaneLayout  # without alpha
    color: ColorSpec  # with the matrix that is meant where the stream names none
    sample_aspect_ratio: Fraction

    @classmethod
    def of(cls, info: SourceInfo) -> Target:
        turned = Orientation.of(info.display_matrix).transpose
        width, height = (info.height, info.width) if turned else (info.width, info.height)
        aspect = info.sample_aspect_ratio or Fraction(1)
        return cls(
            width,
            height,
            replace(info.layout, alpha=False),
            _meant(info.color, info.layout, info.height),
            1 / aspect if turned else aspect,
        )

    @property
    def padded(self) -> tuple[int, int]:
        """(width, height) rounded up to even and to whole chroma samples."""
        across = max(2, 1 << self.layout.log2_chroma_w)
        down = max(2, 1 << self.layout.log2_chroma_h)
        return -(-self.width // across) * across, -(-self.height // down) * down

    @property
    def black(self) -> int:
        """Code value of black in luma or RGB."""
        return 0 if self.color.full_range else 16 << (self.layout.bits - 8)

    @property
    def white(self) -> int:
        """Code value of reference white in luma or RGB."""
        return self.layout.peak if self.color.full_range else 235 << (self.layout.bits - 8)

    @property
    def grey(self) -> int:
        """Code value half way between the two."""
        return (self.black + self.white + 1) // 2

    def is_chroma(self, plane: int) -> bool:
        return self.layout.kind == "yuv" and plane in (1, 2)

    @property
    def neutral(self) -> int:
        """Code value of chroma without colour."""
        return 1 << (self.layout.bits - 1)


class Fitter:
    """Makes the pictures of one input comparable. Safe to use from the thread that decodes."""

    def __init__(self, info: SourceInfo, target: Target) -> None:
        self._target = target
        self._orientation = Orientation.of(info.display_matrix)
        same_size = (info.width, info.height) == (target.width, target.height)
        same_color = _coding(Target.of(info).color) == _coding(target.color)
        # Then samples stay what they are, but for their depth and subsampling.
        self._alike = (
            same_size
            and same_color
            and self._orientation == Orientation()
            and info.layout.kind == target.layout.kind
        )
        layout = target.layout
        self._template = Frame(
            tuple(
                np.zeros(layout.plane_shape(n, target.width, target.height), layout.dtype)
                for n in range(layout.components)
            ),
            target.width,
            target.height,
            layout,
            target.color,
            pts=0,
            time_base=Fraction(1),
        )

    def planes(self, frame: Frame) -> Planes:
        """Samples in the target's layout and colour, with the size as it is (not padded)."""
        if self._alike:
            return convert_layout(frame, self._target.layout).host_planes
        return from_rgb(self._upright(frame), self._template)

    def rgb(self, frame: Frame) -> Samples:
        """R'G'B' (3, H, W) as code values of the target's bit depth, 0 to ``layout.peak``."""
        layout = self._target.layout
        picture = self._upright(frame).mul_(layout.peak).round_().clamp_(0, layout.peak)
        if layout.dtype == np.uint8:
            return picture.to(torch.uint8).numpy()
        return picture.numpy().astype(np.uint16)

    def _upright(self, frame: Frame) -> Tensor:
        picture = self._orientation.apply(to_rgb(frame))
        size = (self._target.height, self._target.width)
        if tuple(picture.shape[-2:]) != size:
            picture = F.interpolate(
                picture[None], size=size, mode="bicubic", align_corners=False, antialias=True
            )[0]
        return picture.contiguous()


def padded(planes: Planes, target: Target) -> tuple[Samples, ...]:
    """New planes of the target's even size; the picture's last row and column go on."""
    width, height = target.padded
    made: list[Samples] = []
    for number, plane in enumerate(planes):
        rows, columns = target.layout.plane_shape(number, width, height)
        missing = ((0, rows - plane.shape[0]), (0, columns - plane.shape[1]))
        made.append(cast("Samples", np.pad(plane, missing, mode="edge")))
    return tuple(made)


def notes_on(infos: Sequence[SourceInfo]) -> list[str]:
    """What a person should know of inputs that are unlike the first, one a line."""
    notes = []
    first = infos[0]
    target, hdr = Target.of(first), _transfer(first)
    for info in infos[1:]:
        other = Target.of(info)
        if (other.width, other.height) != (target.width, target.height):
            shape = other.width * other.sample_aspect_ratio / other.height
            wanted = target.width * target.sample_aspect_ratio / target.height
            stretched = abs(shape / wanted - 1) > Fraction(1, 50)
            notes.append(
                f"{info.path} is scaled from {other.width}×{other.height} to "
                f"{target.width}×{target.height}" + (", and out of shape" if stretched else "")
            )
        if _transfer(info) != hdr:
            notes.append(
                f"{info.path} is {_transfer(info) or 'SDR'} and {first.path} {hdr or 'SDR'}: "
                "code values are compared, brightness is not converted"
            )
    return notes


def _meant(color: ColorSpec, layout: PlaneLayout, height: int) -> ColorSpec:
    """The colour as players understand it, so that equal meanings are equal values."""
    location = color.chroma_location
    if layout.kind == "yuv" and (layout.log2_chroma_w or layout.log2_chroma_h):
        location = location or _CHROMA_LEFT
    matrix = effective_matrix(color, layout, height)
    return replace(color, matrix=matrix, chroma_location=location)


def _coding(color: ColorSpec) -> tuple[int, bool, int]:
    """What turns code values into R'G'B'."""
    return color.matrix, color.full_range, color.chroma_location


def _transfer(info: SourceInfo) -> str:
    return {_PQ: "HDR (PQ)", _HLG: "HDR (HLG)"}.get(info.color.transfer, "")
