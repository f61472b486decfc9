"""Still images: what is read is what the file holds, and what is written can be read by others."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest

from vfi_cli.errors import InputError
from vfi_cli.frame import PlaneLayout
from vfi_cli.io.formats import pack
from vfi_cli.io.images import image_frame, probe_image, read_image, write_image

LAYOUTS = [
    PlaneLayout(kind, bits, alpha=alpha)
    for kind in ("gray", "rgb")
    for bits in (8, 16)
    for alpha in (False, True)
]


def name_of(layout: PlaneLayout) -> str:
    return f"{layout.kind}{layout.bits}{'a' if layout.alpha else ''}"


def noise(layout: PlaneLayout, width: int = 13, height: int = 7) -> np.ndarray:
    """(components, H, W): smooth in x with noise, so that every PNG filter has work."""
    rng = np.random.default_rng(layout.components * 100 + layout.bits)
    ramp = np.linspace(0, layout.peak * 0.8, width)[None, None, :]
    grain = rng.uniform(0, layout.peak * 0.2, (layout.components, height, width))
    return (ramp + grain).astype(layout.dtype)


def png_bytes(planes: np.ndarray, chunks: tuple[tuple[bytes, bytes], ...] = ()) -> bytes:
    """A PNG written here, independently of the code under test: no filter, big-endian."""
    count, height, width = planes.shape
    depth = 8 * planes.itemsize
    rows = planes.transpose(1, 2, 0).astype(planes.dtype.newbyteorder(">"))
    raw = b"".join(b"\0" + rows[y].tobytes() for y in range(height))
    color = {1: 0, 2: 4, 3: 2, 4: 6}[count]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    middle = b"".join(chunk(kind, data) for kind, data in chunks)
    ends = chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + ends


def tiff_by_ffmpeg(planes: np.ndarray, layout: PlaneLayout, algorithm: str) -> bytes:
    name = {"gray": "gray", "grayA": "ya", "rgb": "rgb", "rgbA": "rgba"}[
        layout.kind + ("A" if layout.alpha else "")
    ]
    depth = {
        "gray": ("gray", "gray16le"),
        "ya": ("ya8", "ya16le"),
        "rgb": ("rgb24", "rgb48le"),
        "rgba": ("rgba", "rgba64le"),
    }[name][layout.bits == 16]
    context = av.CodecContext.create("tiff", "w")
    context.width, context.height, context.pix_fmt = planes.shape[2], planes.shape[1], depth
    context.time_base = Fraction(1)
    context.options = {"compression_algo": algorithm}
    frame = pack(tuple(planes), depth, planes.shape[2], planes.shape[1])
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def copy_of(path: Path, target: Path) -> Path:
    """Read an image and write its frame like itself."""
    image = read_image(path)
    write_image(target, image.frame, image.info, image.likeness)
    return target


@pytest.mark.parametrize("layout", LAYOUTS, ids=name_of)
def test_png_is_read_and_written_exactly(layout: PlaneLayout, tmp_path: Path) -> None:
    planes = noise(layout)
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(planes))
    info = probe_image(path)
    assert (info.width, info.height, info.layout, info.format) == (13, 7, layout, "png")
    assert np.array_equal(read_image(path).frame.planes, planes)

    again = copy_of(path, tmp_path / "b.png")
    assert np.array_equal(read_image(again).frame.planes, planes)
    assert probe_image(again).shape == info.shape
    with PIL.Image.open(again) as image:  # an independent reader accepts it
        image.load()
        if layout.bits == 8:
            assert np.array_equal(np.asarray(image).reshape(7, 13, -1), planes.transpose(1, 2, 0))


@pytest.mark.parametrize("layout", LAYOUTS, ids=name_of)
@pytest.mark.parametrize("algorithm", ["raw", "lzw", "deflate"])
def test_tiff_is_read_exactly(layout: PlaneLayout, algorithm: str, tmp_path: Path) -> None:
    planes = noise(layout)
    path = tmp_path / "a.tif"
    path.write_bytes(tiff_by_ffmpeg(planes, layout, algorithm))
    info = probe_image(path)
    assert (info.layout, info.format) == (layout, "tiff")
    assert np.array_equal(read_image(path).frame.planes, planes)


@pytest.mark.parametrize("layout", LAYOUTS, ids=name_of)
def test_tiff_is_written_as_others_read_it(layout: PlaneLayout, tmp_path: Path) -> None:
    planes = noise(layout)
    source = tmp_path / "a.tiff"
    source.write_bytes(tiff_by_ffmpeg(planes, layout, "raw"))
    path = copy_of(source, tmp_path / "b.tiff")
    context = av.CodecContext.create("tiff", "r")
    (frame,) = [*context.decode(av.Packet(path.read_bytes())), *context.decode(None)]
    assert (frame.width, frame.height) == (13, 7)
    assert np.array_equal(read_image(path).frame.planes, planes)
    if layout.bits == 8 or (layout.kind == "gray" and not layout.alpha):
        with PIL.Image.open(path) as image:
            pixels = np.asarray(image).reshape(7, 13, -1)
        assert np.array_equal(pixels, planes.transpose(1, 2, 0))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossless_webp_stays_lossless(mode: str, tmp_path: Path) -> None:
    pixels = noise(PlaneLayout("rgb", 8, alpha=mode == "RGBA")).transpose(1, 2, 0)
    path = tmp_path / "a.webp"
    PIL.Image.fromarray(pixels).save(path, lossless=True, exact=True)
    again = copy_of(path, tmp_path / "b.webp")
    assert np.array_equal(np.stack(read_image(again).frame.planes, -1), pixels)


def test_lossy_formats_stay_close_and_keep_their_quality(tmp_path: Path) -> None:
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([x * 4, y * 5, 255 - x * 4], -1).astype(np.uint8)
    for suffix, options in (
        (".jpg", {"quality": 71, "subsampling": 2}),
        (".webp", {"quality": 80}),
    ):
        path = tmp_path / f"a{suffix}"
        PIL.Image.fromarray(pixels).save(path, **options)
        again = copy_of(path, tmp_path / f"b{suffix}")
        first, second = (
            np.stack(read_image(p).frame.planes, -1).astype(int) for p in (path, again)
        )
        assert np.abs(first - second).mean() < 1.5
    with PIL.Image.open(tmp_path / "a.jpg") as a, PIL.Image.open(tmp_path / "b.jpg") as b:
        assert a.quantization == b.quantization


def test_grey_jpeg_stays_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.jpeg"
    PIL.Image.fromarray(noise(PlaneLayout("gray", 8))[0]).save(path)
    again = copy_of(path, tmp_path / "b.jpeg")
    with PIL.Image.open(again) as image:
        assert image.mode == "L"


def test_palettes_and_bits_become_what_they_show(tmp_path: Path) -> None:
    rgb = noise(PlaneLayout("rgb", 8)).transpose(1, 2, 0)
    palette = PIL.Image.fromarray(rgb).quantize(16)
    palette.save(tmp_path / "p.png")
    image = read_image(tmp_path / "p.png")
    assert image.info.layout == PlaneLayout("rgb", 8)
    assert np.array_equal(np.stack(image.frame.planes, -1), np.asarray(palette.convert("RGB")))

    palette.save(tmp_path / "t.png", transparency=0)
    seen = read_image(tmp_path / "t.png")
    assert seen.info.layout == PlaneLayout("rgb", 8, alpha=True)
    assert np.array_equal(seen.frame.planes[3] == 0, np.asarray(palette) == 0)

    bits = PIL.Image.fromarray(rgb[:, :, 0] > 99)
    bits.save(tmp_path / "1.png")
    assert np.array_equal(
        read_image(tmp_path / "1.png").frame.planes[0], np.where(rgb[:, :, 0] > 99, 255, 0)
    )


def test_profile_exif_and_resolution_are_taken_over(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x010F] = "camera"
    exif[274] = 6
    profile = b"not a real profile, but bytes that must arrive" * 3
    rgb = noise(PlaneLayout("rgb", 8)).transpose(1, 2, 0)
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        path = tmp_path / f"a{suffix}"
        extra = {} if suffix == ".tif" else {"exif": exif}
        PIL.Image.fromarray(rgb).save(path, icc_profile=profile, dpi=(300, 300), **extra)
        with PIL.Image.open(copy_of(path, tmp_path / f"b{suffix}")) as image:
            assert image.info["icc_profile"] == profile
            if suffix != ".webp":
                assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
            if extra:
                assert image.getexif()[0x010F] == "camera"
                assert probe_image(path).orientation == image.getexif()[274] == 6


def test_sixteen_bit_png_keeps_its_color_chunks(tmp_path: Path) -> None:
    chunks = ((b"cICP", bytes([9, 16, 0, 1])), (b"gAMA", struct.pack(">I", 45455)))
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(noise(LAYOUTS[-1]), chunks))
    data = copy_of(path, tmp_path / "b.png").read_bytes()
    for kind, content in chunks:
        assert data.count(kind + content) == 1


def test_frames_are_full_range_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_bytes(noise(PlaneLayout("rgb", 8))))
    frame = read_image(path, pts=7).frame
    assert frame.color.full_range
    assert frame.color.matrix == 0
    assert frame.time == 7


@pytest.mark.parametrize("layout", [LAYOUTS[4], LAYOUTS[6]], ids=name_of)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_every_truncation_is_an_error(layout: PlaneLayout, suffix: str, tmp_path: Path) -> None:
    planes = noise(layout, 40, 30)
    make = png_bytes(planes) if suffix == ".png" else tiff_by_ffmpeg(planes, layout, "raw")
    path = tmp_path / f"a{suffix}"
    for length in (0, 1, 7, 20, 60, len(make) // 2, len(make) - 5):
        path.write_bytes(make[:length])
        with pytest.raises(InputError, match=r"a\.(png|tif)"):
            read_image(path)


def test_what_is_not_an_image_of_its_kind_is_an_error(tmp_path: Path) -> None:
    rgb = PIL.Image.fromarray(noise(PlaneLayout("rgb", 8)).transpose(1, 2, 0))
    rgb.save(tmp_path / "a.png")
    (tmp_path / "liar.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    (tmp_path / "text.png").write_text("not a picture")
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    rgb.convert("L").convert("F").save(tmp_path / "float.tif")
    rgb.save(tmp_path / "many.tif", save_all=True, append_images=[rgb])
    rgb.save(tmp_path / "gone.png")
    (tmp_path / "gone.png").unlink()
    wanted = {
        "liar.jpg": "holds PNG under another ending",
        "text.png": "is not a PNG image",
        "cmyk.jpg": "CMYK",
        "float.tif": r"colours \(F\) are not supported",
        "many.tif": "several pictures",
        "gone.png": "no such file",
    }
    for name, message in wanted.items():
        with pytest.raises(InputError, match=message):
            probe_image(tmp_path / name)


def test_damaged_pixels_are_an_error(tmp_path: Path) -> None:
    data = bytearray(png_bytes(noise(PlaneLayout("rgb", 16))))
    data[data.index(b"IDAT") + 20] ^= 0xFF
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InputError, match="damaged chunk IDAT"):
        read_image(tmp_path / "a.png")


def test_frames_are_made_from_planes() -> None:
    layout = PlaneLayout("gray", 16)
    frame = image_frame(tuple(noise(layout)), layout, pts=3)
    assert (frame.width, frame.height, frame.pts) == (13, 7, 3)
