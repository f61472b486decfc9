"""A video in which others are seen together: what is behind ``vfi compare -o OUT``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from vfi_cli.api import check_output
from vfi_cli.compare.arrange import AMPLIFICATION, Arrangement, Mode, arrangement
from vfi_cli.compare.inputs import (
    Input,
    Screen,
    common_grid,
    damage,
    length_notes,
    warnings_of,
)
from vfi_cli.compare.labels import Label, default_labels
from vfi_cli.compare.picture import Fitter, Planes, Target, notes_on, padded
from vfi_cli.errors import InputError, OutputError, UsageError
from vfi_cli.frame import Frame
from vfi_cli.io.atomic import publish
from vfi_cli.io.decode import SourceInfo
from vfi_cli.io.encode import EncoderConfig, EncoderOptions, VideoWriter
from vfi_cli.io.streams import StreamPlan, plan_streams
from vfi_cli.io.trial import choose_tried_encoder
from vfi_cli.join import join, verify
from vfi_cli.render import write
from vfi_cli.timeline import OutputGrid
from vfi_cli.work import WorkFolder, work_folder_of

#: Tells a comparison's work folder, which is begun anew each time, from those of conversions.
_FINGERPRINT = "comparison"


@dataclass(frozen=True)
class ComparisonOptions:
    """All that is asked of a comparison beside the files."""

    mode: Mode = "side"
    slow: Fraction = Fraction(1)  # shown so many times slower
    fps: Fraction | None = None  # times a second that are compared; None: the highest rate
    start: Fraction = Fraction(0)  # seconds after each input's first frame
    duration: Fraction | None = None  # seconds of the inputs
    labels: tuple[str, ...] | None = None  # None: the files' names; empty: none
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    overwrite: bool = False


@dataclass(frozen=True)
class ComparisonPlan:
    """What will be made."""

    inputs: tuple[Input, ...]
    output: Path
    grid: OutputGrid
    target: Target
    arrangement: Arrangement
    labels: tuple[str, ...]  # one for each input, or none
    mode: Mode
    info: SourceInfo  # the first input as if it were the whole picture
    encoder: EncoderConfig
    streams: StreamPlan
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        assert self.grid.count is not None
        return self.grid.count


@dataclass(frozen=True)
class ComparisonVideo:
    """What was made."""

    output: Path
    frames: int
    duration: Fraction  # seconds
    size: int  # bytes
    seconds: float  # that it took
    warnings: tuple[str, ...]
    truncated: str | None  # which input is damaged and where, if the comparison ends there


def plan_comparison(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    options: ComparisonOptions,
) -> ComparisonPlan:
    """Probe the inputs and choose the encoder. Raises a VfiError before any work is done."""
    target_path = Path(output)
    if len(paths) < 2:
        raise UsageError("a comparison takes two videos or more")
    for path in paths:
        check_output(Path(path), target_path)
    if os.path.lexists(target_path) and not options.overwrite:
        raise OutputError(f"{target_path} exists already; add --overwrite to replace it")
    labels = options.labels if options.labels is not None else default_labels(paths)
    if labels and len(labels) != len(paths):
        raise UsageError(f"--labels names {len(labels)} of {len(paths)} videos")
    inputs = tuple(Input.open(path) for path in paths)
    first = inputs[0].info
    target = Target.of(first)
    arranged = arrangement(options.mode, target, len(inputs))
    grid = common_grid(
        inputs,
        fps=options.fps,
        start=options.start,
        duration=options.duration,
        slow=options.slow,
    )
    whole = replace(
        first,
        width=arranged.width,
        height=arranged.height,
        layout=target.layout,
        color=target.color,
        sample_aspect_ratio=target.sample_aspect_ratio,
        rotation=0,
        display_matrix=None,
    )
    return ComparisonPlan(
        inputs=inputs,
        output=target_path,
        grid=grid,
        target=target,
        arrangement=arranged,
        labels=tuple(labels),
        mode=options.mode,
        info=whole,
        encoder=choose_tried_encoder(options.encoder, whole, target_path.suffix, grid.fps),
        streams=_sound(whole, inputs[0], grid, target_path.suffix),
        notes=(*notes_on([one.info for one in inputs]), *length_notes(inputs, grid)),
    )


def render_comparison(
    plan: ComparisonPlan,
    options: ComparisonOptions,
    on_frames: Callable[[int], None] = lambda done: None,
) -> ComparisonVideo:
    """Make the planned video. ``on_frames`` is told how many frames are done.

    The output appears under its name when it was read back; whatever goes wrong, an
    interrupt too, leaves nothing behind.
    """
    began = time.monotonic()
    output = plan.output
    description = {"inputs": [one.info.path for one in plan.inputs]}
    with WorkFolder(work_folder_of(output), _FINGERPRINT, description) as work:
        try:
            made = _Making(plan, on_frames)
            pictures = work.segment_part(0)
            made.encode(pictures)
            temporary = work.temporary_output(output.suffix)
            warnings = _finish(plan, pictures, temporary, made)
            publish(temporary, output, options.overwrite)
        finally:
            work.remove()
    return ComparisonVideo(
        output=output,
        frames=made.frames,
        duration=made.frames / plan.grid.fps,
        size=output.stat().st_size,
        seconds=time.monotonic() - began,
        warnings=(*warnings_of(plan.inputs), *warnings),
        truncated=made.truncated,
    )


class _Making:
    """The pictures of one comparison on their way."""

    def __init__(self, plan: ComparisonPlan, on_frames: Callable[[int], None]) -> None:
        self.frames = 0
        self.truncated: str | None = None
        self._plan = plan
        self._on_frames = on_frames

    def encode(self, path: Path) -> None:
        plan = self._plan
        writer = VideoWriter(
            path,
            plan.encoder,
            fps=plan.grid.fps,
            width=plan.arrangement.width,
            height=plan.arrangement.height,
            sample_aspect_ratio=plan.target.sample_aspect_ratio,
        )
        write(self._pictures(), writer, self._count)
        if not self.frames:
            raise InputError(self.truncated or f"{plan.info.path}: no picture could be decoded")

    def _count(self) -> None:
        self.frames += 1
        self._on_frames(self.frames)

    def _pictures(self) -> Iterator[Frame]:
        plan = self._plan
        target, arranged = plan.target, plan.arrangement
        caption = None
        if plan.labels and not arranged.places:
            first, second = plan.labels
            caption = Label(f"{second} - {first}  x{AMPLIFICATION}", target)
        with ExitStack() as stack:
            screens = [
                stack.enter_context(Screen(one, plan.grid.start, self._converter(number)))
                for number, one in enumerate(plan.inputs)
            ]
            for number in range(plan.frames):
                shown = [screen.at(plan.grid.time(number)) for screen in screens]
                self.truncated = damage(plan.inputs, screens, shown)
                if self.truncated:
                    return
                seen = [one.picture for one in shown if one is not None]
                planes = arranged.compose(seen, number / plan.grid.fps)
                if caption is not None:
                    caption.draw(planes)
                yield Frame(
                    planes,
                    arranged.width,
                    arranged.height,
                    target.layout,
                    target.color,
                    pts=number,
                    time_base=1 / plan.grid.fps,
                )

    def _converter(self, number: int) -> Callable[[Frame], Planes]:
        plan = self._plan
        fitter = Fitter(plan.inputs[number].info, plan.target)
        label = None
        if plan.labels and plan.arrangement.places:
            label = Label(plan.labels[number], plan.target, plan.arrangement.places[number])

        def convert(frame: Frame) -> Planes:
            planes = padded(fitter.planes(frame), plan.target)
            if label is not None:
                label.draw(planes)
            return planes

        return convert


def _sound(whole: SourceInfo, first: Input, grid: OutputGrid, suffix: str) -> StreamPlan:
    """What comes along: the first input's sound, unless it is slowed down."""
    assert grid.count is not None
    origin = first.timeline.start
    begin = origin + grid.start if grid.start else None
    end = origin + grid.time(grid.count)
    streams = plan_streams(
        whole,
        suffix,
        stretch=grid.stretch,
        begin=begin,
        end=end if end < first.timeline.end else None,
    )
    sounds = tuple(item for item in streams.items if item.kind == "audio")
    return replace(streams, items=sounds, chapters=0, timecode=None, notes=())


def _finish(
    plan: ComparisonPlan, pictures: Path, temporary: Path, made: _Making
) -> tuple[str, ...]:
    """Add the sound, and read the result back."""
    start = plan.inputs[0].timeline.start + plan.grid.start
    until = None
    if made.frames < plan.frames:
        until = plan.inputs[0].timeline.start + plan.grid.time(made.frames)
    report = join(
        [pictures],
        temporary,
        info=plan.info,
        grid_fps=plan.grid.fps,
        start=start,
        frames=made.frames,
        stream_plan=plan.streams,
        color=plan.encoder.color,
        until=until,
    )
    checked = verify(
        temporary,
        frames=made.frames,
        grid_fps=plan.grid.fps,
        start=start,
        stream_plan=plan.streams,
        report=report,
    )
    return (*report.warnings, *checked.warnings)
