"""Which source frames make each output frame."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Window
from vfi_cli.timeline import OutputGrid
from vfi_cli.windows import Placed, Shown, place

GRAY = PlaneLayout("gray", 8)


def frame(pts: int) -> Frame:
    return Frame(
        (np.zeros((1, 1), np.uint8),), 1, 1, GRAY, ColorSpec(), pts=pts, time_base=Fraction(1)
    )


def clip(*pts: int, cuts: tuple[int, ...] = (), gaps: tuple[int, ...] = ()) -> list[Shown]:
    return [Shown(frame(p), Fraction(p), p in cuts, p in gaps) for p in pts]


def run(
    shown: list[Shown],
    grid: OutputGrid,
    first: int = 0,
    stop: int | None = None,
    *,
    frames_seen: int = 2,
) -> list[Placed]:
    stop = grid.count if stop is None else stop
    return list(place(shown, grid, first, stop, end=lambda s: s.time + 1, frames_seen=frames_seen))


def brief(placed: list[Placed]) -> list[object]:
    out: list[object] = []
    for item in placed:
        if isinstance(item.content, Window):
            pts = tuple(None if f is None else f.pts for f in item.content.frames)
            out.append((*pts, item.content.timestep))
        else:
            out.append(item.content.pts)
    return out


def test_doubling_shows_sources_and_midpoints_and_holds_the_last() -> None:
    half = Fraction(1, 2)
    grid = OutputGrid.spanning(Fraction(0), Fraction(3), Fraction(2))
    assert brief(run(clip(0, 1, 2), grid)) == [0, (0, 1, half), 1, (1, 2, half), 2, 2]


def test_one_frame_is_held() -> None:
    grid = OutputGrid.spanning(Fraction(5), Fraction(6), Fraction(3))
    assert brief(run(clip(5), grid)) == [5, 5, 5]


def test_no_frames_give_nothing() -> None:
    assert run([], OutputGrid(Fraction(0), Fraction(1), Fraction(1), None)) == []


def test_a_cut_shows_the_nearer_frame() -> None:
    grid = OutputGrid.spanning(Fraction(0), Fraction(2), Fraction(4))
    assert brief(run(clip(0, 1, cuts=(0,)), grid)) == [0, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("cuts", [(), (1,)])
def test_over_a_gap_the_frame_before_is_held(cuts: tuple[int, ...]) -> None:
    """Also where a cut was found across it."""
    grid = OutputGrid(Fraction(1, 2), Fraction(1), Fraction(1), 7)
    shown = clip(0, 1, 5, 6, 7, cuts=cuts, gaps=(1,))
    half = Fraction(1, 2)
    assert brief(run(shown, grid)) == [(0, 1, half), 1, 1, 1, 1, (5, 6, half), (6, 7, half)]
    assert brief(run(shown, grid, frames_seen=4)) == [
        (None, 0, 1, None, half),
        *(1, 1, 1, 1),
        (None, 5, 6, 7, half),
        (5, 6, 7, None, half),
    ]


def test_variable_rate_times_are_exact() -> None:
    grid = OutputGrid.spanning(Fraction(0), Fraction(8), Fraction(1))
    assert brief(run(clip(0, 3, 7), grid)) == [
        0,
        (0, 3, Fraction(1, 3)),
        (0, 3, Fraction(2, 3)),
        3,
        (3, 7, Fraction(1, 4)),
        (3, 7, Fraction(1, 2)),
        (3, 7, Fraction(3, 4)),
        7,
    ]


def test_lower_rates_skip_source_frames() -> None:
    grid = OutputGrid.spanning(Fraction(0), Fraction(6), Fraction(1, 2))
    assert brief(run(clip(0, 1, 2, 3, 4, 5), grid)) == [0, 2, 4]


def test_four_frame_windows_end_at_the_clip_and_at_cuts() -> None:
    grid = OutputGrid(Fraction(1, 2), Fraction(1), Fraction(1), 4)
    half = Fraction(1, 2)
    assert brief(run(clip(0, 1, 2, 3, 4), grid, frames_seen=4)) == [
        (None, 0, 1, 2, half),
        (0, 1, 2, 3, half),
        (1, 2, 3, 4, half),
        (2, 3, 4, None, half),
    ]
    assert brief(run(clip(0, 1, 2, 3, 4, cuts=(1,)), grid, frames_seen=4)) == [
        (None, 0, 1, None, half),
        1,
        (None, 2, 3, 4, half),
        (2, 3, 4, None, half),
    ]


def test_reads_no_further_than_needed() -> None:
    def endless() -> object:
        pts = 0
        while True:
            assert pts < 6, "read too far"
            yield Shown(frame(pts), Fraction(pts), False)
            pts += 1

    grid = OutputGrid(Fraction(0), Fraction(2), Fraction(2), None)
    placed = list(place(endless(), grid, 0, 7, end=lambda s: s.time, frames_seen=4))  # type: ignore[arg-type]
    assert [p.number for p in placed] == list(range(7))


@settings(deadline=None)
@given(
    gaps=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    cuts=st.sets(st.integers(0, 40)),
    held=st.sets(st.integers(0, 40)),
    rate=st.fractions(Fraction(1, 3), 5, max_denominator=7),
    split=st.integers(0, 40),
    seen=st.sampled_from([2, 4]),
)
def test_rendering_in_two_parts_equals_rendering_at_once(
    gaps: list[int], cuts: set[int], held: set[int], rate: Fraction, split: int, seen: int
) -> None:
    """A segment that begins with the frames around it agrees with the whole."""
    pts = [0]
    for gap in gaps:
        pts.append(pts[-1] + gap)
    shown = clip(*pts, cuts=tuple(cuts), gaps=tuple(held))
    grid = OutputGrid.spanning(Fraction(0), Fraction(pts[-1] + 1), rate)
    assert grid.count is not None
    split = min(split, grid.count)
    whole = brief(run(shown, grid, frames_seen=seen))
    assert len(whole) == grid.count
    start = max((i for i, p in enumerate(pts) if p <= grid.time(split)), default=0)
    part = brief(run(shown[max(0, start - 1) :], grid, split, grid.count, frames_seen=seen))
    assert whole[split:] == part


def test_a_window_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="2 or 4"):
        Window((frame(0),), Fraction(1, 2))
    with pytest.raises(ValueError, match="between 0 and 1"):
        Window((frame(0), frame(1)), Fraction(1))
