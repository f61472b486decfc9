"""``vfi models``: what models there are, and their files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vfi_cli.cli import messages
from vfi_cli.cli import options as opt
from vfi_cli.errors import ModelError, UsageError
from vfi_cli.wording import counted, file_size, grouped

if TYPE_CHECKING:
    from vfi_cli.models.catalogue import Listed
    from vfi_cli.models.store import Pulled
    from vfi_cli.models.weights import ManifestEntry

EXAMPLES = """\
[bold]Examples[/bold]
  vfi models list
  vfi models pull rife-v4.26
  vfi models info flownet.pkl
"""

_LIST = """\
[bold]Examples[/bold]
  vfi models list
  vfi models list --json | jq -r '.models[].name'
"""
_INFO = """\
[bold]Examples[/bold]
  vfi models info default
  vfi models info train_log/flownet.pkl --json
"""
_PULL = """\
[bold]Examples[/bold]
  vfi models pull rife-v4.26
  vfi models pull rrin --from ~/Downloads/rrin.pth --accept-license
  vfi models pull eqvi eqvi-p scopeflow --accept-license
"""
_CONVERT = """\
[bold]Examples[/bold]
  vfi models convert flownet.pkl -o rife.safetensors
  vfi models convert rife-v4.6 -o small.safetensors --dtype float16
"""
_VERIFY = """\
[bold]Examples[/bold]
  vfi models verify
  vfi models verify rife-v4.26 --json
"""

Name = Annotated[str, typer.Argument(metavar="NAME|FILE", show_default=False)]
Names = Annotated[list[str], typer.Argument(metavar="NAME", show_default=False)]
SomeNames = Annotated[list[str] | None, typer.Argument(metavar="NAME", show_default=False)]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FILE|URL",
        help="A file or archive that was downloaded already, or another address.",
        show_default=False,
    ),
]
AcceptLicense = Annotated[
    bool,
    typer.Option(
        "--accept-license",
        metavar="",
        help="You may use these weights: for those not free for every use, or without a licence.",
    ),
]
AcceptChange = Annotated[
    bool,
    typer.Option(
        "--accept-change",
        metavar="",
        help="Take a file that differs from the one that was pulled before.",
    ),
]
Target = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The .safetensors to write.", show_default=False
    ),
]
StoredDtype = Annotated[
    Literal["float32", "float16"],
    typer.Option(metavar="float32|float16", help="How the numbers are stored."),
]


def models(debug: opt.Debug = False) -> None:
    """List models, fetch them, and look into their files."""


def list_models(
    *, json: opt.Json = False, quiet: opt.Quiet = False, debug: opt.Debug = False
) -> int:
    """Show all models: what they see, their times, sizes, licences, and where they are."""
    from vfi_cli.models import catalogue, weights

    rows = catalogue.listing()
    if json:
        models = [asdict(row) for row in rows]
        messages.print_json({"cache": weights.cache_dir(), "models": models})
        return 0
    header = ("name", "sees", "t", "parameters", "licence", "weights")
    lines = [header, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    console = messages.console(stderr=False, quiet=quiet)
    for number, line in enumerate(lines):
        cells = [
            cell.rjust(width) if column in (1, 3) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        console.print("  ".join(cells).rstrip(), style="bold" if number == 0 else None)
    console.print(f"\n* is the default. The cache is {weights.cache_dir()}")
    console.print("vfi models pull NAME fetches what is to pull; vfi models info NAME tells more.")
    return 0


def info(
    model: Name,
    *,
    architecture: opt.Architecture = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Show what a model or a file of weights is, as its keys and shapes tell."""
    from vfi_cli.models import catalogue

    row = catalogue.row_of(model)
    if row is not None and row.path is None:
        facts = _facts_of_row(row)
    else:
        from vfi_cli.models import store

        facts = {} if row is None else {"name": row.name, "what": row.description}
        about = asdict(store.describe(model, architecture=architecture))
        facts |= {"what": about.pop("description")} | about
        if row is not None:
            facts |= {"what": row.description, "where": row.where} | _origin(row)
    if json:
        messages.print_json(facts)
        return 0
    console = messages.console(stderr=False, quiet=quiet)
    for topic, value in facts.items():
        shown = _shown(topic, value)
        if shown:
            console.print(f"{_TOPICS.get(topic, topic.replace('_', ' ')):<14}{shown}")
    return 0


