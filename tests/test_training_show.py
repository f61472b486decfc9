"""What a run shows: validation, contact sheets, curves, and the command line."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import multiprocessing
import os
import shutil
import signal
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from rich.console import Console

from tests.trainkit import moving_clip, paint, scenes, small
from vfi_cli.__main__ import main
from vfi_cli.cli.train import Show, status
from vfi_cli.errors import InputError, OutputError
from vfi_cli.training.checkpoint import Watch
from vfi_cli.training.clips import ArrayClip
from vfi_cli.training.config import read_config
from vfi_cli.training.families import build
from vfi_cli.training.loop import Progress, Trainer
from vfi_cli.training.plot import diagrams, draw, plot, read_metrics
from vfi_cli.training.sheet import GAIN, draw_sheet, flow_colours
from vfi_cli.training.stop import stopping
from vfi_cli.training.validation import Rebuilt, Validation, Window, crop, rebuild

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> ArrayClip:
    file = tmp_path_factory.mktemp("clip") / "slide.npy"
    moving_clip(file)
    return ArrayClip(file)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


# Validation -------------------------------------------------------------------------------


def test_windows_lie_in_equal_parts_of_a_clip(clip: ArrayClip) -> None:
    windows = list(Validation([("slide", clip)], count=3))
    assert len(windows) == 3
    for window in windows:
        assert window.frames.shape == (2, 72, 100, 3)
        # The picture slides, so the middle is the frame before, three pixels on.
        assert np.array_equal(window.middle[:, :-3], window.frames[0][:, 3:])
        assert np.array_equal(window.frames[1][:, :-3], window.middle[:, 3:])
    four = list(Validation([("slide", clip)], count=2, seen=4))
    assert four[0].frames.shape == (4, 72, 100, 3)
    assert np.array_equal(four[0].frames[0][:, 6:], four[0].frames[1][:, :-6])


def test_footage_that_is_too_short_is_named(tmp_path: Path) -> None:
    moving_clip(tmp_path / "a.npy", frames=4)
    with pytest.raises(InputError, match=r"validation\.clips: no clip has 7 frames"):
        Validation([("a", ArrayClip(tmp_path / "a.npy"))], count=1, seen=4)


def test_whole_frames_are_padded_and_measured(clip: ArrayClip) -> None:
    window = next(iter(Validation([("slide", clip)], count=1)))
    sizes = []

    def show(frames: torch.Tensor, middle: torch.Tensor) -> tuple:
        sizes.append(tuple(frames.shape))
        return middle + 2 / 255, middle, torch.zeros_like(middle[:, :2])

    (found,) = rebuild([window], show, 64, torch.device("cpu"))
    assert sizes == [(1, 2, 3, 128, 128)]
    assert found.picture.shape == (3, 72, 100)
    assert found.psnr == pytest.approx(20 * math.log10(255 / 2), abs=0.01)
    perfect = dataclasses.replace(found, picture=found.truth)
    assert perfect.psnr == 100


def test_crops_are_where_frames_differ() -> None:
    frames = np.zeros((2, 96, 160, 3), np.uint8)
    frames[1, 48:80, 112:144] = 255
    middle = np.arange(96 * 160 * 3, dtype=np.uint32).reshape(96, 160, 3).astype(np.uint8)
    cut = crop(Window("a", frames, middle), 32)
    assert cut.frames[1].min() == 255
    assert np.array_equal(cut.middle, middle[48:80, 112:144])
    assert crop(Window("a", frames, middle), 500).middle.shape == (96, 160, 3)


def test_a_run_validates_and_draws_sheets(tmp_path: Path, clip: ArrayClip) -> None:
    config = small("vfi-lite", tmp_path)
    config = dataclasses.replace(
        config,
        run=dataclasses.replace(config.run, steps=2, log_every=1),
        validation=dataclasses.replace(
            config.validation, every_minutes=1e-9, sheet_minutes=1e-9, crop=64
        ),
    )
    said: list[str] = []
    shown: list[Progress] = []
    trainer = Trainer(
        config,
        clips=None,
        pool=scenes(tmp_path / "pool"),
        validation=Validation([("slide", clip)], count=2),
        report=said.append,
        on_step=shown.append,
    )
    trainer.run()
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "psnr" in line]
    assert [line["step"] for line in measured] == [1, 2]
    assert measured[0]["clips"].keys() == {"slide"}
    # What is measured is what the averaged weights give through the model's own interface.
    values = []
    for window in trainer.validation or ():
        pair = torch.from_numpy(window.frames).permute(0, 3, 1, 2) / 255
        padded = torch.nn.functional.pad(pair, (0, 28, 0, 56), mode="replicate")[None]
        with torch.no_grad():
            picture = trainer.ema(padded, torch.full((1, 1, 1, 1), 0.5))[0, :, :72, :100]
        truth = torch.from_numpy(window.middle.copy()).permute(2, 0, 1).float()
        error = ((picture.clamp(0, 1) * 255).round() - truth).square().mean()
        values.append(float(10 * torch.log10(255**2 / error)))
    assert measured[-1]["psnr"] == pytest.approx(sum(values) / 2, abs=0.1)  # bfloat16
    assert shown[1].psnr == measured[0]["psnr"] or shown[1].psnr == pytest.approx(
        measured[0]["psnr"], abs=1e-3
    )
    assert (shown[-1].step, shown[-1].share) == (2, 1.0)
    height, width = read(tmp_path / "run/sheets/00000002.png").shape[:2]
    assert width > 6 * 64
    assert height > 2 * (64 + 40)  # two crops
    assert any("validation" in line and "dB" in line for line in said)
    shutil.rmtree(tmp_path / "run/sheets")
    (tmp_path / "run/sheets").write_bytes(b"")
    with pytest.raises(OutputError, match=r"sheets/00000002\.png: cannot be written"):
        trainer.draw_sheet()


# Sheets -----------------------------------------------------------------------------------


def test_flow_has_the_usual_colours() -> None:
    flow = torch.zeros(2, 1, 5)
    flow[0, 0, 1], flow[0, 0, 2] = 10.0, -10.0  # to the right, to the left
    flow[1, 0, 3], flow[1, 0, 4] = 10.0, -10.0  # down, up
    still, right, left, down, up = (tuple(int(v) for v in c) for c in flow_colours(flow)[0])
    assert still == (255, 255, 255)
    assert right[0] == 255
    assert right[1] < 20
    assert right[2] < 20  # red
    assert left[1] > 200
    assert left[2] == 255
    assert left[0] < 20  # cyan to blue
    assert down[0] > 200
    assert down[1] > 200
    assert down[2] < 20  # yellow
    assert up[2] > 200
    assert up[1] < 20  # violet
    half = flow_colours(flow, longest=20)[0]
    assert int(half[1][1]) == pytest.approx((255 + right[1]) / 2, abs=2)


def test_the_sheet_shows_inputs_truth_result_error_and_flow() -> None:
    ones = torch.ones(3, 32, 40)
    item = Rebuilt("clip", 0.1 * ones, 0.2 * ones, 0.5 * ones, 0.6 * ones, torch.zeros(2, 32, 40))
    sheet = np.asarray(draw_sheet([item], "title"))
    y = sheet.shape[0] - 50
    seen = [int(sheet[y, 6 + number * 46 + 20, 0]) for number in range(6)]
    for value, expected in zip(seen, (0.1, 0.2, 0.5, 0.6, 0.1 * GAIN, 1.0), strict=True):
        assert value == pytest.approx(255 * expected, abs=2)


# Curves -----------------------------------------------------------------------------------


def metrics(path: Path) -> Path:
    lines = []
    for step in range(1, 101):
        loss = 0.1 / step**0.5
        parts = {"flow": 100 * loss, "l1": loss}
        line = {"step": step, "seconds": step, "lr": 1e-3, "loss": loss, **parts, "gradient": 1.0}
        lines.append(line)
        if step % 20 == 0:
            lines.append({"step": step, "psnr": 25 + step / 20, "clips": {"a": 1.0}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_curves_are_drawn_where_the_values_lie(tmp_path: Path) -> None:
    found = read_metrics(metrics(tmp_path / "metrics.jsonl"))
    parts = diagrams(found)
    assert [part.title for part in parts] == [
        "loss",
        "parts of the loss, unweighted",
        "validation: PSNR (dB)",
        "learning rate",
    ]
    assert [[curve.name for curve in part.curves] for part in parts[:2]] == [
        ["loss"],
        ["flow", "l1"],
    ]
    assert parts[2].curves[0].values == [26, 27, 28, 29, 30]
    picture = np.asarray(draw(found, "a run")).astype(int)
    blue = (picture[..., 2] > 150) & (picture[..., 0] < 90)
    psnr = blue[530:720, 74:850]
    columns = np.flatnonzero(psnr.any(0))
    heights = [float(np.flatnonzero(psnr[:, x]).mean()) for x in columns]
    assert heights[0] > heights[len(heights) // 2] > heights[-1]  # it rises, evenly
    assert heights[len(heights) // 2] == pytest.approx((heights[0] + heights[-1]) / 2, abs=8)


def test_every_character_of_a_plot_is_in_its_font(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        ImageDraw.ImageDraw, "text", lambda self, place, text, *_, **__: written.append(text)
    )
    draw([{"step": step, "loss": 1 / step} for step in (1, 3000)], "a run")
    assert "2 000" in written  # with a plain space


def test_plot_takes_a_folder_or_a_file(tmp_path: Path) -> None:
    metrics(tmp_path / "metrics.jsonl")
    assert plot(tmp_path) == tmp_path / "curve.png"
    target = tmp_path / "b.png"
    assert plot(tmp_path / "metrics.jsonl", target) == target
    assert np.array_equal(read(target)[100:], read(tmp_path / "curve.png")[100:])
    assert plot(metrics(tmp_path / "old.jsonl")) == tmp_path / "old.png"


def test_the_log_of_runs_can_be_read_drawn_and_run() -> None:
    runs = Path(__file__).resolve().parent.parent / "docs" / "runs"
    curves, configurations = sorted(runs.glob("*.jsonl")), sorted(runs.glob("*.toml"))
    assert curves
    assert configurations
    for curve in curves:
        assert diagrams(read_metrics(curve)), curve
    for path in configurations:
        config = read_config(path, to_train=False)
        build(config)  # raises UsageError for what the network cannot do
    log = (runs.parent / "training.md").read_text(encoding="utf-8")
    assert [path for path in runs.iterdir() if f"(runs/{path.name})" not in log] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), ("", "holds no metrics yet"), ("{\n", "is no file of metrics")],
)
def test_what_is_no_metrics_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        plot(tmp_path)


# The command line -------------------------------------------------------------------------


def vfi(*arguments: str) -> int:
    return main(["train", *arguments])


CONFIG = """
[model]
widths = [8, 8, 8, 8, 8]
scales = [16, 8, 4, 2, 1]
[data]
textures = ["."]
scenes = 2
scene_size = 64
scene_motion = [3.0]
[loss]
laplacian = 1.0
[[phases]]
synthetic = 1.0
crop = 64
batch = 1
[run]
steps = 2
log_every = 1
threads = 1
"""


def test_the_command_trains_resumes_plots_and_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paint(tmp_path / "a.png")
    config = tmp_path / "run.toml"
    config.write_text(CONFIG)
    assert vfi(str(config), "--device", "cpu") == 0
    said = capsys.readouterr().err
    assert "vfi-lite" in said
    assert "parameters" in said
    assert "validation.clips names no folder" in said
    assert "step 2  100.0 %" in said
    assert said.splitlines()[-1].startswith(f"finished: {tmp_path / 'run'}")
    assert vfi(str(config)) == 2
    assert "--resume goes on with it" in capsys.readouterr().err
    assert vfi(str(config), "--resume", "--set", "run.steps=3", "--device", "cpu", "-q") == 0
    assert capsys.readouterr().err == ""
    assert vfi("plot", str(tmp_path / "run")) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run/curve.png")
    assert vfi(str(config), "--export", str(tmp_path / "w.safetensors")) == 0
    assert "after 3 steps" in capsys.readouterr().out
    assert (tmp_path / "w.safetensors").is_file()
    assert vfi(str(config), "--resume", "--set", "optim.lr=1.0") == 2
    assert "another configuration (optim.lr differs)" in capsys.readouterr().err


def test_the_command_lists_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert vfi("--list") == 0
    said = capsys.readouterr().out
    for name in ("vfi-lite", "rife", "rifem", "rife46", "ifrnet", "rrin", "scopeflow", "eqvi"):
        assert name in said
    assert vfi("run") == 2
    assert "a configuration is missing" in capsys.readouterr().err
    assert vfi("nothing.toml") == 4
    assert "shipped configurations: eqvi" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "good"),
    [
        (signal.SIGINT, True),
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
        (signal.SIGTERM, False),
    ],
)
def test_an_interrupted_run_is_saved_if_it_is_good(
    number: signal.Signals,
    good: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paint(tmp_path / "a.png")
    config = tmp_path / "run.toml"
    config.write_text(CONFIG)
    whole = Trainer.train_step

    def interrupted(self: Trainer, *arguments: object) -> object:
        for worker in multiprocessing.active_children():  # as when a whole group is signalled
            os.kill(worker.pid or 0, number)
        os.kill(os.getpid(), number)
        return whole(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    monkeypatch.setattr(Watch, "is_good", good)
    before = signal.getsignal(number)
    assert vfi(str(config), "--device", "cpu", "--set", "data.workers=1") == 128 + number
    assert signal.getsignal(number) is before
    said = capsys.readouterr().err
    assert ("saved at step 1; --resume goes on from there" in said) == good
    assert ("nothing was saved" in said) != good
    assert (tmp_path / "run/last.pt").is_file() == good


@pytest.mark.parametrize("under_torchrun", [True, False])
def test_of_torchruns_signals_only_the_first_counts(
    under_torchrun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The terminal signals torchrun and its processes, and torchrun passes it on to them again."""
    if under_torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    asked: list[str] = []
    trainer = types.SimpleNamespace(stop=lambda: asked.append("stop"))
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append("end at once"))
    try:
        with stopping(trainer) as stop:  # type: ignore[arg-type]
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == (["stop"] if under_torchrun else ["stop", "end at once"])
    assert (stop.signal, stop.exit_code) == (signal.SIGINT, 130)


