"""``vfi train``: weights of one's own, and the curves of a run."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vfi_cli.cli import messages
from vfi_cli.cli import options as opt
from vfi_cli.errors import UsageError
from vfi_cli.wording import grouped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from vfi_cli.training.loop import Progress

EXAMPLES = """\
[bold]Examples[/bold]
  vfi train --list
  vfi train vfi-lite --set 'data.clips=["mov"]' --set 'data.textures=["img"]'
  vfi train my.toml --resume
  vfi train plot runs/vfi-lite
"""
_PLOT = """\
[bold]Examples[/bold]
  vfi train plot runs/vfi-lite
  vfi train plot runs/vfi-lite/metrics.jsonl -o curve.png
"""

Config = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG.toml",
        help="The run's configuration, or the name of a shipped one (see --list).",
        show_default=False,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the configuration, such as optim.lr=3e-4; may be repeated.",
        show_default=False,
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", metavar="", help="Go on from the run's last checkpoint.")
]
Export = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write the run's averaged weights as .safetensors, and train no more.",
        show_default=False,
    ),
]
List = Annotated[
    bool, typer.Option("--list", metavar="", help="Show the configurations that ship.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or its metrics.jsonl.")]
Picture = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="The PNG.", show_default="RUN/curve.png"),
]


def train(debug: opt.Debug = False) -> None:
    """Train a model on your own footage, or go on with a run.

    vfi train CONFIG.toml is short for vfi train run CONFIG.toml.
    """


def run(
    config: Config = None,
    *,
    set_: Set = None,
    resume: Resume = False,
    device: opt.Device = "auto",
    export: Export = None,
    list_: List = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Train as a configuration says; Ctrl-C or SIGTERM ends the run so that --resume goes on.

    Several GPUs: torchrun --nproc-per-node N -m vfi_cli.training CONFIG.toml.
    """
    from vfi_cli.training.config import read_config, shipped

    if list_:
        console = messages.console(stderr=False)
        names = shipped()
        width = max(len(name) for name, _ in names)
        for name, text in names:
            console.print(f"{name:{width}}  {text}")
        return 0
    if config is None:
        raise UsageError("a configuration is missing: a TOML file or a name that --list shows")
    path, overrides = Path(config), set_ or []
    if export is not None:
        from vfi_cli.training import checkpoint
        from vfi_cli.training.export import export as write

        found = read_config(path, overrides, to_train=False)
        text = write(found.path(found.run.out) / checkpoint.LAST, export)
        messages.console(stderr=False).print(text)
        return 0
    from vfi_cli.training.run import start
    from vfi_cli.training.stop import kept, stopping

    console = messages.console(quiet=quiet)
    with Show(console) as show:
        trainer = start(
            path, overrides, resume=resume, device=device, report=show.line, on_step=show.step
        )
        if trainer.finished:  # as it was told
            return 0
        weights = sum(weight.numel() for weight in trainer.network.parameters())
        show.line(
            f"{trainer.config.model.architecture}, {weights / 1e6:.1f} M parameters, "
            f"on {trainer.device}; into {trainer.out}"
        )
        try:
            with stopping(trainer, show.line) as stop:
                trainer.run()
        except KeyboardInterrupt:  # the second, which does not wait for the step
            raise KeyboardInterrupt(kept(trainer)) from None
        if stop.signal is None or trainer.finished:
            show.line(f"finished: {trainer.out}; --export FILE writes its weights")
            return 0
        if stop.signal == signal.SIGINT:
            raise KeyboardInterrupt(kept(trainer))
    messages.fail(f"terminated; {kept(trainer)}")
    return stop.exit_code


def plot(run: Run, *, output: Picture = None, debug: opt.Debug = False) -> int:
    """Draw the curves of a run: losses, validation PSNR, learning rate."""
    from vfi_cli.training.plot import plot as draw

    messages.console(stderr=False).print(str(draw(run, output)))
    return 0


class TrainGroup(TyperGroup):
    """A group whose first command may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


GROUP = TrainGroup
#: The commands of ``vfi train``, with the examples that go under their pages.
SUBCOMMANDS: tuple[tuple[str, Callable[..., int], str], ...] = (
    ("run", run, EXAMPLES),
    ("plot", plot, _PLOT),
)


#: Columns of the progress bar.
_BAR = 10


class Show:
    """A bar with the run's rate, losses and PSNR on a terminal, and what it tells above it;
    plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._shown = 0.0

    def __enter__(self) -> Show:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def line(self, text: str) -> None:
        self._console.print(text)

    def step(self, progress: Progress) -> None:
        """Called after each step; draws at most ten times a second."""
        now = time.monotonic()
        if not self._console.is_terminal or (now - self._shown < 0.1 and progress.share < 1):
            return
        self._shown = now
        if self._bar is None:
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.percentage:3.0f} %"),
                BarColumn(bar_width=_BAR),
                TextColumn("{task.fields[text]}"),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=1.0, text="")
            self._bar.start()
        assert self._task is not None
        text = status(progress, self._console.width - _BAR - len("100 %  "))
        self._bar.update(self._task, completed=progress.share, text=text)


def status(progress: Progress, width: int = 120) -> str:
    """``step 1 200  0.42 steps/s  loss 0.0213  31.87 dB  1:02:10 left``, with as many of the
    losses, up to three, as fit into so many columns."""
    before = [f"step {grouped(progress.step)}"]
    if progress.rate:
        slow = progress.rate < 1
        before.append(f"{1 / progress.rate:.2f} s/step" if slow else f"{progress.rate:.1f} steps/s")
    losses = [f"{name} {x:.4f}" for name, x in progress.losses.items() if name != "gradient"][:3]
    after = [] if progress.psnr is None else [f"{progress.psnr:.2f} dB"]
    if progress.left is not None:
        after.append(f"{messages.clock(progress.left, decimals=0)} left")
    while losses and len("  ".join((*before, *losses, *after))) > width:
        losses.pop()
    return "  ".join((*before, *losses, *after))
