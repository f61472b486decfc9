"""Scoring on tiny benchmarks: values against scikit-image, means, what is missing."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from skimage.metrics import peak_signal_noise_ratio

from tests import setkit
from vfi_cli.__main__ import main
from vfi_cli.api import ModelOptions
from vfi_cli.cli import eval as eval_command
from vfi_cli.datasets import benchmarks, layouts
from vfi_cli.errors import InputError, ModelError, UsageError
from vfi_cli.evaluate.rebuild import Given, ModelRebuilder
from vfi_cli.evaluate.sets import evaluate_set
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.quality import image

BLEND, NEAREST = ModelOptions(name="blend"), ModelOptions(name="nearest")
HALF = Fraction(1, 2)


def read(path: Path) -> np.ndarray:
    return np.asarray(PIL.Image.open(path))


def small(monkeypatch: pytest.MonkeyPatch, name: str, clips: int) -> None:
    """The benchmark as if its set had only so many clips."""
    known = benchmarks.BENCHMARKS
    monkeypatch.setitem(known, name, replace(known[name], clips=clips))


def blended(first: np.ndarray, second: np.ndarray, t: float = 0.5) -> np.ndarray:
    return np.rint((1 - t) * first.astype(np.float64) + t * second).astype(np.uint8)


@pytest.fixture
def triplets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    small(monkeypatch, "vimeo-triplet", 3)
    names = ["00001/0001", "00001/0002", "00002/0001"]
    return setkit.vimeo(tmp_path, "triplet", names)


def test_triplets_are_scored_as_scikit_image_would(triplets: Path) -> None:
    told: list[tuple[int, int]] = []
    result = evaluate_set(
        "vimeo-triplet", triplets, [BLEND, NEAREST], on_frame=lambda *done: told.append(done)
    )
    blend, nearest = result.models
    expected = []
    for score in blend.frames:
        folder = triplets / "sequences" / score.item
        first, truth, second = (read(folder / f"im{n}.png") for n in (1, 2, 3))
        expected.append(peak_signal_noise_ratio(truth, blended(first, second)))
        assert score.values["psnr"] == pytest.approx(expected[-1], abs=1e-4)
        assert score.values["ssim"] == pytest.approx(
            image.ssim(truth, blended(first, second)), abs=1e-9
        )
        assert score.t == HALF
    assert blend.means["psnr"] == pytest.approx(np.mean(expected), abs=1e-4)
    first, truth = (read(triplets / "sequences/00002/0001" / f"im{n}.png") for n in (1, 2))
    assert nearest.frames[2].values["psnr"] == pytest.approx(
        peak_signal_noise_ratio(truth, first), abs=1e-4
    )
    assert told == [(n, 6) for n in range(1, 7)]
    assert result.complete
    assert (result.items, result.clips, result.all_clips) == (3, 3, 3)
    assert result.published[0].model == "RIFE"


def test_ie_on_middlebury(tmp_path: Path) -> None:
    setkit.middlebury(tmp_path, layouts.MIDDLEBURY)
    result = evaluate_set("middlebury", tmp_path, [NEAREST])
    score = result.models[0].frames[3]
    first = read(tmp_path / "other-data" / score.item / "frame10.png").astype(int)
    truth = read(tmp_path / "other-gt-interp" / score.item / "frame10i11.png").astype(int)
    assert score.values == {"ie": pytest.approx(np.abs(first - truth).mean())}
    assert result.complete


def test_means_of_many_times_are_of_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch, "gopro", 1)
    setkit.gopro(tmp_path, "test", ["GOPR0384_11_00"], count=17)
    result = evaluate_set("gopro", tmp_path, [BLEND])
    frames = result.models[0].frames
    assert [frame.t for frame in frames[:7]] == [Fraction(k, 8) for k in range(1, 8)]
    assert len(frames) == 14
    quarter = frames[1]
    first, truth, second = (read(tmp_path / f"test/GOPR0384_11_00/{n:06}.png") for n in (1, 3, 9))
    made = blended(first, second, 0.25)
    assert quarter.values["psnr"] == pytest.approx(image.psnr(truth, made), abs=0.05)
    values = [frame.values["psnr"] for frame in frames]
    assert result.models[0].means["psnr"] == pytest.approx(np.mean(values))


def test_means_of_clips_weigh_long_and_short_ones_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, "hd", 2)
    clips = (("HD720p_GT", "long", 16, 12), ("HD544p_GT", "short", 16, 12))
    monkeypatch.setattr(layouts, "HD_CLIPS", clips)
    rng = np.random.default_rng(0)
    for (folder, name, width, height), count in zip(clips, (9, 3), strict=True):
        (tmp_path / folder).mkdir()
        data = rng.integers(60, 190, count * width * height * 3 // 2).astype(np.uint8)
        (tmp_path / folder / f"{name}.yuv").write_bytes(data.tobytes())
    result = evaluate_set("hd", tmp_path, [BLEND])
    scores = result.models[0]
    by_clip = {
        clip: np.mean([f.values["psnr-y"] for f in scores.frames if f.clip == f"{clip}"])
        for clip in ("HD720p_GT/long", "HD544p_GT/short")
    }
    assert len(scores.frames) == 5
    assert scores.means["psnr-y"] == pytest.approx(np.mean(list(by_clip.values())))
    assert scores.groups["720p"]["psnr-y"] == pytest.approx(by_clip["HD720p_GT/long"])
    assert scores.groups["544p"]["psnr-y"] == pytest.approx(by_clip["HD544p_GT/short"])


def test_only_the_centre_of_gopro_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = benchmarks.BENCHMARKS
    monkeypatch.setitem(known, "gopro", replace(known["gopro"], clips=1, crop=16))
    setkit.gopro(tmp_path, "test", ["GOPR0384_11_00"], count=9)
    folder = tmp_path / "test/GOPR0384_11_00"
    for path in folder.iterdir():
        pixels = read(path).copy()
        pixels[8:24, 16:32] = 90  # what is scored: 16 × 16 in the middle of 48 × 32
        setkit.save(path, pixels)
    result = evaluate_set("gopro", tmp_path, [NEAREST])
    assert {frame.values["psnr"] for frame in result.models[0].frames} == {image.MOST_DB}


# What is missing or wrong


def test_a_missing_picture_is_an_error_that_names_it(triplets: Path) -> None:
    gone = triplets / "sequences/00001/0002/im2.png"
    gone.unlink()
    with pytest.raises(InputError) as caught:
        evaluate_set("vimeo-triplet", triplets, [BLEND])
    assert str(gone) in str(caught.value)
    assert "toflow" in str(caught.value)
    result = evaluate_set("vimeo-triplet", triplets, [BLEND], allow_missing=True)
    assert [frame.item for frame in result.models[0].frames] == ["00001/0001", "00002/0001"]
    assert (result.items, result.all_items, result.complete) == (2, 3, False)
    assert result.wrong == (f"{gone} is missing",)


def test_fewer_clips_than_the_set_has_are_an_error(tmp_path: Path) -> None:
    setkit.ucf101(tmp_path, ["1", "11"])
    with pytest.raises(InputError, match="there are 2 clips, not 379"):
        evaluate_set("ucf101", tmp_path, [BLEND])
    assert not evaluate_set("ucf101", tmp_path, [BLEND], allow_missing=True).complete


def test_pictures_of_two_sizes_are_an_error(triplets: Path) -> None:
    setkit.save(triplets / "sequences/00001/0002/im3.png", setkit.picture(0, 0, 40, 32))
    with pytest.raises(InputError, match=r"0002/im3\.png is 40×32, but .*im1\.png is 48×32"):
        evaluate_set("vimeo-triplet", triplets, [BLEND])


def test_a_limit_is_spread_over_the_set(triplets: Path) -> None:
    result = evaluate_set("vimeo-triplet", triplets, [BLEND], limit=2)
    assert [frame.item for frame in result.models[0].frames] == ["00001/0001", "00001/0002"]
    assert not result.complete


def test_an_unknown_model_and_wrong_limits(triplets: Path) -> None:
    with pytest.raises(ModelError):
        evaluate_set("vimeo-triplet", triplets, [ModelOptions(name="nothing")])
    with pytest.raises(UsageError, match="limit"):
        evaluate_set("vimeo-triplet", triplets, [BLEND], limit=0)


# Frames in motion


def test_rows_go_through_items_that_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, "reds-vtsr", 2)
    setkit.reds(tmp_path, "val", ["000", "001"], last=32)
    metrics = ("psnr", "duplicates", "flicker")
    result = evaluate_set("reds-vtsr", tmp_path, [NEAREST, BLEND], metrics=metrics)
    nearest, blend = result.models
    assert [(row.clip, row.frames) for row in nearest.rows] == [("000", 9), ("001", 9)]
    assert nearest.means["duplicates"] == 0.5
    assert blend.means["duplicates"] == 0
    assert set(blend.means) == set(metrics)


def test_a_measure_that_needs_longer_rows_is_told_before_the_work(triplets: Path) -> None:
    with pytest.raises(UsageError, match="VIIDEO needs rows of 8 frames; the longest here has 3"):
        evaluate_set("vimeo-triplet", triplets, [BLEND], metrics=("viideo",))


# How models are driven


class Spy(Network):
    """Averages the middle frames, and remembers what it was shown."""

    def __init__(self, frames_seen: int, any_timestep: bool) -> None:
        super().__init__()
        self.frames_seen, self.any_timestep = frames_seen, any_timestep
        self.calls: list[tuple[int, float]] = []

    def forward(self, frames, timestep, *, scale=1.0, ensemble=False, memo=None):
        self.calls.append((frames.shape[1], float(timestep.flatten()[0])))
        middle = frames.shape[1] // 2
        return (frames[:, middle - 1] + frames[:, middle]) / 2


def rebuilder(network: Spy) -> ModelRebuilder:
    model = Interpolator(network, name="spy", device="cpu", dtype="float32")
    return ModelRebuilder(model, ModelOptions(name="spy"))


def flat(value: int) -> Given:
    return Given(("flat", value), np.full((4, 6, 3), value, np.uint8))


def test_a_model_of_four_frames_gets_them_where_there_are_four() -> None:
    spy = Spy(4, True)
    times = [Fraction(1, 4), HALF]
    rebuilder(spy).between(flat(10), flat(20), times, before=flat(0), after=flat(30))
    rebuilder(spy).between(flat(10), flat(20), times[:1], after=flat(30))
    assert spy.calls == [(4, 0.25), (4, 0.5), (2, 0.25)]


def test_a_model_of_middles_halves_again_and_again() -> None:
    spy = Spy(2, False)
    times = [Fraction(k, 4) for k in (1, 2, 3)]
    made = rebuilder(spy).between(flat(0), flat(200), times)
    assert [int(picture[0, 0, 0]) for picture in made] == [50, 100, 150]
    assert spy.calls == [(2, 0.5)] * 3  # each midpoint once


def test_results_are_rounded_to_8_bits_and_not_cut_off() -> None:
    blend = ModelRebuilder.open(BLEND)
    made = blend.between(flat(100), flat(101), [Fraction(1, 4), Fraction(3, 4)])
    assert [int(picture[0, 0, 0]) for picture in made] == [100, 101]
    assert made[0].dtype == np.uint8


# The command


def test_the_command_shows_means_beside_published_ones(
    triplets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["eval", "vimeo-triplet", "--data", str(triplets), "-m", "blend", "-m", "nearest"])
    assert code == 0
    shown = capsys.readouterr().out
    result = evaluate_set("vimeo-triplet", triplets, [BLEND])
    (line,) = [line for line in shown.splitlines() if line.startswith("blend")]
    assert f"{result.models[0].means['psnr']:.2f}" in line
    assert f"{result.models[0].means['ssim']:.4f}" in line
    assert "float32 on cpu" in line
    (line,) = [line for line in shown.splitlines() if line.startswith("IFRNet-L")]
    assert "36.20" in line
    assert "0.9808" in line
    assert "3 items of 3 clips, the whole set" in shown


def test_the_command_writes_csv_and_json(
    triplets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "scores.csv"
    arguments = ["eval", "vimeo-triplet", "--data", str(triplets.parent), "-m", "blend"]
    arguments += ["--metrics", "psnr,ie,flicker", "--json", "--csv", str(target)]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    frames = record["models"][0]["frames"]
    assert [frame["item"] for frame in frames] == ["00001/0001", "00001/0002", "00002/0001"]
    assert frames[0]["t"] == "1/2"
    assert record["published"][0]["model"] == "RIFE"
    assert (record["version"], record["kind"]) == (1, "benchmark")
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    of_frames = [row for row in rows if row["t"]]
    of_rows = [row for row in rows if not row["t"]]
    assert [float(row["psnr"]) for row in of_frames] == [
        pytest.approx(frame["values"]["psnr"], abs=1e-6) for frame in frames
    ]
    assert [(row["frames"], row["psnr"]) for row in of_rows] == [("3", "")] * 3
    assert all(float(row["flicker"]) > 0 for row in of_rows)
    assert main(arguments) == 5  # the file exists now
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["eval", "vimeo-triplet", "--data", str(tmp_path)]) == 4
    shown = capsys.readouterr().err
    assert "tri_testlist.txt is missing" in shown
    assert "http://toflow.csail.mit.edu" in shown
    assert "--data names" not in shown
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VFI_DATASETS", raising=False)
    assert main(["eval", "vimeo-triplet"]) == 4
    shown = capsys.readouterr().err
    assert f"{tmp_path}/tri_testlist.txt is missing" in shown
    assert "--data names another folder" in shown
    Path("a.mp4").write_bytes(b"")
    assert main(["eval", "a.mp4"]) == 2
    assert "a.mp4 is a file and no benchmark: vfi eval clip a.mp4" in capsys.readouterr().err
    setkit.ucf101(tmp_path, ["1"])
    arguments = ["eval", "ucf101", "--data", str(tmp_path), "-m", "nearest"]
    assert main(arguments) == 4
    assert "there is 1 clip, not 379" in capsys.readouterr().err
    assert main([*arguments, "--allow-missing"]) == 0
    shown = capsys.readouterr().out
    assert "1 item of 1 clip; the whole set has 379 clips" in shown
    assert "there is 1 clip, not 379" in shown


def test_the_list_has_every_benchmark_and_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--list"]) == 0
    shown = capsys.readouterr().out
    for benchmark in benchmarks.BENCHMARKS.values():
        assert benchmark.name in shown
        assert benchmark.page in shown


def test_wrong_words_are_usage_errors(triplets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "vimeo-tripled"]) == 2
    assert "vimeo-triplet" in capsys.readouterr().err
    assert main(["eval", "vimeo-triplet", "--metrics", "vmaf"]) == 2
    assert "choose among psnr" in capsys.readouterr().err


def test_classes_of_clips_have_columns_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small(monkeypatch, "hd-4x", 1)
    monkeypatch.setattr(layouts, "HD_CLIPS", (("HD720p_GT", "parkrun", 16, 12),))
    (tmp_path / "HD720p_GT").mkdir()
    data = np.random.default_rng(1).integers(0, 255, 5 * 288).astype(np.uint8)
    (tmp_path / "HD720p_GT/parkrun.yuv").write_bytes(data.tobytes())
    assert main(["eval", "hd-4x", "--data", str(tmp_path), "-m", "blend"]) == 0
    shown = capsys.readouterr().out
    assert "PSNR of luma, dB 720p" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("RIFEm")]
    assert "31.87" in line
    assert "22.95" not in line  # of a class that is not there


def test_options_reach_the_models_that_they_concern(tmp_path: Path) -> None:
    weights = tmp_path / "flownet.pkl"
    weights.touch()
    shared = {"architecture": "rife-2r", "device": "cpu", "dtype": "float16", "scale": 0.5}
    asked = [eval_command.options_of(name, shared) for name in (str(weights), "default", "blend")]
    assert [options.architecture for options in asked] == ["rife-2r", None, None]
    assert [options.dtype for options in asked] == ["float16", "float16", "auto"]
    assert [options.scale for options in asked] == [0.5, 0.5, None]
