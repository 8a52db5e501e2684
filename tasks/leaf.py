"""A leaf: one artifact of a run, ready to be shown in Prefect's UI."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Rows: TypeAlias = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Leaf:
    """Its key there, a line about it, and its content: Markdown, or the rows of a table."""

    key: str
    about: str
    content: str | Rows
