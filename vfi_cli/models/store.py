"""The files of models: pulled, looked into, converted and verified.

Nothing appears under a model's name in the cache folder that was not whole, checked, and
recognised as the architecture that it is published as.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vfi_cli.errors import ModelError, OutputError, UsageError
from vfi_cli.models import catalogue, weights
from vfi_cli.models.archive import take_out
from vfi_cli.models.base import Network
from vfi_cli.models.checkpoint import NO_LICENCE, identify, read_state_dict, stated
from vfi_cli.models.devices import DTYPES, PRECISIONS
from vfi_cli.models.download import (
    Policy,
    ProgressCallback,
    WebPageError,
    claimed,
    discard,
    download,
    is_web_page,
    sha256_of,
)
from vfi_cli.models.record import PulledFile, read_record, write_record
from vfi_cli.models.registry import Architecture, registry
from vfi_cli.models.weights import ManifestEntry
from vfi_cli.wording import said

#: Half precision ends here; weights beyond it become infinite.
LARGEST_HALF = 65504.0


@dataclass(frozen=True)
class Pulled:
    """What :func:`pull` did. ``fresh`` is False where the file was there already."""

    entry: ManifestEntry
    path: Path
    record: PulledFile
    fresh: bool
    pinned: bool  # its SHA-256 is a published one


@dataclass(frozen=True)
class Description:
    """What a file of weights is, as its keys and shapes tell."""

    path: Path
    architecture: str
    description: str
    parameters: int
    sees: int
    timestep: Literal["any", "1/2", "flow"]
    size_multiple: int
    scale: bool
    ensemble: bool
    motion: bool
    dtypes: tuple[str, ...]  # that it computes safely in
    licence: str | None
    size: int
    sha256: str
    stored: tuple[str, ...]  # as what its numbers are stored; known of safetensors
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class Verified:
    """One file that was verified. ``problem`` is empty where nothing is wrong."""

    name: str
    path: Path
    where: str
    size: int
    sha256: str
    compared: bool  # with a SHA-256 that was known
    architecture: str | None
    problem: str = ""


def pull(
    entry: ManifestEntry,
    *,
    source: str | None = None,
    accept_licence: bool = False,
    accept_change: bool = False,
    keep_download: bool = False,
    policy: Policy | None = None,
    progress: ProgressCallback | None = None,
) -> Pulled:
    """Fetch a model's weights into the cache folder, check them and record what they are.

    source: a file that is here already, or an address, in place of the published one.
    accept_change: take a file that is not the one that was pulled under this name before.
    keep_download: another model lies in the same archive, and is pulled next.

    Raises UsageError where the licence wants to be accepted, ModelError for everything that is
    not the model's whole file, OutputError where the cache folder cannot be written.
    """
    shipped = weights.find_file(entry.file)
    folder = weights.cache_dir()
    if shipped is not None and shipped.parent != folder:
        raise ModelError(f"{entry.name} ships with vfi ({shipped}); there is nothing to pull")
    if catalogue.consent_needed(entry) and not accept_licence:
        terms = entry.licence or "its authors state no licence"
        raise UsageError(f"{entry.name}: {terms}; add --accept-license if you may use it")
    downloads = folder / "downloads"
    try:
        with claimed(downloads):
            there = _already_there(entry, folder) if source is None else None
            if there is not None:
                return there
            return _pull(entry, source, folder, accept_change, keep_download, policy, progress)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({said(error)})") from None


def _already_there(entry: ManifestEntry, folder: Path) -> Pulled | None:
    """A file that lies under the model's name and is what it was; recorded, if put by hand."""
    path = folder / entry.file
    if not path.is_file():
        return None
    known = read_record(folder).get(entry.file)
    wanted = entry.sha256 or (known.sha256 if known else None)
    if wanted is not None:
        if sha256_of(path) != wanted.lower():
            return None
        if known is not None:
            return Pulled(entry, path, known, fresh=False, pinned=entry.sha256 is not None)
    try:
        record = _recognise(entry, path, str(path), None)
    except ModelError:
        if catalogue.address_of(entry) is None:
            raise
        return None
    write_record(folder, entry.file, record)
    return Pulled(entry, path, record, fresh=False, pinned=entry.sha256 is not None)


