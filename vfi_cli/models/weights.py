"""Where weights lie: those that ship, those in the cache, and the manifest that names them.

The manifest (``manifest.toml`` in the folder of the weights that ship) reads::

    default = "vfi-lite"

    [models.vfi-lite]
    file = "vfi-lite.safetensors"   # ships beside the manifest, or lies in the cache folder
    sha256 = "…"                    # checked before the file is read; absent where not known
    architecture = "rife-v4.6"      # absent: told from keys and shapes
    licence = "MIT"
    description = "light, any t"
    aliases = ["lite"]
    any_timestep = true             # false: only t = 1/2, whatever the architecture could do
    url = "https://…"               # where its authors publish it
    page = "https://…"              # where a person finds it
    member = "train_log/flownet.pkl"  # the file inside, where the url gives an archive
    noncommercial = true            # pulling it asks for consent to the licence

``published.toml`` beside it names in the same way what others published and does not ship.

This module imports no torch, so that commands that only list models start quickly.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from vfi_cli.errors import ModelError
from vfi_cli.models.record import read_record

SUFFIXES = (".safetensors", ".pkl", ".pth", ".pt", ".ckpt")
#: Models that need no weights, and what ``vfi models list`` says of them.
WITHOUT_WEIGHTS = {
    "blend": "the average of both frames, no motion",
    "nearest": "the nearer frame, no motion",
}
_FIELDS = {
    "file": str,
    "sha256": str,
    "architecture": str,
    "licence": str,
    "description": str,
    "aliases": list,
    "any_timestep": bool,
    "url": str,
    "page": str,
    "member": str,
    "size": int,
    "noncommercial": bool,
}


@dataclass(frozen=True)
class ManifestEntry:
    """What the manifest says of one model; see this module's docstring."""

    name: str
    file: str
    sha256: str | None = None
    architecture: str | None = None
    licence: str | None = None
    description: str = ""
    aliases: tuple[str, ...] = ()
    any_timestep: bool | None = None
    url: str | None = None
    page: str | None = None
    member: str | None = None
    size: int | None = None
    noncommercial: bool = False


@dataclass(frozen=True)
class Manifest:
    """The models that are known by name, in order."""

    default: str | None = None
    entries: Mapping[str, ManifestEntry] = field(default_factory=dict)

    def find(self, name: str) -> ManifestEntry | None:
        """The entry with this name or alias, however it is spelled (rife4.6, RIFE-v4.6)."""
        wanted = plain_name(name)
        for entry in self.entries.values():
            if wanted in {plain_name(known) for known in (entry.name, *entry.aliases)}:
                return entry
        return None


@dataclass(frozen=True)
class Located:
    """A model's file, and what the manifest says of it (None: the manifest does not name it)."""

    name: str
    path: Path
    entry: ManifestEntry | None


def plain_name(name: str) -> str:
    """A model's name without what people spell differently: case, dashes, a v before digits."""
    return re.sub(r"v(?=\d)", "", re.sub(r"[-_ ]", "", name.lower()))


def weights_dir() -> Path | None:
    """The folder of the weights that ship: of the installed package, else of the checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "manifest.toml").is_file():
            return folder
    return None


def cache_dir() -> Path:
    """The folder of weights that were fetched: ``$VFI_HOME/models``, else the platform's own."""
    if home := os.environ.get("VFI_HOME"):
        return Path(home).expanduser() / "models"
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(base) / "vfi" / "models"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "vfi" / "models"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "vfi" / "models"


def read_manifest(folder: Path | None = None) -> Manifest:
    """What ships and what others published, from ``folder``, by default ``weights_dir()``.

    Empty where there is no such folder.
    """
    folder = folder or weights_dir()
    if folder is None:
        return Manifest()
    ships = _parse_manifest(folder / "manifest.toml")
    published = _parse_manifest(folder / "published.toml")
    for name, entry in published.entries.items():
        if any(ships.find(known) is not None for known in (name, *entry.aliases)):
            raise ModelError(f"{folder / 'published.toml'}: models.{name} is in manifest.toml too")
    return Manifest(ships.default, {**ships.entries, **published.entries})


