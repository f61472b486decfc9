"""One line of progress: percent, frames, speed, speed against real time, time left.

On a terminal it is a bar that stays on its line; in a pipe or a log, or where a terminal has no
such line, it is a plain one now and then; with ``--quiet`` it is nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

from vfi_cli import interrupts
from vfi_cli.cli.messages import clock, rate
from vfi_cli.interrupts import uninterrupted
from vfi_cli.wording import counted, grouped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

#: Of a narrow terminal's line the comparison with real time goes first, where less than this many
#: columns are left to the bar.
LEAST_BAR = 8
#: Speed is averaged over this many seconds, so that it follows what happens now, …
WINDOW = 15.0
#: … or over this share of the time so far where that is longer, so that it does not jump about.
WINDOW_SHARE = 0.2
#: A log gets a line at most this often (seconds), and then only when …
LOG_INTERVAL = 10.0
#: … this share of the work was done since the last line, …
LOG_SHARE = 0.05
#: … or this long has passed (seconds), or this share of the time so far.
LOG_INTERVAL_SLOW = 60.0
LOG_SHARE_OF_TIME = 0.1


class Speed:
    """Frames a second over the last seconds, from a count that only grows."""

    def __init__(self, done: int, now: float) -> None:
        self._began = now
        self._samples: deque[tuple[float, int]] = deque([(now, done)])

    def add(self, done: int, now: float) -> None:
        self._samples.append((now, done))
        # One sample beyond the window stays, so that slow work is measured between two samples.
        window = max(WINDOW, WINDOW_SHARE * (now - self._began))
        while len(self._samples) > 2 and now - self._samples[1][0] >= window:
            self._samples.popleft()
        if len(self._samples) > 512:  # fast work: thin the middle, its ends are what counts
            self._samples = deque([*list(self._samples)[:-1:2], self._samples[-1]])

    def value(self) -> float | None:
        """Frames a second, or None as long as nothing was measured."""
        (first, start), (last, end) = self._samples[0], self._samples[-1]
        return (end - start) / (last - first) if last > first and end > start else None


class Progress:
    """Progress of ``total`` output frames (None: not known, as for a pipe) at ``fps``.

    ``start`` frames were there before, from an earlier run: they count as done
    but not for the speed. ``unit`` names one of what is counted, ``label`` what is done; a
    ``passing`` line is gone when it is done, and a log never sees it. Use it as a context
    manager, call :meth:`update` with the number of frames done so far from any
    thread; it raises KeyboardInterrupt where a Ctrl-C got lost. ``fps`` None leaves out the
    comparison with real time.
    """

    def __init__(
        self,
        total: int | None,
        fps: Fraction | None,
        console: Console,
        quiet: bool = False,
        *,
        start: int = 0,
        unit: str = "frame",
        label: str = "",
        passing: bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._fps = fps
        self._console = console
        self._now = now
        self._unit = unit
        self._label = label
        self._passing = passing
        self._done = start
        self._begin = now()
        self._begin_done = start
        self._speed = Speed(start, self._begin)
        self._closed = False
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        # A terminal that cannot go back on its line, such as Emacs's shell, is like a log.
        moving = console.is_terminal and not console.is_dumb_terminal
        self._log = not quiet and not moving and not passing
        self._logged_at = self._begin
        self._logged = start
        if not quiet and moving:
            self._bar, self._task = self._start_bar()

    def update(self, done: int) -> None:
        """``done`` frames are finished, counted from the beginning of the output."""
        interrupts.check()
        if self._closed:
            return
        now = self._now()
        self._done = done
        self._speed.add(done, now)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, text=self.text())
        elif self._log and self._due(now):
            self._log_line(now)

    def skip(self, done: int) -> None:
        """``done`` frames are there, the latest of them from an earlier run."""
        if self._closed:
            return
        self._begin_done += done - self._done
        self._logged = self._done = done
        self._speed = Speed(done, self._now())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, text=self.text())

    @uninterrupted
    def close(self) -> None:
        """End the line. A log gets a last line with the speed over the whole run."""
        if self._closed:
            return
        self._closed = True
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, text=self.text())
            self._bar.stop()
        elif self._log and self._done > self._logged:
            self._log_line(self._now())

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def text(self) -> str:
        """The numbers of the line: ``62 %  5 012/8 058  148 fps  2.5× real time  0:21 left``."""
        text = self._text(self._fps)
        if self._bar is not None and len(text) + LEAST_BAR > self._console.width:
            return self._text(None)
        return text

    def _text(self, fps: Fraction | None) -> str:
        parts = [self._label] if self._label else []
        if self._total:
            parts.append(f"{100 * self._done // self._total:3d} %")
            parts.append(f"{grouped(self._done)}/{grouped(self._total)}")
        elif self._done or not self._label:
            parts.append(counted(self._done, self._unit))
        speed = self._average() if self._closed else self._speed.value()
        if speed is not None:
            unit = " fps" if self._unit == "frame" else f" {self._unit}s/s"
            parts.append(f"{rate(speed)}{unit}")
            if fps:
                parts.append(f"{rate(speed / float(fps))}× real time")
        if self._closed or not self._total:
            parts.append(clock(self._now() - self._begin, decimals=0))
        elif speed is not None:
            parts.append(f"{clock((self._total - self._done) / speed, decimals=0)} left")
        return "  ".join(parts)

    def _average(self) -> float | None:
        seconds = self._now() - self._begin
        done = self._done - self._begin_done
        return done / seconds if seconds > 0 and done > 0 else None

    def _due(self, now: float) -> bool:
        waited = now - self._logged_at
        if waited < LOG_INTERVAL:
            return False
        share = (self._done - self._logged) / self._total if self._total else 0.0
        slow = max(LOG_INTERVAL_SLOW, LOG_SHARE_OF_TIME * (now - self._begin))
        return share >= LOG_SHARE or waited >= slow

    def _log_line(self, now: float) -> None:
        self._logged_at, self._logged = now, self._done
        self._console.print(self.text().strip())

    @uninterrupted
    def _start_bar(self) -> tuple[Bar, TaskID]:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns: list[BarColumn | TextColumn] = [TextColumn("{task.fields[text]}", markup=False)]
        if self._total:
            columns.insert(0, BarColumn(bar_width=30))
        bar = Bar(*columns, console=self._console, refresh_per_second=5, transient=self._passing)
        task = bar.add_task("", total=self._total, completed=self._done, text=self.text())
        bar.start()
        return bar, task
