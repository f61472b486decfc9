"""Reports as a person meets them: opened from disk in a browser, moved, read in light and dark."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browser import Browser
from tests.test_report import full_page
from vfi_cli.report import Page, Point

LEFT, RIGHT, ASIDE = (220, 40, 40), (40, 40, 220), (40, 200, 40)

#: The least contrast of all text in the page with what lies behind it (WCAG 2, relative luminance).
CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = parse(getComputedStyle(e).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  let least = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("script, svg, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least[0]) least = [ratio, element.outerHTML.slice(0, 80)];
  }
  return least;
})()"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
POSITION = "document.querySelectorAll('.handle')[%d].getAttribute('aria-valuenow')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser
        assert browser.console == []
        assert all(address.startswith(("file:", "data:")) for address in browser.requests)
        assert browser.requests


def plain(colour: tuple[int, int, int]) -> np.ndarray:
    return np.full((100, 200, 3), colour, np.uint8)


@pytest.fixture
def comparison(browser: Browser, tmp_path: Path) -> Browser:
    """A page with a comparison of two pictures, and below it one of three."""
    page = Page("comparison")
    page.slider([("left", plain(LEFT)), ("right", plain(RIGHT))], "two")
    page.slider([("left", plain(LEFT)), ("aside", plain(ASIDE)), ("right", plain(RIGHT))])
    browser.resize(1280, 900)
    browser.prefer(dark=False)
    browser.open(page.write(tmp_path / "page.html"))
    return browser


def box(browser: Browser, selector: str) -> tuple[float, float, float, float]:
    """Left, top, width and height of an element."""
    found = browser.evaluate(
        f"(() => {{const b = document.querySelector('{selector}').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]})()"
    )
    left, top, width, height = found
    return left, top, width, height


def colour_at(browser: Browser, selector: str, across: float) -> tuple[int, ...]:
    """The colour on the screen at a share of an element's width, above the round handle."""
    left, top, width, height = box(browser, selector)
    screen = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    pixel = screen.getpixel((round(left + across * width), round(top + 0.1 * height)))
    assert isinstance(pixel, tuple)
    return pixel


