"""Raised priority for a program that a unit starts."""

import runpy
import sys

import pytest

from tasks.system import priority


@pytest.mark.parametrize("module", ["tasks.system.priority", "tasks.priority"])
def test_a_unit_starts_a_program_by_either_name(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started = list[list[str]]()
    monkeypatch.setattr("os.execvp", lambda _, command: started.append(command))
    monkeypatch.setattr(priority, "take_priority", lambda: None)
    monkeypatch.setattr("os.setpriority", lambda *_: None)
    monkeypatch.setattr(sys, "argv", [module, "prefect", "server", "start"])
    monkeypatch.delitem(sys.modules, "tasks.priority", raising=False)
    if module == "tasks.priority":
        runpy.run_module(module, run_name="__main__")
    else:
        priority.main(sys.argv[1:])
    assert started == [["prefect", "server", "start"]]
