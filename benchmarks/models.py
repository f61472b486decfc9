"""What every model costs on this machine, as ``vfi bench models`` measures it, in Markdown.

python benchmarks/models.py [--size 1280x720] [--repeat 3] [--without NAME …] [--out FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vfi_cli.bench import measure_models, model_names
from vfi_cli.cli.bench import HEADER, cells, explanation
from vfi_cli.cli.options import parse_size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=parse_size, default=(1280, 720))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--limit", type=float, default=600, help="seconds for each model")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, help="also write the result here")
    given = parser.parse_args()
    report = measure_models(
        [name for name in model_names() if name not in given.without],
        size=given.size,
        device=given.device,
        dtype=given.dtype,
        repeat=given.repeat,
        limit=given.limit,
        on_row=lambda row: print(*cells(row), sep="  ", flush=True),
    )
    width, height = given.size
    lines = [f"# Models at {width}×{height}", ""]
    lines += [line for text in explanation(report) for line in (text, "")]
    if given.without:
        lines += [f"Left out, because they take long: {', '.join(given.without)}.", ""]
    lines += [f"| {' | '.join(HEADER)} |", "|---" + "|---:" * (len(HEADER) - 2) + "|---|"]
    for row in report.rows:
        shown = cells(row)
        lines.append("| " + " | ".join((*shown, *[""] * (len(HEADER) - len(shown)))) + " |")
    text = "\n".join(lines) + "\n"
    print(f"\n{text}", end="")
    if given.out is not None:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
