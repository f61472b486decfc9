"""Do the stages of a conversion overlap? Each stage alone, on the same frames, and all together.

    python benchmarks/overlap.py [--size 1280x720] [--frames 48] [--repeat 3] [--out FILE]

A clip is converted to twice its rate. Reading (decoding, and the small pictures that cuts are
found on), making (colour conversion and the model) and writing (encoding) run in threads of their
own, so rendering should take as long as the slowest of them, as long as there are cores for all
of them: no less than the seconds of processor time divided by the cores either. ``at least`` is
the larger of the two. The end of writing, when the encoder gives out the frames that it held back,
is not overlapped with the next segment's beginning; it is shown by itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from statistics import median

import torch
from conversion import head, row

from vfi_cli import memory
from vfi_cli.api import ConvertOptions, Listener, convert_file
from vfi_cli.bench import example_window, machine, open_model, write_moving_clip
from vfi_cli.cli.options import parse_size
from vfi_cli.frame import Frame
from vfi_cli.io.decode import FrameReader
from vfi_cli.io.encode import EncoderOptions
from vfi_cli.models import Interpolator
from vfi_cli.plan import Plan, Timing, automatic_scale
from vfi_cli.render import Counts, Part, measured, pictures, synthesizer_for, video_writer

#: Model, codec and torch's threads (None: all cores). ``blend`` costs next to nothing beside the
#: encoder; a model and an encoder of one thread each leave the other's core alone.
CASES: tuple[tuple[str, str, int | None], ...] = (
    ("blend", "h264", None),
    ("default", "h264", None),
    ("default", "ffv1", 1),
)


@dataclass(frozen=True)
class Taken:
    """Seconds by the clock and of processor time, all threads together."""

    clock: float
    processor: float


def taken(call: Callable[[], object]) -> Taken:
    clock, processor = time.perf_counter(), time.process_time()
    call()
    return Taken(time.perf_counter() - clock, time.process_time() - processor)


class Rendering(Listener):
    """Times rendering alone, without planning, joining and reading back."""

    def planned(self, plan: Plan, output: Path) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def rendered(self) -> None:
        self.taken = Taken(time.perf_counter() - self._clock, time.process_time() - self._processor)


@dataclass(frozen=True)
class Run:
    """One run of a case: the stages alone, and rendering as a whole."""

    reading: Taken
    making: Taken
    writing: Taken
    flushing: float  # seconds of writing in which the encoder gives out what it held back
    whole: Taken

    @property
    def slowest(self) -> float:
        return max(self.reading.clock, self.making.clock, self.writing.clock)

    @property
    def least(self) -> float:
        return max(self.slowest, self.whole.processor / (os.cpu_count() or 1))


def run(clip: Path, folder: Path, interpolator: Interpolator, codec: str) -> Run:
    """Convert the clip, then time each stage alone."""
    rendering = Rendering()
    result = convert_file(
        clip,
        folder / "out.mkv",
        ConvertOptions(
            Timing(factor=Fraction(2)),
            encoder=EncoderOptions(codec=codec),
            audio="drop",
            overwrite=True,
        ),
        listener=rendering,
        interpolator=lambda: interpolator,
    )
    plan = result.plan
    source: list[tuple[Frame, Fraction, object]] = []
    output: list[Frame] = []

    def read() -> None:
        with FrameReader(plan.info) as reader:
            source.extend(measured(reader, lambda f: plan.timeline.time_of(f.pts), plan.settings))

    def make() -> None:
        synthesizer = synthesizer_for(plan.settings, interpolator)
        synthesizer.choose_fit(plan.info.width, plan.info.height)
        made = pictures(
            source,
            synthesizer,
            plan.settings,
            plan.grid,
            Part(),
            end=lambda _: plan.clip_end,
            counts=Counts(),
        )
        output.extend(made)

    flushing = 0.0

    def write() -> None:
        nonlocal flushing
        writer = video_writer(plan, folder / "alone.nut")
        for frame in output:
            writer.write(frame)
        began = time.perf_counter()
        writer.close()
        flushing = time.perf_counter() - began

    interpolator.forget()
    stages = [taken(stage) for stage in (read, make, write)]
    assert len(output) == result.counts.frames
    return Run(*stages, flushing, rendering.taken)


def measure(clip: Path, folder: Path, case: tuple[str, str, int | None], repeat: int) -> list[str]:
    """The table's row of a case."""
    name, codec, threads = case
    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    interpolator = open_model(name, device="cpu", dtype="auto")
    size = parse_size(clip.stem)
    interpolator.interpolate(example_window(interpolator, *size), 0.5, scale=automatic_scale(*size))
    runs = sorted(
        (run(clip, folder, interpolator, codec) for _ in range(repeat)),
        key=lambda one: one.whole.clock / one.least,
    )
    one = runs[len(runs) // 2]
    ratio = median(one.whole.clock / one.least for one in runs)
    return [
        f"{name} ({threads} thread{'s' if threads > 1 else ''}), {codec}",
        *(f"{stage.clock:.2f}" for stage in (one.reading, one.making, one.writing)),
        f"{one.flushing:.2f}",
        f"{one.slowest:.2f}",
        f"{one.whole.processor:.2f}",
        f"{one.least:.2f}",
        f"{one.whole.clock:.2f}",
        f"{ratio:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=parse_size, default=(1280, 720), metavar="WxH")
    parser.add_argument("--frames", type=int, default=48, help="of the clip")
    parser.add_argument("--repeat", type=int, default=3, help="runs; the middle one is shown")
    parser.add_argument("--out", type=Path, help="also write the table here")
    given = parser.parse_args()
    memory.prepare()  # as the command line does
    width, height = given.size
    table = head(
        "model, codec",
        "reading",
        "making",
        "writing",
        "of it, its end",
        "slowest",
        "processor time",
        "at least",
        "together",
        "together / at least",
    )
    print(table)
    lines = [table]
    with tempfile.TemporaryDirectory(prefix="vfi-overlap-") as folder:
        clip = Path(folder, f"{width}x{height}.mp4")
        write_moving_clip(clip, given.size, given.frames)
        for case in CASES:
            lines.append(row(*measure(clip, Path(folder), case, given.repeat)))
            print(lines[-1], flush=True)
    what = (
        f"{given.frames} frames of {width}×{height} to twice the rate, "
        f"{os.cpu_count()} cores, seconds; each stage alone on the same frames, then all together; "
        f"the middle of {given.repeat} runs. *At least*: the slowest stage, or the processor time "
        "of the whole divided by the cores."
    )
    print("", what, sep="\n")
    if given.out is not None:
        text = ["# Do the stages overlap?", "", what, machine("cpu"), "", *lines]
        given.out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
