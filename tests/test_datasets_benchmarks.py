"""What the benchmarks give and ask for, and how their pictures are read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import setkit
from vfi_cli.datasets import layouts
from vfi_cli.datasets.benchmarks import (
    BENCHMARKS,
    Item,
    check_complete,
    incomplete,
    items,
)
from vfi_cli.datasets.clips import FrameSequence, Picture, frame_count
from vfi_cli.datasets.layouts import LAYOUTS
from vfi_cli.datasets.pictures import PictureReader
from vfi_cli.datasets.published import FIGURES, published
from vfi_cli.errors import InputError, UsageError
from vfi_cli.quality.metrics import METRICS

HALF = Fraction(1, 2)


def stems(item: Item) -> tuple[str | None, ...]:
    """before, first, targets, second, after."""
    row = (item.before, item.first, *(p for _, p in item.targets), item.second, item.after)
    return tuple(None if picture is None else picture.path.stem for picture in row)


def test_triplets_ask_for_the_middle(tmp_path: Path) -> None:
    setkit.vimeo(tmp_path, "triplet", ["00001/0001", "00001/0002"])
    first, _ = items("vimeo-triplet", tmp_path)
    assert first.name == first.clip == "00001/0001"
    assert stems(first) == (None, "im1", "im2", "im3", None)
    assert first.targets[0][0] == HALF


def test_septuplets_give_four_frames(tmp_path: Path) -> None:
    setkit.vimeo(tmp_path, "septuplet", ["00001/0001"])
    (item,) = items("vimeo-septuplet", tmp_path)
    assert stems(item) == ("im1", "im3", "im4", "im5", "im7")


def test_reds_goes_from_15_to_30_fps_with_what_lies_around(tmp_path: Path) -> None:
    setkit.reds(tmp_path, "val", ["002", "005"], last=24)
    found = items("reds-vtsr", tmp_path)
    assert [item.name for item in found[:3]] == ["002/00000004", "002/00000012", "002/00000020"]
    assert stems(found[0]) == (None, "00000000", "00000004", "00000008", "00000016")
    assert stems(found[1]) == ("00000000", "00000008", "00000012", "00000016", "00000024")
    assert found[0].first.path.parts[-3] == "val_15fps"
    assert found[0].targets[0][1].path.parts[-3] == "val_30fps"


def test_reds5_misses_a_clip_that_is_not_there_by_its_first_file(tmp_path: Path) -> None:
    setkit.reds(tmp_path, "val", ["002", "005", "010", "017"], last=8)
    found = items("reds-vtsr5", tmp_path)
    usable, wrong = check_complete("reds-vtsr5", found)
    assert {item.clip for item in usable} == {"002", "005", "010", "017"}
    assert wrong == (f"{tmp_path / 'val_15fps/025/00000000.png'} is missing",)


def test_snu_film_finds_the_frames_around_its_triplets(tmp_path: Path) -> None:
    setkit.snu_film(tmp_path)
    found = items("snu-film-hard", tmp_path)
    assert stems(found[0]) == (None, "000005", "000009", "000013", "000021")
    assert stems(found[1]) == (None, "000007", "000011", "000015", "000023")
    assert stems(items("snu-film-easy", tmp_path)[0])[0] == "000006"


def test_gopro_takes_every_eighth_frame(tmp_path: Path) -> None:
    setkit.gopro(tmp_path, "test", ["GOPR0384_11_00"], count=18)
    first, second = items("gopro", tmp_path)
    assert stems(first)[1:] == tuple(f"{n:06}" for n in (*range(1, 10), 17))
    assert stems(second) == (*(f"{n:06}" for n in (1, *range(9, 18))), None)
    assert [t for t, _ in second.targets] == [Fraction(k, 8) for k in range(1, 8)]


def test_x_test_spans_all_33_frames(tmp_path: Path) -> None:
    setkit.x_test(tmp_path, ["Type1/TEST01_003_f0433"])
    (item,) = items("x-test", tmp_path)
    assert stems(item)[1:-1] == tuple(f"{n:04}" for n in range(0, 33, 4))
    assert item.targets[2][0] == Fraction(3, 8)


def test_middlebury_and_atd_and_ucf(tmp_path: Path) -> None:
    setkit.middlebury(tmp_path, layouts.MIDDLEBURY)
    assert stems(items("middlebury", tmp_path)[0])[1:4] == ("frame10", "frame10i11", "frame11")
    setkit.atd(tmp_path, "test_2k_540p", ["a"])
    assert stems(items("atd-12k-540p", tmp_path)[0])[1:4] == ("frame1", "frame2", "frame3")
    with pytest.raises(InputError, match="test_2k_original is missing"):
        items("atd-12k", tmp_path)
    setkit.ucf101(tmp_path, ["1"])
    assert stems(items("ucf101", tmp_path)[0])[1:4] == ("frame_00", "frame_01_gt", "frame_02")


def test_davis_takes_every_second_frame_of_all_clips(tmp_path: Path) -> None:
    setkit.davis(tmp_path, {"train": ["bear"], "val": ["cows"]}, count=6)
    found = items("davis", tmp_path)
    assert [item.clip for item in found] == ["bear", "bear", "cows", "cows"]
    assert stems(found[0]) == (None, "00000", "00001", "00002", "00004")


def test_a_clip_with_a_missing_file_is_left_out_as_a_whole(tmp_path: Path) -> None:
    setkit.vimeo(tmp_path, "triplet", ["00001/0001", "00001/0002"])
    gone = tmp_path / "vimeo_triplet/sequences/00001/0002/im2.png"
    gone.unlink()
    usable, wrong = check_complete("vimeo-triplet", items("vimeo-triplet", tmp_path))
    assert [item.clip for item in usable] == ["00001/0001"]
    assert wrong == (f"{gone} is missing", "there are 2 clips, not 3782")
    text = str(incomplete("vimeo-triplet", wrong))
    assert str(gone) in text
    assert "1 more" in text
    assert LAYOUTS["vimeo-triplet"].page in text


def test_a_whole_set_is_whole(tmp_path: Path) -> None:
    setkit.middlebury(tmp_path, layouts.MIDDLEBURY)
    found = items("middlebury", tmp_path)
    assert check_complete("middlebury", found) == (found, ())


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_every_benchmark_is_described(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.layout in LAYOUTS
    assert set(benchmark.metrics) <= set(METRICS)
    assert benchmark.page.startswith("http")
    assert benchmark.judges


def test_published_figures_belong_to_benchmarks_and_their_metrics() -> None:
    for figure in FIGURES:
        assert figure.metric in BENCHMARKS[figure.benchmark].metrics, figure
    assert {(f.model, f.value) for f in published("middlebury")} >= {("RIFE", 1.96)}
    assert published("snu-film-extreme")[0].value == 24.84
    assert [(f.group, f.value) for f in published("hd-4x")] == [
        ("544p", 22.95),
        ("720p", 31.87),
        ("1080p", 34.25),
    ]
    assert published("davis") == ()


def test_an_unknown_benchmark_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose among vimeo-triplet"):
        items("vimeo", tmp_path)


# Pictures


def write_video(path: Path, count: int, width: int = 48, height: int = 32) -> list[np.ndarray]:
    """A lossless RGB clip; the frames that it holds."""
    frames = [setkit.picture(n, 0, width, height) for n in range(count)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=240)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return frames


def test_frames_of_a_video_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    frames = write_video(path, 6)
    assert frame_count(FrameSequence("clip", video=path)) == 6
    with PictureReader() as reader:
        for wanted in ((0, 4), (4, 5, 2), (1,)):
            found = reader.read(Picture(path, n) for n in wanted)
            for n in wanted:
                np.testing.assert_array_equal(found[Picture(path, n)], frames[n])
        with pytest.raises(InputError, match="has 6 frames, no frame 6"):
            reader.read([Picture(path, 6)])


def test_images_of_all_kinds_become_8_bit_rgb(tmp_path: Path) -> None:
    import PIL.Image

    pixels = setkit.picture(0)
    PIL.Image.fromarray(pixels).convert("RGBA").save(tmp_path / "alpha.png")
    PIL.Image.fromarray(pixels[..., 0]).save(tmp_path / "grey.png")
    PIL.Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    with PictureReader() as reader:
        read = {
            p.path.stem: rgb
            for p, rgb in reader.read(
                Picture(tmp_path / f"{name}.png") for name in ("alpha", "grey", "deep")
            ).items()
        }
    np.testing.assert_array_equal(read["alpha"], pixels)
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    np.testing.assert_array_equal(read["grey"], grey)
    np.testing.assert_array_equal(read["deep"], grey)


def i420(frames: list[np.ndarray]) -> list[bytes]:
    return [
        av.VideoFrame.from_ndarray(frame, format="rgb24")
        .reformat(format="yuv420p", dst_color_range="JPEG", dst_colorspace="ITU601")
        .to_ndarray()
        .tobytes()
        for frame in frames
    ]


def test_hd_reads_raw_and_y4m_alike_and_as_the_papers_do(tmp_path: Path) -> None:
    from skimage.color import yuv2rgb

    size = 64, 36
    data = i420([setkit.picture(n, 0, *size) for n in range(3)])
    raw, y4m = tmp_path / "clip.yuv", tmp_path / "clip.y4m"
    raw.write_bytes(b"".join(data))
    header = b"YUV4MPEG2 W64 H36 F25:1 Ip A1:1 C420jpeg\n"
    y4m.write_bytes(header + b"".join(b"FRAME\n" + planes for planes in data))
    clips = [FrameSequence("clip", video=path, raw_size=size) for path in (raw, y4m)]
    assert [frame_count(clip) for clip in clips] == [3, 3]
    with PictureReader() as reader:
        pictures = [Picture(path, 2, size) for path in (raw, y4m)]
        first, second = (reader.read([picture])[picture] for picture in pictures)
    np.testing.assert_array_equal(first, second)
    luma = np.frombuffer(data[2], np.uint8)[: 64 * 36].reshape(36, 64)
    weights = np.array([0.299, 0.587, 0.114])
    inner = (first > 0).all(axis=2) & (first < 255).all(axis=2)
    # The luma survives but for the cutting off, half a code on average.
    assert np.abs(first @ weights + 0.5 - luma)[inner].max() < 1.5
    flat = np.full((1, 1, 3), [100 / 255, 60 / 255 - 0.5, 180 / 255 - 0.5])
    expected = (255 * np.clip(yuv2rgb(flat), 0, 1)).astype(np.uint8)[0, 0]
    raw.write_bytes(bytes([100]) * 64 * 36 + bytes([60]) * 32 * 18 + bytes([180]) * 32 * 18)
    with PictureReader() as reader:
        picture = Picture(raw, 0, size)
        np.testing.assert_array_equal(reader.read([picture])[picture][5, 5], expected)
        with pytest.raises(InputError, match=r"clip\.yuv, frame 1: cannot be read"):
            reader.read([Picture(raw, 1, size)])


@pytest.fixture
def tiny_hd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    clips = (("HD720p_GT", "parkrun_1280x720_50", 64, 36), ("HD544p_GT", "Sintel", 32, 16))
    monkeypatch.setattr(layouts, "HD_CLIPS", clips)
    for folder, name, width, height in clips:
        (tmp_path / folder).mkdir()
        frames = [setkit.picture(n, 0, width, height) for n in range(10)]
        (tmp_path / folder / f"{name}.yuv").write_bytes(b"".join(i420(frames)))
    return tmp_path


def test_hd_items_and_their_classes(tiny_hd: Path) -> None:
    found = items("hd-4x", tiny_hd)
    assert [(i.name, i.group) for i in found] == [
        ("HD720p_GT/parkrun_1280x720_50/00000", "720p"),
        ("HD720p_GT/parkrun_1280x720_50/00004", "720p"),
        ("HD544p_GT/Sintel/00000", "544p"),
        ("HD544p_GT/Sintel/00004", "544p"),
    ]
    assert [p.index for _, p in found[1].targets] == [5, 6, 7]
    assert found[0].after is not None
    assert (found[0].before, found[0].after.index, found[1].after) == (None, 8, None)
    (tiny_hd / "HD544p_GT/Sintel.yuv").unlink()
    usable, wrong = check_complete("hd-4x", items("hd-4x", tiny_hd))
    assert {item.group for item in usable} == {"720p"}
    assert wrong[0].endswith("Sintel.yuv is missing")


def test_the_page_about_scoring_names_every_benchmark_and_measure() -> None:
    page = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text()
    for name in (*BENCHMARKS, *METRICS):
        short = name.removeprefix("snu-film")
        assert f"`{name}`" in page or f"`{short}`" in page, name
