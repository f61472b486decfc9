"""Small test clips, made with PyAV: any codec, pixel format, timestamps, rotation, sound.

Pictures carry their number: :func:`numbered_planes` draws it so that :func:`read_number` finds
it again after lossy coding, whatever the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vfi_cli.frame import PlaneLayout, Samples
from vfi_cli.io.formats import pack, pixel_format

BITS = 8  # of a picture's number: the top rows hold it as black and white blocks


def numbered_planes(
    layout: PlaneLayout, width: int, height: int, number: int
) -> tuple[Samples, ...]:
    """A gradient that drifts with ``number``, with the number itself in blocks on top."""
    top = layout.peak
    ramp = (np.arange(width)[None, :] * 2 + np.arange(height)[:, None] + 3 * number) % 128 + 64
    luma = (ramp * ((top + 1) // 256)).astype(layout.dtype)
    block = width // BITS
    for bit in range(BITS):
        luma[: height // 4, bit * block : (bit + 1) * block] = (
            0.9 * top if number >> bit & 1 else 0.1 * top
        )
    planes: list[Samples] = []
    for plane in range(layout.components):
        shape = layout.plane_shape(plane, width, height)
        if plane == 0 or (layout.kind == "rgb" and plane < 3):
            planes.append(luma.copy())
        elif layout.alpha and plane == layout.components - 1:
            planes.append(np.full(shape, top, layout.dtype))
        else:
            tilt = np.linspace(0.35, 0.65, shape[1])[None, :] + np.zeros(shape)
            planes.append((tilt * top).astype(layout.dtype))
    return tuple(planes)


def read_number(luma: Samples, bits: int = 8) -> int:
    """The number that :func:`numbered_planes` drew, from a luma (or red) plane."""
    height, width = luma.shape
    block = width // BITS
    number = 0
    for bit in range(BITS):
        part = luma[: height // 4, bit * block : (bit + 1) * block]
        inner = part[1:-1, 1:-1] if min(part.shape) > 3 else part
        number |= int(inner.mean() > (1 << bits) / 2) << bit
    return number


def write_clip(
    path: Path,
    *,
    frames: int = 10,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    rate: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int | None = None,
    aspect: Fraction | None = None,
    tone: bool = False,
    tone_start: Fraction = Fraction(0),
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a clip of numbered pictures and return its path.

    ``pts`` (in ``time_base``) makes it variable; otherwise frame n is at n / rate. ``rotation``
    is in degrees clockwise that show it upright. ``tone`` adds a sine as sound from
    ``tone_start`` seconds to the picture's end.
    """
    width, height = size
    rate = Fraction(rate)
    base = time_base or 1 / rate
    stamps = list(pts) if pts is not None else [int(n / rate / base) for n in range(frames)]
    form = pixel_format(pix_fmt)
    with av.open(
        str(path), "w", format=container, container_options=container_options or {}
    ) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate, options=options or {}, width=width, height=height)
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        stream.time_base = base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation is not None:
            stream.set_display_rotation(-rotation)
        if tone:
            seconds = stamps[-1] * base + 1 / rate - tone_start
            add_tone(out, seconds, tone_start)
        for number, stamp in enumerate(stamps):
            if form is None:  # GIF's rgb8 and the like
                layout = PlaneLayout("rgb", 8)
                frame = pack(numbered_planes(layout, width, height, number), "gbrp", width, height)
                frame = frame.reformat(format=pix_fmt)
            else:
                planes = numbered_planes(form.layout, width, height, number)
                frame = pack(planes, pix_fmt, width, height)
            frame.pts = stamp
            frame.time_base = base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def add_tone(out: Any, seconds: Fraction, start: Fraction = Fraction(0)) -> None:
    """A 440 Hz sine, interleaved by the muxer with what follows."""
    rate = 48000
    codec = "libopus" if out.format.name == "webm" else "aac"
    stream = out.add_stream(codec, rate=rate)
    total = int(seconds * rate)
    step = 960 if codec == "libopus" else 1024
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(total) / rate)).astype(np.float32)
    offset = int(start * rate)
    fmt = "flt" if codec == "libopus" else "fltp"
    for at in range(0, total, step):
        part = wave[at : at + step]
        data = np.stack([part, part])
        if fmt == "flt":
            data = data.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=fmt, layout="stereo")
        frame.sample_rate = rate
        frame.pts = offset + at
        frame.time_base = Fraction(1, rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
