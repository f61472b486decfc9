"""All models that there are: built in, shipped, published by others, lying in the cache folder.

What is known of them without reading their weights, so that ``vfi models list`` is quick: no
torch here. What only their files can tell is in :mod:`vfi_cli.models.store`.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from vfi_cli.errors import ModelError
from vfi_cli.models import weights
from vfi_cli.models.download import direct_address
from vfi_cli.models.record import PulledFile, read_record
from vfi_cli.models.weights import ManifestEntry, plain_name

Where = Literal["built in", "ships", "in the cache", "to pull", "by hand", "missing"]


class Facts(NamedTuple):
    """What an architecture is: frames it sees, its times, how many weights.

    ``parameters`` is None where only weights that ship have it: their file tells.
    """

    sees: int
    timestep: Literal["any", "1/2", "flow"]
    parameters: int | None


#: The tests hold these against the networks themselves.
FACTS: dict[str, Facts] = {
    "vfi-lite": Facts(2, "any", None),
    "rife": Facts(2, "1/2", 10_071_550),
    "rifem": Facts(2, "any", 10_073_710),
    "rife-2r": Facts(2, "1/2", 10_071_550),
    "rife-v4.0": Facts(2, "any", 5_160_980),
    "rife-v4.2": Facts(2, "any", 5_156_420),
    "rife-v4.5": Facts(2, "any", 5_275_520),
    "rife-v4.6": Facts(2, "any", 5_306_256),
    "rife-v4.7": Facts(2, "any", 5_325_012),
    "rife-v4.10": Facts(2, "any", 5_364_312),
    "rife-v4.12.lite": Facts(2, "any", 2_631_804),
    "rife-v4.13": Facts(2, "any", 5_364_312),
    "rife-v4.14.lite": Facts(2, "any", 2_968_152),
    "rife-v4.15.lite": Facts(2, "any", 2_616_476),
    "rife-v4.20": Facts(2, "any", 15_376_512),
    "rife-v4.21": Facts(2, "any", 9_322_416),
    "rife-v4.22.lite": Facts(2, "any", 4_866_052),
    "rife-v4.25": Facts(2, "any", 5_664_776),
    "rife-v4.25.lite": Facts(2, "any", 5_622_700),
    "rife-v4.25.heavy": Facts(2, "any", 21_663_528),
    "rife-v4.26.heavy": Facts(2, "any", 5_723_156),
    "ifrnet": Facts(2, "any", 4_959_692),
    "ifrnet-s": Facts(2, "any", 2_803_610),
    "ifrnet-l": Facts(2, "any", 19_699_460),
    "ifrnet-gelu": Facts(2, "any", 4_956_348),
    "ifrnet-gelu-bn": Facts(2, "any", 4_961_740),
    "rrin": Facts(2, "any", 19_194_445),
    "scopeflow": Facts(2, "flow", 3_682_155),
    "eqvi": Facts(4, "any", 25_391_081),
    "eqvi-ms": Facts(4, "any", 25_402_378),
}


@dataclass(frozen=True)
class Listed:
    """One model as ``vfi models list`` shows it. None: not known without reading the file."""

    name: str
    where: Where
    description: str = ""
    aliases: tuple[str, ...] = ()
    default: bool = False
    architecture: str | None = None
    sees: int | None = None
    timestep: str | None = None
    parameters: int | None = None
    licence: str | None = None
    consent: bool = False
    path: Path | None = None
    size: int | None = None
    sha256: str | None = None
    url: str | None = None
    page: str | None = None


def listing() -> list[Listed]:
    """All models, in the manifest's order, then unnamed files of the cache folder."""
    manifest = weights.read_manifest()
    cache = weights.cache_dir()
    record = read_record(cache)
    rows = [
        _known(entry, record, default=name == manifest.default)
        for name, entry in manifest.entries.items()
    ]
    files = {entry.file for entry in manifest.entries.values()}
    rows += [
        _unnamed(path, record.get(path.name))
        for path in weights.cached_files()
        if path.name not in files
    ]
    rows += _built_in()
    return rows


def consent_needed(entry: ManifestEntry) -> bool:
    """Whether somebody has to agree before these weights are fetched."""
    return entry.noncommercial or entry.licence is None


