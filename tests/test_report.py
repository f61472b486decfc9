"""The parts of a report: text, pictures, charts, and the page that holds them."""

from __future__ import annotations

import base64
import io
import math
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vfi_cli.errors import OutputError
from vfi_cli.report import Mark, Page, Panel, Picture, Point, Series, check_report, embed, versions
from vfi_cli.report.axis import log_axis, position_axis, value_axis
from vfi_cli.report.charts import BINS, chart, reduce
from vfi_cli.report.text import escaped, number, plain

HOSTILE = (
    "<script>alert(1)</script>.mp4",
    "a & b \"quoted\" 'single'.mkv",
    '"><img src=x onerror=alert(1)>.mp4',
    "</title></style><b>.mp4",
    "line\nbreak\ttab\x7f.mp4",
    "\u202egnp.4pm",
    os.fsdecode(b"caf\xe9.mp4"),
    "שלום عالم.mp4",
)


class Structure(HTMLParser):
    """The elements of a page, and whether they are closed in order."""

    VOID = frozenset({"meta", "link", "img", "rect", "line", "path", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open, f"</{tag}> closes nothing"
            assert self.open.pop() == tag, f"</{tag}> does not close what is open"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def structure(markup: str) -> Structure:
    parser = Structure()
    parser.feed(markup)
    parser.close()
    assert not parser.open, f"left open: {parser.open}"
    return parser


def noise(width: int = 64, height: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def full_page(name: str = "clip.mp4") -> Page:
    """A page with one of everything, called by a name wherever a name can stand."""
    page = Page(name, name)
    page.summary([(name, name), ("frames", 8058)])
    page.notes([name], warning=True)
    page.section(name, name)
    page.chart(
        [Panel(name, [Series(name, [0, 1, 2], [1.0, None, 3.0])])],
        name,
        marks=[Mark(1, name, name)],
        x_kind="time",
    )
    page.line_chart([Series("b", [0, 1], [0.1, 0.2])], "x", "y", marks=[Mark(0.5, "cut")])
    page.slider([(name, noise()), (name, noise(seed=1))], name)
    page.slider([(f"{name}{n}", noise(seed=n)) for n in range(3)])
    page.picture(noise(), name)
    page.table([name, "value"], [[name, 1.5], ["b", None]], caption=name, highlight={(0, 1)})
    page.bar_chart([(name, 3.0), ("b", 1.0)], name, highlight=[name])
    page.scatter_chart([Point(1, 2, name)], name, name)
    page.facts(name, [(name, name), ("yes", True)])
    page.code(f"{name}\nsecond line")
    return page


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_stand(name: str) -> None:
    page = full_page(name).html()
    page.encode()  # no half of a character is left that UTF-8 cannot hold
    found = structure(page)
    tags = [tag for tag, _ in found.seen]
    assert tags.count("script") == 1
    assert "b" not in tags or all(not attributes for tag, attributes in found.seen if tag == "b")
    allowed = {"class", "style", "src", "alt", "width", "height", "draggable", "id", "type"}
    for tag, attributes in found.seen:
        assert not [key for key in attributes if key.startswith("on")], (tag, attributes)
        if tag == "img":
            assert set(attributes) <= allowed
            assert str(attributes["src"]).startswith("data:image/")
    text = "".join(found.words)
    assert plain(name) in text
    assert "\u202e" not in page


def test_a_page_refers_to_nothing_outside() -> None:
    page = full_page().html()
    without_pictures = re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", without_pictures, re.IGNORECASE)
    for tag, attributes in structure(page).seen:
        for key in ("src", "href"):
            assert str(attributes.get(key, "data:")).startswith("data:"), (tag, attributes)
    assert "default-src 'none'" in page


def test_what_cannot_be_shown_becomes_visible() -> None:
    assert plain("a\nb\x00\x7f") == "a␊b␀␡"
    assert plain(os.fsdecode(b"\xff")) == "\N{REPLACEMENT CHARACTER}"
    assert plain("e\u0301 \U0001f468\u200d\U0001f469") == "e\u0301 \U0001f468\u200d\U0001f469"
    assert escaped("<&\"'") == "&lt;&amp;&quot;&#x27;"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (8058, "8\u00a0058"),
        (0, "0"),
        (12800.0, "12\u00a0800"),
        (0.04211, "0.0421"),
        (-3.25, "−3.25"),
        (100.0, "100"),
        (math.inf, "∞"),
        (math.nan, "–"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_a_pages_figures_are_written_for_people() -> None:
    text = "".join(structure(full_page().html()).words)
    assert "8\u00a0058" in text
    assert "yes" in text


def test_the_numbers_of_a_column_share_their_decimals() -> None:
    page = Page("t")
    page.table(["a", "b"], [["x", 35.214], ["y", 31.0], ["z", None]])
    cells = re.findall(r'<td class="number">([^<]*)</td>', page.html())
    assert cells == ["35.21", "31.00", "–"]


def test_a_row_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="3 cells under 2"):
        Page("t").table(["a", "b"], [["x", 1, 2]])


def decoded(picture: Picture) -> np.ndarray:
    head, _, data = picture.uri.partition(",")
    assert re.fullmatch(r"data:image/(png|webp|jpeg);base64", head)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_small_pictures_are_exact() -> None:
    rgb = noise()
    assert np.array_equal(decoded(embed(rgb)), rgb)
    assert np.array_equal(decoded(embed(rgb / 255)), rgb)
    assert np.array_equal(decoded(embed(rgb[..., 0]))[..., 1], rgb[..., 0])


def test_large_pictures_stay_within_their_budget_and_look_the_same() -> None:
    y, x = np.mgrid[:1080, :1920]
    smooth = np.stack([x / 1920, y / 1080, (x + y) / 3000], axis=-1)
    picture = embed(smooth)
    assert (picture.width, picture.height) == (960, 540)
    expected = smooth[::2, ::2] * 255
    assert np.abs(decoded(picture).astype(float) - expected).mean() < 2
    hard = embed(noise(1500, 1000), limit=40_000)
    assert hard.size <= 40_000 * 4 / 3 + 100
    assert decoded(hard).shape[:2] == (hard.height, hard.width)


@pytest.mark.parametrize("shape", [(4, 4, 4), (4,), (0, 4, 3)])
def test_what_is_no_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a picture is"):
        embed(np.zeros(shape))
    with pytest.raises(ValueError, match="samples are"):
        embed(np.zeros((4, 4, 3), np.int32))


def test_one_picture_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="two pictures"):
        Page("t").slider([("alone", noise())])


def test_axes_end_on_round_numbers_and_show_them() -> None:
    axis = value_axis([0.3, 8.4])
    assert (axis.low, axis.high) == (0, 10)
    assert [text for _, text in axis.ticks()] == ["0", "5", "10"]
    assert axis.share(5) == 0.5
    assert axis.share(50) == 1
    assert value_axis([]).high > 0
    assert value_axis([4.0], from_zero=False).high > 4
    times = position_axis(0, 134, "time")
    assert [text for _, text in times.ticks()] == ["0:00", "0:30", "1:00", "1:30", "2:00"]
    hours = position_axis(0, 36000, "time")
    assert 3 <= len(hours.ticks()) <= 12
    powers = log_axis([1, 1000])
    assert [value for value, _ in powers.ticks()] == [1, 10, 100, 1000]
    assert powers.share(10**1.5) == pytest.approx(0.5)


def test_long_series_keep_their_extremes_and_their_interruptions() -> None:
    count = 100_000
    x = np.arange(count) / 25
    y: list[float | None] = [5.0] * count
    y[40_000], y[70_000], y[55_000:56_000] = 99.0, -7.0, [None] * 1000
    points = reduce(Series("s", x.tolist(), y), 0, x[-1])
    assert len(points) <= 3 * BINS
    assert (x[40_000], 99.0) in points
    assert (x[70_000], -7.0) in points
    assert any(value is None and 2200 <= place <= 2240 for place, value in points)
    assert [place for place, _ in points] == sorted(place for place, _ in points)


def test_short_series_are_drawn_as_they_are() -> None:
    points = reduce(Series("s", [0, 1, 2], [1, math.nan, 3]), 0, 2)
    assert points == [(0, 1), (1, None), (2, 3)]
    markup = chart([Panel("p", [Series("s", [0, 1, 2, 3], [1, None, 3, 2])])])
    line = re.search(r'class="line s0" d="([^"]*)"', markup)
    assert line is not None
    assert line[1].count("M") == 2  # interrupted, not bridged


def test_a_chart_of_ten_hours_is_small() -> None:
    count = 10 * 3600 * 60
    x = np.arange(count) / 60
    y = np.abs(np.sin(x)) * 10
    marks = [Mark(float(place), "repeated frame") for place in x[::40]]
    marks += [Mark(float(place), "cut") for place in x[::400]]
    markup = chart([Panel("p", [Series("s", x, y.tolist())])], marks=marks, x_kind="time")
    assert len(markup) < 400_000
    structure(markup)


def test_a_chart_tells_its_values_and_marks_where_the_pointer_rests() -> None:
    series = Series("motion", [0, 1, 2, 3], [1, 2, 7.25, 4])
    markup = chart([Panel("p", [series])], marks=[Mark(2, "cut", "a new scene")], x_kind="time")
    tips = re.findall(r"<title>([^<]*)</title>", markup)
    assert any("motion: 7.25" in tip and "a new scene" in tip for tip in tips)
    assert 'class="mark"' in markup


def test_charts_of_nothing_and_of_one_value_are_drawn() -> None:
    for series in (Series("s", [], []), Series("s", [1], [2]), Series("s", [1, 2], [None, None])):
        structure(chart([Panel("p", [series])]))
    page = Page("t")
    page.bar_chart([])
    page.bar_chart([("a", 0.0), ("b", math.inf)])
    page.scatter_chart([], "x", "y", x_logarithmic=True)
    structure(page.html())


def test_series_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="1 places for 2 values"):
        Series("s", [1], [1, 2])


def test_a_report_appears_whole_and_replaces_only_when_asked(tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    assert full_page().write(target) == target
    first = target.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        Page("other").write(target)
    assert target.read_bytes() == first
    Page("other").write(target, overwrite=True)
    assert b"<title>other</title>" in target.read_bytes()
    assert os.listdir(tmp_path) == ["r.html"]


def test_where_no_report_can_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "d.html").mkdir()
    for path, said in (
        (tmp_path / "report.pdf", r"name it report\.html"),
        (tmp_path / "none" / "r.html", "does not exist"),
        (tmp_path / "d.html", "is a folder"),
    ):
        with pytest.raises(OutputError, match=said):
            check_report(path, overwrite=True)


def test_a_folder_that_cannot_be_written_to_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: not (path == tmp_path and mode & os.W_OK))
    with pytest.raises(OutputError, match="cannot be written to"):
        check_report(tmp_path / "r.html", overwrite=False)


def test_versions_name_what_made_the_report() -> None:
    names = [name for name, _ in versions()]
    assert names[:2] == ["vfi", "PyTorch"]
    assert all(version for _, version in versions())
