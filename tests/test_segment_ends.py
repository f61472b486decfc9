"""What a segment's encoder still holds is written while the next segment is made."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.media import write_clip
from tests.test_convert import convert, frames_of, numbers
from vfi_cli.api import Listener
from vfi_cli.errors import OutputError
from vfi_cli.execute import local
from vfi_cli.io.encode import VideoWriter
from vfi_cli.work import work_folder_of


class Progress(Listener):
    """How far a conversion is, for those that wait for it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.reached = threading.Event()

    def progress(self, done: int) -> None:
        if done >= self.target:
            self.reached.set()


class OnDevice(local._Renderer):
    """Makes frames as if the model worked elsewhere than the encoder."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shares_processor = False


@pytest.fixture(autouse=True)
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_Renderer", OnDevice)
    # The trial closes a writer, too.
    monkeypatch.setattr("vfi_cli.io.trial.try_output", lambda *_, **__: None)


def test_a_segment_ends_while_the_next_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 2))
    source = write_clip(tmp_path / "in.mp4", frames=60, options={"g": "10"})
    further = Progress(50)
    met: list[bool] = []
    close = VideoWriter.close

    def patient(writer: VideoWriter) -> None:
        if not met:  # of the first segment
            met.append(further.reached.wait(10))
        close(writer)

    monkeypatch.setattr(VideoWriter, "close", patient)
    result = convert(source, tmp_path / "out.mkv", factor=2, listener=further)
    assert result.plan.segments[0].count < 50
    assert met == [True]
    assert numbers(frames_of(result.output))[::2] == list(range(60))


def test_on_a_processor_one_encoder_is_there_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 2))
    source = write_clip(tmp_path / "in.mp4", frames=60, options={"g": "10"})
    there: list[int] = [0]
    write, close = VideoWriter.write, VideoWriter.close
    open_now: set[int] = set()

    def counted_write(writer: VideoWriter, frame: Any) -> None:
        open_now.add(id(writer))
        there.append(len(open_now))
        write(writer, frame)

    def counted_close(writer: VideoWriter) -> None:
        close(writer)
        open_now.discard(id(writer))

    monkeypatch.setattr(VideoWriter, "write", counted_write)
    monkeypatch.setattr(VideoWriter, "close", counted_close)
    result = convert(source, tmp_path / "out.mkv", factor=2)
    assert len(result.plan.segments) > 1
    assert max(there) == 1


def test_an_encoder_that_fails_at_its_end_is_told_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what another segment has done is kept."""
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 2))
    source = write_clip(tmp_path / "in.mp4", frames=60, options={"g": "10"})
    output = tmp_path / "out.mkv"
    ends: list[VideoWriter] = []
    close = VideoWriter.close

    class Slow(Listener):
        def progress(self, done: int) -> None:
            threading.Event().wait(0.01)

    def failing(writer: VideoWriter) -> None:
        ends.append(writer)
        if len(ends) == 2:
            raise OutputError("the disk is full")
        close(writer)

    monkeypatch.setattr(VideoWriter, "close", failing)
    with pytest.raises(OutputError, match="the disk is full"):
        convert(source, output, factor=2, listener=Slow())
    assert len(ends) == 2, "more segments were begun"
    assert (work_folder_of(output) / "000000.segment").exists()
    assert not (work_folder_of(output) / "000001.segment").exists()
