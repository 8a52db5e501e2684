"""The record's two pages: whatever text stands in a story, they keep their shape, and nothing of it becomes markup."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import End, Stop, Stopped
from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome
from tasks.custody.incident.verdict import Verdict, Word
from tasks.record.postmortem import PICTURE, postmortem
from tasks.record.render import HTML, MARKDOWN, pages, with_pictures
from tasks.rendering.document import Tone
from tasks.rendering.markdown import markdown
from tasks.rendering.webpage import POLICY, html
from tests.support.examples import scaled
from tests.support.report_factory import NOW, story

VOID = {"meta", "link", "br", "hr", "img", "input"}
HOSTILE = [
    "a | b",
    "line\nbreak",
    "carriage\rreturn",
    "`code` ``more``",
    "back\\",
    "back\\|slash",
    "\\`",
    "\x00\x1b[31m\x07",
    "\u2028\u2029\x85\x0b\x0c",
    "\u202eright to left",
    "\udcff",
    "\n## 恒久対策\n\n| a | b |",
    "\n```\n# out of the fence\n",
    "[a](http://evil.example) ![b](http://evil.example/b.png) <http://evil.example>",
    "http://evil.example www.evil.example a@evil.example mailto:a@evil.example (https://evil.example)",
    "[ref]: http://evil.example\n[ref] [^1]\n[^1]: note",
    "<script>alert(1)</script><img src=x onerror=alert(1)><!-- --></style></title></svg></code>",
    "&lt;script&gt; &#60;b&#62; &amp;",
    "' \" > < onload=alert(1)",
    "]]> <![CDATA[ <?xml ?>",
    "*a* _b_ ~~c~~ **d** $x$ :smile: @user #1",
    "- [ ] task",
    "$(reboot); `reboot` 'quoted",
    "z\u0300\u0301\u0302\u0303\u0304\u0305",
    "\u3164 \u2066 \u200b \ufeff",
    "x" * 5000,
]
TEXTS = st.lists(
    st.sampled_from([*"|`\\\n\r\t#-*<>&\"'[]()!@$~_", "\x1b", "\u2028", "\u202e", "a", " ", "\udc80", "://", "www."])
    | st.characters(),
    min_size=1,
    max_size=14,
).map("".join)


class Shape(HTMLParser):
    """The elements of a page with their attributes, and no text; how it is nested is checked on the way."""

    def __init__(self, page: str) -> None:
        """Read the page."""
        super().__init__()
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.elements.append((tag, tuple(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It must be the one that was opened last."""
        assert self._open.pop() == tag

    def handle_comment(self, data: str) -> None:
        """There is none."""
        raise AssertionError(data)

    def handle_data(self, data: str) -> None:
        """Note it."""
        self.text.append(data)


def without_figures(shape: Shape) -> list[tuple[str, tuple[tuple[str, str | None], ...]]]:
    """The picture's places depend on how wide its words are; its elements don't."""
    places = {"x", "y", "width", "height", "x1", "x2", "y1", "y2", "class", "points"}
    return [(tag, tuple(each for each in attrs if each[0] not in places)) for tag, attrs in shape.elements]


def tokens(text: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        yield token
        yield from token.children or ()


def blocks(text: str) -> list[str]:
    return [token.type for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)]


PLAIN = story("x")
PLAIN_SHAPE = without_figures(Shape(html(postmortem(PLAIN))))
PLAIN_BLOCKS = blocks(markdown(postmortem(PLAIN)))


def assert_html_keeps_its_shape(hostile: str) -> None:
    page = html(postmortem(story(hostile)))
    shape = Shape(page)
    assert without_figures(shape) == PLAIN_SHAPE
    assert all(letter.isprintable() or letter in "\n\u3000" for letter in page)
    assert page.encode().decode() == page


def assert_markdown_keeps_its_shape(hostile: str) -> None:
    text = markdown(postmortem(story(hostile)))
    assert blocks(text) == PLAIN_BLOCKS
    seen = list(tokens(text))
    assert {token.type for token in seen}.isdisjoint({"link_open", "html_inline", "html_block", "em_open", "s_open"})
    assert [token.attrs["src"] for token in seen if token.type == "image"] == [PICTURE]
    plain = [token.content for token in seen if token.type == "text"]
    assert not [each for each in plain if re.search(r"://|www\.|\w@|mailto:", each)]
    assert all(letter.isprintable() or letter in "\n\u3000" for letter in text)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: ascii(text[:16]))
def test_hostile_text_changes_no_element_of_the_page(hostile: str) -> None:
    assert_html_keeps_its_shape(hostile)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda text: ascii(text[:16]))
def test_hostile_text_becomes_no_markup_and_breaks_no_row(hostile: str) -> None:
    assert_markdown_keeps_its_shape(hostile)


