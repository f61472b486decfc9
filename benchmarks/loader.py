"""What training samples cost the loader, and what a training step costs.

    python benchmarks/loader.py DATA [-o benchmarks/results/loader.md]

DATA holds ``train/`` with videos and ``stills/`` with pictures. Two of the clips are decoded,
fifty scenes rendered, and out of the clips a Vimeo90K and an ATD-12K of 40 triplets (448 × 256;
PNG and JPEG) and a GoPro of 20 frames (1280 × 720; PNG) are written. Samples are crops of
256 × 256 in batches of 8, augmented, as float32. All times are processor time of one core, so that
what else the machine does changes little; files are in the system's file cache when they are read.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vfi_cli.training.cache import cache_clip, cache_scenes
from vfi_cli.training.clips import Clips, Windows
from vfi_cli.training.config import read_config
from vfi_cli.training.data import Batch, draw_batch
from vfi_cli.training.loader import load
from vfi_cli.training.loop import Trainer
from vfi_cli.training.pool import Pool
from vfi_cli.training.published import open_set

CROP, BATCH = 256, 8
BATCHES = 10  # for each measurement
#: Samples a second that a GPU may take: what the number of processes is worked out for.
RATES = (50, 200, 800)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(report(arguments.data, Path(folder), cores))
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


def report(data: Path, folder: Path, cores: int) -> Iterator[str]:
    clips, pool, made = prepare(data, folder)
    drawn = sources(clips, pool, folder)
    size = sample_bytes(next(iter(drawn.values()))(0)) / 1e6
    yield "# The loader"
    yield from ("", *(__doc__ or "").strip().splitlines()[4:], "")
    yield (
        f"Decoding a clip takes {made['decoding']:.0f} ms a frame, with the search for cuts and "
        f"repeats, and rendering a scene of 224 × 224 {made['rendering']:.0f} ms; both are done "
        "once."
    )
    yield ""
    yield (
        "| source | ms a sample | samples a second | MB a second | "
        + " | ".join(f"processes for {wanted} a second" for wanted in RATES)
        + " |"
    )
    yield "|---" * (4 + len(RATES)) + "|"
    for name, draw in drawn.items():
        cost = cost_of_drawing(draw)
        needed = " | ".join(str(math.ceil(wanted * cost)) for wanted in RATES)
        yield (f"| {name} | {1e3 * cost:.1f} | {1 / cost:.0f} | {size / cost:.0f} | {needed} |")
    yield ""
    taking = cost_of_taking(drawn["rendered scenes"])
    yield (
        f"The trainer's own process spends {1e3 * taking:.2f} ms on a sample that another process "
        f"drew ({1 / taking:.0f} samples a second)."
    )
    yield ""
    yield from steps(clips, pool, folder, cores)


def prepare(data: Path, folder: Path) -> tuple[list[Path], Pool, dict[str, float]]:
    """Decoded clips, rendered scenes, and what each cost in milliseconds."""
    videos = sorted((data / "train").glob("*/*.mp4"), key=lambda path: path.stat().st_size)[-8:-6]
    began = time.process_time()
    clips = [cache_clip(video, folder / "cache", most=60) for video in videos]
    decoded = time.process_time() - began
    frames = sum(len(np.load(clip, mmap_mode="r")) for clip in clips)
    began = time.process_time()
    options = {"count": 50, "size": 224, "motion": (2.0, 8.0, 24.0, 56.0, 128.0), "seed": 0}
    stills = sorted((data / "stills").iterdir())[:1]
    scenes = cache_scenes(stills, [], folder / "cache", **options, blurred=0.05)
    rendered = time.process_time() - began
    return clips, Pool(scenes), {"decoding": 1e3 * decoded / frames, "rendering": 20 * rendered}


def sources(clips: list[Path], pool: Pool, folder: Path) -> dict[str, Callable[[int], Batch]]:
    """What draws a batch of each kind, by its number."""
    write_sets(clips, folder)
    found: dict[str, Callable[[int], Batch]] = {
        "decoded clips": partial(draw, Clips(clips, CROP, CROP), None),
        "rendered scenes": partial(draw, None, pool),
    }
    for layout, gaps in (("vimeo-triplet", ()), ("atd-12k", ()), ("gopro", (3,))):
        for name, gigabytes in (("files", 0.0), ("kept", 10.0)):
            windows = open_set(
                *(layout, folder / layout, folder / f"kept {layout}", CROP, CROP),
                gigabytes=gigabytes,
                gaps=gaps,
            )
            found[f"{layout}, {name}"] = partial(draw, windows, None)
    return found


def write_sets(clips: list[Path], folder: Path) -> None:
    """The published layouts, with the clips' frames in them."""
    arrays = [np.load(clip, mmap_mode="r") for clip in clips]
    home = folder / "vimeo-triplet"
    names = [f"00001/{number:04}" for number in range(40)]
    for number, name in enumerate(names):
        array = arrays[number % len(arrays)]
        for k in range(3):
            picture = array[(number + k) % len(array)]
            write(picture, (448, 256), home / "sequences" / name / f"im{k + 1}.png")
            write(
                *(picture, (448, 256)),
                folder / "atd-12k" / "train_10k" / f"{number:04}" / f"frame{k + 1}.jpg",
            )
    (home / "tri_trainlist.txt").write_text("\n".join(names))
    for k in range(20):
        place = folder / "gopro" / "train" / "GOPR0372_07_00" / f"{k:06}.png"
        write(arrays[0][k], (1280, 720), place)


