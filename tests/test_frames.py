"""``vfi frames``: the images that come out, and what becomes of runs that go wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from vfi_cli.__main__ import main
from vfi_cli.api import ModelOptions, open_model
from vfi_cli.errors import OutputError
from vfi_cli.folders import FolderListener, FolderOptions, interpolate_frames, plan_clip
from vfi_cli.frame import PlaneLayout
from vfi_cli.io.images import image_frame, probe_image, read_image, write_image
from vfi_cli.io.naming import find_clips

BLEND = ModelOptions(name="blend", device="cpu", dtype="float32")


def picture(number: int, layout: PlaneLayout, width: int = 48, height: int = 32) -> np.ndarray:
    """(components, H, W): a texture that moves two pixels a frame, in all components alike."""
    rng = np.random.default_rng(7)
    texture = rng.uniform(0, layout.peak, (layout.components, height // 4, width))
    texture = np.repeat(np.repeat(texture, 4, axis=1), 4, axis=2)
    return texture[:, :height, 2 * number : 2 * number + width].astype(layout.dtype)


def make_clip(
    folder: Path,
    names: list[str],
    layout: PlaneLayout | None = None,
    first: int = 0,
    size: tuple[int, int] = (48, 32),
) -> Path:
    """A folder of PNG images of the moving texture."""
    layout = layout or PlaneLayout("rgb", 8)
    folder.mkdir(parents=True, exist_ok=True)
    template = folder / "template.png"
    PIL.Image.new("L", (1, 1)).save(template)
    like = probe_image(template)
    likeness = read_image(template).likeness
    template.unlink()
    for number, name in enumerate(names):
        frame = image_frame(tuple(picture(first + number, layout, *size)), layout)
        write_image(folder / name, frame, like, likeness)
    return folder


def planes(path: Path) -> np.ndarray:
    return np.stack(read_image(path).frame.planes).astype(np.int64)


def run(folder: Path, output: Path | None, *arguments: str) -> int:
    where = [] if output is None else ["-o", str(output)]
    return main(["frames", str(folder), *where, "--model", "blend", "--quiet", *arguments])


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


REDS = ["00000000.png", "00000008.png", "00000016.png"]

LAYOUTS = [
    PlaneLayout(kind, bits, alpha=alpha)
    for kind in ("gray", "rgb")
    for bits in (8, 16)
    for alpha in (False, True)
]


@pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda la: f"{la.kind}{la.bits}{'a' if la.alpha else ''}"
)
def test_new_images_have_the_kind_of_their_neighbours(layout: PlaneLayout, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", REDS, layout)
    assert run(source, tmp_path / "out", "--inter", "3", "--no-cuts") == 0
    assert listed(tmp_path / "out") == [f"{n:08}.png" for n in (2, 4, 6, 10, 12, 14)]
    a, b = planes(source / REDS[0]), planes(source / REDS[1])
    for number, t in ((2, 0.25), (4, 0.5), (6, 0.75)):
        path = tmp_path / "out" / f"{number:08}.png"
        assert probe_image(path).layout == layout
        # Two roundings to code values: of the result, and of float32 at 16 bits.
        assert np.abs(planes(path) - ((1 - t) * a + t * b)).max() <= 0.51 + layout.peak / 2**22


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif"])
def test_formats_stay(suffix: str, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", ["1.png", "2.png"], PlaneLayout("gray", 8))
    for path in list(source.iterdir()):
        PIL.Image.open(path).convert("RGB").save(path.with_suffix(suffix), quality=95)
        path.unlink()
    assert run(source, tmp_path / "out", "--no-cuts") == 0
    assert listed(tmp_path / "out") == [f"1_0{suffix}"]
    a, b = (planes(source / f"{n}{suffix}") for n in (1, 2))
    assert np.abs(planes(tmp_path / "out" / f"1_0{suffix}") - (a + b) / 2).mean() < 4


def test_midpoint_models_reach_other_times_by_halving(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", ["1.png", "2.png"])
    interpolator = open_model(BLEND)
    interpolator.any_timestep = False
    options = FolderOptions(inter=3, model=BLEND, cuts=False)
    interpolate_frames(source, tmp_path / "out", options, interpolator=interpolator)
    a, b = planes(source / "1.png"), planes(source / "2.png")
    for number, t in enumerate((0.25, 0.5, 0.75)):
        found = planes(tmp_path / "out" / f"1_{number}.png")
        assert np.abs(found - ((1 - t) * a + t * b)).max() <= 1


def test_a_gap_that_does_not_divide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_clip(tmp_path / "clip", REDS)
    assert run(source, tmp_path / "out", "--inter", "2") == 4
    said = capsys.readouterr().err
    assert "00000000.png and 00000008.png are 8 apart" in said
    assert listed(tmp_path) == ["clip"]


def test_kept_inputs_are_the_same_bytes(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", ["a.png", "b.png"])
    (source / "a.png").write_bytes((source / "a.png").read_bytes() + b"trailing bytes stay too")
    assert run(source, tmp_path / "out", "--keep-inputs") == 0
    assert listed(tmp_path / "out") == ["a.png", "a_0.png", "b.png"]
    assert run(source, tmp_path / "seq", "--naming", "sequence") == 0
    assert listed(tmp_path / "seq") == ["00000000.png", "00000001.png", "00000002.png"]
    for kept, name in (("out/a.png", "a.png"), ("seq/00000002.png", "b.png")):
        assert (tmp_path / kept).read_bytes() == (source / name).read_bytes()


def test_images_are_taken_in_natural_order(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", ["f8.png", "f9.png", "f10.png"])
    assert run(source, tmp_path / "out", "--naming", "sequence", "--no-cuts") == 0
    assert np.array_equal(planes(tmp_path / "out/00000002.png"), planes(source / "f9.png"))
    assert np.array_equal(planes(tmp_path / "out/00000004.png"), planes(source / "f10.png"))


def test_default_output_stands_beside_the_input(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", REDS)
    assert run(source, None, "--inter", "3") == 0
    assert listed(tmp_path) == ["clip", "clip.x4"]


def test_crop_and_resize(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", ["1.png", "2.png"], PlaneLayout("rgb", 16))
    assert run(source, tmp_path / "crop", "--crop", "20x10", "--no-cuts") == 0
    a, b = (planes(source / f"{n}.png")[:, 11:21, 14:34] for n in (1, 2))
    assert np.abs(planes(tmp_path / "crop" / "1_0.png") - (a + b) / 2).max() <= 1

    options = ("--resize", "24x16", "--keep-inputs", "--no-cuts")
    assert run(source, tmp_path / "half", *options) == 0
    kept = planes(tmp_path / "half" / "1.png")
    assert kept.shape == (3, 16, 24)
    assert abs(kept.mean() - planes(source / "1.png").mean()) < 500
    assert probe_image(tmp_path / "half" / "1_0.png").layout == PlaneLayout("rgb", 16)
    assert run(source, tmp_path / "big", "--crop", "49x10") == 2


def test_clip_folders_are_done_one_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = tmp_path / "clips"
    make_clip(top / "000", REDS)
    make_clip(top / "001", ["00000000.png"])
    make_clip(top / "002", REDS, first=3)
    assert run(top, tmp_path / "out", "--json") == 8
    said = capsys.readouterr()
    assert "only one image" in said.err
    assert "1 of 3 folders failed: 001" in said.err
    assert listed(tmp_path / "out") == ["000", "002"]
    assert listed(tmp_path / "out" / "002") == ["00000004.png", "00000012.png"]
    records = {Path(record["input"]).name: record for record in json.loads(said.out)["items"]}
    assert records["000"]["new"] == 2
    assert records["001"]["exit_code"] == 4


def test_clips_that_are_done_are_left_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "set", tmp_path / "out"
    for name in ("000", "001", "002"):
        make_clip(source / name, REDS)
    assert run(source, output) == 0
    for path in (output / "001").iterdir():
        path.unlink()
    (output / "002" / "notes.txt").write_text("mine")
    made = (output / "000" / "00000004.png").stat().st_mtime_ns
    code = main(["frames", str(source), "-o", str(output), "--model", "blend", "--json"])
    captured = capsys.readouterr()
    assert code == 8
    assert "1 of 3 folders failed: 002" in captured.err, "there is more in it than its images"
    assert captured.err.count("all of its images are there already") == 1
    assert (output / "000" / "00000004.png").stat().st_mtime_ns == made
    assert listed(output / "001") == listed(output / "000")
    (output / "002" / "notes.txt").unlink()
    assert run(source, output) == 0
    assert run(source, output, "--overwrite") == 0
    assert (output / "000" / "00000004.png").stat().st_mtime_ns > made
    assert main(["frames", str(source / "000"), "-o", str(output / "000"), "--quiet"]) == 5


def test_unlike_images_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_clip(tmp_path / "clip", ["1.png", "2.png"])
    make_clip(source, ["3.png"], size=(40, 32))
    assert run(source, tmp_path / "out") == 4
    said = capsys.readouterr().err
    assert "1.png and 3.png differ: 48×32 png 8-bit RGB and 40×32" in said

    make_clip(source, ["3.png"], PlaneLayout("gray", 8))
    assert run(source, tmp_path / "out") == 4
    assert "8-bit grey" in capsys.readouterr().err
    assert listed(tmp_path) == ["clip"]


def test_a_damaged_image_stops_the_clip_and_leaves_no_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_clip(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    data = (source / "3.png").read_bytes()
    (source / "3.png").write_bytes(data[: len(data) // 2])
    assert run(source, tmp_path / "out") == 4
    assert "3.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_outputs_that_would_do_harm_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = make_clip(tmp_path / "clip", REDS)
    before = listed(source)
    for output in (source, source / "new"):
        assert run(source, output) == 5
        assert "outside" in capsys.readouterr().err
    assert run(source, tmp_path / "no" / "where") == 5
    (tmp_path / "file").touch()
    assert run(source, tmp_path / "file") == 5
    assert listed(source) == before


def test_a_folder_with_files_needs_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = make_clip(tmp_path / "clip", REDS), tmp_path / "out"
    output.mkdir()  # an empty one is as good as none
    assert run(source, output) == 0
    first = (output / "00000004.png").read_bytes()
    (output / "00000004.png").write_bytes(b"precious")
    (output / "other.txt").write_text("mine")
    assert run(source, output) == 5
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "00000004.png").read_bytes() == b"precious"
    assert run(source, output, "--overwrite") == 0
    assert (output / "00000004.png").read_bytes() == first
    assert listed(output) == ["00000004.png", "00000012.png", "other.txt"]
    assert listed(tmp_path) == ["clip", "out"]


class StopAt(FolderListener):
    """Ends the run when so many images are done, as a Ctrl-C would."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.first: int | None = None

    def progress(self, done: int, total: int) -> None:
        if self.first is None:
            self.first = done
        if done == self.count:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop", [1, 4, 7])
