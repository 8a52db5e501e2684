"""Build the postmortem of a fleet, over all its hosts, in both languages."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.incident import FleetIncident
from tasks.custody.fleet.places import HOSTS
from tasks.custody.fleet.table import lines
from tasks.custody.fleet.verdict import FleetVerdict
from tasks.fleet.show import CONTAINED, contained_picture
from tasks.record.tables import table_of
from tasks.rendering.clock import both_times, short
from tasks.rendering.document import (
    Badge,
    Both,
    Code,
    Document,
    DocumentTable,
    FactList,
    Figure,
    FileExcerpt,
    Open,
    Picture,
    Quoted,
    Remark,
    Said,
    Section,
    Tone,
)

PICTURE: Final = "contained.svg"
"""In a fleet's record: the picture of hosts contained over time."""
_TONES: Final = {HostEnd.VERIFIED: Tone.GOOD, HostEnd.THAWED: Tone.QUIET, HostEnd.PARTIAL: Tone.FAIR}
_JAPANESE: Final = {
    HostEnd.VERIFIED: "検証済み",
    HostEnd.THAWED: "解凍済み",
    HostEnd.PARTIAL: "一部欠落",
    HostEnd.NOT_RECOVERED: "復旧失敗",
    HostEnd.UNANSWERED: "未回答のプロセスあり",
    HostEnd.UNVERIFIED: "未検証",
    HostEnd.REFUSED: "拒否",
    HostEnd.CANCELLED: "中止",
    HostEnd.CRASHED: "異常終了",
    HostEnd.EXPIRED: "期限切れ",
    HostEnd.SILENT: "応答なし",
    HostEnd.NOT_CONTAINED: "封じ込め未完了",
}


@dataclass(frozen=True)
class FleetReport:
    """What a fleet's record tells: the frozen list, the lines of its hosts, the verdict, and the triggers that joined.

    `contained_at` is when all hosts that answer were contained.
    """

    incident: FleetIncident
    rows: Sequence[Row]
    verdict: FleetVerdict
    run: str
    contained_at: datetime | None


def postmortem(report: FleetReport) -> Document:
    """Build the document. Causes and measures are left for people to fill in."""
    incident, end = report.incident, report.verdict.end
    sections = (
        Section(Both("要約", "Summary"), (Remark(_tone(end), _badge(end)), _summary(report))),
        Section(Both("一覧", "Table"), (FileExcerpt(tuple(lines(incident, report.rows, report.contained_at))),)),
        Section(CONTAINED, (Picture(PICTURE, CONTAINED, contained_picture(incident, report.rows)),)),
        Section(Both("ホスト", "Hosts"), (_hosts(report.rows),)),
        Section(Both("原因", "Root cause"), (Open(),)),
        Section(Both("恒久対応", "Permanent fix"), (Open(),)),
        Section(Both("再発防止", "Prevention"), (Open(),)),
    )
    return Document(Both("フリートのポストモーテム", "Postmortem of a fleet"), incident.id, sections)


def _summary(report: FleetReport) -> FactList:
    incident = report.incident
    contained = report.contained_at
    return FactList(
        (
            (Both("フリート", "fleet"), Code(incident.name)),
            (Both("理由", "reason"), Quoted(incident.reason)),
            (Both("開始", "opened"), Said(" / ".join(both_times(incident.opened_at)))),
            (Both("開始者", "opened by"), Said(incident.opened_by)),
            (Both("判定", "verdict"), Said(report.verdict.message)),
            (
                Both("応答した全ホストの封じ込め", "all that answer contained"),
                Said(" / ".join(both_times(contained))) if contained else Both("なし", "no"),
            ),
        )
    )


def _hosts(rows: Sequence[Row]) -> DocumentTable:
    return table_of(
        rows,
        HOSTS,
        ("ホスト", "host", lambda row: Code(row.host)),
        ("結果", "end", lambda row: _badge(row.end or HostEnd.CRASHED)),
        ("試行", "attempt", lambda row: Figure(str(row.attempt))),
        ("インシデント", "incident", lambda row: Code(row.incident)),
        ("指示", "ordered", lambda row: Figure(short(row.ordered))),
        ("封じ込め", "contained", lambda row: Figure(short(row.contained_at))),
        ("終了", "ended", lambda row: Figure(short(row.ended))),
        ("内容", "message", lambda row: Said(row.message if row.end is not HostEnd.SILENT else row.label)),
    )


def _tone(end: HostEnd) -> Tone:
    return _TONES.get(end, Tone.BAD)


def _badge(end: HostEnd) -> Badge:
    return Badge(_tone(end), str(end), Both(_JAPANESE[end], str(end)))
