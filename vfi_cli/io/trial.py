"""An encoder and a container, tried on one frame before any work is done."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import av.logging
import numpy as np

from vfi_cli.errors import OutputError
from vfi_cli.frame import Frame
from vfi_cli.io.codecs import EncoderConfig, EncoderOptions, choose_encoder
from vfi_cli.io.containers import CONTAINERS, muxer_for
from vfi_cli.io.encode import VideoWriter
from vfi_cli.io.mux import OutputMux
from vfi_cli.io.source import SourceInfo
from vfi_cli.wording import said

#: Pixels a side from which on a smaller frame is tried first: x265 and SVT-AV1 take a second to
#: begin in 4K, and some tens of milliseconds so.
_SMALL = 256


def choose_tried_encoder(
    options: EncoderOptions, info: SourceInfo, suffix: str, fps: Fraction
) -> EncoderConfig:
    """As :func:`~vfi_cli.io.codecs.choose_encoder` for a file, tried in its container."""
    config = choose_encoder(options, info, suffix)
    try_output(config, muxer_for(suffix), fps=fps, width=info.width, height=info.height)
    return config


def try_output(
    config: EncoderConfig, muxer: str, *, fps: Fraction, width: int, height: int
) -> None:
    """Encode a grey frame as segments are, move it into ``muxer`` and read it, all in memory.

    Raises OutputError where the encoder takes no such picture, or the container does not give
    it back. That a large picture is too large is found by its encoder, when it opens.
    """
    small = _small(width), _small(height)
    with _listening():
        try:
            _try(config, muxer, fps, *small)
        except OutputError:
            if small == (width, height):
                raise
            _try(config, muxer, fps, width, height)  # some encoders know few sizes


@contextmanager
def _listening() -> Iterator[None]:
    """Let an encoder's error carry what FFmpeg logs with it."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(local=False):
            yield
    finally:
        av.logging.set_level(level)


def _small(side: int) -> int:
    """A length of the same parity."""
    return min(side, _SMALL + side % 2)


def _try(config: EncoderConfig, muxer: str, fps: Fraction, width: int, height: int) -> None:
    segment, output = io.BytesIO(), io.BytesIO()
    writer = VideoWriter(segment, config, fps=fps, width=width, height=height)
    try:
        with writer:
            writer.write(_grey(config, width, height))
        segment.seek(0)
        with av.open(segment, "r") as source, OutputMux(output, muxer) as out:
            out.add_video(source.streams.video[0], fps=fps, color=config.color)
            for packet in source.demux(video=0):
                if packet.size:
                    packet.time_base = 1 / fps
                    packet.pts = packet.dts = 0
                    packet.duration = 1
                    out.mux_video(packet)
        output.seek(0)
        with av.open(output, "r") as result:
            why = None if any(result.decode(video=0)) else "it is empty"
    except (OutputError, av.error.FFmpegError, ValueError, IndexError) as error:
        why = said(error.__cause__ or error)
    if why is not None:
        raise OutputError(
            f"{config.encoder} of {width}×{height} in {config.pix_fmt} does not come back out of "
            f"{CONTAINERS[muxer].said} ({why}); choose another --pix-fmt, --codec or container"
        )


def _grey(config: EncoderConfig, width: int, height: int) -> Frame:
    layout = config.layout
    planes = tuple(
        np.full(layout.plane_shape(plane, width, height), (layout.peak + 1) // 2, layout.dtype)
        for plane in range(layout.components)
    )
    return Frame(planes, width, height, layout, config.color, 0, Fraction(1))
