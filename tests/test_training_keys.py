"""What the keys of a configuration change: each is looked for where it takes effect."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainkit import paint, scenes, small
from vfi_cli.training import cache, sampling
from vfi_cli.training.config import DataConfig, PhaseConfig
from vfi_cli.training.data import Pool
from vfi_cli.training.loop import Trainer
from vfi_cli.training.pool import Sample, augment
from vfi_cli.training.sampling import Sampler
from vfi_cli.training.sources import open_sources
from vfi_cli.training.synthetic import Scene, generate

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    return scenes(tmp_path_factory.mktemp("pool"), count=2)


def test_gradients_are_clipped_and_weights_decay(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(small("vfi-lite", tmp_path, clip=1e-3, weight_decay=0.25), pool=pool)
    taken: list[float] = []

    def step() -> None:
        grads = [p.grad for p in trainer.family.parameters() if p.grad is not None]
        taken.append(float(torch.stack([g.norm() for g in grads]).norm()))

    trainer.optimiser.step = step  # type: ignore[method-assign, assignment]
    phase = trainer.config.phases[0]
    shown = trainer.train_step([trainer.sampler.batch(0, phase)], phase)
    assert shown is not None
    assert shown["gradient"] > 0.01  # as it was before
    assert taken == [pytest.approx(1e-3, rel=1e-3)]
    assert [group["weight_decay"] for group in trainer.optimiser.param_groups] == [0.25]


def test_averaged_weights_follow_the_trained_ones(tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(small("vfi-lite", tmp_path, ema=0.15), pool=pool)
    phase = trainer.config.phases[0]
    expected = [p.detach().clone() for p in trainer.network.parameters()]
    for number, decay in enumerate((1 / 10, 0.15)):  # quicker at the beginning
        trainer.train_step([trainer.sampler.batch(number, phase)], phase)
        own = [p.detach() for p in trainer.network.parameters()]
        expected = [decay * a + (1 - decay) * b for a, b in zip(expected, own, strict=True)]
    for mean, wanted, now in zip(trainer.ema.parameters(), expected, own, strict=True):
        torch.testing.assert_close(mean, wanted)
        assert torch.equal(mean, now) == (not now.any())


@pytest.mark.parametrize("wanted", [True, False])
def test_bfloat16_is_what_the_layers_compute_in(wanted: bool, tmp_path: Path, pool: Pool) -> None:
    trainer = Trainer(small("vfi-lite", tmp_path, bfloat16=wanted), pool=pool)
    kinds: set[torch.dtype] = set()
    for layer in trainer.network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(lambda layer, seen, made: kinds.add(made.dtype))
    phase = trainer.config.phases[0]
    total, _ = trainer.loss(trainer.sampler.batch(0, phase), phase)
    assert kinds == {torch.bfloat16 if wanted else torch.float32}
    assert total.dtype == torch.float32


def test_a_phase_weighs_its_losses_its_own_way(tmp_path: Path, pool: Pool) -> None:
    config = small("vfi-lite", tmp_path)
    weights = {"laplacian": 0.0, "census": 0.5, "flow": 2.0, "flow_cap": 0.25}
    phase = dataclasses.replace(config.phases[0], loss=weights)
    trainer = Trainer(dataclasses.replace(config, phases=(phase,)), pool=pool)
    batch = trainer.sampler.batch(0, phase)
    total, parts = trainer.loss(batch, phase)
    assert parts.keys() == {"loss", "unblended", "census", "flow"}
    wanted = 0.5 * parts["unblended"] + 0.5 * parts["census"] + 2 * parts["flow"]
    assert float(total.detach()) == pytest.approx(wanted)
    uncapped = dataclasses.replace(phase, loss={**weights, "flow_cap": 0.0})
    assert parts["flow"] < trainer.loss(batch, uncapped)[1]["flow"]


def test_a_phase_chooses_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(sampling, "draw_batch", lambda *_, **keys: asked.update(keys))
    phase = PhaseConfig(synthetic=0.1, crop=64, crop_width=96, batch=3, largest=5.0, shifted=0.7)
    Sampler(7, None, None, four=True).batch(11, phase)
    shape = {"height": 64, "width": 96, "batch": 3, "four": True}
    assert asked.items() >= {**shape, "synthetic": 0.1, "largest": 5.0, "shifted": 0.7}.items()


def test_scenes_are_rendered_as_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "a.png")
    asked: list[dict[str, Any]] = []

    def watched(rng: np.random.Generator, texture: Any, **keys: Any) -> Scene:
        asked.append(keys)
        return generate(rng, texture, **keys)

    monkeypatch.setattr(cache, "generate", watched)
    data = DataConfig(
        textures=(".",),
        scenes=3,
        scene_size=48,
        scene_motion=(3.5,),
        scene_blurred=0.25,
        scene_accelerated=0.75,
        four=True,
    )
    config = dataclasses.replace(small("eqvi", tmp_path), data=data)
    clips, pool = open_sources(config)
    assert clips is None
    assert pool is not None
    assert len(pool) == len(asked) == 3
    keys = {"size": 48, "largest": 3.5, "blurred": 0.25, "accelerated": 0.75, "four": True}
    assert all(each == keys for each in asked)


def test_light_changes_and_noise_comes_but_not_into_the_new_frame() -> None:
    rng = np.random.default_rng(0)
    grey = Sample(torch.full((3, 3, 32, 32), 0.5), 0.5)
    lighter, drifting, noisy = 0, 0, 0
    for _ in range(400):
        frames = augment(rng, grey).frames
        means = frames.mean((1, 2, 3))
        assert float(frames[1].std()) < 1e-6
        lighter += abs(float(means[1]) - 0.5) > 0.01
        drifting += abs(float(means[2] - means[0])) > 0.005
        noisy += float(frames[0].std()) > 0.001
    assert 20 < lighter < 120
    assert 10 < drifting < 80
    assert 20 < noisy < 80
