"""Pictures inside a page: arrays become data URIs of a bounded size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

#: Longest side of an embedded picture, pixels.
LONGEST_SIDE = 960
#: Bytes of an embedded picture before it is written as text, which takes a third more.
PICTURE_BYTES = 110_000

_QUALITIES = (88, 76, 62, 45, 30)
#: Below this many pixels a picture is kept as it is: artwork, flow fields, test patterns.
_SMALL = 128 * 128


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture ready to stand in a page."""

    uri: str  # data:image/…
    width: int  # pixels, as embedded
    height: int

    @property
    def size(self) -> int:
        """Bytes that it takes in the page."""
        return len(self.uri)


def embed(rgb: NDArray[Any], *, longest: int = LONGEST_SIDE, limit: int = PICTURE_BYTES) -> Picture:
    """Encode R'G'B' samples (H, W, 3), or (H, W) for grey, as a picture for a page.

    ``rgb`` holds uint8 codes, or floats in [0, 1] (clamped). It is scaled down to ``longest``
    pixels a side, then its quality and at last its size are lowered until ``limit`` bytes hold
    it. Raises ValueError for any other shape or type.
    """
    image = Image.fromarray(_codes(rgb)).convert("RGB")
    if max(image.size) > longest:
        image = _scaled(image, longest / max(image.size))
    if image.width * image.height <= _SMALL:
        data = _encoded(image, "PNG")
        if len(data) <= limit:
            return _picture(image, "png", data)
    kind = "WEBP" if features.check("webp") else "JPEG"
    while True:
        for quality in _QUALITIES:
            data = _encoded(image, kind, quality)
            if len(data) <= limit:
                return _picture(image, kind.lower(), data)
        if max(image.size) <= 16:
            return _picture(image, kind.lower(), data)
        image = _scaled(image, 0.75)


def _codes(rgb: NDArray[Any]) -> NDArray[np.uint8]:
    if rgb.ndim not in (2, 3) or (rgb.ndim == 3 and rgb.shape[2] != 3) or 0 in rgb.shape:
        raise ValueError(f"a picture is (H, W, 3) or (H, W), not {rgb.shape}")
    if rgb.dtype == np.uint8:
        return np.ascontiguousarray(rgb)
    if not np.issubdtype(rgb.dtype, np.floating):
        raise ValueError(f"samples are uint8 or floats in [0, 1], not {rgb.dtype}")
    return (np.nan_to_num(np.clip(rgb, 0, 1)) * 255).round().astype(np.uint8)


def _scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _encoded(image: Image.Image, kind: str, quality: int = 0) -> bytes:
    buffer = io.BytesIO()
    # Of WebP's methods 1 takes a third of the usual one's time for a tenth more of bytes.
    options = {"optimize": True} if kind == "PNG" else {"quality": quality, "method": 1}
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _picture(image: Image.Image, kind: str, data: bytes) -> Picture:
    text = base64.b64encode(data).decode("ascii")
    return Picture(f"data:image/{kind};base64,{text}", image.width, image.height)
