"""The command line where it is used roughly: odd names, closed streams, folders done twice."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.media import write_clip
from vfi_cli.__main__ import main
from vfi_cli.cli import messages
from vfi_cli.cli.progress import Progress
from vfi_cli.errors import InputError, UsageError
from vfi_cli.io.containers import MUXERS
from vfi_cli.io.encode import EncoderOptions, choose_encoder
from vfi_cli.io.pipe import open_stream
from vfi_cli.io.probe import probe

FAST = ("--model", "blend", "--factor", "2")


def clip(path: Path, frames: int = 3) -> Path:
    return write_clip(path, frames=frames, size=(32, 32), codec="mpeg4")


def shell(line: str, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash, in which ``vfi`` is the program."""
    line = line.replace("vfi ", f"{sys.executable} -m vfi_cli ")
    return subprocess.run(
        ["bash", "-c", line], stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=120
    )


def unheard(line: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash with a pipe as its stdout that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return shell(line, stdout=writing)
    finally:
        os.close(writing)


def test_two_inputs_never_become_one_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The suffixes differ, and both of them are no container that can be written."""
    clip(tmp_path / "a.mkv").rename(tmp_path / "a.mpg")
    clip(tmp_path / "a.mkv", frames=5).rename(tmp_path / "a.wmv")
    out = tmp_path / "out"
    code = main(["convert", str(tmp_path), *FAST, "-o", str(out), "--overwrite", "--json"])
    records = json.loads(capsys.readouterr().out)["items"]
    assert code == 8
    assert [record["kind"] for record in records] == ["result", "error"]
    assert "would replace what was made of" in records[1]["error"]
    assert "a.mpg" in records[1]["error"]
    with av.open(str(out / "a.50fps.mkv")) as made:
        assert sum(1 for _ in made.decode(video=0)) == 6


def test_an_empty_name_is_not_the_folder_we_are_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(tmp_path / "a.mkv")
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "", *FAST]) == 2
    assert "an input has no name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_a_folder_that_is_not_there_is_not_taken_for_a_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "a.mkv")
    assert main(["convert", str(source), *FAST, "-o", f"{tmp_path / 'new'}/"]) == 2
    assert "if it is to be a folder, make that first" in capsys.readouterr().err


def test_a_folder_is_not_fed_its_own_outputs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip(tmp_path / "a.mkv")
    clip(tmp_path / "b.mkv")
    clip(tmp_path / "shot.24fps.mkv")  # of which there is no source here
    assert main(["convert", str(tmp_path / "a.mkv"), *FAST]) == 0
    assert (tmp_path / "a.50fps.mkv").exists()
    main(["convert", str(tmp_path), *FAST, "--overwrite", "--json"])
    said = capsys.readouterr()
    assert "1 video left alone" in said.err
    assert "(a.50fps.mkv)" in said.err
    records = json.loads(said.out)["items"]
    assert [Path(record["input"]).name for record in records] == [
        "a.mkv",
        "b.mkv",
        "shot.24fps.mkv",
    ]


def test_a_name_that_is_no_utf8_is_valid_json(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    source = clip(tmp_path / os.fsdecode(b"bad\xff.mkv"))
    assert main(["convert", str(source), *FAST, "--json", "-q"]) == 0
    record = json.loads(capsysbinary.readouterr().out.decode("utf-8"))
    assert os.fsencode(record["input"]) == os.fsencode(source)


def test_names_cannot_write_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "new\nline\x1b[2J.mkv")
    assert main(["convert", str(source), *FAST]) == 0
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "new line" in said.splitlines()[0]


def test_nor_can_they_in_tables_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, source = clip(tmp_path / "plain.mkv"), clip(tmp_path / "\x1b[2J\u202e.mkv")
    page = str(tmp_path / "\x1b[2J.html")
    assert main(["convert", str(source), *FAST, "--report", page]) == 0
    assert main(["compare", str(plain), str(source)]) == 0
    said = "".join(capsys.readouterr())
    assert "[2J.html" in said
    assert "against plain.mkv" in said
    assert "\x1b" not in said
    assert "\u202e" not in said


def test_the_cursor_is_there_after_a_kill() -> None:
    """A run that is stopped or killed gets no chance to bring back a hidden one."""
    screen = io.StringIO()
    console = messages.console()
    console.file, console._force_terminal = screen, True
    Progress(10, None, console).close()
    assert "10" in screen.getvalue()
    assert "\x1b[?25l" not in screen.getvalue()


def test_closed_streams_are_no_file_to_write_into(tmp_path: Path) -> None:
    """SVT-AV1 speaks on stderr: where that is closed, the next file opened has its number."""
    source, output = clip(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    line = f"vfi convert {source} --model blend --factor 2 --codec av1 -o {output}"
    assert shell(f"env -u SVT_LOG {line} <&- >&- 2>&-").returncode == 0
    assert probe(output).codec == "av1"


@pytest.mark.parametrize("command", ["--help", "models list"])
def test_a_reader_that_leaves_is_told_from_a_bug(command: str) -> None:
    ran = unheard(f"vfi {command}")
    assert ran.returncode == 5
    assert b"Traceback" not in ran.stderr
    assert b"bug" not in ran.stderr


def test_work_goes_on_where_nobody_listens(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    line = f"vfi convert {source} --model blend --factor 2 -o {output}"
    ran = unheard(f"{line} 2>&1")
    assert ran.returncode == 0
    assert output.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_stdout_is_no_bug() -> None:
    ran = shell("vfi models list >/dev/full")
    assert ran.returncode == 5
    assert ran.stderr.decode().count("\n") == 1
    assert b"No space left" in ran.stderr


@pytest.mark.parametrize(("codec", "options"), [("libx264", {"crf": "1"}), ("mpeg4", {"b": "20M"})])
def test_an_mp4_with_its_index_at_the_end_is_no_pipe(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    """Of MPEG-4 part 2 not even the size is known then."""
    source = write_clip(
        tmp_path / "in.mp4", frames=40, size=(320, 240), codec=codec, options=options
    )
    with pytest.raises(InputError, match=r"index is at its end .* name the file"):
        open_stream(io.BytesIO(source.read_bytes()))


def test_the_format_of_a_pipe_is_checked_without_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = clip(tmp_path / "in.mkv")
    assert main(["convert", str(source), *FAST, "--pipe-format", "avi"]) == 2
    assert "--pipe-format" in capsys.readouterr().err


def test_only_suffixes_that_can_be_written_are_offered(tmp_path: Path) -> None:
    info = probe(clip(tmp_path / "in.mkv"))
    with pytest.raises(UsageError, match="goes into") as caught:
        choose_encoder(EncoderOptions(codec="png"), info, ".mkv")
    offered = str(caught.value).partition("goes into ")[2].split()
    assert offered
    assert set(offered) <= set(MUXERS)


def test_one_frame_is_one_frame(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = clip(tmp_path / "in.mkv", frames=1)
    assert main(["convert", str(source), "--factor", "1", "--model", "blend"]) == 0
    assert "1 frames" not in capsys.readouterr().err


def test_interlaced_pictures_are_named_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_clip(
        tmp_path / "in.mkv",
        frames=10,
        codec="mpeg2video",
        options={"flags": "+ildct+ilme", "top": "1", "field_order": "tt"},
    )
    assert probe(source).interlaced
    assert main(["convert", str(source), *FAST, "--dry-run", "--quick"]) == 0
    assert "deinterlace first" in capsys.readouterr().err
