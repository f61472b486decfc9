"""Samples on their way to a device and back.

Between the CPU and a CUDA device they pass through page-locked memory, each way on a stream of its
own, so that copies run beside the kernels of the current stream. Torch's allocator of page-locked
memory keeps the buffers: what is given back is used again, and not before the copies from and to
it have run. Where no memory can be locked, copies still work and merely wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from vfi_cli.frame import Samples

Source = Samples | Tensor


def upload(planes: Sequence[Source], device: str | torch.device) -> list[Tensor]:
    """The same samples on a device: uint8 and uint16 arrays as tensors of their dtypes and shapes.

    Returns at once; the current stream waits for the samples before it reads them. The planes may
    be written to as soon as this returns. On the CPU nothing is copied: a tensor shares its plane's
    memory (read-only planes are copied), so neither must be written to while the other is in use.
    """
    where = torch.device(device)
    tensors = [_tensor(plane) for plane in planes]
    if where.type == "cuda":
        return _link(_numbered(where)).upload(tensors)
    return [tensor.to(where) for tensor in tensors]


def download(tensors: Sequence[Tensor]) -> tuple[NDArray[Any], ...]:
    """Arrays of what the current stream computes, all waited for at once.

    Tensors on the CPU are not copied: their arrays share memory with them.
    """
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    if not devices:
        return tuple(tensor.detach().numpy() for tensor in tensors)
    if len(devices) > 1 or not all(tensor.is_cuda for tensor in tensors):
        raise ValueError("tensors that are fetched together must be on one device")
    return tuple(tensor.numpy() for tensor in _link(devices.pop()).download(tensors))


def _tensor(plane: Source) -> Tensor:
    if isinstance(plane, Tensor):
        return plane
    return torch.from_numpy(plane if plane.flags.writeable else plane.copy())


def _numbered(device: torch.device) -> torch.device:
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.device("cuda", index)


class _Link:
    """The streams between the CPU and one CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._up = torch.cuda.Stream(device)
        self._down = torch.cuda.Stream(device)
        self._locks = True  # whether memory can be page-locked

    def upload(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        current = torch.cuda.current_stream(self._device)
        made = []
        for tensor in tensors:
            if tensor.device == self._device:
                made.append(tensor)
                continue
            staged = self._staging(tensor)
            staged.copy_(tensor)
            with torch.cuda.stream(self._up):
                arrived = staged.to(self._device, non_blocking=staged.is_pinned())
            # It belongs to the upload stream, which must not use its memory again before the
            # current stream has read it.
            arrived.record_stream(current)
            made.append(arrived)
        current.wait_stream(self._up)
        return made

    def download(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        # Blocking: the core is left to decoder and encoder, not kept busy asking.
        done = torch.cuda.Event(blocking=True)
        staged = [self._staging(tensor) for tensor in tensors]
        with torch.cuda.stream(self._down):
            for target, tensor in zip(staged, tensors, strict=True):
                target.copy_(tensor, non_blocking=target.is_pinned())
        done.record(self._down)
        # All copies have run before the caller can free what they read: no record_stream.
        done.synchronize()
        return staged

    def _staging(self, like: Tensor) -> Tensor:
        """Uninitialised memory on the CPU, page-locked where that is granted."""
        if self._locks:
            try:
                return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            except RuntimeError:  # the operating system, or the driver, grants no (more) of it
                self._locks = False
        return torch.empty(like.shape, dtype=like.dtype)


@cache
def _link(device: torch.device) -> _Link:
    return _Link(device)
