"""What a person types is understood or refused, and the next step is told."""

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest

from tasks.cli.next_step import Called, NextStep, next_step
from tasks.cli.workloads import chosen
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Unknown
from tasks.custody.errors import Refused
from tasks.custody.incident.commands import by_hand
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.incident.verdict import _next as next_of
from tests.support.workloads import SmallWorkload


def test_a_recovery_that_lacks_a_persons_word_of_its_model_offers_the_line_that_gives_it() -> None:
    called = Called("one", "one.toml")
    told = next_step("IR-x", "VERIFIED", called, cordoned=False, alive=True, ended="PartlyRecovered", model="m/a b.pkl")
    assert told.commands == (
        "evacuation recover one.toml --model 'm/a b.pkl'",
        "evacuation postmortem one.toml IR-x",
    )
    gone = next_step("IR-x", "VERIFIED", called, cordoned=False, alive=False, ended="PartlyRecovered", model="m/a.pkl")
    assert gone.commands == told.commands[1:]


@pytest.mark.parametrize(
    ("incident", "verdict", "cordoned", "alive", "words"),
    [
        ("", "", False, True, "no incident"),
        ("IR-x", "", True, False, "carry the incident on"),
        ("IR-x", "UNVERIFIED", True, False, "carry the incident on"),
        ("IR-x", "VERIFIED", True, True, "lives under the cordon"),
        ("IR-x", "UNVERIFIED", True, False, "evacuation run 'a file.toml:one' --incident IR-x"),
        ("IR-x", "VERIFIED", True, False, "evacuation uncordon 'a file.toml:one'"),
        ("IR-x", "VERIFIED", True, False, "evacuation recover 'a file.toml:one'"),
        ("IR-x", "NOTCONTAINED", True, False, "stop what is named here by hand"),
        ("IR-x", "PARTIAL", False, True, "postmortem"),
    ],
)
def test_the_next_step(incident: str, verdict: str, cordoned: bool, alive: bool, words: str) -> None:  # noqa: FBT001
    told = next_step(incident, verdict, Called("one", "a file.toml:one"), cordoned=cordoned, alive=alive)
    assert words in "\n".join(told.lines("next"))
    assert len(told.commands) == bool(incident), "one line to type"
    assert "prefect " not in "\n".join(told.lines("next")), "no server is named"


