"""The families of networks that can be trained, behind one small interface.

A :class:`Family` holds the network, and what only its training needs, such as a teacher block. It
runs both on a batch and weighs what came out by the losses of the family's paper. The loop knows
nothing else of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from vfi_cli.errors import ModelError, UsageError
from vfi_cli.models import lite, scopeflow
from vfi_cli.models.base import Network
from vfi_cli.models.blocks import resize_flow, warp
from vfi_cli.models.eqvi import EQVI
from vfi_cli.models.ifrnet import IFRNet, Widths
from vfi_cli.models.lite import LiteNet
from vfi_cli.models.registry import registry
from vfi_cli.models.rife4 import IFNet, Stage
from vfi_cli.models.rrin import RRIN
from vfi_cli.models.scopeflow import ScopeFlow
from vfi_cli.training import losses
from vfi_cli.training.config import Config, LossConfig, ModelConfig, PhaseConfig
from vfi_cli.training.data import Batch
from vfi_cli.training.init import initialise, initialise_plain, wake

#: Keys that weights of our own hold and published ones lack.
_MARKERS = (lite.KEY, lite.LOOKS, scopeflow.KEY)

#: Losses that every network with a new frame, or with flow, can have.
OF_FRAMES = frozenset({"laplacian", "census", "charbonnier", "l1", "perceptual"})
OF_FLOW = frozenset({"flow"})


@dataclass
class Found:
    """What a network found in a batch: the new frame (B, 3, H, W), its flow after each stage,
    and what the family's own losses need."""

    picture: Tensor | None = None
    stages: list[Stage] = field(default_factory=list)
    own: dict[str, Any] = field(default_factory=dict)


