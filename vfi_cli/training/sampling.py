"""Which samples a step sees: by its number alone, whatever process draws them."""

from __future__ import annotations

from dataclasses import dataclass

from vfi_cli.training.config import PhaseConfig
from vfi_cli.training.data import Batch, Pool, Windows, draw_batch


@dataclass(frozen=True)
class Sampler:
    """Draws a step's batches. ``four``: windows of four frames."""

    seed: int
    clips: Windows | None
    pool: Pool | None
    four: bool = False

    def __call__(
        self, request: tuple[tuple[int, ...], PhaseConfig]
    ) -> tuple[list[Batch], PhaseConfig]:
        """The batches of these numbers, as a phase wants them, and the phase."""
        numbers, phase = request
        return [self.batch(number, phase) for number in numbers], phase

    def batch(self, number: int, phase: PhaseConfig) -> Batch:
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
