"""Streams through pipes: YUV4MPEG2, NUT and Matroska, in and out."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.media import read_number, write_clip
from tests.streamkit import Sound, png, write_source
from vfi_cli.api import ConvertOptions, ModelOptions, convert_file
from vfi_cli.errors import InputError, OutputError, TruncatedInputError, UsageError
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.models import load_model
from vfi_cli.pipe import LearntTimeline, PipeResult, convert_stream
from vfi_cli.plan import Timing

BLEND = load_model("blend", device="cpu")


def options(**timing: object) -> ConvertOptions:
    return ConvertOptions(
        Timing(**{k: Fraction(v) for k, v in timing.items()}),  # type: ignore[arg-type]
        ModelOptions("blend"),
    )


def through(data: bytes, wanted: ConvertOptions, **more: Any) -> tuple[bytes, PipeResult]:
    class Pipe(io.RawIOBase):
        """A reader that cannot seek, in small pieces."""

        def __init__(self) -> None:
            self._at = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            part = data[self._at : self._at + min(len(buffer), 5000)]
            buffer[: len(part)] = part
            self._at += len(part)
            return len(part)

    class Drain(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, part: bytes) -> int:  # type: ignore[override]
            self.content += part
            return len(part)

    drain = Drain()
    result = convert_stream(
        io.BufferedReader(Pipe()),
        drain,  # type: ignore[arg-type]
        wanted,
        interpolator=BLEND,
        **more,
    )
    return bytes(drain.content), result


def decoded(data: bytes | Path) -> tuple[str, list[av.VideoFrame], int]:
    """(container, pictures, sound packets)."""
    source = str(data) if isinstance(data, Path) else io.BytesIO(data)
    with av.open(source) as container:
        pictures, sounds = [], 0
        for packet in container.demux():
            if packet.stream.type == "video":
                pictures += packet.decode()
            else:
                sounds += packet.size > 0
        return container.format.name, pictures, sounds


@pytest.mark.parametrize(
    ("suffix", "codec", "answer"),
    [(".y4m", "wrapped_avframe", "yuv4mpegpipe"), (".nut", "ffv1", "nut"), (".mkv", "ffv1", "nut")],
)
def test_pipes_are_answered_in_kind(tmp_path: Path, suffix: str, codec: str, answer: str) -> None:
    source = write_clip(
        tmp_path / f"in{suffix}", frames=12, codec=codec, rate=Fraction(24000, 1001)
    )
    data, result = through(source.read_bytes(), options(factor=2))
    container, pictures, _ = decoded(data)
    assert container == answer
    assert result.counts.frames == len(pictures) == 24
    assert [read_number(p.to_ndarray()[:48]) for p in pictures][::2] == list(range(12))
    rate = Fraction(48000, 1001)
    for k, picture in enumerate(pictures):
        assert picture.pts is not None
        assert picture.time_base is not None
        assert picture.pts * picture.time_base == k / rate


def test_yuv4mpeg_gets_pictures_of_a_kind_that_it_holds(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=6, codec="ffv1", pix_fmt="bgr0")
    told: list[str] = []
    data, _ = through(
        source.read_bytes(),
        options(factor=2),
        pipe_format="y4m",
        on_start=lambda reader, encoder, streams: told.extend(encoder.notes),
    )
    assert data.startswith(b"YUV4MPEG2 W64 H48 F50:1 Ip A1:1 C444 ")
    container, pictures, _ = decoded(data)
    assert (container, len(pictures)) == ("yuv4mpegpipe", 12)
    assert any("RGB becomes yuv444p" in note for note in told)
    asked = replace(options(factor=2), encoder=EncoderOptions("h264"))
    with pytest.raises(UsageError, match="YUV4MPEG2 cannot hold h264"):
        through(source.read_bytes(), asked, pipe_format="y4m")


def test_a_pipe_gives_the_frames_of_a_planned_conversion(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=30, rate=Fraction(24000, 1001))
    planned = convert_file(
        source,
        tmp_path / "planned.mkv",
        ConvertOptions(Timing(fps=Fraction(60)), encoder=EncoderOptions("ffv1")),
        interpolator=lambda: BLEND,
    )
    data, result = through(source.read_bytes(), options(fps=60))
    _, pictures, _ = decoded(data)
    with FrameReader(probe(planned.output)) as reader:
        frames = list(reader)
    assert result.counts == planned.counts
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.array_equal(frame.planes[0], picture.to_ndarray()[:48])


def test_sound_passes_through(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=30, tone=True)
    _, _, before = decoded(source)
    data, _ = through(source.read_bytes(), options(fps=50))
    _, pictures, after = decoded(data)
    assert (len(pictures), after) == (60, before)
    assert before > 40


def test_a_pipe_into_a_file_and_a_file_into_a_pipe(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=20, tone=True)
    target = tmp_path / "out.mp4"
    convert_stream(source, target, options(factor=2), interpolator=BLEND)
    _, pictures, sounds = decoded(target)
    assert len(pictures) == 40
    assert sounds > 30
    with pytest.raises(OutputError, match="exists already"):
        convert_stream(source, target, options(factor=2), interpolator=BLEND)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


def test_part_of_a_pipe(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=30, codec="ffv1")
    data, _ = through(source.read_bytes(), options(factor=1, start=Fraction(1, 5), end=1))
    _, pictures, _ = decoded(data)
    assert [read_number(p.to_ndarray()[:48]) for p in pictures] == list(range(5, 25))
    with pytest.raises(UsageError, match=r"beyond the end of the pipe, which is 0:01\.20 long"):
        through(source.read_bytes(), options(factor=2, start=Fraction(3)))
    with pytest.raises(UsageError, match="after --start"):
        through(source.read_bytes(), options(factor=2, start=Fraction(1), end=Fraction(1, 2)))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_cover_comes_through_a_pipe(tmp_path: Path, suffix: str) -> None:
    info = write_source(tmp_path / "in.mkv", cover=True, sounds=(Sound(),))
    target = tmp_path / f"out{suffix}"
    wanted = replace(options(factor=2), encoder=EncoderOptions("h264"))
    result = convert_stream(
        io.BytesIO(Path(info.path).read_bytes()), target, wanted, interpolator=BLEND
    )
    assert result.warnings == ()
    with av.open(str(target)) as container:
        covers = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
        assert len(covers) == 1
        assert bytes(next(p for p in container.demux(covers[0]) if p.size)) == png()


MASTERING = (
    "log-level=none:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
)


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mkv", "ffv1"), (".mp4", "hevc"), (".webm", "vp9")]
)
def test_a_file_from_a_pipe_says_of_the_picture_what_the_source_says(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    source = write_clip(
        tmp_path / "in.mkv",
        frames=6,
        codec="libx265",
        options={"x265-params": MASTERING},
        rotation=90,
        aspect=Fraction(10, 11),
    )
    target = tmp_path / f"out{suffix}"
    wanted = replace(options(factor=2), encoder=EncoderOptions(codec))
    convert_stream(io.BytesIO(source.read_bytes()), target, wanted, interpolator=BLEND)
    given, made = probe(source), probe(target)
    assert (given.rotation, given.sample_aspect_ratio) == (90, Fraction(10, 11))
    assert given.hdr is not None
    for name in ("rotation", "sample_aspect_ratio", "hdr"):
        assert getattr(made, name) == getattr(given, name), name
    if codec == "hevc":
        with av.open(str(target)) as container:
            assert container.streams.video[0].codec_context.codec_tag == "hvc1"


def test_what_comes_through_is_no_video(tmp_path: Path) -> None:
    for data in (b"", b"words " * 1000):
        with pytest.raises(InputError):
            through(data, options(fps=50))


def test_a_pipe_that_breaks_off(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.y4m", frames=12, codec="wrapped_avframe")
    whole = source.read_bytes()
    with pytest.raises(TruncatedInputError, match="breaks off"):
        through(whole[:-1000], options(factor=2))


def test_times_are_learnt_exactly() -> None:
    rate = Fraction(24000, 1001)
    timeline = LearntTimeline(Fraction(0), rate, Fraction(1, 1000))
    for n in range(5000):
        pts = round(n * 1000 / rate)
        frame = Frame(
            (np.zeros((1, 1), np.uint8),),
            *(1, 1, PlaneLayout("gray", 8), ColorSpec(), pts, Fraction(1, 1000)),
            duration=round((n + 1) * 1000 / rate) - pts,
        )
        assert timeline.time_of(frame) == n / rate
        assert timeline.end == (n + 1) / rate


def test_on_the_command_line(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.nut", frames=10, codec="ffv1")

    def vfi(*args: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "vfi_cli", *args],
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
        )

    common = ("convert", "-", "--model", "blend", "--fps", "50")
    result = vfi(*common, "-o", "-", data=source.read_bytes())
    assert result.returncode == 0, result.stderr
    assert b"20 frames" in result.stderr
    container, pictures, _ = decoded(result.stdout)
    assert (container, len(pictures)) == ("nut", 20)
    again = vfi(*common, "-o", "-", "--pipe-format", "y4m", "--quiet", data=result.stdout)
    assert again.stderr == b""
    assert again.stdout.startswith(b"YUV4MPEG2 W64 H48 F50:1")
    nothing = vfi(*common, "-o", "-", data=b"")
    assert nothing.returncode == 4
    assert b"nothing came" in nothing.stderr
    assert vfi(*common, data=b"").returncode == 2
