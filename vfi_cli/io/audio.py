"""Sound that has to be coded anew: another codec, or another speed at the same pitch."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.filter import Graph
from av.packet import Packet

from vfi_cli.errors import OutputError
from vfi_cli.io.mux import OutputMux, named_layout

#: Seconds without sound, in a stream that goes on, that are believed and filled with silence.
_LONGEST_GAP = 300
#: Bits a second and channel at least; a source with more gets as many, up to 160 000.
_BIT_RATES = {"aac": 80_000, "libopus": 64_000, "libmp3lame": 96_000}


@dataclass(frozen=True, slots=True)
class Encoding:
    """What an encoder is given: nearest to the source of what it takes."""

    rate: int  # Hz
    layout: str
    format: str  # of samples
    bit_rate: int = 0  # 0: the encoder's own


def encoding_for(stream: AudioStream, encoder: str) -> Encoding | None:
    """How an encoder can code a stream, found by opening it; None where it cannot.

    Channels are only mixed where the encoder has no layout of as many.
    """
    source = stream.codec_context
    codec = av.Codec(encoder, "w")
    rate = source.sample_rate
    if not rate or not source.layout.nb_channels:
        return None
    if codec.audio_rates and rate not in codec.audio_rates:
        rate = min((r for r in codec.audio_rates if r >= rate), default=max(codec.audio_rates))
    formats = [form.name for form in codec.audio_formats or ()] or [source.format.name]
    close = [form for form in formats if form.rstrip("p") == source.format.name.rstrip("p")]
    wide = [form for form in formats if form.rstrip("p") in ("s32", "flt")]
    chosen = (close or wide or formats)[0]
    for layout in _layouts(stream, encoder):
        channels = AudioLayout(layout).nb_channels
        bit_rate = 0
        if least := _BIT_RATES.get(encoder):
            bit_rate = min(max(least * channels, source.bit_rate or 0), 160_000 * channels)
        elif not codec.lossless and not encoder.startswith("pcm_"):
            bit_rate = source.bit_rate or 0
        trial = cast(AudioCodecContext, av.CodecContext.create(encoder, "w"))
        trial.sample_rate, trial.layout, trial.format = rate, layout, chosen
        trial.time_base = Fraction(1, rate)
        if bit_rate:
            trial.bit_rate = bit_rate
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            trial.open()
            return Encoding(rate, layout, chosen, bit_rate)
    return None


def _layouts(stream: AudioStream, encoder: str) -> Iterator[str]:
    """Channel layouts to try, the best first."""
    own = named_layout(stream)
    if encoder == "aac":  # "side" needs a description in the stream that few players read
        yield own.replace("(side)", "")
    yield own
    count = stream.codec_context.layout.nb_channels
    for layout in ("7.1", "6.1", "5.1", "5.0", "quad", "4.0", "3.0", "stereo", "mono"):
        if AudioLayout(layout).nb_channels <= count:
            yield layout


def tempo_chain(stretch: Fraction) -> list[Fraction]:
    """Factors for FFmpeg's atempo, each within [1/2, 2], whose product is 1 / stretch."""
    tempo = 1 / stretch
    chain = []
    while tempo < Fraction(1, 2):
        chain.append(Fraction(1, 2))
        tempo *= 2
    while tempo > 2:
        chain.append(Fraction(2))
        tempo /= 2
    if tempo != 1:
        chain.append(tempo)
    return chain


#: Where atempo's output is right on average: this part of what it swallows belongs in front.
#: Measured on bursts of tone and noise, whose beginnings come early and whose ends are in time.
_SWALLOWED_IN_FRONT = Fraction(2, 5)


def swallowed(rate: int, stretch: Fraction) -> Fraction:
    """Seconds of output that a chain of atempo filters lacks: its windows never fill at the end."""
    graph = Graph()
    node = graph.add_abuffer(
        sample_rate=rate, format="fltp", layout="mono", time_base=Fraction(1, rate)
    )
    for name, value in [("atempo", t) for t in tempo_chain(stretch)] + [("abuffersink", None)]:
        link = graph.add(name, None if value is None else str(float(value)))
        node.link_to(link)
        node = link
    graph.configure()
    frame = AudioFrame(format="fltp", layout="mono", samples=rate)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    graph.push(frame)
    graph.push(None)
    samples = 0
    with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            samples += cast(AudioFrame, graph.pull()).samples
    return max(Fraction(0), stretch - Fraction(samples, rate))


