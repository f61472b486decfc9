"""Models: published checkpoints and baselines behind one interface.

``load_model`` and ``Interpolator`` are loaded when first asked for, so that importing this
package does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfi_cli.models.base import Interpolator, Motion
    from vfi_cli.models.load import load_model

__all__ = ["Interpolator", "Motion", "load_model"]

_HOMES = {"load_model": "load", "Interpolator": "base", "Motion": "base"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"vfi_cli.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
