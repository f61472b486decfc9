"""SMPTE timecode of the first picture, counted at another frame rate (SMPTE ST 12-1)."""

from __future__ import annotations

import re
from fractions import Fraction

_LABEL = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")


def convert_timecode(
    label: str, source_fps: Fraction, fps: Fraction, shift: Fraction = Fraction(0)
) -> str | None:
    """The label at ``fps`` for what ``label`` says at ``source_fps``, ``shift`` seconds later.

    Hours, minutes and seconds are kept and the frame number is scaled, as an editor expects who
    conforms 24 to 60 frames a second. Labels that skip numbers (drop frame, ``;``) stay so where
    the new rate is 30000/1001 or a multiple. None where the label is not a timecode.
    """
    match = _LABEL.fullmatch(label.strip())
    if match is None or source_fps <= 0 or fps <= 0:
        return None
    hours, minutes, seconds, mark, number = match.groups()
    old, new = round(source_fps), round(fps)
    if old < 1 or new < 1 or int(number) >= old:
        return None
    drop = mark != ":" and fps.denominator == 1001 and new % 30 == 0
    frame = round(Fraction(int(number) * new, old))
    count = _count(int(hours), int(minutes), int(seconds), min(frame, new - 1), rate=new, drop=drop)
    return _label(count + round(shift * fps), new, drop)


def _count(hours: int, minutes: int, seconds: int, frame: int, *, rate: int, drop: bool) -> int:
    """Frames since 00:00:00:00."""
    minutes += 60 * hours
    total = (60 * minutes + seconds) * rate + frame
    if drop:
        skipped = rate // 15  # two numbers of 30, in every minute but each tenth
        if minutes % 10 and seconds == 0 and frame < skipped:
            total += skipped - frame  # a number that does not exist
        total -= skipped * (minutes - minutes // 10)
    return total


def _label(count: int, rate: int, drop: bool) -> str:
    if drop:
        skipped = rate // 15
        tens, rest = divmod(count, 600 * rate - 9 * skipped)
        count += 9 * skipped * tens
        if rest >= skipped:
            count += skipped * ((rest - skipped) // (60 * rate - skipped))
    seconds, frame = divmod(count, rate)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    mark = ";" if drop else ":"
    return f"{hours % 24:02d}:{minutes:02d}:{seconds:02d}{mark}{frame:02d}"
