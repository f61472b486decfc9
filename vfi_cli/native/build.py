"""Compile and load the extension with the native operators.

There is one shared library, ``_ops.so``, and a stamp beside it, ``_ops.json``, that says what it
was made from. It uses nothing but torch's stable ABI, so one build serves every torch from
``TORCH_TARGET`` on and every Python (ATen's C++ interface changes with each release, takes a
minute of two cores to include where this takes seconds, and would tie a wheel to one torch).
``setup.py`` and :func:`build_in_place` make it in the same way.

This file is also run by ``setup.py``, before the package can be imported: it imports nothing of
the package, and torch and setuptools only where they are needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent
SOURCES = PACKAGE / "csrc"
LIBRARY = "_ops.so"
STAMP = "_ops.json"

#: The oldest torch whose stable ABI the sources use.
TORCH_TARGET = (2, 10)

# Errno and traps are what keeps compilers from vectorising sqrt, floor and comparisons; NaN and
# infinity keep their meaning.
CXX_FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden"]
NVCC_FLAGS = ["-O3", "-DUSE_CUDA"]


# ------------------------------------------------------------------------------ sources


def cpu_sources() -> list[Path]:
    return [SOURCES / "bindings.cpp", *sorted((SOURCES / "cpu").glob("*.cpp"))]


def cuda_sources() -> list[Path]:
    return sorted((SOURCES / "cuda").glob("*.cu"))


def fingerprint() -> str:
    """SHA-256 over the sources: a library of other sources is not loaded."""
    digest = hashlib.sha256()
    for path in sorted(p for p in SOURCES.rglob("*") if p.suffix in {".h", ".cpp", ".cu", ".cuh"}):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


# ----------------------------------------------------------------------------- compiling


def obstacle() -> str | None:
    """Why the extension cannot be built here, or None."""
    if sys.platform == "win32":
        return "building the extension on Windows is not supported"
    try:
        import torch
    except ImportError:
        return "torch is not installed in the environment that builds"
    if _version(torch.__version__) < TORCH_TARGET:
        return f"torch {TORCH_TARGET[0]}.{TORCH_TARGET[1]} is needed, not {torch.__version__}"
    try:
        import setuptools  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        return "setuptools is not installed (pip install setuptools)"
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None and shutil.which("g++") is None:
        return "no C++ compiler was found (install g++, or name one in CXX)"
    return None


def cuda_obstacle() -> str | None:
    """Why the CUDA kernels would be left out of a build here, or None."""
    import torch

    if torch.version.cuda is None:
        return "torch is built without CUDA"
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is None or not (Path(CUDA_HOME) / "bin" / "nvcc").exists():
        return (
            f"no nvcc was found (install the CUDA {torch.version.cuda} toolkit, or set CUDA_HOME)"
        )
    return None


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def extension(root: Path | None = None) -> Any:
    """The setuptools Extension; its sources are named from ``root`` where that is given."""
    from torch.utils.cpp_extension import CppExtension, CUDAExtension

    with_cuda = cuda_obstacle() is None
    sources = cpu_sources() + (cuda_sources() if with_cuda else [])
    names = [str(path.relative_to(root) if root else path) for path in sources]
    target = f"-DTORCH_TARGET_VERSION=0x{TORCH_TARGET[0]:02x}{TORCH_TARGET[1]:02x}000000000000ull"
    make = CUDAExtension if with_cuda else CppExtension
    return make(
        "vfi_cli.native._ops",
        names,
        extra_compile_args={"cxx": [*CXX_FLAGS, target], "nvcc": [*NVCC_FLAGS, target]},
        py_limited_api=True,
    )


def builder() -> Any:
    """The build_ext command that names the library as we load it, and stamps it."""
    from torch.utils.cpp_extension import BuildExtension

    class BuildOps(BuildExtension):
        def get_ext_filename(self, ext_name: str) -> str:
            return str(Path(*ext_name.split(".")).with_suffix(".so"))

        def run(self) -> None:
            super().run()
            for ext in self.extensions:
                library = Path(self.get_ext_fullpath(ext.name))
                cuda = any(name.endswith(".cu") for name in ext.sources)
                write_stamp(library.with_name(STAMP), cuda)

        def get_outputs(self) -> list[str]:
            libraries = super().get_outputs()
            return [*libraries, *(str(Path(name).with_name(STAMP)) for name in libraries)]

    return BuildOps


def write_stamp(path: Path, cuda: bool) -> None:
    import torch

    stamp = {
        "sources": fingerprint(),
        "torch": str(torch.__version__),
        "torch_target": "{}.{}".format(*TORCH_TARGET),
        "cuda": torch.version.cuda if cuda else None,
    }
    path.write_text(json.dumps(stamp, indent=1) + "\n")


def compile_into(folder: Path) -> None:
    """Build library and stamp into ``folder``; the compiler writes to this process's output."""
    from setuptools import Distribution

    with tempfile.TemporaryDirectory(prefix="vfi-build-") as scratch:
        # Builds of one machine may run side by side: each has its own folder, and the finished
        # files are moved into place, the stamp last.
        distribution = Distribution(
            {"name": "vfi-ops", "ext_modules": [extension()], "cmdclass": {"build_ext": builder()}}
        )
        command = distribution.get_command_obj("build_ext")
        command.build_lib = str(Path(scratch, "lib"))
        command.build_temp = str(Path(scratch, "temp"))
        distribution.run_command("build_ext")
        made = Path(scratch, "lib", "vfi_cli", "native")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STAMP).unlink(missing_ok=True)
        for name in (LIBRARY, STAMP):
            moving = folder / f".{name}.{os.getpid()}"
            shutil.copyfile(made / name, moving)
            moving.replace(folder / name)


