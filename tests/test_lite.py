"""vfi's own network: blending exactly where motion explains nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vfi_cli.errors import ModelError
from vfi_cli.models import load_model
from vfi_cli.models.lite import LiteNet, grown
from vfi_cli.models.rife4 import IFNet, Spec

SMALL = replace(Spec(), widths=(16, 16, 8, 8, 8))


def shares(frame0: Tensor, frame1: Tensor, warped0: Tensor, warped1: Tensor) -> Tensor:
    return LiteNet(SMALL)._share(frame0, frame1, warped0, warped1)


def picture(seed: int) -> Tensor:
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(seed))


def test_equal_frames_are_blended_whatever_the_motion() -> None:
    frame = picture(0)
    assert torch.all(shares(frame, frame + 3 / 255, picture(1), picture(2)) == 1)


def test_motion_that_explains_the_frames_is_trusted() -> None:
    frame, other = picture(0), picture(1)
    assert float(shares(frame, other, frame, frame + 1 / 255).max()) < 1e-3


def test_motion_that_explains_nothing_is_not() -> None:
    frame = picture(0)
    other = frame + 0.2
    assert float(shares(frame, other, picture(1), picture(2)).min()) > 0.5


def test_the_choice_is_local() -> None:
    frame = picture(0)
    other = frame.clone()
    other[..., 48:] = picture(1)[..., 48:]  # the right half moves
    share = shares(frame, other, frame, frame)
    assert torch.all(share[..., :40] == 1)
    assert float(share[..., 64:].max()) < 1e-3


def test_the_key_in_the_file_tells_it_from_rife(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = LiteNet(SMALL)
    own, plain = tmp_path / "own.safetensors", tmp_path / "plain.safetensors"
    state = network.state_dict()
    save_file(state, own)
    save_file({key: value for key, value in state.items() if key != "trust"}, plain)
    ours = load_model(own, device="cpu", dtype="float32")
    rife = load_model(plain, device="cpu", dtype="float32")
    assert (ours.architecture, type(ours.network)) == ("vfi-lite", LiteNet)
    assert (rife.architecture, type(rife.network)) == ("rife-v4.25", IFNet)


def test_where_blocks_look_is_in_the_file_and_they_begin_as_others(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = LiteNet(SMALL).state_dict()
    sources = (0, 1, 1, 2, 3, 4)
    spec = replace(SMALL, widths=(16, 16, 16, 8, 8, 8), scales=(32, 16, 8, 4, 2, 1))
    network = LiteNet(spec)
    network.load_state_dict(grown(state, sources) | {"scales": network.state_dict()["scales"]})
    path = tmp_path / "six.safetensors"
    save_file(network.state_dict(), path)
    found = load_model(path, device="cpu", dtype="float32")
    assert found.architecture == "vfi-lite"
    assert found.size_multiple == 128
    assert isinstance(found.network, LiteNet)
    assert found.network.spec == spec
    for number, source in enumerate(sources):
        for key, value in found.network.get_submodule(f"block{number}").state_dict().items():
            assert torch.equal(value, state[f"block{source}.{key}"])
    assert torch.equal(found.network.encode.cnn0.weight, state["encode.cnn0.weight"])
    with pytest.raises(KeyError, match="block5"):
        grown(state, (0, 5))


@pytest.mark.parametrize(
    "scales", [(16, 16, 8, 4), (8, 16, 4, 2, 1), (16, 8, 3, 2, 1), (-1,) * 5, (1e9,) * 5]
)
def test_blocks_that_look_nowhere_are_refused(tmp_path: Path, scales: tuple[float, ...]) -> None:
    path = tmp_path / "odd.safetensors"
    save_file(LiteNet(SMALL).state_dict() | {"scales": torch.tensor(scales)}, path)
    with pytest.raises(ModelError, match=r"odd\.safetensors: looks like"):
        load_model(path, device="cpu")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_through_the_interpolator(tmp_path: Path, dtype: str) -> None:
    """Odd sizes and several times of one window; a still scene comes back as it is."""
    torch.manual_seed(0)
    path = tmp_path / "own.safetensors"
    save_file(LiteNet(SMALL).state_dict(), path)
    model = load_model(path, device="cpu", dtype=dtype)
    still = torch.rand(1, 1, 3, 51, 70).expand(-1, 2, -1, -1, -1)
    made = model.interpolate(still, torch.tensor([0.25, 0.5]))
    assert made.shape == (2, 3, 51, 70)
    assert torch.allclose(made, still[:, 0].expand(2, -1, -1, -1), atol=1e-6)
