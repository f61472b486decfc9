"""New images between images, told beforehand. Nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from vfi_cli import memory
from vfi_cli.cuts import signature
from vfi_cli.errors import OutputError
from vfi_cli.estimate import TIME_DOUBT, About, Spent, Watch, cores, mean
from vfi_cli.folders import WRITERS, ClipPlan, FolderOptions, fitted
from vfi_cli.frame import Frame, Window
from vfi_cli.io.images import encode_image, read_image
from vfi_cli.models import Interpolator
from vfi_cli.plan import RenderSettings
from vfi_cli.render import scene_stream, synthesizer_for
from vfi_cli.scenes import Decided
from vfi_cli.work import work_folder_of

#: New images that are made to measure: the first warms up, the others count.
SAMPLE = 3


@dataclass(frozen=True)
class ClipSurvey:
    """What was seen in a folder."""

    cuts: tuple[int, ...]  # numbers of the images that begin a new scene, from 0
    read: Spent  # on each image, with the look for cuts


@dataclass(frozen=True)
class ClipEstimate:
    """What is to be expected of a folder's work."""

    seconds: About
    output: About  # bytes
    memory: int | None  # bytes at most, where the system tells


def check_clip_output(plan: ClipPlan, options: FolderOptions) -> None:
    """Raise OutputError where there are files in the output that would be overwritten."""
    output = plan.output
    filled = output.is_dir() and any(output.iterdir())
    if filled and not options.overwrite and not work_folder_of(output).exists():
        raise OutputError(
            f"{output} is not empty; choose another folder with -o, or add --overwrite to "
            "replace what has the same name"
        )


def free_space(plan: ClipPlan) -> int:
    """Bytes that are free where the output will be."""
    folder = plan.output
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def survey_clip(
    plan: ClipPlan,
    options: FolderOptions,
    settings: RenderSettings,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ClipSurvey:
    """Read all images of a clip and find its cuts, as the work itself does."""
    scenes = scene_stream(settings)
    watch, total = Watch(), len(plan.clip.images)
    decided: list[Decided[Frame]] = []
    like: Frame | None = None
    for number, path in enumerate(plan.clip.images):
        frame = fitted(read_image(path, pts=number).frame, options)
        like = like or frame  # stands for all, which need not be kept
        sign = signature(frame) if scenes.needs_signatures else None
        decided += scenes.feed(like, sign, Fraction(number))
        on_image(number + 1, total)
    decided += scenes.flush()
    cuts = tuple(int(one.source_time) + 1 for one in decided if one.cut_after)
    return ClipSurvey(cuts, watch.spent() * (1 / max(1, total)))


def shown_at_cuts(plan: ClipPlan, survey: ClipSurvey) -> int:
    """How many of the new images show the nearer one, because a scene ends there."""
    before = {number - 1 for number in survey.cuts}
    return sum(placement.t != 0 and placement.left in before for placement in plan.placements)


def estimate_clip(
    plan: ClipPlan,
    options: FolderOptions,
    settings: RenderSettings,
    survey: ClipSurvey,
    interpolator: Interpolator,
) -> ClipEstimate:
    """Make and compress a few images in memory, and scale up what that takes."""
    memory.forget_peak()
    images = plan.clip.images
    first = max(0, len(images) // 2 - 1)
    pair = [read_image(path, pts=n) for n, path in enumerate(images[first : first + 2])]
    frames = tuple(fitted(image.frame, options) for image in pair)
    synthesizer = synthesizer_for(settings, interpolator)
    interpolator.forget()
    making, writing, sizes = [], [], []
    for number in range(1, SAMPLE + 1):
        watch = Watch()
        made = frames[0]
        if len(frames) == 2:
            made = synthesizer.between(Window(frames, Fraction(number, SAMPLE + 1)))
        making.append(watch.spent())
        watch = Watch()
        sizes.append(len(encode_image(made, pair[0].info, pair[0].likeness)))
        writing.append(watch.spent())
    new = plan.new - shown_at_cuts(plan, survey)
    read, make = survey.read * len(images), mean(making[1:]) * new
    write = mean(writing) * len(plan.placements)
    slowest = max(read.wall, make.wall, write.wall / WRITERS)
    seconds = max(slowest, (read + make + write).cpu / cores())
    copied = sum(images[p.left].stat().st_size for p in plan.placements if p.t == 0)
    return ClipEstimate(
        seconds=About.of([seconds], TIME_DOUBT),
        output=About.of(sizes, TIME_DOUBT) * plan.new + copied,
        memory=memory.resident("peak"),
    )
