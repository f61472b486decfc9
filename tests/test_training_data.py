"""Rendered scenes and cached clips: the flow is exact, the draws repeat, bad data is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vfi_cli.errors import InputError
from vfi_cli.models.blocks import warp
from vfi_cli.training.cache import cache_clips, cache_scenes, reduction
from vfi_cli.training.data import Clips, Pool, augment, draw_batch, usable_runs
from vfi_cli.training.synthetic import Motion, draw_motion, draw_shape, generate


def smooth_texture(rng: np.random.Generator, side: int) -> np.ndarray:
    """A picture without detail finer than some pixels, so that looking it up twice is harmless."""
    coarse = torch.from_numpy(rng.random((1, 3, side // 8, side // 8), dtype=np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return (fine[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("seed", range(6))
def test_exact_flow_fetches_the_new_frame_where_nothing_hides_it(seed: int) -> None:
    sample = generate(
        np.random.default_rng(seed), smooth_texture, size=96, largest=12, translucent=0
    )
    for frame, flow, seen in (
        (sample.frame0, sample.flow[:2], sample.seen[0]),
        (sample.frame1, sample.flow[2:], sample.seen[1]),
    ):
        fetched = warp(frame[None], flow[None])[0]
        error = (fetched - sample.middle).abs().mean(0)
        # Off the edges of layers (their soft pixels mix two motions) the pixels are the same.
        inner = -torch.nn.functional.max_pool2d(-seen[None], 7, 1, 3)[0] > 0.5
        assert inner.float().mean() > 0.1
        assert float(error[inner].quantile(0.9)) < 0.01
        assert float(error[inner].median()) < 0.004


def test_flow_of_both_sides_lies_on_one_line() -> None:
    sample = generate(np.random.default_rng(3), smooth_texture, size=64, largest=20)
    assert 0 < sample.t < 1
    torch.testing.assert_close(
        sample.flow[:2] * (1 - sample.t), -sample.flow[2:] * sample.t, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("delta", [-0.7, 0.4, 1.0])
def test_inverse_of_a_motion_undoes_it(delta: float) -> None:
    rng = np.random.default_rng(5)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    curved = 0
    for _ in range(40):
        motion = draw_motion(rng, 64, 12)
        curved += not motion.is_affine
        ux, uy = motion.invert(x, y, delta)
        dx, dy = motion.displacement(ux, uy)
        torch.testing.assert_close(ux + delta * dx, x, atol=0.02, rtol=0)
        torch.testing.assert_close(uy + delta * dy, y, atol=0.02, rtol=0)
    assert curved > 5


def test_displacement_of_a_known_motion() -> None:
    motion = Motion((10, 20), (3, -1), np.array([[0.1, 0], [0, 0.2]]), (0.0, 0.0), np.zeros((0, 5)))
    dx, dy = motion.displacement(torch.tensor(20.0), torch.tensor(25.0))
    assert (float(dx), float(dy)) == pytest.approx((4.0, 0.0))


def test_shapes_are_coverage() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        shape = draw_shape(rng, 32)
        assert shape.min() >= 0
        assert shape.max() <= 1


def test_augmentation_keeps_flow_and_frames_together() -> None:
    rng = np.random.default_rng(2)
    sample = generate(np.random.default_rng(4), smooth_texture, size=64, largest=6, translucent=0)
    frames = torch.stack((sample.frame0, sample.middle, sample.frame1))
    before = (warp(frames[:1], sample.flow[None, :2])[0] - frames[1]).abs().median()
    turned = set()
    for _ in range(24):
        new, flow, t = augment(rng, frames, sample.flow, sample.t)
        turned.add(round(t, 3))
        after = (warp(new[:1], flow[None, :2])[0] - new[1]).abs().median()
        assert float(after) < float(before) + 0.03  # noise and light are part of it
    assert turned == {round(sample.t, 3), round(1 - sample.t, 3)}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """A pool of eight scenes, and a clip with a repeated frame and a cut."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    (folder / "stills").mkdir()
    Image.fromarray(smooth_texture(rng, 256)).save(folder / "stills" / "a.png")
    scenes = cache_scenes([folder / "stills"], [], folder, count=8, size=96, motion=(6.0,), seed=1)
    texture = smooth_texture(rng, 256)
    other = 255 - texture
    frames = [texture[:128, i : i + 128] for i in range(8)]
    frames.insert(4, frames[3])
    frames += [other[64:192, i : i + 128] for i in range(8)]
    np.save(folder / "clip.npy", np.stack(frames))
    return [folder / "clip.npy"], scenes


