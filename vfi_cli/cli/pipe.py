"""Pipes on the command line: ``-`` as input, as output, or as both."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from vfi_cli.api import ConvertOptions, Listener
from vfi_cli.cli import messages
from vfi_cli.cli.progress import Progress
from vfi_cli.cli.run import PIPE, describe_source
from vfi_cli.errors import UsageError
from vfi_cli.io.encode import EncoderConfig
from vfi_cli.io.pipe import StreamReader
from vfi_cli.io.streams import StreamPlan
from vfi_cli.pipe import convert_stream
from vfi_cli.plan import output_rate
from vfi_cli.timeline import format_rate, spoken
from vfi_cli.wording import counted, grouped


def run_pipe(
    inputs: Sequence[str], output: Path | None, options: ConvertOptions, params: Mapping[str, Any]
) -> int:
    """Convert one stream in one pass; returns the exit code."""
    if len(inputs) != 1:
        raise UsageError("a pipe goes alone: give one input")
    if params["dry_run"] or params["quick"] or params["json"]:
        raise UsageError("--dry-run and --json need files; a pipe is not known before it is read")
    if params["report"] is not None:
        raise UsageError("--report needs files; a pipe cannot be looked through once more")
    if output is None:
        raise UsageError("say where the pipe's result goes: -o FILE, or -o - for a pipe")
    source: BinaryIO | Path = _stdin() if inputs[0] == PIPE else Path(inputs[0])
    target: BinaryIO | Path = _stdout() if str(output) == PIPE else output
    quiet = params["quiet"]
    screen = messages.console(quiet=quiet)
    with Progress(None, None, screen, quiet) as progress:

        def on_start(
            reader: StreamReader, encoder: EncoderConfig, streams: StreamPlan | None
        ) -> None:
            fps = output_rate(reader.info.nominal_rate, options.timing)
            screen.print(f"{inputs[0]}  {describe_source(reader.info)}")
            screen.print(f"{output}  {format_rate(fps)} fps  {encoder.encoder} {encoder.pix_fmt}")
            others = len(reader.other_streams)
            if streams is None and others:
                left_out = counted(others, "other stream")
                screen.print(f"  YUV4MPEG2 holds the picture alone, without {left_out}")
            for note in (*encoder.notes, *(streams.lines() if streams else ())):
                screen.print(f"  {note}")

        class Counter(Listener):
            def progress(self, done: int) -> None:
                progress.update(done)

        result = convert_stream(
            source,
            target,
            options,
            pipe_format=params.get("pipe_format", "auto"),
            listener=Counter(),
            on_start=on_start,
        )
    for warning in result.warnings:
        messages.warn(warning, quiet=quiet)
    counts = result.counts
    screen.print(
        f"✓ {output}  {counted(counts.frames, 'frame')}, {grouped(counts.new)} new, "
        f"{messages.clock(result.duration)}  {spoken(result.seconds)}"
    )
    return 0


def _stdin() -> BinaryIO:
    if sys.stdin.isatty():
        raise UsageError("- reads a video from a pipe, but the terminal is there: ffmpeg … | vfi …")
    return sys.stdin.buffer


def _stdout() -> BinaryIO:
    if sys.stdout.isatty():
        raise UsageError(
            "-o - writes a video to a pipe, but the terminal is there: vfi … | ffplay -"
        )
    return sys.stdout.buffer
