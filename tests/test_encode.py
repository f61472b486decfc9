"""Choosing an encoder, and what it writes."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import numbered_planes, read_number, write_clip
from vfi_cli.errors import OutputError, UsageError
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.decode import FrameReader, HdrInfo, probe
from vfi_cli.io.encode import (
    CODECS,
    EncoderConfig,
    EncoderOptions,
    VideoWriter,
    check_encoder,
    choose_encoder,
)
from vfi_cli.io.formats import pixel_format

FPS = Fraction(60000, 1001)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """What a source of 64×48 in 8-bit 4:2:0 H.264 is; other sources are made from it."""
    path = write_clip(tmp_path_factory.mktemp("source") / "a.mp4", frames=3)
    return probe(path)


def source(clip, pix_fmt="yuv420p", **changes):
    form = pixel_format(pix_fmt)
    return replace(clip, layout=form.layout, pix_fmt=pix_fmt, **changes)


def frames(layout, width=64, height=48, count=12, color=None):
    for number in range(count):
        planes = numbered_planes(layout, width, height, number)
        yield Frame(planes, width, height, layout, color or ColorSpec(), number, Fraction(1, 25))


def write(path, config, pictures, size=(64, 48), fps=FPS, **options):
    with VideoWriter(path, config, fps=fps, width=size[0], height=size[1], **options) as writer:
        for picture in pictures:
            writer.write(picture)
    return path


# --- choosing ---------------------------------------------------------------------------


AUTO = [
    ("h264", "yuv420p", ".mp4", "libx264", "yuv420p"),
    ("h264", "yuv422p10le", ".mkv", "libx264", "yuv422p10le"),
    ("hevc", "yuv420p10le", ".mp4", "libx265", "yuv420p10le"),
    ("av1", "yuv420p10le", ".webm", "libsvtav1", "yuv420p10le"),
    ("vp9", "yuv420p", ".webm", "libvpx-vp9", "yuv420p"),
    ("vp9", "yuv420p10le", ".webm", "libsvtav1", "yuv420p10le"),  # this VP9 has 8 bits
    ("h264", "yuv420p", ".webm", "libvpx-vp9", "yuv420p"),
    ("prores", "yuv422p10le", ".mov", "prores_ks", "yuv422p10le"),
    ("av1", "yuv420p10le", ".mov", "libx265", "yuv420p10le"),
    ("prores", "yuv422p10le", ".mp4", "libx265", "yuv422p10le"),
    ("mpeg2video", "yuv420p", ".mp4", "libx264", "yuv420p"),
    ("mpeg2video", "yuv420p", ".m2t", "libx264", "yuv420p"),
    ("h264", "yuv420p", ".mk3d", "libx264", "yuv420p"),
    ("h264", "gbrp", ".y4m", "rawvideo", "yuv444p"),
    ("utvideo", "gbrp", ".mkv", "ffv1", "bgr0"),
    ("rawvideo", "gray16le", ".mkv", "ffv1", "gray16le"),
    ("gif", "bgra", ".mp4", "libx264", "yuv444p"),
    ("h264", "yuv420p", ".y4m", "rawvideo", "yuv420p"),
    ("h264", "yuv420p", "-", "rawvideo", "yuv420p"),
    ("hevc", "gbrp10le", "-", "rawvideo", "gbrp10le"),
    ("mjpeg", "yuvj422p", ".avi", "libx264", "yuv422p"),
]


@pytest.mark.parametrize("case", AUTO)
def test_auto_keeps_what_it_can(clip, case):
    codec, pix_fmt, suffix, encoder, chosen = case
    config = choose_encoder(EncoderOptions(), source(clip, pix_fmt, codec=codec), suffix)
    assert (config.encoder, config.pix_fmt) == (encoder, chosen)


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "chosen", "note"),
    [
        ("yuv444p16le", "hevc", "yuv444p12le", "16-bit becomes 12-bit"),
        ("yuv422p10le", "av1", "yuv420p10le", "chroma is reduced"),
        ("yuva444p10le", "h264", "yuv444p10le", "transparency is dropped"),
        ("yuva420p", "vp9", "yuva420p", None),
        ("yuva444p10le", "prores", "yuva444p10le", None),
        ("yuv420p", "prores", "yuv422p10le", "8-bit is kept as 10-bit"),
        ("gray", "h264", "yuv420p", "grey is stored as yuv420p"),
        ("gbrp", "h264", "yuv444p", "RGB becomes yuv444p (BT.601)"),
        ("yuv411p", "h264", "yuv422p", "chroma is kept as yuv422p"),
        ("yuv420p12le", "h264", "yuv420p10le", "12-bit becomes 10-bit"),
        ("nv12", "ffv1", "yuv420p", None),
    ],
)
def test_the_nearest_format_is_taken_and_the_change_named(clip, pix_fmt, codec, chosen, note):
    config = choose_encoder(EncoderOptions(codec=codec), source(clip, pix_fmt, codec="png"), ".mkv")
    assert config.pix_fmt == chosen
    if note is None:
        assert config.notes == ()
    else:
        assert any(note in line for line in config.notes), config.notes


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_an_odd_size_is_kept_in_full_chroma(clip, codec):
    """H.264 and HEVC count 4:2:0 sizes in twos; the picture is neither cropped nor padded."""
    odd = source(clip, width=67, height=51)
    config = choose_encoder(EncoderOptions(codec=codec), odd, ".mp4")
    assert config.pix_fmt == "yuv444p"
    assert "67×51" in config.notes[0]
    with pytest.raises(UsageError, match="odd"):
        choose_encoder(EncoderOptions(codec=codec, pix_fmt="yuv420p"), odd, ".mp4")


@pytest.mark.parametrize(
    ("options", "suffix", "message"),
    [
        ({"codec": "nonsense"}, ".mp4", "no encoder 'nonsense'"),
        ({"codec": "h264_vaapi"}, ".mp4", "h264_nvenc"),
        ({"codec": "h264", "preset": "quick"}, ".mp4", "ultrafast superfast"),
        ({"codec": "h264", "crf": 99.0}, ".mp4", "0 to 51"),
        ({"codec": "ffv1", "crf": 10.0}, ".mkv", "no --crf"),
        ({"codec": "prores", "preset": "fast"}, ".mov", "no --preset"),
        ({"codec": "h264", "pix_fmt": "rgb24"}, ".mp4", "yuv420p"),
        ({"codec": "prores"}, ".mp4", "cannot hold prores.*.mov"),
        ({"codec": "h264"}, ".webm", "cannot hold h264; it holds av1, vp9"),
        ({"codec": "ffv1"}, ".ts", "cannot hold ffv1"),
        ({}, ".docx", ".mkv"),
        ({}, "", "without suffix"),
        ({"codec": "h264_nvenc", "preset": "quick"}, ".mp4", "no preset 'quick'; it has"),
    ],
)
def test_options_that_make_no_sense(clip, options, suffix, message):
    with pytest.raises(UsageError, match=message) as caught:
        choose_encoder(EncoderOptions(**options), clip, suffix)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("encoder", ["h264_nvenc", "hevc_qsv", "h264_amf"])
def test_hardware_that_is_not_there_is_told_at_once(clip, encoder):
    config = choose_encoder(EncoderOptions(codec=encoder), clip, ".mp4")
    if Path("/dev/nvidia0").exists() or Path("/dev/dri").exists():
        pytest.skip("this machine may have it")
    with pytest.raises(OutputError, match=f"{encoder}.*hardware"):
        check_encoder(config, fps=FPS, width=320, height=240)


def test_a_configuration_goes_through_json(clip):
    config = choose_encoder(EncoderOptions(codec="hevc"), source(clip, "yuv422p10le"), ".mkv")
    again = EncoderConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config


# --- writing ----------------------------------------------------------------------------

FAST = {"h264": "ultrafast", "hevc": "ultrafast", "av1": "8", "vp9": "8"}
SIZES = {"dnxhd": (256, 144)}


@pytest.mark.parametrize(
    "codec", [*(c for c in CODECS), "mpeg4", "mpeg2video", "utvideo", "mjpeg", "libx264rgb"]
)
def test_every_codec_writes_every_frame_at_its_time(clip, tmp_path, codec):
    """A segment holds exactly the frames written, at exact multiples of the frame's duration."""
    width, height = size = SIZES.get(codec, (64, 48))
    suffix = {"prores": ".mov", "dnxhd": ".mov", "mpeg2video": ".ts", "utvideo": ".avi"}
    suffix |= {"mjpeg": ".avi"}
    options = EncoderOptions(codec=codec, preset=FAST.get(codec))
    sized = source(clip, width=width, height=height)
    config = choose_encoder(options, sized, suffix.get(codec, ".mkv"))
    layout = PlaneLayout("yuv", 8, 1, 1)
    pictures = list(frames(layout, width, height, 40))
    path = write(tmp_path / f"s.{config.container}", config, pictures, size)
    info = probe(path)
    assert info.codec == config.codec
    assert (info.width, info.height) == size
    ticks = [pts * info.time_base for pts in info.pts]
    assert ticks == [n / FPS for n in range(40)]
    assert info.end_pts * info.time_base == 40 / FPS
    assert info.key_pts[0] == info.pts[0]
    with FrameReader(info) as reader:
        back = list(reader)
    assert reader.broken is None
    assert [read_number(f.planes[0], f.layout.bits) for f in back] == list(range(40))


