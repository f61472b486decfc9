"""What becomes of everything that is not the picture, in each container."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests import streamkit
from tests.streamkit import FONT, HDR, Info, Sound, Text, convert, write_source
from vfi_cli.errors import InputError, OutputError, UsageError
from vfi_cli.io.audio import tempo_chain
from vfi_cli.io.containers import CONTAINERS, MUXERS
from vfi_cli.io.copier import StreamCopier
from vfi_cli.io.mux import OutputMux, PictureTraits
from vfi_cli.io.streams import StreamItem, TimeMap, map_chapters, plan_streams
from vfi_cli.io.timecode import convert_timecode

FPS = Fraction(50)
CHAPTERS = ((0, 400, "Opening"), (400, 1000, "The chase"))
QUARTER_TURN = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
MIRRORED_TURN = (0, 1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30)


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[Path]:
    return streamkit.segments(tmp_path_factory.mktemp("parts"), fps=FPS, counts=(25, 25))


@pytest.fixture(scope="module")
def vp9_parts(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("vp9")
    return streamkit.segments(folder, fps=FPS, counts=(25, 25), codec="libvpx-vp9")


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Info:
    """A Matroska film with all that a container may hold."""
    return write_source(
        tmp_path_factory.mktemp("full") / "film.mkv",
        sounds=(
            Sound("aac", "eng", "Original", int(Disposition.default | Disposition.original)),
            Sound("flac", "deu", "Kommentar", int(Disposition.comment)),
        ),
        texts=(
            Text("subrip", "eng", int(Disposition.forced)),
            Text("ass", "fra", int(Disposition.hearing_impaired)),
        ),
        chapters=CHAPTERS,
        tags={"title": "A film", "COMPOSER": "Nobody", "MY_OWN_TAG": "grüß dich"},
        attachments=True,
        cover=True,
        video_tags={"title": "Camera A", "language": "eng"},
    )


def _run(info, path, parts, vp9_parts, **more):
    used = vp9_parts if path.suffix == ".webm" else parts
    return convert(info, path, used, fps=FPS, frames=50, **more)


# everything at once


def test_matroska_keeps_everything(full, parts, tmp_path):
    made = convert(full, tmp_path / "o.mkv", parts, fps=FPS, frames=50)
    assert made.lines == []
    with av.open(full.path) as before, av.open(str(made.path)) as after:
        assert [s.type for s in after.streams] == [s.type for s in before.streams]
        for old, new in zip(before.streams, after.streams, strict=True):
            assert new.language == old.language
            assert new.metadata.get("title") == old.metadata.get("title")
            if old.type in ("audio", "subtitle"):
                assert new.disposition == old.disposition
                assert new.codec_context.codec.name == old.codec_context.codec.name
        assert after.metadata["title"] == "A film"
        assert after.metadata["MY_OWN_TAG"] == "grüß dich"
        assert after.metadata["COMPOSER"] == "Nobody"
        chapters = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"])
            for c in after.chapters()
        ]
        assert chapters == [(Fraction(a, 1000), Fraction(b, 1000), t) for a, b, t in CHAPTERS]
        (font,) = after.streams.attachments
        assert (font.name, font.mimetype, font.data) == (
            "plain.ttf",
            "application/x-truetype-font",
            FONT,
        )
        cover = next(s for s in after.streams.video if s.disposition & Disposition.attached_pic)
        assert cover.metadata["filename"] == "cover.png"
        assert next(bytes(p) for p in after.demux(cover) if p.size) == streamkit.png()
    for kind, number in (("audio", 0), ("audio", 1), ("subtitle", 0), ("subtitle", 1)):
        assert streamkit.packets_of(made.path, kind, number) == streamkit.packets_of(
            Path(full.path), kind, number
        )


def test_mp4_keeps_what_it_can_and_names_the_rest(full, parts, tmp_path):
    made = convert(full, tmp_path / "o.mp4", parts, fps=FPS, frames=50)
    text = "\n".join(made.lines)
    assert "subtitle #3 (subrip, eng) becomes mov_text" in text
    assert "attachment #5 (plain.ttf) is left out" in text
    assert "audio #1 (aac, eng, Original) loses original" in text
    assert len(made.lines) == 4
    with av.open(str(made.path)) as out:
        sounds = [(s.codec_context.name, s.language, s.metadata["name"]) for s in out.streams.audio]
        assert sounds == [("aac", "eng", "Original"), ("flac", "deu", "Kommentar")]
        assert out.streams.audio[1].disposition & Disposition.comment
        assert [s.language for s in out.streams.subtitles] == ["eng", "fra"]
        assert out.streams.subtitles[0].disposition & Disposition.forced
        assert out.streams.subtitles[1].disposition & Disposition.hearing_impaired
        assert out.metadata["title"] == "A film"
        assert out.metadata["MY_OWN_TAG"] == "grüß dich"
        assert [c["metadata"]["title"] for c in out.chapters()] == ["Opening", "The chase"]
        cover = next(s for s in out.streams.video if s.disposition & Disposition.attached_pic)
        assert next(bytes(p) for p in out.demux(cover) if p.size) == streamkit.png()
    texts = [t[2:] for t in streamkit.packets_of(made.path, "subtitle") if len(t) > 2]
    assert texts == [b"one", b"two"]


def test_quicktime_keeps_languages_that_ffmpeg_has_no_number_for(full, parts, tmp_path):
    made = convert(full, tmp_path / "o.mov", parts, fps=FPS, frames=50)
    with av.open(str(made.path)) as out:
        assert [s.language for s in out.streams.audio] == ["eng", "deu"]
        assert [s.codec_context.name for s in out.streams.audio] == ["aac", "pcm_s16le"]
        assert out.metadata["MY_OWN_TAG"] == "grüß dich"
        cover = next(s for s in out.streams.video if s.disposition & Disposition.attached_pic)
        assert next(bytes(p) for p in out.demux(cover) if p.size) == streamkit.png()
    assert any("plain.ttf" in line for line in made.lines)


def test_webm_gets_its_own_codecs(full, parts, vp9_parts, tmp_path):
    made = _run(full, tmp_path / "o.webm", parts, vp9_parts)
    with av.open(str(made.path)) as out:
        assert {s.codec_context.name for s in out.streams.audio} == {"opus"}
        assert {s.codec_context.name for s in out.streams.subtitles} == {"webvtt"}
        assert [s.language for s in out.streams.subtitles] == ["eng", "fra"]
        assert len(out.chapters()) == 2
    assert any("plain.ttf" in line for line in made.lines)


@pytest.mark.parametrize("suffix", [".ts", ".avi", ".nut"])
def test_poor_containers_name_all_that_they_lose(suffix, full, parts, tmp_path):
    made = convert(full, tmp_path / f"o{suffix}", parts, fps=FPS, frames=50)
    text = "\n".join(made.lines)
    assert "plain.ttf" in text
    assert "cover #6" in text
    assert "subtitle #3" in text
    if suffix == ".nut":
        assert "subtitle #3 (subrip, eng) becomes ass" in text
    else:
        assert "2 chapters are left out" in text
        assert "audio #2" in text
    if suffix == ".ts":
        assert "tags are left out that MPEG-TS cannot hold" in text
        assert "MY_OWN_TAG" in text
        assert "becomes aac" in text
    if suffix == ".avi":
        assert "loses language" in text or "language" in text


def test_mp4_to_mp4_is_packet_for_packet(parts, tmp_path):
    info = write_source(
        tmp_path / "s.mp4",
        sounds=(Sound("aac", "spa"), Sound("ac3", "jpn")),
        texts=(Text("mov_text", "ita"),),
        chapters=CHAPTERS,
        cover=True,
        tags={"title": "T", "comment": "C"},
    )
    made = convert(info, tmp_path / "o.mp4", parts, fps=FPS, frames=50)
    assert made.lines == [], "the chapters' own text track is no loss"
    for kind, number in (("audio", 0), ("audio", 1), ("subtitle", 0)):
        assert streamkit.packets_of(made.path, kind, number) == streamkit.packets_of(
            Path(info.path), kind, number
        )
    with av.open(str(made.path)) as out:
        assert [s.language for s in out.streams.audio] == ["spa", "jpn"]
        assert out.metadata["title"] == "T"
        assert any(s.disposition & Disposition.attached_pic for s in out.streams.video)


def test_languages_of_other_spelling(parts, tmp_path):
    info = write_source(tmp_path / "s.mkv", sounds=(Sound(language="pt-BR"), Sound(language="GER")))
    with av.open(info.path) as read:
        first, second = (s.language for s in read.streams.audio)
    made = convert(info, tmp_path / "o.mp4", parts, fps=FPS, frames=50)
    with av.open(str(made.path)) as out:
        assert out.streams.audio[1].language == second.lower()
        if out.streams.audio[0].language != first:
            assert any(f"({first})" in line or "language" in line for line in made.lines)


def test_titles_survive_from_mp4_to_matroska(parts, tmp_path):
    info = write_source(tmp_path / "s.mp4", sounds=(Sound(title="Director"),))
    made = convert(info, tmp_path / "o.mkv", parts, fps=FPS, frames=50)
    with av.open(str(made.path)) as out:
        assert out.streams.audio[0].metadata["title"] == "Director"
        assert "HANDLER_NAME" not in out.streams.audio[0].metadata


def test_styled_text_survives_conversion(parts, tmp_path):
    line = "{\\i1}slanted{\\i0} and plain"
    info = write_source(tmp_path / "s.mkv", texts=(Text("ass", lines=((100, 300, line),)),))
    first = convert(info, tmp_path / "o.mp4", parts, fps=FPS, frames=50)
    again = Info(str(first.path), 0, Fraction(0))
    second = convert(again, tmp_path / "o.mkv", parts, fps=FPS, frames=50)
    (text,) = streamkit.packets_of(second.path, "subtitle")
    assert b"<i>slanted</i> and plain" in text


def test_two_lines_at_once_stay_two_lines(parts, tmp_path):
    info = write_source(tmp_path / "s.mkv", texts=(Text("subrip", lines=((100, 300, "a\\Nb"),)),))
    made = convert(info, tmp_path / "o.mp4", parts, fps=FPS, frames=50)
    texts = [t[2:] for t in streamkit.packets_of(made.path, "subtitle") if len(t) > 2]
    assert texts == [b"a\nb"]


def test_bitmap_subtitles_are_copied_or_named(parts, tmp_path):
    info = write_source(tmp_path / "plain.mkv")
    path = tmp_path / "pgs.mkv"
    with av.open(info.path) as read, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(read.streams.video[0], opaque=True)
        pgs = out.add_mux_stream("hdmv_pgs_subtitle")
        pgs.metadata["language"] = "kor"
        for n in range(2):
            composition, window, end = [0x16, 0, 11, *[n] * 11], [0x17, 0, 1, 0], [0x80, 0, 0]
            packet = av.Packet(bytes([*composition, *window, *end]))
            packet.stream, packet.time_base = pgs, Fraction(1, 1000)
            packet.pts = packet.dts = 200 + 300 * n
            packet.duration = 200
            out.mux(packet)
        for packet in read.demux(0):
            if packet.size:
                packet.stream = picture
                out.mux(packet)
    info.path = str(path)
    made = convert(info, tmp_path / "o.mkv", parts, fps=FPS, frames=50)
    pictures = streamkit.packets_of(made.path, "subtitle")
    assert len(pictures) == 2
    assert pictures == streamkit.packets_of(path, "subtitle")
    plan = plan_streams(info, ".mp4")
    assert [i.reason for i in plan.dropped] == ["MP4 cannot hold it"]
    stretched = convert(
        info, tmp_path / "slow.mkv", parts, fps=FPS, frames=50, stretch=2, audio="drop"
    )
    with av.open(str(stretched.path)) as out:
        assert [p.pts for p in out.demux(subtitles=0) if p.size] == [400, 1000]


def test_camera_telemetry_stays_in_mp4(parts, tmp_path):
    """GoPro's track: MP4 holds it; other containers say that they do not."""
    info = write_source(tmp_path / "plain.mp4")
    path = tmp_path / "gopro.mp4"
    with av.open(info.path) as read, av.open(str(path), "w") as out:
        picture = out.add_stream_from_template(read.streams.video[0], opaque=True)
        data = out.add_mux_stream("bin_data", time_base=Fraction(1, 1000))
        data.metadata["handler_name"] = "GoPro MET"
        for packet in read.demux(0):
            if packet.size:
                packet.stream = picture
                out.mux(packet)
        for n in range(3):
            packet = av.Packet(b"DEVC" + bytes([n]) * 12)
            packet.stream, packet.time_base = data, Fraction(1, 1000)
            packet.pts = packet.dts = 300 * n
            packet.duration = 300
            out.mux(packet)
    info.path = str(path)
    made = convert(info, tmp_path / "o.mp4", parts, fps=FPS, frames=50)
    assert streamkit.packets_of(made.path, "data") == streamkit.packets_of(path, "data")
    (dropped,) = plan_streams(info, ".mkv").dropped
    assert "GoPro MET" in dropped.label
    (slow,) = plan_streams(info, ".mp4", stretch=2, audio="drop").dropped
    assert "clock" in slow.reason


