"""``python -m vfi_cli.training CONFIG.toml [--resume] [--set table.key=value] [--export FILE]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vfi_cli.errors import VfiError
from vfi_cli.training.config import Config, read_config


def prepare(config: Config, report=print):  # type: ignore[no-untyped-def]
    """Decodes and renders what is missing; returns the clips and the pool to train from."""
    from vfi_cli.training.cache import cache_clips, cache_scenes
    from vfi_cli.training.data import Clips, Pool

    data = config.data
    cache = config.path(data.cache)
    files: list[Path] = []
    clips = pool = None
    if data.clips:
        folders = [config.path(name) for name in data.clips]
        files = cache_clips(folders, cache, most=data.frames_per_clip, report=report)
        height = max(phase.crop for phase in config.phases)
        width = max(phase.crop_width or phase.crop for phase in config.phases)
        clips = Clips(files, height, width)
    if data.textures:
        folder = cache_scenes(
            [config.path(name) for name in data.textures],
            files,
            cache,
            count=data.scenes,
            size=data.scene_size,
            motion=data.scene_motion,
            seed=config.run.seed,
            report=report,
        )
        pool = Pool(folder)
    return clips, pool


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="vfi train", description="Train an interpolation model.")
    parser.add_argument("config", type=Path, help="the run's TOML file")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as optim.lr=3e-4"
    )
    parser.add_argument("--export", type=Path, help="write the run's weights there and stop")
    given = parser.parse_args(arguments)
    try:
        config = read_config(given.config, given.set)
        if given.export:
            from vfi_cli.training.export import export

            print(export(config.path(config.run.out) / "last.pt", given.export))
            return 0
        from vfi_cli.training.loop import Trainer

        clips, pool = prepare(config, report=lambda line: print(line, flush=True))
        trainer = Trainer(
            config,
            clips=clips,
            pool=pool,
            device=given.device,
            report=lambda line: print(line, flush=True),
        )
        if given.resume:
            trainer.resume()
        elif (trainer.out / "last.pt").exists():
            print(f"{trainer.out} holds a run; --resume goes on with it", file=sys.stderr)
            return 2
        trainer.run()
    except VfiError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
