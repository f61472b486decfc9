"""Repeated frames and their cadence, on clips whose motion is known."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vfi_cli.cuts import Signature, signature
from vfi_cli.duplicates import (
    CADENCE_REACH,
    MAX_RUN,
    REPEAT_REACH,
    Difference,
    Shown,
    difference,
    is_kept,
    is_repeat,
    retimed,
)
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.scenes import CUTS_CONTEXT, DEDUPE_CONTEXT, Decided, SceneStream

WIDTH, HEIGHT = 96, 64


def picture(position: float, seed: int = 0, noise: float = 0.0) -> NDArray[np.float64]:
    """A pattern moved ``position`` pixels to the right, before a ground that stands still."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 6.28, 8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    ground = 90 + 30 * np.sin(0.23 * x + phases[0]) * np.cos(0.31 * y + phases[1])
    shape = 128 + 60 * np.sin(0.4 * (x - position) + phases[2]) * np.sin(0.3 * y + phases[3])
    shape += 40 * np.sin(0.13 * (x - position) + 0.21 * y + phases[4])
    codes = np.where((y > 14) & (y < 50), shape, ground)
    if noise:
        codes = codes + np.random.default_rng(random.randrange(1 << 30)).normal(0, noise, x.shape)
    return np.clip(codes, 0, 255)


def measured(codes: NDArray[np.float64]) -> Signature:
    samples = np.round(codes).astype(np.uint8)
    layout, color = PlaneLayout("gray", 8), ColorSpec(full_range=True)
    return signature(Frame((samples,), WIDTH, HEIGHT, layout, color, 0, Fraction(1, 25)))


def stream(
    clip: list[tuple[float, Signature, Fraction]], **options: bool
) -> tuple[list[Decided[float]], SceneStream[float]]:
    scenes: SceneStream[float] = SceneStream(dedupe=True, **options)
    out = [d for item in clip for d in scenes.feed(*item)]
    return out + list(scenes.flush()), scenes


def repeated(
    runs: list[int], fps: Fraction = Fraction(30), speed: float = 3.0, noise: float = 0.0
) -> list[tuple[float, Signature, Fraction]]:
    """Position n·speed shown runs[n] times."""
    clip = []
    for n, run in enumerate(runs):
        for _ in range(run):
            look = measured(picture(n * speed, noise=noise))
            clip.append((n * speed, look, len(clip) / fps))
    return clip


def unevenness(decided: list[tuple[float, Fraction]]) -> float:
    """Largest distance (in frames of motion) of linear interpolation from the best line."""
    positions = np.array([p for p, _ in decided])
    times = np.array([float(t) for _, t in decided])
    wanted = np.linspace(times[0], times[-1], 400)
    shown = np.interp(wanted, times, positions)
    line = np.polyval(np.polyfit(wanted, shown, 1), wanted)
    return float(np.abs(shown - line).max() / 3.0)


CADENCES = {
    "twos": [2] * 20,
    "threes": [3] * 14,
    "24 in 60": [3, 2] * 10,
    "24 in 60, from the short one": [2, 3] * 10,
    "24 in 30": [1, 1, 1, 2] * 8,
    "24 in 30, within": [1, 2, 1, 1] * 8,
    "advanced pulldown": [2, 3, 3, 2] * 6,
    "25 in 30": [1, 1, 1, 1, 2] * 7,
}


@pytest.mark.parametrize("name", CADENCES)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_motion_becomes_even(name: str, noise: float) -> None:
    clip = repeated(CADENCES[name], noise=noise)
    decided, scenes = stream(clip)
    source = [(p, t) for p, _, t in clip]
    # the first and last frames of a clip keep their times
    kept = [(d.payload, d.time) for d in decided][1:-2]
    assert len({p for p, _ in kept}) == len(kept), "a repeat was left in"
    assert unevenness(kept) < 1e-9
    assert unevenness(source) > 0.2
    assert scenes.cuts == 0
    assert scenes.repeats == len(clip) - len(decided) > 0
    assert decided[0].time == decided[0].source_time == clip[0][2]
    assert decided[-1].time == decided[-1].source_time == clip[-1][2]


