"""Renders the missing segments of a plan in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable

from vfi_cli.models import Interpolator
from vfi_cli.plan import Plan
from vfi_cli.render import SegmentResult, render_segment, synthesizer_for
from vfi_cli.synthesis import Synthesizer
from vfi_cli.work import WorkFolder


def render_missing(
    plan: Plan,
    work: WorkFolder,
    interpolator: Callable[[], Interpolator],
    on_frames: Callable[[int], None] = lambda done: None,
) -> list[SegmentResult]:
    """Render what the work folder lacks, and return the results of all segments in order.

    ``interpolator`` is asked for only if there is something to render. ``on_frames``
    is told how many frames of the output are done. The list ends with the segment
    in which the input stops being decodable, if there is one.
    """
    results: list[SegmentResult] = []
    synthesizer: Synthesizer | None = None
    done = 0

    def count_one() -> None:
        nonlocal done
        done += 1
        on_frames(done)

    for segment in plan.segments:
        record = work.result(segment.number)
        if record is not None:
            result = SegmentResult.from_json(record)
            done += result.counts.frames
            on_frames(done)
        else:
            if synthesizer is None:
                synthesizer = synthesizer_for(plan.settings, interpolator())
            part = work.segment_part(segment.number)
            result = render_segment(plan, segment, synthesizer, part, on_frame=count_one)
            work.finish(segment.number, result.to_json())
        results.append(result)
        if result.broken is not None:
            break
    return results
