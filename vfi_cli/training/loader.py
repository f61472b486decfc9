"""Batches in order, drawn ahead of the step by a thread or by several processes.

Who draws a batch does not matter to what it holds, so a run is the same with any number of
workers, and one that is resumed asks for the numbers that come next.
"""

from __future__ import annotations

import itertools
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from vfi_cli.errors import VfiError

Request = TypeVar("Request")
Drawn = TypeVar("Drawn")


def load(
    draw: Callable[[Request], Drawn],
    requests: Iterable[Request],
    *,
    workers: int = 0,
    ahead: int = 2,
    pin: bool = False,
) -> Iterator[Drawn]:
    """``draw(request)`` for each request, in order, worked out before it is asked for.

    ``workers``: processes that draw; 0: a thread of this one, which is enough where a step takes
    a second. ``ahead``: how many results of each worker may wait. ``pin``: results go to a GPU
    from pinned memory. ``requests`` are taken one by one, a little before their turn. An error in
    a draw is raised where its result would have come. Close the iterator to stop the workers.
    """
    if workers == 0:
        return _in_a_thread(draw, requests, ahead)
    return _in_processes(draw, requests, workers, ahead, pin)


def _in_a_thread(
    draw: Callable[[Request], Drawn], requests: Iterable[Request], ahead: int
) -> Iterator[Drawn]:
    remaining = iter(requests)
    waiting: deque[Future[Drawn]] = deque()
    with ThreadPoolExecutor(1, "samples") as thread:
        try:
            for request in itertools.islice(remaining, ahead):
                waiting.append(thread.submit(draw, request))
            while waiting:
                result = waiting.popleft().result()
                for request in itertools.islice(remaining, 1):
                    waiting.append(thread.submit(draw, request))
                yield result
        finally:
            for future in waiting:
                future.cancel()


class _Draws(Dataset[Drawn | VfiError], Generic[Request, Drawn]):
    """What torch's loader takes for a data set: it is asked for requests instead of indices."""

    def __init__(self, draw: Callable[[Request], Drawn]) -> None:
        self.draw = draw

    def __getitem__(self, request: Request) -> Drawn | VfiError:
        try:
            return self.draw(request)
        except VfiError as error:
            return error  # torch would make a page of its one line


def _in_processes(
    draw: Callable[[Request], Drawn],
    requests: Iterable[Request],
    workers: int,
    ahead: int,
    pin: bool,
) -> Iterator[Drawn]:
    loader: DataLoader[Drawn | VfiError] = DataLoader(
        _Draws(draw),
        batch_size=None,
        sampler=requests,
        num_workers=workers,
        prefetch_factor=ahead,
        collate_fn=_as_it_is,
        worker_init_fn=_begin_worker,
        pin_memory=pin,
    )
    for drawn in loader:
        if isinstance(drawn, VfiError):
            raise drawn
        yield drawn


def _as_it_is(drawn: Drawn) -> Drawn:
    return drawn


def _begin_worker(worker: int) -> None:
    torch.set_num_threads(1)
    # Whoever stops the run may signal to all its processes; these end when it does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
