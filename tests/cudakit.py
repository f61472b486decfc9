"""The CUDA kernels compiled as plain C++, which run on the CPU, and the tests that need a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from vfi_cli.native import build, ops

NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
#: The oldest torch whose stable interface the kernels use, as its headers want to be told.
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x{:02x}{:02x}000000000000ull".format(*build.TORCH_TARGET)


def cuda_headers() -> Path | None:
    """The folder with the headers of a CUDA toolkit."""
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda"]
    if NVCC is not None:
        homes.append(str(Path(NVCC).resolve().parents[1]))
    folders = [Path(home, "include") for home in homes if home]
    return next((folder for folder in folders if (folder / "cuda_fp16.h").exists()), None)


def compile_on_host(source: str, folder: Path, *options: str) -> Path:
    """A library of kernels for the CPU, from a file beside this one; without tools, skips."""
    compiler, headers = shutil.which("g++"), cuda_headers()
    if compiler is None or headers is None:
        pytest.skip("needs g++ and the headers of a CUDA toolkit (CUDA_HOME)")
    library = folder / "host.so"
    command = [compiler, "-std=c++20", "-O1", "-shared", "-fPIC"]
    command += [str(Path(__file__).with_name(source)), "-o", str(library)]
    command += [f"-I{build.SOURCES}", f"-I{headers}", *options]
    subprocess.run(command, check=True)
    return library


@contextmanager
def operators_on_host(
    source: str, namespace: str, names: tuple[str, ...], folder: Path
) -> Iterator[Any]:
    """The operators of ``names`` by CUDA's kernels, registered for tensors of the CPU."""
    if not ops.available():
        pytest.skip("the extension is not built")
    home = Path(torch.__file__).parent
    linked = (f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10")
    library = compile_on_host(source, folder, f"-I{home / 'include'}", TORCH_TARGET, *linked)
    definitions = torch.library.Library(namespace, "DEF")
    for name in names:
        schema = str(getattr(torch.ops.vfi, name).default._schema)
        definitions.define(schema.removeprefix("vfi::"))
    torch.ops.load_library(str(library))
    yield getattr(torch.ops, namespace)
    definitions._destroy()


def need_gpu() -> None:
    """Where VFI_TEST_GPU is set the tests must run; elsewhere they run if they can."""
    if not os.environ.get("VFI_TEST_GPU"):
        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device")
        if not ops.available("cuda"):
            pytest.skip(f"no CUDA kernels: {ops.build_info()['reason']}")
    assert ops.available("cuda"), ops.build_info()
