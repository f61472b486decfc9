"""Taking one file of weights out of a zip that came from somewhere. No torch here."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from pathlib import Path

from vfi_cli.errors import ModelError

#: What an honest archive of weights stays far below.
MOST_MEMBERS = 10_000
LARGEST = 4_000_000_000
#: Weights hardly compress. Deflate itself can do a thousand to one.
HIGHEST_RATIO = 100
CHUNK = 1 << 20
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,  # a compression that this Python does not have
)


def take_out(path: Path, member: str, target: Path, *, source: str | None = None) -> str | None:
    """Write the ``member`` of the zip at ``path`` to ``target``; returns its path in there.

    ``member`` may lie in other folders than it says, as long as its name is there once. Returns
    None, having written nothing, where the file is no archive, or the archive that PyTorch
    itself saves weights in. ``source`` is what errors call the file. Raises ModelError for an
    archive that is damaged, or that anything at all is suspicious about: paths that lead out of
    it, links, members that grow beyond measure.
    """
    name = source or str(path)
    try:
        with path.open("rb") as stream:
            if stream.read(2) != b"PK":
                return None
        with zipfile.ZipFile(path) as archive:
            found = _choose(archive, member, name)
            if found is not None:
                _copy(archive, found, target, name)
            return None if found is None else found.filename
    except _DAMAGE as error:
        target.unlink(missing_ok=True)
        raise ModelError(
            f"{name}: the archive is damaged or breaks off ({' '.join(str(error).split())})"
        ) from None


def _choose(archive: zipfile.ZipFile, member: str, source: str) -> zipfile.ZipInfo | None:
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        raise ModelError(f"{source}: refused, because the archive has {len(members)} members")
    for info in members:
        _refuse_suspicious(info, source)
    files = [(info.filename.replace("\\", "/"), info) for info in members if not info.is_dir()]
    if any(f"/{name}".endswith("/data.pkl") for name, _ in files):
        for info in members:  # PyTorch unpacks them all
            _refuse_growth(info, source)
        return None
    exact = [info for name, info in files if name == member]
    # The same folders from the end, then the name alone: archives differ in their outer folders.
    nested = [info for name, info in files if name.endswith(f"/{member}")]
    last = member.rpartition("/")[2]
    named = [info for name, info in files if name.rpartition("/")[2] == last]
    candidates = next((found for found in (exact, nested, named) if found), [])
    if not candidates:
        inside = ", ".join(name for name, _ in files[:3]) or "nothing"
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        raise ModelError(f"{source}: the archive has no {member} (in it are {inside}{more})")
    if len(candidates) > 1:
        raise ModelError(
            f"{source}: the archive has {len(candidates)} files {last} "
            f"({candidates[0].filename}, {candidates[1].filename}); unpack the right one and "
            "give it to --from"
        )
    return candidates[0]


def _refuse_suspicious(info: zipfile.ZipInfo, source: str) -> None:
    # The name as it is stored: zipfile itself cuts it at a zero byte and turns separators.
    name = info.orig_filename
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in name:
        raise ModelError(f"{source}: refused, because its member {name!r} leads out of the archive")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ModelError(f"{source}: refused, because its member {name!r} is no plain file")


def _refuse_growth(info: zipfile.ZipInfo, source: str) -> None:
    grown = info.file_size > LARGEST or (
        info.file_size > 1_000_000 and info.file_size > HIGHEST_RATIO * info.compress_size
    )
    if grown:
        raise ModelError(
            f"{source}: refused, because {info.filename} would grow from {info.compress_size} "
            f"to {info.file_size} bytes"
        )


def _copy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, source: str) -> None:
    if info.flag_bits & 1:
        raise ModelError(f"{source}: {info.filename} is encrypted")
    _refuse_growth(info, source)
    with archive.open(info) as inside, target.open("wb") as stream:
        # zipfile stops at the size that was checked, and compares length and CRC there.
        while chunk := inside.read(CHUNK):
            stream.write(chunk)
