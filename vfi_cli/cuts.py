"""Scene cuts, found on small signatures of the frames while they stream.

The idea: two frames of one scene explain each other. Every block of the one is
found again somewhere in the other, moved, a little brighter or darker; at a cut
it is not. A flash interrupts a scene for a frame or two, but the frames before
and after it still explain each other, so it is not a cut; and where everything
moves so fast that neighbouring frames explain each other badly all the time,
a cut must stand out of that.

Whether there is a cut between frames i and i + 1 depends on the signatures of
frames i - CONTEXT … i + 1 + CONTEXT and on nothing else, so every segment of a
clip finds the same cuts wherever its rendering starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfi_cli.frame import Frame, Plane, on_host

#: Frames before the first and after the second of a pair that its decision looks at.
CONTEXT = 3
#: Default of ``--cuts-threshold``: a pair whose cut score is larger is a cut.
DEFAULT_THRESHOLD = 0.5

Floats = NDArray[np.float32]

_COLUMNS, _ROWS = 64, 36  # thumbnail samples
_BLOCK = 8  # samples a side
_DETAIL = 480  # about so many samples a row of the sparse luma
_DC_WEIGHT = 0.5  # of a block's mean luma against its texture
_CHROMA_WEIGHT = 0.7
_DC = -3  # the feature that is a block's mean luma
_LIMIT = 0.22  # a cut's dissimilarity beyond the usual at a score of one half
_FLOOR = 2.0  # code values: contrast that noise alone has
_FLAT = 1.0  # code values: contrast of a picture that shows nothing
_LEAST_GAIN = 0.3  # how much darker a scene may become from one frame to the next
_CLEAR = 0.1  # frames so alike need no other explanation


@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """What is kept of a frame to compare it with others. Values in 8-bit full-range codes."""

    luma: Floats  # (_ROWS, _COLUMNS) block means, 0 black … 255 white
    chroma: Floats  # (2, _ROWS, _COLUMNS) around 0
    detail: NDArray[np.uint8]  # sparse samples of the luma plane, not averaged
    mean: float  # of the luma
    energy: float  # mean contrast of the blocks
    blocks: Floats = field(repr=False)  # (blocks, features): to be explained
    patches: Floats = field(repr=False)  # (positions, features): what can explain
    patches_energy: Floats = field(repr=False)
    #: the frame after and its dissimilarity, once known: every decision nearby asks for it
    following: list[tuple[Signature, float]] = field(repr=False, default_factory=list)


@lru_cache(maxsize=32)
def _columns(size: int, cells: int) -> tuple[NDArray[np.int64], Floats]:
    """Borders of ``cells`` equal parts of ``size`` samples, and the matrix that averages them."""
    edges = (np.arange(cells + 1) * size) // cells
    low = np.minimum(edges[:-1], size - 1)
    high = np.maximum(edges[1:], low + 1)
    matrix = np.zeros((size, cells), np.float32)
    for cell, (a, b) in enumerate(zip(low, high, strict=True)):
        matrix[a:b, cell] = 1 / (b - a)
    return np.stack([low, high], axis=1), matrix


def _thumbnail(plane: Plane) -> Floats:
    """Mean code value of _ROWS × _COLUMNS equal parts of a plane."""
    height, width = plane.shape
    bands, _ = _columns(height, _ROWS)
    rows = _band_sums(plane, bands).astype(np.float32)
    rows /= (bands[:, 1] - bands[:, 0])[:, None]
    return rows @ _columns(width, _COLUMNS)[1]


def _band_sums(plane: Plane, bands: NDArray[np.int64]) -> NDArray[Any]:
    """Sums of bands of rows, added up where the plane lies: nothing more leaves a device."""
    height, width = plane.shape
    # summing bands of rows first keeps all work on the full plane in vectorised integer adds
    if not isinstance(plane, np.ndarray):
        samples = plane.int()
        above = samples.new_zeros((height + 1, width))  # of each row, all that lies over it
        above[1:] = samples.cumsum(0, dtype=samples.dtype)
        return on_host(above[bands[:, 1].tolist()] - above[bands[:, 0].tolist()])
    accumulator = np.uint16 if plane.dtype == np.uint8 and height <= 256 * _ROWS else np.uint32
    return np.stack([plane[a:b].sum(axis=0, dtype=accumulator) for a, b in bands])


def signature(frame: Frame) -> Signature:
    """Measure a frame of any layout; a small picture of it that :func:`is_cut` compares."""
    layout = frame.layout
    limited = not frame.color.full_range and layout.kind != "rgb"
    # limited range scales by powers of two with the bit depth, full range to the peak
    to_codes = np.float32(1 / (1 << (layout.bits - 8)) if limited else 255 / layout.peak)
    colours = 1 if layout.kind == "gray" else 3
    thumbs = [_thumbnail(plane) * to_codes for plane in frame.planes[:colours]]
    if layout.kind == "rgb":
        red, green, blue = thumbs
        luma = (red + 2 * green + blue) / 4
        chroma = np.stack([(blue - luma) / 2, (red - luma) / 2])
        sparse = frame.planes[1]
    else:
        luma = thumbs[0]
        if limited:
            luma = (luma - 16) * np.float32(255 / 219)
        if layout.kind == "yuv":
            chroma = np.stack(thumbs[1:3]) - np.float32(128)
        else:
            chroma = np.zeros((2, _ROWS, _COLUMNS), np.float32)
        sparse = frame.planes[0]
    step = max(1, round(frame.width / _DETAIL))
    detail = on_host(sparse[step // 2 :: step, step // 2 :: step])
    codes = np.right_shift(detail, layout.bits - 8).astype(np.uint8)
    return _describe(luma, chroma, codes)


def _box(samples: Floats) -> Floats:
    """Means of all _BLOCK × _BLOCK windows of (channels, rows, columns)."""
    sums = np.zeros((samples.shape[0], samples.shape[1] + 1, samples.shape[2] + 1))
    np.cumsum(np.cumsum(samples, axis=1, dtype=np.float64), axis=2, out=sums[:, 1:, 1:])
    rows = sums[:, _BLOCK:] - sums[:, :-_BLOCK]
    boxes = rows[:, :, _BLOCK:] - rows[:, :, :-_BLOCK]
    return (boxes / (_BLOCK * _BLOCK)).astype(np.float32)


def _features(luma: Floats, chroma: Floats) -> Floats:
    """(rows, columns, features) of all windows: texture of the luma, and the weighted means."""
    means = _box(np.concatenate([luma[None], chroma]))
    windows = np.lib.stride_tricks.sliding_window_view(luma, (_BLOCK, _BLOCK))
    rows, columns = windows.shape[:2]
    out = np.empty((rows, columns, _BLOCK * _BLOCK + 3), np.float32)
    texture = out[:, :, :_DC].reshape(rows, columns, _BLOCK, _BLOCK)
    np.subtract(windows, means[0, :, :, None, None], out=texture)
    texture /= _BLOCK
    out[:, :, _DC] = means[0] * _DC_WEIGHT
    out[:, :, _DC + 1 :] = (means[1:] * _CHROMA_WEIGHT).transpose(1, 2, 0)
    return out


def _energies(vectors: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", vectors, vectors), dtype=np.float32)


def _describe(luma: Floats, chroma: Floats, detail: NDArray[np.uint8]) -> Signature:
    grid = _features(luma, chroma)
    rows, columns, features = grid.shape
    patches = grid.reshape(rows * columns, features)
    starts = np.linspace(0, rows - 1, -(-_ROWS // _BLOCK)).astype(int)
    blocks = grid[starts][:, ::_BLOCK].reshape(-1, features)
    mean = float(luma.mean())
    contrast = blocks.copy()
    contrast[:, _DC] -= mean * _DC_WEIGHT
    return Signature(
        luma=luma,
        chroma=chroma,
        detail=detail,
        mean=mean,
        energy=float(np.sqrt(_energies(contrast)).mean()),
        blocks=blocks,
        patches=patches,
        patches_energy=_energies(patches),
    )


def _residual(a: Signature, b: Signature, gain: float, light: float) -> float:
    """Contrast left unexplained when ``gain`` × the deviations of a + ``light`` should be b."""
    blocks, patches, patches_energy = a.blocks, a.patches, a.patches_energy
    if gain != 1 or light:
        scale = np.float32(gain)
        offset = np.float32((light + a.mean * (1 - gain)) * _DC_WEIGHT)
        blocks, patches = blocks * scale, patches * scale
        blocks[:, _DC] += offset
        patches[:, _DC] += offset
        patches_energy = _energies(patches)
    total = 0.0
    for wanted, given, given_energy in (
        (blocks, b.patches, b.patches_energy),
        (b.blocks, patches, patches_energy),
    ):
        distance = (wanted @ given.T) * -2 + given_energy
        nearest = distance.min(axis=1) + _energies(wanted)
        total += float(np.sqrt(np.maximum(nearest, 0)).mean())
    return total


def dissimilarity(a: Signature, b: Signature) -> float:
    """How badly two frames explain each other: 0 the same scene … 1 nothing in common."""
    bright, dark = (a, b) if a.energy >= b.energy else (b, a)
    value = _residual(bright, dark, 1.0, 0.0) / (bright.energy + dark.energy + _FLOOR)
    # or the light has changed, which scales contrast and shifts brightness
    light = dark.mean - bright.mean
    gain = max((dark.energy + _FLOOR) / (bright.energy + _FLOOR), _LEAST_GAIN)
    if value > _CLEAR and (abs(light) > 1 or gain < 0.9):
        for scale in (1.0, gain):
            whole = scale * bright.energy + dark.energy + _FLOOR
            value = min(value, _residual(bright, dark, scale, light) / whole)
    return min(value, 1.0)


def _fades(outer: Signature, inner: Signature, beyond: Signature) -> bool:
    """Whether ``beyond`` is the nearly flat end of a fade that outer → inner is a part of.

    The last step into black takes all contrast away, and is told from a cut to black by
    being no larger than the step before.
    """
    step = inner.energy - beyond.energy
    return beyond.energy < _FLAT and 0 <= step <= 1.6 * (outer.energy - inner.energy)


def cut_score(around: Sequence[Signature | None], *, enough: float = 0.0) -> float:
    """How surely the middle pair of ``2 * CONTEXT + 2`` signatures is a cut, 0 … 1.

    None stands beyond the clip's ends. Once the score is known to be no larger than
    ``enough`` it is not worked out further: most pairs cost one comparison.
    """
    if len(around) != 2 * CONTEXT + 2:
        raise ValueError(f"{len(around)} signatures around a pair, not {2 * CONTEXT + 2}")
    if around[CONTEXT] is None or around[CONTEXT + 1] is None:
        raise ValueError("the middle pair must be frames")
    before = [s for s in reversed(around[: CONTEXT + 1]) if s is not None]
    after = [s for s in around[CONTEXT + 1 :] if s is not None]
    excess = _step(before[0], after[0])
    if _scale(excess) <= enough:
        return _scale(excess)
    earlier = [_step(x, y) for y, x in pairwise(before)]
    later = [_step(x, y) for x, y in pairwise(after)]
    motion = earlier + later
    if motion:
        nearest = earlier[:1] + later[:1]
        excess -= 0.55 * sum(nearest) / len(nearest) + 0.28 * max(motion)
    if _scale(excess) <= enough:
        return _scale(excess)
    if len(before) > 1 and _fades(before[1], before[0], after[0]):
        return 0.0
    if len(after) > 1 and _fades(after[1], after[0], before[0]):
        return 0.0
    usual = _step(before[0], after[0]) - excess
    for x in before:
        for y in after:
            if x is not before[0] or y is not after[0]:
                excess = min(excess, dissimilarity(x, y) - usual)
                if _scale(excess) <= enough:
                    return _scale(excess)
    return _scale(excess)


def _step(a: Signature, b: Signature) -> float:
    """Dissimilarity of a frame and the next one, worked out once."""
    if not a.following or a.following[0][0] is not b:
        a.following[:] = [(b, dissimilarity(a, b))]
    return a.following[0][1]


def _scale(excess: float) -> float:
    """Maps how far a pair stands out to 0 … 1, so that the usual limit is at one half."""
    return max(excess, 0.0) / (max(excess, 0.0) + _LIMIT)


def is_cut(around: Sequence[Signature | None], threshold: float = DEFAULT_THRESHOLD) -> bool:
    """Whether a scene ends between the middle two of ``2 * CONTEXT + 2`` signatures.

    ``None`` stands beyond the clip's ends. ``threshold`` 0 … 1: larger finds fewer cuts.
    """
    return cut_score(around, enough=threshold) > threshold
