"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from pathlib import Path

from vfi_cli.errors import OutputError

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def fsync_file(path: str | os.PathLike[str]) -> None:
    """Bring a finished file's data to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_dir(path: str | os.PathLike[str]) -> None:
    """Bring a folder's names to the disk. Some file systems cannot; that is no error."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def publish(
    tmp: str | os.PathLike[str], final: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Give a finished file its name, in one step that survives a crash.

    ``tmp`` must lie on the same file system. Without ``overwrite`` a file that
    exists, or appears at this very moment, is never replaced: OutputError.
    """
    source, target = Path(tmp), Path(final)
    try:
        fsync_file(source)
        if overwrite:
            source.replace(target)
        else:
            _rename_new(source, target)
        fsync_dir(target.parent)
    except FileExistsError:
        raise OutputError(f"{target} exists already; --overwrite replaces it") from None
    except OSError as error:
        raise OutputError(f"{target}: cannot be put in place ({error.strerror})") from error


def _rename_new(source: Path, target: Path) -> None:
    """Rename that fails where the target exists, without a moment in between."""
    if _renameat2(source, target):
        return
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        # Neither renameat2 nor hard links (FAT, some network mounts): claim the name first.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        source.replace(target)
    else:
        source.unlink()


def _renameat2(source: Path, target: Path) -> bool:
    """Linux's rename that does not replace; False where kernel or file system lack it."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    done = call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if done == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(target))
