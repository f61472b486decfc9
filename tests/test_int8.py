"""Convolutions of 8-bit numbers: the kernels against their twin, and the pictures made so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import fusedkit, test_fused, test_fused_networks
from tests.fusedkit import last, psnr
from vfi_cli.errors import DeviceError, ModelError
from vfi_cli.models import devices, load_model
from vfi_cli.models.base import Interpolator
from vfi_cli.models.devices import WITH_INT8, pick_dtype
from vfi_cli.models.packed import ActivatedConv, Values
from vfi_cli.models.rife import RIFE
from vfi_cli.native import int8_ops, int8_reference, ops
from vfi_cli.native.int8_ops import Input, conv_int8, int8_peak, pack

pytestmark = pytest.mark.usefixtures("one_thread")

needs_kernels = pytest.mark.skipif(
    int8_ops.kernels() is None, reason="no kernels for this processor"
)

#: Channels in and out, kernel, stride, padding, height, width, batch: every number of vectors in a
#: block, wide and narrow ones, channels that fill neither them nor groups of four, rows narrower
#: than a tile.
SHAPES = [
    (24, 24, 3, 1, 1, 9, 13, 2),
    (48, 96, 3, 2, 1, 20, 17, 1),
    (13, 45, 3, 1, 1, 7, 5, 1),
    (24, 80, 2, 1, 1, 6, 21, 1),
    (150, 150, 3, 1, 1, 5, 9, 1),
    (8, 64, 3, 1, 1, 3, 30, 1),
    (5, 200, 5, 3, 2, 11, 14, 2),
    (1, 1, 1, 1, 0, 3, 3, 1),
    (64, 5, 3, 1, 1, 4, 1, 3),
    (6, 40, 8, 1, 0, 8, 9, 1),
]


def seen(x: Tensor, grow: int = 1) -> Input:
    return Input(x, int8_peak(x), grow)


def drawn(
    c: int, n: int, kernel: int, stride: int, padding: int, height: int, width: int, batch: int
) -> tuple[Tensor, int8_ops.Packed, dict[str, Any]]:
    torch.manual_seed(0)
    packed = pack(torch.randn(n, c, kernel, kernel) / 8, torch.randn(n), torch.rand(n))
    rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    beside = [last(torch.randn(batch, n, rows, columns)) for _ in range(2)]
    options = {"stride": stride, "padding": padding, "before": beside[0], "after": beside[1]}
    return last(torch.randn(batch, c, height, width)), packed, options


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_its_twin(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Sums are exact in both; what follows them differs by a rounding, or one of bfloat16."""
    x, packed, options = drawn(*shape)
    x = x.to(dtype)
    options = {k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in options.items()}
    peak = int8_peak(x)
    made, most = conv_int8([Input(x, peak)], packed, **options)
    with ops.use_reference():
        assert torch.equal(int8_peak(x), peak)
        wanted, wanted_most = conv_int8([Input(x, peak)], packed, **options)
    assert made.dtype == dtype
    assert made.is_contiguous(memory_format=torch.channels_last)
    tolerance = 1e-5 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(made, wanted, rtol=tolerance, atol=tolerance / 10)
    torch.testing.assert_close(most, wanted_most, rtol=1e-5, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("grow", [(1, 1), (2, 2), (1, 2)], ids=str)
def test_two_inputs_are_their_channels_side_by_side(
    grow: tuple[int, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    packed = pack(torch.randn(40, 23, 3, 3) / 8, torch.randn(40), 0.2, [5, 18])
    parts = [
        last(torch.randn(2, c, 12 // size, 10 // size) * c, dtype)
        for c, size in zip((5, 18), grow, strict=True)
    ]
    inputs = [seen(part, size) for part, size in zip(parts, grow, strict=True)]
    made, most = conv_int8(inputs, packed, stride=2)
    with ops.use_reference():
        wanted, wanted_most = conv_int8(inputs, packed, stride=2)
    tolerance = 1e-5 if dtype == torch.float32 else 8e-3
    torch.testing.assert_close(made, wanted, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(most, wanted_most, rtol=1e-5, atol=1e-5)


def test_the_twin_is_a_convolution_where_nothing_is_rounded() -> None:
    """Inputs and weights that are whole shares of their largest."""
    torch.manual_seed(0)
    x = torch.randint(-127, 128, (2, 6, 5, 7)).float()
    weight = torch.randint(-127, 128, (9, 6, 3, 3)).float()
    x[:, 0, 0, 0] = 127
    weight[:, 0, 0, 0] = -127
    bias, slopes = torch.randn(9), torch.rand(9)
    with ops.use_reference():
        made, most = conv_int8([seen(last(x))], pack(weight, bias, slopes), stride=2)
    wanted = F.prelu(F.conv2d(x, weight, bias, 2, 1), slopes)
    torch.testing.assert_close(made, wanted, rtol=1e-6, atol=1e-2)
    torch.testing.assert_close(most, wanted.abs().amax((1, 2, 3)), rtol=1e-6, atol=0)


def test_packed_weights_are_the_weights_rounded() -> None:
    weight = torch.randn(45, 13, 3, 3)
    weight[7] = 0
    packed = pack(weight, None)
    scale = packed.scales[0][:45, None, None, None]
    held = int8_reference.kernels(packed.weights[0], 45, 13) * scale
    assert float((held - weight).abs().max()) <= float(scale.max()) / 2
    assert not held[7].any()
    assert int(packed.weights[0].abs().max()) == int8_reference.PEAK


@needs_kernels
def test_nothing_depends_on_threads_or_on_what_else_is_in_the_batch() -> None:
    x, packed, options = drawn(24, 24, 3, 1, 1, 37, 50, 3)
    x[1] *= 5
    together = conv_int8([seen(x)], packed, **options)
    for i in range(3):
        part = {k: v[i : i + 1] if isinstance(v, Tensor) else v for k, v in options.items()}
        alone = conv_int8([seen(x[i : i + 1])], packed, **part)
        assert torch.equal(alone[0], together[0][i : i + 1])
        assert torch.equal(alone[1], together[1][i : i + 1])
    torch.set_num_threads(3)
    again = conv_int8([seen(x)], packed, **options)
    assert torch.equal(again[0], together[0])
    assert torch.equal(again[1], together[1])


@needs_kernels
def test_what_is_read_may_be_part_of_more_channels() -> None:
    x, packed, options = drawn(24, 24, 3, 1, 1, 9, 13, 2)
    wide = last(torch.full((2, 40, 9, 13), 1e9))
    wide[:, 8:32] = x
    part = wide[:, 8:32]
    assert torch.equal(int8_peak(part), int8_peak(x))
    made = conv_int8([seen(part)], packed, **options)[0]
    wanted = conv_int8([seen(x)], packed, **options)[0]
    assert torch.equal(made, wanted)


@pytest.mark.parametrize("native", [True, False])
def test_zeros_and_what_is_no_number(native: bool) -> None:
    """A sample of zeros gives the bias; NaN counts as zero, and is nobody's largest."""
    if native and int8_ops.kernels() is None:
        pytest.skip("no kernels for this processor")
    packed = pack(torch.randn(8, 4, 3, 3), torch.arange(8.0))
    x = last(torch.zeros(2, 4, 5, 6))
    x[1] = torch.randn(4, 5, 6)
    holed = x.clone()
    holed[1, 2, 3, 3] = float("nan")
    x[1, 2, 3, 3] = 0

    def run(values: Tensor) -> Tensor:
        return conv_int8([seen(values)], packed)[0]

    if native:
        made, wanted = run(holed), run(x)
    else:
        with ops.use_reference():
            made, wanted = run(holed), run(x)
    assert torch.equal(made, wanted)
    assert torch.equal(made[0], torch.arange(8.0)[:, None, None].expand(8, 5, 6))


@needs_kernels
def test_the_operators_pass_opcheck() -> None:
    x, packed, options = drawn(13, 45, 3, 2, 1, 7, 5, 2)
    torch.library.opcheck(torch.ops.vfi.int8_peak.default, (x,))
    arguments = ([x], [1], [int8_peak(x)], *packed, 2, 1, options["before"], None)
    torch.library.opcheck(torch.ops.vfi.conv_int8.default, arguments)


@needs_kernels
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [last(torch.zeros(1, 12, 5, 5))]}, "another number of channels"),
        ({"inputs": [torch.zeros(1, 24, 5, 5)]}, "channels-last"),
        ({"inputs": [last(torch.zeros(1, 24, 5, 5)).half()]}, "float32 or bfloat16"),
        ({"inputs": []}, "1 or 2 inputs"),
        ({"grow": [3]}, "grow by 1 or 2"),
        ({"peaks": [torch.zeros(2)]}, "peak"),
        ({"channels": 12}, "are put out"),
        ({"before": last(torch.zeros(1, 24, 5, 6))}, "one shape"),
        ({"stride": 0}, "stride"),
        ({"padding": 0, "inputs": [last(torch.zeros(1, 24, 2, 5))]}, "smaller than the kernel"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    arguments = {
        "inputs": [last(torch.zeros(1, 24, 5, 5))],
        "grow": [1],
        "peaks": [torch.ones(1)],
        **pack(torch.randn(24, 24, 3, 3), None)._asdict(),
        "stride": 1,
        "padding": 1,
        "before": None,
        "after": None,
    }
    with pytest.raises(RuntimeError, match=message):
        torch.ops.vfi.conv_int8(**(arguments | change))


@pytest.mark.parametrize("int8", [False, True])
def test_a_convolution_and_what_follows_it(int8: bool) -> None:
    """The same in both ways of multiplying, but for the rounding of 8 bits."""
    torch.manual_seed(0)
    conv, slopes = nn.Conv2d(16, 24, 3, 2, 1).requires_grad_(False), torch.rand(24)
    x = last(torch.randn(1, 16, 12, 10))
    before, after = (last(torch.randn(1, 24, 6, 5)) for _ in range(2))
    made = ActivatedConv(conv.weight, conv.bias, slopes, stride=2, int8=int8)(
        Values(x), before=before, after=after
    )
    assert (made.peak is not None) == int8
    error = made.x - (F.prelu(conv(x) + before, slopes) + after)
    assert float(error.abs().max()) < (0.05 if int8 else 1e-5)
    within = ActivatedConv(conv.weight, conv.bias, 0.2, stride=2, int8=int8)
    if not int8:
        with pytest.raises(ValueError, match="nothing can be added"):
            within(Values(x), before=before)
    leaky = within(Values(x))
    assert float((leaky.x - F.leaky_relu(conv(x), 0.2)).abs().max()) < (0.05 if int8 else 1e-5)


# ------------------------------------------------------------------------------ pictures


def families() -> list[tuple[str, str]]:
    rife = ("lite", "rife-v4.0", "rife-v4.6", "4.25.lite", "rife-v4.26.heavy", "rifem")
    others = ("ifrnet", "ifrnet-l", "ifrnet-gelu", "ifrnet-gelu-bn", "rrin")
    return [*(("rife", name) for name in rife), *(("other", name) for name in others)]


@needs_kernels
@pytest.mark.parametrize(("family", "name"), families())
def test_pictures_are_those_of_float32(
    family: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = test_fused.model if family == "rife" else test_fused_networks.model
    frames = fusedkit.bikes(range(40, 43, 2), 70, 133)
    calls = []

    def counting(*arguments: object, **options: object) -> object:
        calls.append(1)
        return conv_int8(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(int8_ops, "conv_int8", counting)
    wanted = make(name, "float32").interpolate(frames, 0.5)
    assert not calls
    quick = make(name, "int8")
    made = quick.interpolate(frames, 0.5)
    assert len(calls) > 10
    assert quick.dtype == torch.int8
    assert 40 < psnr(made, wanted) < 110


@needs_kernels
@pytest.mark.parametrize("bfloat16", [True, False])
def test_the_default_model_makes_the_same_picture(
    bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own weights: closer than what it is wrong by, by far. A processor that has 8-bit
    products alone does the rest in float32."""
    monkeypatch.setattr(devices, "_fast_bfloat16", lambda: bfloat16)
    frames = fusedkit.bikes(range(40, 43), 270, 480)
    between = frames[:, [0, 2]].contiguous()
    exact = load_model(device="cpu", dtype="float32").interpolate(between, 0.5)
    quick = load_model(device="cpu", dtype="int8")
    held = next(quick.network.parameters()).dtype
    assert held == (torch.bfloat16 if bfloat16 else torch.float32)
    made = quick.interpolate(between, 0.5)
    assert psnr(made, exact) > 45
    assert abs(psnr(made, frames[:, 1]) - psnr(exact, frames[:, 1])) < 0.05


def test_auto_takes_int8_where_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setattr(devices, "_has_int8", lambda device: device.type == "cpu")
    monkeypatch.setattr(devices, "_has_amx", lambda: False)
    assert pick_dtype("auto", cpu, WITH_INT8, int8_measured=True) == torch.int8
    assert pick_dtype("auto", cpu, WITH_INT8) != torch.int8
    assert pick_dtype("int8", cpu, WITH_INT8) == torch.int8
    assert pick_dtype("auto", cuda, WITH_INT8, int8_measured=True) == torch.float16
    with pytest.raises(DeviceError, match="int8 needs a CPU"):
        pick_dtype("int8", cuda, WITH_INT8)
    with pytest.raises(ModelError, match="not safe in int8; use float32, bfloat16, float16"):
        pick_dtype("int8", cpu, devices.ALL_DTYPES)
    monkeypatch.setattr(devices, "_has_amx", lambda: True)
    assert pick_dtype("auto", cpu, WITH_INT8, int8_measured=True) == torch.bfloat16
    monkeypatch.setattr(devices, "_has_int8", lambda device: False)
    with pytest.raises(DeviceError, match="int8 needs a CPU"):
        pick_dtype("int8", cpu, WITH_INT8)


def test_a_network_without_such_operators_has_no_int8() -> None:
    with pytest.raises(ModelError, match="not safe in int8"):
        Interpolator(RIFE(first_stride=1), name="rife-2r", device="cpu", dtype="int8")
