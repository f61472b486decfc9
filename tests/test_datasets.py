"""The published layouts, on tiny sets: which files make which clip, and what is said of missing
ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from tests import setkit
from vfi_cli.datasets import LAYOUTS, sequences
from vfi_cli.datasets.layouts import ADOBE_TEST, GOPRO_TEST, HD_CLIPS, MIDDLEBURY
from vfi_cli.errors import InputError, UsageError


def relative(root: Path, files: tuple[Path, ...]) -> list[str]:
    return [path.relative_to(root).as_posix() for path in files]


def test_vimeo_lists_decide_what_belongs_to_a_split(tmp_path: Path) -> None:
    home = setkit.vimeo(tmp_path, "triplet", ["00001/0001", "00002/0007"], "train")
    setkit.vimeo(tmp_path, "triplet", ["00001/0002"], "test")
    train = sequences("vimeo-triplet", home, "train")
    assert [clip.name for clip in train] == ["00001/0001", "00002/0007"]
    assert relative(home, train[1].files) == [f"sequences/00002/0007/im{n}.png" for n in (1, 2, 3)]
    assert [clip.name for clip in sequences("vimeo-triplet", home, "test")] == ["00001/0002"]
    above = sequences("vimeo-triplet", tmp_path, "train")  # the folder that holds the set
    assert above == train


def test_septuplets_have_seven_frames(tmp_path: Path) -> None:
    home = setkit.vimeo(tmp_path, "septuplet", ["00001/0001"], "train")
    (clip,) = sequences("vimeo-septuplet", home, "train")
    assert [path.name for path in clip.files] == [f"im{n}.png" for n in range(1, 8)]


@pytest.mark.parametrize("inside", ["", "train", "REDS_VTSR"])
def test_reds_gives_the_highest_rate_there_is(tmp_path: Path, inside: str) -> None:
    setkit.reds(tmp_path / inside, "train", ["000", "001"], last=16)
    clips = sequences("reds-vtsr", tmp_path, "train")
    assert [(clip.name, clip.rate) for clip in clips] == [("000", 60), ("001", 60)]
    assert [path.name for path in clips[0].files] == [f"{n:08}.png" for n in range(0, 17, 2)]


def test_reds_names_a_frame_that_is_missing_in_the_middle(tmp_path: Path) -> None:
    setkit.reds(tmp_path, "val", ["000"], last=16)
    (tmp_path / "val_60fps/000/00000006.png").unlink()
    with pytest.raises(InputError, match=r"00000006\.png is missing.*seungjunnah"):
        sequences("reds-vtsr", tmp_path, "val")


@pytest.mark.parametrize("inside", ["", "GOPRO_Large_all"])
def test_gopro_by_split_folder(tmp_path: Path, inside: str) -> None:
    setkit.gopro(tmp_path / inside, "train", ["GOPR0372_07_00"], count=5, first=47)
    setkit.gopro(tmp_path / inside, "test", ["GOPR0384_11_00"], count=3)
    (clip,) = sequences("gopro", tmp_path, "train")
    assert (clip.name, clip.rate) == ("GOPR0372_07_00", Fraction(240))
    assert [path.name for path in clip.files] == [f"{n:06}.png" for n in range(47, 52)]


def test_gopro_in_one_folder_goes_by_the_published_test_clips(tmp_path: Path) -> None:
    setkit.gopro(tmp_path, "GOPRO", ["GOPR0372_07_00", GOPRO_TEST[0]], count=3)
    assert [clip.name for clip in sequences("gopro", tmp_path, "test")] == [GOPRO_TEST[0]]
    assert [clip.name for clip in sequences("gopro", tmp_path, "train")] == ["GOPR0372_07_00"]


def test_gopro_tells_the_averaged_set_from_the_one_of_240_fps(tmp_path: Path) -> None:
    setkit.frames(tmp_path / "train/GOPR0372_07_00/sharp", ["000047.png"])
    with pytest.raises(InputError, match="averaged frames of GOPRO_Large; GOPRO_Large_all"):
        sequences("gopro", tmp_path, "train")


def test_a_gap_in_the_numbers_is_an_error(tmp_path: Path) -> None:
    setkit.gopro(tmp_path, "train", ["GOPR0372_07_00"], count=5)
    (tmp_path / "train/GOPR0372_07_00/000003.png").unlink()
    with pytest.raises(InputError, match=r"missing between 000002\.png and 000004\.png"):
        sequences("gopro", tmp_path, "train")


def test_adobe_videos_by_the_usual_test_list(tmp_path: Path) -> None:
    videos = tmp_path / "original_high_fps_videos"
    videos.mkdir()
    for name in (*ADOBE_TEST, "IMG_0002.mov", "IMG_0001.mov"):
        (videos / name).touch()
    test = sequences("adobe240", tmp_path, "test")
    assert [clip.video for clip in test] == [videos / name for name in ADOBE_TEST]
    assert all(clip.rate == 240 and not clip.files for clip in test)
    train = sequences("adobe240", tmp_path, "train")
    assert [clip.name for clip in train] == ["IMG_0001", "IMG_0002"]
    (tmp_path / "train_list.txt").write_text("IMG_0002.mov\n")
    assert [clip.name for clip in sequences("adobe240", tmp_path, "train")] == ["IMG_0002"]
    (videos / ADOBE_TEST[3]).unlink()
    with pytest.raises(InputError, match=rf"{ADOBE_TEST[3]} is missing"):
        sequences("adobe240", tmp_path, "test")


def test_adobe_as_extracted_frames(tmp_path: Path) -> None:
    setkit.frames(tmp_path / "test/GOPR9635", [f"{n:05}.png" for n in range(3)])
    setkit.frames(tmp_path / "validation/IMG_0001", [f"{n:05}.png" for n in range(2)])
    (clip,) = sequences("adobe240", tmp_path, "test")
    assert (clip.name, len(clip.files)) == ("GOPR9635", 3)
    assert [clip.name for clip in sequences("adobe240", tmp_path, "val")] == ["IMG_0001"]


def test_x4k_folders_and_their_lengths(tmp_path: Path) -> None:
    setkit.x_train(tmp_path, ["002/occ008.320"])
    setkit.x_test(tmp_path, ["Type1/TEST01_003_f0433", "Type2/TEST06_001_f0273"])
    (clip,) = sequences("x4k1000fps", tmp_path, "train")
    assert (clip.name, len(clip.files), clip.rate) == ("002/occ008.320", 65, 1000)
    test = sequences("x4k1000fps", tmp_path, "test")
    assert [clip.name for clip in test] == ["Type1/TEST01_003_f0433", "Type2/TEST06_001_f0273"]
    (tmp_path / "test/Type2/TEST06_001_f0273/0032.png").unlink()
    with pytest.raises(InputError, match=r"TEST06_001_f0273/0032\.png is missing.*XVFI"):
        sequences("x4k1000fps", tmp_path, "test")


def test_x4k_as_encoded(tmp_path: Path) -> None:
    video = tmp_path / "encoded_train/002/occ008.320.mp4"
    video.parent.mkdir(parents=True)
    video.touch()
    (clip,) = sequences("x4k1000fps", tmp_path, "train")
    assert (clip.name, clip.video, clip.files) == ("002/occ008.320", video, ())


def test_ucf101_and_its_missing_frame(tmp_path: Path) -> None:
    setkit.ucf101(tmp_path, ["1", "11", "2"])
    clips = sequences("ucf101", tmp_path, "test")
    assert [clip.name for clip in clips] == ["1", "2", "11"]
    assert clips == sequences("ucf101", tmp_path / "ucf101_interp_ours", "test")
    assert [path.stem for path in clips[0].files] == ["frame_00", "frame_01_gt", "frame_02"]
    (tmp_path / "ucf101_interp_ours/2/frame_01_gt.png").unlink()
    with pytest.raises(InputError, match=r"2/frame_01_gt\.png is missing"):
        sequences("ucf101", tmp_path, "test")


def test_middlebury_has_its_twelve_scenes(tmp_path: Path) -> None:
    setkit.middlebury(tmp_path, MIDDLEBURY)
    clips = sequences("middlebury", tmp_path, "test")
    assert len(clips) == 12
    assert relative(tmp_path, clips[0].files) == [
        "other-data/Beanbags/frame10.png",
        "other-gt-interp/Beanbags/frame10i11.png",
        "other-data/Beanbags/frame11.png",
    ]


@pytest.mark.parametrize("lists", ["", "eval_modes"])
def test_snu_film_resolves_what_its_lists_name(tmp_path: Path, lists: str) -> None:
    setkit.snu_film(tmp_path, triplets=2)
    if lists:
        (tmp_path / lists).mkdir()
        for path in tmp_path.glob("test-*.txt"):
            path.rename(tmp_path / lists / path.name)
    clips = sequences("snu-film", tmp_path, "test")
    assert len(clips) == 8
    hard = [clip for clip in clips if clip.name.startswith("hard/")]
    assert hard[0].name == "hard/001 GOPRO_test/GOPR0384_11_00/000009"
    assert [path.stem for path in hard[0].files] == ["000005", "000009", "000013"]


def test_snu_film_names_a_line_that_makes_no_sense(tmp_path: Path) -> None:
    setkit.snu_film(tmp_path)
    (tmp_path / "test-hard.txt").write_text("data/SNU-FILM/test/a.png data/SNU-FILM/test/b.png\n")
    with pytest.raises(InputError, match=r"test-hard\.txt: line 1"):
        sequences("snu-film", tmp_path, "test")


def test_hd_raw_or_y4m(tmp_path: Path) -> None:
    for folder, name, _, _ in HD_CLIPS:
        path = tmp_path / folder / f"{name}.yuv"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "HD544p_GT/Sintel_Alley2_1280x544.yuv").rename(
        tmp_path / "HD544p_GT/Sintel_Alley2_1280x544.y4m"
    )
    clips = {clip.name: clip for clip in sequences("hd", tmp_path, "test")}
    assert len(clips) == 11
    assert clips["HD1080p_GT/BlueSky"].raw_size == (1920, 1080)
    video = clips["HD544p_GT/Sintel_Alley2_1280x544"].video
    assert video is not None
    assert video.suffix == ".y4m"


def test_atd_prefers_the_original_size_and_takes_jpeg(tmp_path: Path) -> None:
    setkit.atd(tmp_path, "test_2k_540p", ["Disney_v4_0_s0"])
    (clip,) = sequences("atd-12k", tmp_path, "test")
    assert clip.files[0].parent.parent.name == "test_2k_540p"
    setkit.atd(tmp_path, "test_2k_original", ["Disney_v4_0_s0"], ".jpg")
    (clip,) = sequences("atd-12k", tmp_path, "test")
    assert clip.files[1] == tmp_path / "test_2k_original/Disney_v4_0_s0/frame2.jpg"


def test_davis_by_its_image_sets(tmp_path: Path) -> None:
    home = setkit.davis(tmp_path / "DAVIS", {"train": ["bear"], "val": ["bmx-trees"]}, count=4)
    (clip,) = sequences("davis", tmp_path, "val")
    assert (clip.name, len(clip.files)) == ("bmx-trees", 4)
    (home / "ImageSets/2017/train.txt").write_text("bear\ncows\n")
    with pytest.raises(InputError, match=r"480p/cows is missing"):
        sequences("davis", tmp_path, "train")


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_an_empty_folder_is_told_where_the_set_is(tmp_path: Path, name: str) -> None:
    layout = LAYOUTS[name]
    with pytest.raises(InputError) as caught:
        sequences(name, tmp_path, layout.splits[0])
    assert layout.page in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(InputError, match=r"nowhere is missing"):
        sequences(name, tmp_path / "nowhere", layout.splits[0])


def test_what_is_unknown_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose among vimeo-triplet"):
        sequences("vimeo", tmp_path, "test")
    with pytest.raises(UsageError, match="no split 'val'; it has train, test"):
        sequences("vimeo-triplet", tmp_path, "val")
