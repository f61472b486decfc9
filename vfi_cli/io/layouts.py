"""Which pixel format an encoder gets: the source's, or the nearest that loses least."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import av
from av.codec import Codec

from vfi_cli.errors import OutputError, UsageError
from vfi_cli.frame import ColorSpec, PlaneLayout
from vfi_cli.io.families import Family
from vfi_cli.io.formats import PixelFormat, pixel_format
from vfi_cli.io.source import SourceInfo

_Y4M_CHROMA = {(1, 1), (1, 0), (0, 0), (2, 0)}
#: Muxers with a place for VP9's alpha, which is a second picture beside each packet.
_BESIDE = frozenset({"matroska", "webm"})


def formats_of(codec: Codec) -> list[PixelFormat]:
    """The pixel formats that an encoder takes and that can be written here."""
    listed = [fmt.name for fmt in codec.video_formats or ()]
    if codec.name == "rawvideo":
        listed = _raw_formats()
    found = [pixel_format(name) for name in listed]
    return [f for f in found if f is not None and not f.full_range and f.element[0] != ">"]


@lru_cache(maxsize=1)
def _raw_formats() -> list[str]:
    names = [
        f"yuv{alpha}{chroma}p{depth}"
        for alpha in ("", "a")
        for chroma in ("420", "422", "444")
        for depth in ("", "9le", "10le", "12le", "16le")
    ]
    names += [f"yuv{chroma}p14le" for chroma in ("420", "422", "444")]
    names += ["yuv410p", "yuv411p", "yuv440p", "yuv440p10le", "yuv440p12le"]
    names += [
        f"gbr{alpha}p{d}" for alpha in ("", "a") for d in ("", "10le", "12le", "14le", "16le")
    ]
    names += ["gbrp9le", "gray", "gray9le", "gray10le", "gray12le", "gray14le", "gray16le"]
    names += ["ya8", "ya16le"]
    return [name for name in names if pixel_format(name) is not None and _exists(name)]


def _exists(name: str) -> bool:
    try:
        av.VideoFormat(name)
    except ValueError:
        return False
    return True


def _fits_size(form: PixelFormat, info: SourceInfo, even: bool) -> bool:
    if not even:
        return True
    layout = form.layout
    return (
        info.width % (1 << layout.log2_chroma_w) == 0
        and info.height % (1 << layout.log2_chroma_h) == 0
    )


def needs_even(codec: Codec, family: Family | None) -> bool:
    """Whether the codec counts subsampled sizes in whole chroma samples."""
    return family.even if family else codec.canonical_name in ("h264", "hevc")


def choose_format(
    asked: str, codec: Codec, family: Family | None, info: SourceInfo, muxer: str
) -> PixelFormat:
    """The format that was asked for, or the one that loses least of the source.

    Raises UsageError where the encoder does not take what was asked for.
    """
    formats = formats_of(codec)
    if not formats:
        raise UsageError(f"{codec.name} takes no pixel format that can be written here")
    even = needs_even(codec, family)
    if muxer == "yuv4mpegpipe":
        formats = [f for f in formats if _fits_y4m(f.layout)]
    if codec.name == "libvpx-vp9" and muxer not in _BESIDE:
        formats = [f for f in formats if not f.layout.alpha]
    if asked != "auto":
        for form in formats:
            if form.name == asked:
                if not _fits_size(form, info, even):
                    raise UsageError(
                        f"{codec.canonical_name} cannot hold {info.width}×{info.height} as "
                        f"{asked}: the size is odd; leave --pix-fmt out"
                    )
                return form
        names = " ".join(f.name for f in formats)
        raise UsageError(
            f"{codec.name} does not take pixel format {asked!r} in {muxer}; it takes {names}"
        )
    usable = [form for form in formats if _fits_size(form, info, even)]
    if family is not None and family.alpha is not None:
        usable = [f for f in usable if not f.layout.alpha or f.name in family.alpha]
    keep_kind = (family is not None and family.lossless) or info.codec == codec.canonical_name
    source = info.layout
    if not keep_kind and any(form.layout.kind == "yuv" for form in usable):
        # Few players show monochrome or RGB streams of these codecs.
        usable = [form for form in usable if form.layout.kind == "yuv"]
    if not usable:
        raise OutputError(f"{codec.name} cannot hold a picture of {info.width}×{info.height}")
    return min(usable, key=lambda form: _loss(source, form.layout))


def _fits_y4m(layout: PlaneLayout) -> bool:
    if layout.kind == "gray":
        return not layout.alpha and layout.bits in (8, 9, 10, 12, 16)
    chroma = (layout.log2_chroma_w, layout.log2_chroma_h)
    if layout.kind != "yuv" or layout.alpha or chroma not in _Y4M_CHROMA:
        return False
    return layout.bits == 8 or (chroma != (2, 0) and layout.bits in (9, 10, 12, 14, 16))


def _loss(source: PlaneLayout, target: PlaneLayout) -> tuple[float, ...]:
    """What is lost, most important first; then what is spent without need."""
    kinds = {"gray": 0, "yuv": 1, "rgb": 2}
    color = source.kind != "gray" and target.kind == "gray"
    alpha = source.alpha and not target.alpha
    depth = max(0, source.bits - target.bits)
    if source.kind == "gray":
        chroma = 0
    else:
        chroma = max(0, target.log2_chroma_w - source.log2_chroma_w)
        chroma += max(0, target.log2_chroma_h - source.log2_chroma_h)
    kind = 0 if source.kind in ("gray", target.kind) else 1
    waste = 4 * (target.bits - source.bits) + 3 * abs(kinds[source.kind] - kinds[target.kind])
    if source.kind == "gray":
        waste += 6 - target.log2_chroma_w - target.log2_chroma_h if target.kind != "gray" else 0
        waste += 2 * (target.log2_chroma_w + target.log2_chroma_h > 2)
    else:
        waste += source.log2_chroma_w - target.log2_chroma_w
        waste += source.log2_chroma_h - target.log2_chroma_h
    waste += 5 * (target.alpha and not source.alpha)
    return (color, depth, alpha, chroma, kind, waste)


def effective(matrix: int, height: int) -> int:
    """The matrix that players use: the one stated, else by the height."""
    return matrix if matrix != 2 else 6 if height < 720 else 1


def output_color(info: SourceInfo, layout: PlaneLayout) -> ColorSpec:
    """What the output states of its colour: the source's, but for a change between RGB and YUV."""
    color = info.color
    if (info.layout.kind == "rgb") == (layout.kind == "rgb"):
        if layout.kind != "rgb" and color.matrix == 0:
            # Grey images say RGB of themselves; players would take 4:2:0 with grey in it for that.
            return replace(color, matrix=2)
        return color
    if layout.kind == "rgb":
        return replace(color, matrix=0, full_range=True)
    guess = 9 if color.primaries == 9 else effective(2, info.height)
    return replace(color, matrix=guess, full_range=False)


