"""No kernel reads beyond its inputs: each lies against a page that must not be touched."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from vfi_cli.native import int8_ops, motion_ops, ops
from vfi_cli.native.motion_ops import Steps
from vfi_cli.native.motion_reference import grid_to_tiles

pytestmark = [
    pytest.mark.skipif(not ops.available(), reason="the extension is not built"),
    pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does"),
]

_kept: list[mmap.mmap] = []


def guarded(x: Tensor, *, behind: bool) -> Tensor:
    """A copy of ``x`` whose last byte lies before a page of no access, or its first after one."""
    page = mmap.PAGESIZE
    size = -(-x.nbytes // page) * page
    area = mmap.mmap(-1, size + page)
    _kept.append(area)
    start = ctypes.addressof(ctypes.c_char.from_buffer(area))
    forbidden = start + (size if behind else 0)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), 0) == 0
    offset = size - x.nbytes if behind else page
    copy = torch.frombuffer(area, dtype=x.dtype, count=x.numel(), offset=offset)
    copy = torch.as_strided(copy, x.shape, x.stride())
    return copy.copy_(x)


def run_all(behind: bool) -> None:
    """Every kernel, with flow that goes over all edges."""
    torch.manual_seed(0)

    def put(x: Tensor, last: bool = True) -> Tensor:
        layout = torch.channels_last if last and x.dim() == 4 else torch.contiguous_format
        return guarded(x.contiguous(memory_format=layout), behind=behind)

    for dtype in (torch.float32, torch.bfloat16):
        for channels in (1, 3, 4, 5, 12, 16, 21):
            for last in (True, False):
                picture = put(torch.randn(2, channels, 9, 21).to(dtype), last)
                flow = put(20 * torch.randn(2, 2, 9, 21), last)
                flow[0, 0, 0, 0], flow[1, 1, -1, -1] = float("nan"), float("inf")
                ops.backwarp(picture, flow)
                ops.backwarp(picture, flow, padding_mode="zeros", align_corners=False)
                ops.splat(picture, flow)
                ops.correlation(picture, picture, 4)
        for side, channels in ((2, 4), (4, 8), (4, 24)):
            height, width = 64, 96
            side0, side1 = (put(torch.rand(1, channels, height, width).to(dtype)) for _ in "01")
            frame = put(torch.rand(1, 4, height, width))
            steps = Steps(side, sum_masks=side == 2)
            for scale in (8, 4, 2):
                grid = 30 * torch.randn(1, 13, height // scale, width // scale)
                steps = steps.plus(put(grid_to_tiles(grid, side).to(dtype)), scale)
            time = put(torch.rand(1, 1, height, width))
            motion_ops.motion_input(side0, side1, steps, time, 1, carried=8, unwarped=True)
            motion_ops.motion_blend(frame, frame, steps, disagreement=True)
            residual = put(torch.randn(1, 3, height, width).to(dtype))
            motion_ops.motion_blend(frame, frame, steps, residual=residual)
            motion_ops.motion_flow(steps, 2)
        for channels in (4, 12, 21, 32):
            x = put(torch.randn(1, channels, 8, 12).to(dtype))
            slopes = put(torch.rand(channels), False)
            motion_ops.activate_(x, slopes, before=x, after=x)
            tiles = put(torch.randn(1, 4 * channels, 5, 7).to(dtype))
            motion_ops.untile(tiles, slopes, skip=x)
            if channels % 4 == 0:
                flow = put(9 * torch.randn(1, 4, 8, 12), False)
                motion_ops.warp_concat(x, x, x, flow)
        if int8_ops.kernels() is not None:
            for channels, made, stride in ((4, 24, 1), (13, 45, 2), (24, 80, 1), (33, 64, 1)):
                x = put(torch.randn(1, channels, 6, 11).to(dtype))
                twice = put(torch.randn(1, 5, 3, 5).to(dtype))
                wide = put(torch.randn(1, channels, 6, 10).to(dtype))
                single = int8_ops.pack(torch.randn(made, channels, 3, 3), torch.randn(made))
                double = int8_ops.pack(
                    torch.randn(made, channels + 5, 3, 3), None, inputs=[channels, 5]
                )
                for packed in (single, double):
                    for part in (packed.weights, packed.starts, packed.scales):
                        part[:] = [put(each, False) for each in part]
                x_seen = int8_ops.Input(x, put(int8_ops.int8_peak(x), False))
                beside = put(torch.randn(1, made, -(-6 // stride), -(-11 // stride)).to(dtype))
                int8_ops.conv_int8([x_seen], single, stride=stride, before=beside, after=beside)
                inputs = [
                    int8_ops.Input(each, int8_ops.int8_peak(each), grow)
                    for each, grow in ((wide, 1), (twice, 2))
                ]
                int8_ops.conv_int8(inputs, double._replace(factors=put(double.factors, False)))
        picture = put(torch.rand(1, 3, 16, 24), False)
        features = put(torch.randn(1, 4 * 4, 9, 13).to(dtype))
        motion_ops.pack_picture(picture, features=features, channels=8, dtype=dtype)
        share = put(torch.rand(1, 1, 2, 3), False)
        motion_ops.fade_still_(picture, picture, picture, put(torch.rand(1, 1, 16, 24)), share)


def status(call: str) -> int:
    """How a process ends that makes this call: a forbidden read would end the tests themselves."""
    code = f"import torch; torch.set_num_threads(1); from tests.test_native_guard import *; {call}"
    return subprocess.run([sys.executable, "-c", code], check=False).returncode


@pytest.mark.parametrize("behind", [True, False])
def test_no_kernel_reads_beyond_its_inputs(behind: bool) -> None:
    assert status(f"run_all({behind})") == 0


def test_the_guard_bites() -> None:
    reading = "ctypes.string_at(guarded(torch.zeros(8), behind=True).data_ptr(), 33)"
    assert status(reading) < 0
