"""What every collector promises, tried on each that discovery finds: a new file is covered at once."""

import importlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.case import Case
from tasks.collect import collect
from tasks.collectors import discover
from tasks.collectors.collector import Collector, Files, Gathered
from tasks.collectors.environment import commit
from tasks.contain import freeze
from tasks.custody.evidence import Evidence, Outcome
from tasks.custody.keys import COVERAGE, MANIFEST, SEGMENT, SUMS, stored_name
from tasks.custody.manifest import digest
from tests.cases import case_of
from tests.workloads import SmallWorkload

CANARY = "Zq7canaryX"
HOME = Path(__file__).parents[2] / "tasks/collectors"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallWorkload]:
    with SmallWorkload(tmp_path / "work load") as workload:
        yield workload


@pytest.fixture(params=list(discover().values()), ids=list(discover()))
def collector(request: pytest.FixtureRequest) -> Collector:
    found: Collector = request.param
    return found


def test_every_module_with_a_collector_is_discovered() -> None:
    with_one = {path.stem for path in HOME.glob("*.py") if "\nCOLLECTOR = " in path.read_text()}
    assert with_one == set(discover())
    assert len(with_one) >= 11


def test_its_name_is_its_modules_name_and_its_file_says_what_it_is(collector: Collector) -> None:
    module = importlib.import_module(f"tasks.collectors.{collector.name}")
    assert module.COLLECTOR is collector
    assert module.__doc__
    assert len(module.__doc__.strip()) > 20


def test_it_answers_a_question_in_a_bounded_time_from_somewhere(collector: Collector) -> None:
    assert collector.answers.endswith("?")
    assert 0 < collector.deadline < 3600
    assert collector.sources


def test_the_order_of_volatility_is_a_total_order() -> None:
    orders = [collector.order for collector in discover().values()]
    assert orders == sorted(orders)
    assert len(orders) == len(set(orders))


def test_what_needs_the_frozen_processes_comes_before_everything_else() -> None:
    frozen = [collector.while_frozen for collector in discover().values()]
    assert frozen == sorted(frozen, reverse=True)


def test_no_two_sources_store_under_the_same_name() -> None:
    sources = [source for one in discover().values() for source in one.sources]
    made = [source.stored for source in sources if not isinstance(source, Files | Gathered)]
    fields = [source.field for one in discover().values() for source in one.sources if isinstance(source, Files)]
    for names in ([*made, MANIFEST, SUMS, SEGMENT, COVERAGE], fields):
        assert [name for name, times in Counter(names).items() if times > 1] == []
    for name in made:
        # A dot keeps the names that we make apart from the workload's folders; see acquire.
        assert "." in name
        assert "/" not in name
        assert stored_name(name.encode()) == name


def evidence_of(case: Case, collector: str) -> Evidence:
    made = collect.fn(case, collector).data
    assert isinstance(made, Evidence)
    return made


def attempt(workload: SmallWorkload, root: Path, collector: Collector) -> Evidence:
    with case_of(workload.block(root=root)) as case:
        evidence = evidence_of(case, collector.name)
        assert (evidence.collector, evidence.volume) == (collector.name, 1)
        assert evidence.started_at <= evidence.ended_at
        assert {file.stored for file in evidence.files} == {
            str(path.relative_to(case.folder(1))) for path in case.folder(1).rglob("*") if path.is_file()
        }
        for file in evidence.files:
            path = case.folder(1) / file.stored
            assert (path.stat().st_size, digest(path)) == (file.size, file.sha256)
            assert path.stat().st_mode & 0o077 == 0
        assert list((case.home / "staging").iterdir()) == []
        assert case.log.entries()[-1]["result"] == evidence.told
    return evidence


def test_it_leaves_evidence_as_it_says(small: SmallWorkload, collector: Collector) -> None:
    evidence = attempt(small, small.root, collector)
    if collector.name == "kernel":  # the right to read the kernel's log is the host's to give
        assert evidence.outcome in {Outcome.COLLECTED, Outcome.EMPTY, Outcome.DENIED}
    elif collector.name in {"git", "gpu"}:
        assert evidence.outcome is Outcome.MISSING
    elif collector.of_containers:
        assert evidence.outcome is Outcome.EMPTY
    else:
        assert evidence.outcome is Outcome.COLLECTED
        assert not evidence.losses
        assert evidence.complete


def test_on_an_empty_root_it_leaves_an_outcome_too(small: SmallWorkload, tmp_path: Path, collector: Collector) -> None:
    (tmp_path / "empty").mkdir()
    evidence = attempt(small, tmp_path / "empty", collector)
    if any(isinstance(source, Files) for source in collector.sources) or collector.name == "packages":
        assert evidence.outcome is Outcome.MISSING
        assert evidence.reason
        assert evidence.lost == evidence.needed
    assert evidence.outcome is not Outcome.FAILED


