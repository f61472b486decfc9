"""Lossless clips to be compared, and what a comparison made of them."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media import add_tone
from vfi_cli.__main__ import main
from vfi_cli.frame import Frame, Samples
from vfi_cli.io.decode import FrameReader, SourceInfo, probe
from vfi_cli.io.formats import pack, pixel_format

FFV1 = ("--codec", "ffv1", "--quiet")


def noise_clip(
    path: Path,
    *,
    seed: int,
    frames: int = 4,
    size: tuple[int, int] = (64, 48),
    pix_fmt: str = "yuv420p",
    rate: Fraction | int = 25,
    flat: Sequence[int] | None = None,
    tone: bool = False,
    color: dict[str, int] | None = None,
) -> Path:
    """A lossless clip of noise, or of one value a component; each frame unlike the others."""
    width, height = size
    random = np.random.default_rng(seed)
    rate = Fraction(rate)
    form = pixel_format(pix_fmt)
    assert form is not None
    layout = form.layout
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=rate, width=width, height=height)
        stream.pix_fmt = pix_fmt
        for name, value in (color or {}).items():
            setattr(stream.codec_context, name, value)
        if tone:
            add_tone(out, frames / rate)
        for number in range(frames):
            planes = []
            for plane in range(layout.components):
                shape = layout.plane_shape(plane, width, height)
                values = random.integers(16, layout.peak - 16, shape)
                if flat is not None:
                    values = np.full(shape, flat[plane])
                planes.append(values.astype(layout.dtype))
            frame = pack(tuple(planes), pix_fmt, width, height)
            frame.pts, frame.time_base = number, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def frames_of(path: Path) -> tuple[SourceInfo, list[Frame]]:
    info = probe(path)
    with FrameReader(info) as reader:
        frames = list(reader)
        assert reader.broken is None
    return info, frames


def planes_of(path: Path) -> list[tuple[Samples, ...]]:
    return [frame.planes for frame in frames_of(path)[1]]


def compare(output: Path, *arguments: str | Path) -> list[tuple[Samples, ...]]:
    """Run the command without labels and return the pictures that it made."""
    code = main(["compare", *map(str, arguments), "-o", str(output), "--no-labels", *FFV1])
    assert code == 0
    return planes_of(output)


def equal(first: Sequence[Samples], second: Sequence[Samples]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def part(planes: Sequence[Samples], x: int, y: int, width: int, height: int) -> list[Samples]:
    """A rectangle of a picture, in luma samples, of all of its planes."""
    tall, wide = planes[0].shape
    cut = []
    for plane in planes:
        down, across = tall // plane.shape[0], wide // plane.shape[1]
        cut.append(plane[y // down : (y + height) // down, x // across : (x + width) // across])
    return cut
