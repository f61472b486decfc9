"""Write YUV4MPEG2, the plain format of pipes between video tools."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, BinaryIO

from vfi_cli.frame import ColorSpec, Frame, PlaneLayout

_CHROMA = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (2, 0): "411"}
#: By ColorSpec.chroma_location: JPEG sits between samples, MPEG-2 left, DV top-left.
_SITING = {2: "jpeg", 3: "paldv"}


def colour_tag(layout: PlaneLayout, color: ColorSpec) -> str:
    """The value of the header's C field. Raises ValueError for a layout that has none."""
    if layout.alpha or layout.kind == "rgb":
        raise ValueError("YUV4MPEG2 holds neither RGB nor alpha")
    if layout.kind == "gray":
        return "mono" if layout.bits == 8 else f"mono{layout.bits}"
    chroma = _CHROMA.get((layout.log2_chroma_w, layout.log2_chroma_h))
    if chroma is None:
        raise ValueError("YUV4MPEG2 does not hold this chroma subsampling")
    if layout.bits > 8:
        return f"{chroma}p{layout.bits}"
    if chroma == "420":
        return chroma + _SITING.get(color.chroma_location, "mpeg2")
    return chroma


def header(
    layout: PlaneLayout,
    color: ColorSpec,
    *,
    width: int,
    height: int,
    fps: Fraction,
    sample_aspect_ratio: Fraction,
) -> bytes:
    """The stream's first line."""
    levels = "FULL" if color.full_range else "LIMITED"
    aspect = sample_aspect_ratio
    text = (
        f"YUV4MPEG2 W{width} H{height} F{fps.numerator}:{fps.denominator} Ip "
        f"A{aspect.numerator}:{aspect.denominator} C{colour_tag(layout, color)} "
        f"XCOLORRANGE={levels}\n"
    )
    return text.encode("ascii")


def write_frame(target: BinaryIO, frame: Frame) -> None:
    """One picture: samples of more than 8 bits are two bytes, the low one first."""
    write_all(target, b"FRAME\n")
    for plane in frame.host_planes:
        write_all(target, plane.astype(plane.dtype.newbyteorder("<"), copy=False))


def write_all(target: BinaryIO, data: Any) -> None:
    """Write every byte, also to an unbuffered file, which may take fewer at a time."""
    rest = memoryview(data).cast("B")
    while rest:
        taken = target.write(rest)
        rest = rest[len(rest) if taken is None else taken :]
