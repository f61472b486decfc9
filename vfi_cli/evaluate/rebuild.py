"""Those who rebuild frames: a model, or ffmpeg's motion-compensated interpolation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vfi_cli.api import ModelOptions, open_model
from vfi_cli.errors import InputError
from vfi_cli.plan import automatic_scale
from vfi_cli.quality.image import Rgb
from vfi_cli.synthesis import BISECTION_DEPTH
from vfi_cli.timeline import dyadic

if TYPE_CHECKING:
    import torch

    from vfi_cli.models import Interpolator

#: The name under which ffmpeg's filter takes part beside the models.
MINTERPOLATE = "minterpolate"

HALF = Fraction(1, 2)


class Given(NamedTuple):
    """A frame that a model gets, and a name that stands for this picture alone."""

    name: Hashable
    picture: Rgb


class ModelRebuilder:
    """Makes frames with a model, rounded to 8 bits as they would be written.

    ``scale`` None: by the picture's size, as conversions choose it.
    """

    def __init__(self, model: Interpolator, options: ModelOptions) -> None:
        self._model = model
        self._options = options
        self.name = options.name
        self._scale = options.scale  # once a frame was made, the one that was used

    @classmethod
    def open(cls, options: ModelOptions) -> ModelRebuilder:
        """Load the model that the options name. Raises ModelError, DeviceError."""
        return cls(open_model(options), options)

    @property
    def runs_on(self) -> str:
        """Type, device and scale, for people."""
        kind = str(self._model.dtype).removeprefix("torch.")
        scale = "" if self._scale in (None, 1) else f", scale {self._scale:g}"
        return f"{kind} on {self._model.device}{scale}"

    def between(
        self,
        first: Given,
        second: Given,
        times: Sequence[Fraction],
        *,
        before: Given | None = None,
        after: Given | None = None,
    ) -> list[Rgb]:
        """The frames at ``times`` (0 < t < 1) between the first and the second.

        ``before`` and ``after`` are for models that see four frames; without both they see two.
        """
        import torch

        if self._model.any_timestep:
            row = [first, second]
            if self._model.frames_seen == 4 and before is not None and after is not None:
                row = [before, first, second, after]
            frames = torch.stack([_tensor(given.picture) for given in row])
            made = [self._make(frames, [given.name for given in row], t) for t in times]
        else:
            known = {
                Fraction(0): (first.name, _tensor(first.picture)),
                Fraction(1): (second.name, _tensor(second.picture)),
            }
            made = [self._bisect(known, dyadic(t, BISECTION_DEPTH)) for t in times]
        return [_rounded(picture) for picture in made]

    def _bisect(
        self, known: dict[Fraction, tuple[Hashable, torch.Tensor]], t: Fraction
    ) -> torch.Tensor:
        import torch

        if t not in known:
            step = Fraction(1, t.denominator)
            left, right = t - step, t + step
            frames = torch.stack([self._bisect(known, end) for end in (left, right)])
            names = [known[end][0] for end in (left, right)]
            known[t] = ((*names, t), self._make(frames, names, HALF))
        return known[t][1]

    def _make(self, frames: torch.Tensor, names: list[Hashable], t: Fraction) -> torch.Tensor:
        """(3, H, W) in [0, 1] from (n, 3, H, W), on the CPU, so that the device is done."""
        height, width = frames.shape[-2:]
        options = self._options
        scale = automatic_scale(width, height) if options.scale is None else options.scale
        self._scale = scale
        return self._model.interpolate(
            frames[None],
            t,
            scale=scale,
            tta=options.tta,
            ensemble=options.ensemble,
            keys=names,
        )[0].cpu()


def _tensor(picture: Rgb) -> torch.Tensor:
    import torch

    return torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255


def _rounded(picture: torch.Tensor) -> Rgb:
    return (picture * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def minterpolate(kept: Sequence[Rgb], factor: int) -> list[list[Rgb]]:
    """The ``factor`` - 1 frames after each kept one but the last, by ffmpeg's filter.

    Runs through PyAV, so that no ffmpeg program is needed, with the settings that look best:
    mi_mode=mci, mc_mode=aobmc, me_mode=bidir, vsbmc=1. Frames stand at even times. Raises
    InputError where the filter cannot work on such pictures.
    """
    import av

    height, width = kept[0].shape[:2]
    try:
        found = _filtered(kept, factor)
        return [
            [found[Fraction(i * factor + k, factor)] for k in range(1, factor)]
            for i in range(len(kept) - 1)
        ]
    except (KeyError, av.error.FFmpegError):
        raise InputError(
            f"ffmpeg's minterpolate makes no frames of {width}×{height}; it is left out"
        ) from None


def _filtered(kept: Sequence[Rgb], factor: int) -> dict[Fraction, Rgb]:
    """What the filter gives, by time; kept frames are one unit of time apart."""
    import av

    height, width = kept[0].shape[:2]
    tick = Fraction(1, 10)  # seconds between kept frames, as the filter sees them
    graph = av.filter.Graph()
    yuv = av.VideoFormat("yuv444p", width, height)
    source = graph.add_buffer(width=width, height=height, format=yuv, time_base=tick)
    options = f"fps={factor / tick}:mi_mode=mci:mc_mode=aobmc:me_mode=bidir:vsbmc=1:scd=none"
    filters = graph.add("minterpolate", options)
    sink = graph.add("buffersink")
    source.link_to(filters)
    filters.link_to(sink)
    graph.configure()
    found: dict[Fraction, Rgb] = {}

    def collect() -> None:
        while True:
            try:
                frame = graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, av.VideoFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            rgb = frame.reformat(format="rgb24", src_colorspace="ITU709", src_color_range="JPEG")
            pixels = rgb.to_ndarray().astype(np.uint8, copy=False)
            found[frame.pts * frame.time_base / tick] = pixels

    # The filter lags behind its input.
    for index, picture in enumerate([*kept, kept[-1], kept[-1], kept[-1]]):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
            format="yuv444p", dst_colorspace="ITU709", dst_color_range="JPEG"
        )
        frame.pts, frame.time_base = index, tick
        graph.push(frame)
        collect()
    graph.push(None)
    collect()
    return found
