"""Scene cuts on real footage joined at known places (benchmarks/cuts.py measures all of it)."""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

from vfi_cli.cuts import signature
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.scenes import SceneStream

FRAMES = 32  # of each clip: with a hand that shoots into view, and a cut of its own after frame 5


def test_clips_joined_at_known_places(shared_data: Path) -> None:
    clips = sorted((shared_data / "data" / "val").glob("*.*"))
    assert len(clips) > 3
    scenes: SceneStream[tuple[str, int]] = SceneStream()
    decided = []
    time = 0
    for clip in clips:
        with FrameReader(probe(clip)) as reader:
            for number, frame in enumerate(islice(reader, FRAMES)):
                time += 1
                look = signature(frame)
                decided += scenes.feed((clip.name, number), look, Fraction(time))
    decided += scenes.flush()
    found = {d.payload for d in decided if d.cut_after}
    assert found == {(clip.name, FRAMES - 1) for clip in clips[:-1]} | {("bbb720_078.mp4", 5)}
