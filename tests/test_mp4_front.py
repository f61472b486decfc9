"""MP4 and QuickTime with the movie box in front, so that players of a stream begin at once."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import write_clip
from vfi_cli import convert
from vfi_cli.io import mp4_boxes
from vfi_cli.io.mp4_boxes import Box, BoxError, move_to_front, read_moov


def kinds(path: Path) -> list[bytes]:
    return [kind for kind, _, _ in mp4_boxes._top_level(path)]


def packets(path: Path) -> list[tuple[int, int | None, bytes]]:
    with av.open(str(path)) as container:
        return [(p.stream_index, p.pts, bytes(p)) for p in container.demux() if p.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("block", [1000, 8 << 20])
def test_every_sample_stays_what_it_is(
    tmp_path: Path, suffix: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With blocks smaller than the box itself, and with one for all."""
    monkeypatch.setattr(mp4_boxes, "_BLOCK", block)
    clip = write_clip(tmp_path / f"a{suffix}", frames=40, tone=True)
    before, size = packets(clip), clip.stat().st_size
    assert kinds(clip)[-1] == b"moov"
    move_to_front(clip)
    assert kinds(clip)[:2] == [b"ftyp", b"moov"]
    assert packets(clip) == before
    assert clip.stat().st_size == size
    moved = clip.read_bytes()
    move_to_front(clip)
    assert clip.read_bytes() == moved, "it is there already"


def test_offsets_that_outgrow_their_table_get_a_larger_one(tmp_path: Path) -> None:
    """The second track's first sample passes 4 GB only because the first one's table grew."""
    last = 1 << 32

    def track(*places: int) -> Box:
        table = Box(b"stco", struct.pack(f">II{len(places)}I", 0, len(places), *places))
        inner = Box(b"minf", children=[Box(b"stbl", children=[table])])
        return Box(b"trak", children=[Box(b"mdia", children=[inner])])

    size = len(Box(b"moov", children=[track(5, 0), track(0)]).data())
    # The first track's table takes 8 bytes more, which are one too many for the second.
    moov = Box(b"moov", children=[track(5, last - 20), track(last - size - 8)])
    path = tmp_path / "a.mp4"
    path.write_bytes(Box(b"ftyp", b"isom").data() + Box(b"mdat", b"samples").data() + moov.data())
    move_to_front(path)
    assert kinds(path) == [b"ftyp", b"moov", b"mdat"]
    written, _, moved = read_moov(path)
    tables = mp4_boxes._chunk_tables(written)
    assert [table.kind for table in tables] == [b"co64", b"co64"]
    assert [list(mp4_boxes._chunk_offsets(table)) for table in tables] == [
        [5 + moved, last - 20 + moved],
        [last - size - 8 + moved],
    ]
    assert path.read_bytes().endswith(b"mdatsamples")


def test_a_file_without_a_movie_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(Box(b"ftyp", b"isom").data())
    with pytest.raises(BoxError, match="no movie box"):
        move_to_front(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_outputs_begin_with_it(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(tmp_path / "in.mkv", frames=8, tone=True, metadata={"mood": "good"})
    output = tmp_path / f"out{suffix}"
    convert(clip, output, fps=50, model="blend")
    assert kinds(output)[:2] == [b"ftyp", b"moov"]
    with av.open(str(output)) as container:
        tags = {name.lower(): value for name, value in container.metadata.items()}
        assert tags["mood"] == "good"
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [Fraction(k, 50) for k in range(16)]
    with av.open(str(output)) as made, av.open(str(clip)) as source:
        sounds = [
            b"".join(bytes(p) for p in file.demux(audio=0) if p.size) for file in (made, source)
        ]
    assert sounds[0] == sounds[1]
    assert np.frombuffer(sounds[0], np.uint8).any()
