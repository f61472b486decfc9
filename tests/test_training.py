"""The trainer: configuration, schedule, exact resume, divergence, export, several processes."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from tests.trainkit import paint, scenes, weights
from vfi_cli.errors import InputError, OutputError, UsageError
from vfi_cli.models import load_model
from vfi_cli.models.lite import LiteNet
from vfi_cli.training import __main__ as program
from vfi_cli.training.checkpoint import DivergedError, Watch
from vfi_cli.training.config import (
    Config,
    LossConfig,
    ModelConfig,
    OptimConfig,
    PhaseConfig,
    RunConfig,
    read_config,
)
from vfi_cli.training.data import Batch, Pool
from vfi_cli.training.export import export
from vfi_cli.training.init import initialise
from vfi_cli.training.loop import Trainer, join_processes

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parent.parent


# Configuration ----------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


SYNTHETIC = (
    '[data]\ntextures = ["."]\n[loss]\nlaplacian = 1\n[[phases]]\nsynthetic = 1.0\ncrop = 64\n'
)


def test_configuration_is_read_and_overridden(tmp_path: Path) -> None:
    path = write(tmp_path, SYNTHETIC + "[optim]\nlr = 1\n")
    config = read_config(path, ["run.steps=12", "run.out=elsewhere"])
    assert config.optim.lr == 1.0
    assert config.phases == (PhaseConfig(synthetic=1.0, crop=64),)
    assert config.run.steps == 12
    assert config.path(config.run.out) == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[optim]\nrate = 1\n", "unknown key optim.rate"),
        ("[optimiser]\n", "unknown key optimiser"),
        ('[optim]\nlr = "fast"\n', "optim.lr must be a number, not 'fast'"),
        ("[run]\nsteps = 1.5\n", "run.steps must be a whole number"),
        ("[run]\nsteps = true\n", "run.steps must be a whole number"),
        ("[run]\nsteps = 0\n[loss]\nl1 = 1\n", "run.steps must be positive"),
        ("[optim]\nlr = nan\n", "optim.lr must be a number, not nan"),
        (SYNTHETIC + "[optim]\nweight_decay = -1\n", "optim.weight_decay must be at least 0"),
        (SYNTHETIC + "[optim]\nclip = 0\n", "optim.clip must be positive"),
        (SYNTHETIC + "[run]\nseed = -1\n", "run.seed must be at least 0"),
        (SYNTHETIC + "shifted = 2.0\n", r"phases\[0\].shifted must lie between 0 and 1"),
        (SYNTHETIC + "largest = 0.0\n", r"phases\[0\].largest must be positive"),
        (SYNTHETIC + "loss = {l1 = -1}\n", r"loss.l1 of phases\[0\] must not be negative"),
        ("[model]\nwidths = 5\n", "model.widths must be a list"),
        ('[model]\nwidths = ["a"]\n', r"model.widths\[0\] must be a whole number"),
        (
            '[loss]\nl1 = 1\n[data]\nclips = ["nowhere"]\n',
            "data.clips: there is no folder .*nowhere",
        ),
        ("[loss]\nl1 = 1\n", "data.clips is empty"),
        (
            "[loss]\nl1 = 1\n[[phases]]\nsynthetic = 1.0\n",
            "data.textures and data.clips are empty",
        ),
        (SYNTHETIC.replace("64", "-64"), r"phases\[0\].crop must be at least 32 pixels"),
        (SYNTHETIC.replace("= 1.0", "= 2.0"), r"phases\[0\].synthetic must lie"),
        (
            SYNTHETIC.replace("laplacian = 1", ""),
            r"the losses of phases\[0\] all have the weight 0",
        ),
        (SYNTHETIC + "loss = {lap = 1}\n", r"unknown key phases\[0\].loss.lap; there are .*census"),
        (SYNTHETIC + "loss = {l1 = true}\n", r"phases\[0\].loss.l1 must be a number"),
        (SYNTHETIC + "loss = 3\n", r"phases\[0\].loss must be a table"),
        (
            SYNTHETIC + "until = 0.5\n[[phases]]\nsynthetic = 1.0\nsilent = 1\n",
            "phases.silent must not rise",
        ),
        (SYNTHETIC + "[validation]\nwindows = 0\n", "validation.windows, crops, crop and"),
        (SYNTHETIC + '[validation]\nclips = ["x"]\n', "validation.clips: there is no folder .*x"),
        ('[model]\ninit_from = "a.pt"\n' + SYNTHETIC, "model.init_from: there is no file .*a.pt"),
        (SYNTHETIC + "until = 0.5\n", "phases must end at rising shares"),
        ("run = 3\n", "run must be a table"),
        ("[run\n", "is not TOML"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((UsageError, InputError), match=message):
        read_config(write(tmp_path, text))


def test_an_override_of_phases_is_of_each(tmp_path: Path) -> None:
    more = SYNTHETIC + "until = 0.5\n[[phases]]\nsynthetic = 1.0\ncrop = 128\n"
    config = read_config(write(tmp_path, more), ["phases.batch=3"])
    assert [(phase.crop, phase.batch) for phase in config.phases] == [(64, 3), (128, 3)]
    with pytest.raises(UsageError, match=r"phases\[0\]\.batch must be at least 1"):
        read_config(write(tmp_path, more), ["phases.batch=0"])
    (only,) = read_config(
        write(tmp_path, SYNTHETIC.partition("[[")[0]), ["phases.synthetic=1"]
    ).phases
    assert only == PhaseConfig(synthetic=1.0)


@pytest.mark.parametrize("override", ["steps", "run.steps", "run=1"])
def test_override_must_name_table_and_key(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match=r"table\.key=value"):
        read_config(write(tmp_path, SYNTHETIC), [override])


# Runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return scenes(tmp_path_factory.mktemp("pool"))


def tiny(folder: Path, **optim: float) -> Config:
    """Eight steps of a narrow vfi-lite, the first half without its last two blocks."""
    phase = PhaseConfig(synthetic=1.0, crop=64, batch=2)
    return Config(
        model=ModelConfig(widths=(8, 8, 8, 8, 8), scales=(16, 8, 4, 2, 1)),
        phases=(
            dataclasses.replace(phase, until=0.5, blocks=3, loss={"flow": 0.1}),
            phase,
        ),
        loss=LossConfig(unblended=1.0, flow=0.02),
        optim=OptimConfig(warmup=2, **optim),  # type: ignore[arg-type]
        run=RunConfig(steps=8, log_every=2, bad_steps=3),
        folder=str(folder),
    )


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, pool: Pool) -> None:
    whole = Trainer(tiny(tmp_path / "whole"), clips=None, pool=pool)
    whole.run()
    assert whole.step == 8
    first = Trainer(tiny(tmp_path / "parts"), clips=None, pool=pool)
    first.run(steps=3)
    second = Trainer(tiny(tmp_path / "parts"), clips=None, pool=pool)
    drawn = torch.get_rng_state()
    torch.rand(7)  # whatever else used the generator
    second.resume()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert second.watch.state() == first.watch.state()
    assert second.step == 3
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    fresh = Trainer(tiny(tmp_path / "fresh"), clips=None, pool=pool)
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole), weights(fresh), strict=True))
    lines = (tmp_path / "whole/run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 8]


def join(batches: list[Batch]) -> Batch:
    columns = ([getattr(batch, item.name) for batch in batches] for item in fields(Batch))
    return Batch(*(None if values[0] is None else torch.cat(values) for values in columns))  # type: ignore[arg-type]


def test_accumulated_small_batches_are_the_large_batch(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path, clip=1e9), clips=None, pool=pool)
    phase = trainer.config.phases[0]
    batches = [trainer.sampler.batch(number, phase) for number in (0, 1)]
    joined = join(batches)
    norms = []
    for parts in (batches, [joined]):
        other = Trainer(tiny(tmp_path, clip=1e9), clips=None, pool=pool)
        shown = other.train_step(parts, phase)
        assert shown is not None
        norms.append(shown["gradient"])
    assert norms[0] == pytest.approx(norms[1], rel=0.03)  # bfloat16 rounds differently


def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.run(steps=2)
    good = (tmp_path / "run/last.pt").read_bytes()
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="last good checkpoint"):
        trainer.run()
    assert (tmp_path / "run/last.pt").read_bytes() == good
    said: list[str] = []
    fresh = Trainer(tiny(tmp_path / "fresh"), pool=pool, report=said.append)
    with torch.no_grad():
        next(fresh.network.parameters()).fill_(math.nan)
    fresh.run(steps=1)
    assert said == ["step 1  not saved: no finite gradient for 1 step"]
    with pytest.raises(DivergedError, match="step 3: no finite gradient for 3 steps; nothing was"):
        fresh.run()


def test_a_run_that_falls_apart_is_stopped_before_it_is_saved(tmp_path: Path, pool: Pool) -> None:
    watch = Watch()
    for _ in range(150):
        watch.add(0.02, 0)
    assert watch.is_good
    for _ in range(60):
        watch.add(0.06, 0)
    assert not watch.is_good
    assert not watch.is_lost
    for _ in range(60):
        watch.add(0.5, 0)
    assert watch.is_lost
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.run(steps=2)
    good = (tmp_path / "run/last.pt").read_bytes()
    trainer.watch = watch
    with pytest.raises(DivergedError, match=r"step 3: the loss is 0\.\d+ and was 0\.02; .*kept"):
        trainer.run()
    assert (tmp_path / "run/last.pt").read_bytes() == good
    watch.add(0.5, 1)  # another phase has other losses
    assert watch.is_good


def test_a_run_that_is_asked_to_stop_saves_and_goes_on(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.on_step = lambda progress: trainer.stop() if progress.step == 3 else None
    trainer.run()
    assert trainer.step == 3
    again = Trainer(tiny(tmp_path), clips=None, pool=pool)
    again.resume()
    assert again.step == 3
    # Metrics of steps that were not saved are made again.
    metrics = tmp_path / "run/metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"step": 4, "loss": 1}\n')
    again.resume()
    assert [json.loads(line)["step"] for line in metrics.read_text().splitlines()] == [2]


def test_a_single_bad_gradient_is_skipped(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    phase = trainer.config.phases[0]
    batch = trainer.sampler.batch(0, phase)
    before = weights(trainer)
    batch.frame0[0, 0, 30, 30] = math.nan
    assert trainer.train_step([batch], phase) is None
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))


def test_schedule(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    rates = []
    for step in range(8):
        trainer.step = step
        rates.append(trainer.learning_rate())
        assert trainer.phase().blocks == (3 if step < 4 else 0)
    assert rates[0] == pytest.approx(trainer.config.optim.lr / 2)
    assert rates[1] == max(rates)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    trainer.step = 8
    assert trainer.learning_rate() == pytest.approx(trainer.config.optim.final_lr)


def test_checkpoints_of_something_else_are_refused(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    with pytest.raises(InputError, match="there is no checkpoint of a run"):
        trainer.resume()
    trainer.save()
    other = Trainer(tiny(tmp_path, lr=1e-5), clips=None, pool=pool)
    with pytest.raises(UsageError, match=r"another configuration \(optim\.lr differs\)"):
        other.resume()
    whole = (tmp_path / "run/last.pt").read_bytes()
    for damaged in (b"junk", whole[: len(whole) // 2]):
        (tmp_path / "run/last.pt").write_bytes(damaged)
        with pytest.raises(InputError, match="no checkpoint of a training run") as caught:
            trainer.resume()
        assert len(str(caught.value)) < 250


def test_a_line_of_metrics_that_a_kill_cut_off_is_dropped(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.run(steps=2)
    file = tmp_path / "run/metrics.jsonl"
    whole = file.read_text(encoding="utf-8")
    later = json.dumps({"step": 3, "loss": 1.0})
    file.write_text(f'{whole}{later}\n{{"step": 4, "lo', encoding="utf-8")
    trainer.resume()
    assert file.read_text(encoding="utf-8") == whole


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, pool: Pool) -> None:
    (tmp_path / "run").write_bytes(b"")
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    with pytest.raises(OutputError, match=r"run/last\.pt: cannot be written \(.+\) \(run\.out\)"):
        trainer.save()


def test_a_disk_that_is_full_leaves_the_checkpoint_before(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.save()

    def full(state: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    trainer.step = 1
    with pytest.raises(OutputError, match=r"last\.pt: cannot be written \(unexpected pos"):
        trainer.save()
    assert trainer.saved == 0
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.pt"]
    trainer.resume()


def test_processes_wait_for_each_other_as_long_as_data_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, float]] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(
        torch.distributed,
        "init_process_group",
        lambda backend, timeout: asked.append((backend, timeout.total_seconds())),
    )
    join_processes(torch.device("cpu"))
    join_processes(torch.device("cuda:1"))
    assert [backend for backend, _ in asked] == ["gloo", "nccl"]
    assert all(seconds > 12 * 3600 for _, seconds in asked)


def test_initial_blocks_pass_their_input_on(tmp_path: Path) -> None:
    from vfi_cli.models.rife4 import IFNet, Spec

    torch.manual_seed(0)
    network = IFNet(Spec(widths=(32, 32, 32, 32, 32)))
    spread: list[float] = []
    initialise(network)
    for name, layer in network.named_modules():
        if name.endswith("convblock"):
            layer.register_forward_hook(lambda m, i, o: spread.append(float(o.std(0).mean())))
    frames = torch.rand(4, 2, 3, 64, 64)
    with torch.no_grad():
        network(frames, torch.full((4, 1, 1, 1), 0.5))
    assert len(spread) == 5
    assert all(0.02 < value < 5 for value in spread)


def test_exported_weights_load_and_give_the_same_picture(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.run(steps=1)
    text = export(tmp_path / "run/last.pt", tmp_path / "out/lite.safetensors")
    assert 'architecture = "vfi-lite"' in text
    model = load_model(tmp_path / "out/lite.safetensors", device="cpu", dtype="float32")
    assert model.any_timestep
    assert model.size_multiple == 64
    frames = torch.rand(1, 2, 3, 64, 64)
    assert isinstance(trainer.ema, LiteNet)
    with torch.no_grad():
        expected = trainer.ema(frames, torch.full((1, 1, 1, 1), 0.25)).clamp(0, 1)
    torch.testing.assert_close(model.interpolate(frames, 0.25), expected, atol=2e-3, rtol=0)
    with pytest.raises(InputError, match="there is no checkpoint"):
        export(tmp_path / "nothing.pt", tmp_path / "x.safetensors")
    with pytest.raises(OutputError, match=r"out: cannot be written \(.*directory"):
        export(tmp_path / "run/last.pt", tmp_path / "out")


def test_the_program_trains_resumes_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paint(tmp_path / "a.png")
    text = (
        "[model]\nwidths = [8, 8, 8, 8, 8]\nscales = [16, 8, 4, 2, 1]\n[loss]\nl1 = 1\n"
        '[data]\ntextures = ["."]\nscenes = 2\n'
        "scene_size = 64\nscene_motion = [3.0]\n[[phases]]\nsynthetic = 1.0\ncrop = 64\n"
        "batch = 1\n[run]\nsteps = 2\nlog_every = 1\n"
    )
    path = str(write(tmp_path, text))
    (tmp_path / "run").mkdir()  # with what a run left that ended before it was saved
    (tmp_path / "run/metrics.jsonl").write_text('{"step": 0, "psnr": 1}\n{"step": 1, "loss": 1}\n')
    assert program.main([path]) == 0
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert "step 2  100.0 %" in capsys.readouterr().out
    assert program.main([path]) == 2
    assert "--resume" in capsys.readouterr().err
    said = (tmp_path / "run/metrics.jsonl").read_bytes()
    assert program.main([path, "--resume"]) == 0  # which has nothing left to do
    assert "finished, after 2 steps; --resume --set run.steps=4" in capsys.readouterr().out
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == said
    assert program.main([path, "--resume", "--set", "run.minutes=0.0001"]) == 0
    assert "--set run.minutes=0.0002 makes" in capsys.readouterr().out
    target = tmp_path / "weights.safetensors"
    places = ["--set", "run.out=a.png/run", "--set", "data.cache=elsewhere"]
    assert program.main([path, *places]) == OutputError.exit_code
    assert "a.png/run/metrics.jsonl: cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()  # nothing was decoded or rendered for it
    (tmp_path / "a.png").unlink()  # what it was trained on may be gone
    assert program.main([path, "--export", str(target)]) == 0
    assert target.is_file()
    assert program.main([path, "--set", "run.steps=x"]) == UsageError.exit_code
    assert "run.steps must be a whole number" in capsys.readouterr().err


SHARED = """
import sys
from pathlib import Path
import torch
from tests.test_training import tiny
from vfi_cli.training.data import Pool
from vfi_cli.training.loop import Trainer
torch.set_num_threads(1)
trainer = Trainer(tiny(Path(sys.argv[1]), bfloat16=False), pool=Pool(Path(sys.argv[2])))
trainer.run(steps=5)
state = [p.detach().clone() for p in trainer.network.parameters()]
torch.save(state, Path(sys.argv[1]) / f"{trainer.rank}.pt")
"""


def as_two_processes(*arguments: str) -> list[tuple[int, str]]:
    """Python, started as torchrun starts it: exit codes, and what was said on stderr."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = [
        subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=120)[1] for process in started]
    return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


