"""Decode a file's pictures, exactly the frames that :func:`probe` announced.

Public: :func:`probe`, :class:`SourceInfo`, :class:`HdrInfo`, :class:`FrameReader`,
:class:`Broken`, and :func:`open_stream` for pipes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vfi_cli.errors import InputError
from vfi_cli.frame import Frame
from vfi_cli.io.formats import readable_format, unpack
from vfi_cli.io.probe import from_first_key, probe
from vfi_cli.io.source import HdrInfo, SourceInfo, open_input

__all__ = ["Broken", "FrameReader", "HdrInfo", "SourceInfo", "probe"]

#: How far before a keyframe to look for it when a container's index leads past it, in seconds.
_SEEK_BACK = (Fraction(0), Fraction(2), Fraction(15))


@dataclass(frozen=True, slots=True)
class Broken:
    """Where the picture stops because the input is damaged."""

    time: Fraction  # seconds: when the first frame that is missing would be shown
    reason: str  # "invalid data in packet 1236"


@dataclass(slots=True)
class _Pending:
    """A decoded frame that waits until no earlier packet can prove to be damaged."""

    number: int  # in info.pts
    frame: VideoFrame


class FrameReader:
    """The frames of an input in display order; a context manager and an iterator.

    Starts with the first frame whose pts is at or after ``start_pts`` (decoding from the
    keyframe before it). ``threads`` is the decoder's number of threads, 0 for one a core.

    The frames are those of ``info.pts``, each with its exact pts. Where the stream is damaged
    the iteration ends before the first frame that the damage may have touched, and
    :attr:`broken` says where and why.
    """

    def __init__(self, info: SourceInfo, *, start_pts: int | None = None, threads: int = 0) -> None:
        self.info = info
        self.broken: Broken | None = None
        self._first = 0 if start_pts is None else bisect_left(info.pts, start_pts)
        self._threads = threads
        self._container: InputContainer | None = None
        self._frames = self._run()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Let go of the file and the decoder. Closing twice, or midway, is fine."""
        self._frames.close()
        if self._container is not None:
            self._container.close()
            self._container = None

    def _run(self) -> Iterator[Frame]:
        if self._first >= len(self.info.pts):
            return
        try:
            for pending in self._settled():
                if pending.number >= self._first:
                    yield self._convert(pending)
        finally:
            if self._container is not None:
                self._container.close()
                self._container = None

    def _convert(self, pending: _Pending) -> Frame:
        info = self.info
        number = pending.number
        _, planes = unpack(pending.frame)
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
            interlaced=pending.frame.interlaced_frame,
        )

    def _settled(self) -> Iterator[_Pending]:
        """Frames in order, each when nothing before it in the file can still prove damaged."""
        info = self.info
        waiting: deque[_Pending] = deque()
        expected: int | None = None
        for number, frame, damage in self._decoded():
            if expected is None:
                expected = number
                if number > self._first:
                    damage = damage or "cannot be decoded"
                    number = self._first
                expected = number
            lost = expected if number > expected else number if damage else None
            if lost is not None:
                yield from self._before_damage(waiting, lost, damage)
                return
            if number < expected or frame is None:
                continue
            expected = number + 1
            waiting.append(_Pending(number, frame))
            if len(waiting) > info.reorder:
                yield waiting.popleft()
        if expected is None or expected < len(info.pts):
            lost = max(self._first, expected or 0)
            yield from self._before_damage(waiting, lost, None)
            return
        yield from waiting

    def _before_damage(
        self, waiting: deque[_Pending], lost: int, damage: str | None
    ) -> Iterator[_Pending]:
        """The waiting frames that were decoded before the damaged one; the rest may refer to it."""
        info = self.info
        order = info.decode_order
        stop = lost
        for pending in waiting:
            if order and order[pending.number] > order[lost]:
                stop = pending.number
                break
            yield pending
        if stop >= self._first:
            packet = f" in packet {order[lost] + 1}" if order else ""
            self.broken = Broken(info.pts[stop] * info.time_base, damage or f"invalid data{packet}")

    def _decoded(self) -> Iterator[tuple[int, VideoFrame | None, str | None]]:
        """(number in info.pts, frame, damage) as the decoder delivers them."""
        info = self.info
        stream, packets = self._start()
        context = stream.codec_context
        context.thread_type = "AUTO"  # type: ignore[assignment]
        context.thread_count = self._threads
        number = -1
        for packet in packets:
            try:
                frames = context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                continue  # its frame will be missing
            for frame in frames:
                if not info.seekable:
                    number += 1
                    if number >= len(info.pts):
                        return
                else:
                    place = bisect_left(info.pts, frame.pts) if frame.pts is not None else 0
                    if place >= len(info.pts) or info.pts[place] != frame.pts:
                        continue
                    number = place
                yield number, frame, self._damage(frame)

    def _damage(self, frame: VideoFrame) -> str | None:
        info = self.info
        if frame.is_corrupt:
            return "damaged picture"
        if (frame.width, frame.height) != (info.width, info.height):
            return (
                f"the picture changes from {info.width}×{info.height} "
                f"to {frame.width}×{frame.height}"
            )
        form = readable_format(frame.format.name)
        if form is None or form.layout != info.layout:
            return f"the picture changes from {info.pix_fmt} to {frame.format.name}"
        return None

    def _open(self) -> VideoStream:
        if self._container is not None:
            self._container.close()
        self._container = open_input(self.info.path)
        streams = self._container.streams
        if self.info.stream_index >= len(streams):
            raise InputError(f"{self.info.path}: changed since it was read first")
        for other in streams:
            if other.index != self.info.stream_index:
                other.discard = av.stream.Discard.all
        return streams[self.info.stream_index]  # type: ignore[return-value]

    def _start(self) -> tuple[VideoStream, Iterator[Packet]]:
        """The stream, and its packets from the keyframe at or before the first frame on."""
        info = self.info
        wanted = info.pts[self._first]
        key = bisect_right(info.key_pts, wanted) - 1 if info.seekable else 0
        if key > 0:
            pts, dts = info.key_pts[key], info.key_dts[key]
            for back in _SEEK_BACK:
                target = min(pts, dts) - int(back / info.time_base)
                if target <= info.pts[0]:
                    break
                stream = self._open()
                assert self._container is not None
                try:
                    self._container.seek(target, stream=stream)
                except av.error.FFmpegError:
                    break
                packets = self._container.demux(stream)
                found = _skip_to(packets, pts, dts)
                if found is not None:
                    return stream, _chain(found, packets)
        stream = self._open()
        assert self._container is not None
        return stream, from_first_key(self._demux(stream), stream)

    def _demux(self, stream: VideoStream) -> Iterator[Packet]:
        """Packets to the end; a demuxer that gives up ends them, the missing frames tell."""
        assert self._container is not None
        try:
            yield from self._container.demux(stream)
        except av.error.FFmpegError:
            return


def _skip_to(packets: Iterator[Packet], pts: int, dts: int) -> Packet | None:
    """The keyframe's packet, or None where the container's index led past it."""
    for packet in packets:
        if packet.size == 0:
            continue
        if packet.pts == pts and packet.is_keyframe:
            return packet
        if packet.dts is not None and packet.dts > dts:
            return None
    return None


def _chain(first: Packet, rest: Iterator[Packet]) -> Iterator[Packet]:
    yield first
    try:
        yield from rest
    except av.error.FFmpegError:
        return
