"""Outputs that are there already: left alone where they are complete, else named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media import write_clip
from vfi_cli.cli import messages
from vfi_cli.cli.app import command

Vfi = Callable[..., tuple[int, str, str]]


@pytest.fixture
def vfi(capsys: pytest.CaptureFixture[str]) -> Vfi:
    """Runs a command line in this process: (exit code, stdout, stderr)."""

    def run(*args: object) -> tuple[int, str, str]:
        code = messages.run(command(), [str(arg) for arg in args])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_clip(folder / "a.mkv", frames=5, tone=True)
    write_clip(folder / "b.mp4", frames=4)
    return folder


def identity(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is replaced."""
    return {path.name: ((s := path.stat()).st_ino, s.st_mtime_ns) for path in folder.iterdir()}


def test_a_folder_converted_again_leaves_what_is_finished(
    tmp_path: Path, clips: Path, vfi: Vfi
) -> None:
    out = tmp_path / "out"
    arguments = ("convert", clips, "-o", out, "--factor", 2, "--model", "blend")
    assert vfi(*arguments)[0] == 0
    before = identity(out)
    write_clip(clips / "c.mkv", frames=3)
    code, _, said = vfi(*arguments, "--dry-run")
    assert code == 0
    assert "2 outputs were there already" in said
    code, told, said = vfi(*arguments, "--json")
    assert code == 0
    assert "2 outputs were there already" in said
    items = json.loads(told)["items"]
    assert [item["kind"] for item in items] == ["existing", "existing", "result"]
    assert items[0]["output"] == str(out / "a.50fps.mkv")
    after = identity(out)
    assert {name: after[name] for name in before} == before
    assert (out / "c.50fps.mkv").exists()
    assert vfi(*arguments, "--overwrite")[0] == 0
    assert identity(out).items().isdisjoint(after.items()), "all of them are made again"


def test_one_file_is_refused(clips: Path, vfi: Vfi) -> None:
    arguments = ("convert", clips / "a.mkv", "--factor", 2, "--model", "blend")
    assert vfi(*arguments)[0] == 0
    code, _, said = vfi(*arguments)
    assert code == 5
    assert "a.50fps.mkv exists already; add --overwrite to replace it" in said


def unfinished(output: Path) -> None:
    (output.parent / f".{output.name}.vfi").mkdir()


def damaged(output: Path) -> None:
    output.write_bytes(b"junk")


def older(output: Path) -> None:
    os.utime(output, (1, 1))


def untouched(output: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("change", "options", "word"),
    [
        (untouched, ["--codec", "ffv1"], "h264 pictures, not ffv1"),
        (untouched, ["--pix-fmt", "yuv420p10le"], "8 bits, not 10"),
        (untouched, ["--end", "0.1"], "10 frames, not 5"),
        (older, [], "older than"),
        (damaged, [], "cannot be read"),
        (unfinished, [], "unfinished run"),
    ],
)
def test_what_is_something_else_is_a_failure(
    tmp_path: Path,
    clips: Path,
    vfi: Vfi,
    change: Callable[[Path], None],
    options: list[str],
    word: str,
) -> None:
    (clips / "b.mp4").unlink()
    out = tmp_path / "out"
    arguments = ("convert", clips, "-o", out, "--factor", 2, "--model", "blend")
    assert vfi(*arguments)[0] == 0
    change(out / "a.50fps.mkv")
    before = identity(out)
    for more in ([], ["--dry-run"]):
        code, _, said = vfi(*arguments, *options, *more)
        assert code == 8
        assert word in said
        assert "--overwrite" in said
        assert identity(out) == before


def test_sound_and_length_tell_outputs_apart(tmp_path: Path, clips: Path, vfi: Vfi) -> None:
    (clips / "b.mp4").unlink()
    slow = ("slowmo", clips, "-o", tmp_path / "out", "--factor", 2, "--model", "blend")
    assert vfi(*slow)[0] == 0
    code, _, said = vfi(*slow, "--audio", "stretch")
    assert code == 8
    assert "0 sound streams, not 1 sound stream" in said
    fast = tmp_path / "out" / "a.50fps.mkv"
    (tmp_path / "out" / "a.slow2x.mkv").rename(fast)  # 10 frames at 25, not 50 a second
    code, _, said = vfi("convert", clips, "-o", tmp_path / "out", "--factor", 2, "-m", "blend")
    assert code == 8
    assert "0:00.40 of time, not 0:00.20" in said


def test_two_inputs_with_one_output_are_never_taken_for_done(
    tmp_path: Path, clips: Path, vfi: Vfi
) -> None:
    shutil.copy(clips / "b.mp4", clips / "b.flv")  # becomes .mkv
    shutil.copy(clips / "b.mp4", clips / "b.wmv")
    arguments = ("convert", clips, "-o", tmp_path / "out", "--factor", 2, "-m", "blend")
    for _ in range(2):
        code, _, said = vfi(*arguments)
        assert code == 8
        assert "b.wmv would replace what was made of" in said
        assert "1 of 4 inputs failed: b.wmv" in said


def test_what_was_cut_short_is_as_complete_as_it_gets(
    tmp_path: Path, clips: Path, vfi: Vfi
) -> None:
    whole = write_clip(clips / "long.ts", frames=60, options={"g": "10", "bf": "0"})
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : -188] = bytes(len(data) - 188 - len(data) // 2)
    whole.write_bytes(data)
    arguments = ("convert", clips, "-o", tmp_path / "out", "--factor", 2, "-m", "blend")
    assert vfi(*arguments, "--allow-truncated")[0] == 0
    assert vfi(*arguments, "--allow-truncated")[0] == 0
    code, _, said = vfi(*arguments)
    assert code == 8
    assert "120 frames" in said, "without that option it is not taken for whole"