@cache
def _parse_manifest(path: Path) -> Manifest:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Manifest()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path}: the manifest of the models cannot be read ({error})") from None
    models = table.get("models", {})
    if not isinstance(models, dict):
        raise ModelError(f"{path}: 'models' is not a table")
    entries = {name: _entry(path, name, given) for name, given in models.items()}
    default = table.get("default")
    if default is not None and default not in entries and default not in WITHOUT_WEIGHTS:
        raise ModelError(f"{path}: the default model {default!r} is not in it")
    return Manifest(default=default, entries=entries)


def _entry(path: Path, name: str, given: Any) -> ManifestEntry:
    if not isinstance(given, dict) or not isinstance(given.get("file"), str):
        raise ModelError(f"{path}: models.{name} names no file")
    for key, value in given.items():
        if key not in _FIELDS or not isinstance(value, _FIELDS[key]):
            raise ModelError(f"{path}: models.{name}.{key} is unknown or of the wrong kind")
    if Path(given["file"]).name != given["file"]:
        raise ModelError(f"{path}: models.{name}.file must be a name without folders")
    return ManifestEntry(name=name, **{**given, "aliases": tuple(given.get("aliases", ()))})


def available() -> list[str]:
    """Names that :func:`locate` finds files for, and the models that need none."""
    manifest = read_manifest()
    names = [name for name, entry in manifest.entries.items() if find_file(entry.file)]
    listed = {entry.file for entry in manifest.entries.values()}
    names += [path.stem for path in cached_files() if path.name not in listed]
    return list(dict.fromkeys([*names, *WITHOUT_WEIGHTS]))


def locate(name_or_file: str) -> Located:
    """The file that a name or a path means.

    ``default`` is the manifest's default; then come the manifest's names, files of the cache
    folder by their name without suffix, and paths. Raises ModelError that lists what there is.
    """
    if not name_or_file:
        raise ModelError("the name of the model is empty; vfi models list shows all")
    manifest = read_manifest()
    name = name_or_file
    if name == "default":
        if manifest.default is None:
            raise ModelError("no default model is installed; name one with --model")
        name = manifest.default
    entry = manifest.find(name)
    if entry is not None:
        path = find_file(entry.file)
        if path is None:
            raise ModelError(
                f"the weights of {entry.name} are not on this machine; "
                f"put its {entry.file} into {cache_dir()}"
                + (f", or: vfi models pull {entry.name}" if entry.url or entry.page else "")
            )
        return Located(entry.name, path, _with_record(entry, path))
    for path in cached_files():
        if plain_name(path.stem) == plain_name(name) or path.name == name:
            return Located(path.stem, path, None)
    path = Path(name).expanduser()
    if path.is_file():
        known = next((known for known in manifest.entries.values() if _is(known.file, path)), None)
        if known is not None:
            return Located(known.name, path, _with_record(known, path))
        return Located(path.stem, path, None)
    if path.is_dir():
        raise ModelError(f"{name}: is a folder; name the file of weights inside it")
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        raise ModelError(f"{name}: there is no such file")
    raise ModelError(_unknown(name, manifest))


def _with_record(entry: ManifestEntry, path: Path) -> ManifestEntry:
    """The entry with the SHA-256 that the file had when it was pulled, where none is published."""
    if entry.sha256 is not None or path.parent.resolve() != cache_dir().resolve():
        return entry
    pulled = read_record(path.parent).get(path.name)
    return entry if pulled is None else replace(entry, sha256=pulled.sha256)


def _is(file: str, path: Path) -> bool:
    """Whether a path is the manifest's own file, and not another one that is called the same."""
    found = find_file(file)
    return found is not None and found.resolve() == path.resolve()


def find_file(file: str) -> Path | None:
    """A file by its name: of those that ship, else of the cache folder."""
    for folder in (weights_dir(), cache_dir()):
        if folder is not None and (folder / file).is_file():
            return folder / file
    return None


def cached_files() -> list[Path]:
    """The files of weights in the cache folder, by name."""
    try:
        return sorted(path for path in cache_dir().iterdir() if path.suffix in SUFFIXES)
    except OSError:
        return []


def _unknown(name: str, manifest: Manifest) -> str:
    here = available()
    known = {plain_name(known): known for known in [*here, *manifest.entries]}
    close = difflib.get_close_matches(plain_name(name), known, n=1)
    hint = f" (did you mean {known[close[0]]}?)" if close else ""
    return (
        f"there is no model {name!r}{hint}; on this machine are {', '.join(here)}, or name a file"
    )
