"""Pixel formats: packing and unpacking move code values and compute nothing."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vfi_cli.frame import PlaneLayout
from vfi_cli.io.formats import neighbour, pack, pixel_format, unpack

NAMES = [
    *("yuv420p", "yuvj422p", "yuv444p16be", "yuva444p16le", "yuv444p10msble", "gbrp", "gbrap12le"),
    "gbrp10msble",
    *("gbrp16be", "gray", "gray10le", "gray16be", "ya8", "ya16le", "nv12"),
    *("nv21", "nv16", "nv24", "nv42", "nv20le", "p010le"),
    *("p012le", "p016be", "p210le", "p410le", "p416le", "rgb24", "bgr24"),
    *("rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr"),
    *("rgb48le", "rgb48be", "rgba64le", "bgra64be", "vuya", "vuyx", "ayuv"),
    *("uyva", "vyu444", "ayuv64le", "xv36le", "xv48le"),
    *("yuyv422", "uyvy422", "yvyu422", "y210le", "y212le", "y216le", "x2rgb10le"),
    *("x2bgr10le", "xv30le", "v30xle", "yuv410p"),
    *("yuv411p", "yuv440p", "yuv440p12le", "yuv420p9be"),
]

SUBSAMPLINGS = {(2, 2): 410, (2, 0): 411, (1, 1): 420, (1, 0): 422, (0, 1): 440, (0, 0): 444}


def planar_name(layout: PlaneLayout) -> str:
    """FFmpeg's name of the format in which a layout's planes lie as they are.

    Grey with alpha has no planar format and is named by its packed one.
    """
    depth = "" if layout.bits == 8 else f"{layout.bits}le"
    alpha = "a" if layout.alpha else ""
    if layout.kind == "gray":
        return f"gray{depth}" if not alpha else f"ya{layout.bits}{depth[2:]}"
    if layout.kind == "rgb":
        return f"gbr{alpha}p{depth}"
    chroma = SUBSAMPLINGS[layout.log2_chroma_w, layout.log2_chroma_h]
    return f"yuv{alpha}{chroma}p{depth}"


@pytest.mark.parametrize("size", [(8, 4), (7, 5), (1, 1)])
@pytest.mark.parametrize("name", NAMES)
def test_unpack_undoes_pack(name, size):
    width, height = size
    layout = pixel_format(name).layout
    random = np.random.default_rng(0)
    planes = tuple(
        random.integers(0, layout.peak + 1, layout.plane_shape(n, width, height)).astype(
            layout.dtype
        )
        for n in range(layout.components)
    )
    found, back = unpack(pack(planes, name, width, height))
    assert found == layout
    for ours, theirs in zip(planes, back, strict=True):
        assert np.array_equal(ours, theirs)
        assert theirs.flags.c_contiguous
        assert theirs.flags.owndata


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("yuvj")])
def test_places_of_components_are_swscales(name):
    """swscale, told to change nothing but the arrangement, finds the same samples."""
    layout = pixel_format(name).layout
    plain = planar_name(layout)
    if plain == name:
        pytest.skip("is the plain arrangement itself")
    random = np.random.default_rng(1)
    # Of 16 pixels swscale gets a row of packed 4:2:2's chroma wrong, now and then (y210, y216);
    # of 64 it does not, but then it computes with gbrp10msb.
    width, height = (64, 16) if name.startswith("y2") else (16, 8)
    planes = tuple(
        random.integers(0, layout.peak + 1, layout.plane_shape(n, width, height)).astype(
            layout.dtype
        )
        for n in range(layout.components)
    )
    try:
        other = pack(planes, name, width, height).reformat(format=plain, threads=1)
    except ValueError:
        pytest.skip("swscale does not convert it")
    assert all(map(np.array_equal, planes, unpack(other)[1]))


def test_bottom_up_pictures_are_turned_over(tmp_path):
    """AVI stores RGB upside down: the frame's lines run backwards in memory."""
    from tests.media import numbered_planes, write_clip
    from vfi_cli.io.decode import FrameReader, probe

    path = write_clip(tmp_path / "a.avi", frames=1, codec="rawvideo", pix_fmt="bgr24")
    info = probe(path)
    with FrameReader(info) as reader:
        frame = next(reader)
    expected = numbered_planes(info.layout, 64, 48, 0)
    assert all(map(np.array_equal, expected, frame.planes))


def test_formats_outside_the_table_have_a_neighbour():
    for name in ("pal8", "monow", "rgb565le", "gbrpf32le", "grayf32le", "bayer_rggb8", "xyz12le"):
        assert pixel_format(name) is None
        assert pixel_format(neighbour(name)) is not None
    assert neighbour("cuda") is None
    with pytest.raises(ValueError, match="nonsense"):
        pack((), "nonsense", 2, 2)


def test_what_swscale_converts_does_not_depend_on_the_number_of_cores():
    frame = av.VideoFrame(70, 46, "bayer_rggb8")
    random = np.random.default_rng(0)
    frame.planes[0].update(random.integers(0, 256, frame.planes[0].buffer_size, np.uint8).tobytes())
    wanted = unpack(frame.reformat(format="rgb24", threads=1))[1]
    assert all(map(np.array_equal, wanted, unpack(frame)[1]))