def cache_folder() -> Path:
    """Where a build goes when the package's own folder cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vfi" / "native" / fingerprint()[:16]


def build_in_place() -> Path:
    """Build the extension into the package, or into the user's cache where that is read-only.

    Takes about half a minute on two cores; a process that has loaded the operators already
    keeps what it has.

    Returns:
        The library's path.

    Raises:
        VfiError: it cannot be built, with the reason or the compiler's first error.
    """
    from vfi_cli.errors import VfiError

    reason = obstacle()
    if reason is not None:
        raise VfiError(f"The native operators cannot be built: {reason}.")
    folder = PACKAGE if os.access(PACKAGE, os.W_OK) else cache_folder()
    result = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        lines = [line.strip() for line in (result.stdout + result.stderr).splitlines()]
        errors = [line for line in lines if "error: " in line] or lines[-1:] or ["no output"]
        raise VfiError(f"The native operators could not be built: {errors[0]}")
    return folder / LIBRARY


# ------------------------------------------------------------------------------- loading


@dataclass(frozen=True)
class Loaded:
    """What became of loading the extension."""

    library: Path | None = None
    cuda: bool = False
    reason: str = ""
    """Why there is no library, or no CUDA kernels in it though torch could use them."""
    advice: str = ""
    stamp: dict[str, Any] = field(default_factory=dict)


BUILD_ADVICE = "run `vfi doctor --build`"


def _refusal(stamp: dict[str, Any]) -> str | None:
    """Why a library with this stamp must not be loaded into this process, or None."""
    import torch

    if stamp.get("sources") != fingerprint():
        return "it was built from other sources than these"
    target = str(stamp.get("torch_target"))
    if _version(torch.__version__) < _version(target):
        return f"it needs torch {target} or later, and this is {torch.__version__}"
    cuda, here = stamp.get("cuda"), torch.version.cuda
    if cuda is not None and (here is None or cuda.split(".")[0] != here.split(".")[0]):
        return f"it was built for CUDA {cuda}, and torch is built " + (
            f"for CUDA {here}" if here else "without CUDA"
        )
    return None


def load() -> Loaded:
    """Load the library of the package or of the user's cache, if one fits this torch.

    Never raises for a library that is missing, stale or cannot be loaded: the operators have
    references to run on, and the reason is returned for ``vfi doctor``.
    """
    import torch

    reasons = []
    for folder in (PACKAGE, cache_folder()):
        library = folder / LIBRARY
        try:
            stamp = json.loads((folder / STAMP).read_text())
            refusal = _refusal(stamp)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            reasons.append(f"the stamp of {library} cannot be read ({error})")
            continue
        if refusal is not None:
            reasons.append(f"{library} was not loaded: {refusal}")
            continue
        try:
            torch.ops.load_library(str(library))
        except OSError as error:
            reasons.append(f"{library} cannot be loaded ({error})")
            continue
        cuda = stamp["cuda"] is not None
        without_cuda = torch.cuda.is_available() and not cuda
        return Loaded(
            library=library,
            cuda=cuda,
            reason="it was built without the CUDA kernels" if without_cuda else "",
            advice=_advice(cuda_obstacle()) if without_cuda else "",
            stamp=stamp,
        )
    return Loaded(
        reason="; ".join(reasons) or "the extension has not been built",
        advice=_advice(obstacle()),
    )


def _advice(obstacle: str | None) -> str:
    return BUILD_ADVICE if obstacle is None else f"{obstacle}; then {BUILD_ADVICE}"


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]))
