"""``vfi video``: a video from numbered images, exact in pictures, number and time."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from tests.test_frames import listed, make_clip, picture
from vfi_cli.__main__ import main
from vfi_cli.errors import OutputError
from vfi_cli.frame import PlaneLayout
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.sequence import SequenceOptions, plan_sequence, render_sequence


def run(folder: Path, output: Path, *arguments: str) -> int:
    return main(["video", str(folder), "-o", str(output), "--quiet", *arguments])


def decoded(path: Path) -> tuple[list[av.VideoFrame], list[Fraction]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [frame.pts * frame.time_base for frame in frames]
    return frames, times


NAMES = [f"{n:04}.png" for n in range(7)]


def test_ffv1_keeps_every_sample(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", NAMES)
    assert run(source, tmp_path / "v.mkv", "--fps", "25", "--codec", "ffv1") == 0
    frames, times = decoded(tmp_path / "v.mkv")
    assert times == [Fraction(n, 25) for n in range(7)]
    for number, frame in enumerate(frames):
        expected = picture(number, PlaneLayout("rgb", 8)).transpose(1, 2, 0)
        assert np.array_equal(frame.to_ndarray(format="rgb24"), expected)


def test_ntsc_rates_are_exact(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", NAMES)
    assert run(source, tmp_path / "v.mp4", "--fps", "23.976") == 0
    _, times = decoded(tmp_path / "v.mp4")
    assert times == [Fraction(n * 1001, 24000) for n in range(7)]


def test_h264_looks_like_the_images(tmp_path: Path) -> None:
    y, x = np.mgrid[0:64, 0:96]
    (tmp_path / "clip").mkdir()
    pixels = np.stack([x * 2, y * 3, 200 - x * 2], -1).astype(np.uint8)
    for name in NAMES:
        PIL.Image.fromarray(pixels).save(tmp_path / "clip" / name)
    options = ("--fps", "30", "--codec", "h264", "--pix-fmt", "yuv420p", "--crf", "8")
    assert run(tmp_path / "clip", tmp_path / "v.mp4", *options) == 0
    frames, _ = decoded(tmp_path / "v.mp4")
    seen = frames[3].to_ndarray(format="rgb24").astype(int)
    assert np.abs(seen - pixels).mean() < 3


def test_sixteen_bits_become_as_many_as_the_codec_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_clip(tmp_path / "clip", NAMES, PlaneLayout("rgb", 16), size=(64, 48))
    assert run(source, tmp_path / "v.mp4", "--fps", "30", "--codec", "hevc", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["frames"] == 7
    assert any("16-bit becomes 12-bit" in note for note in record["notes"])
    frames, _ = decoded(tmp_path / "v.mp4")
    assert frames[0].format.name == record["encoder"]["pix_fmt"]


def test_what_cannot_be_done_is_said_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_clip(tmp_path / "clip", NAMES)
    make_clip(tmp_path / "clips" / "a", NAMES)
    make_clip(tmp_path / "clips" / "b", NAMES)
    wrong = [
        (source, "v.webm", ("--codec", "h264"), 2, "cannot hold"),
        (source, "v.txt", (), 2, ".txt"),
        (source, "no/v.mp4", (), 5, "does not exist"),
        (tmp_path / "clips", "v.mp4", (), 4, "holds 2 folders"),
        (tmp_path / "gone", "v.mp4", (), 4, "no such folder"),
        (source, "v.mp4", ("--codec", "nonsense"), 2, "nonsense"),
    ]
    for folder, output, arguments, code, message in wrong:
        assert run(folder, tmp_path / output, "--fps", "24", *arguments) == code
        assert message in capsys.readouterr().err
    assert listed(tmp_path) == ["clip", "clips"]


def test_an_existing_video_needs_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = make_clip(tmp_path / "clip", NAMES), tmp_path / "v.mkv"
    target.write_text("precious")
    assert run(source, target, "--fps", "24") == 5
    assert "--overwrite" in capsys.readouterr().err
    assert target.read_text() == "precious"
    assert run(source, target, "--fps", "24", "--overwrite") == 0
    assert len(decoded(target)[0]) == 7


def test_missing_numbers_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_clip(tmp_path / "clip", ["1.png", "2.png", "4.png"])
    assert main(["video", str(source), "--fps", "24", "-o", str(tmp_path / "v.mp4")]) == 0
    said = capsys.readouterr().err
    assert "numbers are missing between 2.png and 4.png" in said
    assert "✓ v.mp4  3 frames, 0:00.1, read back and checked" in said


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vfi_cli.sequence as module

    monkeypatch.setattr(module, "SEGMENT_SECONDS", Fraction(1, 8))  # three frames
    source = make_clip(tmp_path / "clip", NAMES)
    options = SequenceOptions(Fraction(25), EncoderOptions(codec="ffv1"))

    def stop_at(limit: int):
        def on_frames(done: int) -> None:
            if done == limit:
                raise KeyboardInterrupt

        return on_frames

    target = tmp_path / "v.mkv"
    with pytest.raises(KeyboardInterrupt):
        render_sequence(plan_sequence(source, target, options), options, stop_at(5))
    assert not target.exists()
    first = next((tmp_path / ".v.mkv.vfi").glob("*.segment"))
    made = first.stat().st_mtime_ns

    other = SequenceOptions(Fraction(24), EncoderOptions(codec="ffv1"))
    with pytest.raises(OutputError, match="unfinished run"):
        render_sequence(plan_sequence(source, target, other), other)

    assert first.stat().st_mtime_ns == made
    seen: list[int] = []
    render_sequence(plan_sequence(source, target, options), options, seen.append)
    assert seen == [3, 4, 5, 6, 7]
    frames, times = decoded(target)
    assert times == [Fraction(n, 25) for n in range(7)]
    for number, frame in enumerate(frames):
        expected = picture(number, PlaneLayout("rgb", 8)).transpose(1, 2, 0)
        assert np.array_equal(frame.to_ndarray(format="rgb24"), expected)
    assert listed(tmp_path) == ["clip", "v.mkv"]


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", NAMES)
    assert run(source, tmp_path / "v.mp4", "--fps", "24", "--dry-run") == 0
    assert listed(tmp_path) == ["clip"]
