"""FFmpeg's pixel formats and the planar layouts that a Frame holds.

A pixel format says where each component of a pixel lies in memory; a
:class:`~vfi_cli.frame.PlaneLayout` only says what the components are. Moving
between the two copies code values and never computes with them, so it is exact
for every format in the table. The few formats outside of it (palettes of one
byte, 5-6-5 colours, floating point, Bayer patterns) are first converted by
swscale to a neighbour that holds them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vfi_cli.frame import PlaneLayout, Samples

_SUBSAMPLING = {
    "410": (2, 2),
    "411": (2, 0),
    "420": (1, 1),
    "422": (1, 0),
    "440": (0, 1),
    "444": (0, 0),
}
#: What swscale turns a format into that the table does not know.
_NEIGHBOURS = {
    **dict.fromkeys(("monow", "monob"), "gray"),
    **dict.fromkeys(("rgb8", "bgr8", "rgb4", "bgr4", "rgb4_byte", "bgr4_byte"), "rgb24"),
    **dict.fromkeys(("grayf32le", "grayf32be", "grayf16le", "grayf16be"), "gray16le"),
    **dict.fromkeys(("yaf32le", "yaf32be", "yaf16le", "yaf16be"), "ya16le"),
    **dict.fromkeys(("gbrpf32le", "gbrpf32be", "gbrpf16le", "gbrpf16be"), "gbrp16le"),
    **dict.fromkeys(("gbrapf32le", "gbrapf32be", "gbrapf16le", "gbrapf16be"), "gbrap16le"),
    **dict.fromkeys(("rgbf32le", "rgbf32be", "rgbf16le", "rgbf16be"), "gbrp16le"),
    **dict.fromkeys(("rgbaf32le", "rgbaf32be", "rgbaf16le", "rgbaf16be"), "gbrap16le"),
    **dict.fromkeys(("xyz12le", "xyz12be"), "rgb48le"),
    "uyyvyy411": "yuv411p",
}


@dataclass(frozen=True, slots=True)
class Component:
    """Where one component lies: every ``step``-th element of ``plane`` from ``offset`` on."""

    plane: int
    offset: int = 0
    step: int = 1
    shift: int = 0  # bits below the code value


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """A pixel format of FFmpeg in terms of a planar layout."""

    name: str
    layout: PlaneLayout
    element: str  # numpy dtype of a plane's elements
    components: tuple[Component, ...]  # in the layout's order
    full_range: bool = False  # the name itself says so (yuvj420p)
    padding: tuple[Component, ...] = ()  # elements without meaning, filled with the peak


def _endian(suffix: str | None) -> str:
    return ">" if suffix == "be" else "<"


_PLANAR = re.compile(r"(yuv[ja]?(4\d\d)p|gbra?p|gray)(\d+)?(msb)?(le|be)?")


def _planar(name: str) -> PixelFormat | None:
    match = _PLANAR.fullmatch(name)
    if match is None:
        return None
    family, chroma, depth, msb, endian = match.groups()
    if chroma is not None and chroma not in _SUBSAMPLING:
        return None
    bits = int(depth or 8)
    kind = "yuv" if chroma else "rgb" if family.startswith("gbr") else "gray"
    layout = PlaneLayout(
        kind,  # type: ignore[arg-type]
        bits,
        *_SUBSAMPLING[chroma or "444"],
        alpha=family.startswith(("yuva", "gbra")),
    )
    order = (2, 0, 1, 3) if kind == "rgb" else (0, 1, 2, 3)
    parts = tuple(Component(plane, shift=16 - bits if msb else 0) for plane in order)
    element = "u1" if bits == 8 else _endian(endian) + "u2"
    full = family.startswith("yuvj")
    return PixelFormat(name, layout, element, parts[: layout.components], full)


#: name: (bits, bytes of an element, shift, components of a pixel; a lower-case x is padding)
_PACKED: dict[str, tuple[int, int, int, str]] = {
    "rgb24": (8, 1, 0, "RGB"),
    "bgr24": (8, 1, 0, "BGR"),
    "rgba": (8, 1, 0, "RGBA"),
    "bgra": (8, 1, 0, "BGRA"),
    "argb": (8, 1, 0, "ARGB"),
    "abgr": (8, 1, 0, "ABGR"),
    "rgb0": (8, 1, 0, "RGBx"),
    "bgr0": (8, 1, 0, "BGRx"),
    "0rgb": (8, 1, 0, "xRGB"),
    "0bgr": (8, 1, 0, "xBGR"),
    "rgb48": (16, 2, 0, "RGB"),
    "bgr48": (16, 2, 0, "BGR"),
    "rgba64": (16, 2, 0, "RGBA"),
    "bgra64": (16, 2, 0, "BGRA"),
    "ya8": (8, 1, 0, "YA"),
    "ya16": (16, 2, 0, "YA"),
    "vuya": (8, 1, 0, "VUYA"),
    "vuyx": (8, 1, 0, "VUYx"),
    "ayuv": (8, 1, 0, "AYUV"),
    "uyva": (8, 1, 0, "UYVA"),
    "vyu444": (8, 1, 0, "VYU"),
    "ayuv64": (16, 2, 0, "AYUV"),
    "xv36": (12, 2, 4, "UYVx"),
    "xv48": (16, 2, 0, "UYVx"),
    # 4:2:2, two pixels in four elements
    "yuyv422": (8, 1, 0, "YUYV"),
    "uyvy422": (8, 1, 0, "UYVY"),
    "yvyu422": (8, 1, 0, "YVYU"),
    "y210": (10, 2, 6, "YUYV"),
    "y212": (12, 2, 4, "YUYV"),
    "y216": (16, 2, 0, "YUYV"),
}


def _packed(name: str) -> PixelFormat | None:
    base = re.sub(r"(le|be)$", "", name)
    if base not in _PACKED:
        return None
    bits, size, shift, order = _PACKED[base]
    element = "u1" if size == 1 else _endian(name[-2:]) + "u2"
    if order.count("Y") == 2:
        chroma = {c: Component(0, order.index(c), 4, shift) for c in "UV"}
        luma = Component(0, order.index("Y"), 2, shift)
        layout = PlaneLayout("yuv", bits, 1, 0)
        return PixelFormat(name, layout, element, (luma, chroma["U"], chroma["V"]))
    step = len(order)
    alpha = "A" in order
    names = "RGB" if "R" in order else "YUV" if "U" in order else "Y"
    kind = {"RGB": "rgb", "YUV": "yuv", "Y": "gray"}[names]
    wanted = names + ("A" if alpha else "")
    parts = tuple(Component(0, order.index(c), step, shift) for c in wanted)
    padding = tuple(Component(0, at, step) for at, c in enumerate(order) if c == "x")
    layout = PlaneLayout(kind, bits, alpha=alpha)  # type: ignore[arg-type]
    return PixelFormat(name, layout, element, parts, padding=padding)


#: one 32-bit word a pixel: (shift of each component in the layout's order)
_WORDS: dict[str, tuple[str, tuple[int, int, int]]] = {
    "x2rgb10": ("rgb", (20, 10, 0)),
    "x2bgr10": ("rgb", (0, 10, 20)),
    "xv30": ("yuv", (10, 0, 20)),
    "v30x": ("yuv", (12, 2, 22)),
}


def _words(name: str) -> PixelFormat | None:
    base = re.sub(r"(le|be)$", "", name)
    if base not in _WORDS:
        return None
    kind, shifts = _WORDS[base]
    layout = PlaneLayout(kind, 10)  # type: ignore[arg-type]
    parts = tuple(Component(0, 0, 1, shift) for shift in shifts)
    return PixelFormat(name, layout, _endian(name[-2:]) + "u4", parts)


def _semiplanar(name: str) -> PixelFormat | None:
    eight = {"nv12": "420", "nv21": "420", "nv16": "422", "nv24": "444", "nv42": "444"}
    if name in eight:
        bits, shift, chroma, element = 8, 0, eight[name], "u1"
    elif name in ("nv20le", "nv20be"):
        bits, shift, chroma, element = 10, 0, "422", _endian(name[-2:]) + "u2"
    elif match := re.fullmatch(r"p([024])(10|12|16)(le|be)", name):
        bits = int(match[2])
        shift = 16 - bits
        chroma = {"0": "420", "2": "422", "4": "444"}[match[1]]
        element = _endian(match[3]) + "u2"
    else:
        return None
    first = 1 if name in ("nv21", "nv42") else 0  # V before U
    parts = (
        Component(0, shift=shift),
        Component(1, first, 2, shift),
        Component(1, 1 - first, 2, shift),
    )
    return PixelFormat(name, PlaneLayout("yuv", bits, *_SUBSAMPLING[chroma]), element, parts)


@lru_cache(maxsize=256)
def pixel_format(name: str) -> PixelFormat | None:
    """The format of that name, or None where only swscale can read it."""
    if name == "gray8":
        name = "gray"
    for family in (_planar, _packed, _semiplanar, _words):
        found = family(name)
        if found is not None:
            return found if 8 <= found.layout.bits <= 16 else None
    return None


def neighbour(name: str) -> str | None:
    """The format to which swscale converts one that the table does not know.

    None where even that is not possible (a hardware surface, say).
    """
    if name == "pal8":
        return "rgba"
    if name in _NEIGHBOURS:
        return _NEIGHBOURS[name]
    if name.startswith("bayer_"):
        return "rgb48le" if "16" in name else "rgb24"
    if re.fullmatch(r"(rgb|bgr)(565|555|444)(le|be)", name):
        return "rgb24"
    return None


def readable_format(name: str) -> PixelFormat | None:
    """The format that :func:`unpack` delivers for a decoder's format of that name."""
    return pixel_format(name) or pixel_format(neighbour(name) or "")


