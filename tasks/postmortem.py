"""The postmortem as Markdown, in Japanese and English: facts filled in, people's fields visibly open (runbook §8)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from tasks.custody.evidence import Evidence
from tasks.custody.incident import Incident
from tasks.custody.receipt import Freeze, Receipts, Recovery, Stop
from tasks.custody.verdict import Verdict, Word

JST: Final = timezone(timedelta(hours=9), "JST")
_OPEN: Final = "**[ 未記入 / to be filled in ]**"
_WORDS: Final = {
    Word.VERIFIED: "検証済み: 封じ込め・採取・保全のすべてを確認",
    Word.PARTIAL: "一部欠落: 保全は確認済み、ただし必要な証跡に欠けあり",
    Word.UNVERIFIED: "未検証: 保全を確認できていない",
    Word.NOT_CONTAINED: "封じ込め未完了: ワークロードがまだ動いている、または再開しうる",
}
_TIMELINE: Final = frozenset(
    {
        *("run opened", "step done", "step incomplete", "step failed", "step cached", "deviation"),
        *("promoted", "uncordoned", "restarted", "healthy", "model proven", "predicted"),
        *("contained again", "verdict"),
    }
)


@dataclass(frozen=True)
class Story:
    """Everything that the postmortem tells. `entries` is the custody log, `summaries` the workload's summary_*.json."""

    incident: Incident
    place: str
    evidence: str
    verdict: Verdict
    freeze: Freeze | None
    stop: Stop | None
    coverage: Sequence[Evidence]
    promoted: Receipts | None
    recovery: Recovery | None
    summaries: Mapping[str, Mapping[str, Any]]
    entries: Sequence[Mapping[str, Any]]


def postmortem(story: Story) -> str:
    """Markdown with the runbook's eight fields, in its order."""
    sections = (
        ("事象概要 / Summary", _summary(story)),
        ("影響範囲 / Scope", _scope(story)),
        ("検知時刻 / Detected", _detected(story)),
        ("原因仮説 / Suspected cause", _OPEN),
        ("時系列 / Timeline", _timeline(story.entries)),
        ("暫定対処 / Immediate actions", _actions(story)),
        ("恒久対策 / Permanent fix", _OPEN),
        ("再発防止 / Prevention", _OPEN),
        ("証跡 / Evidence", _coverage(story)),
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)
    return f"# ポストモーテム / Postmortem {story.incident.id}\n\n{body}\n"


def both_times(moment: datetime) -> tuple[str, str]:
    """A moment in JST and in UTC."""
    jst, utc = moment.astimezone(JST), moment.astimezone(UTC)
    return tuple(f"{time.isoformat(' ', 'milliseconds')[:23]} {time.tzname()}" for time in (jst, utc))  # type: ignore[return-value]


def _cell(text: object) -> str:
    escaped = str(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in escaped)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _summary(story: Story) -> str:
    verdict = story.verdict
    lines = [
        f"**{verdict.word}** ({_WORDS[verdict.word]})",
        f"- 理由 / reason: {_cell(story.incident.reason)}",
        *(f"- 安全 / safe: {_cell(text)}" for text in verdict.safe),
        *(f"- 欠落 / missing: {_cell(text)}" for text in verdict.missing),
        *(f"- 注記 / note: {_cell(text)}" for text in verdict.notes),
        f"- 次の操作 / next: {_cell(verdict.next)}",
    ]
    return "\n".join([lines[0], "", *lines[1:]])


def _scope(story: Story) -> str:
    incident = story.incident
    lines = [
        f"- ホスト / host: {_cell(incident.host)} (boot {incident.boot})",
        f"- ワークロード / workload: {_cell(incident.workload)}",
        f"- 開始者 / opened by: {_cell(incident.opened_by)}",
        f"- 権限 / rights: {_cell(_rights(story.entries))}",
        f"- 利用者への影響 / effect on users: {_OPEN}",
    ]
    return "\n".join(lines)


def _rights(entries: Iterable[Mapping[str, Any]]) -> str:
    """What the last run lacked."""
    told = [entry["missing"] for entry in entries if entry["action"] == "rights"]
    return ("; ".join(told[-1]) or "すべてあり / none is missing") if told else "不明 / not known"


def _detected(story: Story) -> str:
    jst, utc = both_times(story.incident.detected_at)
    opened_jst, opened_utc = both_times(story.incident.opened_at)
    return f"- 検知 / detected: {jst} / {utc}\n- 撤収開始 / evacuation opened: {opened_jst} / {opened_utc}"


def _timeline(entries: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (*both_times(datetime.fromisoformat(entry["utc"])), entry["action"], entry["object"], _result(entry))
        for entry in entries
        if entry["action"] in _TIMELINE
    ]
    return _table(("JST", "UTC", "何が / what", "対象 / object", "結果 / result"), rows)


def _result(entry: Mapping[str, Any]) -> str:
    words = entry.get("result") or entry.get("word") or entry.get("reason") or ""
    return f"{words} ({entry['seconds']} s)" if "seconds" in entry else str(words)


def _actions(story: Story) -> str:
    lines = [
        f"- 凍結 / frozen: {_cell(story.freeze.told)}" if story.freeze else "- 凍結 / frozen: not established",
        f"- 停止 / stopped: {_cell(story.stop.told)}" if story.stop else "- 停止 / stopped: not established",
    ]
    if story.promoted:
        lines.append(f"- latest/: {_cell(story.promoted.told)}")
    lines.append(f"- 復旧 / recovery: {_cell(story.recovery.told) if story.recovery else 'なし / none'}")
    processes = story.stop.processes if story.stop else ()
    rows: list[tuple[object, ...]] = [
        (each.identity.pid, each.role, each.end, " ".join(name for name, _ in each.signals), each.command[:100])
        for each in processes
    ]
    rows += [
        (
            each.identity.id[:12],
            "container",
            each.end,
            " ".join(name for name, _ in each.signals),
            f"{each.name}: {each.image}",
        )
        for each in (story.stop.containers if story.stop else ())
    ]
    table = _table(("PID / ID", "役割 / role", "終わり方 / end", "シグナル / signals", "コマンド / command"), rows)
    return "\n".join([*lines, "", table]) if rows else "\n".join(lines)


def _coverage(story: Story) -> str:
    rows = [
        (item.collector, item.outcome, len(item.files), item.size, "○" if item.needed else "", item.reason[:200])
        for item in story.coverage
    ]
    head = ("採取 / collector", "結果 / outcome", "files", "bytes", "必須 / needed", "理由 / reason")
    lines = [
        f"- このホスト / on this host: `{story.evidence}`",
        f"- 保全先 / store: `{story.place}/incidents/{story.incident.id}/`",
        *(f"- `{_cell(name)}`: {_facts(content)}" for name, content in story.summaries.items()),
    ]
    return "\n".join([*lines, "", _table(head, rows)])


def _facts(summary: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in summary.items() if isinstance(value, str | int | float) or value is None}
    return _cell(", ".join(f"{key}={value}" for key, value in list(plain.items())[:12]))
