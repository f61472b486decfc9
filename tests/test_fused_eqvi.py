"""EQVI and ScopeFlow by the fused convolutions: against the plain ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import fusedkit
from tests.fusedkit import check_the_ruler, fuses, interpolate, psnr
from vfi_cli.models import fused_scopeflow, packed
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.models.eqvi import EQVI, EQVIFusion
from vfi_cli.models.scopeflow import FlowNet, ScopeFlow
from vfi_cli.native import ops

pytestmark = pytest.mark.usefixtures("one_thread")

needs_kernels = pytest.mark.skipif(not ops.available(), reason="the extension is not built")

NETWORKS: dict[str, Callable[[], Network]] = {"eqvi": EQVI, "eqvi-ms": EQVIFusion}


def bikes() -> Tensor:
    """Five frames, each two after the other, (1, 5, 3, 60, 100)."""
    return fusedkit.bikes(range(38, 47, 2), 60, 100)


@functools.cache
def model(name: str, dtype: str) -> Interpolator:
    """With drawn weights whose flow is of some pixels."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, FlowNet):
                _enlarge(module)
    return Interpolator(network, name=name, device="cpu", dtype=dtype)


def _enlarge(flownet: FlowNet) -> None:
    last = (flownet.flow_estimators.conv_last, flownet.context_networks.convs[-1])
    for conv in (module for parent in last for module in parent.modules()):
        if isinstance(conv, nn.Conv2d):
            conv.weight.mul_(20)


@needs_kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_are_those_of_the_plain_operators(name: str) -> None:
    """In float32 they differ by rounding; in bfloat16 by what its convolutions round."""
    exact, quick = model(name, "float32"), model(name, "bfloat16")
    cases: list[tuple[slice, Any]] = [(slice(4), 0.5)]
    if name == "eqvi":
        across = torch.linspace(0, 1, 100).view(1, 1, 1, 100).expand(1, 1, 60, 100)
        cases = [(slice(4), torch.tensor([0.25, 0.6])), (slice(1, 3), across)]
    for window, t in cases:
        frames = bikes()[:, window]
        with ops.use_reference():
            wanted, fused = interpolate(exact, frames, t)
        assert not fused
        made, fused = interpolate(exact, frames, t)
        assert fused
        assert psnr(made, wanted) > 90
        assert 45 < psnr(quick.interpolate(frames, t), wanted) < 90


@needs_kernels
def test_motion_is_that_of_the_plain_operators() -> None:
    exact, quick = model("eqvi", "float32"), model("eqvi", "bfloat16")
    with ops.use_reference():
        wanted = exact.motion(bikes()[:, :4], 0.5)
    assert float(wanted.flow0.abs().max()) > 0.5
    made, rounded = exact.motion(bikes()[:, :4], 0.5), quick.motion(bikes()[:, :4], 0.5)
    for part in ("flow0", "flow1", "mask"):
        right = getattr(wanted, part)
        torch.testing.assert_close(getattr(made, part), right, atol=1e-3, rtol=1e-3)
        assert float((getattr(rounded, part) - right).abs().mean()) < 0.05


@needs_kernels
@pytest.mark.parametrize("scaled_once", [False, True])
def test_flow_is_that_of_the_plain_operators(scaled_once: bool) -> None:
    torch.manual_seed(0)
    network = ScopeFlow(scaled_once=scaled_once)
    with torch.no_grad():
        _enlarge(network)
    exact = Interpolator(network, name="scopeflow", device="cpu", dtype="float32")
    frames = bikes()[:, :2]
    with ops.use_reference():
        wanted, fused = fuses(network, lambda: exact.flow(frames))
    assert not fused
    assert float(wanted.abs().max()) > 1
    made, fused = fuses(network, lambda: exact.flow(frames))
    assert fused
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=1e-4)
    quick = Interpolator(network, name="scopeflow", device="cpu", dtype="bfloat16").flow(frames)
    assert float((quick - wanted).norm(dim=1).mean()) < 0.02 * float(wanted.norm(dim=1).mean())


@needs_kernels
def test_each_level_of_the_pyramid_keeps_its_weights_in_order() -> None:
    net = model("eqvi", "bfloat16")
    net.interpolate(bikes()[:, :4], 0.5)
    prepared = packed._prepared[net.network.flownet][1]  # type: ignore[index]
    assert isinstance(prepared, fused_scopeflow.FusedFlowNet)
    kept = dict(prepared._residual._packed)
    net.interpolate(bikes()[:, 1:], 0.5)
    if prepared._residual._packs:
        assert len(kept) == 5
        assert all(prepared._residual._packed[size] is weight for size, weight in kept.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_with_gradients_nothing_is_fused(name: str) -> None:
    network = NETWORKS[name]().eval()
    side = network.size_multiple
    frames = torch.rand(1, 2, 3, side, side)
    made, fused = fuses(network, lambda: network(frames, torch.full((1, 1, 1, 1), 0.5)))
    assert not fused
    made.mean().backward()
    assert all(weight.grad is not None for weight in network.parameters())


def test_without_the_extension_nothing_is_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "available", lambda device="cpu": False)
    assert not interpolate(model("eqvi", "float32"), bikes()[:, :2], 0.5)[1]


@needs_kernels
@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_remembered_of_windows_makes_the_same_picture(name: str) -> None:
    net = model(name, "bfloat16")
    wanted = net.interpolate(bikes()[:, 1:], 0.75)
    net.interpolate(bikes()[:, :4], 0.25, keys=range(4))
    assert torch.equal(net.interpolate(bikes()[:, 1:], 0.75, keys=range(1, 5)), wanted)


@needs_kernels
def test_frames_may_lie_in_any_order_in_memory() -> None:
    net, frames = model("eqvi", "bfloat16"), F.pad(bikes()[:, :2], (0, 28, 0, 4))
    turned = frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    wanted = net.interpolate(frames, 0.5)
    assert psnr(net.interpolate(turned, 0.5), wanted) > 90


# ------------------------------------------------------------------------- the ruler


def test_the_benchmarks_plain_operators_are_the_authors(shared_data: Path) -> None:
    check_the_ruler("eqvi", "plain_eqvi", "eqvi", shared_data)
