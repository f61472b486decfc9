"""The training run: one step on one screen, and checkpoints that resume exactly.

Several processes (``torchrun``) share a step: each draws its own samples, gradients are averaged
in one message. Without it the same code runs as one process.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from vfi_cli.errors import InputError, UsageError, VfiError
from vfi_cli.models.rife4 import SCALES, IFNet, Spec
from vfi_cli.training import losses
from vfi_cli.training.config import Config, PhaseConfig
from vfi_cli.training.data import Batch, Clips, Pool, draw_batch
from vfi_cli.training.init import initialise

Report = Callable[[str], None]


class DivergedError(VfiError):
    """The gradients stayed without finite values; the last good checkpoint is kept."""


def silence(block: nn.Module) -> None:
    """Makes a block put out zeros, whatever it sees, and keeps it so."""
    for weight in block.get_submodule("lastconv").parameters():
        nn.init.zeros_(weight)
    block.requires_grad_(False)


class Trainer:
    """A run of one configuration on what ``clips`` and ``pool`` give."""

    def __init__(
        self,
        config: Config,
        *,
        clips: Clips | None,
        pool: Pool | None,
        device: str = "cpu",
        report: Report = lambda line: None,
    ) -> None:
        self.config, self.clips, self.pool, self.report = config, clips, pool, report
        self.device = torch.device(device)
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        if self.world > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        torch.manual_seed(config.model.seed)
        widths = config.model.widths
        self.network = IFNet(Spec(widths=widths, scales=SCALES[len(widths)]))
        initialise(self.network)
        for i in range(config.model.silent):
            silence(self.network.get_submodule(f"block{i}"))
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay
        )
        self.step, self.bad = 0, 0
        self.clock = self.elapsed = 0.0  # seconds spent; what of them the schedule has seen
        self.out = config.path(config.run.out)

    # The schedule -------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        run = self.config.run
        return self.elapsed / (60 * run.minutes) if run.minutes else self.step / run.steps

    def phase(self) -> PhaseConfig:
        done = self.progress
        return next(
            (phase for phase in self.config.phases if done < phase.until), self.config.phases[-1]
        )

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine from ``lr`` down to ``final_lr``."""
        o = self.config.optim
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.progress, 1.0)))
        return min(1.0, (self.step + 1) / max(o.warmup, 1)) * (
            o.final_lr + (o.lr - o.final_lr) * cosine
        )

    # One step -----------------------------------------------------------------------------

    def draw(self, number: int, phase: PhaseConfig) -> Batch:
        return draw_batch(
            self.config.run.seed,
            number,
            clips=self.clips,
            pool=self.pool,
            synthetic=phase.synthetic,
            batch=phase.batch,
            height=phase.crop,
            width=phase.crop_width or phase.crop,
            largest=phase.largest,
            shifted=phase.shifted,
        )

    def loss(self, batch: Batch, phase: PhaseConfig) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum that is minimised, and its parts."""
        weights = self.config.loss
        frames = torch.stack((batch.frame0, batch.frame1), 1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.optim.bfloat16):
            picture, stages = self.network.stages(frames, batch.t, depth=phase.blocks)
        parts = {"laplacian": losses.laplacian(picture, batch.middle)}
        if weights.census:
            parts["census"] = losses.census(picture, batch.middle)
        if weights.charbonnier:
            parts["charbonnier"] = losses.charbonnier(picture, batch.middle)
        total = sum(
            (getattr(weights, name) * part for name, part in parts.items()), torch.zeros(())
        )
        known = batch.has_flow
        if bool(known.any()):
            truth = batch.flow[known]
            errors = [
                losses.flow_l1(stage.flow[known], truth[..., stage.ys, :][..., stage.xs])
                for stage in stages
            ]
            total = total + phase.flow_weight * known.float().mean() * sum(errors)
            parts["flow"] = errors[-1]
        return total, {name: float(part.detach()) for name, part in parts.items()}

    def train_step(self, batches: list[Batch], phase: PhaseConfig) -> dict[str, float] | None:
        """One update from some batches; None where the gradient was not finite (no update)."""
        self.optimiser.zero_grad(set_to_none=True)
        shown: dict[str, float] = {}
        for batch in batches:
            total, shown = self.loss(batch, phase)
            (total / len(batches)).backward()
        self._average_gradients()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        active = [p for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(active, self.config.optim.clip)
        self.step += 1
        if not bool(torch.isfinite(norm)):
            return None
        self.optimiser.step()
        decay = min(self.config.optim.ema, self.step / (9 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.ema.parameters()), list(self.network.parameters()), 1 - decay
            )
        return {**shown, "gradient": float(norm)}

    def _average_gradients(self) -> None:
        """Over all processes; the schedule of all of them follows the first one's clock, as it
        was when the step began, so that they never disagree about the phase."""
        if self.world == 1:
            self.elapsed = self.clock
            return
        active = [p for p in self.network.parameters() if p.grad is not None]
        clock = torch.tensor([self.clock if self.rank == 0 else 0.0], device=self.device)
        flat = torch.cat([*(p.grad.reshape(-1) for p in active), clock])  # type: ignore[union-attr]
        dist.all_reduce(flat)
        self.elapsed = float(flat[-1])
        flat /= self.world
        for p, part in zip(active, flat[:-1].split([p.numel() for p in active]), strict=True):
            p.grad = part.view_as(p)

    # The run ------------------------------------------------------------------------------

    def run(self, steps: int | None = None) -> None:
        """Trains to the end of the schedule, or for ``steps`` updates, and saves."""
        run, optim = self.config.run, self.config.optim
        self.out.mkdir(parents=True, exist_ok=True)
        end = math.inf if steps is None else self.step + steps
        sums: dict[str, list[float]] = {}
        tick = saved = time.monotonic()

        def fetch(step: int, phase: PhaseConfig) -> list[Batch]:
            first = (step * self.world + self.rank) * optim.accumulate
            return [self.draw(first + k, phase).to(self.device) for k in range(optim.accumulate)]

        with ThreadPoolExecutor(1) as loader:
            phase = self.phase()
            coming: Future[list[Batch]] = loader.submit(fetch, self.step, phase)
            while self.progress < 1 and self.step < end:
                batches, current = coming.result(), phase
                self.step += 1  # the phase of the next step, which is fetched meanwhile
                phase = self.phase()
                self.step -= 1
                coming = loader.submit(fetch, self.step + 1, phase)
                shown = self.train_step(batches, current)
                self.bad = 0 if shown is not None else self.bad + 1
                if self.bad >= run.bad_steps:
                    raise DivergedError(
                        f"the gradients of the last {self.bad} steps, up to {self.step}, are not "
                        f"finite; the last good checkpoint is kept in {self.out} (lower optim.lr)"
                    )
                for name, value in (shown or {}).items():
                    sums.setdefault(name, []).append(value)
                now = time.monotonic()
                self.clock += now - tick
                tick = now
                if self.rank == 0 and self.step % run.log_every == 0 and sums:
                    self._log({name: sum(v) / len(v) for name, v in sums.items()})
                    sums = {}
                if self.rank == 0 and now - saved > 60 * run.save_minutes and not self.bad:
                    self.save()
                    saved = now
            coming.cancel()
        if self.rank == 0:
            self.save()

    def _log(self, means: dict[str, float]) -> None:
        line = {"step": self.step, "seconds": round(self.clock, 1), "lr": self.learning_rate()}
        line.update({name: round(value, 5) for name, value in means.items()})
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        parts = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        self.report(f"step {self.step}  {100 * self.progress:.1f} %  {parts}")

    # Checkpoints --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "clock": self.clock,
            "random": torch.get_rng_state(),
            "config": self.config.fingerprint(),
        }

    def save(self) -> Path:
        """Writes ``last.pt`` beside itself first, so a kill leaves the one before."""
        self.out.mkdir(parents=True, exist_ok=True)
        target = self.out / "last.pt"
        part = target.with_suffix(".part")
        torch.save(self.state(), part)
        os.replace(part, target)
        return target

    def resume(self, path: Path | None = None) -> None:
        """Goes on from a checkpoint of the same configuration."""
        path = path or self.out / "last.pt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise InputError(f"{path}: there is no checkpoint to resume from") from None
        except Exception as error:
            raise InputError(f"{path}: is no checkpoint of a training run ({error})") from None
        if not isinstance(state, dict) or "optimiser" not in state:
            raise InputError(f"{path}: is no checkpoint of a training run")
        if state["config"] != self.config.fingerprint():
            changed = _changed(json.loads(state["config"]), json.loads(self.config.fingerprint()))
            raise UsageError(f"{path}: belongs to another configuration ({changed} differs)")
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.clock = self.elapsed = state["clock"]
        torch.set_rng_state(state["random"])


def _changed(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str:
    """The first keys that differ, by name."""
    names = []
    for key in before.keys() | now.keys():
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if a != b:
                names.append(_changed(a, b, f"{prefix}{key}."))
        elif a != b:
            names.append(f"{prefix}{key}")
    return ", ".join(sorted(names))
