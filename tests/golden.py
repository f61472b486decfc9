"""Golden outputs of the published models: their weights by the rule, and how far off we are."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: What published checkpoints put around the weights: the container's key, and every key's prefix.
WRAPPINGS = {
    "rife": (None, "module."),
    "eqvi": ("model_state_dict", "module."),
    "scopeflow": ("state_dict", "_model.module."),
    "ifrnet": (None, ""),
    "rrin": (None, ""),
}


def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights of a key, drawn from its name alone."""
    key = key.replace("acc.flownet.", "flownet.")
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    z = rng.standard_normal(shape, dtype=np.float32)
    leaf = key.rsplit(".", 1)[-1]
    if "get_grad" in key:
        return gradient_kernel(shape, vertical=leaf == "weight_v")
    if leaf == "beta":
        return 1 + 0.1 * z
    if leaf == "running_var":
        return 1 + 0.1 * np.abs(z)
    if not shape:
        return np.zeros((), np.int64)
    if len(shape) < 2:
        return 0.25 + 0.05 * z if leaf == "weight" else 0.02 * z
    return (0.8 * z / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def gradient_kernel(shape: tuple[int, ...], *, vertical: bool) -> np.ndarray:
    """(−1, 0, 1) along one axis of a 3 × 3 kernel."""
    kernel = np.zeros(shape, np.float32)
    for index, value in ((0, -1), (2, 1)):
        kernel[(..., index, 1) if vertical else (..., 1, index)] = value
    return kernel


@dataclass
class Golden:
    """One golden file."""

    name: str
    frames: Tensor  # (1, n, 3, H, W) in [0, 1]
    keys: dict[str, tuple[int, ...]]
    cases: list[dict[str, Any]]
    arrays: dict[str, np.ndarray]

    def state(self) -> dict[str, Tensor]:
        # Copied, because pickled storages would be written once for every view otherwise.
        return {
            key: torch.from_numpy(np.array(draw(key, shape))) for key, shape in self.keys.items()
        }

    def expected(self, case: dict[str, Any]) -> Tensor:
        return torch.from_numpy(self.arrays[case["array"]].astype(np.float32) / 65535)

    def write_checkpoint(self, folder: Path) -> Path:
        """A file that wraps the weights as their authors' files do."""
        family = next(family for family in WRAPPINGS if self.name.startswith(family))
        container, prefix = WRAPPINGS[family]
        state: dict[str, Any] = {prefix + key: value for key, value in self.state().items()}
        if container is not None:
            state = {container: state, "epoch": 7, "best": np.float64(0.25)}
        path = folder / f"{self.name}.pkl"
        torch.save(state, path)
        return path


def read_golden(path: Path) -> Golden:
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays.pop("meta")))
    frames = torch.from_numpy(arrays.pop("frames")).permute(0, 3, 1, 2)[None].float() / 255
    return Golden(
        name=meta["model"],
        frames=frames,
        keys={key: tuple(shape) for key, shape in meta["keys"].items()},
        cases=meta.get("cases", []),
        arrays=arrays,
    )


def distribution(error: Tensor) -> str:
    """How an error is spread, for the message of a failing test."""
    flat = error.abs().flatten()
    shares = ", ".join(
        f"{float((flat > limit).float().mean()):.3%} > {limit:g}" for limit in (1e-4, 1e-3, 2e-2)
    )
    worst = int(flat.argmax())
    place = np.unravel_index(worst, tuple(error.shape))
    return (
        f"mean {float(flat.mean()):.2e}, max {float(flat.max()):.2e} at "
        f"{tuple(int(axis) for axis in place)}, median {float(flat.median()):.2e}, {shares}"
    )
