"""The pages of evaluations, and the pictures that are kept for them."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests import setkit
from tests.browser import Browser
from tests.media import write_clip
from tests.test_report import structure
from vfi_cli.__main__ import main
from vfi_cli.api import ModelOptions
from vfi_cli.datasets import benchmarks
from vfi_cli.evaluate.clip import evaluate_clip
from vfi_cli.evaluate.gallery import KEPT, Gallery
from vfi_cli.evaluate.page import page
from vfi_cli.evaluate.results import ClipResult, FrameScore, SetResult
from vfi_cli.evaluate.sets import evaluate_set

BLEND, NEAREST = ModelOptions(name="blend"), ModelOptions(name="nearest")


@pytest.fixture(scope="module")
def of_set(tmp_path_factory: pytest.TempPathFactory) -> tuple[SetResult, Gallery]:
    folder = tmp_path_factory.mktemp("set")
    names = [f"0000{n}/000{n}" for n in range(1, 7)]
    known = benchmarks.BENCHMARKS
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(known, "vimeo-triplet", replace(known["vimeo-triplet"], clips=len(names)))
        root = setkit.vimeo(folder, "triplet", names)
        gallery = Gallery(("psnr", "ssim"))
        result = evaluate_set("vimeo-triplet", root, [BLEND, NEAREST], gallery=gallery)
    return result, gallery


@pytest.fixture(scope="module")
def of_clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipResult, Gallery]:
    source = write_clip(tmp_path_factory.mktemp("clip") / "<in> & out.mkv", frames=21)
    gallery = Gallery(("psnr", "ssim"))
    return evaluate_clip(source, [BLEND, NEAREST], factor=4, gallery=gallery), gallery


def score(item: str, psnr: float, t: Fraction = Fraction(1, 2)) -> FrameScore:
    return FrameScore(item, "clip", "", t, 0.1, {"psnr": psnr, "ssim": 0.9})


def offered(*scores: FrameScore, metrics: tuple[str, ...] = ("ssim", "psnr")) -> Gallery:
    gallery, picture = Gallery(metrics), np.zeros((8, 8, 3), np.uint8)
    for one in scores:
        gallery.offer("m", one, picture, picture, (picture, picture))
    return gallery


def test_the_worst_frames_are_kept_one_an_item() -> None:
    values = [30.0, 20.0, 40.0, 25.0, 35.0, 10.0, 50.0, 15.0, 45.0]
    gallery = offered(*(score(str(n), value) for n, value in enumerate(values)))
    assert [one.score.values["psnr"] for one in gallery.worst()] == sorted(values)[:KEPT]
    quarter = score("5", 5.0, Fraction(1, 4))
    gallery = offered(score("5", 10.0), quarter, score("5", 7.0), score("6", 9.0))
    assert [one.score for one in gallery.worst()] == [quarter, score("6", 9.0)]


def test_other_models_show_the_same_frames() -> None:
    gallery = offered(score("5", 10.0), score("6", 9.0))
    white = np.full((8, 8, 3), 255, np.uint8)
    gallery.offer("other", score("6", 1.0), white, white, (white, white))
    gallery.offer("other", score("7", 1.0), white, white, (white, white))
    assert [sorted(one.made) for one in gallery.worst()] == [["m", "other"], ["m"]]
    assert gallery.worst()[0].made["other"].uri != gallery.worst()[0].made["m"].uri


def test_where_no_frame_is_judged_nothing_is_kept() -> None:
    assert offered(score("1", 10.0), metrics=("flicker",)).worst() == []


def test_the_pictures_are_the_true_the_blended_and_the_made(
    of_set: tuple[SetResult, Gallery],
) -> None:
    result, gallery = of_set
    worst = min(result.models[0].frames, key=lambda one: one.values["psnr"])
    first, *_ = gallery.worst()
    assert first.score == worst
    assert first.made["blend"].uri == first.blend.uri  # the model is the blend, rounded alike
    assert len({first.made["blend"].uri, first.made["nearest"].uri, first.true.uri}) == 3


def text(html: str) -> str:
    return " ".join(" ".join(structure(html).words).split())


def test_the_page_of_a_benchmark_has_its_figures(of_set: tuple[SetResult, Gallery]) -> None:
    result, gallery = of_set
    html = page(result, gallery, "vfi eval vimeo-triplet").html()
    told = text(html)
    for scores in result.models:
        assert f"{scores.means['psnr']:.2f}" in told
    assert "published" in told
    assert "RIFE" in told
    assert "not to be set beside" not in told
    assert html.count('<figure class="slider"') == len(result.models[0].frames)
    assert re.search(r"<strong>[\d.]+</strong>", html), "the best stands out"
    missing = replace(result, items=3, wrong=("im2.png is missing",))
    told = text(page(missing, gallery).html())
    assert "not to be set beside" in told
    assert "im2.png is missing" in told


def test_the_page_of_a_clip_has_its_figures(of_clip: tuple[ClipResult, Gallery]) -> None:
    result, gallery = of_clip
    html = page(result, gallery).html()
    told = text(html)
    assert "blend, nearest on <in> & out.mkv" in told
    assert result.recommendation in told
    assert "0:00" in told  # the axis of time
    for scores in result.models:
        assert f"{scores.means['psnr']:.2f}" in told
    tips = re.findall(r"<title>([^<]*)</title>", html)
    assert any("blend:" in tip and "nearest:" in tip for tip in tips)


def test_an_evaluation_without_scores_of_frames_has_a_page(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=12)
    gallery = Gallery(("flicker",))
    result = evaluate_clip(source, [BLEND], metrics=("flicker",), gallery=gallery)
    html = page(result, gallery).html()
    assert "flicker" in text(html)
    assert '<figure class="slider"' not in html


def test_the_command_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, report = write_clip(tmp_path / "in.mkv", frames=12), tmp_path / "r.html"
    command = ["eval", "clip", str(source), "-m", "blend", "-q", "--report", str(report)]
    assert main(command) == 0
    assert " on in.mkv" in text(report.read_text())
    assert main(command) == 5
    assert "exists already" in capsys.readouterr().err


def test_the_pages_work_in_a_browser(
    tmp_path: Path, of_set: tuple[SetResult, Gallery], of_clip: tuple[ClipResult, Gallery]
) -> None:
    with Browser(width=400) as browser:
        for number, (result, gallery) in enumerate((of_set, of_clip)):
            browser.open(page(result, gallery).write(tmp_path / f"{number}.html"))
            assert browser.evaluate("document.documentElement.scrollWidth") == 400
            loaded = "[...document.images].every((image) => image.naturalWidth > 0)"
            assert browser.evaluate(loaded)
        assert browser.console == []
        assert all(address.startswith(("file:", "data:")) for address in browser.requests)
