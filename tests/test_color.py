"""The colour path: against the standards' equations, swscale, and itself."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vfi_cli.frame import ColorSpec, Frame, PlaneLayout
from vfi_cli.io.color import convert_layout, effective_matrix, from_rgb, to_alpha, to_rgb
from vfi_cli.io.formats import pack, unpack
from vfi_cli.native import ops

SUBSAMPLINGS = [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 2)]
# Kr, Kb as the standards print them: BT.709 3.2, BT.601 2.5.1, BT.2020 table 4, SMPTE 240M, FCC
WEIGHTS = {
    1: (0.2126, 0.0722),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    9: (0.2627, 0.0593),
    7: (0.212, 0.087),
    4: (0.30, 0.11),
}


HD = ColorSpec(1)


@pytest.fixture(autouse=True, params=["native", "reference"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "native":
        if not ops.available():
            pytest.skip("no native operators")
        yield
    else:
        with ops.use_reference():
            yield


def make_frame(planes, layout, color=HD) -> Frame:
    height, width = planes[0].shape
    return Frame(tuple(planes), width, height, layout, color, 0, Fraction(1, 25))


def noise(layout, width, height, color=HD, seed=0) -> Frame:
    random = np.random.default_rng(seed)
    planes = [
        random.integers(0, layout.peak + 1, layout.plane_shape(n, width, height)).astype(
            layout.dtype
        )
        for n in range(layout.components)
    ]
    return make_frame(planes, layout, color)


def smooth(layout, width, height, color=HD) -> Frame:
    """Slow waves, different in each plane, within the limited range."""
    planes = []
    for n in range(layout.components):
        rows, columns = layout.plane_shape(n, width, height)
        y = np.linspace(0, 1, rows)[:, None]
        x = np.linspace(0, 1, columns)[None, :]
        wave = 0.5 + 0.2 * np.sin(3 * x + 2 * n) * np.cos(2 * y + n)
        planes.append((wave * layout.peak).astype(layout.dtype))
    return make_frame(planes, layout, color)


def reference_rgb(frame: Frame) -> np.ndarray:
    """H.273's equations in float64 for 4:4:4, solved for R, G and B."""
    layout, color = frame.layout, frame.color
    kr, kb = WEIGHTS[color.matrix]
    n = layout.bits
    y, u, v = (plane.astype(np.float64) for plane in frame.planes[:3])
    if color.full_range:
        y, u, v = y / (2**n - 1), (u - 2 ** (n - 1)) / (2**n - 1), (v - 2 ** (n - 1)) / (2**n - 1)
    else:
        s = 2 ** (n - 8)
        y, u, v = (y - 16 * s) / (219 * s), (u - 128 * s) / (224 * s), (v - 128 * s) / (224 * s)
    red = y + 2 * (1 - kr) * v
    blue = y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([red, green, blue])


@pytest.mark.parametrize("matrix", sorted(WEIGHTS))
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_agrees_with_the_standards_equations(matrix, full, bits):
    frame = noise(PlaneLayout("yuv", bits), 33, 17, ColorSpec(matrix, full))
    difference = np.abs(to_rgb(frame).numpy() - reference_rgb(frame))
    assert difference.max() < 2e-6  # float32: values up to 3, sums of three products


def test_ycgco_agrees_with_its_equations():
    frame = noise(PlaneLayout("yuv", 8), 9, 7, ColorSpec(8, full_range=True))
    y, cg, co = (p.astype(np.float64) for p in frame.planes)
    y, cg, co = y / 255, (cg - 128) / 255, (co - 128) / 255
    expected = np.stack([y - cg + co, y + cg, y - cg - co])
    assert np.abs(to_rgb(frame).numpy() - expected).max() < 1e-6


def test_identity_matrix_in_yuv_planes_is_gbr():
    frame = noise(PlaneLayout("yuv", 8), 4, 4, ColorSpec(0, full_range=True))
    green, blue, red = (p / np.float32(255) for p in frame.planes)
    assert np.allclose(to_rgb(frame).numpy(), np.stack([red, green, blue]), atol=1e-6)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("sub", SUBSAMPLINGS)
@pytest.mark.parametrize("bits", [8, 10, 16])
def test_round_trip_is_exact_on_noise(bits, sub, full):
    """No model between: every code value comes back, also those outside of the RGB gamut."""
    for matrix, location, (w, h) in product(
        (1, 6, 9, 8), (0, 2, 3, 4), ((34, 22), (33, 21), (1, 3))
    ):
        color = ColorSpec(matrix, full, 2, 2, location)
        frame = noise(PlaneLayout("yuv", bits, *sub), w, h, color)
        for before, after in zip(frame.planes, from_rgb(to_rgb(frame), frame), strict=True):
            assert np.array_equal(before, after), (matrix, location, w, h)


