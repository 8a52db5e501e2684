"""Where the incidents of these tests lie."""

from pathlib import Path

import pytest


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What lies in memory on a real host lies here in a test, so that nothing of it is left behind."""
    (tmp_path / "memory").mkdir()
    monkeypatch.setattr("tasks.incident.layout.MEMORY", tmp_path / "memory")
    return tmp_path / "memory"
