"""How the work is made to fit into memory: how many frames at once, whole or in tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch

from vfi_cli import memory
from vfi_cli.models import Interpolator
from vfi_cli.models.devices import held_dtype
from vfi_cli.native import motion_ops
from vfi_cli.tiles import largest_side

#: What ``--tile`` takes: tiles of so many pixels, ``auto`` where the memory would not do, ``off``.
TileChoice = int | Literal["auto", "off"]

#: Bytes that a network needs for each pixel of one new frame, by architecture: how much more
#: memory ``vfi bench models`` finds at 1280×768 than at 640×384 in bfloat16, on a CPU with plain
#: operators, and a tenth more. ``benchmarks/memory.py --models`` measures them anew.
BYTES_PER_PIXEL: dict[str, int] = {
    "blend": 100,
    "nearest": 100,
    "rife": 500,
    "rifem": 600,
    "rife-2r": 1600,
    "vfi-lite": 700,
    "rife-v4.0": 350,
    "rife-v4.2": 400,
    "rife-v4.5": 350,
    "rife-v4.6": 350,
    "rife-v4.7": 550,
    "rife-v4.10": 800,
    "rife-v4.12.lite": 650,
    "rife-v4.13": 700,
    "rife-v4.14.lite": 750,
    "rife-v4.15.lite": 550,
    "rife-v4.20": 750,
    "rife-v4.21": 800,
    "rife-v4.22.lite": 700,
    "rife-v4.25.lite": 600,
    "rife-v4.25.heavy": 800,
    "rife-v4.26.heavy": 1050,
    "rife-v4.25": 750,
    "ifrnet": 750,
    "ifrnet-s": 600,
    "ifrnet-l": 1200,
    "ifrnet-gelu": 650,
    "ifrnet-gelu-bn": 750,
    "rrin": 1000,
    "scopeflow": 950,
}
#: The same where the fused kernels for the CPU are there: what was measured, and a quarter more.
FUSED_BYTES_PER_PIXEL: dict[str, int] = {
    "vfi-lite": 225,
    "rife": 450,
    "rifem": 530,
    "rife-v4.0": 205,
    "rife-v4.2": 205,
    "rife-v4.5": 245,
    "rife-v4.6": 245,
    "rife-v4.7": 255,
    "rife-v4.10": 345,
    "rife-v4.12.lite": 285,
    "rife-v4.13": 385,
    "rife-v4.14.lite": 320,
    "rife-v4.15.lite": 235,
    "rife-v4.20": 315,
    "rife-v4.21": 370,
    "rife-v4.22.lite": 195,
    "rife-v4.25.heavy": 270,
    "rife-v4.26.heavy": 365,
    "ifrnet": 610,
    "ifrnet-s": 480,
    "ifrnet-gelu-bn": 555,
    "rrin": 1525,
}
#: How much more the ensemble within a network takes than one look with plain operators, which it
#: always runs with: each block then looks twice, and keeps what it found first. Measured on RIFE
#: 4.0, 4.6, 4.7, 4.10 and 4.15.lite: 0.9 to 1.3 of what one look takes.
ENSEMBLE = 1.35
#: How much more a network takes in float32 than in bfloat16, in which it was measured: 1.6 times
#: for vfi-lite, 1.7 for the default.
WIDE = 1.75
#: For an architecture that is not among them.
UNKNOWN_BYTES_PER_PIXEL = 1600
#: Bytes for each pixel of a frame of the window, and of the new one, outside of the network: R'G'B'
#: in float32, and as much for room to spare and for code values.
FRAME_BYTES_PER_PIXEL = 24
#: The part of the free memory that is counted on. The rest is for decoder, encoder and others.
SHARE = 0.75
#: Frames of one pair that are made at once on a GPU; the number is not measured yet. On a CPU a
#: single frame keeps all cores busy.
GPU_BATCH = 4
#: Frames of so many pixels at most are small to a GPU: those of several pairs are made at once,
#: though what is known of a frame that two of them share is then computed twice. Not measured yet.
SMALL_PIXELS = 1280 * 720
#: No tiles are made smaller than this for want of memory: most of them would be overlap.
LEAST_SIDE = 256


@dataclass(frozen=True, slots=True)
class Fit:
    """``tile``: longest side of the parts that frames are made in, pixels; None: whole.
    ``batch``: how many frames are made at once."""

    tile: int | None = None
    batch: int = 1

    def __str__(self) -> str:
        if self.tile is not None:
            return f"tiles of {self.tile} pixels"
        return "whole frames" if self.batch == 1 else f"whole frames, {self.batch} at once"


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of a model, as far as memory depends on it."""

    width: int  # pixels
    height: int
    scale: float = 1.0
    views: int = 1  # of test-time ensembles, the plain one included
    ensemble: bool = False  # within the network


