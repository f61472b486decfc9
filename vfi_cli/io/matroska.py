"""Completes the header of a finished Matroska or WebM file with what PyAV cannot pass on.

The sample aspect ratio and HDR metadata belong into the picture's track entry, in front of
everything else in the file. Room for them is kept by writing the track's name with padding
(:func:`padded_name`); :func:`complete` puts the right name back, adds the elements and fills the
rest with a Void element, so that nothing moves. Element numbers are those of RFC 9559.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Any, BinaryIO

from vfi_cli.io.source import HdrInfo

_SEGMENT, _TRACKS, _ENTRY, _CLUSTER = 0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675
_CRC, _VOID = 0xBF, 0xEC
_NAME, _VIDEO, _COLOUR = 0x536E, 0xE0, 0x55B0
_WIDTH, _HEIGHT = 0xB0, 0xBA
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_MAX_CLL, _MAX_FALL, _MASTERING = 0x55BC, 0x55BD, 0x55D0
_PADDING = "·" * 128  # two bytes each


class MatroskaError(ValueError):
    """The file is not laid out as expected."""


@dataclass(frozen=True)
class Additions:
    """What :func:`complete` writes into one track entry."""

    track: int  # 0 the first
    name: str = ""
    sample_aspect_ratio: Fraction | None = None
    hdr: HdrInfo | None = None


def padded_name(name: str) -> str:
    """A track name that keeps room for :func:`complete`."""
    return name + _PADDING


def complete(path: str | os.PathLike[str], additions: Additions) -> None:
    """Rewrite one track entry of a finished file, in place. Raises MatroskaError."""
    with open(path, "r+b") as file:
        found = _find_tracks(file)
        assert found is not None
        at, size = found
        file.seek(at)
        content = file.read(size)
        changed = rewrite_tracks(content, additions)
        assert len(changed) == len(content)
        file.seek(at)
        file.write(changed)


class HeldHeader:
    """A file object that only writes on, in front of one that does: completes the header.

    Nothing is passed on until the track entries are there; without ``additions`` all passes.
    """

    def __init__(self, target: Any) -> None:
        self.additions: Additions | None = None
        self.name = getattr(target, "name", "the output")
        self._target = target
        self._held: bytes | None = b""

    def write(self, data: bytes) -> int:
        if self._held is None or self.additions is None:
            self._held = None
            self._target.write(data)
            return len(data)
        self._held += bytes(data)
        found = _find_tracks(io.BytesIO(self._held), strict=False)
        if found is not None and sum(found) <= len(self._held):
            at, size = found
            changed = rewrite_tracks(self._held[at : at + size], self.additions)
            self._target.write(self._held[:at] + changed + self._held[at + size :])
            self._held = None
        return len(data)

    def flush(self) -> None:
        if flush := getattr(self._target, "flush", None):
            flush()


def _find_tracks(file: BinaryIO, *, strict: bool = True) -> tuple[int, int] | None:
    """(offset, size) of the content of the Tracks element; None: not yet there, not ``strict``."""
    end = file.seek(0, os.SEEK_END)
    at = 0
    while at < end:
        file.seek(at)
        head = file.read(12)
        if len(head) < 12 and not strict:
            return None
        kind, length, size = _head(head, 0)
        if kind == _SEGMENT:
            at += length
        elif kind == _TRACKS:
            return at + length, size
        elif kind == _CLUSTER:
            break
        else:
            at += length + size
    if not strict:
        return None
    raise MatroskaError("no tracks before the first cluster")


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """(element number, length of the head, size of the content) of the element at ``at``."""
    try:
        width = 9 - data[at].bit_length()
        kind = int.from_bytes(data[at : at + width], "big")
        first = data[at + width]
        count = 9 - first.bit_length()
        if width > 4 or count > 8:
            raise MatroskaError("not an element")
        size = int.from_bytes(data[at + width : at + width + count], "big")
        return kind, width + count, size - (1 << 7 * count)
    except IndexError:
        raise MatroskaError("an element is cut off") from None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length, size = _head(data, at)
        if at + length + size > len(data):
            raise MatroskaError("an element is longer than what holds it")
        yield kind, data[at + length : at + length + size]
        at += length + size


def _element(kind: int, content: bytes, width: int = 0) -> bytes:
    """An element; ``width`` forces the bytes of its size."""
    width = width or next(n for n in range(1, 9) if len(content) < (1 << 7 * n) - 1)
    number = kind.to_bytes((kind.bit_length() + 7) // 8, "big")
    return number + (len(content) | 1 << 7 * width).to_bytes(width, "big") + content


def _unsigned(kind: int, value: int) -> bytes:
    return _element(kind, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _float(kind: int, value: Fraction) -> bytes:
    return _element(kind, struct.pack(">d", float(value)))


def rewrite_tracks(content: bytes, additions: Additions) -> bytes:
    """The content of a Tracks element with one entry changed; the same number of bytes."""
    at, number = 0, 0
    while at < len(content):
        kind, length, size = _head(content, at)
        if kind == _ENTRY:
            if number == additions.track:
                start = at + length
                entry = _rewrite_entry(content[start : start + size], additions)
                content = content[:start] + entry + content[start + size :]
                return _with_checksum(content)
            number += 1
        at += length + size
    raise MatroskaError(f"no track {additions.track}")


def _with_checksum(content: bytes) -> bytes:
    """A master element's CRC-32, its first child where there is one, covers all the others."""
    if content[:2] == bytes((_CRC, 0x84)):
        return content[:2] + struct.pack("<I", zlib.crc32(content[6:])) + content[6:]
    return content


