"""Training samples: real clips that were decoded into a cache, and a pool of rendered scenes.

Both are arrays on disk that are mapped, not read: a sample costs a copy of its crop.
A draw depends on the seed and the draw's number alone, so a resumed run sees what the
uninterrupted one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.errors import InputError

GAPS = (2, 3, 4, 5, 6)
GAP_WEIGHTS = (0.45, 0.15, 0.2, 0.1, 0.1)


@dataclass(frozen=True)
class Batch:
    """Frames (B, 3, H, W) float32 in [0, 1]; ``t`` (B, 1, 1, 1); ``flow`` (B, 4, H, W) pixels
    where ``has_flow`` (B,) says so, zeros elsewhere."""

    frame0: Tensor
    middle: Tensor
    frame1: Tensor
    t: Tensor
    flow: Tensor
    has_flow: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, item.name).to(device) for item in fields(self)))


class Clips:
    """Cached clips, (N, H, W, 3) uint8 each, with cuts and repeated frames known."""

    def __init__(self, files: list[Path], height: int, width: int) -> None:
        self.clips: list[np.ndarray] = []
        self.runs: list[list[np.ndarray]] = []  # frame numbers of each run without a cut
        weights = []
        for file in files:
            clip = np.load(file, mmap_mode="r")
            if clip.ndim != 4 or clip.shape[1] < height or clip.shape[2] < width:
                continue
            index, runs = usable_runs(clip)
            if not runs:
                continue
            self.clips.append(clip)
            self.runs.append([index[a:b] for a, b in runs])
            weights.append(sum(b - a for a, b in runs) ** 0.5)
        if not weights:
            raise InputError(
                f"no clip is as large as the crops of {width}×{height} and long enough"
            )
        self.weights = np.array(weights) / np.sum(weights)

    def draw(
        self, rng: np.random.Generator, height: int, width: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Three frames (h, w, 3) uint8 and t, from a window that moves, most of the time."""
        for attempt in range(20):
            which = rng.choice(len(self.clips), p=self.weights)
            clip, runs = self.clips[which], self.runs[which]
            run = runs[rng.choice(len(runs))]
            gap = int(rng.choice(GAPS, p=GAP_WEIGHTS))
            if len(run) <= gap:
                continue
            start = int(rng.integers(len(run) - gap))
            inner = start + int(rng.integers(1, gap))
            i0, im, i1 = run[start], run[inner], run[start + gap]
            h, w = clip.shape[1:3]
            spots = [
                (int(rng.integers(h - height + 1)), int(rng.integers(w - width + 1)))
                for _ in range(3)
            ]
            moved = []
            for y, x in spots:
                a = clip[i0, y : y + height : 8, x : x + width : 8].astype(np.int16)
                b = clip[i1, y : y + height : 8, x : x + width : 8].astype(np.int16)
                moved.append(float(np.abs(a - b).mean()))
            best = int(np.argmax(moved)) if rng.random() < 0.5 else 0
            if moved[best] < 0.8 and attempt < 19 and rng.random() < 0.5:
                continue
            if moved[best] > 60 and attempt < 19:
                continue
            y, x = spots[best]
            crop = (slice(y, y + height), slice(x, x + width))
            return clip[i0][crop], clip[im][crop], clip[i1][crop], (inner - start) / gap
        raise InputError("the clips hold no window of frames without a cut to train on")


