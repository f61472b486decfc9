"""Converting a file from beginning to end: plan, render, join, check, publish.

The command line and Python programs come through here. Nothing is printed:
what there is to tell goes to :class:`Listener`, results are returned, and what
goes wrong is raised as a :class:`~vfi_cli.errors.VfiError`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vfi_cli.errors import InputError, ModelError, OutputError, TruncatedInputError, UsageError
from vfi_cli.execute.local import render_missing
from vfi_cli.existing import made_before
from vfi_cli.io.atomic import publish
from vfi_cli.io.containers import MUXERS, muxer_for
from vfi_cli.io.decode import Broken, SourceInfo, choose_hwaccel, probe
from vfi_cli.io.encode import EncoderOptions, choose_encoder
from vfi_cli.io.streams import plan_streams
from vfi_cli.io.trial import choose_tried_encoder
from vfi_cli.join import join, verify
from vfi_cli.models import load_model
from vfi_cli.models.base import ensemble_names
from vfi_cli.native import ops
from vfi_cli.plan import (
    Plan,
    RenderSettings,
    Timing,
    automatic_scale,
    input_fingerprint,
    make_plan,
    output_grid,
    output_rate,
)
from vfi_cli.render import Counts, SegmentResult
from vfi_cli.timeline import (
    OutputGrid,
    format_rate,
    format_time,
    least_gap,
    parse_factor,
    parse_rate,
)
from vfi_cli.wording import counted
from vfi_cli.work import WorkFolder, work_folder_of

if TYPE_CHECKING:
    from vfi_cli.models import Interpolator

#: Where the input's own container cannot be written, or cannot hold the result.
FALLBACK_SUFFIX = ".mkv"
#: A float stands for the nearest fraction whose denominator is no larger.
_FINEST = 1_000_000


@dataclass(frozen=True)
class ModelOptions:
    """Which model makes the new frames, and how it is run."""

    name: str = "default"
    architecture: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    scale: float | None = None  # None: by the picture's size
    #: True for the flipped view, or names out of models.base.ENSEMBLES, with commas or one by one
    tta: bool | str | Iterable[str] = False
    ensemble: bool = False
    tile: int | Literal["auto", "off"] = "auto"  # as plan.RenderSettings has it


@dataclass(frozen=True)
class ConvertOptions:
    """All that is asked of a conversion beside the files."""

    timing: Timing
    model: ModelOptions = field(default_factory=ModelOptions)
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    cuts: bool = True
    cuts_threshold: float | None = None
    dedupe: bool = False
    #: When the top and the bottom row were exposed, in frame intervals after the frame's time,
    #: −1 to 1; all rows are then brought to the time of the output frame.
    rolling_shutter: tuple[float | Fraction, float | Fraction] | None = None
    audio: Literal["copy", "drop", "stretch"] = "copy"
    hwaccel: Literal["none", "auto", "cuda"] = "none"  # as io.decode.choose_hwaccel has it
    overwrite: bool = False
    allow_truncated: bool = False


class Listener:
    """Told what happens; override what is of interest. Only ``planned`` may raise."""

    def planned(self, plan: Plan, output: Path) -> None:
        """The plan stands, nothing is rendered yet. A VfiError ends it here."""

    def progress(self, done: int) -> None:
        """``done`` output frames are finished, those of an earlier run included.

        One frame that is finished now is one call; what an earlier run left comes all at once.
        """

    def rendered(self) -> None:
        """All frames are made; joining and checking begin."""


@dataclass(frozen=True)
class ConvertResult:
    """What was made."""

    output: Path
    plan: Plan
    counts: Counts
    duration: Fraction  # seconds of output
    size: int  # bytes
    seconds: float  # that it took
    warnings: tuple[str, ...] = ()


def prepare(
    info: SourceInfo,
    output: str | os.PathLike[str] | None,
    options: ConvertOptions,
    interpolator: Callable[[], Interpolator],
    *,
    new_folder: bool = False,
) -> tuple[Plan, Path]:
    """Plan the conversion of a probed input; says what is wrong before any work is done.

    ``interpolator`` loads the model; it is asked last, because it takes the longest.
    ``new_folder``: ``output`` is a folder that will be made.
    """
    target = Path(output) if output is not None else Path(info.path).parent
    if new_folder or os.path.isdir(target):
        target /= default_name(info, options)
    check_output(Path(info.path), target, new_folder=new_folder)
    grid = output_grid(info, options.timing)
    begin, end = _span(grid, options.timing)
    streams = plan_streams(
        info,
        target.suffix,
        audio=options.audio,
        stretch=options.timing.stretch,
        begin=begin,
        end=end,
    )
    encoder = choose_tried_encoder(options.encoder, info, target.suffix, grid.fps)
    interval = 1 / info.nominal_rate
    model = interpolator()
    settings = render_settings(options, model, info.width, info.height, interval)
    hwaccel, refusal = choose_hwaccel(options.hwaccel, info, str(model.device))
    settings = replace(settings, hwaccel=hwaccel)
    assert settings.gap is not None  # files have a clock
    met = (refusal, _held(info, grid, settings.gap))
    info = replace(info, warnings=(*info.warnings, *(text for text in met if text is not None)))
    return make_plan(info, grid, settings, encoder, streams), target


def convert_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None,
    options: ConvertOptions,
    *,
    listener: Listener | None = None,
    interpolator: Callable[[], Interpolator] | None = None,
) -> ConvertResult:
    """Convert a video file and return what was made.

    ``output`` is a file, or a folder, or None for the input's own; a folder gets a file
    named after the input and the rate. ``interpolator`` loads the model (by default the one
    that the options name). An unfinished run of the same conversion is continued.
    Raises a VfiError: :class:`~vfi_cli.existing.OutputExistsError` where the output is there
    already, before any work; a TruncatedInputError is raised after the output was published
    with what could be decoded.
    """
    listener = listener or Listener()
    began = time.monotonic()
    info = probe(source)
    model = cache(interpolator or partial(open_model, options.model))
    plan, target = prepare(info, output, options, model)
    folder = work_folder_of(target)
    finished_before = made_before(plan, target, overwrite=options.overwrite)
    listener.planned(plan, target)
    met: list[str] = []  # while rendering, and worth telling
    with WorkFolder(folder, plan.fingerprint, plan.describe(), overwrite=options.overwrite) as work:
        results = render_missing(plan, work, model, listener.progress, met.append)
        _check_unchanged(plan, work)
        listener.rendered()
        counts = Counts()
        for result in results:
            counts.add(result.counts)
        if counts.frames == 0:
            raise InputError(no_picture(plan, results[-1].broken if results else None))
        warnings: tuple[str, ...] = ()
        if not finished_before:
            warnings = _finish(plan, work, target, results, options.overwrite)
        work.remove()
    cut_short = truncation(plan, results[-1].broken if results else None)
    if cut_short is not None:
        cut_short = (
            f"{cut_short}; converted up to there: {target}, {counted(counts.frames, 'frame')}"
        )
        warnings = (*warnings, cut_short)
    made = ConvertResult(
        output=target,
        plan=plan,
        counts=counts,
        duration=counts.frames / plan.grid.fps,
        size=target.stat().st_size,
        seconds=time.monotonic() - began,
        warnings=(*plan.info.warnings, *met, *warnings),
    )
    if cut_short is not None and not options.allow_truncated:
        raise TruncatedInputError(f"{cut_short} (--allow-truncated accepts it)", made)
    return made


def open_model(options: ModelOptions) -> Interpolator:
    """Load the model that the options name."""
    return load_model(
        options.name,
        architecture=options.architecture,
        device=options.device,
        dtype=options.dtype,
    )


def render_settings(
    options: ConvertOptions,
    interpolator: Interpolator,
    width: int,
    height: int,
    interval: Fraction | None = None,
) -> RenderSettings:
    """What decides how a new frame looks, with every "auto" resolved.

    ``interval``: seconds from frame to frame, of a source that has a clock.
    """
    scale = options.model.scale
    if scale is None:
        scale = automatic_scale(width, height)
    if isinstance(options.model.tile, int):
        interpolator.check_tile(options.model.tile, scale)
    return RenderSettings(
        model=interpolator.name,
        weights=interpolator.fingerprint,
        device=interpolator.device.type,
        dtype=str(interpolator.dtype).removeprefix("torch."),
        operators="native" if ops.available() else "reference",
        scale=scale,
        tta=ensemble_names(options.model.tta),
        ensemble=options.model.ensemble,
        tile=options.model.tile,
        cuts=options.cuts,
        cuts_threshold=options.cuts_threshold,
        dedupe=options.dedupe,
        gap=None if interval is None else least_gap(interval),
        rolling_shutter=_shutter(options, interpolator, interval),
    )


def _shutter(
    options: ConvertOptions, interpolator: Interpolator, interval: Fraction | None
) -> tuple[Fraction, Fraction] | None:
    """The rows' times in seconds. Raises UsageError, or ModelError for a model that cannot."""
    if options.rolling_shutter is None or interval is None:
        return None
    top, bottom = (Fraction(value) for value in options.rolling_shutter)
    if not (abs(top) <= 1 and abs(bottom) <= 1):
        raise UsageError("--rolling-shutter: the top and the bottom row's time go from -1 to 1")
    if not interpolator.timestep_map:
        raise ModelError(
            f"{interpolator.name} cannot make rows of different times, so it cannot correct a "
            "rolling shutter; choose another with --model, such as default"
        )
    return top * interval, bottom * interval


