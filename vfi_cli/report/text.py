"""Text on its way into a page: escaped, readable whatever a file was named, numbers for people."""

from __future__ import annotations

import html
import math
from pathlib import Path

from vfi_cli.timeline import format_time
from vfi_cli.wording import NBSP

#: Characters that reorder the text around them, with which a name can pass for another.
_REORDER = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(value: object) -> str:
    """The text of a value, with what cannot be shown made visible.

    Control characters become their pictures (a newline ␊); marks that reorder text and bytes
    of a name that are no UTF-8 become replacement characters.
    """
    return "".join(_visible(character) for character in str(value))


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    if character in _REORDER or 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000:
        return "\N{REPLACEMENT CHARACTER}"
    return character


def escaped(value: object) -> str:
    """:func:`plain` text that is safe between tags and inside quoted attributes."""
    return html.escape(plain(value), quote=True)


def name_of(path: Path | str) -> str:
    """The last part of a path; the whole of one that has no name."""
    return Path(path).name or str(path)


def number(value: float, digits: int = 3, *, places: int | None = None) -> str:
    """A number with about ``digits`` significant digits, groups of three: ``12 800``, ``0.042``.

    ``places`` asks for exactly so many decimals instead.
    """
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "–"
    if places is None and isinstance(value, int):
        places = 0
    if places is not None:
        text = f"{value:,.{places}f}"
    elif value == 0:
        text = "0"
    else:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        text = f"{value:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace(",", NBSP).replace("-", "−")


def clock(seconds: float, step: float = 0.01) -> str:
    """A time as ``1:02:03.45``, with as many decimals as a difference of ``step`` needs."""
    decimals = 0 if step >= 1 else 1 if step >= 0.1 else 2 if step >= 0.01 else 3
    return format_time(seconds, decimals=decimals)
