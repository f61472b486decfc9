"""Sources whose clock jumps: the frame before a gap is held, and nothing is made across it."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media import write_clip
from tests.test_convert import convert, frames_of
from tests.test_pipe import decoded, options, through
from vfi_cli.__main__ import main
from vfi_cli.frame import Frame
from vfi_cli.io.decode import probe
from vfi_cli.models import load_model
from vfi_cli.report.difficulty import measure
from vfi_cli.survey import survey
from vfi_cli.timeline import format_time

BEFORE = 30  # frames, and as many after the gap
TICK = Fraction(1, 1000)


def clip(path: Path, clock: str = "variable", *, tone: bool = False) -> Path:
    """About five frames a second and, once, none for more than ten seconds.

    On a "constant" clock all stand at multiples of 1/5 s, as if recorded with frames dropped.
    """
    uneven = 30 if clock == "variable" else 0
    pts = [200 * (n + 50 * (n >= BEFORE)) + uneven * (n % 3) for n in range(2 * BEFORE)]
    return write_clip(
        path,
        codec="ffv1",
        size=(16, 12),
        frames=len(pts),
        rate=5,
        pts=pts,
        time_base=TICK,
        options={"g": "10"},
        tone=tone,
    )


@pytest.fixture(scope="module", params=["constant", "variable"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = clip(tmp_path_factory.mktemp(request.param) / "in.mkv", request.param)
    assert (probe(source).timeline.rate is None) == (request.param == "variable")
    return source


def same(a: Frame, b: Frame) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


@pytest.mark.parametrize(
    "asked",
    [{"factor": 2}, {"fps": 10}, {"fps": 3}, {"factor": 1, "stretch": 2}],
    ids=["factor", "fps", "lower", "slowmo"],
)
def test_the_frame_before_a_gap_is_held_and_all_else_is_in_time(
    source: Path, tmp_path: Path, asked: dict[str, int]
) -> None:
    result = convert(source, tmp_path / "out.mkv", cuts=False, **asked)  # type: ignore[arg-type]
    grid, timeline = result.plan.grid, result.plan.timeline
    times = [timeline.time(n) for n in range(2 * BEFORE)]
    shown, made = frames_of(source), frames_of(result.output)
    assert len(made) == grid.count == result.counts.frames
    held = [k for k in range(len(made)) if times[BEFORE - 1] <= grid.time(k) < times[BEFORE]]
    assert len(held) >= 10 * grid.rate
    assert all(same(made[k], shown[BEFORE - 1]) for k in held)
    own = {k: times.index(grid.time(k)) for k in range(len(made)) if grid.time(k) in times}
    assert all(same(made[k], shown[n]) for k, n in own.items()), "later frames are in time"
    if "fps" in asked:
        assert min(own.values()) < BEFORE - 1 < BEFORE < max(own.values())
    last = {k for k in range(len(made)) if grid.time(k) > times[-1]}
    assert result.counts.new == len(made) - len({*held, *own, *last})
    assert survey(result.plan).counts == result.counts, "what is foretold is what is made"
    (warning,) = result.warnings
    length = format_time(times[BEFORE] - times[BEFORE - 1])
    assert f"after {format_time(times[BEFORE - 1])} no frame comes for {length}; " in warning
    assert f"the frame before it is held over {len(held)} output frames" in warning


@pytest.mark.parametrize(
    "asked",
    [{}, {"dedupe": True}, {"rolling_shutter": (0, Fraction(1, 2))}],
    ids=["plain", "dedupe", "rows"],
)
def test_segments_around_a_gap_equal_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, object]
) -> None:
    source = clip(tmp_path / "in.mkv")
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1))
    parts = convert(source, tmp_path / "parts.mkv", fps=7, **asked)  # type: ignore[arg-type]
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(60))
    whole = convert(source, tmp_path / "whole.mkv", fps=7, **asked)  # type: ignore[arg-type]
    assert (len(parts.plan.segments), len(whole.plan.segments)) == (6, 1)
    assert parts.counts == whole.counts == survey(whole.plan).counts
    made = frames_of(whole.output)
    assert all(same(a, b) for a, b in zip(made, frames_of(parts.output), strict=True))
    grid, timeline = whole.plan.grid, whole.plan.timeline
    shown = frames_of(source)[BEFORE - 1]
    # Rows are exposed for up to half a frame longer.
    left, right = timeline.time(BEFORE - 1) + Fraction(1, 10), timeline.time(BEFORE)
    held = range(grid.first_at_or_after(left), grid.first_at_or_after(right))
    assert all(same(made[k], shown) for k in held)


def test_a_part_within_a_gap_is_all_held(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mkv")
    result = convert(source, tmp_path / "out.mkv", fps=7, start=Fraction(9), end=Fraction(12))
    shown = frames_of(source)[BEFORE - 1]
    assert [same(frame, shown) for frame in frames_of(result.output)] == 21 * [True]
    assert result.counts.new == survey(result.plan).counts.new == 0


def test_a_repeat_before_a_gap_is_held_as_its_own_frame(tmp_path: Path) -> None:
    """With --dedupe a repeat that ends what comes before a gap stays, for the gap is after it."""
    path = tmp_path / "in.mkv"
    pts = [40 * n + (12_000 if n >= 30 else 0) for n in range(60)]
    write_repeats(path, pts)
    result = convert(path, tmp_path / "out.mkv", fps=10, dedupe=True, cuts=False)
    assert result.counts.repeats == 28, "of 30; the last frames before the gap and the end stay"
    grid = result.plan.grid
    held = [k for k in range(result.counts.frames) if pts[29] <= grid.time(k) / TICK < pts[30]]
    made, shown = frames_of(result.output), frames_of(path)
    assert all(same(made[k], shown[29]) for k in held)
    assert survey(result.plan).counts == result.counts


def write_repeats(path: Path, pts: list[int]) -> None:
    """A texture that moves on every second frame."""
    import av

    texture = np.random.default_rng(4).integers(20, 235, (48, 400), dtype=np.uint8).repeat(2, 1)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=128, height=48)
        stream.pix_fmt = "gray"
        stream.codec_context.time_base = stream.time_base = TICK
        for number, at in enumerate(pts):
            seen = texture[:, 4 * (number // 2) :][:, :128]
            picture = av.VideoFrame.from_ndarray(seen.copy(), "gray")
            picture.pts, picture.time_base = at, TICK
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))


def test_a_pipe_holds_the_frame_before_a_gap_too(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mkv")
    planned = convert(source, tmp_path / "planned.mkv", fps=7)
    data, result = through(source.read_bytes(), options(fps=7))
    _, pictures, _ = decoded(data)
    assert result.counts == planned.counts
    for frame, picture in zip(frames_of(planned.output), pictures, strict=True):
        assert np.array_equal(frame.planes[0], picture.to_ndarray()[:12])


def test_sound_goes_on_through_a_gap(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mkv", tone=True)
    result = convert(source, tmp_path / "out.mkv", fps=7)
    before, after = probe(source), probe(result.output)
    assert abs(after.timeline.end - before.timeline.end) < Fraction(1, 7)
    assert after.timeline.start == before.timeline.start


def test_a_sample_for_the_estimate_lies_beside_a_gap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.mkv"
    pts = [40 * n + (20_000 if n > 0 else 0) for n in range(12)]
    write_clip(source, frames=12, pts=pts, time_base=TICK, codec="ffv1")
    arguments = [str(source), "--factor", "2", "--model", "blend", "--dry-run", "--json"]
    assert main(["convert", *arguments]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["settings"]["gap"] == "10"
    assert told["new_frames"] == 10
    assert told["estimate"]["sample"]["new_frames"] == 9, "all but those of the first pair"


def test_a_report_has_no_hard_moment_in_a_gap(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.mkv")
    blend = load_model("blend", device="cpu")
    result = convert(source, tmp_path / "out.mkv", factor=2, cuts=False)
    found = measure(result.plan, result.counts.frames, blend)
    across = [n for n, value in enumerate(found.difference) if math.isnan(value)]
    assert across == [BEFORE - 1]
    timeline = result.plan.timeline
    left, right = (float(timeline.time(n) - timeline.start) for n in (BEFORE - 1, BEFORE))
    assert found.moments
    assert not [moment for moment in found.moments if left < moment.time < right]
