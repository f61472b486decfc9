"""Converting a stream in one pass: from a pipe, to a pipe, or both.

There is no plan here, because a pipe cannot be read twice: the source's timeline
is learnt as it comes, and its end when it is there. The frames are those that a
planned conversion makes.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from av.packet import Packet

from vfi_cli.api import ConvertOptions, Listener, check_output, open_model, render_settings
from vfi_cli.errors import InputError, OutputError, TruncatedInputError, UsageError
from vfi_cli.frame import Frame
from vfi_cli.io.atomic import publish
from vfi_cli.io.copier import StreamCopier
from vfi_cli.io.encode import EncoderConfig, VideoWriter, choose_encoder, to_picture
from vfi_cli.io.mux import OutputMux, PictureTraits
from vfi_cli.io.pipe import StreamReader, open_stream, read_through
from vfi_cli.io.prefetch import Outbox, Prefetch
from vfi_cli.io.streams import StreamPlan, plan_streams
from vfi_cli.io.trial import choose_tried_encoder
from vfi_cli.join import JoinReport, frame_clock, verify
from vfi_cli.models import Interpolator
from vfi_cli.plan import beyond_the_end, output_rate
from vfi_cli.render import QUEUE_FRAMES, Counts, Part, measured, pictures, synthesizer_for
from vfi_cli.timeline import OutputGrid, format_time
from vfi_cli.wording import counted
from vfi_cli.work import WorkFolder, work_folder_of

PipeFormat = Literal["auto", "nut", "y4m"]

#: What a work folder is known by while a stream becomes the file beside it.
_FINGERPRINT = "a stream"


@dataclass(frozen=True)
class PipeResult:
    """What went through."""

    counts: Counts
    duration: Fraction  # seconds of output
    seconds: float  # that it took
    warnings: tuple[str, ...]


class _Sink(Protocol):
    def write(self, frame: Frame) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class LearntTimeline:
    """Exact times of frames whose timeline is not known beforehand.

    Matroska rounds times to a millisecond. Where a frame's is within that rounding of a
    multiple of the announced rate, that multiple is meant.
    """

    def __init__(self, start: Fraction, rate: Fraction, tick: Fraction) -> None:
        self._start, self._rate, self._tick = start, rate, tick
        self.end = start  # when the last frame seen so far stops being shown

    def time_of(self, frame: Frame) -> Fraction:
        """Seconds at which the frame is shown; frames must come in order."""
        self.end = self._snap((frame.pts + frame.duration) * frame.time_base)
        return self._snap(frame.time)

    def _snap(self, seconds: Fraction) -> Fraction:
        exact = self._start + round((seconds - self._start) * self._rate) / self._rate
        return exact if abs(exact - seconds) <= self._tick else seconds


def convert_stream(
    source: BinaryIO | Path,
    target: BinaryIO | Path,
    options: ConvertOptions,
    *,
    pipe_format: PipeFormat = "auto",
    listener: Listener | None = None,
    on_start: Callable[[StreamReader, EncoderConfig, StreamPlan | None], None] = lambda *_: None,
    interpolator: Interpolator | None = None,
) -> PipeResult:
    """Convert in one pass; file objects are pipes, and are not closed.

    ``pipe_format`` "auto" answers YUV4MPEG2 with the same and all else with NUT, which carries
    sound and subtitles too. A file as target appears under its name when it is complete and was
    read back. Raises a VfiError; a TruncatedInputError once all that could be read is written.
    """
    began = time.monotonic()
    listener = listener or Listener()
    if isinstance(target, Path):
        check_output(source if isinstance(source, Path) else Path(os.devnull), target)
        if os.path.lexists(target) and not options.overwrite:
            raise OutputError(f"{target} exists already; add --overwrite to replace it")
    waiting: deque[Packet] = deque()
    with ExitStack() as stack:
        temporary = None
        if isinstance(target, Path):
            # It keeps others from the same output. There is nothing in it that a run could go on
            # from.
            work = WorkFolder(work_folder_of(target), _FINGERPRINT, {}, overwrite=options.overwrite)
            stack.enter_context(work)
            stack.callback(work.remove)
            temporary = work.temporary_output(target.suffix)
        reader = stack.enter_context(
            read_through(source, on_packet=waiting.append)
            if isinstance(source, Path)
            else open_stream(source, on_packet=waiting.append)
        )
        model = interpolator or open_model(options.model)
        run = _Run(reader, options, pipe_format, temporary)
        sink = run.open_sink(target, waiting)
        on_start(reader, run.encoder, run.streams)
        counts = run.render(sink, model, listener)
        if counts.frames == 0:
            raise InputError(f"{reader.info.path}: no picture could be decoded")
        warnings = run.finish(target, counts, options.overwrite)
        if reader.broken is not None:
            at = format_time(reader.broken.time - reader.info.start)
            text = f"the input breaks off after {at} ({reader.broken.reason})"
            if not options.allow_truncated:
                made = counted(counts.frames, "frame")
                raise TruncatedInputError(f"{text}; converted up to there, {made}")
            warnings += (text,)
        return PipeResult(counts, counts.frames / run.grid.fps, time.monotonic() - began, warnings)


class _Run:
    """One pass: its grid, its encoder, and what becomes of the other streams."""

    def __init__(
        self,
        reader: StreamReader,
        options: ConvertOptions,
        pipe_format: PipeFormat,
        temporary: Path | None,
    ) -> None:
        info, timing = reader.info, options.timing
        self._reader, self._options = reader, options
        self._y4m = pipe_format == "y4m" or (
            pipe_format == "auto" and info.container == "yuv4mpegpipe"
        )
        fps = output_rate(info.nominal_rate, timing)
        start = info.start + (timing.start or 0)
        self.grid = OutputGrid(start, fps * timing.stretch, fps, None)
        self._stop: int | None = None
        if timing.end is not None:
            if info.start + timing.end <= start:
                raise UsageError("--end must lie after --start")
            self._stop = self.grid.first_at_or_after(info.start + timing.end)
        self.encoder: EncoderConfig
        self.streams: StreamPlan | None = None
        self._copier: StreamCopier | None = None
        self._temporary = temporary  # what becomes the output file
        self._warnings: tuple[str, ...] = ()
        if options.hwaccel == "cuda":
            self._warnings = ("--hwaccel cuda: what comes or goes by a pipe is decoded by the CPU",)

    def open_sink(self, target: BinaryIO | Path, waiting: deque[Packet]) -> _Sink:
        info, options = self._reader.info, self._options
        if isinstance(target, Path):
            suffix = target.suffix
            self.encoder = choose_tried_encoder(options.encoder, info, suffix, self.grid.fps)
        else:
            suffix = ".nut"
            self.encoder = choose_encoder(options.encoder, info, ".y4m" if self._y4m else "-")
            if self._y4m:
                return VideoWriter(
                    target,
                    self.encoder,
                    fps=self.grid.fps,
                    width=info.width,
                    height=info.height,
                    sample_aspect_ratio=info.sample_aspect_ratio,
                    container="yuv4mpegpipe",
                )
        timing = options.timing
        self.streams = plan_streams(
            info,
            suffix,
            audio=options.audio,
            stretch=timing.stretch,
            begin=self.grid.start if timing.start is not None else None,
            end=None if self._stop is None else self.grid.time(self._stop),
            opened=self._reader.container,
        )
        # Covers come before the first picture, if they come in time for the output's header.
        early = {packet.stream_index: packet for packet in waiting}
        copier = StreamCopier(self._reader.container, self.streams, covers=early)
        self._copier = copier
        mux = OutputMux(self._temporary or target, self.streams.muxer, tags=self.streams.tags)
        return _Muxed(self, mux, copier, waiting)

    def render(self, sink: _Sink, model: Interpolator, listener: Listener) -> Counts:
        reader, info = self._reader, self._reader.info
        interval = 1 / info.nominal_rate
        settings = render_settings(self._options, model, info.width, info.height, interval)
        timeline = LearntTimeline(info.start, info.nominal_rate, info.time_base)
        synthesizer = synthesizer_for(settings, model)
        counts = Counts()
        try:
            frames = measured(reader, timeline.time_of, settings)
            with (
                Prefetch(frames, depth=QUEUE_FRAMES) as decoded,
                Outbox(sink.write, depth=QUEUE_FRAMES) as outbox,
            ):
                for frame in pictures(
                    decoded,
                    synthesizer,
                    settings,
                    self.grid,
                    Part(stop=self._stop),
                    end=lambda _: timeline.end,
                    counts=counts,
                ):
                    outbox.put(frame)
                    listener.progress(counts.frames)
            if counts.frames == 0 and info.start < timeline.end <= self.grid.start:
                raise beyond_the_end(info.path, timeline.end - info.start)
            listener.rendered()
            sink.close()
        except BaseException:
            sink.abort()
            raise
        self._warnings += tuple(synthesizer.warnings)
        return counts

    def finish(self, target: BinaryIO | Path, counts: Counts, overwrite: bool) -> tuple[str, ...]:
        """Check and publish an output file; returns what a person should hear of."""
        warnings = (*self._reader.warnings, *self._warnings)
        if self._copier is not None:
            warnings += tuple(self._copier.report.warnings)
        if isinstance(target, Path):
            assert self._temporary is not None
            assert self._copier is not None
            assert self.streams is not None
            checked = verify(
                self._temporary,
                frames=counts.frames,
                grid_fps=self.grid.fps,
                start=self.grid.start,
                stream_plan=self.streams,
                report=JoinReport(self._copier.report.sent, self._copier.report.chapters),
            )
            publish(self._temporary, target, overwrite)
            warnings += checked.warnings
        return warnings


class _Muxed:
    """Pictures encoded into a container, with the other streams' packets as they come."""

    def __init__(
        self, run: _Run, mux: OutputMux, copier: StreamCopier, waiting: deque[Packet]
    ) -> None:
        self._run, self._mux, self._copier, self._waiting = run, mux, copier, waiting
        self._number = 0
        streams = run.streams
        assert streams is not None
        info = run._reader.info
        self._tick, self._offset = frame_clock(
            run.grid.fps, streams.time_map.output(run.grid.start), streams.muxer
        )

        traits = PictureTraits(
            streams.video_tags,
            streams.video_disposition,
            info.sample_aspect_ratio,
            streams.display_matrix,
            info.hdr,
        )

        def add_picture() -> None:
            self._stream = mux.add_picture(
                run.encoder, traits, fps=run.grid.fps, width=info.width, height=info.height
            )

        try:
            copier.add_streams(mux, info.stream_index, add_picture)
        except BaseException:
            mux.abort()
            raise

    def write(self, frame: Frame) -> None:
        encoder = self._run.encoder
        self._copy()
        picture = to_picture(frame, encoder, encoder.color, self._number, self._run.grid.fps)
        self._number += 1
        self._encode(picture)

    def _encode(self, picture: object) -> None:
        fps = self._run.grid.fps
        for packet in self._stream.encode(picture):  # type: ignore[arg-type]
            ticks = 1 / fps / self._tick
            packet.pts = self._offset + round((packet.pts or 0) * ticks)
            packet.dts = self._offset + round((packet.dts or 0) * ticks)
            packet.duration = round(ticks)
            packet.time_base = self._tick
            self._mux.mux_video(packet)

    def _copy(self) -> None:
        while self._waiting:
            for key, packet in self._copier.feed(self._waiting.popleft()):
                self._mux.mux_other(key, packet)

    def close(self) -> None:
        self._copy()
        self._encode(None)
        for key, packet in self._copier.flush():
            self._mux.mux_other(key, packet)
        self._mux.close()

    def abort(self) -> None:
        self._mux.abort()
