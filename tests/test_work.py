"""The work folder: what is adopted after a crash, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vfi_cli.errors import OutputError
from vfi_cli.work import WorkFolder, was_published, work_folder_of, writing


def write_segment(work: WorkFolder, number: int, content: bytes) -> None:
    work.segment_part(number).write_bytes(content)
    work.finish(number, {"frames": len(content)})


def test_finished_segments_are_adopted_and_parts_are_not(tmp_path: Path) -> None:
    folder = work_folder_of(tmp_path / "out.mp4")
    assert folder == tmp_path / ".out.mp4.vfi"
    with WorkFolder(folder, "a", {"input": "in.mp4"}) as work:
        write_segment(work, 0, b"12345")
        work.segment_part(1).write_bytes(b"half")
    with WorkFolder(folder, "a", {}) as work:
        result = work.result(0)
        assert result is not None
        assert result["frames"] == 5
        assert work.result(1) is None
        assert not work.segment_part(1).exists()
        work.remove()
    assert not folder.exists()


def test_a_segment_of_the_wrong_size_does_not_count(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "w", "a", {}) as work:
        write_segment(work, 0, b"12345")
        work.segment(0).write_bytes(b"123")
        assert work.result(0) is None


def test_a_record_without_its_segment_does_not_count(tmp_path: Path) -> None:
    """The state after a kill between writing the record and renaming the segment."""
    with WorkFolder(tmp_path / "w", "a", {}) as work:
        write_segment(work, 0, b"12345")
        work.segment(0).rename(work.segment_part(0))
        assert work.result(0) is None


def test_another_plan_is_refused_or_begun_anew(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "w", "a", {}) as work:
        write_segment(work, 0, b"1")
    with pytest.raises(OutputError, match="unfinished run"), WorkFolder(tmp_path / "w", "b", {}):
        pass
    with WorkFolder(tmp_path / "w", "a", {}) as work:
        assert work.result(0) is not None
    with WorkFolder(tmp_path / "w", "b", {}, overwrite=True) as work:
        assert work.result(0) is None
    with WorkFolder(tmp_path / "w", "b", {}, overwrite=True) as work:
        write_segment(work, 0, b"1")
    with WorkFolder(tmp_path / "w", "b", {}, overwrite=True) as work:
        assert work.result(0) is not None, "the same command again goes on, even with --overwrite"


def test_a_run_that_finished_nothing_is_in_nobodys_way(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "w", tmp_path / "killed"
    with WorkFolder(folder, "a", {}) as work:
        work.remember("fit", {"tile": 512})
        work.segment_part(0).write_bytes(b"half")
        shutil.copytree(folder, elsewhere)
    assert not folder.exists()
    with WorkFolder(elsewhere, "b", {}) as work:
        write_segment(work, 0, b"1")
    assert elsewhere.exists()


def test_segments_without_a_plan_are_not_adopted(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "w", "a", {}) as work:
        write_segment(work, 0, b"1")
    (tmp_path / "w" / "plan.json").unlink()
    with WorkFolder(tmp_path / "w", "a", {}) as work:
        assert work.result(0) is None


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        WorkFolder(tmp_path / "w", "a", {}),
        pytest.raises(OutputError, match="in use"),
        WorkFolder(tmp_path / "w", "a", {}),
    ):
        pass


def test_publication_is_remembered(tmp_path: Path) -> None:
    with WorkFolder(tmp_path / "w", "a", {}) as work:
        assert not was_published(tmp_path / "w", "a")
        work.announce_publication()
    assert was_published(tmp_path / "w", "a")
    assert not was_published(tmp_path / "w", "b")


def test_refusals_of_the_system_become_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"), WorkFolder(tmp_path / "no/w", "a", {}):
        pass
    with pytest.raises(OutputError, match="disk is full"), writing(tmp_path):
        raise OSError(28, "No space left on device")
