"""The operators on planes in plain torch; see :mod:`vfi_cli.native.plane_ops`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from vfi_cli.native.plane_ops import Coding


def decode_planes(
    planes: Sequence[Tensor], coding: Coding, picture: Tensor, *, limit: bool
) -> None:
    """See :func:`vfi_cli.native.plane_ops.decode_planes`."""
    height, width = planes[0].shape
    made = _nominal(planes, coding, picture.shape[0])
    if limit:
        made.clamp_(0, 1)
    below, right = picture.shape[1] - height, picture.shape[2] - width
    picture.copy_(F.pad(made, (0, right, 0, below), mode="replicate"))


def encode_planes(
    picture: Tensor,
    coding: Coding,
    planes: Sequence[Tensor],
    left: Sequence[Tensor],
    right: Sequence[Tensor],
) -> None:
    """See :func:`vfi_cli.native.plane_ops.encode_planes`."""
    if left:
        before, after = _nominal(left, coding, 3), _nominal(right, coding, 3)
        picture = picture + common_excess(before, after)
    for n, (plane, weights, offset) in enumerate(
        zip(planes, coding.encode, coding.offsets, strict=True)
    ):
        values = _weighted(picture.unbind(0), weights).add_(offset)
        if n > 0:
            values = reduce_chroma(values, coding)
        plane.copy_(values.round_().clamp_(0, coding.peak))


def common_excess(left: Tensor, right: Tensor) -> Tensor:
    """What lies outside of [0, 1] in both of two pictures."""
    above = torch.minimum(left, right).sub_(1).clamp_(min=0)
    return above.add_(torch.maximum(left, right).clamp_(max=0))


def _nominal(planes: Sequence[Tensor], coding: Coding, channels: int) -> Tensor:
    """(channels, H, W), not limited."""
    height, width = planes[0].shape
    values = []
    for n, (plane, offset) in enumerate(zip(planes, coding.offsets, strict=True)):
        centred = plane.to(torch.float32).sub_(offset)
        values.append(expand_chroma(centred, height, width, coding) if n > 0 else centred)
    return torch.stack([_weighted(values, row) for row in coding.decode[:channels]])


def _weighted(planes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ weights · planes, with as few passes as there are weights other than 0."""
    terms = [(plane, weight) for plane, weight in zip(planes, weights, strict=True) if weight != 0]
    first, weight = terms[0]
    total = first * weight
    for plane, weight in terms[1:]:
        total.add_(plane, alpha=weight)
    return total


def expand_chroma(plane: Tensor, height: int, width: int, coding: Coding) -> Tensor:
    """A plane of chroma on the grid of luma, which is ``height`` × ``width``."""
    for level in reversed(range(coding.chroma_h)):
        plane = expand(plane, -2, -(-height >> level), coding.cosited_y)
    for level in reversed(range(coding.chroma_w)):
        plane = expand(plane, -1, -(-width >> level), coding.cosited_x)
    return plane


def reduce_chroma(plane: Tensor, coding: Coding) -> Tensor:
    """A plane on the grid of luma as one of chroma: the left inverse of :func:`expand_chroma`."""
    for _ in range(coding.chroma_w):
        plane = reduce(plane, -1, coding.cosited_x)
    for _ in range(coding.chroma_h):
        plane = reduce(plane, -2, coding.cosited_y)
    return plane


def expand(plane: Tensor, dim: int, size: int, cosited: bool) -> Tensor:
    """Twice the samples along ``dim`` (−1 or −2), cut to ``size``."""
    count = plane.shape[dim]
    place = plane.dim() if dim == -1 else plane.dim() - 1
    shape = list(plane.shape)
    shape.insert(place, 2)
    both = plane.new_empty(shape)
    even, odd = both.select(place, 0), both.select(place, 1)
    if cosited:
        even.copy_(plane)
        before, after = plane.narrow(dim, 0, count - 1), plane.narrow(dim, 1, count - 1)
        torch.lerp(before, after, 0.5, out=odd.narrow(dim, 0, count - 1))
        odd.narrow(dim, count - 1, 1).copy_(plane.narrow(dim, count - 1, 1))
    else:
        slope = torch.zeros_like(plane)  # an eighth of next − previous, held at the ends
        if count > 1:
            first, last = slope.narrow(dim, 0, 1), slope.narrow(dim, count - 1, 1)
            torch.sub(plane.narrow(dim, 1, 1), plane.narrow(dim, 0, 1), out=first)
            torch.sub(
                plane.narrow(dim, 2, count - 2),
                plane.narrow(dim, 0, count - 2),
                out=slope.narrow(dim, 1, count - 2),
            )
            torch.sub(plane.narrow(dim, count - 1, 1), plane.narrow(dim, count - 2, 1), out=last)
            if size % 2:  # the last sample has no partner: it is the chroma value itself
                last.zero_()
        torch.sub(plane, slope, alpha=0.125, out=even)
        torch.add(plane, slope, alpha=0.125, out=odd)
    shape = list(plane.shape)
    shape[dim] = 2 * count
    return both.view(shape).narrow(dim, 0, size)


def reduce(plane: Tensor, dim: int, cosited: bool) -> Tensor:
    """Half the samples along ``dim``, odd sizes rounded up: the left inverse of :func:`expand`."""
    size = plane.shape[dim]
    step = [slice(None)] * plane.dim()
    step[dim] = slice(0, None, 2)
    even = plane[tuple(step)]
    step[dim] = slice(1, None, 2)
    odd = plane[tuple(step)]
    pairs, count = odd.shape[dim], even.shape[dim]
    if pairs == 0:
        return even.clone()
    if not cosited:
        means = torch.add(even.narrow(dim, 0, pairs), odd).mul_(0.5)
        return torch.cat([means, even.narrow(dim, pairs, 1)], dim) if size % 2 else means
    if count > pairs:
        following = even.narrow(dim, 1, pairs)
    else:
        following = torch.cat([even.narrow(dim, 1, count - 1), even.narrow(dim, count - 1, 1)], dim)
    detail = torch.add(even.narrow(dim, 0, pairs), following).mul_(-0.5).add_(odd).mul_(0.25)
    result = even.clone()
    result.narrow(dim, 0, pairs).add_(detail)
    result.narrow(dim, 1, count - 1).add_(detail.narrow(dim, 0, count - 1))
    return result
