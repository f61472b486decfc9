"""Windows to frames: bisection, alpha, colours outside of RGB, reuse of what is known."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Window
from vfi_cli.io.color import from_rgb, to_alpha, to_rgb
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.synthesis import Synthesizer

GRAY = PlaneLayout("gray", 8)
YUV = PlaneLayout("yuv", 8, 1, 1)


class Recorder:
    """Stands in for an interpolator: blends, and remembers what it was asked."""

    device = torch.device("cpu")
    warnings: ClassVar[list[str]] = []

    def __init__(self, *, frames_seen: int = 2, any_timestep: bool = True) -> None:
        self.frames_seen = frames_seen
        self.any_timestep = any_timestep
        self.calls: list[tuple[int, Fraction]] = []
        self.keys: list[tuple[object, ...]] = []

    def multiple(self, scale: float) -> int:
        return 16

    def interpolate(self, frames: Tensor, t: Fraction, **options: Any) -> Tensor:
        assert float(frames.min()) >= 0
        assert float(frames.max()) <= 1
        self.calls.append((frames.shape[1], t))
        self.keys.append(tuple(options["keys"]))
        middle = frames.shape[1] // 2
        left, right = frames[:, middle - 1], frames[:, middle]
        return left + (right - left) * float(t)


def flat(value: int, pts: int, layout: PlaneLayout = GRAY, *, full: bool = True) -> Frame:
    planes = tuple(
        np.full(layout.plane_shape(n, 8, 6), value if n in (0, 3) else 128, np.uint8)
        for n in range(layout.components)
    )
    return Frame(planes, 8, 6, layout, ColorSpec(full_range=full), pts, Fraction(1, 25))


def synthesizer(recorder: Recorder) -> Synthesizer:
    return Synthesizer(recorder)  # type: ignore[arg-type]


@pytest.mark.parametrize("t", [Fraction(1, 2), Fraction(3, 8), Fraction(1, 32)])
def test_any_time_models_are_asked_once(t: Fraction) -> None:
    recorder = Recorder()
    made = synthesizer(recorder).between(Window((flat(0, 0), flat(160, 1)), t))
    assert recorder.calls == [(2, t)]
    assert np.all(made.planes[0] == round(160 * t))


def test_midpoint_models_are_bisected_and_each_midpoint_is_made_once() -> None:
    recorder = Recorder(any_timestep=False)
    maker = synthesizer(recorder)
    left, right = flat(0, 0), flat(160, 1)
    times = [Fraction(n, 8) for n in range(1, 8)]
    for t in times:
        made = maker.between(Window((left, right), t))
        assert np.all(made.planes[0] == 160 * t)
    assert recorder.calls == [(2, Fraction(1, 2))] * 7


def test_bisection_shows_a_source_frame_where_that_is_nearest() -> None:
    recorder = Recorder(any_timestep=False)
    maker = synthesizer(recorder)
    left, right = flat(0, 0), flat(160, 1)
    assert maker.between(Window((left, right), Fraction(1, 100))) is left
    assert maker.between(Window((left, right), Fraction(99, 100))) is right
    assert recorder.calls == []
    third = maker.between(Window((left, right), Fraction(1, 3)))
    assert abs(int(third.planes[0][0, 0]) - 160 / 3) <= 160 / 64 + 1
    assert len(recorder.calls) == 5, "1/3 is nearest to 11/32: five halvings"


def test_four_frame_models_get_two_at_the_ends() -> None:
    recorder = Recorder(frames_seen=4)
    maker = synthesizer(recorder)
    frames = [flat(10 * n, n) for n in range(4)]
    maker.between(Window(tuple(frames), Fraction(1, 2)))
    maker.between(Window((None, *frames[1:]), Fraction(1, 2)))
    maker.between(Window((*frames[:3], None), Fraction(1, 2)))
    assert [count for count, _ in recorder.calls] == [4, 2, 2]


def test_alpha_moves_with_the_picture() -> None:
    layout = PlaneLayout("yuv", 8, 1, 1, alpha=True)
    recorder = Recorder()
    made = synthesizer(recorder).between(
        Window((flat(40, 0, layout), flat(80, 1, layout)), Fraction(1, 4))
    )
    assert len(recorder.calls) == 2
    assert np.all(made.planes[3] == 50)
    assert np.all(made.planes[0] == 50)


@pytest.mark.parametrize("luma", [1, 10, 16, 128, 235, 245, 254])
def test_still_colours_outside_of_rgb_do_not_flicker(luma: int) -> None:
    """Limited range has whites above white; what both frames agree on stays."""
    frame = flat(luma, 0, YUV, full=False)
    other = flat(luma, 1, YUV, full=False)
    for plane in (1, 2):
        frame.planes[plane][:] = other.planes[plane][:] = 230  # far outside of RGB
    made = synthesizer(Recorder()).between(Window((frame, other), Fraction(1, 2)))
    for before, after in zip(frame.planes, made.planes, strict=True):
        assert np.abs(before.astype(int) - after.astype(int)).max() <= 1


@pytest.mark.parametrize("seen", [2, 4])
def test_source_frames_are_converted_once(monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    import vfi_cli.synthesis as module

    converted: list[int] = []
    original = module.decode_planes

    def counting(planes: Any, coding: Any, picture: Tensor, **options: Any) -> Tensor:
        converted.append(int(planes[0][0, 0]))
        return original(planes, coding, picture, **options)

    monkeypatch.setattr(module, "decode_planes", counting)
    maker = synthesizer(Recorder(frames_seen=seen))
    frames = [flat(10 * n, n) for n in range(12)]
    for first in range(len(frames) - seen + 1):
        window = tuple(frames[first : first + seen])
        left, right = window[seen // 2 - 1 : seen // 2 + 1]
        for n in (1, 2, 3):
            made = maker.between(Window(window, Fraction(n, 4)))
            middle = (int(left.planes[0][0, 0]) + int(right.planes[0][0, 0])) / 2
            assert abs(made.planes[0] - middle).max() <= 3
    assert converted == [10 * n for n in range(12)]


def test_a_picture_keeps_its_name_so_that_models_know_it_again() -> None:
    recorder = Recorder()
    maker = synthesizer(recorder)
    frames = [flat(10 * n, n) for n in range(4)]
    for left, right in itertools.pairwise(frames):
        for n in (1, 2):
            maker.between(Window((left, right), Fraction(n, 3)))
    assert recorder.keys[0] == recorder.keys[1], "the same pair at another time"
    assert recorder.keys[1][1] == recorder.keys[2][0], "the right frame becomes the left one"
    assert len({name for pair in recorder.keys for name in pair}) == 4


def test_midpoints_have_names_of_their_own() -> None:
    recorder = Recorder(any_timestep=False)
    synthesizer(recorder).between(Window((flat(0, 0), flat(160, 1)), Fraction(1, 8)))
    (left, right), (same, half), (again, quarter) = recorder.keys
    assert left == same == again
    assert len({left, right, half, quarter}) == 4


class Near(Network):
    """Sees five rows and columns, so that what lies beyond the edges shows."""

    size_multiple = 16

    def forward(self, frames: Tensor, timestep: Tensor, **options: Any) -> Tensor:
        return F.avg_pool2d(torch.lerp(frames[:, 0], frames[:, 1], timestep), (5, 5), 1, (2, 2))


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": 0.5}, {"tta": "flip"}, {"tta": "rotate,multiscale"}, {"tile": 32}],
    ids=str,
)
@pytest.mark.parametrize(
    "layout",
    [PlaneLayout("yuv", 8, 1, 1), PlaneLayout("yuv", 10, alpha=True), PlaneLayout("gray", 8)],
    ids=lambda layout: f"{layout.kind}{layout.bits}",
)
def test_what_models_see_is_prepared_as_they_would_themselves(
    layout: PlaneLayout, options: dict[str, Any]
) -> None:
    """Padded, limited views of memory that is used again, against each step on its own."""
    width, height = 51, 37
    random = np.random.default_rng(0)
    frames = [
        Frame(
            tuple(
                random.integers(
                    0, layout.peak + 1, layout.plane_shape(n, width, height), layout.dtype
                )
                for n in range(layout.components)
            ),
            *(width, height, layout, ColorSpec(1), pts, Fraction(1, 25)),
        )
        for pts in range(7)
    ]
    model = Interpolator(Near(), name="near", device="cpu", dtype="float32")
    maker = Synthesizer(model, **options)
    for left, right in itertools.pairwise(frames):
        for t in (Fraction(1, 4), Fraction(2, 3)):
            made = maker.between(Window((left, right), t))
            pair = [to_rgb(frame) for frame in (left, right)]
            seen = torch.stack(pair)[None].clamp(0, 1)
            picture = model.interpolate(seen, t, **options)[0]
            picture = picture + (torch.minimum(*pair) - 1).clamp(min=0)
            picture = picture + torch.maximum(*pair).clamp(max=0)
            alpha = None
            if layout.alpha:
                opacity = torch.stack([to_alpha(frame) for frame in (left, right)])  # type: ignore[misc]
                seen = opacity.expand(-1, 3, -1, -1)[None]
                alpha = model.interpolate(seen, t, **options)[0, :1]
            wanted = from_rgb(picture, left, alpha)
            for one, other in zip(made.planes, wanted, strict=True):
                apart = np.abs(one.astype(int) - other.astype(int))
                assert apart.max() <= 1
                assert apart.mean() < 1e-3, "but for what lies half-way between two codes"
