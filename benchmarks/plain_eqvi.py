"""EQVI in the plain float32 operators of its authors: the ruler for what is faster.

Their script asks ScopeFlow for eight flows of a window, those between its middle frames twice.
Each time the network finds the flows of both directions, and where each frame is occluded; only
the flow from the first frame to the second is used. The flow's and the picture's weights are those
of the package's own networks; those of the occlusions are drawn, and the picture is the same.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.models.blocks import conv_leaky
from vfi_cli.models.eqvi import EQVI, quadratic_flow, reverse_flow
from vfi_cli.models.scopeflow import (
    KEY,
    BilateralRefinement,
    ContextNetwork,
    DenseEstimator,
    FlowNet,
)
from vfi_cli.native.reference import correlation

LEVELS = 5
UNIT = 0.05


def grid_sample(x: Tensor, flow: Tensor) -> Tensor:
    """Fetch by a flow in pixels, nothing outside; the grid is made anew each time."""
    height, width = x.shape[2:]
    across = torch.arange(width).view(1, 1, width) + flow[:, 0]
    down = torch.arange(height).view(1, height, 1) + flow[:, 1]
    grid = torch.stack((2 * across / (width - 1) - 1, 2 * down / (height - 1) - 1), 3)
    return F.grid_sample(x, grid, "bilinear", "zeros", align_corners=True)


def flow_warp(x: Tensor, flow: Tensor, size: torch.Size) -> Tensor:
    """ScopeFlow's own: by a flow in its units, and zero where a neighbour is missing."""
    scale = torch.tensor(
        [(n - 1) / (whole - 1) for n, whole in ((x.shape[3], size[1]), (x.shape[2], size[0]))]
    )
    pixels = flow * (scale / UNIT).view(1, 2, 1, 1)
    seen = grid_sample(torch.ones_like(x), pixels)
    return grid_sample(x, pixels) * (seen >= 0.99999).float()