def footprint(interpolator: Interpolator, demand: Demand, fit: Fit) -> int:
    """About how many bytes making new frames takes, beside the weights."""
    width, height = demand.width, demand.height
    frames = (interpolator.frames_seen + fit.batch) * FRAME_BYTES_PER_PIXEL
    total = width * height * frames
    if fit.tile is not None:
        width, height = min(width, fit.tile), min(height, fit.tile)
    multiple = interpolator.multiple(demand.scale)
    padded = -(-width // multiple) * -(-height // multiple) * multiple**2
    each = bytes_per_pixel(interpolator, ensemble=demand.ensemble)
    # What is kept of the frames for each view is little beside what all pass through in turn.
    kept = 1 + 0.1 * (demand.views - 1)
    return total + round(padded * each * fit.batch * max(1.0, demand.scale) ** 2 * kept)


def bytes_per_pixel(interpolator: Interpolator, *, ensemble: bool = False) -> int:
    """What the network needs for each pixel of a new frame."""
    name = interpolator.architecture
    each = BYTES_PER_PIXEL.get(name, UNKNOWN_BYTES_PER_PIXEL)
    if interpolator.device.type == "cpu" and motion_ops.available() and not ensemble:
        each = FUSED_BYTES_PER_PIXEL.get(name, each)
    wide = held_dtype(interpolator.dtype) == torch.float32
    gain = WIDE if wide and torch.bfloat16 in interpolator.safe_dtypes else 1.0
    return round(each * gain * (ENSEMBLE if ensemble else 1.0))


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on the device; None where nobody tells."""
    if device.type != "cuda":
        return memory.available()
    free, _ = torch.cuda.mem_get_info(device)
    # Torch keeps what it has freed, and gives it out again.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def most_at_once(interpolator: Interpolator) -> int:
    """Frames of one pair that are best made at once, if the memory is there."""
    return GPU_BATCH if interpolator.device.type == "cuda" else 1


def are_small(width: int, height: int) -> bool:
    """Whether frames of several pairs are best made at once, where frames of one pair are."""
    return width * height <= SMALL_PIXELS


def choose(interpolator: Interpolator, demand: Demand, tile: TileChoice = "auto") -> Fit:
    """The fastest way that should fit into what is free now; with ``tile`` as asked."""
    batch = most_at_once(interpolator)
    if isinstance(tile, int):
        whole = max(demand.width, demand.height) <= tile
        return Fit(None, batch) if whole else Fit(tile)
    free = free_memory(interpolator.device)
    if tile == "off" or free is None:
        return Fit(None, batch)

    def fits(fit: Fit) -> bool:
        return footprint(interpolator, demand, fit) <= free * SHARE

    for count in range(batch, 0, -1):
        if fits(Fit(None, count)):
            return Fit(None, count)
    multiple = interpolator.multiple(demand.scale)
    side = largest_side(lambda side: fits(Fit(side)), demand.height, demand.width, multiple)
    least = _least(interpolator, demand)
    if least >= max(demand.width, demand.height):
        return Fit()  # too small a picture for tiles to save anything
    return Fit(max(side or 0, least))


def smaller(interpolator: Interpolator, demand: Demand, fit: Fit) -> Fit | None:
    """The next way to try where this one took too much memory; None: there is none."""
    if fit.batch > 1:
        return replace(fit, batch=1)
    multiple = interpolator.multiple(demand.scale)
    side = fit.tile or max(demand.width, demand.height)
    least = _least(interpolator, demand)
    if side <= least:
        return None
    return Fit(max(least, side * 2 // 3 // multiple * multiple))


def _least(interpolator: Interpolator, demand: Demand) -> int:
    return max(LEAST_SIDE, interpolator.least_tile(demand.scale))
