"""Measuring: what each model costs, and where the time of a conversion goes.

``measure_models`` gives every model a process of its own, so that its peak memory is its own
and a model that fails takes nobody with it. ``measure_run`` converts a small moving clip.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from vfi_cli import memory
from vfi_cli.errors import UsageError, VfiError
from vfi_cli.frame import ColorSpec, Frame, PlaneLayout, Samples

if TYPE_CHECKING:
    import torch

    from vfi_cli.models import Interpolator
    from vfi_cli.models.base import Network
    from vfi_cli.plan import Plan

Size = tuple[int, int]  # width, height in pixels

#: The size that operations are stated for, whatever size is timed.
OPERATIONS_SIZE: Size = (1280, 720)
#: Seconds that a model may take, start of its process included.
TIME_LIMIT = 600.0
#: What random weights are drawn with.
SEED = 0
#: The rate that "real time" means.
REAL_TIME = 60


# Models


@dataclass(frozen=True)
class ModelRow:
    """What one model costs. What could not be measured is None, and ``problem`` says why."""

    name: str
    architecture: str | None = None
    parameters: int | None = None
    #: Of the convolutions for a frame of ``OPERATIONS_SIZE``; see :func:`operations`.
    operations: float | None = None
    seconds: float | None = None  # for a frame: median, without the first
    #: Bytes. CPU: resident memory gained from before the model was built to the highest point.
    #: CUDA: the most that torch had allocated.
    peak_memory: int | None = None
    device: str | None = None
    dtype: str | None = None
    problem: str = ""

    @property
    def fps(self) -> float | None:
        """Frames a second."""
        return 1 / self.seconds if self.seconds else None


@dataclass(frozen=True)
class ModelsReport:
    """The costs of several models, measured one after the other on one machine."""

    rows: tuple[ModelRow, ...]
    size: Size
    repeat: int
    machine: str
    busy: float | None  # share of the machine that others used when it began; None: unknown


def model_names() -> list[str]:
    """The default model, the baselines, and all architectures in the registry's order."""
    from vfi_cli.models.baseline import BASELINES
    from vfi_cli.models.registry import registry

    return ["default", *BASELINES, *registry().names()]


def measure_models(
    names: Sequence[str] | None = None,
    *,
    size: Size = (1280, 720),
    device: str = "auto",
    dtype: str = "auto",
    repeat: int = 5,
    limit: float = TIME_LIMIT,
    ensemble: bool = False,
    on_row: Callable[[ModelRow], None] = lambda row: None,
) -> ModelsReport:
    """Measure models one after the other, each in a process of its own.

    names: architectures (with random weights of a fixed seed; what weights say does not change
        what they cost), or models and files as ``load_model`` knows them; None: all.
    repeat: timed frames, after one that is not. limit: seconds for each model.
    ensemble: as for ``Interpolator.interpolate``.

    A model that fails becomes a row that says why. Raises DeviceError for a missing device.
    """
    runs_on, busy = machine(device), _busy()
    request = {"size": size, "device": device, "dtype": dtype, "repeat": repeat}
    request["ensemble"] = ensemble
    rows = []
    for name in model_names() if names is None else names:
        rows.append(_measure_apart({"name": name, **request}, limit))
        on_row(rows[-1])
    return ModelsReport(tuple(rows), size, repeat, runs_on, busy)


def measure_model(
    name: str, *, size: Size, device: str, dtype: str, repeat: int, ensemble: bool = False
) -> ModelRow:
    """Measure one model in this process. Every frame is computed from its window alone."""
    model_names()  # imports all families, whose code is not the model's memory
    peak = _PeakMemory()
    model = open_model(name, device=device, dtype=dtype)
    width, height = size
    frames = example_window(model, width, height)
    compute: Callable[..., Any] = partial(model.interpolate, ensemble=ensemble)
    if not model.network.has_frames:
        compute = _flow_alone(model)
    seconds = []
    for _ in range(1 + repeat):
        began = time.perf_counter()
        compute(frames, 0.5)
        _finish(model.device)
        seconds.append(time.perf_counter() - began)
    return ModelRow(
        name=name,
        architecture=model.architecture,
        parameters=model.parameters,
        seconds=median(seconds[1:]),
        peak_memory=peak.bytes(model.device),
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        operations=operations(model.network.to("cpu").float(), OPERATIONS_SIZE),
    )