def test_the_same_input_gives_the_same_bytes_and_parameter_sets(clip, tmp_path):
    layout = PlaneLayout("yuv", 8, 1, 1)
    for codec in ("h264", "hevc", "av1", "vp9", "ffv1"):
        options = EncoderOptions(codec=codec, preset=FAST.get(codec))
        config = choose_encoder(options, clip, ".mkv")
        pictures = list(frames(layout, count=20))
        first = write(tmp_path / "1.nut", config, pictures)
        second = write(tmp_path / "2.nut", config, pictures)
        other = write(tmp_path / "3.nut", config, pictures[10:])
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
        assert digests[0] == digests[1], codec
        headers = []
        for path in (first, other):
            with av.open(str(path)) as made:
                headers.append(made.streams.video[0].codec_context.extradata)
        assert headers[0] == headers[1], codec


def test_h264_has_whole_pictures_in_threads_that_do_not_follow_the_machine(clip, tmp_path):
    """Slices of one picture side by side cost a file 5 % and take longer."""
    config = choose_encoder(EncoderOptions(codec="h264"), clip, ".mkv")
    written = write(tmp_path / "a.mkv", config, frames(config.layout)).read_bytes()
    settings = written[written.index(b"x264 - core") :]
    assert b" threads=6 " in settings
    assert b" sliced_threads=0 " in settings


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "vp9", "mpeg4"])
def test_gops_are_closed_and_about_three_seconds_long(clip, tmp_path, codec):
    """Each keyframe begins anew: what is shown from there on decodes without what was before."""
    options = EncoderOptions(codec=codec, preset=FAST.get(codec))
    config = choose_encoder(options, clip, ".mkv")
    pictures = list(frames(PlaneLayout("yuv", 8, 1, 1), count=50))
    path = write(tmp_path / "g.nut", config, pictures, fps=Fraction(10))
    info = probe(path)
    keys = [info.number_of(pts) for pts in info.key_pts]
    assert len(keys) >= 2
    assert all(b - a <= 30 for a, b in zip(keys, [*keys[1:], 50], strict=True))
    for key in keys:  # nothing decoded after a keyframe is shown before it
        order = info.decode_order
        assert all(order[n] < order[key] for n in range(key))


