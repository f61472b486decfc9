"""Between the planes of a frame, in code values, and the picture that a network sees.

A picture is nominal R'G'B', float32 (3, H, W): 0 is black and 1 reference white. Planes are
uint8 or uint16 tensors (H, W) with their columns side by side: one, or three of which the last
two may be smaller. What their code values mean is a :class:`Coding`, which
:mod:`vfi_cli.io.color` makes from what a stream says.

The twins in :mod:`vfi_cli.native.plane_reference` say what the operators compute; they run where
there is no kernel for the device, within :func:`~vfi_cli.native.ops.use_reference`, and for chroma
of a quarter of the columns or rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vfi_cli.native import ops
from vfi_cli.native import plane_reference as reference

Row = tuple[float, ...]

_operators = torch.ops.vfi


@dataclass(frozen=True, slots=True)
class Coding:
    """How code values stand for nominal ones, and where chroma lies.

    nominal = decode · (code − offsets), code = encode · nominal + offsets.

    ``decode``: three rows (R', G', B') of a weight for each plane; ``encode``: a row of three
    weights for each plane; ``offsets``: one for each plane; ``peak``: the largest code value.
    ``chroma_w``, ``chroma_h``: log2 of how much fewer columns and rows planes 1 and 2 have (odd
    sizes round up). ``cosited_x``, ``cosited_y``: whether their samples lie on a sample of plane 0,
    else in the middle of two.
    """

    decode: tuple[Row, ...]
    encode: tuple[Row, ...]
    offsets: Row
    peak: int
    chroma_w: int = 0
    chroma_h: int = 0
    cosited_x: bool = False
    cosited_y: bool = False

    def plane_shape(self, plane: int, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of a plane of a picture of this size."""
        if plane == 0:
            return height, width
        return -(-height >> self.chroma_h), -(-width >> self.chroma_w)

    @property
    def dtype(self) -> torch.dtype:
        """Of the planes."""
        return torch.uint8 if self.peak < 256 else torch.uint16

    @property
    def exceeds(self) -> bool:
        """Whether code values can stand for what lies outside of [0, 1]."""
        ends = [(-offset, self.peak - offset) for offset in self.offsets]
        for row in self.decode:
            products = [(w * low, w * high) for w, (low, high) in zip(row, ends, strict=True)]
            if sum(map(min, products)) < -1e-9 or sum(map(max, products)) > 1 + 1e-9:
                return True
        return False


def decode_planes(
    planes: Sequence[Tensor], coding: Coding, picture: Tensor, *, limit: bool = False
) -> Tensor:
    """Write the picture that the planes stand for into ``picture``, and return that.

    ``picture``: (3, H or more, W or more) float32 with its columns side by side: to the right and
    below, the last column and row are repeated. Of one channel it gets R' alone, which is all
    there is where R', G' and B' are equal. ``limit``: whether values are limited to [0, 1].

    Raises ValueError for shapes that do not fit.
    """
    _check(planes, coding, picture)
    planes = [_dense(plane) for plane in planes]
    if not _native(picture, coding):
        reference.decode_planes(planes, coding, picture, limit=limit)
        return picture
    _operators.decode_planes(
        planes, picture, _flat(coding.decode), coding.offsets, _chroma(coding), limit
    )
    return picture


def encode_planes(
    picture: Tensor,
    coding: Coding,
    *,
    between: tuple[Sequence[Tensor], Sequence[Tensor]] | None = None,
) -> list[Tensor]:
    """New planes for a picture (3, H, W): the nearest code values that their type holds.

    ``between``: the planes of the frames before and after a picture in [0, 1]. What lies outside
    of [0, 1] in both of them at the same place is added to it: limited range has whites above
    white and colours outside of R'G'B', which networks do not know, and where nothing moves they
    must not flicker between source frames and new ones.

    Raises ValueError for shapes that do not fit.
    """
    height, width = picture.shape[-2:]
    picture = _dense(picture.to(torch.float32))
    planes = [
        torch.empty(coding.plane_shape(n, height, width), dtype=coding.dtype, device=picture.device)
        for n in range(len(coding.offsets))
    ]
    _check(planes, coding, picture)
    if not coding.exceeds:
        between = None
    left, right = ([_dense(plane) for plane in side] for side in between or ((), ()))
    if between is not None:
        _check(left, coding, picture)
        _check(right, coding, picture)
    if not _native(picture, coding):
        reference.encode_planes(picture, coding, planes, left, right)
        return planes
    _operators.encode_planes(
        picture,
        planes,
        _flat(coding.encode),
        _flat(coding.decode),
        coding.offsets,
        coding.peak,
        _chroma(coding),
        left,
        right,
    )
    return planes


def _native(picture: Tensor, coding: Coding) -> bool:
    return ops.native_wanted(picture.device) and max(coding.chroma_w, coding.chroma_h) < 2


def _check(planes: Sequence[Tensor], coding: Coding, picture: Tensor) -> None:
    height, width = planes[0].shape
    for n, plane in enumerate(planes):
        shape = coding.plane_shape(n, height, width)
        if plane.shape != shape or plane.dtype != coding.dtype:
            raise ValueError(
                f"plane {n} is {plane.dtype} {tuple(plane.shape)}, not {coding.dtype} {shape}"
            )
    if len(planes) != len(coding.offsets):
        raise ValueError(f"{len(planes)} planes for a coding of {len(coding.offsets)}")
    channels, rows, columns = picture.shape
    if channels not in (1, 3) or rows < height or columns < width:
        raise ValueError(f"a picture of {tuple(picture.shape)} for planes of {(height, width)}")


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _flat(rows: Sequence[Row]) -> list[float]:
    return [weight for row in rows for weight in row]


def _chroma(coding: Coding) -> list[int]:
    return [coding.chroma_w, coding.chroma_h, int(coding.cosited_x), int(coding.cosited_y)]


if ops.available():
    for _name in ("decode_planes", "encode_planes"):
        torch.library.register_fake(f"vfi::{_name}", lambda *arguments: None)
