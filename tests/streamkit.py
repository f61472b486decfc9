"""Sources with everything a container can hold, and segments, for the tests of joining."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.subtitles.subtitle import SubtitleSet

from vfi_cli.io.source import HdrInfo
from vfi_cli.io.streams import StreamPlan, plan_streams
from vfi_cli.join import JoinReport, join, verify

ASS_HEADER = b"""[Script Info]\r
ScriptType: v4.00+\r
\r
[V4+ Styles]\r
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, \
Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1\r
\r
[Events]\r
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r
"""
FONT = b"\x00\x01\x00\x00" + b"a font, for once" * 8
RATE = 48000
HDR = HdrInfo(
    primaries=(
        (Fraction(68, 100), Fraction(32, 100)),
        (Fraction(265, 1000), Fraction(69, 100)),
        (Fraction(15, 100), Fraction(6, 100)),
    ),
    white_point=(Fraction(3127, 10000), Fraction(329, 1000)),
    luminance=(Fraction(1, 10000), Fraction(1000)),
    max_content_light=1000,
    max_frame_average_light=400,
)


@dataclass
class Sound:
    """A sound stream: silence with one burst of a tone."""

    codec: str = "aac"
    language: str = "eng"
    title: str = ""
    disposition: int = 0
    start: Fraction = Fraction(0)  # seconds
    burst: Fraction = Fraction(1, 2)  # when the tone begins, seconds of the file
    tone: float = 1000.0  # Hz
    layout: str = "stereo"


@dataclass
class Text:
    """A subtitle stream: (start ms, duration ms, text) each."""

    codec: str = "subrip"
    language: str = "eng"
    disposition: int = 0
    lines: tuple[tuple[int, int, str], ...] = ((100, 300, "one"), (500, 400, "two"))


@dataclass
class Info:
    """As much of SourceInfo as joining looks at."""

    path: str
    stream_index: int
    start: Fraction
    sample_aspect_ratio: Fraction = Fraction(1)
    display_matrix: tuple[int, ...] | None = None
    hdr: HdrInfo | None = None


@dataclass
class Made:
    """A joined and verified output."""

    path: Path
    plan: StreamPlan
    report: JoinReport
    lines: list[str] = field(default_factory=list)


def png(value: int = 77) -> bytes:
    """A small cover picture."""
    encoder = av.CodecContext.create("png", "w")
    encoder.width = encoder.height = 16
    encoder.pix_fmt = "rgb24"
    encoder.time_base = Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), value, np.uint8))
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def write_source(
    path: Path,
    *,
    sounds: tuple[Sound, ...] = (),
    texts: tuple[Text, ...] = (),
    chapters: tuple[tuple[int, int, str], ...] = (),
    tags: dict[str, str] | None = None,
    attachments: bool = False,
    cover: bool = False,
    seconds: Fraction = Fraction(1),
    picture_start: Fraction = Fraction(0),
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    video_tags: dict[str, str] | None = None,
    gop: int = 12,
) -> Info:
    """Write a small film (64×48, 25 frames a second) with all that is asked for."""
    out = av.open(str(path), "w", container_options=options or {})
    out.metadata.update(tags or {})
    video = out.add_stream(codec, rate=25, width=64, height=48)
    video.pix_fmt = "yuv420p"
    video.codec_context.gop_size = gop
    video.metadata.update(video_tags or {})
    tracks = []
    for sound in sounds:
        stream = out.add_stream(sound.codec, rate=RATE, layout=sound.layout)
        _describe(stream, sound)
        tracks.append(stream)
    written = []
    for text in texts:
        stream = out.add_stream(text.codec)
        stream.codec_context.subtitle_header = ASS_HEADER
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.time_base = Fraction(1, 1000)
        _describe(stream, text)
        written.append(stream)
    if attachments:
        out.add_attachment("plain.ttf", "application/x-truetype-font", FONT)
    if cover and path.suffix == ".mkv":
        out.add_attachment("cover.png", "image/png", png())
    pictures = None
    if cover and path.suffix != ".mkv":
        pictures = out.add_mux_stream("png", width=16, height=16)
        pictures.disposition = av.stream.Disposition.attached_pic
    out.set_chapters(
        [
            {
                "id": n,
                "start": a,
                "end": b,
                "time_base": Fraction(1, 1000),
                "metadata": {"title": title},
            }
            for n, (a, b, title) in enumerate(chapters, 1)
        ]
    )
    out.start_encoding()
    if pictures is not None:
        packet = av.Packet(png())
        packet.stream, packet.pts, packet.dts = pictures, 0, 0
        packet.is_keyframe = True
        out.mux(packet)
    for text, stream in zip(texts, written, strict=True):
        _write_text(out, stream, text)
    for k in range(int(seconds * 25)):
        image = np.full((72, 64), 16 + 7 * k % 200, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, "yuv420p")
        frame.time_base = Fraction(1, 1000)
        frame.pts = round((picture_start + Fraction(k, 25)) * 1000)
        out.mux(video.encode(frame))
    for sound, stream in zip(sounds, tracks, strict=True):
        _write_sound(out, stream, sound, seconds)
    out.mux(video.encode(None))
    out.close()
    with av.open(str(path)) as made:
        picture = next(s for s in made.streams.video if not s.disposition & 1024)
        first = min(p.pts for p in made.demux(picture) if p.size) * picture.time_base
        return Info(str(path), picture.index, first)


def _describe(stream: Any, what: Sound | Text) -> None:
    stream.metadata["language"] = what.language
    if title := getattr(what, "title", ""):
        stream.metadata["title"] = title
    stream.disposition = av.stream.Disposition(what.disposition)


def _write_text(out: Any, stream: Any, text: Text) -> None:
    for n, (start, duration, said) in enumerate(text.lines):
        line = f"{n},0,Default,,0,0,0,,{said}".encode()
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(line, 0, duration, 0))
        packet.stream = stream
        packet.time_base = Fraction(1, 1000)
        packet.pts = packet.dts = start
        packet.duration = duration
        out.mux(packet)


def _write_sound(out: Any, stream: Any, sound: Sound, seconds: Fraction) -> None:
    count = int((seconds - sound.start) * RATE)
    times = np.arange(count) / RATE + float(sound.start)
    wave = np.where(
        times >= float(sound.burst), 0.5 * np.sin(2 * np.pi * sound.tone * times), 0.0
    ).astype(np.float32)
    context = stream.codec_context
    channels = context.layout.nb_channels
    shape = av.AudioResampler(format=context.format, layout=context.layout, rate=RATE)
    step = context.frame_size or 1024
    for at in range(0, count, step):
        block = np.tile(wave[at : at + step], (channels, 1))
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=sound.layout)
        frame.sample_rate = RATE
        frame.time_base = Fraction(1, RATE)
        frame.pts = round(sound.start * RATE) + at
        for shaped in shape.resample(frame):
            out.mux(stream.encode(shaped))
    out.mux(stream.encode(None))


def write_segment(
    path: Path,
    *,
    frames: int,
    fps: Fraction,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
) -> Path:
    """A segment as rendering leaves it: NUT, its first frame first, global headers."""
    out = av.open(str(path), "w", format="nut")
    stream = out.add_stream(codec, rate=fps, options=options or {}, width=size[0], height=size[1])
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = 1 / fps
    stream.codec_context.flags |= av.codec.context.Flags.global_header
    for k in range(frames):
        image = np.full((size[1] * 3 // 2, size[0]), 20 + 10 * k % 200, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, "yuv420p")
        frame.pts, frame.time_base = k, 1 / fps
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
    out.close()
    return path


def segments(
    folder: Path, *, counts: tuple[int, ...] = (20, 20, 20), fps: Fraction, codec: str = "libx264"
) -> list[Path]:
    folder.mkdir(exist_ok=True)
    return [
        write_segment(folder / f"{codec}-{n}.nut", frames=count, fps=fps, codec=codec)
        for n, count in enumerate(counts)
    ]


def convert(
    info: Info,
    output: Path,
    parts: list[Path],
    *,
    fps: Fraction,
    frames: int = 60,
    start: Fraction | None = None,
    until: Fraction | None = None,
    **planned: Any,
) -> Made:
    """Plan, join and verify, as a conversion does."""
    plan = plan_streams(info, output.suffix, **planned)
    first = info.start if start is None else start
    report = join(
        parts,
        output,
        info=info,
        grid_fps=fps,
        start=first,
        frames=frames,
        stream_plan=plan,
        until=until,
    )
    verify(output, frames=frames, grid_fps=fps, start=first, stream_plan=plan, report=report)
    return Made(output, plan, report, plan.lines())


def picture_times(path: Path) -> list[Fraction]:
    """Presentation times of the picture's packets, sorted."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return sorted(p.pts * p.time_base for p in container.demux(stream) if p.size)


