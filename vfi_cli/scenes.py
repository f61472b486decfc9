"""The stream of source frames with what is known of their scenes: cuts, repeats, even times."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from vfi_cli import cuts as _cuts
from vfi_cli import duplicates as _duplicates
from vfi_cli.cuts import DEFAULT_THRESHOLD, Signature
from vfi_cli.duplicates import CADENCE_REACH, MAX_RUN, REPEAT_REACH, Difference, Shown

#: Frames on either side that a decision of :class:`SceneStream` may depend on.
CUTS_CONTEXT = _cuts.CONTEXT + 1
DEDUPE_CONTEXT = CUTS_CONTEXT + REPEAT_REACH + MAX_RUN + 1 + CADENCE_REACH + 1

Payload = TypeVar("Payload")
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Decided(Generic[Payload]):
    """A source frame that stays in the picture, and what is known of it."""

    payload: Payload
    time: Fraction  # when it should stand; its own time but for an evened cadence
    cut_after: bool  # the next frame belongs to another scene
    gap_after: bool  # the next frame comes so late that nothing is made between the two
    context: bool  # fed only so that others could be decided; its own decision may be wrong
    source_time: Fraction  # its own time


@dataclass(slots=True)
class _Item(Generic[Payload]):
    payload: Payload | None
    signature: Signature | None
    time: Fraction
    context: bool
    cut_after: bool = False
    gap_after: bool = False
    difference: Difference | None = None  # to the frame before, None after a cut or gap
    repeat: bool = False
    kept: bool = True
    retimed: Fraction = Fraction(0)

    @property
    def parted_after(self) -> bool:
        """Whether nothing goes on from this frame to the next."""
        return self.cut_after or self.gap_after


class _Local(Generic[In, Out]):
    """Maps a stream by a function of each item's neighbourhood, None beyond the ends."""

    def __init__(self, function: Callable[[list[In | None]], Out], before: int, after: int):
        self._function = function
        self._before, self._after = before, after
        self._window: deque[In | None] = deque([None] * (before + after + 1))
        self._pending = 0

    def _push(self, item: In | None) -> Iterator[Out]:
        self._window.popleft()
        self._window.append(item)
        window = list(self._window)
        if window[self._before] is not None:
            yield self._function(window)

    def feed(self, item: In) -> Iterator[Out]:
        yield from self._push(item)

    def flush(self) -> Iterator[Out]:
        for _ in range(self._after):
            yield from self._push(None)


class SceneStream(Generic[Payload]):
    """Finds cuts and repeated frames while frames pass, with bounded delay and memory.

    Feed every frame in display order; frames come back in order as soon as enough
    of what follows them is known. A stream that starts ``context`` frames or more
    before a frame decides about it as one that starts anywhere earlier.
    """

    def __init__(
        self,
        *,
        cuts: bool = True,
        threshold: float = DEFAULT_THRESHOLD,
        dedupe: bool = False,
        gap: Fraction | None = None,
    ) -> None:
        """``gap``: seconds without a frame that part what lies before and after; None: none do."""
        self.cuts = 0  # found, frames of context not counted
        self.repeats = 0  # left out, frames of context not counted
        self._find_cuts, self._threshold, self._dedupe = cuts, threshold, dedupe
        self._gap = gap
        #: frames to feed before the first and after the last that decisions are needed for
        self.context = DEDUPE_CONTEXT if dedupe else CUTS_CONTEXT if cuts else 1
        self._last_time: Fraction | None = None
        reach = _cuts.CONTEXT
        stages: list[_Local[_Item[Payload], _Item[Payload]]] = [_Local(self._cut, reach, reach + 1)]
        if dedupe:
            stages += [
                _Local(self._difference, 1, 0),
                _Local(self._repeat, REPEAT_REACH, REPEAT_REACH),
                _Local(self._keep, MAX_RUN + 1, MAX_RUN + 1),
                _Local(self._retime, CADENCE_REACH, CADENCE_REACH),
            ]
        self._stages = stages

    @property
    def needs_signatures(self) -> bool:
        """Whether frames must come with signatures; without, None will do."""
        return self._find_cuts or self._dedupe

    def feed(
        self,
        payload: Payload,
        signature: Signature | None,
        time: Fraction,
        *,
        context: bool = False,
    ) -> Iterator[Decided[Payload]]:
        """The frames that are decided now that this one is known."""
        if self._last_time is not None and time <= self._last_time:
            raise ValueError(f"frames must be fed in display order: {time} after {self._last_time}")
        if signature is None and self.needs_signatures:
            raise ValueError("cuts and repeats are found on signatures")
        self._last_time = time
        item = _Item(payload, signature, time, context, retimed=time)
        return iter([d for i in self._run(item, 0) if (d := self._decided(i)) is not None])

    def flush(self) -> Iterator[Decided[Payload]]:
        """The frames that were still waiting; the clip ends with the last one fed."""
        done: list[Decided[Payload]] = []
        for number, stage in enumerate(self._stages):
            for item in stage.flush():
                done += [
                    d for i in self._run(item, number + 1) if (d := self._decided(i)) is not None
                ]
        return iter(done)

    def _run(self, item: _Item[Payload], number: int) -> Iterator[_Item[Payload]]:
        if number == len(self._stages):
            yield item
            return
        for out in self._stages[number].feed(item):
            yield from self._run(out, number + 1)

    def _decided(self, item: _Item[Payload]) -> Decided[Payload] | None:
        if not item.context:
            self.cuts += item.cut_after
            self.repeats += not item.kept
        payload, item.payload = item.payload, None  # windows keep the item a little longer
        if not item.kept:
            return None
        return Decided(
            payload,  # type: ignore[arg-type]
            item.retimed,
            item.cut_after,
            item.gap_after,
            item.context,
            item.time,
        )

    def _cut(self, window: list[_Item[Payload] | None]) -> _Item[Payload]:
        item = window[_cuts.CONTEXT]
        assert item is not None
        following = window[_cuts.CONTEXT + 1]
        if following is None:
            return item
        item.gap_after = self._gap is not None and following.time - item.time >= self._gap
        if self._find_cuts:
            signatures = [None if w is None else w.signature for w in window]
            item.cut_after = _cuts.is_cut(signatures, self._threshold)
        return item

    @staticmethod
    def _difference(window: list[_Item[Payload] | None]) -> _Item[Payload]:
        before, item = window
        assert item is not None
        if before is not None and not before.parted_after:
            assert before.signature is not None
            assert item.signature is not None
            item.difference = _duplicates.difference(before.signature, item.signature)
        return item

    @staticmethod
    def _repeat(window: list[_Item[Payload] | None]) -> _Item[Payload]:
        item = window[REPEAT_REACH]
        assert item is not None
        item.repeat = _duplicates.is_repeat([None if w is None else w.difference for w in window])
        return item

    @staticmethod
    def _keep(window: list[_Item[Payload] | None]) -> _Item[Payload]:
        item = window[MAX_RUN + 1]
        assert item is not None
        item.kept = _duplicates.is_kept(
            [None if w is None else w.repeat for w in window], item.parted_after
        )
        return item

    @staticmethod
    def _retime(window: list[_Item[Payload] | None]) -> _Item[Payload]:
        item = window[CADENCE_REACH]
        assert item is not None
        if item.kept:
            item.retimed = _duplicates.retimed(
                [None if w is None else Shown(w.time, w.kept, w.parted_after) for w in window]
            )
        return item
