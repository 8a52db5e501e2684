"""§8: render the pages of a record as files. If the HTML page fails, the Markdown page says why."""

import logging
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tasks.record.content import ReportData
from tasks.record.postmortem import failure_remark, postmortem
from tasks.rendering.document import Document, Picture
from tasks.rendering.markdown import markdown
from tasks.rendering.webpage import html

logger = logging.getLogger(__name__)

MARKDOWN: Final = "postmortem.md"
"""In a record: the postmortem in Markdown, Japanese and English."""
HTML: Final = "postmortem.html"
"""In a record: the postmortem as one HTML page, without scripts or external resources."""


@dataclass(frozen=True)
class Pages:
    """Rendered files by name, the Markdown first, and what failed."""

    document: Document
    files: Mapping[str, bytes]
    trouble: tuple[str, ...]


def pages(data: ReportData) -> Pages:
    """Render all pages. Without the HTML page the record still closes."""
    document = postmortem(data)
    trouble = document.trouble
    try:
        page = {HTML: html(document).encode()}
    except Exception as error:
        logger.exception("No %s", HTML)
        trouble = (*trouble, f"{HTML} could not be made: {type(error).__name__}: {error}")
        first, *rest = document.sections
        first, page = replace(first, blocks=(failure_remark(trouble[-1]), *first.blocks)), {}
        document = replace(document, sections=(first, *rest))
    pictures = {each.name: each.svg.encode() for each in _pictures(document)}
    addresses = {name: f"../{data.number:03d}/{name}" for name in pictures} if data.finished else {}
    return Pages(document, {MARKDOWN: markdown(document, addresses).encode(), **page, **pictures}, trouble)


def with_pictures(document: Document) -> str:
    """Render Markdown with the pictures embedded as data URLs, for Prefect's UI."""
    svgs = {each.name: b64encode(each.svg.encode()).decode() for each in _pictures(document)}
    return markdown(document, {name: f"data:image/svg+xml;base64,{svg}" for name, svg in svgs.items()})


def _pictures(document: Document) -> Iterable[Picture]:
    return (block for section in document.sections for block in section.blocks if isinstance(block, Picture))
