"""Each family of networks: it learns, resumes to the bit, and its shipped configuration runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.trainkit import FAMILIES, FOUR, narrow, paint, scenes, small, weights
from vfi_cli.errors import InputError, ModelError, UsageError
from vfi_cli.models import load_model, scopeflow
from vfi_cli.models.base import Interpolator, Network
from vfi_cli.models.eqvi import EQVI
from vfi_cli.models.lite import LiteNet
from vfi_cli.models.registry import registry
from vfi_cli.models.rife4 import IFBlock, Spec
from vfi_cli.training import losses
from vfi_cli.training.config import SHIPPED, Config, LossConfig, read_config, shipped
from vfi_cli.training.data import Batch, Pool
from vfi_cli.training.export import export
from vfi_cli.training.families import Family, build, everywhere, pair, trainable
from vfi_cli.training.init import wake
from vfi_cli.training.loop import Trainer
from vfi_cli.training.run import start
from vfi_cli.training.teacher import FlowTeacher

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pool]:
    """The scenes that each family can train on."""
    folder = tmp_path_factory.mktemp("scenes")
    three, five = scenes(folder / "three"), scenes(folder / "five", four=True)
    half = Pool(three.folder, middle=True)
    return {name: five if name in FOUR else half if name == "rife" else three for name in FAMILIES}


def trainer_of(name: str, folder: Path, pools: dict[str, Pool], **optim: float) -> Trainer:
    return Trainer(small(name, folder, **optim), clips=None, pool=pools[name])


#: Steps and learning rate with which one batch is learned, and what is left of its loss.
LEARNS = {
    "vfi-lite": (9, 2e-3, 0.5),
    "rife": (12, 2e-3, 0.6),
    "rifem": (9, 2e-3, 0.6),
    "rife-v4.6": (9, 2e-3, 0.6),
    "ifrnet": (9, 2e-3, 0.6),
    "rrin": (12, 1e-3, 0.6),
    "scopeflow": (16, 2e-3, 0.85),
    "eqvi": (12, 1e-3, 0.85),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_learns_a_batch(name: str, tmp_path: Path, pools: dict[str, Pool]) -> None:
    steps, rate, left = LEARNS[name]
    config = small(name, tmp_path, lr=rate)
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, steps=1000))
    trainer = Trainer(config, clips=None, pool=pools[name])
    phase = trainer.config.phases[0]
    batches = [trainer.sampler.batch(number, phase) for number in range(8)]
    batch = max(batches, key=lambda batch: float(batch.flow.abs().mean()))  # something to learn
    seen = [trainer.train_step([batch], phase) for _ in range(steps)]
    values = [step["loss"] for step in seen if step]
    assert len(values) == steps
    assert sum(values[-3:]) / 3 < left * values[0], values


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "scopeflow"])
def test_a_family_begins_near_the_blend_of_both_frames(
    name: str, tmp_path: Path, pools: dict[str, Pool]
) -> None:
    trainer = trainer_of(name, tmp_path, pools)
    batch = trainer.sampler.batch(1, trainer.config.phases[0])
    batch = dataclasses.replace(batch, t=torch.full((1, 1, 1, 1), 0.5))
    with torch.no_grad():
        picture = trainer.family.eval()(batch, trainer.config.phases[0]).picture
    assert float((picture - (batch.frame0 + batch.frame1) / 2).abs().mean()) < 0.02


@pytest.mark.parametrize("name", FAMILIES)
def test_a_resumed_run_is_the_uninterrupted_one(
    name: str, tmp_path: Path, pools: dict[str, Pool]
) -> None:
    whole = trainer_of(name, tmp_path, pools)
    whole.run(steps=1)
    first = weights(whole)
    second = trainer_of(name, tmp_path, pools)
    second.resume()
    whole.run(steps=1)
    torch.rand(3)  # whatever else used the generator
    second.run(steps=1)
    assert whole.step == second.step == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(whole), first, strict=True))
    moments = (trainer.optimiser.state_dict()["state"] for trainer in (whole, second))
    for one, other in zip(*(list(state.values()) for state in moments), strict=True):
        assert torch.equal(one["exp_avg_sq"], other["exp_avg_sq"])


@pytest.mark.parametrize("name", FAMILIES)
def test_training_sees_what_inference_gives(
    name: str, tmp_path: Path, pools: dict[str, Pool]
) -> None:
    """The forward pass of training is another one in some families; its frame is the same."""
    trainer = trainer_of(name, tmp_path, pools)
    network = trainer.network
    batch = trainer.sampler.batch(1, trainer.config.phases[0])
    with torch.no_grad():
        found = trainer.family.eval()(batch, trainer.config.phases[0])
        if name == "scopeflow":
            expected = network.flow(torch.stack((batch.middle, batch.frame0), 1))
            torch.testing.assert_close(found.own["flow"][:1], expected)
            return
        frames = pair(batch)
        if name == "eqvi":
            assert batch.before is not None
            assert batch.after is not None
            frames = torch.stack((batch.before, batch.frame0, batch.frame1, batch.after), 1)
        torch.testing.assert_close(found.picture, network(frames, batch.t), atol=2e-5, rtol=1e-4)
        motion = network.motion(frames, batch.t)
    torch.testing.assert_close(
        found.stages[-1].flow, torch.cat((motion.flow0, motion.flow1), 1), atol=1e-3, rtol=1e-3
    )


def short(folder: Path, name: str, stills: Path) -> list[str]:
    """Overrides that make a shipped configuration a matter of seconds, on a folder's picture."""
    found = [
        f'data.textures=["{stills}"]',
        f'data.cache="{stills}/cache"',
        "data.clips=[]",
        "data.scenes=8",
        "data.scene_size=96",
        "data.scene_motion=[4.0]",
        f'run.out="{folder}/run"',
        f"run.steps={3 if name == 'vfi-lite' else 2}",  # so that the last phase comes as well
        "run.log_every=1",
        "run.threads=1",
    ]
    if name == "vfi-lite-7":
        first = folder / "first.safetensors"
        save_file(LiteNet(Spec(widths=(16,) * 5)).state_dict(), first)
        found += [f'model.init_from="{first}"', f"model.widths={[16] * 7}"]
    model, _ = FAMILIES.get({"rife46": "rife-v4.6"}.get(name, name), ({}, {}))
    for key, value in model.items():
        found.append(f"model.{key}={list(value) if isinstance(value, tuple) else value}")
    return found


