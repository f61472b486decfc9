"""Stages that overlap: a producer or a consumer in a thread of its own, behind a bounded queue.

What goes wrong in a thread is raised in the caller's; leaving early, by whatever
exception, ends the thread before anything that it uses is taken away.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.05


class _End:
    """Marks the end of a queue."""


class _Stage(Generic[T]):
    """A thread with a queue to it or from it."""

    def __init__(self, size: int, work: Callable[[], None], name: str) -> None:
        self._queue: queue.Queue[T | _End] = queue.Queue(size)
        self._work = work
        self._error: BaseException | None = None
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # raised again by whoever waits for this thread
            self._error = error

    def _put(self, item: T | _End) -> bool:
        """Queue an item; False if there is no one left to take it."""
        while not self._leave.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                if not self._thread.is_alive():
                    return False
        return False

    def _get(self) -> T | _End:
        """Take an item; the end if there is no one left to give one."""
        while not self._leave.is_set():
            try:
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self._thread.is_alive() and self._queue.empty():
                    break
        return _End()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


@contextmanager
def ahead(items: Iterable[T], size: int) -> Iterator[Iterator[T]]:
    """Iterate over ``items``, which a thread takes up to ``size`` ahead of need.

    On leaving, the thread has ended and touches ``items`` no more.
    """

    def produce() -> None:
        for item in items:
            if not stage._put(item):
                return
        stage._put(_End())

    stage: _Stage[T] = _Stage(size, produce, "ahead")

    def consume() -> Iterator[T]:
        while not isinstance(item := stage._get(), _End):
            yield item
        stage._raise()

    stage._thread.start()
    try:
        yield consume()
    finally:
        stage._leave.set()
        stage._thread.join()


@contextmanager
def behind(consume: Callable[[T], object], size: int) -> Iterator[Callable[[T], None]]:
    """Give a function that hands items to ``consume`` in a thread, up to ``size`` waiting.

    On leaving without an exception all items have been consumed. What ``consume``
    raises is raised by the next hand-over, or on leaving.
    """

    def work() -> None:
        while not isinstance(item := stage._get(), _End):
            consume(item)

    stage: _Stage[T] = _Stage(size, work, "behind")

    def hand_over(item: T) -> None:
        if not stage._put(item):
            stage._raise()

    stage._thread.start()
    try:
        yield hand_over
        stage._put(_End())
    except BaseException:
        stage._leave.set()
        raise
    finally:
        stage._thread.join()
    stage._raise()