@pytest.mark.slow
@settings(max_examples=scaled(60), deadline=None)
@given(TEXTS)
@example("`|`")
def test_no_text_changes_the_shape_of_a_page(text: str) -> None:
    assert_html_keeps_its_shape(text)
    assert_markdown_keeps_its_shape(text)


def test_what_hides_is_shown_by_its_name() -> None:
    text = "".join(Shape(html(postmortem(story("a\u202eb\x1bc\nd\x7f")))).text)
    assert "a⟨U+202E⟩b␛c␊d␡" in text
    assert "a⟨U+202E⟩b␛c␊d␡" in markdown(postmortem(story("a\u202eb\x1bc\nd\x7f")))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    shape = Shape(html(postmortem(story())))
    assert {tag for tag, _ in shape.elements}.isdisjoint({"script", "link", "a", "img", "iframe", "object", "form"})
    names = {name for _, attrs in shape.elements for name, _ in attrs}
    assert not [name for name in names if name.startswith("on") or name in {"href", "src", "style"}]
    policies = [
        dict(attrs)["content"] for tag, attrs in shape.elements if "Content-Security-Policy" in dict(attrs).values()
    ]
    assert policies == [POLICY]
    assert "url(" not in html(postmortem(story()))


def test_both_languages_are_marked_as_what_they_are() -> None:
    page = html(postmortem(story()))
    assert '<html lang="ja">' in page
    assert not re.findall(r'lang="en">[^<]*[\u3040-\u30ff\u4e00-\u9fff]', page)


def ten_thousand() -> dict[str, Any]:
    """More of everything than anybody reads."""
    many = range(10_000)
    long = "\u202e" * 5000
    stopped = [Stopped(Identity(n, n), "training", f"{n} {long}", (("SIGINT", NOW),), End.STOPPED, NOW) for n in many]
    survivor = Stopped(Identity(77_777, 1), "training", "the survivor", (), End.SURVIVED, None)
    lost = tuple(Loss(f"models/{n}", Outcome.DENIED, long) for n in many)
    evidence = [
        Evidence(
            f"c{n}",
            needed=False,
            may_be_missing=False,
            outcome=Outcome.DENIED,
            reason=long,
            started_at=NOW,
            ended_at=NOW,
            volume=1,
            losses=lost,
        )
        for n in range(3)
    ]
    return {
        "stop": Stop(NOW, (*stopped, survivor)),
        "evidence": tuple(evidence),
        "verdict": Verdict(
            Word.PARTIAL, (), tuple(f"{n} {long}" for n in many), tuple(f"{n} {long}" for n in many), "next"
        ),
        "entries": [*story().entries] * 1000,
    }


@pytest.mark.whole
@pytest.mark.slow
def test_ten_thousand_of_each_are_cut_with_a_count_and_the_worst_is_shown() -> None:
    made = pages(story(**ten_thousand()))
    assert made.trouble == ()
    assert max(map(len, made.files.values())) < 4_000_000
    text = made.files[MARKDOWN].decode()
    assert "the survivor" in text
    assert "29800 more rows: `verdict.json: coverage`" in text
    assert re.search(r"\d+ more rows: `verdict.json: freeze, stop, watch`", text)
    assert "9960 more; all are in verdict.json" in text


def test_a_page_that_cannot_be_made_is_named_in_the_one_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise ValueError("no page today")

    monkeypatch.setattr("tasks.record.render.html", broken)
    made = pages(story())
    assert set(made.files) == {MARKDOWN, PICTURE}
    assert made.trouble == ("postmortem.html could not be made: ValueError: no page today",)
    assert "no page today" in made.files[MARKDOWN].decode()


def test_a_section_that_cannot_be_told_costs_no_other() -> None:
    made = pages(story(entries=[{"utc": "not a time", "action": "step done", "object": "x"}]))
    assert set(made.files) == {MARKDOWN, HTML}
    assert [each.split(":")[0] for each in made.trouble] == [
        "Detected could not be told",
        "Timeline could not be told",
        "Every moment of the timeline could not be told",
    ]
    text = made.files[MARKDOWN].decode()
    assert "## 暫定対処" in text
    assert "not a time" in text


def test_the_ui_gets_the_picture_within_the_text() -> None:
    text = with_pictures(postmortem(story("](timeline.svg)")))
    (found,) = re.findall(r"^!\[[^\]]*\]\((.*)\)$", text, re.MULTILINE)
    assert found.startswith("data:image/svg+xml;base64,")
    assert text.count("data:image") == 1


@pytest.mark.parametrize("tone", Tone)
def test_each_tone_has_its_style(tone: Tone) -> None:
    assert f".{tone}" in html(postmortem(story()))
