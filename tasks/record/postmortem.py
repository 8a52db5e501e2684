"""§8: build the chapters about an incident, and the postmortem of them. What people fill in is marked as open."""

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tasks.custody.containment.receipt import Recovery
from tasks.custody.evidence.keys import CLOSING, TIME_STAMP, UNSTAMPED, VERDICT
from tasks.custody.incident.commands import audit_line
from tasks.custody.incident.ending import OF_WORD
from tasks.custody.incident.timeline import EARLY, Moment, runs
from tasks.custody.incident.verdict import Word
from tasks.custody.step_result import StepResult
from tasks.record.content import ReportData
from tasks.record.labels import ACTIONS as ACTS
from tasks.record.labels import COMPLETE, RUN_ENDS, VERDICTS
from tasks.record.receipt_table import receipts
from tasks.record.score_tables import searches, summaries
from tasks.record.tables import collectors, digests, losses, models, secrets
from tasks.record.timeline_table import moments
from tasks.rendering.clock import both_times
from tasks.rendering.document import (
    Badge,
    Block,
    Both,
    Cell,
    Code,
    CommandBlock,
    Document,
    FactList,
    Figure,
    Open,
    Picture,
    Quoted,
    Remark,
    Said,
    Section,
    Tone,
    listing,
    some,
)
from tasks.rendering.picture import picture

PICTURE: Final = "timeline.svg"
"""In a record: the steps of all runs over time, as a picture."""
_LIST: Final = 40
_TRACEBACKS: Final = 3
_LINE: Final = 500
_NONE: Final = Both("なし", "none")
_UNKNOWN: Final = Both("確認できず", "not established")
_DETECTED: Final = Both("検知", "detected")


@dataclass(frozen=True)
class Chapter:
    """A heading, and the function that builds its content."""

    title: Both
    make: Callable[[ReportData], Sequence[Block]]


def document(title: Both, data: ReportData, chapters: Iterable[Chapter]) -> Document:
    """Build a document of chapters. Its `trouble` names chapters that failed."""
    trouble: list[str] = []
    sections = tuple(Section(each.title, tuple(_build_chapter(each, data, trouble))) for each in chapters)
    return Document(title, data.incident.id, sections, tuple(trouble))


def _build_chapter(chapter: Chapter, data: ReportData, trouble: list[str]) -> Sequence[Block]:
    """Build a chapter's content. A chapter that fails says so in its place, and does not affect the others."""
    try:
        return chapter.make(data)
    except Exception as error:  # noqa: BLE001  the facts are hostile, and the record is written whatever they are
        trouble.append(f"{chapter.title.en} could not be told: {type(error).__name__}: {error}")
        return [failure_remark(trouble[-1])]


def failure_remark(trouble: str) -> Remark:
    """Return the remark that replaces content that could not be built."""
    ja = "作成できなかった。事実は verdict.json と custody.jsonl にある。"
    words = Both(ja, "It could not be made. The facts are in verdict.json and custody.jsonl.")
    return Remark(Tone.BAD, (words, Said(trouble)))


def _summary(data: ReportData) -> list[Block]:
    verdict, end, recovery = data.verdict, data.end, data.findings.recovery
    (tone, meaning, following), next_step = VERDICTS[verdict.word], verdict.next
    badge, first = Badge(tone, str(verdict.word), meaning), list[tuple[Both, Cell]]()
    if isinstance(recovery, Recovery) and verdict.word in {Word.VERIFIED, Word.PARTIAL}:
        following = COMPLETE
    if end is not OF_WORD[verdict.word]:
        tone, meaning, following = RUN_ENDS[end.name]
        badge, first = Badge(tone, end.name, meaning), [(Both("証跡の判定", "verdict on the evidence"), badge)]
        next_step = next_step if next_step.lower().startswith(end.then.lower()) else f"{end.then}. {next_step}"
    if isinstance(recovery, str):
        first.append((Both("復旧", "recovery"), Said(f"it failed: {recovery}")))
    ahead = (verdict.first,) if verdict.first else ()
    why = ((Both("最初に", "first"), ahead), (Both("欠落", "missing"), verdict.missing))
    title = ((Both("件名", "title"), _by_people(data.written.title)),) if data.written.title else ()
    facts: tuple[tuple[Both, Cell], ...] = (
        *first,
        *((name, Said(text)) for name, texts in why for text in some(texts, _LIST, VERDICT)),
        *title,
        (Both("理由", "reason"), Quoted(data.incident.reason)),
        *((Both("安全", "safe"), Said(text)) for text in some(verdict.safe, _LIST, VERDICT)),
        (Both("次の操作", "next"), (Quoted(following), Said(next_step))),
        *([(Both("所要秒数", "took"), Figure(data.took))] if data.took else []),
        *((Both("注記", "note"), Said(text)) for text in some(verdict.notes, _LIST, VERDICT)),
    )
    return [Remark(tone, badge), FactList(facts)]


