"""Estimates: what is measured, and how it is scaled up."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media import write_clip
from vfi_cli import api, estimate
from vfi_cli.api import ConvertOptions, ModelOptions
from vfi_cli.dry_run import dry_run
from vfi_cli.estimate import About, Costs, Spent
from vfi_cli.io.decode import probe
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.io.sizes import stream_sizes
from vfi_cli.plan import Plan, Timing
from vfi_cli.survey import Survey, survey

FRAMES = 60


def options(**encoder: object) -> ConvertOptions:
    timing = Timing(factor=Fraction(2))
    return ConvertOptions(timing, ModelOptions("blend"), EncoderOptions(**encoder))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("estimate") / "in.mkv"
    return write_clip(path, frames=FRAMES, options={"g": "20", "sc_threshold": "0"}, tone=True)


def planned(clip: Path) -> tuple[Plan, Survey]:
    chosen = options()
    plan, _ = api.prepare(
        probe(clip), clip.with_name("out.mkv"), chosen, lambda: api.open_model(chosen.model)
    )
    return plan, survey(plan)


def test_sizes_are_those_of_the_packets(clip: Path) -> None:
    sizes = stream_sizes(clip)
    assert len(sizes.pictures) == FRAMES
    assert [n for n, packet in enumerate(sizes.pictures) if packet.key] == [0, 20, 40]
    everything = sum(packet.size for packet in sizes.pictures) + sum(sizes.others.values())
    assert 0.7 * clip.stat().st_size < everything < clip.stat().st_size
    assert stream_sizes(io.BytesIO(clip.read_bytes())) == sizes


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_the_size_foretold_is_near_the_real_one(clip: Path, tmp_path: Path, codec: str) -> None:
    chosen = options(codec=codec)
    told = dry_run(clip, tmp_path / "out.mkv", chosen)
    assert told.estimate is not None
    assert list(tmp_path.iterdir()) == []
    made = api.convert_file(clip, tmp_path / "out.mkv", chosen)
    output = told.estimate.output
    assert output.low < output.value < output.high
    assert output.low < made.size < 1.2 * output.high
    assert told.estimate.work.value > output.value
    assert told.estimate.costs.new_frames > 2


def test_time_follows_the_new_frames(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages overlap: the slowest counts, or the CPU that all of them need."""
    plan, seen = planned(clip)
    monkeypatch.setattr(estimate, "cores", lambda: 2)
    costs = Costs(1, 5, Spent(0.001, 0.001), Spent(1.0, 1.0), Spent(0.01, 0.01))
    place = estimate._Place((Spent(1.0, 1.0),) * 5, Spent(0.01, 0.01), (), 1.0)

    def seconds(place: estimate._Place, finished: int = 0) -> About:
        return estimate._seconds(plan, seen, [place], costs, finished)

    new = seen.counts.new
    assert new == FRAMES - 1
    assert seconds(place).value == pytest.approx(new)
    assert seconds(place, finished=FRAMES).value == pytest.approx(new / 2)
    busy = replace(place, making=(Spent(1.0, 4.0),) * 5)  # more than the cores can do
    assert seconds(busy).value == pytest.approx(new * 4 / 2, rel=0.02)
    slow_encoder = replace(place, encode=Spent(3.0, 0.1))
    assert seconds(slow_encoder).value == pytest.approx(3.0 * 2 * FRAMES)


def test_a_single_sample_is_doubted_more() -> None:
    one, three = About.of([10.0], 0.2), About.of([10.0, 10.0, 10.0], 0.2)
    assert one.low < three.low < 10 < three.high < one.high
    spread = About.of([5.0, 15.0], 0.0)
    assert (spread.value, spread.low, spread.high) == (10, 5, 15)


def test_samples_lie_where_the_bytes_are(clip: Path) -> None:
    plan, _ = planned(clip)
    pictures = stream_sizes(clip).pictures
    keys = plan.info.key_pts
    assert sorted(estimate._keys(plan, pictures)) == list(keys)
    third = [replace(p, size=10**6 if n >= 40 else 1) for n, p in enumerate(pictures)]
    assert estimate._keys(plan, third) == [keys[2]]
    assert estimate._keys(replace(plan, info=replace(plan.info, seekable=False)), third) == [
        plan.info.pts[0]
    ]


def test_every_segment_decodes_from_a_keyframe_before_it(clip: Path) -> None:
    plan, _ = planned(clip)
    assert estimate._decoded_frames(plan) == FRAMES  # one segment
    halves = tuple(
        replace(plan.segments[0], number=n, first=n * FRAMES, count=FRAMES) for n in range(2)
    )
    # The second begins at frame 30, looks back a few frames, and decodes from frame 20.
    assert estimate._decoded_frames(replace(plan, segments=halves)) == 30 + 40


def test_the_memory_of_the_process_is_told(clip: Path, tmp_path: Path) -> None:
    told = dry_run(clip, tmp_path / "out.mkv", options())
    assert told.estimate is not None
    if told.estimate.memory is not None:
        assert 50e6 < told.estimate.memory < 8e9
    assert told.estimate.device_memory is None


def test_one_frame_can_be_estimated(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "one.mkv", frames=1)
    told = dry_run(clip, tmp_path / "out.mkv", options())
    assert told.survey is not None
    assert told.estimate is not None
    assert (told.survey.counts.frames, told.survey.counts.new) == (2, 0)
    assert told.estimate.output.value > 0
