"""How well frames are rebuilt: every second frame of a clip is left out, made anew and compared.

    python benchmarks/quality.py FOLDER [--models default blend nearest minterpolate] [--frames 60]

prints a table in Markdown: for each clip the mean over its rebuilt frames of the PSNR of 8-bit
RGB, then the mean over clips. Frames are rounded to 8 bit as they would be written.
``minterpolate`` is ffmpeg's filter (mi_mode=mci, mc_mode=aobmc, me_mode=bidir, vsbmc=1), run
through PyAV on the kept frames alone. What is wider than 1280 pixels is reduced to that.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from vfi_cli.models import load_model

WIDEST = 1280
Rebuild = Callable[[list[np.ndarray], int], list[list[np.ndarray]]]


def read(path: Path, most: int) -> list[np.ndarray]:
    """The first ``most`` frames as (H, W, 3) uint8 RGB."""
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            width, height = frame.width, frame.height
            if width > WIDEST:
                width, height = WIDEST, round(height * WIDEST / width / 2) * 2
            picture = frame.reformat(width, height, format="rgb24", interpolation="AREA")
            frames.append(picture.to_ndarray())
            if len(frames) == most:
                break
    return frames


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """In dB; equal pictures count as 100 dB, so that a mean over frames exists."""
    error = np.square(a.astype(np.float32) - b.astype(np.float32)).mean()
    return 100.0 if error == 0 else min(100.0, float(10 * np.log10(255**2 / error)))


def with_model(name: str, device: str, dtype: str) -> Rebuild:
    model = load_model(name, device=device, dtype=dtype)

    def rebuild(kept: list[np.ndarray], factor: int) -> list[list[np.ndarray]]:
        made = []
        for a, b in itertools.pairwise(kept):
            pair = torch.from_numpy(np.stack((a, b))).permute(0, 3, 1, 2)[None].float() / 255
            between = []
            for k in range(1, factor):
                picture = model.interpolate(pair, Fraction(k, factor))[0].cpu()
                picture = (picture * 255).round().clamp(0, 255).byte().permute(1, 2, 0)
                between.append(picture.numpy())
            made.append(between)
        return made

    return rebuild


def with_minterpolate(kept: list[np.ndarray], factor: int) -> list[list[np.ndarray]]:
    """ffmpeg's motion-compensated interpolation of the kept frames."""
    height, width = kept[0].shape[:2]
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=width, height=height, format="yuv444p", time_base=Fraction(1, 10)
    )
    options = f"fps={10 * factor}:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
    filters = graph.add("minterpolate", options)
    sink = graph.add("buffersink")
    source.link_to(filters)
    filters.link_to(sink)
    graph.configure()
    found: dict[Fraction, np.ndarray] = {}

    def collect() -> None:
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            when = frame.pts * frame.time_base
            found[when] = frame.reformat(
                format="rgb24", src_colorspace="ITU709", src_color_range="JPEG"
            ).to_ndarray()

    for index, picture in enumerate([*kept, *kept[-1:] * 3]):  # the filter lags behind its input
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv444p", dst_colorspace="ITU709", dst_color_range="JPEG"
        )
        frame.pts, frame.time_base = index, Fraction(1, 10)
        graph.push(frame)
        collect()
    graph.push(None)
    collect()
    return [
        [found[Fraction(i * factor + k, 10 * factor)] for k in range(1, factor)]
        for i in range(len(kept) - 1)
    ]


def measure(frames: list[np.ndarray], rebuild: Rebuild, factor: int) -> tuple[float, float]:
    """Mean PSNR of the rebuilt frames, and seconds for each of them."""
    begin = time.perf_counter()
    made = rebuild(frames[::factor], factor)
    seconds = time.perf_counter() - begin
    scores = [
        psnr(picture, frames[index * factor + k])
        for index, between in enumerate(made)
        for k, picture in enumerate(between, 1)
    ]
    return float(np.mean(scores)), seconds / len(scores)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--models", nargs="+", default=["default", "blend", "nearest", "minterpolate"]
    )
    parser.add_argument("--frames", type=int, default=61, help="of each clip, from its start")
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    rows: list[tuple[str, list[float]]] = []
    seconds: list[list[float]] = [[] for _ in given.models]
    tools = [
        with_minterpolate if name == "minterpolate" else with_model(name, given.device, given.dtype)
        for name in given.models
    ]
    print(f"| clip, {given.factor}× | " + " | ".join(given.models) + " |")
    print("|---" * (len(given.models) + 1) + "|", flush=True)
    for path in sorted(path for path in given.folder.iterdir() if path.is_file()):
        frames = read(path, given.frames)
        frames = frames[: (len(frames) - 1) // given.factor * given.factor + 1]
        scores = []
        for number, tool in enumerate(tools):
            score, each = measure(frames, tool, given.factor)
            scores.append(score)
            seconds[number].append(each)
        height, width = frames[0].shape[:2]
        label = f"{path.stem} {width}×{height}, {len(frames)} frames"
        rows.append((label, scores))
        print(f"| {label} | " + " | ".join(f"{score:.2f}" for score in scores) + " |", flush=True)
    means = np.mean([scores for _, scores in rows], axis=0)
    print("| **mean PSNR, dB** | " + " | ".join(f"**{mean:.2f}**" for mean in means) + " |")
    print("| seconds a frame | " + " | ".join(f"{np.mean(times):.2f}" for times in seconds) + " |")


if __name__ == "__main__":
    main()
