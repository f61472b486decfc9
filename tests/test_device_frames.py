"""Frames whose planes are torch tensors, as they are where a GPU decodes and encodes.

Tensors in memory stand for those on a device, and software frames in NVDEC's formats for its
surfaces; what needs a GPU is marked so.
"""

from __future__ import annotations

import contextlib
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.media import numbered_planes, read_number, write_clip
from vfi_cli import api
from vfi_cli.cli import doctor
from vfi_cli.cuts import signature
from vfi_cli.errors import OutputError
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io import decode, device, encode
from vfi_cli.io.decode import FrameReader, choose_hwaccel, probe
from vfi_cli.io.encode import EncoderOptions, VideoWriter, choose_encoder
from vfi_cli.io.feed import decode_packet
from vfi_cli.io.formats import pack, unpack
from vfi_cli.report.difficulty import shrink

EIGHT, TEN, TWELVE = (PlaneLayout("yuv", bits, 1, 1) for bits in (8, 10, 12))
RGB = PlaneLayout("rgb", 16)
SURFACES = [(EIGHT, "yuv420p", "nv12"), (TEN, "yuv420p10le", "p010le")]
FPS = Fraction(25)

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def noise(layout: PlaneLayout, width: int, height: int) -> tuple[Any, ...]:
    random = np.random.default_rng(width * height + layout.bits)
    shapes = (layout.plane_shape(n, width, height) for n in range(layout.components))
    return tuple(random.integers(0, layout.peak + 1, shape, layout.dtype) for shape in shapes)


def frame(layout: PlaneLayout, number: int = 3, size: tuple[int, int] = (64, 48)) -> Frame:
    planes = numbered_planes(layout, *size, number)
    return Frame(planes, *size, layout, ColorSpec(1), number, Fraction(1, 25))


def as_tensors(given: Frame) -> Frame:
    return given.with_planes(tuple(torch.from_numpy(plane) for plane in given.host_planes))


def assert_equal(planes: Any, wanted: Any) -> None:
    for plane, other in zip(planes, wanted, strict=True):
        found = plane if isinstance(plane, np.ndarray) else plane.cpu().numpy()
        assert found.dtype == other.dtype
        np.testing.assert_array_equal(found, other)


class Surface:
    """A decoded picture as NVDEC would hand it out: named "cuda", in an interleaved format."""

    format = SimpleNamespace(name="cuda")

    def __init__(self, picture: av.VideoFrame, name: str) -> None:
        self._picture = picture
        self._held = picture.reformat(format=name, threads=1)  # keeps what its planes lie in
        self.sw_format = SimpleNamespace(name=name)
        self.planes = self._held.planes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._picture, name)