@pytest.mark.parametrize(
    ("verdict", "line"), [("PARTIAL", "evacuate/evacuate-one"), ("VERIFIED", "recover/recover-one")]
)
@pytest.mark.parametrize("named", ["environment", "profile"])
def test_the_workers_way_is_told_last_and_only_where_a_server_is_named(
    verdict: str, line: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if named == "environment":
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    else:
        text = 'active = "one"\n[profiles.one]\nPREFECT_API_URL = "http://127.0.0.1:4200/api"\n'
        (tmp_path / "profiles.toml").write_text(text)
        monkeypatch.setenv("PREFECT_PROFILES_PATH", str(tmp_path / "profiles.toml"))
        monkeypatch.setenv("PREFECT_PROFILE", "one")
    told = next_step("IR-x", verdict, Called("one", "one.toml"), cordoned=True, alive=False)
    assert told.commands[0].startswith("evacuation ")
    assert f"          prefect deployment run {line} --param incident_id=IR-x --watch" in [*told.lines("next")]


def test_where_nothing_is_seen_that_a_person_has_to_stop_the_line_is_that_which_carries_on() -> None:
    """It asked to stop what is named here, and named nothing."""
    told = next_step("IR-x", "NOTCONTAINED", Called(), cordoned=True, alive=False, has_names=False)
    assert told.words.endswith("then carry the incident on:")
    assert "if it still lives" in told.words, "a loop outside the root is seen by nothing here"
    assert "stop what is named" not in told.words


@pytest.mark.parametrize("has_names", [True, False])
def test_after_a_cancel_the_one_next_step_is_to_carry_on_unless_another_has_to_be_stopped(*, has_names: bool) -> None:
    ended = "cancelled: not contained"
    told = next_step("IR-x", "NOTCONTAINED", Called(), cordoned=True, alive=True, ended=ended, has_names=has_names)
    assert (told.words == "carry the incident on:") is not has_names
    assert len(told.commands) == 1


def test_after_a_cancel_nobody_stops_what_stands_frozen() -> None:
    when_frozen = next_step(
        "IR-x",
        "NOTCONTAINED",
        Called(),
        cordoned=True,
        alive=True,
        ended="cancelled: frozen, not stopped",
        is_frozen=True,
    )
    assert when_frozen.words.startswith("nothing of what stands frozen is lost")
    assert when_frozen.words.endswith("carry the incident on:")
    when_running = next_step(
        "IR-x", "NOTCONTAINED", Called(), cordoned=True, alive=True, ended="cancelled: frozen, not stopped"
    )
    assert "by hand" in when_running.words


def test_what_was_stopped_can_be_brought_back_after_the_cordon_too() -> None:
    told = next_step("IR-x", "VERIFIED", Called(), cordoned=False, alive=False, lacks_api=True)
    assert [each.commands for each in told.others] == [("evacuation recover evacuation.toml",)]


def test_what_nobody_knows_is_answered_one_by_one() -> None:
    called = Called("one", "one.toml", "a store.toml")
    told = next_step("IR-x", "UNANSWERED", called, cordoned=True, alive=False, unknown=(7, 8))
    words = [f"{pid} {word}" for pid in (7, 8) for word in ("bystander", "end")]
    assert told.commands == tuple(f"evacuation answer one.toml --store 'a store.toml' IR-x {each}" for each in words)
    gone = next_step("IR-x", "UNANSWERED", called, cordoned=True, alive=False)
    assert "carry the incident on" in gone.words


def test_the_store_of_another_file_is_named_where_evidence_is_sent() -> None:
    called = Called("one", "one.toml", "a store.toml")
    told = called.command("run", "--incident", "IR-x")
    assert told == "evacuation run one.toml --store 'a store.toml' --incident IR-x"
    assert called.command("uncordon") == "evacuation uncordon one.toml"


@pytest.mark.parametrize("file", ["x", "none.toml", ""])
def test_what_is_no_file_is_refused(file: str) -> None:
    with pytest.raises(Refused, match="a TOML file"):
        chosen(file)


def test_a_file_of_stores_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.toml").write_text('[store.a]\nfolder = "/srv/a"\n')
    with pytest.raises(Refused, match=r"expected a \[workload.NAME\] in .*; got none"):
        chosen(str(tmp_path / "store.toml"))


def test_an_unknown_name_is_refused_with_those_that_are_known(small: SmallWorkload, tmp_path: Path) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(f"[workload.small]\nroot = {json.dumps(str(small.root))}\n")
    with pytest.raises(Refused, match="expected one of small; got other"):
        chosen(f"{file}:other")


def commands_of(step: NextStep) -> list[str]:
    """The lines of a step and of what would do too."""
    return [*step.commands, *(line for other in step.others for line in commands_of(other))]


@pytest.mark.parametrize("word", [Word.VERIFIED, Word.PARTIAL, Word.UNANSWERED, Word.UNVERIFIED, Word.NOT_CONTAINED])
@pytest.mark.parametrize("recovery", ["none", "failed", "done"])
@pytest.mark.parametrize("typed", [True, False])
def test_message_and_status_name_one_and_the_same_next_step(
    word: Word, recovery: str, monkeypatch: pytest.MonkeyPatch, *, typed: bool
) -> None:
    """The first command that the message spells is the first of its kind that `status` prints, after the same words."""
    file = "/a/one.toml" if typed else "evacuation.toml:one"  # without a typed file the message has no other
    called, unknown = Called("one", file), (Unknown(Identity(7, 1), "sleep 9", "why", "line"),)
    with by_hand("/a/one.toml", "") if typed else nullcontext():
        verdict = Verdict(word, (), (), (), next_of(word, "IR-x", "one", unknown))
        if recovery == "failed":
            verdict = verdict.after_failed_recovery(
                "IR-x", (), unknown if word is Word.UNANSWERED else (), workload="one"
            )
        elif recovery == "done":
            verdict = verdict.after_recovery("it is back")
    if not typed:
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    failed, cordoned = recovery == "failed", recovery != "done"
    told = next_step(
        "IR-x", str(word), called, cordoned=cordoned, alive=False, unknown=(7,), ended="NotRecovered" if failed else ""
    )
    spelt = re.findall(r"(?:evacuation|prefect deployment run)[^`;(]*(?<![ `;(])", verdict.next)
    plain = [line.removesuffix(" --incident IR-x") if " recover " in line else line for line in spelt]
    by_the_same = [line for line in commands_of(told) if line.startswith(plain[0].split()[0])]
    if recovery == "done" and word in {Word.VERIFIED, Word.PARTIAL}:
        assert told.commands == (f"evacuation postmortem {file} IR-x",)
        assert plain == ["evacuation postmortem"]
    else:
        assert plain[0] == by_the_same[0], (verdict.next, told)
    first = verdict.next.partition(":")[0].partition(",")[0].partition(" (")[0]
    assert first.split(" ")[0] in {told.words.split(" ")[0], "see", "what"}, (verdict.next, told.words)
