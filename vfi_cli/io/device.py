"""Pictures that stay on an NVIDIA GPU: NVDEC's become torch tensors there, NVENC reads them there.

A surface of theirs is luma with interleaved chroma below (NV12; P010 and P016 with the code
value in the upper bits of 16). What crosses between FFmpeg and torch does so by DLPack, in the
one CUDA context of torch, on the default stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import av
import torch
from av.codec import Codec, CodecContext
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import CudaContext, VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from vfi_cli.frame import Plane, PlaneLayout

#: Codecs that define every sample, so that NVDEC's pictures are the CPU's; NVDEC knows others
#: whose transforms may round either way.
EXACT_CODECS = frozenset({"av1", "h264", "hevc", "vp8", "vp9"})

#: NVDEC's and NVENC's surfaces for 4:2:0, by the bits of a sample.
_SURFACES = {8: "nv12", 10: "p010le", 12: "p016le"}

#: Bytes that a row of a surface takes a multiple of.
_PITCH = 256


def surface_format(layout: PlaneLayout, width: int, height: int) -> str | None:
    """The pixel format of the surfaces that hold such pictures; None where none can be handed on.

    PyAV's DLPack knows 4:2:0 of even sizes.
    """
    subsampling = (layout.log2_chroma_w, layout.log2_chroma_h)
    if layout.kind != "yuv" or layout.alpha or subsampling != (1, 1) or width % 2 or height % 2:
        return None
    return _SURFACES.get(layout.bits)


def split(luma: Tensor, chroma: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Y, U and V with memory of their own from a surface's planes (H, W) and (H/2, W/2, 2).

    ``bits``: of a code value; samples of 16 bits hold it at the top.
    """
    return _values(luma, bits), _values(chroma[..., 0], bits), _values(chroma[..., 1], bits)


def _values(samples: Tensor, bits: int) -> Tensor:
    if samples.dtype == torch.uint8:
        return samples.clone(memory_format=torch.contiguous_format)
    # torch does not shift uint16; what int16 extends its sign into is masked.
    values = samples.view(torch.int16).bitwise_right_shift(16 - bits)
    return values.bitwise_and_((1 << bits) - 1).contiguous().view(torch.uint16)


def merge(planes: tuple[Tensor, ...], bits: int, luma: Tensor, chroma: Tensor) -> None:
    """The inverse of :func:`split`: Y, U and V into the planes of a surface."""
    for plane, target in zip(planes, (luma, chroma[..., 0], chroma[..., 1]), strict=True):
        if plane.dtype == torch.uint8:
            target.copy_(plane)
        else:
            target.view(torch.int16).copy_(plane.view(torch.int16).bitwise_left_shift(16 - bits))


def on_device(planes: tuple[Plane, ...]) -> TypeGuard[tuple[Tensor, ...]]:
    """Whether planes lie on a GPU."""
    return all(isinstance(plane, Tensor) and plane.is_cuda for plane in planes)


@contextmanager
def context_of(device: torch.device | str) -> Iterator[None]:
    """torch's CUDA context made current in this thread, for FFmpeg to join.

    FFmpeg cannot open the primary context by itself: torch has it already, with other flags.
    """
    if torch.device(device).type == "cpu":
        yield
        return
    with torch.cuda.device(device):
        torch.empty(1, device=device)  # makes the context that is not there yet
        yield


def accelerator(device: str) -> HWAccel:
    """The GPU as PyAV knows it, to be opened within :func:`context_of`."""
    return HWAccel(
        "cuda",
        str(torch.device(device).index or 0),
        allow_software_fallback=True,
        options={"primary_ctx": "0", "current_ctx": "1"},
        is_hw_owned=True,
    )


def hardware_decoder(stream: VideoStream, device: str) -> VideoCodecContext | None:
    """A decoder for a stream that uses NVDEC where NVDEC takes it, not yet open.

    None where the stream's codec or ``device`` ("cuda", "cuda:1") cannot be used.
    """
    given = stream.codec_context
    context = _decoder(given.codec.canonical_name, device)
    if context is not None:
        context.extradata = given.extradata
        context.reorder_depth = given.reorder_depth
    return context


def nvdec_starts(device: str = "cuda") -> bool:
    """Whether there is an NVIDIA GPU that torch and FFmpeg can both use."""
    return _decoder("h264", device) is not None


def _decoder(codec: str, device: str) -> VideoCodecContext | None:
    if not torch.cuda.is_available():
        return None
    try:
        with context_of(device):
            # FFmpeg's decoder by the codec's own name: for AV1 PyAV takes one without NVDEC.
            context = CodecContext.create(Codec(codec, "r"), "r", hwaccel=accelerator(device))
    except (av.error.FFmpegError, RuntimeError, ValueError):
        return None
    return context if isinstance(context, VideoCodecContext) and context.is_hwaccel else None


def fetch(picture: VideoFrame, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Y, U and V of a decoded surface, on its device and complete; the surface is free again."""
    # A capsule, because torch would ask the plane itself to wait for a stream, which PyAV refuses.
    luma, chroma = (torch.from_dlpack(plane.__dlpack__()) for plane in picture.planes)
    if not luma.is_cuda:
        return split(luma, chroma, bits)
    stream = torch.cuda.default_stream(luma.device)  # FFmpeg's
    with torch.cuda.stream(stream):
        planes = split(luma, chroma, bits)
    stream.synchronize()
    return planes


class Surfaces:
    """The surfaces of one encoder, filled with pictures that lie on the device.

    NVENC looks for chroma below luma whatever a picture says of its planes, and knows memory
    again by its address alone. So a surface is one block, and belongs to the encoder until its
    end: :meth:`release` only lets the next picture have it.
    """

    def __init__(self, layout: PlaneLayout, width: int, height: int) -> None:
        form = surface_format(layout, width, height)
        if form is None:
            raise ValueError(f"there is no surface for {layout} at {width}×{height}")
        self.pix_fmt = form
        self._bits, self._width, self._height = layout.bits, width, height
        self._free: list[Tensor] = []
        self._taken: dict[int, Tensor] = {}
        self._context: CudaContext | None = None

    def picture(self, planes: tuple[Tensor, ...], number: int) -> VideoFrame:
        """A picture for the encoder from Y, U and V, in a surface taken until it is released."""
        block = self._free.pop() if self._free else self._new_block(planes[0])
        self._taken[number] = block
        luma = block[: self._height, : self._width]
        chroma = block[self._height :, : self._width].unflatten(1, (-1, 2))
        merge(planes, self._bits, luma, chroma)
        if block.is_cuda:
            torch.cuda.current_stream(block.device).synchronize()  # NVENC waits for no stream
            self._context = self._context or CudaContext(
                block.device.index, primary_ctx=False, current_ctx=True
            )
        with context_of(block.device):
            return VideoFrame.from_dlpack(
                (luma, chroma), format=self.pix_fmt, cuda_context=self._context
            )

    def release(self, number: int | None) -> None:
        """The encoder is done with the picture of that number."""
        block = None if number is None else self._taken.pop(number, None)
        if block is not None:
            self._free.append(block)

    def _new_block(self, like: Tensor) -> Tensor:
        elements = _PITCH // like.element_size()
        pitch = -(-self._width // elements) * elements
        rows = self._height + self._height // 2
        return torch.zeros((rows, pitch), dtype=like.dtype, device=like.device)
