"""Segments and other streams onto one exact time line, read back."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from tests import streamkit
from tests.streamkit import Sound, Text, convert, picture_times, write_segment, write_source
from vfi_cli.errors import OutputError
from vfi_cli.io.streams import plan_streams
from vfi_cli.join import _inspect as inspect
from vfi_cli.join import join, picture_packets, verify

NTSC60 = Fraction(60000, 1001)
FILM = Fraction(24000, 1001)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[Path]:
    """Three segments of 20 frames with B-frames."""
    return streamkit.segments(tmp_path_factory.mktemp("parts"), fps=NTSC60)


@pytest.fixture(scope="module")
def vp9_parts(tmp_path_factory) -> list[Path]:
    return streamkit.segments(tmp_path_factory.mktemp("vp9"), fps=NTSC60, codec="libvpx-vp9")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A film with sound and subtitles, one second long."""
    path = tmp_path_factory.mktemp("source") / "film.mkv"
    return write_source(path, sounds=(Sound(),), texts=(Text(),))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".ts", ".avi", ".nut"])
def test_frames_stand_on_the_grid_in_every_container(suffix, source, parts, vp9_parts, tmp_path):
    used = vp9_parts if suffix == ".webm" else parts
    made = convert(source, tmp_path / f"out{suffix}", used, fps=NTSC60)
    times = picture_times(made.path)
    assert len(times) == 60
    with av.open(str(made.path)) as out:
        picture = out.streams.video[0]
        # Matroska says nanoseconds a frame, from which FFmpeg guesses a fraction.
        assert float(picture.average_rate) == pytest.approx(float(NTSC60), rel=1e-6)
        assert sum(1 for _ in out.decode(picture)) == 60
        tick = picture.time_base
    for k, time in enumerate(times):
        assert abs(time - times[0] - k / NTSC60) <= tick
    if suffix in (".mp4", ".mov", ".mkv", ".webm"):
        assert times[0] == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_long_film_does_not_drift(suffix, tmp_path):
    part = write_segment(tmp_path / "part.nut", frames=500, fps=FILM, codec="mpeg4", size=(16, 16))
    info = write_source(tmp_path / "s.mp4")
    made = convert(info, tmp_path / f"long{suffix}", [part] * 40, fps=FILM, frames=20_000)
    times = picture_times(made.path)
    last = 19_999 * Fraction(1001, 24000)
    if suffix == ".mp4":
        assert times[-1] == last  # to the tick: no float ever decided
    else:
        assert abs(times[-1] - last) <= Fraction(1, 2000)


def test_decoding_times_increase_and_never_pass_showing_times(parts):
    found = inspect(parts, NTSC60)
    assert found.depth > 0, "the segments were meant to have B-frames"
    packets = list(picture_packets(found, NTSC60, Fraction(0), "mp4"))
    stamps = [(p.dts, p.pts) for p in packets]
    assert all(a[0] < b[0] for a, b in pairwise(stamps))
    assert all(dts <= pts for dts, pts in stamps)
    assert sorted(pts for _, pts in stamps) == list(range(60))


@pytest.mark.parametrize(
    ("codec", "suffix", "tag"),
    [
        ("libx265", ".mp4", "hvc1"),
        ("libx265", ".mkv", None),
        ("libsvtav1", ".mp4", "av01"),
        ("libsvtav1", ".webm", None),
        ("libvpx-vp9", ".mp4", "vp09"),
        ("ffv1", ".mkv", None),
        ("mpeg4", ".avi", None),
        ("libx265", ".ts", None),
    ],
)
def test_other_codecs(codec, suffix, tag, tmp_path):
    options = {"libx265": {"x265-params": "log-level=none"}, "libsvtav1": {"preset": "10"}}
    part = write_segment(
        tmp_path / "part.nut", frames=12, fps=Fraction(50), codec=codec, options=options.get(codec)
    )
    info = write_source(tmp_path / "s.mp4", sounds=(Sound(),))
    made = convert(info, tmp_path / f"o{suffix}", [part, part], fps=Fraction(50), frames=24)
    with av.open(str(made.path)) as out:
        assert sum(1 for _ in out.decode(video=0)) == 24
        if tag:
            assert out.streams.video[0].codec_context.codec_tag == tag


