"""The page in a real browser: it reads on a phone and on a desk, loads nothing, and Japanese has its letters."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from tasks.record.render import HTML, pages
from tests.support.report_factory import story

HOSTILE = "<img src=http://evil.example/x onerror=alert(1)> ![](http://evil.example) \u202e" + "証跡" * 90 + "w" * 400
INK = """text => {
    const canvas = document.createElement('canvas');
    const brush = canvas.getContext('2d', {willReadFrequently: true});
    brush.font = `40px ${getComputedStyle(document.body).fontFamily}`;
    brush.fillText(text, 10, 60);
    return Array.from(brush.getImageData(0, 0, 300, 150).data).filter((_, place) => place % 4 === 3).join();
}"""
"""The ink of a text in the page's own font: two letters without a glyph look the same."""
# A picture scrolls within its frame; a table's head is out of sight on a phone.
OVERFLOWING = """() => [...document.querySelectorAll('main *')]
    .filter(each => !each.closest('figure, thead') && each.getBoundingClientRect().right > innerWidth + 1)
    .map(each => each.outerHTML.slice(0, 80))"""


class Seen:
    """A page that was opened, with what it asked for and what it complained of."""

    def __init__(self, browser: Browser, path: Path, width: int, scheme: str = "light") -> None:
        """Open it."""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page: Page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page.on("request", self._requested)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())

    def _requested(self, request: Request) -> None:
        self.requests.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        self.complaints.append(message.text)


def written(folder: Path, text: str) -> Path:
    """The page of a story in which every free text is this one."""
    path = folder / HTML
    path.write_bytes(pages(story(text)).files[HTML])
    return path


@pytest.mark.whole
@pytest.mark.parametrize("text", ["a reason", HOSTILE], ids=["plain", "hostile"])
@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_fits_loads_nothing_and_complains_of_nothing(
    browser: Browser, tmp_path: Path, width: int, text: str
) -> None:
    path = written(tmp_path, text)
    seen = Seen(browser, path, width)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate(OVERFLOWING) == []
    assert seen.requests == [path.as_uri()]
    assert seen.complaints == []
    assert seen.page.locator("main img, main a, main script").count() == 0


def test_japanese_is_written_in_a_font_that_has_its_letters(browser: Browser, tmp_path: Path) -> None:
    page = Seen(browser, written(tmp_path, "a reason"), 1280).page
    nothing, *letters = (page.evaluate(INK, letter) for letter in "\ue000証跡凍結済撤収")
    assert nothing not in letters
    assert len(set(letters)) == len(letters)
    assert page.evaluate("getComputedStyle(document.querySelector('h1 [lang=ja]')).fontFamily") == page.evaluate(
        "getComputedStyle(document.body).fontFamily"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_by_day_and_by_night(browser: Browser, tmp_path: Path, scheme: str) -> None:
    page = Seen(browser, written(tmp_path, "a reason"), 1280, scheme).page
    contrasts = page.evaluate(
        """() => {
            const light = colour => {
                const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
                    .map(each => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const ground = each => {
                const colour = getComputedStyle(each).backgroundColor;
                return colour === 'rgba(0, 0, 0, 0)' && each.parentElement ? ground(each.parentElement) : colour;
            };
            return [...document.querySelectorAll('dt, dd, th, td, code, pre, strong, h1, h2, .open, .both span')]
                .map(each => [light(getComputedStyle(each).color), light(ground(each))])
                .map(([ink, paper]) => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05));
        }"""
    )
    assert min(contrasts) >= 4.5, "WCAG 2.1 AA"


def test_the_picture_is_there_with_text_that_can_be_selected(browser: Browser, tmp_path: Path) -> None:
    page = Seen(browser, written(tmp_path, "a reason"), 1280).page
    box = page.locator("figure svg").bounding_box()
    assert box
    assert box["width"] > 700
    assert "凍結完了 frozen" in str(page.locator("figure svg").inner_html())
    assert page.locator("figure svg text").count() > 10


def test_on_paper_the_tables_stay_tables_and_nothing_is_cut_off(browser: Browser, tmp_path: Path) -> None:
    seen = Seen(browser, written(tmp_path, HOSTILE), 700)
    seen.page.emulate_media(media="print")
    assert seen.page.evaluate("getComputedStyle(document.querySelector('td')).display") == "table-cell"
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 700
