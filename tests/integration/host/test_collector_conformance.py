"""What every collector promises, tried on each that discovery finds: a new file is covered at once."""

import json
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from tasks.acquisition.collector import Collector
from tasks.collectors import discover
from tasks.collectors.attempt import attempt
from tasks.containment.files_before_stop import hold_files
from tasks.containment.freeze import freeze
from tasks.custody.evidence.acquisition import Evidence, Outcome, StoredFile
from tasks.custody.evidence.keys import LAST_WRITES
from tasks.custody.store.manifest import digest
from tasks.evidence import collect as module
from tasks.evidence.collect import collect
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until
from tests.unit.collectors.test_git import repository

CANARY = "Zq7canaryX"
HOSTS_TO_GIVE = {"kernel", "gpu", "journal"}  # the right to read the kernel's log, a card, systemd
WITHOUT_ROOT = (
    *("packages", "installation", "interpreter", "git", "lockfiles", "logs", "artifacts", "models"),
    *("tracebacks", "scores"),
)


HOME = Path(__file__).parents[3] / "tasks/collectors"


@pytest.fixture(params=list(discover().values()), ids=list(discover()))
def collector(request: pytest.FixtureRequest) -> Collector:
    found: Collector = request.param
    return found


def evidence_of(context: RunContext, collector: str) -> Evidence:
    made = collect.fn(context, collector).data
    assert isinstance(made, Evidence)
    return made


def all_of(context: RunContext, at_once: int = 4) -> dict[str, Evidence]:
    """Every collector's evidence; side by side, as in a run."""
    with ThreadPoolExecutor(at_once) as pool:
        return dict(zip(discover(), pool.map(partial(evidence_of, context), discover()), strict=True))


