"""``vfi doctor``: what this installation can do, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vfi_cli.cli import messages
from vfi_cli.cli import options as opt
from vfi_cli.errors import ModelError, OutputError, VfiError
from vfi_cli.wording import counted, file_size

EXAMPLES = """\
[bold]Examples[/bold]
  vfi doctor
  vfi doctor --build           compile the native operators
  vfi doctor --json > report.json
"""

#: The part of an encoder's name that says which hardware it needs.
HARDWARE = {
    "nvenc": "NVIDIA",
    "qsv": "Intel",
    "amf": "AMD",
    "vaapi": "VA-API",
    "videotoolbox": "Apple",
}
#: Less free space than this (bytes) is worth a word.
LITTLE_SPACE = 2_000_000_000

Status = Literal["ok", "note", "bad"]
_SIGNS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "bad": ("✗", "red")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. ``bad`` means that vfi cannot work like this."""

    topic: str
    status: Status
    text: str
    advice: str = ""
    exit_code: int = 1  # of the program, where the status is bad


Build = Annotated[
    bool,
    typer.Option("--build", metavar="", help="Compile the native operators first, if they lack."),
]


def doctor(
    *,
    build: Build = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Show what this installation can do, and what to do about what is missing.

    Versions, devices, the compiled operators, encoders, weights and disk. Exits with 0
    if videos can be converted.
    """
    if build:
        _build(quiet=quiet)
        # The operators that this process has loaded stay as they were: another one reports.
        given = {"--json": json, "--quiet": quiet, "--debug": debug}
        again = [name for name, wanted in given.items() if wanted]
        command = [sys.executable, "-m", "vfi_cli", "doctor", *again]
        return subprocess.run(command, check=False).returncode
    findings = []
    console = messages.console(stderr=json, quiet=quiet)
    for topic, examine in EXAMINATIONS.items():
        for number, finding in enumerate(_examined(topic, examine)):
            findings.append(finding)
            _show(console, finding, first=number == 0)
    bad = [finding for finding in findings if finding.status == "bad"]
    if json:
        messages.print_json(
            {"usable": not bad, "findings": [asdict(finding) for finding in findings]}
        )
    if bad and quiet:
        messages.fail(f"{bad[0].topic}: {bad[0].text}. {bad[0].advice}")
    return bad[0].exit_code if bad else 0


def _build(*, quiet: bool) -> None:
    """Compile what is missing. What this process has loaded stays as it was."""
    from vfi_cli.native import build, ops

    if ops.available() and not ops.build_info()["reason"]:
        return
    console = messages.console(quiet=quiet)
    console.print("compiling the native operators (about half a minute on two cores) …")
    console.print(f"compiled {build.build_in_place()}")


def _examined(topic: str, examine: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings; an examination that fails is a finding itself."""
    try:
        yield from examine()
    except VfiError as error:
        yield Finding(topic, "bad", str(error), exit_code=error.exit_code)
    except Exception as error:
        text = messages.one_line(f"{type(error).__name__}: {error}")
        yield Finding(topic, "bad", text, "reinstall vfi: pip install --force-reinstall vfi")


def _show(console: Any, finding: Finding, *, first: bool) -> None:
    from rich.text import Text

    sign, style = _SIGNS[finding.status]
    topic = finding.topic if first else ""
    console.print(Text.assemble(f"{topic:<10}", (sign, style), f" {finding.text}"))
    if finding.advice:
        console.print(Text.assemble(" " * 12, (f"→ {finding.advice}", "bold")))


def versions() -> Iterator[Finding]:
    from importlib import metadata

    from vfi_cli import __version__

    yield Finding(
        "versions",
        "ok",
        f"vfi {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}",
    )
    import av
    import torch

    others = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "pillow"))
    yield Finding(
        "versions",
        "ok",
        f"torch {torch.__version__}, av {av.__version__} with FFmpeg {av.ffmpeg_version_info}, "
        f"{others}",
    )