def _scope(data: ReportData) -> list[Block]:
    incident = data.incident
    facts: tuple[tuple[Both, Cell], ...] = (
        (Both("ホスト", "host"), (Code(incident.host), Code(f"boot {incident.boot}"))),
        (Both("ワークロード", "workload"), Code(incident.workload)),
        (Both("開始者", "opened by"), Quoted(incident.opened_by)),
        (Both("権限", "rights"), _rights(data.entries)),
        (Both("利用者への影響", "effect on users"), _by_people(data.written.effect)),
        *(((Both("連絡先", "contact"), _by_people(data.written.contact)),) if data.written.contact else ()),
    )
    return [FactList(facts)]


def _rights(entries: Iterable[Mapping[str, Any]]) -> Cell:
    """Return the rights that the last run lacked."""
    missing = [entry["missing"] for entry in entries if entry["action"] == "rights"]
    if not missing:
        return Both("不明", "not known")
    return Said("; ".join(missing[-1])) if missing[-1] else Both("すべてあり", "none is missing")


def _detection(data: ReportData) -> list[Block]:
    all_runs, detected = runs(data.entries), data.incident.detected_at
    moments_by_name = {name: at for run in reversed(all_runs) for name, at in run.moments.items()}
    triggered = all_runs[0].triggered if all_runs else None
    early = max((bar.ended for run in all_runs[:1] for bar in run.bars if bar.step == EARLY), default=None)
    late = triggered is not None and detected > triggered
    rows = (
        (Both("検知 (申告のまま)", "detected (as given, after the trigger)") if late else _DETECTED, detected),
        *([(ACTS["run triggered"], triggered)] if triggered else []),
        *([(ACTS["frozen early"], early)] if early else []),
        (Both("撤収開始", "evacuation opened"), data.incident.opened_at),
        (Both("凍結完了", "frozen"), moments_by_name.get(Moment.FROZEN)),
        (Both("残存なしを確認", "found that none is left"), moments_by_name.get(Moment.NONE_LEFT)),
    )
    return [FactList(tuple((name, tuple(map(Figure, both_times(at))) if at else _UNKNOWN) for name, at in rows))]


def _cause(data: ReportData) -> list[Block]:
    """Return an open field for people, and the last tracebacks of the workload as a lead."""
    quotes = data.quotes.tracebacks[-_TRACEBACKS:]
    title = Both("ログに残るエラー", "the error in the log")
    pairs = ((FactList(((title, Code(each.stored)),)), listing(str(each.content), "traceback.txt")) for each in quotes)
    return [_field(data.written.cause), *(block for pair in pairs for block in pair)]


def _by_people(text: str) -> Cell:
    """Return what people have written, in lines that are shown whole; an open field if nobody has."""
    pieces = (piece for line in text.splitlines() for piece in textwrap.wrap(line, _LINE))
    return tuple(map(Quoted, pieces)) or Open()


def _field(text: str) -> Block:
    return Remark(Tone.QUIET, _by_people(text)) if text else Open()


def _timeline(data: ReportData) -> list[Block]:
    all_runs = runs(data.entries)
    title = Both("各手順の開始と終了 (JST)", "when each step began and ended (JST)")
    image = Picture(PICTURE, title, picture(all_runs, data.incident.id)) if all_runs else None
    return [image or FactList(((title, _UNKNOWN),))]


def _actions(data: ReportData) -> list[Block]:
    findings, recovery = data.findings, data.findings.recovery
    back = Said(f"it failed: {recovery}") if isinstance(recovery, str) else _summary_of(recovery, _NONE)
    looks = (findings.freeze, findings.stop, findings.watch)
    facts: tuple[tuple[Both, Cell], ...] = (
        (Both("凍結", "frozen"), _summary_of(findings.freeze)),
        (Both("停止", "stopped"), _summary_of(findings.stop)),
        (Both("再出現", "came back"), _summary_of(findings.watch)),
        *((Both("GPU", "GPU"), Said(each.gpu.summary)) for each in looks if each and each.gpu),
        (Both("latest/", "latest/"), _summary_of(findings.promoted, Both("変更なし", "not changed"))),
        (Both("復旧", "recovery"), back),
    )
    return [FactList(facts)]


def _receipts(data: ReportData) -> list[Block]:
    return [receipts(data.findings) or FactList(((Both("プロセス", "processes"), _NONE),))]


def _summary_of(result: StepResult | None, otherwise: Both = _UNKNOWN) -> Cell:
    return Said(result.summary) if result else otherwise


