"""Inputs that are no videos, damaged, or cut off."""

from __future__ import annotations

import io
import shutil
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import read_number, write_clip
from vfi_cli.errors import InputError
from vfi_cli.io.decode import FrameReader, probe


def numbers(frames) -> list[int]:
    return [read_number(frame.planes[0], frame.layout.bits) for frame in frames]


def read(info, **options):
    with FrameReader(info, **options) as reader:
        frames = list(reader)
    return frames, reader.broken


# --- what is no video -------------------------------------------------------------------


def no_video(tmp_path):
    from PIL import Image

    yield "nothing.mp4", None, "no such file"
    yield "empty.mp4", b"", "is empty"
    yield "notes.txt", b"hello\n" * 90, "text file"
    yield "notes.mp4", b"hello\n" * 90, "not a video"
    yield "noise.mp4", bytes(range(256)) * 40, "not a video"
    yield "half.mp4", b"\0\0\0\x18ftypisom" + bytes(64), "cut off"
    yield "list.ffconcat", b"ffconcat version 1.0\nfile a.mp4\n", "list of other files"
    for suffix in ("png", "jpg", "webp", "bmp", "tif"):
        data = io.BytesIO()
        kind = {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix)
        Image.new("RGB", (32, 32)).save(data, kind)
        yield f"image.{suffix}", data.getvalue(), "vfi frames"
    animated = io.BytesIO()
    pictures = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    pictures[0].save(animated, "webp", save_all=True, append_images=pictures[1:])
    yield "moving.webp", animated.getvalue(), "animated WebP"


def test_what_is_no_video_is_named(tmp_path):
    write_clip(tmp_path / "a.mp4", frames=2)
    for name, data, message in no_video(tmp_path):
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match=message) as caught:
            probe(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="folder"):
        probe(tmp_path)
    with pytest.raises(InputError, match="regular file"):
        probe("/dev/null")


def test_sound_alone_is_no_video(tmp_path):
    path = tmp_path / "a.mka"
    from tests.media import add_tone

    with av.open(str(path), "w", format="matroska") as out:
        add_tone(out, Fraction(1, 2))
    with pytest.raises(InputError, match="sound but no video"):
        probe(path)


def test_cover_art_is_not_the_picture(tmp_path):
    """Cover first, then the film: the film is converted; the cover alone is no video."""
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (200, 200)).save(data, "png")
    film = write_clip(tmp_path / "film.mp4", frames=5)
    for with_film in (True, False):
        path = tmp_path / f"cover{with_film}.mp4"
        with av.open(str(path), "w") as out, av.open(str(film)) as source:
            cover = out.add_stream("png", rate=1, width=200, height=200)
            cover.pix_fmt = "rgb24"
            cover.disposition = av.stream.Disposition.attached_pic
            if with_film:
                track = out.add_stream_from_template(source.streams.video[0])
            else:
                from tests.media import add_tone

                add_tone(out, Fraction(1, 5))
            packet = av.Packet(data.getvalue())
            packet.stream = cover
            packet.pts = packet.dts = 0
            packet.time_base = Fraction(1, 1)
            out.mux(packet)
            if with_film:
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.stream = track
                        out.mux(packet)
        if with_film:
            info = probe(path)
            assert info.codec == "h264"
            assert len(info.pts) == 5
            assert info.warnings == ()
        else:
            with pytest.raises(InputError, match="cover picture but no video"):
                probe(path)


def test_of_two_pictures_the_larger_is_taken_and_said(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = []
        for width in (32, 64):
            stream = out.add_stream("mpeg4", rate=25, width=width, height=32)
            stream.pix_fmt = "yuv420p"
            stream.disposition = av.stream.Disposition(0)
            streams.append(stream)
        for number in range(3):
            for stream in streams:
                frame = av.VideoFrame(stream.width, 32, "yuv420p")
                frame.pts = number
                frame.time_base = Fraction(1, 25)
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    info = probe(path)
    assert "2 picture streams" in info.warnings[0]
    assert info.width == 64
    assert len(info.pts) == 3


def test_a_name_that_looks_like_a_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "a.mp4", frames=2)
    shutil.copy("a.mp4", "http:cam.mp4")
    assert len(probe("http:cam.mp4").pts) == 2