def devices() -> Iterator[Finding]:
    import torch

    yield Finding(
        "devices", "ok", f"cpu: {_processor()}, {counted(_cores(), 'core')}, {_cpu_features()}"
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            known = torch.cuda.get_device_properties(index)
            yield Finding(
                "devices",
                "ok",
                f"cuda:{index}: {known.name}, {file_size(known.total_memory)}, "
                f"compute capability {known.major}.{known.minor}",
            )
    elif torch.version.cuda is not None:
        yield Finding(
            "devices",
            "note",
            "torch has CUDA but finds no device",
            "is there an NVIDIA GPU, and does nvidia-smi show its driver?",
        )
    else:
        gpu = Path("/proc/driver/nvidia/version").exists()
        yield Finding(
            "devices",
            "note" if gpu else "ok",
            "no CUDA: this torch is built without it",
            "there is an NVIDIA driver: install a torch with CUDA to use it" if gpu else "",
        )


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    count = getattr(os, "sched_getaffinity", None)
    return len(count(0)) if count else os.cpu_count() or 1


def _cpu_features() -> str:
    import torch

    from vfi_cli.native import int8_ops

    features = [torch.backends.cpu.get_cpu_capability()]
    for name, probe in (
        ("AVX-512 bfloat16", "_is_avx512_bf16_supported"),
        ("AMX", "_is_amx_tile_supported"),
    ):
        supported = getattr(torch.cpu, probe, None)
        if supported is not None and supported():
            features.append(name)
    kernels = int8_ops.kernels()
    if kernels is not None:
        features.append(f"int8 by {kernels}")
    return ", ".join(features)


def operators() -> Iterator[Finding]:
    from vfi_cli.native import ops

    info = ops.build_info()
    if info["available"]:
        kernels = f"compiled: {info['kernels']} kernels" + (" and CUDA" if info["cuda"] else "")
        yield Finding("operators", "ok", f"{kernels}, built with torch {info['torch']}")
    if info["reason"]:
        text = info["reason"] if info["available"] else f"plain torch, slower: {info['reason']}"
        yield Finding("operators", "note", text, info["advice"])


def encoders() -> Iterator[Finding]:
    from vfi_cli.io.codecs import CODECS, video_encoders

    here = video_encoders()
    found = [
        f"{name} ({family.encoder})" for name, family in CODECS.items() if family.encoder in here
    ]
    missing = [name for name, family in CODECS.items() if family.encoder not in here]
    if not found:
        yield Finding(
            "encoders",
            "bad",
            "this build of FFmpeg has none of the encoders",
            "install PyAV's own wheel: pip install --force-reinstall av",
            OutputError.exit_code,
        )
        return
    yield Finding("encoders", "ok", ", ".join(found))
    if missing:
        yield Finding("encoders", "note", f"not in this build of FFmpeg: {', '.join(missing)}")
    hardware = [name for name in here if _hardware(name)]
    works = [name for name in hardware if _opens(name)]
    if works:
        yield Finding("encoders", "ok", f"in hardware: {', '.join(works)}")
    rest = [name for name in hardware if name not in works]
    if rest:
        makers = ", ".join(dict.fromkeys(HARDWARE[_hardware(name) or ""] for name in rest))
        yield Finding(
            "encoders",
            "ok",
            f"in the build, without their hardware or driver here: {', '.join(rest)} ({makers})",
        )


def _hardware(encoder: str) -> str | None:
    codec, _, kind = encoder.rpartition("_")
    return kind if kind in HARDWARE and codec in ("h264", "hevc", "av1") else None


def _opens(encoder: str) -> bool:
    """Whether a hardware encoder starts on this machine."""
    import av

    try:
        context: Any = av.CodecContext.create(encoder, "w")
        context.width, context.height, context.pix_fmt = 320, 240, "nv12"
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.open()
    except (av.FFmpegError, ValueError, OSError):
        return False
    return True


def decoders() -> Iterator[Finding]:
    from av.codec.hwaccel import hwdevices_available

    from vfi_cli.io.device import EXACT_CODECS, nvdec_starts

    here = "all by the CPU"
    if "cuda" not in hwdevices_available():
        yield Finding("decoders", "ok", f"{here}; this build of FFmpeg has no NVDEC")
    elif nvdec_starts():
        codecs = ", ".join(sorted(EXACT_CODECS))
        yield Finding("decoders", "ok", f"{here}, or with --hwaccel cuda by NVDEC: {codecs}")
    else:
        yield Finding(
            "decoders", "ok", f"{here}; NVDEC is in the build, without its hardware or driver here"
        )


def models() -> Iterator[Finding]:
    from vfi_cli.models import weights

    folder = weights.weights_dir()
    manifest = weights.read_manifest()
    if folder is None or manifest.default is None:
        yield Finding(
            "weights",
            "bad",
            "the weights that ship with vfi are not there",
            "reinstall vfi, or name a model with --model (blend needs none)",
            ModelError.exit_code,
        )
        return
    located = weights.locate("default")
    entry = located.entry
    wanted = entry.sha256 if entry is not None else None
    about = f"default is {located.name}, {file_size(located.path.stat().st_size)}"
    if entry is not None and entry.licence:
        about += f", licence {entry.licence}"
    if wanted is not None and _sha256(located.path) != wanted:
        yield Finding(
            "weights",
            "bad",
            f"{located.path} is damaged: its SHA-256 is not the manifest's",
            "reinstall vfi",
            ModelError.exit_code,
        )
    else:
        checked = ", SHA-256 as in the manifest" if wanted else ""
        yield Finding("weights", "ok", f"{about}{checked}")
    known = [name for name in weights.available() if name != located.name]
    yield Finding("weights", "ok", f"also here: {', '.join(known)}")
    cache = weights.cache_dir()
    state = "" if cache.is_dir() else " (not made yet)"
    yield Finding("weights", "ok", f"further weights are looked for in {cache}{state}")


def _sha256(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free
    little = free < LITTLE_SPACE
    yield Finding(
        "disk",
        "note" if little else "ok",
        f"{file_size(free)} free in {here}",
        "a conversion needs room for its output twice" if little else "",
    )
    if not os.access(here, os.W_OK):
        yield Finding("disk", "note", f"{here} cannot be written to", "choose outputs with -o")


EXAMINATIONS: dict[str, Callable[[], Iterator[Finding]]] = {
    "versions": versions,
    "devices": devices,
    "operators": operators,
    "decoders": decoders,
    "encoders": encoders,
    "weights": models,
    "disk": disk,
}
