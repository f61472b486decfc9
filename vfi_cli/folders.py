"""New images between the images of a folder: what is behind ``vfi frames``.

A clip is a folder of images. Its new images are made in a work folder beside the
output and the output folder appears only when it is complete; a run that was
interrupted finds the images that are done by the same command. Nothing is
printed here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vfi_cli.api import ConvertOptions, ModelOptions, open_model, render_settings
from vfi_cli.cuts import Signature, signature
from vfi_cli.errors import BatchError, InputError, OutputError, UsageError, VfiError
from vfi_cli.execute.local import keep_fit
from vfi_cli.follow import Follower, check_model, check_same_names
from vfi_cli.frame import Frame, PlaneLayout, Samples
from vfi_cli.io.atomic import fsync_dir, fsync_file
from vfi_cli.io.images import Image, ImageInfo, image_frame, probe_image, read_image, write_image
from vfi_cli.io.naming import Clip, Naming, Placement, find_clips, place
from vfi_cli.io.prefetch import Outbox, Prefetch
from vfi_cli.plan import RenderSettings, Timing
from vfi_cli.render import QUEUE_FRAMES, Counts, Part, pictures, scene_stream, synthesizer_for
from vfi_cli.synthesis import Synthesizer
from vfi_cli.timeline import OutputGrid
from vfi_cli.work import WorkFolder, was_published, work_folder_of, writing

if TYPE_CHECKING:
    from vfi_cli.models import Interpolator

#: Bump when the same folder and options would give other images than before.
FOLDER_VERSION = 2
#: Ending of the marks in the work folder for images that show the nearer one at a cut.
_CUT = ".cut"
#: Threads that compress images.
WRITERS = max(1, min(4, (os.cpu_count() or 1) // 2))


@dataclass(frozen=True)
class FolderOptions:
    """All that is asked beside the folders."""

    inter: int = 1  # new images between each two
    naming: Naming = "auto"
    keep_inputs: bool = False
    crop: tuple[int, int] | None = None  # (width, height) in pixels, from the centre
    resize: tuple[int, int] | None = None  # (width, height) in pixels, after cropping
    model: ModelOptions = field(default_factory=ModelOptions)
    cuts: bool = True
    cuts_threshold: float | None = None
    overwrite: bool = False
    #: Another folder with images of the same names and sizes, such as depth maps, that are moved
    #: as the images of the first one move; and the folder to make of it (None: DIR2.xN).
    follow: Path | None = None
    follow_output: Path | None = None


@dataclass(frozen=True)
class ClipPlan:
    """What will be made of one folder."""

    clip: Clip
    info: ImageInfo  # of the first image, and so of all
    output: Path
    naming: Naming
    inter: int
    placements: tuple[Placement, ...]  # in display order
    width: int  # pixels, of the output
    height: int
    notes: tuple[str, ...] = ()
    guide: ClipPlan | None = None  # whose motion this clip follows

    @property
    def new(self) -> int:
        """How many images will be new."""
        return sum(placement.t != 0 for placement in self.placements)

    @property
    def changes_pixels(self) -> bool:
        """Whether the images of the input are cropped or resized."""
        return (self.width, self.height) != (self.info.width, self.info.height)


@dataclass(frozen=True)
class ClipResult:
    """What was made of one folder."""

    output: Path
    images: int  # in the output folder
    new: int  # of them, made by the model now
    copied: int  # of them, the input's own: kept inputs, and the nearer image at a cut
    cuts: int
    seconds: float


#: Said of a clip of several that is left as it is.
DONE = "all of its images are there already; --overwrite makes them anew"


class FolderListener:
    """Told what happens; override what is of interest. Methods may not raise."""

    def planned(self, plan: ClipPlan) -> None:
        """A clip's work begins."""

    def progress(self, done: int, total: int) -> None:
        """So many images of the clip are finished, those of an earlier run included.

        Told in the threads that write them, one at a time.
        """

    def warned(self, text: str) -> None:
        """Something that a person should hear of, while a clip is made."""

    def finished(self, plan: ClipPlan, result: ClipResult) -> None:
        """A clip's output stands."""

    def failed(self, clip: Clip, error: VfiError) -> None:
        """A clip of several could not be done; the others go on."""


