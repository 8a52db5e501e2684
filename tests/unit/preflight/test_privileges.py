"""What a run may not do is said, costs what it says, and keeps nobody from evacuating what is his own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.incident.run_lock import take_ownership
from tasks.preflight import open_incident as preflight
from tasks.preflight.privileges import in_strange_hands, missing_rights
from tests.support.workloads import SmallWorkload

ALL = (1 << 41) - 1
NAMES = ["CAP_KILL", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYS_NICE", "CAP_SYSLOG"]
am_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to become somebody else")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="rights "))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


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
    context = preflight._open(request, block, {"folder": block.evidence}, None, ownership)
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
        assert told.startswith(f"{inner} lies in {inner.parent} of user 12345, who can move or forge it")


CONTAIN = """
import json, os, sys
from pathlib import Path
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until
from tasks.evidence.collect import collect
from tasks.containment.members import freeze, prove_contained
from tasks.containment.cordon import cordon
from tasks.preflight.privileges import tell_rights
from tasks.containment.stop import stop
os.umask(0o022)
with SmallWorkload(Path(sys.argv[1]) / "work load") as small:
    # what belongs to others cannot be looked into from here: patterns that match nothing of theirs
    small.dataset = f"of-{small.port}"
    own = {"training_pattern": f"--dataset {small.dataset} ", "api_pattern": f"uvicorn .*--port {small.port}"}
    small.start_all(workers=2)
    with case_of(small.block(worker_pattern="no such worker", **own)) as case:
        told = {"missing": tell_rights(case)}
        cordon.fn(case)
        told["frozen"] = len(freeze.fn(case).data.processes)
        told["states"] = sorted({process.status() for process in small.living()})
        for name in ("tree", "stacks", "logs"):
            told[name] = collect.fn(case, name).data.outcome
        told["ends"] = sorted({receipt.end for receipt in stop.fn(case).data.processes})
        told["contained"] = prove_contained.fn(case).data.contained
    told["left"] = len(small.living())
print(json.dumps(told))
"""


def opened(folder: Path) -> list[str]:
    """A launcher in whose own mount namespace anybody reaches our interpreter, also one in a closed home."""
    interpreter = Path(sys.executable).resolve()
    closed = next((parent for parent in reversed(interpreter.parents) if not parent.stat().st_mode & 0o001), None)
    if closed is None:
        return []
    (folder / interpreter.relative_to(closed).parts[0]).mkdir(parents=True)
    script = 'mount --rbind "$1/$2" "$3/$2" && mount --rbind "$3" "$1" && shift 3 && exec "$@"'
    inner = interpreter.relative_to(closed).parts[0]
    return ["unshare", "--mount", "sh", "-c", script, "sh", str(closed), inner, str(folder)]


def contained_by(folder: Path, launch: Sequence[str]) -> dict[str, Any]:
    """Contain a workload from beginning to end in a process with fewer rights; what it tells of it."""
    inside = folder / "of its own"
    inside.mkdir()
    inside.chmod(0o777)
    paths = {"PYTHONPATH": str(Path(__file__).parents[3]), "PREFECT_HOME": str(inside), "HOME": str(inside)}
    done = subprocess.run(
        [*opened(folder / "opened"), *launch, sys.executable, "-c", CONTAIN, str(inside)],
        env={**os.environ, **paths},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


CONTAINED = {
    "frozen": 4,
    "states": ["stopped"],
    "tree": "collected",
    "stacks": "collected",
    "logs": "collected",
    "ends": ["stopped"],
    "contained": True,
    "left": 0,
}


@am_root
def test_nobody_contains_what_is_his_own(place: Path) -> None:
    told = contained_by(place, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert names(told.pop("missing")) == NAMES
    assert told == CONTAINED


@am_root
def test_root_without_capabilities_contains_what_is_his_own(place: Path) -> None:
    told = contained_by(place, ["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    assert names(told.pop("missing")) == NAMES
    assert told == CONTAINED
