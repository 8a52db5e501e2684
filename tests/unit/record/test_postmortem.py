"""The postmortem: the runbook's eight fields in both languages, times in JST and UTC, each fact where it belongs."""

import re
from dataclasses import replace
from typing import Any

import pytest

from tasks.custody.containment.gpu import GpuUse
from tasks.custody.containment.pause import Launcher, LauncherKind, LauncherState, Resume
from tasks.custody.containment.receipt import Freeze, Recovery, Stop
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.custody.evidence.secrets_in_files import Hit, Search
from tasks.custody.incident.ending import OF_WORD, ending_of
from tasks.custody.incident.verdict import Verdict, Word, judge_thaw
from tasks.custody.models.inspection import Inspection
from tasks.custody.store.retention import Retention
from tasks.record.content import Quote, Quotes
from tasks.record.postmortem import postmortem
from tasks.rendering.clock import both_times
from tasks.rendering.markdown import markdown
from tests.support.report_factory import NOW, WHO, at, entry, story

FIELDS = ["事象概要", "影響範囲", "検知時刻", "原因仮説", "時系列", "暫定対処", "恒久対策", "再発防止"]


def told(**changes: Any) -> str:
    document = postmortem(story(**changes))
    assert document.trouble == ()
    return markdown(document)


def section(name: str, **changes: Any) -> str:
    return told(**changes).split(f"## {name}")[1].split("\n## ")[0]


def test_the_runbooks_eight_fields_are_there_in_its_order() -> None:
    headings = re.findall(r"^## (\S+) / \S+", told(), re.MULTILINE)
    assert headings[:8] == FIELDS


@pytest.mark.parametrize("field", ["原因仮説", "恒久対策", "再発防止", "影響範囲"])
def test_peoples_fields_are_visibly_open(field: str) -> None:
    assert "**[ 未記入 / to be filled in ]**" in section(field)


def test_times_are_in_jst_and_utc() -> None:
    assert both_times(NOW) == ("2026-01-03 00:04:05.678 JST", "2026-01-02 15:04:05.678 UTC")
    assert section("検知時刻").count("2026-01-03 00:04:05.678 JST · 2026-01-02 15:04:05.678 UTC") == 2
    first = next(line for line in section("時系列の表").split("\n") if "実行開始" in line)
    assert first.startswith("| 2026-01-03 00:04:05.678 JST | 2026-01-02 15:04:05.678 UTC |")


def test_the_moments_of_containment_are_named() -> None:
    text = section("検知時刻")
    assert "凍結完了 / frozen: 2026-01-03 00:04:05.978 JST" in text
    assert "found that none is left: 2026-01-03 00:04:06.878 JST" in text


def before_prefect(created: float, *, frozen: tuple[float, ...]) -> list[dict[str, Any]]:
    """A run that was triggered, froze, and could open its log only then, at 5 s."""
    return [
        entry(5, "run opened", "IR-20260102T150405Z", number=1, triggered=at(created).isoformat()),
        *(entry(6, "frozen", str(n), at=str(at(when))) for n, when in enumerate(frozen)),
        entry(6, "frozen", "99", at="None", denied="SIGSTOP denied"),
        entry(7, "step done", "§2 freeze the workload", step_id="freeze", seconds=1),
    ]


def test_the_early_freeze_is_an_event_between_the_trigger_and_the_opening() -> None:
    opened = replace(story().incident, detected_at=at(0), opened_at=at(5))
    entries = before_prefect(1, frozen=(2, 2.5, 6.5))
    detected = section("検知時刻", incident=opened, entries=entries)
    names = re.findall(r"^- (?:[^/]+) / ([^:(]+)", detected, re.MULTILINE)
    assert [name.strip() for name in names] == [
        "detected",
        "triggered",
        "frozen before Prefect was started",
        "evacuation opened",
        "frozen",
        "found that none is left",
    ]
    times = re.findall(r"(15:04:\S+) UTC", detected)
    assert times == sorted(times)
    rows = [line for line in section("時系列の表", entries=entries).split("\n") if line.startswith("| 2026")]
    assert [row.split(" | ")[2].partition(" / ")[2] for row in rows[:3]] == [
        "triggered",
        "frozen before Prefect was started",
        "run opened",
    ]
    assert "2 processes" in rows[1]
    assert "15:04:08.178" in rows[1]


