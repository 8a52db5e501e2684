"""Define the judgement of a model (sound, torn, suspect, unknown), and which files are models."""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, Final

from tasks.custody.step_result import StepResult
from tasks.custody.store.manifest import canonical

_TEXT: Final = 200
_MANY: Final = 200
JUDGED: Final = "pickles, also compressed or written by joblib (.joblib, .pickle, .pkl, or what begins like one)"
"""The formats that are judged, in words."""
OTHER_FORMAT: Final = "of a format that is not read here"
TRUSTED_FORMAT: Final = "of a format that the block trusts, not read"
SUFFIXES: Final = (
    *(".joblib", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".onnx", ".safetensors", ".h5", ".keras", ".gguf", ".pmml"),
    *(".cbm", ".ubj"),
)
"""Suffixes of files that are models, and nothing else as a rule."""
_SUFFIXES_IN_USE: Final = frozenset({*SUFFIXES, ".npz", ".npy", ".bin", ".tflite", ".pb", ".bst", ".mar"})
"""Those of files that are models where a process of the API names or holds them."""
_PACKAGES: Final = frozenset({"site-packages", "dist-packages", "node_modules"})
BESIDE: Final = frozenset({"", ".md", ".toml", ".txt", ".yaml", ".yml"})
"""Suffixes of text that lies beside a model, as MLmodel or conda.yaml does."""
SUFFIX: Final = re.compile(r"\.[a-z0-9][a-z0-9_+-]{0,31}")
_ASKS: Final = "a recovery will ask you to name the model 復旧時に model の指定が必要"
NONE_SOUND: Final = "no model is sound, 健全なモデルなし"
NONE_JUDGED: Final = "no model was judged, 未判定: their formats are not read here, 対応外の形式"


class Soundness(StrEnum):
    """The judgement of a model. Only sound models are promoted or restored; all are evidence."""

    SOUND = "sound"
    TORN = "torn"
    SUSPECT = "suspect"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelFinding:
    """The finding on one model, by digest. `imports` are names outside the allowlist.

    The fields after them are what the file says about itself: read from its opcodes as plain data, or, if `inspected`,
    reported by the loaded object in a separate process. `warnings` say what else a person should know; `trust` are the
    names whose trust would make it sound, as entries of the block's model_imports.
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
        """File, judgement and reason."""
        return f"{self.stored} is {self.outcome}{': ' if self.reason else ''}{self.reason}"


@dataclass(frozen=True, repr=False)
class Inspection(StepResult):
    """The findings on all models of an incident. `doubts` say why those that were served may be others, by name."""

    findings: tuple[ModelFinding, ...] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """Number of models by judgement."""
        counts = {kind: sum(each.outcome is kind for each in self.findings) for kind in Soundness}
        found = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
        return f"{len(self.findings)} models{': ' if found else ''}{found}"

    @property
    def notes(self) -> tuple[str, ...]:
        """The verdict's notes on models that are not sound."""
        held = (each for each in self.findings if each.outcome is not Soundness.SOUND)
        unsure = (f"that the API served {name} is not sure: {doubt}; {_ASKS}" for name, doubt in self.doubts.items())
        return (*unsure, *(f"{each.summary}; it is kept as evidence and was not promoted" for each in held))

    def none_sound(self, own: Collection[str], formats: Collection[str] = ()) -> str:
        """Return that no model is sound or was judged, with lines for a block that trusts these; empty if one is."""
        if not self.findings or not (why := why_none(self.findings)):
            return ""
        line = line_of_formats(self.findings, formats)
        trust = f". If you trust what reads them 信頼するなら: {line} in the block" if line else ""
        if why == NONE_JUDGED:
            models = [each for each in self.findings if not goes_along(each)] or self.findings
            held = f"{', '.join(each.summary for each in models[:3])}{', …' * bool(models[3:])}"
            return f"{why}: none of {len(models)} goes to latest/ or is proven by a recovery ({held}){trust}"
        first = next((each for each in self.findings if each.trust), self.findings[0])
        names = [*own, *sorted({name for each in self.findings for name in each.trust} - set(own))]
        cure = f". If you trust what it imports: model_imports = {json.dumps(names)} in the block"
        held = f"none of {len(self.findings)} can be promoted or brought back ({first.summary})"
        return f"{why}: {held}{cure if first.trust else ''}{trust}"

    def to_bytes(self) -> bytes:
        """Return canonical JSON, as it is sealed."""
        return canonical({"models": [asdict(each) for each in self.findings]})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Inspection":
        """Parse what to_bytes wrote; writing again gives the same bytes."""
        return cls(tuple(_finding(raw) for raw in json.loads(data)["models"]))