# --- damage -----------------------------------------------------------------------------

DAMAGED = {
    "mp4": {"options": {"g": "30"}},
    "mkv": {"options": {"g": "30"}},
    "ts": {"options": {"g": "30"}},
    "mp4 mpeg4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}},
    "avi mjpeg": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mkv ffv1": {"codec": "ffv1", "options": {"level": "3", "slicecrc": "1"}},
    "mov prores": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "mp4 hevc": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=30"}},
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_in_the_middle_ends_the_picture_before_it(tmp_path, kind):
    path = tmp_path / f"a.{kind.split()[0]}"
    write_clip(path, frames=50, size=(160, 120), **DAMAGED[kind])
    whole = probe(path)
    good, _ = read(whole)
    with av.open(str(path)) as source:
        packet = [packet for packet in source.demux(video=0) if packet.size][25]
        data = bytes(packet)
    content = bytearray(path.read_bytes())
    at = content.find(data)
    at, size = (at, len(data)) if at >= 0 else (packet.pos + 300, 400)
    begin = 8 if kind in ("webm", "mp4 hevc") else size // 2  # what these notice of it
    noise = np.random.default_rng(1).integers(0, 256, size - begin, dtype=np.uint8)
    content[at + begin : at + size] = noise.tobytes()
    path.write_bytes(content)
    info = probe(path)
    assert len(info.pts) == 50
    frames, broken = read(info)
    assert broken is not None
    assert "packet" in broken.reason
    assert 20 <= len(frames) <= 27
    assert broken.time == info.pts[len(frames)] * info.time_base
    for ours, theirs in zip(frames, good, strict=False):
        assert all(map(np.array_equal, ours.planes, theirs.planes)), "a damaged frame passed"
    # Wherever decoding starts and however many threads there are, the end is the same.
    assert read(info, threads=1)[1] == broken
    part, again = read(info, start_pts=info.pts[15])
    assert again == broken
    assert len(part) == len(frames) - 15


def test_the_damaged_packet_is_named(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=40, size=(160, 120), options={"bf": "0"})
    with av.open(str(path)) as source:
        data = bytes([packet for packet in source.demux(video=0) if packet.size][20])
    content = path.read_bytes()
    hurt = data[: len(data) // 3] + bytes(len(data) - len(data) // 3)
    path.write_bytes(content.replace(data, hurt))
    frames, broken = read(probe(path))
    assert len(frames) == 20
    assert broken.time == Fraction(20, 25)
    assert broken.reason.endswith("packet 21")


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("mp4", {"container_options": {"movflags": "faststart"}}),
        ("mkv", {}),
        ("flv", {"codec": "flv"}),
        ("avi", {"codec": "mpeg4"}),
    ],
)
def test_a_cut_file_says_where_it_should_have_ended(tmp_path, suffix, options):
    path = write_clip(tmp_path / f"a.{suffix}", frames=100, size=(160, 120), **options)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    info = probe(path)
    assert 30 < len(info.pts) < 80
    assert info.declared_end is not None
    assert info.declared_end > info.end_pts * info.time_base
    frames, broken = read(info)
    assert broken is None
    # The last pictures before the cut may lack one between them; each is at its own time.
    places = [round((frame.time - info.start) * 25) for frame in frames]
    assert numbers(frames) == places
    assert places[:45] == list(range(45))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "ts", "avi", "mov"])
