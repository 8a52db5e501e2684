"""Build the tables of the record: collectors, losses, models, objects, digests; the worst rows first."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, Seal
from tasks.custody.evidence.coverage import impact
from tasks.custody.evidence.keys import CLOSING, VERDICT, volume_folder
from tasks.custody.models.inspection import Inspection, ModelFinding
from tasks.custody.store.receipts import ObjectReceipt
from tasks.record.labels import OUTCOMES, SOUNDNESS
from tasks.rendering.document import Badge, Both, Cell, Code, DocumentTable, Figure, Link, Said, Tone, table

T = TypeVar("T")
_Column: TypeAlias = tuple[str, str, Callable[[T], Cell]]


def titles(*columns: tuple[str, str]) -> tuple[Both, ...]:
    """Return the head of a table, from titles in Japanese and English."""
    return tuple(Both(ja, en) for ja, en in columns)


def table_of(items: Sequence[T], where: str, *columns: _Column[T]) -> DocumentTable:
    """Build a row for each item. A column is its title in Japanese and English, and what makes its cells."""
    head = titles(*((ja, en) for ja, en, _ in columns))
    return table(head, [tuple(make(item) for _, _, make in columns) for item in items], where)


def _table_if_any(items: Sequence[T], where: str, *columns: _Column[T]) -> DocumentTable | None:
    return table_of(items, where, *columns) if items else None


def collectors(coverage: Sequence[Evidence]) -> DocumentTable:
    """Build a row for each collector, losses first."""
    return table_of(
        sorted(coverage, key=_worst_first),
        f"{VERDICT}: coverage",
        ("採取", "collector", lambda item: Code(item.collector)),
        ("結果", "outcome", lambda item: _badge(item.outcome, OUTCOMES[item.outcome])),
        ("ファイル数", "files", lambda item: Figure(str(len(item.files)))),
        ("バイト数", "bytes", lambda item: Figure(str(item.size))),
        ("区分", "kind", lambda item: Both("必須", "needed") if item.needed else Both("任意", "optional")),
        ("理由", "reason", lambda item: Said(item.reason)),
    )


def losses(coverage: Sequence[Evidence], questions: Mapping[str, str]) -> DocumentTable | None:
    """Build the coverage statement: each missing thing, why, and its impact. None if nothing is missing.

    `questions` says by collector what it is there to answer.
    """

    def weigh(pair: tuple[Evidence, Loss]) -> Cell:
        item, loss = pair
        return _weight(item, loss), Said(impact(item, questions.get(item.collector, "")))

    # a collector that is incomplete and names no loss itself is one whole
    pairs = [
        (item, loss)
        for item in sorted(coverage, key=_worst_first)
        for loss in item.losses or ([] if item.outcome.is_complete else [Loss("", item.outcome, item.reason)])
    ]
    return _table_if_any(
        pairs,
        f"{VERDICT}: coverage",
        ("採取", "collector", lambda pair: Code(pair[0].collector)),
        ("対象", "source", lambda pair: Code(pair[1].source)),
        ("結果", "outcome", lambda pair: _badge(pair[1].outcome, OUTCOMES[pair[1].outcome])),
        ("理由", "reason", lambda pair: Said(pair[1].reason)),
        ("影響", "impact", weigh),
    )


def _weight(item: Evidence, loss: Loss) -> Both:
    """Return what the loss means for the verdict."""
    if loss.outcome is Outcome.WITHHELD:
        return Both("除外。欠落ではない", "left out: no loss")
    if item.lost:
        return Both("必須: 判定は PARTIAL 以下", "needed: the verdict is PARTIAL at best")
    return Both("判定には影響しない", "does not change the verdict")


def _worst_first(item: Evidence) -> tuple[bool, int]:
    return not item.lost, -list(Outcome).index(item.outcome)


def _badge(word: str, label: tuple[Tone, str]) -> Badge:
    tone, ja = label
    return Badge(tone, str(word), Both(ja, ja))


def secrets(coverage: Sequence[Evidence]) -> DocumentTable | None:
    """Build a table of places that look like secrets in the workload's files, without the secrets. None if none."""
    found = [each for item in coverage for each in item.searches if each.summary or each.unsearched]
    return _table_if_any(
        found,
        f"{VERDICT}: coverage",
        ("ファイル", "file", lambda each: Code(each.stored)),
        ("秘密と見られる箇所", "what looks like a secret", lambda each: Said(each.summary)),
        ("未検索", "not searched", lambda each: Said(each.unsearched)),
    )


