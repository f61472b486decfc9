"""The CUDA kernels for planes: compiled as plain C++ and run on the CPU, and, where there is a GPU,
on that; both against the twins in plain torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from tests.cudakit import need_gpu, operators_on_host
from tests.test_planes import as_integers, coding_of, noise, picture_of
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.color import from_rgb, to_rgb
from vfi_cli.native import ops, plane_ops
from vfi_cli.native.plane_ops import decode_planes, encode_planes

LAYOUTS = [
    PlaneLayout("yuv", 8, 1, 1),
    PlaneLayout("yuv", 10, 1, 0),
    PlaneLayout("yuv", 16, 0, 1),
    PlaneLayout("yuv", 8),
    PlaneLayout("rgb", 10),
    PlaneLayout("gray", 16),
]
SIZES = [(1, 1), (1, 6), (7, 1), (2, 2), (18, 12), (33, 21)]


@pytest.fixture(scope="module")
def host_operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder, names = tmp_path_factory.mktemp("cuda"), ("decode_planes", "encode_planes")
    with operators_on_host(
        "cuda_on_host_planes.cpp", "vfi_planes_on_host", names, folder
    ) as operators:
        yield operators


def compare(layout: PlaneLayout, location: int, device: str) -> None:
    """The operators on a device against the reference on the CPU, as tests/test_planes.py does."""
    different = total = 0
    for (width, height), full in product(SIZES, (False, True)):
        coding = coding_of(layout, location=location, full=full)
        sides = [noise(coding, width, height, seed) for seed in (1, 2)]
        there = [[plane.to(device) for plane in side] for side in sides]
        made = torch.full((3, height + 3, width + 2), torch.nan, device=device)
        wanted = made.cpu()
        for limit in (False, True):
            decode_planes(there[0], coding, made, limit=limit)
            with ops.use_reference():
                decode_planes(sides[0], coding, wanted, limit=limit)
            assert (made.cpu() - wanted).abs().max() < 2e-6, (width, height, full, limit)
        for between in (False, True):
            picture = picture_of(width, height)
            codes = encode_planes(
                picture.to(device), coding, between=(there[0], there[1]) if between else None
            )
            with ops.use_reference():
                expected = encode_planes(
                    picture, coding, between=(sides[0], sides[1]) if between else None
                )
            apart = (as_integers([plane.cpu() for plane in codes]) - as_integers(expected)).abs()
            assert apart.max() <= 1, (width, height, full, between)
            different, total = different + int(apart.sum()), total + len(apart)
    assert different <= max(1, total * (1e-3 if layout.bits <= 10 else 5e-3))


@pytest.mark.parametrize("location", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_kernels(
    host_operators: Any, layout: PlaneLayout, location: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plane_ops, "_operators", host_operators)
    compare(layout, location, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("location", [1, 2, 3, 4])
@pytest.mark.parametrize("layout", [*LAYOUTS, PlaneLayout("yuv", 8, 2, 2)], ids=str)
def test_on_a_gpu(layout: PlaneLayout, location: int) -> None:
    need_gpu()
    compare(layout, location, "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("reference", [False, True])
def test_frames_travel_as_planes(bits: int, reference: bool) -> None:
    """There and back: arrays come back as arrays, tensors as tensors where they were."""
    need_gpu()
    layout = PlaneLayout("yuv", bits, 1, 1)
    random = np.random.default_rng(0)
    planes = tuple(
        random.integers(0, layout.peak + 1, layout.plane_shape(n, 66, 34)).astype(layout.dtype)
        for n in range(3)
    )
    frame = Frame(planes, 66, 34, layout, ColorSpec(1), 0, Fraction(1, 25))
    with ops.use_reference() if reference else nullcontext():
        back = from_rgb(to_rgb(frame, device="cuda"), frame)
        assert all(np.array_equal(a, b) for a, b in zip(planes, back, strict=True))
        there = frame.with_planes(tuple(torch.from_numpy(plane).cuda() for plane in planes))
        for before, after in zip(
            there.planes, from_rgb(to_rgb(there, device="cuda"), there), strict=True
        ):
            assert after.device == before.device
            assert torch.equal(before.cpu(), after.cpu())
        assert to_rgb(there).device.type == "cpu"
