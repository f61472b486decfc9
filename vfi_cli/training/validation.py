"""Held-out footage: whole frames that the averaged weights rebuild while a run goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vfi_cli.errors import InputError
from vfi_cli.quality.image import psnr
from vfi_cli.training.clips import Clip


@dataclass(frozen=True)
class Window:
    """Frames (n, H, W, 3) uint8 around ``middle`` (H, W, 3), of the clip ``name``."""

    name: str
    frames: np.ndarray
    middle: np.ndarray


@dataclass(frozen=True)
class Rebuilt:
    """What a network makes of a window: all (3, H, W) in [0, 1], the flow (2, H, W) in pixels."""

    name: str
    before: Tensor
    after: Tensor
    truth: Tensor
    picture: Tensor
    flow: Tensor

    @property
    def psnr(self) -> float:
        """In decibels, of 8-bit values."""
        return psnr(pixels(self.truth), pixels(self.picture))


def pixels(picture: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] as (H, W, 3) uint8."""
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


#: ``show`` of a family: frames (1, n, 3, H, W) and the middle (1, 3, H, W) to picture, truth, flow.
Show = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


class Validation:
    """``count`` windows of each clip, the same in every run: the middle of three frames, or of
    seven for a network that sees ``seen`` = 4."""

    def __init__(self, clips: Sequence[tuple[str, Clip]], count: int, seen: int = 2) -> None:
        reach = 3 if seen == 4 else 1
        offsets = (-3, -1, 1, 3) if seen == 4 else (-1, 1)
        self._windows: list[tuple[str, Clip, list[int]]] = []
        for name, clip in clips:
            found = [
                [run.frames[k + d] for d in (*offsets, 0)]
                for run in clip.runs
                for k in range(reach, len(run) - reach)
            ]
            # Of each of ``count`` equal parts of the clip one that moves more than most, but not
            # the one that moves most: that may be a cut which was not found.
            for part in np.array_split(np.arange(len(found)), min(count, len(found) or 1)):
                if len(part):
                    by_motion = sorted(part, key=lambda k: _moved(clip, found[k]))
                    self._windows.append((name, clip, found[by_motion[3 * len(part) // 4]]))
        if not self._windows:
            raise InputError(
                f"validation.clips: no clip has {2 * reach + 1} frames without cuts and repeats"
            )

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[Window]:
        for name, clip, (*around, middle) in self._windows:
            yield Window(name, np.stack([clip.picture(i) for i in around]), clip.picture(middle))


def _moved(clip: Clip, numbers: list[int]) -> float:
    side = len(numbers) // 2
    a, b = (clip.picture(numbers[k])[::16, ::16].astype(np.int16) for k in (side - 1, side))
    return float(np.abs(a - b).mean())


@torch.no_grad()
def rebuild(
    windows: Iterable[Window], show: Show, multiple: int, device: torch.device
) -> Iterator[Rebuilt]:
    """The windows through a network, padded to a ``multiple`` in height and width by repeating
    their edges."""
    for window in windows:
        both = torch.from_numpy(np.concatenate((window.frames, window.middle[None])))
        pictures = both.to(device).permute(0, 3, 1, 2).float() / 255
        height, width = pictures.shape[2:]
        padded = F.pad(pictures, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        shown = show(padded[None, :-1], padded[-1:])
        picture, truth, flow = (x[0, :, :height, :width].float().cpu() for x in shown)
        first = len(window.frames) // 2 - 1
        before, after = pictures[first].cpu(), pictures[first + 1].cpu()
        yield Rebuilt(window.name, before, after, truth, picture, flow)


def crop(window: Window, size: int) -> Window:
    """The square in which the frames differ most."""
    height, width = (min(size, edge) for edge in window.middle.shape[:2])
    side = len(window.frames) // 2
    a, b = (window.frames[k].astype(np.float32).mean(-1) for k in (side - 1, side))
    apart = F.avg_pool2d(torch.from_numpy(np.abs(a - b))[None], (height, width), stride=16)[0]
    best = int(apart.argmax())
    y, x = (16 * k for k in divmod(best, apart.shape[1]))
    here = (slice(y, y + height), slice(x, x + width))
    return Window(window.name, window.frames[:, *here], window.middle[here])
