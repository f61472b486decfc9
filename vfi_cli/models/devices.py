"""Where a model runs, and in which precision."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from vfi_cli.errors import DeviceError, ModelError, UsageError
from vfi_cli.native import int8_ops

FLOAT32_ONLY = frozenset({torch.float32})
ALL_DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
#: Of a network whose convolutions can multiply 8-bit numbers.
WITH_INT8 = ALL_DTYPES | {torch.int8}

#: Of weights in a file.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: And of a model that runs.
PRECISIONS = {**DTYPES, "int8": torch.int8}


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device that exists, or a DeviceError."""
    name = str(device)
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if name == "cpu":
        return torch.device("cpu")
    if kind != "cuda" or (number and not number.isdecimal()) or name.endswith(":"):
        raise DeviceError(f"{name!r} is not a device; use auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        why = "" if torch.version.cuda else " (this torch is built without CUDA)"
        raise DeviceError(f"there is no CUDA device{why}; use --device cpu")
    count = torch.cuda.device_count()
    index = int(number or 0)
    if index >= count:
        raise DeviceError(f"there is no cuda:{index}; this machine has cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index)


def pick_dtype(
    dtype: str | torch.dtype,
    device: torch.device,
    safe: Iterable[torch.dtype],
    *,
    int8_measured: bool = False,
) -> torch.dtype:
    """The dtype of weights and convolutions; ``auto`` takes the fastest that is safe, int8 only
    where it was measured."""
    safe = frozenset(safe)
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype == "auto":
        if device.type == "cuda":
            return torch.float16 if torch.float16 in safe else torch.float32
        if torch.int8 in safe and int8_measured and _has_int8(device) and not _has_amx():
            return torch.int8
        return torch.bfloat16 if torch.bfloat16 in safe and _fast_bfloat16() else torch.float32
    if dtype not in PRECISIONS:
        raise UsageError(f"{dtype!r} is not a dtype; use auto, {', '.join(PRECISIONS)}")
    chosen = PRECISIONS[dtype]
    if chosen not in safe:
        names = ", ".join(name for name, known in PRECISIONS.items() if known in safe)
        raise ModelError(f"this model is not safe in {dtype}; use {names}")
    if chosen == torch.int8 and not _has_int8(device):
        raise DeviceError(
            "int8 needs a CPU with AVX-512 VNNI and the compiled operators (see vfi doctor); "
            "use --dtype auto"
        )
    return chosen


def held_dtype(dtype: torch.dtype) -> torch.dtype:
    """What weights are held in: for int8 what is best for all that is not multiplied in 8 bits."""
    if dtype != torch.int8:
        return dtype
    return torch.bfloat16 if _fast_bfloat16() else torch.float32


def _has_int8(device: torch.device) -> bool:
    return device.type == "cpu" and int8_ops.kernels() is not None


def _has_amx() -> bool:
    """Whether this CPU has AMX, in which bfloat16 is the fastest of all."""
    check = getattr(torch.cpu, "_is_amx_tile_supported", bool)
    return torch.backends.mkldnn.is_available() and bool(check())


def has_bfloat16() -> bool:
    """Whether oneDNN convolves in bfloat16 on this CPU, be it in emulation; with AVX2 alone torch
    has slower operators for that."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _fast_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16 itself: AMX, or AVX-512 with its BF16 extension.

    Elsewhere bfloat16 is emulated and slower than float32. Measured with AVX-512 BF16 and without
    AMX: convolutions 2 to 3 times as fast, a light RIFE 4.x as a whole 1.35 times.
    """
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return (_has_amx() or bool(check())) and has_bfloat16()
