"""Frames from pipes, and the threads between stages."""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import read_number, write_clip
from vfi_cli.errors import InputError
from vfi_cli.io.decode import open_stream
from vfi_cli.io.prefetch import Outbox, Prefetch


@contextmanager
def pipe(data: bytes, chunk: int = 5000):
    """The reading end of a pipe into which a thread writes."""
    reading, writing = os.pipe()

    def feed() -> None:
        try:
            with os.fdopen(writing, "wb", buffering=0) as file:
                for at in range(0, len(data), chunk):
                    file.write(data[at : at + chunk])
        except BrokenPipeError:
            pass

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(reading, "rb") as file:
        yield file
    thread.join()


PIPED = {
    "y4m": {"codec": "rawvideo", "container": "yuv4mpegpipe", "rate": Fraction(30000, 1001)},
    "nut": {"codec": "ffv1", "rate": Fraction(24000, 1001)},
    "mkv": {"tone": True},
    "ts": {"tone": True},
}


@pytest.mark.parametrize("kind", PIPED)
def test_frames_arrive_with_exact_times(tmp_path, kind):
    path = write_clip(tmp_path / f"a.{kind}", frames=30, **PIPED[kind])
    others: list[av.Packet] = []
    with pipe(path.read_bytes()) as file, open_stream(file, on_packet=others.append) as stream:
        assert (stream.info.width, stream.info.height) == (64, 48)
        assert stream.info.nominal_rate == PIPED[kind].get("rate", 25)
        frames = list(stream)
    assert stream.broken is None
    assert [read_number(frame.planes[0]) for frame in frames] == list(range(30))
    for one, two in itertools.pairwise(frames):
        assert one.pts + one.duration == two.pts
    assert frames[-1].duration > 0
    if kind in ("y4m", "nut"):
        rate = PIPED[kind]["rate"]
        assert [frame.time for frame in frames] == [n / rate for n in range(30)]
        assert frames[-1].duration * frames[-1].time_base == 1 / rate
    if "tone" in PIPED[kind]:
        assert len(others) > 20
        with av.open(str(path)) as whole:
            expected = [bytes(packet) for packet in whole.demux(audio=0) if packet.size]
        assert [bytes(packet) for packet in others] == expected