def address_of(entry: ManifestEntry) -> str | None:
    """Where the file is fetched: its own address, else its page's download form, or None."""
    if entry.url is not None:
        return entry.url
    return direct_address(entry.page) if entry.page is not None else None


def find(name: str) -> ManifestEntry:
    """The entry of a model's name or alias. Raises ModelError that names what is close."""
    manifest = weights.read_manifest()
    if name == "default" and manifest.default is not None:
        name = manifest.default
    entry = manifest.find(name)
    if entry is not None:
        return entry
    if name in weights.WITHOUT_WEIGHTS:
        raise ModelError(f"{name} needs no weights")
    known = {plain_name(known): known for known in manifest.entries}
    close = difflib.get_close_matches(plain_name(name), known, n=3)
    hint = f" (did you mean {' or '.join(known[one] for one in close)}?)" if close else ""
    raise ModelError(f"there is no model {name!r}{hint}; vfi models list shows all")


def row_of(name: str) -> Listed | None:
    """The row of a name or alias in :func:`listing`, or None."""
    wanted = plain_name(name)
    for row in listing():
        known = {plain_name(one) for one in (row.name, *row.aliases)}
        if wanted in known or (name == "default" and row.default):
            return row
    return None


def _known(entry: ManifestEntry, record: dict[str, PulledFile], *, default: bool) -> Listed:
    folder, cache = weights.weights_dir(), weights.cache_dir()
    path = weights.find_file(entry.file)
    pulled = record.get(entry.file) if path is not None and path.parent == cache else None
    where: Where
    if path is not None:
        where = "in the cache" if path.parent != folder else "ships"
    elif address_of(entry) is not None:
        where = "to pull"
    else:
        where = "by hand" if entry.page is not None else "missing"
    facts = FACTS.get(entry.architecture or (pulled.architecture if pulled else ""))
    timestep = facts.timestep if facts else None
    if entry.any_timestep is not None and timestep != "flow":
        timestep = "any" if entry.any_timestep else "1/2"
    parameters = pulled.parameters if pulled else _parameters(path)
    if parameters is None and facts is not None:
        parameters = facts.parameters
    return Listed(
        name=entry.name,
        where=where,
        description=entry.description,
        aliases=entry.aliases,
        default=default,
        architecture=entry.architecture or (pulled.architecture if pulled else None),
        sees=facts.sees if facts else None,
        timestep=timestep,
        parameters=parameters,
        licence=entry.licence,
        consent=consent_needed(entry) and bool(entry.url or entry.page),
        path=path,
        size=path.stat().st_size if path is not None else entry.size,
        sha256=entry.sha256 or (pulled.sha256 if pulled else None),
        url=entry.url,
        page=entry.page,
    )


def _unnamed(path: Path, pulled: PulledFile | None) -> Listed:
    facts = FACTS.get(pulled.architecture) if pulled else None
    return Listed(
        name=path.stem,
        where="in the cache",
        description=f"the file {path.name}",
        architecture=pulled.architecture if pulled else None,
        sees=facts.sees if facts else None,
        timestep=facts.timestep if facts else None,
        parameters=pulled.parameters if pulled else _parameters(path),
        licence=pulled.licence if pulled else None,
        path=path,
        size=path.stat().st_size,
        sha256=pulled.sha256 if pulled else None,
    )


def _built_in() -> Iterator[Listed]:
    for name, description in weights.WITHOUT_WEIGHTS.items():
        yield Listed(
            name=name,
            where="built in",
            description=description,
            sees=2,
            timestep="any",
            parameters=0,
            licence="MIT",
        )


def _parameters(path: Path | None) -> int | None:
    """How many numbers a safetensors file holds, from its header; None for other files."""
    if path is None or path.suffix != ".safetensors":
        return None
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if length < 10_000_000 else {}
        shapes = (tensor["shape"] for key, tensor in header.items() if key != "__metadata__")
        return sum(math.prod(shape) for shape in shapes)
    except (OSError, ValueError, TypeError, KeyError):
        return None  # `vfi models verify` says what is wrong with it
