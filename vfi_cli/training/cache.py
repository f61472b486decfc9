"""The data, decoded and rendered once: arrays on disk that training maps instead of reads.

Clips become NAME.npy, (N, H, W, 3) uint8 RGB, with their scenes beside them; those of more than
about 700 pixels at half of their size or less, where compression has left sharp pixels. Rendered
scenes are the chunks that :class:`vfi_cli.training.pool.Pool` describes.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vfi_cli.cuts import signature
from vfi_cli.errors import InputError, OutputError, VfiError
from vfi_cli.frame import Frame
from vfi_cli.io.color import to_rgb
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.io.images import read_image
from vfi_cli.io.naming import VIDEO_SUFFIXES, list_images
from vfi_cli.training.clips import RunFinder, mapped, scenes_file, write_runs
from vfi_cli.training.synthetic import PAD, Scene, generate
from vfi_cli.wording import said

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")
CHUNK = 100  # scenes in one file of the pool
#: Grows when the same configuration would be cached otherwise.
VERSION = 2
Report = Callable[[str], None]


# Clips ------------------------------------------------------------------------------------


def cache_clips(
    folders: list[Path], cache: Path, *, most: int, report: Report = lambda line: None
) -> list[Path]:
    """Decodes every video under ``folders``, and every folder of numbered pictures, that the
    cache lacks; returns the arrays' files. ``most``: frames of a clip that are used.

    Raises InputError where nothing is found, and, when all others are in the cache, one that
    names the clips which do not decode.
    """
    sources = list(_clips(folders))
    if not sources:
        names = ", ".join(map(str, folders))
        raise InputError(f"{names}: no videos and no folders of frames")
    files, broken = [], []
    for source in sources:
        try:
            files.append(cache_clip(source, cache, most=most, report=report))
        except InputError as error:
            broken.append(str(error))
    if broken:
        more = f" (and {len(broken) - 1} more: {'; '.join(broken[1:])})" if broken[1:] else ""
        raise InputError(f"{broken[0]}{more}; repair or remove it")
    return files


def cache_clip(
    source: Path,
    cache: Path,
    *,
    most: int,
    factor: int | None = None,
    report: Report = lambda line: None,
) -> Path:
    """The array of one clip, a video or a folder of pictures, decoded where the cache lacks it.

    ``factor``: by how much it is reduced; None: by :func:`reduction`. Raises InputError that
    names a source which does not decode.
    """
    target = cache / f"{source.stem}-{_digest(_stamp(source), most, factor)}.npy"
    if not target.exists():
        _make(cache)
        pictures = _pictures if source.is_dir() else _frames
        shape = _decode(pictures(source, most, report), target, factor, source)
        report(f"{source.name}: {shape[0]} frames of {shape[2]}×{shape[1]}")
    return target


def reduction(width: int, height: int) -> int:
    """By how much a clip is reduced, for clean targets."""
    longest = max(width, height)
    return 1 if longest <= 700 else 2 if longest <= 2000 else 4


def _clips(folders: list[Path]) -> Iterator[Path]:
    """Videos, and folders in which at least three pictures lie; nothing hidden."""
    for top in folders:
        for place, inner, names in os.walk(top):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            folder = Path(place)
            shown = (folder / name for name in names if not name.startswith("."))
            yield from sorted(path for path in shown if path.suffix.lower() in VIDEO_SUFFIXES)
            if len(list_images(folder)) > 2:
                yield folder


def _stamp(source: Path) -> tuple[object, ...]:
    """What changes when a clip does."""
    files = list_images(source) if source.is_dir() else (source,)
    states = [file.stat() for file in files]
    return (
        str(source.resolve()),
        len(files),
        sum(state.st_size for state in states),
        max(state.st_mtime_ns for state in states),
    )


def _frames(source: Path, most: int, report: Report) -> Iterator[tuple[Frame, Fraction]]:
    """Frames of a video and their times, in any unit."""
    info = probe(source)
    number = -1
    with FrameReader(info) as reader:
        for number, frame in enumerate(reader):
            # Containers round times; frames at a constant rate are evenly spaced all the same.
            yield frame, info.timeline.time_of(frame.pts)
            if number + 1 == most:
                return
        if reader.broken and number < 0:
            raise InputError(f"{source}: cannot be decoded ({reader.broken.reason})")
        if reader.broken:
            seconds = float(reader.broken.time)
            report(f"{source.name}: used up to {seconds:.2f} s: {reader.broken.reason}")


def _pictures(source: Path, most: int, report: Report) -> Iterator[tuple[Frame, Fraction]]:
    """Pictures of a folder in natural order, as frames at even times."""
    size = None
    for number, file in enumerate(list_images(source)[:most]):
        frame = read_image(file).frame
        size = size or (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            raise InputError(
                f"{file}: is {frame.width}×{frame.height}, not {size[0]}×{size[1]} as the "
                "pictures before: the frames of a clip must be of one size"
            )
        yield frame, Fraction(number)


def _decode(
    frames: Iterator[tuple[Frame, Fraction]], target: Path, factor: int | None, source: Path
) -> tuple[int, ...]:
    """Writes the frames and their runs; returns the array's shape (N, H, W, 3)."""
    part = target.with_suffix(f".{os.getpid()}.part")
    finder = RunFinder()
    shape: tuple[int, ...] = ()
    try:
        with part.open("w+b") as stream:
            for number, (frame, time) in enumerate(frames):
                finder.feed(number, signature(frame), time)
                picture = rgb_picture(frame, factor or reduction(frame.width, frame.height))
                if not number:
                    # Numbers of any length fit into the header: it is padded for that.
                    _write_header(stream, (1, *picture.shape))
                stream.write(picture.tobytes())
                shape = (number + 1, *picture.shape)
            if not shape:
                raise InputError(f"{source}: holds no frames to train on")
            stream.seek(0)
            _write_header(stream, shape)
        write_runs(scenes_file(target), finder.runs())
        os.replace(part, target)
    except OSError as error:
        name = error.filename or target
        raise OutputError(f"{name}: cannot be written ({said(error)}) (data.cache)") from None
    except InputError:
        raise
    except VfiError as error:
        raise InputError(f"{source}: cannot be decoded ({error})") from None
    finally:
        part.unlink(missing_ok=True)
    return shape


