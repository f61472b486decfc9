"""Segments and fingerprints of a plan."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfi_cli.errors import InputError
from vfi_cli.plan import Timing, automatic_scale, input_fingerprint, output_rate, split_segments
from vfi_cli.timeline import OutputGrid


@given(
    st.integers(1, 2000),
    st.lists(st.fractions(0, 100, max_denominator=50), max_size=40),
    st.fractions(Fraction(1, 2), 8, max_denominator=5),
)
def test_segments_cover_the_grid_once(count: int, keys: list[Fraction], seconds: Fraction) -> None:
    grid = OutputGrid(Fraction(3), Fraction(24), Fraction(24), count)
    segments = split_segments(grid, sorted(3 + key for key in keys), seconds)
    assert [s.number for s in segments] == list(range(len(segments)))
    assert segments[0].first == 0
    assert segments[-1].stop == count
    for segment, following in itertools.pairwise(segments):
        assert segment.stop == following.first
        assert segment.count >= int(seconds * 24)
    assert all(segment.count > 0 for segment in segments)


def test_segments_begin_on_keyframes() -> None:
    grid = OutputGrid(Fraction(0), Fraction(60), Fraction(60), 600)
    keys = [Fraction(n, 2) for n in range(20)]
    segments = split_segments(grid, keys, Fraction(2))
    assert [s.first for s in segments] == [0, 120, 240, 360, 480]
    assert split_segments(grid, [], Fraction(2))[0].count == 600


def test_rates() -> None:
    source = Fraction(24000, 1001)
    assert output_rate(source, Timing(fps=Fraction(60))) == 60
    assert output_rate(source, Timing(factor=Fraction(5, 2))) == Fraction(60000, 1001)
    assert output_rate(source, Timing(stretch=Fraction(8))) == source


def test_scale_is_halved_for_uhd() -> None:
    assert automatic_scale(1920, 1080) == 1
    assert automatic_scale(3840, 2160) == automatic_scale(2160, 3840) == 0.5


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    first = tmp_path / "a"
    first.write_bytes(bytes(5_000_000))
    copy = tmp_path / "b"
    copy.write_bytes(bytes(5_000_000))
    assert input_fingerprint(first) == input_fingerprint(copy)
    seen = {input_fingerprint(first)}
    for place in (0, 2_500_000, 4_999_999):
        content = bytearray(5_000_000)
        content[place] = 1
        copy.write_bytes(content)
        seen.add(input_fingerprint(copy))
    copy.write_bytes(bytes(5_000_001))
    seen.add(input_fingerprint(copy))
    assert len(seen) == 5
    with pytest.raises(InputError, match="cannot read"):
        input_fingerprint(tmp_path / "missing")
