"""Reports that people look at: one HTML file each, opened from disk, nothing loaded from elsewhere.

A report is a :class:`Page` that collects its parts in order and is written once::

    page = Page("holiday.mp4 at 60 fps", "1920×1080, 2:14.3")
    page.summary([("frames", 8058), ("new", 4031), ("took", "54 s")])
    page.section("Over time", "Where the clip is hard.")
    page.chart(
        [Panel("Motion, pixels per frame", [Series("mean", seconds, pixels)])],
        marks=[Mark(12.5, "cut"), Mark(13.0, "repeated frame")],
        x_kind="time",
    )
    page.section("Hard moments")
    page.slider([("blend", rgb_a), ("vfi", rgb_b)], "0:12.48")  # two or more, uint8 (H, W, 3)
    page.table(["model", "PSNR, dB"], [["default", 35.2], ["blend", 31.0]], highlight={(0, 1)})
    page.bar_chart([("default", 35.2), ("blend", 31.0)], "dB", highlight=["default"])
    page.scatter_chart([Point(48, 35.2, "default")], "frames a second", "PSNR, dB")
    page.facts("Settings", [("model", "default"), ("device", "cpu")])  # blocks stand side by side
    page.notes(["the sound was left out"], warning=True)
    page.write("report.html", overwrite=False)  # whole or not at all; OutputError

Everything given as text is escaped, so names go in as they are, whatever bytes they hold.
Call :func:`check_report` before long work whose report could not be written afterwards, and
:func:`versions` for what a report should say of the programs that made it. Light and dark,
narrow and wide, paper and keyboard are the page's own business. The page of a conversion is
:func:`vfi_cli.report.conversion.write_report`, kept apart because it needs all of the house.
"""

from vfi_cli.report.charts import Mark, Panel, Point, Series
from vfi_cli.report.page import Page, check_report, versions
from vfi_cli.report.pictures import Picture, embed

__all__ = [
    "Mark",
    "Page",
    "Panel",
    "Picture",
    "Point",
    "Series",
    "check_report",
    "embed",
    "versions",
]
