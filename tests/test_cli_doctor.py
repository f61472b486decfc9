"""``vfi doctor``: what it finds, and what it says of what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vfi_cli.__main__ import main
from vfi_cli.cli import doctor
from vfi_cli.errors import InputError
from vfi_cli.models import weights
from vfi_cli.native import build, ops


def findings(examine: Any) -> list[doctor.Finding]:
    return list(doctor._examined("topic", examine))


def ship(folder: Path, sha256: str) -> None:
    """A folder of weights with one default model."""
    (folder / "tiny.safetensors").write_bytes(b"weights")
    (folder / "manifest.toml").write_text(
        f'default = "tiny"\n[models.tiny]\nfile = "tiny.safetensors"\n'
        f'sha256 = "{sha256}"\nlicence = "MIT"\n'
    )


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(weights, "weights_dir", lambda: tmp_path)
    weights._parse_manifest.cache_clear()
    yield tmp_path
    weights._parse_manifest.cache_clear()


def test_the_report_covers_every_topic(capsys: pytest.CaptureFixture[str], shipped: Path) -> None:
    ship(shipped, hashlib.sha256(b"weights").hexdigest())
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    for topic in doctor.EXAMINATIONS:
        assert f"\n{topic} " in f"\n{page}"
    for word in ("torch", "FFmpeg", "libx264", "cpu:", "SHA-256 as in the manifest", "free in"):
        assert word in page


def test_json_is_all_that_is_on_stdout(capsys: pytest.CaptureFixture[str], shipped: Path) -> None:
    ship(shipped, hashlib.sha256(b"weights").hexdigest())
    assert main(["doctor", "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["usable"] is True
    assert {finding["topic"] for finding in report["findings"]} == set(doctor.EXAMINATIONS)
    assert captured.err == ""


def test_damaged_weights_are_found(capsys: pytest.CaptureFixture[str], shipped: Path) -> None:
    ship(shipped, "0" * 64)
    assert main(["doctor"]) == 6
    page = capsys.readouterr().out
    assert "✗" in page
    assert "tiny.safetensors is damaged" in page
    assert "→ reinstall vfi" in page


def test_missing_weights_are_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "weights_dir", lambda: None)
    assert main(["doctor", "--quiet"]) == 6
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("vfi: weights: the weights that ship with vfi are not there.")


def test_an_examination_that_fails_is_a_finding() -> None:
    def refuses() -> Iterator[doctor.Finding]:
        yield doctor.Finding("topic", "ok", "first")
        raise InputError("no such thing")

    def breaks() -> Iterator[doctor.Finding]:
        yield from ()
        raise ImportError("libcudart.so.12: cannot open\nshared object file")

    first, second = findings(refuses)
    assert (first.text, second.status, second.text) == ("first", "bad", "no such thing")
    assert second.exit_code == InputError.exit_code
    (third,) = findings(breaks)
    assert third.text == "ImportError: libcudart.so.12: cannot open shared object file"
    assert "reinstall" in third.advice


def test_operators_that_lack_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"available": False, "reason": "there is no compiler", "advice": "install g++"}
    monkeypatch.setattr(ops, "build_info", lambda: info)
    (finding,) = findings(doctor.operators)
    assert finding.status == "note"
    assert "there is no compiler" in finding.text
    assert finding.advice == "install g++"


def test_build_compiles_only_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    monkeypatch.setattr(build, "build_in_place", lambda: built.append(1))
    monkeypatch.setattr(ops, "available", lambda: True)
    monkeypatch.setattr(ops, "build_info", lambda: {"reason": ""})
    doctor._build(quiet=True)
    assert built == []
    monkeypatch.setattr(ops, "available", lambda: False)
    doctor._build(quiet=True)
    assert built == [1]


def test_hardware_encoders_are_told_by_name() -> None:
    assert doctor._hardware("hevc_nvenc") == "nvenc"
    for name in ("libx264", "mpeg2_qsv", "h264", "prores_ks", "libvpx-vp9"):
        assert doctor._hardware(name) is None
    assert not doctor._opens("no_such_encoder")
    assert doctor._opens("mpeg2video") is False  # it takes no nv12: refused, not crashed
