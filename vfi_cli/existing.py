"""An output that is there already: whether it is what a plan would make."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

from vfi_cli.errors import InputError, OutputError
from vfi_cli.io.decode import probe
from vfi_cli.io.source import open_input
from vfi_cli.plan import Plan
from vfi_cli.timeline import format_time
from vfi_cli.wording import counted
from vfi_cli.work import is_finished, work_folder_of


class OutputExistsError(OutputError):
    """Something has the output's name already, and is not to be replaced."""

    def __init__(self, message: str, plan: Plan, output: Path) -> None:
        super().__init__(message)
        self.plan = plan
        self.output = output


def made_before(plan: Plan, output: Path, *, overwrite: bool) -> bool:
    """Whether an earlier run of this plan published its output, and was then interrupted.

    Raises OutputExistsError where something else stands in its place that is not to be overwritten.
    """
    try:
        return is_finished(output, plan.fingerprint, overwrite=overwrite)
    except OutputError as error:
        raise OutputExistsError(str(error), plan, output) from error


def difference(plan: Plan, output: Path, *, allow_truncated: bool = False) -> str | None:
    """In what a file differs from what the plan makes, in words; None where it is as complete.

    The picture's size, codec, depth, frames and length and the number of sound streams tell;
    the model and the quality it was made with do not show. ``allow_truncated``: it may be
    shorter, as what is made of an input that breaks off.
    """
    work = work_folder_of(output)
    if work.exists():
        return f"the unfinished run in {work.name} is to replace it"
    try:
        if os.path.getmtime(output) < os.path.getmtime(plan.info.path):
            return f"it is older than {plan.info.path}"
        there = probe(output)
        with open_input(output) as file:
            sounds = len(file.streams.audio)
    except (InputError, OSError):
        return "it cannot be read as a video"
    fps, frames = plan.grid.fps, plan.frames
    if allow_truncated:
        frames = min(frames, len(there.pts))
    length = frames / fps
    same_length = abs(there.duration - length) <= 1 / fps
    kept = (*plan.streams.kept, *plan.streams.converted)
    planned = _words(
        (plan.info.width, plan.info.height),
        plan.encoder.codec,
        plan.encoder.layout.bits,
        frames,
        length,
        sum(item.kind == "audio" for item in kept),
    )
    found = _words(
        (there.width, there.height),
        there.codec,
        there.layout.bits,
        len(there.pts),
        length if same_length else there.duration,
        sounds,
    )
    differing = [(one, other) for one, other in zip(found, planned, strict=True) if one != other]
    return f"it has {differing[0][0]}, not {differing[0][1]}" if differing else None


def _words(
    size: tuple[int, int], codec: str, bits: int, frames: int, length: Fraction, sounds: int
) -> tuple[str, ...]:
    return (
        f"{size[0]}×{size[1]} pixels",
        f"{codec} pictures",
        f"{bits} bits",
        counted(frames, "frame"),
        f"{format_time(length)} of time",
        counted(sounds, "sound stream"),
    )
