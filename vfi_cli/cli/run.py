"""Runs conversions for the command line: one file or many, with what a person reads meanwhile."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from vfi_cli import interrupts
from vfi_cli.api import ConvertOptions, ConvertResult, ModelOptions, convert_file, open_model
from vfi_cli.cli import messages, records
from vfi_cli.cli.options import scale_value
from vfi_cli.cli.progress import Progress
from vfi_cli.dry_run import DryRun, DryRunListener, dry_run
from vfi_cli.errors import (
    BatchError,
    InputError,
    OutputError,
    TruncatedInputError,
    UsageError,
    VfiError,
)
from vfi_cli.existing import OutputExistsError, difference
from vfi_cli.io.decode import SourceInfo
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.io.naming import VIDEO_SUFFIXES, natural_key
from vfi_cli.plan import Plan, Timing
from vfi_cli.timeline import format_rate, spoken
from vfi_cli.wording import counted, file_size, grouped, said

if TYPE_CHECKING:
    from vfi_cli.cli.report import Reports
    from vfi_cli.models import Interpolator

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
                for name in ("architecture", "device", "dtype", "tta", "ensemble", "tile")
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
                *("hwaccel", "overwrite", "allow_truncated"),
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
    sources = expand(inputs, lambda text: messages.warn(text, quiet=quiet))
    several = len(inputs) > 1 or os.path.isdir(inputs[0])
    dry = params["dry_run"] or params["quick"]
    if several and output is not None:
        check_folder(output, make=not dry)
    screen = Screen(messages.console(quiet=quiet), quiet)
    reports = None
    if params["report"] is not None and dry:
        messages.warn("a dry run writes no report; the conversion itself does", quiet=quiet)
    elif params["report"] is not None:
        from vfi_cli.cli.report import Reports

        reports = Reports.begin(
            params["report"], sources, screen.console, overwrite=options.overwrite, quiet=quiet
        )
    batch = Batch(options, screen, several=several, as_json=params["json"], reports=reports)
    for source in sources:
        if dry:
            batch.foretell(source, output, quick=params["quick"])
        else:
            batch.convert(source, output)
    return batch.close()


def expand(inputs: Sequence[str], warn: Callable[[str], None]) -> list[Path]:
    """Files as given, and for a folder the videos in it, in natural order.

    Of a folder's videos, those that bear the name of another one's conversion are left alone, and
    ``warn`` is told: an interrupted run, started again, finds them beside their sources.
    """
    sources: list[Path] = []
    for text in inputs:
        if not text:  # as a path, the folder we are in
            raise UsageError("an input has no name; is the variable empty that stands for it?")
        path = Path(text)
        if os.path.isdir(path):
            try:
                inside = [p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES]
            except OSError as error:
                raise InputError(f"{path}: cannot be read ({said(error)})") from error
            videos = sorted(
                (p for p in inside if os.path.isfile(p) and not p.name.startswith(".")),
                key=lambda p: natural_key(p.name),
            )
            if not videos:
                raise InputError(f"there is no video in the folder {path}")
            stems = {video.stem for video in videos}
            made = [video for video in videos if _made_of(video.stem) in stems]
            sources += [video for video in videos if video not in made]
            if made:
                names = f"{made[0].name}{', …' if len(made) > 1 else ''}"
                warn(
                    f"{path}: {counted(len(made), 'video')} left alone, by the name a conversion "
                    f"of another one there ({names}); name a file itself to convert it"
                )
        else:
            sources.append(path)
    return sources


def _made_of(stem: str) -> str | None:
    """``holiday`` for ``holiday.60fps`` and ``holiday.slow4x``; None for names of other kinds."""
    found = re.fullmatch(r"(.+)\.(?:\d+(?:\.\d+)?fps|slow\d+(?:\.\d+)?x)", stem)
    return found[1] if found else None


def check_folder(output: Path, *, make: bool) -> None:
    """Several inputs need a folder after -o; it is made where its parent exists."""
    if os.path.lexists(output) and not os.path.isdir(output):
        raise UsageError(f"{output} is a file; several inputs need a folder after -o")
    if not make:
        return
    try:
        output.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {error.strerror}") from error


class Screen(DryRunListener):
    """Shows one conversion after another: what goes in, what comes out, progress, the result."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console = console
        self._quiet = quiet
        self._progress: Progress | None = None
        self._total: int | None = None  # frames of the conversion under way
        self._fps: Fraction | None = None
        self._done = 0
        self._sources: dict[Path, str] = {}  # of each output

    def claim(self, plan: Plan, output: Path) -> None:
        """Raise OutputError where another input has given this output already."""
        other = self._sources.setdefault(output, plan.info.path)
        if other != plan.info.path:
            raise OutputError(
                f"{plan.info.path} would replace what was made of {other}, {output}; "
                "convert it alone, with another name after -o"
            )

    def planned(self, plan: Plan, output: Path) -> None:
        self.claim(plan, output)
        names = [messages.one_line(name) for name in (Path(plan.info.path).name, output.name)]
        left = max(map(len, names))
        self.console.print(f"{names[0]:<{left}}  {describe_input(plan.info)}")
        self.console.print(f"{names[1]:<{left}}  {describe_output(plan)}")
        for note in (*plan.encoder.notes, *plan.streams.lines()):
            self.console.print(f"  {note}")
        for warning in plan.info.warnings:
            messages.warn(warning, quiet=self._quiet)
        self._total, self._fps = plan.frames, plan.grid.fps

    def looking(self, done: int, total: int) -> None:
        if self._progress is None:
            self._progress = Progress(
                total, None, self.console, self._quiet, label="looking for cuts", passing=True
            )
        self._progress.update(done)

    def measuring(self) -> None:
        self.close()
        self._progress = Progress(
            None, None, self.console, self._quiet, label="measuring a sample", passing=True
        )

    def foretold(self, run: DryRun) -> None:
        """Show what a dry run found out."""
        self.close()
        for line in describe_dry_run(run):
            self.console.print(f"  {line}")
        for warning in _without(run.warnings, run.plan.info.warnings):
            messages.warn(warning, quiet=self._quiet)

    def progress(self, done: int) -> None:
        if self._progress is None:
            self._progress = Progress(self._total, self._fps, self.console, self._quiet)
            self._done = 0
        if done > self._done + 1:  # what an earlier run left comes all at once
            self._progress.skip(done)
        else:
            self._progress.update(done)
        self._done = done

    def rendered(self) -> None:
        self.close()
        interrupts.check()

    def finished(self, result: ConvertResult) -> None:
        for warning in _without(result.warnings, result.plan.info.warnings):
            messages.warn(warning, quiet=self._quiet)
        name = messages.one_line(result.output.name)
        self.console.print(f"✓ {name}  {describe_result(result)}")

    def close(self) -> None:
        """End the progress line, whatever ended the work."""
        if self._progress is not None:
            self._progress.close()
            self._progress = None


