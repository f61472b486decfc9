"""Between code values and RGB: the only place with colour matrices.

A frame becomes nominal R'G'B' in [0, 1] with the stream's own matrix, range, bit depth and
chroma siting, and comes back through the exact inverse. Nothing is clamped on the way, so
colours outside of the gamut and sub-black and super-white survive.

Chroma is carried to the luma grid by a pair of short filters, of which coming back undoes
going there *exactly* (D·U = 1), whatever the picture:

* sited on a luma sample (left, top): linear interpolation up, and the low-pass filter
  (−1, 2, 6, 2, −1)/8 down: the lifting steps of the 5/3 wavelet;
* sited between two (centre): values c ∓ (next − previous)/8 up, and their mean down.

Both are smooth: straight ramps stay straight, and coming down is a proper low-pass filter for
pictures that a network made. Filters and sums are those of :mod:`vfi_cli.native.plane_ops`.

A stream that names no matrix is read as players do: BT.601 below 720 lines, else BT.709.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfi_cli.frame import ColorSpec, Frame, Plane, PlaneLayout, Samples
from vfi_cli.native.plane_ops import Coding, decode_planes, encode_planes
from vfi_cli.native.plane_reference import expand, reduce
from vfi_cli.transfer import download, upload

#: (Kr, Kb) by the matrix code points of ITU-T H.273.
_LUMA_WEIGHTS: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.601, 625 lines
    6: (0.299, 0.114),  # BT.601, 525 lines
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020, non-constant luminance
}
#: Matrices that are not linear in R'G'B' are read with the nearest one that is. Source frames
#: are untouched by this, and the way back is still the exact inverse.
_STAND_INS = {10: 9, 14: 9}
_RGB, _YCGCO = 0, 8
_CHROMA_LEFT, _CHROMA_CENTRE, _CHROMA_TOP_LEFT, _CHROMA_TOP = 1, 2, 3, 4


def effective_matrix(color: ColorSpec, layout: PlaneLayout, height: int) -> int:
    """The matrix code point that is used for a stream, guessed where it names none."""
    if layout.kind == "rgb":
        return _RGB
    matrix = _STAND_INS.get(color.matrix, color.matrix)
    if matrix in _LUMA_WEIGHTS or matrix == _YCGCO or (matrix == _RGB and layout.kind == "yuv"):
        return matrix
    if color.primaries == 9:  # BT.2020 primaries without a matrix
        return 9
    return 6 if height < 720 else 1


@lru_cache(maxsize=128)
def _matrices(
    matrix: int, kind: str, bits: int, full_range: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """(A, b, A⁻¹) in float64 with code values = A · rgb + b, three components each."""
    unit = float(1 << (bits - 8))
    peak = float((1 << bits) - 1)
    luma, black = (peak, 0.0) if full_range else (219 * unit, 16 * unit)
    chroma, middle = (peak, float(1 << (bits - 1))) if full_range else (224 * unit, 128 * unit)
    if kind == "rgb":
        forward, offset = np.eye(3) * luma, np.full(3, black)
    elif matrix == _RGB:  # H.273: Y holds G, U holds B, V holds R
        forward, offset = np.eye(3)[[1, 2, 0]] * luma, np.full(3, black)
    else:
        if matrix == _YCGCO:
            rows = np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]])
        else:
            red, blue = _LUMA_WEIGHTS[matrix]
            weights = np.array([red, 1 - red - blue, blue])
            u = (np.array([0.0, 0.0, 1.0]) - weights) / (2 * (1 - blue))
            v = (np.array([1.0, 0.0, 0.0]) - weights) / (2 * (1 - red))
            rows = np.stack([weights, u, v])
        forward = rows * np.array([[luma], [chroma], [chroma]])
        offset = np.array([black, middle, middle])
    return forward, offset, np.linalg.inv(forward)


def _siting(color: ColorSpec, layout: PlaneLayout) -> tuple[bool, bool]:
    """Whether chroma lies on a luma sample (horizontally, vertically), else between two."""
    location = color.chroma_location
    if location in (_CHROMA_CENTRE, _CHROMA_TOP):
        return False, location == _CHROMA_TOP
    # Left is what MPEG-2 and all after it mean where nothing is said; 4:2:2 and 4:1:1 sit on
    # every second or fourth luma sample. Bottom sitings are read as between the lines.
    return True, location == _CHROMA_TOP_LEFT


@lru_cache(maxsize=128)
def _coding(color: ColorSpec, layout: PlaneLayout, height: int) -> Coding:
    """What the planes of a picture of so many lines stand for, without alpha."""
    matrix = effective_matrix(color, layout, height)
    if layout.kind != "gray":
        forward, offset, inverse = _matrices(matrix, layout.kind, layout.bits, color.full_range)
        cosited_x, cosited_y = _siting(color, layout)
        return Coding(
            decode=_rows(inverse),
            encode=_rows(forward),
            offsets=tuple(offset.tolist()),
            peak=layout.peak,
            chroma_w=layout.log2_chroma_w if layout.kind == "yuv" else 0,
            chroma_h=layout.log2_chroma_h if layout.kind == "yuv" else 0,
            cosited_x=cosited_x,
            cosited_y=cosited_y,
        )
    matrix = effective_matrix(color, PlaneLayout("yuv", 8), height)
    forward, offset, _ = _matrices(
        1 if matrix == _RGB else matrix, "yuv", layout.bits, color.full_range
    )
    level = 1 / float(forward[0].sum())
    return Coding(((level,),) * 3, _rows(forward[:1]), (float(offset[0]),), layout.peak)


def _rows(matrix: np.ndarray[Any, Any]) -> tuple[tuple[float, ...], ...]:
    """A matrix as it stands, with 0 for what is not 0 by the rounding of an inverse alone."""
    return tuple(tuple(w if abs(w) > 1e-15 else 0.0 for w in row) for row in matrix.tolist())


def _alpha_coding(peak: int) -> Coding:
    """Alpha as a grey picture."""
    return Coding(((1 / peak,),) * 3, ((peak / 3,) * 3,), (0.0,), peak)


def codings(frame: Frame) -> tuple[Coding, ...]:
    """What the planes of a frame stand for: those of its picture, and, where it has alpha, that
    as a grey picture of its own. See :func:`split`."""
    color = _coding(frame.color, frame.layout, frame.height)
    return (color, _alpha_coding(frame.layout.peak)) if frame.layout.alpha else (color,)


def split(frame: Frame, planes: Sequence[Any]) -> tuple[Sequence[Any], ...]:
    """The planes of a frame by its :func:`codings`."""
    return (planes[:-1], planes[-1:]) if frame.layout.alpha else (planes,)


def store(planes: Sequence[Tensor], like: Frame) -> tuple[Plane, ...]:
    """The planes of a new frame: arrays, or tensors where ``like`` has such."""
    return tuple(planes) if isinstance(like.planes[0], Tensor) else download(planes)


def to_rgb(frame: Frame, *, device: str | torch.device = "cpu") -> Tensor:
    """Nominal R'G'B' of shape (3, H, W), float32: 0 is black, 1 reference white, not clamped."""
    where = torch.device(device)
    result = torch.empty((3, frame.height, frame.width), dtype=torch.float32, device=where)
    planes = upload(split(frame, frame.planes)[0], where)
    return decode_planes(planes, codings(frame)[0], result)


