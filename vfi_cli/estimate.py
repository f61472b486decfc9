"""What a conversion will take, told from a short measured sample of it.

The sample is taken where the source has its bytes, because busy parts make most of the work
and most of the output: up to :data:`PLACES` stretches, each decoded from a keyframe, made and
encoded as the conversion does it, in memory. What was measured is scaled up.
"""

from __future__ import annotations

import io
import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, islice, pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from vfi_cli import memory
from vfi_cli.cuts import Signature
from vfi_cli.errors import InputError
from vfi_cli.fit import Fit
from vfi_cli.frame import Frame
from vfi_cli.io.decode import FrameReader
from vfi_cli.io.encode import KEYFRAME_SECONDS, VideoWriter
from vfi_cli.io.sizes import PicturePacket, stream_sizes
from vfi_cli.plan import Plan
from vfi_cli.render import Counts, Part, measured, pictures, reading, synthesizer_for
from vfi_cli.survey import Survey
from vfi_cli.timeline import format_time

if TYPE_CHECKING:
    from vfi_cli.models import Interpolator
    from vfi_cli.synthesis import Synthesizer

#: Stretches that are sampled.
PLACES = 3
#: New frames are made for about so many seconds at a place. Whatever it takes, those between two
#: frames are made, twice at the first place; when these took long, it stays the only one.
SECONDS = 3.0
#: Frames that are kept of a place, and the bytes that these may take.
FRAMES, BYTES = 24, 200_000_000
#: How far the time is off where nothing else is known: other work on the machine, the rest of
#: the picture. Of the encoded size there is less to be known.
TIME_DOUBT, SIZE_DOUBT = 0.2, 0.4


#: A source frame, its exact time and its signature, as :func:`measured` gives it.
Decoded = tuple[Frame, Fraction, Signature | None]


@dataclass(frozen=True)
class About:
    """A number that is not known well: most likely ``value``, between ``low`` and ``high``."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], doubt: float) -> About:
        """The mean; the bounds lie ``doubt`` beyond the extremes, twice for a single value."""
        doubt *= 1 if len(values) > 1 else 2
        return cls(fmean(values), min(values) / (1 + doubt), max(values) * (1 + doubt))

    def __mul__(self, factor: float) -> About:
        return About(self.value * factor, self.low * factor, self.high * factor)

    def __add__(self, amount: float) -> About:
        return About(self.value + amount, self.low + amount, self.high + amount)


@dataclass(frozen=True)
class Spent:
    """Seconds: on the clock, and of all threads on the CPU."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __mul__(self, times: float) -> Spent:
        return Spent(self.wall * times, self.cpu * times)


