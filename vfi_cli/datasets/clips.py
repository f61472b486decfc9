"""Clips of data sets, and the pictures in them, by where they lie."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FrameSequence:
    """One clip: its frames as image ``files`` in display order, or a ``video`` file.

    ``rate`` is in frames a second where the set says it. ``raw_size`` (width, height in pixels)
    is set for the clips of the HD benchmark, raw I420 files whose colours are read in its own
    way: see :class:`~vfi_cli.datasets.pictures.PictureReader`.
    """

    name: str
    files: tuple[Path, ...] = ()
    video: Path | None = None
    rate: Fraction | None = None
    raw_size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file, or frame number ``index`` of a video; see :class:`FrameSequence` for
    ``raw_size``."""

    path: Path
    index: int | None = None
    raw_size: tuple[int, int] | None = None

    def __str__(self) -> str:
        return str(self.path) if self.index is None else f"{self.path}, frame {self.index}"


def picture_of(sequence: FrameSequence, index: int) -> Picture:
    """Frame number ``index`` of a clip."""
    if sequence.video is None:
        return Picture(sequence.files[index])
    return Picture(sequence.video, index, sequence.raw_size)


def frame_count(sequence: FrameSequence) -> int:
    """How many frames a clip has. Raises InputError for a video that cannot be read."""
    if sequence.video is None:
        return len(sequence.files)
    if sequence.raw_size is not None and sequence.video.suffix == ".yuv":
        return sequence.video.stat().st_size // i420_bytes(*sequence.raw_size)
    from vfi_cli.io.decode import probe

    return len(probe(sequence.video).pts)


def i420_bytes(width: int, height: int) -> int:
    """The size of a frame of 8-bit planar YUV 4:2:0."""
    return width * height + 2 * ((width + 1) // 2) * ((height + 1) // 2)
