"""Stages that run ahead or behind in threads of their own, with bounded memory.

:class:`Prefetch` iterates over a source in a thread (decoding while the model works);
:class:`Outbox` hands items to a function in threads (encoding while the model works). An
exception in a thread is raised again in the one that uses the stage, and leaving the ``with``
block ends the threads, whether everything was consumed or not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, Final, Generic, Self, TypeVar

from vfi_cli.interrupts import uninterrupted

T = TypeVar("T")

#: Seconds that closing waits for the item under way; a thread that is stuck in a read from a
#: silent pipe is left behind then (it does not keep the process alive).
_GRACE = 10.0


class _End:
    """Stands in a queue for "no more"; whoever meets it leaves it there for the next."""


_END: Final = _End()


class _Channel(Generic[T]):
    """A bounded queue with an end: the writer finishes it, the reader may refuse more.

    Ctrl-C raises KeyboardInterrupt between any two operations of the main thread. Within a
    ``threading.Condition`` that leaves a lock held or released twice, and the stage hangs or dies
    of a RuntimeError. The operations of two SimpleQueues cannot be torn apart: what is lost at
    worst is an item, or the room for one, of a stage that is being given up.
    """

    def __init__(self, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"a queue of {depth} items")
        self._items: SimpleQueue[T | _End] = SimpleQueue()
        self._room: SimpleQueue[_End | None] = SimpleQueue()
        self._refused = False
        for _ in range(depth):
            self._room.put(None)

    def put(self, item: T) -> bool:
        """Wait for room and add the item; False where the reader wants no more."""
        if self._room.get() is _END or self._refused:
            self._room.put(_END)
            return False
        self._items.put(item)
        return True

    def get(self) -> tuple[bool, T | None]:
        """(True, the next item), or (False, None) after the last."""
        item = self._items.get()
        if self._refused or isinstance(item, _End):
            self._items.put(_END)
            return False, None
        self._room.put(None)
        return True, item

    def finish(self) -> None:
        self._items.put(_END)

    def refuse(self) -> None:
        self._refused = True
        self._items.put(_END)
        self._room.put(_END)

    @property
    def is_refused(self) -> bool:
        return self._refused


class _Stage:
    """Threads that start with a ``with`` block and end with it."""

    def __init__(self, work: Callable[[], None], name: str, threads: int, depth: int) -> None:
        self._channel: _Channel[Any] = _Channel(depth)
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True) for _ in range(threads)
        ]
        self._started = False

    @uninterrupted
    def _start(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _join(self, seconds: float | None = None) -> None:
        for thread in self._threads:
            if self._started:
                thread.join(seconds)

    def _stop(self) -> None:
        """Drop what waits, and let the items under way finish."""
        self._channel.refuse()
        self._join(_GRACE)

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    @uninterrupted
    def __enter__(self) -> Self:
        self._start()
        return self


class Prefetch(_Stage, Generic[T]):
    """Iterate over ``source`` in a thread, at most ``depth`` items ahead.

    The thread starts with the ``with`` block, or with the first item that is asked for. The
    source's ``close`` is called in it when it is done with, as a generator needs.
    """

    def __init__(self, source: Iterable[T], *, depth: int = 4, name: str = "prefetch") -> None:
        self._source = source
        super().__init__(self._work, name, 1, depth)

    def _work(self) -> None:
        try:
            try:
                for item in self._source:
                    if not self._channel.put(item):
                        break
            finally:
                close = getattr(self._source, "close", None)
                if close is not None:
                    close()
        except BaseException as error:
            self._error = error
        finally:
            self._channel.finish()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        self._start()
        more, item = self._channel.get()
        if more:
            return item  # type: ignore[return-value]
        self._join()
        self._raise()
        raise StopIteration

    @uninterrupted
    def close(self) -> None:
        """Stop the thread and drop what it had prepared. Raises nothing of the source's."""
        self._stop()

    @uninterrupted
    def __exit__(self, *_: object) -> None:
        self.close()


class Outbox(_Stage, Generic[T]):
    """Hand items to ``handle`` in threads, at most ``depth`` of them waiting.

    The threads start with the ``with`` block, or with the first item. One thread handles the items
    in order, and calls ``at_end`` when all that came are handled.
    Leaving the ``with`` block in order waits for that (:meth:`close`); leaving it by an exception
    drops those that wait (:meth:`abort`).
    """

    def __init__(
        self,
        handle: Callable[[T], Any],
        *,
        depth: int = 4,
        threads: int = 1,
        name: str = "outbox",
        at_end: Callable[[], Any] | None = None,
    ) -> None:
        if at_end is not None and threads > 1:
            raise ValueError("of several threads none knows when all items are handled")
        self._handle, self._at_end = handle, at_end
        super().__init__(self._work, name, threads, depth)

    def _work(self) -> None:
        try:
            while True:
                more, item = self._channel.get()
                if not more:
                    break
                self._handle(item)  # type: ignore[arg-type]
            if self._at_end is not None and not self._channel.is_refused:
                self._at_end()
        except BaseException as error:
            self._error = self._error or error
            self._channel.refuse()

    def put(self, item: T) -> None:
        """Wait for room and add the item. Raises what ``handle`` raised on an earlier one."""
        self._start()
        if not self._channel.put(item):
            self._join(_GRACE)
            self._raise()
            raise ValueError("the outbox is closed")

    def finish(self) -> None:
        """Say that no more items will come; :meth:`close` has yet to be called."""
        self._start()
        self._channel.finish()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way any more: all is handled, or something failed."""
        return not any(thread.is_alive() for thread in self._threads)

    @uninterrupted
    def close(self) -> None:
        """Wait until everything is handled. Raises what ``handle`` or ``at_end`` raised."""
        try:
            self._channel.finish()
            self._join()
        finally:  # nobody may go on while an item is under way
            self._stop()
        self._raise()

    @uninterrupted
    def abort(self) -> None:
        """Drop what waits, and let the items under way finish."""
        self._stop()

    @uninterrupted
    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
