"""Reading checkpoints: every published wrapping, and nothing that runs code.

``read_state_dict`` opens a file, ``canonicalise`` takes the published wrappers off, and
``identify`` finds the architecture and loads the weights, or says what the file looked like.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vfi_cli.errors import ModelError
from vfi_cli.models.base import Network
from vfi_cli.models.registry import Architecture, Registry
from vfi_cli.wording import said

#: Keys under which a training script keeps the weights beside its other state.
WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model", "net", "network")
#: What a file's header has for a licence that its authors do not state.
NO_LICENCE = "none stated"
#: Prefixes that parallel and compiled training put before every key.
PREFIXES = ("_model.module.", "module.", "_orig_mod.", "_model.")


def _numpy_scalars() -> list[Any]:
    """What a pickled NumPy scalar names, old and new: losses and epoch numbers are often such.

    Making one runs no code of the file's.
    """
    make = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("?", "i4", "i8", "f4", "f8")]
    return [
        (make, "numpy.core.multiarray.scalar"),
        (make, "numpy._core.multiarray.scalar"),
        np.dtype,
        *kinds,
    ]


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The canonical state dict of a ``.safetensors``, ``.pth``, ``.pkl`` or ``.ckpt`` file.

    The kind is told by the content. Raises ModelError with one line for everything that is not
    a checkpoint; pickles are read with ``weights_only=True``.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
        size = path.stat().st_size
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({said(error)})") from None
    if not head:
        raise ModelError(f"{path}: the file is empty; download the weights again")
    kind = _sniff(path, head, size)
    loaded = _read_safetensors(path) if kind == "safetensors" else _read_pickle(path, kind)
    return canonicalise(loaded, path)


def _sniff(path: Path, head: bytes, size: int) -> str:
    """``safetensors``, ``zip`` or ``pickle``, from the first bytes."""
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ModelError(f"{path}: is a web page, not weights; the download went wrong")
    if text.startswith(b"version https://git-lfs"):
        raise ModelError(f"{path}: is a Git LFS pointer, not the weights themselves")
    if head.startswith(b"PK"):
        return "zip"
    # Before pickles: a header's length may begin with the byte that a pickle begins with.
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] == b"{" and length < 100_000_000:
        if 8 + length > size:
            raise ModelError(f"{path}: the file breaks off; download the weights again")
        return "safetensors"
    if head[0] == 0x80:
        return "pickle"
    raise ModelError(
        f"{path}: is not a checkpoint (neither safetensors nor a file that PyTorch saved)"
    )


@dataclass(frozen=True)
class Stated:
    """What a safetensors file says of its weights beside them, as ``vfi models convert`` writes."""

    architecture: str | None = None
    only_middle: bool = False  # only t = 1/2, whatever the architecture could do
    licence: str | None = None


def stated(path: Path, registry: Registry) -> Stated:
    """What a file says of itself; nothing where it is no safetensors file, or names what is
    not known."""
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
    except (SafetensorError, OSError):
        return Stated()
    architecture = said.get("architecture")
    licence = said.get("licence")
    return Stated(
        architecture=architecture if architecture in registry else None,
        only_middle=said.get("timestep") == "1/2",
        licence=None if licence == NO_LICENCE else licence,
    )


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{path}: the file is damaged or breaks off ({_first_line(error)}); "
            "download the weights again"
        ) from None


def _read_pickle(path: Path, kind: str) -> object:
    if kind == "zip":
        _check_zip(path)
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # about pickle protocols: the outcome is checked
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named or "Unsupported" in str(error):
            what = named[1] if named else "objects of Python"
            raise ModelError(
                f"{path}: refused, because it holds more than weights ({what}) "
                "and reading that could run code"
            ) from None
        raise ModelError(f"{path}: is damaged, or no checkpoint of PyTorch") from None
    except Exception as error:
        # What torch raises for damaged files is not documented and spans all kinds of errors.
        raise ModelError(
            f"{path}: the file is damaged or breaks off ({_first_line(error)}); "
            "download the weights again"
        ) from None


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        raise ModelError(f"{path}: the file breaks off; download the weights again") from None
    if not any(name.endswith("data.pkl") for name in names):
        inside = [name for name in names if name.endswith((".pkl", ".pth", ".ckpt", ".pt"))]
        hint = f"unpack it and use {inside[0]}" if inside else "there are no weights in it"
        raise ModelError(f"{path}: is an archive, not a checkpoint; {hint}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120].rstrip(".") if lines else type(error).__name__


def canonicalise(loaded: object, path: Path | str = "checkpoint") -> dict[str, Tensor]:
    """The plain name → tensor mapping inside whatever a training script saved.

    Takes off containers (``state_dict``, ``model_state_dict``, …) and prefixes that every key
    has (``module.``, ``_model.module.``), and turns half-precision weights into float32.
    """
    for _ in range(4):
        if not isinstance(loaded, Mapping):
            break
        inner = next(
            (loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None
        )
        if inner is None:
            break
        loaded = inner
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{path}: holds a {type(loaded).__name__}, not the weights of a model")
    state = {
        key: value
        for key, value in loaded.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if not state:
        raise ModelError(f"{path}: holds no weights")
    stripping = True
    while stripping:
        stripping = False
        for prefix in PREFIXES:
            if all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
                stripping = True
    for key, value in state.items():
        if value.is_sparse or value.is_quantized or value.is_complex():
            raise ModelError(f"{path}: {key} is not a plain tensor of real numbers")
        if value.is_floating_point():
            if not bool(torch.isfinite(value).all()):
                raise ModelError(f"{path}: {key} holds values that are not finite numbers")
            state[key] = value.detach().float()
    return state


def identify(
    state: Mapping[str, Tensor],
    registry: Registry,
    *,
    path: Path | str = "checkpoint",
    architecture: str | None = None,
) -> tuple[Network, Architecture]:
    """The network that these weights belong to, loaded, and its architecture.

    ``architecture`` names the only one to try. Raises ModelError that says what the weights
    looked like, what is missing and what is too much.
    """
    if architecture is not None:
        candidates = [registry[architecture]]
    else:
        candidates = [known for known in registry if not known.explicit]
    for candidate in candidates:
        wanted = _inference_state(state, candidate)
        if candidate.matches(wanted):
            network = _build(candidate, wanted)
            if network is None or _differences(network.state_dict(), wanted):
                continue
            network.load_state_dict(wanted)
            return network, candidate
    raise ModelError(f"{path}: {_explain(state, candidates, registry, named=architecture)}")


def _inference_state(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The state without what only training needs."""
    drop = architecture.training_only
    return {key: value for key, value in state.items() if not (drop and key.startswith(drop))}