def _write_header(stream: Any, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def rgb_picture(frame: Frame, factor: int = 1) -> NDArray[np.uint8]:
    """A frame of any layout as (H / factor, W / factor, 3) uint8, reduced by averaging."""
    rgb = to_rgb(frame)
    if factor > 1:
        size = (max(1, frame.height // factor), max(1, frame.width // factor))
        rgb = F.interpolate(rgb[None], size=size, mode="area")[0]
    return (rgb.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


# Rendered scenes --------------------------------------------------------------------------


def cache_scenes(
    textures: list[Path],
    clips: list[Path],
    cache: Path,
    *,
    count: int,
    size: int,
    motion: tuple[float, ...],
    seed: int,
    four: bool = False,
    blurred: float = 0.0,
    accelerated: float = 0.0,
    workers: int = 1,
    report: Report = lambda line: None,
) -> Path:
    """Renders the scenes that the pool lacks, by so many processes, and returns its folder, whose
    name follows from all they are made of: what is in the pictures, and not when they were written
    or where they lie; the names of ``clips``, which change with those (:func:`cache_clip`).

    ``motion``: largest shifts in pixels, one of which is chosen for each scene; ``four``,
    ``blurred`` and ``accelerated`` as in :func:`vfi_cli.training.synthetic.generate`.

    Raises InputError that names folders without pictures, and pictures that do not decode.
    """
    pictures = _files(textures, PICTURES)
    if textures and not pictures:
        names = ", ".join(map(str, textures))
        raise InputError(f"{names}: no pictures to take textures from (data.textures)")
    sources = [_content(path) for path in pictures], [path.name for path in clips]
    stamp = _digest(sources, count, size, motion, seed, four, blurred, accelerated)
    folder = cache / f"scenes-{stamp}"
    _make(folder)
    missing = [
        (folder / f"{chunk:05d}", chunk, min(CHUNK, count - chunk * CHUNK))
        for chunk in range(-(-count // CHUNK))
        if not (folder / f"{chunk:05d}.frames.npy").exists()
    ]
    if not missing:
        return folder
    report(f"rendering scenes for {folder}, which is done once")
    texture = Textures(pictures, clips, size + 2 * PAD)

    def scenes(chunk: int, number: int) -> list[Scene]:
        rng = np.random.default_rng((seed, chunk))
        return [
            generate(
                rng,
                texture,
                size=size,
                largest=float(rng.choice(motion)),
                four=four,
                blurred=blurred,
                accelerated=accelerated,
            )
            for _ in range(number)
        ]

    def render(stem: Path, chunk: int, number: int) -> None:
        _save_scenes(stem, scenes(chunk, number))

    ready = count - sum(number for _, _, number in missing)
    for done in _in_processes(render, missing, workers):
        report(f"{ready + sum(number for _, _, number in missing[:done])} of {count} scenes")
    return folder


def _save_scenes(stem: Path, scenes: Sequence[Scene]) -> None:
    frames = torch.stack([scene.frames for scene in scenes])
    _save(stem.with_suffix(".flow.npy"), np.stack([s.flow.numpy() for s in scenes]), np.float16)
    _save(stem.with_suffix(".seen.npy"), np.stack([s.seen.numpy() for s in scenes]), np.uint8)
    _save(stem.with_suffix(".t.npy"), np.array([scene.t for scene in scenes]), np.float32)
    around = [scene.around.numpy() for scene in scenes if scene.around is not None]
    if around:
        _save(stem.with_suffix(".around.npy"), np.stack(around), np.float16)
    pictures = (frames.clamp(0, 1) * 255).round().numpy()
    _save(stem.with_suffix(".frames.npy"), pictures, np.uint8)  # last: it marks the whole chunk


_work: Callable[..., None] | None = None  # what a forked process does


def _run_work(task: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    assert _work is not None
    _work(*task)


def _in_processes(
    work: Callable[..., None], tasks: Sequence[tuple[Any, ...]], workers: int
) -> Iterator[int]:
    """Does all tasks, in processes that share what is loaded where the system can fork."""
    global _work  # noqa: PLW0603
    workers = min(workers, len(tasks))
    if workers < 2 or "fork" not in multiprocessing.get_all_start_methods():
        for done, task in enumerate(tasks, 1):
            work(*task)
            yield done
        return
    _work = work
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for done, _ in enumerate(pool.map(_run_work, tasks), 1):
            yield done
    _work = None


class Textures:
    """Squares cut out of pictures, at two reductions, and sometimes out of clips."""

    def __init__(self, files: list[Path], clips: list[Path], side: int) -> None:
        from PIL import Image

        self.pictures: list[np.ndarray] = []
        for file in files:
            try:
                picture = Image.fromarray(decode_picture(file))
            except InputError as error:
                raise InputError(f"{error} (data.textures)") from None
            shortest = min(picture.size)
            # Never enlarged, unless a square would not fit.
            sizes = {max(side, min(shortest, wanted)) for wanted in (560, 1100)}
            for scale in sorted(wanted / shortest for wanted in sizes):
                new = [max(side, round(edge * scale)) for edge in picture.size]
                self.pictures.append(np.asarray(picture.resize(new, Image.Resampling.LANCZOS)))
        arrays = map(mapped, clips)
        self.clips = [clip for clip in arrays if min(clip.shape[1:3]) >= side]
        if not self.pictures and not self.clips:
            raise InputError(
                f"no clip of data.clips is {side} pixels high and wide, as textures must be; name "
                "a folder of pictures in data.textures, or let scenes be smaller (data.scene_size)"
            )

    def __call__(self, rng: np.random.Generator, side: int) -> np.ndarray:
        if self.clips and (rng.random() < 0.2 or not self.pictures):
            clip = self.clips[rng.integers(len(self.clips))]
            picture = clip[rng.integers(len(clip))]
        else:
            picture = self.pictures[rng.integers(len(self.pictures))]
        y = rng.integers(picture.shape[0] - side + 1)
        x = rng.integers(picture.shape[1] - side + 1)
        square = picture[y : y + side, x : x + side]
        if rng.random() < 0.5:
            square = square[:, ::-1]
        if rng.random() < 0.3:
            square = square.transpose(1, 0, 2)
        if rng.random() < 0.3:
            square = square[..., rng.permutation(3)]
        return np.ascontiguousarray(square)


# Files ------------------------------------------------------------------------------------


def _files(folders: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    found = []
    for folder in folders:
        shown = (path for path in folder.rglob("*") if not path.name.startswith("."))
        found += sorted(path for path in shown if path.suffix.lower() in suffixes)
    return found


def decode_picture(file: Path, factor: int = 1) -> NDArray[np.uint8]:
    """A picture file as (H / factor, W / factor, 3) uint8 RGB. Raises InputError."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            picture = image.convert("RGB")
            return np.asarray(picture.reduce(factor) if factor > 1 else picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: cannot be decoded ({said(error)})") from None


def _content(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({said(error)}) (data.textures)") from None


def _digest(*what: object) -> str:
    return hashlib.sha256(repr((VERSION, what)).encode()).hexdigest()[:12]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({said(error)}) (data.cache)") from None


def _save(target: Path, array: NDArray[Any], kind: type) -> None:
    part = target.with_suffix(".part")
    try:
        with part.open("wb") as stream:
            np.save(stream, array.astype(kind))
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"{target}: cannot be written ({said(error)}) (data.cache)") from None