def resize_as(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


class Occlusions(nn.Module):
    """What of the published flow network finds occlusions."""

    def __init__(self) -> None:
        super().__init__()
        self.estimator = DenseEstimator(81 + 32 + 1)
        self.estimator.conv_last = nn.Sequential(nn.Conv2d(81 + 32 + 1 + 448, 1, 3, 1, 1))
        self.around = ContextNetwork(81 + 32 + 1 + 448 + 1)
        self.around.convs[-1] = nn.Sequential(nn.Conv2d(32, 1, 3, 1, 1))
        self.refinement = BilateralRefinement()
        self.refinement.convs[0] = conv_leaky(1 + 32 + 32, 128)
        self.project = conv_leaky(16, 3, kernel=1)
        self.first = conv_leaky(1 + 3 + 3 + 2 + 2, 32)
        self.residual = nn.Sequential(conv_leaky(32, 32), nn.Conv2d(32, 32, 3, 1, 1))
        self.joined, self.last = conv_leaky(32, 32), conv_leaky(32, 1)

    def enlarge(
        self, occlusion: Tensor, here: Tensor, there: Tensor, flow: Tensor, opposite: Tensor
    ) -> Tensor:
        """To twice the size, from features or frames of which the one is warped to the other."""
        occlusion = F.interpolate(occlusion, scale_factor=2, mode="nearest")
        if here.shape[1] != 3:
            here, there = self.project(here), self.project(there)
        start = x = self.first(torch.cat((occlusion, here, there, flow, opposite), 1))
        for _ in range(3):
            x = x + 0.1 * self.residual(x)
        return self.last(start + self.joined(x)) + occlusion


@functools.cache
def occlusions() -> Occlusions:
    return Occlusions().eval()


def weighted(values: Tensor, x: Tensor) -> Tensor:
    """The 3 × 3 neighbours of each channel, by weights from ``x``."""
    weights = torch.softmax(-(x**2), dim=1)
    channels = []
    for channel in values.split(1, 1):
        neighbours = F.unfold(F.pad(channel, (1, 1, 1, 1), mode="replicate"), 3)
        channels.append((neighbours.view_as(weights) * weights).sum(1, keepdim=True))
    return torch.cat(channels, 1)


def scopeflow(net: FlowNet, first: Tensor, second: Tensor) -> Tensor:
    """Flow from the first frame to the second, in pixels; both directions are found."""
    occ, size = occlusions(), first.shape[2:]
    frames = (first, second)
    pyramids = [net.feature_pyramid_extractor(frame) for frame in frames]
    coarsest = pyramids[0][0]
    flows = [torch.zeros_like(coarsest[:, :2])] * 2
    hidden = [torch.zeros_like(coarsest[:, :1])] * 2
    for level in range(LEVELS):
        x = [pyramid[level] for pyramid in pyramids]
        warped = x[::-1]
        if level:
            flows = [resize_as(flow, x[0]) for flow in flows]
            hidden = [resize_as(map_, x[0]) for map_ in hidden]
            warped = [flow_warp(x[1 - i], flows[i], size) for i in (0, 1)]
        costs = [F.leaky_relu(correlation(x[i], warped[i], 4), 0.1) for i in (0, 1)]
        projected = [net.conv_1x1[level](y) for y in x] if level < LEVELS - 1 else x
        unit = torch.tensor([UNIT * size[1] / x[0].shape[3], UNIT * size[0] / x[0].shape[2]])
        unit = unit.view(1, 2, 1, 1)
        found = []
        for i in (0, 1):
            local = flows[i] / unit
            dense, residual = net.flow_estimators(torch.cat((costs[i], projected[i], local), 1))
            local = local + residual
            found.append(local + net.context_networks(torch.cat((dense, local), 1)))
            dense, residual = occ.estimator(torch.cat((costs[i], projected[i], hidden[i]), 1))
            hidden[i] = hidden[i] + residual
            hidden[i] = hidden[i] + occ.around(torch.cat((dense, hidden[i]), 1))
        small = [resize_as(frame, x[0]) for frame in frames]
        for i in (0, 1):
            flow = found[i] * unit
            difference = small[i] - flow_warp(small[1 - i], flow, size)
            contrast = difference.norm(dim=1, keepdim=True)
            centred = flow - flow.mean((2, 3), keepdim=True)
            seen = torch.cat((centred, contrast, projected[i]), 1)
            flow = weighted(flow, net.refine_flow(seen))
            flows[i] = flow if KEY in net._buffers else flow * unit
        for i in (0, 1):
            difference = projected[i] - flow_warp(projected[1 - i], flows[i], size)
            seen = torch.cat((hidden[i], projected[i], difference), 1)
            hidden[i] = weighted(hidden[i], occ.refinement(seen))
    for fine in (tuple(pyramid[LEVELS] for pyramid in pyramids), frames):
        flows = [resize_as(flow, fine[0]) for flow in flows]
        warped = [flow_warp(fine[1 - i], flows[i], size) for i in (0, 1)]
        opposite = [flow_warp(flows[1 - i], flows[i], size) for i in (0, 1)]
        hidden = [occ.enlarge(hidden[i], fine[i], warped[i], flows[i], opposite[i]) for i in (0, 1)]
    return flows[0] / UNIT


def eqvi(net: EQVI, frames: Tensor, t: float) -> Tensor:
    """EQVI: (1, 4, 3, H, W) to (1, 3, H, W)."""
    frame0, frame1, frame2, frame3 = frames.unbind(1)
    find = functools.partial(scopeflow, net.flownet)
    features = [net.feat_ext(frame) for frame in (frame1, frame2)]
    forth, back = find(frame1, frame2), find(frame2, frame1)
    time, rest = torch.tensor(t), torch.tensor(1 - t)
    flow1 = quadratic_flow(find(frame1, frame0), find(frame1, frame2), find(frame1, frame3), time)
    flow2 = quadratic_flow(find(frame2, frame3), find(frame2, frame1), find(frame2, frame0), rest)
    flow1, flow2 = reverse_flow(flow1), reverse_flow(flow2)
    warped1, warped2 = grid_sample(frame1, flow1), grid_sample(frame2, flow2)
    refined, last = net.refinenet(
        torch.cat((frame1, frame2, warped1, warped2, forth, back, flow1, flow2), 1)
    )
    flow1 = grid_sample(flow1, 10 * torch.tanh(refined[:, 4:6])) + refined[:, :2]
    flow2 = grid_sample(flow2, 10 * torch.tanh(refined[:, 6:])) + refined[:, 2:4]
    warped1, warped2 = grid_sample(frame1, flow1), grid_sample(frame2, flow2)
    slopes = [
        grid_sample(net.get_grad(frame), flow) for frame, flow in ((frame1, flow1), (frame2, flow2))
    ]
    features = [grid_sample(features[0], flow1), grid_sample(features[1], flow2)]
    share = net.masknet(torch.cat((warped1, warped2, last), 1))
    weight1, weight2 = rest * share, time * (1 - share)
    made = (weight1 * warped1 + weight2 * warped2) / (weight1 + weight2)
    residual = net.synthesisnet(torch.cat((*features, *slopes, warped1, warped2), 1))
    return (made + residual).clamp(0, 1)
