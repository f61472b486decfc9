"""The source timeline and its frames: exact, whatever the container and codec."""

from __future__ import annotations

import gc
import os
import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import read_number, write_clip
from vfi_cli.errors import InputError
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.io.scan import Rate, find_rate, fits_rate, reorder_delay

NTSC = Fraction(30000, 1001)


def numbers(frames) -> list[int]:
    return [read_number(frame.planes[0], frame.layout.bits) for frame in frames]


def read(info, **options):
    with FrameReader(info, **options) as reader:
        frames = list(reader)
    return frames, reader.broken


CLIPS = {
    "mp4": {"rate": NTSC, "options": {"g": "12"}},
    "mp4 open gop": {"options": {"x264-params": "open-gop=1:keyint=12:bframes=3"}},
    "mp4 crf0 444": {"pix_fmt": "yuv444p", "options": {"g": "12", "crf": "0"}},
    "mkv": {"rate": NTSC, "options": {"g": "12"}, "tone": True},
    "ts": {"options": {"g": "12"}, "tone": True},
    "avi": {"options": {"g": "12"}},
    "h264": {"rate": NTSC, "container": "h264"},
    "webm": {"codec": "libvpx-vp9", "options": {"g": "12", "cpu-used": "8", "lag-in-frames": "16"}},
    "webm vp8": {
        "codec": "libvpx",
        "options": {
            "g": "12",
            "cpu-used": "8",
            "auto-alt-ref": "1",
            "lag-in-frames": "16",
            "b": "1M",
        },
    },
    "mp4 hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12"}},
    "avi mpeg4": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "mpg": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "ts mpeg2": {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}},
    "mkv ffv1": {"codec": "ffv1", "pix_fmt": "yuv444p16le"},
    "mov prores": {"codec": "prores_ks", "pix_fmt": "yuva444p10le"},
    "nut rawvideo": {"codec": "rawvideo", "pix_fmt": "uyvy422"},
    "y4m": {"codec": "rawvideo", "pix_fmt": "yuv422p"},
    "gif": {"codec": "gif", "pix_fmt": "rgb8", "rate": 10},
    "apng": {"codec": "apng", "pix_fmt": "rgba", "rate": 10},
    "flv": {"codec": "flv", "options": {"g": "12"}},
    "avi mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


@pytest.mark.parametrize("kind", CLIPS)
def test_every_frame_once_and_from_anywhere(tmp_path, kind):
    path = write_clip(tmp_path / f"a.{kind.split()[0]}", frames=40, **CLIPS[kind])
    info = probe(path)
    assert len(info.pts) == 40
    assert all(a < b for a, b in zip(info.pts, info.pts[1:], strict=False))
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == list(range(40))
    assert [frame.pts for frame in frames] == list(info.pts)
    assert sum(frame.duration for frame in frames) == info.end_pts - info.pts[0]
    assert info.nominal_rate == CLIPS[kind].get("rate", 25)
    assert info.base_rate == info.nominal_rate
    for start in (1, 17, 24, 39):
        part, broken = read(info, start_pts=info.pts[start])
        assert broken is None
        assert len(part) == 40 - start
        for ours, whole in zip(part, frames[start:], strict=True):
            assert ours.pts == whole.pts
            assert all(map(np.array_equal, ours.planes, whole.planes))


def test_start_between_two_frames_is_the_later_one(tmp_path):
    info = probe(write_clip(tmp_path / "a.mp4", frames=10))
    frames, _ = read(info, start_pts=info.pts[3] + 1)
    assert frames[0].pts == info.pts[4]
    assert read(info, start_pts=info.end_pts) == ([], None)


def test_variable_frame_rate_is_exact(tmp_path):
    stamps = [0, 3000, 6100, 20000, 23000, 50000, 50001, 90000]
    path = write_clip(tmp_path / "v.mp4", pts=stamps, time_base=Fraction(1, 90000))
    info = probe(path)
    assert list(info.pts) == stamps
    assert info.time_base == Fraction(1, 90000)
    assert info.variable
    assert info.base_rate is None
    frames, _ = read(info)
    assert numbers(frames) == list(range(8))
    assert frames[3].duration == 3000
    assert frames[3].time == Fraction(20000, 90000)