def write(picture: np.ndarray, size: tuple[int, int], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).resize(size).save(path, quality=95)


def draw(windows: Windows | None, pool: Pool | None, number: int) -> Batch:
    return draw_batch(
        *(0, number),
        clips=windows,
        pool=pool,
        synthetic=0.0 if windows else 1.0,
        batch=BATCH,
        height=CROP,
        width=CROP,
    )


def cost_of_drawing(draw: Callable[[int], Batch]) -> float:
    """Seconds a sample."""
    for number in range(24):  # what is kept once it was used is kept then
        draw(number)
    began = time.process_time()
    for number in range(BATCHES):
        draw(number)
    return (time.process_time() - began) / (BATCHES * BATCH)


def cost_of_taking(draw: Callable[[int], Batch]) -> float:
    """Seconds a sample of this process's time where another one draws."""
    batches = load(draw, range(4 + BATCHES), workers=1)
    for _ in range(4):
        next(batches)
    began = time.process_time()
    for _ in batches:
        pass
    return (time.process_time() - began) / (BATCHES * BATCH)


def sample_bytes(batch: Batch) -> float:
    tensors = [value for value in vars(batch).values() if value is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / BATCH


def steps(clips: list[Path], pool: Pool, folder: Path, cores: int) -> Iterator[str]:
    """What a step of the shipped configuration costs on this machine, and its data."""
    config = read_config(
        Path("vfi-lite"),
        [f'data.clips=["{folder}"]', f'data.textures=["{folder}"]', f"run.out={folder / 'run'}"],
    )
    phase = config.phases[-1]
    width = phase.crop_width or phase.crop
    windows = Clips(clips, min(phase.crop, 320), width)
    trainer = Trainer(config, clips=windows, pool=pool)
    preparing, training = [], []
    for number in range(3):
        began = time.process_time()
        batches, _ = trainer.sampler(((number,), phase))
        drawn = time.process_time()
        trainer.train_step(batches, phase)
        preparing.append(drawn - began)
        training.append(time.process_time() - drawn)
    step, data = statistics.median(training[1:]), statistics.median(preparing[1:])
    yield (
        f"A step of the shipped vfi-lite's last phase ({phase.batch} samples of {width} × "
        f"{phase.crop}) takes {step:.1f} s, its samples {data:.2f} s, {100 * data / step:.1f} % of "
        f"that: on {cores} cores {cores * phase.batch / step:.1f} samples a second at best, for "
        "which a thread of the trainer is enough."
    )


if __name__ == "__main__":
    main()
