"""The CUDA kernels: that nvcc compiles them, what they compute, and, where there is a GPU, that
they agree with the references on it.

Without a GPU the kernels are compiled as plain C++ (``cuda_on_host.cpp``) and run one thread
after the other: that shows mistakes in indices, weights and bounds, though not in launches.
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.cudakit import NVCC, TORCH_TARGET, compile_on_host, need_gpu
from tests.test_native import CASES, LAYOUTS, TOLERANCE, Case, assert_close, sample_inputs
from tests.test_native import compare_twins as compare
from vfi_cli.native import build, ops

needs_nvcc = pytest.mark.skipif(NVCC is None, reason="there is no nvcc")
DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2, torch.float64: 3}


@needs_nvcc
@pytest.mark.parametrize("source", build.cuda_sources(), ids=lambda path: path.name)
def test_nvcc_compiles(source: Path, tmp_path: Path) -> None:
    assert NVCC is not None
    include = Path(torch.__file__).parent / "include"
    # One GPU architecture and no optimisation: this asks whether it compiles, not how fast it is.
    command = [NVCC, "-c", str(source), "-o", str(tmp_path / "kernels.o"), "-std=c++20", "-O0"]
    command += ["-arch=sm_80", "-Xptxas", "-O0", "-DUSE_CUDA", TORCH_TARGET]
    result = subprocess.run(
        [*command, "-I", str(include)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "kernels.o").stat().st_size > 0


# --------------------------------------------------------------- the kernels on the CPU


class View(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("strides", ctypes.c_int64 * 4))

    @classmethod
    def of(cls, tensor: Tensor | None) -> View:
        if tensor is None:
            return cls()
        return cls(tensor.data_ptr(), (ctypes.c_int64 * 4)(*tensor.stride()))


class Sampler(ctypes.Structure):
    _fields_ = (
        ("sizes", ctypes.c_int64 * 4),
        ("flow", View),
        ("flow_dtype", ctypes.c_int32),
        ("gaussian", ctypes.c_bool),
        ("border", ctypes.c_bool),
        ("align_corners", ctypes.c_bool),
    )

    @classmethod
    def of(
        cls, picture: Tensor, flow: Tensor, gaussian: bool, border: bool, aligned: bool
    ) -> Sampler:
        sizes = (ctypes.c_int64 * 4)(*picture.shape)
        return cls(sizes, View.of(flow), DTYPES[flow.dtype], gaussian, border, aligned)


class Shape(ctypes.Structure):
    _fields_ = (("values", ctypes.c_int64 * 5),)


Call = Callable[..., None]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Call:
    """Calls a kernel on the CPU: host(name, arguments...)."""
    library = compile_on_host("cuda_on_host.cpp", tmp_path_factory.mktemp("cuda"))
    functions = ctypes.CDLL(str(library))

    def call(name: str, *arguments: object) -> None:
        passed: list[object] = []
        for argument in arguments:
            if isinstance(argument, ctypes.Structure):
                passed.append(ctypes.byref(argument))
            elif isinstance(argument, torch.dtype):
                passed.append(ctypes.c_int32(DTYPES[argument]))
            elif isinstance(argument, Tensor) or argument is None:
                passed.append(ctypes.byref(View.of(argument)))
            elif isinstance(argument, bool):
                passed.append(ctypes.c_bool(argument))
            else:
                passed.append(ctypes.c_int64(argument))  # type: ignore[arg-type]
        getattr(functions, name)(*passed)

    return call


def sums_type(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels-last", "sliced", "transposed"])
def test_warp_and_splat_kernels(host: Call, layout: str, dtype: torch.dtype) -> None:
    ways = [(False, True, True), (False, True, False), (False, False, True), (True, False, True)]
    for shape in ((2, 3, 7, 13), (1, 2, 1, 9), (2, 1, 5, 1)):
        for gaussian, border, aligned in ways:
            case = CASES[0]
            picture, flow = (LAYOUTS[layout](x) for x in sample_inputs(case, shape, dtype))
            flow[0, 0, 0, 0], flow[0, 1, -1, -1] = float("nan"), float("inf")
            grad = LAYOUTS[layout](torch.randn(shape).to(dtype))
            weight_grad = torch.randn(shape[0], 1, *shape[2:]).to(dtype)
            sampler = Sampler.of(picture, flow, gaussian, border, aligned)
            lanes = shape[1] if layout in ("channels-last", "sliced") else 1

            gathered = torch.full_like(picture, 7)
            host("host_gather", sampler, dtype, picture, gathered, lanes)
            sums = torch.zeros_like(picture, dtype=sums_type(dtype))
            weights = torch.zeros_like(weight_grad, dtype=sums_type(dtype))
            host("host_scatter", sampler, dtype, grad, sums, weights, lanes)
            slope = torch.full(flow.shape, 7, dtype=sums_type(dtype))
            host("host_flow_slope", sampler, dtype, picture, weight_grad, grad, slope)

            # A warp gathers, its derivatives scatter and slope. A splat scatters; what its
            # derivatives are for an output's gradient of ``picture``, gathers and slopes.
            with ops.use_reference():
                x, f = picture.detach().requires_grad_(), flow.detach().requires_grad_()
                if gaussian:
                    z = grad.detach().requires_grad_()
                    out, out_weights = ops.splat(z, f, mode="gaussian")
                    assert_close(sums.to(dtype), out.detach(), TOLERANCE[dtype])
                    assert_close(weights.to(dtype), out_weights.detach(), TOLERANCE[dtype])
                    wanted_gather, wanted_slope = torch.autograd.grad(
                        (out, out_weights), (z, f), (picture, weight_grad)
                    )
                else:
                    padding = "border" if border else "zeros"
                    warp = ops.backwarp(x, f, padding_mode=padding, align_corners=aligned)  # type: ignore[arg-type]
                    wanted_gather = warp.detach()
                    wanted_sums, wanted_slope = torch.autograd.grad(warp, (x, f), grad)
                    assert_close(sums.to(dtype), wanted_sums, TOLERANCE[dtype])
                    # The plane is one more channel, whose value is 1.
                    plane = ops.backwarp(
                        weight_grad,
                        f,
                        padding_mode=padding,  # type: ignore[arg-type]
                        align_corners=aligned,
                    )
                    wanted_slope = wanted_slope + torch.autograd.grad(plane.sum(), f)[0]
            assert_close(gathered, wanted_gather, TOLERANCE[dtype])
            assert_close(slope.to(flow.dtype), wanted_slope, max(TOLERANCE[dtype], 2e-5))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_correlation_kernels(host: Call, layout: str, dtype: torch.dtype) -> None:
    for radius, size in ((0, (2, 3, 4, 5)), (2, (2, 3, 4, 5)), (4, (1, 2, 3, 9))):
        a, b = (LAYOUTS[layout](torch.randn(size).to(dtype)) for _ in range(2))
        volume = torch.full((size[0], (2 * radius + 1) ** 2, *size[2:]), 7.0).to(dtype)
        shape = Shape((ctypes.c_int64 * 5)(*size, radius))
        host("host_correlate", shape, dtype, a, b, volume)
        grad = torch.randn_like(volume)
        a_grad, b_grad = torch.full_like(a, 7), torch.full_like(b, 7)
        host("host_correlate_grad", shape, dtype, False, grad, b, a_grad)
        host("host_correlate_grad", shape, dtype, True, grad, a, b_grad)
        a.requires_grad_()
        b.requires_grad_()
        with ops.use_reference():
            wanted = ops.correlation(a, b, radius)
        wanted_a, wanted_b = torch.autograd.grad(wanted, (a, b), grad)
        assert_close(volume, wanted.detach(), TOLERANCE[dtype])
        assert_close(a_grad, wanted_a, TOLERANCE[dtype])
        assert_close(b_grad, wanted_b, TOLERANCE[dtype])


# ------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_on_a_gpu(case: Case, dtype: torch.dtype) -> None:
    need_gpu()
    for shape in ((2, 6, 7, 13), (1, 3, 33, 70), (0, 3, 4, 4)):
        first, second = sample_inputs(case, shape, dtype)
        for layout in LAYOUTS.values():
            compare(case, layout(first).cuda(), layout(second).cuda())