def default_name(info: SourceInfo, options: ConvertOptions) -> str:
    """``in.60fps.mp4``, in the input's container where it can hold the result."""
    path = Path(info.path)
    timing = options.timing
    what = f"{format_rate(output_rate(info.nominal_rate, timing))}fps"
    if timing.stretch != 1:
        what = f"slow{format_rate(timing.stretch)}x"
    suffix = path.suffix.lower() if path.suffix.lower() in MUXERS else FALLBACK_SUFFIX
    try:
        choose_encoder(options.encoder, info, suffix)
    except (UsageError, OutputError):
        suffix = FALLBACK_SUFFIX
    return f"{path.stem}.{what}{suffix}"


def check_output(source: Path, target: Path, *, new_folder: bool = False) -> None:
    """Refuse outputs that cannot be written, or that would destroy the input.

    ``new_folder``: the output's folder will be made where it is missing.
    """
    there = os.path.exists(target)
    if there and not (target.is_file() or target.is_dir()):
        raise OutputError(f"{target} is no regular file; a pipe is written with -o -")
    muxer_for(target.suffix)  # raises for a suffix that stands for no container
    folder = target.parent
    if new_folder and not os.path.exists(folder):
        folder = folder.parent
    if not os.path.isdir(folder):
        raise OutputError(f"the folder {folder} does not exist; make it, or choose another with -o")
    if os.path.isdir(target):
        raise OutputError(f"{target} is a folder")
    if there and os.path.exists(source) and os.path.samefile(source, target):
        raise OutputError(f"the output would replace the input {source}; choose another with -o")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder} cannot be written to; choose another with -o")


