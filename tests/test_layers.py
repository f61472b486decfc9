"""The imports, read from the sources: who may know whom, what is loaded early, who prints."""

from __future__ import annotations

import ast
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vfi_cli"

#: The rooms of the house from the ground up. A room imports only from rooms of lower floors, and
#: from itself. Rooms of one floor do not know each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "wording"),
    ("frame", "interrupts", "memory", "skvideo_compat", "tiles"),
    ("timeline",),
    ("cuts", "native", "transfer", "windows"),
    ("duplicates",),
    ("scenes",),
    ("io", "models"),
    ("fit",),
    ("datasets", "quality", "synthesis", "work"),
    ("plan", "follow"),
    ("render",),
    ("existing", "join", "survey"),
    ("estimate", "execute"),
    ("api",),
    ("dry_run",),
    ("report",),
    ("bench", "compare", "evaluate", "folders", "pipe", "sequence", "training"),
    ("dry_run_folders",),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

#: Only to be imported where they are needed, in these files and rooms.
LIGHT = (
    *("errors", "wording", "frame", "timeline", "cuts", "duplicates", "scenes", "windows"),
    *("plan", "cli"),
)


#: The only modules of io that compute, and load torch.
COMPUTE = ("io.color", "io.device")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name without ``vfi_cli.``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def room_of(module: str) -> str:
    return module.partition(".")[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imports(path: Path, *, early: bool) -> Iterator[str]:
    """Dotted names that a file imports: all that run, or only those that run when it is loaded.

    What stands under ``if TYPE_CHECKING`` never runs.
    """

    def walk(node: ast.AST) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if is_type_checking(child):
                continue
            if early and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                for alias in child.names:
                    yield f"{child.module}.{alias.name}"
            yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


def own_imports(path: Path, *, early: bool) -> set[str]:
    """Modules of the package that a file imports, without ``vfi_cli.``."""
    names = set()
    for name in imports(path, early=early):
        if name.split(".")[0] == "vfi_cli":
            rest = name.removeprefix("vfi_cli").lstrip(".")
            while rest and rest not in modules():
                rest = rest.rpartition(".")[0]
            names.add(rest or "__init__")
    return names


def test_every_module_has_a_floor() -> None:
    unknown = {room_of(name) for name in modules()} - set(FLOOR)
    assert not unknown, f"give {unknown} a place in FLOORS"


def test_the_rooms_are_described_from_the_top_down() -> None:
    text = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    house = text.partition("## One way through the house\n\n")[2].partition("\n\n")[0]
    lines = [line.strip().partition("  ")[0].split() for line in house.splitlines()]
    assert {room for line in lines for room in line} == FLOOR.keys() - {"__init__", "__main__"}
    floors = [{FLOOR[room] for room in line} for line in lines]
    assert all(min(above) >= max(below) for above, below in itertools.pairwise(floors))


def test_nothing_imports_upwards_or_sideways() -> None:
    wrong = []
    for name, path in modules().items():
        here = room_of(name)
        for other in own_imports(path, early=False):
            there = room_of(other)
            # The package itself holds the version and loads the rest when it is asked for.
            if there in (here, "__init__"):
                continue
            if FLOOR[there] >= FLOOR[here]:
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_two_modules_need_each_other_to_be_loaded() -> None:
    graph = {name: own_imports(path, early=True) - {name} for name, path in modules().items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " → ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in graph.get(name, ()):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("heavy", ["torch", "torchvision"])
def test_light_rooms_load_no_torch(heavy: str) -> None:
    for name, path in modules().items():
        if room_of(name) in LIGHT or (room_of(name) == "io" and name not in COMPUTE):
            early = {found.split(".")[0] for found in imports(path, early=True)}
            assert heavy not in early, f"{name} imports {heavy} when it is loaded"


def test_light_rooms_stay_light_through_what_they_import() -> None:
    """Not only themselves: whatever is loaded with them."""
    graph = {name: own_imports(path, early=True) for name, path in modules().items()}
    loads = {
        name: {found.split(".")[0] for found in imports(path, early=True)}
        for name, path in modules().items()
    }

    def reached(name: str, seen: set[str]) -> set[str]:
        if name not in seen:
            seen.add(name)
            for other in graph[name]:
                reached(other, seen)
        return seen

    for name in modules():
        light = room_of(name) in LIGHT and not name.startswith("cli.")
        if light or (room_of(name) == "io" and name not in COMPUTE):
            for other in reached(name, set()):
                assert "torch" not in loads[other], f"{name} loads torch by way of {other}"


def test_io_reads_no_models_and_models_no_io() -> None:
    for name, path in modules().items():
        rooms = {room_of(other) for other in own_imports(path, early=False)}
        if room_of(name) in ("io", "models"):
            assert not rooms & ({"io", "models"} - {room_of(name)}), name


def test_only_the_command_line_prints() -> None:
    """Below it there are no prints, no logging, no writing to stdout or stderr, no exits."""
    wrong = []
    for name, path in modules().items():
        if room_of(name) == "cli" or name.endswith("__main__"):  # programs of their own
            continue
        tree = ast.parse(path.read_text())
        scripts = [
            range(node.lineno, (node.end_lineno or node.lineno) + 1)
            for node in tree.body
            if isinstance(node, ast.If) and "__main__" in ast.dump(node.test)
        ]
        for node in ast.walk(tree):
            said = ""
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                said = node.func.id if node.func.id in ("print", "exit", "quit", "input") else ""
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                whole = f"{node.value.id}.{node.attr}"
                said = whole if whole in ("sys.stdout", "sys.stderr", "sys.exit") else ""
            elif isinstance(node, ast.Import):
                said = next((a.name for a in node.names if a.name in ("logging", "rich")), "")
            elif isinstance(node, ast.ImportFrom):
                top = (node.module or "").split(".")[0]
                said = top if top in ("logging", "rich", "typer") else ""
            if said and not any(node.lineno in lines for lines in scripts):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {said}")
    assert not wrong, "\n".join(wrong)


def test_no_bare_except_and_no_shell() -> None:
    wrong = []
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: bare except")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                whole = f"{node.value.id}.{node.attr}"
                if whole in ("os.system", "os.popen", "warnings.filterwarnings"):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {whole}")
    assert not wrong, "\n".join(wrong)
