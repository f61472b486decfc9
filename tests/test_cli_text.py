"""Small things that people read or write: times, sizes, numbers, the progress line."""

from __future__ import annotations

import io
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from vfi_cli.cli import messages
from vfi_cli.cli.options import (
    parse_device,
    parse_size,
    parse_time,
    parse_views,
    scale_value,
    with_tta_value,
)
from vfi_cli.cli.progress import LOG_INTERVAL, Progress
from vfi_cli.errors import UsageError
from vfi_cli.timeline import format_rate, spoken
from vfi_cli.wording import NBSP, counted, file_size, grouped, said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", Fraction(0)),
        ("93.5", Fraction(187, 2)),
        (".25", Fraction(1, 4)),
        ("7.", Fraction(7)),
        ("1:33.5", Fraction(187, 2)),
        ("01:02:03.004", Fraction(3723004, 1000)),
        ("100:00", Fraction(6000)),
        ("0.1", Fraction(1, 10)),
    ],
)
def test_times_are_exact(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "1:60", "1:60:00", "1:2:3:4", "1e3", "1,5", "soon", "1:", "nan", "inf", "٣"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        parse_time(text)


@given(st.integers(0, 10**7))
def test_times_are_read_as_they_are_shown(milliseconds: int) -> None:
    seconds = Fraction(milliseconds, 1000)
    assert parse_time(messages.clock(seconds, decimals=3)) == seconds


def test_sizes() -> None:
    assert parse_size("1280x720") == parse_size("1280×720") == (1280, 720)
    for text in ("0x5", "5x0", "x5", "5", "-5x5", "99999x5", "5x5x5", "5.0x5"):
        with pytest.raises(UsageError, match="is not a size"):
            parse_size(text)


def test_devices_and_scales() -> None:
    assert [parse_device(text) for text in ("auto", "CPU", "cuda:12")] == ["auto", "cpu", "cuda:12"]
    for text in ("cuda:", "cuda:x", "mps", "gpu", ""):
        with pytest.raises(UsageError, match="is not a device"):
            parse_device(text)
    assert scale_value("auto") is None
    assert scale_value("0.25") == 0.25


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("a --tta b.mkv", "a --tta=flip b.mkv"),
        ("--tta tests", "--tta=flip tests"),  # there is such a folder
        ("--tta -", "--tta=flip -"),
        ("a --tta mirror", "a --tta mirror"),
        ("a --tta", "a --tta=flip"),
        ("--tta --quiet a", "--tta=flip --quiet a"),
        ("--tta reverse,rotate a", "--tta reverse,rotate a"),
        ("--tta=rotate a", "--tta=rotate a"),
        ("--tta flip,mirror a", "--tta flip,mirror a"),
        ("a -- --tta", "a -- --tta"),
        ("a", "a"),
    ],
)
def test_tta_stands_alone_or_before_names(given: str, read: str) -> None:
    assert with_tta_value(given.split()) == read.split()


def test_views() -> None:
    assert parse_views("flip") == ("flip",)
    assert parse_views("multiscale, rotate,rotate") == ("rotate", "multiscale")
    for text in ("", "flip,", "flip,mirror"):
        with pytest.raises(UsageError, match="is not a view; choose among flip, rotate"):
            parse_views(text)


def test_numbers_for_people() -> None:
    assert grouped(8058) == f"8{NBSP}058"
    assert [counted(n, "frame") for n in (0, 1, 2, 8058)] == [
        "0 frames",
        "1 frame",
        "2 frames",
        f"8{NBSP}058 frames",
    ]
    assert messages.clock(Fraction(1343, 10)) == "2:14.3"
    assert messages.clock(3723, decimals=0) == "1:02:03"
    assert messages.clock(Fraction(5999, 100)) == "1:00.0"
    assert messages.clock(-0.5) == "-0:00.5"
    sizes = (0, 999, 1500, 112_300_000, 999_600, 12.34e12, 1.5e15)
    assert [file_size(n) for n in sizes] == [
        f"0{NBSP}B",
        f"999{NBSP}B",
        f"1.5{NBSP}kB",
        f"112{NBSP}MB",
        f"1.0{NBSP}MB",
        f"12{NBSP}TB",
        f"1500{NBSP}TB",
    ]
    assert [spoken(s) for s in (0.44, 54.2, 99.6, 3723)] == [
        f"0.4{NBSP}s",
        f"54{NBSP}s",
        "1:40",
        "1:02:03",
    ]
    assert [format_rate(Fraction(*r)) for r in ((60, 1), (30000, 1001), (24000, 1001))] == [
        "60",
        "29.97",
        "23.976",
    ]


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(
    total: int | None, *, terminal: bool = False, width: int = 120, **options: object
) -> tuple:
    clock, screen = Clock(), io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=width, color_system=None)
    progress = Progress(total, Fraction(60), console, now=clock, **options)  # type: ignore[arg-type]
    return progress, clock, screen


def test_the_line_says_frames_speed_and_time_left() -> None:
    progress, clock, _ = make(8058)
    clock.now += 10
    progress.update(1480)
    assert progress.text() == (f" 18 %  1{NBSP}480/8{NBSP}058  148 fps  2.5× real time  0:44 left")


@pytest.mark.parametrize("width", [40, 120])
def test_a_narrow_terminal_still_shows_the_time_left(width: int) -> None:
    progress, clock, screen = make(225, terminal=True, width=width)
    clock.now += 2
    progress.update(71)
    assert progress.text().endswith("0:04 left")
    assert ("real time" in progress.text()) == (width == 120)
    progress.close()
    assert "225  36 fps" in screen.getvalue()
    assert "…" not in screen.getvalue()