@pytest.mark.slow
def test_of_several_processes_one_says_what_is_wrong_with_the_data(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").write_bytes(b"junk")
    text = '[data]\nclips = ["clips"]\n[loss]\nl1 = 1\n[[phases]]\nsynthetic = 0.0\ncrop = 64\n'
    first, second = as_two_processes("-m", "vfi_cli.training", str(write(tmp_path, text)))
    assert first[0] == second[0] == InputError.exit_code
    assert "clips/a.mp4: is not a video" in first[1]
    assert second[1].strip() == "another process cannot open the data"


@pytest.mark.slow
def test_processes_that_share_a_run_are_one_with_their_batches_together(
    tmp_path: Path, pool: Pool
) -> None:
    """Over a phase's end, where the number of blocks that have gradients changes. One process
    that accumulates two batches a step sees the same samples."""
    ended = as_two_processes("-c", SHARED, str(tmp_path), str(pool.folder))
    assert [code for code, _ in ended] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alone = Trainer(tiny(tmp_path / "alone", bfloat16=False, accumulate=2), pool=pool)
    begin = [p.detach().clone() for p in alone.network.parameters()]
    alone.run(steps=5)
    # Gradients are added up in another order, which Adam makes much of where they are nearly zero.
    trained = [p.detach() for p in alone.network.parameters()]
    moved = sum(float((a - b).abs().sum()) for a, b in zip(trained, begin, strict=True))
    apart = sum(float((a - b).abs().sum()) for a, b in zip(trained, first, strict=True))
    assert apart < 0.01 * moved
    shared, single = (
        [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
        for folder in (tmp_path, tmp_path / "alone")
    )
    assert [line["step"] for line in shared] == [line["step"] for line in single] == [2, 4]
    for one, other in zip(shared, single, strict=True):  # Adam alone would forgive a wrong scale
        assert one["gradient"] == pytest.approx(other["gradient"], rel=1e-3)
    state = torch.load(tmp_path / "run/last.pt", weights_only=True)
    assert state["watch"]["mean"] == pytest.approx(alone.watch.mean, rel=1e-3)
