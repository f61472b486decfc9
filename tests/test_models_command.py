"""``vfi models``: from an address to a model that ``--model`` takes, or to one clear line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests import webserver
from tests.modelkit import BOTH, OTHER_RIFE, RIFE_FILE, RIFE_STATE, RIFEM_FILE, WRONG, as_bytes
from tests.test_cli import loaded_by
from tests.webserver import Server, file, silence, status
from vfi_cli.__main__ import main
from vfi_cli.errors import ModelError
from vfi_cli.models import catalogue, download, load_model, store, weights
from vfi_cli.models.checkpoint import read_state_dict, sha256_of
from vfi_cli.models.record import FILE, read_record

MANIFEST = """
default = "small"
[models.small]
file = "small.pkl"
size = {size}
sha256 = "{sha256}"
architecture = "rife"
licence = "MIT"
"""
PUBLISHED = """
[models."rife-v1"]
file = "rife-v1.pkl"
architecture = "rife"
licence = "MIT"
description = "a direct file"
aliases = ["first"]
url = "{address}/rife-v1.pkl"

[models.pinned]
file = "pinned.pkl"
architecture = "rife"
licence = "MIT"
size = {size}
sha256 = "{sha256}"
url = "{address}/pinned.pkl"

[models.zipped]
file = "zipped.pkl"
architecture = "rife"
licence = "MIT"
url = "{address}/both.zip"
page = "https://example.org/readme"
member = "train_log/flownet.pkl"

[models.frozen]
file = "frozen.pth"
architecture = "rifem"
any_timestep = false
url = "{address}/both.zip"
member = "checkpoints/frozen.pth"

[models.research]
file = "research.pkl"
architecture = "rife"
licence = "research only"
noncommercial = true
url = "{address}/research.pkl"
page = "https://example.org/terms"

