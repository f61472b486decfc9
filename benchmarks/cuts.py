"""Precision and recall of scene cuts on open footage, joined end to end at known places.

    python benchmarks/cuts.py DATA [-o benchmarks/results/cuts.md]

DATA holds ``train/SOURCE/*`` and ``val/*``. Every clip begins with a cut from the one
before. Cuts inside the clips (edited films among them) were annotated by eye on contact
sheets: a pair of frames is a cut when the two show different shots. Two moments in which
a phone changes its lens count as neither. The clips are read as they are, and with only
every 2nd, 4th and 6th frame, where motion is two to six times as large.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from vfi_cli.cuts import CONTEXT, DEFAULT_THRESHOLD, Signature, cut_score, signature
from vfi_cli.io.decode import FrameReader, probe

#: Clip name → numbers of the last frames before a cut.
CUTS = {
    "tears-of-steel-battle-clip-medium.webm": (
        *(51, 121, 157, 220, 308, 714, 787, 871, 900, 986, 1126, 1156, 1202, 1233, 1245),
        *(1283, 1344, 1377, 1429, 1471, 1524, 1570, 1617, 1649, 1688),
    ),
    "tears_of_steel_vp9_562.webm": (43, 294),
    "small_bunny_1080p_60fps.mp4": (20,),
    "bbb720_036.mp4": (74,),
    "bbb720_037.mp4": (35,),
    "bbb720_053.mp4": (58,),
    "bbb720_056.mp4": (99,),
    "bbb720_061.mp4": (57,),
    "bbb720_062.mp4": (59,),
    "bbb720_078.mp4": (5,),
    "bbb720_079.mp4": (68,),
    "bbb720_084.mp4": (44,),
    "bbb720_085.mp4": (54, 73),
    "bbb720_086.mp4": (47, 77),
}
#: The same for what counts neither as a cut nor as none.
EITHER = {"sample_with_increasing_timestamps_360p.mp4": (17, 275)}
STRIDES = (1, 2, 4, 6)
THRESHOLDS = (0.4, 0.45, DEFAULT_THRESHOLD, 0.55, 0.6)
LOWEST = 0.35  # scores below are not worked out

Place = tuple[str, int]  # clip, frame number


def is_true(a: Place, b: Place) -> bool | None:
    """Whether a cut lies between two frames; None where it counts as neither."""
    if a[0] != b[0]:
        return True
    if any(a[1] <= last < b[1] for last in EITHER.get(a[0], ())):
        return None
    return any(a[1] <= last < b[1] for last in CUTS.get(a[0], ()))


@dataclass
class Scores:
    """Cut scores of consecutive frames while they stream, with what is true of each pair."""

    found: list[tuple[float, bool | None, Place, Place]] = field(default_factory=list)
    _around: deque[tuple[Place, Signature] | None] = field(
        default_factory=lambda: deque([None] * (2 * CONTEXT + 2), 2 * CONTEXT + 2)
    )

    def feed(self, item: tuple[Place, Signature] | None) -> None:
        self._around.append(item)
        first, second = self._around[CONTEXT], self._around[CONTEXT + 1]
        if first is not None and second is not None:
            signatures = [None if x is None else x[1] for x in self._around]
            truth = is_true(first[0], second[0])
            self.found.append((cut_score(signatures, enough=LOWEST), truth, first[0], second[0]))

    def row(self, threshold: float) -> tuple[int, int, int, float, float]:
        """Cuts, found, false alarms, recall, precision."""
        true = sum(t is True for _, t, _, _ in self.found)
        hits = sum(t is True and s > threshold for s, t, _, _ in self.found)
        false = sum(t is False and s > threshold for s, t, _, _ in self.found)
        return true, hits, false, hits / max(true, 1), hits / max(hits + false, 1)


def measure(clips: list[Path]) -> tuple[dict[int, Scores], int, float, float]:
    """Scores a stride, frames read, and seconds spent on signatures and on scores (stride 1)."""
    scores = {stride: Scores() for stride in STRIDES}
    frames, signing, scoring = 0, 0.0, 0.0
    for clip in clips:
        with FrameReader(probe(clip)) as reader:
            for number, frame in enumerate(reader):
                began = time.thread_time()
                item = ((clip.name, number), signature(frame))
                signed = time.thread_time()
                scores[1].feed(item)
                signing += signed - began
                scoring += time.thread_time() - signed
                frames += 1
                for stride in STRIDES[1:]:
                    if number % stride == 0:
                        scores[stride].feed(item)
    for each in scores.values():
        for _ in range(CONTEXT):
            each.feed(None)
    return scores, frames, signing, scoring


def report(name: str, clips: list[Path]) -> list[str]:
    scores, frames, signing, scoring = measure(clips)
    lines = [
        f"## {name}: {len(clips)} clips, {frames} frames",
        "",
        f"Signature {1000 * signing / frames:.2f} ms, decision {1000 * scoring / frames:.2f} ms "
        "of processor time a frame (sizes from 640 × 360 to 3840 × 2160, one thread).",
        "",
        "| every | threshold | cuts | found | false | recall | precision |",
        "|---|---|---|---|---|---|---|",
    ]
    for stride, each in scores.items():
        for threshold in THRESHOLDS:
            true, hits, false, recall, precision = each.row(threshold)
            lines.append(
                f"| {stride} | {threshold} | {true} | {hits} | {false} "
                f"| {recall:.3f} | {precision:.3f} |"
            )
    lines += ["", f"Wrong at {DEFAULT_THRESHOLD} with every frame:", ""]
    wrong = [
        f"- {'missed' if t else 'false'}, score {'below ' * (s <= LOWEST)}{max(s, LOWEST):.2f}: "
        f"{a[0]} {a[1]} → {b[0]} {b[1]}"
        for s, t, a, b in scores[1].found
        if t is not None and (s > DEFAULT_THRESHOLD) != t
    ]
    return [*lines, *(wrong or ["- nothing"]), ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    lines = ["# Scene cuts", "", *(__doc__ or "").strip().splitlines()[4:], ""]
    lines += report("val", sorted((arguments.data / "val").glob("*.*")))
    lines += report("train", sorted((arguments.data / "train").glob("*/*.*")))
    text = "\n".join(lines)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
