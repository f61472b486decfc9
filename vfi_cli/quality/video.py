"""How a row of frames looks as it moves. Frames are (H, W, 3) uint8 R'G'B', in display order.

A row holds the frames that were given and those that were made in between, as a viewer sees
them; the true row has the true frames in the same places.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfi_cli.errors import InputError
from vfi_cli.quality.flow import Floats, halved, optical_flow, warp
from vfi_cli.quality.image import Rgb, luma

#: Flow is found on pictures reduced to less than this many pixels of the shorter side.
_FLOW_SIDE = 400
#: Code values by which a true pixel may differ from the one that the flow leads to.
_EXPLAINED = 4.0
#: Mean difference, in code values, of neighbours between which something moves.
_MOVES = 0.5
#: Frames that differ by less than this share of what the true ones differ by are one frame.
_SAME = 0.1


class Row:
    """The true frames of a row, and what is known of their motion."""

    def __init__(self, frames: Sequence[Rgb]) -> None:
        self.frames = tuple(frames)

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def lumas(self) -> list[Floats]:
        """(H, W) each, 0 … 255."""
        return lumas(self.frames)

    @cached_property
    def flows(self) -> list[tuple[Floats, NDArray[np.bool_]]]:
        """From each frame to the next: the flow (2, H, W), and where it explains both."""
        found = []
        for first, second in pairwise(self.lumas):
            flow = _flow(first, second)
            found.append((flow, np.abs(first - warp(second, flow)) <= _EXPLAINED))
        return found


def lumas(frames: Sequence[Rgb]) -> list[Floats]:
    """The luma of each frame, (H, W) float32 in 0 … 255."""
    return [luma(frame).astype(np.float32) for frame in frames]


def flicker(truth: Row, made: Sequence[Rgb]) -> float:
    """Warping error: how much each frame differs from the next along the true motion.

    Mean absolute difference of luma in code values, over pixels that the true frames' flow
    explains; 0 is steady. After Lai et al., "Learning Blind Video Temporal Consistency", 2018,
    with a flow that needs no weights.
    """
    errors = []
    for (first, second), (flow, explained) in zip(pairwise(lumas(made)), truth.flows, strict=True):
        if explained.any():
            errors.append(float(np.abs(first - warp(second, flow))[explained].mean()))
    return float(np.mean(errors)) if errors else 0.0


def duplicates(truth: Row, made: Sequence[Rgb]) -> float:
    """The share, 0 … 1, of neighbours that look the same though the true ones differ."""
    repeated = []
    for (a, b), (c, d) in zip(pairwise(truth.frames), pairwise(made), strict=True):
        moved = _difference(a, b)
        if moved >= _MOVES:
            repeated.append(_difference(c, d) < _SAME * moved)
    return float(np.mean(repeated)) if repeated else 0.0


def strred(truth: Row, made: Sequence[Rgb]) -> float:
    """ST-RRED of scikit-video: 0 is equal, no upper end.

    Soundararajan and Bovik, "Video Quality Assessment by Reduced Reference Spatio-Temporal
    Entropic Differencing", 2013. scikit-video looks at the frames in pairs, and at the space of
    each pair's first alone; at twice the rate these would be the given frames, so the pairs that
    begin with every other frame are taken as well.
    """
    both = np.stack(truth.lumas), np.stack(lumas(made))
    pairs = [_measure("strred", *(row[start:] for row in both))[0] for start in (0, 1)]
    spatial, temporal = np.concatenate(pairs)[:, :2].mean(axis=0)
    return float(spatial * temporal)


def viideo(truth: Row, made: Sequence[Rgb]) -> float:
    """VIIDEO of scikit-video, which looks at the made row alone: less is better.

    Mittal et al., "A Completely Blind Video Integrity Oracle", 2016. It looks at differences of
    neighbours, and where frames are repeated, as ``nearest`` does, it finds nothing: 0.
    """
    return float(_measure("viideo_score", np.stack(lumas(made))))


def niqe(truth: Rgb, made: Rgb) -> float:
    """NIQE of scikit-video, which looks at the made picture alone: less is more natural.

    Mittal et al., "Making a Completely Blind Image Quality Analyzer", 2013. Raises InputError
    for pictures of less than 194 pixels a side.
    """
    if min(made.shape[:2]) < 194:
        height, width = made.shape[:2]
        raise InputError(f"pictures of {width}×{height} are too small for NIQE; it needs 194")
    return float(_measure("niqe", luma(made).astype(np.float32)[None])[0])


def _measure(name: str, *rows: Floats) -> Any:
    """A measure of scikit-video of rows (T, H, W)."""
    from vfi_cli.skvideo_compat import skvideo

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # divisions of flat patches, which it expects
        return getattr(skvideo("measure"), name)(*(row[..., None] for row in rows))


def _difference(a: Rgb, b: Rgb) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean())


def _flow(first: Floats, second: Floats) -> Floats:
    """The flow at full size, found at a smaller one where pictures are large."""
    from scipy.ndimage import zoom

    a, b, scale = first, second, 1
    while min(a.shape) >= _FLOW_SIDE:
        a, b, scale = halved(a), halved(b), scale * 2
    flow = optical_flow(a, b)
    if scale == 1:
        return flow
    shape = [first.shape[0] / a.shape[0], first.shape[1] / a.shape[1]]
    large = [zoom(flow[n], shape, order=1, mode="nearest") * scale for n in (0, 1)]
    return np.stack(large).astype(np.float32)
