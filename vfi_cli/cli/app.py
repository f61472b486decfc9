"""The program ``vfi``: its commands by name, each imported only when it is called.

``vfi --help`` shows the commands from the table below, so it imports none of
them, and no command module imports torch, PyAV or NumPy before it does its work.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vfi_cli import errors


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """Where a command lives. Its module may define ``EXAMPLES``, shown below its options.

    A module with ``SUBCOMMANDS`` (name, function, examples) is a group of commands.
    """

    name: str
    module: str
    function: str
    summary: str
    help_without_arguments: bool = True
    #: Whether a group does something of its own when none of its commands is named.
    runs_alone: bool = False


COMMANDS: tuple[CommandEntry, ...] = (
    CommandEntry(
        "convert", "vfi_cli.cli.convert", "convert", "Convert videos to another frame rate."
    ),
    CommandEntry(
        "slowmo", "vfi_cli.cli.slowmo", "slowmo", "Stretch time: slow motion by any factor."
    ),
    CommandEntry(
        "frames", "vfi_cli.cli.frames", "frames", "Add frames between the images of a folder."
    ),
    CommandEntry(
        "video", "vfi_cli.cli.video", "video", "Make a video from the numbered images of a folder."
    ),
    CommandEntry(
        "compare",
        "vfi_cli.cli.compare",
        "compare",
        "Show videos side by side, or measure how they differ.",
    ),
    CommandEntry(
        "eval",
        "vfi_cli.cli.eval",
        "evaluate",
        "Score models on the papers' benchmarks, or on a clip of your own.",
    ),
    CommandEntry(
        "models",
        "vfi_cli.cli.models",
        "models",
        "List models, fetch them, and look into their files.",
    ),
    CommandEntry(
        "train",
        "vfi_cli.cli.train",
        "train",
        "Train a model on your own footage, or go on with a run.",
    ),
    CommandEntry(
        "bench",
        "vfi_cli.cli.bench",
        "bench",
        "Measure models and conversions on this machine.",
        help_without_arguments=False,
        runs_alone=True,
    ),
    CommandEntry(
        "doctor",
        "vfi_cli.cli.doctor",
        "doctor",
        "Show what this installation can do, and what to do about what is missing.",
        help_without_arguments=False,
    ),
)

EXAMPLES = """\
[bold]Examples[/bold]
  vfi convert holiday.mp4 --fps 60     60 frames a second, sound untouched
  vfi slowmo jump.mp4 --factor 8       eight times slower
  vfi frames clips/ --inter 3          three new images between each two
"""


def exit_code_help() -> str:
    """The exit codes, one a line, as ``vfi --help`` shows them."""
    lines = (f"  {code:>3}  {meaning}" for code, meaning in errors.EXIT_CODES.items())
    return "[bold]Exit codes[/bold]\n" + "\n".join(lines)


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [entry.name for entry in COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name with its name and summary alone, as a help page needs it."""
        for entry in COMMANDS:
            if entry.name == cmd_name:
                return TyperCommand(entry.name, help=entry.summary)
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        # Typer looks for near misses among these when a name is unknown.
        self.commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None:
            command = load(name)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        from vfi_cli.cli import messages

        # Typer would make bare exit codes of these; here is more to be said about them.
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise messages.InterruptedRunError(interrupt) from interrupt
        except BrokenPipeError as error:
            raise messages.ReaderGoneError from error


def load(name: str) -> Any:
    """Import a command's module and build its command. Raises KeyError for an unknown name."""
    entry = next((entry for entry in COMMANDS if entry.name == name), None)
    if entry is None:
        raise KeyError(name)
    from vfi_cli.cli.options import Command

    module = importlib.import_module(entry.module)
    function: Callable[..., Any] = getattr(module, entry.function)
    single = typer.Typer(add_completion=False, rich_markup_mode="rich", context_settings=SETTINGS)
    examples = getattr(module, "EXAMPLES", None)
    subcommands = getattr(module, "SUBCOMMANDS", ())
    if subcommands:
        group = getattr(module, "GROUP", None)
        single.callback(help=flowing(function), epilog=examples, cls=group)(function)
        for called, subcommand, epilog in subcommands:
            text = flowing(subcommand)
            single.command(called, cls=Command, help=text, epilog=epilog)(subcommand)
    else:
        made = single.command(
            entry.name,
            cls=Command,
            help=flowing(function),
            epilog=examples,
            no_args_is_help=False,
        )
        made(function)
    command = typer.main.get_command(single)
    command.no_args_is_help = entry.help_without_arguments
    if isinstance(command, TyperGroup):
        command.invoke_without_command = entry.runs_alone
    return command


def flowing(function: Callable[..., Any]) -> str:
    """A docstring with each paragraph on one line, so that the help page breaks it where it ends.

    Typer keeps the line breaks of the source, beside those that a narrow terminal needs.
    """
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="vfi",
    cls=LazyGroup,
    rich_markup_mode="rich",
    context_settings=SETTINGS,
    epilog=f"{EXAMPLES}\n\n{exit_code_help()}",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from vfi_cli import __version__

        typer.echo(f"vfi {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            metavar="",
            callback=_show_version,
            is_eager=True,
            help="Show the version and exit.",
        ),
    ] = False,
) -> None:
    """Convert the frame rate of video with neural interpolation, exact in time and colour.

    Each command has its own page with examples: [bold]vfi convert --help[/bold]
    """
    if ctx.invoked_subcommand is None:
        ctx.get_help()  # prints the page


def command() -> Any:
    """The whole program as one command object, ready for ``messages.run``."""
    return typer.main.get_command(app)
