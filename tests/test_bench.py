"""Measuring: what is counted is right, what fails is told, and no speed is asserted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vfi_cli import bench
from vfi_cli.__main__ import main
from vfi_cli.errors import DeviceError, UsageError
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.models.registry import registry
from vfi_cli.native import ops
from vfi_cli.native.ops import use_reference

TINY = (64, 48)


class TwoConvolutions(Network):
    """3 → 8 channels, 3 × 3, every second pixel; then 8 → 3 transposed, 4 × 4, back up."""

    size_multiple = 16

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)
        self.up = nn.ConvTranspose2d(8, 3, 4, 2, 1)

    def forward(self, frames, timestep, *, scale=1.0, ensemble=False, memo=None):
        return self.up(self.down(frames[:, 0]) * timestep)


def test_operations_are_those_counted_by_hand() -> None:
    """1280 × 720 needs no padding; each of 640 × 360 places multiplies with both kernels."""
    down = 640 * 360 * 8 * (3 * 3 * 3) * 2
    up = 640 * 360 * 8 * (3 * 4 * 4) * 2
    assert bench.operations(TwoConvolutions(), (1280, 720)) == down + up


def test_operations_grow_with_what_is_padded() -> None:
    network = TwoConvolutions()
    assert bench.operations(network, (33, 17)) == bench.operations(network, (48, 32))


@pytest.mark.parametrize("name", ["rifem", "rife-v4.25.lite", "ifrnet-s", "scopeflow"])
def test_operations_are_those_of_torchs_own_counter(name: str) -> None:
    """Which looks at every call, and here at the whole picture instead of a part."""
    network = registry()[name].prototype().eval()
    frames = torch.rand(1, network.frames_seen, 3, 128, 256)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), use_reference(), counter:
        if network.has_frames:
            network(frames, torch.full((1, 1, 1, 1), 0.5))
        else:
            network.flow(frames)
    counted = counter.get_flop_counts()["Global"][torch.ops.aten.convolution]
    assert bench.operations(network, (256, 128)) == counted


def test_models_are_measured_apart_and_failures_are_rows() -> None:
    seen: list[str] = []
    report = bench.measure_models(
        ["rife-v4.6", "no-such-model"],
        size=TINY,
        device="cpu",
        dtype="float32",
        repeat=2,
        on_row=lambda row: seen.append(row.name),
    )
    assert seen == ["rife-v4.6", "no-such-model"]
    network, missing = report.rows
    prototype = registry()["rife-v4.6"].prototype()
    assert network.parameters == sum(weight.numel() for weight in prototype.parameters())
    assert network.operations == bench.operations(prototype, bench.OPERATIONS_SIZE)
    assert (network.device, network.dtype, network.problem) == ("cpu", "float32", "")
    assert network.seconds is not None
    assert network.seconds > 0
    assert network.fps == 1 / network.seconds
    assert "no-such-model" in missing.problem
    assert (missing.seconds, missing.fps, missing.parameters) == (None, None, None)
    if sys.platform == "linux":
        assert network.peak_memory is not None
        # The weights, and not the hundreds of megabytes of torch itself.
        assert 4 * network.parameters < network.peak_memory < 200e6


def test_a_baseline_has_no_weights_and_no_operations() -> None:
    row = bench.measure_model("blend", size=TINY, device="cpu", dtype="auto", repeat=1)
    assert (row.architecture, row.parameters, row.operations) == ("blend", 0, 0)


DEATHS = {
    "import os; os.kill(os.getpid(), 9)": "killed by the system",
    "raise SystemExit('it broke')": "it broke",
    "raise SystemExit(3)": "its process ended with 3",
    "import time; time.sleep(60)": "takes longer than 1 s",
}


@pytest.mark.parametrize("code", DEATHS)
def test_a_model_that_dies_does_not_take_the_others_along(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_CHILD", (sys.executable, "-S", "-c", code))
    report = bench.measure_models(["one", "two"], size=TINY, device="cpu", limit=1)
    assert [row.name for row in report.rows] == ["one", "two"]
    assert all(DEATHS[code] in row.problem for row in report.rows)


def test_too_little_memory_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(**_: object) -> bench.ModelRow:
        torch.empty(1 << 55)
        raise AssertionError

    monkeypatch.setattr(bench, "measure_model", too_large)
    row = json.loads(bench.answer(json.dumps({"name": "large"})))
    assert row["problem"] == "too little memory at this size"


def test_random_weights_are_the_same_every_time() -> None:
    one, other = (bench.open_model("rife", device="cpu", dtype="float32") for _ in range(2))
    state = other.network.state_dict()
    assert all(torch.equal(w, state[key]) for key, w in one.network.state_dict().items())


def test_every_architecture_and_baseline_is_measured() -> None:
    names = bench.model_names()
    assert names[0] == "default"
    assert set(names) == {"default", "blend", "nearest", *registry().names()}


def test_the_clip_moves(tmp_path: Path) -> None:
    bench.write_moving_clip(tmp_path / "clip.mp4", TINY, 4)
    info = probe(tmp_path / "clip.mp4")
    assert (info.width, info.height, len(info.pts), info.nominal_rate) == (64, 48, 4, 30)
    with FrameReader(info) as reader:
        frames = [frame.planes[0].astype(float) for frame in reader]
    for number in range(3):
        before, after = frames[number : number + 2]
        moved = before[:-2, 5:], after[2:, :-5]  # 5 to the left, 2 down
        assert abs(moved[0] - moved[1]).mean() < 0.3 * abs(before - after).mean()
    with pytest.raises(UsageError, match="even"):
        bench.write_moving_clip(tmp_path / "odd.mp4", (63, 48), 2)


@pytest.mark.parametrize("seen", [2, 4])
def test_a_run_is_divided_into_its_stages(seen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[int] = []

    class Counting(TwoConvolutions):
        frames_seen = seen

        def forward(self, frames, timestep, **options):
            windows.append(frames.shape[1])
            return frames[:, 0]

    model = Interpolator(Counting(), name="counting", device="cpu", dtype="float32")
    monkeypatch.setattr(bench, "open_model", lambda name, **_: model)
    report = bench.measure_run(size=TINY, frames=5)
    assert (report.model, report.size, report.frames) == ("counting", TINY, 10)
    # A warm-up, the four gaps of the conversion, and the four of the stages.
    wide = [2, 4, 4, 2] if seen == 4 else [2] * 4
    assert windows == [seen, *wide, *wide]
    assert [stage.name for stage in report.stages] == list(bench.STAGES)
    assert all(stage.seconds > 0 for stage in report.stages)
    assert sum(report.threads.values()) == pytest.approx(sum(s.seconds for s in report.stages))
    assert report.fps == pytest.approx(10 / report.seconds)
    assert report.speed == pytest.approx(report.fps / 60)


def test_the_bottleneck_is_the_longest_stage_of_the_slowest_thread() -> None:
    seconds = {"decode": 1, "cuts": 3, "colour": 3, "model": 2.5, "encode": 5}
    stages = tuple(bench.Stage(name, bench.STAGES[name], s) for name, s in seconds.items())
    report = bench.RunReport("m", TINY, "cpu", "float32", 4, stages, 2.0, "here", None)
    assert report.threads == {"reader": 4, "model": 5.5, "writer": 5}
    assert report.bottleneck.name == "colour", "though encoding is the longest stage of all"
    assert report.speed == 2 / 60


def test_operators_that_are_slower_than_need_be_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "available", lambda device="cpu": True)
    assert "plain torch" not in bench.machine("cpu")
    monkeypatch.setattr(ops, "available", lambda device="cpu": False)
    assert bench.machine("cpu").endswith("operators in plain torch, slower: see vfi doctor")


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 2 frames"):
        bench.measure_run("blend", size=TINY, frames=1)
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="no CUDA device"):
            bench.measure_models(["blend"], device="cuda")


def test_the_commands_print_tables_and_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bench", "--model", "blend", "--size", "64x48", "--frames", "3"]) == 0
    page = capsys.readouterr().out
    assert all(f"\n  {stage} " in page for stage in bench.STAGES)
    assert page.count("← bottleneck") == 1
    run = ["bench", "--model", "blend", "--size", "64x48", "--frames", "3", "--json"]
    assert main(run) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["bottleneck"] in bench.STAGES
    assert record["frames"] == 6

    def answered(request: dict[str, object], limit: float) -> bench.ModelRow:
        name = str(request["name"])
        if name == "bad":
            return bench.ModelRow(name, problem="no good")
        return bench.ModelRow(name, "a", 5_000_000, 43.7e9, 0.25, 612 << 20, "cpu", "bfloat16")

    monkeypatch.setattr(bench, "_measure_apart", answered)
    assert main(["bench", "models", "--only", "good, bad", "--size", "64x48"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["model", "parameters"]
    assert lines[1].split() == ["good", "5.00", "M", "43.7", "250", "4.00", "642", "MB", "bfloat16"]
    assert lines[2].split() == ["bad", "no", "good"]
    assert main(["bench", "models", "--only", "good,bad", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["fps"] for row in rows] == [4, None]
    assert main(["bench", "models", "--only", "bad"]) == 6