def on_surfaces(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let decoders hand out surfaces of that format."""

    def surfaces(context: Any, packet: Any) -> list[Any]:
        return [Surface(picture, name) for picture in decode_packet(context, packet)]

    monkeypatch.setattr(decode, "decode_packet", surfaces)


# --- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [EIGHT, TEN, RGB])
def test_planes_may_be_tensors(layout: PlaneLayout) -> None:
    given = frame(layout)
    fetched = as_tensors(given).host_planes
    assert all(isinstance(plane, np.ndarray) for plane in fetched)
    assert_equal(fetched, given.planes)
    assert all(a is b for a, b in zip(given.host_planes, given.planes, strict=True))


def test_tensors_must_fit_the_layout() -> None:
    given = as_tensors(frame(TEN))
    with pytest.raises(ValueError, match="uint16"):
        given.with_planes(tuple(plane.int() for plane in given.planes))
    with pytest.raises(ValueError, match="plane 1"):
        given.with_planes((given.planes[0], given.planes[1][1:], given.planes[2]))


@pytest.mark.parametrize("layout", [EIGHT, TEN, RGB, PlaneLayout("gray", 8)])
@pytest.mark.parametrize("size", [(64, 48), (35, 21), (1000, 600)])
def test_signatures_are_those_of_arrays(layout: PlaneLayout, size: tuple[int, int]) -> None:
    planes = noise(layout, *size)
    given = Frame(planes, *size, layout, ColorSpec(1), 0, Fraction(1, 25))
    found, wanted = signature(as_tensors(given)), signature(given)
    for field in fields(wanted):
        assert np.array_equal(getattr(found, field.name), getattr(wanted, field.name)), field.name


def test_small_pictures_are_those_of_arrays() -> None:
    given = frame(TEN, size=(200, 120))
    assert_equal(shrink(as_tensors(given), 50).planes, shrink(given, 50).planes)


@pytest.mark.parametrize(
    ("codec", "suffix"), [("h264", ".mp4"), ("ffv1", ".mkv"), ("auto", ".y4m")]
)
@pytest.mark.parametrize("layout", [EIGHT, TEN])  # the encoder's own, and one to be converted
def test_encoders_take_tensors(
    tmp_path: Path, layout: PlaneLayout, codec: str, suffix: str
) -> None:
    info = probe(write_clip(tmp_path / "a.mp4", frames=2))
    config = choose_encoder(EncoderOptions(codec=codec), info, suffix)
    assert config.layout == EIGHT
    for name, change in (("tensors", as_tensors), ("arrays", lambda given: given)):
        with VideoWriter(tmp_path / name, config, fps=FPS, width=64, height=48) as writer:
            for number in range(5):
                writer.write(change(frame(layout, number)))
    assert (tmp_path / "tensors").read_bytes() == (tmp_path / "arrays").read_bytes()


# --- surfaces -------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "planar", "interleaved"), SURFACES)
def test_surfaces_are_what_swscale_makes_of_planes(
    layout: PlaneLayout, planar: str, interleaved: str
) -> None:
    planes = noise(layout, 70, 46)
    picture = pack(planes, planar, 70, 46).reformat(format=interleaved, threads=1)
    found = device.fetch(picture, layout.bits)
    assert all(plane.is_contiguous() for plane in found)
    assert_equal(found, planes)
    again = device.Surfaces(layout, 70, 46).picture(found, 0)
    assert again.format.name == interleaved
    assert_equal(unpack(again.reformat(format=planar, threads=1))[1], planes)


def test_twelve_bits_lie_at_the_top_of_sixteen() -> None:
    planes = noise(TWELVE, 64, 48)
    luma = torch.from_numpy(planes[0] << 4)
    chroma = torch.from_numpy(np.stack(planes[1:], axis=-1) << 4)
    assert_equal(device.split(luma, chroma, 12), planes)
    assert device.surface_format(TWELVE, 64, 48) == "p016le"


@pytest.mark.parametrize(("layout", "planar", "interleaved"), SURFACES)
@pytest.mark.parametrize("size", [(7, 5), (1, 1), (33, 18)])
def test_odd_sizes_split_and_merge(
    layout: PlaneLayout, planar: str, interleaved: str, size: tuple[int, int]
) -> None:
    width, height = size
    planes = noise(layout, width, height)
    packed = pack(planes, interleaved, width, height).planes
    rows = [np.frombuffer(memoryview(p), layout.dtype).reshape(p.height, -1) for p in packed]
    wide, high = -(-width // 2), -(-height // 2)
    luma = torch.from_numpy(rows[0][:, :width].copy())
    chroma = torch.from_numpy(rows[1][:, : 2 * wide].reshape(high, wide, 2).copy())
    found = device.split(luma, chroma, layout.bits)
    assert_equal(found, planes)
    blank = torch.zeros_like(luma), torch.zeros_like(chroma)
    device.merge(found, layout.bits, *blank)
    assert_equal(blank, (luma.numpy(), chroma.numpy()))


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (EIGHT, (63, 48)),
        (EIGHT, (64, 47)),
        (RGB, (64, 48)),
        (PlaneLayout("yuv", 8, 1, 1, alpha=True), (64, 48)),
        (PlaneLayout("yuv", 8, 1, 0), (64, 48)),
        (PlaneLayout("yuv", 9, 1, 1), (64, 48)),
    ],
)
def test_what_no_surface_holds(layout: PlaneLayout, size: tuple[int, int]) -> None:
    assert device.surface_format(layout, *size) is None
    with pytest.raises(ValueError, match="no surface"):
        device.Surfaces(layout, *size)


def test_fetched_planes_have_memory_of_their_own() -> None:
    picture = pack(noise(EIGHT, 64, 48), "nv12", 64, 48)
    planes = device.fetch(picture, 8)
    before = [plane.clone() for plane in planes]
    for plane in picture.planes:
        plane.update(bytes(plane.buffer_size))
    assert all(torch.equal(a, b) for a, b in zip(planes, before, strict=True))


@pytest.mark.parametrize("layout", [EIGHT, TEN])
def test_chroma_lies_below_luma_in_one_block(layout: PlaneLayout) -> None:
    planes = as_tensors(frame(layout, size=(70, 46))).planes
    luma, chroma = device.Surfaces(layout, 70, 46).picture(planes, 0).planes
    assert luma.line_size == chroma.line_size
    assert luma.line_size % 256 == 0
    assert chroma.buffer_ptr == luma.buffer_ptr + 46 * luma.line_size


def test_surfaces_are_used_again_once_they_are_released() -> None:
    surfaces = device.Surfaces(EIGHT, 64, 48)
    tensors = [as_tensors(frame(EIGHT, number)).planes for number in range(4)]
    first, second = (surfaces.picture(tensors[n], n) for n in (0, 1))
    assert_equal(unpack(first)[1], numbered_planes(EIGHT, 64, 48, 0))
    surfaces.release(None)
    surfaces.release(7)  # never handed out
    surfaces.release(1)
    third, fourth = (surfaces.picture(tensors[n], n) for n in (2, 3))
    assert third.planes[0].buffer_ptr == second.planes[0].buffer_ptr
    places = {p.planes[0].buffer_ptr for p in (first, third, fourth)}
    assert len(places) == 3
    assert_equal(unpack(first)[1], numbered_planes(EIGHT, 64, 48, 0))


def test_an_encoder_is_fed_from_surfaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x264 in the place of NVENC, and memory in that of the device."""
    monkeypatch.setattr(encode, "_TAKES_SURFACES", "libx264")
    monkeypatch.setattr(device, "accelerator", lambda name: None)
    monkeypatch.setattr(device, "context_of", lambda name: contextlib.nullcontext())
    monkeypatch.setattr(
        device, "on_device", lambda planes: all(isinstance(p, torch.Tensor) for p in planes)
    )
    info = probe(write_clip(tmp_path / "a.mp4", frames=2))
    config = choose_encoder(EncoderOptions(codec="h264"), info, ".mkv")
    size = {"fps": FPS, "width": 64, "height": 48}
    with VideoWriter(tmp_path / "wanted", config, **size) as writer:
        for number in range(60):
            writer.write(frame(EIGHT, number))
    with VideoWriter(tmp_path / "found", config, hwaccel="cuda:0", **size) as writer:
        for number in range(60):
            given = frame(EIGHT, number)  # some on the host, as after a decoder's fallback
            writer.write(given if number % 7 == 0 else as_tensors(given))
    assert writer.config.pix_fmt == "nv12"
    surfaces = writer._surfaces
    assert surfaces is not None
    assert not surfaces._taken  # all came back
    assert 0 < len(surfaces._free) < 52  # and were used again
    assert (tmp_path / "found").read_bytes() == (tmp_path / "wanted").read_bytes()


def test_other_encoders_and_layouts_keep_their_format(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "a.mp4", frames=2))
    config = choose_encoder(EncoderOptions(codec="h264"), info, ".mkv")
    with VideoWriter(
        tmp_path / "b", config, fps=FPS, width=64, height=48, hwaccel="cuda"
    ) as writer:
        writer.write(frame(EIGHT))
    assert writer.config is config


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_encoder_without_its_gpu_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "context_of", lambda name: contextlib.nullcontext())
    info = probe(write_clip(tmp_path / "a.mp4", frames=2))
    config = choose_encoder(EncoderOptions(codec="h264_nvenc"), info, ".mkv")
    with pytest.raises(OutputError, match="cuda:0 cannot be used to encode"):
        VideoWriter(tmp_path / "b", config, fps=FPS, width=64, height=48, hwaccel="cuda:0")


