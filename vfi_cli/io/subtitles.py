"""Text subtitles from one codec to another, where the output's container wants that."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

from av.packet import Packet
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

from vfi_cli.io.mux import OutputMux

_MILLISECOND = Fraction(1, 1000)


class SubtitleConverter:
    """Decodes text subtitles and encodes them anew; times stay the caller's business."""

    def __init__(self, template: SubtitleStream, encoder: str) -> None:
        self._template = template
        self._encoder = encoder
        self._context = template.codec_context
        self._context.open(strict=False)
        self._order = 0
        self.warnings: list[str] = []

    def add_to(self, mux: OutputMux, *, tags: dict[str, str], disposition: int) -> None:
        """Make the output stream, under the input stream's index."""
        stream = mux.add_encoded(
            self._template.index,
            self._encoder,
            tags=tags,
            disposition=disposition,
            time_base=_MILLISECOND,
            subtitle_header=self._context.subtitle_header,
        )
        stream.time_base = _MILLISECOND
        self._encode = cast(SubtitleCodecContext, stream.codec_context)

    def convert(self, packet: Packet) -> list[Packet]:
        """One input packet in output form, with the same times; nothing for an empty one.

        Raises av.error.FFmpegError where the packet cannot be decoded.
        """
        if packet.size == 0 or packet.pts is None:
            return []
        pts, duration, time_base = packet.pts, packet.duration or 0, packet.time_base
        decoded = self._context.decode2(packet)
        if decoded is None:
            return []
        # One packet for all that is shown together: MP4 has no two texts at one time.
        dialogues = [bytes(rect.ass) for rect in decoded if isinstance(rect, AssSubtitle)]
        texts = [text.split(b",", 8) for text in dialogues if text.count(b",") >= 8]
        if not texts:
            return []
        fields = texts[0]
        fields[8] = b"\\N".join(text[8].rstrip(b"\0") for text in texts)
        fields[0] = str(self._order).encode()
        self._order += 1
        shown = max(1, round(duration * time_base / _MILLISECOND))
        encoded = self._encode.encode_subtitle(
            SubtitleSet.create(b",".join(fields), 0, shown, pts=0)
        )
        encoded.time_base = time_base
        encoded.pts = encoded.dts = pts
        encoded.duration = duration
        return [encoded]

    def flush(self) -> list[Packet]:
        return []
