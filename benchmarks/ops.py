"""Time the native operators against their references, side by side in one run.

    python benchmarks/ops.py [--height 720 --width 1280] [--threads N | --cpu-time] [--out FILE]

Each pair is timed in turns (native, reference, native, …), so that what else the machine does
meets both, and the best of the turns counts. ``bytes`` is what a pass must at least read and
write (pictures and flow once), and GB/s what that makes; ``copy`` is how fast this run copied a
large tensor, read plus write, which is what a warp could reach if it were nothing but memory.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli import memory
from vfi_cli.native import motion_ops, ops
from vfi_cli.native.motion_reference import grid_to_tiles

# On a machine that others use too, the processor time of one thread says more than the clock.
clock: Callable[[], float] = time.perf_counter


def seconds(functions: list[Callable[[], object]], turns: int) -> list[float]:
    best = [float("inf")] * len(functions)
    for turn in range(turns + 1):
        for i, function in enumerate(functions):
            _wait()
            start = clock()
            function()
            _wait()
            if turn > 0:  # the first warms up
                best[i] = min(best[i], clock() - start)
    return best


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def smooth_flow(height: int, width: int, pixels: float = 10.0) -> Tensor:
    """Motion as in video: it varies over some hundred pixels."""
    coarse = torch.randn(1, 2, height // 48 + 2, width // 48 + 2) * pixels
    return F.interpolate(coarse, size=(height, width), mode="bicubic")


def referenced(call: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        with ops.use_reference():
            return call()

    return run


def gradients(call: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    leaves = [x.detach().requires_grad_() for x in inputs]

    def run() -> object:
        return torch.autograd.grad(call(*leaves).sum(), leaves)

    return run


def copy_speed(device: str) -> float:
    source = torch.empty(64 << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds([lambda: target.copy_(source)], 5)[0] / 1e9


def cases(height: int, width: int, device: str) -> list[tuple[str, Callable[[], object], int]]:
    rows: list[tuple[str, Callable[[], object], int]] = []
    flow = smooth_flow(height, width).to(device)
    flow_last = flow.contiguous(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        for channels in (3, 16):
            picture = torch.rand(1, channels, height, width, device=device).to(dtype)
            last = picture.contiguous(memory_format=torch.channels_last)
            size = 2 * picture.nbytes + flow.nbytes
            rows += [
                (
                    f"backwarp, {channels} channels, {name}, planar",
                    lambda p=picture: ops.backwarp(p, flow),
                    size,
                ),
                (
                    f"backwarp, {channels} channels, {name}, channels-last",
                    lambda p=last: ops.backwarp(p, flow_last),
                    size,
                ),
            ]
    picture = torch.rand(1, 3, height, width, device=device)
    rows.append(
        (
            "backwarp, 3 channels, float32, forward and backward",
            gradients(ops.backwarp, (picture, flow)),
            0,
        )
    )
    for mode in ("gaussian", "bilinear"):
        rows.append(
            (
                f"splat {mode}, 2 channels, float32",
                lambda m=mode: ops.splat(flow, flow, mode=m),
                (2 + 2 + 2 + 1) * height * width * 4,
            )
        )
    rows.append(
        (
            "splat gaussian, 2 channels, float32, forward and backward",
            gradients(lambda x, f: ops.splat(x, f)[0] + ops.splat(x, f)[1], (flow, flow)),
            0,
        )
    )
    for divisor, channels in ((8, 64), (16, 96)):
        a, b = (
            torch.randn(1, channels, height // divisor, width // divisor, device=device)
            for _ in range(2)
        )
        rows.append(
            (
                f"correlation ±4, {channels} channels, 1/{divisor} size, float32",
                lambda a=a, b=b: ops.correlation(a, b, 4),
                2 * a.nbytes + 81 * a.nbytes // channels,
            )
        )
    return rows


def fused_cases(height: int, width: int) -> list[tuple[str, Callable[[], object], int]]:
    """The operators of inference as the default model meets them, in bfloat16 on the CPU."""
    height, width = (-(-n // 64) * 64 for n in (height, width))

    def last(x: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        return x.to(dtype).contiguous(memory_format=torch.channels_last)

    def grid(scale: int, channels: int) -> Tensor:
        coarse = torch.randn(1, channels, height // 64, width // 64)
        return F.interpolate(coarse, (height // scale, width // scale), mode="bilinear")

    steps = motion_ops.Steps(4, sum_masks=False)
    for scale in (16, 8, 4, 2):
        steps = steps.plus(last(grid_to_tiles(grid(scale, 13), 4)), scale)
    all_steps = steps.plus(last(grid_to_tiles(grid(1, 5), 4)), 1)
    sides = [last(torch.rand(1, 8, height, width)) for _ in range(2)]
    frames = [last(torch.rand(1, 4, height, width), torch.float32) for _ in range(2)]
    time = torch.full((1, 1, 1, 1), 0.5)
    picture, share = torch.rand(1, 3, height, width), torch.rand(1, 1, height // 8, width // 8)
    features = last(grid_to_tiles(torch.randn(1, 4, height, width), 2))
    half = last(torch.randn(1, 16, height // 2, width // 2))
    flow = motion_ops.motion_flow(all_steps, 1)[..., ::2, ::2].contiguous()
    slopes = torch.rand(24)
    body = last(torch.randn(1, 24, height // 4, width // 4))
    tiles = last(grid_to_tiles(torch.randn(1, 24, height // 2, width // 2), 2))
    pixels = height * width

    def read_in_bands() -> None:
        for start in range(0, height, 64):
            motion_ops.motion_input(
                *sides, steps, time, 1, carried=8, rows=range(start, start + 64)
            )

    return [
        ("motion_input at full size, in bands", read_in_bands, (16 + 16 + 64) * pixels),
        (
            "motion_input at 1/4",
            lambda: motion_ops.motion_input(
                *sides, motion_ops.Steps(4, False, steps.tiles[:2], (16, 8)), time, 4, carried=8
            ),
            0,
        ),
        (
            "motion_blend with disagreement",
            lambda: motion_ops.motion_blend(*frames, all_steps, disagreement=True),
            (16 + 16 + 12) * pixels,
        ),
        (
            "fade_still",
            lambda: motion_ops.fade_still_(picture, picture, picture, time, share),
            4 * 12 * pixels,
        ),
        (
            "pack_picture with features",
            lambda: motion_ops.pack_picture(
                picture, features=features, channels=8, dtype=torch.bfloat16
            ),
            (12 + 8 + 16) * pixels,
        ),
        (
            "activate, 24 channels at 1/4",
            lambda: motion_ops.activate_(body, slopes, before=body),
            3 * body.nbytes,
        ),
        (
            "untile, 24 channels at 1/2",
            lambda: motion_ops.untile(tiles, slopes),
            2 * tiles.nbytes,
        ),
        (
            "warp_concat, 3 × 16 channels at 1/2",
            lambda: motion_ops.warp_concat(half, half, half, flow),
            6 * half.nbytes + flow.nbytes,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time of one thread, for busy machines"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not ops.available(options.device):
        raise SystemExit(f"no native operators: {ops.build_info()['reason']}")
    if options.cpu_time:
        global clock
        clock, options.threads = time.process_time, 1
    torch.set_num_threads(options.threads)
    memory.keep_freed()  # as the command line does
    torch.manual_seed(0)
    info = ops.build_info()
    lines = [
        f"# Operators at {options.width}×{options.height}, native against reference",
        "",
        f"One run of `benchmarks/ops.py`: torch {torch.__version__}, {options.device}, "
        f"{options.threads} thread(s) of {platform.machine()}, {info['kernels']} kernels, "
        f"{'processor' if options.cpu_time else 'wall-clock'} time, best of {options.turns} turns. "
        f"Copying: {copy_speed(options.device):.1f} GB/s.",
        "",
        "| operator | native | reference | ratio | native, at least |",
        "|---|---:|---:|---:|---:|",
    ]
    print("\n".join(lines))
    rows = cases(options.height, options.width, options.device)
    if options.device == "cpu":
        rows += fused_cases(options.height, options.width)
    for name, call, size in rows:
        with torch.set_grad_enabled("backward" in name):
            native, reference = seconds([call, referenced(call)], options.turns)
        speed = f"{size / native / 1e9:.1f} GB/s" if size else ""
        lines.append(
            f"| {name} | {native * 1e3:.1f} ms | {reference * 1e3:.1f} ms "
            f"| {reference / native:.1f} | {speed} |"
        )
        print(lines[-1])
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
