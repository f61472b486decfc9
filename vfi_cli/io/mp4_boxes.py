"""Completes a finished MP4 or QuickTime file with what FFmpeg's muxer leaves out.

FFmpeg writes the ``moov`` box behind the samples, where it may grow without moving any of them;
when it is complete it can be put in front of them. Layouts: ISO/IEC 14496-12, and Apple's
QuickTime File Format for ``ilst``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from vfi_cli.io.source import HdrInfo

#: Boxes that hold nothing but boxes, by name; others are kept as bytes.
_PARENTS = frozenset(
    {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"udta", b"edts", b"ilst", b"----"}
)
_VISUAL_ENTRY = 78  # bytes of a picture's sample entry before its boxes


class BoxError(ValueError):
    """The file is not laid out as expected."""


@dataclass
class Box:
    """A box: ``head`` are the bytes of its own before its children, or all its content."""

    kind: bytes
    head: bytes = b""
    children: list[Box] = field(default_factory=list)

    def find(self, *path: bytes) -> Box | None:
        """The first box at a path of kinds below this one."""
        box: Box | None = self
        for kind in path:
            assert box is not None
            box = next((child for child in box.children if child.kind == kind), None)
            if box is None:
                return None
        return box

    def all(self, kind: bytes) -> list[Box]:
        return [child for child in self.children if child.kind == kind]

    def data(self) -> bytes:
        """The box with its header, ready to be written."""
        body = self.head + b"".join(child.data() for child in self.children)
        if len(body) + 8 < 1 << 32:
            return struct.pack(">I4s", len(body) + 8, self.kind) + body
        return struct.pack(">I4sQ", 1, self.kind, len(body) + 16) + body


def _split(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the boxes that follow each other in ``data``."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            raise BoxError(f"a box {kind!r} has a size that cannot be")
        yield kind, data[at + head : at + size]
        at += size
    if data[at:].strip(b"\0"):
        raise BoxError("bytes that are no box")


def parse(kind: bytes, content: bytes) -> Box:
    """A box and, where it is known to hold boxes, its children."""
    if kind in _PARENTS:
        return Box(kind, b"", [parse(k, c) for k, c in _split(content)])
    if kind == b"meta":
        # A full box in MP4 (four bytes of version and flags), a plain one in QuickTime.
        head = 4 if content[:4] == b"\0\0\0\0" else 0
        return Box(kind, content[:head], [parse(k, c) for k, c in _split(content[head:])])
    return Box(kind, content)


def _top_level(path: str | os.PathLike[str]) -> Iterator[tuple[bytes, int, int]]:
    """(kind, offset, size) of a file's outermost boxes."""
    end = os.path.getsize(path)
    with open(path, "rb") as file:
        at = 0
        while at + 8 <= end:
            file.seek(at)
            size, kind = struct.unpack(">I4s", file.read(8))
            if size == 1:
                (size,) = struct.unpack(">Q", file.read(8))
            elif size == 0:
                size = end - at
            if size < 8:
                raise BoxError(f"a box {kind!r} has a size that cannot be")
            yield kind, at, size
            at += size


def read_moov(path: str | os.PathLike[str]) -> tuple[Box, int, int]:
    """(the movie box, its offset, its size) of a file. Raises BoxError where there is none."""
    for kind, offset, size in _top_level(path):
        if kind == b"moov":
            with open(path, "rb") as file:
                file.seek(offset)
                data = file.read(size)
            head = 16 if struct.unpack_from(">I", data)[0] == 1 else 8
            return parse(kind, data[head:]), offset, size
    raise BoxError("no movie box")


@dataclass(frozen=True)
class Additions:
    """What :func:`complete` adds."""

    languages: Mapping[int, str] = field(default_factory=dict)  # track (0 the first) → deu
    tags: Mapping[str, str] = field(default_factory=dict)  # free-form tags of the file
    covers: tuple[tuple[str, bytes], ...] = ()  # (codec, picture file) each
    picture: int = 0  # the picture's track
    hdr: HdrInfo | None = None

    def __bool__(self) -> bool:
        return bool(self.languages or self.tags or self.covers or self.hdr)


def complete(path: str | os.PathLike[str], additions: Additions) -> None:
    """Add languages, tags and HDR metadata to a finished file, in place.

    Raises BoxError where the movie box does not stand at the file's end.
    """
    if not additions:
        return
    moov, offset, size = read_moov(path)
    if offset + size != os.path.getsize(path):
        raise BoxError("the movie box is not at the end")
    tracks = moov.all(b"trak")
    for number, language in additions.languages.items():
        if number >= len(tracks):
            raise BoxError(f"there is no track {number}")
        _set_language(tracks[number], language)
    if additions.hdr is not None:
        if additions.picture >= len(tracks):
            raise BoxError(f"there is no track {additions.picture}")
        _set_hdr(tracks[additions.picture], additions.hdr)
    if additions.tags:
        _add_tags(_tag_list(moov), additions.tags)
    if additions.covers:
        _add_covers(_tag_list(moov), additions.covers)
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(moov.data())
        file.truncate()


#: Bytes that are moved at once.
_BLOCK = 8 << 20