def test_timecode_is_counted_at_the_new_rate(parts, tmp_path):
    info = write_source(tmp_path / "s.mov", video_tags={"timecode": "01:02:03:12"})
    made = convert(info, tmp_path / "o.mov", parts, fps=FPS, frames=50)
    assert made.lines == []
    for suffix in (".mov", ".mp4", ".mkv"):
        made = convert(info, tmp_path / f"o{suffix}", parts, fps=FPS, frames=50)
        with av.open(str(made.path)) as out:
            tags = {k.lower(): v for k, v in out.streams.video[0].metadata.items()}
        assert tags["timecode"] == "01:02:03:24"
    slow = plan_streams(info, ".mov", stretch=2, audio="drop")
    assert any("timecode" in note for note in slow.notes)


# the picture's own description


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("matrix", [QUARTER_TURN, MIRRORED_TURN])
def test_rotation_and_mirroring(suffix, matrix, parts, vp9_parts, tmp_path):
    info = write_source(tmp_path / "s.mp4")
    info.display_matrix = matrix
    plan = plan_streams(info, suffix)
    assert plan.display_matrix == matrix
    made = _run(info, tmp_path / f"o{suffix}", parts, vp9_parts)
    with av.open(str(made.path)) as out:
        frame = next(out.decode(video=0))
        values = memoryview(bytes(frame.side_data["DISPLAYMATRIX"])).cast("i").tolist()
    assert tuple(values) == matrix


