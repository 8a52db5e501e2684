"""Render a document as Markdown. Untrusted words that renderers could make a link are set as code.

Renderers that follow GitHub make links of bare addresses even if escaped (tested with both of Prefect's UIs, which find
them in the text after parsing), but never in a code span.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

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
    Tone,
)

_PUNCTUATION: Final = re.compile(r"([\\`*_\[\]<>|~&$])")
_ADDRESS: Final = re.compile(r"://|www\.|@|xmpp:|mailto:", re.IGNORECASE)
_IN_CODE: Final = str.maketrans({"`": "ˋ", "|": "│"})
_PLAIN: Final = re.compile(r"[A-Za-z0-9._%/:-]+")
"""A link name without markup: one of Prefect's UIs shows such names unparsed."""
_NOTHING: Final = "—"
_OPEN: Final = "**[ 未記入 / to be filled in ]**"
_SIGNS: Final = {Tone.GOOD: "✔", Tone.FAIR: "▲", Tone.BAD: "✖", Tone.QUIET: "·"}


def markdown(document: Document, pictures: Mapping[str, str] | None = None) -> str:
    """Return the document as Markdown. `pictures` has the addresses of pictures, by name, that are not beside it."""
    parts = [f"# {document.title.line} {prose(document.subject)}"]
    for section in document.sections:
        parts += [f"## {section.title.line}", *(_block(block, pictures or {}) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def prose(text: str) -> str:
    """Return untrusted text for running text: words that could become links as code, others escaped.

    Must not begin a line, as markup of line beginnings is not escaped.
    """
    words = visible(text).split(" ")
    return " ".join(code(word) if _ADDRESS.search(word) else _PUNCTUATION.sub(r"\\\1", word) for word in words)


def code(text: str) -> str:
    """Return untrusted text as code. Backticks and pipes, which could end it, are replaced by similar characters."""
    shown = visible(text).translate(_IN_CODE)
    return f"`{shown}`" if shown.strip() else _NOTHING


def _block(block: Block, pictures: Mapping[str, str]) -> str:  # noqa: PLR0911  one for each kind
    match block:
        case FactList(items):
            return "\n".join(f"- {name.line}: {_cell(value)}" for name, value in items)
        case DocumentTable():
            lines = [[name.line for name in block.head], ["---"] * len(block.head), *map(_cells, block.rows)]
            rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
            more = _more(block.left_out, "さらに", "行", "more rows", block.where)
            return f"{rows}\n\n{more}" if block.left_out else rows
        case FileExcerpt():
            shown = "\n".join(visible(line).translate(_IN_CODE) for line in block.lines)
            text = f"```text\n{shown}\n```"
            more = _more(block.left_out, "手前に", "行", "lines before", block.where)
            return f"{text}\n\n{more}" if block.left_out else text
        case CommandBlock(caption, line):
            return f"{caption.line}:\n\n```sh\n{visible(line).translate(_IN_CODE)}\n```"
        case Picture(name, caption):
            return f"![{caption.line}]({pictures.get(name, name)})"
        case Remark(tone, words):
            return _cell(words) if isinstance(words, Badge) else f"{_SIGNS[tone]} {_cell(words)}"
        case Open():
            return _OPEN


def _more(count: int, before: str, unit: str, en: str, where: str) -> str:
    return f"*{before} {count} {unit} / {count} {en}: {code(where)}*"


def _cells(row: Iterable[Cell]) -> list[str]:
    return [_cell(cell) for cell in row]


def _cell(cell: Cell) -> str:  # noqa: PLR0911  one for each kind
    match cell:
        case Both():
            return cell.line
        case Said(text) | Quoted(text) | Figure(text):
            return prose(text) if text.strip() else _NOTHING
        case Code(text):
            return code(text)
        case Link(name, address):
            return f"[{name if _PLAIN.fullmatch(name) else code(name)}]({address})" if address else code(name)
        case Open():
            return _OPEN
        case Badge(tone, word, meaning):
            return f"{_SIGNS[tone]} **{prose(word)}**" + (f" ({meaning.line})" if meaning else "")
        case _:
            return " · ".join(_cells(cell)) or _NOTHING
