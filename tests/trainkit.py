"""Small runs of every family: configurations, scenes to train on, networks made narrow."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vfi_cli.models import eqvi, rrin, scopeflow
from vfi_cli.training.cache import cache_scenes
from vfi_cli.training.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PhaseConfig,
    RunConfig,
)
from vfi_cli.training.data import Pool

#: Architecture, the model's keys and the losses of each family.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "vfi-lite": (
        {"widths": (16, 16, 16, 16, 16), "scales": (16, 8, 4, 2, 1)},
        {"laplacian": 1.0, "unblended": 0.5, "flow": 0.05, "flow_cap": 24.0},
    ),
    "rife": (
        {"widths": (16, 16, 16), "context": 2},
        {"laplacian": 1.0, "teacher": 1.0, "distillation": 0.01},
    ),
    "rifem": (
        {"widths": (16, 16, 16), "context": 2},
        {"laplacian": 1.0, "teacher": 1.0, "distillation": 0.01},
    ),
    "rife-v4.6": ({"widths": (16, 16, 16, 16)}, {"laplacian": 1.0, "flow": 0.05}),
    "ifrnet": (
        {"widths": (8, 8, 12, 12)},
        {"charbonnier": 1.0, "census": 1.0, "geometry": 0.01, "flow_distillation": 0.01},
    ),
    "rrin": ({}, {"l1": 1.0}),
    "scopeflow": ({}, {"flow": 1.0}),
    "eqvi": ({}, {"laplacian": 1.0}),
}
FOUR = ("scopeflow", "eqvi")


class QuickSynthesis(eqvi.SynthesisNet):
    """With smaller kernels at full size, where most of a step goes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(140, 16, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(16, 32, 3, padding=1)


class QuickRefine(eqvi.RefineNet):
    """As :class:`QuickSynthesis`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(20, 32, 3, padding=1)
        self.conv2 = torch.nn.Conv2d(32, 32, 3, padding=1)


def narrow(patch: pytest.MonkeyPatch) -> None:
    """Makes the networks small whose widths no configuration can choose."""
    patch.setattr(rrin, "UNet", functools.partial(rrin.UNet, width=8))
    patch.setattr(scopeflow, "_DENSE", (16, 16, 16, 16, 16))
    patch.setattr(scopeflow, "_CONTEXT", tuple((16, d) for _, d in scopeflow._CONTEXT))
    patch.setattr(scopeflow, "_BILATERAL", (16, 16, 16, 16, 16, 16))
    patch.setattr(scopeflow, "_PYRAMID", (3, 8, 32, 32, 32, 32, 32))
    patch.setattr(eqvi.RefineNet, "widths", (32, 16, 16, 16, 16, 16))
    patch.setattr(eqvi.SynthesisNet, "widths", (32, 16, 16, 16))
    patch.setattr(eqvi, "SynthesisNet", QuickSynthesis)
    patch.setattr(eqvi, "RefineNet", QuickRefine)


def small(name: str, folder: Path, **optim: Any) -> Config:
    """A run of four steps on crops of 64×64, batches of one."""
    model, loss = FAMILIES[name]
    options: dict[str, Any] = {"lr": 1e-3, "warmup": 2, "bfloat16": name not in FOUR, **optim}
    return Config(
        model=ModelConfig(architecture=name, **model),
        data=DataConfig(four=name in FOUR),
        phases=(PhaseConfig(synthetic=1.0, crop=64, batch=1),),
        loss=LossConfig(**loss),
        optim=OptimConfig(**options),
        run=RunConfig(steps=4, log_every=2, threads=1),
        folder=str(folder),
    )


def paint(target: Path, side: int = 320) -> None:
    """A picture of soft colours, in which motion can be seen at every scale."""
    noise = torch.Generator().manual_seed(0)
    picture = torch.zeros(1, 3, side, side)
    for cells in (5, 20, 80):
        coarse = torch.rand((1, 3, cells, cells), generator=noise)
        picture += torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic") / 3
    pixels = (picture[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(target)


def scenes(folder: Path, *, four: bool = False, count: int = 6) -> Pool:
    """A few rendered scenes of 96×96 that move by up to twelve pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    paint(folder / "texture.png")
    return Pool(
        cache_scenes(
            [folder], [], folder / "cache", count=count, size=96, motion=(12.0,), seed=0, four=four
        )
    )


def moving_clip(target: Path, frames: int = 12, size: tuple[int, int] = (72, 100)) -> np.ndarray:
    """An array clip (N, H, W, 3) over which a picture slides by three pixels a frame."""
    height, width = size
    paint(target.with_suffix(".png"))
    picture = np.asarray(Image.open(target.with_suffix(".png")))
    clip = np.stack([picture[20 : 20 + height, 3 * k : 3 * k + width] for k in range(frames)])
    np.save(target, clip)
    return clip


def weights(trainer: Any) -> list[Tensor]:
    """All that training changes: weights, their averages, the helper's."""
    modules = (trainer.family, trainer.ema)
    return [p.detach().clone() for module in modules for p in module.state_dict().values()]
