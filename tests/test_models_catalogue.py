"""The catalogue of published models that ships: whole, unambiguous, and true."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from tests.golden import read_golden
from vfi_cli.errors import ModelError
from vfi_cli.models import catalogue, load_model, store, weights
from vfi_cli.models.registry import registry


def test_the_catalogue_agrees_with_the_architectures() -> None:
    assert set(catalogue.FACTS) == set(registry().names())
    for architecture in registry():
        with torch.device("meta"):
            network = architecture.prototype()
        facts = catalogue.FACTS[architecture.name]
        timestep = "any" if network.any_timestep else "1/2"
        assert facts.sees == network.frames_seen
        assert facts.timestep == (timestep if network.has_frames else "flow")
        count = sum(weight.numel() for weight in network.parameters())
        assert facts.parameters in (None, count), architecture.name


def test_the_published_models_are_whole_and_unambiguous() -> None:
    folder = weights.weights_dir()
    assert folder is not None
    entries = weights.read_manifest(folder).entries
    published = [entry for entry in entries.values() if entry.url or entry.page]
    assert len(published) >= 48
    names = [
        weights.plain_name(name)
        for entry in entries.values()
        for name in {entry.name, *entry.aliases}
    ]
    assert len(names) == len(set(names))
    assert len({entry.file for entry in entries.values()}) == len(entries)
    for entry in published:
        assert entry.architecture in registry(), entry.name
        assert (entry.url or entry.page or "").startswith("https://"), entry.name
        assert Path(entry.file).suffix in weights.SUFFIXES, entry.name
        assert entry.sha256 is None or len(entry.sha256) == 64
        if entry.member is None:
            assert catalogue.address_of(entry) == entry.url, f"{entry.name} names no member"
        licence = registry()[entry.architecture or ""].licence
        assert catalogue.consent_needed(entry) == (licence not in ("MIT", "Apache-2.0")), entry.name
    assert catalogue.find("RIFE 4.26").file == "flownet_v4.26.pkl"
    assert catalogue.find("rifem").architecture == "rifem"


def test_a_model_cannot_ship_and_be_published_under_one_name(tmp_path: Path) -> None:
    (tmp_path / "manifest.toml").write_text('[models.rife-1]\nfile = "a.pkl"\n')
    (tmp_path / "published.toml").write_text('[models.b]\nfile = "b.pkl"\naliases = ["rife1"]\n')
    with pytest.raises(ModelError, match=r"models\.b is in manifest.toml too"):
        weights.read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("golden", "name", "any_timestep"),
    [("ifrnet-s", "ifrnet-s", False), ("rife-v4.12.lite", "rife-v4.13.lite", True)],
)
def test_a_published_file_gets_its_published_name(
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    golden: str,
    name: str,
    any_timestep: bool,
) -> None:
    """Wrapped as its authors wrap it, in an archive with folders as theirs."""
    monkeypatch.setenv("VFI_HOME", str(tmp_path / "home"))
    given = read_golden(shared_data / "golden" / f"{golden}.npz").write_checkpoint(tmp_path)
    entry = catalogue.find(name)
    if entry.member is not None:
        with zipfile.ZipFile(tmp_path / "given.zip", "w") as archive:
            archive.write(given, f"anywhere/{entry.member}")
        given = tmp_path / "given.zip"
    pulled = store.pull(entry, source=str(given))
    model = load_model(name, device="cpu")
    assert (model.name, model.architecture) == (name, golden)
    assert model.any_timestep is any_timestep
    assert pulled.record.parameters == catalogue.FACTS[golden].parameters
