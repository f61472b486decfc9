"""What every model costs on this machine, as ``vfi bench models`` measures it, in Markdown.

python benchmarks/models.py [--size 1280x720] [--repeat 3] [--only | --without NAME …] [--out FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vfi_cli.bench import ModelRow, measure_models, model_names
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
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, help="also write the result here")
    given = parser.parse_args()
    table = [f"| {' | '.join(HEADER)} |", "|---" + "|---:" * (len(HEADER) - 2) + "|---|"]

    def show(row: ModelRow) -> None:
        shown = cells(row)
        table.append("| " + " | ".join((*shown, *[""] * (len(HEADER) - len(shown)))) + " |")
        print(table[-1], flush=True)

    print(*table, sep="\n", flush=True)
    report = measure_models(
        given.only or [name for name in model_names() if name not in given.without],
        size=given.size,
        device=given.device,
        dtype=given.dtype,
        repeat=given.repeat,
        limit=given.limit,
        on_row=show,
    )
    notes = explanation(report)
    if given.without:
        notes.append(f"Left out, because they take long: {', '.join(given.without)}.")
    print("\n" + "\n".join(notes))
    if given.out is not None:
        width, height = given.size
        text = "\n\n".join([f"# Models at {width}×{height}", *notes, "\n".join(table)])
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
