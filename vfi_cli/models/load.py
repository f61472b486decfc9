"""From a name or a file to a model that is ready."""

from __future__ import annotations

import difflib
import os

from vfi_cli.errors import ModelError
from vfi_cli.models.base import Interpolator
from vfi_cli.models.baseline import BASELINES
from vfi_cli.models.checkpoint import identify, read_state_dict, sha256_of, stated
from vfi_cli.models.devices import pick_device
from vfi_cli.models.registry import registry
from vfi_cli.models.weights import locate


def load_model(
    name_or_file: str | os.PathLike[str] = "default",
    *,
    architecture: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Interpolator:
    """Load a model by name (see :mod:`vfi_cli.models.weights`) or from a checkpoint file.

    architecture: where it is None, what a file that ``vfi models convert`` wrote says of itself,
    else told from keys and shapes; needed for the published file of ``rife-2r`` alone.
    device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. dtype: ``auto``, ``float32``,
    ``bfloat16``, ``float16`` or ``int8``, of weights and convolutions.

    Raises ModelError (unknown name, unusable file) or DeviceError.
    """
    name = os.fspath(name_or_file)
    if name in BASELINES:
        if architecture is not None:
            raise ModelError(f"{name} needs no weights, so it has no architecture to name")
        if dtype not in ("auto", "float32"):
            dtype = "float32"  # there is nothing to make faster
        return Interpolator(BASELINES[name](), name=name, device=device, dtype=dtype)
    pick_device(device)  # a missing device is found before seconds of reading
    found = locate(name)
    entry = found.entry
    digest = sha256_of(found.path)
    if entry is not None and entry.sha256 is not None and digest != entry.sha256.lower():
        raise ModelError(
            f"{found.path}: is not the file that {entry.name} was published as "
            f"(SHA-256 {digest[:12]}…, not {entry.sha256[:12]}…); download it again"
        )
    known = registry()
    said = stated(found.path, known)
    wanted = architecture or (entry.architecture if entry else None) or said.architecture
    if wanted is not None and wanted not in known:
        close = difflib.get_close_matches(wanted, known.names(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ModelError(
            f"there is no architecture {wanted!r}{hint}; there are {', '.join(known.names())}"
        )
    state = read_state_dict(found.path)
    network, told = identify(state, known, path=found.path, architecture=wanted)
    return Interpolator(
        network,
        name=found.name,
        architecture=told.name,
        device=device,
        dtype=dtype,
        licence=(entry.licence if entry else None) or said.licence or told.licence,
        fingerprint=digest,
        any_timestep=entry.any_timestep if entry else (False if said.only_middle else None),
    )
