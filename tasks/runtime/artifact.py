"""Define an artifact of a run, as shown in Prefect's UI."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

Rows: TypeAlias = Sequence[Mapping[str, str]]


def by_key(key: str) -> str:
    """Return the UI's path to the versions of an artifact."""
    return f"/artifacts/key/{key}"


def by_id(artifact_id: object) -> str:
    """Return the UI's path to one artifact."""
    return f"/artifacts/artifact/{artifact_id}"


@dataclass(frozen=True)
class PrefectArtifact:
    """An artifact: its key, a line about it, and its content as Markdown or rows of a table."""

    key: str
    description: str
    content: str | Rows

    def linked_to(self, ids: Mapping[str, object]) -> "PrefectArtifact":
        """Return a copy whose by-key links point to the created artifact ids in `ids`."""
        if not isinstance(self.content, str):
            return self
        text = self.content
        for key, artifact in ids.items():
            text = text.replace(f"]({by_key(key)})", f"]({by_id(artifact)})")
        return replace(self, content=text)