def near(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= 12


def test_the_pictures_meet_in_the_middle(comparison: Browser) -> None:
    assert near(colour_at(comparison, ".stage", 0.45), LEFT)
    assert near(colour_at(comparison, ".stage", 0.55), RIGHT)


def test_the_line_follows_the_pointer(comparison: Browser) -> None:
    left, top, width, height = box(comparison, ".stage")
    middle = top + height / 2
    comparison.mouse("mousePressed", left + 0.5 * width, middle)
    comparison.mouse("mouseMoved", left + 0.8 * width, middle)
    assert comparison.evaluate(POSITION % 0) == "80"
    comparison.mouse("mouseMoved", left + 3 * width, middle)  # beyond the picture
    assert comparison.evaluate(POSITION % 0) == "100"
    comparison.mouse("mouseMoved", left + 0.25 * width, middle)
    comparison.mouse("mouseReleased", left + 0.25 * width, middle)
    comparison.mouse("mouseMoved", left + 0.9 * width, middle)  # no longer held
    assert comparison.evaluate(POSITION % 0) == "25"
    assert near(colour_at(comparison, ".stage", 0.2), LEFT)
    assert near(colour_at(comparison, ".stage", 0.3), RIGHT)
    assert comparison.evaluate(POSITION % 1) == "50"


def test_the_line_follows_a_finger(comparison: Browser) -> None:
    left, top, width, height = box(comparison, ".stage")
    comparison.touch("touchStart", (left + 0.5 * width, top + height / 2))
    for share in (0.4, 0.3, 0.2):
        comparison.touch("touchMove", (left + share * width, top + height / 2))
    comparison.touch("touchEnd")
    assert abs(int(comparison.evaluate(POSITION % 0)) - 20) <= 1


def test_the_line_follows_the_keys(comparison: Browser) -> None:
    comparison.evaluate("document.querySelector('.handle').focus()")
    for key, expected in (
        ("ArrowRight", 52),
        ("ArrowLeft", 50),
        ("ArrowLeft", 48),
        ("PageUp", 58),
        ("End", 100),
        ("ArrowRight", 100),
        ("Home", 0),
    ):
        comparison.key(key)
        assert comparison.evaluate(POSITION % 0) == str(expected), key
    assert near(colour_at(comparison, ".stage", 0.05), RIGHT)


def test_each_side_shows_what_is_chosen_for_it(comparison: Browser) -> None:
    second = "figure:nth-of-type(2) .stage"
    choose = (
        "(() => {const list = document.querySelectorAll('select')[%d]; list.value = '%d';"
        "list.dispatchEvent(new Event('change'))})()"
    )
    comparison.evaluate(choose % (0, 1))
    assert near(colour_at(comparison, second, 0.3), ASIDE)
    assert near(colour_at(comparison, second, 0.7), RIGHT)
    comparison.evaluate(choose % (0, 2))  # what stands on the right: the two exchange places
    assert near(colour_at(comparison, second, 0.3), RIGHT)
    assert near(colour_at(comparison, second, 0.7), ASIDE)
    label = comparison.evaluate("document.querySelectorAll('.handle')[1].ariaLabel")
    assert label == "Border between right and aside"


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_in_light_and_dark(browser: Browser, tmp_path: Path, dark: bool) -> None:
    browser.prefer(dark=dark)
    browser.open(full_page().write(tmp_path / "page.html"))
    shades = [int(part) for part in browser.evaluate(BACKGROUND)[4:-1].split(",")]
    assert max(shades) < 60 if dark else min(shades) > 200
    contrast, where = browser.evaluate(CONTRAST)
    assert contrast >= 4.5, where
    browser.evaluate("document.getElementById('theme').click()")
    shades = [int(part) for part in browser.evaluate(BACKGROUND)[4:-1].split(",")]
    assert min(shades) > 200 if dark else max(shades) < 60
    contrast, where = browser.evaluate(CONTRAST)
    assert contrast >= 4.5, where


@pytest.mark.parametrize("width", [320, 400, 1280])
def test_nothing_sticks_out_at_the_side(browser: Browser, tmp_path: Path, width: int) -> None:
    browser.resize(width, 800)
    page = full_page("a-long-name-without-any-place-to-break-it" * 4)
    browser.open(page.write(tmp_path / "page.html"))
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_words_of_a_table_stay_whole_on_a_narrow_screen(browser: Browser, tmp_path: Path) -> None:
    browser.resize(320, 800)
    page = Page("t")
    page.table(["model", "PSNR", "SSIM", ""], [["minterpolate", 35.0, 0.98, "bfloat16 on cpu"]])
    browser.open(page.write(tmp_path / "page.html"))
    assert browser.evaluate("document.querySelector('tbody tr').offsetHeight") < 100
    assert browser.evaluate("document.documentElement.scrollWidth") <= 320


def test_names_of_neighbouring_dots_do_not_cover_each_other(
    browser: Browser, tmp_path: Path
) -> None:
    browser.resize(400, 800)
    page = Page("t")
    points = [Point(6, 31.06, "default"), Point(11, 31.04, "minterpolate"), Point(200, 28, "x")]
    page.scatter_chart(points, "frames a second", "PSNR, dB", x_logarithmic=True)
    browser.open(page.write(tmp_path / "page.html"))
    first, second = browser.evaluate(
        "[...document.querySelectorAll('.dot bdi')].slice(0, 2).map((name) => {"
        "const b = name.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]})"
    )
    assert first[2] <= second[0] or first[3] <= second[1] or second[3] <= first[1]


def test_on_paper_both_pictures_are_seen_whole(comparison: Browser) -> None:
    comparison.call("Emulation.setEmulatedMedia", media="print")
    boxes = comparison.evaluate(
        "[...document.querySelectorAll('.stage')[0].querySelectorAll('img')].map((image) => {"
        "const b = image.getBoundingClientRect(); return [b.left, b.width]})"
    )
    hidden = "getComputedStyle(document.querySelector('{}')).display"
    shown = [comparison.evaluate(hidden.format(tool)) for tool in ("button", ".handle", "select")]
    comparison.call("Emulation.setEmulatedMedia", media="")
    assert shown[:2] == ["none", "none"], "what paper has no use for"
    assert shown[2] != "none", "the lists name the pictures"
    assert boxes[0][0] + boxes[0][1] <= boxes[1][0]
    assert min(boxes[0][1], boxes[1][1]) > 50