def test_rotation_that_a_container_cannot_say_is_named(tmp_path):
    info = write_source(tmp_path / "s.mp4")
    info.display_matrix = QUARTER_TURN
    plan = plan_streams(info, ".ts")
    assert plan.display_matrix is None
    assert any("rotation" in note for note in plan.notes)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(32, 27), Fraction(12, 11)])
def test_sample_aspect_ratio(suffix, aspect, parts, vp9_parts, tmp_path):
    info = write_source(tmp_path / "s.mp4", video_tags={"title": "Camera A"})
    info.sample_aspect_ratio = aspect
    made = _run(info, tmp_path / f"o{suffix}", parts, vp9_parts)
    with av.open(str(made.path)) as out:
        picture = out.streams.video[0]
        assert picture.sample_aspect_ratio == aspect
        name = picture.metadata.get("title") or picture.metadata.get("name")
        assert name == "Camera A"


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_hdr_metadata(suffix, parts, vp9_parts, tmp_path):
    info = write_source(tmp_path / "s.mp4", sounds=(Sound(language="nld"),))
    info.hdr = HDR
    made = _run(info, tmp_path / f"o{suffix}", parts, vp9_parts)
    with av.open(str(made.path)) as out:
        frame = next(out.decode(video=0))
        light = np.frombuffer(bytes(frame.side_data["CONTENT_LIGHT_LEVEL"]), np.uint32)
        display = np.frombuffer(bytes(frame.side_data["MASTERING_DISPLAY_METADATA"]), np.int32)
        assert out.streams.audio[0].language == "nld"
    assert light.tolist() == [1000, 400]
    ratios = display[:20].reshape(10, 2).astype(float)
    values = (ratios[:, 0] / ratios[:, 1]).tolist()
    assert values == pytest.approx(
        [0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329, 0.0001, 1000], rel=1e-3
    )


