"""What becomes of one stream in a container: copied, converted or left out, and why."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, cast

import av
from av.audio.layout import AudioLayout
from av.audio.stream import AudioStream
from av.stream import Discard, Disposition, Stream

from vfi_cli.io import containers
from vfi_cli.io.audio import encoding_for
from vfi_cli.io.containers import Container
from vfi_cli.io.mux import accepts

Kind = Literal["audio", "subtitle", "data", "attachment", "cover", "video"]
Action = Literal["copy", "convert", "drop"]
AudioMode = Literal["copy", "drop", "stretch"]


def fate_of(
    stream: Stream,
    kind: Kind,
    codec: str,
    *,
    container: Container,
    audio: AudioMode,
    stretch: Fraction,
    cut: bool,
) -> tuple[Action, str, str]:
    """(action, codec or encoder in the output, reason) for one stream."""
    cannot = f"{container.said} cannot hold it"
    if kind == "video":
        # Other pictures of the same file stay as they are, where they can be copied whole.
        if stretch != 1 or cut:
            why = "stretched in time" if stretch != 1 else "cut"
            return "drop", "", f"only the main picture can be {why}"
        held = _holds(container, stream, codec)
        return ("copy", codec, "") if held else ("drop", "", cannot)
    if kind == "attachment":
        return ("copy", codec, "") if container.attachments else ("drop", "", cannot)
    if kind == "cover":
        # Matroska attaches any picture file; the others know a few kinds.
        fits = container.attachments or codec in ("mjpeg", "png", "bmp")
        return ("copy", codec, "") if container.cover and fits else ("drop", "", cannot)
    if not codec and kind != "data":
        return "drop", "", "its codec is not known"
    if kind == "audio":
        return _audio_fate(stream, codec, container, audio, stretch)
    if kind == "subtitle":
        return _subtitle_fate(stream, codec, container)
    if stretch != 1:
        return "drop", "", "data that is tied to the source's clock cannot be stretched"
    if not codec or not _holds(container, stream, codec):
        return "drop", "", cannot
    return "copy", codec, ""


def _audio_fate(
    stream: Stream, codec: str, container: Container, audio: AudioMode, stretch: Fraction
) -> tuple[Action, str, str]:
    if audio == "drop":
        why = "the picture is stretched in time" if stretch != 1 else "asked for"
        return "drop", "", why
    held = _holds(container, stream, codec)
    if audio == "stretch" and stretch != 1:
        reason = f"stretched {float(stretch):g} times at the same pitch"
    elif held:
        return "copy", codec, ""
    else:
        reason = f"{container.said} cannot hold {codec}"
    encoder = _audio_encoder(stream, codec, container, held)
    sound = cast(AudioStream, stream)
    shape = encoding_for(sound, encoder)
    if shape is None:
        return "drop", "", f"{reason}, and {encoder} cannot code it"
    channels = sound.codec_context.layout.nb_channels
    if AudioLayout(shape.layout).nb_channels != channels:
        reason += f"; {channels} channels are mixed to {shape.layout}"
    return "convert", encoder, reason


def _audio_encoder(stream: Stream, codec: str, container: Container, held: bool) -> str:
    """The encoder for sound that cannot be copied: the source's own where there is a good one."""
    if container.name == "avi" and codec not in ("mp3", "mp2", "ac3", "aac"):
        held = False
    own = {"opus": "libopus", "vorbis": "libvorbis", "mp3": "libmp3lame"}.get(codec, codec)
    if held and own in av.codecs_available and _is_encoder(own):
        return own
    lossless = codec.startswith("pcm_") or codec in containers.LOSSLESS_AUDIO
    encoder = containers.AUDIO_TARGET[container.name][0 if lossless else 1]
    if encoder == "pcm":
        sample = cast(AudioStream, stream).codec_context.format.name.rstrip("p")
        return {"u8": "pcm_u8", "s16": "pcm_s16le", "flt": "pcm_f32le"}.get(sample, "pcm_s24le")
    return encoder


def _holds(container: Container, stream: Stream, codec: str) -> bool:
    return containers.holds_codec(container.name, codec) and accepts(container.name, stream)


def _is_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except ValueError:
        return False
    # Encoders that FFmpeg itself calls experimental do not open by default.
    return name not in ("dts", "dca", "truehd", "mlp", "vorbis", "opus", "sonic", "s302m")


def _subtitle_fate(stream: Stream, codec: str, container: Container) -> tuple[Action, str, str]:
    if _holds(container, stream, codec):
        return "copy", codec, ""
    target = containers.SUBTITLE_TARGET.get(container.name)
    if target is None or codec not in containers.TEXT_SUBTITLES:
        return "drop", "", f"{container.said} cannot hold it"
    why = f"{container.said} cannot hold {codec}"
    if codec in ("ass", "ssa"):
        why += "; positions and fonts are lost"
    return "convert", target, why


def codec_name(stream: Stream) -> str:
    """FFmpeg's codec name of a stream (``aac``), "" where there is none."""
    if stream.codec_context is not None:
        codec = stream.codec_context.codec
        return _CANONICAL.get(codec.canonical_name, codec.canonical_name)
    return getattr(stream, "name", None) or "" if stream.type == "data" else ""


_CANONICAL = {"srt": "subrip"}


def kind_of(stream: Stream) -> Kind:
    if stream.type == "video":
        return "cover" if stream.disposition & Disposition.attached_pic else "video"
    if stream.type in ("audio", "subtitle", "attachment"):
        return stream.type
    return "data"


def said_elsewhere(stream: Stream) -> bool:
    """QuickTime's tracks of chapter titles and of timecode: chapters and a tag say the same.

    FFmpeg's demuxer itself marks the former as of no interest.
    """
    if stream.type != "data":
        return False
    return stream.discard == Discard.all or (
        stream.codec_context is None and not codec_name(stream) and "timecode" in stream.metadata
    )


def language_of(stream: Stream) -> str:
    """MP4 packs small letters only; other containers mean the same by them."""
    language = stream.metadata.get("language", "")
    return language.lower() if len(language) == 3 else language


def title_of(stream: Stream, kind: Kind) -> str:
    tags = stream.metadata
    title = tags.get("title") or tags.get("name") or ""
    if kind == "attachment":
        return title or tags.get("filename", "")
    return title or (tags.get("handler_name", "") if kind == "data" else "")