def test_times_of_pulldown_are_exact() -> None:
    decided, _ = stream(repeated([3, 2] * 10, Fraction(60000, 1001)))
    times = [d.time for d in decided][1:-2]
    assert {b - a for a, b in pairwise(times)} == {Fraction(1001, 24000)}


def test_times_rounded_by_the_container_stay_close() -> None:
    clip = repeated([1, 1, 1, 2] * 8)
    rounded = [(p, s, Fraction(round(t * 1000), 1000)) for p, s, t in clip]
    decided, _ = stream(rounded)
    gaps = [b.time - a.time for a, b in pairwise(decided[1:-2])]
    assert all(abs(gap - Fraction(1, 24)) <= Fraction(1, 1000) for gap in gaps)


def test_irregular_repeats_are_left_out_at_their_first_times() -> None:
    runs = [1, 2, 1, 3, 1, 1, 4, 2, 1, 1, 1, 1, 3, 1, 2, 2, 1, 5, 1, 1, 3, 1]
    clip = repeated(runs)
    decided, scenes = stream(clip)
    firsts = [sum(runs[:n]) / Fraction(30) for n in range(len(runs))]
    assert [d.source_time for d in decided] == firsts
    assert scenes.repeats == sum(runs) - len(runs)
    assert [d.time for d in decided] == sorted({d.time for d in decided})


@pytest.mark.parametrize("positions", [(20,), (12, 21), (9, 22, 29)])
def test_repeats_now_and_then_are_no_cadence(positions: tuple[int, ...]) -> None:
    clip = repeated([2 if n in positions else 1 for n in range(40)])
    decided, scenes = stream(clip)
    assert scenes.repeats == len(positions)
    assert all(d.time == d.source_time for d in decided)


def test_motion_without_repeats_is_untouched() -> None:
    clip = repeated([1] * 40, noise=1.0)
    decided, scenes = stream(clip)
    assert [(d.payload, d.time) for d in decided] == [(p, t) for p, _, t in clip]
    assert scenes.repeats == 0


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0])
def test_a_still_shot_is_untouched(noise: float) -> None:
    random.seed(2)
    clip = [(0.0, measured(picture(0, noise=noise)), Fraction(n, 25)) for n in range(50)]
    decided, scenes = stream(clip)
    assert [d.time for d in decided] == [t for _, _, t in clip]
    assert (scenes.cuts, scenes.repeats) == (0, 0)


def test_a_pause_within_motion_is_untouched() -> None:
    clip = repeated([1] * 15 + [MAX_RUN + 4] + [1] * 15)
    decided, scenes = stream(clip)
    assert [d.time for d in decided] == [t for _, _, t in clip]
    assert scenes.repeats == 0


def test_runs_up_to_the_limit_are_left_out() -> None:
    for run, left_out in ((MAX_RUN + 1, MAX_RUN), (MAX_RUN + 2, 0)):
        _, scenes = stream(repeated([1] * 10 + [run] + [1] * 10))
        assert scenes.repeats == left_out


