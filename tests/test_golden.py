"""Every published model returns its authors' picture, from a file as its authors publish it.

The limits: the golden pictures are 16-bit, so nothing can agree better than about 4e-6 in the
mean. Warping amplifies the rounding of float32 where the drawn weights make wild flow, hence
some room above that; what the models owe at most is 5e-4 in the mean and 2e-2 for 99.9 %.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.golden import distribution, read_golden
from vfi_cli.errors import ModelError
from vfi_cli.models import load_model
from vfi_cli.models.registry import registry
from vfi_cli.native.ops import available, use_reference

pytestmark = pytest.mark.usefixtures("one_thread")

#: Architectures that nobody has published weights of, but this project.
OWN = {name for name in registry().names() if name.startswith("vfi-")}
NAMES = [name for name in registry().names() if name != "scopeflow" and name not in OWN]
MEAN_LIMIT = 2e-5
TAIL_LIMIT = 2e-3  # for 99.9 % of the samples


def agrees(error: Tensor) -> bool:
    flat = error.abs().flatten()
    return bool(flat.mean() < MEAN_LIMIT and flat.quantile(0.999) < TAIL_LIMIT)


@pytest.mark.parametrize("name", NAMES)
def test_picture_of_the_authors(name: str, shared_data: Path, tmp_path: Path) -> None:
    golden = read_golden(shared_data / "golden" / f"{name}.npz")
    file = golden.write_checkpoint(tmp_path)
    explicit = "rife-2r" if name == "rife-2r" else None
    model = load_model(file, architecture=explicit, device="cpu", dtype="float32")
    assert model.architecture == name
    names = [f"frame {number}" for number in range(golden.frames.shape[1])]
    for case in golden.cases:
        seen = slice(1, 3) if case.get("linear") else slice(None)
        frames, expected = golden.frames[:, seen], golden.expected(case)
        options = {key: case[key] for key in ("scale", "tta", "ensemble") if key in case}
        # With keys, what the cases have in common is computed once.
        picture = model.interpolate(frames, case["t"], keys=names[seen], **options)[0]
        error = picture - expected
        assert agrees(error), f"{name} {case}: {distribution(error)}"
    if available():
        with use_reference():
            case = golden.cases[0]
            options = {key: case[key] for key in ("scale", "tta", "ensemble") if key in case}
            error = model.interpolate(golden.frames, case["t"], **options)[0]
            error = error - golden.expected(case)
            assert agrees(error), f"{name} {case} on the references: {distribution(error)}"


def test_flow_of_the_authors(shared_data: Path, tmp_path: Path) -> None:
    golden = read_golden(shared_data / "golden" / "scopeflow.npz")
    model = load_model(golden.write_checkpoint(tmp_path), device="cpu", dtype="float32")
    assert model.architecture == "scopeflow"
    error = model.flow(golden.frames)[0] - torch.from_numpy(golden.arrays["flow"])
    assert error.abs().max() < 1e-4, distribution(error)  # pixels
    with pytest.raises(ModelError, match="only finds flow"):
        model.interpolate(golden.frames, 0.5)


def test_all_golden_files_are_covered(shared_data: Path) -> None:
    files = {path.stem for path in (shared_data / "golden").glob("*.npz")} - {"ops"}
    assert files == set(registry().names()) - OWN
