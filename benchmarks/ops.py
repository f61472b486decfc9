"""Time the native operators against their twins in plain torch, and against the memory.

    python benchmarks/ops.py [--height 720 --width 1280] [--threads N | --cpu-time] [--out FILE]

Each pair is timed in turns (native, twin, native, …), so that what else the machine does meets
both, and the best of the turns counts. What an operator must move at least is its inputs read
once and its results written once; that in the time it took is its rate, which is compared with the
rate at which this run copied an array far larger than the caches, read plus write. An operator
whose tensors stay in the caches may be above 100 %.
"""

from __future__ import annotations

import argparse
import functools
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli import memory
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.color import codings
from vfi_cli.native import int8_ops, motion_ops, ops, plane_ops
from vfi_cli.native.motion_reference import grid_to_tiles

#: What every operator should reach: so many times its twin, or this part of the copying rate.
TIMES_TWIN, OF_BANDWIDTH = 3.0, 0.7
#: Bytes of the arrays that are read and copied for the bandwidth.
FAR_LARGER_THAN_CACHES = 512 << 20

# On a machine that others use too, the processor time of one thread says more than the clock.
clock: Callable[[], float] = time.perf_counter


@dataclass(frozen=True)
class Case:
    """``moves``: bytes that the operator must read and write at least."""

    name: str
    call: Callable[[], object]
    moves: int


def case(name: str, call: Callable[[], object], *read: Tensor, written: int | None = None) -> Case:
    """A case that reads these tensors, and writes what it returns or so many bytes."""
    if written is None:
        written = sum(tensor.nbytes for tensor in _tensors(call()))
    return Case(name, call, sum(tensor.nbytes for tensor in read) + written)


def _tensors(value: object) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    assert isinstance(value, tuple | list)
    return value


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