def _rewrite_entry(entry: bytes, additions: Additions) -> bytes:
    parts = []
    for kind, content in _elements(entry):
        if kind == _NAME:
            if additions.name:
                parts.append(_element(_NAME, additions.name.encode()))
        elif kind == _VIDEO:
            parts.append(_element(_VIDEO, _rewrite_video(content, additions)))
        elif kind != _VOID:
            parts.append(_element(kind, content))
    result = b"".join(parts)
    spare = len(entry) - len(result)
    if spare == 0:
        return result
    if spare < 2:
        raise MatroskaError("no room in the track entry")
    width = 1 if spare < 100 else 8
    return result + _element(_VOID, b"\0" * (spare - 1 - width), width)


def _rewrite_video(video: bytes, additions: Additions) -> bytes:
    elements = dict(_elements(video))
    sar = additions.sample_aspect_ratio
    if sar:
        for kind in (_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT):
            elements.pop(kind, None)
    colour = elements.pop(_COLOUR, b"")
    if additions.hdr is not None:
        colour += _hdr_elements(additions.hdr, {kind for kind, _ in _elements(colour)})
    result = b"".join(_element(kind, content) for kind, content in elements.items())
    if sar:
        width = int.from_bytes(elements[_WIDTH], "big") * sar.numerator
        height = int.from_bytes(elements[_HEIGHT], "big")
        if width % sar.denominator == 0:
            result += _unsigned(_DISPLAY_WIDTH, width // sar.denominator)
            result += _unsigned(_DISPLAY_HEIGHT, height)
        else:  # no whole number of pixels: the ratio of the sides, exactly
            height *= sar.denominator
            common = gcd(width, height)
            result += _unsigned(_DISPLAY_WIDTH, width // common)
            result += _unsigned(_DISPLAY_HEIGHT, height // common)
            result += _unsigned(_DISPLAY_UNIT, 3)
    return result + (_element(_COLOUR, colour) if colour else b"")


def _hdr_elements(hdr: HdrInfo, present: set[int]) -> bytes:
    result = b""
    if hdr.max_content_light is not None and _MAX_CLL not in present:
        result += _unsigned(_MAX_CLL, hdr.max_content_light)
    if hdr.max_frame_average_light is not None and _MAX_FALL not in present:
        result += _unsigned(_MAX_FALL, hdr.max_frame_average_light)
    if _MASTERING in present:
        return result
    inner = b""
    if hdr.primaries is not None and hdr.white_point is not None:
        values = [value for point in (*hdr.primaries, hdr.white_point) for value in point]
        inner += b"".join(_float(0x55D1 + n, value) for n, value in enumerate(values))
    if hdr.luminance is not None:
        inner += _float(0x55D9, hdr.luminance[1]) + _float(0x55DA, hdr.luminance[0])
    return result + (_element(_MASTERING, inner) if inner else b"")