def to_alpha(frame: Frame, *, device: str | torch.device = "cpu") -> Tensor | None:
    """Opacity of shape (1, H, W), float32 in [0, 1], or None where the layout has none."""
    if not frame.layout.alpha:
        return None
    where = torch.device(device)
    result = torch.empty((1, frame.height, frame.width), dtype=torch.float32, device=where)
    return decode_planes(upload(frame.planes[-1:], where), codings(frame)[1], result)


def from_rgb(rgb: Tensor, like: Frame, alpha: Tensor | None = None) -> tuple[Plane, ...]:
    """Planes of ``like``'s layout and colour from nominal R'G'B' of shape (3, H, W).

    Rounded to the nearest code value and held to what the sample type can store. ``alpha`` of
    shape (1, H, W) is used where the layout has it; ``like``'s own where it is None.
    """
    if tuple(rgb.shape) != (3, like.height, like.width):
        raise ValueError(f"rgb of shape {tuple(rgb.shape)} for {like.width}×{like.height}")
    color, *opacity = codings(like)
    planes = store(encode_planes(rgb, color), like)
    if not opacity:
        return planes
    if alpha is None:
        return (*planes, like.planes[-1])
    return (*planes, *store(encode_planes(alpha.expand(3, -1, -1), opacity[0]), like))


def _rescale(plane: Samples, source: PlaneLayout, target: PlaneLayout, full: bool) -> Samples:
    """Code values at another bit depth: ×2ⁿ in limited range, ×(peak/peak) in full range."""
    if source.bits == target.bits:
        return plane
    if not full and target.bits > source.bits:
        return np.left_shift(plane.astype(target.dtype), target.bits - source.bits)
    factor = target.peak / source.peak if full else 2.0 ** (target.bits - source.bits)
    scaled = np.floor(plane.astype(np.float32) * np.float32(factor) + np.float32(0.5))
    return np.clip(scaled, 0, target.peak).astype(target.dtype)


