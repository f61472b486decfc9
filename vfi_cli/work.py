"""The work folder of a run: finished segments, and the plan they belong to.

It stands beside the output as ``.NAME.vfi`` (so that a rename is atomic) and is
removed when the output is published. A folder that belongs to another plan is
refused (or begun anew, with overwrite), and one in use by another process is left alone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vfi_cli.errors import OutputError
from vfi_cli.io.atomic import fsync_dir
from vfi_cli.wording import said

PLAN_FILE = "plan.json"
LOCK_FILE = "lock"
PUBLISHED_FILE = "published"


def work_folder_of(output: Path) -> Path:
    """Where the unfinished work for ``output`` is kept."""
    return output.with_name(f".{output.name}.vfi")


@contextmanager
def writing(what: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one line that names ``what``."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {what}: {said(error)}") from error


def write_durably(path: Path, text: str) -> None:
    """Write a small file so that after a crash it is either whole or absent."""
    temporary = path.with_name(path.name + ".part")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class WorkFolder:
    """Finished segments on disk. Use as a context manager: it holds a lock meanwhile.

    A folder without anything finished is removed at the end, and is in nobody's way before.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: str,
        description: dict[str, Any],
        *,
        overwrite: bool = False,
    ) -> None:
        self.path = path
        self._overwrite = overwrite
        self._fingerprint = fingerprint
        self._description = description
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> WorkFolder:
        with writing(self.path):
            self.path.mkdir(exist_ok=True)
            self._lock = _lock(self.path / LOCK_FILE)
        try:
            self._adopt_or_begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            if not _holds_work(self.path):
                shutil.rmtree(self.path, ignore_errors=True)
            self._lock.close()
            self._lock = None

    def _adopt_or_begin(self) -> None:
        with writing(self.path):
            if not is_unfinished(self.path, self._fingerprint, overwrite=self._overwrite):
                self._clear()
                self._begin()
            for left_over in self.path.glob("*.part"):
                left_over.unlink()

    def _begin(self) -> None:
        record = {"fingerprint": self._fingerprint, **self._description}
        write_durably(self.path / PLAN_FILE, json.dumps(record, indent=1, default=str))

    def _clear(self) -> None:
        # The plan goes first: segments without a plan are never adopted.
        (self.path / PLAN_FILE).unlink(missing_ok=True)
        for entry in self.path.iterdir():
            if entry.name != LOCK_FILE:
                entry.unlink()

    def segment(self, number: int) -> Path:
        """The finished segment's file; it exists only when the segment is complete."""
        return self.path / f"{number:06}.segment"

    def segment_part(self, number: int) -> Path:
        """Where a segment is written before it is complete."""
        return self.path / f"{number:06}.segment.part"

    def temporary_output(self, suffix: str) -> Path:
        """Where the joined output is written before it is checked and published."""
        return _joined(self.path, suffix)

    def finish(self, number: int, result: dict[str, Any]) -> None:
        """Declare a segment complete: its result first, then its file under the final name."""
        part = self.segment_part(number)
        with writing(part):
            write_durably(
                self.path / f"{number:06}.json", json.dumps({**result, "size": part.stat().st_size})
            )
            os.replace(part, self.segment(number))
            fsync_dir(self.path)

    def result(self, number: int) -> dict[str, Any] | None:
        """What ``finish`` was told of a complete segment; None if there is none on disk."""
        record = self.path / f"{number:06}.json"
        segment = self.segment(number)
        if not (record.exists() and segment.exists()):
            return None
        result = _read_json(record)
        return result if result.get("size") == segment.stat().st_size else None

    def remember(self, name: str, record: dict[str, Any]) -> None:
        """Keep what a run found out and a later one that goes on must know."""
        with writing(self.path):
            write_durably(self.path / f"{name}.json", json.dumps(record))

    def recall(self, name: str) -> dict[str, Any] | None:
        """What was last remembered under this name; None where nothing was."""
        path = self.path / f"{name}.json"
        return (_read_json(path) or None) if path.exists() else None

    def announce_publication(self) -> None:
        """Say that the joined output is checked and about to be renamed into place.

        A run that dies between that rename and ``remove`` is then known to be done.
        """
        with writing(self.path):
            write_durably(self.path / PUBLISHED_FILE, self._fingerprint)

    def remove(self) -> None:
        """Delete the folder and all that is in it, after the output stands."""
        self.__exit__()
        shutil.rmtree(self.path, ignore_errors=True)


def is_unfinished(path: Path, fingerprint: str, *, overwrite: bool = False) -> bool:
    """Whether the work folder holds an unfinished run of this plan.

    Raises OutputError where it holds one of another plan that is not to be overwritten.
    """
    plan_file = path / PLAN_FILE
    if not plan_file.exists() or not _holds_work(path):
        return False
    same = bool(_read_json(plan_file).get("fingerprint") == fingerprint)
    if not same and not overwrite:
        raise OutputError(
            f"{path} holds an unfinished run with another input, other settings or another "
            "version; run that command again to finish it, or add --overwrite to start anew"
        )
    return same


def _holds_work(path: Path) -> bool:
    """Whether there is anything finished in the folder, beside records of what was to be done."""
    with suppress(FileNotFoundError):
        rest = (p for p in path.iterdir() if p.suffix not in (".json", ".part"))
        return any(p.name != LOCK_FILE for p in rest)
    return False


def was_published(path: Path, fingerprint: str) -> bool:
    """Whether the run of this work folder got as far as publishing its output."""
    marker = path / PUBLISHED_FILE
    return marker.exists() and marker.read_text(encoding="utf-8") == fingerprint


def is_finished(output: Path, fingerprint: str, *, overwrite: bool = False) -> bool:
    """Whether an earlier run of this plan published its output file, and was then interrupted.

    Raises OutputError where something else stands in its place that is not to be overwritten.
    """
    if not os.path.lexists(output):  # a link to nowhere stands in the way, too
        return False
    folder = work_folder_of(output)
    # What lies here still was never given its name: another file came first.
    finished = was_published(folder, fingerprint) and not _joined(folder, output.suffix).exists()
    if not finished and not overwrite:
        raise OutputError(f"{output} exists already; add --overwrite to replace it")
    return finished


def _joined(folder: Path, suffix: str) -> Path:
    return folder / f"joined{suffix}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _lock(path: Path) -> IO[bytes]:
    """Open and lock a file until it is closed (or the process dies, however it dies)."""
    file = open(path, "a+b")  # noqa: SIM115 (the caller keeps it open: closing unlocks)
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise OutputError(f"{path.parent} is in use by another vfi process") from error
    return file
