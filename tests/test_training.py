"""The trainer: losses, configuration, exact resume, divergence, export."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vfi_cli.errors import InputError, UsageError
from vfi_cli.models import load_model
from vfi_cli.models.lite import LiteNet
from vfi_cli.training import __main__ as program
from vfi_cli.training import losses
from vfi_cli.training.cache import cache_scenes
from vfi_cli.training.config import Config, OptimConfig, PhaseConfig, RunConfig, read_config
from vfi_cli.training.data import Pool
from vfi_cli.training.export import export
from vfi_cli.training.init import initialise
from vfi_cli.training.loop import DivergedError, Trainer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(seed: int = 0, size: int = 48) -> Tensor:
    return torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(seed))


# Losses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [losses.laplacian, losses.census, losses.charbonnier])
def test_a_loss_is_least_for_the_truth(loss) -> None:
    truth = picture()
    shifted = torch.roll(truth, 1, -1)
    nearly = truth + 0.02 * (picture(1) - 0.5)
    least = float(loss(truth, truth))
    assert least == pytest.approx(1e-3 if loss is losses.charbonnier else 0, abs=1e-4)
    assert least < float(loss(nearly, truth)) < float(loss(shifted, truth))


def test_laplacian_of_a_constant_difference_is_its_coarsest_level() -> None:
    truth = picture()
    assert float(losses.laplacian(truth + 0.25, truth)) == pytest.approx(0.25, abs=1e-5)


def test_laplacian_is_a_pyramid_and_not_a_plain_difference() -> None:
    """A one-pixel checkerboard is all in the finest level; a broad wave also reaches the others."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    zero = torch.zeros(1, 3, 64, 64)
    fine = (0.5 * (-1.0) ** (x + y)).expand(1, 3, 64, 64)
    broad = (0.5 * torch.sin(2 * math.pi * x / 32)).expand(1, 3, 64, 64)
    assert float(losses.laplacian(fine, zero)) == pytest.approx(0.5, abs=0.03)
    assert float(losses.laplacian(broad, zero)) > 1.3 * float(broad.abs().mean())


def test_census_does_not_mind_light() -> None:
    truth = picture()
    assert float(losses.census(0.9 * truth + 0.05, truth)) < 0.1 * float(
        losses.census(picture(1), truth)
    )


def test_flow_l1_and_its_cap() -> None:
    truth = torch.zeros(1, 4, 2, 2)
    assert float(losses.flow_l1(truth + 2, truth)) == 2
    assert float(losses.flow_l1(truth + 12, truth, cap=2)) == pytest.approx(3)


def test_distillation_counts_where_the_teacher_is_better() -> None:
    truth = torch.zeros(1, 3, 4, 4)
    wrong, right = truth + 0.5, truth.clone()
    flow, teacher = torch.zeros(1, 4, 4, 4), torch.full((1, 4, 4, 4), 3.0)
    assert float(losses.distillation(flow, teacher, wrong, right, truth)) == pytest.approx(6)
    assert float(losses.distillation(flow, teacher, right, wrong, truth)) == 0
    half = right.clone()
    half[..., :2] = 0.5
    assert float(losses.distillation(flow, teacher, half, right, truth)) == pytest.approx(3)


# Configuration ----------------------------------------------------------------------------