class Batch:
    """Converts inputs one after the other; with several, a failure does not stop the rest."""

    def __init__(
        self,
        options: ConvertOptions,
        screen: Screen,
        *,
        several: bool,
        as_json: bool,
        reports: Reports | None = None,
    ) -> None:
        self._options = options
        self._screen = screen
        self._several = several
        self._as_json = as_json
        self._reports = reports
        self._model: Interpolator | None = None
        self._records: list[dict[str, Any]] = []
        self._left = 0  # outputs that were there already
        self._failed: list[tuple[Path, VfiError]] = []

    def convert(self, source: Path, target: Path | None) -> None:
        """Convert one input, and remember how it went."""
        with self._noted(source, "finished segments are kept. The same command goes on from there"):
            reports = self._reports
            try:
                result = convert_file(
                    source,
                    target,
                    self._options,
                    listener=self._screen if reports is None else reports.listener(self._screen),
                    interpolator=self._interpolator,
                )
            except TruncatedInputError as error:
                if reports is not None and isinstance(error.result, ConvertResult):
                    reports.write(error.result, self._interpolator)
                raise
            self._screen.finished(result)
            record = records.of_result(result)
            if reports is not None:
                record["report"] = str(reports.write(result, self._interpolator))
            self._records.append(record)

    def foretell(self, source: Path, target: Path | None, *, quick: bool) -> None:
        """Say what converting one input would do."""
        with self._noted(source, "nothing was written; --quick leaves out what takes long"):
            run = dry_run(
                source,
                target,
                self._options,
                quick=quick,
                new_folder=self._several and target is not None,
                listener=self._screen,
                interpolator=self._interpolator,
            )
            self._screen.foretold(run)
            self._records.append(records.of_dry_run(run))

    def _interpolator(self) -> Interpolator:
        if self._model is None:
            self._model = open_model(self._options.model)
        return self._model

    @contextmanager
    def _noted(self, source: Path, when_interrupted: str) -> Iterator[None]:
        try:
            with self._leaving_finished():
                yield
        except VfiError as error:
            if interrupts.met():
                raise KeyboardInterrupt(f"{when_interrupted}.") from error
            self._failed.append((source, error))
            self._records.append(records.of_error(source, error))
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt(str(interrupt) or f"{when_interrupted}.") from None
        finally:
            self._screen.close()

    @contextmanager
    def _leaving_finished(self) -> Iterator[None]:
        """Of several outputs leave those as they are that were there already, and complete."""
        try:
            yield
        except OutputExistsError as error:
            if not self._several:
                raise
            plan, output = error.plan, error.output
            self._screen.claim(plan, output)
            truncated = self._options.allow_truncated
            wrong = difference(plan, output, allow_truncated=truncated)
            if wrong is not None:
                raise OutputError(
                    f"{output} exists already, and is not what would be made of {plan.info.path}: "
                    f"{wrong}; add --overwrite to replace it"
                ) from error
            self._screen.console.print(f"{messages.one_line(output.name)}  is there already")
            self._left += 1
            self._records.append(records.of_existing(plan, output))

    def close(self) -> int:
        """Print the JSON, and raise what went wrong: for several inputs, a summary."""
        if self._as_json:
            several = self._several
            messages.print_json(records.of_batch(self._records) if several else self._records[0])
        if self._left:
            were = "output was there already and stays as it is"
            if self._left > 1:
                were = "outputs were there already and stay as they are"
            self._screen.console.print(f"{grouped(self._left)} {were}; --overwrite converts again")
        if not self._failed:
            return 0
        if not self._several:
            raise self._failed[0][1]
        for _, error in self._failed:
            messages.fail(str(error))
        names = ", ".join(source.name for source, _ in self._failed)
        raise BatchError(
            f"{len(self._failed)} of {counted(len(self._records), 'input')} failed: {names}"
        )


