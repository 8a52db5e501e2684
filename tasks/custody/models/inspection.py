"""Define what a model has been found to be (sound, torn, suspect, unknown), and which files are models."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from tasks.custody.step_result import StepResult
from tasks.custody.store.manifest import canonical

_TEXT: Final = 200
_MANY: Final = 200
_SUFFIXES: Final = frozenset({".joblib", ".pickle", ".pkl"})
OTHER_FORMAT: Final = "of a format that is not read here"
_BESIDE: Final = frozenset({"", ".md", ".toml", ".txt", ".yaml", ".yml"})


class Soundness(StrEnum):
    """What a model may be. Only a sound one is ever promoted or brought back; all are evidence."""

    SOUND = "sound"
    TORN = "torn"
    SUSPECT = "suspect"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelFinding:
    """One model, by digest. `imports` are those outside the allowlist.

    Everything after them is what the file says of itself: read from its opcodes as plain data, or, if it was
    `inspected`, told by the object in a process apart. `warnings` say what else a person should know; `trust` are the
    names without which it would be sound, in the form of the block's model_imports.
    """

    stored: str
    sha256: str
    outcome: Soundness
    reason: str = ""
    imports: tuple[str, ...] = ()
    estimator: str = ""
    sklearn: str = ""
    features: int | None = None
    feature_names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    inspected: bool = False
    warnings: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """In a sentence."""
        return f"{self.stored} is {self.outcome}{': ' if self.reason else ''}{self.reason}"


@dataclass(frozen=True, repr=False)
class Inspection(StepResult):
    """What all models of an incident have been found to be."""

    findings: tuple[ModelFinding, ...] = ()

    @property
    def summary(self) -> str:
        """In a few words."""
        counts = {kind: sum(each.outcome is kind for each in self.findings) for kind in Soundness}
        found = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
        return f"{len(self.findings)} models{': ' if found else ''}{found}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the verdict says of those that are not sound."""
        return tuple(
            f"{each.summary}; it is kept as evidence and was not promoted"
            for each in self.findings
            if each.outcome is not Soundness.SOUND
        )

    def none_sound(self, own: Collection[str]) -> str:
        """Say that no model is sound, with the line for a block that trusts `own` so far. Empty if one is sound."""
        if not self.findings or any(each.outcome is Soundness.SOUND for each in self.findings):
            return ""
        first = next((each for each in self.findings if each.trust), self.findings[0])
        names = [*own, *sorted({name for each in self.findings for name in each.trust} - set(own))]
        cure = (
            f". If you trust what it imports: model_imports = {json.dumps(names)} in the block" if first.trust else ""
        )
        held = f"none of {len(self.findings)} can be promoted or brought back ({first.summary})"
        return f"no model is sound, 健全なモデルなし: {held}{cure}"

    def to_bytes(self) -> bytes:
        """Canonical JSON, as it is sealed."""
        return canonical({"models": [asdict(each) for each in self.findings]})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Inspection":
        """Read what to_bytes wrote. Law: reading and writing again gives the same bytes."""
        return cls(tuple(_finding(raw) for raw in json.loads(data)["models"]))


def _finding(raw: Mapping[str, Any]) -> ModelFinding:
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return ModelFinding(**known | {"outcome": Soundness(raw["outcome"])})


def named_as_model(stored: str) -> bool:
    """Whether a file is a model by its name; others are by the block's patterns, or by their first bytes."""
    return PurePosixPath(stored).suffix.lower() in _SUFFIXES


def goes_along(finding: ModelFinding) -> bool:
    """Whether it is by name and content no model, but text that lies beside one, as MLmodel and conda.yaml."""
    unread = finding.outcome is Soundness.UNKNOWN and finding.reason.startswith(OTHER_FORMAT)
    return unread and PurePosixPath(finding.stored).suffix.lower() in _BESIDE


def why_unsound(stored: str, sha256: str, findings: Iterable[ModelFinding]) -> str:
    """Why a model may not be promoted; empty if it may. What nobody has judged is held."""
    judged = [each for each in findings if each.sha256 == sha256]
    same = [each for each in judged if each.stored == stored] or judged
    if not same:
        return "nobody has judged it"
    worst = next((each for each in same if each.outcome is not Soundness.SOUND), None)
    return f"{worst.outcome}{': ' if worst.reason else ''}{worst.reason}" if worst else ""


def plain(value: object) -> str:
    """A word of a hostile file as text that can be shown: printable, on one line, not too long."""
    text = str(value)[: _TEXT + 1]
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(text) <= _TEXT else f"{shown[:_TEXT]}…"


def plain_all(values: object) -> tuple[str, ...]:
    """The same for a list; what follows the first 200 is counted."""
    if not isinstance(values, Collection) or isinstance(values, str | bytes):
        return ()
    shown = tuple(plain(each) for each, _ in zip(values, range(_MANY), strict=False))
    return shown if len(values) <= _MANY else (*shown, f"and {len(values) - _MANY} more")