def bandwidth(device: str) -> tuple[float, float]:
    """Bytes a second of copying, read plus write, and of reading."""
    source = torch.ones(FAR_LARGER_THAN_CACHES // 4, device=device)
    target = torch.empty_like(source)
    copying, reading = seconds([lambda: target.copy_(source), source.sum], 5)
    return 2 * source.nbytes / copying, source.nbytes / reading


def cases(height: int, width: int, device: str) -> list[Case]:
    """The operators of training and of plain networks."""
    rows: list[Case] = []
    flow = smooth_flow(height, width).to(device)
    flow_last = flow.contiguous(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16):
        for channels in (3, 16):
            picture = torch.rand(1, channels, height, width, device=device).to(dtype)
            last = picture.contiguous(memory_format=torch.channels_last)
            what = f"backwarp, {channels} channels, {str(dtype).removeprefix('torch.')}"
            rows += [
                case(f"{what}, planar", lambda p=picture: ops.backwarp(p, flow), picture, flow),
                case(
                    f"{what}, channels-last", lambda p=last: ops.backwarp(p, flow_last), last, flow
                ),
            ]
    picture = torch.rand(1, 3, height, width, device=device)
    rows.append(
        case(
            "backwarp, 3 channels, float32, forward and backward",
            gradients(ops.backwarp, (picture, flow)),
            *(picture, flow) * 2,  # there and back
            picture,  # the gradient of the result
            written=2 * picture.nbytes + flow.nbytes,
        )
    )
    for mode in ("gaussian", "bilinear"):
        rows.append(
            case(
                f"splat {mode}, 2 channels, float32",
                lambda m=mode: ops.splat(flow, flow, mode=m),
                flow,
                flow,
            )
        )
    rows.append(
        case(
            "splat gaussian, 2 channels, float32, forward and backward",
            gradients(lambda x, f: sum(ops.splat(x, f)), (flow, flow)),
            *(flow, flow) * 2,
            flow,
            flow[:, :1],
            written=(3 * flow.nbytes) + flow[:, :1].nbytes,
        )
    )
    for divisor, channels in ((8, 64), (16, 96)):
        a, b = (
            torch.randn(1, channels, height // divisor, width // divisor, device=device)
            for _ in range(2)
        )
        rows.append(
            case(
                f"correlation ±4, {channels} channels, 1/{divisor} size, float32",
                lambda a=a, b=b: ops.correlation(a, b, 4),
                a,
                b,
            )
        )
    return rows


def fused_cases(height: int, width: int) -> list[Case]:
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
    first_steps = motion_ops.Steps(4, False, steps.tiles[:2], steps.scales[:2])
    all_steps = steps.plus(last(grid_to_tiles(grid(1, 5), 4)), 1)
    sides = [last(torch.rand(1, 8, height, width)) for _ in range(2)]
    frames = [last(torch.rand(1, 4, height, width), torch.float32) for _ in range(2)]
    time = torch.full((1, 1, 1, 1), 0.5)
    picture, share = torch.rand(1, 3, height, width), torch.rand(1, 1, height // 8, width // 8)
    features = last(grid_to_tiles(torch.randn(1, 4, height, width), 2))
    half = last(torch.randn(1, 16, height // 2, width // 2))
    flow = motion_ops.motion_flow(all_steps, 1)[..., ::2, ::2].contiguous()
    slopes = torch.rand(24)
    body, before = (last(torch.randn(1, 24, height // 4, width // 4)) for _ in range(2))
    tiles = last(grid_to_tiles(torch.randn(1, 24, height // 2, width // 2), 2))
    stills = [torch.rand(1, 3, height, width) for _ in range(2)]

    def read_in_bands() -> None:
        for start in range(0, height, 64):
            motion_ops.motion_input(
                *sides, steps, time, 1, carried=8, rows=range(start, start + 64)
            )

    # Reduced to a quarter, two of four pixels along each axis are read.
    quarters = [side[..., ::2, ::2] for side in sides]
    return [
        case(
            "motion_input at full size, in bands",
            read_in_bands,
            *(*sides, *steps.tiles),
            written=motion_ops.input_channels(8, 8, False) * height * width * 2,
        ),
        case(
            "motion_input at 1/4",
            lambda: motion_ops.motion_input(*sides, first_steps, time, 4, carried=8),
            *(*quarters, *first_steps.tiles),
        ),
        case(
            "motion_blend with disagreement",
            lambda: motion_ops.motion_blend(*frames, all_steps, disagreement=True),
            *(*frames, *all_steps.tiles),
        ),
        case(
            "fade_still",
            lambda: motion_ops.fade_still_(picture, *stills, time, share),
            *(picture, *stills, share),
        ),
        case(
            "pack_picture with features",
            lambda: motion_ops.pack_picture(
                picture, features=features, channels=8, dtype=torch.bfloat16
            ),
            picture,
            features,
        ),
        case(
            "pack_picture, float32",
            lambda: motion_ops.pack_picture(picture, channels=4, dtype=torch.float32),
            picture,
        ),
        case(
            "activate, 24 channels at 1/4",
            lambda: motion_ops.activate_(body, slopes, before=before),
            body,
            before,
        ),
        case("untile, 24 channels at 1/2", lambda: motion_ops.untile(tiles, slopes), tiles),
        case(
            "warp_concat, 3 × 16 channels at 1/2",
            lambda: motion_ops.warp_concat(half, half, half, flow),
            *(half, half, half, flow),
        ),
    ]


def int8_cases(height: int, width: int) -> list[Case]:
    """Convolutions of the default model, as it runs on a CPU with AVX-512 VNNI; their twin adds up
    in float64, where sums are as exact."""
    if int8_ops.kernels() is None:
        return []
    made = []
    for channels, scale in ((24, 4), (96, 16)):
        size = (1, channels, height // scale, width // scale)
        x = torch.randn(size).bfloat16().contiguous(memory_format=torch.channels_last)
        packed = int8_ops.pack(torch.randn(channels, channels, 3, 3), torch.randn(channels), 0.2)
        seen = [int8_ops.Input(x, int8_ops.int8_peak(x))]
        made.append(
            case(
                f"conv_int8, 3 × 3 of {channels} channels at 1/{scale}",
                functools.partial(int8_ops.conv_int8, seen, packed, before=x),
                *(x, *packed.weights),
            )
        )
        if channels == 24:
            peak = functools.partial(int8_ops.int8_peak, x)
            made.append(case("int8_peak, 24 channels at 1/4", peak, x))
    return made


def plane_cases(height: int, width: int) -> list[Case]:
    """Between the planes of 8-bit 4:2:0, as nearly all video has it, and pictures."""
    layout = PlaneLayout("yuv", 8, 1, 1)
    shapes = [layout.plane_shape(n, width, height) for n in range(3)]
    sides = [
        tuple(torch.randint(16, 236, shape, dtype=torch.uint8) for shape in shapes)
        for _ in range(2)
    ]
    frame = Frame(sides[0], width, height, layout, ColorSpec(), 0, Fraction(1, 25))
    coding = codings(frame)[0]
    picture = torch.empty(3, height, width)
    return [
        case(
            "decode_planes, 4:2:0",
            lambda: plane_ops.decode_planes(sides[0], coding, picture),
            *sides[0],
        ),
        case("encode_planes, 4:2:0", lambda: plane_ops.encode_planes(picture, coding), picture),
        case(
            "encode_planes between two frames, 4:2:0",
            lambda: plane_ops.encode_planes(picture, coding, between=(sides[0], sides[1])),
            *(picture, *sides[0], *sides[1]),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument(
        "--cpu-time", action="store_true", help="processor time of one thread, for busy machines"
    )
    parser.add_argument("--only", metavar="WORD", default="", help="the operators named like this")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not ops.available(options.device):
        raise SystemExit(f"no native operators: {ops.build_info()['reason']}")
    if options.cpu_time:
        global clock
        clock, options.threads = time.process_time, 1
    torch.set_num_threads(options.threads)
    memory.prepare()  # as the command line does
    torch.manual_seed(0)
    info = ops.build_info()
    copying, reading = bandwidth(options.device)
    lines = [
        f"# Operators at {options.width}×{options.height}, native against plain torch",
        "",
        f"One run of `benchmarks/ops.py`: torch {torch.__version__}, {options.device}, "
        f"{options.threads} thread(s) of {platform.machine()}, {info['kernels']} kernels, "
        f"{'processor' if options.cpu_time else 'wall-clock'} time, best of {options.turns} turns. "
        f"Memory: {copying / 1e9:.1f} GB/s copying (read plus write), {reading / 1e9:.1f} GB/s "
        f"reading, arrays of {FAR_LARGER_THAN_CACHES >> 20} MiB. Bytes: inputs once plus results "
        "once; more than 100 % of copying means that they stayed in the caches.",
        "",
        "| operator | native | plain torch | × twin | moves at least | rate | of copying |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines))
    rows = cases(options.height, options.width, options.device)
    if options.device == "cpu":
        rows += fused_cases(options.height, options.width)
        rows += int8_cases(options.height, options.width)
        rows += plane_cases(options.height, options.width)
    behind = []
    for row in rows:
        if options.only not in row.name:
            continue
        with torch.set_grad_enabled("backward" in row.name):
            native, twin = seconds([row.call, referenced(row.call)], options.turns)
        rate = row.moves / native
        if twin / native < TIMES_TWIN and rate / copying < OF_BANDWIDTH:
            behind.append(row.name)
        lines.append(
            f"| {row.name} | {native * 1e3:.1f} ms | {twin * 1e3:.1f} ms | {twin / native:.1f} "
            f"| {row.moves / 1e6:.1f} MB | {rate / 1e9:.1f} GB/s | {rate / copying:.0%} |"
        )
        print(lines[-1])
    lines += [
        "",
        f"Neither {TIMES_TWIN:g} times its twin nor {OF_BANDWIDTH:.0%} of copying: "
        + ("; ".join(behind) if behind else "none")
        + ".",
    ]
    print(*lines[-2:], sep="\n")
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