def interpolate_frames(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    options: FolderOptions | None = None,
    *,
    interpolator: Interpolator | None = None,
    listener: FolderListener | None = None,
) -> list[ClipResult]:
    """Make new images between the images of a folder, or of each folder below it.

    ``output`` is the folder to make, by default ``DIR.xN`` beside the input; with
    several clips it gets a folder for each. Of clips that follow others the results come
    after theirs. Raises the VfiError of a single clip;
    of several, those that are there already are left as they are unless ``overwrite`` is asked,
    each other is tried, and a BatchError at the end names those that failed.
    """
    options = options or FolderOptions()
    listener = listener or FolderListener()
    plans, failed = plan_folder(folder, output, options)
    clips = {plan.clip.name for plan in plans} | {clip.name for clip, _ in failed}
    alone = len(clips) == 1
    for clip, error in failed:
        if alone:
            raise error
        listener.failed(clip, error)
    results: list[ClipResult] = []
    if plans and options.follow is not None:
        interpolator = interpolator or open_model(options.model)
        check_model(interpolator)
    finished: set[Path] = set()
    for plan in plans:
        if not alone and not options.overwrite and is_done(plan):
            listener.planned(replace(plan, notes=(*plan.notes, DONE)))
            count = len(plan.placements)
            results.append(ClipResult(plan.output, count, new=0, copied=0, cuts=0, seconds=0))
            continue
        try:
            interpolator = interpolator or open_model(options.model)
            listener.planned(plan)
            result = render_clip(plan, options, interpolator, listener)
            listener.finished(plan, result)
            results.append(result)
            finished.add(plan.output)
            if plan.guide is not None and plan.guide.output in finished:
                shutil.rmtree(work_folder_of(plan.guide.output), ignore_errors=True)
        except VfiError as error:
            if alone:
                raise
            failed.append((plan.clip, error))
            listener.failed(plan.clip, error)
    if failed:
        names = ", ".join(dict.fromkeys(clip.name for clip, _ in failed))
        count = len({clip.name for clip, _ in failed})
        raise BatchError(f"{count} of {len(clips)} folders failed: {names}")
    return results


def plan_folder(
    folder: str | os.PathLike[str], output: str | os.PathLike[str] | None, options: FolderOptions
) -> tuple[list[ClipPlan], list[tuple[Clip, VfiError]]]:
    """What will be made of the clips in a folder, and which of them cannot be done and why.

    A clip that follows another comes after it. Raises InputError where there are no clips,
    OutputError where the output cannot be made.
    """
    clips = find_clips(folder)
    top = output_folder(Path(folder), output, options)
    check_folders(Path(folder), top)
    followers: dict[str, Clip] = {}
    if options.follow is not None:
        followers = {clip.name: clip for clip in find_clips(options.follow)}
        second = output_folder(options.follow, options.follow_output, options)
        for source, target in (
            (options.follow, second),
            (Path(folder), second),
            (options.follow, top),
        ):
            check_folders(source, target)
        if second.resolve() == top.resolve():
            raise OutputError(f"{second} is the output of both folders; choose another for one")
    plans: list[ClipPlan] = []
    failed: list[tuple[Clip, VfiError]] = []
    for clip in clips:
        try:
            plan = plan_clip(clip, top / clip.name, options)
            if options.follow is not None:
                other = followers.get(clip.name)
                if other is None:
                    raise InputError(
                        f"{options.follow / clip.name}: holds no images that could follow those "
                        f"of {clip.folder}"
                    )
                plans += [plan, _plan_follower(plan, other, second / clip.name, options)]
            else:
                plans.append(plan)
        except VfiError as error:
            failed.append((clip, error))
    return plans, failed


def output_folder(
    folder: Path, output: str | os.PathLike[str] | None, options: FolderOptions
) -> Path:
    """Where the result goes: as said, or ``DIR.x4`` beside the input."""
    if output is not None:
        return Path(output)
    source = folder.resolve()
    return source.with_name(f"{source.name}.x{options.inter + 1}")


