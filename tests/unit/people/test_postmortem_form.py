"""The form of a postmortem has what was written before, and gives back what a person has filled in."""

from dataclasses import asdict
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.custody.incident.postmortem_fields import TEXT_LIMIT, PostmortemFields
from tasks.people import form as approval
from tasks.people.form import PostmortemForm, fill_in

BEFORE = PostmortemFields(title="Disk full", contact="Ana, 1234")


def test_the_form_is_prefilled_and_what_a_person_changes_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = dict[str, Any]()

    def suspended(wait_for_input: type[PostmortemForm], timeout: float, key: str) -> PostmortemForm:
        shown.update(schema=wait_for_input.model_json_schema(), key=key, timeout=timeout)
        return wait_for_input(by="ana", cause="no quota")

    monkeypatch.setattr(approval, "suspend_flow_run", suspended)
    by, texts = fill_in("IR-20260102T030405Z", BEFORE)
    assert (by, texts) == ("ana", {**asdict(BEFORE), "cause": "no quota"})
    defaults = {name: about.get("default") for name, about in shown["schema"]["properties"].items()}
    assert defaults == {"by": None, **asdict(BEFORE)}
    assert shown["key"] == "postmortem-ir-20260102t030405z"
    assert shown["schema"]["required"] == ["by"], "who writes goes on record"


def test_a_form_takes_no_book() -> None:
    PostmortemForm(by="ana", cause="x" * TEXT_LIMIT)
    with pytest.raises(ValidationError):
        PostmortemForm(by="ana", cause="x" * (TEXT_LIMIT + 1))
    with pytest.raises(ValidationError):
        PostmortemForm(by="")