# the plan


def test_the_plan_is_plain_data_and_repeatable(full):
    first = plan_streams(full, ".mp4")
    assert json.loads(json.dumps(first.to_json())) == first.to_json()
    assert plan_streams(full, ".MP4").to_json() == first.to_json()
    assert plan_streams(full, ".mkv").to_json() != first.to_json()


def test_a_stream_without_a_language_is_not_called_und():
    said = [StreamItem(1, "audio", "aac", "copy", language=code).label for code in ("und", "deu")]
    assert said == ["audio #1 (aac)", "audio #1 (aac, deu)"]


def test_stretching_without_saying_what_of_the_sound_drops_it_by_name(full):
    plan = plan_streams(full, ".mkv", stretch=2)
    assert [i.kind for i in plan.dropped] == ["audio", "audio"]
    assert all("stretched" in i.reason for i in plan.dropped)


def test_unknown_suffixes_and_inputs_are_told(full, tmp_path):
    with pytest.raises(UsageError, match=r"\.xyz"):
        plan_streams(full, ".xyz")
    with pytest.raises(InputError, match=r"nothing\.mp4"):
        plan_streams(Info(str(tmp_path / "nothing.mp4"), 0, Fraction(0)), ".mp4")


@pytest.mark.parametrize(
    ("codec", "suffix", "target"),
    [
        ("aac", ".mp4", "aac"),
        ("libmp3lame", ".mp4", "mp3"),
        ("libopus", ".mp4", "opus"),
        ("flac", ".mp4", "flac"),
        ("alac", ".mp4", "alac"),
        ("pcm_s16le", ".mp4", "pcm_s16le"),
        ("pcm_u8", ".mp4", "flac"),
        ("libopus", ".mov", "aac"),
        ("flac", ".mov", "pcm_s16le"),
        ("pcm_s24le", ".mov", "pcm_s24le"),
        ("alac", ".webm", "libopus"),
        ("alac", ".avi", "pcm_s24le"),
        ("libopus", ".avi", "libmp3lame"),
        ("ac3", ".ts", "ac3"),
        ("flac", ".ts", "aac"),
        ("ac3", ".mkv", "ac3"),
        ("pcm_s24le", ".mkv", "pcm_s24le"),
    ],
)
def test_what_becomes_of_sound(codec, suffix, target, tmp_path):
    name = "s.mov" if codec.startswith(("pcm", "alac")) else "s.mkv"
    info = write_source(tmp_path / name, sounds=(Sound(codec),), seconds=Fraction(1, 5))
    (item,) = plan_streams(info, suffix).items
    assert item.target == target
    assert (item.action == "copy") == (item.reason == "")


