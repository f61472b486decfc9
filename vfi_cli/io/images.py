"""Still images as frames, and frames as still images of the same kind.

PNG, JPEG, WebP and TIFF with 8 bits, PNG and TIFF also with 16, grey or RGB,
with alpha or without. What a new image takes from the one it is made like:
format, bit depth, colour profile, EXIF, resolution, JPEG quality. Pillow reads
what has 8 bits; what has 16 goes through FFmpeg's decoders, since Pillow would
round colours of 16 bits to 8.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfi_cli.errors import InputError, OutputError
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Samples
from vfi_cli.io import tiff
from vfi_cli.io.naming import FORMATS
from vfi_cli.wording import said

#: Pictures are RGB or grey, full range, with the transfer of sRGB unless a profile says more.
IMAGE_COLOR = ColorSpec(matrix=0, full_range=True, primaries=1, transfer=13)

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_HEADER = 26  # bytes of a PNG up to its colour type
_PNG_DEPTH, _PNG_COLOR = 24, 25  # where they stand
#: Chunks that describe the picture and stay true for one made like it.
_PNG_KEPT = (b"cICP", b"mDCV", b"cLLI", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"eXIf")
_PNG_COLORS = {(False, False): 0, (False, True): 4, (True, False): 2, (True, True): 6}

_JPEG_QUALITY = 95  # only where the source's own quantisation is not known
_WEBP_QUALITY = 95  # a lossy WebP does not say how lossy

_ORIENTATION = 274  # EXIF

#: Everything that Pillow and FFmpeg raise about a file that is not what it seems.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    TypeError,
)


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an image says. Images of one clip must agree in :attr:`shape`."""

    path: Path
    format: str  # png, jpeg, webp, tiff
    width: int  # pixels
    height: int  # pixels
    layout: PlaneLayout  # gray or rgb, 8 or 16 bits
    orientation: int = 1  # EXIF: how a viewer turns it

    @property
    def shape(self) -> tuple[object, ...]:
        return self.format, self.width, self.height, self.layout, self.orientation

    def describe(self) -> str:
        """``1280×720 png 16-bit RGB with alpha``."""
        kind = "RGB" if self.layout.kind == "rgb" else "grey"
        alpha = " with alpha" if self.layout.alpha else ""
        turned = "" if self.orientation == 1 else f", EXIF orientation {self.orientation}"
        bits = self.layout.bits
        return f"{self.width}×{self.height} {self.format} {bits}-bit {kind}{alpha}{turned}"


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a new image inherits from the one it is made like, besides format and layout."""

    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    jpeg: dict[str, Any] = field(default_factory=dict)
    lossless: bool = False  # WebP


@dataclass(frozen=True, slots=True)
class Image:
    """A decoded image: its frame (pts counts images) and what a new one takes over."""

    info: ImageInfo
    frame: Frame
    likeness: Likeness


def probe_image(path: str | os.PathLike[str]) -> ImageInfo:
    """Read an image's header. Raises InputError where it is missing, damaged or unknown."""
    return _open(Path(path), pixels=False)[0]


def read_image(path: str | os.PathLike[str], *, pts: int = 0) -> Image:
    """Decode an image. Its frame gets ``pts`` in a time base of one second.

    Raises InputError where it is missing, damaged, truncated or of no known kind.
    """
    info, planes, likeness = _open(Path(path), pixels=True)
    assert planes is not None
    return Image(info, image_frame(planes, info.layout, pts), likeness)


def image_frame(planes: tuple[Samples, ...], layout: PlaneLayout, pts: int = 0) -> Frame:
    """A frame of the colours that images have, from planes of one size."""
    height, width = planes[0].shape
    return Frame(planes, width, height, layout, IMAGE_COLOR, pts, Fraction(1), 1)


def write_image(
    path: str | os.PathLike[str], frame: Frame, like: ImageInfo, likeness: Likeness
) -> None:
    """Encode a frame as an image of the format of ``like``; its layout must be a grey or RGB one.

    The file is not put in place atomically; see :mod:`vfi_cli.io.atomic`. Raises OutputError.
    """
    data = encode_image(frame, like, likeness)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({said(error)})") from error


def encode_image(frame: Frame, like: ImageInfo, likeness: Likeness) -> bytes:
    """The file that :func:`write_image` writes."""
    encode = {"png": _png, "jpeg": _pillow, "webp": _pillow, "tiff": _tiff}[like.format]
    return encode(frame, like, likeness)


