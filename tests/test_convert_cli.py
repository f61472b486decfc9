"""``vfi convert`` and ``vfi slowmo`` as people run them: messages, exit codes, kill and resume."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.media import read_number, write_clip
from vfi_cli.cli import messages
from vfi_cli.cli.app import command
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.work import work_folder_of

Vfi = Callable[..., "Ran"]


@dataclass
class Ran:
    """How a command went."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def vfi(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process (starting one that imports torch takes seconds)."""

    def run(*args: object) -> Ran:
        code = messages.run(command(), [str(arg) for arg in args])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def planes_of(path: Path) -> list[bytes]:
    with FrameReader(probe(path)) as reader:
        return [b"".join(plane.tobytes() for plane in frame.planes) for frame in reader]


def refused(result: Ran, code: int, *words: str) -> None:
    """One clear line, the documented exit code, and never a traceback."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def test_a_conversion_tells_what_it_does(tmp_path: Path, vfi: Vfi) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=25, tone=True)
    result = vfi("convert", source, "--fps", "59.94", "--model", "blend")
    assert result.returncode == 0, result.stderr
    assert "25 fps" in result.stderr
    assert "59.94 fps" in result.stderr
    assert "read back and checked" in result.stderr
    assert "\r" not in result.stderr, "a log gets plain lines"
    output = tmp_path / "in.59.94fps.mp4"
    assert output.exists()
    assert len(planes_of(output)) == 60
    again = vfi("convert", source, "--fps", "59.94", "--model", "blend")
    refused(again, 5, "exists already", "--overwrite")


def test_json_and_quiet(tmp_path: Path, vfi: Vfi) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=10)
    result = vfi("convert", source, "--factor", 2, "--model", "nearest", "--json", "--quiet")
    assert result.stderr == ""
    record = json.loads(result.stdout)
    assert (record["frames"], record["fps"]) == (20, "50")
    assert Path(record["output"]).exists()


def test_a_dry_run_writes_nothing(tmp_path: Path, vfi: Vfi) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=10)
    result = vfi("convert", source, "--fps", 60, "--model", "blend", "--dry-run", "--json")
    assert json.loads(result.stdout)["frames"] == 24
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_slow_motion(tmp_path: Path, vfi: Vfi) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=10, tone=True)
    result = vfi("slowmo", source, "--factor", 3, "--model", "blend")
    assert result.returncode == 0, result.stderr
    assert "is left out" in result.stderr, "the sound is dropped, and it says so"
    assert len(planes_of(tmp_path / "in.slow3x.mp4")) == 30


def test_a_batch_goes_on_after_a_failure(tmp_path: Path, vfi: Vfi) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "b.mkv", frames=3)
    (folder / "a.mkv").write_bytes(b"junk")
    (folder / "notes.txt").write_text("no video")
    result = vfi("convert", folder, "--factor", 2, "--model", "blend", "-o", tmp_path / "out")
    assert result.returncode == 8
    assert "1 of 2 inputs failed: a.mkv" in result.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.50fps.mkv"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["in.mkv"], 2, ["--fps"]),
        (["in.mkv", "--fps", "60", "--factor", "2"], 2, ["--fps"]),
        (["in.mkv", "--fps", "0"], 2, ["above zero"]),
        (["in.mkv", "--fps=-25"], 2, ["rate"]),
        (["in.mkv", "--fps", "1e9"], 2, ["rate"]),
        (["in.mkv", "--fps", "5000"], 2, ["1000"]),
        (["in.mkv", "--factor", "0"], 2, ["above zero"]),
        (["missing.mkv", "--fps", "60"], 4, ["missing.mkv"]),
        (["empty.mkv", "--fps", "60"], 4, ["empty.mkv"]),
        (["text.mkv", "--fps", "60"], 4, ["text.mkv"]),
        (["folder", "--fps", "60"], 4, ["folder"]),
        (["in.mkv", "--fps", "60", "-o", "in.mkv", "--overwrite"], 5, ["input"]),
        (["in.mkv", "--fps", "60", "-o", "no/out.mkv"], 5, ["no", "does not exist"]),
        (["in.mkv", "--fps", "60", "-o", "out.jpeg"], 2, ["jpeg"]),
        (["in.mkv", "--fps", "60", "--model", "nonsense"], 6, ["nonsense"]),
        (["in.mkv", "--fps", "60", "--model", "junk.pkl"], 6, ["junk.pkl"]),
        (["in.mkv", "--fps", "60", "--model", "hostile.pkl"], 6, ["hostile.pkl"]),
        (["in.mkv", "--fps", "60", "--model", "blend", "--device", "cuda:99"], 7, ["--device"]),
        (["in.mkv", "--fps", "60", "--codec", "nonsense"], 2, ["nonsense"]),
        (["in.mkv", "--fps", "60", "--pix-fmt", "nonsense"], 2, ["nonsense"]),
        (
            ["in.mkv", "--fps", "60", "-o", "a.avi", "--codec=rawvideo", "--pix-fmt=yuv444p"],
            5,
            ["AVI", "--pix-fmt"],
        ),
        (["in.mkv", "--fps", "60", "--codec", "dnxhd", "-o", "a.mov"], 5, ["at least 256x120"]),
        (["in.mkv", "--fps", "60", "--start", "99"], 2, ["--start"]),
        (["in.mkv", "--fps", "60", "--nonsense"], 2, ["--nonsense"]),
    ],
)
def test_bad_requests_get_one_line(
    tmp_path: Path,
    vfi: Vfi,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: list[str],
) -> None:
    write_clip(tmp_path / "in.mkv", frames=3)
    (tmp_path / "empty.mkv").touch()
    (tmp_path / "text.mkv").write_text("words\n" * 50)
    (tmp_path / "folder").mkdir()
    (tmp_path / "junk.pkl").write_bytes(os.urandom(1000))
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> object:
            return os.system, (f"touch {marker}",)

    (tmp_path / "hostile.pkl").write_bytes(pickle.dumps(Hostile()))
    before = {path: path.stat().st_size for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    result = vfi("convert", *arguments)
    refused(result, code, *words)
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == before
    assert not marker.exists()


def test_sound_alone_is_no_video(tmp_path: Path, vfi: Vfi) -> None:
    import av

    path = tmp_path / "sound.mka"
    with av.open(str(path), "w", format="matroska") as out:
        stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    refused(vfi("convert", path, "--fps", 60, "--model", "blend"), 4, "sound.mka")


def test_killed_at_any_moment_and_started_again(tmp_path: Path, vfi: Vfi) -> None:
    """kill -9 while segments are made, twice; the same command then finishes from them."""
    source = write_clip(
        tmp_path / "in.mp4", frames=700, options={"g": "50", "bf": "2"}, size=(96, 64), tone=True
    )
    arguments = ["--factor", "2", "--model", "blend"]
    reference = tmp_path / "reference.mp4"
    assert vfi("convert", source, *arguments, "-o", reference).returncode == 0
    output = tmp_path / "out.mp4"
    command = [
        sys.executable,
        "-m",
        "vfi_cli",
        "convert",
        str(source),
        *arguments,
        "-o",
        str(output),
    ]
    folder = work_folder_of(output)
    finished: list[int] = []
    for wanted in (1, 3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(list(folder.glob("*.segment"))) < wanted:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not output.exists()
        finished.append((folder / "000000.segment").stat().st_mtime_ns)
    assert finished[0] == finished[1], "a finished segment was rendered again"
    result = vfi("convert", source, *arguments, "-o", output)
    assert result.returncode == 0, result.stderr
    assert planes_of(output) == planes_of(reference)
    assert not folder.exists()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=700, options={"g": "50"}, size=(96, 64))
    output = tmp_path / "out.mkv"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vfi_cli",
            "convert",
            str(source),
            "--factor",
            "4",
            "--model",
            "blend",
            "-o",
            str(output),
        ],
        stderr=subprocess.PIPE,
        text=True,
        # whoever runs the tests in the background may have SIGINT ignored, which is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    folder = work_folder_of(output)
    deadline = time.monotonic() + 60
    while not list(folder.glob("*.segment")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "same command" in errors
    assert "Traceback" not in errors
    assert not output.exists()
    assert list(folder.glob("*.segment"))


def test_a_full_disk_is_one_line_and_keeps_what_is_done(tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: writes beyond it fail likewise."""
    source = write_clip(tmp_path / "in.mkv", frames=100, size=(256, 192), codec="ffv1")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "vfi_cli",
            "convert",
            str(source),
            "--factor",
            "2",
            "--model",
            "blend",
            "--codec",
            "ffv1",
            "--quiet",
            "-o",
            str(tmp_path / "out.mkv"),
        ],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=60,
        check=False,
    )
    refused(Ran(result.returncode, result.stdout, result.stderr), 5)
    assert not (tmp_path / "out.mkv").exists()


