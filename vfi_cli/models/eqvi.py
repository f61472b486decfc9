"""EQVI: quadratic motion from four frames, refined, and a residual from warped features.

Liu et al., "Enhanced Quadratic Video Interpolation", ECCV 2020 workshops, on top of Xu et al.,
"Quadratic Video Interpolation", NeurIPS 2019; from their equations. Parts: the rectified
quadratic flow prediction (RQFP), the flow reversal of QVI, a U-Net that refines the flow, the
residual contextual synthesis network (RCSN), and the multi-scale fusion on top.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.base import Memo, Motion, Network
from vfi_cli.models.blocks import dtype_of, resize
from vfi_cli.models.fused_eqvi import FusedModel, fused, fused_mask
from vfi_cli.models.packed import fusible
from vfi_cli.models.registry import Architecture
from vfi_cli.models.scopeflow import KEY, OTHER_OUTPUTS, SAFE_DTYPES, FlowNet
from vfi_cli.native.ops import backwarp, splat

_SLOPE = 0.1
#: How far (pixels) the refinement may look around for a better flow.
_REACH = 10
#: Difference of accelerations (pixels a frame interval squared) at which both fits weigh alike.
_CENTRE = 5
#: Velocity and acceleration by least squares from the displacements −1, 1 and 2 intervals away:
#: the pseudoinverse of [[−1, 1/2], [1, 1/2], [2, 2]].
_VELOCITY = (-13 / 22, 5 / 22, 2 / 22)
_ACCELERATION = (14 / 22, -2 / 22, 8 / 22)
#: Remembered for the windows that follow: the six flows of a window and what the next adds,
#: and the features of its four frames and the next one.
_KEEP_FLOWS = 8
_KEEP_FEATURES = 5


def _conv(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, kernel, 1, kernel // 2)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE)


def _warp(x: Tensor, flow: Tensor) -> Tensor:
    """Fetch, with nothing outside of the picture, as EQVI was trained."""
    return backwarp(x.expand(flow.shape[0], -1, -1, -1), flow, padding_mode="zeros")


class _Down(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels_out, kernel)
        self.conv2 = _conv(channels_out, channels_out, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return _leaky(self.conv2(_leaky(self.conv1(F.avg_pool2d(x, 2)))))


class _Up(nn.Module):
    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, channels_out)
        self.conv2 = _conv(2 * channels_out, channels_out)

    def forward(self, x: Tensor, bridge: Tensor) -> Tensor:
        x = _leaky(self.conv1(resize(x, 2)))
        return _leaky(self.conv2(torch.cat((x, bridge), 1)))


def _add_levels(module: nn.Module, widths: tuple[int, ...]) -> None:
    """``down1`` … and ``up1`` … of a U-Net whose levels have these widths."""
    depth = len(widths) - 1
    for level in range(depth):
        kernel = 3 if level else 5
        module.add_module(f"down{level + 1}", _Down(widths[level], widths[level + 1], kernel))
    for step in range(depth):
        level = depth - step
        module.add_module(f"up{step + 1}", _Up(widths[level], widths[level - 1]))


def _through_levels(module: nn.Module, x: Tensor, depth: int) -> Tensor:
    bridges = [x]
    for level in range(1, depth + 1):
        bridges.append(module.get_submodule(f"down{level}")(bridges[-1]))
    x = bridges.pop()
    for level in range(1, depth + 1):
        x = module.get_submodule(f"up{level}")(x, bridges.pop())
    return x


class RefineNet(nn.Module):
    """A U-Net over frames, warped frames and flows: 8 values a pixel, and its last features."""

    widths = (32, 64, 128, 256, 512, 512)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(20, 32, 7)
        self.conv2 = _conv(32, 32, 7)
        _add_levels(self, self.widths)
        self.conv3 = _conv(32, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = _leaky(self.conv2(_leaky(self.conv1(x.to(dtype_of(self))))))
        features = _through_levels(self, x, len(self.widths) - 1)
        return _leaky(self.conv3(features)).float(), features


class SynthesisNet(nn.Module):
    """A smaller U-Net over warped features, gradients and frames: the picture's residual."""

    widths = (32, 64, 128, 128)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv(140, 64, 7)
        self.conv2 = _conv(64, 32, 7)
        self.conv3 = _conv(32, 32)
        _add_levels(self, self.widths)
        self.conv4 = _conv(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3):
            x = _leaky(conv(x.to(dtype_of(self))))
        return self.conv4(_through_levels(self, x, len(self.widths) - 1)).float()


