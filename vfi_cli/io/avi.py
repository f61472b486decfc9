"""Writes into a finished AVI file when its sound begins, which FFmpeg's muxer leaves out.

Layout: the ``strh`` chunk of Microsoft's AVI RIFF reference (``dwScale``, ``dwRate``,
``dwStart``).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction

_HEADER_BYTES = 1 << 20
_SCALE = 20  # offset of dwScale in strh; dwRate and dwStart follow
_START = 28


def set_starts(path: str | os.PathLike[str], starts: Mapping[int, Fraction]) -> None:
    """Let streams (0 the first) begin later, ``starts`` in seconds. ValueError: no AVI file."""
    with open(path, "r+b") as file:
        head = file.read(_HEADER_BYTES)
        headers = list(_stream_headers(head))
        for number, start in starts.items():
            if number >= len(headers):
                raise ValueError(f"no stream {number} in the AVI header")
            at = headers[number]
            scale, rate = struct.unpack_from("<II", head, at + _SCALE)
            file.seek(at + _START)
            file.write(struct.pack("<I", max(0, round(start * rate / max(1, scale)))))


def _stream_headers(head: bytes) -> Iterator[int]:
    """Offsets of the content of each ``strh`` chunk."""
    if head[:4] != b"RIFF" or head[8:12] != b"AVI ":
        raise ValueError("not an AVI file")
    at = 12
    while at + 12 <= len(head):
        kind, size = struct.unpack_from("<4sI", head, at)
        if kind == b"LIST" and head[at + 8 : at + 12] == b"movi":
            return
        if kind == b"LIST" and head[at + 8 : at + 12] in (b"hdrl", b"strl"):
            at += 12  # go into the list
            continue
        if kind == b"strh":
            yield at + 8
        at += 8 + size + (size & 1)
