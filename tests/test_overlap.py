"""The stages of rendering overlap: the slowest of them alone sets the pace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.media import write_clip
from vfi_cli import render
from vfi_cli.api import ConvertOptions, convert_file
from vfi_cli.frame import Frame
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.plan import Timing

FRAMES = 24
#: Seconds that each stage takes, as if a device of its own did the work: for a frame of the input,
#: a new one, and a frame of the output, of which there are twice as many.
READING, MAKING, WRITING = 0.04, 0.04, 0.02


class Clock:
    """When each stage was at work."""

    def __init__(self) -> None:
        self.times: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def of(self, stage: str, least: float) -> Iterator[None]:
        """A piece of work that takes ``least`` seconds or more."""
        began = time.perf_counter()
        yield
        time.sleep(max(0.0, began + least - time.perf_counter()))
        self.times.setdefault(stage, []).append((began, time.perf_counter()))

    @property
    def span(self) -> float:
        """Seconds from the beginning of the first work to the end of the last."""
        every = [one for times in self.times.values() for one in times]
        return max(end for _, end in every) - min(begin for begin, _ in every)

    @property
    def worked(self) -> dict[str, float]:
        """Seconds of each stage's work; a busy machine makes them more than was asked for."""
        return {
            stage: sum(end - begin for begin, end in times) for stage, times in self.times.items()
        }


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Slows down the reader and the writer that segments are rendered with."""
    clock = Clock()

    class Reader(render.FrameReader):
        def __next__(self) -> Frame:
            with clock.of("reading", READING):
                return super().__next__()

    class Writer(render.VideoWriter):
        def write(self, frame: Frame) -> None:
            with clock.of("writing", WRITING):
                super().write(frame)

    monkeypatch.setattr(render, "FrameReader", Reader)
    monkeypatch.setattr(render, "VideoWriter", Writer)
    return clock


class Slow(Network):
    """Blends, and takes its time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self, frames: Tensor, timestep: Tensor, **options: Any) -> Tensor:
        with self.clock.of("making", MAKING):
            return torch.lerp(frames[:, 0], frames[:, 1], timestep)


def test_rendering_takes_as_long_as_its_slowest_stage(tmp_path: Path, clock: Clock) -> None:
    """Three stages of equal length: without any overlap the span is the sum of their work, with
    two of them in turns two thirds of it, and one third and the start where all overlap."""
    clip = write_clip(tmp_path / "in.mp4", frames=FRAMES)
    model = Interpolator(Slow(clock), name="slow", device="cpu", dtype="float32")
    options = ConvertOptions(Timing(factor=Fraction(2)), cuts=False, audio="drop")
    result = convert_file(clip, tmp_path / "out.mp4", options, interpolator=lambda: model)
    assert result.counts.frames == 2 * FRAMES
    pieces = {stage: len(times) for stage, times in clock.times.items()}
    assert pieces == {"reading": FRAMES, "making": FRAMES - 1, "writing": 2 * FRAMES}
    assert clock.span < 0.6 * sum(clock.worked.values())
