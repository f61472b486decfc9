"""Loading the extension: what fits is loaded, anything else is named and left alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from vfi_cli.errors import VfiError
from vfi_cli.native import build, ops

ROOT = Path(__file__).resolve().parent.parent
needs_extension = pytest.mark.skipif(not ops.available(), reason="the extension is not built")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The loader looks into an empty folder, and into an empty cache."""
    monkeypatch.setattr(build, "PACKAGE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def put_library(folder: Path, **changes: Any) -> None:
    stamp = {
        "sources": build.fingerprint(),
        "torch": torch.__version__,
        "torch_target": "2.10",
        "cuda": None,
    }
    (folder / build.STAMP).write_text(json.dumps(stamp | changes))
    (folder / build.LIBRARY).write_bytes(b"this is no library")


def test_nothing_built(elsewhere: Path) -> None:
    loaded = build.load()
    assert loaded.library is None
    assert loaded.reason == "the extension has not been built"
    assert "vfi doctor --build" in loaded.advice


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sources": "0" * 64}, "built from other sources"),
        ({"torch_target": "99.1"}, "needs torch 99.1 or later"),
        ({"cuda": "7.5"}, "built for CUDA 7.5, and torch is built"),
        ({}, "cannot be loaded"),  # the stamp is right, the library is not
    ],
)
def test_what_does_not_fit_is_not_loaded(
    elsewhere: Path, changes: dict[str, Any], reason: str
) -> None:
    put_library(elsewhere, **changes)
    loaded = build.load()
    assert loaded.library is None
    assert reason in loaded.reason
    assert str(elsewhere / build.LIBRARY) in loaded.reason
    assert loaded.advice


def test_a_broken_stamp_is_named(elsewhere: Path) -> None:
    put_library(elsewhere)
    (elsewhere / build.STAMP).write_text("{")
    assert "stamp" in build.load().reason


@needs_extension
def test_a_build_in_the_cache_is_found(elsewhere: Path) -> None:
    own = Path(str(ops.build_info()["library"]))
    put_library(elsewhere, sources="0" * 64)
    folder = build.cache_folder()
    folder.mkdir(parents=True)
    shutil.copyfile(own.with_name(build.STAMP), folder / build.STAMP)
    (folder / build.LIBRARY).symlink_to(own)  # a copy would register the operators twice
    assert build.load().library == folder / build.LIBRARY


def test_builds_that_cannot_be_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "obstacle", lambda: "no C++ compiler was found")
    with pytest.raises(VfiError, match=r"cannot be built: no C\+\+ compiler was found"):
        build.build_in_place()


def test_a_failing_compiler_is_reported(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path, tmp_path: Path
) -> None:
    if build.obstacle() is not None:
        pytest.skip(str(build.obstacle()))
    compiler = tmp_path / "broken-c++"
    compiler.write_text(
        "#!/bin/sh\n"
        "case \"$*\" in *' -c '*) echo 'x.cpp:1: error: no such luck' >&2; exit 1;; esac\n"
        'exec g++ "$@"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(VfiError, match=r"could not be built: x\.cpp:1: error: no such luck"):
        build.build_in_place()
    assert not (elsewhere / build.LIBRARY).exists()
    assert not (elsewhere / build.STAMP).exists()


def run_python(code: str, folder: Path, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_everything_works_without_the_extension(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns(build.LIBRARY, build.STAMP, "__pycache__")
    (tmp_path / "vfi_cli").mkdir()
    (tmp_path / "vfi_cli" / "__init__.py").touch()
    shutil.copytree(ROOT / "vfi_cli" / "native", tmp_path / "vfi_cli" / "native", ignore=ignored)
    code = """if True:
        import torch
        from vfi_cli.native import ops
        assert not ops.available() and not ops.build_info()["available"]
        picture, flow = torch.rand(1, 3, 5, 6, requires_grad=True), torch.zeros(1, 2, 5, 6)
        warped = ops.backwarp(picture, flow)
        torch.testing.assert_close(warped, picture)
        warped.sum().backward()
        sums, weights = ops.splat(picture, flow, mode="bilinear")
        torch.testing.assert_close(sums, picture)
        assert ops.correlation(picture, picture, 1).shape == (1, 9, 5, 6)
        print(ops.build_info()["reason"])
    """
    said = run_python(code, tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert said == "the extension has not been built"


@needs_extension
@pytest.mark.parametrize("kernels", ["generic", "avx2", "avx512"])
def test_the_kernels_of_every_instruction_set(kernels: str) -> None:
    code = """if True:
        import torch
        from tests import test_fused, test_native, test_planes
        from vfi_cli.native import ops
        for case in test_native.CASES:
            for dtype in test_native.DTYPES:
                for layout in ("contiguous", "channels-last"):
                    lay = test_native.LAYOUTS[layout]
                    first, second = test_native.sample_inputs(case, (2, 7, 6, 18), dtype)
                    test_native.compare_twins(case, lay(first), lay(second))
        torch.set_num_threads(1)
        torch.manual_seed(0)
        for dtype in test_fused.DTYPES:
            for scales, scale in (((16, 8, 8), 4), ((16, 8, 4, 2), 1)):
                test_fused.test_motion_input(scales, scale, 4, dtype)
            test_fused.test_motion_blend_and_flow(2, dtype)
            test_fused.test_what_goes_from_pixel_to_pixel(dtype)
        test_fused.test_fading_in_the_plain_mix()
        for location in (1, 3):
            test_planes.test_decoding_is_that_of_the_reference(test_planes.LAYOUTS[0], location)
            test_planes.test_encoding_is_that_of_the_reference(test_planes.LAYOUTS[0], location)
        print(ops.build_info()["kernels"])
    """
    used = run_python(code, ROOT, VFI_CPU_KERNELS=kernels)
    if used != kernels:
        pytest.skip(f"this processor has no {kernels}: the {used} kernels were run")


@needs_extension
def test_models_run_without_avx512() -> None:
    """As on a processor with AVX2 alone: in float32 by themselves, and in bfloat16 if asked."""
    code = """if True:
        import torch
        from tests.fusedkit import bikes, psnr
        from vfi_cli.models import load_model
        from vfi_cli.native import ops
        frames = bikes(range(2), 128, 192)
        plain = load_model("default", device="cpu")
        made = plain.interpolate(frames, 0.5)
        with ops.use_reference():
            assert psnr(made, plain.interpolate(frames, 0.5)) > 60
        narrow = load_model("default", device="cpu", dtype="bfloat16")
        assert psnr(made, narrow.interpolate(frames, 0.5)) > 40
        print(plain.dtype, narrow.dtype)
    """
    isa = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "VFI_CPU_KERNELS": "avx2"}
    said = run_python(code, ROOT, **isa)
    assert said == "torch.float32 torch.bfloat16"
