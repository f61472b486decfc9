"""The interpolator's promises, which hold for every model: sizes, batches, times, options."""

from __future__ import annotations

import weakref
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from vfi_cli.errors import DeviceError, ModelError, UsageError
from vfi_cli.models import load_model
from vfi_cli.models.base import Interpolator, Memo, Network
from vfi_cli.models.eqvi import EQVI, quadratic_flow
from vfi_cli.models.ifrnet import IFRNet, Widths
from vfi_cli.models.rife import RIFE
from vfi_cli.models.rrin import RRIN
from vfi_cli.models.scopeflow import FlowNet

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Widths((8, 8, 8, 8), 4)
NETWORKS = {
    "rife": lambda: RIFE((16, 12, 8), 4),
    "rifem": lambda: RIFE((16, 12, 8), 4, timed=True),
    "rife-2r": lambda: RIFE((16, 12, 8), 4, first_stride=1),
    "ifrnet": lambda: IFRNet(SMALL),
    "ifrnet-gelu-bn": lambda: IFRNet(Widths((8, 8, 8, 8), 4, activation="gelu-bn")),
    "rrin": RRIN,
}


def build(name: str) -> Interpolator:
    torch.manual_seed(3)
    return Interpolator(NETWORKS[name](), name=name, device="cpu", dtype="float32")


def clip(batch: int, height: int, width: int, frames: int = 2) -> Tensor:
    """A smooth pattern that moves."""
    y = torch.arange(height).view(-1, 1) / 9
    x = torch.arange(width) / 7
    phases = torch.arange(batch * frames).view(batch, frames, 1, 1, 1) * 0.4
    shifts = torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1)
    return 0.5 + 0.4 * torch.sin(x + y + shifts + phases)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (2, 65)])
def test_any_size_gives_its_size(name: str, size: tuple[int, int]) -> None:
    out = build(name).interpolate(clip(1, *size), 0.5)
    assert out.shape == (1, 3, *size)
    assert out.dtype == torch.float32
    assert bool(((out >= 0) & (out <= 1)).all())


