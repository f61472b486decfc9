"""Stages that run ahead or behind in a thread of their own, with bounded memory.

:class:`Prefetch` iterates over a source in a thread (decoding while the model works);
:class:`Outbox` hands items to a function in a thread (encoding while the model works). An
exception in the thread is raised again in the one that uses the stage, and leaving the ``with``
block ends the thread, whether everything was consumed or not.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")

#: Seconds that closing waits for the item under way; a thread that is stuck in a read from a
#: silent pipe is left behind then (it does not keep the process alive).
_GRACE = 10.0


class _Channel(Generic[T]):
    """A bounded queue with an end: the writer finishes it, the reader may refuse more."""

    def __init__(self, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"a queue of {depth} items")
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._finished = False
        self._refused = False

    def put(self, item: T) -> bool:
        """Wait for room and add the item; False where the reader wants no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._refused or len(self._items) < self._depth)
            if self._refused:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> tuple[bool, T | None]:
        """(True, the next item), or (False, None) after the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._finished or self._refused)
            if not self._items or self._refused:
                return False, None
            item = self._items.popleft()
            self._changed.notify_all()
            return True, item

    def finish(self) -> None:
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def refuse(self) -> None:
        with self._changed:
            self._refused = True
            self._items.clear()
            self._changed.notify_all()


class Prefetch(Generic[T]):
    """Iterate over ``source`` in a thread, at most ``depth`` items ahead.

    The source's ``close`` is called in that thread when it is done with, as a generator needs.
    """

    def __init__(self, source: Iterable[T], *, depth: int = 4, name: str = "prefetch") -> None:
        self._source = source
        self._channel: _Channel[T] = _Channel(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

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
        more, item = self._channel.get()
        if more:
            return item  # type: ignore[return-value]
        self._thread.join()
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def close(self) -> None:
        """Stop the thread and drop what it had prepared. Raises nothing of the source's."""
        self._channel.refuse()
        self._thread.join(_GRACE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Outbox(Generic[T]):
    """Hand items to ``handle`` in a thread, at most ``depth`` of them waiting.

    Leaving the ``with`` block in order waits until all are handled (:meth:`close`); leaving it
    by an exception drops those that wait (:meth:`abort`).
    """

    def __init__(self, handle: Callable[[T], Any], *, depth: int = 4, name: str = "outbox") -> None:
        self._handle = handle
        self._channel: _Channel[T] = _Channel(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            while True:
                more, item = self._channel.get()
                if not more:
                    return
                self._handle(item)  # type: ignore[arg-type]
        except BaseException as error:
            self._error = error
            self._channel.refuse()

    def put(self, item: T) -> None:
        """Wait for room and add the item. Raises what ``handle`` raised on an earlier one."""
        if not self._channel.put(item):
            self._raise()
            raise ValueError("the outbox is closed")

    def _raise(self) -> None:
        self._thread.join(_GRACE)
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Wait until everything is handled. Raises what ``handle`` raised."""
        self._channel.finish()
        self._thread.join()
        self._raise()
        self._channel.refuse()

    def abort(self) -> None:
        """Drop what waits, and let the item under way finish."""
        self._channel.refuse()
        self._thread.join(_GRACE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
