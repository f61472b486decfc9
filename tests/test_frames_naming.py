"""Which files are a clip, in what order, and what new images are called."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfi_cli.errors import InputError, UsageError
from vfi_cli.io.naming import find_clips, irregular_numbers, natural_key, place


def paths(*names: str) -> list[Path]:
    return [Path("clip") / name for name in names]


def new_names(images: list[Path], inter: int, naming: str = "auto") -> list[str]:
    _, placements = place(images, inter, naming)  # type: ignore[arg-type]
    return [p.name for p in placements if p.t]


def test_reds_numbers_between() -> None:
    naming, placements = place(paths("00000000.png", "00000008.png", "00000024.png"), 3)
    assert naming == "reds"
    assert [(p.name, p.left, p.t) for p in placements] == [
        ("00000002.png", 0, Fraction(1, 4)),
        ("00000004.png", 0, Fraction(1, 2)),
        ("00000006.png", 0, Fraction(3, 4)),
        ("00000012.png", 1, Fraction(1, 4)),
        ("00000016.png", 1, Fraction(1, 2)),
        ("00000020.png", 1, Fraction(3, 4)),
    ]


def test_reds_keeps_what_stands_around_the_number_and_its_width() -> None:
    assert new_names(paths("s01_f8_left.tif", "s01_f16_left.tif"), 1) == ["s01_f12_left.tif"]
    assert new_names(paths("im0098.jpg", "im0102.jpg"), 3) == [
        "im0099.jpg",
        "im0100.jpg",
        "im0101.jpg",
    ]


def test_a_gap_that_does_not_divide_names_both_files_and_what_would_fit() -> None:
    with pytest.raises(InputError) as caught:
        place(paths("00000000.png", "00000008.png"), 2)
    text = str(caught.value)
    assert "00000000.png and 00000008.png are 8 apart" in text
    assert "--inter 1 or 3 or 7" in text
    assert "--naming suffix" in text


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 10**6))
def test_reds_names_are_evenly_spaced_or_refused(gap: int, inter: int, first: int) -> None:
    images = paths(f"{first:08}.png", f"{first + gap:08}.png")
    try:
        names = new_names(images, inter, "reds")
    except InputError:
        assert gap % (inter + 1)
        return
    numbers = [first, *(int(name[:-4]) for name in names), first + gap]
    assert {b - a for a, b in pairwise(numbers)} == {gap // (inter + 1)}
    assert len(names) == inter


def test_suffix_counts_after_the_left_name() -> None:
    assert new_names(paths("001.png", "002.png", "003.png"), 3) == [
        *("001_0.png", "001_1.png", "001_2.png"),
        *("002_0.png", "002_1.png", "002_2.png"),
    ]
    many = new_names(paths("a.png", "b.png"), 11)
    assert many == sorted(many)
    assert many[-1] == "a_10.png"


def test_auto_goes_by_the_gaps() -> None:
    for names, wanted in {
        ("0.png", "8.png", "16.png"): "reds",
        ("001.png", "002.png", "004.png"): "suffix",  # a missing number is no room for others
        ("one.png", "three.png"): "suffix",
        ("a1.png", "b3.png"): "suffix",
        ("1.png", "01.png"): "suffix",
    }.items():
        assert place(paths(*names), 1, "auto")[0] == wanted


def test_a_sequence_is_renumbered_with_its_inputs() -> None:
    _, placements = place(paths("x.png", "y.png", "z.png"), 1, "sequence")
    assert [(p.name, p.left, p.t) for p in placements] == [
        ("00000000.png", 0, 0),
        ("00000001.png", 0, Fraction(1, 2)),
        ("00000002.png", 1, 0),
        ("00000003.png", 1, Fraction(1, 2)),
        ("00000004.png", 2, 0),
    ]


def test_kept_inputs_keep_their_names() -> None:
    for naming in ("suffix", "reds"):
        _, placements = place(paths("00.png", "04.png"), 1, naming, keep_inputs=True)  # type: ignore[arg-type]
        assert [p.name for p in placements if p.t == 0] == ["00.png", "04.png"]


def test_names_that_collide_are_refused() -> None:
    with pytest.raises(InputError, match=r"named A_0\.png"):
        place(paths("a.png", "A_0.png", "b.png"), 1, "suffix", keep_inputs=True)


def test_impossible_requests() -> None:
    with pytest.raises(InputError, match=r"only one image \(a\.png\)"):
        place(paths("a.png"), 1)
    for inter in (0, -1, 256):
        with pytest.raises(UsageError, match=f"{inter} new images"):
            place(paths("a.png", "b.png"), inter)
    with pytest.raises(InputError, match=r"not numbered alike \(a1\.png, b2\.png\)"):
        place(paths("a1.png", "b2.png"), 1, "reds")


def test_natural_order() -> None:
    names = ["f10.png", "f9.png", "F1.png", "f01.png", "f2_b.png", "f2.png", "g.png"]
    assert sorted(names, key=natural_key) == [
        *("F1.png", "f01.png", "f2.png", "f2_b.png", "f9.png", "f10.png", "g.png"),
    ]


def test_missing_numbers_are_noticed() -> None:
    assert irregular_numbers(paths("0.png", "2.png", "4.png")) is None
    gap = irregular_numbers(paths("0.png", "1.png", "3.png"))
    assert gap is not None
    assert [path.name for path in gap] == ["1.png", "3.png"]
    assert irregular_numbers(paths("a.png", "b.png")) is None


def test_clips_are_found(tmp_path: Path) -> None:
    for name in ("10/b.png", "10/a.PNG", "9/x.jpg", "deep/er/y.tif", ".hidden/z.png", "none/t.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (tmp_path / "10" / ".DS_Store.png").touch()
    (tmp_path / "10" / "folder.png").mkdir()
    clips = find_clips(tmp_path)
    assert [clip.name for clip in clips] == ["9", "10", "deep/er"]
    assert [path.name for path in clips[1].images] == ["a.PNG", "b.png"]
    assert [clip.name for clip in find_clips(tmp_path / "9")] == [""]

    with pytest.raises(InputError, match="holds no images"):
        find_clips(tmp_path / "none")
    with pytest.raises(InputError, match="is a file"):
        find_clips(tmp_path / "none" / "t.txt")
    with pytest.raises(InputError, match="no such folder"):
        find_clips(tmp_path / "gone")
