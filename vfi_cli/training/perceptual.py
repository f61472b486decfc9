"""Distance of two pictures in the features of a VGG, whose weights the user has.

Johnson et al., "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016
(feature reconstruction loss), as EQVI-P and others use it. Here: the features of the last ReLU
before each of the five poolings, all weighted alike.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.errors import InputError, ModelError
from vfi_cli.models.checkpoint import read_state_dict

_MEAN = (0.485, 0.456, 0.406)
_SPREAD = (0.229, 0.224, 0.225)
#: Convolutions before each pooling, by how many there are in all.
_STAGES = {13: (2, 2, 3, 3, 3), 16: (2, 2, 4, 4, 4)}


class Perceptual(nn.Module):
    """VGG-16 or VGG-19 without its classifier, as torchvision names its weights."""

    mean: Tensor
    spread: Tensor

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            state = read_state_dict(path)
        except ModelError as error:
            raise InputError(f"loss.vgg: {error}") from None
        keys = [key for key in state if re.fullmatch(r"features\.\d+\.weight", key)]
        keys = [key for key in keys if state[key].dim() == 4]
        keys.sort(key=lambda key: int(key.split(".")[1]))
        if len(keys) not in _STAGES:
            raise InputError(
                f"loss.vgg: {path}: holds no VGG-16 or VGG-19 (without batch norm) of torchvision"
            )
        self.stages = nn.ModuleList()
        for count in _STAGES[len(keys)]:
            layers: list[nn.Module] = []
            for key in keys[:count]:
                weight = state[key]
                layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, 1, 1)
                layer.load_state_dict(
                    {"weight": weight, "bias": state[key.replace("weight", "bias")]}
                )
                layers += [layer, nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))
            keys = keys[count:]
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("spread", torch.tensor(_SPREAD).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean over the stages of the mean absolute difference of their features."""
        a, b = ((x - self.mean) / self.spread for x in (a, b))
        parts = []
        for number, stage in enumerate(self.stages):
            if number:
                a, b = F.max_pool2d(a, 2), F.max_pool2d(b, 2)
            a, b = stage(a), stage(b)
            parts.append((a - b).abs().mean())
        return torch.stack(parts).mean()
