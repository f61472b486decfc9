"""Frame-rate conversion of video with neural interpolation, exact in time and colour.

The public names are loaded when they are first used, so that ``import vfi_cli``
(and ``vfi --help``) imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfi_cli.api import convert as convert
    from vfi_cli.api import slowmo as slowmo
    from vfi_cli.folders import interpolate_frames as interpolate_frames
    from vfi_cli.models import load_model as load_model

__version__ = "0.1.0"

_HOMES = {
    "convert": "vfi_cli.api",
    "slowmo": "vfi_cli.api",
    "interpolate_frames": "vfi_cli.folders",
    "load_model": "vfi_cli.models",
}
__all__ = ["__version__", "convert", "interpolate_frames", "load_model", "slowmo"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
