"""What happens to everything in the input that is not the picture.

:func:`plan_streams` decides, before the work begins, which stream is copied packet
for packet, which is converted and which cannot be kept, and says why. The plan is
plain data: it goes into the dry run and into the plan's fingerprint. Moving the
packets is :mod:`vfi_cli.io.copier`'s and :mod:`vfi_cli.io.mux`'s work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

from av.container import InputContainer
from av.stream import Disposition, Stream

from vfi_cli.errors import InputError
from vfi_cli.io import containers
from vfi_cli.io.containers import Container
from vfi_cli.io.fate import (
    Action,
    AudioMode,
    Kind,
    codec_name,
    fate_of,
    kind_of,
    language_of,
    said_elsewhere,
    title_of,
)
from vfi_cli.io.source import open_input

#: Tags that describe the file they came from, not what is in it.
FILE_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "duration"})
_USUAL_HANDLERS = frozenset(
    {"VideoHandler", "SoundHandler", "SubtitleHandler", "DataHandler", "TimeCodeHandler"}
)
#: Matroska's statistics of a track; wrong as soon as anything about the track changes.
_STATISTICS = ("BPS", "DURATION", "NUMBER_OF_FRAMES", "NUMBER_OF_BYTES", "_STATISTICS")


class Source(Protocol):
    """The part of SourceInfo that is needed here."""

    @property
    def path(self) -> str: ...
    @property
    def stream_index(self) -> int: ...
    @property
    def display_matrix(self) -> tuple[int, ...] | None: ...


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One stream of the input and what becomes of it."""

    index: int  # in the input
    kind: Kind
    codec: str  # FFmpeg's name, "" where unknown
    action: Action
    target: str = ""  # codec in the output; an encoder's name where action is "convert"
    reason: str = ""  # why it is converted or dropped
    language: str = ""
    title: str = ""
    disposition: int = 0  # FFmpeg's flags

    @property
    def label(self) -> str:
        """How a person finds the stream: kind, number, codec, language."""
        language = "" if self.language == "und" else self.language
        said = ", ".join(part for part in (self.codec, language, self.title) if part)
        return f"{self.kind} #{self.index}" + (f" ({said})" if said else "")


@dataclass(frozen=True, slots=True)
class TimeMap:
    """Source time → output time: ``(time − origin) × stretch``, seconds."""

    origin: Fraction
    stretch: Fraction = Fraction(1)
    begin: Fraction | None = None  # source time; nothing before it is wanted
    end: Fraction | None = None  # source time; nothing from it on is wanted

    def output(self, time: Fraction) -> Fraction:
        """Where a source time lies in the output."""
        return (time - self.origin) * self.stretch


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What the output will hold beside the picture."""

    muxer: str  # FFmpeg's name of the output format
    picture: int = 0  # the main picture's index in the input
    items: tuple[StreamItem, ...] = ()  # in the input's order, without the picture
    chapters: int = 0  # chapters that the output will have
    time_map: TimeMap = TimeMap(Fraction(0))
    display_matrix: tuple[int, ...] | None = None  # nine values; None: upright
    video_tags: Mapping[str, str] = field(default_factory=dict)
    video_disposition: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)  # of the file
    timecode: str | None = None  # of the source's first picture, at the source's rate
    notes: tuple[str, ...] = ()  # what is lost that is no stream: chapters, tags, rotation

    @property
    def kept(self) -> tuple[StreamItem, ...]:
        """Streams copied packet for packet."""
        return tuple(item for item in self.items if item.action == "copy")

    @property
    def converted(self) -> tuple[StreamItem, ...]:
        """Streams that the container only holds in another form."""
        return tuple(item for item in self.items if item.action == "convert")

    @property
    def dropped(self) -> tuple[StreamItem, ...]:
        """Streams that will be missing, each with its reason."""
        return tuple(item for item in self.items if item.action == "drop")

    @property
    def container(self) -> Container:
        return containers.CONTAINERS[self.muxer]

    def lines(self) -> list[str]:
        """What a person should know before the work begins: conversions and losses, one a line."""
        said = [f"{i.label} becomes {i.target}: {i.reason}" for i in self.converted]
        said += [f"{i.label} is left out: {i.reason}" for i in self.dropped]
        return [*said, *self.notes]

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data; equal plans give equal data."""
        times = self.time_map
        return {
            "muxer": self.muxer,
            "picture": self.picture,
            "streams": [
                {
                    "index": item.index,
                    "kind": item.kind,
                    "codec": item.codec,
                    "action": item.action,
                    "target": item.target,
                    "reason": item.reason,
                    "language": item.language,
                    "title": item.title,
                    "disposition": item.disposition,
                }
                for item in self.items
            ],
            "chapters": self.chapters,
            "origin": str(times.origin),
            "stretch": str(times.stretch),
            "begin": None if times.begin is None else str(times.begin),
            "end": None if times.end is None else str(times.end),
            "display_matrix": None if self.display_matrix is None else list(self.display_matrix),
            "video_tags": dict(self.video_tags),
            "video_disposition": self.video_disposition,
            "tags": dict(self.tags),
            "timecode": self.timecode,
            "notes": list(self.notes),
        }


