"""Build the tables of the record: receipts, coverage, models, digests. What is worst comes first in each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from tasks.custody.containment.ends import End
from tasks.custody.containment.groups import Way
from tasks.custody.containment.receipt import Freeze, Stop, Watch
from tasks.custody.containment.suspect import SUSPECT
from tasks.custody.evidence.acquisition import Evidence, Loss, Outcome, Seal
from tasks.custody.evidence.coverage import impact
from tasks.custody.evidence.keys import CLOSING, VERDICT, volume_folder
from tasks.custody.models.inspection import Inspection
from tasks.custody.store.receipts import ObjectReceipt
from tasks.record.labels import ENDS, OUTCOMES, SOUNDNESS
from tasks.rendering.clock import clock, short
from tasks.rendering.document import Badge, Both, Cell, Code, Figure, Link, Said, Table, Tone, table

_NOTHING: Final = Both("なし", "none")
_WAYS: Final[Mapping[Way, Cell]] = {
    Way.SIGNALS: Both("シグナル", Way.SIGNALS),
    Way.IN_PLACE: Both("元の制御グループ", Way.IN_PLACE),
    Way.INCIDENT: Both("インシデントの制御グループ", Way.INCIDENT),
}

Signals = Iterable[tuple[str, datetime]]


def receipts(freeze: Freeze | None, stop: Stop | None, watch: Watch | None) -> Table | None:
    """A row for each process and container: when it was frozen, what it was sent, how it ended. None if there is none.

    Whoever was frozen and has no receipt of its end is in it too: that is the one to be looked for.
    """
    rows = [*_processes(freeze, stop), *_containers(freeze, stop), *_returned(watch)]
    rows.sort(key=lambda row: list(ENDS).index(row[0]) if row[0] else -1)
    head = (
        Both("PID / ID", "PID / ID"),
        Both("凍結 (JST)", "frozen"),
        Both("シグナル (JST)", "signals"),
        Both("終わり方", "end"),
        Both("コマンド", "command"),
    )
    return table(head, [cells for _, cells in rows], f"{VERDICT}: freeze, stop, watch") if rows else None


Receipt = tuple[End | None, tuple[Cell, ...]]


def _processes(freeze: Freeze | None, stop: Stop | None) -> Iterable[Receipt]:
    frozen = {each.identity: each for each in (freeze.processes if freeze else ())}
    for each in stop.processes if stop else ():
        was = frozen.pop(each.identity, None)
        who = (Figure(str(each.identity.pid)), Figure(each.role), _WAYS[each.way])
        reason = each.reason or (was.why if was and was.role == SUSPECT else "")
        yield _receipt(
            who, was.frozen_at if was else None, each.signals, each.end, each.gone_at, (each.command, reason)
        )
    for was in frozen.values():
        who = (Figure(str(was.identity.pid)), Figure(was.role), _WAYS[was.way])
        yield _receipt(who, was.frozen_at, (), None, None, (was.command, was.denied))


def _containers(freeze: Freeze | None, stop: Stop | None) -> Iterable[Receipt]:
    frozen = {each.identity: each for each in (freeze.containers if freeze else ())}
    for each in stop.containers if stop else ():
        was = frozen.pop(each.identity, None)
        who = (Figure(each.identity.id[:12]), Both("コンテナ", "container"))
        yield _receipt(
            who, was.paused_at if was else None, each.signals, each.end, each.gone_at, (each.summary, each.reason)
        )
    for was in frozen.values():
        who = (Figure(was.identity.id[:12]), Both("コンテナ", "container"))
        yield _receipt(who, was.paused_at, (), None, None, (was.summary, was.denied))


def _returned(watch: Watch | None) -> Iterable[Receipt]:
    for process in watch.returned if watch else ():
        who = (Figure(str(process.identity.pid)), Figure(process.role), Both("再出現", "came back"))
        yield _receipt(who, None, (), process.end, None, (process.command, process.source))
    for each in watch.containers if watch else ():
        which = (Figure(each.identity.id[:12]), Both("再出現", "came back"))
        yield _receipt(which, None, each.signals, each.end, each.gone_at, (each.summary, each.reason))


def _receipt(  # noqa: PLR0913, PLR0917  a receipt's columns
    who: Cell,
    frozen_at: datetime | None,
    signals: Signals,
    end: End | None,
    gone_at: datetime | None,
    told: tuple[str, str],
) -> Receipt:
    command, reason = told
    sent = tuple(Figure(f"{name} {clock(at)}") for name, at in signals)
    when: tuple[Cell, ...] = (Figure(short(gone_at)),) if gone_at else ()
    why: tuple[Cell, ...] = (Said(reason),) if reason else ()
    return end, (who, Figure(short(frozen_at)), sent or _NOTHING, (_ended(end), *when), (Code(command[:200]), *why))


def _ended(end: End | None) -> Badge:
    tone, told = ENDS[end] if end else (Tone.BAD, Both("記録なし", "no receipt"))
    return Badge(tone, told.en, Both(told.ja, told.ja))


def collectors(coverage: Sequence[Evidence]) -> Table:
    """A row for each collector, what was lost first."""
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
    head = (
        Both("採取", "collector"),
        Both("結果", "outcome"),
        Both("ファイル数", "files"),
        Both("バイト数", "bytes"),
        Both("区分", "kind"),
        Both("理由", "reason"),
    )
    return table(head, rows, f"{VERDICT}: coverage")


def losses(coverage: Sequence[Evidence], questions: Mapping[str, str]) -> Table | None:
    """The coverage statement: each thing that is not in the evidence, why, and what that means. None if all is.

    `questions` is what each collector is there to answer.
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
    head = (
        Both("採取", "collector"),
        Both("対象", "source"),
        Both("結果", "outcome"),
        Both("理由", "reason"),
        Both("影響", "impact"),
    )
    return table(head, rows, f"{VERDICT}: coverage") if rows else None


