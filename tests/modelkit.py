"""Files of small models, and what may lie in their place."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vfi_cli.models.rife import RIFE


def as_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def state_of(network: torch.nn.Module) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {key: torch.randn_like(value) for key, value in network.state_dict().items()}


RIFE_STATE = {f"module.{key}": value for key, value in state_of(RIFE((16, 12, 8), 4)).items()}
TEACHER = {"module.block_tea.conv.weight": torch.ones(2, 2)}
RIFE_FILE = as_bytes(RIFE_STATE | TEACHER)
OTHER_RIFE = as_bytes({key: value + 1 for key, value in (RIFE_STATE | TEACHER).items()})
RIFEM_FILE = as_bytes(state_of(RIFE((16, 12, 8), 4, timed=True)))


def write_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


BOTH = write_zip(
    {"train_log/flownet.pkl": RIFE_FILE, "frozen.pth": RIFEM_FILE, "train_log/run.py": b"code"}
)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.marker),))


def hostile(folder: Path) -> bytes:
    return as_bytes(RIFE_STATE | {"extra": Hostile(folder / "was-run")})


def bare_pickle(folder: Path) -> bytes:
    return pickle.dumps(Hostile(folder / "was-run"))


#: What may lie where the model should be, and what is said of it.
WRONG = {
    "a pickle with code": (hostile, "could run code"),
    "a bare pickle with code": (bare_pickle, "refused|damaged"),
    "another model": (lambda _: RIFEM_FILE, "holds the weights of rifem, not of rife"),
    "a truncated file": (lambda _: RIFE_FILE[:-500], "breaks off"),
    "an empty file": (lambda _: b"", "empty"),
    "a page": (lambda _: b"<html><body>Quota exceeded</body></html>", "web page"),
    "a pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    "text": (lambda _: b"Not found\n" * 99, "is not a checkpoint"),
    "a zip without it": (lambda _: write_zip({"a.txt": b"x"}), r"has no \S+ \(in it are a.txt\)"),
    "a zip that leads out": (
        lambda _: write_zip({"../../evil.pkl": b"x", "flownet.pkl": RIFE_FILE}),
        "refused, because its member '../../evil.pkl' leads out",
    ),
    "a zip with an absolute path": (
        lambda folder: write_zip({f"{folder}/rife-v1.pkl": RIFE_FILE}),
        "leads out of the archive",
    ),
    "a zip of code": (
        lambda folder: write_zip({"rife-v1.pkl": hostile(folder), "flownet.pkl": hostile(folder)}),
        "could run code",
    ),
    "a truncated zip": (lambda _: BOTH[:-50], "damaged or breaks off"),
    "a zip bomb": (
        lambda _: _bomb(),
        "would grow from",
    ),
}


def _bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train_log/flownet.pkl", "rife-v1.pkl"):
            archive.writestr(name, bytes(3_000_000))
    return buffer.getvalue()