@pytest.mark.parametrize("name", ["rifem", "ifrnet", "rrin"])
def test_a_batch_equals_its_items_at_their_own_times(name: str) -> None:
    model = build(name)
    frames, times = clip(3, 40, 36), torch.tensor([0.25, 0.5, 0.9])
    together = model.interpolate(frames, times)
    for number in range(3):
        alone = model.interpolate(frames[number : number + 1], float(times[number]))
        torch.testing.assert_close(together[number : number + 1], alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", ["rifem", "ifrnet", "rrin"])
def test_one_window_at_several_times_equals_each_alone(name: str) -> None:
    model = build(name)
    frames = clip(1, 32, 40)
    together = model.interpolate(frames, torch.tensor([0.2, 0.7]), keys="ab")
    for number, t in enumerate((0.2, 0.7)):
        alone = model.interpolate(frames, t)
        torch.testing.assert_close(together[number : number + 1], alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_memory_layout_and_dtype_of_the_input_do_not_matter(name: str) -> None:
    model, frames = build(name), clip(2, 32, 32)
    expected = model.interpolate(frames, 0.5)
    strided = frames.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    torch.testing.assert_close(model.interpolate(strided, 0.5), expected, atol=2e-6, rtol=0)
    torch.testing.assert_close(model.interpolate(frames.double(), 0.5), expected)


class Stamp(Network):
    """Shows the picture that it was given, and remembers its size and time."""

    any_timestep = True
    timestep_map = True
    size_multiple = 16

    def forward(self, frames, timestep, *, scale=1.0, ensemble=False, memo=None):
        self.seen, self.time, self.scale = frames, timestep, scale
        return frames[:, 0].expand(timestep.shape[0], -1, -1, -1)


def stamp(**attributes: object) -> Interpolator:
    model = Interpolator(Stamp(), name="stamp", device="cpu", dtype="float32")
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize(("scale", "multiple"), [(0.25, 64), (0.5, 32), (1, 16), (2, 16), (4, 16)])
def test_padding_repeats_the_edge_and_is_cut_off(scale: float, multiple: int) -> None:
    model, frames = stamp(), clip(1, 21, 39)
    out = model.interpolate(frames, 0.5, scale=scale)
    seen = model.network.seen
    assert torch.equal(out, frames[:, 0])
    assert seen.shape[-2:] == (-(-21 // multiple) * multiple, -(-39 // multiple) * multiple)
    assert torch.equal(seen[..., :21, :39], frames)
    assert torch.equal(seen[..., 21:, :39], frames[..., 20:, :].expand_as(seen[..., 21:, :39]))
    assert torch.equal(seen[..., 39:], seen[..., 38:39].expand_as(seen[..., 39:]))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_picture_inside_hardly_depends_on_how_much_is_padded(name: str) -> None:
    """A flat picture stays as flat at its padded edge as a picture that needs no padding."""
    model = build(name)
    flat = torch.full((1, 2, 3, 64, 64), 0.5)
    whole, cut = model.interpolate(flat, 0.5), model.interpolate(flat[..., :50, :50], 0.5)
    torch.testing.assert_close(cut, whole[..., :50, :50], atol=2e-3, rtol=0)


def test_times_reach_the_network_as_they_are() -> None:
    model, frames = stamp(), clip(1, 16, 32)
    for t in (0.25, Fraction(1, 4), torch.tensor(0.25), torch.tensor([0.25])):
        model.interpolate(frames, t)
        assert model.network.time.shape == (1, 1, 1, 1)
        assert float(model.network.time) == 0.25
    rows = torch.linspace(0, 1, 16).view(1, 1, 16, 1).expand(1, 1, 16, 32)
    model.interpolate(frames, rows)
    assert torch.equal(model.network.time, rows)


def test_views_turn_time_and_picture_and_turn_back() -> None:
    model, frames = stamp(), clip(1, 16, 32)
    rows = torch.linspace(0, 1, 16).view(1, 1, 16, 1).expand(1, 1, 16, 32)
    assert torch.allclose(model.interpolate(frames, rows, tta=True), frames[:, 0])
    assert torch.equal(model.network.time, rows.flip(-2, -1))
    assert torch.allclose(model.interpolate(frames, 0.25, tta="flip, rotate"), frames[:, 0])
    assert model.network.seen.shape[-2:] == (32, 16)
    out = model.interpolate(frames, 0.25, tta=["reverse"])
    assert torch.allclose(out, frames.mean(1))
    assert float(model.network.time) == 0.75
    model.interpolate(frames, 0.25, tta="multiscale")
    assert model.network.scale == 0.5


@pytest.mark.parametrize("name", ["rifem", "ifrnet", "rrin"])
def test_a_constant_map_of_t_equals_the_number(name: str) -> None:
    model, frames = build(name), clip(1, 33, 47)
    expected = model.interpolate(frames, 0.3)
    found = model.interpolate(frames, torch.full((1, 1, 33, 47), 0.3))
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_motion_is_what_the_picture_is_warped_with(name: str) -> None:
    model = build(name)
    motion = model.motion(clip(2, 30, 41), 0.5)
    assert motion.flow0.shape == motion.flow1.shape == (2, 2, 30, 41)
    assert motion.mask.shape == (2, 1, 30, 41)
    assert bool(((motion.mask >= 0) & (motion.mask <= 1)).all())


def test_what_a_model_cannot_do_is_said() -> None:
    frames = clip(1, 16, 16)
    middle = build("rife")
    for t in (0.25, Fraction(1, 3), torch.tensor([0.5001])):
        with pytest.raises(ModelError, match="only makes the middle frame"):
            middle.interpolate(frames, t)
    middle.interpolate(frames, Fraction(1, 2))
    with pytest.raises(ModelError, match="cannot average"):
        middle.interpolate(frames, 0.5, ensemble=True)
    with pytest.raises(ModelError, match="own scale"):
        build("rrin").interpolate(frames, 0.5, scale=0.5)
    with pytest.raises(ModelError, match="not a map"):
        stamp(timestep_map=False).interpolate(frames, torch.zeros(1, 1, 16, 16))
    with pytest.raises(ModelError, match="where its pixels come from"):
        stamp().motion(frames, 0.5)
    with pytest.raises(ModelError, match="does not find the flow"):
        stamp().flow(frames)


@pytest.mark.parametrize(
    ("frames", "options", "expected"),
    [
        (clip(1, 16, 16)[0], {}, "must be floating point"),
        ((clip(1, 16, 16) * 255).byte(), {}, "must be floating point"),
        (clip(1, 16, 16, frames=4), {}, "sees 2 frames, not 4"),
        (clip(1, 16, 16), {"t": 1.5}, "between 0 and 1"),
        (clip(1, 16, 16), {"t": float("nan")}, "between 0 and 1"),
        (clip(2, 16, 16), {"t": torch.zeros(3)}, "3 times for 2 windows"),
        (clip(1, 16, 16), {"t": torch.zeros(1, 1, 4, 4)}, "it must be a number"),
        (clip(1, 16, 16), {"scale": 0.3}, "scale 0.3 is not one of"),
        (clip(1, 16, 16), {"tta": "mirror"}, "'mirror' is not a test-time ensemble"),
        (clip(2, 16, 16), {"keys": "ab"}, "one window"),
        (clip(1, 16, 16), {"keys": "abc"}, "one key for each"),
    ],
)
def test_wrong_arguments(frames: Tensor, options: dict[str, object], expected: str) -> None:
    options = {"t": 0.5} | options
    with pytest.raises(UsageError, match=expected):
        stamp().interpolate(frames, **options)


def test_no_windows_give_no_frames() -> None:
    assert stamp().interpolate(torch.zeros(0, 2, 3, 8, 8), 0.5).shape == (0, 3, 8, 8)


def test_a_full_device_is_a_device_error() -> None:
    model = stamp()

    def full(*_: object, **__: object) -> Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    model.network.forward = full
    with pytest.raises(DeviceError, match="too little memory for stamp"):
        model.interpolate(clip(1, 16, 16), 0.5)


def test_blend_and_nearest() -> None:
    frames = clip(1, 5, 7)
    first, second = frames[:, 0], frames[:, 1]
    blend, nearest = load_model("blend", device="cpu"), load_model("nearest", device="cpu")
    assert (blend.fingerprint, blend.size_multiple, blend.parameters) == ("blend", 1, 0)
    torch.testing.assert_close(
        blend.interpolate(frames, Fraction(1, 4)), 0.75 * first + 0.25 * second
    )
    assert torch.equal(nearest.interpolate(frames, 0.5), first)
    assert torch.equal(nearest.interpolate(frames, 0.51), second)
    rows = torch.tensor([0.0, 0.2, 0.5, 0.7, 1.0]).view(1, 1, 5, 1).expand(1, 1, 5, 7)
    picture = nearest.interpolate(frames, rows)
    assert torch.equal(picture[..., :3, :], first[..., :3, :])
    assert torch.equal(picture[..., 3:, :], second[..., 3:, :])


def test_a_memo_keeps_the_last_of_each_kind() -> None:
    memo, calls = Memo(), []

    def ask(what: str, position: int) -> None:
        memo(what, (position,), lambda: calls.append((what, position)), keep=2)

    for keys in ("ab", "bc", "bc", "cd"):
        memo.bind(keys, None)
        for position in (0, 1):
            ask("x", position)
    assert len(calls) == 4  # a, b, c, d, each once
    memo.bind("ab", None)
    ask("x", 0)
    assert len(calls) == 5  # a is long gone
    memo.bind(None, None)
    ask("x", 0)
    assert len(calls) == 6  # nameless frames are never remembered


def test_a_memo_makes_room_before_it_computes() -> None:
    """Three values of a large frame, where two are kept, would be a third more memory."""
    memo, alive = Memo(), []

    def compute() -> Tensor:
        alive.append(sum(one() is not None for one in values))
        value = torch.zeros(1)
        values.append(weakref.ref(value))
        return value

    values: list[weakref.ref[Tensor]] = []
    for keys in ("ab", "bc", "cd"):
        memo.bind(keys, None)
        for position in (0, 1):
            memo("x", (position,), compute)
    assert alive == [0, 1, 1, 1]


class CountingFlow(FlowNet):
    calls = 0
    encoded = 0

    def features(self, frame: Tensor) -> list[Tensor]:
        CountingFlow.encoded += 1
        return super().features(frame)

    def between(self, first, features0, second, features1) -> Tensor:
        CountingFlow.calls += 1
        return first.new_zeros(first.shape[0], 2, *first.shape[2:])


def test_flow_is_found_once_per_pair_and_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfi_cli.models.eqvi.FlowNet", CountingFlow)
    model = Interpolator(EQVI(), name="eqvi", device="cpu", dtype="float32")
    frames = clip(1, 64, 64, frames=6)
    for start in range(3):
        window, keys = frames[:, start : start + 4], range(start, start + 4)
        for t in (0.25, 0.5):
            model.interpolate(window, t, keys=keys)
    # Six flows in the first window; of the next, 1→0 and 1→2 of frame 1 were 2→1 and 2→3 there.
    assert CountingFlow.calls == 6 + 4 + 4
    assert CountingFlow.encoded == 6


def test_four_frame_models_take_two_frames_as_linear_motion() -> None:
    torch.manual_seed(0)
    model = Interpolator(EQVI(), name="eqvi", device="cpu", dtype="float32")
    out = model.interpolate(clip(1, 20, 24), 0.3)
    assert out.shape == (1, 3, 20, 24)
    with pytest.raises(UsageError, match="sees 4 frames, not 3"):
        model.interpolate(clip(1, 20, 24, frames=3), 0.3)


def flows(*values: float) -> tuple[Tensor, ...]:
    return tuple(torch.full((1, 2, 1, 1), float(value)) for value in values)


def test_quadratic_flow() -> None:
    t = torch.tensor(0.5).view(1, 1, 1, 1)
    # Exact quadratic motion x(s) = 3s + 2s²: every estimate agrees, and so do both fits.
    back, forth, far = flows(-3 + 2, 3 + 2, 6 + 8)
    torch.testing.assert_close(quadratic_flow(back, forth, far, t), *flows(1.5 + 0.5))
    # Estimates of opposite sign: the solution of the two neighbours alone.
    back, forth, far = flows(-1.0, 2.0, 3.0)
    torch.testing.assert_close(quadratic_flow(back, forth, far, t), *flows(1.5 * 0.5 + 0.125))
    # Estimates of one sign that differ little: all but the least-squares fit.
    back, forth, far = flows(-1.0, 2.0, 5.5)
    design = torch.tensor([[-1, 0.5], [1, 0.5], [2, 2]])
    fit = torch.linalg.lstsq(design, torch.tensor([[-1.0], [2.0], [5.5]])).solution.flatten()
    expected = float(fit[0]) * 0.5 + float(fit[1]) * 0.125
    torch.testing.assert_close(
        quadratic_flow(back, forth, far, t), *flows(expected), atol=1e-3, rtol=0
    )
    # Estimates that differ much, though of one sign: the neighbours alone again.
    back, forth, far = flows(-1.0, 2.0, 40.0)
    torch.testing.assert_close(
        quadratic_flow(back, forth, far, t), *flows(1.5 * 0.5 + 0.125), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("name", ["rifem", "ifrnet", "ifrnet-gelu-bn"])
def test_bfloat16_stays_near_float32(name: str) -> None:
    frames = clip(1, 64, 64)
    exact = build(name).interpolate(frames, 0.5)
    torch.manual_seed(3)
    half = Interpolator(NETWORKS[name](), name=name, device="cpu", dtype="bfloat16")
    error = (half.interpolate(frames, 0.5) - exact).square().mean()
    assert float(-10 * torch.log10(error)) > 45  # dB


class Fixed(Stamp):
    """Has no resolution of flow to choose."""

    has_scale = False


def test_multiscale_halves_the_picture_where_flow_has_no_resolution() -> None:
    model = Interpolator(Fixed(), name="fixed", device="cpu", dtype="float32")
    frames = torch.linspace(0, 1, 45).view(1, 1, 1, 1, 45).expand(1, 2, 3, 31, 45).contiguous()
    rows = torch.linspace(0, 1, 31).view(1, 1, 31, 1).expand(1, 1, 31, 45)
    out = model.interpolate(frames, rows, tta="multiscale")
    assert model.network.seen.shape[-2:] == (16, 32), "16×23, padded"
    assert model.network.time.shape[-2:] == (16, 32)
    assert model.network.scale == 1
    torch.testing.assert_close(out, frames[:, 0], atol=0.01, rtol=0)  # a ramp survives halving
    assert not torch.equal(out, frames[:, 0])


def test_ensembles_have_one_order_and_the_command_line_knows_them() -> None:
    from vfi_cli.cli.options import VIEWS
    from vfi_cli.models.base import ENSEMBLES, ensemble_names

    assert VIEWS == ENSEMBLES
    assert ensemble_names(False) == ensemble_names(()) == ()
    assert ensemble_names(True) == ("flip",)
    assert ensemble_names("reverse, flip,reverse") == ensemble_names(["flip", "reverse"])