@pytest.mark.parametrize(
    ("layout", "suffix", "coded", "mixed"),
    [
        ("5.1(side)", ".webm", "5.1", False),  # libopus knows no side channels
        ("5.1(side)", ".ts", "5.1", False),
        ("5.1", ".avi", "stereo", True),  # MP3 has two channels
        ("mono", ".webm", "mono", False),
    ],
)
def test_channels_of_converted_sound(layout, suffix, coded, mixed, parts, vp9_parts, tmp_path):
    codec = "libopus" if suffix == ".avi" else "flac"
    info = write_source(tmp_path / "s.mkv", sounds=(Sound(codec, layout=layout),))
    made = _run(info, tmp_path / f"o{suffix}", parts, vp9_parts)
    with av.open(str(made.path)) as out:
        assert out.streams.audio[0].layout.name == coded
    assert any("are mixed to" in line for line in made.lines) == mixed


@pytest.mark.parametrize("muxer", sorted(CONTAINERS))
def test_the_dispositions_we_promise_are_those_that_survive(muxer, tmp_path):
    """The table against the muxer: every promised flag is read back, no other one is."""
    codec = {"webm": "libopus", "avi": "libmp3lame"}.get(muxer, "aac")
    picture = "libvpx-vp9" if muxer == "webm" else "libx264"
    survived = Disposition(0)
    flags = [f for f in Disposition if f not in (Disposition.attached_pic, Disposition.default)]
    for flag in flags:
        path = tmp_path / f"{flag.name}.{muxer}"
        out = av.open(str(path), "w", format=muxer)
        video = out.add_stream(picture, rate=25, width=64, height=48)
        video.pix_fmt = "yuv420p"
        sound = out.add_stream(codec, rate=48000, layout="stereo")
        sound.disposition = flag
        frame = av.VideoFrame(64, 48, "yuv420p")
        frame.pts = 0
        out.mux(video.encode(frame))
        out.mux(video.encode(None))
        shape = av.AudioResampler(sound.codec_context.format, "stereo", 48000)
        quiet = av.AudioFrame.from_ndarray(np.zeros((2, 4800), np.float32), "fltp", "stereo")
        quiet.sample_rate, quiet.pts = 48000, 0
        for shaped in shape.resample(quiet):
            out.mux(sound.encode(shaped))
        out.mux(sound.encode(None))
        out.close()
        with av.open(str(path)) as read:
            survived |= read.streams.audio[0].disposition & flag
    promised = Disposition(CONTAINERS[muxer].dispositions) & ~Disposition.default
    assert promised & ~survived == Disposition(0)