def check_folders(folder: Path, output: Path) -> None:
    """Refuse an output that is the input or lies inside of it, or that cannot be made."""
    source, target = folder.resolve(), output.resolve()
    if target == source or source in target.parents:
        raise OutputError(
            f"{output}: the output must lie outside of the folder that is read; "
            "choose another with -o"
        )
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file; name a folder to make with -o")
    if not target.parent.is_dir():
        raise OutputError(
            f"the folder {output.parent} does not exist; make it, or choose another with -o"
        )
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"the folder {output.parent} cannot be written to; choose another")


def plan_clip(clip: Clip, output: Path, options: FolderOptions) -> ClipPlan:
    """Decide what will be made of a clip, from its files' names and headers alone.

    Raises InputError where images differ in size or kind, or their numbers do not
    fit, and UsageError for a crop larger than the images.
    """
    naming, placements = place(
        clip.images, options.inter, options.naming, keep_inputs=options.keep_inputs
    )
    first = probe_image(clip.images[0])
    for path in clip.images[1:]:
        info = probe_image(path)
        if info.shape != first.shape:
            raise InputError(
                f"{first.path} and {info.path.name} differ: {first.describe()} and "
                f"{info.describe()}; the images of a clip must be alike"
            )
    width, height = options.crop or (first.width, first.height)
    if width > first.width or height > first.height:
        raise UsageError(
            f"--crop {width}x{height} is larger than the images ({first.width}×{first.height})"
        )
    width, height = options.resize or (width, height)
    plan = ClipPlan(clip, first, output, naming, options.inter, tuple(placements), width, height)
    if plan.changes_pixels and plan.new < len(placements):
        note = "the input's images are written again, since they are cropped or resized"
        plan = replace(plan, notes=(note,))
    return plan


def _plan_follower(guide: ClipPlan, clip: Clip, output: Path, options: FolderOptions) -> ClipPlan:
    check_same_names(guide.clip, clip)
    plan = plan_clip(clip, output, replace(options, naming=guide.naming))
    if (plan.info.width, plan.info.height) != (guide.info.width, guide.info.height):
        raise InputError(
            f"{plan.info.path} and {guide.info.path} differ in size: {plan.info.describe()} and "
            f"{guide.info.describe()}"
        )
    note = f"moved as the images of {guide.clip.folder.name}/ move"
    return replace(plan, guide=guide, notes=(*plan.notes, note))


def is_done(plan: ClipPlan) -> bool:
    """Whether the output holds just the images that are planned, and nothing is under way."""
    if work_folder_of(plan.output).exists() or not plan.output.is_dir():
        return False
    there = {entry.name for entry in plan.output.iterdir() if not entry.name.startswith(".")}
    return there == {placement.name for placement in plan.placements}


def render_clip(
    plan: ClipPlan,
    options: FolderOptions,
    interpolator: Interpolator,
    listener: FolderListener | None = None,
) -> ClipResult:
    """Make the images of one clip and put them in place. Continues an unfinished run of it."""
    began = time.monotonic()
    listener = listener or FolderListener()
    settings = clip_settings(plan, options, interpolator)
    fingerprint = _fingerprint(plan, options, settings)
    interpolator.forget()
    output, folder = plan.output, work_folder_of(plan.output)
    published = was_published(folder, fingerprint) if folder.exists() else False
    if not published:
        _check_empty(output, options)
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    description = {"input": str(plan.clip.folder), "settings": asdict(settings)}
    with WorkFolder(folder, fingerprint, description, overwrite=options.overwrite) as work:
        making = _Making(plan, options, settings, work, listener)
        if not published:
            making.render(interpolator)
        cuts, shown = making.publish(begun=published)
        # Until what follows is made too, it is kept in mind that this is done.
        if options.follow is None or plan.guide is not None:
            work.remove()
    new = plan.new - shown
    return ClipResult(
        output=output,
        images=len(plan.placements),
        new=new,
        copied=len(plan.placements) - new,
        cuts=cuts,
        seconds=time.monotonic() - began,
    )


def clip_settings(
    plan: ClipPlan, options: FolderOptions, interpolator: Interpolator
) -> RenderSettings:
    """What decides how the clip's new images look."""
    conversion = ConvertOptions(
        timing=Timing(),
        model=options.model,
        cuts=options.cuts,
        cuts_threshold=options.cuts_threshold,
    )
    return render_settings(conversion, interpolator, plan.width, plan.height)


