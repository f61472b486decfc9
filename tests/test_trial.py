"""What an encoder or a container cannot do is found on one frame."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from tests.media import write_clip
from vfi_cli.errors import OutputError
from vfi_cli.io.containers import muxer_for
from vfi_cli.io.decode import SourceInfo, probe
from vfi_cli.io.encode import EncoderOptions, choose_encoder
from vfi_cli.io.formats import pixel_format
from vfi_cli.io.trial import try_output


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> SourceInfo:
    return probe(write_clip(tmp_path_factory.mktemp("source") / "a.mp4", frames=2))


def attempt(
    clip: SourceInfo,
    codec: str,
    suffix: str,
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
) -> None:
    width, height = size
    form = pixel_format(pix_fmt)
    assert form is not None
    like = replace(clip, layout=form.layout, pix_fmt=pix_fmt, width=width, height=height)
    config = choose_encoder(EncoderOptions(codec=codec), like, suffix)
    try_output(config, muxer_for(suffix), fps=Fraction(25), width=width, height=height)


@pytest.mark.parametrize(
    ("codec", "suffix", "size"),
    [
        ("h264", ".mp4", (64, 48)),
        ("h264", ".ts", (64, 48)),
        ("hevc", ".mov", (16, 16)),
        ("hevc", ".mkv", (4096, 2160)),
        ("av1", ".mkv", (67, 51)),
        ("vp9", ".webm", (64, 48)),
        ("ffv1", ".avi", (1, 1)),
        ("rawvideo", ".avi", (64, 48)),
        ("utvideo", ".avi", (64, 48)),
        ("utvideo", ".nut", (64, 48)),
        ("h263", ".avi", (704, 576)),  # which knows five sizes alone
    ],
)
def test_what_works_is_let_through(
    clip: SourceInfo, codec: str, suffix: str, size: tuple[int, int]
) -> None:
    attempt(clip, codec, suffix, size=size)


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt", "size", "words"),
    [
        ("hevc", ".mp4", "yuv420p", (12, 10), r"Image size is too small \(12x10\)"),
        ("rawvideo", ".avi", "yuv444p", (64, 48), "64×48 in yuv444p.*AVI.*--pix-fmt"),
        ("rawvideo", ".mov", "yuv420p10le", (64, 48), "yuv420p10le.*QuickTime"),
        ("rawvideo", ".mkv", "gbrp", (64, 48), "gbrp.*Matroska"),
    ],
)
def test_what_does_not_work_is_said(
    clip: SourceInfo, codec: str, suffix: str, pix_fmt: str, size: tuple[int, int], words: str
) -> None:
    with pytest.raises(OutputError, match=words) as caught:
        attempt(clip, codec, suffix, pix_fmt, size)
    assert "\n" not in str(caught.value)


def test_utvideo_comes_through_a_join(tmp_path: Path) -> None:
    """Its tag in the container alone tells its pixel format."""
    from vfi_cli import convert

    write_clip(tmp_path / "in.mkv", frames=3, pix_fmt="yuv444p")
    made = convert(
        tmp_path / "in.mkv", tmp_path / "out.avi", factor=2, model="blend", codec="utvideo"
    )
    assert probe(made.output).pix_fmt == "yuv444p"