def test_every_known_suffix_has_a_container():
    assert set(MUXERS.values()) == set(CONTAINERS)


def test_chapters_are_moved_cut_and_stretched():
    def chapter(start, end):
        return {"start": start, "end": end, "time_base": Fraction(1), "metadata": {}}

    chapters = [chapter(0, 10), chapter(10, 20), chapter(20, 30)]
    times = TimeMap(Fraction(5), Fraction(2), Fraction(5), Fraction(20))
    moved = [
        (c["start"] * c["time_base"], c["end"] * c["time_base"])
        for c in map_chapters(chapters, times)
    ]
    assert moved == [(0, 10), (10, 30)]


def test_tempo_chain_multiplies_to_the_stretch():
    for stretch in (Fraction(2), Fraction(8), Fraction(5, 2), Fraction(1, 3), Fraction(1)):
        chain = tempo_chain(stretch)
        assert all(Fraction(1, 2) <= tempo <= 2 for tempo in chain)
        product = Fraction(1)
        for tempo in chain:
            product *= tempo
        assert product == 1 / stretch


@pytest.mark.parametrize(
    ("label", "old", "new", "shift", "expected"),
    [
        ("01:00:00:00", Fraction(24), Fraction(60), 0, "01:00:00:00"),
        ("01:00:00:12", Fraction(24), Fraction(60), 0, "01:00:00:30"),
        ("00:00:59:24", Fraction(25), Fraction(50), 0, "00:00:59:48"),
        ("10:00:00:00", Fraction(25), Fraction(50), Fraction(61), "10:01:01:00"),
        ("00:00:59;29", Fraction(30000, 1001), Fraction(60000, 1001), 0, "00:00:59;58"),
        ("00:09:59;29", Fraction(30000, 1001), Fraction(60000, 1001), 0, "00:09:59;58"),
        ("00:01:00;02", Fraction(30000, 1001), Fraction(60000, 1001), 0, "00:01:00;04"),
        ("00:00:00;00", Fraction(30000, 1001), Fraction(30000, 1001), 3600, "01:00:00;00"),
        ("01:00:00:00", Fraction(24000, 1001), Fraction(48000, 1001), 0, "01:00:00:00"),
        ("23:59:59:24", Fraction(25), Fraction(25), Fraction(1, 25), "00:00:00:00"),
        ("not a timecode", Fraction(25), Fraction(50), 0, None),
        ("00:00:00:40", Fraction(25), Fraction(50), 0, None),
    ],
)
def test_timecode(label, old, new, shift, expected):
    assert convert_timecode(label, old, new, Fraction(shift)) == expected