def test_a_detection_later_than_the_trigger_is_told_as_it_was_given() -> None:
    late = replace(story().incident, detected_at=at(30), opened_at=at(5))
    assert "as given, after the trigger" in section("検知時刻", incident=late, entries=before_prefect(1, frozen=()))
    assert "as given" not in section("検知時刻", entries=before_prefect(1, frozen=()))


def test_a_moment_that_nobody_established_is_not_claimed() -> None:
    assert section("検知時刻", entries=[]).count("確認できず / not established") == 2


def test_the_timeline_tells_the_steps_and_leaves_the_rest_to_the_custody_log() -> None:
    text = section("時系列の表")
    assert "(0.2 s)" in text
    assert "手順からの逸脱 / deviation" in text
    assert "not of the timeline" not in text


def test_steps_that_were_not_done_again_are_one_line() -> None:
    entries = [entry(n, "step cached", f"§4 collect {n}") for n in range(9)]
    (line,) = [line for line in section("時系列の表", entries=entries).split("\n") if "再利用" in line]
    assert "9 steps" in line


def test_after_a_recovery_the_next_step_is_said_once() -> None:
    back = Recovery(NOW, WHO, "m", "0" * 64)
    verdict = Verdict(Word.VERIFIED, (), (), (), "x").after_recovery("back")
    text = markdown(postmortem(story(recovery=back, recovering=True, verdict=verdict)))
    assert text.lower().count("write the postmortem") == 1


@pytest.mark.parametrize("recovering", [False, True])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("word", Word)
@pytest.mark.parametrize("recovery", [None, "no answer from /health", Recovery(NOW, WHO, "HTTP 200", "0" * 64)])
def test_the_runs_own_end_stands_first_and_the_verdict_on_the_evidence_after_it(
    recovery: Recovery | str | None,
    word: Word,
    stored: bool,  # noqa: FBT001  pytest gives it by name
    recovering: bool,  # noqa: FBT001
) -> None:
    verdict = Verdict(word, (), (), (), "mend it.")
    changes: dict[str, Any] = {"recovery": recovery, "stored": stored, "recovering": recovering}
    end = ending_of(word, recovery, recovering=recovering, stored=stored)
    lines = section("事象概要", verdict=verdict, **changes).strip().split("\n")
    heads = [line for line in lines if re.search(r"[✔▲✖] \*\*", line)]
    if end is OF_WORD[word]:
        assert f"**{word}**" in heads[0]
    else:
        assert f"**{end.name}**" in heads[0]
        assert f"**{word}**" in heads[1]
        assert heads[1].startswith("- 証跡の判定")
    assert heads[0] == lines[2]
    assert heads[0].startswith("✔") == end.completed
    assert not isinstance(recovery, str) or any("no answer from /health" in line for line in lines)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "paused", [(), (LauncherState(Launcher(LauncherKind.DEPLOYMENT, "train/nightly"), None, "no server"),)]
)
def test_a_thaw_that_left_something_paused_or_unrecorded_does_not_say_that_all_is_as_it_was(
    paused: tuple[LauncherState, ...],
    stored: bool,  # noqa: FBT001
) -> None:
    verdict = judge_thaw("IR-1", Thawed(NOW, (), (), (), (), Resume(paused)), (), ())
    text = section("事象概要", verdict=verdict, stored=stored, recovery=None, recovering=False)
    head, *_ = [line for line in text.split("\n") if re.search(r"[✔▲✖] \*\*", line)]
    whole = stored and not paused
    assert ("**THAWED**" if whole else "**PartlyThawed**") in head
    assert ("is still paused, or the store has no record of it" in head) is not whole
    assert text.lower().count("resume by hand") <= 1


@pytest.mark.parametrize("word", Word)
def test_each_verdict_and_what_to_do_next_is_told_in_both_languages(word: Word) -> None:
    text = section("事象概要", verdict=Verdict(word, (), (), (), "mend it."), recovery=None)
    (line,) = [line for line in text.split("\n") if f"**{word}**" in line]
    (following,) = [line for line in text.split("\n") if line.startswith("- 次の操作")]
    assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", line)
    assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff].*mend it\.", following.removeprefix("- 次の操作"))


