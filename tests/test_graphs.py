"""Recorded passes: pictures are those of plain passes, whatever comes in which order.

The recorder here stands in for CUDA graphs on a CPU. It does again what torch did, on the memory
that it did it on; that memory is spoilt as soon as the recording ends, and whenever another
recording of the same pool runs. So nothing that a graph would not compute anew survives.
"""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, ClassVar, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vfi_cli.errors import OutOfMemoryError
from vfi_cli.models import graphs
from vfi_cli.models.base import Interpolator, Memo, Network
from vfi_cli.models.graphs import MOST, CudaRecorder, Graphed, graphed
from vfi_cli.models.ifrnet import IFRNet, Widths
from vfi_cli.models.rife import RIFE
from vfi_cli.models.rife4 import IFNet, Spec
from vfi_cli.models.rrin import RRIN
from vfi_cli.native import ops

T = TypeVar("T")


class Tape(TorchDispatchMode):
    """Writes down what torch does, and the memory that is taken for it."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, Any]] = []
        self.outside: set[int] = set()
        self.made: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in tensors((args, tuple(kwargs.values()))):
            if place(tensor) not in self.made:
                self.outside.add(place(tensor))
        made = func(*args, **kwargs)
        self.steps.append((func, args, kwargs, made))
        for tensor in tensors(made):
            if place(tensor) not in self.outside:
                self.made.setdefault(place(tensor), tensor)
        return made

    def again(self) -> None:
        for func, args, kwargs, made in self.steps:
            for old, new in zip(tensors(made), tensors(func(*args, **kwargs)), strict=True):
                if place(old) != place(new):
                    old.copy_(new)

    def spoil(self) -> None:
        for tensor in self.made.values():
            whole = torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())
            whole.fill_(float("nan") if tensor.is_floating_point() else 0)


def tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def place(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Recorder:
    def __init__(self, fails: Exception | None = None) -> None:
        self.fails = fails
        self.warmed = self.replays = 0
        self.pool: list[Tape] = []

    def warm_up(self, work: Callable[[], object]) -> None:
        self.warmed += 1
        work()

    def record(self, work: Callable[[], T]) -> tuple[Callable[[], None], T]:
        if self.fails is not None:
            raise self.fails
        tape = Tape()
        with tape:
            made = work()
        self.pool.append(tape)
        tape.spoil()

        def replay() -> None:
            self.replays += 1
            for other in self.pool:
                other.spoil()
            tape.again()

        return replay, made


class Toy(Network):
    """Asks for everything that a network may ask for, and shows all of it in its picture."""

    timestep_map = True
    has_ensemble = True
    size_multiple = 8
    computed: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.3]))

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        assert memo is not None

        def feature(memo: Memo, position: int) -> tuple[Tensor, list[Tensor]]:
            def compute() -> tuple[Tensor, list[Tensor]]:
                Toy.computed.append("feature")
                frame = frames[:, position]
                return frame * self.weight, [frame.square(), frame[:, :1]]

            return memo("feature", (position,), compute, 2)

        def both(memo: Memo) -> Tensor:
            def compute() -> Tensor:
                Toy.computed.append("both")
                (a, (b, c)), (d, (e, f)) = feature(memo, 0), feature(memo, 1)
                return a * b + c - d * e * f

            return memo("both", (0, 1), compute, 1)

        first, (_, second) = feature(memo, 1)
        picture = both(memo) * timestep + first * scale + second * (0.2 if ensemble else 0.1)
        other = both(memo.view("half")) * 0.5
        return (picture + other).expand(max(len(frames), len(timestep)), -1, -1, -1).sigmoid()


def interpolator(network: Network) -> Interpolator:
    return Interpolator(network, name="test", device="cpu", dtype="float32")


def twins(
    network: Network, recorder: Recorder | None = None
) -> tuple[Interpolator, Interpolator, Recorder]:
    """One whose passes are recorded, and one whose passes are not."""
    recorder = recorder or Recorder()
    recorded = interpolator(network)
    recorded._graphs = Graphed(recorded.network, recorder, recorded.device)
    return recorded, interpolator(network), recorder


def clip(count: int, height: int = 16, width: int = 24, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(1, 3, height, width, generator=generator) for _ in range(count)]


def compare(
    network: Network, calls: list[tuple[list[Tensor], Any, dict[str, Any]]]
) -> tuple[list[Tensor], Recorder]:
    """Both twins are asked for all, then all is compared: results must outlive later passes."""
    recorded, plain, recorder = twins(network)
    made = [recorded.interpolate(torch.stack(w, 1), t, **options) for w, t, options in calls]
    wanted = [plain.interpolate(torch.stack(w, 1), t, **options) for w, t, options in calls]
    for number, (a, b) in enumerate(zip(made, wanted, strict=True)):
        assert torch.allclose(a, b, atol=1e-5, rtol=0), f"picture {number}"
    assert recorded.warnings == []
    return made, recorder


def stream(length: int, times: list[Any], **options: Any) -> list[Any]:
    """All windows of a clip with a cut in the middle."""
    frames = clip(length)
    return [
        ([frames[i], frames[i + 1]], t, {"keys": (i, i + 1), **options})
        for i in range(length - 1)
        if i + 1 != length // 2
        for t in times
    ]


# --------------------------------------------------------------- networks

SMALL = Spec(widths=(16, 12, 8), scales=(8, 4, 2, 1)[:3], head_width=8, head_out=4)
NETWORKS: dict[str, Callable[[], Network]] = {
    "toy": Toy,
    "rife-v4": lambda: IFNet(SMALL),
    "rifem": lambda: RIFE((16, 12, 8), 4, timed=True),
    "ifrnet": lambda: IFRNet(Widths((8, 12, 18, 24), 8)),
    "rrin": RRIN,
}


@pytest.fixture(autouse=True)
def _as_on_a_gpu() -> Iterator[None]:
    with ops.use_reference():
        yield


@pytest.mark.parametrize("name", NETWORKS)
def test_pictures_are_those_of_plain_passes(name: str) -> None:
    torch.manual_seed(0)
    calls = stream(8, [0.25, Fraction(2, 3)])
    calls += stream(6, [torch.tensor([0.25, 0.5]), torch.tensor([0.7, 0.9])], keys=None)[:4]
    made, recorder = compare(NETWORKS[name](), calls)
    assert not torch.equal(made[-1][0], made[-1][1]), "t does not matter"
    # Twice each: a pair after a cut, a pair after another, the same pair again; without names.
    assert recorder.replays >= len(calls) - 2 * 4


def test_all_options_tell_passes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several times round: the first records nothing, the later ones mix recordings."""
    monkeypatch.setattr(graphs, "MOST", 99)
    row = torch.linspace(0, 1, 24).expand(1, 1, 16, 24)
    calls: list[Any] = []
    for turn in range(4):
        frames, large = clip(3, seed=turn), clip(3, 24, 16, seed=turn)
        for window in ([frames[0], frames[1]], [large[0], large[1]]):
            calls += [
                (window, 0.25 + turn / 10, {}),
                (window, 0.25, {"scale": 0.5}),
                (window, 0.25, {"scale": 2.0}),
                (window, 0.25, {"ensemble": True}),
            ]
        calls.append((frames[:2], torch.tensor([0.1, 0.2 * turn]), {}))
        calls.append((frames[:2], row, {}))
        pairs = [torch.cat(frames[:2]), torch.cat(frames[1:])]
        calls.append((pairs, torch.tensor([0.4, 0.2]), {}))
    _, recorder = compare(Toy(), calls)
    assert (len(recorder.pool), recorder.replays) == (11, 33)
    _, recorder = compare(Toy(), stream(9, [0.5], tta="flip,rotate,reverse"))
    assert recorder.replays > 0