# --- decoding -------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "planar", "interleaved"), SURFACES)
@pytest.mark.parametrize("start", [None, 13])
def test_frames_from_surfaces_are_those_of_the_cpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: PlaneLayout,
    planar: str,
    interleaved: str,
    start: int | None,
) -> None:
    path = tmp_path / "a.mkv"
    info = probe(write_clip(path, frames=30, pix_fmt=planar, options={"g": "10", "bf": "3"}))
    pts = None if start is None else info.pts[start]
    with FrameReader(info, start_pts=pts) as reader:
        wanted = list(reader)
    on_surfaces(monkeypatch, interleaved)
    with FrameReader(info, start_pts=pts) as reader:
        found = list(reader)
    assert reader.broken is None
    assert [one.pts for one in found] == [one.pts for one in wanted]
    assert all(isinstance(plane, torch.Tensor) for one in found for plane in one.planes)
    for one, other in zip(found, wanted, strict=True):
        assert_equal(one.planes, other.planes)
        assert replace(one, planes=other.planes) == other
    first = read_number(found[0].host_planes[0], layout.bits)
    assert first == (start or 0)


def test_surfaces_of_another_depth_end_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(write_clip(tmp_path / "a.mkv", frames=3))
    on_surfaces(monkeypatch, "p010le")
    with FrameReader(info) as reader:
        assert list(reader) == []
    assert reader.broken is not None
    assert reader.broken.reason == "the pixel format changes from yuv420p to p010le"


