"""What every model is: a :class:`Network` of a family, driven by an :class:`Interpolator`.

A network is the published architecture under its published key names. It sees frames whose
sizes already fit, and knows nothing of devices, files or odd sizes. The interpolator owns all
of that once: checks, padding and cropping, times, test-time ensembles, dtype and device.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vfi_cli.errors import ModelError, OutOfMemoryError, UsageError
from vfi_cli.models.devices import ALL_DTYPES, held_dtype, pick_device, pick_dtype
from vfi_cli.tiles import OVERLAP, tiles
from vfi_cli.transfer import upload

T = TypeVar("T")
Timestep = float | Fraction | Tensor

#: Resolutions at which motion may be estimated, relative to the picture.
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)

#: Test-time ensembles, by name: the mean over the plain picture and these views of it.
#: flip = flipped both ways (RIFE-2T), rotate = quarter turns, reverse = time backwards,
#: multiscale = motion also estimated at half the resolution (by a network whose flow has no
#: resolution of its own, on pictures of half the size).
ENSEMBLES = ("flip", "rotate", "reverse", "multiscale")


@dataclass(frozen=True, slots=True)
class Motion:
    """Where the interpolated frame's pixels come from.

    ``flow0``, ``flow1``: (B, 2, H, W), pixels, u then v, from the new frame to the source frame
    before and after it. ``mask``: (B, 1, H, W) in [0, 1], the share taken from the frame before.
    """

    flow0: Tensor
    flow1: Tensor
    mask: Tensor


class Question(NamedTuple):
    """What a network asks a :class:`Memo` for, of which frames of the window."""

    path: tuple[Hashable, ...]  # of views, the outermost first
    what: str
    frames: tuple[int, ...]  # positions; of a frame that is there twice, the first


class Memo:
    """Remembers what a network computed from source frames alone, whatever the time t.

    Networks ask ``memo(what, frames, compute, keep)``, where ``frames`` are positions in the
    window: the value is computed at most once for these source frames while it is among the
    last ``keep`` of its kind. Without keys every value is computed.
    """

    def __init__(self) -> None:
        self._stores: dict[
            tuple[str, Hashable, tuple[Hashable, ...]],
            OrderedDict[tuple[Hashable, ...], object],
        ] = {}
        self._keys: tuple[Hashable, ...] | None = None
        self._view: Hashable = None
        self._path: tuple[Hashable, ...] = ()

    @property
    def names(self) -> tuple[int, ...] | None:
        """For each frame of the window where its key stands first; None without keys."""
        return None if self._keys is None else tuple(map(self._keys.index, self._keys))

    def held(self) -> dict[Question, object]:
        """All that is remembered of the frames of this window as they are seen now."""
        found: dict[Question, object] = {}
        keys = self._keys or ()
        for (what, view, path), store in self._stores.items():
            if view == self._view:
                for named, value in store.items():
                    if all(key in keys for key in named):
                        found[Question(path, what, tuple(map(keys.index, named)))] = value
        return found

    def bind(self, keys: Sequence[Hashable] | None, view: Hashable) -> None:
        """Name the frames of the coming window; ``view`` tells flipped and scaled ones apart."""
        self._keys = None if keys is None else tuple(keys)
        self._view = view

    def view(self, name: Hashable) -> Memo:
        """The same memory for the same frames seen otherwise, for example at half size."""
        other = Memo()
        other._stores = self._stores
        other.bind(self._keys, self._view)
        other._path = (*self._path, name)
        return other

    def clear(self) -> None:
        self._stores.clear()

    def __call__(
        self, what: str, frames: tuple[int, ...], compute: Callable[[], T], keep: int = 2
    ) -> T:
        if self._keys is None:
            return compute()
        store = self._stores.setdefault((what, self._view, self._path), OrderedDict())
        key = tuple(self._keys[position] for position in frames)
        if key in store:
            store.move_to_end(key)
            return store[key]  # type: ignore[return-value]
        # Room is made first: of large frames one value more would be tens of megabytes.
        while len(store) >= keep:
            store.popitem(last=False)
        value = store[key] = compute()
        return value


class WithInt8(nn.Module):
    """A module whose convolutions can multiply 8-bit numbers where the fused operators run."""

    #: Whether they do; an :class:`Interpolator` says so.
    int8: bool = False


class Network(WithInt8):
    """Base of the published architectures.

    Frames arrive in float32 at sizes that fit, (B, n, 3, H, W), whatever the dtype of the
    weights; a network casts what it feeds to its convolutions, keeps flow and the warping of
    pictures in float32, and returns float32. ``timestep`` is (B, 1, 1, 1), or (B, 1, H, W)
    where ``timestep_map`` is true. B of the frames may be 1 where ``timestep`` has more: then
    all times belong to the one window, and what depends on the frames alone is computed once.
    """

    #: Frames in a window, 2 or 4; a network of 4 also takes the middle 2 alone.
    frames_seen: int = 2
    #: False: only the middle, t = 1/2.
    any_timestep: bool = True
    #: Whether t may differ from pixel to pixel.
    timestep_map: bool = False
    #: Height and width must be multiples of this, divided by the scale where that is below 1.
    size_multiple: int = 32
    #: Whether the resolution of the flow can be chosen.
    has_scale: bool = True
    #: Whether forward and reversed estimates can be averaged inside the network.
    has_ensemble: bool = False
    #: Whether :meth:`motion` is offered.
    has_motion: bool = False
    #: Whether :meth:`flow` is offered.
    has_flow: bool = False
    #: False for a network that only finds flow.
    has_frames: bool = True
    #: Dtypes in which the weights give the picture of float32; int8 where it may be asked for.
    safe_dtypes: frozenset[torch.dtype] = ALL_DTYPES
    #: Whether the weights that ship were measured in int8, so that ``auto`` may choose it.
    int8_measured: bool = False

    def forward(
        self,
        frames: Tensor,
        timestep: Tensor,
        *,
        scale: float = 1.0,
        ensemble: bool = False,
        memo: Memo | None = None,
    ) -> Tensor:
        """The frame at ``timestep``, (B, 3, H, W), float32."""
        raise NotImplementedError

    def motion(
        self, frames: Tensor, timestep: Tensor, *, scale: float = 1.0, memo: Memo | None = None
    ) -> Motion:
        """The flows and the mask that :meth:`forward` warps and blends with."""
        raise NotImplementedError

    def flow(self, frames: Tensor) -> Tensor:
        """Optical flow from the first of two frames to the second, (B, 2, H, W), pixels."""
        raise NotImplementedError


class Interpolator:
    """A model that is ready: weights loaded, on its device, in its dtype.

    ``fingerprint`` is the SHA-256 of the weights' file, or the name of a model without weights.
    """

    def __init__(
        self,
        network: Network,
        *,
        name: str,
        architecture: str | None = None,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        licence: str | None = None,
        fingerprint: str | None = None,
        any_timestep: bool | None = None,
    ) -> None:
        self.name = name
        self.architecture = architecture or name
        self.device = pick_device(device)
        self.dtype = pick_dtype(
            dtype, self.device, network.safe_dtypes, int8_measured=network.int8_measured
        )
        self.licence = licence
        self.fingerprint = fingerprint or name
        held = held_dtype(self.dtype)
        self.network = network.to(self.device, held).eval().requires_grad_(False)
        for part in network.modules():
            if isinstance(part, WithInt8):
                part.int8 = self.dtype == torch.int8
        if self.device.type == "cuda" or held != torch.float32:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.frames_seen = network.frames_seen
        self.any_timestep = network.any_timestep if any_timestep is None else any_timestep
        self.timestep_map = network.timestep_map and self.any_timestep
        self.size_multiple = network.size_multiple
        self.safe_dtypes = network.safe_dtypes
        self._memo = Memo()
        from vfi_cli.models.graphs import graphed

        self._graphs = graphed(self.network, self.device)

    @property
    def warnings(self) -> list[str]:
        """What a person should hear of."""
        return [] if self._graphs is None else self._graphs.warnings

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.network.parameters())

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return f"<Interpolator {self.name} ({self.architecture}), {kind} on {self.device}>"

    @torch.inference_mode()
    def interpolate(
        self,
        frames: Tensor,
        t: Timestep,
        *,
        scale: float = 1.0,
        tta: bool | str | Iterable[str] = False,
        ensemble: bool = False,
        keys: Sequence[Hashable] | None = None,
        tile: int | None = None,
    ) -> Tensor:
        """The frame at time t between the middle two frames.

        frames: (B, n, 3, H, W), floating point in [0, 1], on any device, any H and W; n is
            ``frames_seen``, or 2 for a model of four frames at a clip's end.
        t: in [0, 1]; a number, (B,), or (B, 1, H, W) where ``timestep_map``. One window (B = 1)
            may be asked for several times at once.
        scale: resolution of the flow, one of ``SCALES``.
        tta: True or names out of ``ENSEMBLES``: the mean over views of the frames.
        ensemble: averages forward and reversed estimates inside the network, where it can.
        keys: names of the n source frames (of one window). What was computed from a frame that
            was named before is used again; a name must always stand for the same picture.
        tile: pixels; larger frames are made in overlapping parts of at most this height and
            width (:mod:`vfi_cli.tiles`), in less memory and more time. Nothing is remembered then.

        Returns (B, 3, H, W), float32 in [0, 1], on ``device``. Raises ModelError for a t or an
        option that the model does not have, OutOfMemoryError when the memory is too small.
        """
        frames, timestep = self._prepare(frames, t, keys)
        if not self.network.has_frames:
            raise ModelError(f"{self.name} only finds flow and makes no frames; it is part of EQVI")
        views = _views(tta)
        self._check_scale(scale)
        self.check_tile(tile, scale)
        if ensemble and not self.network.has_ensemble:
            raise ModelError(f"{self.name} cannot average forward and reversed estimates")
        if frames.numel() == 0:
            return frames.new_zeros(timestep.shape[0], *frames.shape[2:])
        total: Tensor | None = None
        for view in views:
            picture = self._run_view(frames, timestep, scale, ensemble, keys, tile, view=view)
            total = picture if total is None else total + picture
        assert total is not None
        if len(views) > 1:
            total = total / len(views)
        # In its own memory, unless that is the frames': a network may give back what it was given.
        given = total.untyped_storage().data_ptr() == frames.untyped_storage().data_ptr()
        return total.clamp(0, 1) if given else total.clamp_(0, 1)

    @torch.inference_mode()
    def motion(
        self,
        frames: Tensor,
        t: Timestep,
        *,
        scale: float = 1.0,
        keys: Sequence[Hashable] | None = None,
        tile: int | None = None,
    ) -> Motion:
        """Flows to both sides and the blending mask; see :class:`Motion` and :meth:`interpolate`.

        Raises ModelError where the model has none to show.
        """
        frames, timestep = self._prepare(frames, t, keys)
        self._check_scale(scale)
        if not self.network.has_motion:
            raise ModelError(f"{self.name} does not say where its pixels come from")
        self.check_tile(tile, scale)
        self._memo.bind(keys, ((), scale, False))

        def compute(frames: Tensor, timestep: Tensor) -> Tensor:
            found = self.network.motion(frames, timestep, scale=scale, memo=self._memo)
            return torch.cat([found.flow0, found.flow1, found.mask], dim=1)

        found = self._fitted(frames, timestep, scale, tile, compute)
        return Motion(found[:, :2], found[:, 2:4], found[:, 4:])

    @torch.inference_mode()
    def flow(self, frames: Tensor) -> Tensor:
        """Optical flow from the first frame to the second: (B, 2, H, W), float32, pixels.

        frames: (B, 2, 3, H, W) in [0, 1]. Raises ModelError where the model finds none.
        """
        frames, timestep = self._prepare(frames, 0.5, None)
        if not self.network.has_flow:
            raise ModelError(f"{self.name} does not find the flow between two frames")
        return self._fitted(
            frames, timestep, 1.0, None, lambda padded, _: self.network.flow(padded)
        )

    def forget(self) -> None:
        """Drop what is remembered of keyed frames."""
        self._memo.clear()

    def _prepare(
        self, frames: Tensor, t: Timestep, keys: Sequence[Hashable] | None
    ) -> tuple[Tensor, Tensor]:
        """Checked frames on the device in float32, and t as (B, 1, 1, 1) or (B, 1, H, W)."""
        if frames.dim() != 5 or frames.shape[2] != 3 or not frames.is_floating_point():
            raise UsageError(
                f"frames are {str(frames.dtype).removeprefix('torch.')} {tuple(frames.shape)}; "
                "they must be floating point (B, n, 3, H, W)"
            )
        batch, seen = frames.shape[:2]
        if seen != self.frames_seen and not (seen == 2 and self.frames_seen == 4):
            raise UsageError(f"{self.name} sees {self.frames_seen} frames, not {seen}")
        if keys is not None and (len(keys) != seen or batch != 1):
            raise UsageError("keys name the frames of one window: one key for each of its frames")
        timestep = self._timestep(t, frames)
        if batch not in (1, timestep.shape[0]):
            raise UsageError(f"{timestep.shape[0]} times for {batch} windows")
        return frames.to(self.device, torch.float32), timestep

    def _timestep(self, t: Timestep, frames: Tensor) -> Tensor:
        # Checked where it lies: a GPU would have to finish its work before it answers.
        batch, (height, width) = frames.shape[0], frames.shape[-2:]
        if isinstance(t, Tensor) and t.dim() > 0:
            timestep = t.to(torch.float32)
            if timestep.dim() == 1:
                timestep = timestep.view(-1, 1, 1, 1)
            elif timestep.dim() != 4 or timestep.shape[1:] not in {
                (1, 1, 1),
                (1, height, width),
            }:
                raise UsageError(
                    f"t is {tuple(t.shape)}; it must be a number, ({batch},), or "
                    f"({batch}, 1, {height}, {width})"
                )
        else:
            timestep = torch.full((batch, 1, 1, 1), float(t))
        if not bool(((timestep >= 0) & (timestep <= 1)).all()):
            raise UsageError("t must lie between 0 and 1")
        if not self.any_timestep and not bool((timestep == 0.5).all()):
            raise ModelError(f"{self.name} only makes the middle frame, t = 1/2")
        if timestep.shape[2:] != (1, 1) and not self.timestep_map:
            if self.any_timestep:
                raise ModelError(f"{self.name} takes one t for the whole picture, not a map")
            timestep = timestep[:, :, :1, :1]
        return upload([timestep], self.device)[0]

    def _check_scale(self, scale: float) -> None:
        if scale not in SCALES:
            known = ", ".join(f"{known:g}" for known in SCALES)
            raise UsageError(f"scale {scale} is not one of {known}")
        if scale != 1 and not self.network.has_scale:
            raise ModelError(f"{self.name} estimates motion at the picture's own scale only")

    def check_tile(self, tile: int | None, scale: float = 1.0) -> None:
        """Raise UsageError for tiles that are too small for the network at this scale."""
        least = self.least_tile(scale)
        if tile is not None and tile < least:
            raise UsageError(
                f"tiles of {tile} pixels are too small for {self.name}; it needs {least} at least"
            )

    def multiple(self, scale: float = 1.0) -> int:
        """What height and width are padded to at this scale, in pixels."""
        return math.ceil(self.size_multiple / min(scale, 1.0))

    def least_tile(self, scale: float = 1.0) -> int:
        """The smallest tile that the network takes, in pixels."""
        return 2 * self.multiple(scale)

    def _pad(self, frames: Tensor, timestep: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Frames and a map of t continued to the right and below by their last column and row.

        Repeating the edge, and not black as some of the published scripts do, because a black
        border moves nowhere and drags the flow beside it along.
        """
        multiple = self.multiple(scale)
        height, width = frames.shape[-2:]
        below, right = -height % multiple, -width % multiple
        if not (below or right):
            return frames, timestep
        frames = F.pad(frames.flatten(0, 1), (0, right, 0, below), mode="replicate").unflatten(
            0, frames.shape[:2]
        )
        if timestep.shape[2:] != (1, 1):
            timestep = F.pad(timestep, (0, right, 0, below), mode="replicate")
        return frames, timestep

    def _run_view(
        self,
        frames: Tensor,
        timestep: Tensor,
        scale: float,
        ensemble: bool,
        keys: Sequence[Hashable] | None,
        tile: int | None,
        *,
        view: tuple[str, ...],
    ) -> Tensor:
        """One member of the test-time ensemble, turned back to how the frames lie."""
        turns = 1 if "rotate" in view else 0
        halved = "multiscale" in view and not self.network.has_scale
        if "multiscale" in view and not halved:
            scale = scale / 2
        if turns:
            frames, timestep = frames.rot90(1, (-2, -1)), timestep.rot90(1, (-2, -1))
        if "flip" in view:
            frames, timestep = frames.flip(-2, -1), timestep.flip(-2, -1)
        if "reverse" in view:
            frames, timestep = frames.flip(1), 1 - timestep
            keys = None if keys is None else tuple(reversed(keys))
        height, width = frames.shape[-2:]
        if halved:
            size = -(-height // 2), -(-width // 2)
            frames = _resized(frames.flatten(0, 1), size).unflatten(0, frames.shape[:2])
            if timestep.shape[2:] != (1, 1):
                timestep = _resized(timestep, size)
        geometry = tuple(name for name in view if name in ("flip", "rotate"))
        self._memo.bind(keys, (geometry, scale, halved))

        def compute(frames: Tensor, timestep: Tensor) -> Tensor:
            work = self._graphs or self.network
            return work(frames, timestep, scale=scale, ensemble=ensemble, memo=self._memo)

        picture = self._fitted(frames, timestep, scale, tile, compute)
        if halved:
            picture = _resized(picture, (height, width))
        if "flip" in view:
            picture = picture.flip(-2, -1)
        if turns:
            picture = picture.rot90(-1, (-2, -1))
        return picture

    def _fitted(
        self,
        frames: Tensor,
        timestep: Tensor,
        scale: float,
        tile: int | None,
        compute: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """What ``compute`` makes of frames at sizes that fit, (B, C, H, W), at the frames' size."""
        height, width = frames.shape[-2:]
        if tile is None or max(height, width) <= tile:
            made = self._guarded(lambda: compute(*self._pad(frames, timestep, scale)))
            return made[..., :height, :width].float()
        self._memo.bind(None, ())
        overlap = math.ceil(OVERLAP / min(scale, 1.0))
        total: Tensor | None = None
        for part in tiles(height, width, tile, overlap, self.multiple(scale)):
            rows, columns = part.rows, part.columns
            where = (..., slice(rows.start, rows.stop), slice(columns.start, columns.stop))
            times = timestep if timestep.shape[2:] == (1, 1) else timestep[where]
            made = self._fitted(frames[where], times, scale, None, compute)
            if total is None:
                total = made.new_zeros((*made.shape[:2], height, width))
            weights = made.new_tensor(rows.weights)[:, None] * made.new_tensor(columns.weights)
            total[where] += made * weights
        assert total is not None
        return total

    def _guarded(self, compute: Callable[[], T]) -> T:
        try:
            return compute()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self.forget()
            if self._graphs is not None:
                self._graphs.forget()
            raise OutOfMemoryError(
                f"{self.device} has too little memory for {self.name} at this size; "
                "try --tile 512, a smaller --scale, --dtype float16 or another model"
            ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is what torch, or Python, raises when an allocation fails."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError | OutOfMemoryError):
        return True
    # Neither torch's CPU allocator nor cuDNN and cuBLAS have exceptions of their own.
    marks = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(mark in str(error) for mark in marks)


def _resized(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)


def ensemble_names(tta: bool | str | Iterable[str]) -> tuple[str, ...]:
    """The test-time ensembles that are meant, each once, in the order of ``ENSEMBLES``.

    True means ``flip``; a string holds names with commas between. Raises UsageError.
    """
    if isinstance(tta, bool):
        names: tuple[str, ...] = ("flip",) if tta else ()
    else:
        names = tuple(tta.replace(" ", "").split(",")) if isinstance(tta, str) else tuple(tta)
    for name in names:
        if name not in ENSEMBLES:
            raise UsageError(
                f"{name!r} is not a test-time ensemble; there are {', '.join(ENSEMBLES)}"
            )
    return tuple(name for name in ENSEMBLES if name in names)


def _views(tta: bool | str | Iterable[str]) -> list[tuple[str, ...]]:
    """All combinations of the named views, the plain one first."""
    views: list[tuple[str, ...]] = [()]
    for name in ensemble_names(tta):
        views += [(*view, name) for view in views]
    return views