def test_a_frame_that_is_there_twice() -> None:
    a, b, c = clip(3)
    calls: list[Any] = []
    for _ in range(3):
        calls += [([a, a], 0.5, {"keys": ("a", "a")}), ([b, c], 0.5, {"keys": ("b", "c")})]
        calls += [([c, b], 0.5, {"keys": ("c", "b")}), ([a, c], 0.5, {"keys": ("a", "c")})]
    _, recorder = compare(Toy(), calls)
    assert recorder.replays > 0


def test_two_frames_are_not_one_that_is_there_twice() -> None:
    """Nothing is known of either, and what is recorded first computes the features of one."""
    a, b, c = clip(3)
    calls: list[Any] = [([a, a], 0.5, {"keys": (n, n)}) for n in range(3)]
    calls += [([b, c], 0.5, {"keys": (2 * n, 2 * n + 1)}) for n in range(5, 8)]
    _, recorder = compare(Toy(), calls)
    assert recorder.replays == 4


def test_what_was_remembered_is_not_computed_again() -> None:
    """In a steady stream a pass computes the features of one frame alone, plain or recorded."""
    frames = clip(8)
    recorded, _, recorder = twins(Toy())
    for i in range(6):
        recorded.interpolate(torch.stack(frames[i : i + 2], 1), 0.5, keys=(i, i + 1))
    assert recorder.replays == 4  # a first pair, the next, then the same kind
    Toy.computed.clear()
    # A plain pass goes on from what replays left in memory: frame 6 is known, frame 7 is new.
    recorded.interpolate(torch.stack(frames[5:7], 1), 0.5, keys=(5, 6))
    recorded._graphs = None
    recorded.interpolate(torch.stack(frames[6:8], 1), 0.5, keys=(6, 7))
    assert sorted(Toy.computed) == ["both", "both", "feature", "feature"]


