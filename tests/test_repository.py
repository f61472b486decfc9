"""What is committed: nothing of the machine it was made on, and files of a readable size."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Lines; beyond, a file does more than one thing.
LONGEST = 600
SOURCES = {".py", ".cpp", ".h", ".cu", ".cuh"}
#: Bytes. Weights and test pictures stay far below.
LARGEST = 30_000_000

#: Put together here, so that this file does not hold what it looks for.
HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("pypi", "nvidia", "com"),
        ("conda", "anaconda", "org"),
        ("registry", "npmjs", "org"),
        ("ghcr", "io"),
        ("docker", "io"),
    )
]
PLACES = ["/" + "work/", "/" + "root/", "/" + "home/", "/opt/" + "wheels", "/opt/" + "pypi"]
FORBIDDEN = re.compile("|".join(re.escape(text) for text in (*HOSTS, *PLACES)))


@pytest.fixture(scope="module")
def committed() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def text_of(path: Path) -> str | None:
    """A file's text, or None for one that is not text."""
    data = path.read_bytes()
    if b"\0" in data[:8192]:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def test_nothing_names_a_registry_or_a_place_on_a_machine(committed: list[Path]) -> None:
    wrong = []
    for path in committed:
        for number, line in enumerate((text_of(path) or "").splitlines(), start=1):
            found = FORBIDDEN.search(line)
            if found:
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {found[0]}")
    assert not wrong, "\n".join(wrong)


def test_what_is_looked_for_would_be_found() -> None:
    for line in (f"see https://{HOSTS[0]}/simple", f"open('{PLACES[0]}x')"):
        assert FORBIDDEN.search(line)


def test_no_source_is_too_long(committed: list[Path]) -> None:
    wrong = []
    for path in committed:
        if path.suffix in SOURCES:
            lines = len(path.read_text().splitlines())
            if lines > LONGEST:
                wrong.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert not wrong, "\n".join(wrong)


def test_no_file_is_too_large_and_no_build_is_committed(committed: list[Path]) -> None:
    for path in committed:
        assert path.stat().st_size <= LARGEST, path
        assert path.suffix not in {".so", ".o", ".pyc", ".whl"}, path


def test_the_readme_begins_with_the_two_commands(committed: list[Path]) -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for command in ("demo", "test"):
        assert f"make {command}" in readme
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
