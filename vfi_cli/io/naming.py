"""Folders: which files are videos or frames, in what order, and what new frames are called."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vfi_cli.errors import InputError, UsageError
from vfi_cli.wording import said

Naming = Literal["auto", "reds", "suffix", "sequence"]

#: File name endings (lower case) and the image format that they promise.
FORMATS = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}

#: What a folder is searched for where it holds videos (lower case).
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "qt", "mkv", "webm", "avi", "ts", "m2ts", "mts", "mpg", "mpeg"),
        *("vob", "wmv", "flv", "ogv", "3gp", "3g2", "mxf", "nut", "y4m", "gif", "apng"),
        *("h264", "264", "h265", "265", "hevc", "ivf", "dv"),
    )
)

MAX_INTER = 255  # new images between two; as for factors, more is a typing mistake
SEQUENCE_DIGITS = 8

_DIGITS = re.compile(r"(\d+)")
_LAST_NUMBER = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Clip:
    """The images of one folder, in display order. ``name`` is relative to where the search began
    (empty for that folder itself)."""

    name: str
    folder: Path
    images: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """One image of the output: between source images ``left`` and ``left + 1``, at ``t``.

    ``t`` = 0 is the source image itself.
    """

    name: str
    left: int
    t: Fraction


def natural_key(name: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sorts ``frame9`` before ``frame10``; names that differ in case or zeros alone stay apart."""
    parts = _DIGITS.split(name.casefold())
    return tuple((0, int(p)) if p.isdigit() else (1, p) for p in parts if p), name


def list_images(folder: Path) -> tuple[Path, ...]:
    """The image files in a folder, in natural order. Hidden files are left out."""
    with os.scandir(folder) as entries:
        names = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and os.path.splitext(entry.name)[1].lower() in FORMATS
            and entry.is_file()
        ]
    return tuple(folder / name for name in sorted(names, key=natural_key))


def find_clips(folder: str | os.PathLike[str]) -> list[Clip]:
    """The clip that a folder is, or else the clips in the folders below it, in natural order.

    Raises InputError where the folder is missing, is not a folder, or holds no images.
    """
    top = Path(folder)

    def refused(error: OSError) -> None:
        raise error

    try:
        if not top.exists():
            raise InputError(f"{top}: there is no such folder")
        if not top.is_dir():
            raise InputError(f"{top}: is a file; give the folder that holds the images")
        images = list_images(top)
        if images:
            return [Clip("", top, images)]
        clips = []
        for place, folders, _ in os.walk(top, onerror=refused):
            folders[:] = [name for name in folders if not name.startswith(".")]
            images = list_images(Path(place))
            if images:
                clips.append(Clip(Path(place).relative_to(top).as_posix(), Path(place), images))
    except OSError as error:
        raise InputError(f"{error.filename or top}: cannot be read ({said(error)})") from error
    if not clips:
        known = ", ".join(sorted({kind.upper() for kind in FORMATS.values()}))
        raise InputError(f"{top}: holds no images ({known}), nor do the folders in it")
    return sorted(clips, key=lambda clip: natural_key(clip.name))


def place(
    images: Sequence[Path], inter: int, naming: Naming = "auto", *, keep_inputs: bool = False
) -> tuple[Naming, list[Placement]]:
    """Name every image of the output, in display order, and say which naming was chosen.

    ``inter`` new images stand between each two. ``reds`` numbers them between the
    numbers of the inputs, ``suffix`` appends ``_0``, ``_1`` … to the name of the
    left one, ``sequence`` renumbers everything, inputs included, from 0. ``auto``
    is ``reds`` where every two numbers leave a gap, and ``suffix`` otherwise.
    The inputs are part of the output with ``keep_inputs`` and in a sequence.
    Raises UsageError, or InputError naming two files whose numbers do not fit.
    """
    if not 1 <= inter <= MAX_INTER:
        raise UsageError(
            f"{inter} new images between each two is not possible: choose 1 to {MAX_INTER}"
        )
    if len(images) < 2:
        what = f"only one image ({images[0].name})" if images else "no image"
        raise InputError(
            f"{images[0].parent if images else 'the folder'}: {what}, so nothing lies in between; "
            "two or more are needed"
        )
    chosen = _pick(images) if naming == "auto" else naming
    names = {"reds": _reds, "suffix": _suffix, "sequence": _sequence}[chosen](images, inter)
    placements = []
    for left, image in enumerate(images):
        if chosen == "sequence":
            placements.append(Placement(names[left][0], left, Fraction(0)))
        elif keep_inputs:
            placements.append(Placement(image.name, left, Fraction(0)))
        placements += [
            Placement(name, left, Fraction(step, inter + 1))
            for step, name in enumerate(names[left][-inter:], start=1)
            if left + 1 < len(images)
        ]
    _check_unique(placements, images)
    return chosen, placements


