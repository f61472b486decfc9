"""A conversion told beforehand: what it would do, meet and take. Nothing is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from vfi_cli.api import (
    ConvertOptions,
    Listener,
    no_picture,
    open_model,
    prepare,
    truncation,
)
from vfi_cli.errors import InputError
from vfi_cli.estimate import Estimate, estimate
from vfi_cli.existing import made_before
from vfi_cli.io.decode import probe
from vfi_cli.io.encode import check_encoder
from vfi_cli.plan import Plan
from vfi_cli.render import SegmentResult
from vfi_cli.survey import Survey, survey
from vfi_cli.wording import file_size
from vfi_cli.work import WorkFolder, is_unfinished, work_folder_of

if TYPE_CHECKING:
    from vfi_cli.models import Interpolator


class DryRunListener(Listener):
    """Told what happens; override what is of interest. Methods may not raise."""

    def looking(self, done: int, total: int) -> None:
        """``done`` of ``total`` source frames were looked at."""

    def measuring(self) -> None:
        """The sample is made now."""


@dataclass(frozen=True)
class DryRun:
    """What a conversion would do, meet and take."""

    plan: Plan
    output: Path
    finished: int  # output frames that an earlier run has made already
    free: int  # bytes on the disk of the output
    #: None where they were not asked for.
    survey: Survey | None = None
    estimate: Estimate | None = None
    warnings: tuple[str, ...] = ()


def dry_run(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str] | None,
    options: ConvertOptions,
    *,
    quick: bool = False,
    new_folder: bool = False,
    listener: DryRunListener | None = None,
    interpolator: Callable[[], Interpolator] | None = None,
) -> DryRun:
    """What :func:`vfi_cli.api.convert_file` would do with the same arguments; nothing is written.

    The source is decoded once to find cuts and repeats, and a sample is made in memory to tell
    what the rest takes; ``quick`` leaves both out. ``new_folder``: ``output`` is a folder
    that is not there yet. Raises what the conversion would raise before its work begins.
    """
    listener = listener or DryRunListener()
    info = probe(source)
    model = cache(interpolator or partial(open_model, options.model))
    plan, target = prepare(info, output, options, model, new_folder=new_folder)
    made_before(plan, target, overwrite=options.overwrite)
    folder = work_folder_of(target)
    finished = 0
    if is_unfinished(folder, plan.fingerprint, overwrite=options.overwrite):
        work = WorkFolder(folder, plan.fingerprint, {})
        there = (work.result(segment.number) for segment in plan.segments)
        finished = sum(SegmentResult.from_json(one).counts.frames for one in there if one)
    listener.planned(plan, target)
    parent = target.parent if target.parent.exists() else target.parent.parent
    run = DryRun(plan, target, finished, shutil.disk_usage(parent).free, warnings=info.warnings)
    if quick:
        check_encoder(plan.encoder, fps=plan.grid.fps, width=info.width, height=info.height)
        return replace(run, warnings=_foreseen(run))
    seen = survey(plan, listener.looking)
    if seen.counts.frames == 0:
        raise InputError(no_picture(plan, seen.broken))
    listener.measuring()
    expected = estimate(plan, seen, model(), finished=finished)
    run = replace(run, survey=seen, estimate=expected)
    return replace(run, warnings=_foreseen(run))


def _foreseen(run: DryRun) -> tuple[str, ...]:
    """What to be warned of before the work begins."""
    warnings = list(run.plan.info.warnings)
    cut_short = truncation(run.plan, run.survey.broken if run.survey else None)
    if cut_short is not None:
        warnings.append(f"{cut_short}; it would be converted up to there")
    if run.estimate is not None and run.estimate.work.value > run.free:
        needed, free = (file_size(round(size)) for size in (run.estimate.work.value, run.free))
        warnings.append(f"{run.output.parent}: about {needed} are needed, and {free} are free")
    return tuple(warnings)
