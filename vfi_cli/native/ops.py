"""The operators of frame interpolation that torch lacks, or has only in a slower form.

All take (B, C, H, W) tensors of float32, bfloat16, float16 or float64 in any memory format, and
flows of (B, 2, H, W) in pixels, u (along x) first, then v (along y), of any of these dtypes.
Coordinates and sums are computed in float32 (float64 where the values are float64) whatever the
dtype of the values; a flow should be float32 where it may be larger than a few pixels, because
half precision does not hold it. All have a first derivative with respect to every input.

A position that is NaN counts as outside of the picture, before its first row and column.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from vfi_cli.native import build, reference

__all__ = [
    "available",
    "backwarp",
    "build_info",
    "correlation",
    "native_wanted",
    "splat",
    "use_reference",
]

FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_extension = build.load()
_reference_forced = 0


def available(device: torch.device | str = "cpu") -> bool:
    """Whether there are compiled kernels for ``device``; without them the references run."""
    kind = torch.device(device).type
    return _extension.library is not None and (
        kind in ("cpu", "meta") or (kind == "cuda" and _extension.cuda)
    )


def build_info() -> dict[str, Any]:
    """What is known of the compiled extension, for ``vfi doctor``.

    Returns:
        ``available`` and ``cuda`` (bool); ``reason`` why something of it is missing and
        ``advice`` what to do about that (empty where nothing is); ``library`` (path) and
        ``kernels`` (the instruction set the CPU kernels use: generic, avx2, avx512), or None;
        ``torch`` the version it was built with, ``torch_target`` the oldest that it serves.
    """
    return {
        "available": available(),
        "cuda": _extension.cuda,
        "reason": _extension.reason,
        "advice": _extension.advice,
        "library": None if _extension.library is None else str(_extension.library),
        "kernels": said_by_library("vfi_cpu_kernels"),
        "torch": _extension.stamp.get("torch"),
        "torch_target": _extension.stamp.get("torch_target"),
    }


def said_by_library(name: str) -> str | None:
    """What a function of the library that returns a text says, None where it or the library says
    nothing."""
    if _extension.library is None:
        return None
    function = getattr(ctypes.CDLL(str(_extension.library)), name)
    function.restype = ctypes.c_char_p
    said = function()
    return None if said is None else str(said.decode())


@contextmanager
def use_reference() -> Iterator[None]:
    """Within the context the operators run as plain torch, in every thread of the process."""
    global _reference_forced  # noqa: PLW0603
    _reference_forced += 1
    try:
        yield
    finally:
        _reference_forced -= 1


def native_wanted(device: torch.device | str = "cpu") -> bool:
    """Whether operators run compiled kernels for ``device`` now."""
    return not _reference_forced and available(device)


def _native(picture: Tensor) -> bool:
    return native_wanted(picture.device)


def _check_picture(name: str, picture: Tensor) -> None:
    if picture.dim() != 4:
        raise ValueError(f"{name} must be (B, C, H, W), not {tuple(picture.shape)}")
    if picture.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{name} must be floating point, not {picture.dtype}")


def _check_flow(input: Tensor, flow: Tensor) -> None:
    expected = (input.shape[0], 2, *input.shape[2:])
    if flow.shape != expected:
        raise ValueError(
            f"flow must be {expected} for an input of {tuple(input.shape)}, not {tuple(flow.shape)}"
        )
    if flow.dtype not in FLOAT_DTYPES:
        raise TypeError(f"flow must be floating point, not {flow.dtype}")
    if flow.device != input.device:
        raise ValueError(f"flow is on {flow.device}, input on {input.device}")


def backwarp(
    input: Tensor,
    flow: Tensor,
    *,
    padding_mode: Literal["border", "zeros"] = "border",
    align_corners: bool = True,
) -> Tensor:
    """Fetch each pixel of the result from where the flow points: output(x) = input(x + flow(x)).

    Args:
        input: (B, C, H, W).
        flow: (B, 2, H, W) in pixels, u then v.
        padding_mode: what lies outside: the nearest pixel of the edge, or zeros.
        align_corners: True samples exactly at (x + u, y + v). False samples where networks do
            that normalise a pixel flow by (W - 1)/2 and (H - 1)/2 but look it up with unaligned
            corners (code for PyTorch before 1.3 on a later one): at (x + u)·W/(W − 1) − 1/2.

    Returns:
        (B, C, H, W) in the dtype and memory format of ``input``. At the edge and beyond, where
        ``padding_mode="border"`` holds the position still, the flow has no gradient.

    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit.
    """
    _check_picture("input", input)
    _check_flow(input, flow)
    if padding_mode not in ("border", "zeros"):
        raise ValueError(f"padding_mode must be 'border' or 'zeros', not {padding_mode!r}")
    if _native(input):
        result: Tensor = torch.ops.vfi.backwarp(
            input, flow, padding_mode == "border", align_corners
        )
        return result
    return reference.backwarp(input, flow, padding_mode, align_corners)


def correlation(a: Tensor, b: Tensor, max_displacement: int = 4) -> Tensor:
    """Compare each pixel of ``a`` with the neighbourhood of the same place in ``b``.

    The cost volume of FlowNet: map (dy + d)·(2d + 1) + (dx + d) holds at (x, y) the mean over
    the channels of a(x, y)·b(x + dx, y + dy), where ``b`` is zero outside.

    Args:
        a, b: (B, C, H, W), of one shape and dtype.
        max_displacement: d ≥ 0, in pixels.

    Returns:
        (B, (2d + 1)², H, W) in the dtype of ``a``.

    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit.
    """
    _check_picture("a", a)
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        raise ValueError(
            "a and b must agree in shape, dtype and device, not "
            f"{tuple(a.shape)} {a.dtype} {a.device} and {tuple(b.shape)} {b.dtype} {b.device}"
        )
    if a.shape[1] == 0:
        raise ValueError("a and b must have a channel at least")
    if max_displacement < 0:
        raise ValueError(f"max_displacement must not be negative: {max_displacement}")
    if _native(a):
        result: Tensor = torch.ops.vfi.correlation(a, b, max_displacement)
        return result
    return reference.correlation(a, b, max_displacement)


def splat(
    input: Tensor, flow: Tensor, *, mode: Literal["gaussian", "bilinear"] = "gaussian"
) -> tuple[Tensor, Tensor]:
    """Send each pixel to where its flow points, and add up what arrives.

    A pixel that lands at (x + u, y + v) is added to its four neighbours, each with a weight:
    exp(−(dx² + dy²)) of its distance (``gaussian``, the flow reversal of EQVI), or the
    bilinear one. Neighbours outside of the picture get nothing.

    Args:
        input: (B, C, H, W).
        flow: (B, 2, H, W) in pixels, u then v.
        mode: the weights.

    Returns:
        The sums (B, C, H, W) and the sums of the weights (B, 1, H, W), both in the dtype of
        ``input`` and contiguous. Nothing is divided: that, and what to do with pixels where
        nothing arrived, is the caller's.

    Raises:
        ValueError, TypeError: shapes, dtypes or devices that do not fit.
    """
    _check_picture("input", input)
    _check_flow(input, flow)
    if mode not in ("gaussian", "bilinear"):
        raise ValueError(f"mode must be 'gaussian' or 'bilinear', not {mode!r}")
    # CUDA's kernel adds with atomics, in any order; the reference has a deterministic way.
    must_repeat = input.is_cuda and torch.are_deterministic_algorithms_enabled()
    if _native(input) and not must_repeat:
        sums, weights = torch.ops.vfi.splat(input, flow, mode == "gaussian")
        return sums, weights
    return reference.splat(input, flow, mode)


# ---------------------------------------------------- fake kernels and derivatives
# All derivatives are those of the first order: the gradients' operators have none themselves.


def _is_channels_last(picture: Tensor) -> bool:
    """Channels side by side; the rule of csrc/tensors.h."""
    channels = picture.shape[1]
    return channels > 1 and picture.stride(1) == 1 and picture.stride(3) >= channels


def _new(like: Tensor, channels: int, dtype: torch.dtype, channels_last: bool = False) -> Tensor:
    return like.new_empty((like.shape[0], channels, *like.shape[2:]), dtype=dtype).contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def _fake_gather(picture: Tensor, *_: object) -> Tensor:
    return _new(picture, picture.shape[1], picture.dtype, _is_channels_last(picture))


def _fake_flow(flow: Tensor) -> Tensor:
    return _new(flow, 2, flow.dtype)


def _backwarp_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    input, flow, ctx.border, ctx.align_corners = inputs
    ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, flow)
    ctx.channels_last = _is_channels_last(input)


def _backwarp_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    input, flow = ctx.saved_tensors
    input_grad = flow_grad = None
    how = (ctx.border, ctx.align_corners)
    if ctx.needs_input_grad[0]:
        input_grad = torch.ops.vfi.backwarp_input_grad(grad, flow, *how, ctx.channels_last)
    if ctx.needs_input_grad[1]:
        flow_grad = torch.ops.vfi.backwarp_flow_grad(grad, input, flow, *how)
    return input_grad, flow_grad, None, None


def _fake_splat(input: Tensor, flow: Tensor, gaussian: bool) -> tuple[Tensor, Tensor]:
    return _new(input, input.shape[1], input.dtype), _new(input, 1, input.dtype)


def _splat_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    input, flow, ctx.gaussian = inputs
    ctx.save_for_backward(input if ctx.needs_input_grad[1] else None, flow)


def _splat_backward(ctx: Any, grad: Tensor, weight_grad: Tensor) -> tuple[Tensor | None, ...]:
    input, flow = ctx.saved_tensors
    input_grad = flow_grad = None
    if ctx.needs_input_grad[0]:
        input_grad = torch.ops.vfi.splat_input_grad(grad, flow, ctx.gaussian)
    if ctx.needs_input_grad[1]:
        flow_grad = torch.ops.vfi.splat_flow_grad(grad, weight_grad, input, flow, ctx.gaussian)
    return input_grad, flow_grad, None


def _correlation_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    a, b, ctx.max_displacement = inputs
    ctx.save_for_backward(
        a if ctx.needs_input_grad[1] else None, b if ctx.needs_input_grad[0] else None
    )


def _correlation_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    a, b = ctx.saved_tensors
    a_grad = b_grad = None
    if ctx.needs_input_grad[0]:
        a_grad = torch.ops.vfi.correlation_grad(grad, b, ctx.max_displacement, False)
    if ctx.needs_input_grad[1]:
        b_grad = torch.ops.vfi.correlation_grad(grad, a, ctx.max_displacement, True)
    return a_grad, b_grad, None


def _register() -> None:
    fakes: dict[str, Callable[..., object]] = {
        "backwarp": _fake_gather,
        "backwarp_input_grad": lambda grad, flow, border, align_corners, channels_last: _new(
            grad, grad.shape[1], grad.dtype, channels_last
        ),
        "backwarp_flow_grad": lambda grad, input, flow, border, align_corners: _fake_flow(flow),
        "splat": _fake_splat,
        "splat_input_grad": _fake_gather,
        "splat_flow_grad": lambda grad, weight_grad, input, flow, gaussian: _fake_flow(flow),
        "correlation": lambda a, b, max_displacement: _new(
            a, (2 * max_displacement + 1) ** 2, a.dtype
        ),
        "correlation_grad": lambda grad, other, max_displacement, second: _new(
            other, other.shape[1], other.dtype
        ),
    }
    for name, fake in fakes.items():
        torch.library.register_fake(f"vfi::{name}", fake)
    for name, backward, context in (
        ("backwarp", _backwarp_backward, _backwarp_context),
        ("splat", _splat_backward, _splat_context),
        ("correlation", _correlation_backward, _correlation_context),
    ):
        torch.library.register_autograd(f"vfi::{name}", backward, setup_context=context)


if _extension.library is not None:
    _register()
