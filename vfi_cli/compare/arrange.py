"""How pictures are put into one: side by side, stacked, split by a moving line, subtracted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal, Protocol, get_args

import numpy as np

from vfi_cli.compare.picture import Planes, Target
from vfi_cli.errors import UsageError
from vfi_cli.frame import Samples

Mode = Literal["side", "split", "stack", "diff"]
MODES: tuple[Mode, ...] = get_args(Mode)

#: What differences are multiplied by.
AMPLIFICATION = 8
#: Seconds in which the line of a split picture goes right, left, and back to the middle.
SWEEP_SECONDS = 8


class Arrangement(Protocol):
    """Puts padded pictures of one size into one."""

    width: int  # pixels of the whole
    height: int
    #: Where along the top each input's label stands, 0 … 1; none where the whole gets one.
    places: tuple[Fraction, ...]

    def compose(self, pictures: Sequence[Planes], time: Fraction) -> Planes:
        """The whole at ``time`` seconds after its beginning."""


def arrangement(mode: Mode, target: Target, count: int) -> Arrangement:
    """The arrangement of ``count`` inputs. Raises UsageError where a mode cannot take them."""
    if count < 2:
        raise UsageError("a comparison takes two videos or more")
    if mode == "diff":
        if count != 2:
            raise UsageError(f"--mode diff subtracts two videos, not {count}")
        return Difference(target)
    if mode == "split":
        return Split(target, count)
    if mode == "stack":
        return Grid(target, count, columns=1)
    return Grid(target, count, columns=count if count < 4 else math.isqrt(count - 1) + 1)


class Grid:
    """Rows and columns, filled row by row; cells that are left over are black."""

    def __init__(self, target: Target, count: int, columns: int) -> None:
        self._target = target
        self._columns = columns
        width, height = target.padded
        self.width, self.height = columns * width, -(-count // columns) * height
        self.places = (Fraction(0),) * count

    def compose(self, pictures: Sequence[Planes], time: Fraction) -> Planes:
        target, layout = self._target, self._target.layout
        whole = []
        for plane in range(layout.components):
            shape = layout.plane_shape(plane, self.width, self.height)
            empty = target.neutral if target.is_chroma(plane) else target.black
            canvas = np.full(shape, empty, layout.dtype)
            rows, columns = pictures[0][plane].shape
            for number, picture in enumerate(pictures):
                y, x = divmod(number, self._columns)
                canvas[y * rows :, x * columns :][:rows, :columns] = picture[plane]
            whole.append(canvas)
        return tuple(whole)


class Split:
    """One picture: each input shows a part of it, with a line between that moves to and fro."""

    def __init__(self, target: Target, count: int) -> None:
        self._target = target
        self._count = count
        self.width, self.height = target.padded
        self._step = max(2, 1 << target.layout.log2_chroma_w)
        self._line = max(self._step, self.width // 480 // self._step * self._step)
        self.places = tuple(Fraction(number, count - 1) for number in range(count))

    def boundaries(self, time: Fraction) -> list[int]:
        """Where each line's left edge lies, in pixels: whole chroma samples.

        Two inputs: from the middle to the right edge, to the left edge, and back.
        """
        swing = abs(4 * ((time / SWEEP_SECONDS - Fraction(1, 4)) % 1) - 2) - 1  # 0 → 1 → −1 → 0
        exact = [
            self.width * (line + swing) / self._count / self._step for line in range(1, self._count)
        ]
        return [round(x) * self._step for x in exact]

    def compose(self, pictures: Sequence[Planes], time: Fraction) -> Planes:
        target = self._target
        edges = self.boundaries(time)
        whole: list[Samples] = []
        for plane, first in enumerate(pictures[0]):
            scale = self.width // first.shape[1]
            canvas = first.copy()
            for edge, picture in zip(edges, pictures[1:], strict=True):
                canvas[:, edge // scale :] = picture[plane][:, edge // scale :]
            for edge in edges:
                light = target.neutral if target.is_chroma(plane) else target.white
                canvas[:, edge // scale : (edge + self._line) // scale] = light
            whole.append(canvas)
        return tuple(whole)


class Difference:
    """The second picture minus the first, amplified, around grey: equal samples are grey."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.width, self.height = target.padded
        self.places: tuple[Fraction, ...] = ()

    def compose(self, pictures: Sequence[Planes], time: Fraction) -> Planes:
        target = self._target
        whole = []
        for plane, (first, second) in enumerate(zip(*pictures, strict=True)):
            middle = target.neutral if target.is_chroma(plane) else target.grey
            change = second.astype(np.int32) - first
            change *= AMPLIFICATION
            change += middle
            whole.append(change.clip(0, target.layout.peak).astype(first.dtype))
        return tuple(whole)