[models.paged]
file = "paged.pkl"
architecture = "rife"
licence = "MIT"
page = "https://1drv.ms/u/s!x"
"""


Policy = download.Policy
QUICK = Policy(timeout=5, attempts=2, pause=0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with webserver.serving() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, not made yet; a manifest, and a catalogue that leads to ``server``."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "small.pkl").write_bytes(RIFE_FILE)
    facts = {"size": len(RIFE_FILE), "sha256": sha256_of(shipped / "small.pkl")}
    (shipped / "manifest.toml").write_text(MANIFEST.format(**facts), encoding="utf-8")
    (shipped / "published.toml").write_text(
        PUBLISHED.format(address=server.url(""), **facts), encoding="utf-8"
    )
    monkeypatch.setattr(weights, "weights_dir", lambda: shipped)
    monkeypatch.setenv("VFI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "Policy", lambda: QUICK)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "models"


class Run:
    """The outcome of a command."""

    def __init__(self, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
        capsys.readouterr()
        self.code = main(["models", *arguments])
        self.out, self.err = capsys.readouterr()

    @property
    def error(self) -> str:
        """The one line of an error."""
        lines = [line for line in self.err.splitlines() if line.startswith("vfi: ")]
        assert len(lines) == 1, self.err
        assert len(lines[0]) < 400
        return lines[0]

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def vfi(home: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    return lambda *arguments: Run(capsys, arguments)


def files(home: Path) -> set[str]:
    """What lies in the cache folder itself."""
    return {path.name for path in home.iterdir() if path.is_file()} if home.is_dir() else set()


# pull


def test_what_is_pulled_is_what_the_model_option_takes(
    vfi: Any, home: Path, server: Server
) -> None:
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE, breaks=[1000])
    run = vfi("pull", "RIFE1")
    assert run.code == 0
    assert run.out == ""
    assert "rife-v1: a direct file, licence MIT" in run.err
    assert "recorded: use it with --model rife-v1" in run.err
    assert files(home) == {"rife-v1.pkl", FILE}
    assert not list((home / "downloads").glob("*.p*")), "nothing is left of the download"
    model = load_model("rife1", device="cpu")
    assert (model.name, model.architecture, model.licence) == ("rife-v1", "rife", "MIT")
    assert load_model("first", device="cpu").fingerprint == model.fingerprint
    record = read_record(home)["rife-v1.pkl"]
    assert record.source == server.url("/rife-v1.pkl")
    assert (record.sha256, record.size) == (model.fingerprint, len(RIFE_FILE))
    assert record.parameters == model.parameters


def test_what_is_there_and_as_it_was_is_not_fetched_again(
    vfi: Any, home: Path, server: Server
) -> None:
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE)
    assert vfi("pull", "rife-v1", "--json").json()[0]["fresh"] is True
    again = vfi("pull", "rife-v1", "--json").json()
    assert again[0]["fresh"] is False
    assert len(server.seen) == 1


def test_a_file_that_was_put_by_hand_is_recorded(vfi: Any, home: Path, server: Server) -> None:
    home.mkdir(parents=True)
    (home / "paged.pkl").write_bytes(RIFE_FILE)
    assert vfi("pull", "paged").code == 0
    assert read_record(home)["paged.pkl"].architecture == "rife"
    assert server.seen == []


def test_a_file_that_was_put_by_hand_and_is_none_is_replaced_where_it_can_be(
    vfi: Any, home: Path, server: Server
) -> None:
    home.mkdir(parents=True)
    for name in ("paged.pkl", "rife-v1.pkl"):
        (home / name).write_bytes(RIFE_FILE[:-500])
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE)
    assert vfi("pull", "rife-v1").code == 0
    assert (home / "rife-v1.pkl").read_bytes() == RIFE_FILE
    assert "breaks off" in vfi("pull", "paged").error


def test_a_file_that_changed_since_it_was_pulled_is_refused_and_replaced(
    vfi: Any, home: Path, server: Server
) -> None:
    """Trust on first use: afterwards only the same bytes are taken."""
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE)
    assert vfi("pull", "rife-v1").code == 0
    (home / "rife-v1.pkl").write_bytes(OTHER_RIFE)
    with pytest.raises(ModelError, match=r"is not the file that rife-v1 was published as"):
        load_model("rife-v1", device="cpu")
    assert "its SHA-256 is" in vfi("verify", "rife-v1").error
    assert vfi("pull", "rife-v1").code == 0
    assert (home / "rife-v1.pkl").read_bytes() == RIFE_FILE


def test_another_file_under_the_same_address_wants_consent(
    vfi: Any, home: Path, server: Server
) -> None:
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE)
    assert vfi("pull", "rife-v1").code == 0
    (home / "rife-v1.pkl").unlink()
    server.paths["/rife-v1.pkl"] = file(OTHER_RIFE, tag='"two"')
    run = vfi("pull", "rife-v1")
    assert run.code == 6
    assert "is not the file that was pulled as rife-v1 on 20" in run.error
    assert "--accept-change" in run.error
    assert files(home) == {FILE}
    assert vfi("pull", "rife-v1", "--accept-change").code == 0
    assert (home / "rife-v1.pkl").read_bytes() == OTHER_RIFE
    assert load_model("rife-v1", device="cpu").architecture == "rife"


def test_a_published_digest_is_compared(vfi: Any, home: Path, server: Server) -> None:
    server.paths["/pinned.pkl"] = file(RIFE_FILE)
    assert "SHA-256 as published" in vfi("pull", "pinned").err
    (home / "pinned.pkl").unlink()
    wrong = RIFE_FILE[:5000] + bytes([RIFE_FILE[5000] ^ 1]) + RIFE_FILE[5001:]
    server.paths["/pinned.pkl"] = file(wrong, tag='"two"')
    run = vfi("pull", "pinned", "--accept-change")
    assert run.code == 6, "no consent helps against a published digest"
    assert "is not the file that was published" in run.error
    assert files(home) == {FILE}


def test_several_models_of_one_archive_are_downloaded_once(
    vfi: Any, home: Path, server: Server
) -> None:
    server.paths["/both.zip"] = file(BOTH)
    run = vfi("pull", "zipped", "frozen", "--accept-license", "--json")
    assert [one["member"] for one in run.json()] == ["train_log/flownet.pkl", "frozen.pth"]
    assert len(server.seen) == 1
    assert files(home) == {"zipped.pkl", "frozen.pth", FILE}
    assert not list((home / "downloads").glob("*.p*"))
    assert (home / "zipped.pkl").read_bytes() == RIFE_FILE
    frozen = load_model("frozen", device="cpu")
    assert frozen.any_timestep is False, "the catalogue knows better than the architecture"


@pytest.mark.parametrize(("name", "terms"), [("research", "research only"), ("frozen", "state no")])
def test_licences_that_are_not_free_want_consent_before_anything_is_fetched(
    vfi: Any, home: Path, server: Server, name: str, terms: str
) -> None:
    server.paths["/research.pkl"] = file(RIFE_FILE)
    server.paths["/both.zip"] = file(BOTH)
    run = vfi("pull", name)
    assert run.code == 2
    assert terms in run.error
    assert "--accept-license" in run.error
    assert server.seen == []
    assert vfi("pull", name, "--accept-license").code == 0


def test_a_page_that_only_a_browser_can_use(vfi: Any, home: Path, server: Server) -> None:
    run = vfi("pull", "paged")
    assert run.code == 6
    assert "download it from https://1drv.ms/u/s!x by hand, then: vfi models pull paged" in (
        run.error
    )
    server.paths["/both.zip"] = file(b"<!doctype html><title>Sign in</title>")
    run = vfi("pull", "zipped")
    assert run.code == 6
    assert "127.0.0.1 answers with a web page" in run.error
    assert "download it from https://example.org/readme by hand" in run.error
    assert "vfi models pull zipped --from FILE" in run.error
    assert files(home) == set()


def test_a_file_from_elsewhere(vfi: Any, home: Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "got.zip").write_bytes(BOTH)
    (tmp_path / "got.pkl").write_bytes(RIFE_FILE)
    server.paths["/mirror"] = file(RIFE_FILE)
    assert vfi("pull", "zipped", "--from", "got.zip").code == 0
    assert vfi("pull", "paged", "--from", "got.pkl").code == 0
    assert vfi("pull", "pinned", "--from", server.url("/mirror")).code == 0
    for name in ("zipped", "paged", "pinned"):
        assert load_model(name, device="cpu").architecture == "rife"
    assert (tmp_path / "got.zip").read_bytes() == BOTH
    assert (tmp_path / "got.pkl").read_bytes() == RIFE_FILE


@pytest.mark.parametrize("source", ["address", "file"])
@pytest.mark.parametrize("kind", WRONG)
def test_what_is_not_the_model_gets_one_line_and_no_name(
    vfi: Any, home: Path, server: Server, tmp_path: Path, kind: str, source: str
) -> None:
    make, expected = WRONG[kind]
    content = make(tmp_path)
    for name, path in (("rife-v1", "/rife-v1.pkl"), ("zipped", "/both.zip")):
        server.paths[path] = file(content)
        (tmp_path / "given").write_bytes(content)
        extra = () if source == "address" else ("--from", "given")
        run = vfi("pull", name, *extra)
        assert run.code == 6, run.err
        assert re.search(expected, run.error), run.error
        assert str(home) not in run.error, "of the source, not of a temporary file"
        assert files(home) == set()
        assert not list((home / "downloads").glob("*.new"))
        assert not list((home / "downloads").glob("*.part"))
    assert not (tmp_path / "was-run").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"shipped", "home", "given"}


def test_a_model_that_was_there_survives_a_failed_pull(
    vfi: Any, home: Path, server: Server
) -> None:
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE)
    assert vfi("pull", "rife-v1").code == 0
    server.paths["/bad"] = file(RIFE_FILE[:-500])
    assert vfi("pull", "rife-v1", "--from", server.url("/bad")).code == 6
    assert (home / "rife-v1.pkl").read_bytes() == RIFE_FILE


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (file(RIFE_FILE, breaks=[5000] * 9), "breaks off after"),
        (file(RIFE_FILE, Content_Length=str(len(RIFE_FILE) + 9), ranges=False), "breaks off after"),
        (file(RIFE_FILE, Content_Length=str(len(RIFE_FILE) - 9)), "damaged or breaks off"),
        (status(302, Location="/rife-v1.pkl"), "from address to address and to no file"),
        (status(404), "404 Not Found; the file may have moved"),
        (status(500), "500 Internal Server Error"),
        (silence(1.5), "nothing came for 0.2 seconds"),
    ],
)
def test_servers_in_every_kind_of_trouble(
    vfi: Any,
    home: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    expected: str,
) -> None:
    policy = Policy(timeout=0.2, attempts=1, pause=0, most_attempts=3)
    monkeypatch.setattr(download, "Policy", lambda: policy)
    server.paths["/rife-v1.pkl"] = answer
    run = vfi("pull", "rife-v1")
    assert run.code == 6
    assert expected in run.error
    assert files(home) == set()


def test_a_model_that_was_not_pulled_says_how(vfi: Any, home: Path) -> None:
    with pytest.raises(ModelError, match=r"put its rife-v1\.pkl into .*vfi models pull rife-v1"):
        load_model("rife-v1", device="cpu")


def test_names_that_are_none(vfi: Any, home: Path, tmp_path: Path) -> None:
    for name, expected in (
        ("rife-v2", "there is no model 'rife-v2' (did you mean rife-v1"),
        ("blend", "blend needs no weights"),
        ("small", "ships with vfi"),
        ("default", "ships with vfi"),
    ):
        run = vfi("pull", name)
        assert run.code == 6
        assert expected in run.error
    for source, expected in (("absent.pkl", "there is no such file"), (".", "is a folder")):
        run = vfi("pull", "rife-v1", "--from", source)
        assert run.code == 6
        assert expected in run.error


def test_a_cache_folder_that_cannot_be_made(
    vfi: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").write_text("a file")
    run = vfi("pull", "rife-v1")
    assert run.code == 5
    assert "cannot be written" in run.error


def test_a_damaged_record_is_named(vfi: Any, home: Path) -> None:
    home.mkdir(parents=True)
    for text in ("{", "[]", '{"x.pkl": {"name": 3}}', '{"x.pkl": {}}', '{"x.pkl": 1}'):
        (home / FILE).write_text(text)
        run = vfi("list")
        assert run.code == 6
        assert "delete it, and pull the models again" in run.error


# list, info, verify, convert


def test_list_shows_what_is_where(vfi: Any, home: Path, server: Server, tmp_path: Path) -> None:
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE)
    vfi("pull", "rife-v1")
    (home / "mine.pth").write_bytes(RIFEM_FILE)
    listed = vfi("list", "--json").json()
    where = {row["name"]: row["where"] for row in listed["models"]}
    assert where == {
        "small": "ships",
        "rife-v1": "in the cache",
        "pinned": "to pull",
        "zipped": "to pull",
        "frozen": "to pull",
        "research": "to pull",
        "paged": "by hand",
        "mine": "in the cache",
        "blend": "built in",
        "nearest": "built in",
    }
    rows = {row["name"]: row for row in listed["models"]}
    assert rows["frozen"]["timestep"] == "1/2"
    assert rows["frozen"]["licence"] is None
    assert [rows[name]["consent"] for name in ("research", "frozen", "zipped")] == [
        True,
        True,
        False,
    ]
    assert rows["rife-v1"]["parameters"] == load_model("rife-v1", device="cpu").parameters
    assert rows["small"]["default"] is True
    assert listed["cache"] == str(home)
    text = vfi("list").out
    for expected in (
        "small*",
        "none stated",
        "by hand",
        "to pull, with --accept-license",
        str(home),
    ):
        assert expected in text


def test_listing_and_the_help_load_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "av", "safetensors"}
    assert not loaded_by("models", "list", "--json") & heavy
    assert not loaded_by("models", "pull", "--help") & heavy
    assert not loaded_by("models", "info", "rrin") & heavy


def test_info_of_files_and_names(vfi: Any, home: Path, server: Server, tmp_path: Path) -> None:
    (tmp_path / "unknown.bin").write_bytes(RIFEM_FILE)
    about = vfi("info", "unknown.bin", "--json").json()
    assert about["architecture"] == "rifem"
    assert about["sha256"] == sha256_of(tmp_path / "unknown.bin")
    assert (about["sees"], about["timestep"], about["size_multiple"]) == (2, "any", 32)
    assert about["dtypes"]
    text = vfi("info", "default").out
    for expected in ("small", "rife", "1/2", "MIT", "SHA-256", "multiples of 32", "ships"):
        assert expected in text
    text = vfi("info", "research").out
    assert "vfi models pull research --accept-license" in text
    assert "https://1drv.ms" in vfi("info", "paged").out
    assert vfi("info", "blend").code == 0
    (tmp_path / "text").write_text("no model at all")
    run = vfi("info", "text")
    assert run.code == 6
    assert "is not a checkpoint" in run.error
    assert vfi("info", "absent").code == 6


@pytest.mark.parametrize("name", ["list", "info", "pull", "convert", "verify"])
def test_every_command_has_a_page_with_an_example(vfi: Any, name: str) -> None:
    run = vfi(name, "--help")
    assert run.code == 0
    assert f"vfi models {name}" in run.out.split("Examples")[1]
    assert "--json" in run.out


def test_info_tells_rife_2r_only_when_it_is_named(vfi: Any, home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(RIFE_FILE)
    assert vfi("info", "a.pkl", "--json").json()["architecture"] == "rife"
    told = vfi("info", "a.pkl", "--architecture", "rife-2r", "--json").json()
    assert told["architecture"] == "rife-2r"


def test_verify_finds_what_is_wrong(vfi: Any, home: Path, server: Server) -> None:
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE)
    server.paths["/both.zip"] = file(BOTH)
    assert vfi("pull", "rife-v1", "zipped").code == 0
    (home / "mine.pth").write_bytes(RIFEM_FILE)
    results = {result["name"]: result for result in vfi("verify", "--json").json()}
    assert set(results) == {"small", "rife-v1", "zipped", "mine"}
    assert [results[name]["compared"] for name in ("small", "rife-v1", "mine")] == [
        True,
        True,
        False,
    ]
    assert results["mine"]["architecture"] == "rifem"
    (home / "mine.pth").write_bytes(RIFEM_FILE[:-500])
    (home / "zipped.pkl").unlink()
    (home / "rife-v1.pkl").write_bytes(RIFE_FILE[:-1])
    run = vfi("verify", "--json")
    assert run.code == 6
    problems = {result["name"]: result["problem"] for result in json.loads(run.out)}
    assert problems["small"] == ""
    assert "bytes, not" in problems["rife-v1"]
    assert "the file is gone; vfi models pull zipped" in problems["zipped"]
    assert "breaks off" in problems["mine"]
    assert vfi("verify", "small").code == 0
    assert "has no file on this machine" in vfi("verify", "paged").error
    assert "there is no model" in vfi("verify", "nonsense").error


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_convert_keeps_what_inference_needs(
    vfi: Any, home: Path, tmp_path: Path, dtype: str
) -> None:
    (tmp_path / "a.pkl").write_bytes(RIFE_FILE)
    about = vfi("convert", "a.pkl", "-o", "a.safetensors", "--dtype", dtype, "--json").json()
    assert about["dtype"] == dtype
    before = read_state_dict(tmp_path / "a.pkl")
    after = read_state_dict(tmp_path / "a.safetensors")
    assert set(before) - set(after) == {"block_tea.conv.weight"}
    for key, value in after.items():
        expected = before[key] if dtype == "float32" else before[key].half().float()
        assert torch.equal(value, expected), key
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        metadata = opened.metadata()
        assert opened.get_tensor(next(iter(after))).dtype == getattr(torch, dtype)
    stored = "F32" if dtype == "float32" else "F16"
    assert vfi("info", "a.safetensors", "--json").json()["stored"] == [stored]
    assert metadata["architecture"] == "rife"
    assert metadata["licence"] == "MIT"
    assert metadata["source"] == "a.pkl"
    assert metadata["source_sha256"] == sha256_of(tmp_path / "a.pkl")
    assert "architecture rife" in vfi("info", "a.safetensors").out
    assert load_model(str(tmp_path / "a.safetensors"), device="cpu").architecture == "rife"


def test_a_converted_file_says_itself_what_it_is(vfi: Any, home: Path, tmp_path: Path) -> None:
    """RIFE-2R has RIFE's keys, and a model of all times may have learnt the middle alone."""
    (tmp_path / "a.pkl").write_bytes(RIFE_FILE)
    (tmp_path / "m.pkl").write_bytes(RIFEM_FILE)
    twice = vfi("convert", "a.pkl", "-o", "2r.safetensors", "--architecture", "rife-2r", "--json")
    assert twice.code == 0
    told = load_model(tmp_path / "2r.safetensors", device="cpu")
    assert (told.architecture, told.licence) == ("rife-2r", "MIT")
    assert vfi("info", "2r.safetensors", "--json").json()["architecture"] == "rife-2r"
    asked = load_model(tmp_path / "2r.safetensors", architecture="rife", device="cpu")
    assert asked.architecture == "rife"

    assert vfi("convert", "m.pkl", "-o", "m.safetensors").code == 0
    path = tmp_path / "m.safetensors"
    assert load_model(path, device="cpu").any_timestep
    state = {key: value.contiguous() for key, value in read_state_dict(path).items()}
    save_file(state, path, metadata={"timestep": "1/2", "architecture": "of another program"})
    middle = load_model(path, device="cpu")
    assert (middle.architecture, middle.any_timestep) == ("rifem", False)
    assert vfi("info", "m.safetensors", "--json").json()["timestep"] == "1/2"


