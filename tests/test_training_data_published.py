"""Published data sets as training data, on tiny sets in the true layouts."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import setkit
from tests.media import write_clip
from vfi_cli.errors import InputError, OutputError, UsageError
from vfi_cli.training.cache import decode_picture
from vfi_cli.training.clips import Clips
from vfi_cli.training.config import read_config
from vfi_cli.training.published import PictureStore, open_set

SIZE = (setkit.HEIGHT, setkit.WIDTH)


def vimeo(root: Path, kind: str) -> Path:
    return setkit.vimeo(root, kind, ["00001/0001", "00001/0002"], "train")


SETS: dict[str, Callable[[Path], Path]] = {
    "vimeo-triplet": lambda root: vimeo(root, "triplet"),
    "vimeo-septuplet": lambda root: vimeo(root, "septuplet"),
    "reds-vtsr": lambda root: setkit.reds(root, "train", ["000", "001"], last=40),
    "gopro": lambda root: setkit.gopro(root, "train", ["GOPR0372_07_00", "GOPR0372_07_01"], 25),
    "adobe240": lambda root: setkit.gopro(root, "train", ["IMG_0001", "IMG_0002"], 25),
    "x4k1000fps": lambda root: setkit.x_train(root, ["002/occ008.320"]),
}
#: Frames from the one input to the other that each set is trained on, and the time from frame
#: to frame in the tiny sets.
STEPS = {
    "vimeo-triplet": ({2}, 1),
    "vimeo-septuplet": ({2, 3, 4, 5, 6}, 1),
    "reds-vtsr": ({2, 4}, 0.5),
    "gopro": ({8}, 1),
    "adobe240": ({8}, 1),
    "x4k1000fps": (set(range(2, 33)), 1),
}


def opened(layout: str, root: Path, cache: Path, **options: object) -> Clips:
    return open_set(layout, root, cache, *SIZE, **{"gigabytes": 1.0, **options})


@functools.cache
def numbers(step: float) -> dict[bytes, int]:
    """Numbers of frames in their clips, by what they show."""
    return {setkit.picture(n * step, seed).tobytes(): n for seed in (0, 1) for n in range(65)}


def number_of(picture: NDArray[np.uint8], step: float) -> int:
    """Which frame of its clip a whole picture is."""
    return numbers(step)[picture.tobytes()]


def draw_all(clips: Clips) -> None:
    for seed in range(30):
        clips.draw(np.random.default_rng(seed), *SIZE)


@pytest.mark.parametrize("layout", SETS)
def test_windows_of_a_set(tmp_path: Path, layout: str) -> None:
    clips = opened(layout, SETS[layout](tmp_path / "set"), tmp_path / "cache")
    steps, time = STEPS[layout]
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(40):
        cut = clips.draw(rng, *SIZE)
        a, m, b = (number_of(picture, time) for picture in cut.pictures)
        assert a < m < b
        assert cut.t == pytest.approx((m - a) / (b - a))
        found.add(b - a)
    assert found <= steps
    assert len(found) >= min(len(steps), 4)


@pytest.mark.parametrize("layout", ["vimeo-septuplet", "gopro", "x4k1000fps"])
def test_windows_of_four_of_a_set(tmp_path: Path, layout: str) -> None:
    clips = opened(layout, SETS[layout](tmp_path / "set"), tmp_path / "cache", four=True)
    rng = np.random.default_rng(0)
    for _ in range(10):
        cut = clips.draw(rng, *SIZE, four=True)
        before, a, m, b, after = (number_of(picture, 1) for picture in cut.pictures)
        assert a - before == b - a == after - b
        assert cut.t == pytest.approx((m - a) / (b - a))


def test_triplets_are_too_short_for_four(tmp_path: Path) -> None:
    home = SETS["vimeo-triplet"](tmp_path)
    with pytest.raises(InputError, match=r"clips of vimeo-triplet have 3 frames, .* needs 7"):
        opened("vimeo-triplet", home, tmp_path / "cache", four=True)


def test_gaps_and_reduction_can_be_chosen(tmp_path: Path) -> None:
    home = SETS["gopro"](tmp_path)
    rng = np.random.default_rng(0)
    clips = opened("gopro", home, tmp_path / "cache", gaps=(3,))
    first, *_, last = (number_of(picture, 1) for picture in clips.draw(rng, *SIZE).pictures)
    assert last - first == 4
    half = open_set("gopro", home, tmp_path / "cache", 16, 24, gigabytes=1.0, factor=2)
    assert half.draw(rng, 16, 24).pictures.shape == (3, 16, 24, 3)


def test_videos_of_a_set_are_decoded_until_the_cache_is_full(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "original_high_fps_videos").mkdir(parents=True)
    for name in ("IMG_0001.mov", "IMG_0002.mov", "IMG_0015.mov"):
        path = root / "original_high_fps_videos" / name
        write_clip(path, frames=30, size=(64, 48), codec="libx264")
    lines: list[str] = []
    clips = open_set(
        *("adobe240", root, tmp_path / "cache", 48, 64), gigabytes=1.0, report=lines.append
    )
    assert len(clips.clips) == 2  # IMG_0015 is for testing
    assert clips.draw(np.random.default_rng(0), 48, 64).pictures.shape == (3, 48, 64, 3)
    lines.clear()
    clips = open_set(
        *("adobe240", root, tmp_path / "cache", 48, 64), gigabytes=1e-7, report=lines.append
    )
    assert len(clips.clips) == 1
    assert lines == ["videos used: 1 of 2 (data.cache_gigabytes)"]


def test_as_many_pictures_are_kept_as_the_limit_allows(tmp_path: Path) -> None:
    home = SETS["x4k1000fps"](tmp_path / "set")
    whole = 65 * setkit.WIDTH * setkit.HEIGHT * 3 / 1e9
    kept = []
    for share in (0.0, 0.4, 1.0):
        cache = tmp_path / f"cache {share}"
        lines: list[str] = []
        clips = opened("x4k1000fps", home, cache, gigabytes=share * whole, report=lines.append)
        assert f"{100 * share:.0f} % are kept" in lines[0]
        pictures = [clips.clips[0].picture(number) for number in range(65)]
        again = [clips.clips[0].picture(number) for number in range(65)]
        for number, pair in enumerate(zip(pictures, again, strict=True)):
            for picture in pair:
                np.testing.assert_array_equal(picture, setkit.picture(number))
        kept.append(len(list(cache.rglob("*.npy"))))
    assert kept[0] == 0
    assert kept[1] == pytest.approx(26, abs=12)
    assert kept[2] == 65


def test_kept_pictures_are_not_decoded_again_unless_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    setkit.save(file, setkit.picture(0))
    store = pickle.loads(pickle.dumps(PictureStore(tmp_path / "cache", 1.0)))
    store.read(file)
    assert isinstance(store.read(file), np.memmap)
    setkit.save(file, setkit.picture(5, 3, 56, 40))
    np.testing.assert_array_equal(store.read(file), setkit.picture(5, 3, 56, 40))


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    home = SETS["vimeo-triplet"](tmp_path)
    broken = home / "sequences" / "00001" / "0002" / "im2.png"
    data = broken.read_bytes()
    for content, message in (
        (data[: len(data) // 2], r"0002/im2\.png: cannot be decoded"),
        (b"junk", r"0002/im2\.png: cannot be decoded"),
    ):
        broken.write_bytes(content)
        clips = opened("vimeo-triplet", home, tmp_path / "cache")
        with pytest.raises(InputError, match=message):
            draw_all(clips)
    setkit.save(broken, setkit.picture(0, 0, 40, 32))
    clips = opened("vimeo-triplet", home, tmp_path / "cache")
    with pytest.raises(InputError, match=r"0002/im2\.png: is 40×32, the first frame .* 48×32"):
        draw_all(clips)


def test_missing_files_and_unknown_sets_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'vimeo' is not a data set"):
        opened("vimeo", tmp_path, tmp_path)
    with pytest.raises(InputError, match=r"tri_trainlist\.txt is missing"):
        opened("vimeo-triplet", tmp_path, tmp_path)
    home = SETS["vimeo-triplet"](tmp_path / "set")
    with pytest.raises(InputError, match="crops of 64×64"):
        open_set("vimeo-triplet", home, tmp_path / "cache", 64, 64, gigabytes=1.0)
    (tmp_path / "file").write_text("in the way")
    store = PictureStore(tmp_path / "file", 1.0)
    with pytest.raises(OutputError, match=r"data\.cache"):
        store.read(home / "sequences" / "00001" / "0001" / "im1.png")
    with pytest.raises(InputError, match=r"nothing\.png: cannot be read"):
        store.read(tmp_path / "nothing.png")
    with pytest.raises(InputError, match=r"nothing\.png: cannot be decoded"):
        decode_picture(tmp_path / "nothing.png")


def test_a_configuration_trains_on_sets_by_weight(tmp_path: Path) -> None:
    from vfi_cli.training.sources import open_sources

    setkit.vimeo(tmp_path / "a", "triplet", ["00001/0001"], "train")
    setkit.gopro(tmp_path / "b", "train", ["GOPR0372_07_00"], 25)
    for path in (tmp_path / "a").rglob("*.png"):
        setkit.save(path, setkit.picture(0, 0, 64, 64))
    for number, path in enumerate(sorted((tmp_path / "b").rglob("*.png"))):
        setkit.save(path, setkit.picture(number, 1, 64, 64))
    config = tmp_path / "run.toml"
    config.write_text(
        '[data]\nsets = [{layout = "vimeo-triplet", path = "a"}, '
        '{layout = "gopro", path = "b", weight = 3}]\n'
        "[[phases]]\nsynthetic = 0.0\ncrop = 64\n[loss]\nlaplacian = 1.0\n"
    )
    clips, pool = open_sources(read_config(config))
    assert pool is None
    assert clips is not None
    rng = np.random.default_rng(0)
    still = setkit.picture(0, 0, 64, 64)
    drawn = [clips.draw(rng, 64, 64).pictures[0] for _ in range(80)]
    assert sum(np.array_equal(picture, still) for picture in drawn) == pytest.approx(20, abs=12)
    config.write_text(config.read_text().replace('path = "b"', 'path = "cache"'))
    with pytest.raises(InputError, match=r"^data\.sets\[1\]: "):
        open_sources(read_config(config))