def _finding(raw: Mapping[str, Any]) -> ModelFinding:
    known: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return ModelFinding(**known | {"outcome": Soundness(raw["outcome"])})


def is_named_as_model(stored: str) -> bool:
    """Return whether a file's suffix is a model's. Others are models by the block's patterns or their first bytes."""
    return PurePosixPath(stored).suffix.lower() in {".joblib", ".pickle", ".pkl"}


def holds_a_model(name: str) -> bool:
    """Return whether a file may be a model of any usual format, by its suffix; what a package brings along is none."""
    path = PurePosixPath(name)
    return path.suffix.lower() in _SUFFIXES_IN_USE and _PACKAGES.isdisjoint(path.parts)


def of_another_format(finding: ModelFinding) -> bool:
    """Return whether it is unknown because it is no pickle."""
    return finding.outcome is Soundness.UNKNOWN and finding.reason.startswith(OTHER_FORMAT)


def why_none(findings: Collection[ModelFinding]) -> str:
    """Return that none of the models is sound, or that none was judged; empty if one is sound."""
    if any(each.outcome is Soundness.SOUND for each in findings):
        return ""
    return NONE_JUDGED if findings and all(map(of_another_format, findings)) else NONE_SOUND


def line_of_formats(findings: Iterable[ModelFinding], own: Collection[str]) -> str:
    """Return the line of a block that trusts its `own` formats and these models'; empty if it would change nothing."""
    return line_of_suffixes((each.stored for each in findings if each.reason == OTHER_FORMAT), own)


def line_of_suffixes(names: Iterable[str], own: Collection[str]) -> str:
    """Return the line of a block that trusts its `own` formats and those of these models; empty if it is no change."""
    new = formats_of(names) - {*own}
    return f"model_formats = {json.dumps([*own, *sorted(new)])}" if new else ""


def formats_of(names: Iterable[str]) -> set[str]:
    """Return the suffixes of models that a block can trust: of text beside a model only where there is nothing else."""
    suffixes = {PurePosixPath(name).suffix.lower() for name in names if not is_named_as_model(name)}
    able = {suffix for suffix in suffixes if SUFFIX.fullmatch(suffix)}
    return able - BESIDE or able


def goes_along(finding: ModelFinding) -> bool:
    """Return whether it is no model by name and content, but text beside one, such as MLmodel or conda.yaml."""
    return of_another_format(finding) and PurePosixPath(finding.stored).suffix.lower() in BESIDE


def forbids_start(finding: ModelFinding) -> str:
    """Return why no API may start on it: it is suspect, or a pickle of which a part was not seen. Else empty."""
    if finding.outcome is Soundness.UNKNOWN and not of_another_format(finding):
        return f"unknown, so it may call what was not seen: {finding.reason}"
    return finding.reason or "suspect" if finding.outcome is Soundness.SUSPECT else ""


def why_unsound(stored: str, sha256: str, findings: Iterable[ModelFinding]) -> str:
    """Return why a model may not be promoted; empty if it may. A model without a finding may not."""
    judged = [each for each in findings if each.sha256 == sha256]
    same = [each for each in judged if each.stored == stored] or judged
    if not same:
        return "nobody has judged it"
    worst = next((each for each in same if each.outcome is not Soundness.SOUND), None)
    return f"{worst.outcome}{': ' if worst.reason else ''}{worst.reason}" if worst else ""


def plain(value: object) -> str:
    """Return a word of a hostile file as one printable line of at most 200 characters."""
    text = str(value)[: _TEXT + 1]
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(text) <= _TEXT else f"{shown[:_TEXT]}…"


def plain_all(values: object) -> tuple[str, ...]:
    """Return the first 200 words of a hostile file as printable lines, and the number of the others."""
    if not isinstance(values, Collection) or isinstance(values, str | bytes):
        return ()
    shown = tuple(plain(each) for each, _ in zip(values, range(_MANY), strict=False))
    return shown if len(values) <= _MANY else (*shown, f"and {len(values) - _MANY} more")
