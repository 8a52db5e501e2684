"""Write the message that a run sends once it knows whether a workload is contained, and find its topic."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tasks.custody.containment.receipt import Containment, Stop
from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.outcome_lines import fold, fold_names
from tasks.custody.visible import visible

EVENT_CONTAINED: Final = "evacuation.contained"
"""The event of a run that has looked whether the workload, or a fleet, is contained; with a state and a message."""
TELL: Final = "tell"
"""The flow that tells people."""
PEOPLE: Final = "people"
"""Its deployment, its queue and its tag."""
SENT_BY_SERVER: Final = "the server has sent it"
"""Words of the state of a message's run that no worker has begun."""
_NOBODY: Final = """\
Who acts 対応: nobody now; the evidence is collected, sealed and stored without help. 今は不要。証跡の保全は自動で続く。
Next 次: one more message, with the verdict. 次の通知で判定を知らせる。"""
_YOU: Final = """\
Who acts 対応: you, now: end by hand what is named here, such as a supervisor; of what may be another's find out \
first whose it is. 上に挙げたものを今すぐ手で止める。他人のものかもしれないものは先に持ち主を確認する。
Next 次: the evidence is saved meanwhile, and one more message has the verdict; if that is NotContained, run the \
deployment again. 証跡の保全は続く。次の通知が NotContained なら再実行する。"""

_SAY: Final = """\
Who acts 対応: you, soon: say of each process that is named what it is. 挙げたプロセスが何かを回答する。
Next 次: the evidence is saved meanwhile; one more message has the verdict, with the line that answers each. \
証跡の保全は続く。次の通知に判定と回答用のコマンドを示す。"""
_CUT: Final = """\
Who acts 対応: you: cut the silent hosts off by hand, as at the switch. 応答のないホストを手動で切り離す。
Next 次: one that comes back in time is frozen by itself; one more message, with the verdict, once each has its end. \
期限内に戻れば自動で凍結する。次の通知で判定を知らせる。"""
_ANSWER: Final = """\
Who acts 対応: you: answer on the run of each that asks; without an answer it does what its form says. \
各実行で回答する。"""


@dataclass(frozen=True)
class News:
    """A message to people: a state, which becomes the subject, and lines of which the first names the incident."""

    state: str
    message: str


def contained_news(incident: str, where: str, stop: Stop | None, found: Containment) -> News:
    """Return what was stopped, what was not, who acts and what follows. `where` names workload and host."""
    if not found.is_contained:
        state, word, then = "NotContained", "NOT contained 未完了", _YOU
    elif found.unknown:
        state, word, then = "Unanswered", "stopped as far as known 判明分は停止", _SAY
    else:
        state, word, then = "Contained", "contained 封じ込め完了", _NOBODY
    sentences = (
        f"{incident}: {where}: {word} {found.at.astimezone():%Y-%m-%d %H:%M:%S %Z}",
        f"Stopped 停止: {stop.summary if stop else 'not known, look at the run'}",
        f"Left 残存: {found.summary}",
    )
    return News(state, "\n".join([*map(visible, sentences), then]))


def fleet_news(incident: str, name: str, rows: Sequence[Row]) -> News:
    """Return that all hosts which answer are contained, and which do not answer."""
    silent = [row.host for row in rows if row.end is HostEnd.SILENT]
    remaining = f"no sign of life from {', '.join(silent)}: cut them off by hand 応答なし" if silent else "no host なし"
    sentences = (
        f"{incident}: fleet {name}: all that answer are contained 応答した全ホストの封じ込め完了",
        f"Stopped 停止: {len(rows) - len(silent)} of {len(rows)} hosts",
        f"Left 残存: {remaining}",
    )
    return News("Contained", "\n".join([*map(visible, sentences), _CUT if silent else _NOBODY]))


def fleet_needs(incident: str, name: str, rows: Sequence[Row]) -> News:
    """Return that these hosts need a person: what is not contained, and what is frozen and asks."""
    asking = [row.host for row in rows if row.asks]
    lines = "; ".join(f"{line.hosts} {line.label}" for line in fold(row for row in rows if not row.asks))
    sentences = (
        f"{incident}: fleet {name}: {len(rows)} hosts need you {len(rows)} 台で対応が必要",
        f"Not contained 封じ込め未完了: {lines or 'none なし'}",
        f"Frozen, and asking to be stopped or thawed 停止か解凍かの回答待ち: {fold_names(asking) or 'none なし'}",
    )
    unanswered = {row.end for row in rows if not row.asks} == {HostEnd.UNANSWERED}
    state, act = ("Unanswered", _SAY) if unanswered else ("NotContained", _YOU) if lines else ("Paused", "")
    return News(state, "\n".join([*map(visible, sentences), *filter(None, (act, _ANSWER if asking else ""))]))


def topic(event: str, message: str) -> str:
    """Return what a message is about; two in a row on one topic that have one subject tell the same.

    Empty for one that is always sent: it names no incident, or asks a person for an answer.
    """
    found = re.match(r"(?:IR|FL)-[\w.-]+(?=:)", message, re.ASCII)
    if not found or event == "prefect.flow-run.Paused":
        return ""
    return f"{found[0]} {'contained' if event == EVENT_CONTAINED else 'ended'}"
