"""``vfi frames``: new images between the images of a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vfi_cli.cli import messages, records
from vfi_cli.cli import options as opt
from vfi_cli.errors import BatchError, UsageError
from vfi_cli.io.naming import Clip, Naming, find_clips
from vfi_cli.timeline import spoken
from vfi_cli.wording import counted, file_size, grouped

if TYPE_CHECKING:
    from vfi_cli.dry_run_folders import ClipEstimate, ClipSurvey
    from vfi_cli.errors import VfiError
    from vfi_cli.folders import ClipPlan, ClipResult, FolderOptions

EXAMPLES = """\
[bold]Examples[/bold]
  vfi frames clip/ --inter 3                        into clip.x4/
  vfi frames REDS/val_15fps --inter 1 -o out/       every clip in the folder
  vfi frames clip/ --inter 3 --follow depth/        depth maps move alike
  vfi frames shots/ --inter 1 --keep-inputs --naming sequence -o smooth/
"""

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="A folder of images, or of folders of images.")
]
Inter = Annotated[
    int,
    typer.Option("--inter", "-n", metavar="N", min=1, max=255, help="New images between each two."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Folder to make.",
        show_default="DIR.xN beside the input",
    ),
]
NamingOption = Annotated[
    Naming,
    typer.Option(
        metavar="WAY",
        help="reds: numbers between those of the inputs; suffix: 001_0, 001_1 …; sequence: all "
        "renumbered, inputs included; auto: reds where the numbers leave room, else suffix.",
    ),
]
KeepInputs = Annotated[
    bool,
    typer.Option("--keep-inputs", metavar="", help="Also copy the inputs, byte for byte."),
]
Crop = Annotated[
    Any,
    typer.Option(
        parser=opt.parse_size, metavar="WxH", help="Cut this from the centre.", show_default=False
    ),
]
Resize = Annotated[
    Any,
    typer.Option(
        parser=opt.parse_size,
        metavar="WxH",
        help="Resize, after cropping.",
        show_default=False,
    ),
]
Follow = Annotated[
    Path | None,
    typer.Option(
        "--follow",
        metavar="DIR2",
        help="Also move these images (depth maps, masks) as those of DIR move; same names and "
        "sizes, 16 bits stay 16.",
        show_default=False,
    ),
]
FollowOutput = Annotated[
    Path | None,
    typer.Option(
        "--follow-output",
        metavar="OUT2",
        help="Folder to make of DIR2.",
        show_default="DIR2.xN beside it",
    ),
]


def frames(
    ctx: typer.Context,
    folder: Folder,
    inter: Inter = 1,
    output: Output = None,
    naming: NamingOption = "auto",
    keep_inputs: KeepInputs = False,
    crop: Crop = None,
    resize: Resize = None,
    follow: Follow = None,
    follow_output: FollowOutput = None,
    model: opt.Model = "default",
    architecture: opt.Architecture = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    scale: opt.ScaleOption = "auto",
    tta: opt.Tta = (),
    ensemble: opt.Ensemble = False,
    tile: opt.Tile = "auto",
    cuts: opt.Cuts = True,
    cuts_threshold: opt.CutsThreshold = None,
    overwrite: opt.Overwrite = False,
    dry_run: opt.DryRun = False,
    quick: opt.Quick = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Add frames between the images of a folder.

    Reads PNG, JPEG, WebP and TIFF; new images have the format, the bit depth and the
    colour profile of their neighbours. A folder of clip folders is done clip by clip.
    The output folder appears when it is complete; a run that was interrupted goes on
    when the same command is given again.
    """
    if follow_output is not None and follow is None:
        raise UsageError("--follow-output needs --follow DIR2")
    with records.errors_told(folder, wanted=json):
        # A folder that is missing or empty is told before torch is loaded.
        several = len(find_clips(folder)) > 1 or follow is not None
        _run(ctx.params, several=several)