def test_a_rehearsal_says_first_that_nothing_was_touched() -> None:
    assert section("事象概要", dry_run=True).split("\n")[2].startswith("▲ **DryRun** (予行")
    assert "evacuation audit" not in told(dry_run=True)
    assert "予行" not in told()


def test_a_story_of_failures_is_told_too() -> None:
    nothing: dict[str, Any] = dict.fromkeys(("freeze", "stop", "watch", "inspection", "promoted", "recovery"))
    text = told(**nothing, evidence=[], seals=(), quotes=Quotes(), entries=[])
    assert "凍結 / frozen: 確認できず / not established" in text
    assert "停止 / stopped: 確認できず / not established" in text
    assert "復旧 / recovery: なし / none" in text
    assert "封印された証跡はない。 / No evidence was sealed." in text
    assert "No attempt to collect has left a record." in text
    assert "No model was judged." in text
    assert re.findall(r"^## .*", text, re.MULTILINE) == re.findall(r"^## .*", told(), re.MULTILINE)


def test_what_to_do_next_stands_before_the_notes() -> None:
    told_first = section("事象概要", verdict=replace(story().verdict, notes=("gpu missing",)))
    assert told_first.index("次の操作") < told_first.index("注記 / note: gpu missing")


def test_a_recovery_that_failed_is_told_with_its_reason() -> None:
    assert "復旧 / recovery: it failed: no port" in section("暫定対処", recovery="no port")


def test_each_process_and_container_has_its_receipt() -> None:
    rows = [line for line in section("プロセスごとの受領書").split("\n") if line.startswith("| ")]
    assert len(rows) == 2 + 4
    assert "no receipt" in rows[2], "the process that was frozen and has no end comes first"
    assert "left frozen" in rows[3]
    killed, stopped = rows[4:]
    assert "SIGTERM 00:04:05.678" in killed
    assert "removed with its end" in killed
    assert "| 01-03 00:04:05.778 · シグナル / signals | SIGINT 00:04:05.678 |" in stopped
    assert "**stopped** (停止) · 01-03 00:04:06.678" in stopped


def test_the_coverage_says_what_is_missing_why_and_what_it_means() -> None:
    denied, withheld = [line for line in section("欠落").split("\n") if line.startswith("| `a reason`")]
    assert "**denied** (拒否) | a reason | 必須: 判定は PARTIAL 以下" in denied
    assert "**withheld** (除外) | a reason | 除外。欠落ではない" in withheld


def test_a_collector_that_names_no_loss_of_its_own_is_missing_as_a_whole() -> None:
    evidence = Evidence("kernel", False, False, Outcome.DENIED, "no right", NOW, NOW, 1)
    text = section("欠落", evidence=[evidence])
    assert "| `kernel` | — | ✖ **denied** (拒否) | no right | 判定には影響しない / does not" in text
    assert "Unanswered: What would kernel have shown?" in text


def test_the_question_that_stays_open_is_named() -> None:
    assert "Answered in part: What ran?" in section("欠落", questions={"a reason": "What ran?"})


def test_what_looks_like_a_secret_is_named_by_its_place() -> None:
    hits = Search("logs/a.log", (Hit(3, "AWS access key"),), 2)
    found = [replace(each, searches=(hits,)) for each in story().findings.evidence[:1]]
    assert "| `logs/a.log` | AWS access key in line 3; and 2 more | — |" in section("証跡", evidence=found)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Retention("compliance", 30), "30 日間 (compliance) / locked for 30 days (compliance)"),
        (Retention(hold=True), "リーガルホールド / legal hold"),
    ],
)
def test_the_retention_that_was_asked_for_is_told(asked: Retention, words: str) -> None:
    assert words in section("証跡", retention=asked)
    assert "retention" not in section("証跡")


def test_nothing_missing_is_said_as_well() -> None:
    assert "Everything that was asked for is there." in section("欠落", evidence=story().findings.evidence[:1])


