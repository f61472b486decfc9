"""A network's passes on a CUDA device, recorded as CUDA graphs and launched as a whole.

A light network is some hundreds of short kernels, and on a fast device launching them one by one
takes longer than running them. A graph launches all at once, always with the same addresses: so
what differs from pass to pass is copied into tensors that stay in place, and results are copied
out before the next pass writes over them. That goes for frames and times, and for what is
remembered of frames (:class:`~vfi_cli.models.base.Memo`): what the window's frames already have in
memory goes in, what was computed for the first time comes out. What is in memory is therefore part
of what tells passes apart, with shapes and options.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vfi_cli.models.base import Memo, Network, Question, is_out_of_memory
from vfi_cli.native.ops import native_wanted

T = TypeVar("T")

#: Graphs that are kept, the longest unused goes first. A steady stream takes one to three.
MOST = 8
#: Kinds of passes that were met once and may come again; beyond, they are forgotten.
_MET = 256

#: A pass: frames, timestep and memory to a picture.
Run = Callable[[Tensor, Tensor, Memo], Tensor]


class Recorder(Protocol):
    """Records work, and does it again."""

    def warm_up(self, work: Callable[[], object]) -> None:
        """Do the work where it will be recorded."""

    def record(self, work: Callable[[], T]) -> tuple[Callable[[], None], T]:
        """What does the work again, and where its results will lie."""


class CudaRecorder:
    """Records CUDA graphs on a stream of its own.

    All share one pool of memory. Torch allows that where graphs run one after the other and nothing
    in the pool is expected to survive the next: :class:`_Graph` copies out at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Callable[[], object]) -> None:
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            work()
        current.wait_stream(self._stream)

    def record(self, work: Callable[[], T]) -> tuple[Callable[[], None], T]:
        graph = torch.cuda.CUDAGraph()
        # The outer context leads back to the current stream even where ending a recording fails.
        # "thread_local": what the threads of decoder and encoder do meanwhile is no mistake.
        with (
            torch.cuda.stream(self._stream),
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            made = work()
        return graph.replay, made


class CannotRecordError(Exception):
    """A pass depends on values in a way that a graph cannot hold."""


class Graphed:
    """A network to be called as before, whose passes are recorded when they come again.

    Where recording fails, or the memory is too small for it, passes run as they did before.
    """

    def __init__(self, network: Network, recorder: Recorder, device: torch.device) -> None:
        self._network = network
        self._recorder: Recorder | None = recorder
        self._device = device
        self._graphs: OrderedDict[Hashable, _Graph] = OrderedDict()
        self._met: set[Hashable] = set()
        self._plain: set[Hashable] = set()  # cannot be recorded
        #: What a person should hear of.
        self.warnings: list[str] = []

    def __call__(
        self, frames: Tensor, timestep: Tensor, *, scale: float, ensemble: bool, memo: Memo
    ) -> Tensor:
        """As :meth:`~vfi_cli.models.base.Network.forward`."""

        def run(frames: Tensor, timestep: Tensor, memo: Memo) -> Tensor:
            return self._network(frames, timestep, scale=scale, ensemble=ensemble, memo=memo)

        kind = (
            (tuple(frames.shape), tuple(timestep.shape), scale, ensemble),
            (memo.names, frozenset(memo.held())),
            native_wanted(self._device),
        )
        graph = self._graph(kind, run, frames, timestep, memo)
        if graph is not None:
            return graph(frames, timestep, memo)
        if not self._graphs:
            return run(frames, timestep, memo)
        try:
            return run(frames, timestep, memo)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Not within ``except``: the error holds on to all that was allocated on its way.
        self._stop("the memory that they take is needed")
        return run(frames, timestep, memo)

    def forget(self) -> None:
        """Drop all graphs and the memory that they take."""
        self._graphs.clear()

    def _graph(
        self, kind: Hashable, run: Run, frames: Tensor, timestep: Tensor, memo: Memo
    ) -> _Graph | None:
        """The graph for this kind of pass, recorded where it is met for the second time."""
        if self._recorder is None or kind in self._plain:
            return None
        if kind in self._graphs:
            self._graphs.move_to_end(kind)
            return self._graphs[kind]
        if kind not in self._met:
            if len(self._met) >= _MET:
                self._met.clear()
            self._met.add(kind)
            return None
        try:
            graph = _Graph(self._recorder, run, frames, timestep, memo)
        except CannotRecordError:
            self._plain.add(kind)
            return None
        except RuntimeError as error:
            # Torch does not promise that more can be recorded after a failure: no other is tried.
            why = "the memory is too small" if is_out_of_memory(error) else _first_line(error)
        else:
            self._graphs[kind] = graph
            while len(self._graphs) > MOST:
                self._graphs.popitem(last=False)
            return graph
        self._stop(why)
        return None

    def _stop(self, why: str) -> None:
        self._recorder = None
        self._graphs.clear()
        self.warnings.append(
            f"{self._device} works without CUDA graphs, which may be slower: {why}"
        )


class _Graph:
    """One recorded pass, and the tensors that it reads and writes."""

    def __init__(
        self, recorder: Recorder, run: Run, frames: Tensor, timestep: Tensor, memo: Memo
    ) -> None:
        self._frames = frames.clone(memory_format=torch.contiguous_format)
        self._timestep = timestep.clone(memory_format=torch.contiguous_format)
        known = {question: _each(torch.clone, value) for question, value in memo.held().items()}
        # The first pass sees to what is made once: kernels are chosen, workspaces and constants
        # made. The second is looked at.
        recorder.warm_up(lambda: self._pass(run, _Tape(memo.names, known)))
        watch, tape = _Watch(frames.device), _Tape(memo.names, known)

        def watched() -> None:
            with watch:
                self._pass(run, tape)

        recorder.warm_up(watched)
        for one in tape.asked:
            _each(lambda tensor: tensor, one.made)  # whether it can be copied out
        asked = {one.question for one in tape.asked}
        self._known = {question: known[question] for question in known if question in asked}
        tape = _Tape(memo.names, self._known)
        self._replay, self._picture = recorder.record(lambda: self._pass(run, tape))
        self._asked = tape.asked
        # A graph reads at addresses: weights and constants must not be given back before it is.
        self._read = list(watch.read.values())

    def _pass(self, run: Run, memo: Memo) -> Tensor:
        return run(self._frames, self._timestep, memo)

    def __call__(self, frames: Tensor, timestep: Tensor, memo: Memo) -> Tensor:
        held = memo.held()
        self._frames.copy_(frames)
        self._timestep.copy_(timestep)
        for question, into in self._known.items():
            _copy(into, held[question])
        self._replay()
        for one in self._asked:
            where = memo
            for name in one.question.path:
                where = where.view(name)
            compute = partial(_each, torch.clone, one.made)
            where(one.question.what, one.frames, compute, one.keep)
        return self._picture.clone()


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    frames: tuple[int, ...]
    keep: int
    made: object


class _Tape(Memo):
    """Answers from what is known, and writes down all that is asked and made."""

    def __init__(
        self,
        names: tuple[int, ...] | None,
        known: Mapping[Question, object],
        path: tuple[Hashable, ...] = (),
    ) -> None:
        super().__init__()
        self._names = names
        self._answers = dict(known)
        self._path = path
        self.asked: list[_Asked] = []

    def view(self, name: Hashable) -> Memo:
        other = _Tape(self._names, {}, (*self._path, name))
        other._answers, other.asked = self._answers, self.asked
        return other

    def __call__(
        self, what: str, frames: tuple[int, ...], compute: Callable[[], T], keep: int = 2
    ) -> T:
        if self._names is None:
            return compute()
        question = Question(self._path, what, tuple(self._names[frame] for frame in frames))
        if question not in self._answers:
            self._answers[question] = compute()
        answer: Any = self._answers[question]
        self.asked.append(_Asked(question, frames, keep, answer))
        return answer


class _Watch(TorchDispatchMode):
    """Looks on at a pass: what it reads that was there before, and whether it can be recorded.

    It cannot where the CPU must know a value before it goes on, or a tensor comes from another
    device. Recording such a pass would fail, and leave torch's allocator in disorder.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device
        #: By storage: tensors that were not made by the pass.
        self.read: dict[int, Tensor] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = list(_tensors([*args, *(kwargs or {}).values()]))
        if _asks_for_values(func, given):
            raise CannotRecordError(f"{func} waits for a value")
        for tensor in given:
            storage = tensor.untyped_storage()._cdata
            if storage not in self._made:
                self.read.setdefault(storage, tensor)
        made = func(*args, **(kwargs or {}))
        for tensor in _tensors(made):
            if tensor.device != self._device:
                raise CannotRecordError(f"{func} works on {tensor.device}")
            storage = tensor.untyped_storage()._cdata
            if storage not in self.read:
                self._made.add(storage)
        return made


def _asks_for_values(func: Any, given: list[Tensor]) -> bool:
    # In inference mode bool(tensor) comes as it is, and not as the reading that it ends in.
    if torch.Tag.data_dependent_output in func.tags or func is torch.ops.aten.is_nonzero.default:
        return True
    if func.overloadpacket is torch.ops.aten.index:  # by mask or by places
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in given[1:])
    return torch.Tag.dynamic_output_shape in func.tags


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _each(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same tuples and lists of other tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if not isinstance(value, list | tuple):
        raise CannotRecordError(f"a network remembers a {type(value).__name__}")
    parts = [_each(function, part) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def _copy(into: object, value: object) -> None:
    for target, source in zip(_tensors(into), _tensors(value), strict=True):
        target.copy_(source)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def graphed(network: Network, device: torch.device) -> Graphed | None:
    """The network with its passes recorded, where there are CUDA graphs and they are wanted."""
    if device.type != "cuda" or os.environ.get("VFI_CUDA_GRAPHS") == "0":
        return None
    return Graphed(network, CudaRecorder(device), device)
