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
pictures that a network made.

A stream that names no matrix is read as players do: BT.601 below 720 lines, else BT.709.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Samples

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


def _expand(plane: Tensor, dim: int, size: int, cosited: bool) -> Tensor:
    """Twice the samples along ``dim`` (−1 or −2), cut to ``size``."""
    count = plane.shape[dim]
    place = plane.dim() if dim == -1 else plane.dim() - 1
    shape = list(plane.shape)
    shape.insert(place, 2)
    both = plane.new_empty(shape)
    even, odd = both.select(place, 0), both.select(place, 1)
    if cosited:
        even.copy_(plane)
        before, after = plane.narrow(dim, 0, count - 1), plane.narrow(dim, 1, count - 1)
        torch.lerp(before, after, 0.5, out=odd.narrow(dim, 0, count - 1))
        odd.narrow(dim, count - 1, 1).copy_(plane.narrow(dim, count - 1, 1))
    else:
        slope = torch.zeros_like(plane)  # an eighth of next − previous, held at the ends
        if count > 1:
            first, last = slope.narrow(dim, 0, 1), slope.narrow(dim, count - 1, 1)
            torch.sub(plane.narrow(dim, 1, 1), plane.narrow(dim, 0, 1), out=first)
            torch.sub(
                plane.narrow(dim, 2, count - 2),
                plane.narrow(dim, 0, count - 2),
                out=slope.narrow(dim, 1, count - 2),
            )
            torch.sub(plane.narrow(dim, count - 1, 1), plane.narrow(dim, count - 2, 1), out=last)
            if size % 2:  # the last sample has no partner: it is the chroma value itself
                last.zero_()
        torch.sub(plane, slope, alpha=0.125, out=even)
        torch.add(plane, slope, alpha=0.125, out=odd)
    shape = list(plane.shape)
    shape[dim] = 2 * count
    return both.view(shape).narrow(dim, 0, size)


def _reduce(plane: Tensor, dim: int, cosited: bool) -> Tensor:
    """Half the samples along ``dim``, odd sizes rounded up: the left inverse of _expand."""
    size = plane.shape[dim]
    step = [slice(None)] * plane.dim()
    step[dim] = slice(0, None, 2)
    even = plane[tuple(step)]
    step[dim] = slice(1, None, 2)
    odd = plane[tuple(step)]
    pairs, count = odd.shape[dim], even.shape[dim]
    if pairs == 0:
        return even.clone()
    if not cosited:
        means = torch.add(even.narrow(dim, 0, pairs), odd).mul_(0.5)
        return torch.cat([means, even.narrow(dim, pairs, 1)], dim) if size % 2 else means
    if count > pairs:
        following = even.narrow(dim, 1, pairs)
    else:
        following = torch.cat([even.narrow(dim, 1, count - 1), even.narrow(dim, count - 1, 1)], dim)
    detail = torch.add(even.narrow(dim, 0, pairs), following).mul_(-0.5).add_(odd).mul_(0.25)
    result = even.clone()
    result.narrow(dim, 0, pairs).add_(detail)
    result.narrow(dim, 1, count - 1).add_(detail.narrow(dim, 0, count - 1))
    return result


def _upsample(
    plane: Tensor, height: int, width: int, layout: PlaneLayout, color: ColorSpec
) -> Tensor:
    across, down = _siting(color, layout)
    for level in reversed(range(layout.log2_chroma_h)):
        plane = _expand(plane, -2, -(-height >> level), down)
    for level in reversed(range(layout.log2_chroma_w)):
        plane = _expand(plane, -1, -(-width >> level), across)
    return plane


def _downsample(plane: Tensor, layout: PlaneLayout, color: ColorSpec) -> Tensor:
    across, down = _siting(color, layout)
    for _ in range(layout.log2_chroma_w):
        plane = _reduce(plane, -1, across)
    for _ in range(layout.log2_chroma_h):
        plane = _reduce(plane, -2, down)
    return plane


def _load(plane: Samples, device: torch.device) -> Tensor:
    """Code values as float32; only the samples themselves cross to a device."""
    if device.type == "cpu":
        return torch.from_numpy(plane.astype(np.float32))
    if plane.dtype == np.uint8:
        return torch.tensor(plane, device=device).float()
    signed = torch.tensor(plane.view(np.int16), device=device)
    return signed.to(torch.int32).bitwise_and_(0xFFFF).float()


def _store(values: Tensor, peak: int) -> Samples:
    """Rounded to the nearest code value within what the sample type holds."""
    values = values.round_().clamp_(0, peak)
    if peak < 256:
        return values.to(torch.uint8).cpu().numpy()
    if values.device.type == "cpu":
        return values.numpy().astype(np.uint16)
    return values.to(torch.int32).cpu().numpy().astype(np.uint16)