def test_a_whole_file_is_not_called_cut(tmp_path, suffix):
    codec = "libvpx-vp9" if suffix == "webm" else "libx264"
    path = write_clip(tmp_path / f"a.{suffix}", frames=30, codec=codec, tone=suffix != "avi")
    assert probe(path).declared_end is None


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_begins_within_a_gop(tmp_path, codec):
    """What cannot be decoded before the first keyframe is neither listed nor damage."""
    path = write_clip(tmp_path / "a.ts", frames=60, codec=codec, options={"g": "15", "bf": "2"})
    whole = probe(path)
    content = path.read_bytes()
    with av.open(str(path)) as source:
        places = [packet.pos for packet in source.demux(video=0) if packet.size]
    content = content[: 188 * 3] + content[places[5] // 188 * 188 :]
    path.write_bytes(content)
    info = probe(path)
    assert info.pts == tuple(pts for pts in whole.pts if pts >= info.pts[0])
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == list(range(60 - len(info.pts), 60))
    assert 13 <= numbers(frames)[0] <= 15


def test_a_first_keyframe_that_does_not_decode_is_left_out(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=30, options={"g": "10"}, size=(160, 120))
    with av.open(str(path)) as source:
        data = bytes(next(source.demux(video=0)))
    content = path.read_bytes()
    path.write_bytes(content.replace(data, data[:4] + bytes(len(data) - 4)))
    info = probe(path)
    assert "picture begins at 0:00.40" in info.warnings[0]
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == list(range(10, 30))
    assert info.start == Fraction(10, 25)


def test_alpha_of_vp9_is_read(tmp_path):
    path = write_clip(
        tmp_path / "a.webm", frames=3, codec="libvpx-vp9", pix_fmt="yuva420p", options={"g": "1"}
    )
    info = probe(path)
    assert info.layout.alpha
    frames, broken = read(info)
    assert broken is None
    assert numbers(frames) == [0, 1, 2]
    assert all(frame.planes[3].min() > 250 for frame in frames)


def test_a_change_of_size_ends_the_picture(tmp_path):
    small = write_clip(tmp_path / "s.h264", frames=10, container="h264")
    large = write_clip(tmp_path / "l.h264", frames=10, size=(96, 64), container="h264")
    path = tmp_path / "both.h264"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    frames, broken = read(probe(path))
    assert len(frames) == 10
    assert "64×48 to 96×64" in broken.reason


def test_one_bit_of_ffv1_is_noticed(tmp_path):
    """FFV1 keeps checksums; a stream of version 1 has none, and is not suspected for that."""
    for level, noticed in (("3", True), ("1", False)):
        options = {"level": level, "g": "1"} | ({"slicecrc": "1"} if noticed else {})
        path = write_clip(tmp_path / f"{level}.mkv", frames=20, codec="ffv1", options=options)
        assert read(probe(path))[1] is None
        with av.open(str(path)) as source:
            data = bytes([packet for packet in source.demux(video=0) if packet.size][12])
        hurt = bytearray(data)
        hurt[len(hurt) // 2] ^= 1
        path.write_bytes(path.read_bytes().replace(data, bytes(hurt)))
        frames, broken = read(probe(path))
        if noticed:
            assert len(frames) == 12
            assert broken.reason == "incomplete data in packet 13"
        else:
            assert len(probe(path).pts) == 20


def test_random_damage_never_escapes(tmp_path):
    """Whatever the bytes: an error for people, or frames that agree with what was announced."""
    random = np.random.default_rng(7)
    originals = [
        write_clip(tmp_path / "a.mkv", frames=20, options={"g": "8"}, tone=True),
        write_clip(tmp_path / "a.ts", frames=20, options={"g": "8"}, tone=True),
        write_clip(tmp_path / "a.avi", frames=20, codec="mpeg4", options={"bf": "2"}),
    ]
    read_some = 0
    for turn in range(60):
        path = originals[turn % 3]
        content = bytearray(path.read_bytes())
        kind = turn // 3 % 3
        at = int(random.integers(len(content)))
        if kind == 0:
            for place in random.integers(len(content), size=12):
                content[place] = random.integers(256)
        elif kind == 1:
            del content[at:]
        else:
            del content[at : at + int(random.integers(1, 1500))]
        damaged = tmp_path / f"damaged{path.suffix}"
        damaged.write_bytes(content)
        try:
            info = probe(damaged)
        except InputError:
            continue
        frames, broken = read(info)
        assert [frame.pts for frame in frames] == list(info.pts[: len(frames)])
        if broken is None:
            assert len(frames) == len(info.pts)
        else:
            assert broken.time == info.pts[len(frames)] * info.time_base
        read_some += 1
    assert read_some > 20
