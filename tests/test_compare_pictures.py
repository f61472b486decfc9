"""``vfi compare -o VIDEO``: which frame is seen when, with which sound, and in which colour."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.comparekit import compare, equal, frames_of, noise_clip, part, planes_of
from tests.media import read_number, write_clip
from vfi_cli.__main__ import main
from vfi_cli.frame import Samples
from vfi_cli.io.decode import probe


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return (
        noise_clip(tmp_path / "a.mkv", seed=1, tone=True),
        noise_clip(tmp_path / "b.mkv", seed=2),
    )


# time


def numbers(made: Sequence[Sequence[Samples]], x: int) -> list[int]:
    """What the tile at luma column ``x`` shows, of clips 64 pixels wide."""
    return [read_number(planes[0][:, x : x + 64]) for planes in made]


def test_rates_are_matched_by_exact_time(tmp_path: Path) -> None:
    slow = write_clip(tmp_path / "25.mkv", codec="ffv1", frames=10, rate=25)
    fast = write_clip(tmp_path / "60.mkv", codec="ffv1", frames=24, rate=60)
    made = compare(tmp_path / "side.mkv", slow, fast)
    assert frames_of(tmp_path / "side.mkv")[0].base_rate == 60
    assert numbers(made, 0) == [k * 25 // 60 for k in range(24)]
    assert numbers(made, 64) == list(range(24))


def test_ntsc_against_film_is_exact_over_a_long_time(tmp_path: Path) -> None:
    """23.976 against 60: floats would show the neighbour at times that coincide."""
    film = write_clip(
        tmp_path / "f.mp4", codec="libx264", frames=240, rate=Fraction(24000, 1001), size=(64, 16)
    )
    video = write_clip(
        tmp_path / "v.mp4", codec="libx264", frames=250, rate=Fraction(60000, 1001), size=(64, 16)
    )
    made = compare(tmp_path / "side.mkv", film, video)
    assert len(made) == 250
    assert numbers(made, 0) == [k * 2 // 5 for k in range(250)]


def test_a_rate_can_be_chosen(tmp_path: Path) -> None:
    slow = write_clip(tmp_path / "25.mkv", codec="ffv1", frames=10, rate=25)
    fast = write_clip(tmp_path / "60.mkv", codec="ffv1", frames=24, rate=60)
    made = compare(tmp_path / "side.mkv", slow, fast, "--fps", "10")
    assert numbers(made, 0) == [0, 2, 5, 7]
    assert numbers(made, 64) == [0, 6, 12, 18]


def test_variable_rates_show_what_is_on_screen(tmp_path: Path) -> None:
    stamps = [0, 40, 50, 200, 210, 330]  # milliseconds
    variable = write_clip(
        tmp_path / "v.mkv", codec="ffv1", pts=stamps, time_base=Fraction(1, 1000), rate=25
    )
    steady = write_clip(tmp_path / "s.mkv", codec="ffv1", frames=17, rate=50)
    made = compare(tmp_path / "side.mkv", steady, variable, "--fps", "50")
    expected = [max(n for n, at in enumerate(stamps) if at <= 20 * k) for k in range(len(made))]
    assert len(made) >= 16
    assert numbers(made, 64) == expected


def test_clocks_count_from_the_first_frame(tmp_path: Path) -> None:
    plain = write_clip(tmp_path / "a.mkv", codec="ffv1", frames=5)
    late = write_clip(
        tmp_path / "b.mp4", pts=range(25, 30), time_base=Fraction(1, 25), options={"bf": "0"}
    )
    assert probe(late).start >= 1
    made = compare(tmp_path / "side.mkv", plain, late)
    assert numbers(made, 0) == numbers(made, 64) == [0, 1, 2, 3, 4]


def test_a_part(tmp_path: Path) -> None:
    slow = write_clip(tmp_path / "25.mkv", codec="ffv1", frames=50, rate=25)
    fast = write_clip(tmp_path / "50.mkv", codec="ffv1", frames=100, rate=50)
    arguments = ("--start", "0.5", "--duration", "0.1")
    made = compare(tmp_path / "side.mkv", slow, fast, *arguments)
    assert numbers(made, 0) == [12, 13, 13, 14, 14]
    assert numbers(made, 64) == [25, 26, 27, 28, 29]


def test_it_ends_with_the_shortest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = write_clip(tmp_path / "short.mkv", codec="ffv1", frames=5)
    long = write_clip(tmp_path / "long.mkv", codec="ffv1", frames=30)
    output = tmp_path / "out.mkv"
    assert main(["compare", str(long), str(short), "-o", str(output), "--codec", "ffv1"]) == 0
    assert len(planes_of(output)) == 5
    assert "long.mkv is 0:01.00 longer; the comparison ends with the shortest" in (
        capsys.readouterr().err
    )


# slowed down, and the sound


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def test_the_sound_is_the_first_ones(pair: tuple[Path, Path], tmp_path: Path) -> None:
    compare(tmp_path / "side.mkv", *pair)
    assert packets(tmp_path / "side.mkv", "audio") == packets(pair[0], "audio")
    compare(tmp_path / "other.mkv", *pair[::-1])
    with av.open(str(tmp_path / "other.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


def test_slowed_down_it_has_the_same_frames_at_a_lower_rate(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    plain = compare(tmp_path / "plain.mkv", *pair)
    slow = compare(tmp_path / "slow.mkv", *pair, "--slow", "2.5")
    assert all(equal(a, b) for a, b in zip(plain, slow, strict=True))
    assert frames_of(tmp_path / "slow.mkv")[0].base_rate == 10
    with av.open(str(tmp_path / "slow.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


# pictures that are unlike


def test_turned_pictures_are_shown_upright(tmp_path: Path) -> None:
    upright = noise_clip(tmp_path / "a.mkv", seed=1, size=(48, 64), pix_fmt="gbrp10le")
    phone = write_clip(
        tmp_path / "phone.mkv", codec="ffv1", pix_fmt="gbrp10le", rotation=90, frames=4
    )
    assert probe(phone).rotation == 90
    made = compare(tmp_path / "side.mkv", upright, phone)
    turned = [tuple(np.rot90(plane, -1) for plane in planes) for planes in planes_of(phone)]
    assert equal(part(made[1], 48, 0, 48, 64), turned[1])
    first = compare(tmp_path / "first.mkv", phone, upright)
    info = probe(tmp_path / "first.mkv")
    assert (info.width, info.height, info.rotation) == (96, 64, 0)
    assert equal(part(first[1], 0, 0, 48, 64), turned[1])


def test_other_sizes_are_scaled_to_the_firsts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = noise_clip(tmp_path / "a.mkv", seed=1, flat=(90, 100, 150))
    large = noise_clip(tmp_path / "b.mkv", seed=1, flat=(90, 100, 150), size=(100, 30))
    output = tmp_path / "out.mkv"
    assert main(["compare", str(small), str(large), "-o", str(output), "--codec", "ffv1",
                 "--no-labels"]) == 0  # fmt: skip
    whole = planes_of(output)[0]
    assert whole[0].shape == (48, 128)
    assert [set(plane.flat) for plane in whole] == [{90}, {100}, {150}]
    said = capsys.readouterr().err
    assert "b.mkv is scaled from 100×30 to 64×48, and out of shape" in said


def test_the_pixel_shape_is_kept(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", aspect=Fraction(16, 11))
    turned = write_clip(tmp_path / "t.mp4", aspect=Fraction(16, 11), rotation=90)
    compare(tmp_path / "side.mkv", clip, clip)
    assert probe(tmp_path / "side.mkv").sample_aspect_ratio == Fraction(16, 11)
    compare(tmp_path / "turned.mkv", turned, turned)
    assert probe(tmp_path / "turned.mkv").sample_aspect_ratio == Fraction(11, 16)


def test_the_first_ones_depth_is_kept(tmp_path: Path) -> None:
    deep = noise_clip(tmp_path / "a.mkv", seed=1, pix_fmt="yuv420p10le")
    flat = noise_clip(tmp_path / "b.mkv", seed=2, pix_fmt="yuv420p")
    whole = compare(tmp_path / "side.mkv", deep, flat)[2]
    assert probe(tmp_path / "side.mkv").pix_fmt == "yuv420p10le"
    assert equal(part(whole, 0, 0, 64, 48), planes_of(deep)[2])
    assert equal(
        part(whole, 64, 0, 64, 48), [plane.astype(np.uint16) * 4 for plane in planes_of(flat)[2]]
    )


def test_other_matrices_and_ranges_mean_the_same_colour(tmp_path: Path) -> None:
    """A grey and a red, stored as BT.709 in full range, come out in the first one's coding."""
    first = noise_clip(
        tmp_path / "a.mkv", seed=1, flat=(81, 90, 240), pix_fmt="yuv444p", color={"colorspace": 6}
    )
    second = noise_clip(
        tmp_path / "b.mkv",
        seed=1,
        flat=(54, 99, 255),  # red in BT.709, full range
        pix_fmt="yuv444p",
        color={"colorspace": 1, "color_range": 2},
    )
    assert probe(second).color.full_range
    whole = compare(tmp_path / "side.mkv", first, second)[0]
    for plane, value in zip(whole, (81, 90, 240), strict=True):
        assert set(plane[:, :64].flat) == {value}
        assert np.abs(plane[:, 64:].astype(int) - value).max() <= 1


def test_a_tall_stack_keeps_the_matrix_that_was_meant(tmp_path: Path) -> None:
    """Players guess BT.601 below 720 lines and BT.709 above: three of 300 lines would shift."""
    clip = noise_clip(tmp_path / "a.mkv", seed=1, size=(16, 300), frames=1)
    assert probe(clip).color.matrix == 2
    compare(tmp_path / "stack.mkv", clip, clip, clip, "--mode", "stack")
    assert probe(tmp_path / "stack.mkv").color.matrix == 6


def test_transparency_is_left_out(tmp_path: Path) -> None:
    clip = noise_clip(tmp_path / "a.mkv", seed=1, pix_fmt="yuva420p")
    whole = compare(tmp_path / "side.mkv", clip, clip)[0]
    assert probe(tmp_path / "side.mkv").pix_fmt == "yuv420p"
    assert equal(part(whole, 64, 0, 64, 48), planes_of(clip)[0][:3])