@pytest.mark.parametrize("kind", ["rgb", "gray"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 9, 12, 14, 16])
def test_round_trip_of_rgb_grey_and_alpha(kind, alpha, bits):
    for full in (False, True):
        frame = noise(PlaneLayout(kind, bits, alpha=alpha), 21, 13, ColorSpec(0, full))
        back = from_rgb(to_rgb(frame), frame, to_alpha(frame))
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, back, strict=True))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(SUBSAMPLINGS),
    st.sampled_from([8, 10, 12]),
    st.integers(0, 6),
    st.integers(0, 2**31),
)
def test_round_trip_at_any_size(size, sub, bits, location, seed):
    color = ColorSpec(1, False, 2, 2, location)
    frame = noise(PlaneLayout("yuv", bits, *sub), *size, color, seed)
    back = from_rgb(to_rgb(frame), frame)
    assert all(np.array_equal(a, b) for a, b in zip(frame.planes, back, strict=True))


@pytest.mark.parametrize("location", [1, 2, 3])
def test_chroma_is_where_the_siting_says(location):
    """A ramp in chroma that is straight over the picture comes out straight on the luma grid."""
    layout = PlaneLayout("yuv", 16, 1, 1)
    width, height = 32, 24
    across = 0.0 if location in (1, 3) else 0.5  # of the first chroma sample, in luma samples
    down = 0.0 if location == 3 else 0.5
    x = np.arange(16)[None, :] * 2 + across
    y = np.arange(12)[:, None] * 2 + down
    ramp = (20000 + 300 * x + 200 * y).astype(np.uint16)
    flat = np.full((height, width), 30000, np.uint16)
    middle = np.full((12, 16), 32768, np.uint16)
    color = ColorSpec(1, True, 2, 2, location)
    blue = to_rgb(make_frame([flat, ramp, middle], layout, color))[2].numpy() * 65535
    wide = np.arange(width)[None, :] * 300 + np.arange(height)[:, None] * 200 + 20000.0
    expected = 30000 + 2 * (1 - 0.0722) * (wide - 32768)
    inside = np.s_[4:-4, 4:-4]
    assert np.abs(blue - expected)[inside].max() < 1.5  # code values of 65535, rounding of input


def test_white_black_and_super_white():
    layout = PlaneLayout("yuv", 8, 1, 1)
    grey = np.full((1, 1), 128, np.uint8)
    for code, level in ((16, 0.0), (235, 1.0), (255, 239 / 219), (0, -16 / 219)):
        frame = make_frame([np.full((2, 2), code, np.uint8), grey, grey], layout)
        assert np.allclose(to_rgb(frame).numpy(), level, atol=1e-6)


@pytest.mark.parametrize(
    ("matrix", "height", "expected"),
    [(2, 480, 6), (2, 719, 6), (2, 720, 1), (2, 2160, 1), (9, 480, 9)],
)
def test_unnamed_matrix_follows_the_height(matrix, height, expected):
    layout = PlaneLayout("yuv", 8, 1, 1)
    assert effective_matrix(ColorSpec(matrix), layout, height) == expected
    assert effective_matrix(ColorSpec(2, primaries=9), layout, height) == 9
    assert effective_matrix(ColorSpec(matrix), PlaneLayout("rgb", 8), height) == 0


@pytest.mark.parametrize(("matrix", "name"), [(1, "ITU709"), (6, "ITU601"), (9, "BT2020")])
@pytest.mark.parametrize("full", [False, True])
def test_agrees_with_swscale(matrix, name, full):
    """swscale rounds to 8 bits in fixed point, so within two code values, half on average."""
    frame = smooth(PlaneLayout("yuv", 8), 64, 48, ColorSpec(matrix, full))
    picture = pack(frame.planes, "yuv444p", 64, 48)
    other = picture.reformat(
        format="gbrp",
        src_colorspace=name,
        src_color_range="JPEG" if full else "MPEG",
        dst_color_range="JPEG",
        interpolation="ACCURATE_RND",
    )
    theirs = np.stack(unpack(other)[1]).astype(np.float64)
    ours = (to_rgb(frame).numpy() * 255).clip(0, 255)
    assert np.abs(ours - theirs).max() <= 2
    assert np.abs(ours - theirs).mean() <= 0.6


@pytest.mark.parametrize("sub", [(0, 0), (1, 1), (1, 0)])
def test_blending_a_still_scene_changes_nothing(sub):
    """What a perfect model does with two equal frames: their mean, which is the frame."""
    frame = noise(PlaneLayout("yuv", 8, *sub), 32, 32, ColorSpec(1))
    rgb = to_rgb(frame)
    back = from_rgb((rgb + rgb) / 2, frame)
    for before, after in zip(frame.planes, back, strict=True):
        assert np.abs(before.astype(int) - after.astype(int)).mean() <= 1


def test_small_errors_of_a_model_stay_small():
    """Coming down is a low-pass filter: an error of half a code value in RGB does not grow."""
    frame = smooth(PlaneLayout("yuv", 8, 1, 1), 64, 64, ColorSpec(1))
    shake = (torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)) - 0.5) / 255
    back = from_rgb(to_rgb(frame) + shake, frame)
    for before, after in zip(frame.planes, back, strict=True):
        assert np.abs(before.astype(int) - after.astype(int)).mean() < 0.5