def usable_runs(clip: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Indices of the frames that do not repeat the one before, and the runs [a, b) of that list
    without a cut: where a thumbnail changes by far more than around it, a new run begins."""
    thumbs = np.asarray(clip[:, 4::16, 4::16]).astype(np.float32).mean(-1)
    change = np.abs(np.diff(thumbs, axis=0)).mean((1, 2))
    index = np.concatenate(([0], 1 + np.flatnonzero(change > 0.25)))
    thumbs = thumbs[index]
    change = np.abs(np.diff(thumbs, axis=0)).mean((1, 2))
    runs, begin = [], 0
    for i in range(len(change)):
        around = np.concatenate((change[max(0, i - 6) : i], change[i + 1 : i + 7]))
        usual = float(np.median(around)) if len(around) else 0.0
        if change[i] > 12 and change[i] > 3.0 * usual + 2:
            runs.append((begin, i + 1))
            begin = i + 1
    runs.append((begin, len(index)))
    return index, [(a, b) for a, b in runs if b - a > 2]


class Pool:
    """Rendered scenes in chunks: NAME.frames.npy (N, 3, 3, S, S) uint8 (frame 0, new, frame 1),
    NAME.flow.npy (N, 4, S, S) float16, NAME.t.npy (N,)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.chunks = []
        for file in sorted(folder.glob("*.frames.npy")):
            stem = file.name[: -len(".frames.npy")]
            self.chunks.append(
                (
                    np.load(file, mmap_mode="r"),
                    np.load(folder / f"{stem}.flow.npy", mmap_mode="r"),
                    np.load(folder / f"{stem}.t.npy"),
                )
            )
        self.starts = np.cumsum([0] + [len(c[2]) for c in self.chunks])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def draw(
        self, rng: np.random.Generator, height: int, width: int, *, largest: float = 40.0
    ) -> tuple[Tensor, Tensor, float]:
        """Frames (3, 3, h, w) in [0, 1], flow (4, h, w) and t. A third is enlarged by two, a third
        by up to two: coarse blocks see a picture through so few of its pixels that fine texture
        tells them nothing. Of up to four draws the first is taken that moves less than
        ``largest`` pixels on average."""
        for _ in range(4):
            n = int(rng.integers(len(self)))
            chunk = int(np.searchsorted(self.starts, n, side="right")) - 1
            frames, flow, t = self.chunks[chunk]
            i = n - self.starts[chunk]
            # Never less than what makes the crop fit.
            least = max(1.0, height / frames.shape[3], width / frames.shape[4])
            zoom = (least, max(least, 2.0), float(rng.uniform(least, max(least, 2.0))))[
                rng.integers(3)
            ]
            h, w = int(height / zoom), int(width / zoom)
            y = int(rng.integers(frames.shape[3] - h + 1))
            x = int(rng.integers(frames.shape[4] - w + 1))
            crop = (slice(None), slice(y, y + h), slice(x, x + w))
            moved = torch.from_numpy(flow[i][crop].astype(np.float32))
            if float(moved.abs().mean()) * zoom < largest:
                break
        three = torch.from_numpy(np.stack([frames[i, k][crop] for k in range(3)])).float() / 255
        if zoom != 1:
            size = (height, width)
            three = F.interpolate(three, size=size, mode="bilinear", align_corners=False)
            moved = F.interpolate(moved[None], size=size, mode="bilinear", align_corners=False)[0]
            scale = torch.tensor([width / w, height / h] * 2)
            moved = moved * scale[:, None, None]
        return three, moved, float(t[i])

    def draw_shift(
        self, rng: np.random.Generator, height: int, width: int, *, most: int = 8
    ) -> tuple[Tensor, Tensor, float]:
        """As :meth:`draw`, of one picture that moves as a whole by a few pixels: the easiest
        motion there is, from which a network begins to see any at all."""
        n = int(rng.integers(len(self)))
        chunk = int(np.searchsorted(self.starts, n, side="right")) - 1
        frames = self.chunks[chunk][0]
        picture = frames[n - self.starts[chunk], 1]
        before, after = ((1, 1), (1, 1), (1, 2), (2, 1), (1, 3), (3, 1))[rng.integers(6)]
        reach = most // max(before, after)
        dx, dy = (int(rng.integers(-reach, reach + 1)) for _ in range(2))
        if rng.random() < 0.25:
            dx = dy = 0  # what stands still must stay as it is
        room = min(picture.shape[1] / height, picture.shape[2] / width)
        zoom = int(rng.integers(1, 3)) if room > 1.2 else 2
        h, w = height // zoom, width // zoom
        y = int(rng.integers(most, picture.shape[1] - h - most + 1))
        x = int(rng.integers(most, picture.shape[2] - w - most + 1))
        crops = []
        for k in (before, 0, -after):  # the new frame's pixel x is the picture's x + start
            top, left = y + k * dy, x + k * dx
            crops.append(picture[:, top : top + h, left : left + w])
        three = torch.from_numpy(np.stack(crops)).float() / 255
        vector = [-before * dx, -before * dy, after * dx, after * dy]
        flow = torch.tensor(vector).float().view(4, 1, 1).expand(4, height, width) * zoom
        if zoom > 1:
            three = F.interpolate(three, size=(height, width), mode="bilinear")
        return three, flow, before / (before + after)


def augment(
    rng: np.random.Generator, frames: Tensor, flow: Tensor, t: float
) -> tuple[Tensor, Tensor, float]:
    """Flips, transposition of square crops, channel order, time reversal, noise and light.

    ``frames`` (3, 3, H, W), ``flow`` (4, H, W).
    """
    if rng.random() < 0.5:
        frames, flow = (
            frames.flip(-1),
            flow.flip(-1) * torch.tensor([-1.0, 1, -1, 1])[:, None, None],
        )
    if rng.random() < 0.5:
        frames, flow = (
            frames.flip(-2),
            flow.flip(-2) * torch.tensor([1.0, -1, 1, -1])[:, None, None],
        )
    if frames.shape[-1] == frames.shape[-2] and rng.random() < 0.5:
        frames, flow = frames.transpose(-1, -2), flow.transpose(-1, -2)[[1, 0, 3, 2]]
    if rng.random() < 0.5:
        frames = frames[:, torch.from_numpy(rng.permutation(3))]
    if rng.random() < 0.5:
        frames, flow, t = frames.flip(0), flow[[2, 3, 0, 1]], 1 - t
    if rng.random() < 0.15:
        gain = rng.uniform(0.9, 1.1)
        frames = frames * gain
    if rng.random() < 0.1:  # light that changes while time passes
        slope = float(rng.normal() * 0.02)
        frames = frames + torch.tensor([0.0, t, 1.0])[:, None, None, None] * slope
    if rng.random() < 0.1:
        noise = torch.from_numpy(rng.normal(size=(2, *frames.shape[1:])).astype(np.float32))
        sigma = rng.uniform(0.002, 0.02)
        frames = torch.stack(
            (frames[0] + sigma * noise[0], frames[1], frames[2] + sigma * noise[1])
        )
    return frames.clamp(0, 1), flow, t


def draw_batch(
    seed: int,
    number: int,
    *,
    clips: Clips | None,
    pool: Pool | None,
    synthetic: float,
    batch: int,
    height: int,
    width: int,
    largest: float = 40.0,
    shifted: float = 0.0,
) -> Batch:
    """Batch ``number`` of the run: each sample rendered with probability ``synthetic``."""
    rng = np.random.default_rng((seed, number))
    frames_all, flows, times, known = [], [], [], []
    for _ in range(batch):
        rendered = pool is not None and (clips is None or rng.random() < synthetic)
        if rendered:
            assert pool is not None
            if rng.random() < shifted:
                frames, flow, t = pool.draw_shift(rng, height, width)
            else:
                frames, flow, t = pool.draw(rng, height, width, largest=largest)
        else:
            assert clips is not None
            a, m, b, t = clips.draw(rng, height, width)
            frames = torch.from_numpy(np.stack((a, m, b))).permute(0, 3, 1, 2).float() / 255
            flow = torch.zeros(4, height, width)
        frames, flow, t = augment(rng, frames, flow, t)
        frames_all.append(frames)
        flows.append(flow)
        times.append(t)
        known.append(rendered)
    stacked = torch.stack(frames_all)
    return Batch(
        stacked[:, 0].contiguous(),
        stacked[:, 1].contiguous(),
        stacked[:, 2].contiguous(),
        torch.tensor(times, dtype=torch.float32).view(-1, 1, 1, 1),
        torch.stack(flows).contiguous(),
        torch.tensor(known),
    )