@pytest.fixture(scope="module")
def stills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stills")
    paint(folder / "a.png")
    return folder


@pytest.mark.parametrize("name", [name for name, _ in shipped()])
def test_shipped_configurations_train(name: str, tmp_path: Path, stills: Path) -> None:
    """As they are, but for the places of the data, few steps, small crops and narrow blocks."""
    text = (SHIPPED / f"{name}.toml").read_text(encoding="utf-8")
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0].strip()
        if key in ("crop", "batch", "synthetic", "crop_width"):
            value = {"crop": 64, "batch": 1, "synthetic": 1.0, "crop_width": 0}[key]
            line = f"{key} = {value}"  # noqa: PLW2901
        lines.append(line)
    path = tmp_path / f"{name}.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    said: list[str] = []
    trainer = start(path, short(tmp_path, name, stills), device="cpu", report=said.append)
    phases = len(trainer.config.phases)
    seen = []
    trainer.on_step = lambda progress: seen.append(trainer.phase(progress.step - 1))
    trainer.run()
    steps = trainer.config.run.steps
    assert trainer.step == steps
    assert (seen[0], seen[-1]) == (trainer.config.phases[0], trainer.config.phases[phases - 1])
    assert any(line.startswith(f"step {steps}  100.0 %") for line in said)
    assert (tmp_path / "run/last.pt").is_file()


def test_shipped_configurations_say_what_they_are() -> None:
    names = dict(shipped())
    assert {
        "vfi-lite",
        "vfi-lite-7",
        "rife",
        "rifem",
        "rife46",
        "ifrnet",
        "rrin",
        "scopeflow",
        "eqvi",
    } <= set(names)
    assert all(len(text) > 20 for text in names.values())