@pytest.mark.parametrize("codec", ["ffv1", "rawvideo"])
@pytest.mark.parametrize(
    "pix_fmt",
    [
        "yuv420p",
        "yuv422p10le",
        "yuv444p16le",
        "gray",
        "gray16le",
        "yuva444p10le",
        "bgra",
        "gbrp12le",
    ],
)
def test_lossless_codecs_keep_every_sample(clip, tmp_path, codec, pix_fmt):
    from_source = source(clip, pix_fmt, codec="ffv1")
    config = choose_encoder(EncoderOptions(codec=codec), from_source, ".nut")
    assert config.layout == from_source.layout
    pictures = list(frames(from_source.layout, count=3))
    path = write(tmp_path / "l.nut", config, pictures)
    with FrameReader(probe(path)) as reader:
        for ours, theirs in zip(pictures, reader, strict=True):
            assert all(map(np.array_equal, ours.planes, theirs.planes))


def test_lossy_codecs_are_nearly_lossless(clip, tmp_path):
    """At the default quality the mean error is below two code values, in each plane."""
    layout = PlaneLayout("yuv", 8, 1, 1)
    pictures = list(frames(layout, 128, 96, count=8))
    for codec in ("h264", "hevc", "av1", "vp9", "prores"):
        options = EncoderOptions(codec=codec, preset=FAST.get(codec))
        config = choose_encoder(
            options, source(clip, width=128, height=96), ".mov" if codec == "prores" else ".mkv"
        )
        path = write(tmp_path / f"{codec}.{config.container}", config, pictures, (128, 96))
        from vfi_cli.io.color import convert_layout

        with FrameReader(probe(path)) as reader:
            for ours, theirs in zip(pictures, reader, strict=True):
                back = convert_layout(theirs, layout)
                for a, b in zip(ours.planes, back.planes, strict=True):
                    assert np.abs(a.astype(int) - b.astype(int)).mean() < 2, codec


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "prores"])
def test_colour_and_aspect_are_stated(clip, tmp_path, codec):
    color = ColorSpec(9, codec != "prores", 9, 16, 3 if codec in ("h264", "hevc", "av1") else 0)
    options = EncoderOptions(codec=codec, preset=FAST.get(codec))
    suffix = "mov" if codec == "prores" else "mp4"
    config = choose_encoder(options, source(clip, "yuv420p10le", color=color), f".{suffix}")
    assert config.color == color
    pictures = frames(PlaneLayout("yuv", 10, 1, 1), color=color, count=3)
    path = tmp_path / f"c.{suffix}"
    write(path, config, pictures, sample_aspect_ratio=Fraction(4, 3), container=suffix)
    info = probe(path)
    assert (info.color.matrix, info.color.primaries, info.color.transfer) == (9, 9, 16)
    assert info.sample_aspect_ratio == Fraction(4, 3)
    if codec != "prores":
        assert info.color.full_range
        assert info.color.chroma_location == 3


