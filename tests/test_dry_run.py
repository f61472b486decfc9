"""``--dry-run`` and ``--json``: what is told beforehand is what happens, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from tests.media import write_clip
from vfi_cli.cli import messages
from vfi_cli.cli.app import command

DOCS = Path(__file__).resolve().parent.parent / "docs" / "json.md"
Vfi = Callable[..., SimpleNamespace]


@pytest.fixture
def vfi(capsys: pytest.CaptureFixture[str]) -> Vfi:
    def run(*args: object) -> SimpleNamespace:
        code = messages.run(command(), [str(arg) for arg in args])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return run


def scenes(path: Path, *, frames: int = 24, cut: int = 10, still: tuple[int, ...] = ()) -> Path:
    """A moving texture of 25 fps with a cut, and some frames shown twice."""
    random = np.random.default_rng(4)
    shots = random.integers(20, 235, (2, 48, 160), dtype=np.uint8).repeat(2, 2)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25, width=128, height=48)
        stream.pix_fmt = "gray"
        for number in range(frames):
            seen = number - sum(1 for repeat in still if repeat <= number)
            picture = shots[int(number >= cut)][:, 3 * seen : 3 * seen + 128]
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture.copy(), "gray")))
        out.mux(stream.encode(None))
    return path


def files_of(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "options",
    [
        ["--fps", 60],
        ["--fps", 60, "--no-cuts"],
        ["--fps", 50, "--start", "0.2", "--end", "0.7"],
        ["--factor", "5/2", "--dedupe"],
        ["--fps", 25],
    ],
)
def test_what_is_foretold_comes_true(tmp_path: Path, vfi: Vfi, options: list[object]) -> None:
    source = scenes(tmp_path / "in.mkv", still=(3, 6, 14, 17, 20))
    before = files_of(tmp_path)
    arguments = ("convert", source, *options, "--model", "blend", "--json", "--quiet")
    run = vfi(*arguments, "--dry-run")
    assert (run.code, run.err) == (0, "")
    told = json.loads(run.out)
    assert files_of(tmp_path) == before
    made = json.loads(vfi(*arguments).out)
    for key in ("frames", "new_frames", "copied_frames", "cuts", "repeats", "output", "settings"):
        assert told[key] == made[key], key
    assert told["duration"] == made["duration"]
    assert told["copied_frames"] + told["new_frames"] == told["frames"]


def test_cuts_and_repeats_have_their_times(tmp_path: Path, vfi: Vfi) -> None:
    source = scenes(tmp_path / "in.mkv", still=(3, 6, 14, 17, 20))
    run = vfi("convert", source, "--fps", 60, "--model", "blend", "--dry-run", "--json")
    told = json.loads(run.out)
    assert told["scan"]["cut_times"] == ["2/5"]  # frame 10
    assert [Fraction(at) * 25 for at in told["scan"]["repeat_times"]] == [3, 6, 14, 17, 20]
    assert told["repeats"] == 0, "none is replaced without --dedupe"
    assert "cuts      1, at 0:00.4" in run.err
    assert "5, at 0:00.1" in run.err
    assert "--dedupe makes them motion" in run.err


def test_quick_looks_at_nothing(tmp_path: Path, vfi: Vfi, monkeypatch: pytest.MonkeyPatch) -> None:
    source = scenes(tmp_path / "in.mkv")

    def refuse(*_: object) -> None:
        raise AssertionError("the source was looked through")

    monkeypatch.setattr("vfi_cli.dry_run.survey", refuse)
    monkeypatch.setattr("vfi_cli.dry_run.estimate", refuse)
    told = json.loads(
        vfi("convert", source, "--fps", 60, "--model", "blend", "--quick", "--json").out
    )
    assert told["kind"] == "plan"
    assert (told["scan"], told["estimate"], told["new_frames"]) == (None, None, None)
    assert not (tmp_path / "in.60fps.mkv").exists(), "--quick is a dry run too"


def test_what_stands_in_the_way_is_told(tmp_path: Path, vfi: Vfi) -> None:
    """The exit codes and messages are those of the conversion."""
    source = scenes(tmp_path / "in.mkv")
    there = tmp_path / "there.mkv"
    there.touch()
    busy = tmp_path / ".new.mkv.vfi"
    busy.mkdir()
    (busy / "plan.json").write_text('{"fingerprint": "of another run"}')
    (busy / "000000.segment").touch()
    for target, code, word in (
        (there, 5, "exists already"),
        (tmp_path / "no" / "out.mkv", 5, "does not exist"),
        (tmp_path / "new.mkv", 5, "unfinished run with another input"),
        (tmp_path / "out.jpeg", 2, "jpeg"),
    ):
        arguments = ("convert", source, "--fps", 60, "--model", "blend", "-o", target)
        told, done = vfi(*arguments, "--quick"), vfi(*arguments)
        assert told.code == done.code == code
        assert word in told.err
        assert told.err.splitlines()[-1] == done.err.splitlines()[-1]
    encoder = ("convert", source, "--fps", 60, "--model", "blend", "--codec", "h264_nvenc")
    assert "does not open" in vfi(*encoder, "--quick").err


@pytest.mark.parametrize("option", ["--dry-run", "--quick", "--json"])
def test_a_pipe_cannot_be_foretold(vfi: Vfi, option: str) -> None:
    run = vfi("convert", "-", "-o", "-", "--fps", 60, option)
    assert (run.code, run.out) == (2, "")
    assert "a pipe is not known before it is read" in run.err


def test_a_disk_that_is_too_small_is_a_warning(
    tmp_path: Path, vfi: Vfi, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = scenes(tmp_path / "in.mkv")
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr("vfi_cli.dry_run.shutil.disk_usage", lambda _: usage)
    run = vfi("convert", source, "--fps", 60, "--model", "blend", "--dry-run", "--json")
    told = json.loads(run.out)
    assert run.code == 0
    assert told["free_bytes"] == 100
    assert "are free" in told["warnings"][-1]
    assert "vfi: warning" in run.err


def test_damage_is_told(tmp_path: Path, vfi: Vfi) -> None:
    source = write_clip(tmp_path / "in.ts", frames=40, options={"g": "10"})
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    source.write_bytes(data)
    arguments = ("convert", source, "--fps", 50, "--model", "blend", "--json")
    told = json.loads(vfi(*arguments, "--dry-run", "-o", tmp_path / "out.mkv").out)
    made = vfi(*arguments, "--allow-truncated", "-o", tmp_path / "out.mkv")
    assert made.code == 0
    assert told["frames"] == json.loads(made.out)["frames"] < 80
    assert {f"scan.broken.{key}" for key in told["scan"]["broken"]} == BROKEN
    assert any("would be converted up to there" in text for text in told["warnings"])


def images(folder: Path, *, count: int = 6, cut: int = 3) -> Path:
    """Images of a moving texture, with a cut."""
    from PIL import Image

    folder.mkdir(parents=True)
    shots = np.random.default_rng(4).integers(20, 235, (2, 32, 100), dtype=np.uint8).repeat(2, 2)
    for number in range(count):
        part = shots[int(number >= cut)][:, 3 * number : 3 * number + 64]
        Image.fromarray(part).save(folder / f"{8 * number:08}.png")
    return folder


def test_a_jump_of_the_clock_is_told_once_and_before_the_work(tmp_path: Path, vfi: Vfi) -> None:
    pts = [40 * n + (12_000 if n >= 10 else 0) + (11_000 if n >= 15 else 0) for n in range(20)]
    source = write_clip(tmp_path / "in.mkv", frames=20, pts=pts, time_base=Fraction(1, 1000))
    arguments = ("convert", source, "--fps", 2, "--model", "blend")
    said = (
        "after 0:00.36 no frame comes for 0:12.04, the longest of 2 gaps; the frame before it is "
        "held over 24 output frames"
    )
    for more in (["--dry-run"], ["--quick"], []):
        run = vfi(*arguments, *more)
        assert run.code == 0
        assert run.err.count(said) == 1
        lines = run.err.splitlines()
        assert said in lines[2], lines
    assert "no frame comes" not in vfi(*arguments, "--quick", "--end", "0.36", "--overwrite").err
    inside = vfi(*arguments, "--quick", "--start", 3, "--end", "9.5", "--overwrite")
    said = "no frame comes for 0:12.04; the frame before it is held over 13 output frames"
    assert said in inside.err


@pytest.mark.parametrize("options", [["--inter", 3], ["--inter", 1, "--keep-inputs"]])
def test_new_images_come_as_foretold(tmp_path: Path, vfi: Vfi, options: list[object]) -> None:
    source = images(tmp_path / "clip")
    before = files_of(tmp_path)
    arguments = ("frames", source, *options, "--model", "blend", "--json")
    run = vfi(*arguments, "--dry-run")
    assert files_of(tmp_path) == before
    told = json.loads(run.out)
    check(told, "folder_plan")
    assert told["cut_images"] == ["00000024.png"]
    assert "cuts      1, at 00000024.png" in run.err
    done = vfi(*arguments)
    made = json.loads(done.out)
    check(made, "folder_result")
    for key in ("output", "images", "new", "copied", "cuts", "first", "last"):
        assert told[key] == made[key], key
    size = sum(path.stat().st_size for path in Path(made["output"]).iterdir())
    assert told["estimate"]["output_bytes"]["low"] < size < told["estimate"]["output_bytes"]["high"]
    for again in (vfi(*arguments, "--quick"), vfi(*arguments)):
        assert again.code == 5
        assert "is not empty" in again.err
        wrong = json.loads(again.out)
        check(wrong, "error")
        assert (wrong["input"], wrong["exit_code"]) == (str(source), 5)
        assert wrong["error"] in again.err


def test_a_video_of_images_comes_as_foretold(tmp_path: Path, vfi: Vfi) -> None:
    source = images(tmp_path / "clip")
    arguments = ("video", source, "--fps", "23.976", "-o", tmp_path / "out.mkv", "--json")
    before = files_of(tmp_path)
    told = json.loads(vfi(*arguments, "--dry-run").out)
    assert files_of(tmp_path) == before
    check(told, "video_plan")
    made = json.loads(vfi(*arguments).out)
    check(made, "video_result")
    assert made["bytes"] == (tmp_path / "out.mkv").stat().st_size
    assert Fraction(made["duration"]) == made["frames"] * Fraction(1001, 24000)
    for key in told.keys() - {"kind"}:
        assert told[key] == made[key], key
    for wrong in (arguments, ("video", tmp_path / "no", *arguments[2:])):
        run = vfi(*wrong)
        assert run.code == json.loads(run.out)["exit_code"] > 0
        check(json.loads(run.out), "error")


def test_folders_of_images_are_one_object(tmp_path: Path, vfi: Vfi) -> None:
    images(tmp_path / "top" / "a", cut=99)
    images(tmp_path / "top" / "b")
    told = json.loads(vfi("frames", tmp_path / "top", "--model", "blend", "--quick", "--json").out)
    assert told["kind"] == "batch"
    assert [item["kind"] for item in told["items"]] == ["folder_plan"] * 2
    assert [item["estimate"] for item in told["items"]] == [None, None]


def test_of_several_folders_those_that_are_done_are_no_mistake(tmp_path: Path, vfi: Vfi) -> None:
    for name in ("a", "b", "c"):
        images(tmp_path / "top" / name)
    arguments = ("frames", tmp_path / "top", "--model", "blend", "--json")
    assert vfi(*arguments).code == 0
    out = tmp_path / "top.x2"
    (out / "b" / "notes.txt").write_text("mine")
    for path in (out / "c").iterdir():
        path.unlink()
    run = vfi(*arguments, "--dry-run")
    assert run.code == 8, "as the work itself would end"
    assert "1 of 3 folders failed: b" in run.err
    done, _, rest = json.loads(run.out)["items"]
    assert (done["kind"], done["new"], done["estimate"]) == ("folder_plan", None, None)
    assert "all of its images are there already" in done["notes"][-1]
    assert rest["new"] > 0


def test_an_unfinished_run_is_gone_on_with(tmp_path: Path, vfi: Vfi) -> None:
    from vfi_cli.api import ConvertOptions, Listener, ModelOptions, convert_file
    from vfi_cli.plan import Timing

    source = write_clip(tmp_path / "in.mkv", frames=300, options={"g": "25"}, size=(16, 16))

    class Stop(Listener):
        def progress(self, done: int) -> None:
            if done > 300:
                raise KeyboardInterrupt

    options = ConvertOptions(Timing(factor=Fraction(2)), ModelOptions("blend"))
    with pytest.raises(KeyboardInterrupt):
        convert_file(source, tmp_path / "out.mkv", options, listener=Stop())
    run = vfi(
        *("convert", source, "--factor", 2, "--model", "blend", "-o", tmp_path / "out.mkv"),
        *("--json", "--dry-run"),
    )
    told = json.loads(run.out)
    assert 250 <= told["finished_frames"] <= 300
    assert "frames made already" in run.err


def test_a_batch_is_one_object_and_makes_no_folder(tmp_path: Path, vfi: Vfi) -> None:
    inputs = tmp_path / "clips"
    inputs.mkdir()
    scenes(inputs / "b.mkv")
    (inputs / "a.mkv").write_bytes(b"junk")
    target = tmp_path / "out"
    run = vfi(
        *("slowmo", inputs, "--factor", 2, "--model", "blend", "-o", target),
        *("--dry-run", "--json"),
    )
    told = json.loads(run.out)
    assert run.code == 8
    assert (told["kind"], told["failed"]) == ("batch", 1)
    assert [item["kind"] for item in told["items"]] == ["error", "plan"]
    assert told["items"][1]["output"] == str(target / "b.slow2x.mkv")
    assert not target.exists()


# The documented keys


NONE: frozenset[str] = frozenset()
BROKEN = frozenset({"scan.broken.time", "scan.broken.time_s", "scan.broken.reason"})


def documented(kind: str) -> set[str]:
    """Keys that docs/json.md has for a kind of record."""
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE)
    shared = {"plan": "both", "result": "both", "folder_plan": "folder", "folder_result": "folder"}
    shared |= {"video_plan": "video", "video_result": "video"}
    kinds = {kind, shared.get(kind)}
    return {key for key, where in rows if where in kinds}


def keys_of(value: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all there is in a record, as the tables write them."""
    open_ended = prefix == "encoder.options"
    if isinstance(value, dict) and value and not open_ended:
        for key, inner in value.items():
            yield from keys_of(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from keys_of(inner, f"{prefix}[]")
    else:
        yield prefix


def check(record: dict[str, Any], kind: str, *, without: frozenset[str] = NONE) -> None:
    found = set(keys_of(record))
    plain = {key.removesuffix("[]") for key in documented(kind) - without}
    # what has keys of its own is named once more where it may be null
    parents = {key for key in plain if any(other.startswith(f"{key}.") for other in plain)}
    assert found - plain == set(), "not documented"
    assert plain - found - parents == set(), "documented, but not there"


def test_every_key_is_documented_and_every_documented_key_is_there(
    tmp_path: Path, vfi: Vfi
) -> None:
    whole = write_clip(tmp_path / "in.mkv", frames=12, tone=True)
    plan = ("convert", whole, "--factor", 2, "--model", "blend", "--json")
    check(json.loads(vfi(*plan, "--dry-run").out), "plan", without=BROKEN)
    check(json.loads(vfi(*plan).out), "result", without=frozenset({"report"}))
    check(json.loads(vfi("convert", tmp_path / "no", *plan[2:]).out), "error")
    both = json.loads(vfi("convert", whole, tmp_path / "no", *plan[2:]).out)
    assert set(both) | {"items[]"} == documented("batch") | {"items"}