def _fingerprint(plan: ClipPlan, options: FolderOptions, settings: RenderSettings) -> str:
    """SHA-256 over everything that decides how the output looks."""
    images = (*plan.clip.images, *(plan.guide.clip.images if plan.guide else ()))
    files = [(path.name, (s := path.stat()).st_size, s.st_mtime_ns) for path in images]
    names = [(p.name, p.left, str(p.t)) for p in plan.placements]
    content = (FOLDER_VERSION, asdict(settings), options.crop, options.resize, files, names)
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def _check_empty(output: Path, options: FolderOptions) -> None:
    if _holds_files(output) and not options.overwrite:
        raise OutputError(
            f"{output} is not empty; choose another folder with -o, or add --overwrite to "
            "replace what has the same name"
        )


def _holds_files(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except FileNotFoundError:
        return False


class _Making:
    """One clip on its way: reads, interpolates, writes; knows what is done already."""

    def __init__(
        self,
        plan: ClipPlan,
        options: FolderOptions,
        settings: RenderSettings,
        work: WorkFolder,
        listener: FolderListener,
    ) -> None:
        self._plan = plan
        self._options = options
        self._settings = settings
        self._work = work
        self._listener = listener
        self._step = plan.inter + 1
        #: images that were read and may still be needed, by number
        self._images: dict[int, Image] = {}
        #: of them, the pictures that they follow
        self._guides: dict[int, Frame] = {}

    def render(self, interpolator: Interpolator) -> None:
        """Make the images that the work folder lacks."""
        wanted = {p.left * self._step + int(p.t * self._step): p for p in self._plan.placements}
        todo = [k for k, p in wanted.items() if not (self._work.path / p.name).exists()]
        done = len(wanted) - len(todo)
        self._listener.progress(done, len(wanted))
        if not todo:
            return
        counting = threading.Lock()

        def write(image: tuple[str, Frame, Image, Path | None]) -> None:
            nonlocal done
            self._write(*image)
            with counting:
                done += 1
                self._listener.progress(done, len(wanted))

        first = min(todo)
        grid = OutputGrid(Fraction(0), Fraction(self._step), Fraction(self._step), None)
        # A four-frame model looks at the image before the pair, cuts at some before that.
        settled = max(0, first // self._step - 1)
        begin = max(0, settled - scene_stream(self._settings).context)
        part = Part(first, stop=max(todo) + 1, settled=Fraction(settled) if begin else None)
        synthesizer: Synthesizer | Follower
        if self._plan.guide is not None:
            synthesizer = Follower(interpolator, self._guides, scale=self._settings.scale)
        else:
            synthesizer = synthesizer_for(self._settings, interpolator)
            synthesizer.on_refit = synthesizer.on_warning = self._listener.warned
            keep_fit(synthesizer, self._work, self._plan.width, self._plan.height)
        with (
            Prefetch(self._decoded(begin), depth=QUEUE_FRAMES) as decoded,
            Outbox(write, depth=WRITERS, threads=WRITERS, name="images") as writers,
        ):
            made = pictures(
                decoded,
                synthesizer,
                self._settings,
                grid,
                part,
                end=lambda shown: shown.time + Fraction(1, self._step),
                counts=Counts(),
            )
            for k, frame in enumerate(made, start=first):
                if k in wanted and not (self._work.path / wanted[k].name).exists():
                    left = self._images[k // self._step]
                    source = self._source(frame)
                    if source is not None and wanted[k].t:
                        (self._work.path / f"{wanted[k].name}{_CUT}").touch()
                    writers.put((wanted[k].name, frame, left, source))
                # The reader adds to these meanwhile, so a copy is looked through.
                for number in list(self._images):
                    if number < k // self._step - 1:
                        del self._images[number]
                        self._guides.pop(number, None)

    def _source(self, frame: Frame) -> Path | None:
        """The file whose picture a frame is, where it is one: a kept input, or at a cut."""
        image = self._images.get(frame.pts)
        return image.info.path if image is not None and image.frame is frame else None

    def _decoded(self, begin: int) -> Iterator[tuple[Frame, Fraction, Signature | None]]:
        wanted = scene_stream(self._settings).needs_signatures
        for number in range(begin, len(self._plan.clip.images)):
            image = self._read(self._plan, number)
            seen = image.frame  # what cuts are found on
            if self._plan.guide is not None:
                seen = self._guides[number] = self._read(self._plan.guide, number).frame
            self._images[number] = image
            yield image.frame, Fraction(number), signature(seen) if wanted else None

    def _read(self, plan: ClipPlan, number: int) -> Image:
        image = read_image(plan.clip.images[number], pts=number)
        if image.info.shape != plan.info.shape:
            raise InputError(f"{image.info.path}: was changed while it was waiting to be read")
        return replace(image, frame=fitted(image.frame, self._options))

    def _write(self, name: str, frame: Frame, like: Image, source: Path | None) -> None:
        final = self._work.path / name
        part = final.with_name(f"{name}.part")
        with writing(final):
            if source is not None and not self._plan.changes_pixels:
                shutil.copyfile(source, part)
            else:
                write_image(part, frame, like.info, like.likeness)
            fsync_file(part)
            os.replace(part, final)

    def publish(self, *, begun: bool) -> tuple[int, int]:
        """Check the finished images and give the folder its name.

        A new folder appears in one step, complete. One that has files in it already
        gets the images one by one. ``begun``: an earlier run was interrupted at this.
        Returns how many cuts there were, and how many images show the nearer one there.
        """
        output, work = self._plan.output, self._work.path
        names = [placement.name for placement in self._plan.placements]
        at_cuts = [p.left for p in self._plan.placements if (work / f"{p.name}{_CUT}").exists()]
        staging = work.with_name(f".{output.name}.vfi-done")
        with writing(output):
            if not begun:
                shutil.rmtree(staging, ignore_errors=True)
                for name in names:
                    self._check(work / name)
                _check_empty(output, self._options)  # files may have come meanwhile
                self._work.announce_publication()
            if _holds_files(output) and not staging.exists():
                staging = output
            staging.mkdir(exist_ok=True)
            for name in names:
                if (work / name).exists():
                    os.replace(work / name, staging / name)
            missing = [name for name in names if not (staging / name).exists()]
            if missing:
                raise OutputError(f"{output}: {missing[0]} was taken away; add --overwrite")
            fsync_dir(staging)
            if staging != output:
                with suppress(FileNotFoundError):
                    output.rmdir()  # an empty one was allowed to be there
                os.replace(staging, output)
            fsync_dir(output.parent)
        return len(set(at_cuts)), len(at_cuts)

    def _check(self, path: Path) -> None:
        """Read the header of a finished image back."""
        plan, info = self._plan, probe_image(path)
        wanted = plan.info.layout
        if info.format == "webp":  # whose encoder drops an alpha that is opaque everywhere
            wanted = replace(wanted, alpha=info.layout.alpha)
        if (info.width, info.height, info.layout) != (plan.width, plan.height, wanted):
            raise OutputError(
                f"{path}: came out as {info.describe()}; please report this with the input"
            )


def fitted(frame: Frame, options: FolderOptions) -> Frame:
    """A frame cropped around its centre and resized, as the options ask."""
    planes = whole = frame.host_planes
    if options.crop is not None:
        width, height = options.crop
        x, y = (frame.width - width) // 2, (frame.height - height) // 2
        planes = tuple(plane[y : y + height, x : x + width].copy() for plane in planes)
    if options.resize is not None and options.resize != planes[0].shape[::-1]:
        planes = tuple(_resized(plane, *options.resize, frame.layout) for plane in planes)
    return frame if planes is whole else image_frame(planes, frame.layout, frame.pts)


def _resized(plane: Samples, width: int, height: int, layout: PlaneLayout) -> Samples:
    """Bicubic, with the low pass that shrinking needs; rounded to code values."""
    import torch
    import torch.nn.functional as F

    values = torch.from_numpy(plane.astype(np.float32))[None, None]
    values = F.interpolate(
        values, size=(height, width), mode="bicubic", align_corners=False, antialias=True
    )
    values = values[0, 0].round_().clamp_(0, layout.peak)
    return values.numpy().astype(layout.dtype)
