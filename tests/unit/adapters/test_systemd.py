"""What systemd is taken to have said where it says nothing."""

from pathlib import Path

import pytest

from tasks.adapters import systemd
from tasks.custody.containment.unit import UNANSWERED


@pytest.mark.parametrize("program", ["", "exit 1", "kill -9 $$"], ids=["missing", "refusing", "killed"])
@pytest.mark.parametrize(("booted", "init"), [(True, "sh\n"), (False, "systemd\n"), (False, "sh\n")])
def test_a_booted_systemd_that_gives_no_answer_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, init: str, *, booted: bool
) -> None:
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / ("" if booted else "none"))
    (tmp_path / "comm").write_text(init)
    monkeypatch.setattr(systemd, "_INIT", tmp_path / "comm")
    monkeypatch.setenv("PATH", str(tmp_path))
    if program:
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "systemctl").chmod(0o755)
    about = systemd.Systemd().shown("t.service")
    assert about == (UNANSWERED if booted or init == "systemd\n" else {})
