"""Names burnt into a corner of a picture."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from vfi_cli.compare.picture import Target
from vfi_cli.frame import Samples

_SMALLEST = 9  # pixels; below, letters cannot be told apart
_SHARE = 0.035  # of the picture's height
_SHADE = 0.35  # what is left of the picture behind the text


def default_labels(paths: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """The files' names, with as many of their folders as it takes to tell them apart."""
    parts = [Path(path).parts for path in paths]
    depth = 1
    while depth < max(map(len, parts)) and len({part[-depth:] for part in parts}) < len(parts):
        depth += 1
    return tuple("/".join(part[-depth:]).lstrip("/") for part in parts)


class Label:
    """White text on a shaded box at the top edge of pictures of one kind.

    ``place`` goes from 0, the left corner, to 1, the right one.
    """

    def __init__(self, text: str, target: Target, place: Fraction = Fraction(0)) -> None:
        self._target = target
        layout = target.layout
        across, down = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
        mask = _text_mask(text, target)
        rows, columns = mask.shape
        x = int((target.width - columns) * place) // across * across
        # Whole chroma samples, so that luma and chroma are shaded alike.
        box = np.zeros((-(-rows // down) * down, -(-columns // across) * across), np.float32)
        box[:rows, :columns] = mask
        self._places: list[tuple[slice, slice]] = []
        self._masks: list[NDArray[np.float32]] = []
        for plane in range(layout.components):
            h, w = (down, across) if target.is_chroma(plane) else (1, 1)
            part = box.reshape(box.shape[0] // h, h, box.shape[1] // w, w).mean((1, 3))
            self._places.append((slice(0, part.shape[0]), slice(x // w, x // w + part.shape[1])))
            self._masks.append(part)

    def draw(self, planes: tuple[Samples, ...]) -> None:
        """Draw onto padded planes, in place."""
        target = self._target
        for number, (plane, place, mask) in enumerate(
            zip(planes, self._places, self._masks, strict=True)
        ):
            dark, light = target.black, target.white
            if target.is_chroma(number):
                dark = light = target.neutral
            area = plane[place].astype(np.float32)
            text = mask[: area.shape[0], : area.shape[1]]
            area = dark + (area - dark) * _SHADE
            plane[place] = np.round(area + (light - area) * text)


def drawable(text: str) -> str:
    """The text in the letters that Pillow's own font has: accents fall away, others become ?."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    letters = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in letters)


def _text_mask(text: str, target: Target) -> NDArray[np.float32]:
    """How much of each pixel of the box is text, 0 to 1; never larger than the picture."""
    size = max(_SMALLEST, round(_SHARE * target.height))
    font = PIL.ImageFont.load_default(size)
    margin = size // 3
    text = shown = drawable(text)
    while font.getlength(shown) + 2 * margin > target.width and len(shown) > 1:
        text = text[: len(text) // 2] + text[len(text) // 2 + 1 :]
        shown = text[: len(text) // 2] + "…" + text[len(text) // 2 :]
    _, top, _, bottom = font.getbbox("Ag" + shown)
    width = int(font.getlength(shown)) + 2 * margin
    height = int(bottom - top) + 2 * margin
    image = PIL.Image.new("L", (min(width, target.width), min(height, target.height)))
    PIL.ImageDraw.Draw(image).text((margin, margin - int(top)), shown, fill=255, font=font)
    return np.asarray(image, np.float32) / np.float32(255)