# --- choosing -------------------------------------------------------------------------------


@pytest.fixture
def info(tmp_path: Path) -> Any:
    return probe(write_clip(tmp_path / "a.mkv", frames=3))


def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let feeds claim a hardware decoder; returns the devices that they are asked for."""
    asked: list[str] = []
    real = decode.PacketFeed

    class Feed(real):  # type: ignore[valid-type, misc]
        def __init__(self, *arguments: Any, hwaccel: str = "none", **options: Any) -> None:
            super().__init__(*arguments, **options)
            asked.append(hwaccel)
            decoder = self.context
            self.context = SimpleNamespace(is_hwaccel=True, decode=decoder.decode)

    monkeypatch.setattr(decode, "PacketFeed", Feed)
    return asked


def test_nvdec_is_chosen_where_its_first_picture_fits(
    info: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_surfaces(monkeypatch, "nv12")
    asked = pretend_gpu(monkeypatch)
    assert choose_hwaccel("cuda", info, "cpu") == ("cuda", None)
    assert choose_hwaccel("cuda", info, "cuda:1") == ("cuda:1", None)
    assert choose_hwaccel("auto", info, "cuda:1") == ("cuda:1", None)
    assert asked == ["cuda", "cuda:1", "cuda:1"]
    assert choose_hwaccel("auto", info, "cpu") == ("none", None)
    assert choose_hwaccel("none", info, "cuda:1") == ("none", None)
    assert len(asked) == 3  # nothing was tried


@pytest.mark.parametrize(
    ("surface", "change", "reason"),
    [
        (None, {}, "this GPU does not decode h264 of 64×48 in yuv420p"),
        ("p010le", {}, "this GPU decodes h264 of 64×48 in yuv420p to another form"),
        ("nv12", {"width": 62}, "this GPU decodes h264 of 62×48 in yuv420p to another form"),
        ("nv12", {"codec": "mpeg4"}, "a GPU's pictures of mpeg4 are not exactly those of the CPU"),
        ("nv12", {"height": 47}, "h264 of 64×47 in yuv420p cannot be handed on within the GPU"),
    ],
)
def test_why_the_cpu_decodes(
    info: Any, monkeypatch: pytest.MonkeyPatch, surface: Any, change: Any, reason: str
) -> None:
    pretend_gpu(monkeypatch)
    if surface is not None:
        on_surfaces(monkeypatch, surface)
    info = replace(info, **change)
    told = f"--hwaccel cuda: {reason}; the CPU decodes"
    assert choose_hwaccel("cuda", info, "cuda:0") == ("none", told)
    assert choose_hwaccel("auto", info, "cuda:0") == ("none", None)


def test_a_conversion_of_surfaces_makes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: Any = {"factor": 2, "model": "blend", "dedupe": True}
    path = write_clip(tmp_path / "a.mkv", frames=12)
    wanted = api.convert(path, tmp_path / "arrays.mp4", **options)
    on_surfaces(monkeypatch, "nv12")
    asked = pretend_gpu(monkeypatch)
    found = api.convert(path, tmp_path / "tensors.mp4", hwaccel="cuda", **options)
    assert asked == ["cuda", "cuda"]  # tried, and then used
    assert found.plan.settings.hwaccel == "cuda"
    assert (found.counts, found.warnings) == (wanted.counts, ())
    assert found.counts.new > 0
    assert found.output.read_bytes() == wanted.output.read_bytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_the_output_is_the_same(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=6)
    made = {
        asked: api.convert(path, tmp_path / f"{asked}.mp4", factor=2, model="blend", hwaccel=asked)
        for asked in ("none", "auto", "cuda")
    }
    outputs = {result.output.read_bytes() for result in made.values()}
    assert len(outputs) == 1
    assert {result.plan.settings.hwaccel for result in made.values()} == {"none"}
    assert made["none"].warnings == made["auto"].warnings == ()
    (warning,) = made["cuda"].warnings
    assert "no NVIDIA GPU" in warning
    with FrameReader(probe(path), hwaccel="cuda:0") as reader:
        assert sum(1 for _ in reader) == 6


def test_doctor_says_who_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {}
    for starts in (True, False):
        monkeypatch.setattr(device, "nvdec_starts", lambda starts=starts: starts)
        (finding,) = doctor.decoders()
        assert finding.status == "ok"
        texts[starts] = finding.text
    assert "--hwaccel cuda by NVDEC: av1, h264, hevc, vp8, vp9" in texts[True]
    assert "without its hardware" in texts[False]


# --- on a GPU -------------------------------------------------------------------------------


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("libx264", "yuv420p", {"g": "10", "bf": "3"}),
        ("libx265", "yuv420p10le", {"g": "10", "x265-params": "log-level=0"}),
    ],
)
def test_nvdec_decodes_what_the_cpu_decodes(
    tmp_path: Path, codec: str, pix_fmt: str, options: dict[str, str]
) -> None:
    path = tmp_path / "a.mkv"
    write_clip(path, frames=40, codec=codec, pix_fmt=pix_fmt, size=(256, 144), options=options)
    info = probe(path)
    if not device.nvdec_starts():
        pytest.skip("this GPU has no NVDEC, or FFmpeg cannot reach it")
    assert choose_hwaccel("cuda", info, "cuda:0") == ("cuda:0", None)
    for start in (None, info.pts[17]):
        with FrameReader(info, start_pts=start) as reader:
            wanted = list(reader)
        with FrameReader(info, start_pts=start, hwaccel="cuda:0") as reader:
            found = list(reader)
        assert [one.pts for one in found] == [one.pts for one in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert device.on_device(one.planes)
            assert_equal(one.planes, other.planes)
            assert np.array_equal(signature(one).luma, signature(other).luma)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("codec", "layout", "planar"), [
    ("h264_nvenc", EIGHT, "yuv420p"), ("hevc_nvenc", TEN, "yuv420p10le")
])  # fmt: skip
def test_nvenc_makes_the_same_of_frames_on_either_side(
    tmp_path: Path, codec: str, layout: PlaneLayout, planar: str
) -> None:
    if not doctor._opens(codec):
        pytest.skip("this GPU has no NVENC")
    info = probe(write_clip(tmp_path / "a.mkv", frames=2, pix_fmt=planar, size=(256, 144)))
    config = choose_encoder(EncoderOptions(codec=codec), info, ".mkv")
    options = {"fps": FPS, "width": 256, "height": 144, "hwaccel": "cuda:0"}
    for name in ("host", "device"):
        with VideoWriter(tmp_path / f"{name}.nut", config, **options) as writer:
            for number in range(80):
                given = frame(layout, number, (256, 144))
                planes = tuple(torch.from_numpy(plane).cuda() for plane in given.host_planes)
                writer.write(given if name == "host" else given.with_planes(planes))
    assert (tmp_path / "host.nut").read_bytes() == (tmp_path / "device.nut").read_bytes()
    with FrameReader(probe(tmp_path / "device.nut")) as reader:
        assert [read_number(one.host_planes[0], layout.bits) for one in reader] == [*range(80)]