def _pull(
    entry: ManifestEntry,
    source: str | None,
    folder: Path,
    accept_change: bool,
    keep_download: bool,
    policy: Policy | None,
    progress: ProgressCallback | None,
) -> Pulled:
    downloads = folder / "downloads"
    new, final = downloads / f"{entry.file}.new", folder / entry.file
    given = source is not None and "://" not in source
    address = source or catalogue.address_of(entry)
    if address is None:
        raise ModelError(_by_hand(entry, "is published where only a browser can fetch it"))
    try:
        if given:
            fetched = _local(entry, address)
        else:
            whole = entry.member is None and source is None  # what is known is known of the file
            fetched = download(
                address,
                downloads,
                size=entry.size if whole else None,
                sha256=entry.sha256 if whole else None,
                policy=policy,
                progress=progress,
            ).path
    except WebPageError as error:
        raise ModelError(_by_hand(entry, str(error))) from None
    try:
        record = _unpack(entry, fetched, new, address)
        _check_known(entry, record, folder, accept_change)
        with new.open("r+b") as stream:
            os.fsync(stream.fileno())
        new.replace(final)
        write_record(folder, entry.file, record)
    except ModelError:
        if not given:  # whole but wrong: another pull begins anew
            discard(downloads, address)
        raise
    finally:
        new.unlink(missing_ok=True)
    if not given and not keep_download:
        discard(downloads, address)
    return Pulled(entry, final, record, fresh=True, pinned=entry.sha256 is not None)


def _by_hand(entry: ManifestEntry, why: str) -> str:
    subject = why if " answers " in why else f"{entry.name} {why}"
    where = f"from {entry.page or entry.url} " if entry.page or entry.url else ""
    return f"{subject}; download it {where}by hand, then: vfi models pull {entry.name} --from FILE"


def _local(entry: ManifestEntry, source: str) -> Path:
    path = Path(source).expanduser()
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(f"{source}: {kind}; --from wants the file or archive of {entry.name}")
    if is_web_page(path):
        raise ModelError(f"{source}: is a web page that was saved, not the weights")
    return path


def _unpack(entry: ManifestEntry, fetched: Path, new: Path, source: str) -> PulledFile:
    """Put the weights inside what was fetched at ``new``, and find out what they are."""
    member = take_out(fetched, entry.member or entry.file, new, source=source)
    if member is None:
        shutil.copyfile(fetched, new)
    return _recognise(entry, new, source, member)


def _recognise(entry: ManifestEntry, path: Path, source: str, member: str | None) -> PulledFile:
    """The record of a file that holds the architecture that it should. Raises ModelError."""
    network, told = _identified(path, source, entry.architecture)
    return PulledFile(
        name=entry.name,
        sha256=sha256_of(path),
        size=path.stat().st_size,
        source=source,
        architecture=told.name,
        parameters=_count(network),
        pulled=datetime.now(UTC).isoformat(timespec="seconds"),
        licence=entry.licence or told.licence,
        member=member,
    )


def _check_known(
    entry: ManifestEntry, record: PulledFile, folder: Path, accept_change: bool
) -> None:
    """Whether these are the bytes that are published, or that were pulled the first time."""
    if entry.sha256 is not None:
        if record.sha256 != entry.sha256.lower():
            raise ModelError(
                f"{record.source}: is not the file that {entry.name} was published as "
                f"(SHA-256 {record.sha256[:12]}…, not {entry.sha256[:12]}…)"
            )
        return
    before = read_record(folder).get(entry.file)
    if before is not None and before.sha256 != record.sha256 and not accept_change:
        raise ModelError(
            f"{record.source}: is not the file that was pulled as {entry.name} on "
            f"{before.pulled[:10]} (SHA-256 {record.sha256[:12]}…, not {before.sha256[:12]}…); "
            "--accept-change takes it all the same"
        )


def _identified(
    path: Path, source: str, architecture: str | None = None
) -> tuple[Network, Architecture]:
    """The network in a file; errors name the source in place of a temporary file."""
    known = registry()
    if architecture is not None and architecture not in known:
        raise ModelError(f"there is no architecture {architecture!r}")
    try:
        return identify(read_state_dict(path), known, path=path, architecture=architecture)
    except ModelError as error:
        raise ModelError(str(error).replace(str(path), source)) from None


def _count(network: Network) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _named(name_or_file: str) -> tuple[Path, ManifestEntry | None]:
    located = weights.locate(name_or_file)
    return located.path, located.entry


def describe(name_or_file: str, *, architecture: str | None = None) -> Description:
    """What is in a file, or in the file of a name. Raises ModelError as loading does."""
    return _described(name_or_file, architecture)[1]


def _described(name_or_file: str, architecture: str | None) -> tuple[Network, Description]:
    path, entry = _named(name_or_file)
    said = stated(path, registry())
    if architecture is None:
        architecture = (entry.architecture if entry else None) or said.architecture
    network, told = _identified(path, str(path), architecture)
    any_timestep = network.any_timestep and not said.only_middle
    if entry is not None and entry.any_timestep is not None:
        any_timestep = entry.any_timestep
    timestep: Literal["any", "1/2"] = "any" if any_timestep else "1/2"
    stored, metadata = _header(path)
    return network, Description(
        path=path,
        architecture=told.name,
        description=told.description,
        parameters=_count(network),
        sees=network.frames_seen,
        timestep=timestep if network.has_frames else "flow",
        size_multiple=network.size_multiple,
        scale=network.has_scale,
        ensemble=network.has_ensemble,
        motion=network.has_motion,
        dtypes=tuple(name for name, dtype in PRECISIONS.items() if dtype in network.safe_dtypes),
        licence=(entry.licence if entry else None) or said.licence or told.licence,
        size=path.stat().st_size,
        sha256=sha256_of(path),
        stored=stored,
        metadata=metadata,
    )


