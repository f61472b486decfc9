"""The pictures of hard moments: the new frame, its source frames, and their plain blend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfi_cli.frame import Frame
from vfi_cli.io.color import to_rgb
from vfi_cli.io.decode import FrameReader, SourceInfo, probe
from vfi_cli.report.difficulty import Moment
from vfi_cli.report.pictures import LONGEST_SIDE, Picture, embed

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shown:
    """A moment and its pictures, as players show them."""

    moment: Moment
    before: Picture
    after: Picture
    blend: Picture  # both source frames laid over each other, without any motion
    made: Picture


def pictures(info: SourceInfo, output: Path, moments: Sequence[Moment]) -> Iterator[Shown]:
    """The moments in the order of time, with pictures read from the source and the output.

    A moment whose frames cannot be read, or are of another size in the output, is left out.
    """
    result = probe(output)
    for moment in sorted(moments, key=lambda one: one.number):
        before = _read(info, moment.left)
        after = _read(info, moment.right)
        made = _read(result, moment.number)
        if before is None or after is None or made is None or made.shape != before.shape:
            continue
        share = float(moment.timestep)
        blend = (before * (1 - share) + after * share).round().astype(np.uint8)
        yield Shown(moment, *(embed(picture) for picture in (before, after, blend, made)))


def _read(info: SourceInfo, number: int) -> Codes | None:
    """One frame of a file by its number; None where it is not to be had."""
    if number >= len(info.pts):
        return None
    with FrameReader(info, start_pts=info.pts[number]) as reader:
        for frame in islice(reader, 1):
            return upright(frame, info)
    return None


def upright(frame: Frame, info: SourceInfo) -> Codes:
    """R'G'B' (H, W, 3) as it is to be seen: turned upright, with square pixels, not too large."""
    rgb = to_rgb(frame).clamp_(0, 1).mul_(255).round_().byte().permute(1, 2, 0).numpy()
    aspect = float(info.sample_aspect_ratio)
    width, height = frame.width * max(aspect, 1.0), frame.height / min(aspect, 1.0)
    smaller = min(1.0, LONGEST_SIDE / max(width, height))
    size = max(1, round(width * smaller)), max(1, round(height * smaller))
    if size != (frame.width, frame.height):
        rgb = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS))
    return np.ascontiguousarray(np.rot90(rgb, -(info.rotation // 90)))