# into a pipe


class _Pipe(io.RawIOBase):
    """Something that can only be written on, as a pipe can."""

    name = "pipe"

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data) -> int:
        self.data += bytes(data)
        return len(data)


@pytest.mark.parametrize("muxer", ["nut", "matroska"])
def test_packets_one_at_a_time_into_a_pipe(muxer, parts, tmp_path):
    info = write_source(
        tmp_path / "s.mkv", sounds=(Sound("flac"),), texts=(Text("ass"),), chapters=CHAPTERS
    )
    plan = plan_streams(info, f".{'mkv' if muxer == 'matroska' else 'nut'}")
    pipe = _Pipe()
    with av.open(info.path) as source, av.open(str(parts[0])) as part:
        mux = OutputMux(pipe, plan.muxer, tags=plan.tags)
        copier = StreamCopier(source, plan)
        copier.add_streams(mux, 0, lambda: mux.add_video(part.streams.video[0], fps=FPS))
        assert {s.type for s in copier.streams} == {"audio", "subtitle"}
        for packet in source.demux():
            for key, ready in copier.feed(packet):
                mux.mux_other(key, ready)
        for n, packet in enumerate(part.demux(0)):
            if packet.size:
                packet.time_base = 1 / FPS
                packet.pts = packet.dts = n
                mux.mux_video(packet)
        for key, ready in copier.flush():
            mux.mux_other(key, ready)
        mux.close()
    with av.open(io.BytesIO(pipe.data)) as out:
        assert [s.type for s in out.streams] == ["video", "audio", "subtitle"]
        sound = [bytes(p) for p in out.demux(audio=0) if p.size]
    assert sound == streamkit.packets_of(Path(info.path), "audio")


def test_the_header_is_completed_on_its_way_into_a_pipe(parts):
    pipe = _Pipe()
    with av.open(str(parts[0])) as part:
        mux = OutputMux(pipe, "matroska")
        traits = PictureTraits({"title": "Camera A"}, 0, Fraction(32, 27), None, HDR)
        mux.add_video(part.streams.video[0], traits, fps=FPS)
        for n, packet in enumerate(part.demux(0)):
            if packet.size:
                packet.time_base, packet.pts, packet.dts = 1 / FPS, n, n
                mux.mux_video(packet)
        mux.close()
    with av.open(io.BytesIO(pipe.data)) as out:
        picture = out.streams.video[0]
        assert picture.sample_aspect_ratio == Fraction(32, 27)
        assert picture.metadata["title"] == "Camera A"
        frames = list(out.decode(picture))
    assert len(frames) == 25
    assert "CONTENT_LIGHT_LEVEL" in {data.type.name for data in frames[0].side_data}


def test_a_target_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(OutputError, match="nowhere"):
        OutputMux(tmp_path / "nowhere" / "o.mp4", "mp4").start()
