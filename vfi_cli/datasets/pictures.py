"""The pictures of data sets as 8-bit RGB: images, frames of videos, frames of raw I420 files."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vfi_cli.datasets.clips import Picture, i420_bytes
from vfi_cli.errors import InputError
from vfi_cli.frame import Frame, PlaneLayout, Samples
from vfi_cli.io.images import read_image

if TYPE_CHECKING:
    from vfi_cli.io.decode import FrameReader, SourceInfo

#: (H, W, 3) uint8 R'G'B'
Rgb = NDArray[np.uint8]

#: R'G'B' from Y'UV of analogue television, which the HD benchmark takes its clips for.
_RGB_FROM_YUV = np.array([[1, 0, 1.13988303], [1, -0.394642334, -0.58062185], [1, 2.03206185, 0]])


_I420 = PlaneLayout("yuv", 8, log2_chroma_w=1, log2_chroma_h=1)


class PictureReader:
    """Reads pictures; those of one video are decoded in order, with one pass for neighbours.

    A context manager. Keeps the pictures of the last call alone, so that items which share
    frames do not decode them twice.
    """

    def __init__(self) -> None:
        self._kept: dict[Picture, Rgb] = {}
        self._info: SourceInfo | None = None
        self._reader: FrameReader | None = None
        self._next = 0  # number of the frame that the reader gives next

    def __enter__(self) -> PictureReader:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of an open video."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def read(self, pictures: Iterable[Picture]) -> dict[Picture, Rgb]:
        """The pictures, each (H, W, 3) uint8. Raises InputError for one that cannot be read."""
        wanted = sorted(set(pictures), key=lambda p: (str(p.path), p.index or 0))
        self._kept = {p: self._kept[p] if p in self._kept else self._load(p) for p in wanted}
        return dict(self._kept)

    def _load(self, picture: Picture) -> Rgb:
        if picture.index is None:
            return rgb8(read_image(picture.path).frame)
        if picture.raw_size is not None and picture.path.suffix == ".yuv":
            return _analogue_rgb(_read_i420(picture, *picture.raw_size))
        frame = self._frame_of_video(picture, picture.index)
        if picture.raw_size is None:
            return rgb8(frame)
        if frame.layout != _I420:
            raise InputError(f"{picture.path}: is not 8-bit YUV 4:2:0, as the HD benchmark is")
        return _analogue_rgb(frame.host_planes)

    def _frame_of_video(self, picture: Picture, index: int) -> Frame:
        from vfi_cli.io.decode import FrameReader, probe

        if self._info is None or self._info.path != str(picture.path):
            self.close()
            self._info = probe(picture.path)
        info = self._info
        if index >= len(info.pts):
            raise InputError(f"{picture.path}: has {len(info.pts)} frames, no frame {index}")
        if self._reader is None or self._next > index:
            self.close()
            self._reader = FrameReader(info, start_pts=info.pts[index])
            self._next = index
        for frame in self._reader:
            self._next += 1
            if self._next > index:
                return frame
        broken = self._reader.broken
        raise InputError(f"{picture}: cannot be decoded ({broken.reason if broken else 'no data'})")


def rgb8(frame: Frame) -> Rgb:
    """A frame of any layout as 8-bit R'G'B', by its own matrix and range, rounded; alpha is left
    out."""
    layout = frame.layout
    if layout.kind != "yuv" and layout.bits == 8 and frame.color.full_range:
        planes = frame.host_planes
        colours = [planes[0]] * 3 if layout.kind == "gray" else planes[:3]
        return np.stack(colours, axis=-1).astype(np.uint8, copy=False)
    from vfi_cli.io.color import to_rgb

    values = to_rgb(frame).permute(1, 2, 0).numpy() * np.float32(255)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _read_i420(picture: Picture, width: int, height: int) -> tuple[Rgb, ...]:
    """The planes of a frame of a file that is nothing but such planes."""
    size = i420_bytes(width, height)
    data = b""
    with suppress(OSError), picture.path.open("rb") as file:
        file.seek((picture.index or 0) * size)
        data = file.read(size)
    if len(data) < size:
        raise InputError(f"{picture}: cannot be read; the file is too short, or not there")
    half = (height + 1) // 2, (width + 1) // 2
    ends = [width * height, width * height + half[0] * half[1]]
    luma, u, v = np.split(np.frombuffer(data, np.uint8), ends)
    return luma.reshape(height, width), u.reshape(half), v.reshape(half)


def _analogue_rgb(planes: tuple[Samples, ...]) -> Rgb:
    """As the papers' HD benchmark does it: codes are taken for full range, chroma is enlarged by
    bicubic interpolation, and the result is cut off to 8 bits, not rounded."""
    import PIL.Image

    height, width = planes[0].shape
    values = [planes[0] / 255.0]
    for plane in planes[1:]:
        large = PIL.Image.fromarray(plane).resize((width, height), PIL.Image.Resampling.BICUBIC)
        values.append(np.asarray(large) / 255.0 - 0.5)
    rgb = np.stack(values, axis=-1) @ _RGB_FROM_YUV.T
    return (np.clip(rgb, 0, 1) * 255).astype(np.uint8)
