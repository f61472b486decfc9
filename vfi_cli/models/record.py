"""What the cache folder knows of its files: where each came from, and what it was then.

A file whose SHA-256 nobody published is trusted when it is first pulled; from then on it must
stay the same. ``pulled.json`` in the cache folder holds that. No torch here.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vfi_cli.errors import ModelError

FILE = "pulled.json"


@dataclass(frozen=True)
class PulledFile:
    """One file of the cache folder, as it was when it was pulled."""

    name: str
    sha256: str
    size: int
    source: str  # an address, or the path of the file that was given
    architecture: str
    parameters: int
    pulled: str  # date and time, ISO 8601, UTC
    licence: str | None = None
    member: str | None = None  # its path in the archive that was downloaded


def read_record(folder: Path) -> dict[str, PulledFile]:
    """The record of a cache folder, by file name; empty where there is none yet.

    Raises ModelError where it cannot be read: without it, changed files would go unnoticed.
    """
    path = folder / FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {file: _checked(given) for file, given in table.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path}: the record of what was pulled is damaged ({' '.join(str(error).split())}); "
            "delete it, and pull the models again"
        ) from None


def _checked(given: dict[str, Any]) -> PulledFile:
    for key, value in given.items():
        wanted = int if key in ("size", "parameters") else str
        if not isinstance(value, wanted) and not (value is None and key in ("licence", "member")):
            raise ValueError(f"{key} is {value!r}")
    return PulledFile(**given)


def write_record(folder: Path, file: str, pulled: PulledFile) -> None:
    """Put one file into the record, in one step that survives a crash. Raises OSError."""
    table = {known: asdict(entry) for known, entry in read_record(folder).items()}
    table[file] = asdict(pulled)
    tmp = folder / f".{FILE}.{os.getpid()}"
    try:
        with tmp.open("w", encoding="utf-8") as stream:
            json.dump(table, stream, indent=1, ensure_ascii=False, sort_keys=True)
            stream.write("\n")
            stream.flush()
            os.fsync(stream.fileno())
        tmp.replace(folder / FILE)
    finally:
        with contextlib.suppress(FileNotFoundError):
            tmp.unlink()
