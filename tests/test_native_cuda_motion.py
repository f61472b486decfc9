"""The fused operators' CUDA kernels: what they compute, how networks come to them and, where there
is a GPU, that both hold on it.

Without a GPU the kernels are compiled as plain C++ (``cuda_on_host_motion.cpp``) and run on the
CPU, the threads of a block taking turns. Their operators are registered with torch then, and the
fused networks can run by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests import test_fused, test_fused_networks
from tests.cudakit import need_gpu, operators_on_host
from tests.fusedkit import (
    WILD,
    check_that_wild_flow_reads_nothing_outside,
    last,
    psnr,
    smooth,
)
from vfi_cli.models import packed
from vfi_cli.models.base import Interpolator
from vfi_cli.models.eqvi import EQVIFusion
from vfi_cli.models.scopeflow import ScopeFlow
from vfi_cli.native import motion_ops, ops
from vfi_cli.native import motion_reference as reference
from vfi_cli.native.motion_ops import Steps
from vfi_cli.native.motion_reference import grid_to_tiles

pytestmark = pytest.mark.usefixtures("one_thread")

needs_extension = pytest.mark.skipif(not ops.available(), reason="the extension is not built")

#: float32: the order of sums, and coordinates that differ by a rounding; others: one more rounding
#: of a value at a tie, relative to the largest values.
TOLERANCE = {torch.float32: 5e-5, torch.bfloat16: 2**-7, torch.float16: 2**-10}
DTYPES = list(TOLERANCE)
NAMES = (
    "motion_input",
    "motion_blend",
    "motion_flow",
    "fade_still_",
    "pack_picture",
    "activate_",
    "untile",
    "warp_concat",
)
HEIGHT, WIDTH = 32, 96
MODELS = {
    **dict.fromkeys(test_fused.NETWORKS, test_fused.model),
    **dict.fromkeys(test_fused_networks.NETWORKS, test_fused_networks.model),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def host_operators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("cuda")
    with operators_on_host("cuda_on_host_motion.cpp", "vfi_on_host", NAMES, folder) as operators:
        yield operators


@pytest.fixture
def host(host_operators: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels run, they are CUDA's."""

    def run(name: str, where: Tensor, *arguments: Any) -> Any:
        source = host_operators if motion_ops.available(where.device) else reference
        return getattr(source, name)(*arguments)

    monkeypatch.setattr(motion_ops, "_run", run)