def test_rgb_of_another_size_is_refused():
    frame = noise(PlaneLayout("yuv", 8, 1, 1), 8, 8)
    with pytest.raises(ValueError, match="8×8"):
        from_rgb(torch.zeros(3, 8, 10), frame)


def test_read_only_planes_are_read_without_a_warning(recwarn):
    frame = noise(PlaneLayout("yuv", 8, 1, 1), 8, 8)
    for plane in frame.planes:
        plane.flags.writeable = False
    to_rgb(frame)
    assert not recwarn.list


def test_planes_may_be_tensors():
    frame = noise(PlaneLayout("yuv", 10, 1, 1, alpha=True), 12, 10)
    other = frame.with_planes(tuple(torch.from_numpy(plane) for plane in frame.planes))
    assert torch.equal(to_rgb(frame), to_rgb(other))
    back = from_rgb(to_rgb(other), other, to_alpha(other))
    for plane, before in zip(back, frame.planes, strict=True):
        assert isinstance(plane, torch.Tensor)
        assert np.array_equal(plane.numpy(), before)
    eight = PlaneLayout("yuv", 8, 1, 1)
    for one, two in zip(
        convert_layout(other, eight).planes, convert_layout(frame, eight).planes, strict=True
    ):
        assert np.array_equal(one, two)


# --- other layouts ---------------------------------------------------------------------


@pytest.mark.parametrize("full", [False, True])
def test_more_bits_and_back_is_exact(full):
    frame = noise(PlaneLayout("yuv", 8, 1, 1, alpha=True), 16, 10, ColorSpec(1, full))
    for bits in (9, 10, 12, 16):
        wide = convert_layout(frame, PlaneLayout("yuv", bits, 1, 1, alpha=True))
        assert wide.planes[0].dtype == np.uint16
        back = convert_layout(wide, frame.layout)
        assert all(np.array_equal(a, b) for a, b in zip(frame.planes, back.planes, strict=True))
        # The same colours, not only the same bytes: exact in limited range; in full range to
        # the rounding of the finer scale (blue takes 1.86 times what chroma is off).
        allowed = 3 * 0.5 / wide.layout.peak if full else 1e-5
        same = (to_rgb(frame) - to_rgb(wide)).abs()
        inside = (to_rgb(frame) - 0.5).abs() < 0.5  # where no code was at the scale's end
        assert same[inside].max() < allowed


def test_fewer_bits_round_to_the_nearest():
    frame = noise(PlaneLayout("yuv", 10, 1, 1), 16, 10)
    low = convert_layout(frame, PlaneLayout("yuv", 8, 1, 1))
    for before, after in zip(frame.planes, low.planes, strict=True):
        exact = np.minimum(before / 4, 255)
        assert np.abs(exact - after).max() <= 0.5


@pytest.mark.parametrize("location", [1, 2, 3])
@pytest.mark.parametrize("target", [(0, 0), (1, 0)])
def test_more_chroma_and_back_is_exact(target, location):
    color = ColorSpec(1, chroma_location=location)
    frame = noise(PlaneLayout("yuv", 8, 1, 1), 18, 14, color)
    # Between extreme neighbours the filters overshoot, and the finer planes end at their scale.
    frame = frame.with_planes(tuple(64 + plane // 2 for plane in frame.planes))
    fine = convert_layout(frame, PlaneLayout("yuv", 16, *target))
    back = convert_layout(fine, frame.layout)
    assert all(np.array_equal(a, b) for a, b in zip(frame.planes, back.planes, strict=True))


def test_grey_becomes_colourless_yuv():
    frame = noise(PlaneLayout("gray", 8), 10, 6, ColorSpec(1))
    yuv = convert_layout(frame, PlaneLayout("yuv", 10, 1, 1))
    assert np.array_equal(yuv.planes[0], frame.planes[0].astype(np.uint16) << 2)
    assert all((plane == 512).all() for plane in yuv.planes[1:])
    assert (to_rgb(yuv) - to_rgb(frame)).abs().max() < 1e-6


def test_rgb_becomes_yuv_of_the_same_colours():
    frame = noise(PlaneLayout("rgb", 8), 16, 12, ColorSpec(0, full_range=True))
    yuv = convert_layout(frame, PlaneLayout("yuv", 12))
    assert (yuv.color.matrix, yuv.color.full_range) == (6, False)  # 12 lines: BT.601
    assert (to_rgb(yuv) - to_rgb(frame)).abs().max() < 1 / 1000
    back = convert_layout(yuv, frame.layout)
    assert np.array_equal(np.stack(back.planes), np.stack(frame.planes))


def test_alpha_is_dropped_and_made_opaque():
    frame = noise(PlaneLayout("yuv", 8, 1, 1, alpha=True), 8, 8)
    plain = convert_layout(frame, PlaneLayout("yuv", 8, 1, 1))
    assert len(plain.planes) == 3
    opaque = convert_layout(plain, PlaneLayout("yuv", 10, 1, 1, alpha=True))
    assert (opaque.planes[3] == 1023).all()