def test_an_interrupted_run_goes_on(stop: int, tmp_path: Path) -> None:
    names = [f"{8 * n:08}.png" for n in range(5)]
    source, output = make_clip(tmp_path / "clip", names), tmp_path / "out"
    options = FolderOptions(inter=1, keep_inputs=True, model=BLEND)
    interpolate_frames(source, tmp_path / "whole", options)
    with pytest.raises(KeyboardInterrupt):
        interpolate_frames(source, output, options, listener=StopAt(stop))
    assert not output.exists()
    work = tmp_path / ".out.vfi"
    done = {path.name: path.stat().st_mtime_ns for path in work.glob("*.png")}
    assert done

    again = StopAt(-1)
    (result,) = interpolate_frames(source, output, options, listener=again)
    assert again.first == len(done)
    assert (result.images, result.new, result.copied) == (9, 4, 5)
    for name in listed(tmp_path / "whole"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        if name in done:
            assert (output / name).stat().st_mtime_ns == done[name]
    assert listed(tmp_path) == ["clip", "out", "whole"]


def test_an_unfinished_run_of_other_settings_is_not_mixed_in(tmp_path: Path) -> None:
    source, output = make_clip(tmp_path / "clip", REDS), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        interpolate_frames(source, output, FolderOptions(inter=3, model=BLEND), listener=StopAt(2))
    other = FolderOptions(inter=3, model=ModelOptions(name="nearest"))
    with pytest.raises(OutputError, match="unfinished run"):
        interpolate_frames(source, output, other)
    interpolate_frames(source, output, FolderOptions(inter=3, model=other.model, overwrite=True))
    assert np.array_equal(planes(output / "00000002.png"), planes(source / REDS[0]))


def test_a_run_that_died_while_it_was_published_goes_on(tmp_path: Path) -> None:
    """Between the last image and the folder's name: at each of the renames."""
    source, output = make_clip(tmp_path / "clip", REDS), tmp_path / "out"
    options = FolderOptions(inter=1, model=BLEND)
    import vfi_cli.folders as module

    real = module.os.replace
    for survive in range(6):

        def replace(a: object, b: object, left: list[int] = [survive]) -> None:  # noqa: B006
            if Path(str(a)).suffix != ".part":
                if left[0] == 0:
                    raise KeyboardInterrupt
                left[0] -= 1
            real(a, b)  # type: ignore[arg-type]

        module.os.replace = replace  # type: ignore[assignment]
        try:
            interpolate_frames(source, output, options)
        except KeyboardInterrupt:
            assert not output.exists() or listed(output) == ["00000004.png", "00000012.png"]
        finally:
            module.os.replace = real
        if not output.exists():
            interpolate_frames(source, output, options)
        assert listed(output) == ["00000004.png", "00000012.png"]
        assert listed(tmp_path) == ["clip", "out"]
        for path in output.iterdir():
            path.unlink()
        output.rmdir()


def cut_clip(folder: Path) -> Path:
    """Five images of one scene, then five of another."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    for scene in range(2):
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (8, 14, 3), np.uint8))
        wide = np.asarray(coarse.resize((112, 64), PIL.Image.Resampling.BICUBIC))
        for number in range(5):
            part = np.ascontiguousarray(wide[:, 2 * number : 2 * number + 96])
            PIL.Image.fromarray(part).save(folder / f"{5 * scene + number:03}.png")
    return folder


def test_at_a_cut_the_nearer_image_is_shown(tmp_path: Path) -> None:
    source, output = cut_clip(tmp_path / "clip"), tmp_path / "out"
    (result,) = interpolate_frames(source, output, FolderOptions(inter=3, model=BLEND))
    assert (result.cuts, result.images, result.new, result.copied) == (1, 27, 24, 3)
    for number, nearer in ((0, "004"), (1, "004"), (2, "005")):
        shown = (output / f"004_{number}.png").read_bytes()
        assert shown == (source / f"{nearer}.png").read_bytes()
    options = FolderOptions(inter=1, model=BLEND, cuts=False)
    (result,) = interpolate_frames(source, tmp_path / "morph", options)
    assert (result.cuts, result.new) == (0, 9)


@pytest.mark.parametrize("stop", [2, 4, 5, 8])
def test_a_cut_is_found_from_wherever_a_run_goes_on(stop: int, tmp_path: Path) -> None:
    source, output = cut_clip(tmp_path / "clip"), tmp_path / "out"
    options = FolderOptions(inter=1, model=BLEND)
    with pytest.raises(KeyboardInterrupt):
        interpolate_frames(source, output, options, listener=StopAt(stop))
    (result,) = interpolate_frames(source, output, options)
    assert (result.cuts, result.new) == (1, 8)
    assert (output / "004_0.png").read_bytes() == (source / "004.png").read_bytes()


def test_a_dry_run_makes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_clip(tmp_path / "clip", REDS)
    assert main(["frames", str(source), "--inter", "3", "--dry-run", "--json"]) == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert (record["naming"], record["images"], record["first"]) == ("reds", 6, "00000002.png")
    assert "6 new, 3 between each two" in captured.err
    assert listed(tmp_path) == ["clip"]


def test_the_screen_says_what_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make_clip(tmp_path / "clip", REDS)
    assert main(["frames", str(source), "--model", "blend"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "clip/     3 images  48×32 png 8-bit RGB"
    assert lines[1] == "clip.x2/  2 new, 1 between each two  named as reds  model blend"
    assert lines[-1].startswith("✓ clip.x2/  2 images, 2 new, read back and checked")


def test_plans_say_what_happens_to_kept_inputs(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "clip", REDS)
    (clip,) = find_clips(source)
    plan = plan_clip(clip, tmp_path / "out", FolderOptions(keep_inputs=True, crop=(8, 8)))
    assert "written again" in plan.notes[0]
    assert plan_clip(clip, tmp_path / "out", FolderOptions(keep_inputs=True)).notes == ()