def make_steps(
    scales: tuple[int, ...],
    *,
    side: int,
    sum_masks: bool,
    channels: int,
    batch: int,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Steps:
    steps = Steps(side, sum_masks)
    for scale in scales:
        grid = torch.randn(batch, channels, size[0] // scale, size[1] // scale)
        steps = steps.plus(last(grid_to_tiles(grid, side)), scale)
    return steps


def moved(value: Any, device: str, dtype: torch.dtype) -> Any:
    """Arguments on a device; what is channels-last among them, as values are, in ``dtype``."""
    if isinstance(value, Steps):
        return replace(value, tiles=tuple(moved(x, device, dtype) for x in value.tiles))
    if not isinstance(value, Tensor):
        return value
    is_value = value.dim() == 4 and value.shape[1] > 1 and value.stride(1) == 1
    return value.to(device, dtype if is_value else None)


def compare(
    operator: Callable[..., Any], *arguments: Any, dtype: torch.dtype, device: str, **options: Any
) -> None:
    """The operator on ``device`` against its reference on the CPU, for the same values."""
    arguments = tuple(moved(x, "cpu", dtype) for x in arguments)
    options = {key: moved(x, "cpu", dtype) for key, x in options.items()}

    def run(device: str) -> tuple[Tensor, ...]:
        copies = [
            moved(x.clone() if isinstance(x, Tensor) else x, device, dtype) for x in arguments
        ]
        made = operator(*copies, **{key: moved(x, device, dtype) for key, x in options.items()})
        return made if isinstance(made, tuple) else (made,)

    got = run(device)
    with ops.use_reference():
        wanted = run("cpu")
    for x, y in zip(got, wanted, strict=True):
        assert (x.shape, x.dtype, x.stride()) == (y.shape, y.dtype, y.stride())
        assert x.device.type == device
        if x.numel():
            limit = TOLERANCE[y.dtype] * max(1.0, float(y.abs().max()))
            assert float((x.cpu().float() - y.float()).abs().max()) <= limit


# -------------------------------------------------------------------------- operators


def check_motion_input(device: str, dtype: torch.dtype) -> None:
    cases: tuple[tuple[tuple[int, ...], int], ...] = (
        ((), 1),
        ((), 16),
        ((16,), 8),
        ((16, 8), 4),
        ((16, 8, 4), 2),
        ((8, 2, 2), 1),
        ((16, 4), 4),
    )
    for number, (scales, scale) in enumerate(cases):
        side, summed = (2, 4)[number % 2], number % 3 == 0
        for channels, batch, sides, carried in ((4, 1, 1, 8), (8, 2, 1, 3), (24, 2, 2, 0)):
            size = (64, 128) if side == 4 else (HEIGHT, WIDTH)
            steps = make_steps(
                scales, side=side, sum_masks=summed, channels=13, batch=batch, size=size
            )
            time = torch.rand(batch, 1, 1, 1)
            if channels == 8:
                time = torch.rand(batch, 1, size[0] // scale, size[1] // scale)
            pictures = [last(smooth(sides, channels, *size)) for _ in "01"]
            options = {"carried": carried, "unwarped": channels == 4}
            for rows in (None, range(-1, 2), range(size[0] // scale - 1, size[0] // scale + 1)):
                compare(
                    motion_ops.motion_input,
                    *pictures,
                    steps,
                    time,
                    scale,
                    rows=rows,
                    dtype=dtype,
                    device=device,
                    **options,
                )


def check_blend_and_flow(device: str, dtype: torch.dtype) -> None:
    def blend(frame0: Tensor, frame1: Tensor, *others: Any, **options: Any) -> Any:
        return motion_ops.motion_blend(frame0.float(), frame1.float(), *others, **options)

    for side, batch, frames, size in (
        (2, 1, 1, (HEIGHT, WIDTH)),
        (4, 3, 1, (20, 36)),
        (2, 2, 2, (6, 10)),
    ):
        pair = [last(smooth(frames, 4, *size)) for _ in "01"]
        scales = (16, 8, 2, 1) if size[0] == HEIGHT else (1,)
        for summed in (True, False):
            steps = make_steps(
                scales, side=side, sum_masks=summed, channels=5, batch=batch, size=size
            )
            whole = size[0] % 8 == 0
            residual = last(torch.randn(batch, 3, *size))
            for options in ({"disagreement": whole}, {"residual": residual}):
                compare(blend, *pair, steps, dtype=dtype, device=device, **options)
            compare(motion_ops.motion_flow, steps, 1, dtype=dtype, device=device)
    coarse = make_steps((16, 8), side=4, sum_masks=False, channels=5, batch=2, size=(64, 128))
    for scale in (1, 2, 4, 8):
        compare(motion_ops.motion_flow, coarse, scale, dtype=dtype, device=device)


def check_pixels(device: str, dtype: torch.dtype) -> None:
    def check(operator: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        compare(operator, *arguments, dtype=dtype, device=device, **options)

    def pack(picture: Tensor, **options: Any) -> Tensor:
        return motion_ops.pack_picture(picture, dtype=dtype, **options)

    for size in ((8, 12), (4, 20)):
        picture = smooth(2, 3, *size)
        check(pack, picture, channels=4)
        check(pack, picture[..., ::2, ::2], channels=5)
        for side, n, room in ((2, 4, 8), (4, 5, 8), (2, 16, 24), (4, 1, 7)):
            features = last(grid_to_tiles(torch.randn(2, n, *size), side))
            check(pack, picture, features=features, side=side, channels=room)
        for channels, more, side in ((3, 5, 2), (4, 8, 4), (20, 4, 2), (32, 8, 4), (21, 3, 4)):
            x, y = (last(torch.randn(2, channels, 5, 7)) for _ in "xy")
            slopes = torch.rand(channels)
            for before, after in ((None, None), (y, None), (None, y)):
                check(motion_ops.activate_, x, slopes, before=before, after=after)
            tiles = last(grid_to_tiles(torch.randn(2, channels, *size), side))
            check(motion_ops.untile, tiles, slopes, side=side)
            for batch in (1, 2):
                skip = last(torch.randn(batch, more, *size))
                check(motion_ops.untile, tiles, slopes, side=side, skip=skip)
            flow = 4 * torch.randn(2, 4, *size)
            flow[0, 0, 0, 0], flow[1, 3, 1, 2] = float("nan"), 1e30
            first = last(torch.randn(2, channels, *size))
            for batch, n in ((1, 4), (2, 8), (1, 32)):
                features = [last(smooth(batch, n, *size)) for _ in "01"]
                check(motion_ops.warp_concat, first, *features, flow)
    for time in (torch.rand(2, 1, 1, 1), torch.rand(2, 1, 16, 24)):
        made, frames = torch.rand(2, 3, 16, 24), torch.rand(2, 1, 3, 16, 24)
        compare(
            motion_ops.fade_still_,
            made,
            *frames,
            time,
            torch.rand(2, 1, 2, 3),
            dtype=torch.float32,
            device=device,
        )


CHECKS = (check_motion_input, check_blend_and_flow, check_pixels)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("check", CHECKS)
def test_kernels_compute_what_the_references_do(
    check: Callable[[str, torch.dtype], None], dtype: torch.dtype
) -> None:
    check("cpu", dtype)


@pytest.mark.usefixtures("host")
def test_values_may_lie_anywhere() -> None:
    """Where vectors of channels do not lie right for one load, they are loaded one by one."""
    room = torch.rand(1, HEIGHT, WIDTH, 9)
    side = room[..., 1:].permute(0, 3, 1, 2)
    steps = make_steps((4,), side=2, sum_masks=True, channels=5, batch=1)
    for dtype in DTYPES:
        shifted = room.to(dtype)[..., 1:].permute(0, 3, 1, 2)
        wide = replace(steps, tiles=tuple(x.to(dtype) for x in steps.tiles))
        time = torch.zeros(1, 1, 1, 1)
        got = motion_ops.motion_input(shifted, shifted, wide, time, 2)
        wanted = motion_ops.motion_input(last(side, dtype), last(side, dtype), wide, time, 2)
        assert torch.equal(got, wanted)
        assert torch.equal(
            motion_ops.untile(shifted, torch.ones(2)),
            motion_ops.untile(last(side, dtype), torch.ones(2)),
        )


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("wild", WILD)
def test_wild_flow_reads_nothing_outside(wild: float) -> None:
    check_that_wild_flow_reads_nothing_outside(wild, HEIGHT, WIDTH)


def test_what_the_kernels_do_not_take_is_refused(host_operators: Any) -> None:
    side = last(torch.rand(1, 8, HEIGHT, WIDTH))
    with pytest.raises(RuntimeError, match="must be float32, bfloat16 or float16"):
        host_operators.activate_(side.double(), torch.ones(8), None, None)
    time = torch.zeros(1, 1, 1, 1)
    with pytest.raises(RuntimeError, match="scale must be 1 or even"):
        host_operators.motion_input(side, side, [], [], 2, True, time, 3, 0, False, 0, 1)


# --------------------------------------------------------------------------- networks


def frames_for(name: str) -> Tensor:
    return (
        test_fused_networks.bikes()[..., :64, :96]
        if name in test_fused_networks.NETWORKS
        else (smooth(2, 3, 64, 96)[None])
    )


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "name",
    [
        "rife",
        "lite",
        "rife-v4.0",
        "rife-v4.2",
        "rife-v4.14.lite",
        "rife-v4.26.heavy",
        "ifrnet",
        "ifrnet-gelu-bn",
    ],
)
def test_networks_by_the_kernels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of a network in float16, as on a GPU but for its convolutions."""
    monkeypatch.setitem(packed._DTYPES, "cpu", tuple(DTYPES))
    monkeypatch.setattr(packed, "_has_packing", lambda dtype: False)
    exact, half = (MODELS[name](name, dtype) for dtype in ("float32", "float16"))
    frames = frames_for(name)
    with ops.use_reference():
        wanted = exact.interpolate(frames, 0.5)
    assert psnr(exact.interpolate(frames, 0.5), wanted) > 90
    assert psnr(half.interpolate(frames, 0.5), wanted) > 50


class OnMeta(TorchDispatchMode):
    """Refuses tensors that are elsewhere, among others."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for x in tree_leaves((args, kwargs)):
            assert not isinstance(x, Tensor) or x.device.type == "meta", func
        return func(*args, **(kwargs or {}))


@needs_extension
@pytest.mark.parametrize("name", [*MODELS, "eqvi", "scopeflow"])
def test_nothing_waits_for_the_device_or_comes_from_the_cpu(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On torch's device of tensors without memory: asking one of them for its value is an error."""
    monkeypatch.setitem(packed._DTYPES, "meta", packed._DTYPES["cuda"])
    networks = {**test_fused.NETWORKS, **test_fused_networks.NETWORKS}
    networks |= {"eqvi": EQVIFusion, "scopeflow": ScopeFlow}
    network = networks[name]().to("meta", torch.float16).eval()
    frames = torch.empty(1, network.frames_seen, 3, 64, 128, device="meta")
    time = torch.empty(1, 1, 1, 1, device="meta")

    def run() -> Tensor:
        return network(frames, time) if network.has_frames else network.flow(frames)

    with torch.inference_mode():
        if name == "rife-v4.0":  # begins again where it finds large motion
            with pytest.raises(RuntimeError, match="meta"):
                run()
            return
        run()
        with OnMeta():
            made = run()
    assert any(module in packed._prepared for module in network.modules())
    channels = 3 if network.has_frames else 2
    assert (made.shape, made.dtype) == ((1, channels, 64, 128), torch.float32)


# ------------------------------------------------------------------------- on a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("check", CHECKS)
def test_operators_on_a_gpu(check: Callable[[str, torch.dtype], None], dtype: torch.dtype) -> None:
    need_gpu()
    check("cuda", dtype)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_networks_on_a_gpu(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the plain network there, and against the CPU."""
    need_gpu()
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    frames = frames_for(name)
    exact = MODELS[name](name, "float32")
    with ops.use_reference():
        wanted = exact.interpolate(frames, 0.5)
    network = MODELS[name](name, "float32").network
    on_gpu = Interpolator(network, name=name, device="cuda", dtype=dtype)
    made = on_gpu.interpolate(frames, 0.5)
    assert any(module in packed._prepared for module in network.modules())
    with ops.use_reference():
        plain = on_gpu.interpolate(frames, 0.5)
    least = 80 if dtype == torch.float32 else 45
    assert psnr(made, plain) > least
    assert psnr(made, wanted) > least
