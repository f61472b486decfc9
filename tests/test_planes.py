"""Planes to pictures and back: the kernels against their twins in plain torch."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.color import codings
from vfi_cli.native import ops
from vfi_cli.native.plane_ops import Coding, decode_planes, encode_planes

LAYOUTS = [
    PlaneLayout(kind, bits, *halves)
    for bits in (8, 10, 16)
    for kind, halves in (
        ("yuv", (1, 1)),
        ("yuv", (1, 0)),
        ("yuv", (0, 1)),
        ("yuv", (0, 0)),
        ("yuv", (2, 0)),
        ("yuv", (2, 2)),
        ("rgb", (0, 0)),
        ("gray", (0, 0)),
    )
]
#: (width, height): one sample, one row, one column, odd and even, more than any vector holds.
SIZES = [(1, 1), (1, 6), (7, 1), (2, 2), (3, 5), (34, 22), (33, 21), (131, 19)]


def coding_of(
    layout: PlaneLayout, *, location: int = 1, full: bool = False, matrix: int = 1
) -> Coding:
    empty = tuple(
        np.zeros(layout.plane_shape(n, 2, 2), layout.dtype) for n in range(layout.components)
    )
    color = ColorSpec(matrix, full, chroma_location=location)
    return codings(Frame(empty, 2, 2, layout, color, 0, Fraction(1, 25)))[0]


def noise(coding: Coding, width: int, height: int, seed: int = 0) -> list[Tensor]:
    random = np.random.default_rng(seed)
    sample = np.uint8 if coding.dtype == torch.uint8 else np.uint16
    shapes = [coding.plane_shape(n, height, width) for n in range(len(coding.offsets))]
    return [
        torch.from_numpy(random.integers(0, coding.peak + 1, shape).astype(sample))
        for shape in shapes
    ]


def picture_of(width: int, height: int, seed: int = 0) -> Tensor:
    """Values on both sides of [0, 1], as a crop of a larger picture."""
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(3, height + 3, width + 5, generator=random) * 1.6 - 0.3)[:, :height, :width]


def as_integers(planes: list[Tensor]) -> Tensor:
    return torch.cat([plane.flatten().to(torch.int32) for plane in planes])


@pytest.fixture(autouse=True)
def needs_kernels() -> None:
    if not ops.available():
        pytest.skip("no native operators")


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("location", [1, 2, 3, 4])
def test_decoding_is_that_of_the_reference(layout: PlaneLayout, location: int) -> None:
    for (width, height), full, limit in product(SIZES, (False, True), (False, True)):
        coding = coding_of(layout, location=location, full=full)
        planes = noise(coding, width, height)
        made, wanted = torch.full((2, 3, height + 3, width + 2), torch.nan)
        decode_planes(planes, coding, made, limit=limit)
        with ops.use_reference():
            decode_planes(planes, coding, wanted, limit=limit)
        # Values up to 3, sums of three products, in another order.
        assert (made - wanted).abs().max() < 2e-6, (width, height, full, limit)
        assert torch.equal(made[:, :, -3:], made[:, :, -3:-2].expand(-1, -1, 3)), "repeated columns"
        assert torch.equal(made[:, -4:], made[:, -4:-3].expand(-1, 4, -1)), "repeated rows"


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("location", [1, 2, 3, 4])
def test_encoding_is_that_of_the_reference(layout: PlaneLayout, location: int) -> None:
    """A value half-way between two codes may go either way by the rounding of its sums."""
    different = total = 0
    for (width, height), full, between in product(SIZES, (False, True), (False, True)):
        coding = coding_of(layout, location=location, full=full)
        picture = picture_of(width, height)
        sides = (noise(coding, width, height, 1), noise(coding, width, height, 2))
        if between:
            picture = picture.clamp(0, 1)
        made = as_integers(encode_planes(picture, coding, between=sides if between else None))
        with ops.use_reference():
            wanted = as_integers(encode_planes(picture, coding, between=sides if between else None))
        apart = (made - wanted).abs()
        assert apart.max() <= 1, (width, height, full, between)
        different, total = different + int(apart.sum()), total + len(apart)
    # Float32 holds a 16-bit code to 1/256, and what lies that near to a half is rare.
    assert different <= total * (1e-4 if layout.bits <= 10 else 5e-3)


def test_excess_is_kept_where_both_frames_have_it() -> None:
    coding = coding_of(PlaneLayout("gray", 8))
    white = torch.ones(3, 1, 4)
    left = [torch.tensor([[255, 255, 235, 0]], dtype=torch.uint8)]
    right = [torch.tensor([[245, 200, 255, 8]], dtype=torch.uint8)]
    for picture, wanted in ((white, [245, 235, 235, 227]), (white * 0, [26, 16, 16, 8])):
        made = encode_planes(picture, coding, between=(left, right))
        assert made[0].tolist() == [wanted]


def test_the_plane_of_a_grey_picture_is_a_channel() -> None:
    coding = coding_of(PlaneLayout("gray", 10))
    planes = noise(coding, 17, 5)
    one, three = torch.empty(1, 5, 17), torch.empty(3, 5, 17)
    decode_planes(planes, coding, one)
    decode_planes(planes, coding, three)
    assert torch.equal(one.expand(3, -1, -1), three)


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_are_shared_among_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for location in (1, 3):
            coding = coding_of(PlaneLayout("yuv", 8, 1, 1), location=location)
            planes = noise(coding, 64, 201)
            picture = decode_planes(planes, coding, torch.empty(3, 201, 64))
            for before_it, after in zip(planes, encode_planes(picture, coding), strict=True):
                assert torch.equal(before_it, after)
    finally:
        torch.set_num_threads(before)


def test_planes_may_be_parts_of_larger_ones() -> None:
    coding = coding_of(PlaneLayout("yuv", 8, 1, 1))
    planes = noise(coding, 32, 24)
    rows = [plane[: plane.shape[0] // 2] for plane in planes]
    columns = [plane[:, : plane.shape[1] // 2] for plane in planes]
    for part in (rows, columns, [plane.T.contiguous().T for plane in planes]):
        size = part[0].shape
        made = decode_planes(part, coding, torch.empty(3, *size))
        whole = decode_planes([p.contiguous() for p in part], coding, torch.empty(3, *size))
        assert torch.equal(made, whole)


def test_what_is_no_number_is_black() -> None:
    coding = coding_of(PlaneLayout("rgb", 8), full=True)
    picture = torch.full((3, 2, 40), torch.nan)
    picture[:, 1] = 1e30
    for plane in encode_planes(picture, coding):
        assert plane.tolist() == [[0] * 40, [255] * 40]


def test_what_does_not_fit_is_refused() -> None:
    coding = coding_of(PlaneLayout("yuv", 8, 1, 1))
    planes = noise(coding, 8, 6)
    with pytest.raises(ValueError, match="plane 1 is"):
        decode_planes([planes[0], planes[0], planes[2]], coding, torch.empty(3, 6, 8))
    with pytest.raises(ValueError, match="2 planes"):
        decode_planes(planes[:2], coding, torch.empty(3, 6, 8))
    with pytest.raises(ValueError, match="picture of"):
        decode_planes(planes, coding, torch.empty(3, 6, 7))
    with pytest.raises(ValueError, match="plane 0 is"):
        decode_planes([plane.to(torch.uint16) for plane in planes], coding, torch.empty(3, 6, 8))
    with pytest.raises(ValueError, match="picture of"):
        encode_planes(torch.empty(3, 6, 8), coding, between=(noise(coding, 10, 6),) * 2)


def test_opcheck() -> None:
    coding = coding_of(PlaneLayout("yuv", 8, 1, 1))
    planes = noise(coding, 8, 6)
    decode, encode = (
        [weight for row in rows for weight in row] for rows in (coding.decode, coding.encode)
    )
    offsets, chroma = list(coding.offsets), [1, 1, 1, 0]
    torch.library.opcheck(
        torch.ops.vfi.decode_planes.default,
        (planes, torch.empty(3, 6, 8), decode, offsets, chroma, True),
    )
    torch.library.opcheck(
        torch.ops.vfi.encode_planes.default,
        (torch.rand(3, 6, 8), planes, encode, decode, offsets, 255, chroma, [], []),
    )
