"""What pictures carry beside themselves: named before the work where it will be lost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.media import write_clip
from vfi_cli.io.decode import probe
from vfi_cli.io.stated import uncarried
from vfi_cli.io.streams import plan_streams

#: An SEI message of H.264 with one pair of caption bytes, as ATSC A/53 writes it.
CAPTIONS = bytes.fromhex("b500314741393403") + bytes([0x41, 0xFF, 0xFC, 0x94, 0x20, 0xFF])
CAPTION_NAL = b"\0\0\1\6\4" + bytes([len(CAPTIONS)]) + CAPTIONS + b"\x80"


def with_captions(path: Path) -> Path:
    """Put captions before each picture of an H.264 stream without a container."""
    start = b"\0\0\1"
    units = path.read_bytes().split(start)
    out = units[0]
    for unit in units[1:]:
        out += (CAPTION_NAL if unit[0] & 31 in (1, 5) else b"") + start + unit
    path.write_bytes(out)
    return path


def notes_of(path: Path) -> str:
    return "\n".join(plan_streams(probe(path), ".mkv").lines())


def test_captions_inside_the_picture_are_named(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "in.h264", frames=5, options={"slices": "1"}, container="h264")
    assert "captions" not in notes_of(plain)
    assert "closed captions inside the picture" in notes_of(with_captions(plain))


def test_stereoscopic_pictures_are_named(tmp_path: Path) -> None:
    options = {"x264-params": "frame-packing=3"}  # side by side
    path = write_clip(tmp_path / "in.mkv", frames=5, options=options)
    assert "how a stereoscopic picture is arranged" in notes_of(path)
    flat = write_clip(tmp_path / "flat.mkv", frames=5)
    assert notes_of(flat) == ""


@pytest.mark.parametrize(
    ("kind", "data", "word"),
    [
        ("SPHERICAL", bytes(32), "360°"),
        ("DYNAMIC_HDR_PLUS", bytes(8), "HDR10+"),
        ("DOVI_METADATA", bytes(8), "Dolby Vision"),
        ("STEREO3D", np.array([1, 0], np.int32).tobytes(), "stereoscopic"),
        ("STEREO3D", bytes(8), None),
        ("MOTION_VECTORS", bytes(8), None),
    ],
)
def test_each_kind_has_its_words_once(kind: str, data: bytes, word: str | None) -> None:
    class Item(bytes):
        type = SimpleNamespace(name=kind)

    frame: Any = SimpleNamespace(side_data=[Item(data)])
    said = uncarried([frame, frame])
    assert len(said) == (word is not None)
    assert word is None or word in said[0]