def move_to_front(path: str | os.PathLike[str]) -> None:
    """Put the movie box of a finished file before its samples, in place.

    A player that reads the file from a server can then begin at once. All samples are moved,
    from the last to the first, so that this needs time but no second copy. Does nothing where
    the box does not stand at the end, and raises BoxError where there is none.
    """
    moov, offset, size = read_moov(path)
    if offset + size != os.path.getsize(path):
        return
    begin = sum(length for kind, _, length in _top_level(path) if kind == b"ftyp")
    tables = _chunk_tables(moov)
    offsets = [_chunk_offsets(table) for table in tables]
    moved = size
    while True:  # a table of larger numbers takes more space, which moves the samples further
        for table, places in zip(tables, offsets, strict=True):
            _set_chunk_offsets(table, places + moved)
        written = moov.data()
        if len(written) == moved:
            break
        moved = len(written)
    with open(path, "r+b") as file:
        at = offset
        while at > begin:
            length = min(_BLOCK, at - begin)
            at -= length
            file.seek(at)
            block = file.read(length)
            file.seek(at + moved)
            file.write(block)
        file.seek(begin)
        file.write(written)
        file.truncate(offset + moved)


def _chunk_tables(moov: Box) -> list[Box]:
    """The boxes that say where in the file each track's samples lie."""
    sample_tables = (track.find(b"mdia", b"minf", b"stbl") for track in moov.all(b"trak"))
    return [
        box
        for table in sample_tables
        if table is not None
        for box in table.children
        if box.kind in (b"stco", b"co64")
    ]


def _chunk_offsets(table: Box) -> NDArray[np.int64]:
    return np.frombuffer(table.head[8:], ">u4" if table.kind == b"stco" else ">u8").astype(np.int64)


def _set_chunk_offsets(table: Box, places: NDArray[np.int64]) -> None:
    """In 64 bits where 32 do not hold them, and then for good."""
    if table.kind == b"stco" and len(places) and places.max() >= 1 << 32:
        table.kind = b"co64"
    table.head = table.head[:8] + places.astype(">u4" if table.kind == b"stco" else ">u8").tobytes()


def _set_language(track: Box, language: str) -> None:
    """ISO 639-2 in the media header, three letters of five bits each."""
    header = track.find(b"mdia", b"mdhd")
    if header is None:
        raise BoxError("a track without media header")
    if len(language) != 3 or not (language.isascii() and language.isalpha()):
        return
    code = 0
    for letter in language.lower():
        code = code << 5 | (ord(letter) - 0x60)
    at = 32 if header.head[0] == 1 else 20
    header.head = header.head[:at] + struct.pack(">H", code) + header.head[at + 2 :]


def _set_hdr(track: Box, hdr: HdrInfo) -> None:
    """``mdcv`` and ``clli`` in the picture's first sample entry, where they are missing."""
    table = track.find(b"mdia", b"minf", b"stbl", b"stsd")
    if table is None:
        raise BoxError("a track without sample description")
    entries = list(_split(table.head[8:]))
    kind, content = entries[0]
    present = {k for k, _ in _split(content[_VISUAL_ENTRY:])}
    added = b""
    for name, payload in ((b"mdcv", mastering_payload(hdr)), (b"clli", light_payload(hdr))):
        if payload is not None and name not in present:
            added += Box(name, payload).data()
    entries[0] = (kind, content + added)
    table.head = table.head[:8] + b"".join(Box(k, c).data() for k, c in entries)


def mastering_payload(hdr: HdrInfo) -> bytes | None:
    """SMPTE ST 2086 as ``mdcv`` has it: green, blue, red, white, then luminances."""
    if hdr.primaries is None or hdr.white_point is None or hdr.luminance is None:
        return None
    red, green, blue = hdr.primaries
    points = [
        _rounded(value, 50_000, 16) for point in (green, blue, red, hdr.white_point)
        for value in point
    ]  # fmt: skip
    low, high = (_rounded(value, 10_000, 32) for value in hdr.luminance)
    return struct.pack(">8HII", *points, high, low)


def light_payload(hdr: HdrInfo) -> bytes | None:
    """CTA-861.3 content light level as ``clli`` has it."""
    if hdr.max_content_light is None and hdr.max_frame_average_light is None:
        return None
    return struct.pack(
        ">HH",
        min(0xFFFF, hdr.max_content_light or 0),
        min(0xFFFF, hdr.max_frame_average_light or 0),
    )


def _rounded(value: Fraction, units: int, bits: int) -> int:
    return min((1 << bits) - 1, max(0, round(value * units)))


def _tag_list(moov: Box) -> Box:
    """The list of iTunes tags, made where it is missing."""
    udta = moov.find(b"udta")
    if udta is None:
        udta = Box(b"udta")
        moov.children.append(udta)
    meta = udta.find(b"meta")
    if meta is None:
        handler = struct.pack(">II4s4sII", 0, 0, b"mdir", b"appl", 0, 0) + b"\0"
        meta = Box(b"meta", b"\0\0\0\0", [Box(b"hdlr", handler)])
        udta.children.append(meta)
    listed = meta.find(b"ilst")
    if listed is None:
        listed = Box(b"ilst")
        meta.children.append(listed)
    return listed


def _add_tags(listed: Box, tags: Mapping[str, str]) -> None:
    """Free-form tags as iTunes writes them, which FFmpeg and most players read."""
    full = b"\0\0\0\0"
    for name, value in tags.items():
        parts = [
            Box(b"mean", full + b"com.apple.iTunes"),
            Box(b"name", full + name.encode()),
            Box(b"data", struct.pack(">II", 1, 0) + value.encode()),
        ]
        listed.children.append(Box(b"----", b"", parts))


def _add_covers(listed: Box, covers: tuple[tuple[str, bytes], ...]) -> None:
    kinds = {"mjpeg": 13, "png": 14, "bmp": 27}
    data = b"".join(
        Box(b"data", struct.pack(">II", kinds[codec], 0) + picture).data()
        for codec, picture in covers
    )
    listed.children.append(Box(b"covr", data))