def picture(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Every file below a folder, with size, time and digest."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns, digest(path)) for path in files}


def ours() -> list[str]:
    """What runs of ours below this test, but for the workload's own processes and the warm one."""
    return [
        " ".join(child.cmdline())
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "tasks.collectors" in " ".join(child.cmdline())
        and not (child.ppid() == os.getpid() and "tasks.collectors.zygote" in child.cmdline())
    ]


@dataclass
class World:
    """All collectors' evidence of one frozen workload that has something for nearly each of them."""

    evidence: dict[str, Evidence]
    folder: Path
    staging: Path
    unchanged: bool
    left: list[str]
    told: set[str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = tmp_path_factory.mktemp("conformance")
    with SmallWorkload(home / "work load") as workload:
        root = workload.root
        (root / "requirements.txt").write_text("scikit-learn==1.7.2\n")
        (root / "data").mkdir()
        (root / "data/adult.csv").write_text("age,income\n1,2\n")
        (root / "logs/train-20260101_000000.log").write_text(FAILED_LOG)
        (root / "artifacts/cv_results_builtin.csv").write_text(SEARCH)
        (root / "models/MODEL_CARD.md").write_text("# Card\n")
        repository(root)
        (root / "train.py").write_text(f"password = '{CANARY}'\n")
        secret = ["--api-token", CANARY, f"--db=pg://u:{CANARY}@h/", f"--data=s3://u:{CANARY}@h/x"]
        command = shlex.join([*workload.training_command, *secret])
        away = f"exec 9>{shlex.quote(str(home / 'away.txt'))}; echo epoch 1 >&9; exec {command}"
        workload.start(["sh", "-c", away], WORKERS="1", HF_TOKEN=CANARY, SCIKIT_LEARN_DATA="data")
        with case_of(workload.block(evidence_dir=home / "evidence")) as context:
            freeze.fn(context)
            held = hold_files(context.workload, context.state)
            context.state.held_files.write([replace(each, size=0) for each in held])  # as if written during a stop
            before = picture(root)
            evidence = all_of(context)
            told = {str(entry["result"]) for entry in context.log.entries() if "result" in entry}
            yield World(
                evidence,
                context.directory.evidence_dir(1),
                context.directory.path / "staging",
                unchanged=picture(root) == before,
                left=ours(),
                told=told,
            )


FAILED_LOG = f"""iteration 1
Traceback (most recent call last):
  File "src/train.py", line 1, in <module>
    connect("pg://u:{CANARY}@h/")
RuntimeError: token={CANARY}
"""


SEARCH = f"""iter,n_resources,mean_test_score,std_test_score,rank_test_score,param_api_key,params
0,10,0.8,0.1,2,{CANARY},"{{'api_key': '{CANARY}'}}"
1,20,0.9,0.1,1,{CANARY},"{{'api_key': '{CANARY}'}}"
"""


def generated(evidence: Evidence) -> list[StoredFile]:
    return [file for file in evidence.files if not file.source]


@pytest.mark.short(1)
def test_on_a_workload_that_has_everything_it_leaves_evidence(world: World, collector: Collector) -> None:
    evidence = world.evidence[collector.name]
    assert (evidence.collector, evidence.volume) == (collector.name, 1)
    assert evidence.started_at <= evidence.ended_at
    assert evidence.summary in world.told
    if collector.name in HOSTS_TO_GIVE:
        assert evidence.outcome in {Outcome.COLLECTED, Outcome.EMPTY, Outcome.DENIED, Outcome.MISSING}
    elif collector.of_containers or collector.of_units:
        assert evidence.outcome is Outcome.EMPTY
    else:
        assert evidence.outcome is Outcome.COLLECTED, evidence.summary
        assert evidence.is_complete
    elsewhere = collector.of_containers or collector.of_units
    if evidence.outcome is not Outcome.COLLECTED and not evidence.files and not elsewhere:
        assert evidence.reason


def test_what_it_stored_is_as_it_says_and_within_its_limit(world: World, collector: Collector) -> None:
    evidence = world.evidence[collector.name]
    for file in evidence.files:
        path = world.folder / file.stored
        assert (path.stat().st_size, digest(path)) == (file.size, file.sha256)
        assert path.stat().st_mode & 0o077 == 0
    assert evidence.size <= collector.limit


def test_what_it_makes_is_redacted(world: World, collector: Collector) -> None:
    for file in generated(world.evidence[collector.name]):
        assert CANARY.encode() not in (world.folder / file.stored).read_bytes(), file.stored
    assert CANARY not in world.evidence[collector.name].summary


def test_the_secrets_were_there_to_be_found(world: World) -> None:
    """Else the test before would show nothing."""
    shown = {file.stored for evidence in world.evidence.values() for file in generated(evidence)}
    hidden = {name for name in shown if b"[redacted:" in (world.folder / name).read_bytes()}
    assert hidden >= {"tree.json", "traceback.txt", "scores.json", "datasets.json", "ps_top.txt"}
    assert "git_diff_not_taken.json" in shown


def test_together_they_store_every_name_once_and_nothing_else(world: World) -> None:
    """But for what the second look takes again, in the place of what the first has taken."""
    everyone = world.evidence.values()
    names = Counter(file.stored for each in everyone for file in each.files if each.collector != LAST_WRITES)
    assert [name for name, times in names.items() if times > 1] == []
    assert set(names) == {str(path.relative_to(world.folder)) for path in world.folder.rglob("*") if path.is_file()}


def test_together_they_leave_no_process_no_staging_and_the_workload_as_it_was(world: World) -> None:
    assert world.unchanged
    assert world.left == []
    assert list(world.staging.iterdir()) == []


def test_on_an_empty_root_they_leave_an_outcome_too(small: SmallWorkload, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with case_of(small.block(root=tmp_path / "empty")) as context:
        evidence = all_of(context)
    for name in WITHOUT_ROOT:
        assert evidence[name].outcome is Outcome.MISSING, name
        assert evidence[name].reason
        assert evidence[name].lost == evidence[name].needed
    assert Outcome.FAILED not in {each.outcome for each in evidence.values()}, evidence


def altered_case(
    monkeypatch: pytest.MonkeyPatch, workload: SmallWorkload, how: str, token: str, **changes: Any
) -> AbstractContextManager[RunContext]:
    """A case in which each collector's sources hang or flood, and its deadline or limit is small."""
    program = (sys.executable, str(Path(__file__).with_name("altered.py")), how, token)
    known = {name: replace(each, **changes) for name, each in discover().items()}
    monkeypatch.setenv("PYTHONPATH", str(HOME.parents[1]))
    monkeypatch.setattr(module, "discover", lambda: known)
    monkeypatch.setattr(module, "attempt", partial(attempt, program=program))
    return case_of(workload.block(containers=["name=of-no-container"], units=["of-no-unit.service"]))


def marked(token: str) -> list[int]:
    return [each.pid for each in psutil.process_iter(["cmdline"]) if token in " ".join(each.info["cmdline"] or [])]


@pytest.mark.whole
def test_each_ends_at_its_deadline_with_all_that_it_started(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = str(uuid4().int)
    with altered_case(monkeypatch, small, "hang", token, deadline=2.0) as context:
        began = time.monotonic()
        evidence = all_of(context, at_once=16)
        assert time.monotonic() - began < 60
    for name, each in evidence.items():
        assert each.outcome is Outcome.TIMED_OUT, (name, each.summary)
        assert (each.ended_at - each.started_at).total_seconds() < 15
        assert each.lost == each.needed
    wait_until(lambda: marked(token) == [], what="the end of what hung")


@pytest.mark.whole
def test_each_ends_before_its_deadline_when_it_does_nothing(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = str(uuid4().int)
    with altered_case(monkeypatch, small, "hang", token, deadline=500.0, stalled=2.0) as context:
        evidence = all_of(context, at_once=16)
    assert {each.reason.partition(": ")[2] for each in evidence.values()} == {"neither read nor wrote for 2 s"}
    wait_until(lambda: marked(token) == [], what="the end of what hung")


@pytest.mark.whole
def test_none_stores_more_than_its_limit_however_much_there_is(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = str(uuid4().int)
    with altered_case(monkeypatch, small, "flood", token, limit=10_000) as context:
        evidence = all_of(context)
    for name, each in evidence.items():
        assert each.outcome is Outcome.TRUNCATED, (name, each.summary)
        assert "the limit is reached" in each.reason
        assert 0 < each.size <= 10_000
    wait_until(lambda: marked(token) == [], what="the end of what never ends")


@pytest.mark.whole
def test_its_own_sources_keep_to_a_limit_too(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: replace(each, limit=100) for name, each in discover().items()}
    monkeypatch.setattr(module, "discover", lambda: known)
    repository(small.root)
    with case_of(small.block()) as context:
        evidence = all_of(context)
    assert {name: each.size for name, each in evidence.items() if each.size > 100} == {}
    assert evidence["models"].outcome is evidence["git"].outcome is evidence["memory"].outcome is Outcome.TRUNCATED
    assert all(each.lost == each.needed for each in evidence.values() if each.outcome is Outcome.TRUNCATED)


def test_the_frozen_processes_are_described_and_their_secrets_are_not(small: SmallWorkload) -> None:
    secret = ["--api-token", CANARY, f"--db=pg://u:{CANARY}@h/"]
    for name in ("models/own wine.joblib", "models/own.json", "weights/7/w.bin"):
        (small.root / name).parent.mkdir(parents=True, exist_ok=True)
        (small.root / name).touch()
    environment = {"HF_TOKEN": CANARY, "OTHER": "shown", "CUDA_VISIBLE_DEVICES": "0,1"}
    environment |= {"GRAPE": "models/own wine.joblib", "NO_FILE": f"{CANARY}.joblib", "NO_MODEL": "src/train.py"}
    shown = {"JSON": "models/own.json", "BARE": "own.json", "FULL": f"file://{small.root}/weights/7/w.bin"}
    shown |= {"RELEASE": "weights/7"}
    environment |= {**shown, "PASSWORD": "weights/7", "ABOVE": "."}
    process = small.start([*small.training_command, *secret], WORKERS="1", **environment)
    with case_of(small.block(models=["models/*.json", "weights/**/*.bin"])) as context:
        freeze.fn(context)
        for name in ("tree", "processes", "sockets", "stacks"):
            assert evidence_of(context, name).outcome is Outcome.COLLECTED
        tree = (context.directory.evidence_dir(1) / "tree.json").read_text()
        table = (context.directory.evidence_dir(1) / "ps_top.txt").read_text()
        everything = b"".join(path.read_bytes() for path in context.directory.evidence_dir(1).iterdir()).decode()
    described = {about["pid"]: about for about in json.loads(tree)}
    assert described[process.pid]["cwd"] == str(small.root)
    assert described[process.pid]["state"] == "T (stopped)"
    assert described[process.pid]["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert described[process.pid]["environment"]["GRAPE"] == "models/own wine.joblib", "as in the manifest"
    assert {name: described[process.pid]["environment"][name] for name in shown} == shown
    for hidden in ("OTHER", "NO_FILE", "NO_MODEL", "PASSWORD", "ABOVE"):
        assert described[process.pid]["environment"][hidden].startswith("[redacted:")
    assert described[process.pid]["signals"]["queued"]
    assert "src/train.py" in table
    assert CANARY not in everything


def test_no_command_line_can_forge_a_row_of_the_process_table(small: SmallWorkload) -> None:
    small.start([*small.training_command, "\n       1        0   99.9   99.9          999 forged"], WORKERS="0")
    with case_of(small.block()) as context:
        collect.fn(context, "processes")
        table = (context.directory.evidence_dir(1) / "ps_top.txt").read_text()
    assert "src/train.py" in table
    assert "forged" not in table, "a word that nobody knows is hidden, with its line break"
    assert all(line.split()[0].isdigit() for line in table.splitlines()[1:])
    assert not [line for line in table.splitlines() if line.split()[-1] == "forged" and line.split()[0] == "1"]


def test_one_package_with_rotten_metadata_loses_neither_the_others_nor_the_environment(small: SmallWorkload) -> None:
    rotten = small.root / "venv/lib/python3/site-packages/rotten-1.0.dist-info"
    rotten.mkdir()
    (rotten / "METADATA").write_bytes("Name: rotten\nVersion: 1.0\nAuthor: Jos\u00e9\n".encode("latin-1"))
    (small.root / "venv/lib/python3/site-packages/bare-2.0.dist-info").mkdir()
    with case_of(small.block()) as context:
        assert evidence_of(context, "packages").outcome is Outcome.COLLECTED
        assert evidence_of(context, "environment").outcome is Outcome.COLLECTED
        frozen = (context.directory.evidence_dir(1) / "pip_freeze.txt").read_text()
        assert json.loads((context.directory.evidence_dir(1) / "envinfo.json").read_bytes())["sklearn"] == "1.7.2"
    assert "scikit-learn==1.7.2\n" in frozen
    assert "rotten==1.0\n" in frozen
