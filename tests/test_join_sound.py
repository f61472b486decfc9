"""Sound and chapters of sources that containers tell otherwise than they are, or in part."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from tests.streamkit import (
    Info,
    Sound,
    burst_time,
    convert,
    packets_of,
    segments,
    write_source,
)
from vfi_cli.io.copier import Sent
from vfi_cli.io.readback import MismatchError, _check_offset, _Seen
from vfi_cli.io.streams import StreamItem

FPS = Fraction(60)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return segments(tmp_path_factory.mktemp("parts"), fps=FPS)


@pytest.mark.parametrize(
    ("codec", "source", "suffix"),
    [
        ("mp2", ".mkv", ".mp4"),  # which has one number for all layers of MPEG sound …
        ("mp2", ".mp4", ".mkv"),  # … and may call it another there
        ("mp2", ".ts", ".mp4"),
        ("eac3", ".mkv", ".nut"),  # which would make AC-3 of it
    ],
)
def test_sound_that_readers_tell_otherwise(codec, source, suffix, parts, tmp_path):
    info = write_source(tmp_path / f"in{source}", sounds=(Sound(codec),))
    made = convert(info, tmp_path / f"out{suffix}", parts, fps=FPS)
    assert not made.report.warnings
    with av.open(info.path) as before, av.open(str(made.path)) as after:
        picture = after.streams.video[0]
        offset = picture.start_time * picture.time_base - info.start
        assert len(before.streams.audio) == len(after.streams.audio) == 1
    there, here = burst_time(Path(info.path))[0], burst_time(made.path)[0]
    assert abs(here - offset - there) < Fraction(1, 200)


def test_what_a_reader_counts_in_whole_packets_is_not_taken_for_an_offset():
    """Vorbis of an Ogg file begins 116 samples early; in MP4 FFmpeg finds it 128 samples early."""
    item = StreamItem(1, "audio", "vorbis", "copy")
    tick = Fraction(1, 44100)
    sent = Sent(first=-116 * tick, last=5000 * tick)

    def check(moved: int) -> None:
        seen = _Seen(first=-116 - moved, last=5000 - moved)
        _check_offset(item, SimpleNamespace(time_base=tick), seen, sent, Fraction(0), tick)

    check(12)
    with pytest.raises(MismatchError, match=r"-2\.0 ms off the picture"):
        check(90)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_the_last_packet_of_sound_is_kept_where_its_length_is_not_known(suffix, parts, tmp_path):
    info = write_source(tmp_path / "in.mkv", sounds=(Sound("alac"),))
    before = packets_of(Path(info.path), "audio")
    with av.open(info.path) as source:
        last = [p for p in source.demux(audio=0) if p.size][-1]
        assert not last.duration, "Matroska does not say it"
    made = convert(info, tmp_path / f"out{suffix}", parts, fps=FPS)
    assert packets_of(made.path, "audio") == before


def trimmed(path: Path, source: str, cut: Fraction) -> Info:
    """An MP4 whose edit list leaves out what lies before ``cut``, as cameras and phones trim."""
    with av.open(source) as whole, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in whole.streams}
        for packet in whole.demux():
            if packet.size:
                shift = round(cut / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return Info(str(path), 0, Fraction(0))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".ts"])
def test_what_an_edit_list_leaves_out_is_not_heard(suffix, parts, tmp_path):
    whole = write_source(
        tmp_path / "whole.mp4", sounds=(Sound(burst=Fraction(1, 10)),), seconds=Fraction(2)
    )
    info = trimmed(tmp_path / "in.mp4", whole.path, Fraction(2, 5))
    with av.open(info.path) as source:
        flags = [packet.is_discard for packet in source.demux(audio=0) if packet.size]
    assert sum(flags) > 10
    made = convert(info, tmp_path / f"out{suffix}", parts, fps=FPS)
    assert not made.report.warnings
    if suffix == ".mp4":  # has such a list itself
        assert packets_of(made.path, "audio") == packets_of(Path(info.path), "audio")
        return
    assert len(packets_of(made.path, "audio")) == flags.count(False) + 1
    with av.open(str(made.path)) as output:
        starts = [s.start_time * s.time_base for s in output.streams]
    assert starts[0] - starts[1] < Fraction(1, 10)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_chapters_end_with_a_picture_that_breaks_off(suffix, parts, tmp_path):
    """In MP4 they are a track of their own, which would make the file longer than the picture."""
    info = write_source(
        tmp_path / "in.mkv", chapters=((0, 600, "a"), (600, 1800, "b"), (1800, 3000, "c"))
    )
    made = convert(info, tmp_path / f"out{suffix}", parts, fps=FPS, until=Fraction(1))
    with av.open(str(made.path)) as output:
        ends = [chapter["end"] * chapter["time_base"] for chapter in output.chapters()]
    assert ends == [Fraction(3, 5), 1]
