"""Textures for tests of rendered scenes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def smooth_texture(rng: np.random.Generator, side: int) -> NDArray[np.uint8]:
    """A picture without detail finer than some pixels, so that looking it up twice is harmless."""
    coarse = torch.from_numpy(rng.random((1, 3, side // 8, side // 8), dtype=np.float32))
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic")
    return (fine[0].clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
