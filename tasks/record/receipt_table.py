"""Build the table of receipts: how each process and container was frozen and ended."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from tasks.custody.containment.identity import Way
from tasks.custody.containment.receipt import End, Freeze, Stop, Watch
from tasks.custody.evidence.keys import VERDICT
from tasks.host.judgement.suspect import SUSPECT
from tasks.record.content import Findings
from tasks.record.labels import ENDS
from tasks.record.tables import titles
from tasks.rendering.clock import clock, short
from tasks.rendering.document import Badge, Both, Cell, Code, DocumentTable, Figure, Said, Tone, table

_WAYS: Final[Mapping[Way, Cell]] = {
    Way.SIGNALS: Both("シグナル", Way.SIGNALS),
    Way.IN_PLACE: Both("元の制御グループ", Way.IN_PLACE),
    Way.INCIDENT: Both("インシデントの制御グループ", Way.INCIDENT),
}


Signals = Iterable[tuple[str, datetime]]


def receipts(findings: Findings) -> DocumentTable | None:
    """Build a row for each process and container: when it was frozen, what it was sent, how it ended; None if none.

    Contains frozen processes without a receipt of their end, too: a person has to look for them.
    """
    freeze, stop = findings.freeze, findings.stop
    rows = [*_processes(freeze, stop), *_containers(freeze, stop), *_newcomers(findings.watch)]
    rows.sort(key=lambda row: list(ENDS).index(row[0]) if row[0] else -1)
    times = (("凍結 (JST)", "frozen"), ("シグナル (JST)", "signals"))
    head = titles(("PID / ID", "PID / ID"), ("終わり方", "end"), *times, ("コマンド", "command"))
    return table(head, [cells for _, cells in rows], f"{VERDICT}: freeze, stop, watch") if rows else None


Receipt = tuple[End | None, tuple[Cell, ...]]


def _processes(freeze: Freeze | None, stop: Stop | None) -> Iterable[Receipt]:
    frozen = {each.identity: each for each in (freeze.processes if freeze else ())}
    for each in stop.processes if stop else ():
        earlier = frozen.pop(each.identity, None)
        subject = (Figure(str(each.identity.pid)), Figure(each.role))
        reason = each.reason or (earlier.why if earlier and earlier.role == SUSPECT else "")
        frozen_at = (Figure(short(earlier.frozen_at if earlier else None)), _WAYS[each.way])
        yield _receipt(subject, frozen_at, each.signals, each.end, each.gone_at, (each.command, reason))
    for earlier in frozen.values():
        subject = (Figure(str(earlier.identity.pid)), Figure(earlier.role))
        frozen_at = (Figure(short(earlier.frozen_at)), _WAYS[earlier.way])
        yield _receipt(subject, frozen_at, (), None, None, (earlier.command, earlier.denied))


def _containers(freeze: Freeze | None, stop: Stop | None) -> Iterable[Receipt]:
    frozen = {each.identity: each for each in (freeze.containers if freeze else ())}
    for each in stop.containers if stop else ():
        earlier = frozen.pop(each.identity, None)
        subject = (Figure(each.identity.id[:12]), Both("コンテナ", "container"))
        paused = Figure(short(earlier.paused_at if earlier else None))
        yield _receipt(subject, paused, each.signals, each.end, each.gone_at, (each.summary, each.reason))
    for earlier in frozen.values():
        subject = (Figure(earlier.identity.id[:12]), Both("コンテナ", "container"))
        yield _receipt(subject, Figure(short(earlier.paused_at)), (), None, None, (earlier.summary, earlier.denied))


def _newcomers(watch: Watch | None) -> Iterable[Receipt]:
    for process in watch.returned if watch else ():
        member = (Figure(str(process.identity.pid)), Figure(process.role), Both("再出現", "came back"))
        yield _receipt(member, Figure(""), (), process.end, None, (process.command, process.source))
    for each in watch.containers if watch else ():
        container = (Figure(each.identity.id[:12]), Both("再出現", "came back"))
        yield _receipt(container, Figure(""), each.signals, each.end, each.gone_at, (each.summary, each.reason))


def _receipt(  # noqa: PLR0913, PLR0917  a receipt's columns
    subject: Cell, frozen: Cell, signals: Signals, end: End | None, gone_at: datetime | None, text: tuple[str, str]
) -> Receipt:
    command, reason = text
    sent = tuple(Figure(f"{name} {clock(at)}") for name, at in signals)
    when: tuple[Cell, ...] = (Figure(short(gone_at)),) if gone_at else ()
    why: tuple[Cell, ...] = (Said(reason),) if reason else ()
    tone, words = ENDS[end] if end else (Tone.BAD, Both("記録なし", "no receipt"))
    badge = Badge(tone, words.en, Both(words.ja, words.ja))
    return end, (subject, (badge, *when), frozen, sent or Both("なし", "none"), (Code(command[:200]), *why))