def plan_streams(
    info: Source,
    suffix: str,
    *,
    audio: AudioMode = "copy",
    stretch: Fraction | int = 1,
    begin: Fraction | None = None,
    end: Fraction | None = None,
    opened: InputContainer | None = None,
) -> StreamPlan:
    """Decide what becomes of every stream of ``info.path`` but the picture.

    ``suffix`` is the output's (``.mkv``); ``audio`` says what happens to sound when time is
    stretched by ``stretch`` (2: half as fast). ``begin`` and ``end`` are source times in seconds
    that cut a part out. ``opened`` is the input where it cannot be opened
    again (a pipe). Raises InputError where the input cannot be opened, UsageError for a
    suffix without a container.
    """
    container = containers.container_for(suffix)
    stretch = Fraction(stretch)
    if stretch != 1 and audio == "copy":
        audio = "drop"
    with nullcontext(opened) if opened is not None else open_input(info.path) as source:
        if info.stream_index >= len(source.streams):
            raise InputError(f"{info.path}: its picture stream {info.stream_index} has gone")
        picture = source.streams[info.stream_index]
        items = tuple(
            _decide(
                stream,
                container,
                audio=audio,
                stretch=stretch,
                cut=begin is not None or end is not None,
            )
            for stream in source.streams
            if stream.index != info.stream_index and not said_elsewhere(stream)
        )
        return _complete(
            source,
            picture,
            items,
            picture_start=getattr(info, "start", None),
            uncarried=getattr(info, "uncarried", ()),
            matrix=info.display_matrix,
            container=container,
            stretch=stretch,
            span=(begin, end),
        )


def _complete(
    source: InputContainer,
    picture: Stream,
    items: tuple[StreamItem, ...],
    *,
    picture_start: Fraction | None,
    uncarried: Iterable[str],
    matrix: tuple[int, ...] | None,
    container: Container,
    stretch: Fraction,
    span: tuple[Fraction | None, Fraction | None],
) -> StreamPlan:
    """The plan around the decisions on streams: chapters, tags, time, what is lost of them."""
    begin, end = span
    origin = begin if begin is not None else _origin(source, picture, picture_start)
    times = TimeMap(origin, stretch, begin, end)
    chapters = source.chapters()
    notes = [f"{what}: left out, no encoder takes it from here" for what in uncarried]
    if chapters and not container.chapters:
        notes.append(f"{len(chapters)} chapters are left out: {container.said} holds none")
    tags = {
        key: value
        for key, value in source.metadata.items()
        if key.lower() not in FILE_TAGS and not value.startswith("Lavf")
    }
    timecode = _timecode(source, picture, tags)
    if timecode is not None and (not container.timecode or stretch != 1):
        why = "time is stretched" if stretch != 1 else f"{container.said} holds none"
        notes.append(f"the timecode {timecode} is left out: {why}")
        timecode = None
    if container.tags is not None and (lost := sorted(set(tags) - set(container.tags))):
        notes.append(f"tags are left out that {container.said} cannot hold: {', '.join(lost)}")
        tags = {k: v for k, v in tags.items() if k not in lost}
    if matrix is not None and not container.rotation:
        notes.append(f"the rotation is left out: {container.said} cannot tell players to turn")
        matrix = None
    notes += _stream_notes(items, container)
    return StreamPlan(
        muxer=container.name,
        picture=picture.index,
        items=items,
        chapters=len(map_chapters(chapters, times)) if container.chapters else 0,
        time_map=times,
        display_matrix=matrix,
        video_tags=stream_tags(picture, container.name, same=False),
        video_disposition=int(picture.disposition),
        tags=tags,
        timecode=timecode,
        notes=tuple(notes),
    )


