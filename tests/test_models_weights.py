"""Which file a name means, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vfi_cli.errors import DeviceError, ModelError, UsageError
from vfi_cli.models import load_model, weights
from vfi_cli.models.checkpoint import sha256_of
from vfi_cli.models.devices import pick_device, pick_dtype
from vfi_cli.models.rife import RIFE

MANIFEST = """
default = "small"

[models.small]
file = "small.pkl"
sha256 = "{digest}"
licence = "CC0"
aliases = ["lite"]

[models."rife-v4.6"]
file = "flownet_v4.6.pkl"
url = "https://example.org/flownet_v4.6.pkl"

[models.doubled]
file = "doubled.pkl"
architecture = "rife-2r"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder with a manifest, and an empty cache folder."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    torch.manual_seed(1)
    state = {f"module.{k}": v for k, v in RIFE((16, 12, 8), 4).state_dict().items()}
    torch.save(state, shipped / "small.pkl")
    digest = sha256_of(shipped / "small.pkl")
    (shipped / "manifest.toml").write_text(MANIFEST.format(digest=digest), encoding="utf-8")
    monkeypatch.setattr(weights, "weights_dir", lambda: shipped)
    monkeypatch.setenv("VFI_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    return tmp_path


def test_the_default_is_the_manifests(home: Path) -> None:
    model = load_model(device="cpu")
    assert (model.name, model.architecture, model.licence) == ("small", "rife", "CC0")
    assert model.fingerprint == sha256_of(home / "shipped" / "small.pkl")
    assert load_model("LITE", device="cpu").name == "small"


def test_a_file_that_differs_from_the_manifest_is_refused_before_it_is_read(home: Path) -> None:
    path = home / "shipped" / "small.pkl"
    path.write_bytes(path.read_bytes() + b"x")
    for name in ("small", str(path)):
        with pytest.raises(ModelError, match="is not the file that small was published as"):
            load_model(name, device="cpu")


def test_names_of_the_cache_folder_and_paths(home: Path) -> None:
    content = (home / "shipped" / "small.pkl").read_bytes()
    for name in ("My-Model_v2.pth", "flownet_v4.6.pkl"):
        (home / "home" / "models" / name).write_bytes(content)
    (home / "elsewhere.pkl").write_bytes(content)
    assert weights.locate("mymodel2").path.name == "My-Model_v2.pth"
    assert weights.locate("rife4.6").name == "rife-v4.6"
    assert weights.locate(str(home / "elsewhere.pkl")).entry is None
    assert weights.available() == ["small", "rife-v4.6", "My-Model_v2", "blend", "nearest"]


def test_an_architecture_of_the_manifest_is_used(home: Path) -> None:
    content = (home / "shipped" / "small.pkl").read_bytes()
    (home / "home" / "models" / "doubled.pkl").write_bytes(content)
    assert load_model("doubled", device="cpu").architecture == "rife-2r"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smal", r"did you mean small\?.*small, blend, nearest"),
        ("zzzz", "there is no model 'zzzz'; on this machine are small, blend, nearest"),
        ("rife4.6", "weights of rife-v4.6 are not on this machine; put its flownet_v4.6.pkl into"),
        ("absent/file.pth", "absent/file.pth: there is no such file"),
        ("absent.safetensors", "there is no such file"),
        (".", "is a folder"),
        ("", "the name of the model is empty"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(home: Path, name: str, expected: str) -> None:
    with pytest.raises(ModelError, match=expected) as error:
        load_model(name, device="cpu")
    assert "\n" not in str(error.value)


def test_a_model_without_weights_has_no_architecture() -> None:
    with pytest.raises(ModelError, match="blend needs no weights"):
        load_model("blend", architecture="rife", device="cpu")


def test_an_unknown_architecture_is_answered_with_the_known_ones(home: Path) -> None:
    with pytest.raises(ModelError, match=r"'rife-2x' \(did you mean rife-2r\?\)"):
        load_model("small", architecture="rife-2x", device="cpu")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default = 3 = 4", "cannot be read"),
        ('default = "gone"', "'gone' is not in it"),
        ("[models.a]\nlicence = 'x'", "names no file"),
        ("[models.a]\nfile = '../x.pkl'", "without folders"),
        ("[models.a]\nfile = 'x.pkl'\nsha265 = 'x'", "sha265 is unknown"),
        ("[models.a]\nfile = 'x.pkl'\nany_timestep = 1", "of the wrong kind"),
    ],
)
def test_a_wrong_manifest_is_named(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "manifest.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=expected):
        weights.read_manifest(tmp_path)


def test_the_cache_folder_follows_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VFI_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    monkeypatch.setattr(weights.sys, "platform", "linux")
    assert weights.cache_dir() == Path("/some/cache/vfi/models")
    monkeypatch.setattr(weights.sys, "platform", "darwin")
    assert weights.cache_dir() == Path.home() / "Library" / "Caches" / "vfi" / "models"
    monkeypatch.setenv("VFI_HOME", "/vfi")
    assert weights.cache_dir() == Path("/vfi/models")


def test_listing_models_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, vfi_cli.models.weights as w; w.available(); print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", "mps", "CUDA"])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(DeviceError):
        pick_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none() -> None:
    with pytest.raises(DeviceError, match=r"no CUDA device.*--device cpu"):
        load_model("blend", device="cuda:1")
    assert pick_device("auto") == torch.device("cpu")


def test_dtypes() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    every = {torch.float32, torch.bfloat16, torch.float16}
    assert pick_dtype("auto", cuda, every) == torch.float16
    assert pick_dtype("auto", cuda, {torch.float32}) == torch.float32
    assert pick_dtype("auto", cpu, {torch.float32}) == torch.float32
    assert pick_dtype(torch.bfloat16, cpu, every) == torch.bfloat16
    with pytest.raises(ModelError, match="not safe in float16; use float32"):
        pick_dtype("float16", cpu, {torch.float32})
    with pytest.raises(UsageError, match="is not a dtype"):
        pick_dtype("int4", cpu, every)
