"""Rows exposed one after the other, brought to one time.

Pictures brighten linearly, each pixel at a rate of its own: ``blend`` with the right time for
every row then gives exactly the picture of the output's time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media import write_clip
from vfi_cli.__main__ import main
from vfi_cli.api import ConvertOptions, ModelOptions, convert_file
from vfi_cli.cli.options import parse_shutter
from vfi_cli.errors import ModelError, UsageError
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Window
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.io.formats import pack
from vfi_cli.models import Interpolator, load_model
from vfi_cli.models.base import Network
from vfi_cli.plan import RenderSettings, Timing
from vfi_cli.render import Counts, Part, pictures
from vfi_cli.synthesis import Synthesizer
from vfi_cli.timeline import OutputGrid
from vfi_cli.windows import Placed, Shown, Strip, place_rows

GRAY16 = PlaneLayout("gray", 16)
BLEND = load_model("blend", device="cpu")
Shutter = tuple[Fraction, Fraction]

SHUTTERS = [
    (Fraction(0), Fraction(7, 10)),
    (Fraction(0), Fraction(-2, 5)),
    (Fraction(1), Fraction(-1)),  # two intervals: three pairs in a frame
    (Fraction(1, 4), Fraction(1, 4)),
]


def scene(time: np.ndarray | float, width: int = 6, height: int = 8) -> np.ndarray:
    """Code values (H, W) at a time, or at a time for each row."""
    rng = np.random.default_rng(3)
    start, rate = rng.uniform(5000, 9000, (2, height, width))
    return start + rate / 4 * np.reshape(time, (-1, 1))


def exposed(number: int, shutter: Shutter, pts: int | None = None, height: int = 8) -> Frame:
    """Frame ``number`` at time ``pts`` (by default the same), its rows one after the other."""
    pts = number if pts is None else pts
    late = np.linspace(float(shutter[0]), float(shutter[1]), height)
    planes = (np.round(scene(pts + late)).astype(np.uint16),)
    return Frame(planes, 6, 8, GRAY16, ColorSpec(full_range=True), pts, Fraction(1))


def render(
    frames: Iterable[Frame],
    grid: OutputGrid,
    shutter: Shutter | None,
    model: Interpolator = BLEND,
    first: int = 0,
) -> list[Frame]:
    settings = RenderSettings(cuts=False, rolling_shutter=shutter)
    return list(
        pictures(
            ((frame, frame.time, None) for frame in frames),
            Synthesizer(model),
            settings,
            grid,
            Part(first, grid.count),
            end=lambda last: last.time + 1,
            counts=Counts(),
        )
    )


@pytest.mark.parametrize("shutter", SHUTTERS, ids=lambda s: f"{s[0]}:{s[1]}")
@pytest.mark.parametrize("stamps", [range(8), (0, 1, 3, 4, 6, 7)], ids=["constant", "variable"])
def test_every_row_is_brought_to_the_time_of_the_output(
    shutter: Shutter, stamps: Iterable[int]
) -> None:
    source = [exposed(n, shutter, pts) for n, pts in enumerate(stamps)]
    grid = OutputGrid.spanning(Fraction(0), Fraction(8), Fraction(5, 2))
    made = render(source, grid, shutter)
    assert len(made) == grid.count
    inner = [k for k in range(len(made)) if 1 <= grid.time(k) <= 6]
    assert len(inner) > 10
    for k in inner:
        error = np.abs(made[k].planes[0] - scene(float(grid.time(k))))
        assert error.max() <= 1.1, k  # the source's rounding and the result's
    plain = render(source, grid, None)
    assert max(np.abs(plain[k].planes[0] - scene(float(grid.time(k)))).max() for k in inner) > 300


@pytest.mark.parametrize("shutter", SHUTTERS[:3], ids=lambda s: f"{s[0]}:{s[1]}")
def test_rows_before_the_first_and_after_the_last_exposure_are_held(shutter: Shutter) -> None:
    source = [exposed(n, shutter) for n in range(3)]
    grid = OutputGrid.spanning(Fraction(0), Fraction(3), Fraction(2))
    made = render(source, grid, shutter)
    late = np.linspace(float(shutter[0]), float(shutter[1]), 8)
    for k, frame in enumerate(made):
        nearest = np.clip(float(grid.time(k)) - late, 0, 2) + late
        assert np.abs(frame.planes[0] - scene(nearest)).max() <= 1.1


def flat(pts: int, height: int = 5) -> Frame:
    planes = (np.full((height, 2), pts, np.uint16),)
    return Frame(planes, 2, height, GRAY16, ColorSpec(full_range=True), pts, Fraction(1))


def clip(*stamps: int, cuts: Iterable[int] = (), gaps: Iterable[int] = ()) -> list[Shown]:
    return [Shown(flat(pts), Fraction(pts), pts in cuts, pts in gaps) for pts in stamps]


def run(
    shown: Iterable[Shown],
    grid: OutputGrid,
    shutter: Shutter,
    first: int = 0,
    frames_seen: int = 2,
) -> list[Placed]:
    return list(
        place_rows(
            shown,
            grid,
            first,
            grid.count,
            end=lambda last: last.time + 1,
            frames_seen=frames_seen,
            shutter=shutter,
        )
    )


def brief(placed: Placed) -> object:
    def stamps(frames: tuple[Frame | None, ...]) -> tuple[int | None, ...]:
        return tuple(None if frame is None else frame.pts for frame in frames)

    content = placed.content
    if isinstance(content, Frame):
        return content.pts
    if isinstance(content, Window):
        return (*stamps(content.frames), content.timestep)
    return [(s.first, s.stop, stamps(s.frames), s.origin, s.step) for s in content]


def test_rows_come_from_the_pair_that_their_time_falls_into() -> None:
    grid = OutputGrid(Fraction(2), Fraction(1), Fraction(1), 1)
    eighth, half = Fraction(1, 8), Fraction(1, 2)
    (placed,) = run(clip(0, 1, 2, 3, 4), grid, (-half, half))
    assert brief(placed) == [
        (0, 3, (2, 3), half, -2 * eighth),
        (3, 5, (1, 2), 3 * half, -2 * eighth),
    ]
    (placed,) = run(clip(0, 1, 2, 3, 4), grid, (-half, half), frames_seen=4)
    assert [strip[2] for strip in brief(placed)] == [(1, 2, 3, 4), (0, 1, 2, 3)]  # type: ignore


def test_a_frame_is_never_made_of_two_scenes() -> None:
    shutter = (Fraction(-1, 2), Fraction(1, 2))
    grid = OutputGrid(Fraction(1), Fraction(4), Fraction(4), 5)
    shown = clip(0, 1, 2, 3, cuts=[1])
    for placed in run(shown, grid, shutter, frames_seen=4):
        strips = placed.content if isinstance(placed.content, tuple) else ()
        seen = {f.pts for strip in strips for f in strip.frames if f is not None}
        if isinstance(placed.content, Frame):  # all rows are held
            seen = {placed.content.pts}
        assert seen
        time = grid.time(placed.number)
        assert seen <= ({0, 1} if time <= Fraction(3, 2) else {2, 3}), time


@pytest.mark.parametrize("cuts", [(), (1,)])
@pytest.mark.parametrize("seen", [2, 4])
def test_over_a_gap_all_rows_of_the_frame_before_are_held(cuts: Iterable[int], seen: int) -> None:
    shutter = (Fraction(-1, 2), Fraction(1, 2))
    grid = OutputGrid(Fraction(0), Fraction(4), Fraction(4), 33)
    for placed in run(clip(0, 1, 6, 7, cuts=cuts, gaps=[1]), grid, shutter, frames_seen=seen):
        time = grid.time(placed.number)
        if Fraction(3, 2) <= time < 6:
            assert brief(placed) == 1, time
        strips = placed.content if isinstance(placed.content, tuple) else ()
        made_of = {f.pts for strip in strips for f in strip.frames if f is not None}
        assert made_of <= ({0, 1} if time < 6 else {6, 7}), time


def test_rows_that_need_no_correction_are_the_source_itself() -> None:
    grid = OutputGrid.spanning(Fraction(0), Fraction(3), Fraction(2))
    half = Fraction(1, 2)
    placed = run(clip(0, 1, 2), grid, (half, half))
    assert [brief(p) for p in placed] == [0, 0, (0, 1, half), 1, (1, 2, half), 2]


def test_a_stream_without_end_is_read_no_further_than_needed() -> None:
    def endless() -> Iterator[Shown]:
        for pts in range(9):
            yield Shown(flat(pts), Fraction(pts), False)
        raise AssertionError("read too far")

    grid = OutputGrid(Fraction(0), Fraction(1), Fraction(1), 6)
    assert len(run(endless(), grid, (Fraction(-1), Fraction(0)))) == 6


@given(
    gaps=st.lists(st.integers(1, 4), min_size=1, max_size=10),
    cuts=st.sets(st.integers(0, 30)),
    held=st.sets(st.integers(0, 30)),
    rate=st.fractions(Fraction(1, 3), 4, max_denominator=5),
    split=st.integers(0, 30),
    seen=st.sampled_from([2, 4]),
    shutter=st.tuples(*[st.fractions(-2, 2, max_denominator=8)] * 2),
)
def test_rendering_in_two_parts_equals_rendering_at_once(
    gaps: list[int],
    cuts: set[int],
    held: set[int],
    rate: Fraction,
    split: int,
    seen: int,
    shutter: Shutter,
) -> None:
    stamps = [0, *np.cumsum(gaps).tolist()]
    shown = clip(*stamps, cuts=cuts, gaps=held)
    grid = OutputGrid.spanning(Fraction(0), Fraction(stamps[-1] + 1), rate)
    assert grid.count is not None
    whole = [brief(p) for p in run(shown, grid, shutter, frames_seen=seen)]
    assert len(whole) == grid.count
    split = min(split, grid.count)
    earliest = grid.time(split) - max(0, *shutter)
    start = max((n for n, pts in enumerate(stamps) if pts <= earliest), default=0)
    part = run(shown[max(0, start - 1) :], grid, shutter, split, seen)
    assert [brief(p) for p in part] == whole[split:]
    for placed in run(shown, grid, shutter, frames_seen=seen):
        if isinstance(placed.content, tuple):
            check(placed.content, 5)


def check(strips: tuple[Strip, ...], height: int) -> None:
    """All rows, once each, at times between the two frames."""
    assert [row for s in strips for row in range(s.first, s.stop)] == list(range(height))
    for strip in strips:
        for row in range(strip.first, strip.stop):
            assert len(strip.frames) == 1 or 0 <= strip.origin + strip.step * row < 1


def write_ramp(path: Path, shutter: Shutter, frames: int = 8) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=10, options={"g": "1"}, width=6, height=8)
        stream.pix_fmt = "gray16le"
        for number in range(frames):
            picture = pack(exposed(number, shutter).planes, "gray16le", 6, 8)
            picture.pts = number
            picture.time_base = Fraction(1, 10)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    return path


def lumas(path: Path) -> list[np.ndarray]:
    with FrameReader(probe(path)) as reader:
        return [frame.planes[0].astype(np.int64) for frame in reader]


def test_a_conversion_in_segments_straightens_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutter = (Fraction(1, 5), Fraction(-3, 5))
    source = write_ramp(tmp_path / "in.mkv", shutter)
    outputs = []
    for name, seconds in (("whole", Fraction(5)), ("parts", Fraction(1, 5))):
        monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", seconds)
        options = ConvertOptions(
            Timing(factor=Fraction(2)),
            ModelOptions("blend", device="cpu"),
            EncoderOptions("ffv1"),
            rolling_shutter=(0.2, -0.6),
        )
        result = convert_file(source, tmp_path / f"{name}.mkv", options, interpolator=lambda: BLEND)
        assert len(result.plan.segments) == (1 if name == "whole" else 4)
        outputs.append(lumas(result.output))
    assert all(np.array_equal(a, b) for a, b in zip(*outputs, strict=True))
    assert len(outputs[0]) == 16
    for k in range(2, 13):
        assert np.abs(outputs[0][k] - scene(k / 2)).max() <= 1.1


class Whole(Network):
    """Knows one time for the whole picture."""


def test_a_model_without_times_for_rows_is_refused(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=3, codec="ffv1", size=(16, 16))
    whole = Interpolator(Whole(), name="whole", device="cpu", dtype="float32")
    options = ConvertOptions(
        Timing(factor=Fraction(2)), rolling_shutter=(Fraction(0), Fraction(1, 2))
    )
    with pytest.raises(ModelError, match="whole cannot make rows of different times"):
        convert_file(source, tmp_path / "out.mkv", options, interpolator=lambda: whole)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_the_option() -> None:
    assert parse_shutter("0:0.7") == (0, Fraction(7, 10))
    assert parse_shutter("-.25:+1") == (Fraction(-1, 4), 1)
    for text in ("", "0.5", "0:0.5:1", "0:1.5", "a:b", "0:nan", "0;1"):
        with pytest.raises(UsageError, match="is not TOP:BOTTOM"):
            parse_shutter(text)


@pytest.mark.parametrize("command", ["convert", "slowmo"])
def test_the_command_line_counts_in_frame_intervals(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_clip(tmp_path / "in.mkv", frames=3, codec="ffv1", size=(16, 16))
    arguments = [str(source), "--factor", "2", "--model", "blend", "--dry-run", "--json", "-q"]
    assert main([command, *arguments, "--rolling-shutter", "-0.4:1"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["rolling_shutter"] == ["-2/125", "1/25"]  # seconds, at 25 frames a second
    assert main([command, *arguments, "--rolling-shutter", "0:3"]) == 2
    assert "'0:3' is not TOP:BOTTOM" in capsys.readouterr().err
