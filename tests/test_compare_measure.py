"""``vfi compare`` without a video: the figures, the page, and what a program gets of them."""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.browser import Browser
from tests.comparekit import noise_clip
from tests.media import write_clip
from vfi_cli.__main__ import main
from vfi_cli.compare.inputs import Alignment, Input, align
from vfi_cli.compare.measure import (
    WORST,
    Comparison,
    MeasureOptions,
    decibels,
    mean_square,
    measure,
    plan_measurement,
)
from vfi_cli.compare.similarity import ssim
from vfi_cli.frame import Samples
from vfi_cli.io.formats import pack
from vfi_cli.quality import image


def measured(*paths: Path, **options: object) -> Comparison:
    wanted = MeasureOptions(**options)  # type: ignore[arg-type]
    return measure(plan_measurement(paths, wanted), wanted)


def grey_clip(path: Path, levels: list[int], *, rate: Fraction | int = 25, bits: int = 8) -> Path:
    """A lossless clip whose frame n has one value everywhere."""
    pix_fmt, dtype = ("gray", np.uint8) if bits == 8 else (f"gray{bits}le", np.uint16)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=rate, width=64, height=48)
        stream.pix_fmt = pix_fmt
        stream.codec_context.color_range = 2
        for number, level in enumerate(levels):
            frame = pack((np.full((48, 64), level, dtype),), pix_fmt, 64, 48)
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


# the figures


def test_psnr_is_that_of_the_mean_squared_error(tmp_path: Path) -> None:
    first = grey_clip(tmp_path / "a.mkv", [100, 100, 100, 100])
    second = grey_clip(tmp_path / "b.mkv", [103, 100, 100, 95])
    found = measured(first, second)
    (one,) = found.differences
    assert [round(s * 255**2, 6) for s in one.squares] == [9, 0, 0, 25]
    assert one.psnr == pytest.approx(10 * math.log10(255**2 / (34 / 4)))
    assert one.psnrs[1] == math.inf
    assert found.lowest(one) == (Fraction(3, 25), pytest.approx(10 * math.log10(255**2 / 25)))


def test_depth_counts(tmp_path: Path) -> None:
    """A step of ten bits is a quarter of one of eight, and is not rounded away."""
    first = grey_clip(tmp_path / "a.mkv", [400], bits=10)
    second = grey_clip(tmp_path / "b.mkv", [401], bits=10)
    assert measured(first, second).differences[0].psnr == pytest.approx(20 * math.log10(1023))


def test_equal_videos_are_equal(tmp_path: Path) -> None:
    clip = noise_clip(tmp_path / "a.mkv", seed=1)
    (one,) = measured(clip, clip).differences
    assert one.psnr == one.psnr_at_equal_times == math.inf
    assert one.mean_ssim == 1
    assert one.alignment == Alignment(4, 0, 0)
    assert one.worst == []