def _run(params: Mapping[str, Any], *, several: bool) -> None:
    """Make the images, or say what would be made, and print the records for programs."""
    from vfi_cli.api import ModelOptions
    from vfi_cli.folders import FolderOptions, interpolate_frames

    options = FolderOptions(
        model=ModelOptions(
            name=params["model"],
            scale=opt.scale_value(params["scale"]),
            **{k: params[k] for k in ("architecture", "device", "dtype")},
            **{k: params[k] for k in ("tta", "ensemble", "tile")},
        ),
        **{k: params[k] for k in ("inter", "naming", "keep_inputs", "crop", "resize")},
        **{k: params[k] for k in ("cuts", "cuts_threshold", "overwrite")},
        **{k: params[k] for k in ("follow", "follow_output")},
    )
    folder, output, quick = params["folder"], params["output"], params["quick"]
    screen = _screen(options, quiet=params["quiet"])

    def tell() -> None:
        if params["json"]:
            many = several or len(screen.records) > 1
            messages.print_json(records.of_batch(screen.records) if many else screen.records[0])

    try:
        if params["dry_run"] or quick:
            _foretell(folder, output, options, screen, quick=quick)
        else:
            interpolate_frames(folder, output, options, listener=screen)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "finished images are kept. The same command goes on from there."
        ) from None
    except BatchError:
        tell()
        raise
    else:
        tell()
    finally:
        screen.close()


def _foretell(
    folder: Path,
    output: Path | None,
    options: FolderOptions,
    screen: Any,
    *,
    quick: bool,
) -> None:
    """Say what would be made of each clip. Of several, a failure does not stop the rest."""
    from vfi_cli.api import open_model
    from vfi_cli.dry_run_folders import (
        check_clip_output,
        estimate_clip,
        free_space,
        survey_clip,
    )
    from vfi_cli.errors import VfiError
    from vfi_cli.folders import DONE, clip_settings, is_done, plan_folder

    plans, failed = plan_folder(folder, output, options)
    clips = {plan.clip.name for plan in plans} | {clip.name for clip, _ in failed}
    alone = len(clips) == 1
    for clip, error in failed:
        if alone:
            raise error
        screen.failed(clip, error)
    model = open_model(options.model) if plans else None
    seen: dict[Path, ClipSurvey] = {}
    for plan in plans:
        assert model is not None
        try:
            if not alone and not options.overwrite and is_done(plan):
                screen.planned(replace(plan, notes=(*plan.notes, DONE)))
                screen.foretold(plan, None, None, free_space(plan))
                continue
            check_clip_output(plan, options)
            screen.planned(plan)
            if quick:
                screen.foretold(plan, None, None, free_space(plan))
                continue
            settings = clip_settings(plan, options, model)
            # What follows another clip has its cuts where that has them.
            source = (plan.guide or plan).output
            if source not in seen:
                seen[source] = survey_clip(plan, options, settings, screen.looking)
            screen.close()
            expected = None
            if plan.guide is None:
                expected = estimate_clip(plan, options, settings, seen[source], model)
            screen.foretold(plan, seen[source], expected, free_space(plan))
        except VfiError as error:
            if alone:
                raise
            failed.append((plan.clip, error))
            screen.failed(plan.clip, error)
    if failed:
        names = list(dict.fromkeys(clip.name for clip, _ in failed))
        raise BatchError(f"{len(names)} of {len(clips)} folders failed: {', '.join(names)}")


