"""Build the tables of the record: collectors, losses, models, objects, digests; the worst rows first."""

from collections.abc import Callable, Mapping, Sequence

from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, Seal
from tasks.custody.evidence.coverage import impact
from tasks.custody.evidence.keys import CLOSING, VERDICT, volume_folder
from tasks.custody.models.inspection import Inspection
from tasks.custody.store.receipts import ObjectReceipt
from tasks.record.labels import OUTCOMES, SOUNDNESS
from tasks.rendering.document import Badge, Both, Cell, Code, DocumentTable, Figure, Link, Said, Tone, table


def _heads(*titles: tuple[str, str]) -> tuple[Both, ...]:
    return tuple(Both(ja, en) for ja, en in titles)


def collectors(coverage: Sequence[Evidence]) -> DocumentTable:
    """Build a row for each collector, losses first."""
    rows = [
        (
            Code(item.collector),
            outcome(item.outcome),
            Figure(str(len(item.files))),
            Figure(str(item.size)),
            Both("必須", "needed") if item.needed else Both("任意", "optional"),
            Said(item.reason),
        )
        for item in sorted(coverage, key=_worst_first)
    ]
    head = _heads(
        ("採取", "collector"),
        ("結果", "outcome"),
        ("ファイル数", "files"),
        ("バイト数", "bytes"),
        ("区分", "kind"),
        ("理由", "reason"),
    )
    return table(head, rows, f"{VERDICT}: coverage")


def losses(coverage: Sequence[Evidence], questions: Mapping[str, str]) -> DocumentTable | None:
    """Build the coverage statement: each missing thing, why, and its impact. None if nothing is missing.

    `questions` says by collector what it is there to answer.
    """
    rows = [
        (
            Code(item.collector),
            Code(loss.source),
            outcome(loss.outcome),
            Said(loss.reason),
            (_weight(item, loss), Said(impact(item, questions.get(item.collector, "")))),
        )
        for item in sorted(coverage, key=_worst_first)
        for loss in item.losses or _whole(item)
    ]
    head = _heads(
        ("採取", "collector"), ("対象", "source"), ("結果", "outcome"), ("理由", "reason"), ("影響", "impact")
    )
    return table(head, rows, f"{VERDICT}: coverage") if rows else None


def _whole(item: Evidence) -> tuple[Loss, ...]:
    """Return a loss for a collector that is incomplete and names no loss itself."""
    return () if item.outcome.is_complete else (Loss("", item.outcome, item.reason),)


def _weight(item: Evidence, loss: Loss) -> Both:
    """Return what the loss means for the verdict."""
    if loss.outcome is Outcome.WITHHELD:
        return Both("除外。欠落ではない", "left out: no loss")
    if item.lost:
        return Both("必須: 判定は PARTIAL 以下", "needed: the verdict is PARTIAL at best")
    return Both("判定には影響しない", "does not change the verdict")


def _worst_first(item: Evidence) -> tuple[bool, int]:
    return not item.lost, -list(Outcome).index(item.outcome)


def outcome(value: Outcome) -> Badge:
    """Return the badge for an outcome."""
    tone, ja = OUTCOMES[value]
    return Badge(tone, str(value), Both(ja, ja))


def secrets(coverage: Sequence[Evidence]) -> DocumentTable | None:
    """Build a table of places that look like secrets in the workload's files, without the secrets. None if none."""
    rows = [
        (Code(search.stored), Said(search.summary), Said(search.unsearched))
        for item in coverage
        for search in item.searches
        if search.summary or search.unsearched
    ]
    head = _heads(("ファイル", "file"), ("秘密と見られる箇所", "what looks like a secret"), ("未検索", "not searched"))
    return table(head, rows, f"{VERDICT}: coverage") if rows else None


def models(inspection: Inspection) -> DocumentTable | None:
    """Build a row for each model with its finding. None if there is none."""
    findings = sorted(inspection.findings, key=lambda each: list(SOUNDNESS).index(each.outcome))
    rows = []
    for each in findings:
        tone, ja = SOUNDNESS[each.outcome]
        features = "" if each.features is None else f"{each.features} features"
        description = "; ".join(
            part for part in (each.estimator, each.sklearn and f"scikit-learn {each.sklearn}", features) if part
        )
        why = "; ".join([each.reason, *each.warnings, *(f"imports {name}" for name in each.imports)])
        badge = Badge(tone, str(each.outcome), Both(ja, ja))
        rows.append((Code(each.stored), badge, Said(why.strip("; ")), Said(description), Code(each.sha256)))
    head = _heads(
        ("モデル", "model"),
        ("判定", "finding"),
        ("理由", "reason"),
        ("内容 (自己申告)", "what it says it is"),
        ("sha256", "sha256"),
    )
    return table(head, rows, "models.json") if rows else None


def objects(receipts: Sequence[ObjectReceipt], address: Callable[[str], str]) -> DocumentTable | None:
    """Build a row for each object and the store's answer, unproven ones first. None if none was asked for."""
    rows = [
        (_proven(each), Link(each.key, address(each.key)), _why(each), Figure(str(each.size)), Code(each.sha256))
        for each in sorted(receipts, key=lambda each: (each.proven, each.lost, each.key))
    ]
    head = _heads(
        ("確認", "proof"), ("オブジェクト", "object"), ("理由", "reason"), ("バイト数", "bytes"), ("sha256", "sha256")
    )
    return table(head, rows, f"{VERDICT}: objects") if rows else None


def _why(receipt: ObjectReceipt) -> Cell:
    if receipt.exclusive or receipt.reason:
        return Said(receipt.reason)
    return Both("上書きしていないことはストアの保証ではない", "that it overwrote nothing is not the store's word")


def _proven(receipt: ObjectReceipt) -> Badge:
    if receipt.lost:
        return Badge(Tone.FAIR, "lost", Both("消失", "消失"))
    if not receipt.proven:
        return Badge(Tone.BAD, "unproven", Both("未確認", "未確認"))
    return Badge(
        Tone.GOOD,
        *(("read back", Both("読み戻し", "読み戻し")) if receipt.read else ("digest", Both("照合済み", "照合済み"))),
    )


def digests(seals: Sequence[Seal]) -> DocumentTable | None:
    """Build a row for each sealed folder: its digests and its signer. None if nothing was sealed."""
    rows: list[tuple[Cell, ...]] = [
        (
            Figure(f"{volume_folder(each.volume)}/"),
            Figure(str(each.files)),
            Figure(str(each.size)),
            Code(each.manifest_sha256),
            Code(each.sums_sha256),
            Code(each.signed_by) if each.signed_by else Both("署名なし", "unsigned"),
        )
        for each in seals
    ]
    head = _heads(
        ("フォルダー", "folder"),
        ("ファイル数", "files"),
        ("バイト数", "bytes"),
        ("manifest.json sha256", "manifest.json sha256"),
        ("SHA256SUMS sha256", "SHA256SUMS sha256"),
        ("署名", "signed by"),
    )
    return table(head, rows, CLOSING) if rows else None