def test_runs_skip_repeats_and_end_at_cuts(cache: tuple[list[Path], Path]) -> None:
    index, runs = usable_runs(np.load(cache[0][0]))
    assert 4 not in index
    assert len(index) == 16
    assert runs == [(0, 8), (8, 16)]


def test_a_draw_depends_on_its_number_alone(cache: tuple[list[Path], Path]) -> None:
    clips, pool = Clips(cache[0], 64, 64), Pool(cache[1])
    options = {"synthetic": 0.5, "batch": 6, "height": 64, "width": 64, "shifted": 0.3}
    first = draw_batch(7, 3, clips=clips, pool=pool, **options)
    again = draw_batch(7, 3, clips=clips, pool=pool, **options)
    other = draw_batch(7, 4, clips=clips, pool=pool, **options)
    assert torch.equal(first.middle, again.middle)
    assert torch.equal(first.flow, again.flow)
    assert not torch.equal(first.middle, other.middle)
    assert first.frame0.shape == (6, 3, 64, 64)
    assert first.t.shape == (6, 1, 1, 1)
    assert not bool(first.flow[~first.has_flow].any())


def test_whole_shifts_are_exact(cache: tuple[list[Path], Path]) -> None:
    pool = Pool(cache[1])
    rng = np.random.default_rng(0)
    for _ in range(6):
        frames, flow, t = pool.draw_shift(rng, 64, 64)
        for other, part in ((frames[0], flow[:2]), (frames[2], flow[2:])):
            error = (warp(other[None], part[None])[0] - frames[1]).abs()
            assert float(error[:, 18:-18, 18:-18].max()) < 1e-3
        assert 0 < t < 1


def test_enlarged_scenes_keep_their_flow(cache: tuple[list[Path], Path]) -> None:
    pool = Pool(cache[1])
    rng = np.random.default_rng(0)
    for _ in range(6):
        frames, flow, _ = pool.draw(rng, 64, 64)
        error = (warp(frames[:1], flow[None, :2])[0] - frames[1]).abs()
        still = (frames[0] - frames[1]).abs()
        assert float(error.median()) <= float(still.median()) + 0.004


def test_clips_are_decoded_once(tmp_path: Path) -> None:
    import av

    source = tmp_path / "in"
    source.mkdir()
    with av.open(str(source / "clip.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 720, 96, "yuv420p"
        for i in range(3):
            picture = np.full((96, 720, 3), 40 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    lines: list[str] = []
    files = cache_clips([source], tmp_path / "cache", most=2, report=lines.append)
    assert [np.load(file).shape for file in files] == [(2, 48, 360, 3)]
    assert len(lines) == 1
    assert cache_clips([source], tmp_path / "cache", most=2, report=lines.append) == files
    assert len(lines) == 1
    assert [reduction(640, 360), reduction(1920, 1080), reduction(3840, 2160)] == [1, 2, 4]


def test_unusable_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos"):
        cache_clips([tmp_path], tmp_path / "cache", most=9)
    (tmp_path / "junk.mp4").write_bytes(b"not a video at all")
    with pytest.raises(InputError, match=r"junk\.mp4: cannot be decoded"):
        cache_clips([tmp_path], tmp_path / "cache", most=9)
    (tmp_path / "junk.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"junk\.png: is not a picture"):
        cache_scenes([tmp_path], [], tmp_path / "cache", count=1, size=32, motion=(4.0,), seed=0)
    np.save(tmp_path / "small.npy", np.zeros((5, 16, 16, 3), np.uint8))
    with pytest.raises(InputError, match="no clip is as large"):
        Clips([tmp_path / "small.npy"], 64, 64)