def test_a_suspect_model_is_named_with_what_it_imports() -> None:
    text = section("モデル")
    assert "**suspect** (不審) | a reason; imports a reason |" in text
    assert "なし / none" in section("モデル", inspection=Inspection())


def test_scores_and_the_workloads_own_versions_are_referred_to() -> None:
    summary = {"git_commit": "abc1234", "python": "3.11", "scores": {"cv": 0.9}}
    table = {
        "file": "artifacts/cv_results_adult.csv",
        "rows": 40,
        "failed_fits": 2,
        "best": [{"rank_test_score": 1, "mean_test_score": 0.9134567, "params": {"param_C": "10"}}],
        "last_step": {"iter": 3, "n_resources": 900},
    }
    text = section(
        "スコア", quotes=Quotes((Quote("artifacts/summary_adult.json", summary),), (Quote("scores.json", [table]),))
    )
    for words in (
        "`git_commit` | `abc1234`",
        "`scores.cv` | `0.9`",
        "| 1 | 0.913457 |",
        "`param_C=10`",
        "iter=3, n\\_res",
    ):
        assert words in text


@pytest.mark.parametrize("odd", [None, 1, "text", [1, None], [{}], [{"best": 3}], [{"best": [{"params": 1}]}], {}])
def test_scores_of_any_shape_cost_nothing_else(odd: Any) -> None:
    document = postmortem(story(quotes=Quotes((Quote("a", odd),), (Quote("scores.json", odd),))))
    assert len(document.sections) == len(postmortem(story()).sections)


def test_the_picked_out_error_stands_by_the_cause() -> None:
    text = section("原因仮説", quotes=Quotes(tracebacks=(Quote("logs/train.log", "Traceback:\n  boom"),)))
    assert "`logs/train.log`" in text
    assert "```text\nTraceback:\n  boom\n```" in text


def test_the_record_says_how_it_is_proven_and_what_is_unsigned() -> None:
    text = section("ダイジェスト", places=story().places)
    assert "evacuation audit 'a reason' IR-20260102T150405Z --signers allowed_signers" in text
    assert f"`{'1' * 64}`" in text
    assert "署名なし / unsigned" in text
    assert "--tsa-roots" not in text
    text = section("ダイジェスト", places=story().places, timestamp_url="https://tsa.example/tsr")
    assert "--signers allowed_signers --tsa-roots roots.pem" in text
    assert "`https://tsa.example/tsr: closing.json.tsr, or unstamped.json`" in text


@pytest.mark.parametrize(
    ("entries", "line"),
    [
        ([], "- 権限 / rights: 不明 / not known"),
        ([entry(0, "rights", missing=[])], "- 権限 / rights: すべてあり / none is missing"),
        (
            [entry(0, "rights", missing=["an earlier run"]), entry(1, "rights", missing=["a\nb", "c"])],
            "- 権限 / rights: a␊b; c",
        ),
    ],
)
def test_what_the_run_was_not_allowed_to_do_is_named(entries: list[dict[str, Any]], line: str) -> None:
    assert line in section("影響範囲", entries=entries).splitlines()


def test_nothing_to_stop_is_a_result_and_no_table() -> None:
    text = section("暫定対処", freeze=Freeze(NOW, (), settled=True), stop=Stop(NOW, ()), watch=None)
    assert "nothing of the workload runs" in text
    assert "| PID" not in text


def test_who_holds_a_gpu_is_shown_after_each_act_that_looked() -> None:
    gpu = GpuUse(("process 7 still holds 5 MiB of a GPU",), ("8, 6, other",))
    text = section("暫定対処", freeze=Freeze(NOW, (), settled=True, gpu=gpu), stop=Stop(NOW, ()), watch=None)
    assert [line for line in text.splitlines() if "GPU / GPU" in line or line.startswith("- GPU")] == [
        "- GPU: process 7 still holds 5 MiB of a GPU; 8, 6, other"
    ]
    assert "may still finish" in text


def test_what_comes_first_stands_before_what_is_safe() -> None:
    verdict = Verdict(Word.VERIFIED, ("all of it",), (), (), "mend it.", "no model is sound")
    text = section("事象概要", verdict=verdict)
    assert text.index("no model is sound") < text.index("all of it")
