"""A video from the images of a folder: what is behind ``vfi video``.

Works as a conversion does: segments in a work folder beside the output, joined,
read back and compared, and only then renamed into place. The same command
continues an interrupted run. Nothing is printed here.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

from vfi_cli.api import check_output
from vfi_cli.errors import InputError
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.atomic import publish
from vfi_cli.io.decode import SourceInfo, probe
from vfi_cli.io.encode import EncoderConfig, EncoderOptions, VideoWriter
from vfi_cli.io.images import IMAGE_COLOR, ImageInfo, probe_image, read_image
from vfi_cli.io.naming import Clip, find_clips, irregular_numbers
from vfi_cli.io.prefetch import Prefetch
from vfi_cli.io.streams import plan_streams
from vfi_cli.io.trial import choose_tried_encoder
from vfi_cli.join import join, verify
from vfi_cli.render import QUEUE_FRAMES, write
from vfi_cli.work import WorkFolder, is_finished, work_folder_of

#: Bump when the same images and options would give another video than before.
SEQUENCE_VERSION = 1
#: Seconds of video in a segment, the unit of what an interrupted run keeps.
SEGMENT_SECONDS = 5

#: Numbered images mostly come from video, and BT.709 is what video players take them for.
SEQUENCE_COLOR = replace(IMAGE_COLOR, transfer=1)


@dataclass(frozen=True)
class SequenceOptions:
    """All that is asked beside the files."""

    fps: Fraction
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    overwrite: bool = False


@dataclass(frozen=True)
class SequencePlan:
    """What will be made."""

    clip: Clip
    info: ImageInfo  # of the first image, and so of all
    output: Path
    fps: Fraction
    encoder: EncoderConfig
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        return len(self.clip.images)


@dataclass(frozen=True)
class SequenceResult:
    """What was made."""

    output: Path
    frames: int
    duration: Fraction  # seconds
    size: int  # bytes
    seconds: float  # that it took


def plan_sequence(
    folder: str | os.PathLike[str], output: str | os.PathLike[str], options: SequenceOptions
) -> SequencePlan:
    """Find the images and choose the encoder. Raises a VfiError before any work is done."""
    clips = find_clips(folder)
    if len(clips) > 1:
        raise InputError(
            f"{folder}: holds {len(clips)} folders with images ({clips[0].name}, "
            f"{clips[1].name} …); name one of them"
        )
    clip = clips[0]
    target = Path(output)
    check_output(clip.folder, target)
    first = probe_image(clip.images[0])
    for path in clip.images[1:]:
        _check_alike(first, probe_image(path))
    source = _as_source(first, options.fps)
    encoder = choose_tried_encoder(options.encoder, source, target.suffix, options.fps)
    notes = list(encoder.notes)
    gap = irregular_numbers(clip.images)
    if gap is not None:
        notes.append(f"numbers are missing between {gap[0].name} and {gap[1].name}")
    return SequencePlan(clip, first, target, options.fps, encoder, tuple(notes))


def render_sequence(
    plan: SequencePlan,
    options: SequenceOptions,
    on_frames: Callable[[int], None] = lambda done: None,
) -> SequenceResult:
    """Make the planned video. ``on_frames`` is told how many frames are done."""
    began = time.monotonic()
    target, fingerprint = plan.output, _fingerprint(plan)
    folder = work_folder_of(target)
    finished = is_finished(target, fingerprint, overwrite=options.overwrite)
    description = {"input": str(plan.clip.folder), "encoder": plan.encoder.as_dict()}
    with WorkFolder(folder, fingerprint, description, overwrite=options.overwrite) as work:
        if not finished:
            segments = _render(plan, work, on_frames)
            _finish(plan, work, segments, options.overwrite)
        work.remove()
    return SequenceResult(
        output=target,
        frames=plan.frames,
        duration=plan.frames / plan.fps,
        size=target.stat().st_size,
        seconds=time.monotonic() - began,
    )


def _check_alike(first: ImageInfo, info: ImageInfo) -> None:
    if info.shape != first.shape:
        raise InputError(
            f"{first.path} and {info.path.name} differ: {first.describe()} and "
            f"{info.describe()}; the images of a video must be alike"
        )


@dataclass(frozen=True)
class _Pictures:
    """What encoders are chosen by, of a source that has no stream and no timestamps."""

    codec: str
    width: int  # pixels
    height: int
    layout: PlaneLayout
    color: ColorSpec
    pix_fmt: str
    nominal_rate: Fraction
    sample_aspect_ratio: Fraction = Fraction(1)
    hdr: None = None


def _as_source(info: ImageInfo, fps: Fraction) -> SourceInfo:
    """The images as the input that encoders are chosen for."""
    pictures = _Pictures(
        codec=info.format,
        width=info.width,
        height=info.height,
        layout=info.layout,
        color=SEQUENCE_COLOR,
        pix_fmt=f"{info.format} images",
        nominal_rate=fps,
    )
    return cast("SourceInfo", pictures)


def _fingerprint(plan: SequencePlan) -> str:
    """SHA-256 over everything that decides how the video looks."""
    files = [(path.name, (s := path.stat()).st_size, s.st_mtime_ns) for path in plan.clip.images]
    content = (SEQUENCE_VERSION, str(plan.fps), plan.encoder.as_dict(), files)
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def _render(plan: SequencePlan, work: WorkFolder, on_frames: Callable[[int], None]) -> list[Path]:
    """Encode the segments that are missing; returns all of them in order."""
    length = max(1, round(plan.fps * SEGMENT_SECONDS))
    segments: list[Path] = []
    done = 0

    def count_one() -> None:
        nonlocal done
        done += 1
        on_frames(done)

    for number, first in enumerate(range(0, plan.frames, length)):
        stop = min(first + length, plan.frames)
        if work.result(number) is None:
            writer = VideoWriter(
                work.segment_part(number),
                plan.encoder,
                fps=plan.fps,
                width=plan.info.width,
                height=plan.info.height,
                container=plan.encoder.container,
            )
            with Prefetch(_frames(plan, first, stop), depth=QUEUE_FRAMES) as frames:
                write(frames, writer, count_one)
            work.finish(number, {"frames": stop - first})
        else:
            done = stop
            on_frames(done)
        segments.append(work.segment(number))
    return segments


def _frames(plan: SequencePlan, first: int, stop: int) -> Iterator[Frame]:
    for number in range(first, stop):
        image = read_image(plan.clip.images[number], pts=number)
        _check_alike(plan.info, image.info)
        yield replace(image.frame, color=SEQUENCE_COLOR)


def _finish(plan: SequencePlan, work: WorkFolder, segments: list[Path], overwrite: bool) -> None:
    """Join the segments, read the result back, and give it its name."""
    temporary = work.temporary_output(plan.output.suffix)
    source = probe(segments[0])  # a source without other streams, in the output's colour
    streams = plan_streams(source, plan.output.suffix)
    report = join(
        segments,
        temporary,
        info=source,
        grid_fps=plan.fps,
        start=source.start,
        frames=plan.frames,
        stream_plan=streams,
        color=plan.encoder.color,
    )
    verify(
        temporary,
        frames=plan.frames,
        grid_fps=plan.fps,
        start=source.start,
        stream_plan=streams,
        report=report,
    )
    work.announce_publication()
    publish(temporary, plan.output, overwrite)
