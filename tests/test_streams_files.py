"""Headers completed in place, and files that appear whole or not at all."""

from __future__ import annotations

import os
import struct
import threading
import zlib
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.streamkit import HDR, Sound, write_source
from vfi_cli.errors import OutputError
from vfi_cli.io import atomic, avi, matroska, mp4_boxes
from vfi_cli.io.mp4_boxes import Box, BoxError, parse, read_moov


@pytest.fixture(scope="module")
def mp4(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("boxes") / "a.mp4"
    write_source(path, sounds=(Sound(),), tags={"title": "T"}, chapters=((0, 500, "one"),))
    return path


@pytest.fixture(scope="module")
def mkv(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("boxes") / "a.mkv"
    write_source(path, sounds=(Sound(),), video_tags={"title": matroska.padded_name("Camera A")})
    return path


def _copy(path: Path, folder: Path) -> Path:
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    return copy


# MP4


def test_boxes_are_written_as_they_were_read(mp4):
    moov, offset, size = read_moov(mp4)
    assert moov.data() == mp4.read_bytes()[offset : offset + size]
    assert moov.find(b"trak", b"mdia", b"minf", b"stbl", b"stsd") is not None


def test_additions_leave_the_samples_alone(mp4, tmp_path):
    path = _copy(mp4, tmp_path)
    before = path.read_bytes()
    mp4_boxes.complete(
        path, mp4_boxes.Additions(languages={1: "deu"}, tags={"One": "1", "Two": "zwei ü"})
    )
    offset = read_moov(path)[1]
    assert path.read_bytes()[:offset] == before[:offset]
    with av.open(str(path)) as read:
        assert read.streams.audio[0].language == "deu"
        assert read.metadata["title"] == "T"
        assert (read.metadata["One"], read.metadata["Two"]) == ("1", "zwei ü")
        assert len(read.chapters()) == 1
        assert sum(1 for _ in read.decode(video=0)) == 25


def test_tags_into_a_file_without_any(tmp_path):
    path = tmp_path / "bare.mp4"
    moov = Box(b"moov", children=[Box(b"mvhd", bytes(100))])
    path.write_bytes(Box(b"ftyp", b"isom\0\0\0\0").data() + moov.data())
    mp4_boxes.complete(path, mp4_boxes.Additions(tags={"a": "b"}))
    listed = read_moov(path)[0].find(b"udta", b"meta", b"ilst", b"----")
    assert listed is not None
    assert [child.kind for child in listed.children] == [b"mean", b"name", b"data"]


def test_a_movie_box_in_front_is_refused(tmp_path):
    path = tmp_path / "front.mp4"
    path.write_bytes(Box(b"moov").data() + Box(b"mdat", b"samples").data())
    with pytest.raises(BoxError, match="not at the end"):
        mp4_boxes.complete(path, mp4_boxes.Additions(tags={"a": "b"}))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I4s", 4, b"trak"),
        struct.pack(">I4s", 64, b"trak") + b"short",
        struct.pack(">I4s", 8, b"free") + b"junk",
    ],
)
def test_boxes_that_cannot_be_are_refused(data):
    with pytest.raises(BoxError):
        parse(b"moov", data)


def test_large_boxes_are_read():
    data = struct.pack(">I4sQ", 1, b"mdat", 17) + b"x" + Box(b"free").data()
    assert list(mp4_boxes._split(data)) == [(b"mdat", b"x"), (b"free", b"")]


# Matroska


def test_a_track_entry_changes_without_moving_anything(mkv, tmp_path):
    path = _copy(mkv, tmp_path)
    before = path.read_bytes()
    matroska.complete(path, matroska.Additions(0, "Camera A", Fraction(16, 15)))
    after = path.read_bytes()
    assert len(after) == len(before)
    with av.open(str(path)) as read:
        assert read.streams.video[0].sample_aspect_ratio == Fraction(16, 15)
        assert read.streams.video[0].metadata["title"] == "Camera A"
        assert sum(1 for _ in read.decode(video=0)) == 25


def test_the_checksum_of_the_tracks_is_right(mkv, tmp_path):
    path = _copy(mkv, tmp_path)
    matroska.complete(path, matroska.Additions(0, "", Fraction(2)))
    with path.open("rb") as file:
        at, size = matroska._find_tracks(file)  # type: ignore[misc]
        file.seek(at)
        content = file.read(size)
    assert content[:2] == b"\xbf\x84", "FFmpeg writes a CRC-32 first"
    assert struct.unpack("<I", content[2:6])[0] == zlib.crc32(content[6:])
    with av.open(str(path)) as read:
        assert "title" not in read.streams.video[0].metadata


def test_without_room_in_the_entry_nothing_is_written(tmp_path):
    path = tmp_path / "a.mkv"
    write_source(path)
    before = path.read_bytes()
    with pytest.raises(matroska.MatroskaError, match="room"):
        matroska.complete(path, matroska.Additions(0, hdr=HDR))
    assert path.read_bytes() == before


def test_what_is_no_matroska_file_is_refused(mp4, tmp_path):
    with pytest.raises(matroska.MatroskaError):
        matroska.complete(_copy(mp4, tmp_path), matroska.Additions(0))


# AVI


def test_avi_starts(tmp_path):
    path = tmp_path / "a.avi"
    write_source(path, sounds=(Sound("pcm_s16le"),), codec="mpeg4")
    avi.set_starts(path, {1: Fraction(1, 4)})
    with av.open(str(path)) as read:
        first = next(p for p in read.demux(audio=0) if p.size)
        assert first.pts * first.time_base == Fraction(1, 4)
    with pytest.raises(ValueError, match="no stream 5"):
        avi.set_starts(path, {5: Fraction(1)})


def test_what_is_no_avi_file_is_refused(mkv, tmp_path):
    with pytest.raises(ValueError, match="not an AVI"):
        avi.set_starts(_copy(mkv, tmp_path), {0: Fraction(1)})


# publishing


@pytest.fixture(params=["renameat2", "link", "claim"])
def way(request, monkeypatch) -> str:
    """The ways to publish, from the best that a system has to the least."""
    if request.param != "renameat2":
        monkeypatch.setattr(atomic, "_renameat2", lambda *_: False)
    if request.param == "claim":

        def refused(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refused)
    return request.param


def test_publishing_gives_the_name(way, tmp_path):
    tmp, final = tmp_path / "tmp", tmp_path / "final.mp4"
    tmp.write_text("new")
    atomic.publish(tmp, final)
    assert final.read_text() == "new"
    assert not tmp.exists()


def test_publishing_never_replaces_unasked(way, tmp_path):
    tmp, final = tmp_path / "tmp", tmp_path / "final.mp4"
    tmp.write_text("new")
    final.write_text("old")
    with pytest.raises(OutputError, match="exists already"):
        atomic.publish(tmp, final)
    assert final.read_text() == "old"
    assert tmp.read_text() == "new"
    atomic.publish(tmp, final, overwrite=True)
    assert final.read_text() == "new"


def test_of_many_publishers_one_wins(way, tmp_path):
    final = tmp_path / "final.mp4"
    sources = [tmp_path / f"tmp{n}" for n in range(8)]
    for source in sources:
        source.write_text(source.name)
    won, gate = [], threading.Barrier(len(sources))

    def race(source: Path) -> None:
        gate.wait()
        try:
            atomic.publish(source, final)
        except OutputError:
            return
        won.append(source.name)

    threads = [threading.Thread(target=race, args=(source,)) for source in sources]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert final.read_text() == won[0]


def test_publishing_what_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot be put in place"):
        atomic.publish(tmp_path / "nothing", tmp_path / "final.mp4")
