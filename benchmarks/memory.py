"""How much memory conversions take: the peak of resident memory of a whole ``vfi convert``.

    python benchmarks/memory.py [--sizes 1280x720 1920x1080 3840x2160] [--frames 30] [--out FILE]
    python benchmarks/memory.py --models [--dtype float32] [--ensemble] [--only NAME …]

The first converts a moving clip of 30 frames to twice its rate. The second prints how many bytes
a network needs for each pixel of a frame, which is what vfi_cli/fit.py holds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from conversion import head, row, run_vfi

from vfi_cli.bench import machine, measure_models, model_names, write_moving_clip
from vfi_cli.cli.options import parse_size
from vfi_cli.plan import automatic_scale
from vfi_cli.wording import file_size

#: The two sizes that the growth is measured between, for light networks and for heavy ones.
LIGHT = ((640, 384), (1280, 768))
HEAVY = ((320, 192), (640, 384))
HEAVY_FAMILIES = ("eqvi", "rrin", "scopeflow", "ifrnet-l")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--sizes",
        type=parse_size,
        nargs="+",
        default=[(1280, 720), (1920, 1080), (3840, 2160)],
        metavar="WxH",
    )
    parser.add_argument("--frames", type=int, default=30, help="of the clip")
    parser.add_argument("--model", default="default")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--models", action="store_true", help="bytes per pixel of the networks")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--ensemble", action="store_true", help="the one within the networks")
    parser.add_argument("--out", type=Path, help="also write the table here")
    given = parser.parse_args()
    if given.models:
        lines = networks(given.only or model_names(), given.dtype, ensemble=given.ensemble)
        title = "# Memory of networks"
    else:
        lines = conversions(given.sizes, given.frames, given.model, given.device)
        title = f"# Memory of a conversion, {given.model}"
    if given.out is not None:
        text = "\n".join([title, "", machine(given.device), "", *lines])
        given.out.write_text(text + "\n")


def conversions(sizes: list[tuple[int, int]], frames: int, model: str, device: str) -> list[str]:
    """The table of whole conversions, printed line by line."""
    lines = [head("size", "scale", "without frames to make", "peak")]
    print(*lines, flush=True)
    for width, height in sizes:
        with tempfile.TemporaryDirectory(prefix="vfi-memory-") as folder:
            clip, output = Path(folder, "clip.mp4"), Path(folder, "out.mp4")
            write_moving_clip(clip, (width, height), frames)
            common = ("--model", model, "--device", device, "--overwrite", "-o", output)
            bare = run_vfi("convert", clip, "--factor", "1", *common)
            whole = run_vfi("convert", clip, "--factor", "2", *common)
        lines.append(
            row(
                f"{width}×{height}",
                f"{automatic_scale(width, height):g}",
                file_size(bare.peak),
                file_size(whole.peak),
            )
        )
        print(lines[-1], flush=True)
    return lines


def networks(names: list[str], dtype: str, *, ensemble: bool) -> list[str]:
    """Bytes per pixel of the networks, printed line by line."""
    lines = [head("model", "bytes a pixel", "type")]
    print(*lines, flush=True)
    for name in names:
        sizes = HEAVY if name.startswith(HEAVY_FAMILIES) else LIGHT
        measured = [
            measure_models(
                [name], size=size, device="cpu", dtype=dtype, repeat=1, ensemble=ensemble
            ).rows[0]
            for size in sizes
        ]
        problem = next((one.problem for one in measured if one.problem), "")
        if problem:
            lines.append(row(name, problem, ""))
        else:
            (small, few), (large, many) = (
                (one.peak_memory, width * height)
                for one, (width, height) in zip(measured, sizes, strict=True)
            )
            lines.append(row(name, round((large - small) / (many - few)), measured[1].dtype))
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    main()