def test_prores_in_quicktime(tmp_path):
    """NUT does not hold it; its segments are QuickTime files."""
    path = tmp_path / "part.mov"
    out = av.open(str(path), "w")
    stream = out.add_stream("prores_ks", rate=25, width=64, height=48)
    stream.pix_fmt = "yuv422p10le"
    for k in range(3):
        frame = av.VideoFrame(64, 48, "yuv422p10le")
        frame.pts, frame.time_base = k, Fraction(1, 25)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
    out.close()
    info = write_source(tmp_path / "s.mp4")
    made = convert(info, tmp_path / "o.mov", [path, path], fps=Fraction(25), frames=6)
    with av.open(str(made.path)) as read:
        assert read.streams.video[0].codec_context.codec_tag.startswith("ap")
        assert sum(1 for _ in read.decode(video=0)) == 6


# offsets between sound and picture


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts", ".nut"])
@pytest.mark.parametrize(
    ("sound", "picture"), [("0", "0"), ("1/5", "0"), ("0", "3/25"), ("1/3", "1/25")]
)
def test_sound_stays_where_it_was(suffix, sound, picture, tmp_path):
    parts = streamkit.segments(tmp_path / "p", fps=Fraction(60))
    info = write_source(
        tmp_path / "s.mp4",
        sounds=(Sound(start=Fraction(sound)),),
        picture_start=Fraction(picture),
    )
    before, _ = streamkit.burst_time(Path(info.path))
    made = convert(info, tmp_path / f"o{suffix}", parts, fps=Fraction(60))
    after, _ = streamkit.burst_time(made.path)
    moved = (after - picture_times(made.path)[0]) - (before - info.start)
    assert abs(moved) < Fraction(1, 1000)


@pytest.mark.parametrize(
    ("source", "suffix"),
    [
        (("s.mkv", "libopus"), ".mp4"),
        (("s.mkv", "libopus"), ".mov"),  # becomes AAC
        (("s.mkv", "flac"), ".webm"),  # becomes Opus
        (("s.ts", "aac"), ".mkv"),
        (("s.ts", "aac"), ".mp4"),
        (("s.avi", "libmp3lame"), ".mp4"),
        (("s.mov", "pcm_s16le"), ".mp4"),
        (("s.mov", "pcm_s24le"), ".ts"),  # becomes AAC
        (("s.mp4", "aac"), ".webm"),
    ],
)
def test_sound_stays_when_codec_or_container_changes(source, suffix, vp9_parts, parts, tmp_path):
    name, codec = source
    info = write_source(tmp_path / name, sounds=(Sound(codec),))
    before, tone = streamkit.burst_time(Path(info.path))
    used = vp9_parts if suffix == ".webm" else parts
    made = convert(info, tmp_path / f"o{suffix}", used, fps=NTSC60)
    after, same = streamkit.burst_time(made.path)
    moved = (after - picture_times(made.path)[0]) - (before - info.start)
    assert abs(moved) < Fraction(1, 1000)
    assert same == pytest.approx(tone, rel=0.01)


@pytest.mark.parametrize("late", ["0", "1/5"])
def test_avi_says_when_its_sound_begins(late, tmp_path):
    parts = streamkit.segments(tmp_path / "p", fps=Fraction(50), codec="mpeg4")
    info = write_source(
        tmp_path / "s.mov", sounds=(Sound("pcm_s16le", start=Fraction(late)),), codec="mpeg4"
    )
    before, _ = streamkit.burst_time(Path(info.path))
    made = convert(info, tmp_path / "o.avi", parts, fps=Fraction(50))
    after, _ = streamkit.burst_time(made.path)
    assert abs((after - picture_times(made.path)[0]) - (before - info.start)) < Fraction(1, 1000)