def test_the_frozen_processes_are_described_and_their_secrets_are_not(small: SmallWorkload) -> None:
    secret = ["--api-token", CANARY, f"--db=pg://u:{CANARY}@h/"]
    process = small.start([*small.training_command, *secret], WORKERS="1", HF_TOKEN=CANARY, OTHER="shown")
    with case_of(small.block()) as case:
        freeze.fn(case)
        for name in ("tree", "processes", "sockets", "stacks"):
            assert evidence_of(case, name).outcome is Outcome.COLLECTED
        tree = (case.folder(1) / "tree.json").read_text()
        table = (case.folder(1) / "ps_top.txt").read_text()
        everything = b"".join(path.read_bytes() for path in case.folder(1).iterdir()).decode()
    described = {about["pid"]: about for about in json.loads(tree)}
    assert described[process.pid]["cwd"] == str(small.root)
    assert described[process.pid]["state"] == "T (stopped)"
    assert described[process.pid]["environment"]["OTHER"] == "shown"
    assert described[process.pid]["signals"]["queued"]
    assert "src/train.py" in table
    assert CANARY not in everything


def test_a_process_whose_pid_belongs_to_another_by_now_is_not_described() -> None:
    from tasks.collectors.tree import make
    from tests.collectors.test_acquire import target

    now = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    (true,) = json.loads(make(target(Path("/"), frozen=[(os.getpid(), now)])))
    (other,) = json.loads(make(target(Path("/"), frozen=[(os.getpid(), now - 1)])))
    (gone,) = json.loads(make(target(Path("/"), frozen=[(2**22 + 1, 5)])))
    assert true["cwd"] == str(Path.cwd())
    assert other == {"pid": os.getpid(), "start_ticks": now - 1, "not read": "gone", "children": []}
    assert gone["not read"] == "gone"


def test_no_command_line_can_forge_a_row_of_the_process_table(small: SmallWorkload) -> None:
    small.start([*small.training_command, "\n       1        0   99.9   99.9          999 forged"], WORKERS="0")
    with case_of(small.block()) as case:
        collect.fn(case, "processes")
        table = (case.folder(1) / "ps_top.txt").read_text()
    assert "forged" in table
    assert all(line.split()[0].isdigit() for line in table.splitlines()[1:])
    assert not [line for line in table.splitlines() if line.split()[-1] == "forged" and line.split()[0] == "1"]


def test_the_commit_is_read_loose_packed_and_detached(tmp_path: Path) -> None:
    git, sha = tmp_path / ".git", "0123456789" * 4
    (git / "refs/heads").mkdir(parents=True)
    assert commit(tmp_path) is None
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit(tmp_path) is None
    (git / "packed-refs").write_text(f"# pack-refs\n{sha} refs/heads/main\n")
    assert commit(tmp_path) == sha
    (git / "refs/heads/main").write_text("f" * 40 + "\n")
    assert commit(tmp_path) == "f" * 40
    (git / "HEAD").write_text(sha + "\n")
    assert commit(tmp_path) == sha


@pytest.mark.parametrize(
    "content", ["root:$6$salt$hash:19000::::::\n", "ref: ../../secret\n", "ref: refs/heads/x\n", "\udcff"]
)
def test_a_hostile_head_gives_no_other_files_content_away(tmp_path: Path, content: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(os.fsencode(content))
    git = tmp_path / "root/.git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").symlink_to(secret)
    (git / "refs/heads/x").symlink_to(secret)
    assert commit(tmp_path / "root") is None


def test_one_package_with_rotten_metadata_loses_neither_the_others_nor_the_environment(small: SmallWorkload) -> None:
    rotten = small.root / "venv/lib/python3/site-packages/rotten-1.0.dist-info"
    rotten.mkdir()
    (rotten / "METADATA").write_bytes("Name: rotten\nVersion: 1.0\nAuthor: Jos\u00e9\n".encode("latin-1"))
    (small.root / "venv/lib/python3/site-packages/bare-2.0.dist-info").mkdir()
    with case_of(small.block()) as case:
        assert evidence_of(case, "packages").outcome is Outcome.COLLECTED
        assert evidence_of(case, "environment").outcome is Outcome.COLLECTED
        frozen = (case.folder(1) / "pip_freeze.txt").read_text()
        assert json.loads((case.folder(1) / "envinfo.json").read_bytes())["sklearn"] == "1.7.2"
    assert "scikit-learn==1.7.2\n" in frozen
    assert "rotten==1.0\n" in frozen