def test_rgb_written_as_yuv_shows_the_same_colours(clip, tmp_path):
    from vfi_cli.io.color import to_rgb

    rgb = source(clip, "gbrp", color=ColorSpec(0, True), codec="png")
    config = choose_encoder(EncoderOptions(codec="h264", crf=0, preset="ultrafast"), rgb, ".mkv")
    pictures = list(frames(rgb.layout, color=ColorSpec(0, True), count=2))
    path = write(tmp_path / "r.nut", config, pictures)
    info = probe(path)
    assert info.color.matrix == 6
    with FrameReader(info) as reader:
        for ours, theirs in zip(pictures, reader, strict=True):
            assert (to_rgb(ours) - to_rgb(theirs)).abs().mean() < 1 / 255


@pytest.mark.parametrize("codec", ["hevc", "av1", "h264"])
def test_hdr_metadata_is_written(clip, tmp_path, codec):
    hdr = HdrInfo(
        primaries=(
            (Fraction(34000, 50000), Fraction(16000, 50000)),
            (Fraction(13250, 50000), Fraction(34500, 50000)),
            (Fraction(7500, 50000), Fraction(3000, 50000)),
        ),
        white_point=(Fraction(15635, 50000), Fraction(16450, 50000)),
        luminance=(Fraction(1, 200), Fraction(1000)),
        max_content_light=800,
        max_frame_average_light=400,
    )
    deep = source(clip, "yuv420p10le", hdr=hdr)
    config = choose_encoder(EncoderOptions(codec=codec, preset=FAST[codec]), deep, ".mkv")
    path = write(tmp_path / "h.nut", config, frames(deep.layout, count=3))
    found = probe(path).hdr
    assert found is not None
    assert found.max_content_light == 800
    assert found.max_frame_average_light == 400
    for ours, theirs in zip(hdr.primaries, found.primaries, strict=True):
        assert all(abs(a - b) < Fraction(1, 10000) for a, b in zip(ours, theirs, strict=True))
    assert abs(found.luminance[1] - 1000) < 1
    for suffix, lost in ((".mkv", False), (".mp4", False), (".nut", True)):
        vp9 = choose_encoder(EncoderOptions(codec="vp9"), deep, suffix)
        assert any("HDR metadata" in note for note in vp9.notes) == lost, "the container tells it"


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (16, 1), (1, 64), (15, 200), (17, 16)])
def test_ffv1_of_a_few_pixels(clip, tmp_path, size):
    tiny = replace(source(clip, "yuv420p"), width=size[0], height=size[1])
    config = choose_encoder(EncoderOptions(codec="ffv1"), tiny, ".mkv")
    given = list(frames(config.layout, *size, count=2))
    path = write(tmp_path / "t.nut", config, given, size=size)
    with FrameReader(probe(path)) as reader:
        made = list(reader)
    for ours, theirs in zip(made, given, strict=True):
        assert all(map(np.array_equal, ours.planes, theirs.planes))


