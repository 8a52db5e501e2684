"""The pages that people read, taken apart."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md"), *(PROJECT / "conformance").glob("*.md")])
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """One page in Markdown."""

    path: Path

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """What is outside of code blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def blocks(self) -> list[tuple[str, str]]:
        """Code blocks: language and content."""
        return _FENCE.findall(self.text)

    @cached_property
    def commands(self) -> list[str]:
        """Lines of shell blocks, without comments; a line that ends in a backslash goes on."""
        lines = [line for kind, text in self.blocks if kind == "sh" for line in text.replace("\\\n", "").splitlines()]
        return [command for line in lines if (command := re.sub(r"(^|\s+)#.*", "", line).strip())]

    @cached_property
    def headings(self) -> list[tuple[int, str]]:
        """Level and words of each."""
        return [(len(signs), words) for signs, words in re.findall(r"^(#+) (.*)$", self.prose, re.MULTILINE)]

    @cached_property
    def links(self) -> list[str]:
        """Targets that are no addresses of the web."""
        return [each for each in re.findall(r"\]\(([^)\s]+)\)", self.prose) if "://" not in each]

    @cached_property
    def anchors(self) -> set[str]:
        """Where a link may point to, as GitHub names headings."""
        return {re.sub(r"[^\w\s-]", "", words.lower()).replace(" ", "-") for _, words in self.headings}

    @cached_property
    def shape(self) -> list[str]:
        """What each line outside of code blocks is: a heading, an item, a row; running text is nothing."""
        kinds = (re.match(r"(#+ |- |\|)", line) for line in self.prose.splitlines())
        return [found[0].strip() for found in kinds if found]
