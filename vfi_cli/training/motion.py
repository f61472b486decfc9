"""Where the points of a layer go: displacement fields, and paths that they follow in time.

A point u of a layer (its coordinates in the new frame, at time t) stands at time s = t + τ at

    x(τ) = u + τ V(u) + τ² A(u)

with V its velocity at the new frame and 2 A its acceleration: motion at constant speed where A is
zero, the quadratic motion of QVI (Xu et al., NeurIPS 2019) otherwise. Flow *from* the new frame is
this formula itself, exact but for the rounding of float32. Rendering another frame, and flow from
it, needs u from x. The affine part of the map is inverted in closed form, the rest by fixed-point
iteration, which converges because :func:`draw_path` keeps the rest a contraction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]

#: Largest error, in pixels, that the fixed-point iteration leaves.
TOLERANCE = 1e-3
#: Bounds that :func:`draw_path` keeps to at every time: of the linear part (its spectral norm) and
#: of the rest (its Lipschitz constant). The inverse of identity + linear part then stretches by at
#: most 2, and the iteration's error is at least halved in every round.
_LINEAR, _BENT = 0.5, 0.25


@dataclass(frozen=True)
class Field:
    """A displacement in pixels, as a function of the point (x, y) relative to a centre: ``shift``
    + ``linear`` · point + (``perspective`` · c) c + waves.

    ``perspective`` (1 / pixel) are the quadratic coefficients of a moving plane's flow; c is the
    point, or the nearest one to it within ``radius`` of the centre, which bounds how fast the
    field changes. ``waves`` rows are (kx, ky, phase, ax, ay): ax, ay · sin(kx x + ky y + phase).
    """

    shift: Floats  # (2,)
    linear: Floats  # (2, 2)
    perspective: Floats  # (2,)
    waves: Floats  # (n, 5)
    radius: float = math.inf

    @classmethod
    def uniform(cls, dx: float = 0.0, dy: float = 0.0) -> Field:
        """The same displacement everywhere."""
        return cls(np.array([dx, dy]), np.zeros((2, 2)), np.zeros(2), np.zeros((0, 5)))

    @property
    def is_affine(self) -> bool:
        return not len(self.waves) and not self.perspective.any()

    def scaled(self, factor: float) -> Field:
        waves = self.waves * np.array([1, 1, 1, factor, factor])
        return Field(
            self.shift * factor, self.linear * factor, self.perspective * factor, waves, self.radius
        )

    def __add__(self, other: Field) -> Field:
        return Field(
            self.shift + other.shift,
            self.linear + other.linear,
            self.perspective + other.perspective,
            np.concatenate((self.waves, other.waves)),
            min(self.radius, other.radius),
        )

    def slope(self) -> float:
        """Spectral norm of the linear part."""
        return float(np.linalg.norm(self.linear, 2))

    def bend(self) -> float:
        """A Lipschitz constant of the part that is not affine."""
        k, a = self.waves[:, :2], self.waves[:, 3:]
        waves = (np.linalg.norm(k, axis=1) * np.linalg.norm(a, axis=1)).sum()
        plane = np.linalg.norm(self.perspective)
        return float(waves + (2 * plane * self.radius if plane else 0.0))

    def size(self) -> float:
        """The part that is not affine is never longer than this, in pixels."""
        plane = np.linalg.norm(self.perspective)
        waves = np.linalg.norm(self.waves[:, 3:], axis=1).sum()
        return float(waves + (plane * self.radius**2 if plane else 0.0))

    def bent(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The part that is not affine."""
        dx, dy = torch.zeros_like(x), torch.zeros_like(y)
        if self.perspective.any():
            within = (self.radius / torch.hypot(x, y).clamp_min(1e-6)).clamp_max(1.0)
            cx, cy = x * within, y * within
            p = float(self.perspective[0]) * cx + float(self.perspective[1]) * cy
            dx, dy = p * cx, p * cy
        for kx, ky, phase, ax, ay in self.waves.tolist():
            wave = torch.sin(kx * x + ky * y + phase)
            dx, dy = dx + ax * wave, dy + ay * wave
        return dx, dy

    def at(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Displacements of points relative to the centre."""
        (xx, xy), (yx, yy) = self.linear.tolist()
        dx = float(self.shift[0]) + xx * x + xy * y
        dy = float(self.shift[1]) + yx * x + yy * y
        if not self.is_affine:
            bx, by = self.bent(x, y)
            dx, dy = dx + bx, dy + by
        return dx, dy


@dataclass(frozen=True)
class Path:
    """The motion of a layer: V and A of the module's formula, around ``centre`` (x, y)."""

    centre: tuple[float, float]
    velocity: Field
    acceleration: Field | None = None

    def field(self, tau: float) -> Field:
        """Displacement of every point after ``tau``, of which 1 is from frame 0 to frame 1."""
        field = self.velocity.scaled(tau)
        return field + self.acceleration.scaled(tau * tau) if self.acceleration else field

    def displacement(self, x: Tensor, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """How far points at (x, y) pixels in the new frame are ``tau`` later."""
        return self.field(tau).at(x - self.centre[0], y - self.centre[1])

    def invert(self, x: Tensor, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Where in the new frame the points are that ``tau`` later stand at (x, y): to within
        TOLERANCE pixels, for a path that :func:`tamed` has bounded."""
        if tau == 0:
            return x, y
        field = self.field(tau)
        inverse = np.linalg.inv(np.eye(2) + field.linear)
        (xx, xy), (yx, yy) = inverse.tolist()
        x = x - self.centre[0] - float(field.shift[0])
        y = y - self.centre[1] - float(field.shift[1])
        ux, uy = xx * x + xy * y, yx * x + yy * y
        for _ in range(_rounds(field, float(np.linalg.norm(inverse, 2)))):
            bx, by = field.bent(ux, uy)
            qx, qy = x - bx, y - by
            ux, uy = xx * qx + xy * qy, yx * qx + yy * qy
        return ux + self.centre[0], uy + self.centre[1]


def _rounds(field: Field, stretch: float) -> int:
    """Rounds of the iteration that bring its error below TOLERANCE (Banach's estimate)."""
    if field.is_affine:
        return 0
    q = stretch * field.bend()
    if q >= 1:
        raise ValueError(f"the inverse of a motion that bends by {q:.2f} is not found so")
    first = stretch * field.size()  # the longest step of the first round
    return max(1, math.ceil(math.log(TOLERANCE * (1 - q) / max(first, TOLERANCE)) / math.log(q)))


def tamed(path: Path, reach: float) -> Path:
    """The path with linear and bent parts made weaker, where needed, so that its inverse exists
    and is found at every τ from −``reach`` to ``reach``."""
    fields = [(path.velocity, reach)]
    if path.acceleration:
        fields.append((path.acceleration, reach * reach))
    slope = sum(field.slope() * factor for field, factor in fields)
    bend = sum(field.bend() * factor for field, factor in fields)
    linear, bent = min(1.0, _LINEAR / max(slope, 1e-9)), min(1.0, _BENT / max(bend, 1e-9))

    def weaker(field: Field) -> Field:
        return replace(
            field,
            linear=field.linear * linear,
            perspective=field.perspective * bent,
            waves=field.waves * np.array([1, 1, 1, bent, bent]),
        )

    acceleration = weaker(path.acceleration) if path.acceleration else None
    return Path(path.centre, weaker(path.velocity), acceleration)


def _vector(rng: np.random.Generator, largest: float) -> Floats:
    """A random direction, of log-uniform length from a hundredth of the largest on."""
    length = largest * math.exp(rng.uniform(-math.log(100), 0))
    angle = rng.uniform(0, 2 * math.pi)
    return np.array([length * math.cos(angle), length * math.sin(angle)])


def _turn(rng: np.random.Generator, strength: float) -> Floats:
    """Some rotation, zoom and shear."""
    turn, zoom = rng.normal(size=2) * strength * 0.5
    return np.array([[zoom, -turn], [turn, zoom]]) + rng.normal(size=(2, 2)) * strength * 0.2


def _waves(rng: np.random.Generator, largest: float) -> Floats:
    rows = []
    for _ in range(rng.integers(1, 3)):
        k = 2 * math.pi / rng.uniform(50, 250)
        direction = rng.uniform(0, 2 * math.pi)
        amplitude = min(0.15 / k, largest) * rng.random()
        to = rng.uniform(0, 2 * math.pi)
        wave = (k * math.cos(direction), k * math.sin(direction), rng.uniform(0, 2 * math.pi))
        rows.append((*wave, amplitude * math.cos(to), amplitude * math.sin(to)))
    return np.array(rows)


def draw_path(
    rng: np.random.Generator,
    size: int,
    largest: float,
    base: tuple[float, float] = (0.0, 0.0),
    *,
    accelerated: float = 0.0,
    reach: float = 1.0,
) -> Path:
    """A random motion on a picture of ``size`` pixels: a shift of log-uniform length, from a
    hundredth of ``largest`` to all of it, on top of ``base``, usually with some rotation, zoom and
    shear, sometimes with perspective and waves. A share of ``accelerated`` does not keep its
    speed: it falls, is thrown, spins up. ``reach``: the largest |τ| it will be asked for."""
    shift = np.array(base)
    if rng.random() >= 0.1:
        shift = shift + _vector(rng, largest)
    strength = min(0.25, 2.0 * largest / size)
    linear = _turn(rng, strength * rng.random() ** 2) if rng.random() < 0.7 else np.zeros((2, 2))
    perspective, waves = np.zeros(2), np.zeros((0, 5))
    if rng.random() < 0.25:
        perspective = (rng.normal(size=2) * 0.06).clip(-0.1, 0.1) / size
    if rng.random() < 0.35:
        waves = _waves(rng, largest)
    velocity = Field(shift, linear, perspective, waves, radius=float(size))
    acceleration = None
    if rng.random() < accelerated:
        turn = _turn(rng, 0.5 * strength * rng.random() ** 2)
        acceleration = replace(
            Field.uniform(*_vector(rng, 0.4 * largest)),
            linear=turn if rng.random() < 0.3 else np.zeros((2, 2)),
            waves=_waves(rng, 0.3 * largest) if rng.random() < 0.15 else np.zeros((0, 5)),
        )
    centre = (size / 2 + rng.normal() * size / 6, size / 2 + rng.normal() * size / 6)
    return tamed(Path(centre, velocity, acceleration), reach)
