"""The command line as a program: what it loads, what it says, what it returns."""

from __future__ import annotations

import ast
import os
import re
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from vfi_cli import errors
from vfi_cli.__main__ import main
from vfi_cli.cli import app, messages

ROOT = Path(__file__).resolve().parent.parent
NAMES = [entry.name for entry in app.COMMANDS]


def vfi(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "vfi_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "100", **environment},
        timeout=120,
    )


def loaded_by(*arguments: str) -> set[str]:
    """The modules that a command line imports, in a process of its own."""
    code = (
        "import sys; from vfi_cli.__main__ import main; "
        f"code = main({list(arguments)!r}); print(); print('LOADED', *sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=120,
    )
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


HEAVY = {"torch", "numpy", "av", "PIL", "scipy", "skvideo", "safetensors"}


def test_help_imports_nothing_heavy_and_no_command() -> None:
    modules = loaded_by("--help")
    assert not modules & HEAVY
    assert not {entry.module for entry in app.COMMANDS} & modules


def test_the_program_ends_at_once_but_in_order() -> None:
    code = (
        "import atexit, sys; from unittest.mock import patch; import vfi_cli.__main__ as program; "
        "atexit.register(print, 'tidied', end=''); print('said', end=' '); "
        "patch.object(program, 'main', lambda: 7).start(); program.program()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.stdout, done.stderr, done.returncode) == ("said tidied", "", 7)


def test_a_profiler_has_the_last_word() -> None:
    command = [sys.executable, "-m", "cProfile", "-m", "vfi_cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0
    assert "function calls" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    assert not loaded_by(name, "--help") & HEAVY


def test_help_takes_little_time() -> None:
    """Processor time, which a busy machine does not stretch; the best of three."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert vfi("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(taken) < 0.5, f"vfi --help takes {min(taken):.2f} s"


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    for name in NAMES:
        assert re.search(rf"│ {name} ", page)
    for code in errors.EXIT_CODES:
        assert re.search(rf"^ +{code}  ", page, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_a_page_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--help"]) == 0
    page = capsys.readouterr().out
    assert "Examples" in page
    assert f"vfi {name}" in page.split("Examples")[1]
    assert "--debug" in page


@pytest.mark.parametrize("entry", app.COMMANDS, ids=NAMES)
def test_the_summary_is_what_the_command_says_of_itself(entry: app.CommandEntry) -> None:
    path = ROOT / (entry.module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text())
    function = next(
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == entry.function
    )
    first = (ast.get_docstring(function) or "").split("\n\n")[0]
    assert " ".join(first.split()) == entry.summary


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"vfi \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_no_arguments_show_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: vfi" in capsys.readouterr().out
    assert main(["frames"]) == 2
    assert "Usage: vfi frames" in capsys.readouterr().out


def test_completion_offers_commands_options_and_values() -> None:
    def complete(*words: str) -> str:
        done = vfi(
            _VFI_COMPLETE="complete_bash",
            COMP_WORDS=" ".join(("vfi", *words)),
            COMP_CWORD=str(len(words)),
        )
        return done.stdout

    assert set(complete("").split()) >= set(NAMES)
    assert complete("fra").split() == ["frames"]
    assert "--keep-inputs" in complete("frames", "--ke")
    assert complete("frames", "--naming", "se").split() == ["sequence"]
    assert "rifem" in complete("convert", "--model", "rif")


WRONG = [
    (["--nonsense"], "No such option: --nonsense"),
    (["frmes"], "Did you mean 'frames'?"),
    (["frames", "x", "--inter", "0"], "--inter"),
    (["frames", "x", "--inter", "many"], "--inter"),
    (["frames", "x", "--device", "gpu"], "'gpu' is not a device"),
    (["frames", "x", "--dtype", "int4"], "--dtype"),
    (["frames", "x", "--scale", "3"], "--scale"),
    (["frames", "x", "--crop", "12"], "'12' is not a size"),
    (["frames", "x", "--naming", "mine"], "--naming"),
    (["video", "x", "-o", "y.mp4"], "--fps"),
    (["video", "x", "--fps", "0", "-o", "y.mp4"], "0"),
    (["video", "x", "--fps", "fast", "-o", "y.mp4"], "'fast' is not a frame rate"),
    (["convert", "x"], "--fps"),
    (["convert", "x", "--fps", "60", "--start", "1:75"], "'1:75' is not a time"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_wrong_options_are_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("vfi: ")


class Fake:
    """A command that ends in an exception."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error

    def main(self, **_: object) -> None:
        if self.error is not None:
            raise self.error


FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type)]


@pytest.mark.parametrize("kind", FAMILY, ids=lambda kind: kind.__name__)
def test_errors_for_people_are_one_line_and_their_exit_code(
    kind: type[errors.VfiError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert messages.run(Fake(kind("a.mp4: is\nnot [bold]a\x1b[31m video")), []) == kind.exit_code
    captured = capsys.readouterr()
    assert captured.err == "vfi: a.mp4: is not [bold]a\N{REPLACEMENT CHARACTER}[31m video\n"
    assert kind.exit_code in errors.EXIT_CODES


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.run(Fake(errors.InputError("no")), ["x", "--debug"]) == 4
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_asks_for_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.run(Fake(ZeroDivisionError("division by zero")), []) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "ZeroDivisionError: division by zero" in line
    assert "bug" in line
    assert "--debug" in line


def test_interruption_is_130_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert messages.run(Fake(KeyboardInterrupt("half is done")), []) == 130
    assert "vfi: interrupted; half is done" in capsys.readouterr().err


def test_interruption_inside_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through Typer, which would make a bare exit code of it."""
    import vfi_cli.cli.doctor

    def interrupted() -> None:
        raise KeyboardInterrupt("what is done is kept")

    monkeypatch.setattr(vfi_cli.cli.doctor, "doctor", interrupted)
    assert main(["doctor"]) == 130
    assert "what is done is kept" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "vfi_cli", "doctor", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before anything is written
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(timeout=120) == 5
    assert "Traceback" not in said
    assert "Exception ignored" not in said


def test_the_module_runs_as_a_program() -> None:
    done = vfi("frames", "/nowhere/at/all")
    assert done.returncode == 4
    assert done.stderr == "vfi: /nowhere/at/all: there is no such folder\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_fits_a_terminal_of_eighty_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences flow to the margin, and no example is broken in two."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([name, "--help"]) == 0
    text, examples = capsys.readouterr().out.split("Examples")
    told = [line.strip() for line in text.partition("╭")[0].splitlines()]
    for line, after in pairwise(told):
        assert not (line and after) or len(line) + len(after.split()[0]) >= 77, line
    for line in examples.splitlines():
        assert not line.strip() or line.split()[0] in ("vfi", "ffmpeg"), line