def _span(grid: OutputGrid, timing: Timing) -> tuple[Fraction | None, Fraction | None]:
    """The source times that other streams are cut to, where only a part is wanted."""
    assert grid.count is not None
    begin = grid.start if timing.start is not None else None
    return begin, grid.time(grid.count) if timing.end is not None else None


def _held(info: SourceInfo, grid: OutputGrid, least: Fraction) -> str | None:
    """That source frames are held over gaps of ``least`` seconds or more, where they are."""
    assert grid.count is not None
    gaps: list[tuple[Fraction, Fraction, int]] = []  # length, when it begins, output frames in it
    for number in info.timeline.gaps(least):
        left, right = (info.timeline.time(n) for n in (number, number + 1))
        last = min(grid.count, grid.first_at_or_after(right))
        frames = last - grid.first_at_or_after(left)
        if frames > 0:
            gaps.append((right - left, left - info.timeline.start, frames))
    if not gaps:
        return None
    length, begin, frames = max(gaps)
    others = f", the longest of {len(gaps)} gaps" if len(gaps) > 1 else ""
    return (
        f"{info.path}: after {format_time(begin)} no frame comes for {format_time(length)}"
        f"{others}; the frame before it is held over {counted(frames, 'output frame')}, which "
        "--start and --end can leave out"
    )


def _finish(
    plan: Plan, work: WorkFolder, target: Path, results: list[SegmentResult], overwrite: bool
) -> tuple[str, ...]:
    """Join the segments, read the result back, and give it its name."""
    temporary = work.temporary_output(target.suffix)
    # The last of a damaged input's may be empty.
    segments = [work.segment(n) for n, result in enumerate(results) if result.counts.frames]
    frames = sum(result.counts.frames for result in results)
    cut_short = frames < plan.frames
    joined = join(
        segments,
        temporary,
        info=plan.info,
        grid_fps=plan.grid.fps,
        start=plan.grid.start,
        frames=frames,
        stream_plan=plan.streams,
        color=plan.encoder.color,
        until=plan.grid.time(frames) if cut_short else None,
    )
    checked = verify(
        temporary,
        frames=frames,
        grid_fps=plan.grid.fps,
        start=plan.grid.start,
        stream_plan=plan.streams,
        report=joined,
    )
    _check_unchanged(plan, work)
    work.announce_publication()
    publish(temporary, target, overwrite)
    return (*joined.warnings, *checked.warnings)


