"""Decode a file's pictures, exactly the frames that :func:`probe` announced.

Public: :func:`probe`, :class:`SourceInfo`, :class:`HdrInfo`, :class:`FrameReader`,
:class:`Broken`, :func:`choose_hwaccel`, and :func:`open_stream` and :class:`StreamReader` for
pipes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Self

import av
from av.video.frame import VideoFrame

from vfi_cli.frame import Frame, Plane
from vfi_cli.io.feed import PacketFeed, decode_packet
from vfi_cli.io.formats import readable_format, unpack
from vfi_cli.io.pipe import StreamReader, open_stream
from vfi_cli.io.probe import probe
from vfi_cli.io.source import Broken, HdrInfo, SourceInfo

__all__ = [
    "Broken",
    "FrameReader",
    "HdrInfo",
    "SourceInfo",
    "StreamReader",
    "choose_hwaccel",
    "open_stream",
    "probe",
]

#: Alarms of the decoder that are looked into before they are taken for its habit.
_MAX_FALSE_ALARMS = 3
#: Frames in a row that a decoder may leave out without an error, as hidden ones.
_MAX_HIDDEN = 2
#: Packets within which a hardware decoder must have shown a picture to be trusted with a file.
_TRIAL_PACKETS = 64
#: PyAV's name for the format of pictures on an NVIDIA GPU.
_ON_DEVICE = "cuda"


@dataclass(slots=True)
class _Shown:
    """A frame that waits until no packet decoded before it can still prove to be damaged."""

    number: int  # in info.pts
    picture: VideoFrame


class FrameReader:
    """The frames of an input in display order; a context manager and an iterator.

    Starts with the first frame whose pts is at or after ``start_pts`` (decoding from the
    keyframe before it). ``threads`` is the decoder's number of threads, 0 for one a core.

    The frames are those of ``info.pts``, each with its exact pts. Where the stream is damaged
    the iteration ends before the first frame that the damage may have touched, and
    :attr:`broken` says where and why. A picture of another size or format than the first
    counts as damage. A frame that the decoder leaves out without an error was never meant to
    be seen: the one before is delivered again in its place, as a player goes on showing it.

    ``hwaccel``: the CUDA device whose NVDEC decodes ("cuda:1"), as :func:`choose_hwaccel` found it
    fit, or "none". Frames that it decodes have their planes there, complete. It hides damage
    within a picture, so that less of it is told; and where it gives up, the CPU decodes.
    """

    def __init__(
        self,
        info: SourceInfo,
        *,
        start_pts: int | None = None,
        threads: int = 0,
        hwaccel: str = "none",
    ) -> None:
        self.info = info
        self.broken: Broken | None = None
        self._first = 0 if start_pts is None else bisect_left(info.pts, start_pts)
        self._threads = threads
        self._hwaccel = hwaccel
        self._corrupt = frozenset(info.corrupt_packets)
        self._feed: PacketFeed | None = None
        self._stop = len(info.pts)  # no frame from here on is delivered
        self._why = ""
        self._false_alarms = 0
        self._key = 0  # number of the frame at which decoding started
        self._frames = self._run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Let go of the file and the decoder. Closing twice, or midway, is fine."""
        self._frames.close()

    def _run(self) -> Generator[Frame, None, None]:
        try:
            if self._first >= len(self.info.pts):
                return
            last: _Shown | None = None
            converted: Frame | None = None
            for shown in self._checked():
                if last is not None and shown.picture is last.picture and converted is not None:
                    converted = self._frame(shown.number, converted.planes, converted.interlaced)
                else:
                    planes = self._planes(shown.picture)
                    converted = self._frame(shown.number, planes, shown.picture.interlaced_frame)
                last = shown
                yield converted
            if self._stop < len(self.info.pts):
                self.broken = Broken(self.info.timeline.time(self._stop), self._why)
        finally:
            if self._feed is not None:
                self._feed.close()
                self._feed = None

    def _planes(self, picture: VideoFrame) -> tuple[Plane, ...]:
        if picture.format.name != _ON_DEVICE:
            return unpack(picture)[1]
        from vfi_cli.io.device import fetch

        return fetch(picture, self.info.layout.bits)

    def _frame(self, number: int, planes: tuple[Plane, ...], interlaced: bool) -> Frame:
        info = self.info
        end = info.pts[number + 1] if number + 1 < len(info.pts) else info.end_pts
        return Frame(
            planes,
            info.width,
            info.height,
            info.layout,
            info.color,
            info.pts[number],
            info.time_base,
            duration=end - info.pts[number],
            interlaced=interlaced,
        )

    def _checked(self) -> Iterator[_Shown]:
        """Every frame from the first on, held back until what it may refer to was seen whole."""
        waiting: deque[_Shown] = deque()
        expected = self._first
        last: VideoFrame | None = None
        for number, picture in self._decoded():
            fault = self._fault(picture)
            if fault is not None and number >= self._key:
                self._damage(number, fault)
            due = min(number, self._stop)
            if expected < due:
                for shown in self._explain_gap(expected, due, last):
                    waiting.append(shown)
                    expected = shown.number + 1
            if number >= self._stop:
                break
            if number < expected:
                last = picture
                continue
            waiting.append(_Shown(number, picture))
            last, expected = picture, number + 1
            while len(waiting) > self.info.reorder:
                if waiting[0].number >= self._stop:
                    return
                yield waiting.popleft()
        else:
            if expected < self._stop:
                waiting.extend(self._explain_gap(expected, len(self.info.pts), last))
        for shown in waiting:
            if shown.number >= self._stop:
                return
            yield shown

    def _explain_gap(self, start: int, end: int, last: VideoFrame | None) -> list[_Shown]:
        """What to show for frames from ``start`` to ``end`` that the decoder did not deliver.

        Either damage ends the picture there, or they are merely hidden and ``last`` stays, or
        they were lost with an error of a thread that had nothing to do with them.
        """
        if not self.info.decode_order:
            self._end_at(start, "the stream ends early")
            return []
        damage, pictures = self._decode_again(range(start, min(end, start + 64)), None)
        if damage is not None:
            self._damage_packet(*damage)
        shown = []
        hidden = 0
        for number in range(start, min(end, self._stop)):
            picture = pictures.get(number, last)
            hidden = 0 if number in pictures else hidden + 1
            if picture is None or hidden > _MAX_HIDDEN:
                number -= hidden - 1  # noqa: PLW2901
                packet = self.info.decode_order[number] + 1
                self._damage(number, f"the decoder returns no picture of packet {packet}")
                break
            shown.append(_Shown(number, picture))
            last = picture
        return [item for item in shown if item.number < self._stop]

    def _fault(self, picture: VideoFrame) -> str | None:
        info = self.info
        if (picture.width, picture.height) != (info.width, info.height):
            return (
                f"the picture's size changes from {info.width}×{info.height} "
                f"to {picture.width}×{picture.height}"
            )
        if not _fits(picture, info):
            form = picture.sw_format or picture.format
            return f"the pixel format changes from {info.pix_fmt} to {form.name}"
        return "damaged picture" if picture.is_corrupt else None

    def _damage(self, number: int, reason: str) -> None:
        """Frame ``number`` is damaged, and so may be all whose packets come after its own."""
        order = self.info.decode_order
        if not order:
            self._end_at(number, reason)
        elif reason == "damaged picture":
            self._damage_packet(order[number], "damaged picture")
        else:
            self._end_at(self._first_from(order[number]), reason)

    def _damage_packet(self, packet: int, what: str) -> None:
        self._end_at(self._first_from(packet), f"{what} in packet {packet + 1}")

    def _incomplete(self, packet: int) -> None:
        """A packet that the first reading found incomplete; after a seek nobody could know.

        What is shown before the keyframe where decoding began does not matter here.
        """
        order = self.info.decode_order
        begun = order[0] if order else 0
        if order and (packet > begun) and self._first_from(packet) >= self._key:
            self._damage_packet(packet, "incomplete data")

    def _first_from(self, packet: int) -> int:
        """The first frame in display order whose packet is that one or a later one."""
        order = self.info.decode_order
        # Nearly sorted: a search finds the neighbourhood, and a step back all of it.
        place = max(0, bisect_left(order, packet) - 4 * self.info.reorder - 16)
        while place < len(order) and order[place] < packet:
            place += 1
        return place

    def _end_at(self, number: int, reason: str) -> None:
        if number < self._stop:
            self._stop, self._why = max(number, self._first), reason

    def _alarm(self, packet: int, number: int) -> None:
        """The decoder raised an error at a packet; with threads the fault is some packets back."""
        if not self.info.decode_order:
            self._end_at(number + 1, f"invalid data near packet {packet + 1}")
        elif self._stop == len(self.info.pts) and self._false_alarms < _MAX_FALSE_ALARMS:
            near = max(number, self._first)
            damage, _ = self._decode_again(range(near, near), packet)
            if damage is not None:
                self._damage_packet(*damage)
            else:
                self._false_alarms += 1

    def _decoded(self) -> Iterator[tuple[int, VideoFrame]]:
        """(number in info.pts, picture) as the decoder delivers them, from the first wanted on.

        Starts from an earlier keyframe where the decoder cannot start at the nearest.
        """
        info = self.info
        key = max(0, bisect_right(info.key_pts, info.pts[self._first]) - 1)
        while True:
            run = self._decoded_from(key)
            for number, picture in run:
                if key > 0 and number > self._first:
                    key = max(0, key - 3)
                    break
                yield number, picture
                if number >= self._first:
                    yield from run
                    return
            else:
                return

    def _decoded_from(self, key: int) -> Iterator[tuple[int, VideoFrame]]:
        info = self.info
        if self._feed is not None:
            self._feed.close()
        self._feed = feed = PacketFeed(info, key, threads=self._threads, hwaccel=self._hwaccel)
        self._key = info.number_of(info.key_pts[key]) if key > 0 else 0
        number = -1
        for packet_number, packet in feed:
            if packet_number in self._corrupt:
                self._incomplete(packet_number)
            try:
                pictures = decode_packet(feed.context, packet)
            except av.error.FFmpegError:
                if number >= self._key:
                    self._alarm(packet_number, number)
                continue
            for picture in pictures:
                if not info.seekable:
                    number += 1
                    if number >= len(info.pts):
                        return
                elif picture.pts is None:
                    continue
                else:
                    found = info.number_of(picture.pts)
                    if found == len(info.pts):
                        continue
                    number = found
                yield number, picture

    def _decode_again(
        self, wanted: range, last_packet: int | None
    ) -> tuple[tuple[int, str] | None, dict[int, VideoFrame]]:
        """Decode the wanted frames without threads, so that a fault is told of its own packet.

        Returns (packet, what) of the first fault or None, and the pictures up to there.
        ``last_packet`` ends the search; where it is None it ends with the last wanted frame.
        """
        info = self.info
        order = info.decode_order
        first = min(wanted.start, len(order) - 1)
        if last_packet is None:
            last_packet = max(order[n] for n in wanted) + info.reorder + 32
        key = max(0, bisect_right(info.key_pts, info.pts[first]) - 1)
        start = info.number_of(info.key_pts[key]) if key > 0 else 0
        pictures: dict[int, VideoFrame] = {}
        feed = PacketFeed(info, key, threads=1)
        begun = key > 0
        try:
            for packet_number, packet in feed:
                if (packet_number > last_packet and packet.size) or (
                    wanted and len(pictures) == len(wanted)
                ):
                    break
                leading = packet.pts is not None and packet.pts < info.pts[start]
                if packet_number in self._corrupt and begun and not leading:
                    return (packet_number, "incomplete data"), pictures
                try:
                    decoded = decode_packet(feed.context, packet)
                except av.error.FFmpegError:
                    if begun and not leading and packet.size:
                        return (packet_number, "invalid data"), pictures
                    continue
                begun = begun or bool(decoded)
                for picture in decoded:
                    place = info.number_of(picture.pts) if picture.pts is not None else -1
                    if start <= place < len(order) and picture.is_corrupt:
                        return (order[place], "damaged picture"), pictures
                    if place in wanted:
                        pictures[place] = picture
        finally:
            feed.close()
        return None, pictures


