"""Layers of real texture that move on known paths: frames with exact flow and occlusion.

What is exact: the flow from the new frame to any time (it is the path itself), and which of its
points another layer hides. Flow from frames 0 and 1, and the pictures of all frames but the new
one, go through the path's inverse and are right to within :data:`motion.TOLERANCE` pixels; pictures
are looked up bilinearly. Where layers are translucent or meet in a soft edge a pixel shows two
motions, and the flow is that of the uppermost layer which covers more than half of it. With motion
blur, flow and occlusion are those of the middle of the exposure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.training.motion import Path, draw_path

PAD = 64  # texture around the visible square, in pixels, before it is reflected

Texture = Callable[[np.random.Generator, int], np.ndarray]  # (rng, side) -> uint8 (side, side, 3)

#: Pairs of frames whose flow four-frame models need: from the first to the second.
AROUND = ((0, 1), (0, -1), (1, 0), (1, 2))


@dataclass(frozen=True)
class Layer:
    """``canvas`` (4, side, side): RGB and coverage in [0, 1], PAD pixels larger than the picture
    on each side and continued by its mirror image; it lies as in the new frame."""

    path: Path
    canvas: Tensor

    def at(self, x: Tensor, y: Tensor, tau: float) -> Tensor:
        """(4, …): what the layer shows ``tau`` after the new frame at the points (x, y)."""
        x, y = self.path.invert(x, y, tau)
        side = self.canvas.shape[-1]
        grid = torch.stack(((x + PAD) * (2 / (side - 1)) - 1, (y + PAD) * (2 / (side - 1)) - 1), -1)
        return F.grid_sample(
            self.canvas[None],
            grid[None],
            mode="bilinear",
            padding_mode="reflection",
            align_corners=True,
        )[0]


@dataclass(frozen=True)
class Scene:
    """Frames (3, 3, S, S) in [0, 1] at the times 0, ``t`` and 1, or (5, 3, S, S) at −1, 0, ``t``,
    1 and 2; ``flow`` (4, S, S) in pixels from the new frame to frame 0 and to frame 1; ``seen``
    (2, S, S): 1 where the point is visible there; ``around`` (8, S, S), with five frames: the
    flows of :data:`AROUND`."""

    frames: Tensor
    t: float
    flow: Tensor
    seen: Tensor
    around: Tensor | None = None


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


def draw_layers(
    rng: np.random.Generator,
    texture: Texture,
    *,
    size: int,
    largest: float,
    translucent: float = 0.1,
    accelerated: float = 0.0,
    reach: float = 1.0,
) -> list[Layer]:
    """Two to five layers, the lowest of which covers everything; a share of ``translucent`` of
    the others lets through what is behind. The rest as in :func:`motion.draw_path`."""
    side = size + 2 * PAD
    camera = draw_path(
        rng,
        size,
        largest * (0.6 if rng.random() < 0.8 else 1.0),
        accelerated=accelerated,
        reach=reach,
    )
    layers: list[Layer] = []
    for index in range(int(rng.integers(2, 6))):
        picture = torch.from_numpy(texture(rng, side).copy()).permute(2, 0, 1).float() / 255
        path, cover = camera, torch.ones(side, side)
        if index:
            follow = rng.choice([0.0, 1.0, rng.random()])
            base = (camera.velocity.shift[0] * follow, camera.velocity.shift[1] * follow)
            path = draw_path(rng, size, largest, base, accelerated=accelerated, reach=reach)
            cover = draw_shape(rng, size)
            if rng.random() < translucent:
                cover = cover * rng.uniform(0.55, 0.95)
        layers.append(Layer(path, torch.cat((picture, cover[None]))))
    return layers


def render(
    layers: Sequence[Layer], size: int, t: float, *, four: bool = False, shutter: float = 0.0
) -> Scene:
    """The layers, lowest first, as they lie in the new frame at time ``t``. ``shutter``: for how
    much of the time from frame 0 to frame 1 each frame is exposed; 0 is an instant."""
    y, x = torch.meshgrid(
        torch.arange(size, dtype=torch.float32),
        torch.arange(size, dtype=torch.float32),
        indexing="ij",
    )
    times = (-1.0, 0.0, t, 1.0, 2.0) if four else (0.0, t, 1.0)
    frames = []
    tops: dict[float, Tensor] = {}
    for s in times:
        frame, tops[s] = _picture(layers, x, y, s - t)
        if shutter:
            # Instants of a step of a pixel or so, evenly over the exposure.
            fastest = max(_speed(layer, x, y) for layer in layers)
            count = int(np.clip(math.ceil(fastest * shutter), 3, 9))
            moments = [s - t + shutter * ((k + 0.5) / count - 0.5) for k in range(count)]
            frame = torch.stack([_picture(layers, x, y, m)[0] for m in moments]).mean(0)
        frames.append(frame)
    flow = torch.cat([_flow(layers, tops[t], x, y, 0.0, s - t) for s in (0.0, 1.0)])
    seen = torch.stack(
        [
            _visible(layers, tops[t], x + flow[i], y + flow[i + 1], s - t)
            for i, s in ((0, 0), (2, 1))
        ]
    )
    around = None
    if four:
        around = torch.cat([_flow(layers, tops[a], x, y, a - t, b - t) for a, b in AROUND])
    return Scene(torch.stack(frames), t, flow, seen, around)


def _picture(layers: Sequence[Layer], x: Tensor, y: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """The picture (3, H, W), and the number of the uppermost layer at each of its pixels."""
    frame, top = torch.zeros(3, *x.shape), torch.zeros(x.shape)
    for number, layer in enumerate(layers):
        looked = layer.at(x, y, tau)
        cover = looked[3:]
        frame = frame * (1 - cover) + looked[:3] * cover
        top = torch.where(cover[0] > 0.5, float(number), top)
    return frame, top


def _flow(
    layers: Sequence[Layer], top: Tensor, x: Tensor, y: Tensor, here: float, there: float
) -> Tensor:
    """(2, H, W): from each pixel ``here`` after the new frame to where it is ``there`` after."""
    flow = torch.zeros(2, *x.shape)
    for number, layer in enumerate(layers):
        ux, uy = layer.path.invert(x, y, here)
        dx, dy = layer.path.displacement(ux, uy, there)
        flow = torch.where(top == number, torch.stack((ux + dx - x, uy + dy - y)), flow)
    return flow


def _visible(layers: Sequence[Layer], top: Tensor, x: Tensor, y: Tensor, tau: float) -> Tensor:
    """1 where a point of layer ``top`` that stands at (x, y) after ``tau`` is inside the picture
    and not under a higher layer there."""
    height, width = x.shape
    seen = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    for number, layer in enumerate(layers[1:], 1):
        seen &= (top >= number) | (layer.at(x, y, tau)[3] <= 0.5)
    return seen.float()


def _speed(layer: Layer, x: Tensor, y: Tensor) -> float:
    """Pixels from frame 0 to frame 1, of the fastest of some points."""
    dx, dy = layer.path.displacement(x[::32, ::32], y[::32, ::32], 1.0)
    return float(torch.hypot(dx, dy).max())


def generate(
    rng: np.random.Generator,
    texture: Texture,
    *,
    size: int = 192,
    largest: float = 48.0,
    translucent: float = 0.1,
    blurred: float = 0.0,
    accelerated: float = 0.0,
    four: bool = False,
) -> Scene:
    """One random scene whose layers move by up to about ``largest`` pixels from frame 0 to frame
    1. ``translucent`` and ``accelerated`` are shares of layers, ``blurred`` that of scenes with
    motion blur. ``four``: with the frames at −1 and 2, and flow between frames."""
    t = float(rng.choice([0.5, rng.uniform(0.05, 0.95)]))
    shutter = float(rng.uniform(0.1, 0.5)) if rng.random() < blurred else 0.0
    layers = draw_layers(
        rng,
        texture,
        size=size,
        largest=largest,
        translucent=translucent,
        accelerated=accelerated,
        reach=(2.0 if four else 1.0) + shutter / 2,
    )
    return render(layers, size, t, four=four, shutter=shutter)