def _without(warnings: Sequence[str], told: Sequence[str]) -> list[str]:
    """The warnings that were not told when the conversion was planned."""
    return [warning for warning in warnings if warning not in told]


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
    named = [
        f"{kinds.count(kind)} {kind}" if kinds.count(kind) > 1 else kind
        for kind in dict.fromkeys(kinds)
    ]
    parts = [
        f"{format_rate(plan.grid.fps)} fps",
        counted(plan.frames, "frame"),
        f"model {settings.model}, {settings.dtype} on {settings.device}",
        f"{plan.encoder.encoder} {plan.encoder.pix_fmt}",
        " + ".join(named),
    ]
    return "  ".join(part for part in parts if part)


def describe_result(result: ConvertResult) -> str:
    """``8 058 frames, 4 031 new, 2:14.3, read back and checked  3 cuts  54 s  112 MB``."""
    counts = result.counts
    parts = [
        f"{counted(counts.frames, 'frame')}, {grouped(counts.new)} new, "
        f"{messages.clock(result.duration)}, read back and checked",
        f"{counted(counts.cuts, 'cut')} respected" if counts.cuts else "",
        f"{counted(counts.repeats, 'repeated frame')} replaced" if counts.repeats else "",
        spoken(result.seconds),
        file_size(result.size),
    ]
    return "  ".join(part for part in parts if part)


def describe_dry_run(run: DryRun) -> list[str]:
    """What a dry run found out, one topic a line."""
    plan, seen, expected = run.plan, run.survey, run.estimate
    topics = {"segments": f"{grouped(len(plan.segments))}, each kept when it is finished"}
    if run.finished:
        topics["segments"] += f"; {counted(run.finished, 'frame')} made already"
    kept = [item.label for item in (*plan.streams.kept, *plan.streams.converted)]
    topics["kept"] = ", ".join(kept)
    if seen is not None:
        counts = seen.counts
        copied = counts.frames - counts.new
        topics["frames"] = (
            f"{grouped(counts.new)} new, {grouped(copied)} shown as they are in the source"
        )
        topics["cuts"] = _count_at(seen.cuts, plan) if plan.settings.cuts else "not looked for"
        topics["repeats"] = _count_at(seen.repeats, plan)
        if seen.repeats and not plan.settings.dedupe:
            topics["repeats"] += "; --dedupe makes them motion"
        left = max(0, counts.frames - run.finished)
    if expected is not None:
        fps = left / max(expected.seconds.value, 1e-9)
        topics["time"] = (
            f"{messages.between(expected.seconds, spoken)}, {messages.rate(fps)} fps, "
            f"{messages.rate(fps / plan.grid.fps)}× real time"
        )
        held = [expected.memory and file_size(expected.memory)]
        on_device = expected.device_memory
        held.append(on_device and f"{file_size(on_device)} on {plan.settings.device}")
        topics["memory"] = ", ".join(part for part in held if part)
        if expected.fit is not None:
            topics["memory"] += f", for {expected.fit}"
        topics["output"] = messages.between(expected.output, file_size)
        topics["disk"] = (
            f"about {file_size(round(expected.work.value))} while it runs; "
            f"{file_size(run.free)} are free"
        )
    order = ("frames", "cuts", "repeats", "kept", "segments", "time", "memory", "output", "disk")
    return [f"{topic:<9} {topics[topic]}" for topic in order if topics.get(topic)]


#: Times that are named one by one.
_NAMED = 6


def _count_at(times: Sequence[Fraction], plan: Plan) -> str:
    """``3, at 0:01.2, 0:05.0, 0:07.4``, in times since the source's first frame."""
    if not times:
        return "none"
    start = plan.timeline.start
    named = ", ".join(messages.clock(time - start) for time in times[:_NAMED])
    more = ", …" if len(times) > _NAMED else ""
    return f"{grouped(len(times))}, at {named}{more}"
