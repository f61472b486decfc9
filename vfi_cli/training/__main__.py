"""``python -m vfi_cli.training CONFIG.toml …``: ``vfi train`` in plain lines, for ``torchrun``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vfi_cli.errors import VfiError
from vfi_cli.training.config import read_config


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vfi_cli.training", description="Train an interpolation model."
    )
    parser.add_argument("config", type=Path, help="the run's TOML file, or a shipped one's name")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as optim.lr=3e-4"
    )
    parser.add_argument("--export", type=Path, help="write the run's weights there and stop")
    given = parser.parse_args(arguments)
    try:
        if given.export:
            from vfi_cli.training.checkpoint import LAST
            from vfi_cli.training.export import export

            config = read_config(given.config, given.set, to_train=False)
            print(export(config.path(config.run.out) / LAST, given.export))
            return 0
        import torch.distributed as dist

        from vfi_cli.training.run import start
        from vfi_cli.training.stop import kept, stopping

        trainer = start(
            given.config,
            given.set,
            resume=given.resume,
            device=given.device,
            report=lambda line: print(line, flush=True),
        )
        with stopping(trainer) as stop:
            trainer.run()
        if dist.is_initialized():
            dist.destroy_process_group()
        if stop.signal is not None and not trainer.finished:
            if trainer.rank == 0:
                print(f"{stop.signal.name}: {kept(trainer)}", file=sys.stderr)
            return stop.exit_code
    except VfiError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