def test_a_stream_into_something_that_cannot_seek(clip):
    class Pipe:
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, data) -> int:
            self.data += data
            return len(data)

        def flush(self) -> None:
            pass

    pictures = list(frames(clip.layout, count=4))
    for suffix, magic in (("-", b"nut/multimedia container"), (".y4m", b"YUV4MPEG2 W64 H48")):
        config = choose_encoder(EncoderOptions(), clip, suffix)
        pipe = Pipe()
        write(pipe, config, pictures)
        assert bytes(pipe.data).startswith(magic)
        with av.open(io.BytesIO(bytes(pipe.data))) as made:
            assert sum(1 for _ in made.decode(video=0)) == 4


@pytest.mark.parametrize(
    "pix_fmt", ["yuv420p", "yuv422p", "yuv444p10le", "gray", "gray16le", "yuv420p12le", "yuv411p"]
)
def test_yuv4mpeg_is_what_ffmpeg_reads(clip, tmp_path, pix_fmt):
    color = ColorSpec(full_range=pix_fmt == "yuv422p", chroma_location=2)
    from_source = source(clip, pix_fmt, color=color, width=33, height=17)
    config = choose_encoder(EncoderOptions(), from_source, ".y4m")
    assert config.layout == from_source.layout
    pictures = list(frames(config.layout, 33, 17, count=2, color=color))
    path = tmp_path / "a.y4m"
    write(path, config, pictures, (33, 17), sample_aspect_ratio=Fraction(10, 11))
    info = probe(path)
    assert info.nominal_rate == FPS
    assert info.sample_aspect_ratio == Fraction(10, 11)
    assert info.color.full_range == color.full_range
    if pix_fmt == "yuv420p":
        assert info.color.chroma_location == 2
    with FrameReader(info) as reader:
        for ours, theirs in zip(pictures, reader, strict=True):
            assert all(map(np.array_equal, ours.planes, theirs.planes))


def test_vp9_keeps_alpha(clip, tmp_path):
    config = choose_encoder(
        EncoderOptions(codec="vp9", preset="8"), source(clip, "yuva420p"), ".webm"
    )
    assert config.container == "matroska"
    path = write(tmp_path / "a.mkv", config, frames(config.layout, count=3))
    with av.open(str(path)) as made:
        packet = next(made.demux(video=0))
        assert packet.has_sidedata("matroska_block_additional")


@pytest.mark.parametrize(("suffix", "better"), [(".mp4", "ffv1"), (".mov", "prores"), ("-", None)])
def test_vp9_has_no_alpha_where_there_is_no_place_for_it(clip, suffix, better):
    transparent = replace(source(clip, "yuva420p"), codec="vp9")
    options = EncoderOptions(codec="vp9" if suffix == "-" else "auto")
    config = choose_encoder(options, transparent, suffix)
    assert config.pix_fmt == "yuv420p"
    note = next(note for note in config.notes if "transparency is dropped" in note)
    if better is not None:
        assert f"--codec {better} keeps it" in note
        config = choose_encoder(EncoderOptions(codec=better), transparent, suffix)
        assert config.layout.alpha
    with pytest.raises(UsageError, match="does not take pixel format 'yuva420p' in"):
        choose_encoder(EncoderOptions(codec="vp9", pix_fmt="yuva420p"), transparent, "-")


