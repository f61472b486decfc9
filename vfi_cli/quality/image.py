"""How near a made picture is to the true one. Pictures are (H, W, 3) uint8 R'G'B'."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vfi_cli.errors import InputError

Rgb = NDArray[np.uint8]
Floats = NDArray[np.float64]
Mean = Callable[[Floats], Floats]

#: Equal pictures count as this many dB, so that a mean over frames exists.
MOST_DB = 100.0

_PEAK = 255.0
_K1, _K2 = 0.01, 0.03  # SSIM's constants
_RADIUS, _SIGMA = 5, 1.5  # of its window: 11 × 11
_LUMA = np.array([0.299, 0.587, 0.114])
#: Exponents of the five scales of MS-SSIM.
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(truth: Rgb, made: Rgb) -> float:
    """Peak signal to noise over all channels, in dB, at most :data:`MOST_DB`."""
    difference = truth.astype(np.float32) - made.astype(np.float32)
    return _decibels(float(np.square(difference).mean(dtype=np.float64)))


def psnr_luma(truth: Rgb, made: Rgb) -> float:
    """PSNR of the luma of BT.601, not rounded, in dB: what the HD benchmark takes."""
    return _decibels(float(np.square(luma(truth) - luma(made)).mean()))


def _decibels(error: float) -> float:
    if error == 0:
        return MOST_DB
    return min(MOST_DB, 10 * math.log10(_PEAK**2 / error))


def interpolation_error(truth: Rgb, made: Rgb) -> float:
    """Mean absolute difference in 8-bit values: the papers' IE on Middlebury, whose own tables
    have the root of the mean square instead."""
    return float(np.abs(truth.astype(np.int16) - made).mean())


def luma(picture: Rgb) -> Floats:
    """(H, W) in 0 … 255, by the weights of BT.601."""
    return np.asarray(picture @ _LUMA, np.float64)


def ssim(truth: Rgb, made: Rgb) -> float:
    """Structural similarity as Matlab's ``ssim`` has it of a colour picture, at most 1.

    Matlab takes the three channels for a volume: its Gaussian window (11 taps, σ 1.5) goes over
    the channels as well, and what lies outside is the nearest sample. RIFE, IFRNet and most
    papers since measure this. Wang et al., "Image Quality Assessment: From Error Visibility to
    Structural Similarity", 2004, equation 13.
    """
    across = _channel_window(truth.shape[2])

    def mean(volume: Floats) -> Floats:
        return _blur(volume) @ across.T

    return float(_ssim_maps(truth, made, mean)[0].mean())


def ssim_channels(truth: Rgb, made: Rgb) -> float:
    """Structural similarity of each channel by itself where the window fits, and their mean.

    What Wang's own code and scikit-image compute, and papers that used those.
    """
    check_window(truth)
    return float(_ssim_maps(truth, made, _inner)[0].mean())


def ms_ssim(truth: Rgb, made: Rgb) -> float:
    """Structural similarity of the luma at five scales, at most 1.

    Wang et al., "Multi-scale structural similarity for image quality assessment", 2003,
    equation 7. Raises InputError for pictures of less than 176 pixels a side.
    """
    *structures, whole = ms_ssim_terms(truth, made)
    factors = [max(term, 0.0) ** w for term, w in zip((*structures, whole), _SCALES, strict=True)]
    return math.prod(factors)


def ms_ssim_terms(truth: Rgb, made: Rgb) -> tuple[float, ...]:
    """Contrast and structure at the four fine scales, and all of SSIM at the coarsest."""
    check_window(truth, _SCALES)
    a, b = luma(truth), luma(made)
    terms = []
    for last in (False, False, False, False, True):
        similarity, structure = _ssim_maps(a, b, _inner)
        terms.append(float((similarity if last else structure).mean()))
        a, b = _halved(a), _halved(b)
    return tuple(terms)


def check_window(picture: Rgb, scales: tuple[float, ...] = (1.0,)) -> None:
    """Raise InputError for a picture that is smaller than the window at the coarsest scale."""
    least = (2 * _RADIUS + 1) << (len(scales) - 1)
    height, width = picture.shape[:2]
    if min(height, width) < least:
        raise InputError(
            f"pictures of {width}×{height} are too small for this measure; it needs {least} "
            "pixels a side"
        )


def _weights() -> Floats:
    taps = np.exp(-(np.arange(-_RADIUS, _RADIUS + 1) ** 2) / (2 * _SIGMA**2))
    return taps / taps.sum()


def _channel_window(channels: int) -> Floats:
    """(to, from): the window over the channels, the outermost repeated beyond the ends."""
    matrix = np.zeros((channels, channels))
    for to in range(channels):
        for tap, weight in enumerate(_weights()):
            matrix[to, min(max(to + tap - _RADIUS, 0), channels - 1)] += weight
    return matrix


def _blur(values: Floats) -> Floats:
    from scipy.ndimage import correlate1d

    weights = _weights()
    rows = correlate1d(values, weights, axis=0, mode="nearest")
    return np.asarray(correlate1d(rows, weights, axis=1, mode="nearest"), np.float64)


def _inner(values: Floats) -> Floats:
    """Blurred, without what the border has touched."""
    return _blur(values)[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _halved(values: Floats) -> Floats:
    height, width = (side // 2 * 2 for side in values.shape)
    return values[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


def _ssim_maps(truth: Rgb | Floats, made: Rgb | Floats, mean: Mean) -> tuple[Floats, Floats]:
    """SSIM at every place, and its factor for contrast and structure alone."""
    a, b = truth.astype(np.float64), made.astype(np.float64)
    mean_a, mean_b = mean(a), mean(b)
    squares = mean_a**2 + mean_b**2
    product = mean_a * mean_b
    variances = mean(a * a + b * b) - squares
    covariance = mean(a * b) - product
    c1, c2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    structure = (2 * covariance + c2) / (variances + c2)
    return (2 * product + c1) / (squares + c1) * structure, structure