def _evidence(data: ReportData) -> list[Block]:
    places = data.places
    where: list[tuple[Both, Cell]] = [
        (Both("このホスト", "on this host"), Code(places.home)),
        (Both("保全先", "in the store"), Code(f"{places.store}/incidents/{data.incident.id}/")),
    ]
    if data.retention:
        days, lock = data.retention.days, data.retention.lock
        ja = [f"{days} 日間 ({lock})"] * bool(lock) + ["リーガルホールド"] * data.retention.hold
        en = [f"locked for {days} days ({lock})"] * bool(lock) + ["legal hold"] * data.retention.hold
        where.append((Both("削除禁止", "retention asked for"), Both("、".join(ja), ", ".join(en))))
    secret_table = secrets(data.findings.evidence)
    return [FactList(tuple(where)), collectors(data.findings.evidence), *([secret_table] if secret_table else [])]


def _missing(data: ReportData) -> list[Block]:
    if table := losses(data.findings.evidence, data.questions):
        return [table]
    if not data.findings.evidence:
        return [Remark(Tone.BAD, Both("採取の記録がない。", "No attempt to collect has left a record."))]
    return [Remark(Tone.GOOD, Both("採取すべきものはすべて揃っている。", "Everything that was asked for is there."))]


def _models(data: ReportData) -> list[Block]:
    if not data.findings.inspection:
        return [Remark(Tone.FAIR, Both("モデルは判定されていない。", "No model was judged."))]
    return [models(data.findings.inspection) or FactList(((Both("モデル", "models"), _NONE),))]


def _scores(data: ReportData) -> list[Block]:
    blocks = [*searches(data.quotes.scores), *summaries(data.quotes.summaries)]
    return blocks or [FactList(((Both("summary_*.json、cv_results_*.csv", "summaries and search results"), _NONE),))]


def _proof(data: ReportData) -> list[Block]:
    table = digests(data.findings.seals)
    remark = Remark(Tone.BAD, Both("封印された証跡はない。", "No evidence was sealed."))
    url, places = data.timestamp_url, data.places
    more = ["--signers", "allowed_signers", *(["--tsa-roots", "roots.pem"] if url else [])]
    audit = audit_line(places.block, places.store, data.incident.id, *more)
    title = Both("保存先だけから検証する", "prove all of it again, from the store alone")
    authority = Both("時刻の証明を求める局", "who is asked to vouch for its time")
    time_stamps = [(authority, Code(f"{url}: {TIME_STAMP}, or {UNSTAMPED}"))] if url else []
    record = FactList(((Both("この記録", "this record"), Code(f"record/{data.number:03d}/{CLOSING}")), *time_stamps))
    return [table or remark, record, *([] if data.dry_run else [CommandBlock(title, audit)])]


SUMMARY: Final = Chapter(Both("事象概要", "Summary"), _summary)
SCOPE: Final = Chapter(Both("影響範囲", "Scope"), _scope)
DETECTED: Final = Chapter(Both("検知時刻", "Detected"), _detection)
CAUSE: Final = Chapter(Both("原因仮説", "Suspected cause"), _cause)
TIMELINE: Final = Chapter(Both("時系列", "Timeline"), _timeline)
MOMENTS: Final = Chapter(Both("時系列の表", "Every moment of the timeline"), lambda data: [moments(data.entries)])
ACTIONS: Final = Chapter(Both("暫定対処", "Immediate actions"), _actions)
RECEIPTS: Final = Chapter(Both("プロセスごとの受領書", "One receipt a process"), _receipts)
FIX: Final = Chapter(Both("恒久対策", "Permanent fix"), lambda data: [_field(data.written.measures)])
PREVENTION: Final = Chapter(Both("再発防止", "Prevention"), lambda data: [_field(data.written.prevention)])
EVIDENCE: Final = Chapter(Both("証跡", "Evidence"), _evidence)
MISSING: Final = Chapter(Both("欠落", "What is missing, and why"), _missing)
MODELS: Final = Chapter(Both("モデル", "Models"), _models)
SCORES: Final = Chapter(Both("スコア", "Scores"), _scores)
PROOF: Final = Chapter(Both("ダイジェストと監査", "Digests and audit"), _proof)

_OF_THE_RUNBOOK: Final = (SUMMARY, SCOPE, DETECTED, CAUSE, TIMELINE, ACTIONS, FIX, PREVENTION)
_OF_THE_EVIDENCE: Final = (MISSING, MODELS, SCORES, PROOF)
_LONG_TABLES: Final = (MOMENTS, RECEIPTS, EVIDENCE)


def postmortem(data: ReportData) -> Document:
    """Build the postmortem: the runbook's eight fields in its order, the evidence, and last the long tables."""
    return document(Both("ポストモーテム", "Postmortem"), data, (*_OF_THE_RUNBOOK, *_OF_THE_EVIDENCE, *_LONG_TABLES))
