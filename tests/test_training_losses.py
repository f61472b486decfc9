"""The losses of the papers: against slow twins, and values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vfi_cli.training import losses


def picture(seed: int = 0, size: int = 48) -> Tensor:
    return torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", [losses.laplacian, losses.census, losses.charbonnier, losses.l1])
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
    assert float(losses.distillation(flow, teacher, wrong, right, truth)) == pytest.approx(3)
    assert float(losses.distillation(flow, teacher, right, wrong, truth)) == 0
    half = right.clone()
    half[..., :2] = 0.5
    assert float(losses.distillation(flow, teacher, half, right, truth)) == pytest.approx(1.5)


# Slow twins: the papers' sums, pixel by pixel ----------------------------------------------


def reflected(x: np.ndarray, y: int, k: int) -> np.ndarray:
    size = x.shape[0]
    place = y + k
    return x[-place if place < 0 else 2 * (size - 1) - place if place >= size else place]


def slow_blur(x: np.ndarray) -> np.ndarray:
    """(H, W), binomial of five, first down the columns, then along the rows."""
    for _ in range(2):
        x = np.stack(
            [
                sum(w / 16 * reflected(x, y, k) for k, w in enumerate((1, 4, 6, 4, 1), -2))
                for y in range(x.shape[0])
            ]
        ).T
    return x


def slow_enlarged(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, between the pixels."""
    for length in size:
        rows = []
        for y in range(length):
            place = min(max((y + 0.5) * x.shape[0] / length - 0.5, 0), x.shape[0] - 1)
            low = min(int(place), x.shape[0] - 2)
            rows.append(x[low] * (1 - (place - low)) + x[low + 1] * (place - low))
        x = np.stack(rows).T
    return x


def test_laplacian_against_a_slow_twin() -> None:
    """Each picture's own pyramid, as the paper defines it."""
    a, b = picture(2, 32)[0].double().numpy(), picture(3, 32)[0].double().numpy()

    def pyramid(x: np.ndarray) -> list[np.ndarray]:
        levels = []
        for _ in range(3):
            low = slow_blur(x)[::2, ::2]
            levels.append(x - slow_enlarged(low, x.shape))
            x = low
        return [*levels, x]

    total = 0.0
    for one, other in zip(a, b, strict=True):
        for p, q in zip(pyramid(one), pyramid(other), strict=True):
            total += float(np.abs(p - q).mean()) / 3
    found = losses.laplacian(torch.tensor(a)[None], torch.tensor(b)[None], levels=4)
    assert float(found) == pytest.approx(total, rel=1e-5)


def slow_census(a: np.ndarray, b: np.ndarray, radius: int) -> float:
    """(H, W) pictures."""
    total, count = 0.0, 0
    for y in range(radius, a.shape[0] - radius):
        for x in range(radius, a.shape[1] - radius):
            for v in range(-radius, radius + 1):
                for u in range(-radius, radius + 1):
                    p, q = (m[y + v, x + u] - m[y, x] for m in (a, b))
                    d = p / math.sqrt(0.81 + p * p) - q / math.sqrt(0.81 + q * q)
                    total += d * d / (0.1 + d * d)
                    count += 1
    return total / count


def test_census_against_a_slow_twin() -> None:
    a, b = picture(4, 12).double(), picture(5, 12).double()
    grey = [(0.299 * x[0, 0] + 0.587 * x[0, 1] + 0.114 * x[0, 2]).numpy() * 255 for x in (a, b)]
    assert float(losses.census(a, b)) == pytest.approx(slow_census(*grey, radius=3), rel=1e-5)