def test_a_transport_stream_loses_its_common_start(parts, tmp_path):
    info = write_source(
        tmp_path / "s.ts",
        sounds=(Sound(start=Fraction(1, 10)),),
        options={"output_ts_offset": "1.4"},
    )
    assert info.start >= Fraction(14, 10)
    made = convert(info, tmp_path / "o.mp4", parts, fps=NTSC60)
    assert picture_times(made.path)[0] == 0
    start, _ = streamkit.burst_time(made.path)
    assert abs(start - Fraction(1, 2)) < Fraction(1, 500)


# a part of the source


def test_other_streams_are_cut_to_the_part(parts, tmp_path):
    info = write_source(
        tmp_path / "s.mkv",
        sounds=(Sound("flac", burst=Fraction(3, 2)),),
        texts=(Text(lines=((100, 300, "before"), (900, 400, "across"), (1500, 200, "in"))),),
        chapters=((0, 500, "one"), (500, 1600, "two"), (1600, 3000, "three")),
        seconds=Fraction(3),
    )
    begin, end = Fraction(1), Fraction(2)
    made = convert(info, tmp_path / "o.mkv", parts, fps=NTSC60, start=begin, begin=begin, end=end)
    onset, _ = streamkit.burst_time(made.path)
    assert abs(onset - Fraction(1, 2)) < Fraction(1, 500)
    with av.open(str(made.path)) as out:
        texts = [(p.pts, p.duration, bytes(p)) for p in out.demux(subtitles=0) if p.size]
        assert texts == [(0, 300, b"across"), (500, 200, b"in")]
        chapters = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"])
            for c in out.chapters()
        ]
    with av.open(str(made.path)) as out:
        last = max(p.pts * p.time_base for p in out.demux(audio=0) if p.size)
    assert chapters == [(0, Fraction(3, 5), "two"), (Fraction(3, 5), 1, "three")]
    assert last < 1


def test_raw_sound_is_cut_to_the_sample(parts, tmp_path):
    info = write_source(tmp_path / "s.mov", sounds=(Sound("pcm_s16le"),), seconds=Fraction(3))
    begin, end = Fraction(1001, 2000), Fraction(3, 2)
    made = convert(info, tmp_path / "o.mov", parts, fps=NTSC60, start=begin, begin=begin, end=end)
    before = b"".join(streamkit.packets_of(Path(info.path), "audio"))
    after = b"".join(streamkit.packets_of(made.path, "audio"))
    assert after == before[24024 * 4 : 72000 * 4]
    assert picture_times(made.path)[0] == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_coded_sound_begins_with_the_part(suffix, parts, tmp_path):
    """The packet across the beginning is kept: nothing of the sound is missing or late."""
    info = write_source(
        tmp_path / "s.mp4", sounds=(Sound(burst=Fraction(101, 100)),), seconds=Fraction(3)
    )
    begin = Fraction(1)
    made = convert(info, tmp_path / f"o{suffix}", parts, fps=NTSC60, start=begin, begin=begin)
    onset, _ = streamkit.burst_time(made.path)
    assert abs(onset - picture_times(made.path)[0] - Fraction(1, 100)) < Fraction(3, 1000)


