"""A conversion in a process of its own, and what it took: shared by the other benchmarks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

#: Runs the command line as ``vfi`` does, and says on the last line when what happened.
_CHILD = """
import json, sys, time
from vfi_cli.__main__ import main
began = time.time()
code = main(sys.argv[1:])
ended = time.time()
from vfi_cli import memory
print("measured", json.dumps({"code": code, "began": began, "ended": ended,
                              "peak": memory.resident("peak")}), file=sys.stderr)
"""


@dataclass(frozen=True)
class Taken:
    """What a conversion took."""

    seconds: float  # from before its process was there until its output stood
    peak: int  # bytes of resident memory at most


def run_vfi(*arguments: str | Path) -> Taken:
    """Run ``vfi`` on the arguments. Raises SystemExit with what it said where it fails."""
    before = time.time()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    *said, last = done.stderr.strip().splitlines() or [""]
    if not last.startswith("measured "):
        raise SystemExit("\n".join([*said, last]))
    record = json.loads(last.removeprefix("measured "))
    if record["code"]:
        raise SystemExit("\n".join(said))
    return Taken(record["ended"] - before, record["peak"])


def row(*cells: object) -> str:
    """A line of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> str:
    """The first two lines of a table, numbers to the right."""
    return f"{row(*cells)}\n|---{'|---:' * (len(cells) - 1)}|"
