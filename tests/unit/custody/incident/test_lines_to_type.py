"""The lines that messages give to a person can be typed where the message is read."""

import shlex
from pathlib import Path

import pytest

from tasks.custody.incident.commands import answer_lines, audit_line, by_hand, postmortem_line, run_line

INCIDENT = "IR-20260102T030405Z"


@pytest.mark.parametrize(
    ("workload", "store", "named"),
    [
        (".", "", ["{here}"]),
        ("a folder", "", ["{here}/a folder"]),
        ("one.toml", "", ["{here}/one.toml"]),
        ("/etc/two.toml:api", "", ["/etc/two.toml:api"]),
        ("one.toml:api", "store.toml", ["{here}/one.toml:api", "--store", "{here}/store.toml"]),
    ],
)
def test_after_a_run_by_hand_each_line_names_what_was_typed_from_wherever_it_is_typed(
    workload: str, store: str, named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They named evacuation.toml in whatever folder one stood, which the workload's account may have put there."""
    monkeypatch.chdir(tmp_path)
    given = [each.format(here=tmp_path) for each in named]
    with by_hand(workload, store):
        lines = [run_line("evacuate", "NAME", INCIDENT), run_line("recover", "NAME", INCIDENT)]
        lines += [postmortem_line("NAME", INCIDENT), answer_lines("NAME", INCIDENT, [41]).removesuffix(" (or: end)")]
        thaw, audit = run_line("thaw", "NAME", INCIDENT), audit_line("NAME", "s3://b/p", INCIDENT)
    again = ["--incident", INCIDENT]
    assert [shlex.split(line) for line in lines] == [
        ["evacuation", "run", *given, *again],
        ["evacuation", "recover", *given, *again],
        ["evacuation", "postmortem", *given, INCIDENT],
        ["evacuation", "answer", *given, INCIDENT, "41", "bystander"],
    ]
    assert shlex.split(thaw) == ["evacuation", "thaw", given[0]]
    assert shlex.split(audit)[2] == (given[-1] if ".toml" in given[-1] else "s3://b/p")


def test_the_line_of_a_recovery_may_name_a_model() -> None:
    with by_hand("/etc/one.toml", ""):
        typed = run_line("recover", "NAME", INCIDENT, "m/a b.pkl")
    assert typed == f"evacuation recover /etc/one.toml --incident {INCIDENT} --model 'm/a b.pkl'"
    asked = run_line("recover", "NAME", INCIDENT, "m/a b.pkl")
    assert asked.endswith(f" --param incident_id={INCIDENT} --param 'model=m/a b.pkl' --watch")


def test_a_workers_run_names_what_its_server_has() -> None:
    assert (
        run_line("recover", "NAME", INCIDENT)
        == f"prefect deployment run recover/recover-NAME --param incident_id={INCIDENT} --watch"
    )
    assert postmortem_line("NAME", INCIDENT) == f"evacuation postmortem evacuation.toml:NAME {INCIDENT}"
    assert answer_lines("NAME", INCIDENT, [41]).endswith("; or the deployment answer/answer-NAME in Prefect's UI")
    assert audit_line("NAME", "s3://b/p", INCIDENT) == f"evacuation audit NAME {INCIDENT}"
