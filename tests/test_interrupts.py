"""Ctrl-C at any moment ends a command as an interruption, without a hang."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from vfi_cli import interrupts
from vfi_cli.cli import messages
from vfi_cli.cli.progress import Progress
from vfi_cli.errors import InputError
from vfi_cli.io import prefetch
from vfi_cli.io.prefetch import Outbox, Prefetch


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Ctrl-C interrupts, also where the tests run in the background of a shell that ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_at(moment: int, work: Callable[[], None]) -> tuple[bool, BaseException | None]:
    """Run ``work`` with a Ctrl-C at its n-th line in queues: (it came so far, what came out)."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        code = frame.f_code
        queue = code.co_filename == prefetch.__file__
        if not (queue or code.co_qualname.startswith("Condition.")):
            return trace if code.co_filename == __file__ else None
        if event == "line" and not interrupts.holds(frame):
            lines += 1
            if lines == moment:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    try:
        sys.settrace(trace)
        work()
    except BaseException as error:
        return lines >= moment, error
    finally:
        sys.settrace(before)
    return lines >= moment, None


def test_ctrl_c_at_any_line_of_a_queue_neither_hangs_nor_becomes_another_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefetch, "_GRACE", 0.5)
    handled: list[int] = []

    def stages() -> None:
        # ends that threads reach on their own, so that none of their starting is in the way
        with Prefetch(iter(range(3)), depth=1) as ahead, Outbox(handled.append, depth=1) as outbox:
            for item in ahead:
                outbox.put(item)

    threads = threading.active_count()
    moment = 1
    while True:
        reached, error = interrupted_at(moment, stages)
        if not reached:
            break
        assert type(error) is KeyboardInterrupt, moment
        deadline = time.monotonic() + 0.4
        while threading.active_count() > threads:
            assert time.monotonic() < deadline, f"a thread hangs after line {moment}"
            time.sleep(0.001)
        moment += 1
    assert moment > 30  # it did look inside
    handled.clear()
    stages()
    assert handled == [0, 1, 2]


def test_an_outbox_that_is_interrupted_while_it_ends_leaves_nothing_under_way() -> None:
    """What it hands items to is closed next, and must not be in use then."""
    under_way = threading.Event()
    finished = threading.Event()

    def handle(item: int) -> None:
        under_way.set()
        time.sleep(0.2)
        finished.set()

    def interrupt() -> None:
        under_way.wait()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()

    def work() -> None:
        with Outbox(handle) as outbox:
            outbox.put(1)
        assert finished.is_set()
        interrupts.check()

    with pytest.raises(KeyboardInterrupt), interrupts.remembered():
        work()
    assert finished.is_set()


def test_an_outbox_of_several_threads_handles_all_and_raises_what_one_raised() -> None:
    handled: list[int] = []
    with Outbox(handled.append, depth=2, threads=3) as outbox:
        for number in range(100):
            outbox.put(number)
    assert sorted(handled) == list(range(100))

    def refuse(item: int) -> None:
        if item == 7:
            raise OSError(28, "full")

    def fill() -> None:
        with Outbox(refuse, depth=2, threads=3) as outbox:
            for number in range(100):
                outbox.put(number)

    with pytest.raises(OSError, match="full"):
        fill()


class Program:
    """Stands in for the command line."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work

    def main(self, **_: object) -> object:
        return self._work()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("becomes", [RuntimeError("released"), InputError("cannot be read")])
def test_what_an_interrupt_becomes_is_an_interrupt(
    number: signal.Signals,
    code: int,
    becomes: Exception,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:
            raise becomes from None

    before = signal.getsignal(number)
    assert messages.run(Program(work), []) == code
    assert "interrupted; " in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_an_interrupt_that_gets_lost_comes_again_with_the_next_frame() -> None:
    made = 0

    def work() -> None:
        nonlocal made
        progress = Progress(10, None, messages.console(quiet=True), quiet=True)
        for made in range(10):
            progress.update(made)
            if made == 3:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(5)
                except KeyboardInterrupt:  # as Python does in finalizers and callbacks
                    pass

    assert messages.run(Program(work), ["--quiet"]) == 130
    assert made == 4


def test_a_batch_is_not_gone_on_with_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vfi_cli.__main__ import main
    from vfi_cli.cli import run

    tried: list[Path] = []

    def convert_file(source: Path, *_: object, **__: object) -> None:
        tried.append(source)
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise InputError(f"{source}: Immediate exit requested") from None

    monkeypatch.setattr(run, "convert_file", convert_file)
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    assert main(["convert", str(tmp_path), "--fps", "60"]) == 130
    assert len(tried) == 1
    assert "The same command goes on from there" in capsys.readouterr().err


def test_the_second_signal_is_not_held_back() -> None:
    @interrupts.uninterrupted
    def stubborn() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            seen.append(interrupts.met())

    seen: list[bool] = []
    with pytest.raises(KeyboardInterrupt), interrupts.remembered():
        stubborn()
    assert seen == [True]


def test_signals_that_are_ignored_stay_ignored() -> None:
    """As in a shell's background, or under nohup."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts.remembered():
            os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.met()
    finally:
        signal.signal(signal.SIGINT, before)
