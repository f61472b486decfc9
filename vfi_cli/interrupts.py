"""Ctrl-C and SIGTERM: remembered, and kept away from where they would do harm.

A signal raises KeyboardInterrupt between any two operations of the main thread. In the middle of
starting or ending a thread that leaves the thread behind, in the midst of what is closed next; in
an import, a library's cleaning up or a callback another error comes out, or none at all. So the
handler here leaves :func:`uninterrupted` functions alone, and notes the signal: what fails
afterwards was interrupted (:func:`met`), and work that goes on is interrupted again
(:func:`check`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

_met: signal.Signals | None = None
_uninterrupted: set[CodeType] = set()


@contextmanager
def remembered() -> Iterator[None]:
    """Note signals that ask the program to end, and raise KeyboardInterrupt for them.

    A signal that is ignored stays so, and a handler of the caller's keeps its place.
    """
    global _met  # noqa: PLW0603 (a process has one set of signal handlers)
    before = {}
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    try:
        for number, handler in usual.items():
            if signal.getsignal(number) is handler:
                before[number] = signal.signal(number, _interrupt)
    except ValueError:
        pass  # not in the main thread: its signals are not ours
    if before:
        _met = None
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _met  # noqa: PLW0603
    again = met()
    _met = signal.Signals(number)
    # The second time is meant, whatever it may leave behind.
    if again or not holds(frame):
        raise KeyboardInterrupt


def uninterrupted(function: F) -> F:
    """Mark a function, with all that it calls, as one that :func:`remembered` does not interrupt.

    It must be short, and :func:`check` be called some time after it.
    """
    _uninterrupted.add(function.__code__)
    return function


def holds(frame: FrameType | None) -> bool:
    """Whether a frame of a call stack is, or was called by, an :func:`uninterrupted` function."""
    while frame is not None:
        if frame.f_code in _uninterrupted:
            return True
        frame = frame.f_back
    return False


def met() -> bool:
    """Whether a signal has asked the program to end."""
    return _met is not None


def check() -> None:
    """Raise KeyboardInterrupt where one was met, and was held back or got lost."""
    if met():
        raise KeyboardInterrupt


def exit_code() -> int:
    """As a shell has it for a process that a signal ends: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (_met or signal.SIGINT)