def test_native_and_reference_operators_are_recorded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, _, recorder = twins(Toy())
    for native in (True, True, False, False, True):
        monkeypatch.setattr(graphs, "native_wanted", lambda device, native=native: native)
        recorded.interpolate(torch.stack(clip(2), 1), 0.5)
    assert len(recorder.pool) == 2


def test_only_the_latest_graphs_are_kept() -> None:
    recorded, _, recorder = twins(Toy())
    assert recorded._graphs is not None
    for size in range(1, MOST + 3):
        for _ in range(2):
            recorded.interpolate(torch.rand(1, 2, 3, 8 * size, 8), 0.5)
    assert len(recorder.pool) == MOST + 2
    assert len(recorded._graphs._graphs) == MOST
    recorded.interpolate(torch.rand(1, 2, 3, 8 * (MOST + 2), 8), 0.5)
    assert len(recorder.pool) == MOST + 2
    recorded._graphs.forget()
    assert not recorded._graphs._graphs


# --------------------------------------------------------------- what cannot be recorded


class Deciding(Toy):
    """Looks at a value, at a mask, or at another device on its way, or remembers no tensor."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, frames: Tensor, timestep: Tensor, **options: Any) -> Tensor:
        made = super().forward(frames, timestep, **options)
        if self.how == "value" and made.mean() > 2:
            return made * 0
        if self.how == "mask":
            return made + made[made > 2].sum()
        if self.how == "device":
            made.to("meta")
        if self.how == "place":
            return made[:, torch.arange(3)]
        if self.how == "other":
            return made + options["memo"]("dict", (0,), lambda: {"mean": frames.mean()})["mean"]
        return made


@pytest.mark.parametrize("how", ["value", "mask", "device", "other", "place"])
def test_passes_that_depend_on_values_stay_plain(how: str) -> None:
    calls = [(clip(2), 0.1 * i, {"keys": (2 * i, 2 * i + 1)}) for i in range(5)]
    _, recorder = compare(Deciding(how), calls)
    if how == "place":
        assert recorder.replays == 4
    else:
        assert (recorder.warmed, recorder.pool) == (2, [])


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (RuntimeError("CUDA error: not permitted\nCompile with ..."), "CUDA error: not permitted"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "the memory is too small"),
    ],
    ids=["refused", "memory"],
)
def test_a_recording_that_fails_is_the_last(failure: Exception, said: str) -> None:
    recorded, plain, recorder = twins(Toy(), Recorder(failure))
    for i in range(4):
        for height in (16, 32):
            window = torch.rand(1, 2, 3, height, 16)
            torch.testing.assert_close(
                recorded.interpolate(window, i / 4), plain.interpolate(window, i / 4)
            )
    assert recorder.warmed == 2
    assert recorded.warnings == [f"cpu works without CUDA graphs, which may be slower: {said}"]


def test_graphs_go_where_a_plain_pass_needs_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, plain, recorder = twins(Toy())
    forward = recorded.network.forward
    window = torch.stack(clip(2), 1)
    for _ in range(3):
        recorded.interpolate(window, 0.5)
    assert recorder.replays == 2

    def short(*args: Any, **options: Any) -> Tensor:
        if recorded._graphs is not None and recorded._graphs._graphs:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried")
        return forward(*args, **options)

    monkeypatch.setattr(recorded.network, "forward", short)
    larger = torch.stack(clip(2, 32), 1)
    made = recorded.interpolate(larger, 0.5)
    torch.testing.assert_close(made, plain.interpolate(larger, 0.5))
    assert recorded.warnings == [
        "cpu works without CUDA graphs, which may be slower: the memory that they take is needed"
    ]


def test_too_little_memory_is_still_said(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, _, _ = twins(Toy())

    def never(*args: Any, **options: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried")

    monkeypatch.setattr(recorded.network, "forward", never)
    for _ in range(3):
        with pytest.raises(OutOfMemoryError, match="too little memory"):
            recorded.interpolate(torch.stack(clip(2), 1), 0.5)


def test_other_errors_of_a_pass_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, _, _ = twins(Toy())

    def wrong(*args: Any, **options: Any) -> Tensor:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(recorded.network, "forward", wrong)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            recorded.interpolate(torch.stack(clip(2), 1), 0.5)


def test_constants_live_as_long_as_the_graph_that_reads_them() -> None:
    """And the frames of the window that it was recorded with do not."""
    constants = [torch.rand(1, 3, 1, 1)]

    class Constant(Toy):
        def forward(self, *args: Any, **options: Any) -> Tensor:
            return super().forward(*args, **options) * constants[0]

    recorded, _, recorder = twins(Constant())
    window = torch.stack(clip(2), 1)
    for _ in range(2):
        recorded.interpolate(window, 0.5)
    assert recorded._graphs is not None
    (graph,) = recorded._graphs._graphs.values()
    assert len(graph._read) == 4, "frames, time, weight and constant; nothing made on the way"
    # What stands in for CUDA here holds on to everything, as CUDA does not.
    graph._replay = lambda: None
    recorder.pool.clear()
    there = weakref.ref(constants[0])
    constants[0] = torch.ones(1, 3, 1, 1)
    gc.collect()
    assert there() is not None
    seen = weakref.ref(window)
    del window
    assert seen() is None
    recorded._graphs.forget()
    del graph
    gc.collect()
    assert there() is None


# --------------------------------------------------------------- with torch's own recorder


class Cuda:
    """Stands in for torch.cuda: streams wait, graphs are recorded on a stream that is not ours."""

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.log: list[str] = []
        self.stack = ["current"]

    class _Stream:
        def __init__(self, cuda: Cuda, name: str) -> None:
            self.cuda, self.name = cuda, name

        def wait_stream(self, other: Any) -> None:
            self.cuda.log.append(f"{self.name} waits for {other.name}")

    def Stream(self, device: object) -> Any:  # noqa: N802
        return self._Stream(self, "side")

    def current_stream(self, device: object) -> Any:
        return self._Stream(self, self.stack[-1])

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before = list(self.stack)
        self.stack.append(stream.name)
        try:
            yield
        finally:
            self.stack = before

    @contextlib.contextmanager
    def graph(
        self, graph: Any, *, pool: str, stream: Any, capture_error_mode: str
    ) -> Iterator[None]:
        self.log.append(f"record in {pool} on {stream.name}, {capture_error_mode}")
        self.stack.append("left behind")
        yield
        if self.fails:  # as torch does, which then does not lead back to the stream before
            raise RuntimeError("CUDA error: operation failed")
        self.stack.pop()

    def CUDAGraph(self) -> Any:  # noqa: N802
        class Graph:
            replay = staticmethod(lambda: self.log.append(f"replay on {self.stack[-1]}"))

        return Graph()


def put_in_place(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Stream", "current_stream", "stream", "graph", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")


def test_graphs_are_recorded_on_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda()
    put_in_place(cuda, monkeypatch)
    recorder = CudaRecorder(torch.device("cuda", 0))
    recorder.warm_up(lambda: cuda.log.append(f"work on {cuda.stack[-1]}"))
    replay, made = recorder.record(lambda: 3)
    replay()
    assert made == 3
    assert cuda.log == [
        "side waits for current",
        "work on side",
        "current waits for side",
        "record in pool on side, thread_local",
        "replay on current",
    ]


def test_the_stream_is_the_same_after_a_failed_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(fails=True)
    put_in_place(cuda, monkeypatch)
    with pytest.raises(RuntimeError):
        CudaRecorder(torch.device("cuda", 0)).record(lambda: 3)
    assert cuda.stack == ["current"]


def test_graphs_are_for_gpus_and_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(Cuda(), monkeypatch)
    assert graphed(Toy(), torch.device("cpu")) is None
    assert isinstance(graphed(Toy(), torch.device("cuda", 0)), Graphed)
    monkeypatch.setenv("VFI_CUDA_GRAPHS", "0")
    assert graphed(Toy(), torch.device("cuda", 0)) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    recorded = Interpolator(network, name="recorded", device="cuda", dtype="float32")
    plain = Interpolator(network, name="plain", device="cuda", dtype="float32")
    assert isinstance(recorded._graphs, Graphed)
    plain._graphs = None
    frames = [frame.cuda() for frame in clip(8, 128, 192)]
    for i in range(7):
        for t in (0.3, torch.tensor([0.25, 0.75])):
            window = torch.stack(frames[i : i + 2], 1)
            made, wanted = (m.interpolate(window, t, keys=(i, i + 1)) for m in (recorded, plain))
            torch.testing.assert_close(made, wanted, atol=1e-3, rtol=0)
    assert recorded.warnings == []
    assert recorded._graphs._graphs
