"""What a configuration's ``[data]`` table names, decoded, rendered and opened."""

from __future__ import annotations

from pathlib import Path

from vfi_cli.errors import InputError, UsageError
from vfi_cli.training.cache import Report, cache_clips, cache_scenes
from vfi_cli.training.clips import Clips, Mixture, Windows
from vfi_cli.training.config import Config
from vfi_cli.training.pool import Pool
from vfi_cli.training.published import open_set


def open_sources(
    config: Config, report: Report = lambda line: None, *, middle: bool = False
) -> tuple[Windows | None, Pool | None]:
    """Real windows and rendered scenes, None where no phase wants them; what the cache lacks is
    decoded and rendered first. ``middle``: new frames lie at t = 1/2. Raises VfiError with the key
    or the file that is at fault."""
    data = config.data
    cache = config.path(data.cache)
    height = max(phase.crop for phase in config.phases)
    width = max(phase.crop_width or phase.crop for phase in config.phases)
    real = any(phase.synthetic < 1 for phase in config.phases)
    rendered = any(phase.synthetic > 0 for phase in config.phases)
    folders = [config.path(name) for name in data.clips]
    parts: list[tuple[Windows, float]] = []
    files: list[Path] = []
    if folders:
        try:
            files = cache_clips(folders, cache, most=data.frames_per_clip, report=report)
        except InputError as error:
            raise InputError(f"data.clips: {error}") from None
    if files and real:
        try:
            clips = Clips(files, height, width, gaps=data.gaps, four=data.four, middle=middle)
        except InputError as error:
            raise InputError(f"data.clips ({', '.join(map(str, folders))}): {error}") from None
        except UsageError as error:
            raise UsageError(f"data.{error}") from None
        parts.append((clips, 1.0))
    for number, given in enumerate(data.sets if real else ()):
        try:
            windows = open_set(
                given.layout,
                config.path(given.path),
                cache,
                height,
                width,
                gigabytes=data.cache_gigabytes / len(data.sets),
                gaps=given.gaps,
                factor=given.reduce,
                four=data.four,
                middle=middle,
                most=data.frames_per_clip,
                report=report,
            )
        except (InputError, UsageError) as error:
            raise type(error)(f"data.sets[{number}]: {error}") from None
        parts.append((windows, given.weight))
    pool = None
    if rendered:
        folder = cache_scenes(
            [config.path(name) for name in data.textures],
            files,
            cache,
            count=data.scenes,
            size=data.scene_size,
            motion=data.scene_motion,
            seed=config.run.seed,
            four=data.four,
            blurred=data.scene_blurred,
            accelerated=data.scene_accelerated,
            workers=max(1, data.workers),
            report=report,
        )
        pool = Pool(folder, middle=middle)
    if not parts:
        return None, pool
    return (parts[0][0] if len(parts) == 1 else Mixture(parts)), pool
