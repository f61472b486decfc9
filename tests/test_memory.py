"""Memory: what is told of this process and this machine, containers included."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vfi_cli import memory

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_what_is_resident_is_told_now_and_at_most() -> None:
    memory.forget_peak()
    before = memory.resident()
    assert before is not None
    with mmap.mmap(-1, 64 << 20) as block:  # new pages, none that were freed before
        block.write(b"x" * len(block))
        held = memory.resident()
    peak = memory.resident("peak")
    assert held is not None
    assert peak is not None
    assert held - before > 60 << 20
    assert peak > held - (4 << 20)  # the kernel counts in batches


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8000 * 1024),
        ({"memory.max": "max", "memory.current": "5"}, 8000 * 1024),
        ({"memory.max": "4096000", "memory.current": "1096000"}, 3000000),
        (
            {
                "memory.max": "4096000",
                "memory.current": "4096000",
                "memory.stat": "anon 1\ninactive_file 1000000\nactive_file 500000\n",
            },
            1500000,
        ),
        (
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "7",
            },
            8000 * 1024,
        ),
    ],
)
def test_available_respects_containers(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:  16000 kB\nMemAvailable:   8000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", meminfo)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available() == expected


def test_nothing_is_told_where_the_system_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_SELF", "_MEMINFO", "_CGROUP", "_HUGE_PAGES"):
        monkeypatch.setattr(memory, name, tmp_path / "missing")
    assert memory.resident() is None
    assert memory.available() is None
    assert memory.prepare() is False
    memory.forget_peak()


_PAGES = """
import resource, sys
from vfi_cli import memory
if sys.argv[1] == "kept" and not memory.prepare():
    sys.exit(77)
def take():
    block = bytearray(48 << 20)
    block[:: 1 << 12] = b"x" * (12 << 10)
take()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@linux
def test_what_is_freed_is_kept_for_the_next_frame() -> None:
    """The pages of a large block come from the system once, and not again each time."""
    faults = {}
    for how in ("given back", "kept"):
        run = subprocess.run(
            [sys.executable, "-c", _PAGES, how], capture_output=True, text=True, check=False
        )
        if run.returncode == 77:
            pytest.skip("the C library has no mallopt")
        faults[how] = int(run.stdout)
    assert faults["given back"] > 4 * (48 << 20) / 4096 / 2
    assert faults["kept"] < 4 * (48 << 20) / 4096 / 20


_HUGE = """
import sys
from vfi_cli import memory
if sys.argv[1] == "prepared":
    memory.prepare()
import torch
block = torch.ones(16 << 20)
print(next(line for line in open("/proc/self/smaps_rollup") if "AnonHugePages" in line).split()[1])
"""


@linux
def test_tensors_are_in_large_pages() -> None:
    pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not pages.exists() or "[madvise]" not in pages.read_text():
        pytest.skip("the system has no large pages, or gives them to all")
    environment = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    kibibytes = {
        how: int(subprocess.check_output([sys.executable, "-c", _HUGE, how], env=environment))
        for how in ("as it is", "prepared")
    }
    assert kibibytes["as it is"] < 8 << 10
    assert kibibytes["prepared"] > 40 << 10