def test_an_output_against_its_source(tmp_path: Path) -> None:
    """Frames at equal times are told apart from those in between."""
    source = grey_clip(tmp_path / "25.mkv", list(range(0, 200, 20)), rate=25)
    levels = [int(k * 25 / 60 * 20) for k in range(24)]
    output = grey_clip(tmp_path / "60.mkv", levels, rate=60)
    found = measured(source, output)
    (one,) = found.differences
    assert found.frames == 24
    assert one.alignment == Alignment(common=2, only_first=8, only_second=22)
    assert one.psnr_at_equal_times == math.inf
    expected = [(levels[k] - 20 * (k * 25 // 60)) ** 2 / 255**2 for k in range(24)]
    assert list(one.squares) == pytest.approx(expected, abs=1e-9)


def test_frames_that_one_alone_has(tmp_path: Path) -> None:
    stamps = [0, 40, 80, 160, 200, 240]  # milliseconds; the fourth frame was lost
    lost = write_clip(
        tmp_path / "l.mkv", codec="ffv1", pts=stamps, time_base=Fraction(1, 1000), rate=25
    )
    whole = write_clip(tmp_path / "w.mkv", codec="ffv1", frames=9)
    first, second = Input.open(lost), Input.open(whole)
    assert align(first, second, Fraction(0), None) == Alignment(6, 0, 3)
    assert align(first, second, Fraction(0), Fraction(1, 10)) == Alignment(3, 0, 0)
    assert align(second, first, Fraction(1, 10), Fraction(2, 10)) == Alignment(1, 1, 0)


def test_rounded_times_of_a_variable_rate_are_the_same_times(tmp_path: Path) -> None:
    ticks = [0, 3003, 6006, 12012, 18018, 21021, 30030]  # of 1/90000 s
    exact = write_clip(tmp_path / "e.mp4", pts=ticks, time_base=Fraction(1, 90000), rate=30)
    rounded = write_clip(
        tmp_path / "r.mkv",
        pts=[round(t / 90) for t in ticks],
        time_base=Fraction(1, 1000),
        rate=30,
    )
    first, second = Input.open(exact), Input.open(rounded)
    assert first.info.variable
    assert second.info.variable
    assert align(first, second, Fraction(0), None) == Alignment(7, 0, 0)


def test_each_video_is_measured_against_the_first(tmp_path: Path) -> None:
    clips = [grey_clip(tmp_path / f"{n}.mkv", [100 + n] * 3) for n in (0, 1, 10)]
    found = measured(*clips)
    psnrs = [one.psnr for one in found.differences]
    assert psnrs == pytest.approx([20 * math.log10(255), 20 * math.log10(25.5)])


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (48, 64), (61, 97)])
@pytest.mark.parametrize("amount", [0, 3, 40])
def test_ssim_agrees_with_the_measure_of_single_pictures(
    size: tuple[int, int], amount: int
) -> None:
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3))
    first = np.kron(coarse, np.ones((8, 8, 1)))[: size[0], : size[1]].astype(np.uint8)
    second = np.clip(first + random.normal(0, amount, first.shape), 0, 255).astype(np.uint8)
    # float32 holds squares of numbers up to a half to 6e-8; SSIM divides by 9e-4 at the least.
    assert ssim(_planar(first), _planar(second), 255) == pytest.approx(
        image.ssim(first, second), abs=1e-4
    )


def _planar(picture: Samples) -> Samples:
    return picture.transpose(2, 0, 1)


def test_ssim_of_deep_pictures() -> None:
    random = np.random.default_rng(5)
    first = random.integers(0, 256, (3, 32, 40)).astype(np.uint8)
    second = random.integers(0, 256, (3, 32, 40)).astype(np.uint8)
    deep = [picture.astype(np.uint16) * 257 for picture in (first, second)]
    assert ssim(*deep, 65535) == pytest.approx(ssim(first, second, 255), abs=1e-6)


def test_mean_square_of_the_largest_values() -> None:
    white: Samples = np.full((3, 40, 40), 65535, np.uint16)
    assert mean_square(white, np.zeros_like(white), 65535) == pytest.approx(1)
    assert decibels(1) == 0


