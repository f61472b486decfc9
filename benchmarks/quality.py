"""How well frames are rebuilt: those in between are left out, made anew and compared.

    python benchmarks/quality.py FOLDER [--models default blend nearest minterpolate]
        [--frames 61] [--factor 2 4]

prints a table in Markdown for each factor: for each clip the mean over its rebuilt frames of the
PSNR of 8-bit RGB, then the mean over clips. Frames are rounded to 8 bit as they would be written;
those beside cuts, and those where nothing moves, count as all others do. ``minterpolate`` is
ffmpeg's filter (mi_mode=mci, mc_mode=aobmc, me_mode=bidir, vsbmc=1). One clip alone,
with more to say about it: vfi eval clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from vfi_cli.api import ModelOptions
from vfi_cli.evaluate.clip import FACTORS, ClipPart, evaluate_clip
from vfi_cli.evaluate.rebuild import MINTERPOLATE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--models", nargs="+", default=["default", "blend", "nearest", MINTERPOLATE]
    )
    parser.add_argument("--frames", type=int, default=61, help="of each clip, from its start")
    parser.add_argument("--factor", type=int, nargs="+", choices=FACTORS, default=[2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    given = parser.parse_args()
    models = [ModelOptions(name, device=given.device, dtype=given.dtype) for name in given.models]
    clips = sorted(path for path in given.folder.iterdir() if path.is_file())
    for number, factor in enumerate(given.factor):
        if number:
            print()
        table(clips, models, ClipPart(frames=given.frames), factor)


def table(clips: list[Path], models: list[ModelOptions], part: ClipPart, factor: int) -> None:
    """Print the table of one factor, a line as soon as its clip is done."""
    print(f"| clip, {factor}× | " + " | ".join(model.name for model in models) + " |")
    print("|---" * (len(models) + 1) + "|", flush=True)
    rows, seconds = [], []
    for path in clips:
        result = evaluate_clip(
            path, models, factor=factor, part=part, metrics=("psnr",), everything=True
        )
        means = {scores.model: scores.means["psnr"] for scores in result.models}
        rows.append([means.get(model.name, np.nan) for model in models])
        taken = {scores.model: scores.seconds for scores in result.models}
        seconds.append([taken.get(model.name, np.nan) for model in models])
        label = f"{path.stem} {result.width}×{result.height}, {result.frames} frames"
        print(f"| {label} | " + " | ".join(f"{mean:.2f}" for mean in rows[-1]) + " |", flush=True)
    means = np.mean(rows, axis=0)
    print("| **mean PSNR, dB** | " + " | ".join(f"**{mean:.2f}**" for mean in means) + " |")
    times = np.mean(seconds, axis=0)
    print("| seconds a frame | " + " | ".join(f"{time:.2f}" for time in times) + " |")


if __name__ == "__main__":
    main()
