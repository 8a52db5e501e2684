"""What every collector says of itself, tried on each that discovery finds: a new file is covered at once."""

import importlib
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from blocks.workload import Workload
from tasks.acquisition.collector import Collector, Files, FunctionItems
from tasks.collectors import discover
from tasks.collectors.environment import commit
from tasks.custody.evidence.keys import COVERAGE, MANIFEST, SEGMENT, SUMS, stored_name
from tasks.evidence import collect as module
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

HOME = Path(__file__).parents[3] / "tasks/collectors"


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
    assert collector.stalled > 0
    assert 0 < collector.limit < 1 << 50
    assert collector.sources


def test_the_form_names_the_collectors_that_say_of_themselves_that_they_are_needed() -> None:
    described = Workload.model_fields["needed"].description or ""
    (named,) = re.findall(r"\((.*)\)", described)
    assert set(named.split(", ")) == {name for name, each in discover().items() if each.needed}


@pytest.mark.parametrize(("asked", "needed"), [(None, {"logs"}), (["disk"], {"disk"}), ([], set())])
def test_the_block_decides_which_are_needed_and_else_they_do_themselves(
    small: SmallWorkload, asked: list[str] | None, needed: set[str]
) -> None:
    with case_of(small.block(needed=asked)) as context:
        assert {name for name in ("logs", "disk") if module.is_needed(context.workload, discover()[name])} == needed


def test_the_reference_lists_them_in_the_order_of_volatility() -> None:
    page = (HOME.parents[1] / "docs/reference.md").read_text().split("## Collectors")[1]
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert rows == [(str(each.order), name) for name, each in discover().items()]


def test_the_order_of_volatility_is_a_total_order() -> None:
    orders = [collector.order for collector in discover().values()]
    assert orders == sorted(orders)
    assert len(orders) == len(set(orders))


def test_what_needs_the_frozen_processes_comes_before_everything_else() -> None:
    frozen = [collector.while_frozen for collector in discover().values()]
    assert frozen == sorted(frozen, reverse=True)


def test_no_two_sources_store_under_the_same_name() -> None:
    sources = [source for one in discover().values() for source in one.sources]
    made = [source.stored for source in sources if not isinstance(source, Files | FunctionItems)]
    fields = [source.field for one in discover().values() for source in one.sources if isinstance(source, Files)]
    for names in ([*made, MANIFEST, SUMS, SEGMENT, COVERAGE], fields):
        assert [name for name, times in Counter(names).items() if times > 1] == []
    for name in made:
        # A dot keeps the names that we make apart from the workload's folders; see acquire.
        assert "." in name
        assert "/" not in name
        assert stored_name(name.encode()) == name


def test_a_process_whose_pid_belongs_to_another_by_now_is_not_described() -> None:
    from tasks.collectors.tree import make
    from tests.unit.acquisition.test_acquire import target

    now = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    (true,) = json.loads(make(target(Path("/"), frozen=[(os.getpid(), now)])))
    (other,) = json.loads(make(target(Path("/"), frozen=[(os.getpid(), now - 1)])))
    (gone,) = json.loads(make(target(Path("/"), frozen=[(2**22 + 1, 5)])))
    assert true["cwd"] == str(Path.cwd())
    assert other == {"pid": os.getpid(), "start_ticks": now - 1, "not read": "gone", "children": []}
    assert gone["not read"] == "gone"


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
