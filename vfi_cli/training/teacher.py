"""Those who know more than the network that is trained: RIFE's teacher block, a flow's teacher."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vfi_cli.errors import ModelError, UsageError
from vfi_cli.models.base import Interpolator
from vfi_cli.models.blocks import warp
from vfi_cli.models.rife import RIFE, FlowBlock
from vfi_cli.training import losses
from vfi_cli.training.config import LossConfig, ModelConfig, PhaseConfig
from vfi_cli.training.data import Batch
from vfi_cli.training.families import OF_FLOW, OF_FRAMES, Family, Found, everywhere
from vfi_cli.training.init import initialise_plain

#: Downscaling of the blocks, as in the network.
_SCALES = (4, 2, 1)
_TEACHER = "block_tea."


class RIFEFamily(Family):
    """RIFE and RIFEm: a fourth block, which sees the true frame, teaches the three."""

    network: RIFE
    losses = OF_FRAMES | OF_FLOW | {"teacher", "distillation"}

    def __init__(self, model: ModelConfig) -> None:
        timed = model.architecture == "rifem"
        widths = model.widths or (240, 150, 90)
        if len(widths) != 3 or min(widths) < 2:
            raise UsageError(f"model.widths must be three numbers for {model.architecture}")
        if model.context < 1:
            raise UsageError("model.context must be positive")
        super().__init__(RIFE(widths, model.context, timed=timed), model.architecture)
        self.helper = FlowBlock(20 + timed, widths[-1], 2)
        initialise_plain(
            self,
            [
                *(f"network.block{n}.lastconv" for n in range(3)),
                "helper.lastconv",
                "network.unet.conv",
            ],
        )

    def forward(self, batch: Batch, phase: PhaseConfig) -> Found:
        """As the network, with all that lies on the way; then the teacher on top of it."""
        network = self.network
        img0, img1 = batch.frame0, batch.frame1
        fixed = [img0, img1]
        if network.any_timestep:
            fixed.append(batch.t.expand(-1, 1, *img0.shape[2:]))
        flow, mask = network.get_submodule("block0")(torch.cat(fixed, 1), None, _SCALES[0])
        warped = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:])
        stages, pictures = [everywhere(flow)], [_merge(warped, mask)]
        for number, downscale in enumerate(_SCALES[1:], 1):
            seen = torch.cat((*fixed, *warped, mask), 1)
            more_flow, more_mask = network.get_submodule(f"block{number}")(seen, flow, downscale)
            flow, mask = flow + more_flow, mask + more_mask
            warped = warp(img0, flow[:, :2]), warp(img1, flow[:, 2:])
            stages.append(everywhere(flow))
            pictures.append(_merge(warped, mask))
        context = [
            network._warp_context(network.contextnet(frame), half)
            for frame, half in ((img0, flow[:, :2]), (img1, flow[:, 2:]))
        ]
        residual = network.unet(torch.cat((img0, img1, *warped, mask, flow), 1), *context)
        found = Found((pictures[-1] + residual).clamp(0, 1), stages, {"pictures": pictures})
        if self.training:
            seen = torch.cat((*fixed, *warped, mask, batch.middle), 1)
            more_flow, more_mask = self.helper(seen, flow, 1)
            taught = flow + more_flow
            warped = warp(img0, taught[:, :2]), warp(img1, taught[:, 2:])
            found.own["teacher"] = taught, _merge(warped, mask + more_mask)
        return found

    def parts(self, found: Found, batch: Batch, weights: LossConfig) -> dict[str, Tensor]:
        parts = super().parts(found, batch, weights)
        flow, picture = found.own["teacher"]
        if weights.teacher:
            parts["teacher"] = losses.laplacian(picture, batch.middle)
        if weights.distillation:
            parts["distillation"] = torch.stack(
                [
                    losses.distillation(stage.flow, flow, own, picture, batch.middle)
                    for stage, own in zip(found.stages, found.own["pictures"], strict=True)
                ]
            ).sum()
        return parts

    def accept(self, state: dict[str, Tensor]) -> None:
        """Published files hold the teacher's block as well."""
        block = {
            key.removeprefix(_TEACHER): value
            for key, value in state.items()
            if key.startswith(_TEACHER)
        }
        super().accept({key: value for key, value in state.items() if not key.startswith(_TEACHER)})
        if block:
            try:
                self.helper.load_state_dict(block)
            except RuntimeError:
                raise ModelError("model.init_from: its teacher block has other widths") from None


def _merge(warped: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    return torch.lerp(warped[1], warped[0], torch.sigmoid(mask))


class FlowTeacher:
    """A trained model that says how the new frame lies to both others, for samples of which the
    exact flow is not known. One that finds flow sees the new frame itself; one that interpolates
    does not."""

    def __init__(self, model: Interpolator) -> None:
        if not (model.network.has_flow or model.network.has_motion):
            raise UsageError(f"model.teacher: {model.name} finds no motion")
        self.model = model

    def fill(self, batch: Batch) -> Batch:
        """The batch with a flow for each of its samples."""
        unknown = ~batch.has_flow
        if not bool(unknown.any()):
            return batch
        sides = (batch.frame0[unknown], batch.frame1[unknown])
        if self.model.network.has_flow:
            middle = batch.middle[unknown]
            found = torch.cat([self.model.flow(torch.stack((middle, x), 1)) for x in sides], 1)
        else:
            motion = self.model.motion(torch.stack(sides, 1), batch.t[unknown].flatten())
            found = torch.cat((motion.flow0, motion.flow1), 1)
        flow = batch.flow.clone()
        flow[unknown] = found.clone()
        return replace(batch, flow=flow, has_flow=torch.ones_like(batch.has_flow))
