"""With few rights a run still contains what is its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tasks.host.cgroup.group import ControlGroup
from tests.support.accounts import opened
from tests.support.cases import HIERARCHY, new_group
from tests.unit.preflight.test_privileges import NAMES, names

am_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to become somebody else")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed to others."""
    made = Path(tempfile.mkdtemp(prefix="rights "))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def delegated() -> Iterator[ControlGroup]:
    """A group that belongs to nobody, as a service with Delegate=yes has one."""
    for group in new_group():
        for path in (group.place, group.place / "cgroup.procs"):
            os.chown(path, 65534, 65534)
        yield group


CONTAIN = """
import json, os, sys
from pathlib import Path
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until
from tasks.evidence.collect import collect
from tasks.containment.freeze import freeze
from tasks.containment.containment_check import prove_contained
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
        told = {"missing": tell_rights(case.workload, case.log)}
        cordon.fn(case)
        wait_until(lambda: prove_contained.fn(case).data.cordoned, what="the guard's turn on a busy machine")
        told["frozen"] = len(freeze.fn(case).data.processes)
        told["states"] = sorted({process.status() for process in small.living()})
        for name in ("tree", "stacks", "logs"):
            told[name] = collect.fn(case, name).data.outcome
        told["ends"] = sorted({receipt.end for receipt in stop.fn(case).data.processes})
        proven = prove_contained.fn(case).data
        told |= {"contained": proven.is_contained, "why not": "" if proven.is_contained else proven.summary}
    told["left"] = len(small.living())
print(json.dumps(told))
"""


CHAIN = """
import json, os, sys, time
from pathlib import Path
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until
from tasks.containment import freeze as module
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.stop import stop
module.FREEZE_SECONDS = 1.0
os.umask(0o022)
with SmallWorkload(Path(sys.argv[1]) / "work load") as small:
    mark, sign, enough = f"mark-{small.port}", small.root / "sign", small.root / "enough"
    chain = f"import os, sys, time # {mark}\\nend = time.monotonic() + 60\\n"
    chain += "while time.monotonic() < end and not os.path.exists('enough'):\\n    if os.fork(): os._exit(0)\\n"
    chain += "    time.sleep(0.001); open('sign', 'a').write('.')\\n"
    small.start([sys.executable, "-I", "-S", "-c", chain])
    wait_until(sign.exists, what="the chain")
    with case_of(small.block(training_pattern=mark, api_pattern=mark, worker_pattern=mark, grace_seconds=1)) as case:
        cordon.fn(case)
        ways = {each.way for each in module.freeze.fn(case).data.processes}
        stop.fn(case)
        told = {"alive": prove_contained.fn(case).data.alive, "ways": sorted(ways - {"signals"})}
    before = sign.stat().st_size
    time.sleep(0.5)
    told["runs"] = sign.stat().st_size > before
    enough.touch()
print(json.dumps(told))
"""


HIDDEN = """
import json, os, sys
from pathlib import Path
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload
from tasks.host.host import LinuxHost
from tasks.containment.containment_check import prove_contained
from tasks.preflight.privileges import tell_rights
from tasks.readiness.host import check_rights
from tasks.readiness.check_target import CheckTarget
os.umask(0o022)
with SmallWorkload(Path(sys.argv[1]) / "work load") as small, case_of(small.block()) as case:
    told = {"sees": 1 in LinuxHost().snapshot(), "alive": prove_contained.fn(case).data.alive}
    told["missing"] = [each for each in tell_rights(case.workload, case.log) if "hides" in each]
    told["doctor"] = check_rights(CheckTarget("small", case.workload, "store", {})).weight
print(json.dumps(told))
"""


def contained_by(folder: Path, launch: Sequence[str], program: str = CONTAIN) -> dict[str, Any]:
    """Contain a workload from beginning to end in a process with fewer rights; what it tells of it."""
    inside = folder / "of its own"
    inside.mkdir()
    inside.chmod(0o777)
    paths = {"PYTHONPATH": str(Path(__file__).parents[3]), "PREFECT_HOME": str(inside), "HOME": str(inside)}
    done = subprocess.run(
        [*opened(folder / "opened"), *launch, sys.executable, "-", str(inside)],
        input=program,
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
    "why not": "",
    "left": 0,
}


@pytest.mark.whole
@am_root
def test_nobody_contains_what_is_his_own(place: Path) -> None:
    told = contained_by(place, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    assert names([each for each in told.pop("missing") if each.startswith("CAP_")]) == NAMES
    assert told == CONTAINED


@pytest.mark.whole
@am_root
def test_root_without_capabilities_contains_what_is_his_own(place: Path) -> None:
    told = contained_by(place, ["setpriv", "--bounding-set=-all", "--inh-caps=-all"])
    assert names([each for each in told.pop("missing") if each.startswith("CAP_")]) == NAMES
    assert told == CONTAINED


@pytest.mark.whole
@am_root
@pytest.mark.skipif(HIERARCHY is None, reason="no control groups of version 2")
def test_in_a_delegated_group_nobody_ends_a_chain_of_forks_that_is_in_it_too(
    place: Path, delegated: ControlGroup
) -> None:
    inside = ["sh", "-c", 'echo 0 >"$0/cgroup.procs"; exec "$@"', str(delegated.place)]
    at_once = CHAIN.replace("FREEZE_SECONDS = 1.0", "_BY_SIGNALS = 0")  # a signal may meet a generation by luck
    told = contained_by(place, [*inside, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], at_once)
    assert told == {"alive": [], "ways": ["control group of the incident"], "runs": False}
    assert not [each for each in delegated.place.iterdir() if each.is_dir()]


@pytest.mark.whole
@am_root
def test_without_a_control_group_a_chain_of_forks_is_never_called_contained(place: Path) -> None:
    """A signal may meet a generation by luck, and then it has ended."""
    told = contained_by(place, ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], CHAIN)
    assert not told["ways"]
    assert bool(told["alive"]) or not told["runs"]


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.mark.whole
@am_root
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("option", "launch", "sees"),
    [
        ("hidepid=1", NOBODY, False),
        ("hidepid=2", NOBODY, False),
        ("hidepid=2,gid=65534", NOBODY, True),
        ("hidepid=4,gid=65534", NOBODY, False),
        ("hidepid=2", ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--groups=1", "--regid=1"], False),
        ("hidepid=4", [], True),
    ],
)
def test_where_proc_hides_processes_nothing_is_called_contained(
    place: Path, option: str, launch: list[str], *, sees: bool
) -> None:
    """In pid and mount namespaces of its own, whose first process is root's."""
    mounted = 'mount -t proc -o "$0" proc /proc && "$@"; exit "$?"'
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-c", mounted, option]
    told = contained_by(place, [*alone, *launch], HIDDEN)
    assert told["sees"] is sees
    assert bool(told["missing"]) is not sees
    assert (told["doctor"] == "fatal") is not sees
    assert [line.partition(":")[0] for line in told["alive"]] == (
        [] if sees else ["whether processes of other accounts are left is not known"]
    )
