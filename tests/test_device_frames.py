"""Frames whose planes are torch tensors, as they are where a device decodes and encodes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from tests.media import numbered_planes
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout

LAYOUTS = [PlaneLayout("yuv", 8, 1, 1), PlaneLayout("yuv", 10, 1, 1), PlaneLayout("rgb", 16)]


def frame(layout: PlaneLayout, number: int = 3, size: tuple[int, int] = (64, 48)) -> Frame:
    planes = numbered_planes(layout, *size, number)
    return Frame(planes, *size, layout, ColorSpec(1), number, Fraction(1, 25))


def as_tensors(given: Frame) -> Frame:
    return given.with_planes(tuple(torch.from_numpy(plane) for plane in given.host_planes))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_planes_may_be_tensors(layout: PlaneLayout) -> None:
    given = frame(layout)
    fetched = as_tensors(given).host_planes
    for plane, wanted in zip(fetched, given.planes, strict=True):
        assert isinstance(plane, np.ndarray)
        assert plane.dtype == layout.dtype
        np.testing.assert_array_equal(plane, wanted)


def test_arrays_are_not_copied() -> None:
    given = frame(LAYOUTS[0])
    assert all(a is b for a, b in zip(given.host_planes, given.planes, strict=True))


def test_tensors_must_fit_the_layout() -> None:
    given = as_tensors(frame(LAYOUTS[1]))
    with pytest.raises(ValueError, match="uint16"):
        given.with_planes(tuple(plane.int() for plane in given.planes))
    with pytest.raises(ValueError, match="plane 1"):
        given.with_planes((given.planes[0], given.planes[1][1:], given.planes[2]))
