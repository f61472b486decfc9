"""A training run from its configuration to its weights: what both entries call."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

from vfi_cli.errors import InputError, UsageError
from vfi_cli.models.devices import pick_device
from vfi_cli.training.cache import Report, cache_clips
from vfi_cli.training.checkpoint import LAST
from vfi_cli.training.clips import ArrayClip
from vfi_cli.training.config import Config, read_config
from vfi_cli.training.loop import Progress, Trainer
from vfi_cli.training.sources import open_sources
from vfi_cli.training.validation import Validation
from vfi_cli.wording import counted


def start(
    config: Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    device: str = "auto",
    report: Report = lambda line: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Trainer:
    """A run that is ready to go: data decoded and rendered, checkpoint read. Of one that is
    finished no data is opened.

    Raises VfiError for whatever is wrong with the configuration, the data or the checkpoint.
    """
    read = read_config(config, overrides)
    out = read.path(read.run.out)
    if not resume and (out / LAST).exists():
        raise UsageError(
            f"{out} holds a run; --resume goes on with it, --set run.out=… begins anew"
        )
    # Before hours of decoding: is it possible at all, is there anything left to do, and a place
    # for what is done.
    trainer = Trainer(read, device=_device(device), report=report, on_step=on_step)
    if resume:
        trainer.resume()
    elif trainer.rank == 0:
        trainer.forget_after(-1)  # all of a run before that was not saved
    if trainer.finished:
        if trainer.rank == 0:
            report(_finished(trainer))
        return trainer
    network = trainer.network
    with _first_before_others(trainer):  # it fills the cache for all
        first = trainer.rank == 0
        clips, pool = open_sources(
            read, report if first else lambda line: None, middle=not network.any_timestep
        )
        validation = open_validation(read, network.frames_seen, report) if first else None
    trainer.feed(clips, pool, validation)
    return trainer


@contextmanager
def _first_before_others(trainer: Trainer) -> Iterator[None]:
    """Of several processes the first does its part while the others wait; theirs fails where its
    part failed, of which it alone says why."""
    failed = torch.zeros(1, device=trainer.device)
    if trainer.rank:
        dist.broadcast(failed, 0)
        if failed.item():
            raise InputError("another process cannot open the data")
    try:
        yield
    except BaseException:
        failed += 1
        raise
    finally:
        if trainer.rank == 0 and trainer.world > 1:
            dist.broadcast(failed, 0)


def _finished(trainer: Trainer) -> str:
    """How to go on with a run that has nothing left to do."""
    run = trainer.config.run
    longer = f"run.minutes={2 * run.minutes:g}" if run.minutes else f"run.steps={2 * trainer.step}"
    return (
        f"{trainer.out}: the run is finished, after {counted(trainer.step, 'step')}; "
        f"--resume --set {longer} makes it longer, --export FILE writes its weights"
    )


def _device(name: str) -> str:
    """The device of this process: of several on one machine each has a GPU of its own."""
    local = os.environ.get("LOCAL_RANK")
    if local is not None and name in ("auto", "cuda") and torch.cuda.is_available():
        torch.cuda.set_device(int(local))
        name = f"cuda:{local}"
    return str(pick_device(name))


def open_validation(
    config: Config, seen: int, report: Report = lambda line: None
) -> Validation | None:
    """The held-out footage that a configuration names; None where it names none."""
    shows = config.validation
    if not shows.clips:
        report("validation.clips names no folder: there will be no PSNR and no sheets")
        return None
    folders = [config.path(name) for name in shows.clips]
    cache = config.path(config.data.cache)
    try:
        files = cache_clips(folders, cache, most=config.data.frames_per_clip, report=report)
    except InputError as error:
        raise InputError(f"validation.clips: {error}") from None
    clips = [(file.stem.rpartition("-")[0], ArrayClip(file)) for file in files]
    return Validation(clips, shows.windows, seen)