def test_a_second_picture_stream_is_copied(parts, tmp_path):
    first, second = tmp_path / "1.mp4", tmp_path / "2.mp4"
    info = write_source(first, sounds=(Sound(),))
    write_source(second, video_tags={"title": "angle"})
    both = tmp_path / "both.mkv"
    with (
        av.open(str(first)) as one,
        av.open(str(second)) as two,
        av.open(str(both), "w") as out,
    ):
        streams = [*two.streams.video, *one.streams.video, *one.streams.audio]
        copies = {id(s): out.add_stream_from_template(s, opaque=True) for s in streams}
        for read in (two, one):
            for packet in read.demux():
                if packet.size:
                    packet.stream = copies[id(packet.stream)]
                    out.mux(packet)
    info.path, info.stream_index = str(both), 1
    made = convert(info, tmp_path / "o.mp4", parts, fps=NTSC60)
    assert made.lines == []
    with av.open(str(made.path)) as out:
        assert [s.type for s in out.streams] == ["video", "video", "audio"]
        assert sum(1 for p in out.demux(1) if p.size) == 60
    assert streamkit.packets_of(made.path, "video", 0) == streamkit.packets_of(second, "video")
    (dropped,) = plan_streams(info, ".mp4", stretch=2).dropped[:1]
    assert "only the main picture can be stretched" in dropped.reason


def test_other_streams_end_with_a_truncated_picture(parts, tmp_path):
    info = write_source(
        tmp_path / "s.mkv",
        sounds=(Sound("flac"),),
        texts=(Text(lines=((100, 300, "seen"), (800, 3000, "cut"), (1500, 500, "gone"))),),
        seconds=Fraction(3),
    )
    made = convert(info, tmp_path / "o.mkv", parts, fps=NTSC60, until=Fraction(1))
    with av.open(str(made.path)) as out:
        shown = [(p.pts, p.duration) for p in out.demux(subtitles=0) if p.size]
    texts = streamkit.packets_of(made.path, "subtitle")
    assert shown == [(100, 300), (800, 200)]
    with av.open(str(made.path)) as out:
        sound = max(p.pts * p.time_base for p in out.demux(audio=0) if p.size)
    assert texts == [b"seen", b"cut"]
    assert sound < 1


def test_sound_longer_than_the_picture_is_kept(parts, tmp_path):
    info = write_source(tmp_path / "s.mkv", sounds=(Sound("flac"),), seconds=Fraction(3))
    made = convert(info, tmp_path / "o.mkv", parts, fps=NTSC60)
    assert streamkit.packets_of(made.path, "audio") == streamkit.packets_of(
        Path(info.path), "audio"
    )


# slow motion


def test_sound_is_dropped_from_slow_motion_and_texts_are_stretched(parts, tmp_path):
    info = write_source(
        tmp_path / "s.mkv",
        sounds=(Sound(),),
        texts=(Text(),),
        chapters=((0, 400, "one"), (400, 1000, "two")),
    )
    made = convert(info, tmp_path / "o.mkv", parts, fps=NTSC60, stretch=Fraction(4), audio="drop")
    assert any("audio #1" in line and "left out" in line for line in made.lines)
    with av.open(str(made.path)) as out:
        assert not out.streams.audio
        texts = [(p.pts, p.duration, bytes(p)) for p in out.demux(subtitles=0) if p.size]
        assert texts == [(400, 1200, b"one"), (2000, 1600, b"two")]
        starts = [c["start"] * c["time_base"] for c in out.chapters()]
    assert starts == [0, Fraction(8, 5)]


@pytest.mark.parametrize(("factor", "suffix"), [(4, ".mp4"), (8, ".mkv"), (Fraction(5, 2), ".mp4")])
def test_stretched_sound_keeps_its_pitch_and_place(factor, suffix, parts, tmp_path):
    info = write_source(tmp_path / "s.mp4", sounds=(Sound(tone=1000.0),))
    made = convert(
        info, tmp_path / f"o{suffix}", parts, fps=NTSC60, stretch=factor, audio="stretch"
    )
    onset, tone = streamkit.burst_time(made.path)
    assert tone == pytest.approx(1000, rel=0.02)
    assert float(onset) == pytest.approx(float(factor) / 2, abs=0.1)
    with av.open(str(made.path)) as out:
        last = max((p.pts + p.duration) * p.time_base for p in out.demux(audio=0) if p.size)
    assert float(last) == pytest.approx(float(factor), rel=0.04)