def test_grey_images_do_not_make_yuv_that_says_rgb(clip, tmp_path):
    """PNG states the matrix of RGB for grey, which players would take 4:2:0 at its word for."""
    path = write_clip(tmp_path / "grey.mov", codec="png", pix_fmt="gray")
    info = probe(path)
    config = choose_encoder(EncoderOptions(codec="h264"), info, ".mp4")
    assert (config.pix_fmt, config.color.matrix) == ("yuv420p", 2)
    assert config.color.full_range
    with FrameReader(info) as reader:
        pictures = list(reader)
    made = probe(write(tmp_path / "a.mkv", config, pictures))
    assert made.color.matrix == 2
    with FrameReader(made) as reader:
        again = next(iter(reader))
    assert np.abs(again.planes[0].astype(int) - pictures[0].planes[0].astype(int)).mean() < 2
    assert np.all(np.abs(again.planes[1].astype(int) - 128) <= 1)


def test_prores_with_alpha_stays_so(clip):
    """ProRes 4444 is decoded to 12 bits and can be encoded from 10 alone."""
    transparent = replace(source(clip, "yuva444p12le"), codec="prores")
    config = choose_encoder(EncoderOptions(), transparent, ".mov")
    assert (config.codec, config.pix_fmt) == ("prores", "yuva444p10le")
    assert "12-bit becomes 10-bit: prores holds no more" in config.notes


# --- what goes wrong --------------------------------------------------------------------


def test_a_full_disk(clip):
    config = choose_encoder(EncoderOptions(codec="ffv1"), clip, ".mkv")
    with pytest.raises(OutputError, match="disk is full"):
        write("/dev/full", config, frames(clip.layout, count=30))


def test_where_nothing_can_be_written(clip, tmp_path):
    config = choose_encoder(EncoderOptions(), clip, ".mkv")
    with pytest.raises(OutputError, match="folder does not exist"):
        write(tmp_path / "no" / "a.mkv", config, [])
    with pytest.raises(OutputError, match="is a folder"):
        write(tmp_path, config, [])


def test_a_reader_that_went_away(clip):
    class Gone:
        def write(self, data) -> int:
            raise BrokenPipeError(32, "Broken pipe")

        def flush(self) -> None:
            pass

    for suffix in ("-", ".y4m"):
        config = choose_encoder(EncoderOptions(), clip, suffix)
        with pytest.raises(OutputError, match="reads the pipe has gone"):
            write(Gone(), config, frames(clip.layout, count=3))


def test_leaving_by_an_exception_closes_the_file(clip, tmp_path):
    config = choose_encoder(EncoderOptions(preset="ultrafast"), clip, ".mkv")
    picture = next(iter(frames(clip.layout)))
    writer = VideoWriter(tmp_path / "a.nut", config, fps=FPS, width=64, height=48)

    def leave() -> None:
        with writer:
            writer.write(picture)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        leave()
    with pytest.raises(ValueError, match="closed"):
        writer.write(picture)
    writer.close()


def test_a_frame_of_another_size_is_refused(clip, tmp_path):
    config = choose_encoder(EncoderOptions(preset="ultrafast"), clip, ".mkv")
    with VideoWriter(tmp_path / "a.nut", config, fps=FPS, width=64, height=48) as writer:
        with pytest.raises(ValueError, match="32×32"):
            writer.write(next(iter(frames(clip.layout, 32, 32))))
        writer.write(next(iter(frames(clip.layout))))


@pytest.mark.parametrize("size", [(16, 16), (32, 48), (48, 32), (64, 16)])
def test_x265_survives_narrow_pictures(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its CU tree corrupts memory there; the encoder must be told to leave it out."""
    info = probe(write_clip(tmp_path / "in.mkv", frames=40, codec="ffv1", size=size))
    config = choose_encoder(EncoderOptions("hevc"), info, ".mkv")
    assert ("cutree=0" in config.options["x265-params"]) == (size[0] < 64)
    with (
        FrameReader(info) as reader,
        VideoWriter(
            tmp_path / "out.nut", config, fps=Fraction(25), width=size[0], height=size[1]
        ) as writer,
    ):
        for frame in reader:
            writer.write(frame)
    assert len(probe(tmp_path / "out.nut").pts) == 40
