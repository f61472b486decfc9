"""Renders the missing segments of a plan in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict

from vfi_cli.errors import VfiError
from vfi_cli.fit import Fit
from vfi_cli.models import Interpolator
from vfi_cli.plan import Plan, Segment
from vfi_cli.render import Ending, SegmentResult, render_segment, synthesizer_for
from vfi_cli.synthesis import Synthesizer
from vfi_cli.work import WorkFolder

#: Under which name the work folder remembers how frames were made to fit into memory.
FIT = "fit"


def render_missing(
    plan: Plan,
    work: WorkFolder,
    interpolator: Callable[[], Interpolator],
    on_frames: Callable[[int], None] = lambda done: None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> list[SegmentResult]:
    """Render what the work folder lacks, and return the results of all segments in order.

    ``interpolator`` is asked for only if there is something to render. ``on_frames``
    is told how many frames of the output are done, ``on_warning`` what a person should
    hear of. The list ends with the segment in which the input stops being decodable,
    if there is one.
    """
    results: list[SegmentResult] = []
    renderer: _Renderer | None = None
    last = _LastSegment(work)
    done = 0

    def count_one() -> None:
        nonlocal done
        done += 1
        on_frames(done)
        last.finish(wait=False)

    with last:
        for segment in plan.segments:
            record = work.result(segment.number)
            if record is not None:
                result = SegmentResult.from_json(record)
                done += result.counts.frames
                on_frames(done)
            else:
                renderer = renderer or _Renderer(plan, work, interpolator(), on_warning)
                result, ending = renderer.render(segment, count_one)
                last.take(segment.number, result, ending)
                if renderer.shares_processor:
                    last.finish()
            results.append(result)
            if result.broken is not None:
                break
    return results


#: A segment's number, what came of it, and its file.
_UnderWay = tuple[int, SegmentResult, Ending]


class _LastSegment:
    """The segment rendered last, while its encoder ends and perhaps the next one's frames are
    made."""

    def __init__(self, work: WorkFolder) -> None:
        self._work = work
        self._under_way: _UnderWay | None = None

    def take(self, number: int, result: SegmentResult, ending: Ending) -> None:
        """Take care of the next segment, once the one before is finished."""
        before, self._under_way = self._under_way, (number, result, ending)
        self._finish(before)

    def finish(self, *, wait: bool = True) -> None:
        """Declare the segment complete, if its file is or after a wait. Raises OutputError."""
        if self._under_way is not None and (wait or self._under_way[2].is_over):
            segment, self._under_way = self._under_way, None
            self._finish(segment)

    def _finish(self, segment: _UnderWay | None) -> None:
        if segment is not None:
            number, result, ending = segment
            ending.wait()
            self._work.finish(number, result.to_json())

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:  # the work that was done is kept, if it can be
            with suppress(VfiError):
                self.finish()


class _BegunOtherwise(Exception):  # noqa: N818 (a reason to begin again, and no error)
    """The segment under way holds frames that were made before the fit changed."""


class _Renderer:
    """Renders segments, each of them with one fit from beginning to end.

    Tiles show in the last bits of a picture. So the fit is chosen once for a run and kept in the
    work folder, where a run that goes on finds it; and where it has to change in the middle of a
    segment, the segment begins again.
    """

    def __init__(
        self,
        plan: Plan,
        work: WorkFolder,
        interpolator: Interpolator,
        on_warning: Callable[[str], None],
    ) -> None:
        self._plan, self._work, self._on_warning = plan, work, on_warning
        self._synthesizer = synthesizer_for(plan.settings, interpolator)
        self._synthesizer.on_refit = self._refitted
        self._synthesizer.on_warning = on_warning
        #: Whether the model works where the encoder does: ending a segment beside the next one
        #: then gains nothing, and takes the memory of two encoders.
        self.shares_processor = interpolator.device.type == "cpu"
        self._made_before = 0
        keep_fit(self._synthesizer, work, plan.info.width, plan.info.height)

    def render(
        self, segment: Segment, on_frame: Callable[[], None]
    ) -> tuple[SegmentResult, Ending]:
        """Render a segment into the work folder; ``on_frame`` hears of each frame once."""
        told = 0
        while True:
            written = 0

            def count() -> None:
                nonlocal told, written
                written += 1
                if written > told:
                    told = written
                    on_frame()

            self._made_before = self._synthesizer.made
            part = self._work.segment_part(segment.number)
            try:
                return render_segment(self._plan, segment, self._synthesizer, part, on_frame=count)
            except _BegunOtherwise:
                continue

    def _refitted(self, warning: str) -> None:
        self._on_warning(warning)
        if self._synthesizer.made > self._made_before:
            raise _BegunOtherwise


def keep_fit(synthesizer: Synthesizer, work: WorkFolder, width: int, height: int) -> None:
    """Make frames fit as the run did that left the work folder, and remember how it is done."""
    known = work.recall(FIT)
    if known is not None:
        synthesizer.fit = Fit(**known)
    synthesizer.on_fit = lambda fit: work.remember(FIT, asdict(fit))
    synthesizer.choose_fit(width, height)