def burst_time(path: Path, number: int = 0) -> tuple[Fraction, float]:
    """(when the tone begins, its frequency) in a file's n-th sound stream, by decoding it."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[number]
        start: Fraction | None = None
        parts = []
        for frame in container.decode(stream):
            if start is None:
                start = frame.pts * frame.time_base
                rate = frame.sample_rate
            data = frame.to_ndarray().astype(np.float64)
            if not frame.format.is_planar:
                data = data.reshape(-1, frame.layout.nb_channels).T
            if frame.format.name.startswith("s"):
                data /= 1 << (8 * frame.format.bytes - 1)
            parts.append(data[0])
    wave = np.concatenate(parts)
    onset = int(np.argmax(np.abs(wave) > 0.1))
    tail = wave[onset + rate // 50 : onset + rate // 5]
    crossings = np.nonzero((tail[:-1] < 0) & (tail[1:] >= 0))[0]
    frequency = (len(crossings) - 1) * rate / (crossings[-1] - crossings[0])
    assert start is not None
    return start + Fraction(onset, rate), frequency


def packets_of(path: Path, kind: str, number: int = 0) -> list[bytes]:
    """The payloads of a stream's packets."""
    with av.open(str(path)) as container:
        stream = [s for s in container.streams if s.type == kind][number]
        return [bytes(p) for p in container.demux(stream) if p.size]
