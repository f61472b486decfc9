"""Layers of real texture that move on known paths: frames with exact flow.

Every layer has a displacement field D(u) over the canonical coordinates u, which are those of the
new frame at time t. A point of the layer stands at u + (s - t) D(u) at time s: it moves on a
straight line at constant speed, so the flow from the new frame is exactly -t D to frame 0 and
(1 - t) D to frame 1. Rendering frame s needs the inverse of that map; its affine part is inverted
in closed form and the rest (planar perspective and waves) by fixed-point iteration, which
converges because the rest is kept a contraction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PAD = 64  # texture around the visible square, in pixels, before it is reflected

Texture = Callable[[np.random.Generator, int], np.ndarray]  # (rng, side) -> uint8 (side, side, 3)


@dataclass(frozen=True)
class Motion:
    """Displacement over the unit of time, in pixels, of a point u relative to ``centre``.

    ``perspective`` are the two quadratic coefficients of a moving plane's flow (1 / pixel);
    ``waves`` rows are (kx, ky, phase, ax, ay) of ax, ay * sin(kx x + ky y + phase).
    """

    centre: tuple[float, float]
    shift: tuple[float, float]
    linear: np.ndarray  # (2, 2)
    perspective: tuple[float, float]
    waves: np.ndarray  # (n, 5)

    @property
    def is_affine(self) -> bool:
        return not len(self.waves) and self.perspective == (0.0, 0.0)

    def residue(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The part of D that is not affine, at (x, y) relative to the centre."""
        a, b = self.perspective
        p = a * x + b * y
        dx, dy = p * x, p * y
        for kx, ky, phase, ax, ay in self.waves:
            wave = torch.sin(kx * x + ky * y + phase)
            dx, dy = dx + ax * wave, dy + ay * wave
        return dx, dy

    def displacement(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """D at pixel coordinates (x, y)."""
        x, y = x - self.centre[0], y - self.centre[1]
        m = self.linear
        rx, ry = (0.0, 0.0) if self.is_affine else self.residue(x, y)
        dx = self.shift[0] + m[0, 0] * x + m[0, 1] * y + rx
        dy = self.shift[1] + m[1, 0] * x + m[1, 1] * y + ry
        return dx, dy

    def invert(self, x: Tensor, y: Tensor, delta: float, rounds: int = 10) -> tuple[Tensor, Tensor]:
        """u with u + delta D(u) = (x, y)."""
        if delta == 0:
            return x, y
        inverse = np.linalg.inv(np.eye(2) + delta * self.linear)
        x = x - self.centre[0] - delta * self.shift[0]
        y = y - self.centre[1] - delta * self.shift[1]
        ux = inverse[0, 0] * x + inverse[0, 1] * y
        uy = inverse[1, 0] * x + inverse[1, 1] * y
        for _ in range(0 if self.is_affine else rounds):
            rx, ry = self.residue(ux, uy)
            qx, qy = x - delta * rx, y - delta * ry
            ux = inverse[0, 0] * qx + inverse[0, 1] * qy
            uy = inverse[1, 0] * qx + inverse[1, 1] * qy
        return ux + self.centre[0], uy + self.centre[1]


def draw_motion(
    rng: np.random.Generator, size: int, largest: float, base: tuple[float, float] = (0.0, 0.0)
) -> Motion:
    """A random motion: a shift of log-uniform length up to ``largest`` pixels on top of ``base``,
    usually with some rotation, zoom and shear, sometimes perspective and waves."""
    length = math.exp(rng.uniform(math.log(0.25), math.log(largest)))
    if rng.random() < 0.1:
        length = 0.0
    angle = rng.uniform(0, 2 * math.pi)
    shift = (base[0] + length * math.cos(angle), base[1] + length * math.sin(angle))
    linear = np.zeros((2, 2))
    if rng.random() < 0.7:
        strength = min(0.25, 2.0 * largest / size) * rng.random() ** 2
        turn, zoom = rng.normal(size=2) * strength * 0.5
        linear = np.array([[zoom, -turn], [turn, zoom]])
        linear += rng.normal(size=(2, 2)) * strength * 0.2
    perspective = (0.0, 0.0)
    waves = np.zeros((0, 5))
    if rng.random() < 0.25:
        px, py = rng.normal(size=2) * 0.06 / size
        perspective = (float(np.clip(px, -0.1 / size, 0.1 / size)), float(py))
        perspective = (perspective[0], float(np.clip(py, -0.1 / size, 0.1 / size)))
    if rng.random() < 0.35:
        rows = []
        for _ in range(rng.integers(1, 3)):
            k = 2 * math.pi / rng.uniform(50, 250)
            direction = rng.uniform(0, 2 * math.pi)
            # |k a| of both waves together stays below 0.3: with it the map stays a contraction.
            amplitude = min(0.15 / k, largest) * rng.random()
            to = rng.uniform(0, 2 * math.pi)
            rows.append(
                (
                    k * math.cos(direction),
                    k * math.sin(direction),
                    rng.uniform(0, 2 * math.pi),
                    amplitude * math.cos(to),
                    amplitude * math.sin(to),
                )
            )
        waves = np.array(rows)
    centre = (size / 2 + rng.normal() * size / 6, size / 2 + rng.normal() * size / 6)
    return Motion(centre, shift, linear, perspective, waves)


def draw_shape(rng: np.random.Generator, size: int) -> Tensor:
    """Coverage (side, side) in [0, 1] of a random object on the padded canvas, edges one pixel
    soft: a blob, an ellipse, a polygon, a bar, or a few thin bars."""
    side = size + 2 * PAD
    y, x = torch.meshgrid(
        torch.arange(side, dtype=torch.float32),
        torch.arange(side, dtype=torch.float32),
        indexing="ij",
    )
    cx, cy = PAD + rng.uniform(0, size, 2)
    radius = float(np.exp(rng.uniform(math.log(10), math.log(size / 2.2))))
    angle = rng.uniform(0, math.pi)
    u = (x - cx) * math.cos(angle) + (y - cy) * math.sin(angle)
    v = -(x - cx) * math.sin(angle) + (y - cy) * math.cos(angle)
    kind = rng.choice(["blob", "ellipse", "polygon", "bar", "fence"], p=[0.4, 0.2, 0.2, 0.1, 0.1])
    if kind == "blob":
        coarse = torch.from_numpy(rng.normal(size=(1, 1, 9, 9)).astype(np.float32))
        noise = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=True)[0, 0]
        distance = radius - torch.hypot(u, v) + noise * radius * 0.5
    elif kind == "ellipse":
        stretch = rng.uniform(0.3, 1)
        distance = (1 - torch.hypot(u / radius, v / (radius * stretch))) * radius * stretch
    elif kind == "polygon":
        distance = torch.full((side, side), 1e9)
        corners = int(rng.integers(3, 7))
        for i in range(corners):
            a = angle + 2 * math.pi * (i + rng.uniform(-0.3, 0.3)) / corners
            edge = radius * rng.uniform(0.5, 1.1) - (x - cx) * math.cos(a) - (y - cy) * math.sin(a)
            distance = torch.minimum(distance, edge)
    elif kind == "bar":
        distance = rng.uniform(1, 12) - v.abs()
    else:
        period = rng.uniform(16, 50)
        ridge = ((v % period) - period / 2).abs()
        distance = torch.minimum(rng.uniform(1, period / 6) - ridge, radius * 2 - u.abs())
    return (distance + 0.5).clamp(0, 1)


