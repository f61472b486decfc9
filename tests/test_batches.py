"""Small frames of several pairs, made at once: the same video as one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vfi_cli import fit, render, synthesis
from vfi_cli.fit import Fit
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Window
from vfi_cli.models.base import Interpolator, Memo, Network
from vfi_cli.plan import RenderSettings
from vfi_cli.render import Counts, Part, pictures
from vfi_cli.synthesis import Synthesizer
from vfi_cli.timeline import OutputGrid

WIDTH, HEIGHT = 40, 24
YUV = PlaneLayout("yuv", 8, 1, 1)
YUVA = PlaneLayout("yuv", 10, 1, 1, alpha=True)


class Mixing(Network):
    """Uses all frames of a window and the time, and counts the windows of each pass."""

    size_multiple = 16

    def __init__(self, frames_seen: int = 2, room: int = 99) -> None:
        super().__init__()
        self.frames_seen = frames_seen
        self.room = room
        self.passes: list[int] = []

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        assert memo is not None
        count = max(len(frames), len(timestep))
        if count > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        self.passes.append(count)
        last = memo("last", (frames.shape[1] - 1,), frames[:, -1].square)
        return torch.lerp(frames[:, 0], last, timestep)


def frame(number: int, layout: PlaneLayout) -> Frame:
    rng = np.random.default_rng(number)
    shapes = [layout.plane_shape(n, WIDTH, HEIGHT) for n in range(layout.components)]
    planes = tuple(rng.integers(0, layout.peak + 1, shape).astype(layout.dtype) for shape in shapes)
    return Frame(planes, WIDTH, HEIGHT, layout, ColorSpec(), number, Fraction(1, 25))


def clip(length: int, layout: PlaneLayout = YUV) -> list[Frame]:
    return [frame(number, layout) for number in range(length)]


def video(
    frames: list[Frame], network: Network, factor: Fraction, **options: Any
) -> tuple[list[Frame], Synthesizer, Counts]:
    maker = Synthesizer(
        Interpolator(network, name="mixing", device="cpu", dtype="float32"), **options
    )
    end = frames[-1].time + Fraction(1, 25)
    grid = OutputGrid.spanning(Fraction(0), end, 25 * factor, Fraction(1))
    counts = Counts()
    settings = RenderSettings(cuts=False, gap=Fraction(1, 5))
    source = ((one, one.time, None) for one in frames)
    made = pictures(
        source,
        maker,
        settings,
        grid,
        Part(),
        end=lambda _: end,
        counts=counts,
    )
    return list(made), maker, counts


def assert_equal(made: list[Frame], wanted: list[Frame]) -> None:
    assert len(made) == len(wanted)
    for number, (one, other) in enumerate(zip(made, wanted, strict=True)):
        for plane, expected in zip(one.planes, other.planes, strict=True):
            np.testing.assert_array_equal(plane, expected, err_msg=f"frame {number}")


@pytest.fixture
def four_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    for module in (fit, synthesis):
        monkeypatch.setattr(module, "most_at_once", lambda model: 4)


CASES = {
    "double": (2, Fraction(2), YUV, {}),
    "triple": (2, Fraction(3), YUV, {}),
    "few new": (2, Fraction(8, 7), YUV, {}),
    "fewer than before": (2, Fraction(3, 5), YUV, {}),
    "four frames": (4, Fraction(2), YUV, {}),
    "alpha": (2, Fraction(2), YUVA, {}),
    "over a gap": (4, Fraction(2), YUV, {}),
    "turned": (2, Fraction(2), YUV, {"tta": "flip,rotate,reverse"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_video_is_the_same(case: str, four_at_once: None, monkeypatch: Any) -> None:
    seen, factor, layout, options = CASES[case]
    frames = clip(14, layout)
    if case == "over a gap":
        frames[9:] = [replace(one, pts=one.pts + 6) for one in frames[9:]]
    together = Mixing(seen)
    made, _, counts = video(frames, together, factor, **options)
    assert 4 in together.passes
    with monkeypatch.context() as alone:
        for module in (fit, synthesis):
            alone.setattr(module, "most_at_once", lambda model: 1)
        network = Mixing(seen)
        wanted, _, expected = video(frames, network, factor, **options)
    assert set(network.passes) == {1}
    assert sum(network.passes) == sum(together.passes)
    assert_equal(made, wanted)
    assert counts == expected
    if case == "over a gap":
        assert counts.new == 12, "one in each pair but that"


def test_large_frames_wait_for_nobody(four_at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "SMALL_PIXELS", WIDTH * HEIGHT - 1)
    network = Mixing()
    video(clip(6), network, Fraction(3))
    assert network.passes == [2] * 5, "the times of one pair"


def test_models_of_the_middle_make_one_pair_after_the_other(four_at_once: None) -> None:
    network = Mixing()
    network.any_timestep = False
    video(clip(6), network, Fraction(2))
    assert set(network.passes) == {1}


def test_too_little_memory_means_one_by_one(four_at_once: None) -> None:
    frames = clip(9)
    wanted, _, _ = video(frames, Mixing(), Fraction(2))
    network = Mixing(room=2)
    made, maker, _ = video(frames, network, Fraction(2))
    assert set(network.passes) == {1}
    assert maker.fit == Fit()
    assert_equal(made, wanted)


def test_source_frames_do_not_wait_for_ever(four_at_once: None) -> None:
    """A new frame, then nothing but source frames: they go on before the stream ends."""
    frames = clip(40)
    placed: list[Frame | Window] = [Window((frames[0], frames[1]), Fraction(1, 2)), *frames[1:]]
    maker = Synthesizer(Interpolator(Mixing(), name="mixing", device="cpu", dtype="float32"))
    taken = 0

    def numbered() -> Iterator[Any]:
        nonlocal taken
        for number, content in enumerate(placed):
            taken += 1
            yield render.Placed(number, content)

    groups = render._together(numbered(), maker)
    assert len(next(groups)) <= 12
    assert taken <= 12
    assert sum(map(len, groups)) + taken >= len(placed)


def test_what_a_model_warns_of_is_passed_on_once() -> None:
    model = Interpolator(Mixing(), name="mixing", device="cpu", dtype="float32")
    maker = Synthesizer(model)
    heard: list[str] = []
    maker.on_warning = heard.append
    warnings = ["slow"]
    model._graphs = type("Graphs", (), {"warnings": warnings, "__call__": _plain(model)})()
    left, right = clip(2)
    for _ in range(2):
        maker.between(Window((left, right), Fraction(1, 2)))
    assert maker.warnings == heard == ["slow"]


def _plain(model: Interpolator) -> Any:
    return lambda self, *args, **options: model.network(*args, **options)
