"""Weights to start from, such that every layer passes on what it gets.

torch's own initialisation shrinks the signal by about half in each layer. In blocks of a dozen
layers that leaves a thousandth of it, and flow stays at zero for thousands of steps.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

#: Mean and (inverse) spread of natural pictures in [0, 1]; the first layers see them centred.
MEAN, SPREAD = 0.45, 3.0


@torch.no_grad()
def initialise(network: nn.Module) -> None:
    """Draws the weights of a RIFE 4.x network from torch's global generator."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu")
            assert layer.bias is not None
            layer.bias.zero_()
            if "convblock" in name:
                layer.weight *= 0.5  # added to its input, eight times over
            elif name.endswith("conv0.0.0") or name == "encode.cnn0":
                pictures = layer.weight[:, :6]
                pictures *= SPREAD
                layer.bias -= MEAN * pictures.sum((1, 2, 3))
        elif isinstance(layer, nn.ConvTranspose2d):
            spread = (layer.weight.shape[0] * 4) ** -0.5
            # A first flow near zero, small against the pictures' motion at every scale.
            layer.weight.normal_(0, spread if name.startswith("encode") else 0.03 * spread)
            assert layer.bias is not None
            layer.bias.zero_()


#: Share of the finer block's output that a woken block begins with.
_WOKEN = 0.7


@torch.no_grad()
def wake(block: nn.Module, finer: nn.Module) -> None:
    """Lets a silent RIFE 4.x block begin as the next finer one, which now looks at its own coarser
    reduction: what finds 10 pixels at 1/8 finds 20 at 1/16. Channels that only ``block`` has keep
    their weights and are heard later; inputs that only ``finer`` has are left out."""
    known = dict(finer.named_parameters())
    for name, weight in block.named_parameters():
        source = known[name]
        common = tuple(slice(min(a, b)) for a, b in zip(weight.shape, source.shape, strict=True))
        if name.startswith("lastconv"):
            weight.zero_()
            weight[common] = _WOKEN * source[common]
            continue
        if name.endswith("weight"):
            weight[common[0]] = 0.0  # channels that are copied hear no others
        weight[common] = source[common]


@torch.no_grad()
def initialise_plain(
    network: nn.Module, last: Iterable[str], first: Iterable[str] = (), *, share: float = 0.1
) -> None:
    """Draws the weights of any other network: He et al.'s for a leaky ReLU, and biases of zero.

    Layers named ``last`` get a ``share`` of that, so that flow, masks and residuals begin near
    zero and the first picture is nearly the blend of both frames. Those named ``first`` see
    pictures centred: their mean is the same everywhere, and what matches everywhere tells nothing.
    """
    quiet, centred = set(last), set(first)
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, a=0.2, nonlinearity="leaky_relu")
            if isinstance(layer, nn.ConvTranspose2d):
                # Fan-in as torch counts it is of the transposed layer; stride 2 reads a quarter.
                spread = (layer.weight.shape[0] * layer.weight[0, 0].numel() / 4) ** -0.5
                layer.weight.normal_(0, spread)
            if layer.bias is not None:
                layer.bias.zero_()
            if name in quiet:
                layer.weight *= share
                quiet.discard(name)
            if name in centred:
                assert layer.bias is not None
                layer.weight *= SPREAD
                layer.bias -= MEAN * layer.weight.sum((1, 2, 3))
                centred.discard(name)
    assert not quiet | centred, f"no layers {quiet | centred}"
