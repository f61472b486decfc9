"""Scoring models on a clip: what is removed, what is left out, times, and what is recommended."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests import setkit
from vfi_cli.__main__ import main
from vfi_cli.api import ModelOptions
from vfi_cli.errors import InputError, UsageError
from vfi_cli.evaluate import advice
from vfi_cli.evaluate.clip import ClipPart, evaluate_clip
from vfi_cli.evaluate.rebuild import minterpolate
from vfi_cli.evaluate.results import FrameScore, ModelScores
from vfi_cli.quality import image

NAMES = ("blend", "nearest", "minterpolate")
SIZE = (64, 48)


def models(*names: str) -> list[ModelOptions]:
    return [ModelOptions(name=name) for name in names]


def write(
    path: Path,
    pictures: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    pix_fmt: str = "bgr0",
) -> Path:
    """A lossless clip, frames at ``times`` in milliseconds or else at 25 fps."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, pixels in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts = times[number] if times else 40 * number
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def scene(count: int, seed: int = 0, begin: float = 0) -> list[np.ndarray]:
    return [setkit.picture(0.3 * (begin + n), seed, *SIZE) for n in range(count)]


def other_scene(count: int) -> list[np.ndarray]:
    """Nothing in common with :func:`scene`: a dark checkerboard that moves."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    boards = [((x + n) // 4 + y // 4) % 2 * 60 + 10 for n in range(count)]
    return [np.repeat(board.astype(np.uint8)[..., None], 3, axis=2) for board in boards]


def test_every_second_frame_is_rebuilt_and_compared(tmp_path: Path) -> None:
    pictures = scene(9)
    told: list[tuple[int, int]] = []
    result = evaluate_clip(
        write(tmp_path / "a.mkv", pictures),
        models("blend", "nearest"),
        on_frame=lambda *done: told.append(done),
    )
    assert (result.frames, result.rebuilt, result.at_cuts, result.still) == (9, 4, 0, 0)
    assert (result.width, result.height, result.rate) == (*SIZE, 25)
    blend, nearest = result.models
    for n, frame in enumerate(blend.frames):
        mean = (pictures[2 * n].astype(int) + pictures[2 * n + 2]) // 2
        expected = image.psnr(pictures[2 * n + 1], mean.astype(np.uint8))
        assert frame.values["psnr"] == pytest.approx(expected, abs=1e-3)
        assert nearest.frames[n].values["psnr"] == pytest.approx(
            image.psnr(pictures[2 * n + 1], pictures[2 * n]), abs=1e-3
        )
    assert told[-1] == (8, 8)
    assert result.real_time(0.04) == pytest.approx(1)  # 25 new frames a second


def test_three_of_four_frames_are_rebuilt(tmp_path: Path) -> None:
    result = evaluate_clip(write(tmp_path / "a.mkv", scene(10)), models("blend"), factor=4)
    frames = result.models[0].frames
    assert [frame.t for frame in frames] == [Fraction(k, 4) for k in (1, 2, 3)] * 2
    assert result.rebuilt == 6


def test_minterpolate_takes_part_without_a_program(tmp_path: Path) -> None:
    pictures = [setkit.picture(0.25 * n, 1, 192, 128) for n in range(9)]
    result = evaluate_clip(write(tmp_path / "a.mkv", pictures), models(*NAMES))
    by_name = {scores.model: scores.means["psnr"] for scores in result.models}
    assert by_name["minterpolate"] > by_name["nearest"] + 3
    assert not result.notes


@pytest.mark.parametrize("factor", [2, 4])
def test_minterpolate_makes_frames_between_all_kept_ones(factor: int) -> None:
    kept = [setkit.picture(n, 1, 96, 64) for n in range(4)]
    made = minterpolate(kept, factor)
    assert [len(between) for between in made] == [factor - 1] * 3
    assert all(picture.shape == (64, 96, 3) for between in made for picture in between)


def test_minterpolate_that_cannot_work_is_left_out_with_a_note(tmp_path: Path) -> None:
    pictures = [picture[:16, :16] for picture in scene(7)]
    result = evaluate_clip(write(tmp_path / "a.mkv", pictures), models(*NAMES))
    assert [scores.model for scores in result.models] == ["blend", "nearest"]
    assert "minterpolate" in result.notes[0]


def test_frames_at_cuts_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", scene(12) + other_scene(11))
    result = evaluate_clip(path, models(*NAMES))
    assert result.at_cuts == 1
    assert result.rebuilt == 10
    items = {scores.model: [f.item for f in scores.frames] for scores in result.models}
    assert all(of == items["blend"] for of in items.values())
    assert "0:00.400" not in items["blend"]  # frames 10 and 12 with the cut in between
    everything = evaluate_clip(path, models("blend"), everything=True)
    assert (everything.at_cuts, everything.rebuilt) == (0, 11)


def test_still_parts_say_nothing_and_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", scene(1) * 6 + scene(7, begin=0))
    result = evaluate_clip(path, models("blend"))
    assert (result.still, result.rebuilt) == (3, 3)
    still = write(tmp_path / "still.mkv", scene(1) * 9)
    with pytest.raises(InputError, match="nothing moves in the 9 frames"):
        evaluate_clip(still, models("blend"))


def test_a_clip_that_is_too_short_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", scene(4))
    with pytest.raises(InputError, match="has 4 frames; 5 or more"):
        evaluate_clip(path, models("blend"), factor=4)
    assert evaluate_clip(path, models("blend")).rebuilt == 1


def test_times_of_a_variable_rate_are_exact(tmp_path: Path) -> None:
    times = [0, 10, 40, 80, 100, 160, 190]
    path = write(tmp_path / "a.mkv", scene(7), times)
    result = evaluate_clip(path, models("blend", "minterpolate"))
    assert [frame.t for frame in result.models[0].frames] == [
        Fraction(1, 4),
        Fraction(2, 3),
        Fraction(2, 3),
    ]
    assert any("variable" in note for note in result.notes) == (len(result.models) == 2)


def test_ten_bits_are_compared_as_eight(tmp_path: Path) -> None:
    deep = write(tmp_path / "deep.mkv", scene(9), pix_fmt="yuv444p10le")
    plain = write(tmp_path / "plain.mkv", scene(9))
    means = [evaluate_clip(p, models("blend")).models[0].means["psnr"] for p in (deep, plain)]
    assert means[0] == pytest.approx(means[1], abs=0.2)


def test_the_part_that_is_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", scene(20))
    part = ClipPart(start=Fraction(1, 5), duration=Fraction(1, 5))
    result = evaluate_clip(path, models("blend"), part=part)
    assert [frame.item for frame in result.models[0].frames] == ["0:00.200", "0:00.280"]
    few = evaluate_clip(path, models("blend"), part=ClipPart(frames=7))
    assert (few.frames, few.rebuilt) == (7, 3)
    with pytest.raises(UsageError, match=r"--start 0:09\.00 lies beyond the end"):
        evaluate_clip(path, models("blend"), part=ClipPart(start=Fraction(9)))
    with pytest.raises(UsageError, match="--factor must be 2 or 4"):
        evaluate_clip(path, models("blend"), factor=3)


def test_more_frames_than_fit_into_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.mkv", [setkit.picture(n, 0, *SIZE) for n in range(9)])
    frame = 3 * SIZE[0] * SIZE[1]
    monkeypatch.setattr("vfi_cli.memory.available", lambda: 2 * 5 * frame)
    assert evaluate_clip(path, models("blend"), part=ClipPart(frames=5)).frames == 5
    with pytest.raises(UsageError, match=r"9 frames of .* look at fewer with --frames"):
        evaluate_clip(path, models("blend"))


# What is recommended


def scores(model: str, values: Sequence[float], seconds: float = 1.0) -> ModelScores:
    frames = tuple(
        FrameScore(str(n), "clip", "", Fraction(1, 2), seconds, {"psnr": value})
        for n, value in enumerate(values)
    )
    mean = {"psnr": sum(values) / len(values)}
    return ModelScores(model, "", frames, (), mean, {}, seconds)


def test_a_clear_winner_is_named_with_its_cost() -> None:
    a = scores("a", [31.0, 34.0, 29.1, 30.0, 33.0], seconds=3)
    b = scores("b", [30.0, 33.1, 28.0, 29.0, 32.0], seconds=1)
    text = advice.recommendation([b, a], "psnr")
    assert text == "a rebuilds this clip best: 1.00 dB of PSNR ahead of b, in 3.0 times the time."


def test_what_accident_may_explain_is_no_winner() -> None:
    a = scores("a", [31.0, 28.0, 36.0, 30.0], seconds=3)
    b = scores("b", [30.0, 33.0, 28.0, 29.0], seconds=1)
    text = advice.recommendation([a, b], "psnr")
    assert text == "a and b are equally good here; b is the fastest of them."
    nobody_sees = scores("c", [30.05, 33.05, 28.05, 29.05])
    assert not advice.clearly_better(nobody_sees, b, "psnr")


def test_where_blending_is_as_good_motion_hardly_matters() -> None:
    a = scores("a", [30.01, 31.0, 29.0, 35.0])
    b = scores("blend", [30.0, 31.0, 29.0, 35.0], seconds=0.1)
    assert "Motion hardly matters" in advice.recommendation([a, b], "psnr")


def test_few_frames_or_one_model_recommend_nothing() -> None:
    few = [scores("a", [31.0, 34.0]), scores("b", [11.0, 14.0])]
    assert advice.recommendation(few, "psnr").startswith("Too few")
    assert advice.recommendation([scores("a", [1.0] * 9)], "psnr") == ""


# The command


def test_the_command_scores_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.mkv", scene(11))
    target = tmp_path / "scores.csv"
    arguments = ["eval", "clip", str(path), "-m", "nearest", "--csv", str(target), "--json"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert record["rebuilt"] == 5
    assert [scores["model"] for scores in record["models"]][:2] == ["nearest", "blend"]
    assert record["recommendation"]
    assert record["recommendation"] in captured.err
    assert "5 of 11 frames removed and rebuilt" in captured.err
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(scores["frames"]) for scores in record["models"])


def test_the_command_tells_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", "clip", str(tmp_path / "none.mkv")]) == 4
    assert "none.mkv" in capsys.readouterr().err
    path = write(tmp_path / "a.mkv", scene(5))
    assert main(["eval", "clip", str(path), "--factor", "3"]) == 2
    assert main(["eval", "clip", str(path), "--csv", str(tmp_path)]) == 5
    assert "is a folder" in capsys.readouterr().err