def _numbered(image: Path) -> tuple[str, str, str] | None:
    """(before, digits, after) around the last number of a file's stem."""
    match = _LAST_NUMBER.fullmatch(image.stem)
    # Digits of other scripts and superscripts count as digits but are no file numbers.
    return (match[1], match[2], match[3]) if match and match[2].isascii() else None


def _gaps(images: Sequence[Path]) -> list[int] | None:
    """The differences between the files' numbers; None where they are not numbered alike."""
    parts = [_numbered(image) for image in images]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({(before, after) for before, _, after in known}) > 1:
        return None
    numbers = [int(digits) for _, digits, _ in known]
    return [b - a for a, b in itertools.pairwise(numbers)]


def irregular_numbers(images: Sequence[Path]) -> tuple[Path, Path] | None:
    """Two neighbours whose numbers are further apart than others; None where all is even, or
    where the images are not numbered alike."""
    gaps = _gaps(images)
    if not gaps:
        return None
    usual = min(gaps)
    return next(
        ((a, b) for a, b, gap in zip(images, images[1:], gaps, strict=False) if gap > usual), None
    )


def _pick(images: Sequence[Path]) -> Naming:
    gaps = _gaps(images)
    return "reds" if gaps is not None and min(gaps) > 1 else "suffix"


def _reds(images: Sequence[Path], inter: int) -> list[list[str]]:
    gaps = _gaps(images)
    if gaps is None:
        raise InputError(
            f"{images[0].parent}: the images are not numbered alike "
            f"({images[0].name}, {_odd_one(images).name}); --naming suffix needs no numbers"
        )
    names: list[list[str]] = []
    for image, following, gap in zip(images, images[1:], gaps, strict=False):
        if gap <= 0 or gap % (inter + 1):
            fitting = [str(d - 1) for d in range(2, min(abs(gap), MAX_INTER) + 1) if gap % d == 0]
            raise InputError(
                f"{image} and {following.name} are {gap} apart, which has no place for {inter} "
                f"evenly spaced new {'number' if inter == 1 else 'numbers'}: "
                + (f"use --inter {' or '.join(fitting[:4])}, or " if fitting else "use ")
                + "--naming suffix"
            )
        before, digits, after = _numbered(image) or ("", "0", "")
        step = gap // (inter + 1)
        names.append(
            [
                f"{before}{int(digits) + step * k:0{len(digits)}}{after}{image.suffix}"
                for k in range(1, inter + 1)
            ]
        )
    return [*names, []]


def _odd_one(images: Sequence[Path]) -> Path:
    """The first image that is not numbered as the first one is."""
    first = _numbered(images[0])
    for image in images[1:]:
        parts = _numbered(image)
        if first is None or parts is None or (parts[0], parts[2]) != (first[0], first[2]):
            return image
    return images[-1]


def _suffix(images: Sequence[Path], inter: int) -> list[list[str]]:
    width = len(str(inter - 1))
    return [[f"{i.stem}_{k:0{width}}{i.suffix}" for k in range(inter)] for i in images]


def _sequence(images: Sequence[Path], inter: int) -> list[list[str]]:
    step = inter + 1
    return [
        [f"{number * step + k:0{SEQUENCE_DIGITS}}{image.suffix}" for k in range(step)]
        for number, image in enumerate(images)
    ]


def _check_unique(placements: Sequence[Placement], images: Sequence[Path]) -> None:
    seen: dict[str, Placement] = {}
    for placement in placements:
        # Some file systems do not tell upper case from lower case.
        other = seen.setdefault(placement.name.casefold(), placement)
        if other is not placement:
            a, b = images[other.left].name, images[placement.left].name
            raise InputError(
                f"{images[0].parent}: {a} and {b} would both give an image named "
                f"{placement.name}; rename one of them or use --naming sequence"
            )
