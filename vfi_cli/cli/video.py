"""``vfi video``: a video from the numbered images of a folder."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vfi_cli.cli import messages, records
from vfi_cli.cli import options as opt
from vfi_cli.io.naming import find_clips
from vfi_cli.timeline import format_rate, spoken
from vfi_cli.wording import counted, file_size

if TYPE_CHECKING:
    from vfi_cli.sequence import SequenceOptions

EXAMPLES = """\
[bold]Examples[/bold]
  vfi video frames/ --fps 24 -o film.mp4
  vfi video frames/ --fps 23.976 --codec prores -o film.mov
  vfi video frames/ --fps 60 --codec ffv1 -o film.mkv     pixels as they are
"""


Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="OUT", help="The video to make.", show_default=False),
]
Fps = Annotated[
    Fraction,
    typer.Option(
        parser=opt.parse_rate,
        metavar="RATE",
        help="Frames a second: 24, 30000/1001, or 23.976.",
        show_default=False,
    ),
]


def video(
    folder: Folder,
    fps: Fps,
    output: Output,
    codec: opt.Codec = "auto",
    crf: opt.Crf = None,
    preset: opt.Preset = None,
    pix_fmt: opt.PixFmt = "auto",
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Make a video from the numbered images of a folder.

    Images are shown in the order of their numbers, each for one frame. The video
    appears under its name when it was read back and agrees with the images.
    """
    with records.errors_told(folder, wanted=json):
        find_clips(folder)  # a folder that is missing or empty is told before PyAV is loaded
        from vfi_cli.io.encode import EncoderOptions
        from vfi_cli.sequence import SequenceOptions

        encoder = EncoderOptions(codec=codec, crf=crf, preset=preset, pix_fmt=pix_fmt)
        options = SequenceOptions(fps=fps, encoder=encoder, overwrite=overwrite)
        record = _make(folder, output, options, dry_run=dry_run, quiet=quiet)
    if json:
        messages.print_json(record)


def _make(
    folder: Path, output: Path, options: SequenceOptions, *, dry_run: bool, quiet: bool
) -> dict[str, Any]:
    """Make the video, or say what would be made; returns the record for programs."""
    from vfi_cli.cli.progress import Progress
    from vfi_cli.sequence import plan_sequence, render_sequence

    console = messages.console(quiet=quiet)
    plan = plan_sequence(folder, output, options)
    source = plan.clip.folder.resolve().name + "/"
    left = max(len(source), len(output.name))
    images = counted(plan.frames, "image")
    console.print(f"{source:<{left}}  {images}  {plan.info.describe()}")
    console.print(
        f"{output.name:<{left}}  {format_rate(plan.fps)} fps  "
        f"{messages.clock(plan.frames / plan.fps)}  {plan.encoder.encoder} {plan.encoder.pix_fmt}"
    )
    for note in plan.notes:
        console.print(f"  {note}")
    if dry_run:
        return records.of_video_plan(plan)
    try:
        with Progress(plan.frames, plan.fps, console, quiet) as progress:
            result = render_sequence(plan, options, progress.update)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "finished segments are kept. The same command goes on from there."
        ) from None
    console.print(
        f"✓ {output.name}  {counted(result.frames, 'frame')}, "
        f"{messages.clock(result.duration)}, read back and checked  "
        f"{spoken(result.seconds)}  {file_size(result.size)}"
    )
    return records.of_video_result(plan, result)
