"""Too little memory: what is chosen beforehand, and what is tried when it proves too small."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.media import write_clip
from vfi_cli import bench, fit
from vfi_cli.api import ConvertOptions, ConvertResult, Listener, ModelOptions, convert_file
from vfi_cli.cli.options import parse_tile
from vfi_cli.errors import DeviceError, OutOfMemoryError, UsageError
from vfi_cli.fit import Demand, Fit, choose, footprint, smaller
from vfi_cli.folders import FolderListener, FolderOptions, interpolate_frames
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Window
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.models import load_model
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.plan import Timing
from vfi_cli.synthesis import Synthesizer
from vfi_cli.work import work_folder_of

WIDTH, HEIGHT = 160, 96
MEGABYTE = 1 << 20

#: What torch and Python raise when there is no memory, by where.
ERRORS: dict[str, Callable[[], Exception]] = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 884736000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "cudnn": lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "python": MemoryError,
}


class Limited(Network):
    """Blends, and has room for so many pixels of so many frames at once."""

    size_multiple = 8

    def __init__(self, room: Callable[[], int], error: Callable[[], Exception]) -> None:
        super().__init__()
        self.room, self.error = room, error
        self.seen: list[tuple[int, int, int]] = []  # frames at once, height, width

    def forward(self, frames: Tensor, timestep: Tensor, **options: Any) -> Tensor:
        shape = (len(timestep), *frames.shape[-2:])
        if np.prod(shape) > self.room():
            raise self.error()
        self.seen.append(shape)
        return torch.lerp(frames[:, 0], frames[:, 1], timestep)


def limited(room: int | Callable[[], int], kind: str = "cpu") -> tuple[Interpolator, Limited]:
    network = Limited(room if callable(room) else lambda: room, ERRORS[kind])
    return Interpolator(network, name="limited", device="cpu", dtype="float32"), network


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "LEAST_SIDE", 32)


def frame(seed: int) -> Frame:
    plane = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    layout, color = PlaneLayout("gray", 8), ColorSpec(full_range=True)
    return Frame((plane,), WIDTH, HEIGHT, layout, color, seed, Fraction(1, 25))


def windows(*times: Fraction) -> list[Window]:
    pair = (frame(0), frame(1))
    return [Window(pair, time) for time in times]


# Chosen beforehand


def test_more_pixels_more_frames_and_more_views_take_more() -> None:
    model, _ = limited(1)
    small = footprint(model, Demand(640, 480), Fit())
    assert footprint(model, Demand(1280, 960), Fit()) == 4 * small
    assert footprint(model, Demand(640, 480), Fit(batch=4)) > 2 * small
    assert footprint(model, Demand(640, 480, views=4), Fit()) > small
    assert footprint(model, Demand(640, 480, scale=2), Fit()) > 3 * small
    assert footprint(model, Demand(640, 480, ensemble=True), Fit()) > small
    tiled = footprint(model, Demand(3840, 2160), Fit(tile=512))
    assert tiled > 512 * 512 * fit.UNKNOWN_BYTES_PER_PIXEL
    assert tiled < footprint(model, Demand(3840, 2160), Fit()) / 10


@pytest.mark.parametrize("free", [8000, 1000, 100, 1])
def test_what_is_chosen_fits_into_what_is_free(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = limited(1)
    monkeypatch.setattr(fit, "free_memory", lambda device: free * MEGABYTE)
    demand = Demand(1920, 1080)
    chosen = choose(model, demand)
    if free == 8000:
        assert chosen == Fit()
    elif free == 1000:
        assert chosen.tile is not None
        assert footprint(model, demand, chosen) < free * MEGABYTE
        assert footprint(model, demand, Fit(chosen.tile + 64)) > fit.SHARE * free * MEGABYTE
    else:
        assert chosen.tile == 32, "nothing fits: the least that can be tried"


def test_what_was_asked_for_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = limited(1)
    monkeypatch.setattr(fit, "free_memory", lambda device: MEGABYTE)
    assert choose(model, Demand(1920, 1080), "off") == Fit()
    assert choose(model, Demand(1920, 1080), 512) == Fit(512)
    assert choose(model, Demand(400, 300), 512) == Fit(), "a tile that holds all is none"
    monkeypatch.setattr(fit, "free_memory", lambda device: None)
    assert choose(model, Demand(1920, 1080), "auto") == Fit(), "where nobody tells"


def test_several_at_once_are_the_first_to_go() -> None:
    model, _ = limited(1)
    steps = [Fit(batch=4)]
    while (less := smaller(model, Demand(1920, 1080), steps[-1])) is not None:
        steps.append(less)
    assert steps[1] == Fit()
    sides = [step.tile or 1920 for step in steps[1:]]
    assert sides == sorted(set(sides), reverse=True)
    assert sides[1] == 1280
    assert sides[-1] == 32


def test_unknown_architectures_are_not_underestimated() -> None:
    known = sorted(fit.BYTES_PER_PIXEL.values())
    assert known[len(known) * 3 // 4] <= fit.UNKNOWN_BYTES_PER_PIXEL


@pytest.mark.parametrize(
    ("name", "ensemble"), [("default", False), ("rife-v4.6", False), ("rife-v4.6", True)]
)
def test_a_model_takes_what_the_table_says(name: str, ensemble: bool) -> None:
    """Measured in processes of their own, with the kernels that are there."""
    # Far apart: what a process takes by itself differs by some 20 MB from one to the next.
    rows = [
        bench.measure_models([name], size=size, device="cpu", repeat=1, ensemble=ensemble).rows[0]
        for size in ((256, 192), (1280, 768))
    ]
    if any(row.peak_memory is None for row in rows):
        pytest.skip("the system does not tell")
    grown = (rows[1].peak_memory - rows[0].peak_memory) / (1280 * 768 - 256 * 192)
    model = bench.open_model(name, device="cpu", dtype="auto")
    told = fit.bytes_per_pixel(model, ensemble=ensemble)
    assert told / 2.5 < grown < told * 1.5


def test_float32_takes_more_where_bfloat16_was_measured() -> None:
    wide, narrow = (
        bench.open_model("vfi-lite", device="cpu", dtype=d) for d in ("float32", "bfloat16")
    )
    assert fit.bytes_per_pixel(wide) > 1.5 * fit.bytes_per_pixel(narrow)
    only = bench.open_model("blend", device="cpu", dtype="float32")
    assert fit.bytes_per_pixel(only) == fit.BYTES_PER_PIXEL["blend"]


def test_the_synthesizer_counts_on_the_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Demand] = []
    monkeypatch.setattr(
        "vfi_cli.synthesis.choose",
        lambda model, demand, tile: asked.append(demand) or Fit(),  # type: ignore[func-returns-value]
    )
    for ensemble in (False, True):
        Synthesizer(limited(1)[0], ensemble=ensemble).choose_fit(64, 48)
    assert [demand.ensemble for demand in asked] == [False, True]


# Found out


@pytest.mark.parametrize("kind", ERRORS)
def test_a_frame_is_tried_again_in_tiles(kind: str) -> None:
    """The picture is the same, and the next one does not try what failed."""
    wide, _ = limited(1 << 30)
    model, network = limited(96 * 104, kind)
    made = Synthesizer(model)
    first, second = windows(Fraction(1, 4), Fraction(1, 2))
    expected = Synthesizer(wide).between(first).planes[0].astype(int)
    assert np.abs(made.between(first).planes[0] - expected).max() <= 1
    assert made.fit == Fit(104), "two thirds of the width, in multiples of 8"
    assert len(made.warnings) == 1
    assert "too little memory for whole frames" in made.warnings[0]
    assert "tiles of 104 pixels" in made.warnings[0]
    calls = len(network.seen)
    made.between(second)
    assert len(network.seen) == 2 * calls
    assert len(made.warnings) == 1


def test_fewer_at_once_comes_before_tiles() -> None:
    model, network = limited(WIDTH * HEIGHT * 2)
    made = Synthesizer(model)
    made.fit = Fit(batch=4)
    times = [Fraction(n, 8) for n in range(1, 8)]
    frames = made.several(windows(*times))
    assert made.fit == Fit()
    assert network.seen == [(1, HEIGHT, WIDTH)] * 7
    alone = Synthesizer(limited(1 << 30)[0])
    for one, window in zip(frames, windows(*times), strict=True):
        np.testing.assert_array_equal(one.planes[0], alone.between(window).planes[0])


def test_several_at_once_are_made_at_once() -> None:
    model, network = limited(1 << 30)
    made = Synthesizer(model)
    made.fit = Fit(batch=4)
    made.several(windows(*(Fraction(n, 8) for n in range(1, 8))))
    assert [count for count, _, _ in network.seen] == [4, 3]


def test_where_nothing_helps_the_error_says_what_might() -> None:
    model, _ = limited(31)
    made = Synthesizer(model)
    with pytest.raises(OutOfMemoryError, match="even in the smallest tiles; try a smaller --scale"):
        made.between(*windows(Fraction(1, 2)))
    assert OutOfMemoryError("").exit_code == DeviceError.exit_code
    assert made.fit == Fit(32)


def test_other_errors_are_not_taken_for_it() -> None:
    network = Limited(lambda: 0, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    model = Interpolator(network, name="broken", device="cpu", dtype="float32")
    with pytest.raises(RuntimeError, match="mat1"):
        Synthesizer(model).between(*windows(Fraction(1, 2)))


# In a conversion

PIXELS = WIDTH * HEIGHT


def convert(
    source: Path, output: Path, model: Interpolator, listener: Listener | None = None, **given: Any
) -> ConvertResult:
    options = ConvertOptions(
        Timing(factor=Fraction(3)), ModelOptions(**given), EncoderOptions(codec="ffv1"), cuts=False
    )
    return convert_file(source, output, options, interpolator=lambda: model, listener=listener)


def planes(path: Path) -> list[np.ndarray]:
    with FrameReader(probe(path)) as reader:
        return [frame.planes[0] for frame in reader]


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("vfi_cli.plan.SEGMENT_SECONDS", Fraction(1, 5))
    return write_clip(
        tmp_path / "in.mp4", frames=15, size=(WIDTH, HEIGHT), options={"g": "5", "bf": "0"}
    )


class Watching(Listener):
    def __init__(self, folder: Path, stop: int = 1 << 30) -> None:
        self.folder, self.stop = folder, stop
        self.done: list[int] = []

    def progress(self, done: int) -> None:
        self.done.append(done)
        if done == self.stop:
            raise KeyboardInterrupt

    def rendered(self) -> None:
        self.fit = json.loads((self.folder / "fit.json").read_text())


def test_a_segment_begins_again_so_that_it_is_made_in_one_way(tmp_path: Path, clip: Path) -> None:
    """Memory ends in the second segment: the first stays, the second is all in tiles."""
    calls = 0

    def room() -> int:
        nonlocal calls
        calls += 1
        return PIXELS if calls <= 13 else PIXELS * 2 // 3

    model, network = limited(room)
    output = tmp_path / "out.mkv"
    watching = Watching(work_folder_of(output))
    result = convert(clip, output, model, watching)
    assert result.counts.frames == 45
    assert len(result.warnings) == 1
    assert "too little memory" in result.warnings[0]
    whole = [shape[1:] == (HEIGHT, WIDTH) for shape in network.seen]
    assert whole[:13] == [True] * 13
    assert not any(whole[13:])
    first = 10  # new frames of the first segment; three more were made in vain
    per_frame = 2
    assert len(network.seen) == first + 3 + per_frame * (28 - first)
    assert watching.done == list(range(1, 46)), "each frame is told once"
    assert watching.fit == {"tile": 104, "batch": 1}
    plain = tmp_path / "plain.mkv"
    convert(clip, plain, limited(1 << 30)[0])
    for one, other in zip(planes(output), planes(plain), strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_a_run_that_goes_on_makes_frames_as_before(tmp_path: Path, clip: Path) -> None:
    output = tmp_path / "out.mkv"
    watching = Watching(work_folder_of(output), stop=20)
    with pytest.raises(KeyboardInterrupt):
        convert(clip, output, limited(PIXELS * 2 // 3)[0], watching)
    model, network = limited(1 << 30)
    result = convert(clip, output, model)
    assert result.warnings == ()
    assert network.seen
    assert all(width < WIDTH for _, _, width in network.seen), "though there is memory now"


def test_folders_keep_to_what_fits_and_tell_of_it(tmp_path: Path) -> None:
    """The third new image finds too little memory; then the run is interrupted and goes on."""
    from PIL import Image

    clip, output = tmp_path / "clip", tmp_path / "out"
    clip.mkdir()
    for number in range(5):
        Image.fromarray(frame(number).planes[0]).save(clip / f"{number}.png")
    calls = 0

    def room() -> int:
        nonlocal calls
        calls += 1
        return PIXELS if calls <= 2 else PIXELS * 2 // 3

    class Stop(FolderListener):
        warnings: list[str] = []  # noqa: RUF012

        def warned(self, text: str) -> None:
            self.warnings.append(text)

        def progress(self, done: int, total: int) -> None:
            if done == 3:
                raise KeyboardInterrupt

    options = FolderOptions(cuts=False)
    with pytest.raises(KeyboardInterrupt):
        interpolate_frames(clip, output, options, interpolator=limited(room)[0], listener=Stop())
    assert len(Stop.warnings) == 1
    assert "too little memory for whole frames" in Stop.warnings[0]
    model, network = limited(1 << 30)
    result = interpolate_frames(clip, output, options, interpolator=model)
    assert result[0].images == 4
    assert network.seen
    assert all(width < WIDTH for _, _, width in network.seen), "though there is memory now"
    assert sorted(path.suffix for path in output.iterdir()) == [".png"] * 4


def test_times_of_one_pair_are_made_at_once_where_that_pays(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two new frames a pair: together on a GPU, one by one on a CPU, and the same pictures."""
    alone, one_by_one = limited(1 << 30)
    convert(clip, tmp_path / "alone.mkv", alone)
    assert {shape[0] for shape in one_by_one.seen} == {1}
    monkeypatch.setattr(fit, "most_at_once", lambda model: fit.GPU_BATCH)
    monkeypatch.setattr(fit, "SMALL_PIXELS", 0)
    together, pairs = limited(1 << 30)
    convert(clip, tmp_path / "together.mkv", together)
    assert {shape[0] for shape in pairs.seen} == {2}
    assert len(pairs.seen) == len(one_by_one.seen) / 2
    for one, other in zip(
        planes(tmp_path / "alone.mkv"), planes(tmp_path / "together.mkv"), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_tiles_are_part_of_the_plan(tmp_path: Path, clip: Path) -> None:
    model, network = limited(1 << 30)
    result = convert(clip, tmp_path / "out.mkv", model, tile=64)
    assert result.plan.settings.tile == 64
    assert result.plan.describe()["settings"]["tile"] == 64
    assert {max(shape[1:]) for shape in network.seen} == {64}
    whole = convert(clip, tmp_path / "whole.mkv", limited(1 << 30)[0], tile="off")
    assert whole.plan.fingerprint != result.plan.fingerprint


def test_tiles_that_the_model_cannot_take_are_refused_beforehand(
    tmp_path: Path, clip: Path
) -> None:
    with pytest.raises(UsageError, match="tiles of 8 pixels are too small for limited"):
        convert(clip, tmp_path / "out.mkv", limited(1 << 30)[0], tile=8)
    assert not work_folder_of(tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("off", "off"), ("512", 512)])
def test_the_option(text: str, value: object) -> None:
    assert parse_tile(text) == value
    assert parse_tile(value) == value  # Typer hands defaults over parsed


@pytest.mark.parametrize("text", ["", "0", "-5", "big", "512x512", "1.5"])
def test_the_option_says_what_it_takes(text: str) -> None:
    with pytest.raises(UsageError, match="write auto, off or pixels such as 512"):
        parse_tile(text)


def test_real_models_combine_tiles_with_ensembles() -> None:
    model = load_model("default", device="cpu", dtype="float32")
    frames = torch.rand(1, 2, 3, 150, 280, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.avg_pool2d(frames[0], 9, 1, 4)[None]
    whole = model.interpolate(smooth, 0.5, tta="flip,rotate")
    tiled = model.interpolate(smooth, 0.5, tta="flip,rotate", tile=256)
    assert tiled.shape == whole.shape
    assert -10 * (whole - tiled).square().mean().log10() > 40
