"""Published data sets as sources of training windows, from where their files lie.

Decoding a PNG costs more than all the rest of a sample, so decoded pictures are kept as arrays on
disk, as many as ``data.cache_gigabytes`` allows: which ones follows from their names, so that all
processes agree without talking. Videos of a set are decoded as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vfi_cli.datasets.layouts import FrameSequence, sequences
from vfi_cli.errors import InputError, OutputError
from vfi_cli.io.images import probe_image
from vfi_cli.training.cache import Report, cache_clip, decode_picture
from vfi_cli.training.clips import ArrayClip, Clip, Clips, Run, odd
from vfi_cli.training.config import GAPS
from vfi_cli.wording import counted, said

#: Frames left out between the inputs, for each set, as it is usually trained on: as many of
#: Vimeo90K as a clip has, seven of 240 a second, up to 31 of 1000 a second.
USUAL_GAPS: dict[str, tuple[int, ...]] = {
    "vimeo-triplet": (1,),
    "vimeo-septuplet": (1, 2, 3, 4, 5),
    "reds-vtsr": (1, 3),
    "gopro": (7,),
    "adobe240": (7,),
    "x4k1000fps": tuple(range(1, 32)),
    "atd-12k": (1,),
}


class PictureStore:
    """Pictures by file, of which a ``share`` (0 … 1) is kept decoded under ``folder``.

    ``factor``: by how much all pictures are reduced.
    """

    def __init__(self, folder: Path, share: float, factor: int = 1) -> None:
        self.folder, self.share, self.factor = folder, share, factor

    def read(self, file: Path) -> NDArray[np.uint8]:
        """(H, W, 3), mapped where it is kept. Raises InputError for a file that does not decode,
        OutputError where the cache cannot be written to."""
        if zlib.crc32(str(file).encode()) >= self.share * 2**32:
            return decode_picture(file, self.factor)
        try:
            state = file.stat()
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({said(error)})") from None
        stamp = f"{file.resolve()} {state.st_size} {state.st_mtime_ns} {self.factor}"
        name = hashlib.sha256(stamp.encode()).hexdigest()
        kept = self.folder / name[:2] / f"{name[2:24]}.npy"
        try:
            return np.load(kept, mmap_mode="r")
        except (OSError, ValueError, EOFError):  # not there, or not whole
            picture = decode_picture(file, self.factor)
        part = kept.with_suffix(f".{os.getpid()}.part")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as stream:
                np.save(stream, picture)
            os.replace(part, kept)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise OutputError(
                f"{kept}: cannot be written ({said(error)}); see data.cache and "
                "data.cache_gigabytes"
            ) from None
        return picture


@lru_cache
def regular_run(count: int) -> Run:
    """All frames of a clip without cuts; the same for all clips of that length."""
    return Run(tuple(range(count)), tuple(map(float, range(count))))


class FilesClip:
    """A clip whose frames are picture files of one size."""

    def __init__(self, files: Sequence[Path], store: PictureStore, width: int, height: int) -> None:
        self.files, self.store = tuple(files), store
        self.width, self.height = width, height
        self.runs: Sequence[Run] = (regular_run(len(self.files)),)

    def picture(self, number: int) -> NDArray[np.uint8]:
        picture = self.store.read(self.files[number])
        if picture.shape[:2] != (self.height, self.width):
            raise InputError(
                f"{self.files[number]}: is {picture.shape[1]}×{picture.shape[0]}, the first frame "
                f"of its clip {self.width}×{self.height} (after reduction)"
            )
        return picture


def open_set(
    layout: str,
    root: Path,
    cache: Path,
    height: int,
    width: int,
    *,
    gigabytes: float,
    gaps: Sequence[int] = (),
    factor: int = 1,
    four: bool = False,
    middle: bool = False,
    most: int = 450,
    report: Report = lambda line: None,
) -> Clips:
    """The training clips of a published set as windows of at least ``height`` × ``width``.

    ``layout`` is a name of :data:`vfi_cli.datasets.layouts.LAYOUTS`, ``root`` the set's folder,
    ``gigabytes`` what its decoded pictures may take up in ``cache``; ``most``: frames of a video
    that are used; ``four`` and ``middle`` as in :class:`Clips`. Raises UsageError for an unknown
    layout or gaps of no use, InputError that names what is missing or does not decode.
    """
    found = sequences(layout, root, "train")
    videos = [sequence.video for sequence in found if sequence.video]
    clips: list[Clip] = []
    if videos:
        clips += _videos(videos, cache, gigabytes, factor, most, report)
    clips += _files(found, cache / "pictures", gigabytes, factor, report)
    gaps = gaps or USUAL_GAPS.get(layout, GAPS)
    gaps = odd(gaps) if middle else gaps
    longest = max(len(run) for clip in clips for run in clip.runs)
    needed = 3 * (min(gaps) + 1) if four else min(gaps) + 1
    if longest <= needed:
        raise InputError(
            f"{root}: the clips of {layout} have {counted(longest, 'frame')}, and a window of "
            f"{'four frames' if four else 'two'} needs {needed + 1} (data.sets, gaps)"
        )
    return Clips(clips, height, width, gaps=gaps, four=four, middle=middle)


def _files(
    found: Sequence[FrameSequence], folder: Path, gigabytes: float, factor: int, report: Report
) -> list[Clip]:
    clips: list[Clip] = []
    whole = 0
    store = PictureStore(folder, 0.0, factor)
    for sequence in found:
        if sequence.files:
            info = probe_image(sequence.files[0])
            width, height = -(-info.width // factor), -(-info.height // factor)
            clips.append(FilesClip(sequence.files, store, width, height))
            whole += len(sequence.files) * width * height * 3
    if whole:
        store.share = min(1.0, gigabytes * 1e9 / whole)
        report(
            f"{counted(len(clips), 'clip')}, {whole / 1e9:.1f} GB decoded, of which "
            f"{100 * store.share:.0f} % are kept once they were used (data.cache_gigabytes)"
        )
    return clips


def _videos(
    videos: Sequence[Path],
    cache: Path,
    gigabytes: float,
    factor: int,
    most: int,
    report: Report,
) -> list[Clip]:
    """The videos, in an order without meaning, until their arrays fill ``gigabytes``."""
    clips: list[Clip] = []
    used = 0
    for video in sorted(videos, key=lambda path: zlib.crc32(path.stem.encode())):
        if used >= gigabytes * 1e9:
            report(f"videos used: {len(clips)} of {len(videos)} (data.cache_gigabytes)")
            break
        array = cache_clip(video, cache, most=most, factor=factor, report=report)
        used += array.stat().st_size
        clips.append(ArrayClip(array))
    return clips
