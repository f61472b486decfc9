"""From a checkpoint of a run to the weights that ship."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from vfi_cli.errors import ModelError, OutputError
from vfi_cli.models.checkpoint import identify, sha256_of
from vfi_cli.models.registry import registry
from vfi_cli.training import checkpoint
from vfi_cli.wording import counted, said


def export(source: Path, target: Path) -> str:
    """Writes the averaged weights in half precision, under the published key names, and returns
    what the manifest has to say of them: architecture, size, SHA-256 and steps.

    Raises InputError where ``source`` is no checkpoint of a run, ModelError where a weight does
    not fit into half precision or the widths are no architecture's, OutputError.
    """
    state = checkpoint.read(source)
    half = {name: value.to(torch.float16).contiguous() for name, value in state["ema"].items()}
    for name, value in half.items():
        if not bool(torch.isfinite(value).all()):
            raise ModelError(f"{source}: {name} does not fit into half precision")
    full = {name: value.float() for name, value in half.items()}
    _, found = identify(full, registry(), path=source, architecture=state["architecture"])
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(half, target)
        target.chmod(0o644)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{target}: cannot be written ({said(error)})") from None
    return (
        f'file = "{target.name}"\nsize = {target.stat().st_size}\n'
        f'sha256 = "{sha256_of(target)}"\narchitecture = "{found.name}"\n'
        f"# after {counted(state['step'], 'step')}"
    )