def test_a_dumb_terminal_gets_lines_while_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    progress, clock, screen = make(100, terminal=True)
    clock.now += LOG_INTERVAL + 1
    progress.update(50)
    assert screen.getvalue().startswith("50 %  50/100  4.5 fps")
    assert screen.getvalue().endswith("left\n")
    progress.close()


def test_segments_of_an_earlier_run_come_one_by_one_and_do_not_count() -> None:
    progress, clock, _ = make(8000)
    for done in (1000, 2000, 3000):
        progress.skip(done)
    clock.now += 10
    progress.update(3010)
    assert progress.text().split("  ")[-3:] == ["1.0 fps", "0.017× real time", "1:23:10 left"]
    progress.close()
    assert "1.0 fps" in progress.text()


def test_time_left_is_steady_in_a_long_run() -> None:
    """New frames take ten seconds, and every fifth is a copy that takes none."""
    progress, clock, _ = make(1000)
    left = []
    for done in range(1, 300):
        clock.now += 0 if done % 5 == 0 else 10
        progress.update(done)
        left.append((done, float(progress._speed.value() or 0)))
    late = [speed for done, speed in left if done > 100]
    assert max(late) / min(late) < 1.1
    assert late[-1] == pytest.approx(1 / 8, rel=0.05)


def test_a_passing_line_is_not_for_logs() -> None:
    progress, clock, screen = make(10, label="looking", passing=True)
    for done in range(1, 11):
        clock.now += 60
        progress.update(done)
    assert progress.text().startswith("looking  100 %")
    progress.close()
    assert screen.getvalue() == ""


def test_frames_of_an_earlier_run_do_not_count_for_the_speed() -> None:
    progress, clock, _ = make(8000, start=4000)
    assert progress.text() == f" 50 %  4{NBSP}000/8{NBSP}000"
    clock.now += 10
    progress.update(4600)
    assert "60 fps  1.0× real time  0:57 left" in progress.text()


def test_speed_follows_what_happens_now() -> None:
    progress, clock, _ = make(100_000)
    for done in range(1, 101):
        clock.now += 1
        progress.update(done * 10)
    for done in range(1, 31):
        clock.now += 1
        progress.update(1000 + done * 100)
    assert " 100 fps" in progress.text()
    clock.now += 100
    progress.update(4001)
    assert "100 fps" not in progress.text()


def test_a_pipe_has_no_end_to_tell() -> None:
    progress, clock, _ = make(None)
    progress.update(1)
    assert progress.text().startswith("1 frame  ")
    clock.now += 2
    progress.update(300)
    assert progress.text() == "300 frames  150 fps  2.5× real time  0:02"


def test_a_log_gets_few_lines_and_a_last_one() -> None:
    progress, clock, screen = make(36_000)
    with progress:
        for done in range(1, 36_001):
            clock.now += 0.1  # an hour in all
            progress.update(done)
    lines = screen.getvalue().splitlines()
    assert 15 <= len(lines) <= 35
    assert lines[-1] == f"100 %  36{NBSP}000/36{NBSP}000  10 fps  0.2× real time  1:00:00"
    assert not any("\r" in line or "\x1b" in line for line in lines)


def test_a_log_never_gets_lines_faster_than_the_interval() -> None:
    progress, clock, screen = make(1000)
    with progress:
        for done in range(1, 1001):
            clock.now += 0.03
            progress.update(done)
    assert 1 <= len(screen.getvalue().splitlines()) <= 30 / LOG_INTERVAL + 1


def test_slow_work_still_shows_that_it_lives() -> None:
    progress, clock, screen = make(1_000_000)
    for done in range(1, 31):
        clock.now += 20
        progress.update(done)
    assert 8 <= len(screen.getvalue().splitlines()) <= 10
    assert "0.05 fps" in screen.getvalue()


def test_quiet_shows_nothing() -> None:
    for terminal in (False, True):
        progress, clock, screen = make(10, terminal=terminal, quiet=True)
        with progress:
            clock.now += 60
            progress.update(10)
        assert screen.getvalue() == ""


def test_a_terminal_keeps_to_one_line() -> None:
    progress, clock, screen = make(100, terminal=True)
    with progress:
        for done in range(1, 101):
            clock.now += 0.1
            progress.update(done)
    assert screen.getvalue().count("\n") == 1
    assert "100/100" in screen.getvalue()
    assert "━" in screen.getvalue()


def test_an_error_ends_the_line() -> None:
    progress, _, screen = make(100, terminal=True)
    progress.update(5)
    with pytest.raises(KeyError), progress:
        raise KeyError
    assert screen.getvalue().count("\n") == 1
    progress.update(6)  # a thread that has not noticed yet does no harm
    progress.close()


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.png"), "No such file or directory"),
        (OSError("300 requested and 12 written"), "300 requested and 12 written"),
        (RuntimeError("\nbroken archive\nand much more"), "broken archive"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_an_error_says_is_one_line(error: Exception, text: str) -> None:
    assert said(error) == text


def test_names_keep_what_joins_letters_and_nothing_that_moves_the_cursor() -> None:
    assert messages.one_line("می\u200cخواهم 👩\u200d🎨.mp4") == "می\u200cخواهم 👩\u200d🎨.mp4"
    assert messages.one_line("a\x1b[31m\u202eb.mp4") == "a\ufffd[31m\ufffdb.mp4"
