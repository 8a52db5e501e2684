"""The table of a fleet in the UI says when the hosts were frozen, whichever run writes it."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tasks.custody.fleet.host_end import Row
from tasks.fleet import show
from tasks.fleet.show import ProgressTable
from tests.unit.custody.fleet.test_order import INCIDENT, OPENED
from tests.unit.fleet.test_frame import RUN, event

OPENING = replace(INCIDENT, opened_by=f"a person, flow run {RUN}")


class Page:
    """A server on which the opening run was created 0.4 s before the list was written, and which takes artifacts."""

    def __init__(self) -> None:
        """Have one answer to a frame."""
        self.text = ""

    def read_flow_run(self, run: UUID) -> Any:
        """The run of this id."""
        at = {RUN: OPENED - timedelta(seconds=0.4)}.get(str(run), OPENED + timedelta(hours=1))
        return SimpleNamespace(created=at)

    def request(self, _method: str, _path: str, **_: object) -> httpx.Response:
        """One answer."""
        return httpx.Response(200, json={"events": [event("gpu1", seconds=0.2)], "next_page": None})

    def create_artifact(self, artifact: Any) -> Any:
        """Take it."""
        self.text = artifact.data
        return SimpleNamespace(id=uuid4())


@pytest.mark.parametrize("run", [RUN, f"1{RUN[1:]}"])
def test_the_trigger_is_the_run_that_opened_the_incident_also_to_the_one_that_carries_it_on(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "has_key", lambda: True)
    page: Any = Page()
    ProgressTable(OPENING, run).show(page, [Row("gpu1")], None)
    assert "gpu1, 0.6-0.6 s after the trigger" in page.text
