"""Real motion: clips whose cuts and repeated frames are known, and windows drawn from them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vfi_cli.cuts import Signature, signature
from vfi_cli.errors import InputError, UsageError
from vfi_cli.frame import Frame, PlaneLayout
from vfi_cli.io.images import IMAGE_COLOR
from vfi_cli.scenes import Decided, SceneStream
from vfi_cli.training.config import GAPS
from vfi_cli.wording import said

Picture = NDArray[np.uint8]  # (H, W, 3) RGB

#: Mean change of a crop, in code values: less is stillness.
_STILL = 0.8
#: Share of the mean by which spaces in time between four frames may differ.
_UNEVEN = 0.05
#: Windows looked at before one is taken as it is.
_ATTEMPTS = 20


@dataclass(frozen=True)
class Run:
    """Frames of one scene, in order, each shown once: numbers, and times in any unit."""

    frames: tuple[int, ...]
    times: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.frames)


class Clip(Protocol):
    """Pictures by number, ``height`` × ``width`` pixels each, and the runs that they form."""

    height: int
    width: int
    runs: Sequence[Run]

    def picture(self, number: int) -> Picture: ...


class ArrayClip:
    """A clip in a file of its own, (N, H, W, 3) uint8, which is mapped when first looked at.

    Its scenes stand beside it (:func:`scenes_file`); where they do not they are found, and kept
    there if the folder can be written to.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._array: NDArray[np.uint8] | None = None
        shape = mapped(file).shape
        if len(shape) != 4 or shape[3] != 3:
            raise InputError(f"{file}: is no array of RGB pictures but of shape {shape}")
        self.height, self.width = int(shape[1]), int(shape[2])
        try:
            self.runs: Sequence[Run] = read_runs(scenes_file(file))
        except FileNotFoundError:
            self.runs = find_runs(self._map())
            with contextlib.suppress(OSError):  # else they are found again next time
                write_runs(scenes_file(file), self.runs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None}  # other processes map the file themselves

    def _map(self) -> NDArray[np.uint8]:
        if self._array is None:
            self._array = mapped(self.file)
        return self._array

    def picture(self, number: int) -> Picture:
        return self._map()[number]


def mapped(file: Path) -> NDArray[np.uint8]:
    """An array on disk, which is read where it is looked at. Raises InputError for a damaged
    one."""
    try:
        array: NDArray[np.uint8] = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{file}: is damaged ({said(error)}); remove it and it is made anew"
        ) from None
    return array


# Scenes -----------------------------------------------------------------------------------


class RunFinder:
    """Collects the runs of a clip while its frames pass, as ``vfi convert --dedupe`` sees them."""

    def __init__(self) -> None:
        self._stream: SceneStream[int] = SceneStream(dedupe=True)
        self._runs: list[list[tuple[int, float]]] = [[]]

    def feed(self, number: int, seen: Signature, time: Fraction) -> None:
        """The next frame, in display order, with its time in any unit."""
        self._take(self._stream.feed(number, seen, time))

    def runs(self) -> list[Run]:
        """All runs of three frames or more, once the last frame was fed."""
        self._take(self._stream.flush())
        return [Run(*zip(*run, strict=True)) for run in self._runs if len(run) > 2]

    def _take(self, decided: Iterable[Decided[int]]) -> None:
        for frame in decided:
            self._runs[-1].append((frame.payload, float(frame.time)))
            if frame.cut_after:
                self._runs.append([])


def rgb_signature(picture: Picture) -> Signature:
    """The signature of an RGB picture (H, W, 3) that cuts and repeats are found on."""
    planes = tuple(np.ascontiguousarray(picture[:, :, k]) for k in range(3))
    height, width = picture.shape[:2]
    layout = PlaneLayout("rgb", 8)
    return signature(Frame(planes, width, height, layout, IMAGE_COLOR, 0, Fraction(1)))


def find_runs(pictures: NDArray[np.uint8]) -> list[Run]:
    """The runs of pictures (N, H, W, 3) that follow each other at even times."""
    finder = RunFinder()
    for number, picture in enumerate(pictures):
        finder.feed(number, rgb_signature(picture), Fraction(number))
    return finder.runs()


def scenes_file(array: Path) -> Path:
    """Where the runs of a cached clip are kept."""
    return array.with_suffix(".scenes.json")


def write_runs(target: Path, runs: Sequence[Run]) -> None:
    table = [{"frames": run.frames, "times": run.times} for run in runs]
    target.write_text(json.dumps(table), encoding="utf-8")


def read_runs(source: Path) -> list[Run]:
    """Raises FileNotFoundError, or InputError for a file that is not what :func:`write_runs`
    writes."""
    try:
        table = json.loads(source.read_text(encoding="utf-8"))
        return [Run(tuple(item["frames"]), tuple(item["times"])) for item in table]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{source}: is damaged; remove it and it is made anew") from None


