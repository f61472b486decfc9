"""Scene cuts on pictures whose scenes are known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from vfi_cli.cuts import CONTEXT, Signature, cut_score, is_cut, signature
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout

WIDTH, HEIGHT = 192, 108


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.float64]:
    """A scene: smooth random shapes at several scales, 0 … 255."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cells, weight in ((4, 1.0), (9, 0.7), (24, 0.4)):
        coarse = rng.standard_normal((cells + 1, 2 * cells + 1))
        y = np.linspace(0, cells, height)
        x = np.linspace(0, 2 * cells, width)
        rows = np.stack([np.interp(x, np.arange(2 * cells + 1), row) for row in coarse])
        total += weight * np.stack(
            [np.interp(y, np.arange(cells + 1), column) for column in rows.T], axis=1
        )
    return np.clip(128 + 45 * total, 0, 255)


def gray(codes: NDArray[np.float64]) -> Frame:
    samples = np.clip(np.round(codes), 0, 255).astype(np.uint8)
    height, width = samples.shape
    layout = PlaneLayout("gray", 8)
    color = ColorSpec(full_range=True)
    return Frame((samples,), width, height, layout, color, 0, Fraction(1, 25))


def cuts_in(pictures: list[NDArray[np.float64]], threshold: float = 0.5) -> list[int]:
    signatures: list[Signature | None] = [signature(gray(p)) for p in pictures]
    padded = [None] * CONTEXT + signatures + [None] * CONTEXT
    return [
        i for i in range(len(pictures) - 1) if is_cut(padded[i : i + 2 * CONTEXT + 2], threshold)
    ]


def pan(seed: int, step: float, count: int) -> list[NDArray[np.float64]]:
    wide = picture(seed, WIDTH * 5, HEIGHT)
    starts = [round(step * n) for n in range(count)]
    return [wide[:, s : s + WIDTH] for s in starts]


def test_hard_cuts_are_found_where_they_are() -> None:
    scenes = [pan(seed, 2, 6) for seed in range(6)]
    joined = [p for scene in scenes for p in scene]
    assert cuts_in(joined) == [5, 11, 17, 23, 29]


@pytest.mark.parametrize("step", [0, 1, 8, 24, 48])
def test_a_pan_is_no_cut(step: float) -> None:
    assert cuts_in(pan(3, step, 12)) == []


def test_a_pan_that_starts_and_stops_is_no_cut() -> None:
    positions = [0] * 5 + [30, 60, 90, 120] + [120] * 5
    wide = picture(4, WIDTH * 3, HEIGHT)
    assert cuts_in([wide[:, p : p + WIDTH] for p in positions]) == []


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("strength", [80, 160, 255])
def test_a_flash_is_no_cut(length: int, strength: float) -> None:
    scene = pan(5, 1, 12)
    for n in range(5, 5 + length):
        scene[n] = np.minimum(scene[n] + strength, 255)
    assert cuts_in(scene) == []


@pytest.mark.parametrize("gain", [0.4, 2.0])
def test_a_light_that_is_switched_is_no_cut(gain: float) -> None:
    scene = [p * 0.45 * (gain if n >= 6 else 1.0) for n, p in enumerate(pan(6, 1, 12))]
    assert cuts_in(scene) == []


@pytest.mark.parametrize("frames", [8, 16])
def test_a_fade_is_no_cut(frames: int) -> None:
    scene = pan(7, 1, frames + 8)
    out = [p * max(0, 1 - n / frames) for n, p in enumerate(scene)]
    assert cuts_in(out) == []
    assert cuts_in(out[::-1]) == []


def test_cut_to_black_and_from_black() -> None:
    black = [np.zeros((HEIGHT, WIDTH))] * 6
    assert cuts_in(pan(8, 1, 6) + black + pan(9, 1, 6)) == [5, 11]


def test_dark_and_noisy_scenes() -> None:
    rng = np.random.default_rng(1)
    dark = [p * 0.12 + 4 for p in pan(10, 0.5, 8)] + [p * 0.12 + 4 for p in pan(11, 0.5, 8)]
    assert cuts_in(dark) == [7]
    large = [np.kron(p, np.ones((3, 3))) for p in dark]
    noisy = [np.clip(p + rng.normal(0, 4, p.shape), 0, 255) for p in large]
    assert cuts_in(noisy) == [7]
    still = np.full((HEIGHT, WIDTH), 20.0)
    assert cuts_in([still + rng.normal(0, 8, still.shape) for _ in range(12)]) == []


def test_an_object_that_comes_into_view_is_no_cut() -> None:
    scene = pan(12, 0, 12)
    shape = picture(13)
    out = []
    for n, p in enumerate(scene):
        q = p.copy()
        reach = min(max(n - 4, 0) * 20, 60)
        if reach:
            q[:reach, 60:140] = 200 + 0.2 * shape[:reach, 60:140]
        out.append(q)
    assert cuts_in(out) == []


