"""The source timeline, read from the packets.

Nothing is decoded here. What a packet says of its time is kept as it is, an
integer in the stream's time base; deciding whether to believe it is
:mod:`vfi_cli.io.probe`'s work.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vfi_cli.io.ffv1 import slices_are_whole
from vfi_cli.timeline import SourceTimeline, least_gap, usual_distance
from vfi_cli.wording import said

#: Rates that cameras, discs and broadcasters use, looked for before odd fractions.
COMMON_RATES = tuple(
    Fraction(n, 1001) for n in (24000, 30000, 60000, 120000, 48000, 15000, 12000)
) + tuple(Fraction(n) for n in (24, 25, 30, 50, 60, 12, 15, 10, 48, 100, 120, 240, 20, 5, 8, 1))

#: A stream of a rate has at least this part of its frames; fewer are of another one.
_LEAST_PART = Fraction(1, 2)
#: Seconds that timestamps may stray by: Matroska's milliseconds.
_ROUNDING = Fraction(1, 1000)


@dataclass(slots=True)
class PacketList:
    """Every packet of the picture stream that holds data, in the file's order."""

    pts: list[int | None] = field(default_factory=list)
    dts: list[int | None] = field(default_factory=list)
    duration: list[int] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)  # False: decoded but never displayed
    corrupt: list[bool] = field(default_factory=list)
    failure: str | None = None  # why the demuxer gave up before the end
    file_end: Fraction | None = None  # seconds: the latest end of any stream's packet

    def __len__(self) -> int:
        return len(self.pts)


def is_shown(packet: Packet, codec: str) -> bool:
    """Whether a decoder returns a picture for the packet (edit lists and VP8's hidden frames)."""
    if packet.is_discard:
        return False
    return codec != "vp8" or bool(memoryview(packet)[0] & 0x10)


def one_duration(container: InputContainer) -> bool:
    """Whether the container's header states how long the file is, but not each stream."""
    return "matroska" in container.format.name or container.format.name == "flv"


def scan_packets(container: InputContainer, stream: VideoStream) -> PacketList:
    """Demux the whole file once. Damage at its end is noted, not raised."""
    codec = stream.codec_context.codec.canonical_name
    found = PacketList()
    # Headers that know one duration for all streams are compared with the end of all of them.
    every = one_duration(container)
    if not every:
        for other in container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
    checked = codec == "ffv1"
    end: Fraction | None = None
    packets = container.demux() if every else container.demux(stream)
    try:
        for packet in packets:
            if packet.size == 0:  # the flush marker, or AVI's "show the last one again"
                continue
            if every and packet.pts is not None and packet.time_base is not None:
                stop = (packet.pts + (packet.duration or 0)) * packet.time_base
                end = stop if end is None or stop > end else end
            if packet.stream_index != stream.index:
                continue
            found.pts.append(packet.pts)
            found.dts.append(packet.dts)
            found.duration.append(packet.duration or 0)
            found.key.append(packet.is_keyframe)
            found.shown.append(is_shown(packet, codec))
            whole = not checked or slices_are_whole(bytes(packet))
            if not found.corrupt:
                checked = checked and whole  # the first packet tells whether there are checksums
            found.corrupt.append(packet.is_corrupt or (checked and not whole))
    except av.error.FFmpegError as error:
        found.failure = said(error)
    except IndexError:
        pass  # PyAV's, at the very end, where streams had appeared in the middle of the file
    found.file_end = end
    return found


def reorder_delay(decode_order: Sequence[int]) -> int:
    """How many of the frames shown before a frame may have been decoded after it, at most.

    ``decode_order`` gives each frame's packet number, in display order.
    """
    ranked = sorted(range(len(decode_order)), key=decode_order.__getitem__)
    return max((shown - place for place, shown in enumerate(ranked)), default=0)


@dataclass(frozen=True, slots=True)
class Rate:
    """The frame rate of a stream, as its timestamps tell it."""

    nominal: Fraction  # frames a second; the average where no rate agrees
    agrees: bool  # every frame stands at a multiple of 1 / nominal after the first
    complete: bool  # and none of them is missing