@dataclass(frozen=True)
class Sample:
    """Frames (3, S, S) in [0, 1] at times 0, ``t`` and 1; ``flow`` (4, S, S) in pixels from the
    new frame to frame 0 and to frame 1; ``seen`` (2, S, S): 1 where the point is visible there."""

    frame0: Tensor
    middle: Tensor
    frame1: Tensor
    flow: Tensor
    seen: Tensor
    t: float


def _look_up(canvas: Tensor, x: Tensor, y: Tensor) -> Tensor:
    side = canvas.shape[-1]
    grid = torch.stack(((x + PAD) * (2 / (side - 1)) - 1, (y + PAD) * (2 / (side - 1)) - 1), -1)
    return F.grid_sample(
        canvas[None], grid[None], mode="bilinear", padding_mode="reflection", align_corners=True
    )[0]


def generate(
    rng: np.random.Generator,
    texture: Texture,
    *,
    size: int = 192,
    largest: float = 48.0,
    translucent: float = 0.1,
) -> Sample:
    """One scene of two to five layers, the lowest of which covers everything; a share of
    ``translucent`` of the others lets through what is behind."""
    t = float(rng.choice([0.5, rng.uniform(0.05, 0.95)]))
    side = size + 2 * PAD
    camera = draw_motion(rng, size, largest * (0.6 if rng.random() < 0.8 else 1.0))
    layers: list[tuple[Motion, Tensor]] = []
    for index in range(int(rng.integers(2, 6))):
        picture = torch.from_numpy(texture(rng, side).copy()).permute(2, 0, 1).float() / 255
        if index == 0:
            motion, cover = camera, torch.ones(side, side)
        else:
            follow = rng.choice([0.0, 1.0, rng.random()])
            base = (camera.shift[0] * follow, camera.shift[1] * follow)
            motion, cover = draw_motion(rng, size, largest, base), draw_shape(rng, size)
            if rng.random() < translucent:
                cover = cover * rng.uniform(0.55, 0.95)
        layers.append((motion, torch.cat((picture, cover[None]))))

    y, x = torch.meshgrid(
        torch.arange(size, dtype=torch.float32),
        torch.arange(size, dtype=torch.float32),
        indexing="ij",
    )
    frames: list[Tensor] = []
    tops: list[Tensor] = []  # which layer is uppermost at each pixel
    flow = torch.zeros(4, size, size)
    for s in (0.0, t, 1.0):
        frame = torch.zeros(3, size, size)
        top = torch.zeros(size, size)
        for index, (motion, canvas) in enumerate(layers):
            looked = _look_up(canvas, *motion.invert(x, y, s - t))
            cover = looked[3:]
            frame = frame * (1 - cover) + looked[:3] * cover
            inside = cover[0] > 0.5
            top = torch.where(inside, float(index), top)
            if s == t:
                dx, dy = motion.displacement(x, y)
                here = torch.stack((-t * dx, -t * dy, (1 - t) * dx, (1 - t) * dy))
                flow = torch.where(inside, here, flow)
        frames.append(frame)
        tops.append(top)
    seen = []
    for other, part in ((tops[0], flow[:2]), (tops[2], flow[2:])):
        px, py = (x + part[0]).round(), (y + part[1]).round()
        inside = (px >= 0) & (px < size) & (py >= 0) & (py < size)
        landed = other[py.clamp(0, size - 1).long(), px.clamp(0, size - 1).long()]
        seen.append((inside & (landed == tops[1])).float())
    return Sample(frames[0], frames[1], frames[2], flow, torch.stack(seen), t)
