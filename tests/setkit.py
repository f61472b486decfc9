"""Tiny data sets in the layouts that the real ones are published in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import PIL.Image

WIDTH, HEIGHT = 48, 32  # pixels


def picture(time: float, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8: smooth waves that move to the right by four pixels for each unit
    of time, so that frames at different times differ and blending is not exact. All values are
    even, so that the mean of two pictures needs no rounding."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [
        np.sin((x - 4 * time) / (3 + c) + seed) * np.cos(y / (4 + c) + seed + c) for c in range(3)
    ]
    return (2 * (64 + 50 * np.stack(waves, axis=-1)).round()).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


def frames(folder: Path, names: Iterable[str], seed: int = 0) -> list[Path]:
    """One image for each name, at times 0, 1, 2 …"""
    paths = [folder / name for name in names]
    for time, path in enumerate(paths):
        save(path, picture(time, seed))
    return paths


def vimeo(root: Path, kind: str, names: Sequence[str], split: str = "test") -> Path:
    """``kind``: triplet or septuplet."""
    count = {"triplet": 3, "septuplet": 7}[kind]
    home = root / f"vimeo_{kind}"
    for seed, name in enumerate(names):
        frames(home / "sequences" / name, [f"im{n}.png" for n in range(1, count + 1)], seed)
    (home / f"{kind[:3]}_{split}list.txt").write_text("\n".join([*names, "", ""]))
    return home


def reds(root: Path, split: str, clips: Sequence[str], last: int = 32) -> Path:
    """All three rates, frames numbered as those of 120 fps up to ``last``."""
    for seed, clip in enumerate(clips):
        for rate, step in ((60, 2), (30, 4), (15, 8)):
            for number in range(0, last + 1, step):
                path = root / f"{split}_{rate}fps" / clip / f"{number:08}.png"
                save(path, picture(number / 4, seed))
    return root


def gopro(root: Path, split: str, clips: Sequence[str], count: int = 17, first: int = 1) -> Path:
    for seed, clip in enumerate(clips):
        names = [f"{n:06}.png" for n in range(first, first + count)]
        frames(root / split / clip, names, seed)
    return root


def x_test(root: Path, clips: Sequence[str]) -> Path:
    for seed, clip in enumerate(clips):
        frames(root / "test" / clip, [f"{n:04}.png" for n in range(33)], seed)
    return root


def x_train(root: Path, clips: Sequence[str]) -> Path:
    for seed, clip in enumerate(clips):
        frames(root / "train" / clip, [f"{n:04}.png" for n in range(65)], seed)
    return root


def ucf101(root: Path, names: Sequence[str]) -> Path:
    for seed, name in enumerate(names):
        folder = root / "ucf101_interp_ours" / name
        frames(folder, ["frame_00.png", "frame_01_gt.png", "frame_02.png"], seed)
    return root


def middlebury(root: Path, names: Sequence[str]) -> Path:
    for seed, name in enumerate(names):
        for file, time in (("frame10", 0), ("frame11", 2)):
            save(root / "other-data" / name / f"{file}.png", picture(time, seed))
        save(root / "other-gt-interp" / name / "frame10i11.png", picture(1, seed))
    return root


def snu_film(root: Path, triplets: int = 3) -> Path:
    """Each level doubles the distance of the outer frames; all in one clip of 40 frames."""
    clip = "GOPRO_test/GOPR0384_11_00"
    frames(root / "test" / clip, [f"{n:06}.png" for n in range(1, 41)])
    for level, reach in {"easy": 1, "medium": 2, "hard": 4, "extreme": 8}.items():
        middles = [9 + 2 * n for n in range(triplets)]
        lines = [
            " ".join(f"data/SNU-FILM/test/{clip}/{m + d:06}.png" for d in (-reach, 0, reach))
            for m in middles
        ]
        (root / f"test-{level}.txt").write_text("\n".join(lines) + "\n")
    return root


def atd(root: Path, folder: str, names: Sequence[str], suffix: str = ".png") -> Path:
    for seed, name in enumerate(names):
        frames(root / folder / name, [f"frame{n}{suffix}" for n in (1, 2, 3)], seed)
    return root


def davis(root: Path, clips: dict[str, Sequence[str]], count: int = 7) -> Path:
    """``clips``: names by split."""
    for split, names in clips.items():
        index = root / "ImageSets" / "2017" / f"{split}.txt"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text("\n".join(names) + "\n")
        for seed, name in enumerate(names):
            frames(root / "JPEGImages" / "480p" / name, [f"{n:05}.jpg" for n in range(count)], seed)
    return root