def models(inspection: Inspection) -> DocumentTable | None:
    """Build a row for each model with its finding. None if there is none."""
    return _table_if_any(
        sorted(inspection.findings, key=lambda each: list(SOUNDNESS).index(each.outcome)),
        "models.json",
        ("モデル", "model", lambda each: Code(each.stored)),
        ("判定", "finding", lambda each: _badge(each.outcome, SOUNDNESS[each.outcome])),
        ("理由", "reason", _why_judged),
        ("内容 (自己申告)", "what it says it is", _describe_model),
        ("sha256", "sha256", lambda each: Code(each.sha256)),
    )


def _why_judged(finding: ModelFinding) -> Said:
    imports = (f"imports {name}" for name in finding.imports)
    return Said("; ".join([finding.reason, *finding.warnings, *imports]).strip("; "))


def _describe_model(finding: ModelFinding) -> Said:
    features = "" if finding.features is None else f"{finding.features} features"
    parts = (finding.estimator, finding.sklearn and f"scikit-learn {finding.sklearn}", features)
    return Said("; ".join(filter(None, parts)))


def objects(receipts: Sequence[ObjectReceipt], address: Callable[[str], str]) -> DocumentTable | None:
    """Build a row for each object and the store's answer, unproven ones first. None if none was asked for."""
    return _table_if_any(
        sorted(receipts, key=lambda each: (each.proven, each.lost, each.key)),
        f"{VERDICT}: objects",
        ("確認", "proof", _proven),
        ("オブジェクト", "object", lambda each: Link(each.key, address(each.key))),
        ("理由", "reason", lambda each: Said(each.reason) if each.exclusive or each.reason else _NOT_EXCLUSIVE),
        ("バイト数", "bytes", lambda each: Figure(str(each.size))),
        ("sha256", "sha256", lambda each: Code(each.sha256)),
    )


_NOT_EXCLUSIVE = Both("上書きしていないことはストアの保証ではない", "that it overwrote nothing is not the store's word")


def _proven(receipt: ObjectReceipt) -> Badge:
    if receipt.lost:
        return Badge(Tone.FAIR, "lost", Both("消失", "消失"))
    if not receipt.proven:
        return Badge(Tone.BAD, "unproven", Both("未確認", "未確認"))
    if receipt.read:
        return Badge(Tone.GOOD, "read back", Both("読み戻し", "読み戻し"))
    return Badge(Tone.GOOD, "digest", Both("照合済み", "照合済み"))


def digests(seals: Sequence[Seal]) -> DocumentTable | None:
    """Build a row for each sealed folder: its digests and its signer. None if nothing was sealed."""
    return _table_if_any(
        seals,
        CLOSING,
        ("フォルダー", "folder", lambda each: Figure(f"{volume_folder(each.volume)}/")),
        ("ファイル数", "files", lambda each: Figure(str(each.files))),
        ("バイト数", "bytes", lambda each: Figure(str(each.size))),
        ("manifest.json sha256", "manifest.json sha256", lambda each: Code(each.manifest_sha256)),
        ("SHA256SUMS sha256", "SHA256SUMS sha256", lambda each: Code(each.sums_sha256)),
        ("署名", "signed by", lambda each: Code(each.signed_by) if each.signed_by else Both("署名なし", "unsigned")),
    )
