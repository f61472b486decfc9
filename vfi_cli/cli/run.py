"""Runs conversions for the command line: one file or many, with what a person reads meanwhile."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vfi_cli.api import (
    ConvertOptions,
    ConvertResult,
    Listener,
    ModelOptions,
    convert_file,
    open_model,
    prepare,
)
from vfi_cli.cli import messages
from vfi_cli.cli.options import scale_value
from vfi_cli.cli.progress import Progress
from vfi_cli.errors import BatchError, InputError, OutputError, UsageError, VfiError
from vfi_cli.io.decode import SourceInfo, probe
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.io.naming import natural_key
from vfi_cli.plan import Plan, Timing
from vfi_cli.timeline import format_rate

if TYPE_CHECKING:
    from vfi_cli.models import Interpolator

#: What a folder is searched for.
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "qt", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg"),
        *("vob", "wmv", "flv", "ogv", "3gp", "3g2", "mxf", "nut", "y4m", "gif", "apng"),
        *("h264", "264", "h265", "265", "hevc", "ivf", "dv"),
    )
)
PIPE = "-"


def conversion(params: Mapping[str, Any], timing: Timing, audio: str = "copy") -> ConvertOptions:
    """The options of the command line (by parameter name) as the library takes them."""
    return ConvertOptions(
        timing=timing,
        model=ModelOptions(
            name=params["model"],
            scale=scale_value(params["scale"]),
            **{
                name: params[name]
                for name in ("architecture", "device", "dtype", "tta", "ensemble")
            },
        ),
        encoder=EncoderOptions(
            **{name: params[name] for name in ("codec", "crf", "preset", "pix_fmt")}
        ),
        audio=audio,  # type: ignore[arg-type]
        **{
            name: params[name]
            for name in (
                *("cuts", "cuts_threshold", "dedupe", "rolling_shutter"),
                *("overwrite", "allow_truncated"),
            )
        },
    )


def run_all(
    inputs: Sequence[str], output: Path | None, options: ConvertOptions, params: Mapping[str, Any]
) -> int:
    """Convert every input, or say what would be done; returns the exit code."""
    quiet: bool = params["quiet"]
    if PIPE in inputs or (output is not None and str(output) == PIPE):
        from vfi_cli.cli.pipe import run_pipe

        return run_pipe(inputs, output, options, params)
    sources = expand(inputs)
    check_target(sources, inputs, output)
    screen = Screen(messages.console(quiet=quiet), quiet)
    batch = Batch(options, screen, dry_run=params["dry_run"], as_json=params["json"])
    for source in sources:
        batch.convert(source, output)
    return batch.close()


def expand(inputs: Sequence[str]) -> list[Path]:
    """Files as given, and for a folder the videos in it, in natural order."""
    sources: list[Path] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            inside = (p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
            videos = sorted(
                (p for p in inside if p.is_file() and not p.name.startswith(".")),
                key=lambda p: natural_key(p.name),
            )
            if not videos:
                raise InputError(f"there is no video in the folder {path}")
            sources += videos
        else:
            sources.append(path)
    return sources


def check_target(sources: Sequence[Path], inputs: Sequence[str], output: Path | None) -> None:
    """Several inputs need a folder after -o; it is made where its parent exists."""
    several = len(sources) > 1 or any(Path(text).is_dir() for text in inputs)
    if output is None or not several:
        return
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; several inputs need a folder after -o")
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {error.strerror}") from error


class Screen(Listener):
    """Shows one conversion after another: what goes in, what comes out, progress, the result."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console = console
        self._quiet = quiet
        self._progress: Progress | None = None

    def planned(self, plan: Plan, output: Path) -> None:
        left = max(len(Path(plan.info.path).name), len(output.name))
        self.console.print(f"{Path(plan.info.path).name:<{left}}  {describe_input(plan.info)}")
        self.console.print(f"{output.name:<{left}}  {describe_output(plan)}")
        for note in (*plan.encoder.notes, *plan.streams.lines()):
            self.console.print(f"  {note}")
        self._total, self._fps = plan.frames, plan.grid.fps

    def progress(self, done: int) -> None:
        if self._progress is None:
            # Frames of an earlier run arrive in the first call; they do not count for the speed.
            start = done if done > 1 else 0
            self._progress = Progress(
                self._total, self._fps, self.console, self._quiet, start=start
            )
        self._progress.update(done)

    def rendered(self) -> None:
        self.close()

    def finished(self, result: ConvertResult) -> None:
        for warning in result.warnings:
            messages.warn(warning, quiet=self._quiet)
        self.console.print(f"✓ {result.output.name}  {describe_result(result)}")

    def close(self) -> None:
        """End the progress line, whatever ended the work."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


class Batch:
    """Converts inputs one after the other; with several, a failure does not stop the rest."""

    def __init__(
        self, options: ConvertOptions, screen: Screen, *, dry_run: bool, as_json: bool
    ) -> None:
        self._options = options
        self._screen = screen
        self._dry_run = dry_run
        self._as_json = as_json
        self._model: Interpolator | None = None
        self._records: list[dict[str, Any]] = []
        self._failed: list[tuple[Path, VfiError]] = []

    def convert(self, source: Path, target: Path | None) -> None:
        """Convert one input, and remember how it went."""
        try:
            with self._interruptible():
                self._records.append(self._convert(source, target))
        except VfiError as error:
            self._screen.close()
            self._failed.append((source, error))
            self._records.append(
                {"input": str(source), "error": str(error), "exit_code": error.exit_code}
            )

    def _convert(self, source: Path, target: Path | None) -> dict[str, Any]:
        if self._dry_run:
            info = probe(source)
            plan, planned = prepare(info, target, self._options, self._interpolator)
            self._screen.planned(plan, planned)
            return {**plan.describe(), "output": str(planned), "streams": plan.streams.to_json()}
        result = convert_file(
            source,
            target,
            self._options,
            listener=self._screen,
            interpolator=self._interpolator,
        )
        self._screen.finished(result)
        return describe_json(result)

    def _interpolator(self) -> Interpolator:
        if self._model is None:
            self._model = open_model(self._options.model)
        return self._model

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self._screen.close()
            raise KeyboardInterrupt(
                "finished segments are kept. The same command goes on from there."
            ) from None

    def close(self) -> int:
        """Print the JSON, and raise what went wrong: for several inputs, a summary."""
        if self._as_json:
            several = len(self._records) != 1
            print(json.dumps(self._records if several else self._records[0], indent=1, default=str))
            sys.stdout.flush()
        if not self._failed:
            return 0
        if len(self._records) == 1:
            raise self._failed[0][1]
        for _, error in self._failed:
            messages.fail(str(error))
        names = ", ".join(source.name for source, _ in self._failed)
        raise BatchError(f"{len(self._failed)} of {len(self._records)} inputs failed: {names}")


def describe_input(info: SourceInfo) -> str:
    """``1920×1080  29.97 fps, variable  2:14.3  h264 8-bit bt709``."""
    rate = format_rate(info.nominal_rate) + " fps" + (", variable" if info.variable else "")
    return describe_source(info, rate, messages.clock(info.duration))


def describe_source(info: SourceInfo, *numbers: str) -> str:
    """Size, the given numbers, codec and colour of a picture."""
    matrix = {1: "bt709", 5: "bt601", 6: "bt601", 9: "bt2020", 10: "bt2020"}.get(info.color.matrix)
    parts = [
        f"{info.width}×{info.height}",
        *numbers,
        f"{info.codec} {info.layout.bits}-bit {matrix or ''}".strip(),
        "HDR" if info.hdr else "",
        "interlaced" if info.interlaced else "",
    ]
    return "  ".join(part for part in parts if part)


def describe_output(plan: Plan) -> str:
    """``60 fps  8 058 frames  default, float32 on cpu  h264 crf 18  aac, 2 subtitles``."""
    settings = plan.settings
    kinds = [item.kind for item in (*plan.streams.kept, *plan.streams.converted)]
    counted = [
        f"{kinds.count(kind)} {kind}" if kinds.count(kind) > 1 else kind
        for kind in dict.fromkeys(kinds)
    ]
    parts = [
        f"{format_rate(plan.grid.fps)} fps",
        f"{messages.number(plan.frames)} frames",
        f"model {settings.model}, {settings.dtype} on {settings.device}",
        f"{plan.encoder.encoder} {plan.encoder.pix_fmt}",
        " + ".join(counted),
    ]
    return "  ".join(part for part in parts if part)


def describe_result(result: ConvertResult) -> str:
    """``8 058 frames, 4 031 new, 2:14.3, read back and checked  3 cuts  54 s  112 MB``."""
    counts = result.counts
    parts = [
        f"{messages.number(counts.frames)} frames, {messages.number(counts.new)} new, "
        f"{messages.clock(result.duration)}, read back and checked",
        f"{counts.cuts} cut{'s' * (counts.cuts != 1)} respected" if counts.cuts else "",
        f"{counts.repeats} repeated frames replaced" if counts.repeats else "",
        messages.spoken(result.seconds),
        messages.size(result.size),
    ]
    return "  ".join(part for part in parts if part)


def describe_json(result: ConvertResult) -> dict[str, Any]:
    """What ``--json`` prints of a finished conversion."""
    return {
        **result.plan.describe(),
        "output": str(result.output),
        "frames": result.counts.frames,
        "new_frames": result.counts.new,
        "cuts": result.counts.cuts,
        "repeats": result.counts.repeats,
        "duration": float(result.duration),
        "bytes": result.size,
        "seconds": round(result.seconds, 3),
        "warnings": list(result.warnings),
    }
