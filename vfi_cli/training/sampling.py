"""Which samples a step sees: by its number alone, whatever process draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from vfi_cli.errors import InputError
from vfi_cli.training.config import PhaseConfig
from vfi_cli.training.data import Batch, Pool, Windows, draw_batch

#: Numbers from one batch to the next where only some samples of each draw are of use.
_DRAWS = 64


@dataclass(frozen=True)
class Sampler:
    """Draws a step's batches. ``four``: windows of four frames; ``middle``: only samples of
    which the new frame lies at t = 1/2, for a network that knows no other time."""

    seed: int
    clips: Windows | None
    pool: Pool | None
    four: bool = False
    middle: bool = False

    def __call__(
        self, request: tuple[tuple[int, ...], PhaseConfig]
    ) -> tuple[list[Batch], PhaseConfig]:
        """The batches of these numbers, as a phase wants them, and the phase."""
        numbers, phase = request
        return [self.batch(number, phase) for number in numbers], phase

    def batch(self, number: int, phase: PhaseConfig) -> Batch:
        def draw(number: int) -> Batch:
            return draw_batch(
                self.seed,
                number,
                clips=self.clips,
                pool=self.pool,
                synthetic=phase.synthetic,
                batch=phase.batch,
                height=phase.crop,
                width=phase.crop_width or phase.crop,
                largest=phase.largest,
                shifted=phase.shifted,
                four=self.four,
            )

        return _middles(draw, number, phase.batch) if self.middle else draw(number)


def _middles(draw: Callable[[int], Batch], number: int, count: int) -> Batch:
    """``count`` samples at t = 1/2 out of as many draws as it takes."""
    found: list[Batch] = []
    for attempt in range(_DRAWS):
        batch = draw(number * _DRAWS + attempt)
        found.append(select(batch, batch.t.flatten() == 0.5))
        if sum(len(part.t) for part in found) >= count:
            return select(join(found), torch.arange(count))
    raise InputError(
        "the footage has hardly any frame midway between two others, and the network knows no "
        "other time: give data.gaps = [1]"
    )


def select(batch: Batch, which: torch.Tensor) -> Batch:
    """Some samples of a batch, by a mask or by their numbers."""
    values = (getattr(batch, item.name) for item in fields(Batch))
    return Batch(*(None if value is None else value[which] for value in values))  # type: ignore[arg-type]


def join(batches: list[Batch]) -> Batch:
    """Batches of the same kind as one."""
    columns = ([getattr(batch, item.name) for batch in batches] for item in fields(Batch))
    return Batch(*(None if values[0] is None else torch.cat(values) for values in columns))  # type: ignore[arg-type]
