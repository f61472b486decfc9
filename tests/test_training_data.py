"""Cached clips and scenes, and what is drawn of them: draws repeat, bad data is named."""

from __future__ import annotations

import pickle
import shutil
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.media import write_clip
from tests.scenekit import smooth_texture
from vfi_cli.errors import InputError, OutputError, UsageError
from vfi_cli.models.blocks import warp
from vfi_cli.training.cache import cache_clip, cache_clips, cache_scenes, reduction
from vfi_cli.training.clips import ArrayClip, Clips, Mixture, Run, find_runs, scenes_file
from vfi_cli.training.data import draw_batch
from vfi_cli.training.loader import load
from vfi_cli.training.pool import Pool, Sample, augment, enlarged
from vfi_cli.training.synthetic import generate


def moving(count: int, size: tuple[int, int] = (128, 128), seed: int = 1) -> NDArray[np.uint8]:
    """A texture that moves by three pixels a frame, (count, H, W, 3)."""
    height, width = size
    texture = smooth_texture(np.random.default_rng(seed), 8 * (max(size) // 8 + 3 * count // 8 + 1))
    return np.stack([texture[:height, 3 * i : 3 * i + width] for i in range(count)])


def save_clip(path: Path, pictures: NDArray[np.uint8]) -> Path:
    np.save(path, pictures)
    return path


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stills")
    Image.fromarray(smooth_texture(np.random.default_rng(1), 256)).save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def pool(stills: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    cache = tmp_path_factory.mktemp("three")
    return Pool(cache_scenes([stills], [], cache, count=8, size=96, motion=(6.0,), seed=1))


@pytest.fixture(scope="module")
def pool_of_five(stills: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    cache = tmp_path_factory.mktemp("five")
    return Pool(
        cache_scenes(
            *([stills], [], cache),
            **{"count": 4, "size": 64, "motion": (6.0,), "seed": 1},
            four=True,
            accelerated=1.0,
        )
    )


# Clips ------------------------------------------------------------------------------------


def test_runs_skip_repeats_and_end_at_cuts(tmp_path: Path) -> None:
    pictures = moving(20)
    repeated = np.concatenate((pictures[:9], pictures[8:9], pictures[10:]))
    both = np.concatenate((repeated, 255 - moving(12, seed=7)[:, ::-1]))
    first, second = find_runs(both)
    assert 9 not in first.frames
    assert first.frames == tuple(n for n in range(20) if n != 9)
    assert first.times == first.frames  # a frame is missing, and the time goes on
    assert second.frames == tuple(range(20, 32))


def test_scenes_are_found_once_and_kept(tmp_path: Path) -> None:
    file = save_clip(tmp_path / "a.npy", moving(12))
    clip = ArrayClip(file)
    assert clip.runs == [Run(tuple(range(12)), tuple(map(float, range(12))))]
    assert ArrayClip(file).runs == clip.runs
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clip)).picture(3), clip.picture(3))
    scenes_file(file).write_text("junk", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.scenes\.json: is damaged"):
        ArrayClip(file)
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match=r"a\.npy: is damaged .*; remove it and it is made anew"):
        ArrayClip(file)


class Numbered:
    """A clip whose pictures say their number."""

    height, width = 32, 40

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs

    def picture(self, number: int) -> NDArray[np.uint8]:
        return np.full((32, 40, 3), number, np.uint8)


def regular(first: int, count: int) -> Run:
    return Run(tuple(range(first, first + count)), tuple(float(n) for n in range(count)))


def test_windows_stay_inside_runs_and_t_is_true() -> None:
    clips = Clips([Numbered([regular(0, 9), regular(20, 30)])], 16, 16)
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        cut = clips.draw(rng, 16, 16)
        a, m, b = cut.pictures[:, 0, 0, 0].astype(int).tolist()
        assert a < m < b
        assert b < 9 or a >= 20
        assert cut.t == pytest.approx((m - a) / (b - a))
        seen.add((b - a, m - a))
    assert {gap for gap, _ in seen} == {2, 3, 4, 5, 6, 7}
    assert len(seen) == 1 + 2 + 3 + 4 + 5 + 6  # every t of every gap


def test_windows_of_four_are_evenly_spaced_and_stay_inside_runs() -> None:
    uneven = Run(tuple(range(100, 130)), tuple(n * n / 10 + n for n in range(30)))
    clips = Clips([Numbered([regular(0, 6), regular(20, 15), uneven])], 16, 16, four=True)
    rng = np.random.default_rng(0)
    steps = set()
    for _ in range(200):
        cut = clips.draw(rng, 16, 16, four=True)
        before, a, m, b, after = cut.pictures[:, 0, 0, 0].astype(int).tolist()
        assert a - before == b - a == after - b
        assert a < m < b
        assert cut.t == pytest.approx((m - a) / (b - a))
        assert before >= 20
        assert after < 35
        steps.add(b - a)
    assert steps == {2, 3, 4}


def test_time_counts_and_not_the_number_of_frames() -> None:
    late = Run((0, 1, 2), (0.0, 3.0, 4.0))
    cut = Clips([Numbered([late])], 16, 16, gaps=(1,)).draw(np.random.default_rng(0), 16, 16)
    assert cut.t == pytest.approx(0.75)


def test_windows_for_a_network_of_the_middle_have_t_of_a_half() -> None:
    uneven = Run((100, 101, 102), (0.0, 3.0, 4.0))
    clips = Clips(
        [Numbered([regular(0, 9), regular(20, 30), uneven])], 16, 16, gaps=(1, 2, 3), middle=True
    )
    rng = np.random.default_rng(0)
    cuts = [clips.draw(rng, 16, 16) for _ in range(200)]
    assert {cut.t for cut in cuts} == {0.5}
    numbers = [cut.pictures[:, 0, 0, 0].astype(int).tolist() for cut in cuts]
    assert all(b - m == m - a and b < 100 for a, m, b in numbers)
    assert {b - a for a, _, b in numbers} == {2, 4}
    with pytest.raises(UsageError, match=r"gaps \[2, 4\]: none is odd"):
        Clips([Numbered([regular(0, 9)])], 16, 16, gaps=(2, 4), middle=True)


def test_scenes_for_a_network_of_the_middle_have_t_of_a_half(pool: Pool, tmp_path: Path) -> None:
    half = Pool(pool.folder, middle=True)
    assert 0 < len(half) < len(pool)
    rng = np.random.default_rng(0)
    assert {half.draw(rng, 32, 32).t for _ in range(20)} == {0.5}
    assert {half.draw_shift(rng, 32, 32).t for _ in range(20)} == {0.5}
    shutil.copytree(pool.folder, tmp_path / "none")
    file = next((tmp_path / "none").glob("*.t.npy"))
    np.save(file, np.full_like(np.load(file), 0.25))
    with pytest.raises(InputError, match=r"holds no scene at t = 1/2"):
        Pool(tmp_path / "none", middle=True)


def test_crops_of_the_frames_are_of_one_place(tmp_path: Path) -> None:
    pictures = moving(12, (64, 96))
    clips = Clips([save_clip(tmp_path / "a.npy", pictures)], 32, 48)
    rng = np.random.default_rng(0)
    for _ in range(5):
        cut = clips.draw(rng, 32, 48)
        assert cut.pictures.shape == (3, 32, 48, 3)
        # The texture moves by three pixels a frame: each picture lies 3 · n within the first.
        step = next(
            k
            for k in range(3, 40, 3)
            if np.array_equal(cut.pictures[0][:, k:], cut.pictures[2][:, : 48 - k])
        )
        inner = round(step * cut.t)
        np.testing.assert_array_equal(cut.pictures[0][:, inner:], cut.pictures[1][:, : 48 - inner])


def test_a_mixture_draws_by_weight() -> None:
    first = Clips([Numbered([regular(0, 9)])], 16, 16)
    second = Clips([Numbered([regular(100, 9)])], 16, 16)
    mixture = Mixture([(first, 1.0), (second, 3.0)])
    rng = np.random.default_rng(0)
    from_second = sum(mixture.draw(rng, 16, 16).pictures[0, 0, 0, 0] >= 100 for _ in range(200))
    assert from_second == pytest.approx(150, abs=25)


def test_clips_that_are_too_small_or_short_are_named_by_what_is_wanted() -> None:
    with pytest.raises(InputError, match="no clip is as large as the crops of 64×64"):
        Clips([Numbered([regular(0, 9)])], 64, 64)
    with pytest.raises(InputError, match="7 moving frames without a cut"):
        Clips([Numbered([regular(0, 6)])], 16, 16, four=True)


# The cache --------------------------------------------------------------------------------


def test_videos_are_decoded_once_at_a_clean_size(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_clip(source / "wide.mkv", frames=5, codec="ffv1", size=(720, 96))
    for name in ("._wide.mkv", ".trash/old.mkv", "notes.txt"):  # what systems and people leave
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"no video")
    lines: list[str] = []
    cache = tmp_path / "cache"
    (file,) = cache_clips([source], cache, most=4, report=lines.append)
    assert np.load(file).shape == (4, 48, 360, 3)
    assert lines == ["wide.mkv: 4 frames of 360×48"]
    assert cache_clips([source], cache, most=4, report=lines.append) == [file]
    assert len(lines) == 1
    (source / "tape.mpg").write_bytes(b"")  # as for conversions, a video
    with pytest.raises(InputError, match=r"tape\.mpg: is empty"):
        cache_clips([source], cache, most=4)
    assert [reduction(640, 360), reduction(1920, 1080), reduction(3840, 2160)] == [1, 2, 4]


@pytest.mark.parametrize(("form", "size"), [("yuv420p", (70, 50)), ("yuv420p10le", (65, 47))])
def test_decoded_pictures_are_those_that_models_see(
    tmp_path: Path, form: str, size: tuple[int, int]
) -> None:
    from vfi_cli.io.color import to_rgb
    from vfi_cli.io.decode import FrameReader, probe

    clip = write_clip(tmp_path / "a.mkv", frames=4, codec="ffv1", pix_fmt=form, size=size)
    pictures = np.load(cache_clip(clip, tmp_path / "cache", most=9))
    assert pictures.shape == (4, size[1], size[0], 3)
    with FrameReader(probe(clip)) as reader:
        for picture, frame in zip(pictures, reader, strict=True):
            expected = (to_rgb(frame).clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
            np.testing.assert_array_equal(picture, expected)


def test_a_folder_of_frames_is_a_clip_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "footage" / "walk"
    folder.mkdir(parents=True)
    pictures = moving(11, (48, 64))
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"frame{number}.png")
    (file,) = cache_clips([tmp_path / "footage"], tmp_path / "cache", most=100)
    np.testing.assert_array_equal(np.load(file), pictures)
    assert ArrayClip(file).runs[0].frames == tuple(range(11))
    Image.fromarray(pictures[0, :30]).save(folder / "frame7.png")
    with pytest.raises(InputError, match=r"frame7\.png: is 64×30, not 64×48"):
        cache_clips([tmp_path / "footage"], tmp_path / "cache", most=100)


def test_uneven_timestamps_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mkv"
    pts = [0, 40, 80, 200, 240, 280, 320]
    write_clip(
        path,
        frames=7,
        codec="ffv1",
        size=(64, 64),
        pts=pts,
        time_base=Fraction(1, 1000),
    )
    (run,) = ArrayClip(cache_clip(path, tmp_path / "cache", most=9)).runs
    assert run.times == pytest.approx([n / 1000 for n in pts])


def test_clips_that_do_not_decode_are_named_once_the_others_are_cached(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos and no folders of frames"):
        cache_clips([tmp_path], tmp_path / "cache", most=9)
    (tmp_path / "a.mp4").write_bytes(b"not a video at all")
    (tmp_path / "b.mp4").write_bytes(b"")
    write_clip(tmp_path / "good.mkv", frames=4, codec="ffv1")
    with pytest.raises(InputError, match=r"a\.mp4: .*1 more: .*b\.mp4") as caught:
        cache_clips([tmp_path], tmp_path / "cache", most=9)
    assert "\n" not in str(caught.value)
    assert len(list((tmp_path / "cache").glob("good-*.npy"))) == 1


def test_a_damaged_video_is_used_up_to_the_damage(tmp_path: Path) -> None:
    options = {"level": "3", "slicecrc": "1"}
    path = write_clip(tmp_path / "a.mkv", frames=12, codec="ffv1", size=(128, 96), options=options)
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 0xFF
    path.write_bytes(data)
    lines: list[str] = []
    file = cache_clip(path, tmp_path / "cache", most=99, report=lines.append)
    assert 0 < len(np.load(file)) < 12
    assert lines[0].startswith("a.mkv: used up to ")


def test_unusable_textures_and_places_are_named(
    tmp_path: Path, stills: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "junk.png").write_bytes(b"not a picture")
    options = {"count": 1, "size": 32, "motion": (4.0,), "seed": 0}
    shutil.copy(tmp_path / "junk.png", tmp_path / "._a.png")  # which is not looked at
    with pytest.raises(InputError, match=r"junk\.png: cannot be decoded .*data\.textures"):
        cache_scenes([tmp_path], [], tmp_path / "cache", **options)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(InputError, match="decompression bomb"):
            cache_scenes([stills], [], tmp_path / "cache", **options)
    with pytest.raises(InputError, match=r"cache: no pictures .*data\.textures"):
        cache_scenes([tmp_path / "cache"], [], tmp_path / "cache", **options)
    small = save_clip(tmp_path / "small.npy", moving(3, (64, 64)))
    with pytest.raises(InputError, match=r"no clip of data\.clips is 160 pixels high and wide"):
        cache_scenes([], [small], tmp_path / "cache", **options)
    with pytest.raises(OutputError, match=r"cannot be made .*data\.cache"):
        cache_scenes([stills], [], tmp_path / "junk.png", **options)
    with pytest.raises(InputError, match="holds no rendered scenes"):
        Pool(tmp_path)


def test_scenes_are_rendered_again_when_their_textures_changed(
    tmp_path: Path, stills: Path
) -> None:
    folder, lines = tmp_path / "stills", list[str]()
    shutil.copytree(stills, folder)
    options = {"count": 1, "size": 32, "motion": (4.0,), "seed": 0, "report": lines.append}

    def rendered(textures: Path, *clips: Path) -> Path:
        return cache_scenes([textures], list(clips), tmp_path / "cache", **options)

    first = rendered(folder)
    (folder / "a.png").touch()
    folder.rename(tmp_path / "moved")
    folder = tmp_path / "moved"
    assert rendered(folder) == first  # neither written again nor moved are they others
    assert len(lines) == 2
    assert lines[1] == "1 of 1 scenes"
    picture = smooth_texture(np.random.default_rng(2), 256)
    Image.fromarray(picture).save(folder / "b.png")
    second = rendered(folder)
    Image.fromarray(255 - picture).save(folder / "b.png")
    third = rendered(folder)
    assert len({first, second, third}) == 3
    (folder / "b.png").unlink()
    assert rendered(folder) == first
    clip = save_clip(tmp_path / "clip.npy", moving(3, (200, 200)))
    assert rendered(folder, clip) != first
    assert len(lines) == 8


def test_a_clip_that_changed_is_decoded_again(tmp_path: Path) -> None:
    source, cache = tmp_path / "a.mkv", tmp_path / "cache"
    write_clip(source, frames=4, codec="ffv1")
    first = cache_clip(source, cache, most=9)
    write_clip(source, frames=5, codec="ffv1")
    assert cache_clip(source, cache, most=9) != first


def test_processes_render_the_same_scenes(tmp_path: Path, stills: Path, monkeypatch) -> None:
    from vfi_cli.training import cache

    monkeypatch.setattr(cache, "CHUNK", 2)
    options = {"count": 3, "size": 48, "motion": (4.0, 9.0), "seed": 5}
    pools = []
    for workers in (1, 2):
        folder = cache_scenes([stills], [], tmp_path / str(workers), **options, workers=workers)
        pools.append(Pool(folder))
        assert len(pools[-1]) == 3
    for one, other in zip(pools[0].chunks, pools[1].chunks, strict=True):
        for what in ("frames", "flow", "seen"):
            np.testing.assert_array_equal(one.array(what), other.array(what))


# The pool ---------------------------------------------------------------------------------


def test_whole_shifts_are_exact(pool: Pool) -> None:
    rng = np.random.default_rng(0)
    for _ in range(8):
        sample = pool.draw_shift(rng, 64, 64)
        assert sample.flow is not None
        for number, part in ((0, sample.flow[:2]), (2, sample.flow[2:])):
            error = (warp(sample.frames[number][None], part[None])[0] - sample.frames[1]).abs()
            assert float(error[:, 20:-20, 20:-20].max()) < 2e-3
        assert 0 < sample.t < 1


@pytest.mark.parametrize("size", [(64, 64), (96, 96), (128, 192), (320, 448), (64, 448)])
@pytest.mark.parametrize("draw", ["draw", "draw_shift"])
def test_crops_of_any_size_are_drawn(
    pool: Pool, pool_of_five: Pool, draw: str, size: tuple[int, int]
) -> None:
    """Of scenes of 96 and 64 pixels."""
    rng = np.random.default_rng(3)
    for source, four in ((pool, False), (pool_of_five, False), (pool_of_five, True)):
        for _ in range(4):
            sample = getattr(source, draw)(rng, *size, four=four)
            assert sample.frames.shape == (5 if four else 3, 3, *size)
            assert sample.flow.shape == (4, *size)
            assert sample.seen.shape == (2, *size)
            middle = len(sample.frames) // 2
            got = warp(sample.frames[middle - 1][None], sample.flow[None, :2])[0]
            still = (sample.frames[middle - 1] - sample.frames[middle]).abs().median()
            error = (got - sample.frames[middle]).abs().median()
            assert float(error) <= float(still) + 0.004


def test_four_frames_are_not_made_of_three(pool: Pool) -> None:
    with pytest.raises(InputError, match="scenes of three frames"):
        pool.draw(np.random.default_rng(0), 64, 64, four=True)


def test_enlarging_scales_the_flow() -> None:
    rng = np.random.default_rng(0)
    scene = generate(rng, smooth_texture, size=64, largest=6, translucent=0)
    small = Sample(scene.frames, scene.t, scene.flow, scene.seen)
    large = enlarged(small, 96, 160)
    assert large.flow is not None
    assert float(large.flow[0].mean()) == pytest.approx(2.5 * float(scene.flow[0].mean()), rel=0.01)
    assert float(large.flow[1].mean()) == pytest.approx(1.5 * float(scene.flow[1].mean()), rel=0.01)
    assert set(large.seen.unique().tolist()) <= {0.0, 1.0}


def test_augmentation_keeps_frames_flow_and_masks_together() -> None:
    rng = np.random.default_rng(2)
    scene = generate(
        *(np.random.default_rng(4), smooth_texture),
        size=64,
        largest=6,
        translucent=0,
        four=True,
        accelerated=1.0,
    )
    sample = Sample(scene.frames, scene.t, scene.flow, scene.seen, scene.around)

    def errors(sample: Sample) -> list[float]:
        """Of what the flows fetch: the new frame from 0 and 1; 0 from 1 and −1; 1 from 0 and 2."""
        assert sample.flow is not None
        assert sample.around is not None
        found = []
        flows = torch.cat((sample.flow, sample.around)).unflatten(0, (-1, 2))
        for flow, target, source in zip(flows, (2, 2, 1, 1, 3, 3), (1, 3, 3, 0, 1, 4), strict=True):
            got = warp(sample.frames[source][None], flow[None])[0]
            found.append(float((got - sample.frames[target]).abs().median()))
        return found

    before = errors(sample)
    assert max(before) < 0.01
    turned = set()
    for _ in range(24):
        new = augment(rng, sample)
        turned.add(round(new.t, 3))
        assert max(errors(new)) < max(before) + 0.04  # noise and light are part of it
        seen = torch.stack((new.seen[0].sum(), new.seen[1].sum())).sort().values
        assert torch.equal(seen, torch.stack((scene.seen[0].sum(), scene.seen[1].sum())).sort()[0])
    assert turned == {round(scene.t, 3), round(1 - scene.t, 3)}


# Batches ----------------------------------------------------------------------------------


def test_a_draw_depends_on_its_number_alone(tmp_path: Path, pool: Pool) -> None:
    clips = Clips([save_clip(tmp_path / "a.npy", moving(12))], 64, 64)
    options = {"synthetic": 0.5, "batch": 6, "height": 64, "width": 64, "shifted": 0.3}
    first = draw_batch(7, 3, clips=clips, pool=pool, **options)
    again = draw_batch(7, 3, clips=clips, pool=pool, **options)
    other = draw_batch(7, 4, clips=clips, pool=pool, **options)
    assert torch.equal(first.middle, again.middle)
    assert torch.equal(first.flow, again.flow)
    assert not torch.equal(first.middle, other.middle)
    assert first.frame0.shape == (6, 3, 64, 64)
    assert first.t.shape == (6, 1, 1, 1)
    assert 0 < int(first.has_flow.sum()) < 6
    assert not bool(first.flow[~first.has_flow].any())
    assert first.before is None
    assert first.to(torch.device("cpu")).around is None


def test_batches_of_four_frames(tmp_path: Path, pool_of_five: Pool) -> None:
    clips = Clips([save_clip(tmp_path / "a.npy", moving(20))], 64, 64, four=True)
    batch = draw_batch(
        *(7, 3),
        clips=clips,
        pool=pool_of_five,
        **{"synthetic": 0.5, "batch": 6, "height": 64, "width": 64},
        four=True,
    )
    assert batch.before is not None
    assert batch.after is not None
    assert batch.around is not None
    assert batch.before.shape == batch.after.shape == (6, 3, 64, 64)
    assert batch.around.shape == (6, 8, 64, 64)
    assert not bool(batch.around[~batch.has_flow].any())
    assert bool(batch.around[batch.has_flow].any())


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_any_number_of_workers_draws_the_same(pool: Pool, workers: int) -> None:
    draw = partial(draw_pool_batch, pool)
    got = list(load(draw, range(5, 12), workers=workers))
    assert len(got) == 7
    for number, batch in zip(range(5, 12), got, strict=True):
        assert torch.equal(batch.middle, draw(number).middle)


def draw_pool_batch(pool: Pool, number: int):
    if number > 90:
        raise InputError("clip.mp4: is broken")
    options = {"synthetic": 1.0, "batch": 2, "height": 64, "width": 64}
    return draw_batch(1, number, clips=None, pool=pool, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_draw_arrives_as_it_is_and_in_its_place(pool: Pool, workers: int) -> None:
    batches = load(partial(draw_pool_batch, pool), range(88, 99), workers=workers)
    for _ in range(3):
        next(batches)
    with pytest.raises(InputError, match=r"^clip\.mp4: is broken$"):
        next(batches)


def test_requests_are_taken_shortly_before_their_turn(pool: Pool) -> None:
    taken = []

    def requests():
        for number in range(1000):
            taken.append(number)
            yield number

    batches = load(partial(draw_pool_batch, pool), requests(), ahead=2)
    next(batches)
    assert len(taken) <= 4
    batches.close()


# Configuration ----------------------------------------------------------------------------


def check(folder: Path, text: str):
    from vfi_cli.training.config import read_config

    path = folder / "run.toml"
    path.write_text(text + "[loss]\nlaplacian = 1.0\n", encoding="utf-8")
    return read_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sets = 3\n", "data.sets must be a list"),
        ('sets = ["x"]\n', r"data.sets\[0\] must be a table"),
        ('sets = [{folder = "x"}]\n', r"unknown key data.sets\[0\].folder"),
        ('sets = [{layout = "vimeo", path = "."}]\n', r"data.sets\[0\].layout is 'vimeo'; there"),
        ('sets = [{layout = "ucf101", path = "."}]\n', r"data.sets\[0\].layout is 'ucf101'"),
        ('sets = [{layout = "gopro", path = "no"}]\n', r"data.sets\[0\].path: .*no; GOPRO"),
        ('sets = [{layout = "gopro"}]\n', r"data.sets\[0\].path must name the folder"),
        (
            'sets = [{layout = "gopro", path = ".", weight = 0}]\n',
            r"data.sets\[0\]: weight, reduce and gaps",
        ),
        ("gaps = []\n", "data.gaps must be numbers from 1 on"),
        ("gaps = [0]\n", "data.gaps must be numbers from 1 on"),
        ("four = 1\n", "data.four must be true or false"),
        ("scenes = 0\n", "data.scenes must be at least 1"),
        ("scene_motion = []\n", "data.scene_motion must be numbers of pixels above 0"),
        ("scene_blurred = 2.0\n", "data.scene_blurred must lie between 0 and 1"),
        ("workers = -1\n", "data.workers and data.cache_gigabytes must not be negative"),
    ],
)
def test_mistakes_in_the_data_table_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    phases = "[[phases]]\nsynthetic = 1.0\ncrop = 64\n"
    with pytest.raises((UsageError, InputError), match=message):
        check(tmp_path, f'[data]\ntextures = ["."]\n{text}{phases}')


def test_what_a_configuration_names_is_opened(tmp_path: Path, stills: Path) -> None:
    from vfi_cli.training.sources import open_sources

    (tmp_path / "clips").mkdir()
    shutil.copytree(stills, tmp_path / "stills")
    write_clip(tmp_path / "clips" / "a.mkv", frames=9, codec="ffv1", size=(128, 128))
    text = (
        '[data]\nclips = ["clips"]\ntextures = ["stills"]\nscenes = 2\nscene_size = 64\n'
        "[[phases]]\nsynthetic = 0.5\ncrop = 64\n"
    )
    lines: list[str] = []
    clips, pool = open_sources(check(tmp_path, text), lines.append)
    assert clips is not None
    assert pool is not None
    assert len(pool) == 2
    assert clips.draw(np.random.default_rng(0), 64, 64).pictures.shape == (3, 64, 64, 3)
    assert len(lines) == 3
    with pytest.raises(InputError, match=r"data\.clips .*crops of 192×192"):
        open_sources(check(tmp_path, text.replace("crop = 64", "crop = 192")))