class AudioConverter:
    """Decodes a sound stream, stretches it if asked, and encodes it.

    ``origin`` is the source time, in seconds, that becomes zero in the output. Output packets
    carry output times.
    """

    def __init__(
        self, template: AudioStream, encoder: str, *, stretch: Fraction, origin: Fraction
    ) -> None:
        self._template = template
        self._name = encoder
        self._stretch = stretch
        self._origin = origin
        self._graph: Graph | None = None
        self._samples = 0  # samples given to the encoder
        self._start: Fraction | None = None  # output time of the first sample
        self._run_in: int | None = None  # samples that the encoder puts in front
        self._coarse = False
        self._swallowed = Fraction(0)
        self._swallowed_in_front = Fraction(0)
        self._last: AudioFrame | None = None
        self._due: Fraction | None = None  # source time at which the next frame should begin
        self._leap = 0  # taken out of the source's clock, in its time base
        self.warnings: list[str] = []

    def add_to(self, mux: OutputMux, *, tags: dict[str, str], disposition: int) -> None:
        """Make the output stream, under the input stream's index."""
        shape = encoding_for(self._template, self._name)
        if shape is None:
            raise OutputError(f"{mux.name}: no encoder {self._name} for stream {self._template}")
        stream = mux.add_encoded(
            self._template.index,
            self._name,
            rate=shape.rate,
            tags=tags,
            disposition=disposition,
            time_base=Fraction(1, shape.rate),
            layout=shape.layout,
            format=shape.format,
            **({"bit_rate": shape.bit_rate} if shape.bit_rate else {}),
        )
        self._coarse = mux.muxer in ("matroska", "webm")
        self._encoder = cast(AudioCodecContext, stream.codec_context)
        self._rate = shape.rate

    def convert(self, packet: Packet) -> list[Packet]:
        """Feed one input packet; returns what comes out."""
        result: list[Packet] = []
        for frame in self._template.codec_context.decode(packet):
            result += self._push(frame)
        return result

    def flush(self) -> list[Packet]:
        """The rest, after the last packet."""
        result: list[Packet] = []
        try:
            for frame in self._template.codec_context.decode(None):
                result += self._push(frame)
        except av.error.FFmpegError:
            pass  # a decoder that broke before has nothing left to give
        if self._graph is not None:
            self._push_silence()
            self._graph.push(None)
            result += self._pull()
            result += self._stamped(self._encoder.encode(None))
        return result

    def _push(self, frame: AudioFrame) -> list[Packet]:
        if self._graph is None:
            self._build(frame)
        self._close_gap(frame)
        self._last = frame
        if self._start is None:
            time = self._origin
            if frame.pts is not None and frame.time_base is not None:
                time = frame.pts * frame.time_base
            self._start = (time - self._origin) * self._stretch + self._swallowed_in_front
        assert self._graph is not None
        self._graph.push(frame)
        return self._pull()

    def _close_gap(self, frame: AudioFrame) -> None:
        """Take a leap of the clock out: no one wants hours of silence for a damaged timestamp."""
        if frame.pts is None or not frame.time_base or not frame.sample_rate:
            return
        frame.pts -= self._leap
        time = frame.pts * frame.time_base
        if self._due is not None and abs(time - self._due) > _LONGEST_GAP:
            leap = round((time - self._due) / frame.time_base)
            self._leap += leap
            frame.pts -= leap
            self.warnings.append(
                f"its clock leaps by {float(time - self._due):.0f} s at {float(self._due):.2f} s; "
                "the sound goes on without the gap"
            )
            time = frame.pts * frame.time_base
        self._due = time + Fraction(frame.samples, frame.sample_rate)

    def _push_silence(self) -> None:
        """Push the sound's end through the filters, which otherwise keep it."""
        last = self._last
        if self._stretch == 1 or last is None or last.pts is None:
            return
        samples = int(self._swallowed / self._stretch * last.sample_rate)
        if samples:
            frame = AudioFrame(format=last.format.name, layout=last.layout.name, samples=samples)
            silence = 0x80 if last.format.name.startswith("u8") else 0
            for plane in frame.planes:
                plane.update(bytes([silence]) * plane.buffer_size)
            frame.sample_rate, frame.time_base = last.sample_rate, last.time_base
            frame.pts = last.pts + round(
                Fraction(last.samples, last.sample_rate) / (last.time_base or 1)
            )
            assert self._graph is not None
            self._graph.push(frame)

    def _build(self, frame: AudioFrame) -> None:
        if self._stretch != 1:
            self._swallowed = swallowed(frame.sample_rate, self._stretch)
            self._swallowed_in_front = self._swallowed * _SWALLOWED_IN_FRONT
        graph = Graph()
        node = graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=frame.time_base or Fraction(1, frame.sample_rate),
        )
        # Gaps in the source become silence, so that counting samples is telling the time.
        chain = [graph.add("aresample", "async=1:min_hard_comp=0.02")]
        chain += [graph.add("atempo", str(float(t))) for t in tempo_chain(self._stretch)]
        shape = (
            f"sample_fmts={self._encoder.format.name}:sample_rates={self._rate}"
            f":channel_layouts={self._encoder.layout.name}"
        )
        chain += [graph.add("aformat", shape), graph.add("abuffersink")]
        for link in chain:
            node.link_to(link)
            node = link
        graph.configure()
        if self._encoder.frame_size:
            graph.set_audio_frame_size(self._encoder.frame_size)
        self._graph = graph

    def _pull(self) -> list[Packet]:
        assert self._graph is not None
        result: list[Packet] = []
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return result
            assert isinstance(frame, AudioFrame)
            frame.time_base = Fraction(1, self._rate)
            frame.pts = self._samples
            self._samples += frame.samples
            result += self._stamped(self._encoder.encode(frame))

    def _stamped(self, packets: list[Packet]) -> list[Packet]:
        """Move the encoder's times, which count from zero, to where the sound begins."""
        assert self._start is not None
        for packet in packets:
            pts = packet.pts or 0
            if self._run_in is None:
                self._run_in = -pts
            if self._coarse:
                # Matroska stores a time and the run-in, each rounded to a millisecond, and readers
                # subtract them: what they get is nearest to the truth if rounded together here.
                time = self._start + Fraction(pts + self._run_in, self._rate)
                run_in = Fraction(1000 * self._run_in, self._rate)
                packet.pts = round(1000 * time) - math.floor(run_in + Fraction(1, 2))
                packet.duration = round(Fraction(1000 * (packet.duration or 0), self._rate))
                packet.time_base = Fraction(1, 1000)
            else:
                packet.pts = pts + round(self._start * self._rate)
            packet.dts = packet.pts
        return packets
