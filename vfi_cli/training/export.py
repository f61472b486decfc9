"""From a checkpoint of a run to the weights that ship."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from vfi_cli.errors import InputError, ModelError
from vfi_cli.models import lite
from vfi_cli.models.checkpoint import identify, sha256_of
from vfi_cli.models.registry import registry


def export(checkpoint: Path, target: Path) -> str:
    """Writes the averaged weights in half precision, under the published key names, and returns
    what the manifest has to say of them: architecture, size and SHA-256. A network of RIFE 4.25's
    kind becomes a vfi-lite, which blends where the motion explains nothing.

    Raises InputError where ``checkpoint`` is none, ModelError where a weight does not fit
    into half precision or no architecture is told from keys and shapes.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"]
    except FileNotFoundError:
        raise InputError(f"{checkpoint}: there is no such checkpoint") from None
    except Exception as error:
        raise InputError(f"{checkpoint}: is no checkpoint of a training run ({error})") from None
    half = {name: value.to(torch.float16).contiguous() for name, value in state.items()}
    for name, value in half.items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"{checkpoint}: {name} does not fit into half precision")
    full = {name: value.float() for name, value in half.items()}
    _, architecture = identify(full, registry(), path=checkpoint)
    if architecture.name == "rife-v4.25":
        half[lite.KEY] = torch.tensor(lite.TRUST, dtype=torch.float16)
        _, architecture = identify({**full, lite.KEY: half[lite.KEY]}, registry(), path=checkpoint)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, target)
    target.chmod(0o644)
    return (
        f'file = "{target.name}"\nsize = {target.stat().st_size}\n'
        f'sha256 = "{sha256_of(target)}"\narchitecture = "{architecture.name}"'
    )