def test_offset_of_the_first_frame_is_kept(tmp_path):
    path = write_clip(tmp_path / "o.mkv", pts=[500, 540, 580], time_base=Fraction(1, 1000))
    info = probe(path)
    assert info.start == Fraction(1, 2)
    assert info.duration == Fraction(120, 1000)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001), 50, 24])
def test_milliseconds_of_matroska_are_not_taken_for_variable(tmp_path, rate):
    info = probe(write_clip(tmp_path / "a.mkv", frames=50, rate=rate))
    assert info.time_base == Fraction(1, 1000)
    assert info.base_rate == rate
    assert not info.variable


def test_one_frame(tmp_path):
    info = probe(write_clip(tmp_path / "a.mp4", frames=1, rate=50))
    assert len(info.pts) == 1
    assert info.duration == Fraction(1, 50)
    assert numbers(read(info)[0]) == [0]


def test_what_a_stream_states_is_read(tmp_path):
    path = write_clip(
        tmp_path / "a.mp4",
        frames=3,
        rotation=90,
        aspect=Fraction(4, 3),
        options={
            "colorspace": "bt2020nc",
            "color_primaries": "bt2020",
            "color_trc": "smpte2084",
            "color_range": "pc",
            "chroma_sample_location": "topleft",
        },
    )
    info = probe(path)
    assert (info.width, info.height) == (64, 48)
    assert info.rotation == 90
    assert len(info.display_matrix) == 9
    assert info.sample_aspect_ratio == Fraction(4, 3)
    color = info.color
    assert (color.matrix, color.primaries, color.transfer) == (9, 9, 16)
    assert color.full_range
    assert color.chroma_location == 3
    assert info.codec == "h264"
    assert not info.interlaced


def test_yuvj_is_full_range(tmp_path):
    info = probe(write_clip(tmp_path / "a.avi", frames=2, codec="mjpeg", pix_fmt="yuvj420p"))
    assert info.color.full_range
    assert info.layout.bits == 8


FORMATS = [
    *("yuv420p", "yuv422p", "yuv444p", "yuv410p", "yuv411p", "yuv440p", "yuva420p", "yuva444p"),
    *("nv12", "nv21", "yuyv422", "uyvy422", "rgb24", "bgr24", "rgba", "bgra", "argb", "abgr"),
    *("gray", "ya8", "gray10le", "gray12le", "gray16le", "gray16be", "gbrp", "gbrp10le"),
    *("yuv420p9le", "yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p14le", "yuv444p16le"),
    *("rgb48le", "bgr48be", "rgba64le", "gbrap12le", "gbrp14le", "0rgb", "bgr0"),
]


@pytest.mark.parametrize("size", [(64, 48), (35, 21)])
def test_samples_of_every_format_arrive_unchanged(tmp_path, size):
    """Raw video in NUT: what is written is what is read, byte for byte."""
    width, height = size
    from tests.media import numbered_planes
    from vfi_cli.io.formats import pixel_format

    for name in FORMATS:
        path = tmp_path / f"{name}.nut"
        write_clip(path, frames=2, codec="rawvideo", pix_fmt=name, size=size)
        info = probe(path)
        layout = pixel_format(name).layout
        assert info.layout == layout, name
        frames, _ = read(info)
        for number, frame in enumerate(frames):
            expected = numbered_planes(layout, width, height, number)
            assert all(map(np.array_equal, expected, frame.planes)), name
            assert all(plane.flags.c_contiguous for plane in frame.planes)


