"""``vfi compare -o VIDEO``: where each video is seen exactly, and how a run ends."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from tests.comparekit import FFV1, compare, equal, noise_clip, part, planes_of
from tests.media import write_clip
from vfi_cli.__main__ import main
from vfi_cli.compare.labels import default_labels
from vfi_cli.compare.video import ComparisonOptions, plan_comparison, render_comparison
from vfi_cli.errors import UsageError
from vfi_cli.frame import Samples
from vfi_cli.io.decode import probe
from vfi_cli.io.encode import EncoderOptions


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return (
        noise_clip(tmp_path / "a.mkv", seed=1, tone=True),
        noise_clip(tmp_path / "b.mkv", seed=2),
    )


# geometry


def test_side_by_side(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = compare(tmp_path / "side.mkv", *pair)
    assert len(made) == 4
    for whole, first, second in zip(made, *map(planes_of, pair), strict=True):
        assert whole[0].shape == (48, 128)
        assert whole[1].shape == (24, 64)
        assert equal(part(whole, 0, 0, 64, 48), first)
        assert equal(part(whole, 64, 0, 64, 48), second)


def test_stacked(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = compare(tmp_path / "stack.mkv", *pair, pair[0], "--mode", "stack")
    first, second = map(planes_of, pair)
    for number, whole in enumerate(made):
        assert whole[0].shape == (144, 64)
        assert equal(part(whole, 0, 0, 64, 48), first[number])
        assert equal(part(whole, 0, 48, 64, 48), second[number])
        assert equal(part(whole, 0, 96, 64, 48), first[number])


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(2, 2, 1), (3, 3, 1), (4, 2, 2), (5, 3, 2), (9, 3, 3)]
)
def test_many_are_a_grid(
    pair: tuple[Path, Path], tmp_path: Path, count: int, columns: int, rows: int
) -> None:
    inputs = [pair[n % 2] for n in range(count)]
    whole = compare(tmp_path / "grid.mkv", *inputs)[0]
    assert whole[0].shape == (rows * 48, columns * 64)
    shown = [planes_of(path)[0] for path in pair]
    for cell in range(columns * rows):
        found = part(whole, cell % columns * 64, cell // columns * 48, 64, 48)
        if cell < count:
            assert equal(found, shown[cell % 2])
        else:
            assert [set(plane.flat) for plane in found] == [{16}, {128}, {128}]


def test_a_split_moves_through_the_picture(tmp_path: Path) -> None:
    """Middle, right edge, middle, left edge, every two seconds."""
    frames, rate = 33, 4
    first = noise_clip(tmp_path / "a.mkv", seed=1, frames=frames, rate=rate)
    second = noise_clip(tmp_path / "b.mkv", seed=2, frames=frames, rate=rate)
    made = compare(tmp_path / "split.mkv", first, second, "--mode", "split")
    edges = []
    for whole, left, right in zip(made, planes_of(first), planes_of(second), strict=True):
        assert whole[0].shape == (48, 64)
        lines = [x for x in range(64) if set(whole[0][:, x]) == {235}]
        edge = lines[0] if lines else 64
        assert lines == [edge, edge + 1][: len(lines)]
        assert equal(part(whole, 0, 0, edge, 48), part(left, 0, 0, edge, 48))
        rest = 64 - edge - len(lines)
        assert equal(part(whole, 64 - rest, 0, rest, 48), part(right, 64 - rest, 0, rest, 48))
        for chroma in whole[1:]:
            assert set(chroma[:, edge // 2 : edge // 2 + len(lines) // 2].flat) <= {128}
        edges.append(edge)
    assert edges[:33:8] == [32, 64, 32, 0, 32]
    assert edges[:9] == sorted(edges[:9])
    assert edges[8:25] == sorted(edges[8:25], reverse=True)


def test_three_share_a_split(tmp_path: Path) -> None:
    colours = ((40, 90, 90), (120, 128, 128), (200, 170, 170))
    clips = [
        noise_clip(tmp_path / f"{n}.mkv", seed=n, size=(96, 48), frames=1, flat=flat)
        for n, flat in enumerate(colours)
    ]
    whole = compare(tmp_path / "split.mkv", *clips, "--mode", "split")[0]
    row = whole[0][0]
    assert list(row) == [40] * 32 + [235] * 2 + [120] * 30 + [235] * 2 + [200] * 30


def test_differences_are_amplified_around_grey(pair: tuple[Path, Path], tmp_path: Path) -> None:
    made = compare(tmp_path / "diff.mkv", *pair, "--mode", "diff")
    for whole, first, second in zip(made, *map(planes_of, pair), strict=True):
        for plane, grey in ((0, 126), (1, 128), (2, 128)):
            change = second[plane].astype(int) - first[plane].astype(int)
            assert np.array_equal(whole[plane], np.clip(8 * change + grey, 0, 255))
    same = compare(tmp_path / "same.mkv", pair[0], pair[0], "--mode", "diff")
    assert [set(plane.flat) for plane in same[0]] == [{126}, {128}, {128}]


def test_small_differences_are_exact_in_ten_bits(tmp_path: Path) -> None:
    first = noise_clip(tmp_path / "a.mkv", seed=1, pix_fmt="yuv420p10le", flat=(500, 512, 512))
    second = noise_clip(tmp_path / "b.mkv", seed=1, pix_fmt="yuv420p10le", flat=(503, 511, 520))
    whole = compare(tmp_path / "diff.mkv", first, second, "--mode", "diff")[0]
    assert [set(plane.flat) for plane in whole] == [{502 + 24}, {512 - 8}, {512 + 64}]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv411p", "yuv444p", "gbrp10le", "gray"])
def test_odd_sizes_become_even(tmp_path: Path, pix_fmt: str) -> None:
    clip = noise_clip(tmp_path / "a.mkv", seed=3, size=(63, 47), pix_fmt=pix_fmt)
    whole = compare(tmp_path / "side.mkv", clip, clip)[0]
    shown = planes_of(clip)[0]
    assert whole[0].shape == (48, 128)
    for plane, source in zip(whole, shown, strict=True):
        rows, columns = plane.shape[0], plane.shape[1] // 2
        for tile in (plane[:, :columns], plane[:, columns:]):
            assert np.array_equal(tile[: source.shape[0], : source.shape[1]], source)
            assert np.array_equal(tile[rows - 1], tile[source.shape[0] - 1])
            assert np.array_equal(tile[:, columns - 1], tile[:, source.shape[1] - 1])


# labels


def labelled(output: Path, *arguments: str | Path) -> list[tuple[Samples, ...]]:
    assert main(["compare", *map(str, arguments), "-o", str(output), *FFV1]) == 0
    return planes_of(output)


def test_labels_stand_in_a_corner_and_nowhere_else(tmp_path: Path) -> None:
    clip = noise_clip(tmp_path / "a.mkv", seed=1, size=(160, 96), frames=1)
    plain = compare(tmp_path / "plain.mkv", clip, clip)[0]
    named = labelled(tmp_path / "named.mkv", clip, clip, "--labels", "one,two")[0]
    changed = np.nonzero(plain[0] != named[0])
    assert changed[0].max() < 24
    columns = changed[1]
    assert columns.min() == 0
    assert columns[columns < 160].max() < 50
    assert columns[columns >= 160].min() == 160
    box = named[0][:8, :20]
    assert box.max() > 180, "white letters"
    assert box.min() >= 16
    left, right = named[0][:20, :40], named[0][:20, 160:200]
    assert not np.array_equal(left > 150, right > 150), "each has its own name"


def test_a_split_names_both_sides(tmp_path: Path) -> None:
    first, second = (
        noise_clip(tmp_path / f"{n}.mkv", seed=1, size=(160, 96), frames=1, flat=(60, 100, 200))
        for n in "ab"
    )
    named = labelled(tmp_path / "split.mkv", first, second, "--mode", "split")[0]
    lit = np.nonzero((named[0][:24] > 150).any(0))[0]
    assert {80, 81} <= {*lit}, "the line"
    assert lit.min() < 40
    assert lit.max() > 120


def test_a_difference_is_named_after_both(tmp_path: Path) -> None:
    clip = noise_clip(tmp_path / "a.mkv", seed=1, size=(160, 96), frames=1)
    named = labelled(tmp_path / "d.mkv", clip, clip, "--mode", "diff", "--labels", "a,b")[0]
    assert set(named[0][30:].flat) == {126}
    assert named[0][:16, :60].max() > 180


@pytest.mark.parametrize("name", ["日本語のとても長い名前" * 9, "Übergröße", "a", "…", "x" * 500])
def test_any_name_can_be_a_label(tmp_path: Path, name: str) -> None:
    clip = noise_clip(tmp_path / "a.mkv", seed=1, size=(33, 17), frames=1)
    named = labelled(tmp_path / "named.mkv", clip, clip, "--labels", f"{name},b")[0]
    assert named[0].shape == (18, 68)


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    assert default_labels(["x/a.mp4", "y/b.mp4"]) == ("a.mp4", "b.mp4")
    assert default_labels(["x/a.mp4", "y/a.mp4"]) == ("x/a.mp4", "y/a.mp4")
    assert default_labels(["a.mp4", "y/a.mp4"]) == ("a.mp4", "y/a.mp4")
    assert default_labels(["a.mp4", "a.mp4"]) == ("a.mp4", "a.mp4")


# encoders, and how a run ends


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "h264"), (".mov", "prores"), (".webm", "vp9"), (".mkv", "hevc"), (".avi", "h264")],
)
def test_every_container(
    pair: tuple[Path, Path],
    tmp_path: Path,
    suffix: str,
    codec: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / f"out{suffix}"
    arguments = ["compare", *map(str, pair), "-o", str(output), "--codec", codec, "--json"]
    assert main(arguments) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["width"], record["height"], record["frames"]) == (128, 48, 4)
    assert probe(output).codec == codec
    assert len(probe(output).pts) == 4


def test_what_is_there_is_not_replaced_unasked(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.mkv"
    output.write_text("mine")
    arguments = ["compare", *map(str, pair), "-o", str(output), *FFV1]
    assert main(arguments) == 5
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert len(planes_of(output)) == 4


def test_an_interrupt_leaves_nothing(pair: tuple[Path, Path], tmp_path: Path) -> None:
    options = ComparisonOptions(encoder=EncoderOptions(codec="ffv1"))
    plan = plan_comparison(pair, tmp_path / "out.mkv", options)
    before = sorted(tmp_path.iterdir())

    def interrupt(done: int) -> None:
        if done == 2:
            assert sorted(tmp_path.iterdir()) != before
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_comparison(plan, options, interrupt)
    assert sorted(tmp_path.iterdir()) == before


def test_a_broken_video_is_compared_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = write_clip(tmp_path / "a.ts", codec="mpeg2video", frames=60, tone=True)
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    broken = tmp_path / "broken.ts"
    broken.write_bytes(data)
    output = tmp_path / "out.mkv"
    assert main(["compare", str(whole), str(broken), "-o", str(output), *FFV1]) == 3
    assert "broken.ts: the picture cannot be decoded after" in capsys.readouterr().err
    count = len(planes_of(output))
    assert 5 < count < 55
    assert {path.name for path in tmp_path.iterdir()} == {"a.ts", "broken.ts", "out.mkv"}
    with av.open(str(output)) as container:
        sound = container.streams.audio[0]
        last = max(p.pts + p.duration for p in container.demux(sound) if p.size)
        assert last * sound.time_base < count / 25 + 0.1


WRONG = [
    (["a"], "two videos or more", 2),
    (["a", "missing.mkv"], "there is no such file", 4),
    (["a", "empty.mkv"], "is empty", 4),
    (["a", "b", "a", "--mode", "diff"], "diff subtracts two videos, not 3", 2),
    (["a", "b", "-o", "out.xyz"], ".xyz", 2),
    (["a", "b", "-o", "out"], "without suffix", 2),
    (["a", "b", "-o", "a.mkv", "--overwrite"], "would replace the input", 5),
    (["a", "b", "-o", "b.mkv", "--overwrite"], "would replace the input", 5),
    (["a", "b", "-o", "nowhere/out.mkv"], "nowhere does not exist", 5),
    (["a", "b", "--labels", "one"], "--labels names 1 of 2", 2),
    (["a", "b", "--start", "9"], "--start lies beyond the end", 2),
    (["a", "b", "--duration", "0"], "--duration", 2),
    (["a", "b", "--slow", "0"], "0", 2),
    (["a", "b", "--mode", "beside"], "--mode", 2),
    (["a", "b", "--min-psnr", "30"], "--min-psnr", 2),
    (["a", "b", "--codec", "prores", "-o", "out.webm"], ".webm cannot hold prores", 2),
]


@pytest.mark.parametrize(("arguments", "message", "code"), WRONG, ids=lambda v: str(v)[:40])
def test_what_is_wrong_is_said_in_a_line(
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mkv").touch()
    named = [f"{a}.mkv" if a in ("a", "b") else a for a in arguments]
    target = [] if "-o" in named else ["-o", "out.mkv"]
    assert main(["compare", *named, *target]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "empty.mkv"]


def test_the_library_wants_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two videos"):
        plan_comparison([tmp_path / "a.mkv"], tmp_path / "o.mkv", ComparisonOptions())


def test_an_interrupt_is_told(
    pair: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(self: object, done: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vfi_cli.cli.progress.Progress.update", interrupted)
    assert main(["compare", *map(str, pair), "-o", str(tmp_path / "out.mkv"), *FFV1]) == 130
    assert capsys.readouterr().err == "vfi: interrupted; nothing is left of out.mkv.\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv"]
