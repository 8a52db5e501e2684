"""Format an audit as terminal lines, Markdown and table rows. Text from a bucket is never markup."""

from collections.abc import Iterator
from typing import Final

from tasks.custody.audit.finding import Audit, AuditFinding, AuditWord, Severity, printable
from tasks.custody.incident.ending import BROKEN, INDETERMINATE, PROVEN, UNFINISHED
from tasks.rendering.markdown import prose

_SHOWN: Final = 200
ENDINGS: Final = {AuditWord(each.name.upper()): each for each in (PROVEN, BROKEN, INDETERMINATE, UNFINISHED)}
_MEANS: Final = {
    AuditWord.PROVEN: (
        "nothing in the store contradicts the incident's own documents",
        "保管先に矛盾は無く、記録どおりであることを確認しました",
    ),
    AuditWord.BROKEN: (
        "something was changed, removed or added, or the record claims what its facts do not show",
        "改変・削除・追加、または記録と事実の食い違いがあります",
    ),
    AuditWord.INDETERMINATE: (
        "nothing contradicts, but not everything could be proven",
        "矛盾はありませんが、証明できない点が残ります",
    ),
    AuditWord.UNFINISHED: (
        "nothing contradicts, and its last run says itself that not all was proven to be here: its host has the rest",
        "矛盾はありませんが、最後の実行が未検証で終わっています。未送信の証跡はホストに残っています",
    ),
}


def lines(audit: Audit) -> Iterator[str]:
    """Yield the audit as terminal lines; the first and the last begin with its word."""
    english, japanese = _MEANS[audit.word]
    yield f"{audit.words}  {audit.incident}, {audit.whose}, in {printable(audit.place)}"
    yield f"  meaning   {english}"
    yield f"            {japanese}"
    yield f"  verdict   {audit.verdict}"
    yield f"  signed    {audit.signed}"
    yield f"  time      {audit.timed}"
    yield f"  kept      {audit.retained}"
    yield f"  compared  {_comparison(audit)}"
    yield from (f"  {each.summary}" for each in audit.findings[:_SHOWN])
    if (more := len(audit.findings) - _SHOWN) > 0:
        yield f"  and {more} more findings"
    yield "  not proven by this audit:"
    yield from (f"    {sentence}" for sentence in audit.unproven)
    yield f"  next      {ENDINGS[audit.word].then}"
    notes = sum(each.severity is Severity.NOTE for each in audit.findings)
    counts = f"findings={len(audit.findings) - notes}{f' notes={notes}' * bool(notes)}"
    yield f"{audit.word} incident={audit.incident} objects={audit.objects} {counts}"


def markdown(audit: Audit) -> str:
    """Return the audit as Markdown for the UI."""
    english, japanese = _MEANS[audit.word]
    first = audit.findings[:_SHOWN]
    found = [f"| {each.severity} | {_plain(each.object)} | {_plain(_words(each))} |" for each in first]
    more = [f"\n{len(audit.findings) - _SHOWN} more findings are not shown."] if len(audit.findings) > _SHOWN else []
    head = ["| | object | finding |", "|---|---|---|"]
    parts = [
        f"# {_plain(audit.words)}: {audit.incident}",
        f"{english[0].upper()}{english[1:]}. {japanese}。",
        f"- Of 対象: {_plain(audit.whose)}",
        f"- Place 保管先: {_plain(audit.place)}",
        f"- Verdict 判定: {_plain(audit.verdict)}",
        f"- Signatures 署名: {_plain(audit.signed)}",
        f"- Time 時刻: {_plain(audit.timed)}",
        f"- Retention 保持: {_plain(audit.retained)}",
        f"- Compared 照合: {_comparison(audit)}",
        "\n## Findings 指摘",
        "\n".join([*head, *found, *more]) if found else "None. 無し。",
        "\n## Not proven 証明していないこと",
        "\n".join(f"- {_plain(sentence)}" for sentence in audit.unproven),
    ]
    return "\n".join(parts) + "\n"


def rows(audit: Audit) -> list[dict[str, str]]:
    """Return the findings as table rows for the UI; a single row if there are none."""
    names = ("object", "what", "expected", "got")
    found = [
        {"severity": str(each.severity), **{name: printable(getattr(each, name)) for name in names}}
        for each in audit.findings[:_SHOWN]
    ]
    return found or [{"severity": "", "object": audit.incident, "what": "nothing found", "expected": "", "got": ""}]


def _comparison(audit: Audit) -> str:
    how = "every byte read back" if audit.deep else "by the store's own digests"
    return f"{audit.objects} objects, {audit.size} bytes, {how}"


def _words(finding: AuditFinding) -> str:
    return finding.what + (f": expected {finding.expected}; got {finding.got}" if finding.expected else "")


def _plain(text: str) -> str:
    return prose(printable(text, 600))
