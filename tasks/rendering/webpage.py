"""Render a document as one HTML page that loads nothing. Built as a tree, so untrusted text is never markup."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, fromstring, tostring

from tasks.custody.visible import visible
from tasks.rendering.document import (
    Badge,
    Block,
    Both,
    Cell,
    Code,
    CommandBlock,
    Document,
    DocumentTable,
    FactList,
    Figure,
    FileExcerpt,
    Link,
    Open,
    Picture,
    Quoted,
    Remark,
    Said,
)
from tasks.rendering.style import STYLE

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_FIGURE: Final = 32


def html(document: Document) -> str:
    """Return the document as an HTML page."""
    root = Element("html", lang="ja")
    head = SubElement(root, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": POLICY})
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(head, "meta", name="color-scheme", content="light dark")
    SubElement(head, "meta", name="referrer", content="no-referrer")
    SubElement(head, "title").text = visible(f"{document.title.ja} {document.subject}")
    SubElement(head, "style").text = STYLE
    main = SubElement(SubElement(root, "body"), "main")
    main.append(_wrap("h1", {}, _both(document.title), _text("code", visible(document.subject), translate="no")))
    for section in document.sections:
        element = SubElement(main, "section")
        SubElement(element, "h2").append(_both(section.title))
        for block in section.blocks:
            element.extend(_elements(block))
    return "<!DOCTYPE html>\n" + tostring(root, encoding="unicode", method="html") + "\n"


def _elements(block: Block) -> Iterator[Element]:
    match block:
        case FactList(items):
            definitions = Element("dl")
            for name, value in items:
                SubElement(definitions, "dt").append(_both(name))
                SubElement(definitions, "dd").append(_cell(value))
            yield definitions
        case DocumentTable(head, rows, count, where):
            yield _table(head, rows)
            yield from _more(count, Both(f"さらに {count} 行", f"{count} more rows"), where)
        case FileExcerpt(lines, count, where):
            yield from _more(count, Both(f"手前に {count} 行", f"{count} lines before"), where)
            yield _text("pre", "\n".join(visible(line) for line in lines), tabindex="0", translate="no", lang="")
        case CommandBlock(caption, line):
            yield _wrap("p", {}, _both(caption))
            yield _text("pre", visible(line), tabindex="0", translate="no", lang="")
        case Picture(_, caption, svg):
            yield _figure(caption, svg)
        case Remark(tone, words):
            yield _wrap("p", {"class": f"remark {tone}"}, _cell(words))
        case Open():
            yield _wrap("p", {}, _cell(block))


def _table(names: Sequence[Both], rows: Iterable[Sequence[Cell]]) -> Element:
    element = Element("table")
    head = SubElement(SubElement(element, "thead"), "tr")
    for name in names:
        SubElement(head, "th", scope="col").append(_both(name))
    body = SubElement(element, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for name, cell in zip(names, row, strict=True):
            SubElement(line, "td", {"data-name": name.line}).append(_cell(cell))
    return element


def _figure(caption: Both, svg: str) -> Element:
    figure = Element("figure", tabindex="0")
    picture = fromstring(svg)  # noqa: S314  our own drawing, of a moment ago
    for element in picture.iter():
        element.tag = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
    figure.append(picture)
    SubElement(figure, "figcaption").append(_both(caption))
    return figure


def _more(count: int, words: Both, where: str) -> list[Element]:
    """Return where the rest is; nothing if there is no more."""
    return [_wrap("p", {"class": "more"}, _both(words), _cell(Code(where)))] if count else []


def _cell(cell: Cell) -> Element:  # noqa: PLR0911  one for each kind
    match cell:
        case Both():
            return _both(cell)
        case Said(text):
            return _text("span", visible(text), {"class": "foreign", "lang": "en"})
        case Quoted(text):
            return _text("span", visible(text), {"class": "foreign", "lang": ""})
        case Code(text) | Link(text, _):
            return _text("code", visible(text), translate="no", lang="")
        case Figure(text):
            return _text("span", visible(text, _FIGURE), {"class": "figure", "lang": ""})
        case Open():
            return _wrap("span", {"class": "open"}, _both(Both("未記入", "to be filled in")))
        case Badge(tone, word, meaning):
            badge = _text("strong", visible(word), {"class": f"badge {tone}", "lang": "en"})
            return _wrap("span", {}, badge, *([_both(meaning)] if meaning else []))
        case _:
            return _wrap("span", {"class": "several"}, *map(_cell, cell))


def _both(words: Both) -> Element:
    pair = Element("span", {"class": "both"})
    if words.ja == words.en:
        SubElement(pair, "span").text = words.ja
    else:
        SubElement(pair, "span", lang="ja").text = words.ja
        SubElement(pair, "span", lang="en").text = words.en
    return pair


def _wrap(tag: str, attributes: dict[str, str], *children: Element) -> Element:
    element = Element(tag, attributes)
    element.extend(children)
    return element


def _text(tag: str, text: str, attributes: dict[str, str] | None = None, **more: str) -> Element:
    element = Element(tag, attributes or {}, **more)
    element.text = text
    return element
