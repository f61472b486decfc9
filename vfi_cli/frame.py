"""What travels through the pipeline: frames, and windows of frames.

A :class:`Frame` holds the decoder's own samples, so that a source frame can be
shown again without a colour round trip. They may lie on a device, as torch tensors;
it knows nothing else of torch, and nothing of PyAV.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint8] | NDArray[np.uint16]
#: A plane in memory, or a torch tensor of the same shape and dtype, most often on a device.
Plane = Samples | Any


@dataclass(frozen=True, slots=True)
class PlaneLayout:
    """How samples are arranged: planar, one array a component, right-aligned code values."""

    kind: Literal["yuv", "rgb", "gray"]
    bits: int  # significant bits of a sample: 8 → uint8, 9…16 → uint16
    log2_chroma_w: int = 0  # horizontal subsampling of U and V: 1 for 4:2:0 and 4:2:2
    log2_chroma_h: int = 0  # vertical subsampling of U and V: 1 for 4:2:0
    alpha: bool = False

    @property
    def components(self) -> int:
        """Number of planes, alpha included. Order: Y U V | R G B | Y, then A."""
        return (1 if self.kind == "gray" else 3) + self.alpha

    @property
    def peak(self) -> int:
        """The largest code value."""
        return (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    def plane_shape(self, plane: int, width: int, height: int) -> tuple[int, int]:
        """(rows, columns) of a plane of a width × height picture; odd sizes round up."""
        if self.kind == "yuv" and plane in (1, 2):
            return -(-height >> self.log2_chroma_h), -(-width >> self.log2_chroma_w)
        return height, width


@dataclass(frozen=True, slots=True)
class ColorSpec:
    """Colour as the stream states it, in the code points of ITU-T H.273 (and FFmpeg).

    2 means unspecified for matrix, primaries and transfer. ``chroma_location``
    counts as FFmpeg's AVChromaLocation (0 unspecified, 1 left, 2 centre, 3 top-left, …).
    """

    matrix: int = 2  # 0 RGB, 1 BT.709, 5/6 BT.601, 9 BT.2020 non-constant, …
    full_range: bool = False
    primaries: int = 2
    transfer: int = 2
    chroma_location: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture with the decoder's own samples.

    ``planes`` are arrays of shape ``layout.plane_shape(...)``, dtype ``layout.dtype``,
    C-contiguous, and must not be written to. A frame that was decoded or made on a device
    may have tensors instead; who needs arrays asks for :attr:`host_planes`.
    """

    planes: tuple[Plane, ...]
    width: int  # pixels
    height: int  # pixels
    layout: PlaneLayout
    color: ColorSpec
    pts: int  # in time_base
    time_base: Fraction  # seconds
    duration: int = 0  # in time_base; 0 where the stream does not say
    interlaced: bool = False

    def __post_init__(self) -> None:
        if len(self.planes) != self.layout.components:
            raise ValueError(f"{len(self.planes)} planes for a layout of {self.layout.components}")
        for number, plane in enumerate(self.planes):
            shape = self.layout.plane_shape(number, self.width, self.height)
            if plane.shape != shape or _name(plane.dtype) != self.layout.dtype.name:
                raise ValueError(
                    f"plane {number} is {plane.dtype} {plane.shape}, "
                    f"the layout wants {self.layout.dtype} {shape}"
                )

    @property
    def time(self) -> Fraction:
        """Presentation time in seconds, exact."""
        return self.pts * self.time_base

    @property
    def host_planes(self) -> tuple[Samples, ...]:
        """The planes as arrays, fetched from their device where they lie on one."""
        return tuple(on_host(plane) for plane in self.planes)

    def with_planes(self, planes: tuple[Plane, ...]) -> Frame:
        """The same description with other samples."""
        return replace(self, planes=planes)


def on_host(plane: Plane) -> Samples:
    """A plane as an array: itself, or fetched from its device."""
    return plane if isinstance(plane, np.ndarray) else plane.cpu().numpy()


def _name(dtype: Any) -> str:
    """Of a numpy or a torch type: uint8, uint16, …"""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True, slots=True)
class Window:
    """The source frames that a model sees for one output frame, and where in between it lies.

    ``frames`` has 2 or 4 entries, in display order; the output lies between the
    middle two. The outer two are None at a clip's end or beyond a cut.
    """

    frames: tuple[Frame | None, ...]
    timestep: Fraction  # 0 < timestep < 1 between the middle two frames

    def __post_init__(self) -> None:
        if len(self.frames) not in (2, 4):
            raise ValueError(f"a window has 2 or 4 frames, not {len(self.frames)}")
        if not 0 < self.timestep < 1:
            raise ValueError(f"timestep {self.timestep} is not between 0 and 1")