def test_models_are_offered_while_typing(home: Path) -> None:
    from vfi_cli.cli.options import _models

    weights.cache_dir().mkdir(parents=True)
    (weights.cache_dir() / "mine.pth").write_bytes(RIFE_FILE)
    assert _models("m") == ["mine"]
    assert _models("rife")[0] == "rife-v1", "what is to be pulled is offered too"
    assert {"default", "small", "blend", "pinned"} <= set(_models(""))
    code = "import sys; from vfi_cli.cli.options import _models; _models(''); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "typer" in done.stdout.split()
    assert "torch" not in done.stdout.split()


def test_convert_refuses_what_would_be_lost(vfi: Any, home: Path, tmp_path: Path) -> None:
    key = next(iter(RIFE_STATE))
    (tmp_path / "a.pkl").write_bytes(as_bytes(RIFE_STATE | {key: RIFE_STATE[key] * 1e6}))
    run = vfi("convert", "a.pkl", "-o", "a.safetensors", "--dtype", "float16")
    assert run.code == 6
    assert "too large for float16" in run.error
    (tmp_path / "there.safetensors").write_text("precious")
    run = vfi("convert", "a.pkl", "-o", "there.safetensors")
    assert run.code == 2
    assert "--overwrite" in run.error
    assert (tmp_path / "there.safetensors").read_text() == "precious"
    assert vfi("convert", "a.pkl", "-o", "there.safetensors", "--overwrite").code == 0
    assert vfi("convert", "a.pkl", "-o", "a.pth").code == 2
    assert vfi("convert", "a.pkl", "-o", "absent/a.safetensors").code == 2
    assert vfi("convert", "blend", "-o", "b.safetensors").code == 6
    assert {path.suffix for path in tmp_path.iterdir()} == {"", ".pkl", ".safetensors"}
    assert not list(tmp_path.glob(".*"))


def test_pull_is_there_for_programs_too(home: Path, server: Server) -> None:
    server.paths["/rife-v1.pkl"] = file(RIFE_FILE, breaks=[0])
    seen: list[int] = []
    pulled = store.pull(
        catalogue.find("rife-v1"), policy=QUICK, progress=lambda done, total: seen.append(done)
    )
    assert (pulled.fresh, pulled.path) == (True, home / "rife-v1.pkl")
    assert seen[-1] == len(RIFE_FILE)
