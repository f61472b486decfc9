"""Samples to a device and back: what arrives, and, on a simulated device whose copies run as late
as they may, that nobody reads before it has arrived."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vfi_cli import transfer

CUDA = torch.device("cuda", 0)


def planes() -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (6, 9), np.uint8),
        rng.integers(0, 65536, (3, 5), np.uint16),
        np.asfortranarray(rng.integers(0, 65536, (3, 5), np.uint16)),
    ]


# --------------------------------------------------------------- on the CPU


def test_the_cpu_keeps_memory_dtype_and_shape() -> None:
    sources = planes()
    made = transfer.upload(sources, "cpu")
    assert [tensor.dtype for tensor in made] == [torch.uint8, torch.uint16, torch.uint16]
    for source, tensor in zip(sources, made, strict=True):
        assert tensor.data_ptr() == source.ctypes.data
        np.testing.assert_array_equal(tensor.numpy(), source)
    for source, back in zip(sources, transfer.download(made), strict=True):
        assert back.ctypes.data == source.ctypes.data
        assert back.dtype == source.dtype


def test_read_only_planes_are_not_shared() -> None:
    plane = np.arange(6, dtype=np.uint8)
    plane.flags.writeable = False
    (made,) = transfer.upload([plane], "cpu")
    made.zero_()
    assert plane.tolist() == [0, 1, 2, 3, 4, 5]


def test_tensors_go_both_ways() -> None:
    made = torch.rand(2, 3)
    assert transfer.upload([made], "cpu")[0] is made
    np.testing.assert_array_equal(transfer.download([made])[0], made.numpy())
    assert transfer.upload([], "cpu") == []
    assert transfer.download([]) == ()


# --------------------------------------------------------------- on a simulated device


class Event:
    def __init__(self, blocking: bool = False) -> None:
        self.stream: Stream | None = None
        self.length = 0

    def record(self, stream: Stream) -> None:
        self.stream, self.length = stream, stream.queued

    def synchronize(self) -> None:
        assert self.stream is not None
        self.stream.run(self.length)


class Stream:
    """Work waits here until somebody waits for it. What is not waited for never runs."""

    def __init__(self, device: torch.device | None = None) -> None:
        self.waiting: list[Callable[[], object]] = []
        self.queued = self.done = 0
        self.knows: set[int] = set()  # tensors that were made before a stream was waited for

    def put(self, work: Callable[[], object]) -> None:
        self.waiting.append(work)
        self.queued += 1

    def run(self, until: int) -> None:
        while self.done < until:
            self.waiting.pop(0)()
            self.done += 1

    def wait_stream(self, other: Stream) -> None:
        other.run(other.queued)
        self.knows |= Device.made


class Device(TorchFunctionMode):
    """Takes Python's calls to torch and lets CPU tensors pass for tensors of a CUDA device.

    Copies that need not block are put off. Kernels, that is everything else, run at once.
    """

    made: ClassVar[set[int]] = set()

    def __init__(self, *, locks: bool = True) -> None:
        super().__init__()
        self.locks = locks
        self.attempts = 0
        self.blocked = 0  # copies that held up the caller
        self.current = Stream()
        self.stack = [self.current]
        self.kept: list[Tensor] = []  # so that an id stays what it is
        self.pinned: set[int] = set()
        self.on_device: set[int] = set()
        self.recorded: dict[int, Stream] = {}
        Device.made = set()

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.stack.append(stream)
        yield
        self.stack.pop()

    def computed(self, tensor: Tensor) -> Tensor:
        """A result of the current stream."""
        self.kept.append(tensor)
        self.on_device.add(id(tensor))
        Device.made = Device.made | {id(tensor)}
        return tensor

    def _copy(self, target: Tensor, source: Tensor, waits: bool) -> None:
        stream = self.stack[-1]
        if stream is not self.current and id(source) in Device.made:
            assert id(source) in stream.knows, "read by a stream that did not wait for it"
        stream.put(lambda: target.copy_(source))
        if waits:
            self.blocked += 1
            stream.run(stream.queued)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func is torch.empty and kwargs.pop("pin_memory", False):
            self.attempts += 1
            if not self.locks:
                raise RuntimeError("CUDA error: out of memory")
            staged = torch.full(args[0], 77, dtype=kwargs["dtype"])
            self.kept.append(staged)
            self.pinned.add(id(staged))
            return staged
        if name == "is_pinned":
            return id(args[0]) in self.pinned
        if name == "__get__" and id(args[0]) in self.on_device:
            if func.__self__ is torch.Tensor.device:
                return CUDA
            if func.__self__ is torch.Tensor.is_cuda:
                return True
        if name == "to":
            source, non_blocking = args[0], kwargs["non_blocking"]
            assert not non_blocking or id(source) in self.pinned, "memory that may be paged out"
            arrived = torch.full_like(source, 99)
            self.kept.append(arrived)
            self.on_device.add(id(arrived))
            self._copy(arrived, source, waits=not non_blocking)
            return arrived
        if name == "copy_" and id(args[1]) in self.on_device:
            non_blocking = kwargs.get("non_blocking", False)
            assert not non_blocking or id(args[0]) in self.pinned, "memory that may be paged out"
            self._copy(args[0], args[1], waits=not non_blocking)
            return args[0]
        return func(*args, **kwargs)


@pytest.fixture(params=[True, False], ids=["locked", "pageable"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    simulated = Device(locks=request.param)

    def record(tensor: Tensor, stream: Stream) -> None:
        simulated.recorded[id(tensor)] = stream

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", simulated.stream)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: simulated.current)
    monkeypatch.setattr(torch.Tensor, "record_stream", record)
    transfer._link.cache_clear()
    with simulated:
        yield simulated
    transfer._link.cache_clear()


def test_planes_arrive_and_may_be_changed_at_once(device: Device) -> None:
    sources = planes()
    expected = [source.copy() for source in sources]
    made = transfer.upload(sources, "cuda")
    for source in sources:
        source[...] = 0
    for tensor, wanted in zip(made, expected, strict=True):
        np.testing.assert_array_equal(tensor.numpy(), wanted)
    assert device.blocked == (0 if device.locks else 3)


def test_what_arrived_stays_while_the_current_stream_reads_it(device: Device) -> None:
    made = transfer.upload(planes(), CUDA)
    assert [device.recorded.get(id(tensor)) for tensor in made] == [device.current] * 3


def test_results_are_waited_for(device: Device) -> None:
    results = [device.computed(torch.from_numpy(plane.copy())) for plane in planes()]
    expected = [plane.copy() for plane in planes()]
    for made, wanted in zip(transfer.download(results), expected, strict=True):
        np.testing.assert_array_equal(made, wanted)
        assert made.dtype == wanted.dtype


def test_downloads_are_not_overwritten_by_the_next(device: Device) -> None:
    first = transfer.download([device.computed(torch.full((4,), 1.0))])[0]
    second = transfer.download([device.computed(torch.full((4,), 2.0))])[0]
    assert first.tolist() == [1.0] * 4
    assert second.tolist() == [2.0] * 4


def test_what_is_on_the_device_is_left_there(device: Device) -> None:
    there = device.computed(torch.ones(3))
    made = transfer.upload([there, np.zeros(3, np.uint8)], CUDA)
    assert made[0] is there
    assert made[1].tolist() == [0, 0, 0]


def test_memory_that_cannot_be_locked_is_not_asked_for_again(device: Device) -> None:
    for _ in range(3):
        transfer.upload(planes(), CUDA)
    assert device.attempts == (9 if device.locks else 1)


def test_tensors_of_several_devices_are_refused(device: Device) -> None:
    with pytest.raises(ValueError, match="one device"):
        transfer.download([device.computed(torch.ones(2)), torch.ones(2)])


# --------------------------------------------------------------- on a device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_there_and_back_on_a_gpu() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        sources = [rng.integers(0, 256, (720, 1280), np.uint8) for _ in range(3)]
        sources.append(rng.integers(0, 65536, (720, 1280), np.uint16))
        expected = [source.copy() for source in sources]
        made = transfer.upload(sources, "cuda")
        for source in sources:
            source[...] = 0
        assert all(tensor.is_cuda for tensor in made)
        doubled = [tensor.float() * 2 for tensor in made]
        del made
        for values, wanted in zip(transfer.download(doubled), expected, strict=True):
            np.testing.assert_array_equal(values, wanted.astype(np.float32) * 2)