def _header(path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Dtypes and metadata of a safetensors file; other files have neither."""
    try:
        with safe_open(path, "pt") as file:
            dtypes = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
            return tuple(sorted(dtypes)), dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return (), {}


def convert(
    name_or_file: str, target: Path, *, dtype: str = "float32", architecture: str | None = None
) -> Description:
    """Write the weights to ``target`` as safetensors under their canonical names.

    What only training needs is left out. dtype: float32 or float16, of the file; reading it
    gives float32 again. The file is read back and compared. Raises ModelError, UsageError.
    """
    if dtype not in ("float32", "float16"):
        raise UsageError(f"{dtype!r} is not a dtype to store weights in; use float32 or float16")
    network, about = _described(name_or_file, architecture)
    path = about.path
    state = {key: _stored(key, value, dtype, path) for key, value in network.state_dict().items()}
    metadata = {
        "format": "pt",
        "architecture": about.architecture,
        "timestep": about.timestep,
        "licence": about.licence or NO_LICENCE,
        "source": path.name,
        "source_sha256": about.sha256,
    }
    try:
        save_file(state, target, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise OutputError(f"{target}: cannot be written ({error})") from None
    back = read_state_dict(target)
    again, _ = identify(back, registry(), path=target, architecture=about.architecture)
    for key, value in again.state_dict().items():
        if not torch.equal(value, state[key].to(value.dtype)):
            raise OutputError(f"{target}: {key} reads back differently; is the disk failing?")
    return about


def _stored(key: str, value: Tensor, dtype: str, path: Path) -> Tensor:
    if not value.is_floating_point():
        return value.contiguous()
    if dtype == "float16" and bool((value.abs() > LARGEST_HALF).any()):
        raise ModelError(f"{path}: {key} has values too large for float16; use --dtype float32")
    return value.to(DTYPES[dtype]).contiguous()


def verify(names: list[str] | None = None) -> Iterator[Verified]:
    """Check the files that ship and those of the cache folder: size, SHA-256, architecture.

    names: only these. Yields one result a file; raises ModelError for a name without a file.
    """
    manifest = weights.read_manifest()
    cache = weights.cache_dir()
    record = read_record(cache)
    rows = [row for row in catalogue.listing() if row.path is not None]
    if names:
        rows = [_present(name) for name in names]
    for row in rows:
        assert row.path is not None
        entry = manifest.entries.get(row.name)
        yield _verified(row, entry, record.get(row.path.name) if row.path.parent == cache else None)
    if not names:
        for file, pulled in record.items():
            if not (cache / file).is_file():
                yield Verified(
                    pulled.name,
                    cache / file,
                    "in the cache",
                    0,
                    "",
                    False,
                    pulled.architecture,
                    f"the file is gone; vfi models pull {pulled.name} fetches it again",
                )


def _present(name: str) -> catalogue.Listed:
    row = catalogue.row_of(name)
    if row is None:
        catalogue.find(name)  # raises, and says what is close
    elif row.path is not None:
        return row
    raise ModelError(f"{name} has no file on this machine to verify")


def _verified(
    row: catalogue.Listed, entry: ManifestEntry | None, pulled: PulledFile | None
) -> Verified:
    assert row.path is not None
    try:
        digest, size = sha256_of(row.path), row.path.stat().st_size
    except OSError as error:
        digest, size = "", 0
        unreadable = f"cannot be read ({said(error)})"
    else:
        unreadable = ""
    wanted = (entry.sha256 if entry else None) or (pulled.sha256 if pulled else None)
    wanted_size = (entry.size if entry else None) or (pulled.size if pulled else None)
    architecture, problem = row.architecture, unreadable
    if problem:
        pass
    elif wanted_size is not None and size != wanted_size:
        problem = f"has {size} bytes, not {wanted_size}"
    elif wanted is not None and digest != wanted.lower():
        problem = f"its SHA-256 is {digest[:12]}…, not {wanted[:12]}…"
    else:
        try:
            _, told = _identified(row.path, row.path.name, row.architecture)
            architecture = told.name
        except ModelError as error:
            problem = str(error).removeprefix(f"{row.path.name}: ")
    return Verified(
        name=row.name,
        path=row.path,
        where=row.where,
        size=size,
        sha256=digest,
        compared=wanted is not None,
        architecture=architecture,
        problem=problem,
    )
