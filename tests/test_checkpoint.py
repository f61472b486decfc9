"""Checkpoints: told apart by their content, named when they are wrong, and never run."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vfi_cli.errors import ModelError
from vfi_cli.models.checkpoint import canonicalise, identify, read_state_dict, sha256_of
from vfi_cli.models.ifrnet import IFRNet, Widths
from vfi_cli.models.registry import Architecture, Registry, registry
from vfi_cli.models.rife import RIFE

NARROW = RIFE((16, 12, 8), 4)


def state_of(network: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def one_line(error: pytest.ExceptionInfo[ModelError], path: Path) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert path.name in message
    assert len(message) < 400
    return message


def test_the_published_wrappings_all_lead_to_the_same_weights(tmp_path: Path) -> None:
    plain = state_of(NARROW)
    teacher = {f"block_tea.{key}": torch.ones(2) for key in ("a", "b")}
    wrappings = {
        "plain.pth": plain,
        "parallel.pkl": OrderedDict((f"module.{k}", v) for k, v in (plain | teacher).items()),
        "eqvi.ckpt": {"model_state_dict": {f"module.{k}": v for k, v in plain.items()}, "epoch": 3},
        "scope.ckpt": {
            "arch": "x",
            "epoch": np.int64(3),
            "best": np.float64(0.5),
            "state_dict": {f"_model.module.{k}": v for k, v in plain.items()},
        },
        "half.pt": {k: v.half() for k, v in plain.items()},
    }
    for name, content in wrappings.items():
        path = tmp_path / name
        torch.save(content, path)
        state = read_state_dict(path)
        network, architecture = identify(state, registry(), path=path)
        assert architecture.name == "rife", name
        for key, value in network.state_dict().items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, plain[key], atol=1e-3, rtol=1e-3)


def test_old_and_new_containers_and_safetensors_are_told_by_content(tmp_path: Path) -> None:
    plain = state_of(NARROW)
    torch.save(plain, tmp_path / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(plain, tmp_path / "zip.bin")
    save_file(plain, tmp_path / "safe.bin")
    for name in ("legacy.bin", "zip.bin", "safe.bin"):
        state = read_state_dict(tmp_path / name)
        assert state.keys() == plain.keys()
        assert all(torch.equal(state[key], plain[key]) for key in plain)


def test_hyperparameters_are_read_off_the_shapes() -> None:
    network, told = identify(state_of(NARROW), registry())
    assert told.name == "rife"
    assert network.state_dict()["block1.lastconv.weight"].shape[0] == 12
    large = IFRNet(Widths((64, 96, 144, 192), 64, 7))
    assert identify(state_of(large), registry())[1].name == "ifrnet-l"


def test_rife_2r_is_only_taken_when_it_is_named() -> None:
    state = state_of(NARROW)
    assert identify(state, registry())[1].name == "rife"
    network, told = identify(state, registry(), architecture="rife-2r")
    assert told.name == "rife-2r"
    assert network.first_stride == 1


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(how: str, tmp_path: Path) -> None:
    marker, path = tmp_path / "was-run", tmp_path / "model.pkl"
    content = {"module.a": torch.ones(1), "extra": Hostile(marker)}
    if how == "pickle":
        path.write_bytes(pickle.dumps({"extra": Hostile(marker)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(ModelError, match=r"refused|damaged") as error:
        read_state_dict(path)
    message = one_line(error, path)
    assert not marker.exists()
    if how != "pickle":  # a bare pickle is no checkpoint in the first place
        assert "could run code" in message


def write_truncated_zip(path: Path) -> None:
    torch.save(state_of(NARROW), path)
    path.write_bytes(path.read_bytes()[:-1000])


def write_truncated_legacy(path: Path) -> None:
    torch.save(state_of(NARROW), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-1000])


def write_truncated_safetensors(path: Path) -> None:
    save_file(state_of(NARROW), path)
    path.write_bytes(path.read_bytes()[:-1000])


def write_truncated_header(path: Path) -> None:
    save_file(state_of(NARROW), path)
    path.write_bytes(path.read_bytes()[:600])


def write_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_log/flownet.pkl", b"x")


def write_not_finite(path: Path) -> None:
    state = state_of(NARROW)
    state["block0.lastconv.bias"][2] = float("nan")
    torch.save(state, path)


BROKEN = {
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "web page": (lambda path: path.write_bytes(b"\n<!DOCTYPE html><html>"), "web page"),
    "pointer": (lambda path: path.write_text("version https://git-lfs.x/spec/v1"), "LFS"),
    "text": (lambda path: path.write_text("hello, this is not a model"), "not a checkpoint"),
    "noise": (lambda path: path.write_bytes(bytes(range(7, 250)) * 9), "not a checkpoint"),
    "pickle noise": (lambda path: path.write_bytes(b"\x80\x02" + b"\xff" * 99), "damaged|refused"),
    "zip noise": (lambda path: path.write_bytes(b"PK\x03\x04" + b"\xff" * 99), "breaks off"),
    "huge header": (lambda path: path.write_bytes(struct.pack("<Q", 10**7) + b"{}"), "breaks off"),
    "truncated zip": (write_truncated_zip, "breaks off"),
    "truncated legacy": (write_truncated_legacy, "breaks off|damaged"),
    "truncated safetensors": (write_truncated_safetensors, "breaks off"),
    "truncated header": (write_truncated_header, "breaks off"),
    "archive": (write_archive, "train_log/flownet.pkl"),
    "a list": (lambda path: torch.save([torch.ones(2)], path), "holds a list"),
    "a tensor": (lambda path: torch.save(torch.ones(2), path), "holds a Tensor"),
    "no weights": (lambda path: torch.save({"epoch": 3}, path), "holds no weights"),
    "not finite": (write_not_finite, "block0.lastconv.bias holds values that are not finite"),
    "complex": (lambda path: torch.save({"a": torch.ones(2) * 1j}, path), "real numbers"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_checkpoint_is_named_in_one_line(kind: str, tmp_path: Path) -> None:
    write, expected = BROKEN[kind]
    path = tmp_path / "model.pkl"
    write(path)
    with pytest.raises(ModelError, match=expected) as error:
        read_state_dict(path)
    one_line(error, path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_state_dict(tmp_path / "absent.pth")
    with pytest.raises(ModelError, match="cannot be read"):
        read_state_dict(tmp_path)
    with pytest.raises(ModelError, match="cannot be read"):
        sha256_of(tmp_path / "absent.pth")


def complaint(state: dict[str, Tensor], architecture: str | None = None) -> str:
    with pytest.raises(ModelError) as error:
        identify(state, registry(), path="some/model.pkl", architecture=architecture)
    return one_line(error, Path("model.pkl"))


def test_missing_keys_are_named() -> None:
    state = state_of(NARROW)
    for key in [key for key in state if key.startswith("unet.up")]:
        del state[key]
    message = complaint(state)
    assert "looks like rife, but lacks 12 of its" in message
    assert "unet.up0.0.weight" in message


def test_surplus_keys_are_named_with_the_model_they_come_from() -> None:
    state = state_of(NARROW) | state_of(IFRNet(Widths((24, 36, 54, 72), 24)))
    message = complaint(state)
    assert "looks like" in message
    assert "more" in message
    assert "as ifrnet" in message or "as rife" in message


def test_a_wrong_shape_is_named() -> None:
    state = state_of(NARROW)
    state["unet.conv.bias"] = torch.ones(4)
    assert "unet.conv.bias is (4,), not (3,)" in complaint(state)


def test_unknown_weights_say_how_they_begin_and_what_is_known() -> None:
    message = complaint({"backbone.layer1.weight": torch.ones(3, 3)})
    assert "holds no model that is known" in message
    assert "backbone.layer1.weight" in message
    assert "ifrnet" in message


def test_another_model_than_the_named_one() -> None:
    message = complaint(state_of(NARROW), architecture="ifrnet-s")
    assert "holds the weights of rife, not of ifrnet-s" in message


def test_a_prefix_that_only_some_keys_have_stays() -> None:
    state = canonicalise({"module.a": torch.ones(1), "b": torch.ones(1), "epoch": 3})
    assert sorted(state) == ["b", "module.a"]


def test_a_name_cannot_be_registered_twice() -> None:
    known = Registry()
    one = Architecture("one", lambda _: False, lambda _: RIFE(), RIFE)
    known.add(one)
    with pytest.raises(ValueError, match="one"):
        known.add(one)
    assert known.names() == ["one"]