def test_frames_come_before_the_pipe_ends(tmp_path):
    """A live source: pictures are delivered while the writer is still at work."""
    data = write_clip(
        tmp_path / "a.y4m", frames=60, codec="rawvideo", container="yuv4mpegpipe", size=(320, 240)
    ).read_bytes()
    reading, writing = os.pipe()
    finished = threading.Event()

    def feed() -> None:
        with os.fdopen(writing, "wb", buffering=0) as file:
            file.write(data[: len(data) * 3 // 4])
            finished.wait(20)
            file.write(data[len(data) * 3 // 4 :])

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(reading, "rb") as file, open_stream(file) as stream:
        early = [next(stream) for _ in range(20)]
        assert not finished.is_set()
        finished.set()
        rest = list(stream)
    thread.join()
    assert len(early) + len(rest) == 60


def test_a_pipe_that_is_cut_within_a_picture(tmp_path):
    path = write_clip(tmp_path / "a.y4m", frames=20, codec="rawvideo", container="yuv4mpegpipe")
    data = path.read_bytes()
    with pipe(data[: len(data) * 2 // 3]) as file, open_stream(file) as stream:
        frames = list(stream)
    assert len(frames) == 13
    assert stream.broken is not None
    assert stream.broken.time == frames[-1].time + Fraction(1, 25)
    with pipe(data) as file, open_stream(file) as stream:
        assert len(list(stream)) == 20
    assert stream.broken is None


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "nothing came"), (b"hello\n" * 400, "no YUV4MPEG2"), (bytes(9000), "no YUV4MPEG2")],
)
def test_what_is_no_video(data, message):
    with pipe(data) as file, pytest.raises(InputError, match=message):
        open_stream(file)


def test_leaving_a_pipe_early_does_not_hang(tmp_path):
    path = write_clip(tmp_path / "a.mkv", frames=30)
    with pipe(path.read_bytes() * 1) as file, open_stream(file) as stream:
        next(stream)


# --- stages -----------------------------------------------------------------------------


def test_prefetch_keeps_order_and_runs_ahead_only_so_far():
    made: list[int] = []

    def source():
        for number in range(100):
            made.append(number)
            yield number

    with Prefetch(source(), depth=3) as ahead:
        assert next(ahead) == 0
        time.sleep(0.05)
        assert len(made) <= 1 + 3 + 1  # consumed, waiting, in hand
        assert list(ahead) == list(range(1, 100))
        with pytest.raises(StopIteration):
            next(ahead)


def test_prefetch_raises_what_the_source_raised_after_what_came_before():
    def source():
        yield 1
        yield 2
        raise InputError("gone")

    with Prefetch(source()) as ahead:
        assert [next(ahead), next(ahead)] == [1, 2]
        with pytest.raises(InputError, match="gone"):
            next(ahead)


def test_prefetch_is_left_early_without_a_hang_and_closes_its_source():
    closed = threading.Event()

    def source():
        try:
            while True:
                yield np.zeros(10)
        finally:
            closed.set()

    threads = threading.active_count()
    with Prefetch(source(), depth=1) as ahead:
        next(ahead)
    assert closed.is_set()
    assert threading.active_count() == threads
    ahead.close()


def test_outbox_handles_all_in_order_and_bounds_what_waits():
    handled: list[int] = []
    gate = threading.Event()

    def handle(item: int) -> None:
        gate.wait(5)
        handled.append(item)

    with Outbox(handle, depth=2) as outbox:
        for number in range(3):
            outbox.put(number)
        assert handled == []
        gate.set()
        for number in range(3, 50):
            outbox.put(number)
    assert handled == list(range(50))


def test_outbox_raises_what_the_handler_raised():
    def handle(item: int) -> None:
        raise OSError(28, "full")

    def fill() -> None:
        with Outbox(handle, depth=2) as outbox:
            for number in range(1000):
                outbox.put(number)

    with pytest.raises(OSError, match="full"):
        fill()

    def single() -> None:
        with Outbox(handle, depth=2) as outbox:
            outbox.put(1)

    with pytest.raises(OSError, match="full"):
        single()


def test_outbox_drops_what_waits_when_the_producer_fails():
    handled: list[int] = []
    gate = threading.Event()

    def handle(item: int) -> None:
        gate.wait(5)
        handled.append(item)

    def fail() -> None:
        with Outbox(handle, depth=8) as outbox:
            for number in range(5):
                outbox.put(number)
            gate.set()
            raise RuntimeError("producer")

    threads = threading.active_count()
    with pytest.raises(RuntimeError, match="producer"):
        fail()
    assert threading.active_count() == threads
    assert handled == list(range(len(handled)))


def test_outbox_ends_in_its_thread_while_the_producer_goes_on():
    handled: list[object] = []
    gate = threading.Event()

    def end() -> None:
        gate.wait(5)
        handled.append("end")

    outbox = Outbox(handled.append, depth=2, at_end=end)
    for number in range(3):
        outbox.put(number)
    outbox.finish()
    assert not outbox.is_idle
    gate.set()
    outbox.close()
    assert outbox.is_idle
    assert handled == [0, 1, 2, "end"]


def test_outbox_has_no_end_where_items_were_dropped():
    ended: list[int] = []

    def refuse(item: int) -> None:
        raise OSError(28, "full")

    for handle in (refuse, lambda item: None):
        outbox = Outbox(handle, depth=2, at_end=lambda: ended.append(1))
        outbox.put(1)
        outbox.abort()
    assert not ended

    def fail() -> None:
        raise OSError(5, "at the end")

    with pytest.raises(OSError, match="at the end"), Outbox(print, at_end=fail):
        pass
    with pytest.raises(ValueError, match="several threads"):
        Outbox(print, threads=2, at_end=fail)


def test_a_queue_without_room_is_refused():
    with pytest.raises(ValueError, match="0 items"):
        Prefetch([1], depth=0)
