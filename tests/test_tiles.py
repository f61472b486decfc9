"""Tiles: they cover, their weights sum to one, and what is made in them has no seams."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vfi_cli.errors import UsageError
from vfi_cli.models import load_model
from vfi_cli.models.base import Interpolator, Motion, Network
from vfi_cli.tiles import OVERLAP, largest_side, spans, tiles


@settings(max_examples=200, deadline=None)
@given(
    size=st.integers(1, 900),
    multiple=st.sampled_from([1, 8, 32, 64]),
    steps=st.integers(2, 12),
    extra=st.integers(0, 7),
    overlap=st.integers(1, 200),
)
def test_parts_cover_the_axis_and_their_weights_sum_to_one(
    size: int, multiple: int, steps: int, extra: int, overlap: int
) -> None:
    side = steps * multiple + extra % multiple
    parts = spans(size, side, overlap, multiple)
    total = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        assert 0 <= part.start < part.stop <= size
        assert part.stop - part.start <= side
        assert part.start % multiple == 0
        assert len(part.weights) == part.stop - part.start
        assert min(part.weights) >= 0
        total[part.start : part.stop] += torch.tensor(part.weights, dtype=torch.float64)
    assert parts[0].start == 0
    assert parts[-1].stop == size
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
    wanted = min(overlap, (side // multiple) // 2 * multiple)
    for left, right in itertools.pairwise(parts):
        assert left.start < right.start
        assert left.stop - right.start >= wanted


def test_what_lies_at_an_inner_edge_is_context_and_never_shown() -> None:
    left, right = spans(448, 256, 64, 64)
    assert (left.start, left.stop, right.start, right.stop) == (0, 256, 192, 448)
    assert left.weights[0] == right.weights[-1] == 1, "the picture's own edges"
    assert left.weights[-16:] == right.weights[:16] == (0.0,) * 16
    assert left.weights[-17] > 0
    rising = right.weights[:64]
    assert list(rising) == sorted(rising)
    assert max(b - a for a, b in itertools.pairwise(rising)) < 1 / 31


def test_a_picture_that_fits_is_one_part() -> None:
    (whole,) = tiles(100, 60, 128, 64, 32)
    assert (whole.rows.start, whole.rows.stop, whole.columns.stop) == (0, 100, 60)
    assert set(whole.rows.weights) == {1.0}


def test_parts_too_small_for_the_network_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        tiles(500, 500, 127, 64, 64)


def test_the_largest_side_that_fits() -> None:
    assert largest_side(lambda side: side * side < 200_000, 1080, 1920, 64) == 384
    assert largest_side(lambda side: True, 1080, 1920, 64) == 1920
    assert largest_side(lambda side: side < 128, 1080, 1920, 64) is None


class Shift(Network):
    """The first frame, moved by some pixels: it looks that far around, and no farther."""

    size_multiple = 32
    has_motion = True
    timestep_map = True

    def __init__(self, pixels: int = 24) -> None:
        super().__init__()
        self.pixels = pixels
        self.seen: list[tuple[int, ...]] = []

    def forward(self, frames, timestep, *, scale=1.0, ensemble=False, memo=None) -> Tensor:
        self.seen.append(tuple(frames.shape[-2:]))
        n = self.pixels
        moved = F.pad(frames[:, 0], (n, n, n, n), mode="replicate")[
            ..., : frames.shape[-2], : frames.shape[-1]
        ]
        return moved * (1 - timestep / 4)

    def motion(self, frames, timestep, *, scale=1.0, memo=None) -> Motion:
        flow = torch.full_like(frames[:, 0, :2], self.pixels)
        return Motion(flow, -flow, frames[:, 0, :1])


def pictures(height: int, width: int) -> Tensor:
    return torch.rand(1, 2, 3, height, width, generator=torch.Generator().manual_seed(1))


def model(network: Network) -> Interpolator:
    return Interpolator(network, name="shift", device="cpu", dtype="float32")


@pytest.mark.parametrize("size", [(300, 500), (129, 641), (64, 900)])
@pytest.mark.parametrize("tta", ["", "flip", "rotate,reverse"])
def test_a_translation_within_the_context_has_no_seams(size: tuple[int, int], tta: str) -> None:
    network = Shift(OVERLAP // 4 - 8)
    shifter, frames = model(network), pictures(*size)
    names = tta.split(",") if tta else ()
    whole = shifter.interpolate(frames, 0.5, tta=names)
    network.seen.clear()
    tiled = shifter.interpolate(frames, 0.5, tta=names, tile=256)
    assert len(network.seen) > 1
    assert max(max(size) for size in network.seen) <= 256
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_times_of_their_own_for_rows_and_several_times_at_once() -> None:
    shifter, frames = model(Shift(8)), pictures(200, 320)
    rows = torch.linspace(0, 1, 200).view(1, 1, -1, 1).expand(1, 1, 200, 320)
    for t in (rows, torch.tensor([0.25, 0.5, 0.75])):
        whole = shifter.interpolate(frames, t)
        torch.testing.assert_close(
            shifter.interpolate(frames, t, tile=128), whole, rtol=0, atol=1e-5
        )


def test_motion_is_tiled_too() -> None:
    shifter, frames = model(Shift(8)), pictures(200, 320)
    whole, tiled = shifter.motion(frames, 0.5), shifter.motion(frames, 0.5, tile=128)
    for name in ("flow0", "flow1", "mask"):
        torch.testing.assert_close(getattr(tiled, name), getattr(whole, name), rtol=0, atol=1e-5)


def test_blend_is_the_same_in_tiles() -> None:
    blend, frames = load_model("blend", device="cpu"), pictures(90, 170)
    torch.testing.assert_close(
        blend.interpolate(frames, 0.25, tile=40), blend.interpolate(frames, 0.25), rtol=0, atol=1e-6
    )


def test_tiles_below_what_the_network_takes_are_refused() -> None:
    assert model(Shift()).least_tile(0.5) == 128
    with pytest.raises(
        UsageError, match="tiles of 96 pixels are too small for shift; it needs 128"
    ):
        model(Shift()).interpolate(pictures(200, 200), 0.5, tile=96, scale=0.5)


def moving_texture(height: int, width: int, dx: int, dy: int) -> Tensor:
    """Two frames of smooth noise that moves by whole pixels, and the one in between."""
    side = 32
    noise = torch.rand(
        1, 3, height // 6 + side, width // 6 + side, generator=torch.Generator().manual_seed(5)
    )
    large = F.interpolate(noise, scale_factor=6, mode="bicubic", align_corners=False)[0].clamp(0, 1)
    return torch.stack(
        [large[:, 40 + k * dy :, 40 + k * dx :][:, :height, :width] for k in (0, 1, 2)]
    )


def test_the_default_model_has_no_seams() -> None:
    """Motion of 16 pixels between the frames: 46 dB between tiled and whole (on real clips, tiles
    of 256 pixels gave 50 to 70), and hardly farther from the truth (29 dB) than the whole."""
    default = load_model("default", device="cpu", dtype="float32")
    before, truth, after = moving_texture(256, 704, 8, 3)
    frames = torch.stack([before, after])[None]
    whole = default.interpolate(frames, 0.5)[0]
    tiled = default.interpolate(frames, 0.5, tile=384)[0]
    assert not torch.equal(whole, tiled)
    inner = (slice(None), slice(24, -24), slice(24, -24))  # what enters at the rim is guessed

    def psnr(a: Tensor, b: Tensor) -> float:
        return float(-10 * (a - b)[inner].square().mean().log10())

    assert psnr(whole, tiled) > 42
    assert psnr(tiled, truth) > psnr(whole, truth) - 0.8
