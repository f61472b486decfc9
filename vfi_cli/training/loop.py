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
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from vfi_cli.errors import ModelError
from vfi_cli.models import load_model
from vfi_cli.training import checkpoint
from vfi_cli.training.cache import Report
from vfi_cli.training.checkpoint import DivergedError, Watch
from vfi_cli.training.config import Config, PhaseConfig
from vfi_cli.training.data import Batch, Pool, Windows
from vfi_cli.training.families import RIFE4, build
from vfi_cli.training.loader import load
from vfi_cli.training.perceptual import Perceptual
from vfi_cli.training.plot import METRICS, read_lines
from vfi_cli.training.sampling import Sampler
from vfi_cli.training.sheet import draw_sheet
from vfi_cli.training.teacher import FlowTeacher
from vfi_cli.training.validation import Rebuilt, Validation, crop, rebuild
from vfi_cli.wording import counted


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for whoever shows it: ``share`` 0 to 1, ``rate`` in steps a second,
    ``left`` in seconds, ``losses`` of the last step, ``psnr`` of the last validation in dB."""

    step: int
    share: float
    rate: float
    left: float | None
    losses: dict[str, float]
    psnr: float | None


def join_processes(device: torch.device) -> None:
    """Meets the other processes of ``torchrun``, where there are any. They wait as long as the
    first one takes to decode, to validate and to save."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(days=1))