def convert_layout(frame: Frame, layout: PlaneLayout, color: ColorSpec | None = None) -> Frame:
    """The same picture in another layout, for an encoder that cannot hold its own.

    Only what differs is touched: bit depth by scaling, chroma by the filters above, alpha by
    dropping it or adding an opaque one. Between RGB and YUV the frame's matrix is used (where it
    is RGB, ``color``'s, or the guess for its size). ``color`` is what the result states.
    """
    source = frame.layout
    if source == layout:
        return frame if color is None else replace(frame, color=color)
    frame = frame.with_planes(frame.host_planes)
    if (source.kind == "rgb") != (layout.kind == "rgb"):
        return _convert_kind(frame, layout, color)
    full = frame.color.full_range
    alpha = frame.planes[-1] if source.alpha else None
    planes = [_rescale(frame.planes[0], source, layout, full)]
    if layout.kind == "rgb":
        planes += [_rescale(plane, source, layout, full) for plane in frame.planes[1:3]]
    elif layout.kind == "yuv":
        if source.kind == "gray":
            neutral = 1 << (layout.bits - 1)
            shape = layout.plane_shape(1, frame.width, frame.height)
            planes += [np.full(shape, neutral, layout.dtype) for _ in range(2)]
        else:
            planes += [_rechroma(frame, index, layout) for index in (1, 2)]
    if layout.alpha:
        if alpha is None:
            planes.append(np.full((frame.height, frame.width), layout.peak, layout.dtype))
        else:
            planes.append(_rescale(alpha, source, layout, True))
    return replace(
        frame, planes=tuple(planes), layout=layout, color=frame.color if color is None else color
    )


def _rechroma(frame: Frame, index: int, layout: PlaneLayout) -> Samples:
    """A chroma plane at another subsampling and depth."""
    source = frame.layout
    full = frame.color.full_range
    plane = frame.planes[index]
    if (source.log2_chroma_w, source.log2_chroma_h) == (layout.log2_chroma_w, layout.log2_chroma_h):
        return _rescale_chroma(plane, source, layout, full)
    values = torch.from_numpy(plane.astype(np.float32))
    across, down = _siting(frame.color, source)
    # Only the axes that differ are resampled, through the luma grid where both do.
    for level in reversed(range(layout.log2_chroma_h, source.log2_chroma_h)):
        values = expand(values, -2, -(-frame.height >> level), down)
    for level in reversed(range(layout.log2_chroma_w, source.log2_chroma_w)):
        values = expand(values, -1, -(-frame.width >> level), across)
    for _ in range(source.log2_chroma_w, layout.log2_chroma_w):
        values = reduce(values, -1, across)
    for _ in range(source.log2_chroma_h, layout.log2_chroma_h):
        values = reduce(values, -2, down)
    return _rounded(_chroma_depth(values, source, layout, full), layout)


def _chroma_depth(values: Tensor, source: PlaneLayout, target: PlaneLayout, full: bool) -> Tensor:
    if source.bits == target.bits:
        return values
    if not full:
        return values.mul_(2.0 ** (target.bits - source.bits))
    centred = values.sub_(float(1 << (source.bits - 1))).mul_(target.peak / source.peak)
    return centred.add_(float(1 << (target.bits - 1)))


def _rescale_chroma(
    plane: Samples, source: PlaneLayout, target: PlaneLayout, full: bool
) -> Samples:
    if not full or source.bits == target.bits:
        return _rescale(plane, source, target, False)
    values = torch.from_numpy(plane.astype(np.float32))
    return _rounded(_chroma_depth(values, source, target, full), target)


def _rounded(values: Tensor, layout: PlaneLayout) -> Samples:
    """The nearest code values within what the sample type holds."""
    return values.round_().clamp_(0, layout.peak).numpy().astype(layout.dtype)


def _convert_kind(frame: Frame, layout: PlaneLayout, color: ColorSpec | None) -> Frame:
    """Between RGB and YUV or grey, through nominal R'G'B'."""
    if color is None:
        matrix = frame.color.matrix
        if layout.kind == "rgb":
            color = replace(frame.color, matrix=_RGB, full_range=True)
        else:
            guess = ColorSpec(2 if matrix == _RGB else matrix, False, frame.color.primaries)
            chosen = effective_matrix(guess, PlaneLayout("yuv", 8), frame.height)
            color = replace(frame.color, matrix=chosen, full_range=False)
    template = replace(
        frame,
        planes=tuple(
            np.empty(layout.plane_shape(n, frame.width, frame.height), layout.dtype)
            for n in range(layout.components)
        ),
        layout=layout,
        color=color,
    )
    alpha = to_alpha(frame)
    if layout.alpha and alpha is None:
        alpha = torch.ones(1, frame.height, frame.width)
    return template.with_planes(from_rgb(to_rgb(frame), template, alpha))