def test_numbers_survive_a_batch_into_a_folder(tmp_path: Path, vfi: Vfi) -> None:
    for name in ("one", "two"):
        write_clip(tmp_path / f"{name}.mkv", frames=4)
    target = tmp_path / "converted"
    result = vfi(
        *("convert", tmp_path / "one.mkv", tmp_path / "two.mkv", "--factor", 2),
        *("--model", "blend", "-o", target, "--codec", "ffv1", "--json"),
    )
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)["items"]) == 2
    for name in ("one", "two"):
        path = target / f"{name}.50fps.mkv"
        with FrameReader(probe(path)) as reader:
            numbers = [read_number(frame.planes[0]) for frame in reader]
        assert numbers[::2] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "views"),
    [
        ([], []),
        (["--tta"], ["flip"]),
        (["--tta", "rotate,flip"], ["flip", "rotate"]),
        (["--tta=reverse"], ["reverse"]),
    ],
)
@pytest.mark.parametrize("command", ["convert", "slowmo"])
def test_tta_takes_names_and_stands_alone(
    vfi: Vfi, tmp_path: Path, command: str, asked: list[str], views: list[str]
) -> None:
    clip = write_clip(tmp_path / "in.mkv", frames=2, codec="ffv1", size=(16, 16))
    rest = ["--factor", 2, "--model", "blend", "--dry-run", "--json", "-q"]
    result = vfi(command, *asked, clip, *rest)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["settings"]["tta"] == views


def test_an_unknown_view_is_refused(vfi: Vfi, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mkv", frames=2, codec="ffv1", size=(16, 16))
    result = vfi("convert", clip, "--factor", 2, "--tta", "flip,mirror")
    refused(result, 2, "'mirror' is not a view", "rotate")