class Watch:
    """Tells what was spent since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def spent(self) -> Spent:
        return Spent(time.perf_counter() - self._wall, time.process_time() - self._cpu)


@dataclass(frozen=True)
class Costs:
    """What was measured, a frame each."""

    places: int
    new_frames: int  # that were made and timed
    decode: Spent  # on a source frame, with the look for cuts
    make: Spent  # on a new frame
    encode: Spent  # on an output frame


@dataclass(frozen=True)
class Estimate:
    """What is to be expected of a conversion."""

    seconds: About  # for the frames that are not there yet
    output: About  # bytes
    work: About  # bytes on disk at most while it runs, the output among them
    memory: int | None  # bytes at most, where the system tells
    device_memory: int | None  # bytes on the GPU, where there is one
    fit: Fit | None  # how new frames are fitted into the memory; None: there are none
    costs: Costs


@dataclass(frozen=True)
class _Place:
    """What one stretch gave."""

    making: tuple[Spent, ...]  # on each new frame
    encode: Spent  # on an output frame
    packets: tuple[PicturePacket, ...]  # of the output
    source_bytes: float  # of a usual frame here


def estimate(
    plan: Plan, survey: Survey, interpolator: Interpolator, *, finished: int = 0
) -> Estimate:
    """Measure a sample of the plan and scale it up, less what is ``finished`` (output frames).

    ``survey`` is the plan's. Raises what rendering would raise: a DeviceError for a device with
    too little memory, an OutputError for an encoder that does not open.
    """
    memory.forget_peak()
    on_device = _DeviceMemory(interpolator)
    sizes = stream_sizes(plan.info.path, plan.info.stream_index)
    begins, ends = plan.grid.time(0), plan.clip_end
    if survey.broken is not None:
        ends = min(ends, survey.broken.time)
    wanted = [packet for packet in sizes.pictures if begins <= packet.time < ends]
    synthesizer = synthesizer_for(plan.settings, interpolator)
    places = list(_places(plan, interpolator, synthesizer, wanted))
    video = _video_bytes(plan, survey, places, _usual(wanted))
    share = min(1.0, float((ends - begins) / plan.timeline.duration))
    kept = {item.index for item in (*plan.streams.kept, *plan.streams.converted)}
    others = share * sum(size for index, size in sizes.others.items() if index in kept)
    making = [spent for place in places for spent in place.making]
    costs = Costs(
        places=len(places),
        new_frames=len(making),
        decode=Spent(survey.seconds, survey.cpu_seconds) * (1 / max(1, survey.frames)),
        make=mean(making),
        encode=mean([place.encode for place in places]),
    )
    return Estimate(
        seconds=_seconds(plan, survey, places, costs, finished),
        output=video + others,
        work=video * 2 + others,  # the segments, and the file that they are joined into
        memory=memory.resident("peak"),
        device_memory=on_device.peak(),
        fit=synthesizer.fit,
        costs=costs,
    )


def _places(
    plan: Plan,
    interpolator: Interpolator,
    synthesizer: Synthesizer,
    packets: Sequence[PicturePacket],
) -> Iterator[_Place]:
    """Sample one place after the other, for as long as there is time."""
    interpolator.forget()
    for number, key in enumerate(_keys(plan, packets)):
        place, spent = _sample(plan, synthesizer, key, packets, warm_up=number == 0)
        yield place
        if spent > 2 * SECONDS:
            return


def _keys(plan: Plan, packets: Sequence[PicturePacket]) -> list[int]:
    """Timestamps of the keyframes to sample from, spread evenly over the source's bytes.

    The one in the middle comes first.
    """
    info = plan.info
    if not info.seekable or not packets:
        return [info.pts[0]]
    totals = list(accumulate(packet.size for packet in packets))
    keys = []
    for place in range(PLACES):
        middle = totals[-1] * (2 * place + 1) // (2 * PLACES)
        at = packets[min(bisect_right(totals, middle), len(packets) - 1)].time
        number = bisect_right(info.key_pts, at / info.time_base) - 1
        keys.append(info.key_pts[max(0, number)])
    keys.insert(0, keys.pop(PLACES // 2))
    return list(dict.fromkeys(keys))


def _sample(
    plan: Plan,
    synthesizer: Synthesizer,
    key: int,
    packets: Sequence[PicturePacket],
    *,
    warm_up: bool,
) -> tuple[_Place, float]:
    """Decode, make and encode the frames from a keyframe on; also the seconds of the making.

    ``warm_up``: the frames of the first pair are made, but their time does not count.
    """
    info, timeline = plan.info, plan.timeline
    with FrameReader(info, start_pts=key) as reader:
        frames = measured(reader, lambda frame: timeline.time_of(frame.pts), plan.settings)
        source = list(islice(frames, 1))
        if not source:
            raise InputError(f"{info.path}: the picture at {_at(plan, key)} cannot be decoded")
        held = sum(plane.nbytes for plane in source[0][0].planes)
        source += islice(frames, max(4, min(FRAMES, BYTES // held)) - 1)
    source = _without_gap(source, plan.settings.gap)
    times = [at for _, at, _ in source]
    grid = replace(plan.grid, start=times[0], count=None)
    counts = Counts()
    made: list[Frame] = []
    making: dict[int, list[Spent]] = {}  # by pair, whose frames may be made at once
    output = pictures(
        source,
        synthesizer,
        plan.settings,
        grid,
        Part(),
        end=lambda shown: shown.time,
        counts=counts,
    )
    whole = Watch()
    while len(made) < 2 * len(source):
        pair = bisect_right(times, grid.time(len(made)))
        if pair not in making and len(making) > warm_up and whole.spent().wall > SECONDS:
            break
        new, watch = counts.new, Watch()
        frame = next(output, None)
        if frame is None:
            break
        made.append(frame)
        if counts.new > new:
            making.setdefault(pair, []).append(watch.spent())
    seconds = whole.spent().wall
    if warm_up and len(making) > 1:
        del making[min(making)]
    counted = tuple(spent for pair in making.values() for spent in pair)
    made = made or [source[0][0]]  # of a single frame nothing is new
    watch = Watch()
    encoded = _encoded(plan, made)
    encode = watch.spent() * (1 / len(made))
    here = [packet for packet in packets if times[0] <= packet.time <= times[-1]]
    return _Place(counted, encode, encoded, _usual(here or packets)), seconds


def _without_gap(source: list[Decoded], least: Fraction | None) -> list[Decoded]:
    """The longest stretch of the frames between gaps, over which nothing is made."""
    stretches = [source[:1]]
    for before, one in pairwise(source):
        if least is not None and one[1] - before[1] >= least:
            stretches.append([])
        stretches[-1].append(one)
    return max(stretches, key=len)


def _encoded(plan: Plan, frames: Sequence[Frame]) -> tuple[PicturePacket, ...]:
    """The packets that the plan's encoder makes of the frames."""
    info, sink = plan.info, io.BytesIO()
    with VideoWriter(
        sink,
        plan.encoder,
        fps=plan.grid.fps,
        width=info.width,
        height=info.height,
        sample_aspect_ratio=info.sample_aspect_ratio,
    ) as writer:
        for frame in frames:
            writer.write(frame)
    sink.seek(0)
    return stream_sizes(sink).pictures


