"""Rates, source timelines and output grids: exact, or refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfi_cli.errors import UsageError
from vfi_cli.timeline import (
    OutputGrid,
    SourceTimeline,
    dyadic,
    format_rate,
    format_time,
    least_gap,
    parse_factor,
    parse_rate,
    timestep,
    usual_distance,
)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("60", Fraction(60)),
        ("30000/1001", Fraction(30000, 1001)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("47.952", Fraction(48000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("119.88", Fraction(120000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("24.0", Fraction(24)),
        ("24.00", Fraction(24)),
        (".5", Fraction(1, 2)),
        ("1000", Fraction(1000)),
    ],
)
def test_rates(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["0", "-25", "0/1", "1/0", "abc", "", "1/2/3", "1e9", "1001", "nan", "inf", "24fps", "/"],
)
def test_bad_rates_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


def test_factors() -> None:
    assert parse_factor("2.5") == parse_factor("5/2") == Fraction(5, 2)
    with pytest.raises(UsageError):
        parse_factor("257")


def test_formats() -> None:
    assert format_time(Fraction(412, 10)) == "0:41.20"
    assert format_time(3723.45) == "1:02:03.45"
    assert format_time(Fraction(59999, 1000)) == "1:00.00"
    assert format_time(Fraction(-1, 2)) == "-0:00.50"
    assert format_rate(Fraction(30000, 1001)) == "29.97"
    assert format_rate(Fraction(24000, 1001)) == "23.976"
    assert format_rate(Fraction(60)) == "60"


@given(
    st.integers(1, 5000),
    st.integers(1, 16),
    st.sampled_from([Fraction(25), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60)]),
)
def test_integer_factors_give_exactly_that_many_frames(
    frames: int, factor: int, rate: Fraction
) -> None:
    grid = OutputGrid.spanning(Fraction(1, 3), Fraction(1, 3) + frames / rate, rate * factor)
    assert grid.count == frames * factor
    assert grid.time(factor * (frames - 1)) == Fraction(1, 3) + (frames - 1) / rate


def test_a_film_at_ntsc_rates_does_not_drift() -> None:
    """Two hours of 24000/1001 to 60000/1001: the last frame stands where it must, exactly."""
    rate = Fraction(24000, 1001)
    frames = 172_627
    timeline = SourceTimeline(range(frames), 1 / rate, frames)
    grid = OutputGrid.spanning(timeline.start, timeline.end, Fraction(60000, 1001))
    assert grid.count is not None
    assert grid.time(grid.count - 1) < timeline.end <= grid.time(grid.count)
    assert grid.time(60_000 * 60) == 60_000 * 60 * Fraction(1001, 60000)


def test_millisecond_timestamps_of_a_constant_rate_are_restored() -> None:
    rate = Fraction(24000, 1001)
    pts = [round(i * 1000 / rate) for i in range(1000)]
    timeline = SourceTimeline(pts, Fraction(1, 1000), 41_708, rate)
    assert timeline.time(7) == 7 / rate
    assert timeline.time_of(pts[7]) == 7 / rate
    assert timeline.end == 1000 / rate
    assert OutputGrid.spanning(timeline.start, timeline.end, 2 * rate).count == 2000


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.fractions(0, 20))
def test_index_at_agrees_with_a_linear_search(gaps: list[int], time: Fraction) -> None:
    pts = [0]
    for gap in gaps:
        pts.append(pts[-1] + gap)
    timeline = SourceTimeline(pts, Fraction(1, 30), pts[-1] + 1)
    expected = max((i for i in range(len(pts)) if timeline.time(i) <= time), default=0)
    assert timeline.index_at(time) == expected


def test_variable_rate_keeps_its_own_times() -> None:
    timeline = SourceTimeline([0, 40, 41, 100], Fraction(1, 1000), 150)
    assert [timeline.time(i) for i in range(4)] == [Fraction(p, 1000) for p in (0, 40, 41, 100)]
    assert timeline.end == Fraction(150, 1000)
    assert timeline.time_of(60) == Fraction(60, 1000)
    assert timestep(Fraction(1, 20), timeline.time(2), timeline.time(3)) == Fraction(9, 59)


def test_slow_motion_samples_denser_and_plays_at_the_rate_asked() -> None:
    grid = OutputGrid.spanning(Fraction(0), Fraction(2), Fraction(25), Fraction(8))
    assert (grid.count, grid.rate, grid.fps, grid.stretch) == (400, 200, 25, 8)


@given(st.fractions(0, 1, max_denominator=10_000), st.integers(1, 8))
def test_dyadic_is_the_nearest(t: Fraction, depth: int) -> None:
    near = dyadic(t, depth)
    assert (near * 2**depth).denominator == 1
    assert abs(near - t) <= Fraction(1, 2 ** (depth + 1))
    assert 0 <= near <= 1


def test_gaps_are_long_and_rare() -> None:
    tick = Fraction(1, 1000)

    def long_gaps(pts: list[int]) -> list[int]:
        least = least_gap(usual_distance(pts) * tick)
        return SourceTimeline(pts, tick, pts[-1] + 1).gaps(least)

    film = [40 * n for n in range(50)]
    later = [n + 20_000 for n in film]
    assert long_gaps(film) == []
    assert long_gaps([*film, *later]) == [49]
    assert long_gaps([*film, *(n - 9_000 for n in later)]) == [], "9 s are none"
    slides = [12_000 * n for n in range(20)]
    assert long_gaps(slides) == [], "a slide show changes slowly"
    assert long_gaps([*slides, slides[-1] + 120_000]) == [19]
    assert long_gaps([0, 90_000]) == []


def test_gaps_are_told_from_exact_times() -> None:
    """Milliseconds that round the distance of two frames down hide no gap."""
    rate, tick = Fraction(30000, 1001), Fraction(1, 1000)
    length = 301 / rate
    written = set()
    for number in range(1, 30):
        pts = [0, *(round(n / rate / tick) for n in (number, number + 301))]
        timeline = SourceTimeline(pts, tick, pts[-1] + 33, rate)
        assert timeline.gaps(length) == [1]
        assert timeline.gaps(length + tick / 1000) == []
        written.add(pts[2] - pts[1])
    assert min(written) * tick < length
