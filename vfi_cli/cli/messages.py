"""What a person reads: errors as one line and an exit code, numbers, consoles.

This is the only place that turns a :class:`~vfi_cli.errors.VfiError` into a
message. Everything for people goes to stderr, so that stdout can carry video
or JSON.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vfi_cli import interrupts
from vfi_cli.errors import VfiError
from vfi_cli.timeline import format_time
from vfi_cli.wording import NBSP

if TYPE_CHECKING:
    from rich.console import Console

    from vfi_cli.estimate import About

INTERNAL_ERROR = 1
#: Why what is printed cannot be written. All other files are somebody's, who says which.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class InterruptedRunError(Exception):
    """A Ctrl-C on its way to its exit code, with what the interrupted command said of it."""

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__(
            str(interrupt)
            or "nothing half-done is left under the output's name. "
            "The same command starts again, and goes on from finished parts where there are any."
        )


class ReaderGoneError(Exception):
    """Nobody reads our stdout any more."""


def console(*, stderr: bool = True, quiet: bool = False) -> Console:
    """A console for people. Names of files are shown as they are: no markup, no highlighting."""
    from rich.console import Console
    from rich.text import Text

    class PatientConsole(Console):
        """Where nobody reads what is said, the work goes on unsaid; a result has no other way."""

        def render_str(self, text: str, **options: Any) -> Text:
            """No name of a file writes to the terminal, not in a table either."""
            return super().render_str(_printable(text, "\n\t"), **options)

        def show_cursor(self, show: bool = True) -> bool:
            """Leave it: after Ctrl-Z or a kill nobody would bring a hidden one back."""
            return False

        def on_broken_pipe(self) -> None:
            _discard(self.file)
            self.quiet = True
            if not self.stderr:
                raise ReaderGoneError

    return PatientConsole(
        stderr=stderr, quiet=quiet, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def warn(text: str, *, quiet: bool = False) -> None:
    """One line of warning on stderr."""
    _say("vfi: warning", text, "yellow", quiet=quiet)


def print_json(record: object) -> None:
    """A result for programs, on stdout. What JSON does not know becomes its text."""
    import json

    text = json.dumps(record, indent=1, default=str, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a file name that is no UTF-8, or a stdout that is not
        text = json.dumps(record, indent=1, default=str)
    print(text, flush=True)


def fail(text: str) -> None:
    """One line of error on stderr; for a batch, which goes on. Others are raised."""
    _say("vfi", text, "red")


def run(command: Any, argv: Sequence[str]) -> int:
    """Run a Typer command on the arguments and return the exit code; never raises.

    Errors become one line on stderr. With ``--debug`` anywhere among the
    arguments the traceback is shown before it.
    """
    with interrupts.remembered():
        return _run(command, argv, debug="--debug" in argv)


def _run(command: Any, argv: Sequence[str], *, debug: bool) -> int:
    try:
        result = _interruptible(command, argv)
        sys.stdout.flush()
    except VfiError as error:
        return _fail(str(error), error.exit_code, debug=debug)
    except InterruptedRunError as error:
        return _fail(f"interrupted; {error}", interrupts.exit_code(), debug=debug)
    except (ReaderGoneError, BrokenPipeError):
        # Whoever read our stdout has gone. Python would complain once more at exit.
        _discard(sys.stdout)
        return _fail("the program that reads the output has gone", 5, debug=debug)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            _discard(sys.stdout)  # as above
            return _fail(f"stdout cannot be written: {error.strerror}", 5, debug=debug)
        if hasattr(error, "format_message"):  # wrong options, found by Typer
            return _usage(error, debug=debug)
        return _bug(error, debug=debug)
    return result if isinstance(result, int) else 0


def _interruptible(command: Any, argv: Sequence[str]) -> Any:
    """Run the command; after a signal that asks to end, everything that comes out is that."""
    try:
        result = command.main(args=list(argv), prog_name="vfi", standalone_mode=False)
    except InterruptedRunError:
        raise
    except KeyboardInterrupt as interrupt:
        raise InterruptedRunError(interrupt) from interrupt
    except Exception as error:
        if interrupts.met() or type(error).__name__ == "Abort":  # Typer's word for Ctrl-C
            raise InterruptedRunError(KeyboardInterrupt()) from error
        raise
    except SystemExit as error:  # Rich's, where nobody reads what it prints
        raise ReaderGoneError from error
    if result == 128 + signal.SIGINT and interrupts.met():  # Typer's, before a command runs
        raise InterruptedRunError(KeyboardInterrupt())
    return result


def _usage(error: Any, *, debug: bool) -> int:
    text = " ".join(error.format_message().split()).replace("Value error, ", "")
    if not text:  # called without arguments: the help page is the answer, and was printed
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "vfi"
    return _fail(f"{text.rstrip('.')} (see {path} --help)", int(error.exit_code), debug=debug)


def _bug(error: Exception, *, debug: bool) -> int:
    hint = "" if debug else " Run the same command with --debug to see where."
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return _fail(
        f"{' '.join(what.split())}. This is a bug in vfi, please report it.{hint}",
        INTERNAL_ERROR,
        debug=debug,
    )


def _fail(text: str, code: int, *, debug: bool) -> int:
    if debug and sys.exc_info()[1] is not None:
        import traceback

        traceback.print_exc()
    fail(text)
    return code


def _say(prefix: str, text: str, style: str, *, quiet: bool = False) -> None:
    from rich.text import Text

    try:
        console(quiet=quiet).print(Text.assemble((f"{prefix}: ", style), one_line(text)))
    except BrokenPipeError:
        _discard(sys.stderr)


def _discard(stream: Any) -> None:
    """Point a stream whose reader has gone to nowhere, so that flushing it at exit is quiet."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):
        return  # not a real file: nothing will be flushed to it at exit
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def one_line(text: str) -> str:
    """The text on a single line, without control characters that a file name may carry."""
    return _printable(" ".join(text.split()))


#: Letters of Persian and families of emoji are joined or kept apart by these.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def _printable(text: str, allowed: str = "") -> str:
    allowed += NBSP + _JOINERS
    return "".join(
        c if c.isprintable() or c in allowed else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def clock(seconds: Fraction | float, *, decimals: int = 1) -> str:
    """A length of time: 134.3 → ``2:14.3``."""
    return format_time(seconds, decimals=decimals)


def between(amount: About, show: Callable[[float], str]) -> str:
    """An estimate: ``about 2:10 (1:40 to 2:50)``."""
    return f"about {show(amount.value)} ({show(amount.low)} to {show(amount.high)})"


def rate(value: float) -> str:
    """A speed with no more digits than tell: ``0.043``, ``2.5``, ``148``."""
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.095 else f"{value:.2g}"
