"""``vfi frames --follow``: depth maps and masks that move as the pictures do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from tests.test_frames import listed, make_clip, planes, run
from vfi_cli.api import ModelOptions
from vfi_cli.errors import InputError, ModelError, OutputError, VfiError
from vfi_cli.folders import FolderListener, FolderOptions, interpolate_frames
from vfi_cli.frame import PlaneLayout
from vfi_cli.io.images import probe_image
from vfi_cli.io.naming import Clip
from vfi_cli.models import Interpolator
from vfi_cli.models.base import Motion, Network

GRAY8, GRAY16 = PlaneLayout("gray", 8), PlaneLayout("gray", 16)
NAMES = ["0.png", "4.png", "8.png"]
SPEED = 2  # pixels a frame, of tests.test_frames.picture: a texture that passes to the left


class Passing(Network):
    """Knows how the texture moves."""

    timestep_map = True
    size_multiple = 1
    has_motion = True

    def motion(self, frames, timestep, *, scale=1.0, memo=None):
        height, width = frames.shape[-2:]
        still = torch.zeros(1, 1, height, width)
        there = timestep.expand(1, 1, height, width)
        assert float(frames.min()) >= 0
        assert float(frames.max()) <= 1
        return Motion(
            torch.cat([SPEED * there, still], 1),
            torch.cat([SPEED * (there - 1), still], 1),
            1 - there,
        )

    def forward(self, frames, timestep, *, scale=1.0, ensemble=False, memo=None):
        return torch.lerp(frames[:, 1], frames[:, 0], 1 - timestep)


class Silent(Passing):
    has_motion = False


def passing(network: type[Network] = Passing, **attributes: object) -> Interpolator:
    model = Interpolator(network(), name="passing", device="cpu", dtype="float32")
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def ramp(number: float, width: int = 48, height: int = 32) -> np.ndarray:
    """A 16-bit depth that moves as the texture does, ever steeper from column to column."""
    column = np.arange(width)[None] + SPEED * number
    return np.repeat(5000 + 20 * column**2, height, 0)


def depth(folder: Path, names: list[str] = NAMES) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(names):
        PIL.Image.fromarray(ramp(number).astype(np.uint16)).save(folder / name)
    return folder


def follow(
    tmp_path: Path, interpolator: Interpolator | None = None, **options: object
) -> tuple[Path, Path]:
    given = {"cuts": False, "model": ModelOptions("blend", device="cpu")} | options
    wanted = FolderOptions(follow=tmp_path / "depth", **given)  # type: ignore[arg-type]
    interpolate_frames(tmp_path / "clip", None, wanted, interpolator=interpolator or passing())
    step = wanted.inter + 1
    return tmp_path / f"clip.x{step}", tmp_path / f"depth.x{step}"


@pytest.mark.parametrize("midpoints", [False, True])
def test_a_depth_map_moves_with_the_picture_and_keeps_its_bits(
    tmp_path: Path, midpoints: bool
) -> None:
    make_clip(tmp_path / "clip", NAMES)
    depth(tmp_path / "depth")
    model = passing(any_timestep=not midpoints)
    new, moved = follow(tmp_path, model, inter=3)
    assert listed(new) == listed(moved) == [f"{n}.png" for n in (1, 2, 3, 5, 6, 7)]
    assert listed(tmp_path) == ["clip", "clip.x4", "depth", "depth.x4"]
    for number in (1, 2, 3, 5, 6, 7):
        path = moved / f"{number}.png"
        assert probe_image(path).layout == GRAY16
        # Columns at the edges come from beyond. Bilinear fetches cut the curve by 20 / 4 at most.
        truth, t = ramp(number / 4), number / 4 % 1
        assert np.abs(planes(path)[0] - truth)[:, 2:-2].max() <= 6
        average = (1 - t) * ramp(number // 4) + t * ramp(number // 4 + 1)
        assert np.abs(average - truth).min() > 12, "motion must show"


def test_the_right_samples_move(tmp_path: Path) -> None:
    """A texture, which averaging would blur, arrives whole half way."""
    make_clip(tmp_path / "clip", NAMES)
    make_clip(tmp_path / "depth", NAMES, GRAY16)
    _, moved = follow(tmp_path, inter=1)
    before, after = planes(tmp_path / "depth" / "0.png")[0], planes(tmp_path / "depth" / "4.png")[0]
    made = planes(moved / "2.png")[0]
    assert np.array_equal(made[:, 1:-1], before[:, 2:])  # one pixel further, half of two
    assert not np.array_equal(made, (before + after) // 2)


def test_masks_stay_within_range_and_other_endings_do(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip", NAMES)
    (tmp_path / "depth").mkdir()
    rng = np.random.default_rng(5)
    for name in NAMES:
        mask = np.where(rng.uniform(size=(32, 48)) > 0.5, 255, 0).astype(np.uint8)
        mask[:16] = 255
        PIL.Image.fromarray(mask).save((tmp_path / "depth" / name).with_suffix(".tif"))
    _, moved = follow(tmp_path, inter=2, naming="suffix")
    assert listed(moved) == ["0_0.tif", "0_1.tif", "4_0.tif", "4_1.tif"]
    for path in moved.iterdir():
        assert probe_image(path).layout == GRAY8
        made = planes(path)[0]
        assert np.all(made[:16] == 255), "no sample wraps around"
        assert 0 <= made.min() < 128


def test_cuts_are_those_of_the_pictures(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip", NAMES[:2])
    other = np.full((32, 48, 3), 250, np.uint8)
    other[:, ::5] = 10
    for number in (8, 12):
        PIL.Image.fromarray(other).save(tmp_path / "clip" / f"{number}.png")
    depth(tmp_path / "depth", [*NAMES, "12.png"])
    _, moved = follow(tmp_path, inter=3, cuts=True)
    content = {n: (moved / f"{n}.png").read_bytes() for n in (5, 6, 7)}
    assert content[5] == content[6] == (tmp_path / "depth" / "4.png").read_bytes()
    assert content[7] == (tmp_path / "depth" / "8.png").read_bytes()


def test_a_model_without_motion_is_refused_before_any_work(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip", NAMES)
    depth(tmp_path / "depth")
    with pytest.raises(ModelError, match="passing does not tell where its pixels come from"):
        follow(tmp_path, passing(Silent))
    assert listed(tmp_path) == ["clip", "depth"]


@pytest.mark.parametrize(
    ("names", "size", "expected"),
    [
        (["0.png", "5.png", "8.png"], (48, 32), "depth/5.png: is not named as 4.png in"),
        (NAMES[:2], (48, 32), "clip/8.png: has no counterpart in .*depth"),
        ([*NAMES, "9.png"], (48, 32), "depth/9.png: has no counterpart in .*clip"),
        (NAMES, (48, 28), "0.png differ in size: 48×28 png 16-bit grey and 48×32"),
    ],
)
def test_folders_that_do_not_belong_together(
    tmp_path: Path, names: list[str], size: tuple[int, int], expected: str
) -> None:
    make_clip(tmp_path / "clip", NAMES)
    make_clip(tmp_path / "depth", names, GRAY16, size=size)
    with pytest.raises(InputError, match=expected):
        follow(tmp_path)
    assert listed(tmp_path) == ["clip", "depth"]


def test_clips_follow_clips_of_the_same_name(tmp_path: Path) -> None:
    for name in "ab":
        make_clip(tmp_path / "clip" / name, NAMES)
    depth(tmp_path / "depth" / "b")

    told: list[tuple[str, str]] = []

    class Told(FolderListener):
        def failed(self, clip: Clip, error: VfiError) -> None:
            told.append((clip.name, str(error)))

    options = FolderOptions(cuts=False, follow=tmp_path / "depth", follow_output=tmp_path / "d2")
    with pytest.raises(VfiError, match="1 of 2 folders failed: a"):
        interpolate_frames(
            tmp_path / "clip", tmp_path / "c2", options, interpolator=passing(), listener=Told()
        )
    assert [name for name, _ in told] == ["a"]
    assert "depth/a: holds no images that could follow those of" in told[0][1]
    assert listed(tmp_path / "c2") == listed(tmp_path / "d2") == ["b"]
    assert listed(tmp_path / "c2" / "b") == listed(tmp_path / "d2" / "b") == ["2.png", "6.png"]


def test_outputs_that_would_fall_into_each_other(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip", NAMES)
    depth(tmp_path / "depth")
    both = tmp_path / "both"
    for target, other in (
        (both, both),
        (tmp_path / "depth" / "x", None),
        (None, tmp_path / "clip"),
    ):
        options = FolderOptions(cuts=False, follow=tmp_path / "depth", follow_output=other)
        with pytest.raises(OutputError):
            interpolate_frames(tmp_path / "clip", target, options, interpolator=passing())
    assert listed(tmp_path) == ["clip", "depth"]


def test_a_run_interrupted_between_the_two_goes_on(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip", NAMES)
    depth(tmp_path / "depth")
    given = FolderOptions(cuts=False, follow=tmp_path / "depth")

    class Interrupting(FolderListener):
        def finished(self, plan: object, result: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interpolate_frames(
            tmp_path / "clip", None, given, interpolator=passing(), listener=Interrupting()
        )
    assert listed(tmp_path) == [".clip.x2.vfi", "clip", "clip.x2", "depth"]
    made = (tmp_path / "clip.x2" / "2.png").stat().st_mtime_ns
    results = interpolate_frames(tmp_path / "clip", None, given, interpolator=passing())
    assert [result.images for result in results] == [2, 2]
    assert (tmp_path / "clip.x2" / "2.png").stat().st_mtime_ns == made
    assert listed(tmp_path) == ["clip", "clip.x2", "depth", "depth.x2"]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, other = make_clip(tmp_path / "clip", NAMES), depth(tmp_path / "depth")
    out, second = tmp_path / "out", tmp_path / "second"
    asked = ("--follow", str(other), "--follow-output", str(second), "--no-cuts")
    assert run(source, out, *asked) == 0
    assert listed(out) == listed(second) == ["2.png", "6.png"]
    assert np.abs(planes(second / "2.png")[0] - (ramp(0) + ramp(1)) / 2).max() <= 1
    assert run(source, out, "--follow-output", str(second)) == 2
    assert "--follow-output needs --follow" in capsys.readouterr().err
