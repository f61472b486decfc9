"""Signals that end a run after its step, so that ``--resume`` goes on with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vfi_cli.training.cache import Report
from vfi_cli.training.loop import Trainer


class Stop:
    """What was asked of a run: ``signal`` is None where nothing was."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """As a shell has it for a process that a signal ends: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.signal if self.signal else 0


@contextmanager
def stopping(trainer: Trainer, report: Report = lambda line: None) -> Iterator[Stop]:
    """The first Ctrl-C or SIGTERM ends the run after its step; the next one ends it at once.

    ``torchrun`` passes on signals that its processes may have had from the terminal already, and
    kills those that take longer than half a minute: of its signals only the first counts.
    """
    stop = Stop()
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal is None:
            stop.signal = signal.Signals(number)
            trainer.stop()
            report("ending after this step, and saving")
        if not torchrun:
            restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, ask)
    except ValueError:  # not the main thread
        yield stop
        return
    try:
        yield stop
    finally:
        restore()


def kept(trainer: Trainer) -> str:
    """What there is to go on with, in words."""
    if trainer.saved is None:
        return "nothing was saved"
    return f"saved at step {trainer.saved}; --resume goes on from there"
