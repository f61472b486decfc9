"""``python -m vfi_cli`` and the ``vfi`` program."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

#: Threads of torch's OpenMP would spin between two operations, and those of NumPy's OpenBLAS are
#: not worth their start for our small matrices. Both would take the cores from decoding and
#: encoding, which run at the same time.
THREADS_THAT_SLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}


def program() -> NoReturn:
    """:func:`main` as a process of its own, which ends at once.

    Python would first take down all modules, one object after the other: half a second with
    torch. The system has the memory back either way.
    """
    code = main()
    if sys.gettrace() is not None or sys.getprofile() is not None:
        sys.exit(code)  # whoever watches has yet to say what was seen
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a reader who has gone was told of
            stream.flush()
    os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. ``argv`` is without the program's name; returns the exit code."""
    open_standard_streams()
    for name, value in THREADS_THAT_SLEEP.items():
        os.environ.setdefault(name, value)  # read when torch is imported
    from vfi_cli import interrupts

    with interrupts.remembered():
        try:
            from vfi_cli import memory
            from vfi_cli.cli import app, messages

            memory.prepare()
            return messages.run(app.command(), list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt:  # before there was a command that could say more
            print("vfi: interrupted; nothing was begun", file=sys.stderr)
            return interrupts.exit_code()


def open_standard_streams() -> None:
    """Point standard streams that were closed (``>&-``) to nowhere.

    Else the next file that is opened, a video perhaps, takes their place, and what libraries
    print goes into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


if __name__ == "__main__":
    program()