def write(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


SYNTHETIC = '[data]\ntextures = ["."]\n[[phases]]\nsynthetic = 1.0\ncrop = 64\n'


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
        ("[run]\nsteps = 0\n", "run.steps must be positive"),
        ("[model]\nwidths = 5\n", "model.widths must be a list"),
        ('[model]\nwidths = ["a"]\n', r"model.widths\[0\] must be a whole number"),
        ('[data]\nclips = ["nowhere"]\n', "data.clips: there is no folder .*nowhere"),
        ("", "data.clips is empty"),
        (SYNTHETIC.replace("64", "60"), r"phases\[0\].crop must be a multiple of 64"),
        (SYNTHETIC + "crop_width = 65\n", r"phases\[0\].crop_width must be a multiple of 64"),
        ("[model]\nsilent = 5\n" + SYNTHETIC, "model.silent must be less than"),
        (SYNTHETIC.replace("1.0", "2.0"), r"phases\[0\].synthetic must lie"),
        (SYNTHETIC + "until = 0.5\n", "phases must end at rising shares"),
        ("run = 3\n", "run must be a table"),
        ("[run\n", "is not TOML"),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises((UsageError, InputError), match=message):
        read_config(write(tmp_path, text))


@pytest.mark.parametrize("override", ["steps", "run.steps", "run=1"])
def test_override_must_name_table_and_key(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match=r"table\.key=value"):
        read_config(write(tmp_path, SYNTHETIC), [override])


# Runs -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (256, 256, 3), np.uint8)).save(folder / "a.png")
    return Pool(cache_scenes([folder], [], folder, count=6, size=96, motion=(4.0,), seed=0))


def tiny(folder: Path, **optim: float) -> Config:
    from vfi_cli.training.config import ModelConfig

    phases = (
        PhaseConfig(until=0.5, blocks=3, synthetic=1.0, crop=64, batch=2, flow_weight=0.1),
        PhaseConfig(until=1.0, blocks=5, synthetic=1.0, crop=64, batch=2, flow_weight=0.02),
    )
    return Config(
        model=ModelConfig(widths=(8, 8, 8, 8, 8)),
        phases=phases,
        optim=OptimConfig(warmup=2, **optim),
        run=RunConfig(out="run", steps=8, log_every=2, bad_steps=3),
        folder=str(folder),
    )


def weights(trainer: Trainer) -> list[Tensor]:
    return [p.detach().clone() for p in (*trainer.network.parameters(), *trainer.ema.parameters())]


def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, pool: Pool) -> None:
    whole = Trainer(tiny(tmp_path / "whole"), clips=None, pool=pool)
    whole.run()
    assert whole.step == 8
    first = Trainer(tiny(tmp_path / "parts"), clips=None, pool=pool)
    first.run(steps=3)
    second = Trainer(tiny(tmp_path / "parts"), clips=None, pool=pool)
    torch.rand(7)  # whatever else used the generator
    second.resume()
    assert second.step == 3
    second.run()
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    fresh = Trainer(tiny(tmp_path / "fresh"), clips=None, pool=pool)
    assert not torch.equal(weights(whole)[0], weights(fresh)[0])
    lines = (tmp_path / "whole/run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4, 6, 8]


def test_accumulated_small_batches_are_the_large_batch(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path, clip=1e9), clips=None, pool=pool)
    phase = trainer.config.phases[0]
    batches = [trainer.draw(number, phase) for number in (0, 1)]
    joined = type(batches[0])(
        *(
            torch.cat([getattr(batch, item.name) for batch in batches])
            for item in dataclasses.fields(batches[0])
            if getattr(batches[0], item.name) is not None
        )
    )
    norms = []
    for parts in (batches, [joined]):
        other = Trainer(tiny(tmp_path, clip=1e9), clips=None, pool=pool)
        shown = other.train_step(parts, phase)
        assert shown is not None
        norms.append(shown["gradient"])
    assert norms[0] == pytest.approx(norms[1], rel=0.03)  # bfloat16 rounds differently


def test_training_lowers_the_loss(tmp_path: Path, pool: Pool) -> None:
    config = tiny(tmp_path, lr=3e-3)
    trainer = Trainer(config, clips=None, pool=pool)
    phase = dataclasses.replace(config.phases[0], flow_weight=0.0)
    batch = trainer.draw(0, phase)
    before = trainer.loss(batch, phase)[1]["laplacian"]
    for _ in range(12):
        trainer.train_step([batch], phase)
    assert trainer.loss(batch, phase)[1]["laplacian"] < 0.97 * before


def test_divergence_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.run(steps=2)
    good = (tmp_path / "run/last.pt").read_bytes()
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="last good checkpoint"):
        trainer.run()
    assert (tmp_path / "run/last.pt").read_bytes() == good


