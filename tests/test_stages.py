"""Threads behind bounded queues: order, errors, early leaving."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from vfi_cli.stages import ahead, behind


def test_order_is_kept_and_the_queue_is_bounded() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for number in range(50):
            taken.append(number)
            yield number

    with ahead(source(), 3) as items:
        for number in items:
            time.sleep(0.001)
            assert len(taken) <= number + 6
            assert threading.active_count() >= 2
            if number == 20:
                break
    assert len(taken) < 30
    with ahead(iter(range(20)), 3) as items:
        assert list(items) == list(range(20))


def test_an_error_of_the_producer_comes_after_its_items() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    seen: list[int] = []
    with pytest.raises(OSError, match="gone"), ahead(source(), 4) as items:
        for item in items:
            seen.append(item)
    assert seen == [1]


def test_leaving_early_ends_the_thread_first() -> None:
    before = threading.active_count()

    def endless() -> Iterator[int]:
        while True:
            yield 1

    with pytest.raises(KeyError), ahead(endless(), 2) as items:
        next(items)
        raise KeyError
    assert threading.active_count() == before


def test_everything_handed_over_is_consumed() -> None:
    done: list[int] = []
    with behind(done.append, 2) as hand_over:
        for number in range(30):
            hand_over(number)
    assert done == list(range(30))


def test_an_error_of_the_consumer_is_raised_once() -> None:
    def consume(number: int) -> None:
        if number == 3:
            raise OSError("disk")

    def feed(count: int) -> None:
        with behind(consume, 2) as hand_over:
            for number in range(count):
                hand_over(number)

    for count in (4, 100):
        with pytest.raises(OSError, match="disk"):
            feed(count)


def test_an_exception_in_the_caller_drops_what_waits() -> None:
    done: list[int] = []

    def slow(number: int) -> None:
        time.sleep(0.02)
        done.append(number)

    before = threading.active_count()
    with pytest.raises(KeyError), behind(slow, 10) as hand_over:
        for number in range(10):
            hand_over(number)
        raise KeyError
    assert threading.active_count() == before
    assert len(done) < 10
