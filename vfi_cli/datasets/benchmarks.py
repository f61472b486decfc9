"""What the papers score models on: which frames of which data set, and how the mean is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Literal

from vfi_cli.datasets import layouts
from vfi_cli.datasets.clips import FrameSequence, Picture, frame_count, picture_of
from vfi_cli.datasets.layouts import LAYOUTS, Layout
from vfi_cli.errors import InputError, UsageError
from vfi_cli.wording import counted

Timed = tuple[Fraction, Picture]

HALF = Fraction(1, 2)


@dataclass(frozen=True, slots=True)
class Item:
    """Two frames that a model gets, and the true frames between them that it must rebuild.

    ``targets`` are (t, picture) with t in 0 … 1 between ``first`` and ``second``. ``before`` and
    ``after`` continue the even row of frames for models that see four; None where the set has
    none. ``clip`` is what the item is a part of, ``group`` a class of clips with a mean of its own.
    """

    name: str
    clip: str
    first: Picture
    second: Picture
    targets: tuple[Timed, ...]
    before: Picture | None = None
    after: Picture | None = None
    group: str = ""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All that must be read to score this item."""
        outer = [picture for picture in (self.before, self.after) if picture is not None]
        return (self.first, self.second, *(picture for _, picture in self.targets), *outer)

    def missing(self) -> Path | None:
        """The first of its files that does not exist."""
        return next((p.path for p in self.pictures if not p.path.is_file()), None)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A data set together with a protocol. ``clips`` is how many clips (triplets, where the set
    has no longer ones) it has when it is complete."""

    name: str
    title: str
    layout: str
    judges: str  # for people: what it tells about a model
    factor: int
    clips: int
    find: Callable[[Layout, Path], list[Item]]
    metrics: tuple[str, ...] = ("psnr", "ssim")
    mean: Literal["items", "clips"] = "items"  # of items, or of the clips' means
    crop: int | None = None  # pixels a side, from the centre
    notes: str = ""

    @property
    def page(self) -> str:
        """Where the set can be had."""
        return LAYOUTS[self.layout].page


def benchmark_named(name: str) -> Benchmark:
    """The benchmark of that name. Raises UsageError that lists the known ones."""
    if name not in BENCHMARKS:
        raise UsageError(f"'{name}' is not a benchmark; choose among {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def items(name: str, root: Path) -> list[Item]:
    """The items of a benchmark, in the set's order, those with missing files too.

    ``root`` is the set's folder, or one that holds it under its usual name. Raises InputError
    where lists or folders are missing; :func:`check_complete` looks at the items' files.
    """
    benchmark = benchmark_named(name)
    layout = LAYOUTS[benchmark.layout]
    home = layout.home(Path(root))
    found = benchmark.find(layout, home)
    if not found:
        raise layout.error(f"{home} holds nothing to score")
    return found


def check_complete(name: str, found: Sequence[Item]) -> tuple[list[Item], tuple[str, ...]]:
    """The items of clips that are whole, and what is wrong, each a line for people.

    A clip of which a file is missing is left out as a whole. Clips of which nothing is there
    are told by their number: a mean over other clips than the papers' is another figure.
    """
    benchmark = benchmark_named(name)
    clips = {item.clip for item in found}
    gone = {item.clip: path for item in reversed(found) if (path := item.missing()) is not None}
    wrong = [f"{path} is missing" for path in reversed(gone.values())]
    if len(clips) != benchmark.clips:
        there = "is" if len(clips) == 1 else "are"
        wrong.append(f"there {there} {counted(len(clips), 'clip')}, not {benchmark.clips}")
    return [item for item in found if item.clip not in gone], tuple(wrong)


def incomplete(name: str, wrong: Sequence[str]) -> InputError:
    """The error for a set that is not whole, from what :func:`check_complete` found wrong."""
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    layout = LAYOUTS[benchmark_named(name).layout]
    return layout.error(f"{wrong[0]}{more}; --allow-missing scores what there is")


# Finding


def windows(
    sequence: FrameSequence,
    count: int,
    factor: int,
    *,
    stop: int | None = None,
    group: str = "",
) -> Iterator[Item]:
    """Every ``factor``-th of a clip's frames is given, all between are asked for.

    ``count``: frames that the clip has; ``stop``: leave out pairs that end after that number.
    """
    last = min(count - 1, count if stop is None else stop)
    for left in range(0, last - factor + 1, factor):
        right = left + factor
        before, after = left - factor, right + factor
        yield Item(
            f"{sequence.name}/{_label(sequence, left)}",
            sequence.name,
            picture_of(sequence, left),
            picture_of(sequence, right),
            tuple((Fraction(k, factor), picture_of(sequence, left + k)) for k in range(1, factor)),
            picture_of(sequence, before) if before >= 0 else None,
            picture_of(sequence, after) if after < count else None,
            group,
        )


def _label(sequence: FrameSequence, index: int) -> str:
    return sequence.files[index].stem if sequence.files else f"{index:05}"


def _triplet(sequence: FrameSequence) -> Item:
    first, middle, second = (Picture(path) for path in sequence.files)
    return Item(sequence.name, sequence.name, first, second, ((HALF, middle),))


def _triplets(layout: Layout, root: Path) -> list[Item]:
    return [_triplet(sequence) for sequence in layout.find(layout, root, "test")]


def _septuplets(layout: Layout, root: Path) -> list[Item]:
    """im1, im3, im5 and im7 are given, im4 is asked for."""
    found = []
    for sequence in layout.find(layout, root, "test"):
        before, _, first, middle, second, _, after = (Picture(path) for path in sequence.files)
        name = sequence.name
        found.append(Item(name, name, first, second, ((HALF, middle),), before, after))
    return found


def _every(factor: int, split: layouts.Split = "test") -> Callable[[Layout, Path], list[Item]]:
    def find(layout: Layout, root: Path) -> list[Item]:
        return [
            item
            for sequence in layout.find(layout, root, split)
            for item in windows(sequence, _count(sequence, factor + 1), factor)
        ]

    return find


def _count(sequence: FrameSequence, expected: int) -> int:
    """The frames of a clip. A video that is missing counts as one with as many as expected, so
    that it gives items, and is missed."""
    if sequence.video is not None and not sequence.video.is_file():
        return expected
    return frame_count(sequence)


def _x_test(layout: Layout, root: Path) -> list[Item]:
    """Frames 0 and 32 are given; 4, 8 … 28 are asked for."""
    found = []
    for sequence in layout.find(layout, root, "test"):
        count = _count(sequence, 33)
        if count < 33:
            raise layout.error(f"{sequence.video} has {count} frames, not 33")
        first, *between, second = (picture_of(sequence, index) for index in range(0, 33, 4))
        targets = tuple((Fraction(k, 8), picture) for k, picture in enumerate(between, 1))
        found.append(Item(sequence.name, sequence.name, first, second, targets))
    return found


def _reds(clips: tuple[str, ...] | None = None) -> Callable[[Layout, Path], list[Item]]:
    """The frames of 15 fps are given, those of 30 fps between them asked for. What is given lies
    in its own folder, and in that of 30 fps as well."""

    def find(layout: Layout, root: Path) -> list[Item]:
        truth = layouts.reds_folder(root, "val", 30)
        if truth is None:
            raise layout.missing(root / "val_30fps")
        given = layouts.reds_folder(root, "val", 15) or truth
        names = clips or tuple(folder.name for folder in layouts.subfolders(truth))
        return [item for name in names for item in _reds_clip(truth, given, name)]

    return find


def _reds_clip(truth: Path, given: Path, name: str) -> Iterator[Item]:
    folder = given / name
    numbers = [int(path.stem) for path in folder.glob("*.png") if path.stem.isdigit()]
    last = max([8, *numbers])  # of a clip that is not there, one item, so that it is missed

    def source(number: int) -> Picture | None:
        return Picture(folder / f"{number:08}.png") if 0 <= number <= last else None

    for left in range(0, last // 8 * 8, 8):
        first, second = source(left), source(left + 8)
        assert first is not None
        assert second is not None
        target = Picture(truth / name / f"{left + 4:08}.png")
        yield Item(
            f"{name}/{left + 4:08}",
            name,
            first,
            second,
            ((HALF, target),),
            source(left - 8),
            source(left + 16),
        )


def _snu(level: str) -> Callable[[Layout, Path], list[Item]]:
    """One level's triplets. They lie in longer clips, so that the frames around them, as far
    away again, are there for models that see four."""

    def find(layout: Layout, root: Path) -> list[Item]:
        return [_with_neighbours(_triplet(t)) for t in layouts.snu_film(layout, root, level)]

    return find


def _with_neighbours(item: Item) -> Item:
    first, second = item.first.path, item.second.path
    if not (first.stem.isdigit() and second.stem.isdigit()):
        return item
    left, right = int(first.stem), int(second.stem)

    def numbered(number: int) -> Picture | None:
        path = first.with_name(f"{number:0{len(first.stem)}}{first.suffix}")
        return Picture(path) if number >= 0 and path.is_file() else None

    return replace(item, before=numbered(2 * left - right), after=numbered(2 * right - left))


def _hd(factor: int) -> Callable[[Layout, Path], list[Item]]:
    """The first 101 frames of each clip, or fewer."""

    def find(layout: Layout, root: Path) -> list[Item]:
        return [
            item
            for sequence in layout.find(layout, root, "test")
            for item in windows(
                sequence,
                _count(sequence, factor + 1),
                factor,
                stop=100,
                group=sequence.name.partition("_GT")[0].removeprefix("HD"),
            )
        ]

    return find


def _atd(folder: str) -> Callable[[Layout, Path], list[Item]]:
    def find(layout: Layout, root: Path) -> list[Item]:
        return [_triplet(sequence) for sequence in layouts.atd(layout, root, folder)]

    return find


def _davis(layout: Layout, root: Path) -> list[Item]:
    """All clips, whichever split they belong to."""
    top = layouts.davis_folder(layout, root)
    found = [clip for clip in layouts.clips_below(top, None) if clip.files]
    layouts.check_numbers(layout, found)
    return [item for clip in found for item in windows(clip, len(clip.files), 2)]


def _benchmarks() -> Iterator[Benchmark]:
    yield Benchmark(
        "vimeo-triplet",
        "Vimeo90K, test triplets",
        "vimeo-triplet",
        "small motion, 448×256",
        2,
        3782,
        _triplets,
    )
    yield Benchmark(
        "vimeo-septuplet",
        "Vimeo90K, test septuplets",
        "vimeo-septuplet",
        "small motion with four frames seen, 448×256",
        2,
        7824,
        _septuplets,
        notes="im1, im3, im5 and im7 are given, im4 is asked for",
    )
    yield Benchmark(
        "ucf101",
        "UCF101, 379 triplets",
        "ucf101",
        "people in compressed video, 256×256",
        2,
        379,
        _triplets,
    )
    yield Benchmark(
        "middlebury",
        "Middlebury other",
        "middlebury",
        "twelve textbook scenes, up to 640×480",
        2,
        12,
        _triplets,
        metrics=("ie",),
    )
    motions = ("small", "medium", "large", "very large")
    for level, motion in zip(layouts.SNU_LEVELS, motions, strict=True):
        yield Benchmark(
            f"snu-film-{level}",
            f"SNU-FILM, {level}",
            "snu-film",
            f"{motion} motion, 1280×720",
            2,
            310,
            _snu(level),
        )
    yield Benchmark(
        "hd",
        "HD, twice",
        "hd",
        "eleven clips from 1280×544 to 1920×1080",
        2,
        11,
        _hd(2),
        metrics=("psnr-y",),
        mean="clips",
        notes="PSNR of luma, mean over clips",
    )
    yield Benchmark(
        "hd-4x",
        "HD, four times",
        "hd",
        "large motion, eleven clips from 1280×544 to 1920×1080",
        4,
        11,
        _hd(4),
        metrics=("psnr-y",),
        mean="clips",
        notes="PSNR of luma, mean over the clips of each size",
    )
    yield Benchmark(
        "x-test",
        "X4K1000FPS, X-TEST, eight times",
        "x4k1000fps",
        "very large motion, 4096×2160",
        8,
        15,
        _x_test,
    )
    yield Benchmark(
        "reds-vtsr",
        "REDS_VTSR, 30 validation clips",
        "reds-vtsr",
        "shaking cameras, 1280×720, four frames seen",
        2,
        30,
        _reds(),
    )
    yield Benchmark(
        "reds-vtsr5",
        "REDS_VTSR, clips 002, 005, 010, 017 and 025",
        "reds-vtsr",
        "the five clips of the EQVI paper",
        2,
        5,
        _reds(("002", "005", "010", "017", "025")),
    )
    crop = "the centre of 512×512 is scored"
    yield Benchmark(
        "gopro",
        "GoPro, test clips, eight times",
        "gopro",
        "handheld 240 fps, many times in between",
        8,
        11,
        _every(8),
        crop=512,
        notes=crop,
    )
    yield Benchmark(
        "adobe240",
        "Adobe240, test videos, eight times",
        "adobe240",
        "handheld 240 fps, many times in between",
        8,
        8,
        _every(8),
        crop=512,
        notes=crop,
    )
    for name, folder, size in (
        ("atd-12k", "test_2k_original", "1920×1080 and others"),
        ("atd-12k-540p", "test_2k_540p", "960×540"),
    ):
        yield Benchmark(
            name, f"ATD-12K, {folder}", "atd-12k", f"drawn animation, {size}", 2, 2000, _atd(folder)
        )
    yield Benchmark(
        "davis",
        "DAVIS 2017, 90 clips",
        "davis",
        "moving objects, 854×480",
        2,
        90,
        _davis,
        notes="every second frame of each clip is asked for",
    )


BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _benchmarks()}
