"""Numbers, and what errors of others say, as people read them in messages and on pages."""

from __future__ import annotations

import errno

NBSP = "\N{NO-BREAK SPACE}"


def grouped(number: int) -> str:
    """Digits in groups of three: 8058 → ``8 058`` (no-break space)."""
    return f"{number:,}".replace(",", NBSP)


def counted(number: int, noun: str) -> str:
    """``1 clip``, ``2 clips``, ``8 058 clips``: for nouns that take an s."""
    return f"{grouped(number)} {noun}" if number == 1 else f"{grouped(number)} {noun}s"


def file_size(count: float) -> str:
    """Bytes in decimal units: ``1.3 MB``, ``112 MB``."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while count >= 999.5 and len(units) > 1:
        count /= 1000
        units.pop(0)
    whole = units[0] == "B" or count >= 9.95
    return f"{count:.{0 if whole else 1}f}{NBSP}{units[0]}"


def said(error: BaseException) -> str:
    """What an error of the system or of a library says: one line, without its number and class."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run the same command again"
    text = str(getattr(error, "strerror", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