class Family(nn.Module):
    """A network to train. Subclasses say how it is run and which losses are its own."""

    #: Losses of :class:`LossConfig` that make sense here.
    losses: frozenset[str] = OF_FRAMES | OF_FLOW
    #: Beginnings of the names of parameters that are never trained.
    constant: tuple[str, ...] = ()

    def __init__(self, network: Network, architecture: str) -> None:
        super().__init__()
        self.network = network
        self.architecture = architecture
        #: Trained along, and left behind when the weights are exported.
        self.helper: nn.Module = nn.Module()

    @property
    def blocks(self) -> int:
        """Blocks of which a phase may train the first alone; 0 where there are none."""
        return 0

    def forward(self, batch: Batch, phase: PhaseConfig) -> Found:
        """Runs the network on a batch, under autocast."""
        raise NotImplementedError

    def parts(self, found: Found, batch: Batch, weights: LossConfig) -> dict[str, Tensor]:
        """The losses whose weight is not 0, unweighted, in float32."""
        parts: dict[str, Tensor] = {}
        if found.picture is not None:
            for name in ("laplacian", "census", "charbonnier", "l1"):
                if getattr(weights, name):
                    parts[name] = getattr(losses, name)(found.picture, batch.middle)
        if weights.flow and found.stages:
            # A mean over the batch, in which samples without known flow count as 0.
            known = batch.has_flow.view(-1, 1, 1, 1)
            errors = [
                losses.flow_l1(
                    stage.flow * known,
                    batch.flow[..., stage.ys, :][..., stage.xs] * known,
                    weights.flow_cap or None,
                )
                for stage in found.stages
            ]
            parts["flow"] = torch.stack(errors).sum()
        return parts

    def accept(self, state: dict[str, Tensor]) -> None:
        """Starts from weights. Raises ModelError where they are another network's."""
        drop = registry()[self.architecture].training_only
        state = {key: value for key, value in state.items() if not key.startswith(drop)}
        expected = self.network.state_dict()
        missing = [key for key in expected if key not in state and not key.endswith(_MARKERS)]
        extra = [key for key in state if key not in expected]
        shapes = [
            key for key in expected if key in state and expected[key].shape != state[key].shape
        ]
        if missing or extra or shapes:
            key = (missing or extra or shapes)[0]
            what = "lack" if missing else "also hold" if extra else "have another shape of"
            raise ModelError(f"model.init_from: these weights {what} {key}: another model's")
        self.network.load_state_dict(state, strict=False)

    def enter(self, phase: PhaseConfig) -> None:
        """Chooses which parameters the phase trains."""
        fixed = (*self.constant, *phase.freeze)
        for name, weight in self.network.named_parameters():
            weight.requires_grad_(not name.startswith(fixed))

    def wake(self, phase: PhaseConfig) -> None:
        """Lets begin what was silent before the phase, in what is trained and in its average."""

    def show(self, frames: Tensor, middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What validation looks at: the frame that the network rebuilds in the middle of
        ``frames`` (1, n, 3, H, W), what it should be, and a flow (1, 2, H, W)."""
        t = frames.new_full((1, 1, 1, 1), 0.5)
        picture = self.network(frames, t)
        return picture, middle, self.network.motion(frames, t).flow0

    def check(self, config: Config) -> None:
        """Raises UsageError that names the key for what this network cannot do."""
        if self.network.frames_seen == 4 and not config.data.four:
            raise UsageError(f"data.four must be true: {self.architecture} sees four frames")
        if config.model.teacher and "flow_distillation" not in self.losses:
            raise UsageError(f"model.teacher is nothing that {self.architecture} has")
        for number, phase in enumerate(config.phases):
            name = f"phases[{number}]"
            multiple = self.network.size_multiple
            for key, size in (("crop", phase.crop), ("crop_width", phase.crop_width)):
                if size % multiple:
                    raise UsageError(
                        f"{name}.{key} must be a multiple of {multiple} "
                        f"for {config.model.architecture}"
                    )
            weights = config.losses(phase)
            for key in sorted(OF_FRAMES | OF_FLOW | _OWN):
                if getattr(weights, key) and key not in self.losses:
                    raise UsageError(
                        f"loss.{key} is nothing that {config.model.architecture} has; "
                        f"it has {', '.join(sorted(self.losses))}"
                    )
            active = {key for key in self.losses if getattr(weights, key)}
            exact = phase.synthetic == 1 or (config.model.teacher and weights.flow_distillation)
            if active and active <= _OF_KNOWN_FLOW and not exact:
                teacher = ", or a model.teacher" if "flow_distillation" in active else ""
                raise UsageError(
                    f"{name}.synthetic must be 1, as its only loss ({', '.join(sorted(active))}) "
                    f"needs the exact flow of rendered scenes{teacher}"
                )
            if not 0 <= phase.blocks <= self.blocks:
                raise UsageError(f"{name}.blocks must lie between 0 (all) and {self.blocks}")
            if not 0 <= phase.silent < max(phase.blocks or self.blocks, 1):
                raise UsageError(f"{name}.silent must be less than the number of blocks")
            for key in phase.freeze:
                if not any(p.startswith(key) for p, _ in self.network.named_parameters()):
                    raise UsageError(f"{name}.freeze: no parameter's name begins with {key!r}")


#: Losses that only some family has.
_OWN = frozenset({"unblended", "teacher", "distillation", "flow_distillation", "geometry"})
#: Losses of which samples without a known flow have nothing.
_OF_KNOWN_FLOW = OF_FLOW | {"flow_distillation"}


def pair(batch: Batch) -> Tensor:
    """The two frames around the new one, (B, 2, 3, H, W)."""
    return torch.stack((batch.frame0, batch.frame1), 1)


def everywhere(flow: Tensor) -> Stage:
    """A flow that is known at each pixel as a stage."""
    height, width = flow.shape[2:]
    return Stage(
        flow, torch.arange(height, device=flow.device), torch.arange(width, device=flow.device)
    )


class RIFE4(Family):
    """RIFE 4.x and vfi-lite: blocks that can begin silent, and join phase by phase."""

    network: IFNet

    def __init__(self, model: ModelConfig) -> None:
        network = registry()[model.architecture].prototype()
        assert isinstance(network, IFNet)
        scales = model.scales or network.spec.scales
        widths = model.widths or network.spec.widths
        if not lite.usable(scales):
            raise UsageError(
                f"model.scales must be powers of two up to {lite.LARGEST_SCALE}, none larger than "
                "the one before"
            )
        if len(widths) != len(scales) or min(widths) < 2:
            raise UsageError(f"model.widths must be {len(scales)} numbers for {model.architecture}")
        if model.grown_from and len(model.grown_from) != len(scales):
            raise UsageError(f"model.grown_from must be {len(scales)} numbers, one for each block")
        network = type(network)(replace(network.spec, widths=widths, scales=scales))
        super().__init__(network, model.architecture)
        self._grown_from = model.grown_from
        initialise(network)
        if isinstance(network, LiteNet):
            self.losses = self.losses | {"unblended"}

    def accept(self, state: dict[str, Tensor]) -> None:
        """Starts from weights of the same architecture, or from blocks of others."""
        if self._grown_from:
            try:
                state = lite.grown(state, self._grown_from)
            except KeyError as error:
                raise ModelError(f"model.grown_from: these weights have no {error}") from None
        # Where blocks look is the configuration's to say.
        super().accept({key: value for key, value in state.items() if key != lite.LOOKS})

    @property
    def blocks(self) -> int:
        return len(self.network.spec.widths)

    def forward(self, batch: Batch, phase: PhaseConfig) -> Found:
        frames = pair(batch)
        stages: list[Stage] = []
        network = self.network
        motion = network._estimate(frames, batch.t, 1.0, stages=stages, depth=phase.blocks or None)
        stages.append(everywhere(motion.flow()))
        found = Found(network._blend(frames, motion, batch.t), stages)
        if isinstance(network, LiteNet):
            found.own["unblended"] = IFNet._blend(network, frames, motion, batch.t)
        return found

    def parts(self, found: Found, batch: Batch, weights: LossConfig) -> dict[str, Tensor]:
        parts = super().parts(found, batch, weights)
        if weights.unblended:
            parts["unblended"] = losses.laplacian(found.own["unblended"], batch.middle)
        return parts

    def enter(self, phase: PhaseConfig) -> None:
        super().enter(phase)
        for number in range(phase.silent):
            block = self.network.get_submodule(f"block{number}")
            block.requires_grad_(False)

    def wake(self, phase: PhaseConfig) -> None:
        for number in reversed(range(phase.silent, self.blocks - 1)):
            block = self.network.get_submodule(f"block{number}")
            last = block.get_submodule("lastconv").parameters()
            if not any(bool(weight.any()) for weight in last):
                wake(block, self.network.get_submodule(f"block{number + 1}"))

    def silence(self, count: int) -> None:
        """Makes the ``count`` coarsest blocks put out zeros, whatever they see."""
        for number in range(count):
            for weight in self.network.get_submodule(f"block{number}.lastconv").parameters():
                nn.init.zeros_(weight)


class IFRNetFamily(Family):
    """IFRNet: flow distillation from exact flow or a teacher's, and feature geometry."""

    network: IFRNet
    losses = OF_FRAMES | OF_FLOW | {"flow_distillation", "geometry"}

    def __init__(self, model: ModelConfig) -> None:
        network = registry()[model.architecture].prototype()
        assert isinstance(network, IFRNet)
        if model.widths:
            if len(model.widths) != 4 or min(model.widths) < 4:
                raise UsageError("model.widths must be the four widths of IFRNet's pyramid")
            one, two, three, four = model.widths
            kind = "gelu" if "gelu" in model.architecture else "prelu"
            kind = "gelu-bn" if model.architecture.endswith("bn") else kind
            network = IFRNet(Widths((one, two, three, four), one, activation=kind))
        super().__init__(network, model.architecture)
        initialise_plain(network, [f"decoder{n}.convblock.2" for n in range(1, 5)])

    def forward(self, batch: Batch, phase: PhaseConfig) -> Found:
        frames = pair(batch)
        picture, flow, levels = self.network.stages(frames, batch.t)
        coarse = [resize_flow(own, 8 >> number) for number, (own, _) in enumerate(levels)]
        found = Found(picture, [everywhere(x) for x in (*coarse, flow)])
        found.own["features"] = [features for _, features in levels]
        # Features of the true frame, centred by the same mean as those of its neighbours.
        centred = batch.middle - frames.mean((1, 2, 3, 4), keepdim=True)[:, 0]
        found.own["truth"] = self.network.encoder(centred)[2::-1]
        return found

    def parts(self, found: Found, batch: Batch, weights: LossConfig) -> dict[str, Tensor]:
        parts = super().parts(found, batch, weights)
        if weights.geometry:
            parts["geometry"] = losses.geometry(found.own["features"], found.own["truth"])
        known = batch.has_flow
        if weights.flow_distillation and bool(known.any()):
            *coarse, flow = (stage.flow[known] for stage in found.stages)
            truth = batch.flow[known]
            sides = [
                losses.flow_distillation(flow[:, a:b], truth[:, a:b], [x[:, a:b] for x in coarse])
                for a, b in ((0, 2), (2, 4))
            ]
            parts["flow_distillation"] = torch.stack(sides).sum() * known.float().mean()
        return parts


#: Share of last layers behind U-Nets, whose bridges add to what arrives at them.
_AFTER_SKIPS = 0.01


class RRINFamily(Family):
    """RRIN."""

    network: RRIN

    def __init__(self, model: ModelConfig) -> None:
        refuse_widths(model)
        super().__init__(RRIN(), model.architecture)
        last = [f"{name}.last" for name in ("Mask", "Flow_L", "refine_flow", "final")]
        initialise_plain(self.network, last, share=_AFTER_SKIPS)

    def forward(self, batch: Batch, phase: PhaseConfig) -> Found:
        picture, flow = self.network.stages(pair(batch), batch.t)
        return Found(picture, [everywhere(flow)])


class ScopeFlowFamily(Family):
    """ScopeFlow, on samples with exact flow: from the new frame to both others."""

    network: ScopeFlow
    losses = OF_FLOW

    def __init__(self, model: ModelConfig) -> None:
        refuse_widths(model)
        super().__init__(ScopeFlow(scaled_once=True), model.architecture)
        last = ["flow_estimators.conv_last.0", "context_networks.convs.6.0"]
        initialise_plain(self.network, last, ["feature_pyramid_extractor.convs.0.0.0"])

    def forward(self, batch: Batch, phase: PhaseConfig) -> Found:
        first = torch.cat((batch.middle, batch.middle))
        second = torch.cat((batch.frame0, batch.frame1))
        flow, levels = self.network.stages(first, second)
        return Found(own={"flow": flow, "levels": levels})

    def parts(self, found: Found, batch: Batch, weights: LossConfig) -> dict[str, Tensor]:
        truth = torch.cat((batch.flow[:, :2], batch.flow[:, 2:]))
        return {
            "flow": losses.multiscale_flow(found.own["levels"], truth),
            "error": losses.endpoint_error(found.own["flow"], truth).detach(),
        }

    def show(self, frames: Tensor, middle: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The middle frame as it is found, along the flow, in the one after it."""
        after = frames[:, frames.shape[1] // 2]
        flow = self.network.flow(torch.stack((middle, after), 1))
        return warp(after, flow), middle, flow


class EQVIFamily(Family):
    """EQVI, on windows of four frames where a batch has them, and of two where not."""

    network: EQVI
    constant = ("get_grad.",)

    def __init__(self, model: ModelConfig) -> None:
        refuse_widths(model)
        super().__init__(EQVI(scaled_once=True), model.architecture)
        last = ["refinenet.conv3", "masknet.conv3", "synthesisnet.conv4"]
        last += ["flownet.flow_estimators.conv_last.0", "flownet.context_networks.convs.6.0"]
        first = ["flownet.feature_pyramid_extractor.convs.0.0.0"]
        initialise_plain(self.network, last, first, share=_AFTER_SKIPS)

    def forward(self, batch: Batch, phase: PhaseConfig) -> Found:
        frames = pair(batch)
        if batch.before is not None and batch.after is not None:
            frames = torch.stack((batch.before, batch.frame0, batch.frame1, batch.after), 1)
        picture, flow = self.network.stages(frames, batch.t)
        return Found(picture, [everywhere(flow)])

    def accept(self, state: dict[str, Tensor]) -> None:
        """Takes the weights of an EQVI, or those of a ScopeFlow for its flow."""
        if any(key.startswith("feature_pyramid_extractor.") for key in state):
            state = {f"flownet.{key}": value for key, value in state.items()}
            own = self.network.state_dict()
            state = {k: state.get(k, own[k]) for k in own if not k.endswith(_MARKERS)} | state
        super().accept(state)


def refuse_widths(model: ModelConfig) -> None:
    if model.widths:
        raise UsageError(f"model.widths: {model.architecture} has those of its paper alone")


def trainable() -> list[str]:
    """The architectures that can be trained, by name."""
    return [known.name for known in registry() if _family(known.name) is not None]


def _family(name: str) -> Callable[[ModelConfig], Family] | None:
    from vfi_cli.training.teacher import RIFEFamily

    # 4.0 begins again at another scale where motion is large: nothing to learn from in a crop.
    if name == "vfi-lite" or (name.startswith("rife-v4") and name != "rife-v4.0"):
        return RIFE4
    if name in ("rife", "rifem"):
        return RIFEFamily
    if name.startswith("ifrnet"):
        return IFRNetFamily
    return {"rrin": RRINFamily, "scopeflow": ScopeFlowFamily, "eqvi": EQVIFamily}.get(name)


def build(config: Config) -> Family:
    """The network of a configuration, drawn from torch's global generator.

    Raises UsageError that names the key for what the network cannot do.
    """
    family = _family(config.model.architecture)
    if family is None:
        raise UsageError(
            f"model.architecture: {config.model.architecture!r} cannot be trained; "
            f"there are {', '.join(trainable())}"
        )
    if config.model.architecture != "vfi-lite":
        for key in ("scales", "grown_from"):
            if getattr(config.model, key):
                raise UsageError(f"model.{key} is nothing that {config.model.architecture} has")
    built = family(config.model)
    built.check(config)
    return built