def test_geometry_is_the_census_of_each_channel_of_each_level() -> None:
    one, two = torch.randn(1, 2, 6, 7), torch.randn(1, 2, 6, 7)
    first, second = torch.randn(1, 3, 5, 5), torch.randn(1, 3, 5, 5)
    expected = sum(slow_census(one[0, c].numpy(), two[0, c].numpy(), 1) / 2 for c in range(2))
    expected += sum(slow_census(first[0, c].numpy(), second[0, c].numpy(), 1) / 3 for c in range(3))
    found = losses.geometry([one, first], [two, second])
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_charbonnier_by_hand() -> None:
    zero = torch.zeros(1, 3, 1, 2)
    other = torch.tensor([0.3, 0.0]).expand(1, 3, 1, 2)
    expected = (math.sqrt(0.09 + 1e-6) + 1e-3) / 2
    assert float(losses.charbonnier(other, zero)) == pytest.approx(expected)
    assert float(losses.l1(other, zero)) == pytest.approx(0.15)


def test_endpoint_error_by_hand() -> None:
    flow = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    assert float(losses.endpoint_error(flow, torch.zeros_like(flow))) == pytest.approx(5)


def test_multiscale_flow_weighs_levels_as_published() -> None:
    """The paper sums over pixels; an error of 1 at one level alone is its weight's share."""
    truth = torch.zeros(1, 2, 64, 64)
    levels = [torch.zeros(1, 2, 1 << n, 1 << n) for n in range(5)]
    assert float(losses.multiscale_flow(levels, truth)) == pytest.approx(0, abs=1e-5)
    published = [
        weight * level.shape[2] * level.shape[3]
        for weight, level in zip((0.32, 0.08, 0.02, 0.01, 0.005), levels, strict=True)
    ]
    for number in range(5):
        wrong = list(levels)
        wrong[number] = levels[number] + torch.tensor([0.6, 0.8]).view(1, 2, 1, 1)
        expected = published[number] / sum(published)
        assert float(losses.multiscale_flow(wrong, truth)) == pytest.approx(expected, abs=1e-5)
    shifted = truth + torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)
    assert float(losses.multiscale_flow(levels, shifted)) == pytest.approx(5, rel=1e-5)


def test_flow_distillation_against_a_slow_twin() -> None:
    random = torch.Generator().manual_seed(0)
    flow, reference, one, two = (
        3 * torch.randn((1, 2, 3, 4), generator=random).double() for _ in range(4)
    )
    total = 0.0
    for coarse in (one, two):
        for y in range(3):
            for x in range(4):
                e = math.hypot(*(float(flow[0, c, y, x] - reference[0, c, y, x]) for c in (0, 1)))
                p = math.exp(-0.3 * e)
                for c in (0, 1):
                    d = float(coarse[0, c, y, x] - reference[0, c, y, x])
                    total += (d * d + 10 ** (2 * (1 - 10 * p) / 3)) ** (p / 2) / 24
    found = losses.flow_distillation(flow, reference, [one, two])
    assert float(found) == pytest.approx(total, rel=1e-6)


def test_flow_distillation_trusts_a_reference_that_the_task_agrees_with() -> None:
    reference = torch.zeros(1, 2, 4, 4)
    coarse = torch.full((1, 2, 4, 4), 2.0, requires_grad=True)
    slopes = []
    for distance in (0.0, 20.0):
        coarse.grad = None
        losses.flow_distillation(reference + distance, reference, [coarse]).backward()
        slopes.append(float(coarse.grad.abs().sum()))  # type: ignore[union-attr]
    assert slopes[0] == pytest.approx(1, rel=1e-3)  # L1
    assert slopes[1] < 0.01


def test_losses_have_gradients_where_nothing_is_wrong() -> None:
    flow = torch.zeros(1, 2, 8, 8, requires_grad=True)
    losses.endpoint_error(flow, torch.zeros(1, 2, 8, 8)).backward()
    four = torch.zeros(1, 4, 8, 8, requires_grad=True)
    black, white = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    losses.distillation(four, torch.zeros(1, 4, 8, 8), white, black, black).backward()
    assert torch.isfinite(flow.grad).all()  # type: ignore[arg-type]
    assert torch.isfinite(four.grad).all()  # type: ignore[arg-type]
