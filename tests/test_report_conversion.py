"""The report of a conversion: what is measured, and what the page says of it."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from array import array
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.browser import Browser
from tests.media import write_clip
from tests.test_report import structure
from vfi_cli.api import ConvertOptions, ConvertResult, Listener, ModelOptions, convert, convert_file
from vfi_cli.cli import messages
from vfi_cli.cli.app import command
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.models import Interpolator, load_model
from vfi_cli.plan import Timing
from vfi_cli.report import difficulty, embed
from vfi_cli.report.conversion import RunTimes, page, write_report
from vfi_cli.report.difficulty import Difficulty, Moment, measure, new_frame_within, shrink
from vfi_cli.report.moments import Shown, pictures, upright
from vfi_cli.timeline import OutputGrid

RATE = 25
WIDTH, HEIGHT = 96, 64


def texture(seed: int) -> np.ndarray:
    """A smooth random picture, larger than a frame, that motion can be found in."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 3, 24, 60)))
    size = (HEIGHT + 40, WIDTH + 320)
    fine = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)
    return (fine[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255).round().astype(np.uint8)


def clip(path: Path, places: list[tuple[int, int]], **options: Any) -> Path:
    """A lossless clip: for each frame (which texture, how far it has moved to the left)."""
    textures = {seed: texture(seed) for seed, _ in places}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=RATE, options={"qp": "0", "g": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        for number, (seed, x) in enumerate(places):
            picture = np.ascontiguousarray(textures[seed][20 : 20 + HEIGHT, x : x + WIDTH])
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def model() -> Interpolator:
    return load_model("default", device="cpu")


@pytest.fixture(scope="module")
def blend() -> Interpolator:
    return load_model("blend", device="cpu")


def converted(
    source: Path, model: Interpolator, listener: Listener | None = None, **options: Any
) -> ConvertResult:
    timing = options.pop("timing", Timing(factor=Fraction(2)))
    wanted = ConvertOptions(
        timing=timing,
        model=ModelOptions(name=model.name),
        encoder=EncoderOptions(preset="ultrafast"),
        overwrite=True,
        **options,
    )
    target = source.with_name(f"{source.stem}.out.mkv")
    return convert_file(source, target, wanted, listener=listener, interpolator=lambda: model)


def measured(source: Path, model: Interpolator, **options: Any) -> Difficulty:
    result = converted(source, model, **options)
    return measure(result.plan, result.counts.frames, model)


def test_motion_is_measured_in_pixels(tmp_path: Path, model: Interpolator) -> None:
    source = clip(tmp_path / "in.mkv", [(1, 3 * n) for n in range(6)])
    found = measured(source, model)
    assert len(found.times) == 5
    assert list(found.times) == pytest.approx([(n + 0.5) / RATE for n in range(5)])
    assert found.has_motion
    # A pan of 3 pixels: what leaves and enters at the sides has no motion to be found.
    assert np.median(found.motion) == pytest.approx(3, abs=0.8)
    assert all(fast >= mean for fast, mean in zip(found.fastest, found.motion, strict=True))
    # Motion explains most of the difference.
    assert np.mean(found.disagreement) < 0.7 * np.mean(found.difference)


def test_motion_of_a_large_picture_is_in_its_own_pixels(
    tmp_path: Path, model: Interpolator, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = clip(tmp_path / "in.mkv", [(1, 4 * n) for n in range(4)])
    monkeypatch.setattr(difficulty, "SMALL_SIDE", WIDTH // 2)
    found = measured(source, model)
    assert np.median(found.motion) == pytest.approx(4, abs=1.3)


def test_a_jump_is_the_hardest_moment(tmp_path: Path, model: Interpolator) -> None:
    places = [(1, n) for n in range(10)] + [(1, 30 + n) for n in range(10)]
    source = clip(tmp_path / "in.mkv", places)
    result = converted(source, model, cuts=False)
    found = measure(result.plan, result.counts.frames, model)
    hardest = found.moments[0]
    assert (hardest.left, hardest.right) == (9, 10)
    assert (hardest.number, hardest.timestep) == (19, Fraction(1, 2))
    assert hardest.time == Fraction(19, 2 * RATE)
    assert hardest.score == max(found.disagreement)
    shown = {one.moment.number: one for one in pictures(result.plan.info, result.output, [hardest])}
    assert shown[19].made.width == WIDTH


def test_cuts_are_those_of_the_conversion(tmp_path: Path, blend: Interpolator) -> None:
    places = [(seed, 2 * n) for seed in (1, 2, 3) for n in range(8)]
    source = clip(tmp_path / "in.mkv", places)
    result = converted(source, blend)
    found = measure(result.plan, result.counts.frames, blend)
    assert list(found.cuts) == pytest.approx([8 / RATE, 16 / RATE])
    assert result.counts.cuts == 2
    assert math.isnan(found.difference[7])
    assert not any(moment.left in (7, 15) for moment in found.moments)
    ignored = measured(source, blend, cuts=False)
    assert list(ignored.cuts) == list(found.cuts)
    assert not math.isnan(ignored.difference[7])
    assert {moment.left for moment in ignored.moments[:2]} == {7, 15}, "morphs are the hardest"


@pytest.mark.parametrize("dedupe", [False, True])
def test_repeated_frames_are_found(tmp_path: Path, blend: Interpolator, dedupe: bool) -> None:
    places = [(1, 6 * (n // 2)) for n in range(24)]  # on twos
    source = clip(tmp_path / "in.mkv", places)
    result = converted(source, blend, dedupe=dedupe)
    found = measure(result.plan, result.counts.frames, blend)
    expected = [n / RATE for n in range(1, 23, 2)]  # the last frame of a clip stays
    assert list(found.repeats) == pytest.approx(expected)
    if dedupe:
        assert result.counts.repeats == len(found.repeats)
        assert len(found.times) == 24 - 11 - 1
        assert min(found.difference[:-1]) > 0
    else:
        assert len(found.times) == 23
        assert found.difference[0] == 0


def test_models_without_motion_are_measured_by_difference(
    tmp_path: Path, blend: Interpolator
) -> None:
    places = [(1, 2 * n) for n in range(6)] + [(1, 20 + 2 * n) for n in range(6)]
    found = measured(clip(tmp_path / "in.mkv", places), blend)
    assert not found.has_motion
    assert found.moments[0].left == 5
    assert found.moments[0].score == max(found.difference)


def test_a_part_of_the_source_is_measured_as_the_whole(tmp_path: Path, blend: Interpolator) -> None:
    source = clip(tmp_path / "in.mkv", [(1 + n // 12, 2 * (n % 12)) for n in range(36)])
    whole = measured(source, blend)
    timing = Timing(factor=Fraction(2), start=Fraction(10, RATE), end=Fraction(20, RATE))
    part = measured(source, blend, timing=timing)
    assert list(part.times) == list(whole.times[10:20])
    for column in ("difference", "motion", "disagreement"):
        expected = getattr(whole, column)[10:20]
        assert np.allclose(getattr(part, column), expected, equal_nan=True, atol=1e-4), column
    assert list(part.cuts) == [12 / RATE]
    numbers = [moment.number for moment in part.moments]
    assert all(0 <= number < 20 for number in numbers)
    assert all(10 <= moment.left < 20 for moment in part.moments)


class StopAfter(Listener):
    """Interrupts a conversion."""

    def __init__(self, frames: int) -> None:
        self._frames = frames

    def progress(self, done: int) -> None:
        if done >= self._frames:
            raise KeyboardInterrupt


def test_a_resumed_conversion_gives_the_same_page(
    tmp_path: Path, blend: Interpolator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 4))
    source = clip(tmp_path / "in.mkv", [(1 + n // 20, 2 * (n % 20)) for n in range(40)])
    timing = Timing(fps=Fraction(60))

    def told(result: ConvertResult, times: RunTimes) -> str:
        found = measure(result.plan, result.counts.frames, blend)
        shown = list(pictures(result.plan.info, result.output, found.moments))
        html = page(result, blend, times, found, shown).html()
        assert times.rate is not None
        without_clocks = re.sub(r"<h3>Run</h3>.*?</section>|<footer>.*?</footer>", "", html)
        return re.sub(r"<div><dt>(took|frames a second)</dt>.*?</div>", "", without_clocks)

    once = RunTimes()
    first = told(converted(source, blend, once, timing=timing), once)
    with pytest.raises(KeyboardInterrupt):
        converted(source, blend, StopAfter(60), timing=timing)
    again = RunTimes()
    second = told(converted(source, blend, again, timing=timing), again)
    assert 0 < again.earlier < 96
    assert once.earlier == 0
    assert second == first


def test_new_frames_lie_strictly_between_their_source_frames() -> None:
    grid = OutputGrid(Fraction(0), Fraction(60), Fraction(60), 100)
    source = [Fraction(n, 24) for n in range(5)]
    assert [new_frame_within(grid, pair, 100) for pair in pairwise(source)] == [1, 4, 6, 9]
    assert new_frame_within(grid, (source[3], source[4]), 9) is None  # not made any more
    same = OutputGrid(Fraction(0), Fraction(24), Fraction(24), 100)
    assert new_frame_within(same, (source[0], source[1]), 100) is None


@pytest.mark.parametrize(
    "layout",
    [
        PlaneLayout("yuv", 8, 1, 1),
        PlaneLayout("yuv", 10, 1, 0),
        PlaneLayout("rgb", 16),
        PlaneLayout("gray", 12),
        PlaneLayout("yuv", 8, 1, 1, alpha=True),
    ],
    ids=lambda layout: f"{layout.kind}{layout.bits}",
)
def test_small_pictures_are_means(layout: PlaneLayout) -> None:
    width, height = 640, 362
    planes = []
    for number in range(layout.components):
        rows, columns = layout.plane_shape(number, width, height)
        ramp = np.linspace(0.1, 0.9, columns)[None] * np.linspace(0.5, 1, rows)[:, None]
        planes.append((ramp * layout.peak).astype(layout.dtype))
    frame = Frame(tuple(planes), width, height, layout, ColorSpec(), 0, Fraction(1, 25))
    small = shrink(frame, 160)
    assert (small.width, small.height) == (160, 90)
    assert small.layout.bits == 8
    assert not small.layout.alpha
    scale = 255 / layout.peak
    expected = [plane.mean() * scale for plane in planes[: small.layout.components]]
    assert [plane.mean() for plane in small.planes] == pytest.approx(expected, abs=1.5)
    assert float(small.planes[0][0, 0]) < float(small.planes[0][-1, -1])
    again = shrink(small, 160)
    assert all(np.array_equal(a, b) for a, b in zip(again.planes, small.planes, strict=True))


def test_pictures_are_shown_upright_and_with_square_pixels(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=2, rotation=90, aspect=Fraction(3, 2))
    info = probe(source)
    with FrameReader(info) as reader:
        frame = next(reader)
    shown = upright(frame, info)
    assert shown.shape == (96, 48, 3)  # 64 × 48 with wide pixels is 96 × 48, turned
    # The number's blocks, black for 0, fill the top rows: turned clockwise, the right columns.
    assert shown[:, -10:].mean() < 0.6 * shown[:, :34].mean()


def test_a_conversion_of_ten_hours_has_a_page_of_some_megabytes(
    tmp_path: Path, blend: Interpolator
) -> None:
    result = converted(clip(tmp_path / "in.mkv", [(1, n) for n in range(3)]), blend)
    count = 10 * 3600 * 24
    rng = np.random.default_rng(0)
    times = np.arange(count) / 24
    found = Difficulty(times=array("d", times), cuts=array("d", times[::200]))
    found.repeats = array("d", times[::5])
    for name in ("difference", "motion", "fastest", "disagreement"):
        setattr(found, name, array("d", rng.random(count)))
    found.moments = [Moment(n, Fraction(n), Fraction(1, 2), n, n + 1, 1.0) for n in range(6)]
    noisy = embed(rng.integers(0, 256, (1080, 1920, 3), np.uint8))
    shown = [Shown(moment, noisy, noisy, noisy, noisy) for moment in found.moments]
    result = replace(result, duration=Fraction(36000))
    html = page(result, blend, RunTimes(), found, shown).html()
    assert html.count("<figure") == 7
    assert len(html) < 5_000_000


def vfi(*args: object) -> int:
    return messages.run(command(), [str(arg) for arg in args])


def words(path: Path) -> str:
    return " ".join("".join(structure(path.read_text()).words).split())


def test_the_page_says_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [(seed, 2 * n) for seed in (1, 2) for n in range(6)]
    source, report = clip(tmp_path / "in.mkv", places), tmp_path / "r.html"
    output = tmp_path / "out.mkv"
    code = vfi("convert", source, "--fps", 60, "-o", output, "--json", "--report", report)
    told = capsys.readouterr()
    assert code == 0, told.err
    assert json.loads(told.out)["report"] == str(report)
    assert "✓ r.html" in told.err
    text = words(report)
    for said in ("in.mkv → out.mkv", "25 → 60 fps", "cuts respected", "vfi-lite", "MIT", "libx264"):
        assert said in text, said
    assert re.search(r"frames\s?29|29\s?frames", text)
    html = report.read_text()
    assert html.count('<figure class="slider"') >= 3
    assert html.count('class="panel"') == 3
    assert len(html) < 5_000_000
    assert not re.search(r"https?:|url\(", re.sub(r"base64,[^\"]*", "", html))
    for name in ("vfi", "PyTorch", "PyAV", "Python"):
        assert name in text


def test_the_page_of_a_conversion_from_python(tmp_path: Path, blend: Interpolator) -> None:
    source = clip(tmp_path / "in.mkv", [(1, 2 * n) for n in range(4)])
    result = convert(source, tmp_path / "out.mkv", fps=50, model="blend")
    write_report(tmp_path / "r.html", result, blend)
    text = words(tmp_path / "r.html")
    assert "in.mkv → out.mkv" in text
    assert "nan" not in re.findall(r"\w+", text), "how fast it was is not known, and not said"


def test_a_conversions_page_works_in_a_browser(tmp_path: Path) -> None:
    source, report = clip(tmp_path / "in.mkv", [(1, 2 * n) for n in range(12)]), tmp_path / "r.html"
    assert vfi("convert", source, "--fps", 50, "--model", "blend", "--report", report, "-q") == 0
    with Browser(width=400) as browser:
        browser.open(report)
        assert browser.evaluate("document.documentElement.scrollWidth") == 400
        loaded = "[...document.images].every((image) => image.complete && image.naturalWidth > 0)"
        assert browser.evaluate(loaded)
        browser.evaluate("document.querySelector('.handle').focus()")
        browser.key("ArrowRight")
        at = browser.evaluate("document.querySelector('.handle').getAttribute('aria-valuenow')")
        assert at == "52"
        assert browser.console == []
        assert all(address.startswith(("file:", "data:")) for address in browser.requests)


def test_slow_motion_has_a_report(tmp_path: Path) -> None:
    source, report = clip(tmp_path / "in.mkv", [(1, 2 * n) for n in range(6)]), tmp_path / "r.html"
    options = ("--factor", 4, "-m", "blend", "--tile", 64, "--report", report, "-q")
    assert vfi("slowmo", source, *options) == 0
    assert "4 times slower" in words(report)
    assert "tiles of 64 pixels" in words(report)


@pytest.mark.parametrize(
    "name", [b'<b>&"x"\'.mkv', b"caf\xe9\n.mkv", "\u202evkm.\u05e9\u05dc\u05d5\u05dd.mkv".encode()]
)
def test_any_name_of_a_file_is_shown_as_text(tmp_path: Path, name: bytes) -> None:
    plain, source = (
        clip(tmp_path / "in.mkv", [(1, n) for n in range(4)]),
        tmp_path / os.fsdecode(name),
    )
    plain.rename(source)
    report = tmp_path / "r.html"
    assert vfi("convert", source, "--fps", 50, "-m", "blend", "--report", report, "-q") == 0
    found = structure(report.read_text())
    assert [tag for tag, _ in found.seen].count("script") == 1
    assert "b" not in {tag for tag, attributes in found.seen if attributes}
    assert ".50fps.mkv" in "".join(found.words)


def test_a_truncated_input_is_reported_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = clip(tmp_path / "whole.mkv", [(1, 2 * n) for n in range(48)])
    source, report = tmp_path / "in.mkv", tmp_path / "r.html"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert vfi("convert", source, "--fps", 50, "-m", "blend", "--report", report) == 3
    assert "converted up to there" in capsys.readouterr().err
    assert "converted up to there" in words(report)
    assert 'class="warnings"' in report.read_text()


def test_several_inputs_have_a_folder_of_reports(tmp_path: Path) -> None:
    sources = [clip(tmp_path / f"{n}.mkv", [(n, x) for x in range(4)]) for n in range(2)]
    folder = tmp_path / "reports"
    assert vfi("convert", *sources, "--fps", 50, "-m", "blend", "--report", folder, "-q") == 0
    names = sorted(os.listdir(folder))
    assert names == ["0.50fps.mkv.html", "1.50fps.mkv.html"]
    assert "1.mkv → 1.50fps.mkv" in words(folder / names[1])


def test_what_cannot_be_reported_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "in.mkv", [(1, n) for n in range(4)])
    taken = tmp_path / "taken.html"
    taken.write_text("mine")
    for args, code, said in (
        ((source, "--report", taken), 5, "exists already"),
        ((source, "--report", tmp_path / "r.pdf"), 5, "name it r.html"),
        ((source, source, "--report", tmp_path / "r.html"), 2, "need a folder"),
        ((source, "--report", tmp_path / f"{'r' * 300}.html"), 5, "cannot write"),
        (("-", "-o", "-", "--report", tmp_path / "r.html"), 2, "a pipe"),
    ):
        assert vfi("convert", *args, "--fps", 50, "-m", "blend") == code
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert said in lines[0]
    assert taken.read_text() == "mine"
    assert not (tmp_path / "in.50fps.mkv").exists()


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="a folder that takes no files")
def test_a_folder_that_takes_no_files_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its permissions do not tell."""
    source = clip(tmp_path / "in.mkv", [(1, n) for n in range(4)])
    assert vfi("convert", source, "--fps", 50, "-m", "blend", "--report", "/proc/r.html") == 5
    assert "/proc" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in.mkv"]


def test_a_report_that_fails_says_that_the_video_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    source = clip(tmp_path / "in.mkv", [(1, n) for n in range(4)])
    monkeypatch.setattr("vfi_cli.report.page.publish", full)
    report = tmp_path / "r.html"
    assert vfi("convert", source, "--fps", 50, "-m", "blend", "--report", report) == 5
    said = capsys.readouterr().err.splitlines()[-1]
    assert "in.50fps.mkv stands, but its report was not written" in said
    assert "the disk is full" in said
    assert sorted(os.listdir(tmp_path)) == ["in.50fps.mkv", "in.mkv"]


def test_a_page_that_is_in_the_way_in_a_folder_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "in.mkv", [(1, n) for n in range(4)])
    page = tmp_path / "in.50fps.mkv.html"
    page.write_text("mine")
    options = ("--fps", 50, "-m", "blend", "-q", "--report", tmp_path)
    assert vfi("convert", source, *options) == 5
    assert f"{page} exists already" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["in.50fps.mkv.html", "in.mkv"]


def test_a_dry_run_says_that_it_writes_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "in.mkv", [(1, n) for n in range(4)])
    report = tmp_path / "r.html"
    assert vfi("convert", source, "--fps", 50, "-m", "blend", "--quick", "--report", report) == 0
    assert "writes no report" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in.mkv"]


def test_all_that_an_earlier_run_made_is_told_apart() -> None:
    times = RunTimes()
    for done in (120, 240, 241, 242):
        times.progress(done)
    assert times.earlier == 240