def open_model(name: str, *, device: str, dtype: str) -> Interpolator:
    """An architecture with random weights of a fixed seed, or else what ``load_model`` loads."""
    import torch

    from vfi_cli.models import Interpolator, load_model
    from vfi_cli.models.registry import registry

    known = registry()
    if name not in known:
        return load_model(name, device=device, dtype=dtype)
    torch.manual_seed(SEED)
    return Interpolator(known[name].prototype(), name=name, device=device, dtype=dtype)


def operations(network: Network, size: Size) -> float:
    """Operations of the convolution layers for one frame; a multiply-add is two.

    These networks have no other layers that multiply; warping, resizing and correlation are
    not counted, as is usual. Counted on a small picture and scaled by the pixels after
    padding, which is exact because every layer grows with the picture. network: on the CPU,
    float32.
    """
    import torch
    from torch import nn

    from vfi_cli.native.ops import use_reference

    total = 0.0

    # Not torch's FlopCounterMode: importing it takes longer than the measuring of a light model.
    def count(layer: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        # Each output, or for a transposed layer each input, meets one filter of the kernel.
        outer = inputs[0] if layer.transposed else output
        inner = layer.out_channels if layer.transposed else layer.in_channels
        total += 2 * outer.numel() * inner / layer.groups * math.prod(layer.kernel_size)

    multiple = network.size_multiple
    side = max(64, multiple)
    frames = torch.rand(1, network.frames_seen, 3, side, side)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    # Where kernels of our own do their work, the layers themselves are not called.
    with torch.inference_mode(), use_reference():
        if network.has_frames:
            network(frames, torch.full((1, 1, 1, 1), 0.5))
        else:
            network.flow(frames)
    for hook in hooks:
        hook.remove()
    padded = [-(-length // multiple) * multiple for length in size]
    return total * padded[0] * padded[1] / side**2


def _measure_apart(request: dict[str, Any], limit: float) -> ModelRow:
    name = request["name"]
    try:
        done = subprocess.run(
            [*_CHILD, json.dumps(request)],
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ModelRow(name, problem=f"takes longer than {limit:g} s")
    if done.returncode == _KILLED:
        return ModelRow(name, problem="killed by the system, most likely for want of memory")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        why = lines[-1] if lines else f"its process ended with {done.returncode}"
        return ModelRow(name, problem=why)
    return ModelRow(**json.loads(done.stdout.splitlines()[-1]))


_CHILD = (sys.executable, "-m", "vfi_cli.bench")
_KILLED = -9  # by SIGKILL, which Windows does not know


def answer(request: str) -> str:
    """What the process of one model does: a request in, a row out, both JSON."""
    wanted = json.loads(request)
    try:
        row = measure_model(**wanted)
    except (VfiError, RuntimeError, MemoryError) as error:
        row = ModelRow(wanted["name"], problem=_reason(error))
    return json.dumps(asdict(row))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return "too little memory at this size"
    return text if isinstance(error, VfiError) else f"{type(error).__name__}: {text[:200]}"


def _flow_alone(model: Interpolator) -> Callable[..., torch.Tensor]:
    return lambda frames, t: model.flow(frames)


def _finish(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


class _PeakMemory:
    """The memory that is gained from now on at the highest point."""

    def __init__(self) -> None:
        import torch

        self._before = memory.resident()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def bytes(self, device: torch.device) -> int | None:
        import torch

        if device.type == "cuda":
            return torch.cuda.max_memory_allocated(device)
        highest = memory.resident("peak")
        if self._before is None or highest is None:
            return None
        return highest - self._before


def machine(device: str) -> str:
    """The device and software in words, as a report needs them."""
    import torch

    from vfi_cli.models.devices import pick_device
    from vfi_cli.native import ops

    chosen = pick_device(device)
    slower = "" if ops.available(chosen) else "; operators in plain torch, slower: see vfi doctor"
    if chosen.type == "cuda":
        return f"torch {torch.__version__}, {torch.cuda.get_device_name(chosen)}{slower}"
    kernels = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    threads = torch.get_num_threads()
    return f"torch {torch.__version__}, {threads} thread(s) of {kernels}{slower}"


def _busy() -> float | None:
    """Running processes per core over the last minute, before anything is measured."""
    if not hasattr(os, "getloadavg"):
        return None
    return os.getloadavg()[0] / (os.cpu_count() or 1)


# A clip that moves


def _luma(width: int, height: int, number: int) -> Samples:
    """A random texture that drifts to the left and down; the same for the same arguments."""
    cell = 8
    coarse = np.random.default_rng(SEED).integers(32, 224, (height // cell + 2, width // cell + 2))
    texture = np.kron(coarse, np.ones((cell, cell)))[:height, :width]
    smooth = sum(np.roll(texture, shift, axis) for shift in (0, 3) for axis in (0, 1)) / 4
    return np.roll(smooth, (2 * number, -5 * number), (0, 1)).astype(np.uint8)


def example_window(model: Interpolator, width: int, height: int) -> torch.Tensor:
    import torch

    grey = np.stack([_luma(width, height, number) for number in range(model.frames_seen)])
    frames = torch.from_numpy(grey).to(model.device, torch.float32) / 255
    return frames[None, :, None].expand(-1, -1, 3, -1, -1).contiguous()


def write_moving_clip(path: Path, size: Size, frames: int) -> None:
    """An H.264 clip of 30 frames a second, as cameras make them: 4:2:0, 8 bits, BT.709."""
    from vfi_cli.io.encode import EncoderConfig, VideoWriter

    width, height = size
    if width % 2 or height % 2:
        raise UsageError(f"{width}x{height}: the clip's width and height must be even")
    layout = PlaneLayout("yuv", 8, 1, 1)
    color = ColorSpec(1, False, 1, 1)
    config = EncoderConfig("libx264", "h264", "yuv420p", layout, color, "mp4", {"crf": "18"})
    rate = Fraction(REAL_TIME, 2)
    with VideoWriter(path, config, fps=rate, width=width, height=height) as writer:
        for number in range(frames):
            luma = _luma(width, height, number)
            chroma = (luma[::2, ::2] // 4 + 96).astype(np.uint8)
            planes = (luma, chroma, chroma)
            writer.write(Frame(planes, width, height, layout, color, number, 1 / rate))


# A conversion, stage by stage

#: What happens to a frame, in order, and which thread of the renderer does it.
STAGES = {
    "decode": "reader",
    "cuts": "reader",
    "colour": "model",
    "model": "model",
    "encode": "writer",
}


@dataclass(frozen=True)
class Stage:
    """What one stage takes when it has the machine for itself."""

    name: str
    thread: str  # stages of different threads overlap
    seconds: float  # for an output frame: the whole clip's, divided by all output frames


@dataclass(frozen=True)
class RunReport:
    """Where the time of a conversion to twice the rate goes."""

    model: str
    size: Size
    device: str
    dtype: str
    frames: int  # of the output; every second one is new
    stages: tuple[Stage, ...]
    seconds: float  # rendering took, all stages overlapping as in ``vfi convert``
    machine: str
    busy: float | None  # as in ModelsReport

    @property
    def threads(self) -> dict[str, float]:
        """Seconds that each thread needs for an output frame."""
        total = dict.fromkeys((stage.thread for stage in self.stages), 0.0)
        for stage in self.stages:
            total[stage.thread] += stage.seconds
        return total

    @property
    def bottleneck(self) -> Stage:
        """The longest stage of the thread that sets the pace."""
        threads = self.threads
        slowest = max(threads, key=lambda name: threads[name])
        of_it = (stage for stage in self.stages if stage.thread == slowest)
        return max(of_it, key=lambda stage: stage.seconds)

    @property
    def fps(self) -> float:
        """Output frames a second."""
        return self.frames / self.seconds

    @property
    def speed(self) -> float:
        """In multiples of real time for output of ``REAL_TIME`` frames a second."""
        return self.fps / REAL_TIME


def measure_run(
    model: str = "default",
    *,
    size: Size = (1280, 720),
    device: str = "auto",
    dtype: str = "auto",
    frames: int = 12,
) -> RunReport:
    """Convert a clip of ``frames`` source frames to twice its rate, and time the stages.

    First the real conversion is timed, then each stage alone, on the same frames. Model
    names are those of ``load_model`` and the registry's architectures. Raises a VfiError.
    """
    from vfi_cli.api import ConvertOptions, convert_file
    from vfi_cli.plan import Timing, automatic_scale

    if frames < 2:
        raise UsageError("a clip of at least 2 frames is needed to make frames between")
    runs_on, busy = machine(device), _busy()
    interpolator = open_model(model, device=device, dtype=dtype)
    with tempfile.TemporaryDirectory(prefix="vfi-bench-") as folder:
        clip = Path(folder, "clip.mp4")
        write_moving_clip(clip, size, frames)
        interpolator.interpolate(
            example_window(interpolator, *size), 0.5, scale=automatic_scale(*size)
        )
        rendering = _rendering_clock()
        result = convert_file(
            clip,
            Path(folder, "out.mp4"),
            ConvertOptions(Timing(factor=Fraction(2)), audio="drop"),
            listener=rendering,
            interpolator=lambda: interpolator,
        )
        total = _time_stages(result.plan, interpolator, Path(folder, "stages.nut"))
    made = result.counts.frames
    return RunReport(
        model=interpolator.name,
        size=size,
        device=str(interpolator.device),
        dtype=str(interpolator.dtype).removeprefix("torch."),
        frames=made,
        stages=tuple(Stage(name, STAGES[name], total[name] / made) for name in STAGES),
        seconds=rendering.seconds,
        machine=runs_on,
        busy=busy,
    )


def _rendering_clock() -> Any:
    """A listener that times rendering alone, without planning, joining and reading back."""
    from vfi_cli.api import Listener

    class Clock(Listener):
        def planned(self, plan: Plan, output: Path) -> None:
            self._began = time.perf_counter()

        def rendered(self) -> None:
            self.seconds = time.perf_counter() - self._began

    return Clock()


def _time_stages(plan: Plan, interpolator: Interpolator, target: Path) -> dict[str, float]:
    """Seconds of each stage for the whole clip, one stage after the other."""
    from vfi_cli.cuts import signature
    from vfi_cli.frame import Window
    from vfi_cli.io.decode import FrameReader
    from vfi_cli.render import scene_stream, video_writer
    from vfi_cli.synthesis import Synthesizer

    total = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        _finish(interpolator.device)
        total[stage] += time.perf_counter() - began

    class Timed:
        """The model, timed apart from the colour around it."""

        def __getattr__(self, name: str) -> Any:
            return getattr(interpolator, name)

        def interpolate(self, *arguments: Any, **options: Any) -> torch.Tensor:
            with timed("model"):
                return interpolator.interpolate(*arguments, **options)

    with timed("decode"), FrameReader(plan.info) as reader:
        frames = list(reader)
    with timed("cuts"):
        scenes = scene_stream(plan.settings)
        for frame in frames:
            list(scenes.feed(frame, signature(frame), frame.time))
        list(scenes.flush())
    interpolator.forget()
    synthesizer = Synthesizer(cast(Any, Timed()), scale=plan.settings.scale)
    output: list[Frame] = []
    for number, frame in enumerate(frames[:-1]):
        window = tuple(frames[n] for n in _positions(number, len(frames), interpolator.frames_seen))
        with timed("colour"):
            made = synthesizer.between(Window(window, Fraction(1, 2)))
        output += [frame, made]
    total["colour"] -= total["model"]
    output += [frames[-1]] * 2  # shown until the clip's end, as in the conversion
    with timed("encode"), video_writer(plan, target) as writer:
        for frame in output:
            writer.write(frame)
    return total


def _positions(number: int, count: int, seen: int) -> list[int]:
    """The source frames that a model sees between ``number`` and the next."""
    wider = list(range(number - 1, number + 3))
    whole = seen == 4 and wider[0] >= 0 and wider[-1] < count
    return wider if whole else [number, number + 1]


if __name__ == "__main__":
    memory.prepare()  # as the command line does
    print(answer(sys.argv[1]))