# what must not pass


def test_segments_that_do_not_fit_together_are_refused(source, parts, tmp_path):
    other = write_segment(
        tmp_path / "x.nut", frames=20, fps=NTSC60, options={"profile": "baseline"}
    )
    with pytest.raises(OutputError, match="coded differently"):
        convert(source, tmp_path / "o.mp4", [*parts[:2], other], fps=NTSC60)


def test_a_missing_frame_is_noticed_before_anything_is_written(source, parts, tmp_path):
    with pytest.raises(OutputError, match="hold 40 frames, the plan wants 60"):
        convert(source, tmp_path / "o.mp4", parts[:2], fps=NTSC60)
    assert not (tmp_path / "o.mp4").exists()


def test_a_segment_off_the_grid_is_refused(source, parts, tmp_path):
    with pytest.raises(OutputError, match="off the 25 fps grid"):
        convert(source, tmp_path / "o.mp4", parts, fps=Fraction(25))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line(source, parts, tmp_path):
    full = tmp_path / "full.mkv"
    full.symlink_to("/dev/full")
    with pytest.raises(OutputError, match="the disk is full"):
        convert(source, full, parts, fps=NTSC60)


def test_a_stream_that_the_container_refuses_is_left_out_and_named(parts, tmp_path):
    """MP4 parses E-AC-3 packets; nonsense in one must not cost the conversion."""
    path, bad = tmp_path / "s.mkv", tmp_path / "bad.mkv"
    info = write_source(path, sounds=(Sound(), Sound("eac3", "fra")))
    with av.open(str(path)) as read, av.open(str(bad), "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in read.streams}
        for n, packet in enumerate(read.demux()):
            if packet.size:
                copy = packet
                if packet.stream_index == 2 and n > 40:
                    copy = av.Packet(b"nonsense" * 8)
                    copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
                copy.stream = copies[packet.stream_index]
                out.mux(copy)
    info.path = str(bad)
    made = convert(info, tmp_path / "o.mp4", parts, fps=NTSC60)
    assert [item.codec for item in made.report.lost] == ["eac3"]
    assert any("eac3" in warning for warning in made.report.warnings)
    with av.open(str(made.path)) as out:
        assert len(out.streams.audio) == 1


def test_a_damaged_subtitle_gives_a_warning(parts, tmp_path):
    info = write_source(tmp_path / "s.mkv", texts=(Text("ass"),))
    data = Path(info.path).read_bytes()
    at = data.index(b"0,0,Default,,0,0,0,,one")
    broken = data[:at] + b"nonsense, not a line of" + data[at + 23 :]
    Path(info.path).write_bytes(broken)
    made = convert(info, tmp_path / "o.mp4", parts, fps=NTSC60)
    assert len(picture_times(made.path)) == 60
    with av.open(str(made.path)) as out:
        texts = [bytes(p)[2:] for p in out.demux(subtitles=0) if p.size > 2]
    assert b"two" in texts


def test_a_leaping_clock_does_not_become_hours_of_silence(vp9_parts, tmp_path):
    info = write_source(tmp_path / "s.mkv", sounds=(Sound("flac"),))
    leaping = tmp_path / "leaping.mkv"
    with av.open(info.path) as read, av.open(str(leaping), "w") as out:
        copies = {s.index: out.add_stream_from_template(s, opaque=True) for s in read.streams}
        for packet in read.demux():
            if packet.size:
                if packet.stream_index == 1 and packet.pts > 500:
                    packet.pts += 36_000_000
                    packet.dts = packet.pts
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    info.path = str(leaping)
    made = convert(info, tmp_path / "o.webm", vp9_parts, fps=NTSC60)
    assert any("clock leaps by 36000 s" in warning for warning in made.report.warnings)
    with av.open(str(made.path)) as out:
        assert 0.9 < max(p.pts * p.time_base for p in out.demux(audio=0) if p.size) < 1.1


# verification


def _joined(source, parts, path):
    plan = plan_streams(source, path.suffix)
    report = join(
        parts, path, info=source, grid_fps=NTSC60, start=source.start, frames=60, stream_plan=plan
    )
    return plan, report


def _check(path, source, plan, report, *, frames=60, fps=NTSC60, start=None):
    return verify(
        path,
        frames=frames,
        grid_fps=fps,
        start=source.start if start is None else start,
        stream_plan=plan,
        report=report,
    )


def test_verification_tells_what_it_read(source, parts, tmp_path):
    path = tmp_path / "o.mp4"
    plan, report = _joined(source, parts, path)
    read = _check(path, source, plan, report)
    assert (read.frames, read.fps, read.duration) == (60, NTSC60, 60 / NTSC60)
    assert read.size == path.stat().st_size
    assert read.streams == ("video h264", "audio aac", "subtitle mov_text")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_verification_notices_what_is_wrong(suffix, source, parts, tmp_path):
    path = tmp_path / f"o{suffix}"
    plan, report = _joined(source, parts, path)
    with pytest.raises(OutputError, match="60 frames instead of 61"):
        _check(path, source, plan, report, frames=61)
    with pytest.raises(OutputError, match="stands at"):
        _check(path, source, plan, report, fps=Fraction(60))
    with pytest.raises(OutputError, match="stands at"):
        _check(path, source, plan, report, start=source.start + Fraction(1, 50))
    more = dict(report.sent)
    more[1] = replace(more[1], packets=more[1].packets + 30, bytes=0)
    with pytest.raises(OutputError, match=r"audio #1 .* packets instead of"):
        _check(path, source, plan, replace(report, sent=more))
    more[1] = replace(more[1], packets=report.sent[1].packets + 1)
    read = _check(path, source, plan, replace(report, sent=more))
    assert len(read.warnings) == 1, "one packet more or less is no reason to refuse the file"
    late = dict(report.sent)
    first, last = late[1].first, late[1].last
    assert first is not None
    assert last is not None
    late[1] = replace(late[1], first=first + Fraction(1, 20), last=last + Fraction(1, 20))
    with pytest.raises(OutputError, match=r"audio #1 .* ms off the picture"):
        _check(path, source, plan, replace(report, sent=late))
    wanted = tuple(replace(i, language="fra", disposition=64) for i in plan.items)
    read = _check(path, source, replace(plan, items=wanted), replace(report, chapters=2))
    text = "\n".join(read.warnings)
    assert "read back with the language eng" in text
    assert "read back without forced" in text
    assert "0 chapters instead of 2" in text
    extra = replace(plan.items[0], index=9, codec="ac3")
    more = {**report.sent, 9: report.sent[1]}
    with pytest.raises(OutputError, match=r"audio #9 .* is missing"):
        _check(path, source, replace(plan, items=(*plan.items, extra)), replace(report, sent=more))
    read = _check(path, source, replace(plan, items=(*plan.items, extra)), report)
    assert read.warnings == ("audio #9 (ac3, eng) is empty and was left out",)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_verification_notices_a_cut_file(suffix, source, parts, tmp_path):
    path = tmp_path / f"o{suffix}"
    plan, report = _joined(source, parts, path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(OutputError, match=r"o\..*finished file"):
        _check(path, source, plan, report)


def test_verification_decodes_the_last_frame(source, parts, tmp_path):
    path = tmp_path / "o.mkv"
    plan, report = _joined(source, parts, path)
    payloads = streamkit.packets_of(path, "video")
    data = path.read_bytes()
    for payload in payloads[-20:]:  # all of the last segment
        at = data.index(payload)
        data = data[: at + 4] + b"\xff" * (len(payload) - 4) + data[at + len(payload) :]
    path.write_bytes(data)
    with pytest.raises(OutputError, match=r"last frame|cannot be read"):
        _check(path, source, plan, report)