def pull(
    names: Names,
    *,
    source: From = None,
    accept_license: AcceptLicense = False,
    accept_change: AcceptChange = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Fetch weights from where their authors publish them, and check them.

    A broken download goes on where it stopped. The SHA-256 is compared with the
    published one, or, where there is none, recorded at the first pull and compared
    from then on.
    """
    from vfi_cli.models import catalogue

    entries = list({entry.name: entry for entry in map(catalogue.find, names)}.values())
    console = messages.console(quiet=quiet)
    for entry in entries:
        console.print(f"{entry.name}: {entry.description}, {_terms(entry.licence)}")
        if catalogue.consent_needed(entry) and not accept_license:
            raise UsageError(
                f"{entry.name}: {_terms(entry.licence)}; add --accept-license if you may use it"
                + (f" (see {entry.page})" if entry.page else "")
            )
    from vfi_cli.models import store

    done = []
    for number, entry in enumerate(entries):
        shared = {catalogue.address_of(later) for later in entries[number + 1 :]}
        with _Bar(console, entry) as bar:
            pulled = store.pull(
                entry,
                source=source,
                accept_licence=accept_license,
                accept_change=accept_change,
                keep_download=catalogue.address_of(entry) in shared or bool(source and shared),
                progress=bar.update,
            )
        done.append(pulled)
        console.print(f"✓ {_result(pulled)}")
    if json:
        messages.print_json(
            [asdict(one.record) | {"path": one.path, "fresh": one.fresh} for one in done]
        )
    return 0


def convert(
    model: Name,
    output: Target,
    *,
    dtype: StoredDtype = "float32",
    architecture: opt.Architecture = None,
    overwrite: opt.Overwrite = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Write weights as safetensors: canonical keys, nothing that only training needs."""
    import os

    from vfi_cli.io.atomic import publish
    from vfi_cli.models import store

    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: the output's name must end in .safetensors")
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists already; --overwrite replaces it")
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: there is no such folder")
    tmp = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        about = store.convert(model, tmp, dtype=dtype, architecture=architecture)
        publish(tmp, output, overwrite)
    finally:
        tmp.unlink(missing_ok=True)
    size = output.stat().st_size
    messages.console(quiet=quiet).print(
        f"✓ {output}  {about.architecture}, {counted(about.parameters, 'parameter')}, "
        f"{dtype}, {file_size(size)}, {_terms(about.licence)}"
    )
    if json:
        messages.print_json({"output": output, "dtype": dtype, "size": size, "from": asdict(about)})
    return 0


def verify(
    names: SomeNames = None,
    *,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Check the files of all models on this machine: size, SHA-256, architecture."""
    from vfi_cli.models import store

    console = messages.console(stderr=json, quiet=quiet)
    results = []
    for result in store.verify(names or None):
        results.append(result)
        if result.problem:
            messages.fail(f"{result.path}: {result.problem}")
            continue
        compared = "as it should be" if result.compared else "not known to compare with"
        console.print(
            f"✓ {result.name:<20}{result.architecture}, {file_size(result.size)}, "
            f"SHA-256 {result.sha256[:12]}… {compared}"
        )
    if json:
        messages.print_json([asdict(result) for result in results])
    bad = sum(bool(result.problem) for result in results)
    return ModelError.exit_code if bad else 0


#: The commands of ``vfi models``, with the examples that go under their pages.
SUBCOMMANDS: tuple[tuple[str, Callable[..., int], str], ...] = (
    ("list", list_models, _LIST),
    ("info", info, _INFO),
    ("pull", pull, _PULL),
    ("convert", convert, _CONVERT),
    ("verify", verify, _VERIFY),
)

_TOPICS = {
    "what": "",
    "timestep": "t",
    "size_multiple": "sizes",
    "sha256": "SHA-256",
    "url": "address",
    "get": "to get it",
}


def _terms(licence: str | None) -> str:
    return "its authors state no licence" if licence is None else f"licence {licence}"


def _cells(row: Listed) -> tuple[str, ...]:
    return (
        f"{row.name}{'*' if row.default else ''}",
        "?" if row.sees is None else str(row.sees),
        row.timestep or "?",
        "?" if row.parameters is None else grouped(row.parameters),
        row.licence or "none stated",
        row.where + (", with --accept-license" if row.consent and row.path is None else ""),
    )


def _facts_of_row(row: Listed) -> dict[str, Any]:
    """What is known of a model whose file is not here."""
    facts = {
        "name": row.name,
        "what": row.description,
        "aliases": row.aliases,
        "where": row.where,
        "architecture": row.architecture,
        "parameters": row.parameters,
        "sees": row.sees,
        "timestep": row.timestep,
        "licence": row.licence,
        "size": row.size,
        "sha256": row.sha256,
    } | _origin(row)
    accept = " --accept-license" if row.consent else ""
    if row.where == "to pull":
        facts["get"] = f"vfi models pull {row.name}{accept}"
    elif row.where == "by hand":
        facts["get"] = (
            f"download it from {row.page}, then: vfi models pull {row.name} --from FILE{accept}"
        )
    return facts


def _origin(row: Listed) -> dict[str, Any]:
    return {"url": row.url, "page": row.page}


def _shown(topic: str, value: Any) -> str:
    """One fact for people; empty for what is not there."""
    if topic == "licence":
        return value or "none stated"
    if value is None or value in ((), {}, ""):
        return ""
    if topic == "parameters":
        return grouped(value)
    if topic == "size":
        return counted(value, "byte")
    if topic == "size_multiple":
        return f"any (padded to multiples of {value})"
    if topic == "sees":
        return f"{value} frames"
    if topic == "metadata":
        return ", ".join(f"{key} {text}" for key, text in sorted(value.items()))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _result(pulled: Pulled) -> str:
    record = pulled.record
    if not pulled.fresh:
        trust = "was here already, checked"
    elif pulled.pinned:
        trust = "SHA-256 as published"
    else:
        trust = f"SHA-256 {record.sha256[:12]}… recorded"
    return (
        f"{pulled.entry.name}  {record.architecture}, {counted(record.parameters, 'parameter')}, "
        f"{file_size(record.size)}, {trust}: use it with --model "
        f"{pulled.entry.name}"
    )


class _Bar:
    """Progress of a download: a bar on a terminal, two lines elsewhere."""

    def __init__(self, console: Any, entry: ManifestEntry) -> None:
        self._console, self._entry = console, entry
        self._bar: Any = None
        self._task: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """``done`` bytes are here, of ``total`` (None: nobody knows)."""
        if self._console.quiet:
            return
        if self._console.is_terminal:
            self._draw(done, total)
        elif time.monotonic() - self._said > 10:
            self._said = time.monotonic()
            of = "" if total is None else f" of {file_size(total)}"
            self._console.print(f"{self._entry.name}: {file_size(done)}{of}")

    def _draw(self, done: int, total: int | None) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        if self._bar is None:
            columns = (
                BarColumn(30),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task("", total=total, completed=done)
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total)
