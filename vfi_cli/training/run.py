"""A training run from its configuration to its weights: what both entries call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.distributed as dist

from vfi_cli.errors import UsageError
from vfi_cli.models.base import pick_device
from vfi_cli.training.cache import cache_clips
from vfi_cli.training.checkpoint import LAST
from vfi_cli.training.clips import ArrayClip
from vfi_cli.training.config import Config, read_config
from vfi_cli.training.families import build
from vfi_cli.training.loop import Progress, Report, Trainer, join_processes
from vfi_cli.training.sources import open_sources
from vfi_cli.training.validation import Validation


def start(
    config: Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    device: str = "auto",
    report: Report = lambda line: None,
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Trainer:
    """A run that is ready to go: data decoded and rendered, checkpoint read.

    Raises VfiError for whatever is wrong with the configuration, the data or the checkpoint.
    """
    read = read_config(config, overrides)
    out = read.path(read.run.out)
    if not resume and (out / LAST).exists():
        raise UsageError(
            f"{out} holds a run; --resume goes on with it, --set run.out=… begins anew"
        )
    chosen = _device(device)
    network = build(read).network  # and before hours of decoding: is it possible at all
    seen, middle = network.frames_seen, not network.any_timestep
    if seen == 4 and not read.data.four:
        raise UsageError(f"data.four must be true: {read.model.architecture} sees four frames")
    rank = int(os.environ.get("RANK", "0"))
    join_processes(torch.device(chosen))
    if rank:
        dist.barrier()  # the first process fills the cache for all
    clips, pool = open_sources(read, report if rank == 0 else lambda line: None, middle=middle)
    validation = open_validation(read, seen, report) if rank == 0 else None
    if dist.is_initialized() and rank == 0:
        dist.barrier()
    trainer = Trainer(
        read,
        clips=clips,
        pool=pool,
        validation=validation,
        device=chosen,
        report=report,
        on_step=on_step,
    )
    if resume:
        trainer.resume()
    return trainer


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
        return None
    folders = [config.path(name) for name in shows.clips]
    files = cache_clips(
        folders, config.path(config.data.cache), most=config.data.frames_per_clip, report=report
    )
    clips = [(file.stem.rpartition("-")[0], ArrayClip(file)) for file in files]
    return Validation(clips, shows.windows, seen)