def test_palette_and_one_bit_become_colour_and_grey():
    from vfi_cli.io.formats import unpack

    frame = av.VideoFrame(4, 2, "pal8")
    np.frombuffer(memoryview(frame.planes[0]), np.uint8)[:] = 7
    palette = np.frombuffer(memoryview(frame.planes[1]), np.uint32)
    palette[7] = 0x80FF4020
    layout, planes = unpack(frame)
    assert (layout.kind, layout.alpha) == ("rgb", True)
    assert [int(plane[0, 0]) for plane in planes] == [0xFF, 0x40, 0x20, 0x80]
    frame = av.VideoFrame(8, 1, "monob")
    np.frombuffer(memoryview(frame.planes[0]), np.uint8)[0] = 0b10100000
    layout, planes = unpack(frame)
    assert layout.kind == "gray"
    assert planes[0][0].tolist() == [255, 0, 255, 0, 0, 0, 0, 0]


# --- rates and order --------------------------------------------------------------------


def test_rates():
    tb = Fraction(1, 1000)
    film = [round(n * 1001 / 24) for n in range(200)]
    assert find_rate(film, film[-1] + 42, tb) == Rate(Fraction(24000, 1001), True, True)
    assert not fits_rate(film, tb, Fraction(24))
    jittered = [n * 40 + (n % 7) * 3 for n in range(100)]
    rate = find_rate(jittered, 4000, tb)
    assert not rate.agrees
    assert abs(rate.nominal - 25) < 1
    assert find_rate([0, 40], 80, tb, (Fraction(25),)) == Rate(Fraction(25), True, True)
    assert find_rate([7], 47, tb) == Rate(Fraction(25), True, True)


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(30000, 1001), Fraction(25)])
@pytest.mark.parametrize("base", [Fraction(1, 1000), Fraction(1, 90000)])
def test_the_rate_of_a_stream_with_missing_frames(rate, base):
    """A dropped frame leaves the others where they are, and the rate is still the rate."""
    whole = [round(n / rate / base) for n in range(300)]
    dropped = [pts for n, pts in enumerate(whole) if n % 37 != 5 and not 100 < n < 120]
    assert find_rate(dropped, whole[-1], base) == Rate(rate, agrees=True, complete=False)
    sparse = [pts for n, pts in enumerate(whole) if n % 5 in (0, 3)]
    assert not find_rate(sparse, whole[-1], base).agrees, "frames that are mostly missing"


def test_a_gap_is_no_part_of_the_rate() -> None:
    """A recording at 29.97 fps whose clock jumps by hours, twice, in milliseconds."""
    rate = Fraction(30000, 1001)
    times = [round(n * 1000 / rate) for n in range(90)]
    pts = [*times[:30], *(n + 7_000_005 for n in times[30:60]), *(n + 9**9 for n in times[60:])]
    assert find_rate(pts, pts[-1] + 33, Fraction(1, 1000)) == Rate(rate, False, False)


def test_reordering():
    assert reorder_delay([0, 1, 2, 3]) == 0
    assert reorder_delay([0, 2, 1, 4, 3]) == 1  # I P b P b: one shown before, decoded after
    assert reorder_delay([0, 3, 2, 4, 1]) == 3  # I P B b b


@pytest.mark.parametrize("before", [3, 6])
def test_frames_before_the_clock_begins_lead_up_to_it(tmp_path, before):
    """FFmpeg loses negative times of H.264 in Matroska; the others stay beside their sound."""
    path = write_clip(
        tmp_path / "a.mkv",
        pts=[n - before for n in range(10)],
        container_options={"avoid_negative_ts": "disabled"},
    )
    info = probe(path)
    assert [pts * info.time_base * 25 for pts in info.pts] == [n - before for n in range(10)]
    assert info.warnings
    assert numbers(read(info)[0]) == list(range(10))


def test_timestamps_that_repeat_are_repaired(tmp_path):
    """Frames that came closer together than the container's milliseconds stay all, in order."""
    path = write_clip(
        tmp_path / "a.mkv",
        codec="ffv1",
        pts=[0, 80, 160, 160, 161, 320, 400],
        time_base=Fraction(1, 2000),
    )
    info = probe(path)
    assert len(info.pts) == 7
    assert all(a < b for a, b in zip(info.pts, info.pts[1:], strict=False))
    assert any("repaired" in warning for warning in info.warnings)
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == list(range(7))
    assert [frame.pts for frame in frames] == list(info.pts)
    assert probe(path) == info
    assert numbers(read(info, start_pts=info.pts[4])[0]) == [4, 5, 6]


