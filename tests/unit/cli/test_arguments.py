"""What a person types is understood or refused, and the next step is told."""

import json
from pathlib import Path

import pytest

from tasks.cli.__main__ import chosen
from tasks.cli.status import Called, next_step
from tasks.custody.errors import Refused
from tests.support.workloads import SmallWorkload


@pytest.mark.parametrize(
    ("incident", "verdict", "cordoned", "alive", "words"),
    [
        ("", "", False, True, "no incident"),
        ("IR-x", "", True, False, "carry the incident on"),
        ("IR-x", "UNVERIFIED", True, False, "carry the incident on"),
        ("IR-x", "VERIFIED", True, True, "lives under the cordon"),
        ("IR-x", "UNVERIFIED", True, False, "make evacuate WORKLOAD='a file.toml:one' INCIDENT=IR-x"),
        ("IR-x", "VERIFIED", True, False, "make uncordon WORKLOAD='a file.toml:one'"),
        ("IR-x", "VERIFIED", True, False, "make evacuate WORKLOAD='a file.toml:one' INCIDENT=IR-x RECOVER=1"),
        ("IR-x", "VERIFIED", True, False, ".venv/bin/prefect deployment run recover/one --param incident_id=IR-x"),
        ("IR-x", "PARTIAL", False, True, "postmortem"),
    ],
)
def test_the_next_step(incident: str, verdict: str, cordoned: bool, alive: bool, words: str) -> None:  # noqa: FBT001
    told = next_step(incident, verdict, Called("one", "a file.toml:one"), cordoned=cordoned, alive=alive)
    assert words in "\n".join(told)


def test_the_store_of_another_file_is_named_where_evidence_is_sent() -> None:
    called = Called("one", "one.toml", "a store.toml")
    assert (
        called.make("evacuate", "INCIDENT=IR-x") == "make evacuate WORKLOAD=one.toml STORE='a store.toml' INCIDENT=IR-x"
    )
    assert called.make("uncordon") == "make uncordon WORKLOAD=one.toml"


@pytest.mark.parametrize("arguments", [[], ["status"], ["destroy", "x.toml"], ["status", "none.toml"]])
def test_anything_else_is_refused(arguments: list[str]) -> None:
    with pytest.raises(Refused):
        chosen(arguments)


def test_an_unknown_name_is_refused_with_those_that_are_known(small: SmallWorkload, tmp_path: Path) -> None:
    file = tmp_path / "evacuation.toml"
    file.write_text(f"[workload.small]\nroot = {json.dumps(str(small.root))}\n")
    with pytest.raises(Refused, match="expected one of small; got other"):
        chosen(["status", str(file), "other"])
