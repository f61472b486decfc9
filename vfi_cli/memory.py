"""Memory: what this process takes, what the machine still has, and how it is taken."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Literal

#: ``mallopt``'s parameters (malloc.h of glibc), and the largest value that it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = (1 << 31) - 1

#: So many new containers between two searches for garbage. Imports make hundreds of thousands and
#: no garbage; Python's own threshold has it look through them seven hundred times.
_NEW_CONTAINERS = 20_000

_SELF = Path("/proc/self")
_MEMINFO = Path("/proc/meminfo")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
#: Control groups of version 2 and 1, of the container that we may be in: the limit, what is used
#: of it, and where it says how much of that are only files that the kernel keeps at hand.
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)


def resident(when: Literal["now", "peak"] = "now") -> int | None:
    """Bytes of this process in memory, now or at most; None where the system does not tell.

    Not ``getrusage``: on Linux a new process inherits its parent's maximum there.
    """
    kibibytes = _fields(_SELF / "status").get("VmRSS:" if when == "now" else "VmHWM:")
    return None if kibibytes is None else kibibytes * 1024


def forget_peak() -> None:
    """Let the peak of :func:`resident` start again from now, where the system can."""
    with suppress(OSError):
        (_SELF / "clear_refs").write_text("5")


def available() -> int | None:
    """Bytes that this process may still take without swapping; None where the system does not
    tell. A container's limit counts."""
    kibibytes = _fields(_MEMINFO).get("MemAvailable:")
    free = None if kibibytes is None else kibibytes * 1024
    for names in _LIMITS:
        limit, used, stat = (_CGROUP / name for name in names)
        most, taken = _number(limit), _number(used)
        if most is not None and taken is not None:
            files = _fields(stat)
            kept = files.get("inactive_file", 0) + files.get("active_file", 0)
            inside = max(0, most - max(0, taken - kept))
            free = inside if free is None else min(free, inside)
    return free


def prepare() -> bool:
    """Let this process take memory as frames want it; to be called before torch takes any. False
    where the C library cannot keep what is freed.

    glibc gives each large block back to the system as soon as it is freed, and the next one comes
    page by page and zeroed. A network on the CPU takes and frees the same tensors frame after
    frame; the default model spent a third of its time on that. The most that is resident at one
    time grows by some 5 %. In pages of 2 MiB, where Linux has them, a new frame takes another 5
    to 9 % less. Python is told to look for garbage more rarely.
    """
    gc.set_threshold(_NEW_CONTAINERS, *gc.get_threshold()[1:])
    if _HUGE_PAGES.exists():  # else torch would warn
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if _SELF.exists() else None
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST) and mallopt(_TRIM_THRESHOLD, _LARGEST))


def _fields(path: Path) -> dict[str, int]:
    """The lines of a file that consist of a name and a number, and perhaps a unit."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {word[0]: int(word[1]) for word in words if len(word) > 1 and word[1].isdecimal()}


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max": no limit
