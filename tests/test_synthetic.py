"""Rendered scenes: paths and their inverses, exact flow, occlusion, motion blur."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.scenekit import smooth_texture
from vfi_cli.models.blocks import warp
from vfi_cli.training.motion import TOLERANCE, Field, Path, draw_path, tamed
from vfi_cli.training.synthetic import (
    AROUND,
    PAD,
    Layer,
    Scene,
    draw_layers,
    draw_shape,
    generate,
    render,
)


def grid(size: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    return x, y


def uniform(dx: float, dy: float, ax: float = 0.0, ay: float = 0.0) -> Path:
    return Path((0.0, 0.0), Field.uniform(dx, dy), Field.uniform(ax, ay))


# Motion -----------------------------------------------------------------------------------


def test_displacement_of_a_known_field() -> None:
    field = Field(np.array([3.0, -1.0]), np.diag([0.1, 0.2]), np.zeros(2), np.zeros((0, 5)))
    path = Path((10, 20), field)
    dx, dy = path.displacement(torch.tensor(20.0), torch.tensor(25.0), 1.0)
    assert (float(dx), float(dy)) == pytest.approx((4.0, 0.0))
    dx, dy = path.displacement(torch.tensor(20.0), torch.tensor(25.0), -0.5)
    assert (float(dx), float(dy)) == pytest.approx((-2.0, 0.0))


def test_waves_and_perspective_follow_their_formulas() -> None:
    field = Field(
        np.zeros(2),
        np.zeros((2, 2)),
        np.array([1e-3, 2e-3]),
        np.array([[0.1, 0.2, 0.5, 3.0, -1.0]]),
        radius=100.0,
    )
    x, y = 12.0, -5.0
    wave = math.sin(0.1 * x + 0.2 * y + 0.5)
    plane = 1e-3 * x + 2e-3 * y
    dx, dy = field.at(torch.tensor(x), torch.tensor(y))
    assert float(dx) == pytest.approx(plane * x + 3 * wave, abs=1e-5)
    assert float(dy) == pytest.approx(plane * y - wave, abs=1e-5)


def test_position_is_quadratic_in_time() -> None:
    path = draw_path(np.random.default_rng(8), 64, 12, accelerated=1.0, reach=2.0)
    x, y = torch.tensor(20.0), torch.tensor(33.0)
    at = [torch.stack(path.displacement(x, y, tau)) for tau in (-1.0, 0.0, 1.0, 2.0)]
    assert not bool(at[1].any())
    velocity, acceleration = (at[2] - at[0]) / 2, (at[2] + at[0]) / 2
    assert float(acceleration.norm()) > 0.05
    torch.testing.assert_close(at[3], 2 * velocity + 4 * acceleration, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("tau", [-1.9, -0.7, 0.4, 1.9])
def test_inverse_of_a_path_undoes_it(tau: float) -> None:
    rng = np.random.default_rng(5)
    x, y = grid(64)
    bent = 0
    for _ in range(40):
        path = draw_path(rng, 64, 60, accelerated=0.7, reach=2.0)
        bent += not path.field(tau).is_affine
        ux, uy = path.invert(x, y, tau)
        dx, dy = path.displacement(ux, uy, tau)
        # An error of u is stretched by no more than the map itself stretches.
        assert float(torch.hypot(ux + dx - x, uy + dy - y).max()) < 2 * TOLERANCE
    assert bent > 10


def test_taming_bounds_what_the_inverse_depends_on() -> None:
    wild = Field(
        np.ones(2), np.eye(2) * 3, np.array([0.1, 0.1]), np.array([[1.0, 0, 0, 9, 9]]), radius=64.0
    )
    path = tamed(Path((0, 0), wild, wild), 2.0)
    for tau in (-2.0, -0.5, 1.0, 2.0):
        field = path.field(tau)
        assert field.slope() <= 0.5 + 1e-6
        assert field.bend() <= 0.25 + 1e-6
        assert field.shift == pytest.approx(np.ones(2) * (tau + tau**2))
    with pytest.raises(ValueError, match="not found so"):
        Path((0, 0), wild).invert(*grid(4), 1.0)


def test_bend_is_a_lipschitz_constant() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        field = draw_path(rng, 64, 60, accelerated=0.5).velocity
        points = torch.from_numpy(rng.uniform(-200, 200, (2, 400)))
        near = points + torch.from_numpy(rng.normal(size=(2, 400)))
        change = torch.stack(field.bent(*near)) - torch.stack(field.bent(*points))
        steep = change.norm(dim=0) / (near - points).norm(dim=0)
        assert float(steep.max()) <= field.bend() + 1e-9
        assert float(torch.stack(field.bent(*points)).norm(dim=0).max()) <= field.size() + 1e-9


def test_lengths_of_motion_reach_from_a_fraction_of_a_pixel_to_beyond_a_hundred() -> None:
    rng = np.random.default_rng(0)

    def lengths(largest: float) -> list[float]:
        paths = [draw_path(rng, 224, largest) for _ in range(150)]
        return [float(np.linalg.norm(path.velocity.shift)) for path in paths]

    far, near = lengths(128.0), lengths(2.0)
    assert far.count(0.0) > 3
    assert sum(length > 30 for length in far) > 30
    assert max(far) > 100
    assert sum(0 < length < 0.5 for length in near) > 50
    assert max(near) <= 2


# Scenes -----------------------------------------------------------------------------------


def psnr(error: Tensor) -> float:
    return float(-10 * torch.log10(error.square().mean() + 1e-12))


def fetched_psnr(scene: Scene) -> list[float]:
    """How well the exact flow fetches the new frame, where a point and its surroundings are
    visible: soft edges mix two motions."""
    middle = len(scene.frames) // 2
    values = []
    for number, part in ((middle - 1, 0), (middle + 1, 1)):
        got = warp(scene.frames[number][None], scene.flow[None, 2 * part : 2 * part + 2])[0]
        hidden = 1 - scene.seen[part][None]
        inner = torch.nn.functional.max_pool2d(hidden, 9, 1, 4)[0] < 0.5
        if inner.float().mean() > 0.05:
            values.append(psnr((got - scene.frames[middle])[:, inner]))
    return values


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({"largest": 1.0}, 40),
        ({"largest": 12.0}, 33),
        ({"largest": 120.0}, 30),
        ({"largest": 12.0, "four": True, "accelerated": 1.0}, 33),
        ({"largest": 12.0, "blurred": 1.0}, 30),
    ],
)
def test_exact_flow_fetches_the_new_frame_where_nothing_hides_it(
    options: dict[str, float], bound: float
) -> None:
    values = []
    for seed in range(6):
        scene = generate(
            np.random.default_rng(seed), smooth_texture, size=96, translucent=0, **options
        )
        values += fetched_psnr(scene)
    assert len(values) >= 6
    assert float(np.median(values)) > bound + 4
    assert min(values) > bound - 8  # in small areas soft edges are most of it


def test_flow_of_both_sides_lies_on_one_line_at_constant_speed() -> None:
    scene = generate(np.random.default_rng(3), smooth_texture, size=64, largest=20)
    assert 0 < scene.t < 1
    assert scene.around is None
    torch.testing.assert_close(
        scene.flow[:2] * (1 - scene.t), -scene.flow[2:] * scene.t, atol=1e-4, rtol=1e-4
    )


def disc_on_grey(path: Path, size: int, radius: float) -> list[Layer]:
    """A bright disc in the middle of a still, dark picture."""
    side = size + 2 * PAD
    x, y = grid(side)
    centre = PAD + size / 2
    cover = (radius + 0.5 - torch.hypot(x - centre, y - centre)).clamp(0, 1)
    back = torch.cat((torch.full((3, side, side), 0.2), torch.ones(1, side, side)))
    disc = torch.cat((torch.full((3, side, side), 0.9), cover[None]))
    return [Layer(uniform(0, 0), back), Layer(path, disc)]


def test_accelerated_layer_is_where_its_formula_says() -> None:
    """The disc's centre of gravity in the five pictures, and the flow between them."""
    size, t = 96, 0.25
    scene = render(disc_on_grey(uniform(7, -3, 2, 5), size, 9), size, t, four=True)
    x, y = grid(size)

    def place(s: float) -> tuple[float, float]:
        tau = s - t
        return size / 2 + 7 * tau + 2 * tau**2, size / 2 - 3 * tau + 5 * tau**2

    for frame, s in zip(scene.frames, (-1.0, 0.0, t, 1.0, 2.0), strict=True):
        weight = (frame[0] - 0.2).clamp_min(0)
        centre = (
            float((weight * x).sum() / weight.sum()),
            float((weight * y).sum() / weight.sum()),
        )
        assert centre == pytest.approx(place(s), abs=0.02)
    assert scene.around is not None
    for number, (a, b) in enumerate(AROUND):
        px, py = (round(value) for value in place(float(a)))
        found = scene.around[2 * number : 2 * number + 2, py, px]
        (ax, ay), (bx, by) = place(float(a)), place(float(b))
        assert found.tolist() == pytest.approx([bx - ax, by - ay], abs=1e-3)
    middle = scene.flow[:, size // 2, size // 2].tolist()
    expected = [*place(0.0), *place(1.0)]
    assert middle == pytest.approx([value - size / 2 for value in expected], abs=1e-3)
    assert not bool(scene.flow[:, 2, 2].any())  # the picture behind is still


def test_occlusion_of_a_disc_that_moves_over_a_still_picture() -> None:
    size, radius = 64, 8
    scene = render(disc_on_grey(uniform(20, 0), size, radius), size, 0.5)
    x, y = grid(size)
    for part, centre in ((0, 22.0), (1, 42.0)):
        distance = torch.hypot(x - centre, y - 32)
        own = torch.hypot(x - 32, y - 32)
        behind = own > radius + 1
        assert not bool(scene.seen[part][behind & (distance < radius - 1)].any())
        assert bool(scene.seen[part][behind & (distance > radius + 1)].all())
        assert bool(scene.seen[part][own < radius - 1].all())


def test_occlusion_equals_that_of_points_followed_one_by_one() -> None:
    """Each point's layer found in the new frame by its coverage, moved by hand, and compared with
    the coverage of every higher layer there."""
    rng = np.random.default_rng(4)
    size, t = 48, 0.4
    layers = draw_layers(
        rng, smooth_texture, size=size, largest=16, translucent=0, accelerated=0.5, reach=2.0
    )
    scene = render(layers, size, t, four=True)

    def covers(layer: Layer, x: float, y: float, tau: float) -> bool:
        point = torch.full((1, 1), x), torch.full((1, 1), y)
        return float(layer.at(*point, tau)[3]) > 0.5

    hidden = 0
    for y in range(0, size, 4):
        for x in range(0, size, 4):
            top = max(n for n, layer in enumerate(layers) if n == 0 or covers(layer, x, y, 0.0))
            for part, s in ((0, 0.0), (1, 1.0)):
                point = torch.tensor(float(x)), torch.tensor(float(y))
                dx, dy = layers[top].path.displacement(*point, s - t)
                moved = x + float(dx), y + float(dy)
                inside = all(0 <= value <= size - 1 for value in moved)
                free = not any(covers(layer, *moved, s - t) for layer in layers[top + 1 :])
                assert bool(scene.seen[part, y, x]) == (inside and free)
                hidden += inside and not free
    assert hidden > 3


def test_motion_blur_is_as_long_as_the_shutter_is_open() -> None:
    size = 96
    layers = disc_on_grey(uniform(24, 0), size, 10)
    sharp = render(layers, size, 0.5)
    open_half = render(layers, size, 0.5, shutter=0.5)
    row = size // 2
    inside = [(frame[0, row] > 0.85).sum() for frame in (sharp.frames[1], open_half.frames[1])]
    touched = [(frame[0, row] > 0.25).sum() for frame in (sharp.frames[1], open_half.frames[1])]
    # 12 pixels of blur, seen at nine instants: 10.7 between the first and the last.
    assert int(inside[0] - inside[1]) == pytest.approx(11, abs=2)
    assert int(touched[1] - touched[0]) == pytest.approx(11, abs=2)
    assert torch.equal(sharp.flow, open_half.flow)


def test_a_scene_of_five_frames_holds_the_three() -> None:
    five = generate(np.random.default_rng(2), smooth_texture, size=48, largest=6, four=True)
    assert five.frames.shape == (5, 3, 48, 48)
    assert five.around is not None
    assert five.around.shape == (8, 48, 48)
    # The pairs agree with each other: there and back is nowhere, where nothing else moves in.
    there = five.around[:2]
    back = warp(five.around[None, 4:6], there[None])[0]
    assert float((there + back).norm(dim=0).median()) < 0.1


def test_shapes_are_coverage() -> None:
    rng = np.random.default_rng(0)
    for _ in range(12):
        shape = draw_shape(rng, 32)
        assert shape.min() >= 0
        assert shape.max() <= 1