def _check_unchanged(plan: Plan, work: WorkFolder) -> None:
    """Throw away what was made of two inputs, of which one took the other's place meanwhile."""
    if input_fingerprint(Path(plan.info.path)) != plan.input:
        work.remove()
        raise InputError(
            f"{plan.info.path}: was changed while it was converted, and nothing of it is kept; "
            "run the same command again when it is complete"
        )


def no_picture(plan: Plan, broken: Broken | None) -> str:
    """That not a single frame can be had."""
    why = f" ({broken.reason})" if broken else ""
    return f"{plan.info.path}: no picture could be decoded{why}"


def truncation(plan: Plan, broken: Broken | None) -> str | None:
    """How the input breaks off, if it does."""
    info = plan.info
    if broken is not None:
        at = format_time(broken.time - plan.timeline.start)
        return f"{info.path}: the picture cannot be decoded after {at} ({broken.reason})"
    if info.declared_end is not None and plan.clip_end >= plan.timeline.end:
        at = format_time(plan.timeline.duration)
        declared = format_time(info.declared_end)
        return f"{info.path}: the file ends at {at}, before the {declared} it announces"
    return None


def convert(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    fps: str | float | Fraction | None = None,
    factor: str | float | Fraction | None = None,
    start: float | Fraction | None = None,
    end: float | Fraction | None = None,
    listener: Listener | None = None,
    **options: Any,
) -> ConvertResult:
    """Convert a video to another frame rate; see ``vfi convert --help``.

    Exactly one of ``fps`` (frames a second; 23.976 and the like mean their NTSC fractions)
    and ``factor``. ``start`` and ``end`` are seconds after the first frame. ``options`` are
    the fields of :class:`ModelOptions` (with ``model`` for its name), ``EncoderOptions`` and
    :class:`ConvertOptions`. Returns what was made; raises a VfiError.
    """
    if (fps is None) == (factor is None):
        raise UsageError("say the output rate with either fps or factor")
    timing = Timing(
        fps=None if fps is None else parse_rate(str(fps)),
        factor=None if factor is None else parse_factor(str(factor)),
        start=_seconds(start),
        end=_seconds(end),
    )
    return convert_file(source, output, _options(timing, options), listener=listener)


def slowmo(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    factor: str | float | Fraction,
    fps: str | float | Fraction | None = None,
    audio: Literal["drop", "stretch"] = "drop",
    start: float | Fraction | None = None,
    end: float | Fraction | None = None,
    listener: Listener | None = None,
    **options: Any,
) -> ConvertResult:
    """Stretch a video's time by ``factor``; see ``vfi slowmo --help`` and :func:`convert`."""
    timing = Timing(
        fps=None if fps is None else parse_rate(str(fps)),
        stretch=parse_factor(str(factor)),
        start=_seconds(start),
        end=_seconds(end),
    )
    wanted = _options(timing, {**options, "audio": audio})
    return convert_file(source, output, wanted, listener=listener)


def _seconds(time: float | Fraction | None) -> Fraction | None:
    """A time ≥ 0 as it is meant: 0.2 is 1/5, and falls on the frame that stands there."""
    if time is None:
        return None
    if not 0 <= time < math.inf:
        raise UsageError(f"{time} is not a time: start and end are seconds from the first frame on")
    return Fraction(time).limit_denominator(_FINEST) if isinstance(time, float) else Fraction(time)


def _options(timing: Timing, given: dict[str, Any]) -> ConvertOptions:
    """Options by name, each put where it belongs. Raises UsageError for an unknown one."""
    model: dict[str, Any] = {}
    encoder: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for name, value in given.items():
        if name == "model":
            model["name"] = value
        elif name in ModelOptions.__dataclass_fields__ and name != "name":
            model[name] = value
        elif name in EncoderOptions.__dataclass_fields__:
            encoder[name] = value
        elif name in ConvertOptions.__dataclass_fields__ and name not in ("timing", "encoder"):
            rest[name] = value
        else:
            raise UsageError(f"there is no option {name!r}")
    return ConvertOptions(timing, ModelOptions(**model), EncoderOptions(**encoder), **rest)
