"""The native operators against their references: values, gradients, and torch's own checks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vfi_cli.native import ops

pytestmark = pytest.mark.usefixtures("one_thread")

needs_extension = pytest.mark.skipif(not ops.available(), reason="the extension is not built")

# Twins may differ by the rounding of float32 sums of a few products of numbers around 1, and by
# that of the reference's coordinates, which grid_sample wants normalised: some 1e-7 of the width.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    # Both compute in float32 and round once: one unit in the last place where the sums fall on
    # different sides of a tie. Values go up to about 8.
    torch.bfloat16: 2**-5,
    torch.float16: 2**-8,
}
DTYPES = list(TOLERANCE)


@dataclass(frozen=True)
class Case:
    name: str
    call: Callable[..., Any]
    second_is_flow: bool = True

    def __str__(self) -> str:
        return self.name


CASES = [
    *(
        Case(
            f"backwarp-{padding}-{'aligned' if aligned else 'unaligned'}",
            lambda x, f, p=padding, a=aligned: ops.backwarp(x, f, padding_mode=p, align_corners=a),
        )
        for padding in ("border", "zeros")
        for aligned in (True, False)
    ),
    Case("splat-gaussian", lambda x, f: ops.splat(x, f, mode="gaussian")),
    Case("splat-bilinear", lambda x, f: ops.splat(x, f, mode="bilinear")),
    Case("correlation-4", lambda a, b: ops.correlation(a, b, 4), second_is_flow=False),
    Case("correlation-0", lambda a, b: ops.correlation(a, b, 0), second_is_flow=False),
    Case("correlation-7", lambda a, b: ops.correlation(a, b, 7), second_is_flow=False),
]

SHAPES = [
    (1, 3, 8, 8),
    (2, 5, 7, 13),
    (1, 16, 9, 31),
    (3, 1, 5, 150),  # more than one tile of pixels
    (1, 37, 3, 18),
    (2, 4, 1, 9),
    (2, 4, 9, 1),
    (1, 2, 1, 1),
]

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    # A slice of more channels, as a network's outputs are cut up.
    "sliced": lambda x: torch.cat([x, x, x], 1).contiguous(memory_format=torch.channels_last)[
        :, x.shape[1] : 2 * x.shape[1]
    ],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every-second": lambda x: torch.stack([x, x], -1).flatten(3)[..., ::2],
    "expanded": lambda x: x[:1, :1].expand_as(x),
}


def sample_inputs(
    case: Case, shape: tuple[int, ...], dtype: torch.dtype, *, reach: float = 4.0
) -> tuple[Tensor, Tensor]:
    """Two inputs; flows stay away from the kinks at whole pixels, where one-sided derivatives
    differ and finite differences mean nothing."""
    generator = torch.Generator().manual_seed(sum(shape))
    first = torch.randn(shape, generator=generator, dtype=torch.float64)
    if not case.second_is_flow:
        return first.to(dtype), torch.randn(shape, generator=generator).to(dtype)
    flow_shape = (shape[0], 2, *shape[2:])
    flow = torch.randn(flow_shape, generator=generator, dtype=torch.float64) * reach
    for axis, size in ((0, shape[3]), (1, shape[2])):
        # Also with unaligned corners, whose positions are at other fractions.
        for scale, shift in ((1.0, 0.0), (size / max(size - 1, 1), -0.5)):
            grid = torch.arange(size, dtype=torch.float64)
            grid = grid if axis == 0 else grid.unsqueeze(1)
            for _ in range(2):
                position = (grid + flow[:, axis]) * scale + shift
                near = (position - position.round()).abs() < 0.02
                flow[:, axis] += 0.05 * near
    return first.to(dtype), flow.to(torch.float64 if dtype == torch.float64 else torch.float32)


def flat(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_close(got: Tensor, want: Tensor, tolerance: float) -> None:
    """Compare, relative to the largest wanted value beyond 1; a failure shows how errors spread."""
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if got.numel() == 0:
        return
    error = (got.double() - want.double()).abs().flatten().cpu()
    limit = tolerance * max(1.0, want.double().abs().max().item())
    if not error.max().item() <= limit:
        levels = torch.tensor([0.5, 0.9, 0.99, 1.0], dtype=torch.float64)
        spread = ", ".join(f"{e:.3g}" for e in error.quantile(levels))
        pytest.fail(f"errors (50, 90, 99, 100 %): {spread}; allowed {limit:.3g}")


def run_with_gradients(
    case: Case, first: Tensor, second: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    a, b = first.detach().requires_grad_(), second.detach().requires_grad_()
    outputs = flat(case.call(a, b))
    generator = torch.Generator().manual_seed(1)
    grads = [torch.randn(o.shape, generator=generator).to(o) for o in outputs]
    inputs = torch.autograd.grad(outputs, (a, b), grads, allow_unused=True)
    return tuple(o.detach() for o in outputs), tuple(
        torch.zeros_like(x) if g is None else g for g, x in zip(inputs, (a, b), strict=True)
    )


def compare_twins(case: Case, first: Tensor, second: Tensor) -> None:
    values, gradients = run_with_gradients(case, first, second)
    with ops.use_reference():
        wanted_values, wanted_gradients = run_with_gradients(case, first, second)
    for got, want in zip((*values, *gradients), (*wanted_values, *wanted_gradients), strict=True):
        assert_close(got, want, TOLERANCE[got.dtype])


# ----------------------------------------------------------------------------- twins


@needs_extension
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_twins_agree_in_values_and_gradients(case: Case, dtype: torch.dtype) -> None:
    for shape in SHAPES:
        compare_twins(case, *sample_inputs(case, shape, dtype))


@needs_extension
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_twins_agree_in_every_layout(case: Case, layout: str) -> None:
    for shape in ((2, 6, 7, 13), (1, 3, 12, 20)):
        first, second = sample_inputs(case, shape, torch.float32)
        compare_twins(case, LAYOUTS[layout](first), LAYOUTS[layout](second))


@needs_extension
@pytest.mark.parametrize("flow_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flow_may_have_another_dtype(dtype: torch.dtype, flow_dtype: torch.dtype) -> None:
    for case in CASES:
        if case.second_is_flow:
            picture, flow = sample_inputs(case, (2, 3, 9, 11), dtype)
            values = flat(case.call(picture, flow.to(flow_dtype)))
            with ops.use_reference():
                wanted = flat(case.call(picture, flow.to(flow_dtype)))
            for got, want in zip(values, wanted, strict=True):
                # Half-precision flows name whole pixels often, where both twins are continuous.
                assert_close(got, want, max(TOLERANCE[dtype], 1e-12))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("shape", [(0, 3, 5, 6), (2, 3, 0, 6), (2, 3, 5, 0)], ids=str)
def test_empty_inputs(case: Case, shape: tuple[int, ...]) -> None:
    first = torch.zeros(shape, requires_grad=True)
    second_shape = (shape[0], 2, *shape[2:]) if case.second_is_flow else shape
    second = torch.zeros(second_shape, requires_grad=True)
    outputs = flat(case.call(first, second))
    assert all(output.numel() == 0 for output in outputs)
    sum(output.sum() for output in outputs).backward()  # type: ignore[union-attr]
    assert first.grad is not None
    assert first.grad.shape == first.shape


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_extension)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_flows_that_are_huge_or_no_numbers_are_outside(native: bool, dtype: torch.dtype) -> None:
    nan, inf = float("nan"), float("inf")
    bad = torch.tensor([nan, inf, -inf, 1e30, -1e30, 3e9, -3e9])
    picture = torch.arange(1, 2 * 7 * 7 + 1).reshape(1, 2, 7, 7).to(dtype)
    for layout in (torch.contiguous_format, torch.channels_last):
        image = picture.clone(memory_format=layout).requires_grad_()
        for axis in (0, 1):
            flow = torch.zeros(1, 2, 7, 7)
            flow[0, axis] = bad if axis == 0 else bad.unsqueeze(1)
            flow.requires_grad_()
            with _way(native):
                for mode in ("gaussian", "bilinear"):
                    sums, weights = ops.splat(image, flow, mode=mode)
                    assert not sums.any()
                    assert not weights.any()
                zeros = ops.backwarp(image, flow, padding_mode="zeros")
                border = ops.backwarp(image, flow, padding_mode="border")
            assert not zeros.any()
            # NaN and -inf go to the first pixel of the axis, +inf to the last.
            ends = torch.tensor([0, 6, 0, 6, 0, 6, 0])
            wanted = picture[:, :, :, ends] if axis == 0 else picture[:, :, ends, :]
            # Half a unit in the last place of bfloat16 at 98, times the reference's coordinates.
            assert_close(border, wanted, 2**-8 if dtype == torch.bfloat16 else 1e-3)
            (zeros.float().sum() + border.float().sum() + sums.float().sum()).backward()
            assert flow.grad is not None
            assert flow.grad.isfinite().all()
            assert not flow.grad[:, axis].any()
            assert image.grad is not None
            assert image.grad.isfinite().all()


def _way(native: bool) -> AbstractContextManager[None]:
    return nullcontext() if native else ops.use_reference()


# ----------------------------------------------------------------------- torch's checks


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_extension)])
@pytest.mark.parametrize(
    "case",
    [
        *(case for case in CASES if case.second_is_flow),
        Case("correlation-2", lambda a, b: ops.correlation(a, b, 2), second_is_flow=False),
    ],
    ids=str,
)
def test_gradcheck(case: Case, native: bool) -> None:
    for shape in ((1, 3, 4, 5), (2, 1, 1, 4)):
        first, second = sample_inputs(case, shape, torch.float64, reach=1.5)
        with _way(native):
            assert torch.autograd.gradcheck(
                case.call, (first.requires_grad_(), second.requires_grad_())
            )


@needs_extension
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels-last", "sliced", "transposed"])
def test_opcheck(layout: str, dtype: torch.dtype) -> None:
    shape, flow_shape = (2, 3, 5, 6), (2, 2, 5, 6)
    lay = LAYOUTS[layout]
    torch.manual_seed(0)

    def picture(channels: int = 3) -> Tensor:
        return lay(torch.randn(2, channels, *shape[2:]).to(dtype))

    flow = lay(torch.randn(flow_shape) * 2 + 0.01)
    v = torch.ops.vfi
    differentiable = [
        (v.backwarp, (picture(), flow, True, True)),
        (v.backwarp, (picture(), flow, False, False)),
        (v.splat, (picture(), flow, True)),
        (v.splat, (picture(), flow, False)),
        (v.correlation, (picture(), picture(), 2)),
    ]
    for op, arguments in differentiable:
        tensors = tuple(
            x.detach().requires_grad_() if isinstance(x, Tensor) else x for x in arguments
        )
        torch.library.opcheck(op.default, tensors)
    others = [
        (v.backwarp_input_grad, (picture(), flow, True, True, True)),
        (v.backwarp_input_grad, (picture(), flow, False, True, False)),
        (v.backwarp_flow_grad, (picture(), picture(), flow, True, True)),
        (v.splat_input_grad, (picture(), flow, True)),
        (v.splat_flow_grad, (picture(), picture(1), picture(), flow, True)),
        (v.correlation_grad, (picture(25), picture(), 2, True)),
    ]
    for op, arguments in others:
        torch.library.opcheck(op.default, arguments)


@needs_extension
def test_results_keep_the_memory_format() -> None:
    flow = torch.zeros(2, 2, 4, 5)
    picture = torch.rand(2, 3, 4, 5)
    assert ops.backwarp(picture, flow).is_contiguous()
    last = picture.contiguous(memory_format=torch.channels_last).requires_grad_()
    warped = ops.backwarp(last, flow)
    assert warped.is_contiguous(memory_format=torch.channels_last)
    warped.sum().backward()
    assert last.grad is not None
    assert last.grad.is_contiguous(memory_format=torch.channels_last)


@needs_extension
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(3)
    picture = torch.randn(1, 6, 151, 130, generator=generator)
    flow = torch.randn(1, 2, 151, 130, generator=generator) * 20
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        everything = []
        for case in CASES:
            second = flow if case.second_is_flow else picture.flip(3)
            values, gradients = run_with_gradients(case, picture, second)
            everything += [*values, *gradients]
        results.append(everything)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


# ------------------------------------------------------------------- what they mean


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_extension)])
def test_golden_operators(shared_data: Path, native: bool) -> None:
    with np.load(shared_data / "golden" / "ops.npz") as arrays:
        golden = {name: torch.from_numpy(arrays[name])[None] for name in arrays.files}
    with _way(native):
        volume = ops.correlation(golden["a"], golden["b"], 4)
        sums, weights = ops.splat(golden["flow"], golden["flow"], mode="gaussian")
    assert_close(volume, golden["correlation"], 1e-6)
    # The published layer forms its coordinates in another order: a unit in the last place of a
    # position (4e-6 at 40) times flows of some pixels.
    assert_close(sums, golden["splat"], 2e-5)
    assert_close(weights.expand(-1, 2, -1, -1), golden["splat_norm"], 1e-5)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_extension)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_coordinates_are_exact_in_wide_pictures(native: bool, dtype: torch.dtype) -> None:
    """Half precision cannot name columns beyond 2048; the picture there must not tear."""
    width = 6000
    picture = torch.rand(1, 1, 2, width).to(dtype)
    flow = torch.zeros(1, 2, 2, width)
    flow[:, 0] = 3
    with _way(native):
        warped = ops.backwarp(picture, flow)
    # grid_sample's normalised coordinates: 6000 columns · 6e-8 · the difference of neighbours.
    assert_close(warped[..., :-3], picture[..., 3:], 2**-8 if dtype == torch.bfloat16 else 2e-3)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_extension)])
def test_conventions(native: bool) -> None:
    picture = torch.zeros(1, 1, 5, 7)
    picture[0, 0, 2, 3] = 1
    flow = torch.zeros(1, 2, 5, 7)
    flow[:, 0], flow[:, 1] = 2, -1
    with _way(native):
        warped = ops.backwarp(picture, flow)
        sums, weights = ops.splat(picture, flow, mode="bilinear")
        gaussian, _ = ops.splat(picture, flow * 0 + 0.5, mode="gaussian")
        volume = ops.correlation(picture, picture.roll((1, -2), (2, 3)), 2)
    assert warped[0, 0].nonzero().tolist() == [[3, 1]]  # looks right, up
    assert sums[0, 0].nonzero().tolist() == [[1, 5]]  # goes right and up
    assert weights[0, 0, :, :2].sum() == 0
    assert weights[0, 0, -1].sum() == 0
    assert weights.sum() == 4 * 5
    corners = gaussian[0, 0, 2:4, 3:5]
    torch.testing.assert_close(corners, torch.full((2, 2), float(np.exp(-0.5))))
    # b(x - 2, y + 1) meets a(x, y): map (dy + 2)·5 + (dx + 2).
    assert volume[0, :, 2, 3].nonzero().tolist() == [[(1 + 2) * 5 + (-2 + 2)]]


def test_unaligned_corners_are_grid_samples() -> None:
    picture = torch.rand(2, 3, 9, 14)
    flow = torch.randn(2, 2, 9, 14) * 3
    y, x = torch.meshgrid(torch.arange(9.0), torch.arange(14.0), indexing="ij")
    grid = torch.stack(
        [(x + flow[:, 0]) / ((14 - 1) / 2) - 1, (y + flow[:, 1]) / ((9 - 1) / 2) - 1], dim=-1
    )
    for padding in ("border", "zeros"):
        for aligned in (True, False):
            wanted = torch.nn.functional.grid_sample(
                picture, grid, "bilinear", padding, align_corners=aligned
            )
            got = ops.backwarp(picture, flow, padding_mode=padding, align_corners=aligned)  # type: ignore[arg-type]
            assert_close(got, wanted, 2e-5)


def test_wrong_arguments_are_refused() -> None:
    picture, flow = torch.rand(2, 3, 4, 5), torch.rand(2, 2, 4, 5)
    with pytest.raises(ValueError, match=r"flow must be \(2, 2, 4, 5\)"):
        ops.backwarp(picture, flow[:, :1])
    with pytest.raises(ValueError, match="padding_mode"):
        ops.backwarp(picture, flow, padding_mode="reflection")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="floating point"):
        ops.backwarp(picture.byte(), flow)
    with pytest.raises(TypeError, match="floating point"):
        ops.splat(picture, flow.long())
    with pytest.raises(ValueError, match="mode must be"):
        ops.splat(picture, flow, mode="softmax")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        ops.splat(picture[0], flow)
    with pytest.raises(ValueError, match="must agree"):
        ops.correlation(picture, picture.bfloat16())
    with pytest.raises(ValueError, match="negative"):
        ops.correlation(picture, picture, -1)


@needs_extension
def test_the_kernels_check_for_themselves() -> None:
    """torch.ops.vfi is public too: what would read outside of memory is refused there."""
    picture, flow = torch.rand(2, 3, 4, 5), torch.rand(2, 2, 4, 5)
    with pytest.raises(RuntimeError, match="flow must be"):
        torch.ops.vfi.backwarp(picture, flow[:1], True, True)
    with pytest.raises(RuntimeError, match="float32"):
        torch.ops.vfi.backwarp(picture.int(), flow, True, True)
    with pytest.raises(RuntimeError, match="one shape"):
        torch.ops.vfi.correlation(picture, picture[:1], 2)
    with pytest.raises(RuntimeError, match="cost volume"):
        torch.ops.vfi.correlation_grad(picture, picture, 2, False)


@needs_extension
@pytest.mark.parametrize("height", [160, 176, 192, 208])
def test_correlation_reads_nothing_beyond_its_inputs(height):
    """Buffers this large end where a mapping ends: a value read ahead would be a fault."""
    a = torch.randn(1, 32, height, 320).to(memory_format=torch.channels_last)
    b = torch.randn(1, 32, height, 320).to(memory_format=torch.channels_last)
    found = ops.correlation(a, b, 4)
    rows = slice(height // 2 - 6, height // 2 + 6)
    with ops.use_reference():
        expected = ops.correlation(a[:, :, rows], b[:, :, rows], 4)
    torch.testing.assert_close(found[:, :, rows][:, :, 4:-4], expected[:, :, 4:-4])
