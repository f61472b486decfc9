"""What a conversion takes beside decoding, inference and encoding: imports, weights, warm-up,
planning, joining and reading back.

    python benchmarks/startup.py [--size 640x360] [--frames 8] [--repeat 5] [--out FILE]

A short clip is converted in a new process, and then once more in the same one, when everything is
warm. What rendering took the second time is what cannot be had faster; the rest of the first
conversion is the start. Medians of several processes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from conversion import head, row

from vfi_cli.bench import machine, write_moving_clip
from vfi_cli.cli.options import parse_size

_CHILD = """
import json, sys, time
source, folder = sys.argv[1:]
from vfi_cli.__main__ import main
told = {"python": time.time()}
import torch
told["torch"] = time.time()
import vfi_cli.cli.run
from vfi_cli import api
told["vfi"] = time.time()

original = api.load_model
def loading(*given, **named):
    began = time.time()
    model = original(*given, **named)
    told.setdefault("weights", time.time() - began)
    return model
api.load_model = loading

rendering = []
rendered = api.render_missing
def timed(*given, **named):
    given = list(given)
    given[2]()  # the model is loaded already, or now
    began = time.time()
    result = rendered(*given, **named)
    rendering.append(time.time() - began)
    return result
api.render_missing = timed

def convert(number):
    return main(["convert", source, "--factor", "2", "-o", f"{folder}/{number}.mp4", "--quiet"])

assert convert(1) == 0
told["done"] = time.time()
assert convert(2) == 0
print(json.dumps(told | {"first": rendering[0], "second": rendering[1]}))
"""
PARTS = ("Python and vfi's commands", "torch", "the rest of vfi", "weights", "warm-up", "other")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=parse_size, default=(640, 360), metavar="WxH")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the table here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vfi-startup-") as folder:
        clip = Path(folder, "clip.mp4")
        write_moving_clip(clip, given.size, given.frames)
        once(clip)  # so that the files are in the system's cache, as they are for a user's second
        runs = [once(clip) for _ in range(given.repeat)]
    lines = [head("part", "seconds")]
    lines += [row(part, f"{median(run[part] for run in runs):.2f}") for part in PARTS]
    total = median(sum(run.values()) for run in runs)
    lines.append(row("**outside of decoding, inference and encoding**", f"**{total:.2f}**"))
    print(*lines, sep="\n")
    if given.out is not None:
        what = f"{machine('auto')}; median of {given.repeat}"
        given.out.write_text("\n".join(["# Start-up", "", what, "", *lines]) + "\n")


def once(clip: Path) -> dict[str, float]:
    """Seconds of each part, of one process."""
    with tempfile.TemporaryDirectory(prefix="vfi-startup-") as folder:
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(clip), folder],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr)
    told = json.loads(done.stdout.splitlines()[-1])
    steps = [began, told["python"], told["torch"], told["vfi"], told["done"]]
    python, torch, vfi, conversion = (b - a for a, b in itertools.pairwise(steps))
    warm_up = told["first"] - told["second"]
    other = conversion - told["weights"] - told["first"]
    return dict(zip(PARTS, (python, torch, vfi, told["weights"], warm_up, other), strict=True))


if __name__ == "__main__":
    main()