def _build(architecture: Architecture, state: Mapping[str, Tensor]) -> Network | None:
    """The network for these shapes, or None where the shapes make no network."""
    try:
        return architecture.build(state)
    except (KeyError, IndexError, ValueError, RuntimeError, ZeroDivisionError):
        return None


def _differences(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    return expected.keys() != state.keys() or any(
        expected[key].shape != value.shape for key, value in state.items()
    )


def _explain(
    state: Mapping[str, Tensor],
    candidates: Iterable[Architecture],
    registry: Registry,
    *,
    named: str | None,
) -> str:
    """One line: what the weights look most like, and where they differ from it."""
    best = _nearest(state, candidates)
    if named is not None:
        other = _nearest(state, (known for known in registry if not known.explicit))
        if other is not None and other[0] >= 0.99 and other[1].name != named:
            return f"holds the weights of {other[1].name}, not of {named}"
    if best is None or best[0] < 0.2:
        first = ", ".join(list(state)[:3])
        families = dict.fromkeys(name.partition("-")[0] for name in registry.names())
        what = f"does not hold the weights of {named}" if named else "holds no model that is known"
        known = "" if named else f"; known are those of {', '.join(families)}"
        return f"{what} (its {len(state)} keys begin with {first}){known}"
    _, architecture, expected = best
    wanted = _inference_state(state, architecture)
    missing = [key for key in expected if key not in wanted]
    extra = [key for key in wanted if key not in expected]
    shapes = [key for key in expected if key in wanted and expected[key].shape != wanted[key].shape]
    parts = []
    if missing:
        parts.append(f"lacks {len(missing)} of its {len(expected)} keys ({_some(missing)})")
    if extra:
        others = (known for known in registry if known.name != architecture.name)
        second = _nearest({key: wanted[key] for key in extra}, others, of_state=True)
        mixed = f", as {second[1].name} has them" if second and second[0] > 0.5 else ""
        parts.append(f"has {len(extra)} more ({_some(extra)}{mixed})")
    if shapes:
        key = shapes[0]
        parts.append(
            f"{len(shapes)} of its shapes differ ({key} is {tuple(wanted[key].shape)}, "
            f"not {tuple(expected[key].shape)})"
        )
    return f"looks like {architecture.name}, but {' and '.join(parts) or 'does not fit it'}"


def _some(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]}, …"


def _nearest(
    state: Mapping[str, Tensor], candidates: Iterable[Architecture], *, of_state: bool = False
) -> tuple[float, Architecture, dict[str, Tensor]] | None:
    """The architecture whose keys agree best, as (share from 0 to 1, architecture, its state).

    The share is of all keys of both, or of ``state``'s alone (``of_state``). Keys with another
    shape count half: a family differs in widths first.
    """
    best: tuple[float, Architecture, dict[str, Tensor]] | None = None
    for architecture in candidates:
        wanted = _inference_state(state, architecture)
        network = _build(architecture, wanted) if architecture.matches(wanted) else None
        if network is None:
            with torch.device("meta"):
                network = architecture.prototype()
        expected = dict(network.state_dict())
        agree = sum(
            1.0 if value.shape == wanted[key].shape else 0.5
            for key, value in expected.items()
            if key in wanted
        )
        total = len(wanted) if of_state else len(expected.keys() | wanted.keys())
        share = agree / max(total, 1)
        if best is None or share > best[0]:
            best = share, architecture, expected
    return best


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({said(error)})") from None
