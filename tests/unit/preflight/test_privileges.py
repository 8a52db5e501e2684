"""What a run may not do is said, costs what it says, and keeps nobody from evacuating what is his own."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks.incident.run_lock import take_ownership
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.preflight import open_incident as preflight
from tasks.preflight.privileges import in_strange_hands, missing_rights
from tests.support.workloads import SmallWorkload

ALL = (1 << 41) - 1
NAMES = ["CAP_KILL", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYS_NICE", "CAP_SYSLOG"]


def names(sentences: Sequence[str]) -> list[str]:
    return [sentence.split()[0] for sentence in sentences]


def test_root_with_everything_lacks_nothing() -> None:
    assert missing_rights(ALL, 0, 1000) == ()


def test_without_any_each_is_named_with_its_cost() -> None:
    missing = missing_rights(0, 1000, 1000)
    assert names(missing) == NAMES
    assert all(" is missing: " in sentence for sentence in missing)


@pytest.mark.parametrize(("bit", "name"), [(5, "KILL"), (19, "SYS_PTRACE"), (23, "SYS_NICE")])
def test_each_capability_counts_by_itself(bit: int, name: str) -> None:
    assert names(missing_rights(ALL & ~(1 << bit), 0, 0)) == [f"CAP_{name}"]
    assert names(missing_rights(1 << bit, 0, 0)) == [each for each in NAMES if each != f"CAP_{name}"]


@pytest.mark.parametrize(("name", "bits"), [("CAP_DAC_READ_SEARCH", (1, 2)), ("CAP_SYSLOG", (21, 34))])
def test_where_another_capability_gives_the_same_right_nothing_is_missing(name: str, bits: tuple[int, int]) -> None:
    for bit in bits:
        assert name not in names(missing_rights(1 << bit, 0, 0))
    assert names(missing_rights(ALL & ~(1 << bits[0] | 1 << bits[1]), 0, 0)) == [name]


def test_it_costs_more_where_the_workload_is_another_users() -> None:
    assert "processes of other users cannot be frozen" in missing_rights(0, 1000, 1000)[0]
    assert "processes of the workload's own user 1001 and of others cannot" in missing_rights(0, 1000, 1001)[0]


def test_a_run_writes_down_what_it_lacks_when_it_opens(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tasks.preflight.privileges.effective_capabilities", lambda: ALL & ~(1 << 34 | 1 << 21))
    block = small.block()
    block.evidence.mkdir()
    ownership = take_ownership(block.evidence)
    assert ownership
    now = datetime.now(UTC)
    request = preflight.Request("w", "s", "", None, None, dry_run=False, policy="graceful", run="r", created=now)
    context = preflight._open(request, block, SavedStore("s", {"folder": block.evidence}), None, ownership)
    try:
        (entry,) = (entry for entry in context.log.entries() if entry["action"] == "rights")
    finally:
        context.close()
    assert entry["object"] == f"user {os.geteuid()}"
    assert entry["missing"] == ["CAP_SYSLOG is missing: the kernel's log may be denied"]
    assert caplog.messages == entry["missing"]


def test_a_folder_for_evidence_in_somebody_elses_hands_is_told(tmp_path: Path) -> None:
    inner = tmp_path / "workload/evidence"
    inner.mkdir(parents=True)
    assert in_strange_hands(inner, os.geteuid()) == ""
    if os.geteuid() == 0:
        os.chown(inner.parent, 12345, -1)
        told = in_strange_hands(inner, 0)
        assert told.startswith(f"{inner} lies in {inner.parent} of user 12345: another account can move or forge it")