def test_a_single_bad_gradient_is_skipped(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    phase = trainer.config.phases[0]
    batch = trainer.draw(0, phase)
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
        assert trainer.phase().blocks == (3 if step < 4 else 5)
    assert rates[0] == pytest.approx(trainer.config.optim.lr / 2)
    assert rates[1] == max(rates)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_checkpoints_of_something_else_are_refused(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    with pytest.raises(InputError, match="no checkpoint to resume"):
        trainer.resume()
    trainer.save()
    other = Trainer(tiny(tmp_path, lr=1e-5), clips=None, pool=pool)
    with pytest.raises(UsageError, match=r"another configuration \(optim\.lr differs\)"):
        other.resume()
    (tmp_path / "run/last.pt").write_bytes(b"junk")
    with pytest.raises(InputError, match="no checkpoint of a training run"):
        trainer.resume()


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


def test_silent_blocks_stay_without_effect(tmp_path: Path, pool: Pool) -> None:
    config = tiny(tmp_path)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, silent=1))
    trainer = Trainer(config, clips=None, pool=pool)
    phase = dataclasses.replace(config.phases[0], crop_width=128)
    batch = trainer.draw(0, phase)
    assert batch.middle.shape == (2, 3, 64, 128)
    for _ in range(3):
        trainer.train_step([batch], phase)
    frames = torch.stack((batch.frame0, batch.frame1), 1)
    with torch.no_grad():
        stages = trainer.network.stages(frames, batch.t)[1]
    assert not bool(stages[0].flow.any())
    assert bool(stages[1].flow.any())


def test_exported_weights_load_and_give_the_same_picture(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(tiny(tmp_path), clips=None, pool=pool)
    trainer.run(steps=1)
    text = export(tmp_path / "run/last.pt", tmp_path / "out/lite.safetensors")
    assert 'architecture = "vfi-lite"' in text
    model = load_model(tmp_path / "out/lite.safetensors", device="cpu", dtype="float32")
    assert model.any_timestep
    assert model.size_multiple == 64
    frames = torch.rand(1, 2, 3, 64, 64)
    network = LiteNet(trainer.ema.spec)
    network.load_state_dict({**trainer.ema.state_dict(), "trust": network.trust})
    with torch.no_grad():
        expected = network(frames, torch.full((1, 1, 1, 1), 0.25)).clamp(0, 1)
    torch.testing.assert_close(model.interpolate(frames, 0.25), expected, atol=2e-3, rtol=0)
    with pytest.raises(InputError, match="no such checkpoint"):
        export(tmp_path / "nothing.pt", tmp_path / "x.safetensors")


def test_the_program_trains_resumes_and_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (200, 200, 3), np.uint8)).save(tmp_path / "a.png")
    text = (
        '[model]\nwidths = [8, 8, 8, 8, 8]\n[data]\ntextures = ["."]\nscenes = 2\n'
        "scene_size = 64\nscene_motion = [3.0]\n[[phases]]\nsynthetic = 1.0\ncrop = 64\n"
        "batch = 1\n[run]\nsteps = 2\nlog_every = 1\n"
    )
    path = str(write(tmp_path, text))
    assert program.main([path]) == 0
    assert "step 2  100.0 %" in capsys.readouterr().out
    assert program.main([path]) == 2
    assert "--resume" in capsys.readouterr().err
    assert program.main([path, "--resume"]) == 0
    target = tmp_path / "weights.safetensors"
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
trainer = Trainer(tiny(Path(sys.argv[1])), clips=None, pool=Pool(Path(sys.argv[2])))
trainer.run(steps=5)
state = [p.detach().clone() for p in trainer.network.parameters()]
torch.save(state, Path(sys.argv[1]) / f"{trainer.rank}.pt")
"""


@pytest.mark.slow
def test_processes_that_share_a_run_stay_equal(tmp_path: Path, pool: Pool) -> None:
    """Over a phase's end, where the number of blocks that have gradients changes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    started = []
    for rank in ("0", "1"):
        environment = {
            **os.environ,
            "RANK": rank,
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        command = [sys.executable, "-c", SHARED, str(tmp_path), str(pool.folder)]
        started.append(subprocess.Popen(command, env=environment, cwd=ROOT))
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alone = Trainer(tiny(tmp_path / "alone"), clips=None, pool=pool)
    alone.run(steps=5)
    assert not torch.equal(first[0], next(alone.network.parameters()))
    assert (tmp_path / "run/last.pt").is_file()
