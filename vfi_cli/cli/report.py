"""``--report``: writes the page of each conversion, and says where it is."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vfi_cli.api import ConvertResult, Listener
from vfi_cli.cli.messages import one_line
from vfi_cli.cli.progress import Progress
from vfi_cli.errors import OutputError, UsageError, VfiError
from vfi_cli.report import check_report
from vfi_cli.report.conversion import RunTimes, write_report
from vfi_cli.timeline import spoken

if TYPE_CHECKING:
    from rich.console import Console

    from vfi_cli.models import Interpolator
    from vfi_cli.plan import Plan


class Reports:
    """The reports of one command: a page, or for several inputs a folder of pages."""

    def __init__(self, target: Path, console: Console, *, overwrite: bool, quiet: bool) -> None:
        self._target = target
        self._console = console
        self._overwrite = overwrite
        self._quiet = quiet
        self._times = RunTimes()

    @classmethod
    def begin(
        cls,
        target: Path,
        sources: Sequence[Path],
        console: Console,
        *,
        overwrite: bool,
        quiet: bool,
    ) -> Reports:
        """Check that there is a place for each report, before any work.

        For several inputs ``target`` is a folder, made where its parent exists. Raises UsageError,
        OutputError; whether a page can be written is found out when its conversion is planned.
        """
        if len(sources) > 1 and not os.path.isdir(target):
            if os.path.lexists(target) or target.suffix.lower() in (".html", ".htm"):
                raise UsageError(
                    f"{target} is one page; several inputs need a folder after --report"
                )
            try:
                target.mkdir()
            except OSError as error:
                raise OutputError(f"cannot make the folder {target}: {error.strerror}") from error
        return cls(target, console, overwrite=overwrite, quiet=quiet)

    def listener(self, screen: Listener) -> Listener:
        """What the next conversion tells its progress to; it is passed on to the screen.

        It refuses a conversion whose page could not be written.
        """
        self._times = _Checked(self, screen)
        return self._times

    def check(self, output: Path) -> None:
        """Raise OutputError where the page of this output could not be written."""
        check_report(self._page(output), overwrite=self._overwrite)

    def write(self, result: ConvertResult, interpolator: Callable[[], Interpolator]) -> Path:
        """Write the report of a conversion that is done, and return where.

        A VfiError of it says that the video is there all the same.
        """
        path = self._page(result.output)
        began = time.monotonic()
        total = result.plan.frames
        try:
            with Progress(
                *(total, None, self._console, self._quiet),
                unit="picture",
                label="writing the report",
                passing=True,
            ) as progress:
                write_report(
                    path,
                    result,
                    interpolator(),
                    self._times,
                    command=command_line(),
                    overwrite=self._overwrite,
                    on_frame=lambda done, of: progress.update(done * total // of),
                )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{result.output} is complete, but its report was not written."
            ) from None
        except VfiError as error:
            error.args = (f"{result.output} stands, but its report was not written: {error}",)
            raise
        self._console.print(f"✓ {one_line(path.name)}  {spoken(time.monotonic() - began)}")
        return path

    def _page(self, output: Path) -> Path:
        """Where the page of an output goes."""
        return self._target / f"{output.name}.html" if os.path.isdir(self._target) else self._target


class _Checked(RunTimes):
    """Looks for the report's place before the work."""

    def __init__(self, reports: Reports, listener: Listener) -> None:
        super().__init__(listener)
        self._reports = reports

    def planned(self, plan: Plan, output: Path) -> None:
        self._reports.check(output)
        super().planned(plan, output)


def command_line() -> str:
    """What was typed, as it can be typed again."""
    return shlex.join(["vfi", *sys.argv[1:]])