def _open(path: Path, *, pixels: bool) -> tuple[ImageInfo, tuple[Samples, ...] | None, Likeness]:
    import PIL.Image

    promised = FORMATS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            # A header is a few bytes; whole pictures are taken into memory once.
            data = file.read() if pixels else file.read(_HEADER)
            if not data:
                raise InputError(f"{path}: the file is empty")
            source = io.BytesIO(data) if pixels else file
            if data[:4] in tiff.MAGIC and promised == "tiff":
                tags = tiff.read_tags(source)
                if tags.bits == 16:  # of which Pillow opens only some
                    return _decode_tiff(path, tags, data, pixels)
            with PIL.Image.open(source) as image:
                found = (image.format or "unknown").lower()
                found = "jpeg" if found == "mpo" else found  # a JPEG with previews behind it
                if found not in FORMATS.values():
                    raise InputError(f"{path}: holds {found.upper()}, which is not supported")
                if found != promised:
                    raise InputError(
                        f"{path}: holds {found.upper()} under another ending; rename it"
                    )
                if found != "jpeg" and getattr(image, "n_frames", 1) > 1:
                    raise InputError(f"{path}: holds several pictures; only one is possible")
                return _decode(path, image, found, data, pixels)
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except PIL.UnidentifiedImageError:
        kind = promised.upper() if promised else "known"
        raise InputError(f"{path}: is not a {kind} image") from None
    except (*_BROKEN, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be decoded ({error})") from error


def _decode(
    path: Path, image: Any, form: str, data: bytes, pixels: bool
) -> tuple[ImageInfo, tuple[Samples, ...] | None, Likeness]:
    if form == "png" and data[_PNG_DEPTH] == 16:
        # Pillow shows a 16-bit PNG as one of 8 bits, but for grey.
        alpha = bool(data[_PNG_COLOR] & 4) or "transparency" in image.info
        layout = PlaneLayout("rgb" if data[_PNG_COLOR] & 2 else "gray", 16, alpha=alpha)
    else:
        layout = _pillow_layout(path, image)
    orientation = _orientation(image)
    if form == "tiff":
        orientation = 1  # Pillow turns a TIFF upright as it loads it
        image.load()
    width, height = image.size
    info = ImageInfo(path, form, width, height, layout, orientation)
    if not pixels:
        return info, None, Likeness()
    chunks: tuple[tuple[bytes, bytes], ...] = ()
    if form == "png":
        chunks = tuple(chunk for chunk in _png_chunks(data) if chunk[0] in _PNG_KEPT)
    likeness = _likeness(image, form, chunks, data)
    planes = _ffmpeg(path, data, form, info) if layout.bits == 16 else _planes(image, layout)
    return info, planes, likeness


def _decode_tiff(
    path: Path, tags: tiff.Tags, data: bytes, pixels: bool
) -> tuple[ImageInfo, tuple[Samples, ...] | None, Likeness]:
    """A TIFF of 16 bits."""
    kind = tags.kind
    if kind is None:
        raise InputError(f"{path}: a 16-bit TIFF must be grey or RGB, with integer samples")
    if tags.pictures > 1:
        raise InputError(f"{path}: holds several pictures; only one is possible")
    layout = PlaneLayout(kind, 16, alpha=tags.alpha)
    info = ImageInfo(path, "tiff", tags.width, tags.height, layout, tags.orientation)
    planes = _ffmpeg(path, data, "tiff", info) if pixels else None
    return info, planes, Likeness(icc=tags.icc, dpi=tags.dpi)


def _orientation(image: Any) -> int:
    """How a viewer turns the picture, from its EXIF; 1 is upright."""
    import PIL.Image

    content = image.info.get("exif")
    if not content:
        return 1
    exif = PIL.Image.Exif()
    exif.load(content)
    return int(exif.get(_ORIENTATION, 1))


def _pillow_layout(path: Path, image: Any) -> PlaneLayout:
    """The layout of what Pillow decodes to 8 bits."""
    alpha = image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info
    if image.mode in ("1", "L", "LA", "La"):
        return PlaneLayout("gray", 8, alpha=alpha)
    if image.mode in ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        return PlaneLayout("rgb", 8, alpha=alpha)
    raise InputError(
        f"{path}: its colours ({image.mode}) are not supported; convert it to RGB or grey"
    )


def _planes(image: Any, layout: PlaneLayout) -> tuple[Samples, ...]:
    """Planes of an image of 8 bits."""
    mode = ("L" if layout.kind == "gray" else "RGB") + ("A" if layout.alpha else "")
    if image.mode in ("1", "L", "LA", "La") and "transparency" in image.info:
        image = image.convert("RGBA").convert("LA")
    if image.mode != mode:
        image = image.convert(mode)
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return tuple(pixels[:, :, k].copy() for k in range(layout.components))


def _ffmpeg(path: Path, data: bytes, form: str, info: ImageInfo) -> tuple[Samples, ...]:
    """Planes of an image of 16 bits."""
    import av

    from vfi_cli.io.formats import unpack

    try:
        context: Any = av.CodecContext.create(form, "r")
        if form == "png":
            context.options = {"err_detect": "explode"}
        frames = [*context.decode(av.Packet(data)), *context.decode(None)]
        if len(frames) != 1:
            raise InputError(f"{path}: cannot be decoded (no picture)")
        layout, planes = unpack(frames[0])
    except av.FFmpegError as error:
        raise InputError(f"{path}: cannot be decoded ({said(error)})") from error
    if layout != info.layout or planes[0].shape != (info.height, info.width):
        raise InputError(f"{path}: its pixels are not what its header says")
    return planes


def _likeness(
    image: Any, form: str, chunks: tuple[tuple[bytes, bytes], ...], data: bytes
) -> Likeness:
    jpeg: dict[str, Any] = {}
    if form == "jpeg":
        from PIL import JpegImagePlugin

        jpeg["qtables"] = dict(image.quantization)
        sampling = JpegImagePlugin.get_sampling(image)
        if sampling >= 0:
            jpeg["subsampling"] = sampling
        jpeg["progressive"] = bool(image.info.get("progressive"))
    exif = image.info.get("exif")
    dpi = image.info.get("dpi")
    return Likeness(
        icc=image.info.get("icc_profile"),
        exif=exif,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
        png_chunks=chunks,
        jpeg=jpeg,
        lossless=form == "webp" and _webp_lossless(data),
    )


def _webp_lossless(data: bytes) -> bool:
    """Whether a WebP holds a VP8L picture. Its chunks begin at byte 12 and are padded to even."""
    at = 12
    while at + 8 <= len(data):
        kind = data[at : at + 4]
        if kind in (b"VP8L", b"VP8 "):
            return kind == b"VP8L"
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + (length & 1)
    return False


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of every chunk. Raises ValueError where one is damaged or lacking."""
    at = len(_PNG_MAGIC)
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        check = data[at + 8 + length : at + 12 + length]
        if len(check) < 4:
            break
        if int.from_bytes(check, "big") != zlib.crc32(content, zlib.crc32(kind)):
            raise ValueError(f"damaged chunk {kind.decode('ascii', 'replace')}")
        yield kind, content
        if kind == b"IEND":
            return
        at += 12 + length
    raise ValueError("the file is truncated")


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _png(frame: Frame, like: ImageInfo, likeness: Likeness) -> bytes:
    """FFmpeg compresses the pixels; the chunks around them are the source's."""
    import av

    from vfi_cli.io.formats import pack

    layout = frame.layout
    name = {
        (False, False, 8): "gray",
        (False, True, 8): "ya8",
        (True, False, 8): "rgb24",
        (True, True, 8): "rgba",
        (False, False, 16): "gray16be",
        (False, True, 16): "ya16be",
        (True, False, 16): "rgb48be",
        (True, True, 16): "rgba64be",
    }[layout.kind == "rgb", layout.alpha, layout.bits]
    context: Any = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, name
    context.time_base = Fraction(1)
    context.options = {"pred": "mixed"}
    picture = pack(frame.host_planes, name, frame.width, frame.height)
    packets = [*context.encode(picture), *context.encode(None)]
    color = _PNG_COLORS[layout.kind == "rgb", layout.alpha]
    header = struct.pack(">IIBBBBB", frame.width, frame.height, layout.bits, color, 0, 0, 0)
    parts = [_PNG_MAGIC, _chunk(b"IHDR", header)]
    parts += [_chunk(kind, content) for kind, content in likeness.png_chunks]
    parts += [_chunk(b"IDAT", c) for k, c in _png_chunks(bytes(packets[0])) if k == b"IDAT"]
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _interleaved(frame: Frame) -> NDArray[Any]:
    """(H, W, components), or (H, W) for a single one."""
    planes = frame.host_planes
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def _pillow(frame: Frame, like: ImageInfo, likeness: Likeness) -> bytes:
    import PIL.Image

    options: dict[str, Any] = {}
    if likeness.icc:
        options["icc_profile"] = likeness.icc
    if likeness.exif:
        options["exif"] = likeness.exif
    if like.format == "jpeg":
        options |= likeness.jpeg or {"quality": _JPEG_QUALITY}
        if likeness.dpi:
            options["dpi"] = tuple(round(value) for value in likeness.dpi)
    elif likeness.lossless:
        options |= {"lossless": True, "exact": True}
    else:
        options |= {"quality": _WEBP_QUALITY, "exact": True}
    pixels = _interleaved(frame)
    if like.format == "webp" and pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)  # a WebP has no grey
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, like.format, **options)
    return buffer.getvalue()


def _tiff(frame: Frame, like: ImageInfo, likeness: Likeness) -> bytes:
    return tiff.encode(
        _interleaved(frame),
        alpha=frame.layout.alpha,
        icc=likeness.icc,
        dpi=likeness.dpi,
        orientation=like.orientation,
    )
