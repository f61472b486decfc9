"""Files that change, appear, or are no files, while and before they are read and written."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.media import write_clip
from vfi_cli.__main__ import main
from vfi_cli.api import ConvertOptions, ConvertResult, Listener, convert_file
from vfi_cli.errors import InputError, OutputError
from vfi_cli.folders import FolderListener, FolderOptions, interpolate_frames
from vfi_cli.io.images import probe_image
from vfi_cli.models import load_model
from vfi_cli.pipe import convert_stream
from vfi_cli.plan import Timing
from vfi_cli.wording import said
from vfi_cli.work import work_folder_of

BLEND = load_model("blend")
TWICE = ConvertOptions(Timing(factor=Fraction(2)))


def clip(path: Path, frames: int = 5) -> Path:
    return write_clip(path, frames=frames, size=(32, 32), codec="mpeg4")


def images(folder: Path, count: int = 3) -> Path:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.full((16, 16, 3), 80 * number, np.uint8)).save(
            folder / f"{number:04}.png"
        )
    return folder


class Once(Listener):
    """Does something when all frames are made."""

    def __init__(self, action: object) -> None:
        self._action = action

    def rendered(self) -> None:
        self._action()  # type: ignore[operator]


def convert(source: Path, output: Path, listener: Listener | None = None) -> ConvertResult:
    return convert_file(source, output, TWICE, listener=listener, interpolator=lambda: BLEND)


def test_a_file_that_appears_meanwhile_is_not_taken_for_the_output(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    with pytest.raises(OutputError, match="exists already"):
        convert(source, output, Once(lambda: output.write_text("mine")))
    with pytest.raises(OutputError, match="exists already"):
        convert(source, output)
    assert output.read_text() == "mine"
    output.unlink()
    assert convert(source, output).counts.frames == 10


def test_an_image_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    folder, output = images(tmp_path / "clip"), tmp_path / "out"

    class Meddler(FolderListener):
        def progress(self, done: int, total: int) -> None:
            if done == total:
                output.mkdir()
                (output / "0001_0.png").write_text("mine")

    with pytest.raises(OutputError, match="not empty"):
        interpolate_frames(folder, output, interpolator=BLEND, listener=Meddler())
    assert (output / "0001_0.png").read_text() == "mine"
    interpolate_frames(folder, output, FolderOptions(overwrite=True), interpolator=BLEND)
    assert probe_image(output / "0001_0.png").width == 16


@pytest.mark.parametrize("when", ["while frames are made", "while they are joined"])
def test_an_input_that_changes_meanwhile_is_not_mixed(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = clip(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    before = source.read_bytes()
    other = clip(tmp_path / "other.mkv", frames=6)

    class Meddler(Listener):
        def progress(self, done: int) -> None:
            if done == 1 and when.startswith("while frames"):
                shutil.copy(other, source)

        def rendered(self) -> None:
            shutil.copy(other, source)

    with pytest.raises(InputError, match=r"in\.mkv: was changed while it was converted"):
        convert(source, output, Meddler())
    assert not output.exists()
    assert not work_folder_of(output).exists()
    source.write_bytes(before)
    assert convert(source, output).counts.frames == 10


def test_a_link_to_nowhere_stands_in_the_way_before_the_work(tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mkv"), tmp_path / "out.mkv"
    output.symlink_to("nowhere.mkv")

    class Silent(Listener):
        def planned(self, *_: object) -> None:
            pytest.fail("the work began")

    with pytest.raises(OutputError, match="exists already"):
        convert(source, output, Silent())


@pytest.mark.parametrize("name", ["out.nut", "out"])
def test_a_named_pipe_is_not_replaced_by_a_file(name: str, tmp_path: Path) -> None:
    source, output = clip(tmp_path / "in.mkv"), tmp_path / name
    os.mkfifo(output)
    options = ConvertOptions(Timing(factor=Fraction(2)), overwrite=True)
    with pytest.raises(OutputError, match="-o -"):
        convert_file(source, output, options, interpolator=lambda: BLEND)
    assert output.is_fifo()


def test_two_streams_do_not_write_one_file(tmp_path: Path) -> None:
    data, output = clip(tmp_path / "in.mkv").read_bytes(), tmp_path / "out.mkv"

    class Second(Listener):
        def rendered(self) -> None:
            with pytest.raises(OutputError, match="in use by another"):
                convert_stream(io.BytesIO(data), output, TWICE, interpolator=BLEND)

    made = convert_stream(io.BytesIO(data), output, TWICE, listener=Second(), interpolator=BLEND)
    assert made.counts.frames == 10
    assert sorted(os.listdir(tmp_path)) == ["in.mkv", "out.mkv"]


def test_a_full_disk_is_told_with_what_to_do() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert said(full) == "the disk is full; free some space and run the same command again"


def test_folders_that_may_not_be_entered_are_named(tmp_path: Path) -> None:
    """In a process of its own, since root may enter all: there it gives that up."""
    prefix: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root, and no setpriv")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    clip(tmp_path / "in.mkv")
    (tmp_path / "all" / "locked").mkdir(parents=True)
    folder = tmp_path / "locked"
    folder.mkdir()
    lines = {
        "convert locked/in.mkv --factor 2": (4, "locked/in.mkv: cannot be read"),
        "convert locked --factor 2": (4, "locked: cannot be read"),
        "convert in.mkv --factor 2 -o locked/out.mkv": (5, "locked cannot be written to"),
        "frames locked/images": (4, "locked/images: cannot be read"),
        "frames all": (4, "all/locked: cannot be read"),
    }
    script = "import sys; from vfi_cli.__main__ import main; print(main(sys.argv[1].split()))"
    for place in (folder, tmp_path / "all" / "locked"):
        place.chmod(0)
    try:
        for line, (code, told) in lines.items():
            ran = subprocess.run(
                [*prefix, sys.executable, "-c", script, line],
                cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            assert ran.stdout == f"{code}\n", ran.stderr
            assert told in ran.stderr
    finally:
        for place in (folder, tmp_path / "all" / "locked"):
            place.chmod(0o700)


def test_a_name_that_is_too_long_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    clip(tmp_path / "in.mkv")
    long = "x" * 300
    options = ("--model", "blend", "--factor", "2")
    assert main(["convert", f"{long}.mkv", *options]) == 4
    assert main(["convert", "in.mkv", *options, "-o", f"{long}.mkv"]) == 5
    assert main(["convert", "in.mkv", "in.mkv", *options, "-o", long]) == 5
    assert main(["frames", long]) == 4
    assert main(["frames", ".", "-o", long]) in (4, 5)
    assert capsys.readouterr().err.count("File name too long") >= 4


def test_an_encoder_that_does_not_open_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SVT-AV1 takes no picture below 4×4."""
    source = write_clip(tmp_path / "in.mkv", frames=2, size=(4, 2), codec="rawvideo")
    line = ["convert", str(source), "--model", "blend", "--factor", "2", "-o"]
    output = str(tmp_path / "out.mkv")
    assert main([*line, output, "--codec", "av1"]) == 5
    assert "choose another with --codec" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["in.mkv"]
    assert main([*line, output, "--codec", "rawvideo"]) == 0