def note_pipe(notes: list[str], info: SourceInfo, form: PixelFormat, muxer: str) -> None:
    """What a reader of raw pictures in NUT or YUV4MPEG2 has to be told otherwise."""
    lost = []
    if info.color.matrix not in (0, 2) and form.layout.kind == "yuv":
        lost.append("the colour matrix")
    if muxer == "nut":  # the other's header states them
        if info.color.full_range and form.layout.kind == "yuv":
            lost.append("the full range")
        if info.sample_aspect_ratio != 1:
            lost.append(f"the sample aspect ratio {info.sample_aspect_ratio}")
    if lost:
        pipe = "NUT" if muxer == "nut" else "YUV4MPEG2"
        notes.append(
            f"a pipe of {pipe} does not carry {', '.join(lost)}: tell the program that reads"
        )


def note_changes(
    notes: list[str],
    info: SourceInfo,
    form: PixelFormat,
    *,
    name: str,
    color: ColorSpec,
    even: bool,
    better: str = "",
) -> None:
    """Add to ``notes`` what a person should know of the difference to the source.

    ``better`` is a codec that would keep the source's transparency.
    """
    source, target = info.layout, form.layout
    if getattr(info, "interlaced", False):  # a sequence of images has no fields
        notes.append(
            "interlaced: the two fields are treated as one picture, and the output says that it "
            "is progressive; deinterlace first (ffmpeg -vf bwdif) for clean motion"
        )
    if source.alpha and not target.alpha:
        instead = f"; --codec {better} keeps it" if better else ""
        notes.append(f"transparency is dropped: {name} in {form.name} has none{instead}")
    if target.bits < source.bits:
        notes.append(f"{source.bits}-bit becomes {target.bits}-bit: {name} holds no more")
    elif target.bits > source.bits:
        notes.append(f"{source.bits}-bit is kept as {target.bits}-bit {form.name}")
    if source.kind == "rgb" and target.kind == "yuv":
        matrix = {1: "BT.709", 6: "BT.601", 9: "BT.2020"}.get(color.matrix, "YCbCr")
        where = "; --pix-fmt yuv420p plays everywhere" if form.name == "yuv444p" else ""
        notes.append(f"RGB becomes {form.name} ({matrix}){where}")
    elif source.kind == "yuv" and target.kind == "yuv":
        before = (source.log2_chroma_w, source.log2_chroma_h)
        after = (target.log2_chroma_w, target.log2_chroma_h)
        if before != after:
            less = sum(after) > sum(before)
            odd = even and not less and (info.width % 2 or info.height % 2)
            why = (
                f"{name} has no {info.width}×{info.height} in {info.pix_fmt}, and the size is kept"
                if odd
                else f"{name} does not hold {info.pix_fmt}"
            )
            notes.append(f"chroma is {'reduced to' if less else 'kept as'} {form.name}: {why}")
    elif source.kind == "gray" and target.kind != "gray":
        notes.append(f"grey is stored as {form.name} without colour")
    if name == "dnxhd" and target.kind == "yuv" and color.matrix not in (1, 9):
        stated = effective(color.matrix, info.height)
        if stated != 1:
            notes.append("dnxhd states BT.709, and the source's matrix is another: colours shift")