def _screen(options: FolderOptions, *, quiet: bool) -> Any:
    """A listener that shows what happens; made here since its base class is heavy to import."""
    from vfi_cli.cli.progress import Progress
    from vfi_cli.folders import FolderListener

    class Screen(FolderListener):
        def __init__(self) -> None:
            self.records: list[dict[str, Any]] = []
            self._console = messages.console(quiet=quiet)
            self._progress: Progress | None = None

        def planned(self, plan: ClipPlan) -> None:
            self.close()
            source, target = _names(plan)
            left = max(len(source), len(target))
            count = counted(len(plan.clip.images), "image")
            self._console.print(f"{source:<{left}}  {count}  {plan.info.describe()}")
            made = f"{grouped(plan.new)} new, {plan.inter} between each two"
            size = f"  {plan.width}×{plan.height}" if plan.changes_pixels else ""
            how = f"named as {plan.naming}{size}  model {options.model.name}"
            self._console.print(f"{target:<{left}}  {made}  {how}")
            for note in plan.notes:
                self._console.print(f"  {note}")
            self.records.append({**records.head("folder_result"), **_plan_json(plan)})

        def progress(self, done: int, total: int) -> None:
            if self._progress is None:
                self._progress = Progress(
                    total, None, self._console, quiet, start=done, unit="image"
                )
            self._progress.update(done)

        def looking(self, done: int, total: int) -> None:
            if self._progress is None:
                self._progress = Progress(
                    *(total, None, self._console, quiet),
                    unit="image",
                    label="looking for cuts",
                    passing=True,
                )
            self._progress.update(done)

        def foretold(
            self,
            plan: ClipPlan,
            seen: ClipSurvey | None,
            expected: ClipEstimate | None,
            free: int,
        ) -> None:
            for line in _foretold(plan, seen, expected, free):
                self._console.print(f"  {line}")
            self.records[-1] |= _foretold_json(plan, seen, expected, free)

        def warned(self, text: str) -> None:
            self.close()
            messages.warn(text, quiet=quiet)
            self.records[-1]["notes"].append(text)

        def finished(self, plan: ClipPlan, result: ClipResult) -> None:
            self.close()
            self._console.print(f"✓ {_names(plan)[1]}  {_result(result)}")
            self.records[-1] |= {
                "images": result.images,
                "new": result.new,
                "copied": result.copied,
                "cuts": result.cuts,
                "seconds": round(result.seconds, 3),
            }

        def failed(self, clip: Clip, error: VfiError) -> None:
            self.close()
            messages.fail(str(error))
            record = records.of_error(clip.folder, error)
            if self.records and self.records[-1]["input"] == record["input"]:
                self.records.pop()
            self.records.append(record)

        def close(self) -> None:
            if self._progress is not None:
                self._progress.close()
                self._progress = None

    return Screen()


#: Images that are named one by one.
_NAMED = 6


def _names(plan: ClipPlan) -> tuple[str, str]:
    """The last parts of the folders' paths, enough to tell clips apart."""
    depth = 1 + plan.clip.name.count("/") + bool(plan.clip.name)
    return tuple(  # type: ignore[return-value]
        "/".join(path.resolve().parts[-depth:]) + "/" for path in (plan.clip.folder, plan.output)
    )


def _foretold(
    plan: ClipPlan, seen: ClipSurvey | None, expected: ClipEstimate | None, free: int
) -> list[str]:
    """What a dry run found out, one topic a line."""
    lines = []
    if seen is not None:
        names = [plan.clip.images[number].name for number in seen.cuts[:_NAMED]]
        more = ", …" if len(seen.cuts) > _NAMED else ""
        where = f", at {', '.join(names)}{more}" if names else ""
        lines.append(f"cuts      {grouped(len(seen.cuts)) if names else 'none'}{where}")
    if expected is not None:
        lines += [
            f"time      {messages.between(expected.seconds, spoken)}",
            f"memory    {file_size(expected.memory)}" if expected.memory else "",
            f"disk      {messages.between(expected.output, file_size)}; {file_size(free)} are free",
        ]
    return [line for line in lines if line]


def _foretold_json(
    plan: ClipPlan, seen: ClipSurvey | None, expected: ClipEstimate | None, free: int
) -> dict[str, Any]:
    from vfi_cli.dry_run_folders import shown_at_cuts

    new = None if seen is None else plan.new - shown_at_cuts(plan, seen)
    return {
        "kind": "folder_plan",
        "new": new,
        "copied": None if new is None else len(plan.placements) - new,
        "cuts": None if seen is None else len(seen.cuts),
        "cut_images": seen and [plan.clip.images[number].name for number in seen.cuts],
        "estimate": expected
        and {
            "seconds": records.about(expected.seconds, 1),
            "output_bytes": records.about(expected.output),
            "memory_bytes": expected.memory,
        },
        "free_bytes": free,
    }


def _plan_json(plan: ClipPlan) -> dict[str, Any]:
    return {
        "input": str(plan.clip.folder),
        "output": str(plan.output),
        "naming": plan.naming,
        "inter": plan.inter,
        "inputs": len(plan.clip.images),
        "images": len(plan.placements),
        "width": plan.width,
        "height": plan.height,
        "first": plan.placements[0].name,
        "last": plan.placements[-1].name,
        "notes": list(plan.notes),
    }


def _result(result: ClipResult) -> str:
    """``1 782 images, 1 776 new, read back and checked  1 cut respected  54 s``."""
    parts = [
        f"{counted(result.images, 'image')}, {grouped(result.new)} new, read back and checked",
        f"{counted(result.cuts, 'cut')} respected" if result.cuts else "",
        spoken(result.seconds),
    ]
    return "  ".join(part for part in parts if part)
