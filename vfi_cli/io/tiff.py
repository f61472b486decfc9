"""The parts of TIFF that Pillow and FFmpeg lack: headers of 16-bit pictures, and writing them.

Tags and their types are those of the TIFF 6.0 specification.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, Literal

from numpy.typing import NDArray

MAGIC = (b"II*\0", b"MM\0*")

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP, STRIP_SIZES = 273, 274, 277, 278, 279
X_RESOLUTION, Y_RESOLUTION, PLANAR, UNIT, PREDICTOR = 282, 283, 284, 296, 317
TILE_OFFSETS, TILE_SIZES, EXTRA_SAMPLES, SAMPLE_FORMAT, ICC = 324, 325, 338, 339, 34675

_SHORT, _LONG, _RATIONAL, _UNDEFINED = 3, 4, 5, 7
_TYPES = {1: "B", 2: "s", _SHORT: "H", _LONG: "I", _RATIONAL: "II", _UNDEFINED: "s"}
_CENTIMETRE = 3


@dataclass(frozen=True, slots=True)
class Tags:
    """What the first picture's header says."""

    width: int
    height: int
    bits: int  # of the deepest sample
    kind: Literal["gray", "rgb"] | None  # None: palettes, CMYK, floating point …
    alpha: bool
    orientation: int
    icc: bytes | None
    dpi: tuple[float, float] | None
    pictures: int


def read_tags(file: BinaryIO) -> Tags:
    """Read the header of a TIFF. Raises ValueError where it is damaged or the file is cut short."""
    order = {MAGIC[0]: "<", MAGIC[1]: ">"}[_at(file, 0, 4)]
    (first,) = struct.unpack(order + "I", _at(file, 4, 4))
    entries, following = _directory(file, order, first)
    pictures = 1
    while following and pictures < 2:
        _, following = _directory(file, order, following)
        pictures += 1

    def values(tag: int, *default: int) -> tuple[Any, ...]:
        return _values(file, order, entries[tag]) if tag in entries else default

    size = file.seek(0, os.SEEK_END)
    for offsets, lengths in ((STRIP_OFFSETS, STRIP_SIZES), (TILE_OFFSETS, TILE_SIZES)):
        pairs = zip(values(offsets), values(lengths), strict=False)
        if any(offset + length > size for offset, length in pairs):
            raise ValueError("the file is truncated")
    photometric, samples = values(PHOTOMETRIC, 1)[0], values(SAMPLES, 1)[0]
    base = {0: 1, 1: 1, 2: 3}.get(photometric, 0)
    integers = set(values(SAMPLE_FORMAT, 1)) <= {1, 4}
    fits = base and base <= samples <= base + 1 and integers
    resolution = values(X_RESOLUTION) + values(Y_RESOLUTION)
    unit = 2.54 if values(UNIT, 2)[0] == _CENTIMETRE else 1.0
    dpi = None
    if len(resolution) == 4 and resolution[1] and resolution[3]:
        dpi = (resolution[0] / resolution[1] * unit, resolution[2] / resolution[3] * unit)
    icc = values(ICC)
    return Tags(
        width=values(WIDTH, 0)[0],
        height=values(HEIGHT, 0)[0],
        bits=max(values(BITS, 1)),
        kind=("gray" if base == 1 else "rgb") if fits else None,
        alpha=samples > base,
        orientation=values(ORIENTATION, 1)[0],
        icc=icc[0] if icc else None,
        dpi=dpi,
        pictures=pictures,
    )


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    data = file.read(count)
    if len(data) < count:
        raise ValueError("the file is truncated")
    return data


def _directory(
    file: BinaryIO, order: str, offset: int
) -> tuple[dict[int, tuple[int, int, bytes]], int]:
    """tag → (type, count, value or its offset), and where the next directory is (0: nowhere)."""
    (count,) = struct.unpack(order + "H", _at(file, offset, 2))
    data = _at(file, offset + 2, 12 * count + 4)
    entries = {}
    for at in range(0, 12 * count, 12):
        tag, kind, length = struct.unpack(order + "HHI", data[at : at + 8])
        entries[tag] = (kind, length, data[at + 8 : at + 12])
    return entries, struct.unpack(order + "I", data[-4:])[0]


def _values(file: BinaryIO, order: str, entry: tuple[int, int, bytes]) -> tuple[Any, ...]:
    kind, count, place = entry
    code = _TYPES.get(kind)
    if code is None:
        return ()
    form = f"{order}{count}s" if code == "s" else order + code * count
    length = struct.calcsize(form)
    if length > 4:
        (offset,) = struct.unpack(order + "I", place)
        place = _at(file, offset, length)
    return struct.unpack(form, place[:length])


def encode(
    pixels: NDArray[Any],
    *,
    alpha: bool = False,
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    orientation: int = 1,
) -> bytes:
    """A little-endian TIFF of one strip, deflated after horizontal differencing.

    ``pixels``: (H, W) or (H, W, components), uint8 or uint16; the last component is
    alpha (colours not multiplied with it) where ``alpha``.
    """
    height, width = pixels.shape[:2]
    pixels = pixels.reshape(height, width, -1)
    components = pixels.shape[2]
    differences = pixels.copy()
    differences[:, 1:] -= pixels[:, :-1]  # modulo 2^bits, as the predictor wants it
    strip = zlib.compress(differences.astype(pixels.dtype.newbyteorder("<")).tobytes())

    def short(*values: int) -> tuple[int, int, bytes]:
        return _SHORT, len(values), struct.pack(f"<{len(values)}H", *values)

    def long(value: int) -> tuple[int, int, bytes]:
        return _LONG, 1, struct.pack("<I", value)

    strip_at = 8
    entries = {
        WIDTH: long(width),
        HEIGHT: long(height),
        BITS: short(*[8 * pixels.itemsize] * components),
        COMPRESSION: short(8),  # deflate
        PHOTOMETRIC: short(2 if components >= 3 else 1),
        STRIP_OFFSETS: long(strip_at),
        ORIENTATION: short(orientation),
        SAMPLES: short(components),
        ROWS_PER_STRIP: long(height),
        STRIP_SIZES: long(len(strip)),
        PLANAR: short(1),
        PREDICTOR: short(2),
    }
    if dpi:
        for tag, value in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
            ratio = Fraction(value).limit_denominator(10000)
            entries[tag] = _RATIONAL, 1, struct.pack("<II", ratio.numerator, ratio.denominator)
        entries[UNIT] = short(2)
    if alpha:
        entries[EXTRA_SAMPLES] = short(2)
    if icc:
        entries[ICC] = _UNDEFINED, len(icc), icc

    directory_at = strip_at + len(strip) + len(strip) % 2
    extra_at = directory_at + 2 + 12 * len(entries) + 4
    directory, extra = struct.pack("<H", len(entries)), b""
    for tag, (kind, count, content) in sorted(entries.items()):
        place = content.ljust(4, b"\0")
        if len(content) > 4:
            place = struct.pack("<I", extra_at + len(extra))
            extra += content + b"\0" * (len(content) % 2)
        directory += struct.pack("<HHI", tag, kind, count) + place
    head = MAGIC[0] + struct.pack("<I", directory_at)
    return b"".join([head, strip, b"\0" * (len(strip) % 2), directory, b"\0\0\0\0", extra])