def _whole(item: Evidence) -> tuple[Loss, ...]:
    """A collector that got nothing, and names nothing of it."""
    return () if item.outcome.is_complete else (Loss("", item.outcome, item.reason),)


def _weight(item: Evidence, loss: Loss) -> Both:
    """What it means for the verdict."""
    if loss.outcome is Outcome.WITHHELD:
        return Both("指定による除外。欠落ではない", "asked for: no loss")
    if item.lost:
        return Both("必須: 判定は PARTIAL 以下", "needed: the verdict is PARTIAL at best")
    return Both("判定には影響しない", "does not change the verdict")


def _worst_first(item: Evidence) -> tuple[bool, int]:
    return not item.lost, -list(Outcome).index(item.outcome)


def outcome(value: Outcome) -> Badge:
    """How an attempt ended, at a glance."""
    tone, ja = OUTCOMES[value]
    return Badge(tone, str(value), Both(ja, ja))


def secrets(coverage: Sequence[Evidence]) -> Table | None:
    """Where something that looks like a secret stands in the workload's files, never what. None if nowhere."""
    rows = [
        (Code(search.stored), Said(search.summary), Said(search.unsearched))
        for item in coverage
        for search in item.searches
        if search.summary or search.unsearched
    ]
    head = (
        Both("ファイル", "file"),
        Both("秘密と見られる箇所", "what looks like a secret"),
        Both("未検索", "not searched"),
    )
    return table(head, rows, f"{VERDICT}: coverage") if rows else None


def models(inspection: Inspection) -> Table | None:
    """A row for each model: what it was found to be. None if there is none."""
    found = sorted(inspection.findings, key=lambda each: list(SOUNDNESS).index(each.outcome))
    rows = []
    for each in found:
        tone, ja = SOUNDNESS[each.outcome]
        features = "" if each.features is None else f"{each.features} features"
        about = "; ".join(
            part for part in (each.estimator, each.sklearn and f"scikit-learn {each.sklearn}", features) if part
        )
        why = "; ".join([each.reason, *each.warnings, *(f"imports {name}" for name in each.imports)])
        badge = Badge(tone, str(each.outcome), Both(ja, ja))
        rows.append((Code(each.stored), badge, Said(why.strip("; ")), Said(about), Code(each.sha256)))
    head = (
        Both("モデル", "model"),
        Both("判定", "finding"),
        Both("理由", "reason"),
        Both("内容 (自己申告)", "what it says it is"),
        Both("sha256", "sha256"),
    )
    return table(head, rows, "models.json") if rows else None


def objects(receipts: Sequence[ObjectReceipt], address: Callable[[str], str]) -> Table | None:
    """A row for each object and what the store said of it, what is not proven first. None if none was asked for."""
    rows = [
        (Link(each.key, address(each.key)), _proven(each), Figure(str(each.size)), Code(each.sha256), _why(each))
        for each in sorted(receipts, key=lambda each: (each.proven, each.lost, each.key))
    ]
    head = (
        Both("オブジェクト", "object"),
        Both("確認", "proof"),
        Both("バイト数", "bytes"),
        Both("sha256", "sha256"),
        Both("理由", "reason"),
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


def digests(seals: Sequence[Seal]) -> Table | None:
    """A row for each sealed folder: its digests and who signed it. None if nothing was sealed."""
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
    head = (
        Both("フォルダー", "folder"),
        Both("ファイル数", "files"),
        Both("バイト数", "bytes"),
        Both("manifest.json sha256", "manifest.json sha256"),
        Both("SHA256SUMS sha256", "SHA256SUMS sha256"),
        Both("署名", "signed by"),
    )
    return table(head, rows, CLOSING) if rows else None