def test_the_line_of_progress() -> None:
    losses = {"loss": 0.0213, "laplacian": 0.02, "gradient": 1.0}
    progress = Progress(1200, 0.5, 2.5, 3725.0, losses, 31.87)
    line = status(progress).replace("\N{NO-BREAK SPACE}", " ")
    assert line.startswith("step 1 200  2.5 steps/s  loss 0.0213  laplacian 0.0200  31.87 dB  ")
    assert line.endswith("  1:02:05 left")
    slow = dataclasses.replace(progress, rate=0.25, psnr=None, left=None)
    assert "4.00 s/step" in status(slow)
    terminal = io.StringIO()
    with Show(Console(file=terminal, force_terminal=True, width=120)) as show:
        show.line("said above")
        show.step(dataclasses.replace(progress, share=1.0))
    assert "said above" in terminal.getvalue()
    assert "31.87 dB" in terminal.getvalue()
    with Show(Console(file=terminal, force_terminal=True, width=80, color_system=None)) as show:
        show.step(progress)
    seen = terminal.getvalue().rpartition("step 1")
    assert "50 %" in seen[0]
    assert "laplacian" not in seen[2]  # for which there is no room
    assert "31.87 dB  1:02:05 left" in seen[2]
    plain = io.StringIO()
    with Show(Console(file=plain)) as show:
        show.step(progress)
    assert plain.getvalue() == ""
