"""The data, decoded and rendered once: arrays on disk that training maps instead of reads.

Clips become NAME.npy, (N, H, W, 3) uint8 RGB; those of more than about 700 pixels at half of
their size or less, where compression has left sharp pixels. Rendered scenes are the chunks that
:class:`vfi_cli.training.data.Pool` describes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from vfi_cli.errors import InputError
from vfi_cli.training.synthetic import PAD, generate

VIDEOS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts", ".y4m")
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
CHUNK = 100  # scenes in one file of the pool
Report = Callable[[str], None]


def cache_clips(
    folders: list[Path], cache: Path, *, most: int, report: Report = lambda line: None
) -> list[Path]:
    """Decodes every video under ``folders`` that the cache lacks; returns the arrays' files.

    Raises InputError where nothing is found, or a clip does not decode.
    """
    cache.mkdir(parents=True, exist_ok=True)
    files = []
    for source in _files(folders, VIDEOS):
        stamp = f"{source.resolve()} {source.stat().st_size} {most}"
        target = cache / f"{source.stem}-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}.npy"
        if not target.exists():
            frames = _decode(source, most)
            report(f"{source.name}: {len(frames)} frames of {frames.shape[2]}×{frames.shape[1]}")
            _save(target, frames)
        files.append(target)
    if not files:
        raise InputError(f"{', '.join(map(str, folders))}: no videos to train on")
    return files


def reduction(width: int, height: int) -> int:
    """By how much a clip is reduced, for clean targets."""
    longest = max(width, height)
    return 1 if longest <= 700 else 2 if longest <= 2000 else 4


def _decode(source: Path, most: int) -> np.ndarray:
    import av

    frames = []
    try:
        with av.open(str(source)) as container:
            if not container.streams.video:
                raise InputError(f"{source}: has no picture to train on")
            for frame in container.decode(video=0):
                factor = reduction(frame.width, frame.height)
                picture = frame.reformat(
                    max(2, frame.width // factor // 2 * 2),
                    max(2, frame.height // factor // 2 * 2),
                    format="rgb24",
                    interpolation="AREA",
                )
                frames.append(picture.to_ndarray())
                if len(frames) == most or frames[-1].shape != frames[0].shape:
                    break
    except (av.error.FFmpegError, OSError) as error:
        if not frames:
            raise InputError(f"{source}: cannot be decoded ({error})") from None
    if frames and frames[-1].shape != frames[0].shape:
        frames.pop()
    if not frames:
        raise InputError(f"{source}: holds no frames to train on")
    return np.stack(frames)


def cache_scenes(
    textures: list[Path],
    clips: list[Path],
    cache: Path,
    *,
    count: int,
    size: int,
    motion: tuple[float, ...],
    seed: int,
    report: Report = lambda line: None,
) -> Path:
    """Renders the scenes that the pool lacks and returns its folder."""
    stamp = repr((sorted(str(path.resolve()) for path in textures), size, motion, seed))
    folder = cache / f"scenes-{hashlib.sha256(stamp.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    texture: Callable[[np.random.Generator, int], np.ndarray] | None = None
    for chunk, first in enumerate(range(0, count, CHUNK)):
        stem = folder / f"{chunk:05d}"
        if stem.with_suffix(".frames.npy").exists():
            continue
        texture = texture or Textures(_files(textures, PICTURES), clips, size + 2 * PAD)
        rng = np.random.default_rng((seed, chunk))
        number = min(CHUNK, count - first)
        frames = np.empty((number, 3, 3, size, size), np.uint8)
        flow = np.empty((number, 4, size, size), np.float16)
        times = np.empty(number, np.float32)
        for i in range(number):
            scene = generate(rng, texture, size=size, largest=float(rng.choice(motion)))
            three = torch.stack((scene.frame0, scene.middle, scene.frame1))
            frames[i] = (three * 255).round().clamp(0, 255).byte().numpy()
            flow[i] = scene.flow.numpy()
            times[i] = scene.t
        _save(stem.with_suffix(".flow.npy"), flow)
        _save(stem.with_suffix(".t.npy"), times)
        _save(stem.with_suffix(".frames.npy"), frames)  # last: it marks the chunk as whole
        report(f"{first + number}/{count} scenes rendered")
    return folder


class Textures:
    """Squares cut out of pictures, at two reductions, and sometimes out of clips."""

    def __init__(self, files: list[Path], clips: list[Path], side: int) -> None:
        from PIL import Image

        self.pictures: list[np.ndarray] = []
        for file in files:
            try:
                picture = Image.open(file).convert("RGB")
            except OSError as error:
                raise InputError(f"{file}: is not a picture to train on ({error})") from None
            shortest = min(picture.size)
            # Never enlarged, unless a square would not fit.
            sizes = {max(side, min(shortest, wanted)) for wanted in (560, 1100)}
            for scale in sorted(wanted / shortest for wanted in sizes):
                new = [max(side, round(edge * scale)) for edge in picture.size]
                self.pictures.append(np.asarray(picture.resize(new, Image.Resampling.LANCZOS)))
        if not self.pictures:
            raise InputError("no pictures to take textures from (data.textures)")
        mapped = [np.load(file, mmap_mode="r") for file in clips]
        self.clips = [clip for clip in mapped if min(clip.shape[1:3]) >= side]

    def __call__(self, rng: np.random.Generator, side: int) -> np.ndarray:
        if self.clips and rng.random() < 0.2:
            clip = self.clips[rng.integers(len(self.clips))]
            picture = clip[rng.integers(len(clip))]
        else:
            picture = self.pictures[rng.integers(len(self.pictures))]
        y = rng.integers(picture.shape[0] - side + 1)
        x = rng.integers(picture.shape[1] - side + 1)
        square = picture[y : y + side, x : x + side]
        if rng.random() < 0.5:
            square = square[:, ::-1]
        if rng.random() < 0.3:
            square = square.transpose(1, 0, 2)
        if rng.random() < 0.3:
            square = square[..., rng.permutation(3)]
        return np.ascontiguousarray(square)


def _files(folders: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    def walk() -> Iterator[Path]:
        for folder in folders:
            yield from sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)

    return list(walk())


def _save(target: Path, array: np.ndarray) -> None:
    part = target.with_suffix(".part")
    with part.open("wb") as stream:
        np.save(stream, array)
    os.replace(part, target)