def test_a_mouth_that_moves_on_a_still_face_is_no_repeat() -> None:
    clip = []
    for n in range(40):
        codes = picture(3.0 * (n // 10))  # something large moves now and then
        codes[30:36, 40:48] = 60 + 60 * (n % 2)
        clip.append((float(n), measured(codes), Fraction(n, 25)))
    decided, scenes = stream(clip)
    assert scenes.repeats == 0
    assert len(decided) == 40


def test_single_frames_and_short_clips() -> None:
    for count in (1, 2, 3):
        clip = repeated([1] * count)
        decided, _ = stream(clip)
        assert [d.time for d in decided] == [t for _, _, t in clip]
    assert stream([])[0] == []


def test_a_repeat_never_spans_a_cut_and_the_scene_is_held_to_its_end() -> None:
    clip = []
    for n in range(40):
        seed, shown = (0, n // 2) if n < 20 else (9, n // 2)
        clip.append((float(n), measured(picture(3.0 * shown, seed)), Fraction(n, 24)))
    decided, scenes = stream(clip)
    assert scenes.cuts == 1
    (last,) = [d for d in decided if d.cut_after]
    # the repeat that ends the scene stays, so that the cut stays where it was
    assert last.payload == 19
    assert decided[decided.index(last) + 1].payload == 20
    assert [d.payload for d in decided][:5] == [0, 2, 4, 6, 8]


def test_cadence_is_not_averaged_across_a_cut() -> None:
    runs = [3, 2] * 8
    first, second = repeated(runs, Fraction(60)), repeated(runs[::-1], Fraction(60))
    end = len(first)
    clip = first + [
        (p, measured(picture(p, seed=9)), Fraction(end + n, 60))
        for n, (p, _, _) in enumerate(second)
    ]
    decided, scenes = stream(clip)
    assert scenes.cuts == 1
    cut = next(n for n, d in enumerate(decided) if d.cut_after)
    before = [(d.payload, d.time) for d in decided[1 : cut - 1]]
    after = [(d.payload, d.time) for d in decided[cut + 1 : -2]]
    assert unevenness(before) < 1e-9
    assert unevenness(after) < 1e-9
    # neither side was moved beyond the cut
    assert decided[cut].time < clip[end][2] <= decided[cut + 1].time + Fraction(1, 60)


def test_without_dedupe_nothing_is_left_out() -> None:
    clip = repeated([2] * 10)
    scenes: SceneStream[float] = SceneStream(cuts=False)
    assert not scenes.needs_signatures
    out = [d for p, _, t in clip for d in scenes.feed(p, None, t)] + list(scenes.flush())
    assert [(d.payload, d.time) for d in out] == [(p, t) for p, _, t in clip]


def test_delay_is_bounded_and_flush_gives_the_rest() -> None:
    for dedupe, bound in ((False, CUTS_CONTEXT), (True, DEDUPE_CONTEXT)):
        scenes: SceneStream[int] = SceneStream(dedupe=dedupe)
        look = [measured(picture(3.0 * n)) for n in range(60)]
        seen = 0
        for n, s in enumerate(look):
            seen += len(list(scenes.feed(n, s, Fraction(n))))
            assert n + 1 - seen <= bound
        assert seen + len(list(scenes.flush())) == 60


def test_frames_out_of_order_or_without_signature_are_refused() -> None:
    scenes: SceneStream[int] = SceneStream()
    look = measured(picture(0))
    scenes.feed(0, look, Fraction(1))
    with pytest.raises(ValueError, match="display order"):
        scenes.feed(1, look, Fraction(1))
    with pytest.raises(ValueError, match="signatures"):
        scenes.feed(1, None, Fraction(2))


def a_long_clip() -> list[tuple[float, Signature, Fraction]]:
    random.seed(5)
    rng = random.Random(5)
    clip: list[tuple[float, Signature, Fraction]] = []
    for scene in range(3):
        position = 0.0
        while len(clip) < 50 * (scene + 1):
            runs = rng.choice([[3, 2], [2], [1, 1, 1, 2], [1], [4, 1, 2]])
            for run in runs * 4:
                position += 3.0
                look = measured(picture(position, seed=scene, noise=rng.choice([0, 0, 0.5])))
                for _ in range(run):
                    clip.append((float(len(clip)), look, Fraction(len(clip) * 1001, 30000)))
    return clip


LONG_CLIP = a_long_clip()


@settings(max_examples=10, deadline=None)
@given(
    start=st.integers(0, len(LONG_CLIP) - 1),
    end=st.integers(1, len(LONG_CLIP)),
    dedupe=st.booleans(),
)
def test_decisions_are_the_same_wherever_a_stream_starts_and_ends(
    start: int, end: int, dedupe: bool
) -> None:
    def decide(first: int, last: int) -> dict[float, tuple[Fraction, bool]]:
        scenes: SceneStream[float] = SceneStream(dedupe=dedupe)
        out = [d for item in LONG_CLIP[first:last] for d in scenes.feed(*item)]
        out += list(scenes.flush())
        return {d.payload: (d.time, d.cut_after) for d in out}

    reach = DEDUPE_CONTEXT if dedupe else CUTS_CONTEXT
    whole = decide(0, len(LONG_CLIP))
    part = decide(start, end)
    low = start + reach if start else 0
    high = end - reach if end < len(LONG_CLIP) else end
    assert {k: v for k, v in whole.items() if low <= k < high} == {
        k: v for k, v in part.items() if low <= k < high
    }


def test_context_frames_are_marked_and_not_counted() -> None:
    clip = repeated([2] * 30)
    scenes: SceneStream[float] = SceneStream(dedupe=True)
    out = []
    for n, item in enumerate(clip):
        out += list(scenes.feed(*item, context=n < 30))
    out += list(scenes.flush())
    assert [d.context for d in out] == [True] * 15 + [False] * 16
    assert scenes.repeats == 14


# -- the pure functions ------------------------------------------------------------------------


def test_difference_sees_a_small_change_anywhere() -> None:
    base = picture(0)
    for y, x in ((0, 0), (HEIGHT - 4, WIDTH - 4), (30, 41)):
        changed = base.copy()
        changed[y : y + 4, x : x + 4] = 255 - changed[y : y + 4, x : x + 4]
        found = difference(measured(base), measured(changed))
        assert found.largest > 5 * found.mean > 0
    same = difference(measured(base), measured(base))
    assert (same.mean, same.largest) == (0.0, 0.0)


def test_repeat_needs_motion_around_it() -> None:
    small, large, nothing = Difference(0.05, 1.0), Difference(3.0, 40.0), Difference(0.0, 0.0)
    reach = REPEAT_REACH

    def around(middle: Difference, other: Difference | None) -> list[Difference | None]:
        return [other] * reach + [middle] + [other] * reach

    assert is_repeat(around(small, large))
    assert not is_repeat(around(small, small))
    assert not is_repeat(around(nothing, nothing))
    assert not is_repeat(around(large, large))
    assert not is_repeat(around(small, None))
    # motion of another scene does not count
    assert not is_repeat([large] * (reach - 1) + [None, small] + [small] * reach)


def test_wrong_neighbourhoods_are_refused() -> None:
    with pytest.raises(ValueError, match="differences"):
        is_repeat([None])
    with pytest.raises(ValueError, match="frames"):
        is_kept([False], False)
    with pytest.raises(ValueError, match="frames"):
        retimed([None])


@settings(max_examples=100, deadline=None)
@given(
    kept=st.lists(st.booleans(), min_size=30, max_size=60),
    cuts=st.sets(st.integers(0, 59), max_size=3),
    gaps=st.lists(st.integers(1, 50), min_size=60, max_size=60),
)
def test_retimed_frames_keep_their_order(kept: list[bool], cuts: set[int], gaps: list[int]) -> None:
    times = [Fraction(sum(gaps[:n]), 1000) for n in range(len(kept))]
    shown: list[Shown | None] = [
        Shown(t, k or n == 0 or n in cuts, n in cuts)
        for n, (t, k) in enumerate(zip(times, kept, strict=True))
    ]
    pad: list[Shown | None] = [None] * CADENCE_REACH
    padded = pad + shown + pad
    result = [
        retimed(padded[n : n + 2 * CADENCE_REACH + 1])
        for n, s in enumerate(shown)
        if s is not None and s.kept
    ]
    assert all(a < b for a, b in pairwise(result))