def test_interlaced_pictures_at_uneven_distances_are_counted_by_decoding(tmp_path):
    """Half distances may be single fields, two of which make a frame: only a decoder knows."""
    stamps = [n * 40 + 20 * (n // 10 % 2) for n in range(40)]
    path = write_clip(
        tmp_path / "i.mkv",
        pts=stamps,
        time_base=Fraction(1, 1000),
        options={"flags": "+ildct+ilme", "g": "10"},
    )
    info = probe(path)
    assert info.interlaced
    assert list(info.pts) == stamps
    assert info.seekable
    assert numbers(read(info, start_pts=info.pts[25])[0]) == list(range(25, 40))


def test_trimmed_frames_of_an_edit_list_are_not_listed(tmp_path):
    """Frames before zero are decoded, since others refer to them, and never shown."""
    path = write_clip(
        tmp_path / "a.mp4",
        pts=list(range(-6, 20)),
        time_base=Fraction(1, 25),
        container_options={"avoid_negative_ts": "disabled"},
        options={"g": "10"},
    )
    info = probe(path)
    assert info.start == 0
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == list(range(6, 26))
    assert numbers(read(info, start_pts=info.pts[2])[0]) == list(range(8, 26))


def test_careless_streams_are_not_called_damaged(tmp_path):
    """Nonsense beside every picture, which all decoders pass over, is not damage."""
    raw = write_clip(
        tmp_path / "a.hevc",
        frames=20,
        container="hevc",
        codec="libx265",
        options={"x265-params": "log-level=none:keyint=10:bframes=0"},
    )
    path = tmp_path / "careless.mkv"
    nonsense = b"\0\0\0\1\x4e\x01\x89\xff\xff\x01\x02"  # an SEI longer than itself
    with av.open(str(raw)) as source, av.open(str(path), "w") as out:
        track = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                changed = av.Packet(nonsense + bytes(packet))
                changed.stream = track
                changed.time_base = Fraction(1, 25)
                changed.pts = changed.dts = number
                changed.is_keyframe = packet.is_keyframe
                out.mux(changed)
    info = probe(path)
    assert not info.strict
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == list(range(20))
    assert probe(raw).strict


def test_a_clock_that_starts_again_goes_on(tmp_path):
    """Two recordings one after the other in one file."""
    one = write_clip(tmp_path / "a.ts", frames=20, codec="mpeg2video")
    path = tmp_path / "both.ts"
    path.write_bytes(one.read_bytes() * 2)
    info = probe(path)
    assert len(info.pts) == 40
    assert all(a < b for a, b in zip(info.pts, info.pts[1:], strict=False))
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == [*range(20), *range(20)]
    assert info.duration < 2  # not the frames of both mixed, nor a hole


# --- resources --------------------------------------------------------------------------


def test_leaving_early_frees_everything(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=30)
    info = probe(path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        with FrameReader(info) as reader:
            next(reader)
        reader.close()
        with pytest.raises(StopIteration):
            next(reader)
    FrameReader(info).close()
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_frame_does_not_change_when_the_next_is_read(tmp_path):
    info = probe(write_clip(tmp_path / "a.mp4", frames=20))
    with FrameReader(info) as reader:
        first = next(reader)
        copy = [plane.copy() for plane in first.planes]
        for _ in reader:
            pass
    assert all(map(np.array_equal, copy, first.planes))


def test_a_file_that_vanished(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=3)
    info = probe(path)
    path.unlink()
    with FrameReader(info) as reader, pytest.raises(InputError, match="no such file"):
        next(reader)


def test_reading_in_another_thread(tmp_path):
    info = probe(write_clip(tmp_path / "a.mp4", frames=20))
    found: list[int] = []

    def work() -> None:
        found.extend(numbers(read(info)[0]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == list(range(20))
