"""Time: rates, source timelines and output grids, all in exact fractions.

No float ever decides which frame is shown when. A source timeline comes from
packet timestamps (variable frame rate is the normal case); an output grid is a
start, a rate and a number of frames. Nothing here imports torch or PyAV.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from vfi_cli.errors import UsageError

MAX_RATE = Fraction(1000)  # frames a second; beyond this a rate is a typing mistake
MAX_FACTOR = Fraction(256)

# Nominal rates whose 1000/1001 multiple people write as a rounded decimal.
_NTSC_NOMINAL = (24, 30, 48, 60, 72, 90, 96, 120, 144, 240)

_GAP_SECONDS = Fraction(10)
_GAP_TIMES = 10

_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")


def parse_rate(text: str) -> Fraction:
    """A frame rate in frames a second from ``60``, ``30000/1001`` or ``23.976``.

    Decimals that round an NTSC rate to two or more places (23.976, 23.98, 29.97,
    59.94, 119.88 …) mean that rate exactly, N·1000/1001; other decimals mean what
    they say. Raises UsageError for anything that is not a rate in (0, 1000].
    """
    rate = _parse_positive(text, "frame rate", "60, 30000/1001 or 23.976")
    places = len(text.strip().partition(".")[2])
    if "/" not in text and places >= 2:
        for nominal in _NTSC_NOMINAL:
            ntsc = Fraction(nominal * 1000, 1001)
            if abs(ntsc - rate) * 10**places <= Fraction(1, 2):
                rate = ntsc
                break
    if rate > MAX_RATE:
        raise UsageError(f"frame rate {text} is beyond {MAX_RATE} frames a second")
    return rate


def parse_factor(text: str) -> Fraction:
    """A factor (of the frame rate, or of slowness) from ``2``, ``5/2`` or ``2.5``."""
    factor = _parse_positive(text, "factor", "2, 5/2 or 2.5")
    if factor > MAX_FACTOR:
        raise UsageError(f"factor {text} is beyond {MAX_FACTOR}")
    return factor


def _parse_positive(text: str, what: str, examples: str) -> Fraction:
    parts = text.strip().split("/")
    if len(parts) > 2 or not all(_NUMBER.fullmatch(part) for part in parts):
        raise UsageError(f"{text!r} is not a {what}: write {examples}")
    numbers = [Fraction(part) for part in parts]
    if 0 in numbers:
        raise UsageError(f"a {what} of {text} is not possible: it must be above zero")
    return numbers[0] / numbers[1] if len(numbers) == 2 else numbers[0]


def format_time(seconds: Fraction | float, *, decimals: int = 2) -> str:
    """A length of time for people: ``0:41.20``, ``1:02:03.45``. Rounds half to even."""
    scale = 10**decimals
    ticks = round(Fraction(seconds) * scale)
    sign = "-" if ticks < 0 else ""
    whole, part = divmod(abs(ticks), scale)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{sign}{text}.{part:0{decimals}}" if decimals else f"{sign}{text}"


def spoken(seconds: float) -> str:
    """How long something took: ``0.4 s``, ``54 s``, ``12:03``, ``1:02:03``."""
    if seconds >= 99.5:
        return format_time(seconds, decimals=0)
    digits = 1 if seconds < 9.95 else 0
    return f"{seconds:.{digits}f}\N{NO-BREAK SPACE}s"


def format_rate(rate: Fraction | float) -> str:
    """``60``, ``29.97``, ``23.976``: the way people write a rate."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")


def dyadic(timestep: Fraction, depth: int) -> Fraction:
    """The multiple of 1/2^depth nearest to ``timestep`` (the lower one of two equally near)."""
    steps = 1 << depth
    return Fraction(math.ceil(timestep * steps - Fraction(1, 2)), steps)


