"""IFRNet and RRIN by the fused operators: their pictures against those of the plain ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import fusedkit
from tests.fusedkit import check_the_ruler, interpolate, psnr
from vfi_cli.models import packed
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.models.ifrnet import IFRNet, Widths
from vfi_cli.models.rrin import RRIN
from vfi_cli.native import ops

pytestmark = pytest.mark.usefixtures("one_thread")

needs_kernels = pytest.mark.skipif(not ops.available(), reason="the extension is not built")

#: The third width does not fit into blocks of four channels.
NARROW = (8, 12, 18, 24)
NETWORKS: dict[str, Callable[[], Network]] = {
    "ifrnet": lambda: IFRNet(Widths(NARROW, 8)),
    "ifrnet-l": lambda: IFRNet(Widths(NARROW, 8, first_kernel=7)),
    "ifrnet-gelu": lambda: IFRNet(Widths(NARROW, 8, activation="gelu")),
    "ifrnet-gelu-bn": lambda: IFRNet(Widths(NARROW, 8, activation="gelu-bn")),
    "rrin": RRIN,
}


def bikes() -> Tensor:
    """Two frames with one between them left out, (1, 2, 3, 70, 133)."""
    return fusedkit.bikes(range(40, 43, 2), 70, 133)


def model(name: str, dtype: str) -> Interpolator:
    """With weights whose flow is of some pixels."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if key.endswith("running_mean"):
                value.normal_(std=0.1)
            elif key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
        for module in network.modules():
            if isinstance(module, nn.ConvTranspose2d):
                module.weight.mul_(6)
        if isinstance(network, RRIN):
            network.Flow_L.last.weight.mul_(20)
            network.refine_flow.last.weight.mul_(20)
    return Interpolator(network, name=name, device="cpu", dtype=dtype)


@needs_kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_are_those_of_the_plain_operators(name: str) -> None:
    """In float32 they differ by rounding; in bfloat16 by what its convolutions round."""
    exact, quick = model(name, "float32"), model(name, "bfloat16")
    across = torch.linspace(0, 1, 133).view(1, 1, 1, 133).expand(1, 1, 70, 133)
    for t, scale in ((0.5, 1.0), (torch.tensor([0.25, 0.6]), 1.0), (0.25, 0.5), (across, 1.0)):
        options = {"scale": scale} if exact.network.has_scale else {}
        with ops.use_reference():
            wanted, fused = interpolate(exact, bikes(), t, **options)
        assert not fused
        made, fused = interpolate(exact, bikes(), t, **options)
        assert fused
        assert psnr(made, wanted) > 90
        assert psnr(quick.interpolate(bikes(), t, **options), wanted) > 45


@needs_kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_motion_is_that_of_the_plain_operators(name: str) -> None:
    exact = model(name, "float32")
    with ops.use_reference():
        wanted = exact.motion(bikes(), 0.5)
    assert float(wanted.flow0.abs().max()) > 0.5
    made = exact.motion(bikes(), 0.5)
    for part in ("flow0", "flow1", "mask"):
        torch.testing.assert_close(getattr(made, part), getattr(wanted, part), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_with_gradients_nothing_is_fused(name: str) -> None:
    network = model(name, "float32").network.requires_grad_(True)
    frames = bikes()[..., :64, :64]
    made = network(frames, torch.full((1, 1, 1, 1), 0.5))
    assert not any(module in packed._prepared for module in network.modules())
    made.mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_without_the_extension_nothing_is_fused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "available", lambda device="cpu": False)
    net = model(name, "float32")
    assert not interpolate(net, bikes()[..., :64, :64], 0.5)[1]


@needs_kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_remembered_of_frames_makes_the_same_picture(name: str) -> None:
    net = model(name, "bfloat16")
    frames = bikes()[..., :64, :64]
    wanted = net.interpolate(frames, 0.75)
    net.interpolate(frames, 0.25, keys=("a", "b"))
    assert torch.equal(net.interpolate(frames, 0.75, keys=("a", "b")), wanted)


@pytest.mark.parametrize(
    ("name", "way"), [("ifrnet", "ifrnet"), ("ifrnet-s", "ifrnet"), ("rrin", "rrin")]
)
def test_the_benchmarks_plain_operators_are_the_authors(
    name: str, way: str, shared_data: Path
) -> None:
    check_the_ruler(name, "plain", way, shared_data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_prepared_convolution_keeps_its_weights_for_some_sizes(dtype: torch.dtype) -> None:
    weight = torch.randn(8, 16, 3, 3).to(dtype)
    conv = packed.PackedConv(weight, None, slope=0.2)
    for size in (*range(5, 14), 5):
        x = torch.randn(1, 16, size, 11).to(dtype).contiguous(memory_format=torch.channels_last)
        expected = F.leaky_relu(F.conv2d(x, weight, padding=1), 0.2)
        torch.testing.assert_close(conv(x), expected, rtol=2e-2, atol=2e-2)
        assert len(conv._packed) <= packed._SIZES
    if conv._packs:
        assert [key[0][2] for key in conv._packed] == [*range(7, 14), 5]


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_a_prepared_convolution_keeps_its_dilation(dilation: int) -> None:
    conv = nn.Conv2d(8, 16, 3, padding=dilation, dilation=dilation)
    x = torch.randn(1, 8, 12, 11).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        made = packed.packed_conv(conv, 0.1)(x)
        torch.testing.assert_close(made, F.leaky_relu(conv(x), 0.1), rtol=1e-4, atol=1e-5)
