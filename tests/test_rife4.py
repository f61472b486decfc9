"""RIFE 4.x: what the golden pictures do not show."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.models import load_model
from vfi_cli.models.base import Interpolator
from vfi_cli.models.blocks import warp
from vfi_cli.models.checkpoint import identify
from vfi_cli.models.registry import registry
from vfi_cli.models.rife4 import (
    ARCHITECTURES,
    LITE_SCALES,
    LITE_WIDTHS,
    SCALES,
    IFNet,
    Spec,
    _enlarging,
    _lattice,
    _sample,
)
from vfi_cli.native.ops import use_reference

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = (8, 8, 8, 8, 8)


def network(spec: Spec | None = None, wild: float = 30.0) -> IFNet:
    """A small network whose last layers are scaled up, so that flow is many pixels long."""
    torch.manual_seed(0)
    net = IFNet(spec or Spec(widths=WIDTHS)).eval().requires_grad_(False)
    for name, weight in net.named_parameters():
        if "lastconv" in name:
            weight.mul_(wild)
    return net


def frames(height: int = 64, width: int = 128, batch: int = 1) -> Tensor:
    coarse = torch.rand(
        (batch * 2, 3, height // 8, width // 8), generator=torch.Generator().manual_seed(1)
    )
    fine = F.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(0, 1)
    return fine.unflatten(0, (batch, 2))


def test_a_network_can_be_trained_after_it_was_used() -> None:
    net = network().requires_grad_(True)
    pair, t = frames(height=128, width=192), torch.full((1, 1, 1, 1), 0.5)  # sizes of its own
    with torch.inference_mode(), use_reference():
        net(pair, t)
    net.train()(pair, t).mean().backward()
    assert all(p.grad is not None for p in net.block0.parameters())


def by_the_book(net: IFNet, pair: Tensor, t: float, scale: float = 1.0) -> Tensor:
    """The published way with carried features: everything at full size, then reduced."""

    def resize(x: Tensor, factor: float) -> Tensor:
        return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)

    side0, side1 = (torch.cat((pair[:, i], net.encode(pair[:, i])), 1) for i in (0, 1))
    warped0, warped1 = side0, side1
    time = torch.full_like(pair[:, 0, :1], t)
    flow = mask = carried = None
    for i, own in enumerate(net.spec.scales):
        s = own / scale
        parts = [warped0[:, :3], warped1[:, :3], warped0[:, 3:], warped1[:, 3:], time]
        if flow is not None:
            parts += [mask, carried]
        x = resize(torch.cat(parts, 1), 1 / s)
        if flow is not None:
            x = torch.cat((x, resize(flow, 1 / s) / s), 1)
        out = resize(getattr(net, f"block{i}")(x), s)
        step = out[:, :4] * s
        flow = step if flow is None else flow + step
        mask, carried = out[:, 4:5], out[:, 5:]
        warped0, warped1 = warp(side0, flow[:, :2]), warp(side1, flow[:, 2:])
    share = torch.sigmoid(mask)
    return warped0[:, :3] * share + warped1[:, :3] * (1 - share)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("scales", [SCALES[5], LITE_SCALES])
def test_warping_few_pixels_gives_the_published_picture(
    scales: tuple[int, ...], scale: float
) -> None:
    net = network(Spec(widths=WIDTHS, scales=scales))
    pair = frames(256, 256)
    flow = net.motion(pair, torch.full((1, 1, 1, 1), 0.3), scale=scale).flow0
    assert float(flow.abs().mean()) > 3
    expected = by_the_book(net, pair, 0.3, scale)
    error = (net(pair, torch.full((1, 1, 1, 1), 0.3), scale=scale) - expected).abs()
    assert float(error.mean()) < 1e-5
    assert float(error.max()) < 2e-3


@pytest.mark.parametrize(("factor", "s"), [(16, 8), (16, 4), (32, 4), (8, 4)])
def test_lattice_is_what_a_reduction_reads(factor: int, s: int) -> None:
    coarse = torch.rand(1, 2, 3, 5)
    full = F.interpolate(coarse, scale_factor=factor, mode="bilinear", align_corners=False)
    device = torch.device("cpu")
    ys, xs = _lattice(3 * factor, s, device), _lattice(5 * factor, s, device)
    there = _enlarging(3, factor, s, device) @ coarse @ _enlarging(5, factor, s, device).T
    torch.testing.assert_close(there, full[..., ys, :][..., xs])
    reduced = F.interpolate(full, scale_factor=1 / s, mode="bilinear", align_corners=False)
    torch.testing.assert_close(F.avg_pool2d(there, 2), reduced)


def test_motion_is_what_the_picture_is_made_with() -> None:
    net, pair = network(), frames()
    t = torch.full((1, 1, 1, 1), 0.4)
    motion = net.motion(pair, t)
    made = warp(pair[:, 0], motion.flow0) * motion.mask
    made = made + warp(pair[:, 1], motion.flow1) * (1 - motion.mask)
    torch.testing.assert_close(net(pair, t), made)


def test_several_times_of_one_window_at_once() -> None:
    net, pair = network(), frames()
    times = torch.tensor([0.2, 0.5, 0.9]).view(3, 1, 1, 1)
    together = net(pair, times)
    for picture, t in zip(together, times, strict=True):
        torch.testing.assert_close(picture, net(pair, t[None])[0], atol=1e-4, rtol=0)


def test_a_map_of_one_time_is_that_time() -> None:
    net, pair = network(), frames()
    as_map = net(pair, torch.full((1, 1, *pair.shape[-2:]), 0.3))
    torch.testing.assert_close(as_map, net(pair, torch.full((1, 1, 1, 1), 0.3)))


def test_features_of_a_frame_are_computed_once() -> None:
    net, pair = network(), frames()
    counted: list[int] = []
    net.encode.register_forward_hook(lambda *_: counted.append(1))
    model = Interpolator(net, name="small", device="cpu", dtype="float32")
    third = pair.flip(1)
    with use_reference():  # test_fused.py has the same of the fused operators
        plain = model.interpolate(third, 0.5)
        assert len(counted) == 2
        model.interpolate(pair, 0.25, keys=("a", "b"))
        model.interpolate(pair, 0.75, keys=("a", "b"))
        kept = model.interpolate(third, 0.5, keys=("b", "a"))
    assert len(counted) == 4
    torch.testing.assert_close(kept, plain)


def test_any_size_and_no_padding_in_the_picture() -> None:
    model = Interpolator(network(wild=1.0), name="small", device="cpu", dtype="float32")
    assert model.size_multiple == 64
    white = torch.ones(1, 2, 3, 37, 71)
    picture = model.interpolate(white, 0.5)
    assert picture.shape == (1, 3, 37, 71)
    torch.testing.assert_close(picture, torch.ones_like(picture), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_nearly_the_same(dtype: str) -> None:
    # float16 rounds no worse than bfloat16, which has eight bits.
    exact = Interpolator(network(wild=3.0), name="a", device="cpu", dtype="float32")
    half = Interpolator(network(wild=3.0), name="a", device="cpu", dtype=dtype)
    difference = exact.interpolate(frames(), 0.5) - half.interpolate(frames(), 0.5)
    assert float(difference.abs().mean()) < 4e-3


def test_flow_that_is_not_a_number_does_not_reach_memory_it_should_not() -> None:
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    at = torch.full((1, 4, 4), float("nan"), requires_grad=True)
    _sample(x, at, at).sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())


def test_ensemble_does_not_mind_the_order_of_the_frames() -> None:
    spec = replace(Spec(), widths=WIDTHS[:4], scales=SCALES[4], extra=1, carried=False, head="")
    net, pair = network(spec), frames()
    there = net(pair, torch.full((1, 1, 1, 1), 0.3), ensemble=True)
    back = net(pair.flip(1), torch.full((1, 1, 1, 1), 0.7), ensemble=True)
    torch.testing.assert_close(there, back, atol=1e-4, rtol=0)
    plain = net(pair, torch.full((1, 1, 1, 1), 0.3))
    assert float((there - plain).abs().mean()) > 1e-3


def test_4_0_starts_again_for_large_motion() -> None:
    spec = Spec(
        widths=WIDTHS[:4],
        scales=SCALES[4],
        body="prelu",
        extra=0,
        carried=False,
        shuffle=False,
        head="",
    )
    sizes: list[tuple[int, int]] = []
    for wild, expected in (
        (0.0, [(8, 16), (16, 32), (32, 64), (64, 128)]),
        (1e5, [(8, 16), (16, 32), (4, 8), (8, 16), (16, 32), (32, 64)]),
    ):
        net = network(spec, wild)
        sizes.clear()
        for i in range(4):
            getattr(net, f"block{i}").register_forward_pre_hook(
                lambda _, inputs: sizes.append(tuple(inputs[0].shape[2:]))
            )
        net(frames(), torch.full((1, 1, 1, 1), 0.5))
        assert sizes == expected


def test_other_widths_are_told_from_shapes() -> None:
    state = network(Spec(widths=(16, 12, 8, 8, 4))).state_dict()
    found, architecture = identify(state, registry())
    assert architecture.name == "rife-v4.25"
    assert found.spec == Spec(widths=(16, 12, 8, 8, 4))
    by_name = {known.name: known for known in ARCHITECTURES}
    with torch.device("meta"):
        lite = by_name["rife-v4.25.lite"].prototype()
        assert lite.spec.widths == LITE_WIDTHS
        assert lite.size_multiple == 128


def test_training_stages_lead_to_the_picture() -> None:
    net, pair = network(), frames()
    t = torch.full((1, 1, 1, 1), 0.5)
    picture, stages = net.stages(pair, t)
    torch.testing.assert_close(picture, net(pair, t))
    assert [tuple(stage.flow.shape[2:]) for stage in stages] == [
        (16, 32),  # where the second block, at 1/8, looks
        (32, 64),
        (64, 128),
        (64, 128),
        (64, 128),
    ]
    full = stages[-1].flow
    early = net.stages(pair, t, depth=1)[1][0]
    first = stages[0]
    torch.testing.assert_close(early.flow[..., first.ys, :][..., first.xs], first.flow)
    assert not torch.allclose(full, early.flow)


@pytest.mark.parametrize("size", [(96, 160), (360, 640)])
def test_default_weights_follow_motion_and_leave_still_pictures_alone(
    size: tuple[int, int],
) -> None:
    """On sizes well below and above those of its training crops."""
    model = load_model("default", device="cpu", dtype="float32")
    height, width = size
    coarse = torch.rand((1, 3, height // 9, width // 9), generator=torch.Generator().manual_seed(3))
    picture = F.interpolate(coarse, size=(height + 8, width + 8), mode="bicubic").clamp(0, 1)
    first, middle, last = (
        picture[..., 4 + y : 4 + y + height, 4 + x : 4 + x + width]
        for y, x in ((-1, -3), (0, 0), (1, 3))
    )

    def psnr(made: Tensor) -> float:
        return float(-10 * torch.log10((made - middle).square().mean()))

    moved = psnr(model.interpolate(torch.stack((first, last), 1), 0.5))
    blended = psnr((first + last) / 2)
    assert moved > blended + 5
    still = psnr(model.interpolate(torch.stack((middle, middle), 1), 0.5))
    assert still > 38
    quarter = psnr(model.interpolate(torch.stack((first, last), 1), 0.1))
    assert quarter < moved - 3  # at another time another picture
