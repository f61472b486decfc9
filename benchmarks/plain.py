"""Networks in the plain float32 operators of their authors: the ruler for what is faster.

Every block warps, resizes and concatenates full-size float32 tensors with ``F.grid_sample``,
``F.interpolate`` and ``torch.cat``, as the published scripts do. The weights are those of the
package's own networks; tests hold the pictures against the golden ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.models.ifrnet import IFRNet
from vfi_cli.models.lite import LiteNet
from vfi_cli.models.rife import RIFE
from vfi_cli.models.rife4 import IFNet
from vfi_cli.models.rrin import RRIN

_grids: dict[tuple[int, int], Tensor] = {}


def resize(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    height, width = x.shape[2:]
    if (height, width) not in _grids:
        across = torch.linspace(-1, 1, width).view(1, 1, 1, width).expand(1, 1, height, width)
        down = torch.linspace(-1, 1, height).view(1, 1, height, 1).expand(1, 1, height, width)
        _grids[height, width] = torch.cat((across, down), 1)
    shift = torch.cat((flow[:, :1] / ((width - 1) / 2), flow[:, 1:] / ((height - 1) / 2)), 1)
    grid = (_grids[height, width] + shift).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, "bilinear", "border", align_corners=True)


def rife4(net: IFNet, frames: Tensor, t: float) -> Tensor:
    """RIFE 4.2 and later, and vfi's own: (1, 2, 3, H, W) to (1, 3, H, W)."""
    frame0, frame1 = frames.unbind(1)
    spec = net.spec
    features = [net.encode(frame) for frame in (frame0, frame1)] if spec.head else []
    warped0, warped1 = frame0, frame1
    warped_features = features
    time = torch.full_like(frame0[:, :1], t)
    flow = mask = extra = None
    for i, s in enumerate(spec.scales):
        block = net.get_submodule(f"block{i}")
        parts = [warped0, warped1, *warped_features, time]
        if flow is not None:
            parts += [mask, *([extra] if spec.carried else [])]
        x = resize(torch.cat(parts, 1), 1 / s)
        if flow is not None:
            x = torch.cat((x, resize(flow, 1 / s) / s), 1)
        grow = s if spec.shuffle else 2 * s
        made = resize(block(x), grow)
        step = made[:, :4] * grow
        flow = step if flow is None else flow + step
        replaced = mask is None or not spec.mask_residual
        mask = made[:, 4:5] if replaced else mask + made[:, 4:5]
        extra = made[:, 5:]
        warped0, warped1 = warp(frame0, flow[:, :2]), warp(frame1, flow[:, 2:])
        if i + 1 < len(spec.scales):
            warped_features = [
                warp(feature, flow[:, 2 * side : 2 * side + 2])
                for side, feature in enumerate(features)
            ]
    share = torch.sigmoid(mask)
    made = warped0 * share + warped1 * (1 - share)
    if isinstance(net, LiteNet):
        still = net._share(frame0, frame1, warped0, warped1)
        made = made * (1 - still) + (frame0 * (1 - t) + frame1 * t) * still
    return made


def rife(net: RIFE, frames: Tensor, t: float) -> Tensor:
    """RIFE and RIFEm: (1, 2, 3, H, W) to (1, 3, H, W)."""
    frame0, frame1 = frames.unbind(1)
    fixed = [frame0, frame1]
    if net.any_timestep:
        fixed.append(torch.full_like(frame0[:, :1], t))
    flow, mask = net.get_submodule("block0")(torch.cat(fixed, 1), None, 4)
    for i, s in ((1, 2), (2, 1)):
        warped = [warp(frame0, flow[:, :2]), warp(frame1, flow[:, 2:])]
        more, more_mask = net.get_submodule(f"block{i}")(
            torch.cat((*fixed, *warped, mask), 1), flow, s
        )
        flow, mask = flow + more, mask + more_mask
    warped = [warp(frame0, flow[:, :2]), warp(frame1, flow[:, 2:])]
    context = []
    for side, frame in enumerate((frame0, frame1)):
        here = flow[:, 2 * side : 2 * side + 2]
        context.append([])
        for feature in net.contextnet(frame):
            here = resize(here, 0.5) * 0.5
            context[side].append(warp(feature, here))
    residual = net.unet(torch.cat((frame0, frame1, *warped, mask, flow), 1), *context)
    share = torch.sigmoid(mask)
    return (warped[0] * share + warped[1] * (1 - share) + residual).clamp(0, 1)


def ifrnet(net: IFRNet, frames: Tensor, t: float) -> Tensor:
    """IFRNet: (1, 2, 3, H, W) to (1, 3, H, W)."""
    frame0, frame1 = frames.unbind(1)
    mean = frames.mean((1, 2, 3, 4)).view(1, 1, 1, 1)
    features0, features1 = net.encoder(frame0 - mean), net.encoder(frame1 - mean)
    out = net.decoder4(features0[3], features1[3], torch.full_like(features0[3][:, :1], t))
    flow, found = out[:, :4], out[:, 4:]
    for level, decoder in ((2, net.decoder3), (1, net.decoder2), (0, net.decoder1)):
        warped0 = warp(features0[level], flow[:, :2])
        warped1 = warp(features1[level], flow[:, 2:])
        out = decoder(found, warped0, warped1, flow)
        flow, found = out[:, :4] + resize(flow, 2) * 2, out[:, 4:]
    share, residual = torch.sigmoid(found[:, :1]), found[:, 1:]
    made = share * warp(frame0, flow[:, :2]) + (1 - share) * warp(frame1, flow[:, 2:])
    return (made + residual).clamp(0, 1)


def rrin_warp(x: Tensor, flow: Tensor) -> Tensor:
    """RRIN's own: nothing outside, and one pixel more from corner to corner than there is."""
    height, width = x.shape[2:]
    across = (torch.arange(width) + flow[:, 0]) / width
    down = (torch.arange(height).view(-1, 1) + flow[:, 1]) / height
    grid = 2 * torch.stack((across, down), 3) - 1
    return F.grid_sample(x, grid, "bilinear", "zeros", align_corners=True)


def rrin(net: RRIN, frames: Tensor, t: float) -> Tensor:
    """RRIN: (1, 2, 3, H, W) to (1, 3, H, W)."""
    frame0, frame1 = frames.unbind(1)
    both = torch.cat((frame0, frame1), 1)
    flow = net.Flow_L(both)
    forth, back = flow[:, :2], flow[:, 2:]
    to0 = -(1 - t) * t * forth + t * t * back
    to1 = (1 - t) * (1 - t) * forth - t * (1 - t) * back
    flow = torch.cat((to0, to1), 1)
    flow = flow + net.refine_flow(torch.cat((flow, both), 1))
    warped0, warped1 = rrin_warp(frame0, flow[:, :2]), rrin_warp(frame1, flow[:, 2:])
    seen = torch.sigmoid(net.Mask(torch.cat((flow, both, warped0, warped1), 1)))
    weight0, weight1 = (1 - t) * seen[:, :1], t * seen[:, 1:]
    made = (weight0 * warped0 + weight1 * warped1) / (weight0 + weight1 + 1e-8)
    return (made + net.final(torch.cat((both, made), 1))).clamp(0, 1)
