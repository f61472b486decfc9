"""The operators of frame interpolation that torch lacks, or has only in a slower form.

All take (B, C, H, W) tensors of float32, bfloat16, float16 or float64 in any memory format, and
flows of (B, 2, H, W) in pixels, u (along x) first, then v (along y), of any of these dtypes.
Coordinates and sums are computed in float32 (float64 where the values are float64) whatever the
dtype of the values; a flow should be float32 where it may be larger than a few pixels, because
half precision does not hold it. All have a first derivative with respect to every input.

A position that is NaN counts as outside of the picture, before its first row and column.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from vfi_cli.native import reference

__all__ = ["available", "backwarp", "build_info", "correlation", "splat", "use_reference"]

FLOAT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

_reference_forced = 0


def available(device: torch.device | str = "cpu") -> bool:
    """Whether the operators run as compiled kernels on ``device``'s kind."""
    return False


def build_info() -> dict[str, object]:
    """What is known of the compiled extension, for ``vfi doctor``."""
    return {"available": False, "cuda": False, "reason": "not built", "advice": ""}


@contextmanager
def use_reference() -> Iterator[None]:
    """Within the context the operators run as plain torch, in every thread of the process."""
    global _reference_forced  # noqa: PLW0603
    _reference_forced += 1
    try:
        yield
    finally:
        _reference_forced -= 1


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
    return reference.splat(input, flow, mode)