@dataclass(frozen=True)
class SourceTimeline:
    """When each source frame is shown.

    ``pts`` are in units of ``time_base`` seconds, strictly increasing. Containers
    such as Matroska round timestamps; where all frames stand at multiples of 1 / rate
    from the first on, ``rate`` restores the exact times: those nearest to what is written.
    """

    pts: Sequence[int]
    time_base: Fraction  # seconds
    end_pts: int  # when the last frame stops being shown, in time_base
    rate: Fraction | None = None  # frames a second, of which some may be missing; None: no such

    def __post_init__(self) -> None:
        if not len(self.pts):
            raise ValueError("a timeline has at least one frame")

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def start(self) -> Fraction:
        """Seconds, when the first frame is shown."""
        return self.time_of(self.pts[0])

    @property
    def end(self) -> Fraction:
        """Seconds, when the last frame stops being shown."""
        return self.time_of(self.end_pts)

    @property
    def duration(self) -> Fraction:
        return self.end - self.start

    def time(self, index: int) -> Fraction:
        """Seconds, when frame ``index`` is shown."""
        return self.time_of(self.pts[index])

    def time_of(self, pts: int) -> Fraction:
        """Seconds, for a timestamp of this stream."""
        first = int(self.pts[0])
        if self.rate is None:
            return int(pts) * self.time_base
        frames = round((int(pts) - first) * self.time_base * self.rate)
        return first * self.time_base + frames / self.rate

    def gaps(self, least: Fraction) -> list[int]:
        """Numbers of the frames after which none comes for ``least`` seconds."""
        ticks = math.ceil(least / self.time_base) - 1  # exact times may be a tick further apart
        long = [n for n, (a, b) in enumerate(itertools.pairwise(self.pts)) if b - a >= ticks]
        return [n for n in long if self.time(n + 1) - self.time(n) >= least]

    def index_at(self, time: Fraction) -> int:
        """Index of the frame shown at ``time`` (0 before the first)."""
        low, high = 0, len(self.pts)
        while high - low > 1:
            middle = (low + high) // 2
            if self.time(middle) <= time:
                low = middle
            else:
                high = middle
        return low


@dataclass(frozen=True)
class OutputGrid:
    """The output frames: frame k samples the source at start + k / rate.

    ``fps`` is the rate that the output is shown at. It differs from ``rate``
    (samples a source second) in slow motion, where time is stretched by
    ``rate / fps``.
    """

    start: Fraction  # seconds, source time of output frame 0
    rate: Fraction  # output frames per second of source time
    fps: Fraction  # output frames per second of output time
    count: int | None  # None while the source's end is unknown (a pipe)

    @classmethod
    def spanning(
        cls, start: Fraction, end: Fraction, fps: Fraction, stretch: Fraction = Fraction(1)
    ) -> OutputGrid:
        """The grid over [start, end): every k with k / rate < end − start."""
        rate = fps * stretch
        return cls(start, rate, fps, max(0, math.ceil((end - start) * rate)))

    @property
    def stretch(self) -> Fraction:
        return self.rate / self.fps

    def time(self, k: int) -> Fraction:
        """Source time in seconds of output frame ``k``."""
        return self.start + k / self.rate

    def first_at_or_after(self, time: Fraction) -> int:
        """The smallest k ≥ 0 whose source time is not before ``time``."""
        return max(0, math.ceil((time - self.start) * self.rate))


def least_gap(usual: Fraction) -> Fraction:
    """Seconds without a frame that are a gap, where frames usually are ``usual`` seconds apart.

    A recorder paused, or a clock jumped: what happened meanwhile cannot be told from the frames.
    """
    return max(_GAP_SECONDS, _GAP_TIMES * usual)


def usual_distance(pts: Sequence[int]) -> int:
    """The median distance of two frames, in the units of their times."""
    return statistics.median_low(b - a for a, b in itertools.pairwise(pts))


def timestep(time: Fraction, left: Fraction, right: Fraction) -> Fraction:
    """Where ``time`` lies between two source times: 0 at ``left``, 1 at ``right``; exact."""
    return (time - left) / (right - left)