@pytest.mark.parametrize("name", ["rife", "ifrnet", "scopeflow"])
def test_what_is_trained_can_be_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published widths: those that files are recognised by."""
    monkeypatch.undo()
    config = small(name, tmp_path)
    config = dataclasses.replace(
        config, model=dataclasses.replace(config.model, widths=(), context=16)
    )
    trainer = Trainer(config, clips=None, pool=None)
    trainer.save()
    text = export(tmp_path / "run/last.pt", tmp_path / "w.safetensors")
    assert f'architecture = "{name}"' in text
    assert "after 0 steps" in text
    model = load_model(tmp_path / "w.safetensors", device="cpu", dtype="float32")
    assert model.architecture == name


# What belongs to one family ---------------------------------------------------------------


def test_a_woken_block_of_more_channels_does_what_the_finer_one_does() -> None:
    spec = Spec(widths=(24, 16, 16, 16, 16))
    woken, finer = IFBlock(15, 24, spec), IFBlock(28, 16, spec)
    wake(woken, finer)
    seen = torch.rand(2, 15, 32, 32)
    with torch.no_grad():
        expected = 0.7 * finer(torch.cat((seen, torch.zeros(2, 13, 32, 32)), 1))
        torch.testing.assert_close(woken(seen), expected, rtol=1e-4, atol=1e-6)
    assert bool(woken.convblock[0].conv.weight[16:].any())  # what it has beyond can still learn


def test_a_silent_block_stays_silent_until_a_phase_wakes_it(
    tmp_path: Path, pools: dict[str, Pool]
) -> None:
    config = small("vfi-lite", tmp_path)
    quiet = dataclasses.replace(config.phases[0], until=0.5, silent=1)
    config = dataclasses.replace(config, phases=(quiet, config.phases[0]))
    trainer = Trainer(config, clips=None, pool=pools["vfi-lite"])
    block = trainer.network.get_submodule("block0")
    before = [p.detach().clone() for p in block.parameters()]
    trainer.run(steps=2)
    assert all(torch.equal(a, b) for a, b in zip(before, block.parameters(), strict=True))
    batch = trainer.sampler.batch(0, quiet)
    with torch.no_grad():
        found = trainer.family(batch, quiet)
    assert not bool(found.stages[0].flow.any())
    assert bool(found.stages[1].flow.any())
    trainer.family.wake(quiet)
    assert not any(bool(p.any()) for p in block.get_submodule("lastconv").parameters())
    for family in (trainer.family, trainer.shown):
        family.wake(config.phases[1])
        woken, finer = (family.network.get_submodule(f"block{i}.lastconv") for i in (0, 1))
        torch.testing.assert_close(woken[0].weight, 0.7 * finer[0].weight)
    trainer.run(steps=2)
    with torch.no_grad():
        assert bool(trainer.family(batch, quiet).stages[0].flow.any())


def test_the_teacher_of_rife_sees_the_truth_and_teaches(
    tmp_path: Path, pools: dict[str, Pool]
) -> None:
    trainer = trainer_of("rife", tmp_path, pools)
    phase = trainer.config.phases[0]
    batch = trainer.sampler.batch(0, phase)
    assert bool((batch.t == 0.5).all())
    other = dataclasses.replace(batch, middle=batch.middle.flip(-1))
    trainer.family.train()
    with torch.no_grad():
        one, two = trainer.family(batch, phase), trainer.family(other, phase)
    torch.testing.assert_close(one.picture, two.picture)  # the network does not see it
    assert not torch.equal(one.own["teacher"][1], two.own["teacher"][1])
    with torch.no_grad():
        trainer.family.eval()
        assert "teacher" not in trainer.family(batch, phase).own


def test_ifrnets_coarse_flows_are_enlarged_to_pixels(
    tmp_path: Path, pools: dict[str, Pool]
) -> None:
    trainer = trainer_of("ifrnet", tmp_path, pools)
    batch = trainer.sampler.batch(0, trainer.config.phases[0])
    constant = torch.zeros_like(batch.flow)

    def levels(frames: torch.Tensor, t: torch.Tensor) -> tuple:
        """As though every level had found the same motion of 8 pixels."""
        found = [
            (torch.full((1, 4, 64 // s, 64 // s), 8.0 / s), torch.zeros(1, 2, 8, 8))
            for s in (8, 4, 2)
        ]
        return batch.middle, constant + 8, found

    trainer.network.stages = levels  # type: ignore[method-assign]
    found = trainer.family(batch, trainer.config.phases[0])
    assert len(found.stages) == 4
    for stage in found.stages:
        torch.testing.assert_close(stage.flow, constant + 8)


def test_flow_distillation_needs_a_reference(tmp_path: Path, pools: dict[str, Pool]) -> None:
    trainer = trainer_of("ifrnet", tmp_path, pools)
    batch = trainer.sampler.batch(0, trainer.config.phases[0])
    unknown = dataclasses.replace(batch, has_flow=torch.zeros_like(batch.has_flow))
    weights = LossConfig(flow_distillation=1.0)
    with torch.no_grad():
        found = trainer.family(batch, trainer.config.phases[0])
        assert "flow_distillation" in trainer.family.parts(found, batch, weights)
        assert "flow_distillation" not in trainer.family.parts(found, unknown, weights)


@pytest.mark.parametrize("name", ["scopeflow", "ifrnet"])
def test_a_flow_teacher_fills_in_what_is_not_known(
    name: str, tmp_path: Path, pools: dict[str, Pool]
) -> None:
    network = registry()[name].prototype()
    teacher = FlowTeacher(Interpolator(network, name=name, device="cpu"))
    trainer = trainer_of("rife-v4.6", tmp_path, pools)
    batch = trainer.sampler.batch(0, dataclasses.replace(trainer.config.phases[0], batch=2))
    half = dataclasses.replace(batch, has_flow=torch.tensor([True, False]))
    filled = teacher.fill(half)
    assert filled.has_flow.all()
    assert torch.equal(filled.flow[0], batch.flow[0])
    if name == "scopeflow":
        expected = teacher.model.flow(torch.stack((batch.middle, batch.frame1), 1))[1]
        torch.testing.assert_close(filled.flow[1, 2:], expected.clone(), atol=1e-4, rtol=1e-4)
    assert not filled.flow.is_inference()
    with pytest.raises(UsageError, match=r"model\.teacher: x finds no motion"):
        FlowTeacher(Interpolator(Network(), name="x", device="cpu"))


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("name", FOUR)
def test_weights_say_whether_flow_is_scaled_once(
    name: str, own: bool, tmp_path: Path, pools: dict[str, Pool]
) -> None:
    """Those of our own, through training and its files, and that published ones do not."""
    kind = scopeflow.ScopeFlow if name == "scopeflow" else EQVI
    begin = kind(scaled_once=own)
    keys = [key for key in begin.state_dict() if key.endswith("scaled_once")]
    assert len(keys) == own
    torch.save(begin.state_dict(), tmp_path / "begin.pth")
    config = small(name, tmp_path)
    model = dataclasses.replace(config.model, init_from="begin.pth")
    config = dataclasses.replace(config, model=model)

    def held(network: nn.Module) -> list[str]:
        return [key for key in network.state_dict() if key.endswith("scaled_once")]

    trainer = Trainer(config, pool=pools[name])
    trainer.run(steps=1)
    resumed = Trainer(config, pool=pools[name])
    resumed.resume()
    again = Trainer(
        dataclasses.replace(config, model=dataclasses.replace(model, init_from="run/last.pt"))
    )
    text = export(tmp_path / "run/last.pt", tmp_path / "w.safetensors")
    assert f'architecture = "{name}"' in text
    loaded = load_model(tmp_path / "w.safetensors", device="cpu", dtype="float32").network
    networks = (trainer.network, trainer.ema, resumed.network, resumed.ema, again.network, loaded)
    assert [held(network) for network in networks] == [keys] * 6
    frames = trainer.sampler.batch(0, config.phases[0])
    pair = torch.stack((frames.frame0, frames.frame1), 1)
    with torch.no_grad():
        found = [
            (each.flow(pair) if name == "scopeflow" else each.flownet(pair[:, 0], pair[:, 1]))
            for each in (trainer.ema, loaded)
        ]
    torch.testing.assert_close(*found, atol=0.05, rtol=0.05)  # half precision


def test_eqvi_begins_with_the_flow_of_a_scopeflow(tmp_path: Path, pools: dict[str, Pool]) -> None:
    flow = trainer_of("scopeflow", tmp_path / "flow", pools)
    flow.save()
    config = small("eqvi", tmp_path)
    file = tmp_path / "flow/run/last.pt"
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, init_from=str(file)),
        phases=(dataclasses.replace(config.phases[0], freeze=("flownet.",)),),
    )
    trainer = Trainer(config, clips=None, pool=pools["eqvi"])
    own = trainer.network.get_submodule("flownet").state_dict()
    assert all(torch.equal(own[key], value) for key, value in flow.network.state_dict().items())
    gradient = trainer.network.get_grad.weight_h.detach().clone()
    synthesis = trainer.network.synthesisnet.conv4.weight.detach().clone()
    trainer.run(steps=1)
    own = trainer.network.get_submodule("flownet").state_dict()
    assert all(torch.equal(own[key], value) for key, value in flow.network.state_dict().items())
    assert torch.equal(gradient, trainer.network.get_grad.weight_h)
    assert not torch.equal(synthesis, trainer.network.synthesisnet.conv4.weight)


def test_fine_tuning_starts_from_given_weights(tmp_path: Path, pools: dict[str, Pool]) -> None:
    first = trainer_of("vfi-lite", tmp_path, pools)
    first.run(steps=1)
    export(tmp_path / "run/last.pt", tmp_path / "w.safetensors")
    config = small("vfi-lite", tmp_path / "second")

    def begin(name: str, **model: object) -> Family:
        changed = dataclasses.replace(config.model, init_from=name, **model)
        given = dataclasses.replace(config, model=changed, folder=str(tmp_path))
        return Trainer(given, clips=None, pool=pools["vfi-lite"]).family

    for name, tolerance in (("run/last.pt", 0.0), ("w.safetensors", 1e-2)):
        for key, value in begin(name).network.state_dict().items():
            torch.testing.assert_close(
                value, first.ema.state_dict()[key], atol=tolerance, rtol=tolerance
            )
    with pytest.raises(ModelError, match=r"model\.init_from: these weights have another shape of"):
        begin("w.safetensors", widths=(16, 16, 16, 16, 8))
    with pytest.raises(ModelError, match=r"model\.init_from: .*there is no model"):
        begin("nothing")
    text = '[model]\ninit_from = "rife-v4.6"\n[data]\ntextures = ["."]\n[loss]\nl1 = 1\n'
    (tmp_path / "a.toml").write_text(text + "[[phases]]\nsynthetic = 1.0\n", encoding="utf-8")
    named = read_config(tmp_path / "a.toml")  # a model's name, not that of a file
    assert named.model.init_from == "rife-v4.6"
    for name in ("w.pth", "w.pt"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(ModelError, match=rf"model\.init_from: .*{name}"):
            begin(name)


def test_a_vfi_lite_grows_from_another(tmp_path: Path, pools: dict[str, Pool]) -> None:
    lite = trainer_of("vfi-lite", tmp_path, pools)
    config = small("vfi-lite", tmp_path / "more")
    more = {"widths": (16,) * 6, "scales": (16, 8, 4, 4, 2, 1)}

    def built(**keys: object) -> Family:
        return build(
            dataclasses.replace(config, model=dataclasses.replace(config.model, **more, **keys))
        )

    family = built(grown_from=(0, 1, 2, 2, 3, 4))
    state = lite.network.state_dict()
    family.accept(state)
    block = family.network.get_submodule("block3").state_dict()
    assert all(torch.equal(value, state[f"block2.{key}"]) for key, value in block.items())
    built().accept(family.network.state_dict())  # as one of its own
    with pytest.raises(ModelError, match="these weights also hold block5"):
        lite.family.accept(family.network.state_dict())
    with pytest.raises(ModelError, match=r"model\.grown_from: these weights have no 'block7'"):
        built(grown_from=(0, 1, 2, 2, 3, 7)).accept(state)


def test_a_bad_gradient_leaves_no_trace_in_batch_norms(
    tmp_path: Path, pools: dict[str, Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES, "ifrnet-gelu-bn", FAMILIES["ifrnet"])
    trainer = Trainer(small("ifrnet-gelu-bn", tmp_path), clips=None, pool=pools["ifrnet"])
    phase = trainer.config.phases[0]
    batch = trainer.sampler.batch(0, phase)
    batch.frame0[0, 0, 30, 30] = float("nan")
    before = weights(trainer)
    assert trainer.train_step([batch], phase) is None
    assert all(torch.equal(a, b) for a, b in zip(before, weights(trainer), strict=True))


def test_published_files_of_rife_bring_their_teacher(tmp_path: Path) -> None:
    family = build(small("rife", tmp_path))
    state = {key: torch.randn_like(value) for key, value in family.network.state_dict().items()}
    block = {key: torch.randn_like(value) for key, value in family.helper.state_dict().items()}
    family.accept(state | {f"block_tea.{key}": value for key, value in block.items()})
    assert all(torch.equal(block[key], value) for key, value in family.helper.state_dict().items())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("rife-v9", {}, r"model\.architecture: 'rife-v9' cannot be trained; there are .*eqvi"),
        ("rife", {"widths": (1, 2)}, r"model\.widths must be three numbers"),
        ("ifrnet", {"widths": (8,)}, r"model\.widths must be the four widths"),
        ("rrin", {"widths": (8,)}, r"model\.widths: rrin has those of its paper"),
        ("vfi-lite", {"widths": (8, 8)}, r"model\.widths must be 5 numbers"),
        ("vfi-lite", {"scales": (8, 16, 4, 2, 1)}, r"model\.scales must be powers of two up to"),
        ("vfi-lite", {"grown_from": (0, 1)}, r"model\.grown_from must be 5 numbers"),
        ("rife", {"scales": (4, 2, 1)}, r"model\.scales is nothing that rife has"),
        ("vfi-lite", {"crop": 96}, r"phases\[0\]\.crop must be a multiple of 64"),
        ("vfi-lite", {"crop_width": 96}, r"phases\[0\]\.crop_width must be a multiple of 64"),
        ("vfi-lite", {"blocks": 6}, r"phases\[0\]\.blocks must lie between 0 \(all\) and 5"),
        ("vfi-lite", {"silent": 5}, r"phases\[0\]\.silent must be less"),
        ("rrin", {"blocks": 1}, r"phases\[0\]\.blocks must lie"),
        ("rrin", {"loss": {"teacher": 1.0}}, r"loss\.teacher is nothing that rrin has"),
        ("rrin", {"freeze": ("Flow_R.",)}, r"phases\[0\]\.freeze: no parameter's name begins"),
        ("scopeflow", {"synthetic": 0.5}, r"phases\[0\]\.synthetic must be 1, .*loss \(flow\)"),
        (
            "ifrnet",
            {"synthetic": 0.5, "loss": {"charbonnier": 0.0, "census": 0.0, "geometry": 0.0}},
            r"phases\[0\]\.synthetic must be 1, .*\(flow_distillation\) .*model\.teacher",
        ),
    ],
)
def test_what_a_family_cannot_do_is_named(
    name: str, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    config = small(name if name in FAMILIES else "rife", tmp_path)
    of_model = {key: value for key, value in changes.items() if hasattr(config.model, key)}
    of_phase = {key: value for key, value in changes.items() if key not in of_model}
    model = dataclasses.replace(config.model, architecture=name, **of_model)  # type: ignore[arg-type]
    phase = dataclasses.replace(config.phases[0], **of_phase)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=message):
        build(dataclasses.replace(config, model=model, phases=(phase,)))


def test_a_teacher_is_for_those_who_learn_from_it(tmp_path: Path) -> None:
    def taught(name: str) -> Config:
        config = small(name, tmp_path)
        alone = {"charbonnier": 0.0, "census": 0.0, "geometry": 0.0} if name == "ifrnet" else {}
        phase = dataclasses.replace(config.phases[0], synthetic=0.5, loss=alone)
        model = dataclasses.replace(config.model, teacher="scopeflow")
        return dataclasses.replace(config, model=model, phases=(phase,))

    build(taught("ifrnet"))
    with pytest.raises(UsageError, match=r"model\.teacher is nothing that rrin has"):
        build(taught("rrin"))
    config = taught("ifrnet")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, teacher="x.pth"))
    with pytest.raises(ModelError, match=r"model\.teacher: .*x\.pth"):
        Trainer(config)


def test_all_families_are_named() -> None:
    assert set(FAMILIES) < set(trainable())
    assert "rife-v4.0" not in trainable()


def test_exact_flow_counts_at_each_stage(tmp_path: Path) -> None:
    from vfi_cli.training.families import Found

    family = build(small("rrin", tmp_path))
    flow = torch.randn(2, 4, 8, 8)
    picture = torch.zeros(2, 3, 8, 8)
    known = torch.tensor([True, False])
    batch = Batch(picture, picture, picture, torch.full((2, 1, 1, 1), 0.5), flow, known)
    found = Found(picture, [everywhere(flow + 1), everywhere(flow + 2)])
    parts = family.parts(found, batch, LossConfig(flow=1.0))
    assert float(parts["flow"]) == pytest.approx((1 + 2) * 0.5)
    unknown = dataclasses.replace(batch, has_flow=torch.zeros(2, dtype=torch.bool))
    assert float(family.parts(found, unknown, LossConfig(flow=1.0))["flow"]) == 0
    assert float(losses.flow_l1(flow[:1] + 3, flow[:1])) == pytest.approx(3)


def test_four_frames_are_asked_for(tmp_path: Path) -> None:
    text = '[model]\narchitecture = "eqvi"\n[data]\ntextures = ["."]\n[loss]\nl1 = 1\n[[phases]]\n'
    (tmp_path / "a.toml").write_text(text + "synthetic = 1.0\ncrop = 64\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"data\.four must be true: eqvi sees four frames"):
        start(tmp_path / "a.toml", device="cpu")


def test_a_perceptual_loss_needs_its_weights(tmp_path: Path, pools: dict[str, Pool]) -> None:
    begin = [*short(tmp_path, "rrin", tmp_path), "loss.perceptual=0.1"]
    with pytest.raises(UsageError, match=r"loss\.perceptual needs the weights .* loss\.vgg"):
        read_config(Path("rrin"), begin)
    with pytest.raises(InputError, match=r"loss\.vgg: there is no file .*vgg\.pth"):
        read_config(Path("rrin"), [*begin, 'loss.vgg="vgg.pth"'])
    layers: list[nn.Module] = []
    before = 3
    for stage in (2, 2, 3, 3, 3):
        for _ in range(stage):
            layers += [nn.Conv2d(before, 4, 3, 1, 1), nn.ReLU()]
            before = 4
        layers.append(nn.MaxPool2d(2))
    vgg = nn.Module()
    vgg.features = nn.Sequential(*layers)
    torch.save(vgg.state_dict(), tmp_path / "vgg.pth")
    config = small("rrin", tmp_path)
    loss = dataclasses.replace(config.loss, perceptual=0.1, vgg="vgg.pth")
    trainer = Trainer(dataclasses.replace(config, loss=loss), clips=None, pool=pools["rrin"])
    batch = trainer.sampler.batch(0, config.phases[0])
    total, parts = trainer.loss(batch, config.phases[0])
    assert float(total.detach()) == pytest.approx(parts["l1"] + 0.1 * parts["perceptual"], rel=1e-3)
    assert trainer.perceptual is not None
    assert float(trainer.perceptual(batch.middle, batch.middle)) == 0
    x, y, expected = batch.middle, batch.frame0, 0.0
    mean, spread = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x, y = (x - mean) / spread, (y - mean) / spread
    with torch.no_grad():
        for number, layer in enumerate(layers):  # a ReLU before a pooling ends a stage
            x, y = layer(x), layer(y)
            if number + 1 < len(layers) and isinstance(layers[number + 1], nn.MaxPool2d):
                expected += float((x - y).abs().mean()) / 5
        assert float(trainer.perceptual(batch.middle, batch.frame0)) == pytest.approx(
            expected, rel=1e-4
        )
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "vgg.pth")
    with pytest.raises(InputError, match=r"loss\.vgg: .*holds no VGG-16 or VGG-19"):
        Trainer(dataclasses.replace(config, loss=loss), clips=None, pool=None)