def fits_rate(
    pts: Sequence[int],
    time_base: Fraction,
    rate: Fraction,
    rounding: Fraction = _ROUNDING,
    *,
    complete: bool = True,
) -> bool:
    """Whether all timestamps are those of a constant rate, but for rounding.

    They may stray by a tick, or by ``rounding`` seconds where that is more (never by more than
    a quarter of a frame, unless a tick is longer): files keep the rounding of the containers
    that they came through, and the coarsest usual one is Matroska's millisecond. Unless the
    stream must be ``complete``, frames may be missing in between.
    """
    step = 1 / (rate * time_base)  # ticks a frame
    up, down = step.numerator, step.denominator
    ticks = max(Fraction(1), min(rounding / time_base, step / 4))
    allowed = ticks * down * 5 / 4
    first = pts[0]
    low = high = 0
    number = -1
    for value in pts:
        place = (value - first) * down
        number = number + 1 if complete else max(number + 1, (2 * place + up) // (2 * up))
        error = place - number * up
        if error < low:
            low = error
        elif error > high:
            high = error
        else:
            continue
        if high - low > allowed:
            return False
    return True


def find_rate(
    pts: Sequence[int],
    end: int,
    time_base: Fraction,
    stated: Sequence[Fraction | None] = (),
    measured: Fraction | None = None,
) -> Rate:
    """The frame rate, and whether every timestamp agrees with it.

    ``stated`` are rates that the file names and ``measured`` one that was averaged over it;
    common rates are tried between the two. Where none agrees, common rates are tried of whose
    frames some are missing, as recorders drop them.
    """
    named = [Fraction(rate) for rate in stated if rate]
    if len(pts) < 2:
        if named or measured:
            rate = (named or [Fraction(measured or 25)])[0]
        else:
            rate = 1 / ((end - pts[0]) * time_base) if end > pts[0] else Fraction(25)
        return Rate(rate, agrees=True, complete=True)
    average = (len(pts) - 1) / ((pts[-1] - pts[0]) * time_base)
    simple = average.limit_denominator(1001) or average
    usual = sorted(COMMON_RATES, key=lambda rate: abs(rate - average))[:4]
    common = [rate for rate in named if rate in COMMON_RATES]
    all_there = [*common, *usual, *named, measured or simple, simple, average]
    some_there = [
        rate for rate in (*common, *sorted(COMMON_RATES)) if average < rate <= average / _LEAST_PART
    ]
    # Where timestamps are coarse many rates agree, odd ones that FFmpeg fitted to them among these.
    tries = [(all_there, _ROUNDING, True), (some_there, _ROUNDING, False)]
    if time_base < Fraction(1, 2000):
        # Those finer than a millisecond may agree to the tick, which settles it.
        tries.insert(0, ([*named, *usual], Fraction(0), True))
        tries.insert(2, (some_there, Fraction(0), False))
    for rates, rounding, complete in tries:
        for rate in dict.fromkeys(rates):
            if fits_rate(pts, time_base, rate, rounding, complete=complete):
                return Rate(rate, agrees=True, complete=complete)
    least = least_gap(usual_distance(pts) * time_base)
    if gaps := SourceTimeline(pts, time_base, end).gaps(least):
        # They are no part of the rate at which the rest was taken.
        closed = _closed(pts, gaps)
        rest = find_rate(closed, closed[-1] + end - pts[-1], time_base, stated)
        return Rate(rest.nominal, agrees=False, complete=False)
    return Rate(simple, agrees=False, complete=False)


def _closed(pts: Sequence[int], gaps: Sequence[int]) -> list[int]:
    """The timestamps as if the gaps after those frames were as long as others."""
    closed, usual, earlier = list(pts), usual_distance(pts), 0
    for gap, following in itertools.pairwise([*gaps, len(pts) - 1]):
        earlier += pts[gap + 1] - pts[gap] - usual
        for number in range(gap + 1, following + 1):
            closed[number] -= earlier
    return closed