def _fits(picture: VideoFrame, info: SourceInfo) -> bool:
    """Whether a picture's samples are of the layout that was announced."""
    if picture.format.name != _ON_DEVICE:
        form = readable_format(picture.format.name)
        return form is not None and form.layout == info.layout
    from vfi_cli.io.device import surface_format

    assert picture.sw_format is not None
    return picture.sw_format.name == surface_format(info.layout, info.width, info.height)


def choose_hwaccel(asked: str, info: SourceInfo, device: str) -> tuple[str, str | None]:
    """The ``hwaccel`` of a :class:`FrameReader`, and what a person should hear of it.

    ``asked``: "none"; "cuda", NVDEC on the CUDA device that ``device`` names, else on the first;
    or "auto", NVDEC where ``device``, on which the frames are wanted, is such a one.
    """
    where = device if device.startswith("cuda") else "cuda"
    if asked == "none" or (asked == "auto" and where != device):
        return "none", None
    refusal = _refusal(info, where)
    if refusal is None:
        return where, None
    return "none", f"--hwaccel cuda: {refusal}; the CPU decodes" if asked == "cuda" else None


def _refusal(info: SourceInfo, device: str) -> str | None:
    """Why NVDEC cannot decode a file, found by decoding its first picture; None where it can."""
    from vfi_cli.io.device import EXACT_CODECS, surface_format

    what = f"{info.codec} of {info.width}×{info.height} in {info.pix_fmt}"
    if info.codec not in EXACT_CODECS:
        return f"a GPU's pictures of {info.codec} are not exactly those of the CPU"
    if surface_format(info.layout, info.width, info.height) is None:
        return f"{what} cannot be handed on within the GPU"
    feed = PacketFeed(info, 0, threads=1, hwaccel=device)
    if not feed.context.is_hwaccel:
        feed.close()
        return "there is no NVIDIA GPU here that this installation can decode with"
    packets = islice(feed, _TRIAL_PACKETS)
    pictures = (p for _, packet in packets for p in decode_packet(feed.context, packet))
    try:
        first = next(pictures, None)
    except av.error.FFmpegError:
        first = None
    finally:
        feed.close()
    if first is None or first.format.name != _ON_DEVICE:
        return f"this GPU does not decode {what}"
    # Where the left or the top is to be cropped away, a picture on the device keeps it.
    whole = (first.width, first.height) == (info.width, info.height)
    return None if whole and _fits(first, info) else f"this GPU decodes {what} to another form"
