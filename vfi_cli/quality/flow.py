"""A small optical flow without weights, for measures that must not depend on a model.

Lucas and Kanade, "An Iterative Image Registration Technique with an Application to Stereo
Vision", 1981, at every pixel, from coarse to fine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_COARSEST = 16  # pixels of the shorter side, about
_ITERATIONS = 3
_WINDOW = 2.0  # σ of the Gaussian over which motion is one
_NOISE = 4.0  # code values: gradients below it say nothing about motion
_LARGEST_STEP = 1.0  # pixels of a level: the linearisation reaches no further


def optical_flow(first: Floats, second: Floats) -> Floats:
    """Where each pixel of ``first`` lies in ``second``: (2, H, W), u (x) then v (y) in pixels.

    first, second: (H, W) luma in 0 … 255.
    """
    from scipy.ndimage import median_filter, zoom

    pyramid = [(first, second)]
    while min(pyramid[-1][0].shape) >= 2 * _COARSEST:
        a, b = (halved(picture) for picture in pyramid[-1])
        pyramid.append((a, b))
    flow = np.zeros((2, *pyramid[-1][0].shape), np.float32)
    for a, b in reversed(pyramid):
        if flow.shape[1:] != a.shape:
            scale = [a.shape[0] / flow.shape[1], a.shape[1] / flow.shape[2]]
            larger = [zoom(flow[n], scale, order=1, mode="nearest") * 2 for n in (0, 1)]
            flow = np.stack(larger).astype(np.float32)
        for _ in range(_ITERATIONS):
            flow = flow + _step(a, warp(b, flow))
            flow = np.stack([median_filter(flow[n], 5, mode="nearest") for n in (0, 1)])
    return flow


def warp(picture: Floats, flow: Floats) -> Floats:
    """``picture`` (H, W) sampled where the flow (2, H, W) leads, bilinearly; edges repeat."""
    from scipy.ndimage import map_coordinates

    height, width = picture.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    where = np.stack([y + flow[1], x + flow[0]])
    return np.asarray(map_coordinates(picture, where, order=1, mode="nearest"), np.float32)


def halved(picture: Floats) -> Floats:
    """Half the size, odd sizes rounded down: means of two by two samples."""
    height, width = (side // 2 * 2 for side in picture.shape)
    blocks = picture[:height, :width].reshape(height // 2, 2, width // 2, 2)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _step(first: Floats, second: Floats) -> Floats:
    """The small motion that makes both agree best within a window, by least squares."""
    from scipy.ndimage import gaussian_filter

    middle = (first + second) / 2
    dy, dx = np.gradient(middle)
    dt = second - first
    xx, xy, yy, xt, yt = (
        gaussian_filter(product, _WINDOW, mode="nearest")
        for product in (dx * dx, dx * dy, dy * dy, dx * dt, dy * dt)
    )
    xx, yy = xx + _NOISE, yy + _NOISE
    determinant = xx * yy - xy * xy
    u = (xy * yt - yy * xt) / determinant
    v = (xy * xt - xx * yt) / determinant
    return np.clip(np.stack([u, v]), -_LARGEST_STEP, _LARGEST_STEP).astype(np.float32)
