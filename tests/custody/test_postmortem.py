"""The postmortem: the runbook's eight fields in both languages, times in JST and UTC, and no text that breaks out."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.custody.end import End
from tasks.custody.evidence import Evidence, Outcome, StoredFile
from tasks.custody.incident import Incident
from tasks.custody.process import Identity
from tasks.custody.receipt import Freeze, Frozen, Receipts, Recovery, Stop, Stopped
from tasks.custody.verdict import Verdict, Word
from tasks.postmortem import Story, both_times, postmortem

FIELDS = ["事象概要", "影響範囲", "検知時刻", "原因仮説", "時系列", "暫定対処", "恒久対策", "再発防止"]
NOW = datetime(2026, 1, 2, 15, 4, 5, 678_000, tzinfo=UTC)
WHO = Identity(7, 70)
HEADINGS = len(FIELDS) + 1
HOSTILE = [
    "a | b",
    "line\nbreak",
    "carriage\rreturn",
    "`code`",
    "back\\",
    "back\\|slash",
    "\x00\x1b[31m\x07",
    "\u2028\u2029\x85\x0b\x0c",
    "\u202eright to left",
    "\udcff",
    "\n## 恒久対策\n\n| a | b |",
]


def story(text: str = "a reason", **changes: Any) -> Story:
    """A story in which every free text is this one."""
    entries: list[dict[str, Any]] = [
        {"utc": NOW.isoformat(), "action": "step done", "object": text, "result": text, "seconds": 1.5},
        {"utc": NOW.isoformat(), "action": "deviation", "object": "thaw", "reason": text},
        {"utc": NOW.isoformat(), "action": "would", "object": "not of the timeline"},
    ]
    told = Story(
        incident=Incident("IR-20260102T150405Z", text, text, "boot", NOW, NOW, text, text),
        place="s3://bucket/prefix",
        evidence="/srv/evidence",
        verdict=Verdict(Word.PARTIAL, (text,), (text,), (text,), text),
        freeze=Freeze(NOW, (Frozen(WHO, text, text, 0, NOW, None, text),), settled=True),
        stop=Stop(NOW, (Stopped(WHO, text, text, (("SIGINT", NOW),), End.STOPPED, NOW),)),
        coverage=[
            Evidence(text, True, False, Outcome.FAILED, text, NOW, NOW, 1, (StoredFile("a", "a", 3, "0" * 64),)),
        ],
        promoted=Receipts((), text),
        recovery=Recovery(NOW, WHO, text, "0" * 64),
        summaries={text: {"git_commit": text, "score": 0.9, "nested": {"left": "out"}, text: 1}},
        entries=entries,
    )
    return replace(told, **changes)


def cells(row: str) -> list[str]:
    """Split a table row as Markdown readers do: at pipes that no backslash precedes."""
    return re.split(r"(?<!\\)\|", row)


def rows(text: str) -> list[list[str]]:
    return [cells(line) for line in text.split("\n") if line.startswith("|")]


def test_the_runbooks_eight_fields_are_there_in_its_order() -> None:
    headings = re.findall(r"^## (\S+) / \S+", postmortem(story()), re.MULTILINE)
    assert headings[:8] == FIELDS


def test_peoples_fields_are_visibly_open() -> None:
    text = postmortem(story())
    for field in ("原因仮説", "恒久対策", "再発防止"):
        section = text.split(f"## {field}")[1].split("\n## ")[0]
        assert "未記入" in section


def test_times_are_in_jst_and_utc() -> None:
    assert both_times(NOW) == ("2026-01-03 00:04:05.678 JST", "2026-01-02 15:04:05.678 UTC")
    text = postmortem(story())
    section = text.split("## 検知時刻")[1].split("\n## ")[0]
    assert section.count("2026-01-03 00:04:05.678 JST / 2026-01-02 15:04:05.678 UTC") == 2
    timeline = rows(text.split("## 時系列")[1].split("\n## ")[0])
    assert timeline[2][1:3] == [" 2026-01-03 00:04:05.678 JST ", " 2026-01-02 15:04:05.678 UTC "]


def test_the_timeline_tells_the_steps_and_leaves_the_rest_to_the_custody_log() -> None:
    text = postmortem(story())
    assert "step done" in text
    assert "(1.5 s)" in text
    assert "deviation" in text
    assert "not of the timeline" not in text


@pytest.mark.parametrize("word", Word)
def test_each_verdict_is_told_in_both_languages(word: Word) -> None:
    text = postmortem(story(verdict=Verdict(word, (), (), (), "next")))
    (line,) = [line for line in text.split("\n") if line.startswith(f"**{word}**")]
    assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", line)


def test_a_story_of_failures_is_told_too() -> None:
    text = postmortem(
        story(freeze=None, stop=None, promoted=None, recovery=None, coverage=[], summaries={}, entries=[])
    )
    assert text.count("not established") == 2
    assert "なし / none" in text
    assert [line for line in text.split("\n") if line.startswith("## ")] == [
        line for line in postmortem(story()).split("\n") if line.startswith("## ")
    ]


def test_the_workloads_own_versions_are_referred_to() -> None:
    summary = {"git_commit": "abc1234", "python": "3.11", "sklearn": "1.7.2", "pandas": "2.2"}
    text = postmortem(story(summaries={"summary_builtin.json": summary}))
    assert "git_commit=abc1234, python=3.11, sklearn=1.7.2, pandas=2.2" in text


def assert_well_formed(hostile: str) -> None:
    text, plain = postmortem(story(hostile)), postmortem(story("x"))
    assert text.count("\n") == plain.count("\n")
    assert [len(row) for row in rows(text)] == [len(row) for row in rows(plain)]
    assert len(re.findall(r"^#", text, re.MULTILINE)) == 1 + HEADINGS
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert text.encode().decode() == text
    assert all(line.count("`") % 2 == 0 for line in text.split("\n"))


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_hostile_text_breaks_no_row_and_no_section(hostile: str) -> None:
    assert_well_formed(hostile)


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from([*"|`\\\n\r\t#-*<", "\x1b", "\u2028", "a", " ", "\udc80"]) | st.characters(), max_size=12)
)
def test_no_text_breaks_a_row_or_a_section(letters: list[str]) -> None:
    assert_well_formed("".join(letters))


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ([], "- 権限 / rights: 不明 / not known"),
        ([{"action": "rights", "missing": []}], "- 権限 / rights: すべてあり / none is missing"),
        (
            [{"action": "rights", "missing": ["an earlier run"]}, {"action": "rights", "missing": ["a\nb", "c"]}],
            "- 権限 / rights: a\N{REPLACEMENT CHARACTER}b; c",
        ),
    ],
)
def test_what_the_run_was_not_allowed_to_do_is_named(entries: list[dict[str, Any]], line: str) -> None:
    scope = postmortem(story(entries=entries)).split("## 影響範囲")[1].split("\n## ")[0]
    assert line in scope.splitlines()