def _rows(frame: av.VideoFrame, plane: int, element: str) -> NDArray[Any]:
    """The rows of a plane as they lie in memory, padding included; a view."""
    memory = frame.planes[plane]
    dtype = np.dtype(element)
    stride = memory.line_size
    rows = np.frombuffer(memoryview(memory), np.uint8, memory.height * abs(stride))
    rows = rows.reshape(memory.height, abs(stride))
    if stride < 0:
        rows = rows[::-1]
    return rows[:, : abs(stride) // dtype.itemsize * dtype.itemsize].view(dtype)


def _palette(frame: av.VideoFrame) -> tuple[Samples, ...]:
    """R, G, B, A of a picture with a palette of 256 colours (32-bit words, alpha on top)."""
    indices = _rows(frame, 0, "u1")[: frame.height, : frame.width]
    words = np.frombuffer(memoryview(frame.planes[1]), np.uint32, 256)
    return tuple(((words >> shift) & 255).astype(np.uint8)[indices] for shift in (16, 8, 0, 24))


def unpack(frame: av.VideoFrame) -> tuple[PlaneLayout, tuple[Samples, ...]]:
    """A decoded frame's samples as planes of its own, without line padding.

    Raises ValueError for a format that cannot be read in memory.
    """
    name = frame.format.name
    form = pixel_format(name)
    if form is None:
        other = neighbour(name)
        if other is None:
            raise ValueError(f"pixel format {name} cannot be read")
        form = pixel_format(other)
        assert form is not None
        if name == "pal8":
            return form.layout, _palette(frame)
        # One thread: with more, what swscale makes near the borders of their parts differs.
        frame = frame.reformat(format=other, threads=1)
    layout = form.layout
    planes = []
    for number, part in enumerate(form.components):
        height, width = layout.plane_shape(number, frame.width, frame.height)
        rows = _rows(frame, part.plane, form.element)
        values = rows[:height, part.offset :: part.step][:, :width]
        plane = np.empty((height, width), layout.dtype)
        if form.element.endswith("u4"):
            plane[...] = (values >> part.shift) & layout.peak
        elif part.shift:
            np.right_shift(values, part.shift, out=plane, casting="unsafe")
        else:
            plane[...] = values
            if layout.bits not in (8, 16):
                np.minimum(plane, layout.peak, out=plane)  # damaged streams may hold more
        planes.append(plane)
    return layout, tuple(planes)


def pack(planes: tuple[Samples, ...], name: str, width: int, height: int) -> av.VideoFrame:
    """The inverse of :func:`unpack`: planes of the format's layout in a new AVFrame."""
    form = pixel_format(name)
    if form is None:
        raise ValueError(f"pixel format {name} cannot be written")
    frame = av.VideoFrame(width, height, name)
    layout = form.layout
    rows = {part.plane: _rows(frame, part.plane, form.element) for part in form.components}
    if form.element.endswith("u4"):
        rows[0][...] = 0
    for part in form.padding:
        rows[part.plane][:height, part.offset :: part.step] = layout.peak
    for number, part in enumerate(form.components):
        rows_high, columns = layout.plane_shape(number, width, height)
        target = rows[part.plane][:rows_high, part.offset :: part.step][:, :columns]
        if form.element.endswith("u4"):
            target |= planes[number].astype(np.uint32) << part.shift
        elif part.shift:
            np.left_shift(planes[number], part.shift, out=target, casting="unsafe")
        else:
            target[...] = planes[number]
    return frame