def test_threshold_orders_and_bounds() -> None:
    joined = pan(1, 2, 8) + pan(2, 2, 8) + pan(1, 40, 8)
    found = [len(cuts_in(joined, t)) for t in (0.0, 0.3, 0.5, 0.7, 1.0)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert found[0] > found[2] == 2


def test_early_answer_equals_the_full_score() -> None:
    joined = pan(1, 12, 7) + pan(2, 30, 7)
    signatures = [signature(gray(p)) for p in joined]
    padded = [None] * CONTEXT + signatures + [None] * CONTEXT
    for i in range(len(joined) - 1):
        around = padded[i : i + 2 * CONTEXT + 2]
        for threshold in (0.1, 0.3, 0.5, 0.65):
            assert is_cut(around, threshold) == (cut_score(around) > threshold)


def test_clips_of_one_and_two_frames() -> None:
    assert cuts_in([picture(1)]) == []
    assert cuts_in([picture(1), picture(1)]) == []
    assert cuts_in([picture(1), picture(2)]) == [0]


def yuv(codes: NDArray[np.float64], bits: int, full: bool, log2: tuple[int, int]) -> Frame:
    height, width = codes.shape
    scale = 1 << (bits - 8)
    peak = (1 << bits) - 1
    y = codes / 255 * peak if full else (16 + codes * 219 / 255) * scale
    layout = PlaneLayout("yuv", bits, *log2)
    shape = layout.plane_shape(1, width, height)
    neutral = np.full(shape, 128 * scale)
    planes = tuple(np.round(p).astype(layout.dtype) for p in (y, neutral, neutral))
    return Frame(planes, width, height, layout, ColorSpec(full_range=full), 0, Fraction(1, 25))


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("log2", [(1, 1), (1, 0), (0, 0)])
def test_signatures_agree_over_layouts(bits: int, full: bool, log2: tuple[int, int]) -> None:
    codes = picture(20)
    wanted = signature(gray(codes))
    got = signature(yuv(codes, bits, full, log2))
    assert np.abs(got.luma - wanted.luma).max() < 1.0
    assert np.abs(got.chroma).max() < 0.6
    assert got.detail.dtype == np.uint8
    assert got.detail.shape == wanted.detail.shape


@pytest.mark.parametrize("bits", [8, 16])
def test_rgb_and_alpha(bits: int) -> None:
    codes = picture(21)
    peak = (1 << bits) - 1
    layout = PlaneLayout("rgb", bits, alpha=True)
    plane = np.round(codes / 255 * peak).astype(layout.dtype)
    frame = Frame(
        (plane, plane, plane, np.zeros_like(plane)),
        WIDTH,
        HEIGHT,
        layout,
        ColorSpec(matrix=0, full_range=True),
        0,
        Fraction(1, 25),
    )
    got = signature(frame)
    assert np.abs(got.luma - signature(gray(codes)).luma).max() < 1.0
    assert np.abs(got.chroma).max() < 0.6


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 300), (2000, 8)])
def test_any_size(size: tuple[int, int]) -> None:
    width, height = size
    frame = gray(picture(22, width, height))
    assert np.isfinite(signature(frame).luma).all()
    assert cuts_in([picture(22, width, height)] * 4) == []


def test_the_same_picture_resized_is_the_same_scene() -> None:
    # means over equal parts: a rescaled copy has nearly the same signature
    codes = picture(23, 384, 216)
    small = codes.reshape(108, 2, 192, 2).mean(axis=(1, 3))
    assert np.abs(signature(gray(codes)).luma - signature(gray(small)).luma).max() < 1.5


def test_colour_alone_can_be_a_cut() -> None:
    layout = PlaneLayout("yuv", 8, 1, 1)
    luma = np.full((HEIGHT, WIDTH), 110, np.uint8)

    def frame(blue: int, red: int) -> Frame:
        u, v = (np.full((HEIGHT // 2, WIDTH // 2), c, np.uint8) for c in (blue, red))
        return Frame((luma, u, v), WIDTH, HEIGHT, layout, ColorSpec(), 0, Fraction(1, 25))

    sky, wall = signature(frame(150, 110)), signature(frame(100, 150))
    assert is_cut([sky] * 4 + [wall] * 4)
    assert not is_cut([sky] * 8)


def test_wrong_neighbourhoods_are_refused() -> None:
    one = signature(gray(picture(1)))
    with pytest.raises(ValueError, match="signatures around a pair"):
        cut_score([one, one])
    with pytest.raises(ValueError, match="middle pair"):
        cut_score([one] * CONTEXT + [None] + [one] * (CONTEXT + 1))
