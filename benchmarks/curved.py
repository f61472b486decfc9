"""How well frames are rebuilt where things do not move straight on.

    python benchmarks/curved.py FOLDER [--models default blend nearest] [--scenes 40]
        [--clips JUGGLING …] [--frames 61]

Rendered windows of four frames in which one thing falls, is thrown, or swings over a background
that stands still, with texture from the first frames of the FOLDER's videos: the frame in the
middle is made anew. The first table has the mean PSNR over the pixels of what moves, in that frame;
under "straight" is what moving on at constant speed would do at best, the distance in pixels
between the true position and the middle of the neighbouring ones. Then, of each of ``--clips``,
every second frame is made anew, as benchmarks/quality.py does. ``--models`` takes files too.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from quality import table
from torch import Tensor

from vfi_cli.api import ModelOptions
from vfi_cli.evaluate.clip import ClipPart
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.models import Interpolator, load_model
from vfi_cli.training.cache import rgb_picture
from vfi_cli.training.motion import Field
from vfi_cli.training.motion import Path as Motion
from vfi_cli.training.synthetic import PAD, Layer, Scene, draw_shape, render

SIZE = 256

Vector = tuple[float, float]  # x to the right, y down, in pixels


def falling(rng: np.random.Generator) -> tuple[Vector, Vector]:
    """Velocity in the new frame, and acceleration, of something that is let go."""
    pull = rng.uniform(6, 20)
    return (0.0, pull * rng.uniform(0.5, 2.5)), (0.0, pull)


def thrown(rng: np.random.Generator) -> tuple[Vector, Vector]:
    """Near the highest point of its way."""
    pull = rng.uniform(6, 20)
    return (rng.choice((-1, 1)) * rng.uniform(4, 24), pull * rng.uniform(-1.5, 1.5)), (0.0, pull)


def swinging(rng: np.random.Generator) -> tuple[Vector, Vector]:
    """On a rope, at any point of its way; the second derivative of the pendulum's equation."""
    length, pull, end = rng.uniform(120, 300), rng.uniform(6, 20), rng.uniform(0.5, 1.2)
    angle = rng.uniform(-end, end)
    turn = math.sqrt(2 * pull / length * (math.cos(angle) - math.cos(end))) * rng.choice((-1, 1))
    faster = -pull / length * math.sin(angle)
    across, along = math.cos(angle), math.sin(angle)
    velocity = length * turn * across, -length * turn * along
    acceleration = (
        length * (faster * across - turn**2 * along),
        -length * (faster * along + turn**2 * across),
    )
    return velocity, acceleration


KINDS: dict[str, Callable[[np.random.Generator], tuple[Vector, Vector]]] = {
    "falling": falling,
    "thrown": thrown,
    "swinging": swinging,
}


def draw(rng: np.random.Generator, pictures: list[Tensor], kind: str) -> Scene:
    """A window of four frames around one in the middle."""
    velocity, acceleration = KINDS[kind](rng)
    path = Motion(
        (SIZE / 2, SIZE / 2),
        Field.uniform(*velocity),
        Field.uniform(acceleration[0] / 2, acceleration[1] / 2),
    )
    still = Motion((0.0, 0.0), Field.uniform())
    side = SIZE + 2 * PAD
    while (cover := draw_shape(rng, SIZE))[PAD:-PAD, PAD:-PAD].mean() > 0.25 or cover.sum() < 400:
        pass  # things, and not walls
    layers = []
    for motion, coverage in ((still, torch.ones(side, side)), (path, cover)):
        picture = pictures[rng.integers(len(pictures))]
        y, x = (int(rng.integers(n - side + 1)) for n in picture.shape[1:])
        layers.append(
            Layer(motion, torch.cat((picture[:, y : y + side, x : x + side], coverage[None])))
        )
    return render(layers, SIZE, 0.5, four=True)


def psnr(model: Interpolator, scene: Scene) -> float:
    """In dB, over the pixels of what moves in the new frame, rounded to 8 bit."""
    frames, truth = scene.frames[[0, 1, 3, 4]], scene.frames[2]
    if model.frames_seen == 2:
        frames = frames[1:3]
    made = model.interpolate(frames[None], 0.5)[0].cpu()
    moves = scene.flow.abs().sum(0) > 0
    error = ((made * 255).round() - (truth * 255).round()).square()[:, moves].mean()
    return float(10 * torch.log10(255**2 / error.clamp_min(1e-3)))


def bend(scene: Scene) -> float:
    """Pixels between where what moves is, and the middle of where it was and will be."""
    moves = scene.flow.abs().sum(0) > 0
    middle = (scene.flow[:2] + scene.flow[2:]) / 2
    return float(middle.norm(dim=0)[moves].mean())


def first_frames(folder: Path) -> list[Tensor]:
    """Of each video that is large enough, (3, H, W) in [0, 1]."""
    pictures = []
    for path in sorted(file for file in folder.iterdir() if file.is_file()):
        with FrameReader(probe(path)) as reader:
            picture = torch.from_numpy(rgb_picture(next(iter(reader)))).permute(2, 0, 1) / 255
        if min(picture.shape[1:]) >= SIZE + 2 * PAD:
            pictures.append(picture)
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["default", "blend", "nearest"])
    parser.add_argument("--scenes", type=int, default=40, help="of each kind")
    parser.add_argument("--clips", nargs="*", type=Path, default=[])
    parser.add_argument("--frames", type=int, default=61, help="of each clip, from its start")
    given = parser.parse_args()
    pictures = first_frames(given.folder)
    models = [load_model(name) for name in given.models]
    names = [Path(name).stem for name in given.models]
    print("| what moves | straight | " + " | ".join(names) + " |")
    print("|---" * (len(models) + 2) + "|", flush=True)
    for number, kind in enumerate(KINDS):
        rng = np.random.default_rng(number)
        scenes = [draw(rng, pictures, kind) for _ in range(given.scenes)]
        means = [np.mean([psnr(model, scene) for scene in scenes]) for model in models]
        away = np.mean([bend(scene) for scene in scenes])
        line = " | ".join(f"{mean:.2f}" for mean in means)
        print(f"| {kind}, {given.scenes} scenes | {away:.1f} px | {line} |", flush=True)
    if given.clips:
        print()
        models_of_clips = [ModelOptions(name) for name in given.models]
        table(given.clips, models_of_clips, ClipPart(frames=given.frames), 2)


if __name__ == "__main__":
    main()
