"""What a decoded frame states of itself: colour, HDR metadata, rotation, and what gets lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from vfi_cli.frame import ColorSpec
from vfi_cli.io.formats import pixel_format
from vfi_cli.io.source import HdrInfo


def color_of(frame: VideoFrame) -> ColorSpec:
    """The colour that a decoded frame states."""
    form = pixel_format(frame.format.name)
    kind = form.layout.kind if form is not None else "rgb"
    stated = int(frame.color_range)  # 1 limited, 2 full, 0 unknown
    full = stated == 2 or (form is not None and form.full_range) or (kind == "rgb" and stated != 1)
    matrix = 0 if kind == "rgb" else int(frame.colorspace)
    return ColorSpec(
        matrix=matrix,
        full_range=full,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
    )


_LOCATIONS = ("unspecified", "left", "center", "topleft", "top", "bottomleft", "bottom")


def chroma_location(frame: VideoFrame) -> int:
    """Where chroma samples lie, as in FFmpeg's AVChromaLocation; 0 where the stream is silent.

    PyAV has no attribute for it, so it is read from what FFmpeg's showinfo filter reports.
    """
    form = pixel_format(frame.format.name)
    if form is None or not (form.layout.log2_chroma_w or form.layout.log2_chroma_h):
        return 0
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=frame.time_base or Fraction(1, 25),
    )
    report = graph.add("showinfo", "checksum=0")
    sink = graph.add("buffersink")
    source.link_to(report)
    report.link_to(sink)
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)
    try:
        with av.logging.Capture() as lines:
            graph.configure()
            graph.push(frame)
            graph.pull()
    except av.error.FFmpegError:
        return 0
    finally:
        av.logging.set_level(level)
    text = " ".join(message for _, name, message in lines if name == "showinfo")
    found = re.search(r"\bcl:(\w+)", text)
    return _LOCATIONS.index(found[1]) if found and found[1] in _LOCATIONS else 0


#: What decoders deliver beside a picture and PyAV can give to no encoder and no muxer.
_UNCARRIED = {
    "A53_CC": "closed captions inside the picture (CEA-608/708)",
    "SPHERICAL": "the projection of a 360° picture",
    "STEREO3D": "how a stereoscopic picture is arranged",
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
}
_FLAT = 0  # AVStereo3DType of a picture that is not stereoscopic


def uncarried(frames: Sequence[VideoFrame]) -> tuple[str, ...]:
    """What the pictures carry, in words, that no output will have."""
    found = [item for frame in frames for item in _held(frame).items() if item[0] in _UNCARRIED]
    said = (
        _UNCARRIED[name]
        for name, data in found
        if name != "STEREO3D" or np.frombuffer(data, np.int32, 1)[0] != _FLAT
    )
    return tuple(dict.fromkeys(said))


def _held(frame: VideoFrame) -> dict[str, bytes]:
    """The side data of a frame by FFmpeg's name of its type."""
    items: Any = frame.side_data
    return {items[place].type.name: bytes(items[place]) for place in range(len(items))}


def side_data(frame: VideoFrame) -> tuple[HdrInfo | None, tuple[int, ...] | None]:
    """HDR metadata and the display matrix."""
    held = _held(frame)
    matrix = None
    if len(held.get("DISPLAYMATRIX", b"")) >= 36:
        matrix = tuple(int(v) for v in np.frombuffer(held["DISPLAYMATRIX"], np.int32, 9))
    primaries = white = luminance = light = average = None
    if len(held.get("MASTERING_DISPLAY_METADATA", b"")) >= 88:
        raw = np.frombuffer(held["MASTERING_DISPLAY_METADATA"], np.int32, 22)
        values = [
            Fraction(int(num), int(den)) if den else Fraction(0)
            for num, den in raw[:20].reshape(10, 2)
        ]
        if raw[20]:
            primaries = ((values[0], values[1]), (values[2], values[3]), (values[4], values[5]))
            white = (values[6], values[7])
        if raw[21]:
            luminance = (values[8], values[9])
    if len(held.get("CONTENT_LIGHT_LEVEL", b"")) >= 8:
        light, average = (int(v) for v in np.frombuffer(held["CONTENT_LIGHT_LEVEL"], np.uint32, 2))
    if primaries is None and luminance is None and light is None:
        return None, matrix
    return HdrInfo(primaries, white, luminance, light, average), matrix