# Windows ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """A crop of consecutive moments: (3, h, w, 3) uint8 of frame 0, the new frame and frame 1, or
    (5, h, w, 3) with the frames at −1 and 2 around; ``t`` of the new frame."""

    pictures: Picture
    t: float


class Windows(Protocol):
    """What :class:`Clips` and :class:`Mixture` are to those who train."""

    def draw(
        self, rng: np.random.Generator, height: int, width: int, *, four: bool = False
    ) -> Cut: ...


class Clips:
    """Windows of clips, drawn by the square root of the clips' length; the clips must be at least
    ``height`` × ``width`` pixels, smaller ones are left out.

    ``gaps``: frames left out between frame 0 and frame 1, drawn as often as they are named.
    ``four``: only runs that four evenly spaced frames fit into are of use. ``middle``: new frames
    lie midway, for a network that knows no other time, so that only odd gaps are of use.
    """

    def __init__(
        self,
        clips: Sequence[Clip | Path],
        height: int,
        width: int,
        *,
        gaps: Sequence[int] = GAPS,
        four: bool = False,
        middle: bool = False,
    ) -> None:
        self.gaps = odd(gaps) if middle else tuple(gaps)
        self.middle = middle
        least = _span(min(self.gaps) + 1, four)
        self.clips: list[Clip] = []
        self.runs: list[list[Run]] = []
        sizes = []
        for given in clips:
            clip: Clip = ArrayClip(given) if isinstance(given, Path) else given
            runs = [run for run in clip.runs if len(run) > least]
            if runs and clip.height >= height and clip.width >= width:
                self.clips.append(clip)
                self.runs.append(runs)
                sizes.append(sum(map(len, runs)) ** 0.5)
        if not sizes:
            raise InputError(
                f"no clip is as large as the crops of {width}×{height} and has "
                f"{least + 1} moving frames without a cut"
            )
        self._edges = np.cumsum(sizes) / np.sum(sizes)  # of the shares of 0 to 1 that clips have

    def draw(self, rng: np.random.Generator, height: int, width: int, *, four: bool = False) -> Cut:
        """A window that moves, most of the time. ``height`` and ``width`` of the crop in pixels."""
        for attempt in range(_ATTEMPTS):
            last = attempt == _ATTEMPTS - 1
            clip, frames, t, even = self._window(rng, four)
            if not (even or last):
                continue
            middle = len(frames) // 2
            first, second = clip.picture(frames[middle - 1]), clip.picture(frames[middle + 1])
            spots = [
                (
                    int(rng.integers(clip.height - height + 1)),
                    int(rng.integers(clip.width - width + 1)),
                )
                for _ in range(3)
            ]
            changes = [_change(first, second, y, x, height, width) for y, x in spots]
            best = int(np.argmax(changes)) if rng.random() < 0.5 else 0
            if changes[best] < _STILL and rng.random() < 0.5 and not last:
                continue
            y, x = spots[best]
            pictures = np.stack(
                [
                    picture[y : y + height, x : x + width]
                    for picture in (
                        *map(clip.picture, frames[: middle - 1]),
                        first,
                        clip.picture(frames[middle]),
                        second,
                        *map(clip.picture, frames[middle + 2 :]),
                    )
                ]
            )
            return Cut(pictures, t)
        raise AssertionError("the last attempt returns")

    def _window(self, rng: np.random.Generator, four: bool) -> tuple[Clip, list[int], float, bool]:
        """A clip, numbers of three or five of its frames in order, t, and whether all but the new
        frame are evenly spaced in time, that one too where it is to lie midway."""
        # Not rng.choice, which works through all clips for each draw: a set has many thousands.
        which = min(int(np.searchsorted(self._edges, rng.random())), len(self.clips) - 1)
        runs = self.runs[which]
        lengths = np.array([len(run) for run in runs], float)
        run = runs[int(rng.choice(len(runs), p=lengths / lengths.sum()))]
        fitting = [gap + 1 for gap in self.gaps if _span(gap + 1, four) < len(run)]
        step = fitting[int(rng.integers(len(fitting)))]
        start = int(rng.integers(len(run) - _span(step, four)))
        zero = start + step if four else start
        new = zero + (step // 2 if self.middle else int(rng.integers(1, step)))
        regular = range(start, start + _span(step, four) + 1, step)
        times = np.array([run.times[place] for place in regular])
        even = bool(np.ptp(np.diff(times)) < _UNEVEN * np.diff(times).mean())
        t = (run.times[new] - run.times[zero]) / (run.times[zero + step] - run.times[zero])
        even = even and (not self.middle or abs(t - 0.5) < _UNEVEN)
        frames = [run.frames[place] for place in sorted((*regular, new))]
        return self.clips[which], frames, t, even


def odd(gaps: Sequence[int]) -> tuple[int, ...]:
    """The gaps that have a frame in their middle. Raises UsageError where there is none."""
    found = tuple(gap for gap in gaps if gap % 2)
    if not found:
        raise UsageError(
            f"gaps {list(gaps)}: none is odd, and the network knows only the middle of a gap"
        )
    return found


def _span(step: int, four: bool) -> int:
    """From the first to the last frame of a window, in frames."""
    return 3 * step if four else step


def _change(first: Picture, second: Picture, y: int, x: int, height: int, width: int) -> float:
    spot = (slice(y, y + height, 8), slice(x, x + width, 8))
    return float(np.abs(first[spot].astype(np.int16) - second[spot].astype(np.int16)).mean())


class Mixture:
    """Windows of several sources, each drawn by its weight."""

    def __init__(self, parts: Sequence[tuple[Windows, float]]) -> None:
        self.parts = [source for source, _ in parts]
        weights = np.array([weight for _, weight in parts], float)
        self.weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator, height: int, width: int, *, four: bool = False) -> Cut:
        source = self.parts[int(rng.choice(len(self.parts), p=self.weights))]
        return source.draw(rng, height, width, four=four)
