"""Measures of quality against scikit-image, scikit-video and arithmetic by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.setkit import picture
from vfi_cli.errors import InputError, UsageError
from vfi_cli.quality import image, video
from vfi_cli.quality.flow import optical_flow, warp
from vfi_cli.quality.metrics import METRICS, parse_metrics
from vfi_cli.quality.video import Row
from vfi_cli.skvideo_compat import skvideo


def pair(width: int = 61, height: int = 47, noise: float = 12) -> tuple[np.ndarray, np.ndarray]:
    truth = picture(0, 1, width, height)
    noisy = picture(0.7, 1, width, height) + np.random.default_rng(3).normal(
        scale=noise, size=truth.shape
    )
    return truth, np.clip(noisy.round(), 0, 255).astype(np.uint8)


def test_psnr_is_that_of_scikit_image() -> None:
    truth, made = pair()
    expected = peak_signal_noise_ratio(truth, made)
    assert image.psnr(truth, made) == pytest.approx(expected, abs=1e-5)
    assert image.psnr(truth, truth) == image.MOST_DB


def test_psnr_of_luma_by_hand() -> None:
    truth = np.zeros((4, 4, 3), np.uint8)
    made = truth.copy()
    made[..., 1] = 10  # green alone: 5.87 of luma
    assert image.psnr_luma(truth, made) == pytest.approx(20 * math.log10(255 / 5.87))


def test_interpolation_error_does_not_wrap_around() -> None:
    truth = np.array([[[0, 255, 7]]], np.uint8)
    made = np.array([[[255, 0, 10]]], np.uint8)
    assert image.interpolation_error(truth, made) == pytest.approx((255 + 255 + 3) / 3)


def test_ssim_by_channels_is_that_of_scikit_image() -> None:
    truth, made = pair()
    expected = structural_similarity(
        truth,
        made,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert image.ssim_channels(truth, made) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_the_volume_is_that_of_scikit_image() -> None:
    truth, made = pair()
    # Matlab's border, made by hand: scikit-image treats its own border in another way.
    padded = [np.pad(side.astype(float), 5, mode="edge") for side in (truth, made)]
    _, full = structural_similarity(
        *padded,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert image.ssim(truth, made) == pytest.approx(full[5:-5, 5:-5, 5:-5].mean(), abs=1e-9)
    assert image.ssim(truth, truth) == pytest.approx(1)


def test_the_two_kinds_of_ssim_differ() -> None:
    truth, made = pair()
    assert abs(image.ssim(truth, made) - image.ssim_channels(truth, made)) > 1e-3


def test_ms_ssim_terms_are_those_of_scikit_video() -> None:
    truth, made = pair(240, 200)
    *structures, coarsest = image.ms_ssim_terms(truth, made)
    # scikit-video leaves the exponent of the coarsest scale out.
    product = math.prod(
        s**w for s, w in zip(structures, (0.0448, 0.2856, 0.3001, 0.2363), strict=True)
    )
    lumas = [image.luma(side)[None, ..., None] for side in (truth, made)]
    expected = skvideo("measure").msssim(*lumas)[0]
    assert product * coarsest == pytest.approx(expected, abs=1e-5)  # which is float32
    assert image.ms_ssim(truth, made) == pytest.approx(product * coarsest**0.1333)


def test_too_small_a_picture_is_told() -> None:
    truth, made = pair(100, 200)
    with pytest.raises(InputError, match=r"100×200 are too small.*176"):
        image.ms_ssim(truth, made)
    with pytest.raises(InputError, match="needs 11"):
        image.ssim_channels(truth[:10], made[:10])


# Rows of frames


def texture(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: blobs of some pixels, which a flow can follow."""
    noise = np.random.default_rng(7).normal(size=(height, width, 3))
    smooth = gaussian_filter(noise, (3, 3, 0), mode="wrap")
    return np.clip(128 + 60 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def moving(count: int = 9, width: int = 96, height: int = 64, step: int = 2) -> list[np.ndarray]:
    """A texture that moves to the right by ``step`` pixels a frame."""
    wide = texture(width + step * count, height)
    return [wide[:, step * (count - n) :][:, :width] for n in range(count)]


def rebuilt(frames: list[np.ndarray], how: str) -> list[np.ndarray]:
    made = []
    for n, frame in enumerate(frames):
        if n % 2 == 0:
            made.append(frame)
        elif how == "nearest":
            made.append(frames[n - 1])
        elif how == "blend":
            mean = (frames[n - 1].astype(int) + frames[n + 1]) // 2
            made.append(mean.astype(np.uint8))
        else:  # what flickers: true but for its brightness
            made.append(np.clip(frame.astype(int) + 10, 0, 255).astype(np.uint8))
    return made


def test_optical_flow_follows_a_shift() -> None:
    wide = texture(120, 80)[..., 0].astype(np.float32)
    first, second = wide[8:72, 12:108], wide[5:69, 17:113]  # moves 5 to the left, 3 down
    flow = optical_flow(first, second)
    inner = flow[:, 8:-8, 8:-8]
    assert np.median(inner[0]) == pytest.approx(-5, abs=0.25)
    assert np.median(inner[1]) == pytest.approx(3, abs=0.25)
    before = np.abs(first - second).mean()
    assert np.abs(first - warp(second, flow)).mean() < before / 5


def test_flicker_is_what_brightness_that_comes_and_goes_makes() -> None:
    frames = moving()
    row = Row(frames)
    true = video.flicker(row, frames)
    assert true < 1
    assert video.flicker(row, rebuilt(frames, "bright")) == pytest.approx(true + 10, abs=1.5)
    assert video.flicker(row, rebuilt(frames, "nearest")) > 2 * true


def test_flicker_of_large_pictures_finds_its_flow_on_smaller_ones() -> None:
    frames = [np.repeat(np.repeat(f, 8, axis=0), 8, axis=1) for f in moving(2, step=1)]
    assert min(frames[0].shape[:2]) >= 400
    (flow, _), *_ = Row(frames).flows
    assert flow.shape == (2, *frames[0].shape[:2])
    assert np.median(flow[0]) == pytest.approx(8, abs=0.5)


def test_duplicates_count_repeats_of_what_moves() -> None:
    frames = moving()
    row = Row(frames)
    assert video.duplicates(row, frames) == 0
    assert video.duplicates(row, rebuilt(frames, "blend")) == 0
    assert video.duplicates(row, rebuilt(frames, "nearest")) == 0.5
    still = [frames[0]] * 5
    assert video.duplicates(Row(still), still) == 0  # nothing moves, so nothing repeats


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_strred_sees_made_frames_and_not_only_given_ones() -> None:
    frames = moving(7, 160, 128)
    row = Row(frames)
    assert video.strred(row, frames) == 0
    blended = video.strred(row, rebuilt(frames, "blend"))
    assert blended > 0.1
    measure = skvideo("measure").strred
    lumas = np.stack(row.lumas)[..., None], np.stack(video.lumas(rebuilt(frames, "blend")))
    pairs = [measure(lumas[0][n:], lumas[1][n:, ..., None])[0][:, :2] for n in (0, 1)]
    spatial, temporal = np.vstack(pairs).mean(axis=0)
    assert blended == pytest.approx(spatial * temporal, rel=1e-6)
    assert np.all(pairs[0][:, 0] == 0)  # why both are taken


def test_niqe_and_viideo_run_and_tell_small_pictures() -> None:
    frames = moving(8, 200, 196)
    noisy = np.clip(
        frames[0] + np.random.default_rng(1).normal(scale=25, size=frames[0].shape), 0, 255
    ).astype(np.uint8)
    assert video.niqe(frames[0], noisy) != video.niqe(frames[0], frames[0])
    assert np.isfinite(video.niqe(frames[0], noisy))
    assert np.isfinite(video.viideo(Row(frames), frames))
    with pytest.raises(InputError, match="96×64 are too small for NIQE"):
        video.niqe(texture(96, 64), texture(96, 64))


def test_every_metric_measures_frames_or_rows() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert (metric.frame is None) != (metric.row is None)


def test_parse_metrics() -> None:
    assert parse_metrics("SSIM, psnr,ssim") == ("ssim", "psnr")
    for wrong in ("psnr,vmaf", ",", ""):
        with pytest.raises(UsageError, match="choose among psnr"):
            parse_metrics(wrong)