def _timecode(source: InputContainer, picture: Stream, tags: dict[str, str]) -> str | None:
    """The first picture's timecode; taken out of the file's tags, where some cameras put it."""
    found = [tags.pop(key) for key in list(tags) if key.lower() == "timecode"]
    for stream in (picture, *source.streams):
        found += [v for k, v in stream.metadata.items() if k.lower() == "timecode"]
    return found[0] if found else None


def _stream_notes(items: Iterable[StreamItem], container: Container) -> list[str]:
    """What streams that are kept lose of their descriptions."""
    notes = []
    for item in items:
        if item.action == "drop" or item.kind not in ("audio", "subtitle"):
            continue
        # "default" is lost silently: without it players take the first stream, as they should.
        flags = Disposition(item.disposition) & ~container.dispositions & ~Disposition.default
        lost = [flag.name or "" for flag in Disposition if flag & flags]
        if item.title and not container.titles:
            lost.append("title")
        if item.language not in ("", "und") and not container.holds_language(item.language):
            lost.append("language")
        if lost:
            notes.append(f"{item.label} loses {', '.join(lost)}: {container.said} holds none")
    return notes


def stream_tags(stream: Stream, muxer: str, *, same: bool) -> dict[str, str]:
    """A stream's tags that stay true; ``same``: its packets are copied unchanged."""
    tags = {}
    for key, value in stream.metadata.items():
        name = key.lower()
        if key.upper().startswith(_STATISTICS) or name in ("vendor_id", "timecode"):
            continue
        if name == "encoder" and not same:
            continue
        if name == "handler_name" and (value in _USUAL_HANDLERS or muxer not in ("mp4", "mov")):
            continue
        tags[key] = value
    if "language" in tags:
        tags["language"] = language_of(stream)
    # MP4 calls a track's title its name.
    if "name" in tags:
        tags.setdefault("title", tags.pop("name"))
    return tags


def map_chapters(chapters: Iterable[Mapping[str, Any]], times: TimeMap) -> list[dict[str, Any]]:
    """Chapters moved and stretched onto the output's time, in microseconds.

    Those outside the wanted part fall away, those across its ends are cut.
    """
    result = []
    for number, chapter in enumerate(chapters, 1):
        start = chapter["start"] * chapter["time_base"]
        stop = chapter["end"] * chapter["time_base"]
        if times.begin is not None and stop <= times.begin and stop > start:
            continue
        if times.end is not None and start >= times.end:
            continue
        if times.begin is not None:
            start = max(start, times.begin)
        if times.end is not None:
            stop = min(stop, times.end)
        first = max(0, round(times.output(start) * 1_000_000))
        last = max(first, round(times.output(stop) * 1_000_000))
        result.append(
            {
                "id": number,
                "start": first,
                "end": last,
                "time_base": Fraction(1, 1_000_000),
                "metadata": dict(chapter.get("metadata", {})),
            }
        )
    return result


def _decide(
    stream: Stream, container: Container, *, audio: AudioMode, stretch: Fraction, cut: bool
) -> StreamItem:
    kind = kind_of(stream)
    codec = codec_name(stream)
    action, target, reason = fate_of(
        stream, kind, codec, container=container, audio=audio, stretch=stretch, cut=cut
    )
    return StreamItem(
        index=stream.index,
        kind=kind,
        codec=codec,
        action=action,
        target=target,
        reason=reason,
        language=language_of(stream),
        title=title_of(stream, kind),
        disposition=int(stream.disposition),
    )


def _origin(source: InputContainer, picture: Stream, picture_start: Fraction | None) -> Fraction:
    """Source time that becomes zero: where the first of picture and sound begins.

    A file whose first stream starts at zero keeps its clock; transport streams, which start
    anywhere, lose the part that all streams have in common. Sound before zero is an encoder's
    run-in: it moves nothing.
    """
    starts = [
        s.start_time * s.time_base
        for s in source.streams
        if kind_of(s) == "audio" and s.start_time is not None and s.time_base
    ]
    if picture_start is None:
        picture_start = (picture.start_time or 0) * (picture.time_base or Fraction(0))
    return max(min([picture_start, *starts]), min(picture_start, Fraction(0)))
