"""Rendered scenes on disk, and samples cut out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vfi_cli.errors import InputError


@dataclass(frozen=True)
class Sample:
    """Frames (3, 3, H, W) in [0, 1]: frame 0, the new one at ``t``, frame 1; or (5, 3, H, W) with
    those at −1 and 2 around.

    ``flow`` (4, H, W), in pixels, from the new frame to frames 0 and 1, ``seen`` (2, H, W) 1 where
    the new frame's point is visible there, ``around`` (8, H, W) the flows
    :data:`vfi_cli.training.synthetic.AROUND`; None where they are not known.
    """

    frames: Tensor
    t: float
    flow: Tensor | None = None
    seen: Tensor | None = None
    around: Tensor | None = None


class Chunk:
    """Files NAME.frames.npy (N, 3 or 5, 3, S, S) uint8, NAME.flow.npy (N, 4, S, S) float16,
    NAME.t.npy (N,), NAME.seen.npy (N, 2, S, S) uint8 and, with five frames, NAME.around.npy
    (N, 8, S, S) float16; all but the times are mapped when they are first looked at."""

    def __init__(self, frames: Path) -> None:
        self._stem = frames.name[: -len(".frames.npy")]
        self._folder = frames.parent
        self._mapped: dict[str, NDArray[Any]] = {}
        self.t = np.load(self._folder / f"{self._stem}.t.npy")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": {}}  # other processes map the files themselves

    def array(self, what: str) -> NDArray[Any]:
        if what not in self._mapped:
            file = self._folder / f"{self._stem}.{what}.npy"
            self._mapped[what] = np.load(file, mmap_mode="r")
        return self._mapped[what]

    def has(self, what: str) -> bool:
        return (self._folder / f"{self._stem}.{what}.npy").exists()


class Pool:
    """The scenes of a folder of chunks; with ``middle`` only those whose new frame lies at
    t = 1/2, for a network that knows no other time. Raises InputError where there are none."""

    def __init__(self, folder: Path, *, middle: bool = False) -> None:
        self.folder, self.middle = folder, middle
        self.chunks = [Chunk(file) for file in sorted(folder.glob("*.frames.npy"))]
        if not self.chunks:
            raise InputError(f"{folder}: holds no rendered scenes")
        self.starts = np.cumsum([0] + [len(chunk.t) for chunk in self.chunks])
        self._numbers = np.arange(self.starts[-1])
        if middle:
            times = np.concatenate([chunk.t for chunk in self.chunks])
            self._numbers = np.flatnonzero(times == 0.5)
        if not len(self._numbers):
            raise InputError(
                f"{folder}: holds no scene at t = 1/2; let there be more (data.scenes)"
            )
        #: pools of older runs do not say what is visible
        self.masks = all(chunk.has("seen") for chunk in self.chunks)

    def __len__(self) -> int:
        return len(self._numbers)

    def _scene(self, rng: np.random.Generator) -> tuple[Chunk, int]:
        number = int(self._numbers[rng.integers(len(self))])
        which = int(np.searchsorted(self.starts, number, side="right")) - 1
        return self.chunks[which], number - int(self.starts[which])

    def _frames(self, chunk: Chunk, four: bool) -> slice:
        """Which of a scene's frames are wanted."""
        count = chunk.array("frames").shape[1]
        if four and count == 3:
            raise InputError(f"{self.folder}: holds scenes of three frames, not of five")
        return slice(None) if four or count == 3 else slice(1, 4)

    def draw(
        self,
        rng: np.random.Generator,
        height: int,
        width: int,
        *,
        largest: float = 40.0,
        four: bool = False,
    ) -> Sample:
        """A crop of a scene. A third is enlarged by two, a third by up to two: coarse blocks see a
        picture through so few of its pixels that fine texture tells them nothing; more, where the
        crop would not fit otherwise. Of up to four draws the first is taken that moves less than
        ``largest`` pixels on average."""
        for _ in range(4):
            chunk, i = self._scene(rng)
            side_y, side_x = chunk.array("frames").shape[3:]
            least = max(1.0, height / side_y, width / side_x)
            most = max(least, 2.0)
            zoom = (least, most, float(rng.uniform(least, most)))[rng.integers(3)]
            h, w = _inner(height, zoom, side_y), _inner(width, zoom, side_x)
            y, x = int(rng.integers(side_y - h + 1)), int(rng.integers(side_x - w + 1))
            crop = (slice(None), slice(y, y + h), slice(x, x + w))
            flow = torch.from_numpy(chunk.array("flow")[i][crop].astype(np.float32))
            if float(flow.abs().mean()) * zoom < largest:
                break
        frames = chunk.array("frames")[i, self._frames(chunk, four)][(slice(None), *crop)]
        sample = Sample(
            torch.from_numpy(frames.astype(np.float32)) / 255,
            float(chunk.t[i]),
            flow,
            torch.from_numpy(chunk.array("seen")[i][crop].astype(np.float32))
            if self.masks
            else torch.ones(2, h, w),
            torch.from_numpy(chunk.array("around")[i][crop].astype(np.float32)) if four else None,
        )
        return enlarged(sample, height, width)

    def draw_shift(
        self,
        rng: np.random.Generator,
        height: int,
        width: int,
        *,
        most: int = 8,
        four: bool = False,
    ) -> Sample:
        """As :meth:`draw`, of one picture that moves as a whole, by up to ``most`` pixels before
        it is enlarged: the easiest motion there is, from which a network begins to see any."""
        chunk, i = self._scene(rng)
        frames = chunk.array("frames")
        picture = frames[i, frames.shape[1] // 2]
        side_y, side_x = picture.shape[1:]
        most = min(most, side_y // 4, side_x // 4)
        spaces = ((1, 1), (1, 1), (1, 2), (2, 1), (1, 3), (3, 1))
        before, after = (1, 1) if self.middle else spaces[rng.integers(6)]
        steps = [-before, 0, after]  # from the new frame, in units of the smallest move
        if four:
            steps = [-2 * before - after, *steps, before + 2 * after]
        reach = most // max(map(abs, steps))
        move = rng.integers(-reach, reach + 1, 2)  # x, y
        if rng.random() < 0.25:
            move = np.zeros(2, int)  # what stands still must stay as it is
        least = max(1.0, height / (side_y - 2 * most), width / (side_x - 2 * most))
        zoom = max(least, 2.0) if rng.random() < 0.5 else least
        h = _inner(height, zoom, side_y - 2 * most)
        w = _inner(width, zoom, side_x - 2 * most)
        y = int(rng.integers(most, side_y - most - h + 1))
        x = int(rng.integers(most, side_x - most - w + 1))
        crops = []
        for step in steps:
            left, top = x - step * int(move[0]), y - step * int(move[1])
            crops.append(picture[:, top : top + h, left : left + w])

        def moved(*lengths: int) -> Tensor:
            vectors = np.concatenate([length * move for length in lengths]).astype(np.float32)
            return torch.from_numpy(vectors)[:, None, None].expand(-1, h, w)

        across = before + after
        sample = Sample(
            torch.from_numpy(np.stack(crops).astype(np.float32)) / 255,
            before / across,
            moved(-before, after),
            torch.ones(2, h, w),
            moved(across, -across, -across, across) if four else None,
        )
        return enlarged(sample, height, width)


def _inner(size: int, zoom: float, most: int) -> int:
    """Pixels of a scene that become ``size`` pixels of a crop."""
    return max(1, min(most, round(size / zoom)))


def enlarged(sample: Sample, height: int, width: int) -> Sample:
    """The sample at another size, with its flow in the new pixels."""
    h, w = sample.frames.shape[-2:]
    if (h, w) == (height, width):
        return sample
    size = (height, width)

    def vectors(flow: Tensor | None) -> Tensor | None:
        if flow is None:
            return None
        scale = torch.tensor([width / w, height / h]).repeat(len(flow) // 2)
        return F.interpolate(flow[None], size=size, mode="bilinear")[0] * scale[:, None, None]

    seen = sample.seen
    return Sample(
        F.interpolate(sample.frames, size=size, mode="bilinear"),
        sample.t,
        vectors(sample.flow),
        None if seen is None else F.interpolate(seen[None], size=size, mode="nearest")[0],
        vectors(sample.around),
    )


# Augmentation -----------------------------------------------------------------------------


def augment(rng: np.random.Generator, sample: Sample) -> Sample:
    """Flips, transposition of square crops, channel order, time reversal, noise and light."""
    frames, t = sample.frames, sample.t
    flow, seen, around = sample.flow, sample.seen, sample.around
    for axis, signs in ((-1, (-1.0, 1.0)), (-2, (1.0, -1.0))):
        if rng.random() < 0.5:
            frames = frames.flip(axis)
            flow, around = (_mirrored(v, axis, signs) for v in (flow, around))
            seen = None if seen is None else seen.flip(axis)
    if frames.shape[-1] == frames.shape[-2] and rng.random() < 0.5:
        frames = frames.transpose(-1, -2)
        flow, around = _turned(flow), _turned(around)
        seen = None if seen is None else seen.transpose(-1, -2)
    if rng.random() < 0.5:
        frames = frames[:, torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.5:
        frames, t = frames.flip(0), 1 - t
        flow = None if flow is None else flow[[2, 3, 0, 1]]
        around = None if around is None else around.roll(4, 0)  # 1 → 0, 1 → 2 become 0 → 1, 0 → −1
        seen = None if seen is None else seen.flip(0)
    return Sample(_lit(rng, frames, t), t, flow, seen, around)


def _lit(rng: np.random.Generator, frames: Tensor, t: float) -> Tensor:
    """The frames with other light, light that changes while time passes, and noise."""
    if rng.random() < 0.15:
        frames = frames * rng.uniform(0.9, 1.1)
    if rng.random() < 0.1:
        times = [-1.0, 0.0, t, 1.0, 2.0] if len(frames) == 5 else [0.0, t, 1.0]
        slope = float(rng.normal() * 0.02)
        frames = frames + torch.tensor(times)[:, None, None, None] * slope
    if rng.random() < 0.1:
        noise = torch.from_numpy(rng.normal(size=frames.shape).astype(np.float32))
        noise[len(frames) // 2] = 0  # the new frame is what is wanted
        frames = frames + rng.uniform(0.002, 0.02) * noise
    return frames.clamp(0, 1)


def _mirrored(vectors: Tensor | None, axis: int, signs: Sequence[float]) -> Tensor | None:
    if vectors is None:
        return None
    scale = torch.tensor(signs).repeat(len(vectors) // 2)
    return vectors.flip(axis) * scale[:, None, None]


def _turned(vectors: Tensor | None) -> Tensor | None:
    """Transposed, x and y exchanged."""
    if vectors is None:
        return None
    return vectors.transpose(-1, -2).unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
