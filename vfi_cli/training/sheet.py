"""The contact sheet of a run: what the network makes of the same few crops, to be looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vfi_cli.training.validation import Rebuilt, pixels

Picture = NDArray[np.uint8]

#: By how much errors are brightened.
GAIN = 4
_GAP, _HEAD, _LABEL = 6, 26, 22
_PAPER, _INK = (250, 250, 248), (40, 40, 44)
#: Steps of the wheel from one of its six colours to the next, from red on (Baker et al., "A
#: Database and Evaluation Methodology for Optical Flow", IJCV 2011).
_WHEEL = (15, 6, 4, 11, 13, 6)
_CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))


def flow_colours(flow: Tensor, longest: float | None = None) -> Picture:
    """A flow (2, H, W) as colours (H, W, 3): the wheel's hue is the direction, its saturation
    the length as a share of ``longest`` (by default the longest here), white is no motion."""
    u, v = (part.numpy().astype(np.float64) for part in flow.detach().cpu().float())
    length = np.hypot(u, v)
    if longest is None:
        longest = float(length.max())
    share = length / max(longest, 1e-6)
    wheel = np.array(
        [
            [a + (b - a) * k / steps for a, b in zip(one, other, strict=True)]
            for one, other, steps in zip(
                _CORNERS, (*_CORNERS[1:], _CORNERS[0]), _WHEEL, strict=True
            )
            for k in range(steps)
        ]
    )
    place = (np.arctan2(-v, -u) / math.pi + 1) / 2 * (len(wheel) - 1)
    low = np.floor(place).astype(int)
    part = (place - low)[..., None]
    hue = wheel[low] * (1 - part) + wheel[(low + 1) % len(wheel)] * part
    inside = np.minimum(share, 1)[..., None]
    colours = (1 - inside * (1 - hue)) * np.where(share > 1, 0.75, 1.0)[..., None]
    return (colours * 255).round().astype(np.uint8)


def draw_sheet(rebuilt: Sequence[Rebuilt], title: str) -> Image.Image:
    """A row for each crop: both inputs, the truth, the result, its error and its flow."""
    columns = ("before", "after", "truth", "result", f"error x{GAIN}", "flow")
    height, width = (max(edge) for edge in zip(*(x.truth.shape[1:] for x in rebuilt), strict=True))
    font = ImageFont.load_default(size=13)
    row = height + _LABEL + _GAP
    sheet = Image.new(
        "RGB",
        (len(columns) * (width + _GAP) + _GAP, 2 * _HEAD + len(rebuilt) * row),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, 5), title, _INK, font)
    for number, name in enumerate(columns):
        pen.text((_GAP + number * (width + _GAP), _HEAD + 5), name, _INK, font)
    for line, item in enumerate(rebuilt):
        error = (item.picture.clamp(0, 1) - item.truth).abs() * GAIN
        longest = float(item.flow.square().sum(0).sqrt().max())
        cells = [pixels(x) for x in (item.before, item.after, item.truth, item.picture, error)]
        cells.append(flow_colours(item.flow))
        y = 2 * _HEAD + line * row
        for number, cell in enumerate(cells):
            sheet.paste(Image.fromarray(cell), (_GAP + number * (width + _GAP), y))
        text = f"{item.name}   {item.psnr:.2f} dB   flow up to {longest:.1f} px"
        pen.text((_GAP, y + height + 2), text, _INK, font)
    return sheet