def _usual(packets: Sequence[PicturePacket]) -> float:
    """Mean bytes of the packets that are no keyframes; of all where there are no others."""
    return fmean([p.size for p in packets if not p.key] or [p.size for p in packets] or [1])


def _video_bytes(
    plan: Plan, survey: Survey, places: Sequence[_Place], usual_source: float
) -> About:
    """Size of the encoded picture.

    Keyframes and the frames between them are told apart, because a sample has far too many of
    the former. What lies between costs in proportion to what it cost in the source.
    """
    gop = int(plan.encoder.options.get("g", max(1, round(plan.grid.fps * KEYFRAME_SECONDS))))
    keys = len(survey.cuts) + sum(-(-segment.count // gop) for segment in plan.segments)
    frames = survey.counts.frames
    totals = []
    for place in places:
        busier = usual_source / max(1.0, place.source_bytes)
        if all(packet.key for packet in place.packets):
            totals.append(frames * _usual(place.packets) * busier)
        else:
            key = fmean(packet.size for packet in place.packets if packet.key)
            between = _usual(place.packets) * busier
            totals.append(min(keys, frames) * key + max(0, frames - keys) * between)
    return About.of(totals, SIZE_DOUBT)


def _seconds(
    plan: Plan, survey: Survey, places: Sequence[_Place], costs: Costs, finished: int
) -> About:
    """How long the rest takes.

    Decoding, making and encoding overlap: together they take as long as the slowest of them, or
    as long as the cores need for what all of them ask of the CPU.
    """
    counts = survey.counts
    decode = costs.decode * _decoded_frames(plan)
    totals = []
    for place in places:
        make = mean(place.making or [costs.make]) * counts.new
        encode = place.encode * counts.frames
        slowest = max(decode.wall, make.wall, encode.wall)
        totals.append(max(slowest, (decode + make + encode).cpu / cores()))
    return About.of(totals, TIME_DOUBT) * max(0.0, 1 - finished / max(1, counts.frames))


def mean(spent: Sequence[Spent]) -> Spent:
    return sum(spent, Spent()) * (1 / max(1, len(spent)))


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _decoded_frames(plan: Plan) -> int:
    """Frames that all segments together decode: each begins at a keyframe before its own."""
    info, timeline = plan.info, plan.timeline
    count = 0
    for segment in plan.segments:
        _, start = reading(plan, segment)
        key = info.key_pts[max(0, bisect_right(info.key_pts, start) - 1)] if info.key_pts else start
        last = timeline.index_at(plan.grid.time(segment.stop - 1))
        count += last + 1 - bisect_left(info.pts, key)
    return count


class _DeviceMemory:
    """The most that a GPU holds for us from now on."""

    def __init__(self, interpolator: Interpolator) -> None:
        self._device = interpolator.device
        if self._device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)

    def peak(self) -> int | None:
        """Bytes, or None where there is no GPU at work."""
        if self._device.type != "cuda":
            return None
        import torch

        return torch.cuda.max_memory_allocated(self._device)


def _at(plan: Plan, pts: int) -> str:
    return format_time(plan.timeline.time_of(pts) - plan.timeline.start)