class Trainer:
    """A run of one configuration on what ``clips`` and ``pool`` give: for a network that knows
    only t = 1/2 such samples alone."""

    def __init__(
        self,
        config: Config,
        *,
        clips: Windows | None = None,
        pool: Pool | None = None,
        validation: Validation | None = None,
        device: str = "cpu",
        report: Report = lambda line: None,
        on_step: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self.config, self.validation = config, validation
        self.report, self.on_step = report, on_step
        self.device = torch.device(device)
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        join_processes(self.device)
        if config.run.threads:
            torch.set_num_threads(config.run.threads)
        torch.manual_seed(config.model.seed)
        self.family = build(config)
        model = config.model
        if model.init_from:
            path = config.path(model.init_from)
            self.family.accept(checkpoint.starting_weights(model.init_from, path))
        if isinstance(self.family, RIFE4):
            self.family.silence(config.phases[0].silent)
        self.perceptual: Perceptual | None = None
        if any(config.losses(phase).perceptual for phase in config.phases):
            self.perceptual = Perceptual(config.path(config.loss.vgg)).to(self.device)
        self.teacher: FlowTeacher | None = None
        if model.teacher:
            path = config.path(model.teacher)
            try:
                teacher = load_model(path if path.is_file() else model.teacher, device=device)
            except ModelError as error:
                raise ModelError(f"model.teacher: {error}") from None
            self.teacher = FlowTeacher(teacher)
        self.family.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = self.family.network
        # A family shows with the network that it holds: the averaged one is in a copy of it.
        self.shown = copy.deepcopy(self.family).requires_grad_(False).eval()
        self.ema = self.shown.network
        self.sampler = Sampler(config.run.seed, clips, pool, four=config.data.four)
        self.optimiser = torch.optim.AdamW(
            self.family.parameters(), lr=config.optim.lr, weight_decay=config.optim.weight_decay
        )
        self.step, self.bad = 0, 0
        self.clock = self.elapsed = 0.0  # seconds spent; what of them the schedule has seen
        self.watch = Watch()
        self.psnr: float | None = None
        self.saved: int | None = None  # the step of the last checkpoint
        self._entered: PhaseConfig | None = None  # the phase of the last step
        self._asked = self._stopping = False  # this process to stop; all of them
        self.out = config.path(config.run.out)

    def feed(
        self, clips: Windows | None, pool: Pool | None, validation: Validation | None = None
    ) -> None:
        """Gives the run its data after it was made."""
        self.sampler = replace(self.sampler, clips=clips, pool=pool)
        self.validation = validation

    # The schedule -------------------------------------------------------------------------

    def share(self, step: int) -> float:
        """Share of the run that is done before a step, 0 to 1."""
        run = self.config.run
        return self.elapsed / (60 * run.minutes) if run.minutes else step / run.steps

    @property
    def finished(self) -> bool:
        """Whether the schedule has come to its end."""
        return self.share(self.step) >= 1

    def phase(self, step: int | None = None) -> PhaseConfig:
        """The phase of a step, by default the next one."""
        done = self.share(self.step if step is None else step)
        phases = self.config.phases
        return next((phase for phase in phases if done < phase.until), phases[-1])

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine from ``lr`` down to ``final_lr``."""
        o = self.config.optim
        cosine = 0.5 * (1 + math.cos(math.pi * min(self.share(self.step), 1.0)))
        return min(1.0, (self.step + 1) / max(o.warmup, 1)) * (
            o.final_lr + (o.lr - o.final_lr) * cosine
        )

    # One step -----------------------------------------------------------------------------

    def _requests(self, end: float) -> Iterator[tuple[tuple[int, ...], PhaseConfig]]:
        """What the coming steps see: numbers of batches, of all processes' this one's, and the
        phase that draws them."""
        count, step = self.config.optim.accumulate, self.step
        while self.share(step) < 1 and step < end:
            first = (step * self.world + self.rank) * count
            yield tuple(range(first, first + count)), self.phase(step)
            step += 1

    def loss(self, batch: Batch, phase: PhaseConfig) -> tuple[Tensor, dict[str, float]]:
        """The weighted sum that is minimised, and its parts."""
        weights = self.config.losses(phase)
        if self.teacher and weights.flow_distillation:
            batch = self.teacher.fill(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.optim.bfloat16):
            found = self.family(batch, phase)
            parts = {}
            if self.perceptual and weights.perceptual and found.picture is not None:
                parts["perceptual"] = self.perceptual(found.picture, batch.middle)
        parts |= self.family.parts(found, batch, weights)
        weighted = [getattr(weights, name, 0.0) * part for name, part in parts.items()]
        total = torch.stack(weighted).sum()
        shown = {name: float(part.detach()) for name, part in parts.items()}
        return total, {"loss": float(total.detach()), **shown}

    def train_step(self, batches: list[Batch], phase: PhaseConfig) -> dict[str, float] | None:
        """One update from some batches; None where the gradient was not finite (no update)."""
        self.family.train()
        if phase is not self._entered:
            self.family.wake(phase)
            self.shown.wake(phase)
            self.family.enter(phase)
            self._entered = phase
        self.optimiser.zero_grad(set_to_none=True)
        running = [buffer.clone() for buffer in self.family.buffers()]  # of batch norms
        shown: dict[str, float] = {}
        for batch in batches:
            total, parts = self.loss(batch, phase)
            (total / len(batches)).backward()
            for name, value in parts.items():
                shown[name] = shown.get(name, 0.0) + value / len(batches)
        loss = self._average_gradients(shown["loss"])
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        active = [p for p in self.family.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(active, self.config.optim.clip)
        self.step += 1
        if not bool(torch.isfinite(norm)):
            for buffer, before in zip(self.family.buffers(), running, strict=True):
                buffer.copy_(before)
            return None
        self.optimiser.step()
        self.watch.add(loss, self.config.phases.index(phase))
        self._average_weights()
        return {**shown, "gradient": float(norm)}

    def _average_weights(self) -> None:
        decay = min(self.config.optim.ema, self.step / (9 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.ema.parameters()), list(self.network.parameters()), 1 - decay
            )
            for mean, own in zip(self.ema.buffers(), self.network.buffers(), strict=True):
                mean.copy_(own)

    def _average_gradients(self, loss: float) -> float:
        """Over all processes, and the loss with them. All follow the first one's clock, as it was
        when the step began, and stop together, so that they never disagree about the phase."""
        if self.world == 1:
            self.elapsed, self._stopping = self.clock, self._asked
            return loss
        active = [p for p in self.family.parameters() if p.grad is not None]
        first = self.rank == 0
        more = torch.tensor([self.clock * first, self._asked, loss / self.world])
        flat = torch.cat([*(p.grad.reshape(-1) for p in active), more.to(self.device)])  # type: ignore[union-attr]
        dist.all_reduce(flat)
        self.elapsed, stopping, loss = (float(x) for x in flat[-3:])
        self._stopping = stopping > 0
        flat /= self.world
        for p, part in zip(active, flat[:-3].split([p.numel() for p in active]), strict=True):
            p.grad = part.view_as(p)
        return loss

    # The run ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Asks the run to end after its step, and to save; from a signal or another thread.
        Of several processes it may be any: all end after the same step."""
        self._asked = True

    def run(self, steps: int | None = None) -> None:
        """Trains to the end of the schedule, or for ``steps`` updates, and saves; does nothing
        where the schedule has come to its end.

        Raises DivergedError, OutputError.
        """
        if self.finished:
            return
        end = math.inf if steps is None else self.step + steps
        self._due = {
            what: self.clock + 60 * minutes
            for what, minutes in self._minutes().items()
            if minutes and (what == "save" or self.validation)
        }
        self._done: dict[str, int] = {}  # the step at which each was done last
        self._sums: dict[str, list[float]] = {}
        self._ticks = deque([time.monotonic()], maxlen=50)
        coming = load(
            self.sampler,
            self._requests(end),
            workers=self.config.data.workers,
            pin=self.device.type == "cuda",
        )
        with closing(coming):  # type: ignore[type-var]
            for batches, phase in coming:
                shown = self.train_step([batch.to(self.device) for batch in batches], phase)
                self._check(shown)
                self._tick()
                if self.rank == 0:
                    self._tell(shown or {})
                if self._stopping or (self.world == 1 and self._asked):
                    break
        if self.rank == 0 and not self._is_good:
            self.report(f"step {self.step}  not saved: {self._worse()}")
        elif self.rank == 0:
            self.save()
            if self.finished:
                for what in ("validate", "draw_sheet"):
                    if self._done.get(what) != self.step:
                        getattr(self, what)()

    def _left(self, rate: float) -> float | None:
        """Seconds to the end of the schedule."""
        run = self.config.run
        if run.minutes:
            return max(0.0, 60 * run.minutes - self.clock)
        return (run.steps - self.step) / rate if rate else None

    def _minutes(self) -> dict[str, float]:
        """How often what is done beside training."""
        shows = self.config.validation
        return {
            "save": self.config.run.save_minutes,
            "validate": shows.every_minutes,
            "draw_sheet": shows.sheet_minutes,
        }

    def _tick(self) -> None:
        now = time.monotonic()
        self.clock += now - self._ticks[-1]
        self._ticks.append(now)

    def _tell(self, shown: dict[str, float]) -> None:
        """Shows where the run stands, and saves and validates when it is time to."""
        rate = (len(self._ticks) - 1) / max(self._ticks[-1] - self._ticks[0], 1e-9)
        share = self.share(self.step)
        self.on_step(Progress(self.step, share, rate, self._left(rate), shown, self.psnr))
        for name, value in shown.items():
            self._sums.setdefault(name, []).append(value)
        if self.step % self.config.run.log_every == 0 and self._sums:
            self._log({name: sum(v) / len(v) for name, v in self._sums.items()}, rate)
            self._sums = {}
        for what, clock in self._due.items():
            if self.clock >= clock:
                if what != "save" or self._is_good:
                    getattr(self, what)()
                    self._done[what] = self.step
                self._due[what] = self.clock + 60 * self._minutes()[what]
        passed = time.monotonic() - self._ticks[-1]  # looking is no training
        self._ticks = deque((tick + passed for tick in self._ticks), maxlen=50)

    @property
    def _is_good(self) -> bool:
        return not self.bad and self.watch.is_good

    def _check(self, shown: dict[str, float] | None) -> None:
        self.bad = 0 if shown is not None else self.bad + 1
        kept = "nothing was saved yet"
        if self.saved is not None:
            kept = f"the last good checkpoint, of step {self.saved}, is kept in {self.out}"
        kept += " (lower optim.lr)"
        if self.bad >= self.config.run.bad_steps or self.watch.is_lost:
            raise DivergedError(f"step {self.step}: {self._worse()}; {kept}")

    def _worse(self) -> str:
        """What is not good, in words."""
        if self.bad:
            return f"no finite gradient for {counted(self.bad, 'step')}"
        return f"the loss is {self.watch.mean:.3g} and was {self.watch.least:.3g}"

    # What a run tells ---------------------------------------------------------------------

    def validate(self) -> float | None:
        """PSNR in dB of the averaged weights on whole held-out frames: the mean over the clips'."""
        if self.validation is None:
            return None
        clips: dict[str, list[float]] = {}
        for rebuilt in self._rebuild(self.validation):
            clips.setdefault(rebuilt.name, []).append(rebuilt.psnr)
        means = {name: sum(values) / len(values) for name, values in clips.items()}
        self.psnr = sum(means.values()) / len(means)
        table = {name: round(value, 3) for name, value in means.items()}
        self._write({"step": self.step, "psnr": round(self.psnr, 4), "clips": table})
        self.report(f"step {self.step}  validation {self.psnr:.3f} dB")
        return self.psnr

    def draw_sheet(self) -> Path | None:
        """The sheet of fixed crops; None where there is no held-out footage, or none is wanted."""
        if self.validation is None or not self.config.validation.sheet_minutes:
            return None
        windows, shows = list(self.validation), self.config.validation
        chosen = windows[:: max(1, len(windows) // shows.crops)][: shows.crops]
        rebuilt = list(self._rebuild([crop(window, shows.crop) for window in chosen]))
        target = self.out / "sheets" / f"{self.step:08d}.png"
        title = f"{self.out.name}, step {self.step}, averaged weights"
        with checkpoint.writing(target):
            draw_sheet(rebuilt, title).save(target)
        self.report(f"step {self.step}  {target}")
        return target

    def _rebuild(self, windows: Any) -> list[Rebuilt]:
        """In the precision of training: half a hundredth of a decibel, and far faster."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.optim.bfloat16):
            return list(rebuild(windows, self.shown.show, self.ema.size_multiple, self.device))

    def _write(self, line: dict[str, Any]) -> None:
        target = self.out / METRICS
        with checkpoint.writing(target), target.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def _log(self, means: dict[str, float], rate: float) -> None:
        line = {"step": self.step, "seconds": round(self.clock, 1), "lr": self.learning_rate()}
        line.update({name: float(f"{value:.5g}") for name, value in means.items()})
        self._write(line)
        parts = "  ".join(f"{name} {value:.4f}" for name, value in means.items())
        done = 100 * self.share(self.step)
        self.report(f"step {self.step}  {done:.1f} %  {rate:.2f} steps/s  {parts}")

    # Checkpoints --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        state = {
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "helper": self.family.helper.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "clock": self.clock,
            "watch": self.watch.state(),
            "random": torch.get_rng_state(),
            "architecture": self.config.model.architecture,
            "config": self.config.fingerprint(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def save(self) -> Path:
        target = self.out / checkpoint.LAST
        checkpoint.save(self.state(), target)
        self.saved = self.step
        return target

    def resume(self, path: Path | None = None) -> None:
        """Goes on from a checkpoint of the same configuration, on whatever device it was made.

        Raises InputError where there is none, UsageError where it belongs to another one.
        """
        path = path or self.out / checkpoint.LAST
        state = checkpoint.read(path)
        checkpoint.check_same(path, state["config"], self.config.fingerprint())
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.family.helper.load_state_dict(state["helper"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.watch.load(state["watch"])
        self.step = self.saved = state["step"]
        self._entered = None
        self.clock = self.elapsed = state["clock"]
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        if self.rank == 0:
            self.forget_after(self.step)

    def forget_after(self, step: int) -> None:
        """Drops the metrics of later steps, which were not saved and are made again.

        Raises OutputError where the run's folder cannot be written to.
        """
        path = self.out / METRICS
        with checkpoint.writing(path):
            path.touch()
            kept = [json.dumps(line) + "\n" for line in read_lines(path) if line["step"] <= step]
            path.write_text("".join(kept), encoding="utf-8")
