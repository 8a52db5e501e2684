"""Raised priority for a program that a unit starts."""

import pytest

from tasks.system import priority


def test_a_unit_starts_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[list[str]]()
    monkeypatch.setattr("os.execvp", lambda _, command: started.append(command))
    monkeypatch.setattr(priority, "take_priority", lambda: None)
    priority.main(["prefect", "server", "start"])
    assert started == [["prefect", "server", "start"]]