def to_rgb(frame: Frame, *, device: str | torch.device = "cpu") -> Tensor:
    """Nominal R'G'B' of shape (3, H, W), float32: 0 is black, 1 reference white, not clamped."""
    where = torch.device(device)
    layout = frame.layout
    matrix = effective_matrix(frame.color, layout, frame.height)
    kind = "rgb" if layout.kind == "gray" else layout.kind
    _, offset, inverse = _matrices(matrix, kind, layout.bits, frame.color.full_range)
    luma = _load(frame.planes[0], where)
    if layout.kind == "gray":
        scale = float(inverse[0, 0])
        luma.mul_(scale).add_(-float(offset[0]) * scale)
        return luma.expand(3, -1, -1).contiguous()
    result = torch.empty((3, frame.height, frame.width), dtype=torch.float32, device=where)
    planes = [luma, _load(frame.planes[1], where), _load(frame.planes[2], where)]
    if layout.kind == "rgb" or matrix == _RGB:
        planes[1:] = [
            _upsample(p, frame.height, frame.width, layout, frame.color) for p in planes[1:]
        ]
        shift = -inverse @ offset
        for row in range(3):
            _combine(planes, inverse[row], float(shift[row]), result[row])
        return result
    # Luma has one weight in all of R, G and B, and the offsets of chroma are taken off while it
    # is still small: six passes over the picture instead of twelve.
    scale = float(inverse[0, 0])
    luma.mul_(scale).add_(-float(offset[0]) * scale)
    chroma = [
        _upsample(p.sub_(float(offset[n])), frame.height, frame.width, layout, frame.color)
        for n, p in enumerate(planes[1:], start=1)
    ]
    for row in range(3):
        base = luma
        for plane, weight in zip(chroma, inverse[row, 1:], strict=True):
            if abs(weight) > 1e-15:
                base = torch.add(base, plane, alpha=float(weight), out=result[row])
    return result


def _combine(planes: list[Tensor], weights: Any, offset: float, out: Tensor) -> None:
    """out = Σ weights · planes + offset, with as few passes as there are weights."""
    terms = [(plane, float(w)) for plane, w in zip(planes, weights, strict=True) if abs(w) > 1e-15]
    first, weight = terms[0]
    torch.mul(first, weight, out=out)
    out.add_(offset)
    for plane, weight in terms[1:]:
        out.add_(plane, alpha=weight)


def to_alpha(frame: Frame, *, device: str | torch.device = "cpu") -> Tensor | None:
    """Opacity of shape (1, H, W), float32 in [0, 1], or None where the layout has none."""
    if not frame.layout.alpha:
        return None
    return _load(frame.planes[-1], torch.device(device)).mul_(1 / frame.layout.peak)[None]


def _by_difference(channels: list[Tensor], matrix: int, forward: Any, offset: Any) -> list[Tensor]:
    """Y, U and V by the standards' own way, U ∝ B − Y and V ∝ R − Y: half as many passes."""
    red, green, blue = channels
    kr, kb = _LUMA_WEIGHTS[matrix]
    luma = torch.mul(red, kr).add_(green, alpha=1 - kr - kb).add_(blue, alpha=kb)
    u = torch.sub(blue, luma).mul_(float(forward[1, 2]) / (1 - kb)).add_(float(offset[1]))
    v = torch.sub(red, luma).mul_(float(forward[2, 0]) / (1 - kr)).add_(float(offset[2]))
    luma.mul_(float(forward[0].sum())).add_(float(offset[0]))
    return [luma, u, v]


def from_rgb(rgb: Tensor, like: Frame, alpha: Tensor | None = None) -> tuple[Samples, ...]:
    """Planes of ``like``'s layout and colour from nominal R'G'B' of shape (3, H, W).

    Rounded to the nearest code value and held to what the sample type can store. ``alpha`` of
    shape (1, H, W) is used where the layout has it; ``like``'s own where it is None.
    """
    layout = like.layout
    if tuple(rgb.shape) != (3, like.height, like.width):
        raise ValueError(f"rgb of shape {tuple(rgb.shape)} for {like.width}×{like.height}")
    matrix = effective_matrix(like.color, layout, like.height)
    rgb = rgb.float()
    channels = list(rgb.unbind(0))
    if layout.kind == "gray":
        luma_matrix = effective_matrix(like.color, PlaneLayout("yuv", 8), like.height)
        if luma_matrix == _RGB:
            luma_matrix = 1
        forward, offset, _ = _matrices(luma_matrix, "yuv", layout.bits, like.color.full_range)
        count = 1
    else:
        forward, offset, _ = _matrices(matrix, layout.kind, layout.bits, like.color.full_range)
        count = 3
    if count == 3 and layout.kind == "yuv" and matrix in _LUMA_WEIGHTS:
        values = _by_difference(channels, matrix, forward, offset)
    else:
        values = []
        for row in range(count):
            values.append(torch.empty_like(channels[0]))
            _combine(channels, forward[row], float(offset[row]), values[row])
    if layout.kind == "yuv":
        values[1:] = [_downsample(plane, layout, like.color) for plane in values[1:]]
    planes: list[Samples] = [_store(plane, layout.peak) for plane in values]
    if layout.alpha:
        if alpha is None:
            planes.append(like.planes[-1])
        else:
            planes.append(_store(alpha[0].float() * layout.peak, layout.peak))
    return tuple(planes)


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
    values = _load(plane, torch.device("cpu"))
    across, down = _siting(frame.color, source)
    # Only the axes that differ are resampled, through the luma grid where both do.
    for level in reversed(range(layout.log2_chroma_h, source.log2_chroma_h)):
        values = _expand(values, -2, -(-frame.height >> level), down)
    for level in reversed(range(layout.log2_chroma_w, source.log2_chroma_w)):
        values = _expand(values, -1, -(-frame.width >> level), across)
    for _ in range(source.log2_chroma_w, layout.log2_chroma_w):
        values = _reduce(values, -1, across)
    for _ in range(source.log2_chroma_h, layout.log2_chroma_h):
        values = _reduce(values, -2, down)
    return _store(_chroma_depth(values, source, layout, full), layout.peak)


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
    values = _load(plane, torch.device("cpu"))
    return _store(_chroma_depth(values, source, target, full), target.peak)


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
