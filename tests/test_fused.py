"""The fused inference: its operators against their twins, its pictures against plain float32."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.fusedkit import (
    WILD,
    check_that_wild_flow_reads_nothing_outside,
    check_the_ruler,
    interpolate,
    last,
    psnr,
    smooth,
)
from vfi_cli.models import packed
from vfi_cli.models.base import Interpolator, Network, is_out_of_memory
from vfi_cli.models.lite import SPEC, LiteNet
from vfi_cli.models.rife import RIFE
from vfi_cli.models.rife4 import ARCHITECTURES as RIFE4
from vfi_cli.models.rife4 import LITE_SCALES, IFNet, Spec
from vfi_cli.native import motion_ops, ops
from vfi_cli.native.motion_ops import Steps
from vfi_cli.native.motion_reference import grid_to_tiles, tiles_to_grid

pytestmark = [
    pytest.mark.skipif(not ops.available(), reason="the extension is not built"),
    pytest.mark.usefixtures("one_thread"),
]

HEIGHT, WIDTH = 128, 192
# float32: the order of sums, and coordinates that differ by a rounding; bfloat16: one more rounding
# of a value at a tie, relative to the largest values.
TOLERANCE = {torch.float32: 5e-5, torch.bfloat16: 2**-7}
DTYPES = list(TOLERANCE)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def make_steps(
    scales: tuple[int, ...],
    *,
    side: int = 4,
    channels: int = 13,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Steps:
    steps = Steps(side, sum_masks=side == 2)
    for scale in scales:
        grid = torch.randn(batch, channels, HEIGHT // scale, WIDTH // scale)
        steps = steps.plus(last(grid_to_tiles(grid, side), dtype), scale)
    return steps


def compare_twins(
    dtype: torch.dtype, operator: Callable[..., Any], /, *arguments: Any, **options: Any
) -> None:
    def run() -> Any:
        first, *others = arguments
        if operator.__name__.endswith("_"):
            first = first.clone()  # which is changed in place
        return operator(first, *others, **options)

    got = run()
    with ops.use_reference():
        wanted = run()
    for x, y in zip(*((r if isinstance(r, tuple) else (r,)) for r in (got, wanted)), strict=True):
        assert (x.shape, x.dtype, x.stride()) == (y.shape, y.dtype, y.stride())
        if x.numel():
            limit = TOLERANCE[dtype] * max(1.0, float(y.abs().max()))
            assert float((x.float() - y.float()).abs().max()) <= limit


# -------------------------------------------------------------------------- operators


def test_tiles_hold_what_a_transposed_convolution_and_a_shuffle_make() -> None:
    for shuffle, keep in ((1, None), (2, None), (2, 3)):
        conv = torch.nn.ConvTranspose2d(6, 5 * shuffle**2, 4, 2, 1)
        x = last(torch.randn(2, 6, 4, 8))
        with torch.no_grad():
            wanted = F.pixel_shuffle(conv(x), shuffle)[:, :keep]
            tiles = packed.PackedConv(*packed.tiling(conv, shuffle, keep))(x)
        grid = tiles_to_grid(tiles, 2 * shuffle)
        torch.testing.assert_close(grid, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tiles_to_grid(grid_to_tiles(grid, 2), 2), grid)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize(
    ("scales", "scale"),
    [
        ((), 8),
        ((16,), 8),
        ((16, 8), 4),
        ((16, 4), 2),
        ((16, 8, 4, 2), 1),
        ((8, 8, 4), 1),
        ((16, 16, 8, 8), 4),
        ((16, 4, 4), 2),
        ((16, 8), 8),
        ((16, 8, 8), 8),
    ],
)
def test_motion_input(scales: tuple[int, ...], scale: int, side: int, dtype: torch.dtype) -> None:
    for channels, batch in ((4, 1), (8, 2), (16, 1), (24, 1)):
        side0, side1 = (last(smooth(1, channels, HEIGHT, WIDTH), dtype) for _ in "01")
        steps = make_steps(scales, side=side, batch=batch, dtype=dtype)
        as_map = torch.rand(batch, 1, HEIGHT // scale, WIDTH // scale)
        for time, carried in ((torch.rand(batch, 1, 1, 1), 8), (as_map, 0), (as_map, 3)):
            compare_twins(
                dtype,
                motion_ops.motion_input,
                side0,
                side1,
                steps,
                time,
                scale,
                carried=carried,
                unwarped=channels == 4,
            )
        height = HEIGHT // scale
        for rows in (range(-1, 4), range(height - 3, height + 2), range(3, 8)):
            compare_twins(
                dtype, motion_ops.motion_input, side0, side1, steps, time, scale, rows=rows
            )


def test_what_is_carried_is_zero_before_the_first_step() -> None:
    sides = [last(smooth(1, 4, 16, 24)) for _ in "01"]
    time = torch.rand(1, 1, 1, 1)
    none = Steps(2, sum_masks=True)
    compare_twins(torch.float32, motion_ops.motion_input, *sides, none, time, 2, carried=11)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("side", [2, 4])
def test_motion_blend_and_flow(side: int, dtype: torch.dtype) -> None:
    frame0, frame1 = (last(smooth(1, 4, HEIGHT, WIDTH)) for _ in "01")
    for batch in (1, 3):
        steps = make_steps((16, 8, 8, 2, 1, 1), side=side, channels=5, batch=batch, dtype=dtype)
        residual = last(torch.randn(batch, 3, HEIGHT, WIDTH), dtype)
        coarse = Steps(side, False, steps.tiles[:2], steps.scales[:2])
        for options in ({"disagreement": True}, {"residual": residual}):
            compare_twins(torch.float32, motion_ops.motion_blend, frame0, frame1, steps, **options)
        compare_twins(torch.float32, motion_ops.motion_flow, steps, 1)
        compare_twins(torch.float32, motion_ops.motion_flow, coarse, 4)
    # At half the resolution the coarsest block is so coarse.
    compare_twins(torch.float32, motion_ops.motion_flow, make_steps((32, 32, 8), side=2), 1)
    # A frame may be the first channels of more.
    wide = [last(smooth(1, 8, HEIGHT, WIDTH))[:, :4] for _ in "01"]
    steps = make_steps((16, 8), side=side, channels=5, dtype=dtype)
    compare_twins(torch.float32, motion_ops.motion_blend, *wide, steps, disagreement=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_goes_from_pixel_to_pixel(dtype: torch.dtype) -> None:
    picture = smooth(2, 3, 16, 24)
    features = last(grid_to_tiles(torch.randn(2, 4, 16, 24), 2), dtype)
    pack = motion_ops.pack_picture
    compare_twins(dtype, pack, picture, channels=4, dtype=dtype)
    compare_twins(dtype, pack, picture, features=features, channels=8, dtype=dtype)
    for channels in (3, 21, 32):
        x, y = (last(torch.randn(2, channels, 5, 7), dtype) for _ in "xy")
        slopes = torch.rand(channels)
        for before, after in ((None, None), (y, None), (None, y)):
            compare_twins(dtype, motion_ops.activate_, x, slopes, before=before, after=after)
        tiles = last(grid_to_tiles(torch.randn(2, channels, 8, 12), 2), dtype)
        skip = last(torch.randn(2, 5, 8, 12), dtype)
        compare_twins(dtype, motion_ops.untile, tiles, slopes)
        compare_twins(dtype, motion_ops.untile, tiles, slopes, skip=skip)
        features = last(smooth(1, 8 if channels == 32 else 4, 8, 16), dtype)
        first = last(torch.randn(2, channels, 8, 16), dtype)
        flow = 3 * torch.randn(2, 4, 8, 16)
        compare_twins(dtype, motion_ops.warp_concat, first, features, features, flow)


def test_fading_in_the_plain_mix() -> None:
    frames, share = torch.rand(2, 1, 3, 32, 48), torch.rand(2, 1, 4, 6)
    made = torch.rand(2, 3, 32, 48)
    for time in (torch.rand(2, 1, 1, 1), torch.rand(2, 1, 32, 48)):
        compare_twins(torch.float32, motion_ops.fade_still_, made, *frames, time, share)


@pytest.mark.parametrize("wild", WILD)
def test_wild_flow_reads_nothing_outside(wild: float) -> None:
    check_that_wild_flow_reads_nothing_outside(wild, HEIGHT, WIDTH)


def test_operators_are_registered_as_torch_wants_them() -> None:
    side = last(smooth(1, 8, HEIGHT, WIDTH))
    steps, time = make_steps((16, 8)), torch.rand(1, 1, 1, 1)
    how = (list(steps.tiles), list(steps.scales), 4, False)
    frame = last(smooth(1, 4, HEIGHT, WIDTH))
    picture, share = smooth(1, 3, HEIGHT, WIDTH), torch.rand(1, 1, HEIGHT // 8, WIDTH // 8)
    tiles = last(grid_to_tiles(torch.randn(1, 8, 8, 16), 2))
    small = last(torch.randn(1, 8, 8, 16))
    calls: dict[str, tuple[Any, ...]] = {
        "motion_input": (side, side, *how, time, 4, 8, False, -1, 9),
        "motion_blend": (frame, frame, *how, None, True),
        "motion_flow": (how[0], how[1], 4, 2),
        "fade_still_": (picture.clone(), picture, picture, time, share),
        "pack_picture": (picture, None, 2, 4, torch.bfloat16),
        "activate_": (small.clone(), torch.rand(8), small, None),
        "untile": (tiles, torch.rand(8), 2, small),
        "warp_concat": (small, small, small, torch.randn(1, 4, 8, 16)),
    }
    for name, arguments in calls.items():
        torch.library.opcheck(
            getattr(torch.ops.vfi, name).default,
            arguments,
            test_utils=("test_schema", "test_faketensor"),
        )


def test_operators_refuse_what_does_not_fit() -> None:
    side = last(torch.rand(1, 8, HEIGHT, WIDTH))
    time = torch.zeros(1, 1, 1, 1)
    steps = make_steps((16,))
    with pytest.raises(RuntimeError, match="even"):
        motion_ops.motion_input(side, side, steps, time, 3)
    with pytest.raises(RuntimeError, match="those of the steps"):
        motion_ops.motion_input(side, side, steps, time, 32)
    with pytest.raises(RuntimeError, match="in tiles of 4 by 4"):
        motion_ops.motion_input(side, side, replace(steps, scales=(8,)), time, 4)
    with pytest.raises(RuntimeError, match="carries fewer"):
        motion_ops.motion_input(side, side, steps, time, 8, carried=9)
    with pytest.raises(RuntimeError, match="channels-last"):
        motion_ops.motion_input(side.contiguous(), side, steps, time, 8)
    with pytest.raises(RuntimeError, match="one dtype"):
        motion_ops.motion_input(side.bfloat16(), side.bfloat16(), steps, time, 8)
    made, share = torch.rand(3, 3, 16, 16), torch.rand(3, 1, 2, 2)
    with pytest.raises(RuntimeError, match="time must be"):
        motion_ops.fade_still_(made, made, made, torch.rand(2, 1, 16, 16), share)


def test_only_what_is_asked_for_is_written_to() -> None:
    """A lazy clone shares its memory until one of both is written to."""
    picture, share = torch.rand(1, 3, 16, 16), torch.ones(1, 1, 2, 2)
    before, other = picture.clone(), torch.zeros(1, 3, 16, 16)
    made = torch._lazy_clone(picture)
    motion_ops.fade_still_(made, other, other, torch.zeros(1, 1, 1, 1), share)
    assert torch.equal(picture, before)
    assert not made.any()


def test_too_little_memory_is_known_as_such() -> None:
    """What torch says of a failed allocation gets through its stable ABI: the work is done again
    in smaller parts for that reason alone."""
    endless = torch.zeros(1, 3, 1, 1).expand(1, 3, 2**23, 2**23)  # in no one's address space
    with pytest.raises(RuntimeError) as caught:
        motion_ops.pack_picture(endless, channels=4, dtype=torch.float32)
    assert is_out_of_memory(caught.value), caught.value
    with pytest.raises(RuntimeError) as caught:
        ops.backwarp(endless, endless[:, :2])
    assert is_out_of_memory(caught.value), caught.value


# --------------------------------------------------------------------------- networks

WIDTHS = (16, 16, 8, 8, 8)


def narrow(prototype: Callable[[], Network]) -> Network:
    spec = prototype().spec
    return IFNet(replace(spec, widths=WIDTHS[: len(spec.widths)]))


NETWORKS: dict[str, Callable[[], Network]] = {
    "rife": lambda: RIFE((12, 8, 8), 4),
    "rifem": lambda: RIFE((12, 8, 8), 4, timed=True),
    "lite": lambda: LiteNet(Spec(widths=WIDTHS)),
    "seven blocks": lambda: LiteNet(replace(SPEC, widths=(16, 16, 16, 8, 8, 8, 8))),
    "half resolution": lambda: LiteNet(Spec(widths=(16, 16, 8, 8), scales=(16, 8, 4, 2))),
    "4.25.lite": lambda: IFNet(Spec(widths=WIDTHS, scales=LITE_SCALES)),
    **{
        known.name: functools.partial(narrow, known.prototype)
        for known in RIFE4
        if known.name
        in (
            "rife-v4.0",
            "rife-v4.2",
            "rife-v4.6",
            "rife-v4.7",
            "rife-v4.14.lite",
            "rife-v4.26.heavy",
        )
    },
}


def model(name: str, dtype: str, wild: float = 6.0) -> Interpolator:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for key, weight in network.named_parameters():
            if "lastconv" in key:
                weight.mul_(wild)
    return Interpolator(network, name=name, device="cpu", dtype=dtype)


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_are_those_of_the_plain_operators(name: str) -> None:
    """In float32 they differ by rounding; in bfloat16 by what its convolutions round."""
    exact, quick = model(name, "float32"), model(name, "bfloat16")
    for height, width, t, scale in (
        (70, 133, 0.5, 1.0),
        (64, 128, torch.tensor([0.25, 0.6]), 1.0),
        (64, 128, torch.tensor([0.25]), 0.5),
        (64, 64, torch.linspace(0, 1, 64).view(1, 1, 64, 1).expand(1, 1, 64, 64), 1.0),
    ):
        time = t if exact.any_timestep else 0.5
        frames = smooth(2, 3, 8 * (height // 8), 8 * (width // 8))
        frames = F.pad(frames, (0, width % 8, 0, height % 8), mode="replicate")[None]
        with ops.use_reference():
            wanted, fused = interpolate(exact, frames, time, scale=scale)
        assert not fused
        made, fused = interpolate(exact, frames, time, scale=scale)
        assert fused
        assert psnr(made, wanted) > 90
        assert psnr(quick.interpolate(frames, time, scale=scale), wanted) > 45


def test_large_motion_makes_4_0_start_again() -> None:
    net = model("rife-v4.0", "float32", wild=3000.0)
    frames = smooth(2, 3, 128, 128)[None]
    motion = net.motion(frames, 0.5)
    assert float(motion.flow0.abs().max()) > 64
    with ops.use_reference():
        wanted = net.interpolate(frames, 0.5)
    assert float((net.interpolate(frames, 0.5) - wanted).abs().mean()) < 2e-3


def test_what_cannot_be_fused_runs_as_it_is() -> None:
    net = model("lite", "float32")
    frames = smooth(2, 3, 64, 64)[None]
    assert not interpolate(net, frames, 0.5, scale=4.0)[1]
    plain = model("rife-v4.6", "float32")
    assert not interpolate(plain, frames, 0.5, ensemble=True)[1]
    # With gradients, as in training, nothing is fused.
    assert net.network not in packed._prepared
    made = net.network(frames, torch.full((1, 1, 1, 1), 0.5))
    assert net.network not in packed._prepared
    assert torch.allclose(made, net.interpolate(frames, 0.5), atol=1e-3)


def test_changed_weights_are_seen() -> None:
    net = model("rife-v4.6", "float32")
    frames = smooth(2, 3, 64, 64)[None]
    before = net.interpolate(frames, 0.5)
    with torch.no_grad():
        net.network.block0.lastconv[0].bias.add_(1.0)  # type: ignore[union-attr, index]
    after = net.interpolate(frames, 0.5)
    with ops.use_reference():
        wanted = net.interpolate(frames, 0.5)
    assert float((after - before).abs().mean()) > 1e-3
    assert psnr(after, wanted) > 90


def test_a_model_may_be_made_in_inference_mode() -> None:
    frames = smooth(2, 3, 64, 64)[None]
    with torch.inference_mode():
        net = model("rife-v4.6", "bfloat16")
        made, fused = interpolate(net, frames, 0.5)
    assert fused
    assert torch.equal(made, model("rife-v4.6", "bfloat16").interpolate(frames, 0.5))


def test_a_frame_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    net = model("lite", "bfloat16")
    frames = smooth(2, 3, 64, 64)[None]
    made = net.interpolate(frames.flip(1), 0.5)
    head = packed._prepared[net.network][1].encode  # type: ignore[attr-defined]
    encode, encoded = head.last, []
    monkeypatch.setattr(head, "last", lambda x: encoded.append(1) or encode(x))
    net.interpolate(frames, 0.25, keys=("a", "b"))
    net.interpolate(frames, 0.75, keys=("a", "b"))
    kept = net.interpolate(frames.flip(1), 0.5, keys=("b", "a"))
    assert len(encoded) == 2
    assert torch.equal(kept, made)


# ------------------------------------------------------------------------- the ruler


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("rife", "rife"),
        ("rifem", "rife"),
        ("rife-v4.2", "rife4"),
        ("rife-v4.6", "rife4"),
        ("rife-v4.25", "rife4"),
    ],
)
def test_the_benchmarks_plain_operators_are_the_authors(
    name: str, way: str, shared_data: Path
) -> None:
    check_the_ruler(name, "plain", way, shared_data)
