"""``python -m vfi_cli`` and the ``vfi`` program."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. ``argv`` is without the program's name; returns the exit code."""
    from vfi_cli.cli import app, messages

    return messages.run(app.command(), list(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
