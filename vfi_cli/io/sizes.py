"""How many bytes the streams of a file have, from its packets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import av
from av.container import InputContainer

from vfi_cli.io.source import DEMUX_ERRORS, open_input

_PATH = str | os.PathLike


@dataclass(frozen=True, slots=True)
class PicturePacket:
    """One packet of the picture stream."""

    time: Fraction  # seconds, when its frame is shown
    size: int  # bytes
    key: bool


@dataclass(frozen=True, slots=True)
class StreamSizes:
    """What a file's packets weigh. Pictures in the file's order."""

    pictures: tuple[PicturePacket, ...]
    others: dict[int, int]  # bytes of each other stream, by its index


def stream_sizes(source: str | os.PathLike[str] | BinaryIO, picture: int = 0) -> StreamSizes:
    """Read all packets of a file, of which stream ``picture`` is the picture.

    A file that breaks off is measured up to there. Raises InputError where it does not open.
    """
    container: InputContainer
    container = open_input(source) if isinstance(source, _PATH) else av.open(source, "r")
    pictures: list[PicturePacket] = []
    others: dict[int, int] = {}
    with container:
        try:
            for packet in container.demux():
                if packet.stream_index != picture:
                    others[packet.stream_index] = others.get(packet.stream_index, 0) + packet.size
                elif packet.size:
                    stamp = packet.dts if packet.pts is None else packet.pts  # AVI has only the one
                    at = (stamp or 0) * Fraction(packet.time_base)
                    pictures.append(PicturePacket(at, packet.size, packet.is_keyframe))
        except DEMUX_ERRORS:
            pass
    return StreamSizes(tuple(pictures), others)