class ThreeConvs(nn.Module):
    """Three convolutions and a sigmoid: a map in [0, 1], float32."""

    def __init__(self, channels_in: int, widths: tuple[int, int], first_kernel: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels_in, widths[0], first_kernel)
        self.conv2 = _conv(widths[0], widths[1])
        self.conv3 = _conv(widths[1], 1)

    def forward(self, x: Tensor) -> Tensor:
        x = _leaky(self.conv1(x.to(dtype_of(self))))
        return torch.sigmoid(self.conv3(_leaky(self.conv2(x))).float())


class Gradient(nn.Module):
    """The magnitude of each channel's gradient, by central differences."""

    weight_h: Tensor
    weight_v: Tensor

    def __init__(self) -> None:
        super().__init__()
        kernel = torch.zeros(1, 1, 3, 3)
        kernel[0, 0, 1] = torch.tensor([-1.0, 0.0, 1.0])
        # Parameters in the published files, though never trained.
        self.weight_h = nn.Parameter(kernel)
        self.weight_v = nn.Parameter(kernel.transpose(2, 3).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        across, down = (
            F.conv2d(x, weight.float().expand(channels, 1, 3, 3), padding=1, groups=channels)
            for weight in (self.weight_h, self.weight_v)
        )
        return torch.sqrt(across**2 + down**2 + 1e-6)


def quadratic_flow(back: Tensor, forth: Tensor, far: Tensor, t: Tensor) -> Tensor:
    """Flow from a frame to time t after it, from its flows to −1, 1 and 2 intervals (RQFP).

    The plain solution goes through the flows to both neighbours. Where all three estimates of
    the acceleration agree in sign, the least-squares fit to all three flows is mixed in, the
    less the more the estimates differ. All flows (B, 2, H, W), t broadcast against them.
    """
    velocity, acceleration = (forth - back) / 2, forth + back
    fitted_velocity = _VELOCITY[0] * back + _VELOCITY[1] * forth + _VELOCITY[2] * far
    fitted_acceleration = (
        _ACCELERATION[0] * back + _ACCELERATION[1] * forth + _ACCELERATION[2] * far
    )
    wide, late = (2 * back + far) / 3, far - 2 * forth
    agree = (acceleration.sign() == wide.sign()) & (wide.sign() == late.sign())
    share = (1 - torch.tanh((acceleration - late).abs() - _CENTRE)) / 2
    share = share * (agree & (acceleration != 0))
    velocity = torch.lerp(velocity, fitted_velocity, share)
    acceleration = torch.lerp(acceleration, fitted_acceleration, share)
    return velocity * t + acceleration * (t * t / 2)


def reverse_flow(flow: Tensor) -> Tensor:
    """From a flow that starts at a frame, the flow that ends there: splatted and negated."""
    total, weight = splat(flow, flow)
    return -torch.where(weight > 0, total / weight.clamp_min(1e-30), total)


class QuadraticModel(nn.Module):
    """EQVI at one scale, under its published keys; ``scaled_once`` as in :class:`FlowNet`."""

    def __init__(self, *, scaled_once: bool = False) -> None:
        super().__init__()
        self.refinenet = RefineNet()
        self.feat_ext = nn.Conv2d(3, 64, 7, 1, 3, bias=False)
        self.flownet = FlowNet(scaled_once=scaled_once)
        self.masknet = ThreeConvs(38, (32, 16), 5)
        self.synthesisnet = SynthesisNet()
        self.get_grad = Gradient()

    def _parts(self, frames: Tensor) -> QuadraticModel | FusedModel:
        """The networks, as modules or prepared."""
        return fused(self, _SLOPE) if fusible(self, frames) else self

    def refine(self, *seen: Tensor) -> tuple[Tensor, Tensor]:
        """From frames, warped frames and flows: 8 values a pixel, and features."""
        return self.refinenet(torch.cat(seen, 1))

    def mask(self, warped1: Tensor, warped2: Tensor, features: Tensor) -> Tensor:
        """The first frame's share, before time counts."""
        return self.masknet(torch.cat((warped1.to(features), warped2.to(features), features), 1))

    def context(self, frame: Tensor) -> Tensor:
        """What of a frame is warped for the residual: 64 features, and 3 gradients."""
        features = self.feat_ext(frame.to(self.feat_ext.weight.dtype))
        return torch.cat((features, self.get_grad(frame).to(features)), 1)

    def residual(
        self, context1: Tensor, context2: Tensor, warped1: Tensor, warped2: Tensor
    ) -> Tensor:
        """The picture's residual, from both contexts and both frames as they are warped."""
        seen = (
            context1[:, :64],
            context2[:, :64],
            context1[:, 64:],
            context2[:, 64:],
            warped1.to(context1),
            warped2.to(context2),
        )
        return self.synthesisnet(torch.cat(seen, 1))

    def _flow(self, frames: Tensor, start: int, end: int, memo: Memo) -> Tensor:
        """ScopeFlow from one frame of the window to another."""

        def features(position: int) -> list[Tensor]:
            return memo(
                "pyramid",
                (position,),
                lambda: self.flownet.features(frames[:, position]),
                _KEEP_FEATURES,
            )

        return memo(
            "flow",
            (start, end),
            lambda: self.flownet.between(
                frames[:, start], features(start), frames[:, end], features(end)
            ),
            _KEEP_FLOWS,
        )

    def estimate(
        self, frames: Tensor, timestep: Tensor, memo: Memo
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Refined flows to the middle two frames, and the mask."""
        parts = self._parts(frames)
        batch = timestep.shape[0]
        first = frames.shape[1] // 2 - 1  # of the middle two
        t, rest = timestep, 1 - timestep
        forth = self._flow(frames, first, first + 1, memo)
        back = self._flow(frames, first + 1, first, memo)
        if frames.shape[1] == 4:
            to1 = (self._flow(frames, 1, 0, memo), forth, self._flow(frames, 1, 3, memo))
            to2 = (self._flow(frames, 2, 3, memo), back, self._flow(frames, 2, 0, memo))
            flow1, flow2 = quadratic_flow(*to1, t), quadratic_flow(*to2, rest)
        else:
            flow1, flow2 = forth * t, back * rest
        flow1, flow2 = reverse_flow(flow1), reverse_flow(flow2)
        img1, img2 = frames.expand(batch, -1, -1, -1, -1)[:, first : first + 2].unbind(1)
        forth, back = forth.expand_as(flow1), back.expand_as(flow2)
        warped1, warped2 = _warp(img1, flow1), _warp(img2, flow2)
        refined, features = parts.refine(img1, img2, warped1, warped2, forth, back, flow1, flow2)
        flow1 = _warp(flow1, _REACH * torch.tanh(refined[:, 4:6])) + refined[:, 0:2]
        flow2 = _warp(flow2, _REACH * torch.tanh(refined[:, 6:8])) + refined[:, 2:4]
        warped1, warped2 = _warp(img1, flow1), _warp(img2, flow2)
        mask = parts.mask(warped1, warped2, features)
        weight1, weight2 = rest * mask, t * (1 - mask)
        return flow1, flow2, weight1 / (weight1 + weight2)

    def forward(self, frames: Tensor, timestep: Tensor, memo: Memo) -> Tensor:
        return self._synthesise(frames, memo, *self.estimate(frames, timestep, memo))

    def stages(self, frames: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """For training: the new frame, and its flow (B, 4, H, W) in pixels."""
        memo = Memo()
        memo.bind(range(frames.shape[1]), ())  # of this window only
        found = self.estimate(frames, timestep, memo)
        return self._synthesise(frames, memo, *found), torch.cat(found[:2], 1)

    def _synthesise(
        self, frames: Tensor, memo: Memo, flow1: Tensor, flow2: Tensor, share: Tensor
    ) -> Tensor:
        """The middle frames and their features warped, blended, and the residual on top."""
        parts = self._parts(frames)
        first = frames.shape[1] // 2 - 1
        sides = []
        for position, flow in ((first, flow1), (first + 1, flow2)):
            found = memo("context", (position,), partial(parts.context, frames[:, position]))
            sides.append((_warp(found, flow), _warp(frames[:, position], flow)))
        (context1, warped1), (context2, warped2) = sides
        blended = torch.lerp(warped2, warped1, share)
        residual = parts.residual(context1, context2, warped1, warped2)
        return (blended + residual).clamp(0, 1)


class EQVI(Network, QuadraticModel):
    """EQVI, at any t, of four frames; linear motion of the middle two where there are only they."""

    frames_seen = 4
    size_multiple = 64
    timestep_map = True
    has_scale = False
    has_motion = True
    safe_dtypes = SAFE_DTYPES

    def forward(  # type: ignore[override]
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        return QuadraticModel.forward(self, frames, timestep, memo or Memo())

    def motion(
        self, frames: Tensor, timestep: Tensor, *, scale: float = 1.0, memo: Memo | None = None
    ) -> Motion:
        return Motion(*self.estimate(frames, timestep, memo or Memo()))


class EQVIFusion(Network):
    """MS-Fusion: EQVI at full and at half size, blended by a learned map."""

    frames_seen = 4
    size_multiple = 128  # half the size is a multiple of 64 too
    timestep_map = True
    has_scale = False
    safe_dtypes = SAFE_DTYPES

    def __init__(self) -> None:
        super().__init__()
        self.QVI_model = QuadraticModel()
        self.FusionNet = ThreeConvs(6, (32, 32), 3)

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        memo = memo or Memo()
        full = self.QVI_model(frames, timestep, memo)
        small = resize(frames.flatten(0, 1), 0.5).unflatten(0, frames.shape[:2])
        small_t = timestep if timestep.shape[2:] == (1, 1) else resize(timestep, 0.5)
        half = resize(self.QVI_model(small, small_t, memo.view("half")), 2)
        if fusible(self.FusionNet, full):
            share = fused_mask(self.FusionNet, _SLOPE)(full, half)
        else:
            share = self.FusionNet(torch.cat((full, half), 1))
        return torch.lerp(half, full, share)


# The copy of the flow network that the published files hold under another name.
_COPIES = ("acc.flownet.",)
_UNUSED = (*_COPIES, *(f"flownet.{prefix}" for prefix in OTHER_OUTPUTS))

ARCHITECTURES = (
    Architecture(
        name="eqvi",
        matches=lambda state: "refinenet.conv1.weight" in state,
        build=lambda state: EQVI(scaled_once=f"flownet.{KEY}" in state),
        prototype=EQVI,
        description="EQVI (2020): Stage3, Stage123 and EQVI-P",
        training_only=_UNUSED,
    ),
    Architecture(
        name="eqvi-ms",
        matches=lambda state: "QVI_model.refinenet.conv1.weight" in state,
        build=lambda state: EQVIFusion(),
        prototype=EQVIFusion,
        description="EQVI (2020) with MS-Fusion: Stage4",
        training_only=tuple(f"QVI_model.{prefix}" for prefix in _UNUSED),
    ),
)