def test_the_worst_moments_are_kept_apart_from_each_other(tmp_path: Path) -> None:
    levels = [0] * 400
    for frame, level in ((10, 50), (12, 60), (14, 40), (100, 90), (200, 30), (300, 70)):
        levels[frame] = level
    first = grey_clip(tmp_path / "a.mkv", [0] * 400)
    second = grey_clip(tmp_path / "b.mkv", levels)
    (one,) = measured(first, second, pictures=True, ssim=False).differences
    assert one.mean_ssim is None
    assert [moment.time * 25 for moment in one.worst] == [100, 300, 12, 200]
    assert [moment.second[0, 0, 0] for moment in one.worst] == [90, 70, 60, 30]
    assert all(moment.first.dtype == np.uint8 for moment in one.worst)
    many = grey_clip(tmp_path / "c.mkv", [n // 20 + 1 if n % 20 == 0 else 0 for n in range(400)])
    (one,) = measured(first, many, pictures=True, ssim=False).differences
    assert [moment.second[0, 0, 0] for moment in one.worst] == list(range(20, 20 - WORST, -1))


# the command


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = grey_clip(tmp_path / "a.mkv", [100] * 5)
    second = grey_clip(tmp_path / "b.mkv", [100, 100, 110, 100, 100, 100])
    assert main(["compare", str(first), str(second), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["compare", str(first), str(second)]) == 0
    said = capsys.readouterr().out
    split = (re.split("  +", line.strip()) for line in said.splitlines())
    rows = {cells[0]: cells[-1] for cells in split}
    assert rows["against a.mkv"] == "b.mkv"
    assert rows["PSNR"] == "35.12 dB"
    assert rows["largest difference"] == "28.13 dB at 0:00.08"
    assert rows["frames at equal times"] == "5"
    assert rows["frames only in a.mkv"] == "0"
    assert rows["frames only in this"] == "1"
    assert 0.99 < float(rows["SSIM"]) < 1


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = grey_clip(tmp_path / "a.mkv", [100] * 4)
    second = grey_clip(tmp_path / "b.mkv", [101] * 4)
    assert main(["compare", str(first), str(second), str(first), "--json", "--no-ssim"]) == 0
    record = json.loads(capsys.readouterr().out)
    unlike, same = record["differences"]
    assert unlike["psnr"] == pytest.approx(20 * math.log10(255))
    assert not unlike["equal"]
    assert (same["psnr"], same["equal"], same["ssim"]) == (None, True, None)
    assert (record["fps"], record["frames"]) == ("25", 4)


@pytest.mark.parametrize(("least", "code"), [("48", 0), ("48.2", 1)])
def test_a_program_can_ask_for_a_quality(
    tmp_path: Path, least: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first = grey_clip(tmp_path / "a.mkv", [100] * 4)
    second = grey_clip(tmp_path / "b.mkv", [101] * 4)
    arguments = ["compare", str(first), str(second), "--min-psnr", least, "--quiet"]
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert said == ("vfi: b.mkv: its PSNR is 48.13 dB, below 48.2 dB\n" if code else "")


def test_equal_videos_reach_any_quality(tmp_path: Path) -> None:
    clip = grey_clip(tmp_path / "a.mkv", [100] * 4)
    assert main(["compare", str(clip), str(clip), "--min-psnr", "100", "--quiet"]) == 0


@pytest.mark.parametrize(
    "option", [("--mode", "side"), ("--slow", "2"), ("--labels", "a,b"), ("--codec", "ffv1")]
)
def test_what_only_a_video_has_is_not_ignored(
    tmp_path: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    clip = grey_clip(tmp_path / "a.mkv", [100])
    for target in ([], ["-o", str(tmp_path / "r.html")]):
        assert main(["compare", str(clip), str(clip), *option, *target]) == 2
        assert f"{option[0]} is for a video" in capsys.readouterr().err


def test_a_broken_video_is_measured_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_clip(tmp_path / "a.ts", codec="mpeg2video", frames=60)
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    broken = tmp_path / "b.ts"
    broken.write_bytes(data)
    assert main(["compare", str(whole), str(broken), "--no-ssim", "--json", "--quiet"]) == 3
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert 5 < record["frames"] < 55
    assert record["differences"][0]["equal"], "what decodes is the same"
    assert "b.ts: the picture cannot be decoded after" in record["truncated"]
    assert record["truncated"] in captured.err


# the page


def test_a_page_shows_what_was_measured(tmp_path: Path) -> None:
    levels = [100] * 50
    levels[30] = 180
    first = grey_clip(tmp_path / "a.mkv", [100] * 50)
    second = grey_clip(tmp_path / "b & <b>.mkv", levels)
    page = tmp_path / "report.html"
    arguments = ["compare", str(first), str(second), "-o", str(page), "--quiet"]
    assert main(arguments) == 0
    assert main(arguments) == 5, "it is there"
    with Browser() as browser:
        browser.open(page)
        assert browser.console == []
        assert browser.evaluate("document.querySelectorAll('figure.slider').length") == 1
        assert browser.evaluate("document.querySelectorAll('figure.slider img').length") == 3
        text = browser.evaluate("document.body.innerText")
    assert "b & <b>.mkv against a.mkv" in text
    psnr = 10 * math.log10(255**2 / (80**2 / 50))
    assert f"{psnr:.2f} dB" in text
    assert f"0:01.20, {20 * math.log10(255 / 80):.2f} dB" in text


def test_a_page_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = grey_clip(tmp_path / "a.mkv", [100])
    page = tmp_path / "nowhere" / "report.html"
    assert main(["compare", str(clip), str(tmp_path / "missing.mkv"), "-o", str(page)]) == 5
    assert "nowhere does not exist" in capsys.readouterr().err


def test_report_names_the_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, page = grey_clip(tmp_path / "a.mkv", [100, 120]), tmp_path / "page.html"
    assert main(["compare", str(clip), str(clip), "--report", str(page), "--quiet"]) == 0
    assert "a.mkv" in page.read_text()
    assert main(["compare", str(clip), str(clip), "--report", str(tmp_path / "page.mp4")]) == 2
    assert "ends in .html" in capsys.readouterr().err
    both = ["--report", str(page), "-o", str(tmp_path / "out.mp4")]
    assert main(["compare", str(clip), str(clip), *both]) == 2
    assert "leave out -o or --report" in capsys.readouterr().err
