"""Who belongs to the workload, who only looks like it, and who is never touched."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.membership import Matcher, Member, members, protected, rooted
from tasks.custody.containment.process import Identity, Process, descendants
from tasks.custody.containment.program import program, quotes, runs_prefect
from tasks.custody.containment.source import keeps_only, lineages
from tasks.custody.containment.survey import survey

ROOT = PurePath("/srv/work load")
TRAIN = Matcher("training", r"python\S* -u src/train\.py .*--mode full")
API = Matcher("api", r"uvicorn .*api\.app")
TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "adult", "--mode", "full")


def process(
    pid: int, parent: int, *command: str, cwd: str = str(ROOT), executable: str | None = None, state: str = "S"
) -> Process:
    """By default the executable is what the command line says."""
    program = PurePath(command[0].lstrip("-")).name if command else "python3"
    real = f"/usr/bin/{program}" if executable is None else executable
    return Process(Identity(pid, pid * 10), parent, state, command, cwd, real)


def table(*processes: Process) -> dict[int, Process]:
    return {one.pid: one for one in (process(1, 0, "/sbin/init", cwd="/"), *processes)}


def found(snapshot: dict[int, Process], *spared: int) -> list[int]:
    return [who.pid for who in members(snapshot, (API, TRAIN), ROOT, spared)]


def test_a_process_that_matches_and_works_in_the_root_belongs() -> None:
    snapshot = table(process(10, 1, *TRAINING), process(11, 1, "python", "-m", "uvicorn", "api.app:app"))
    assert members(snapshot, (API, TRAIN), ROOT, ()) == {
        Identity(10, 100): Member("training", "matches the training pattern"),
        Identity(11, 110): Member("api", "matches the api pattern"),
    }


@pytest.mark.parametrize("cwd", ["/", "/srv", "/srv/work load 2", "/srv/work", ""])
def test_the_pattern_alone_is_not_enough(cwd: str) -> None:
    assert found(table(process(10, 1, *TRAINING, cwd=cwd))) == []


@pytest.mark.parametrize("note", ["two\nlines", "\n", "a\r\nb"])
def test_a_line_break_in_an_argument_hides_no_member(note: str) -> None:
    assert found(table(process(10, 1, *TRAINING[:3], "--note", note, *TRAINING[-2:]))) == [10]


def test_the_root_alone_is_not_enough() -> None:
    assert found(table(process(10, 1, "python", "src/other.py"))) == []


def test_a_program_that_runs_from_the_root_belongs_wherever_it_works() -> None:
    inside = str(ROOT / "venv/bin/python3")
    assert found(table(process(10, 1, *TRAINING, cwd="/", executable=inside))) == [10]
    assert rooted(process(10, 1, cwd="", executable=inside), ROOT)
    assert not rooted(process(10, 1, cwd="", executable=""), ROOT)


def test_descendants_belong_whatever_their_command_line_says() -> None:
    snapshot = table(
        process(10, 1, *TRAINING),
        process(11, 10, "sleep", "9", cwd="/"),
        process(12, 11, cwd="/", executable=""),
        process(13, 1, "sleep", "9"),
    )
    roles = members(snapshot, (API, TRAIN), ROOT, ())
    assert {who.pid: (member.role, member.why) for who, member in roles.items()} == {
        10: ("training", "matches the training pattern"),
        11: ("training", "child of 10"),
        12: ("training", "child of 11"),
    }


@pytest.mark.parametrize("name", ["cat", "bash", "-zsh", "tmux: server"])
def test_a_python_program_is_one_whatever_it_calls_itself(name: str) -> None:
    disguised = process(10, 1, name, "python -u src/train.py --mode full", executable="/usr/bin/python3.13")
    assert not quotes(disguised)
    assert found(table(disguised)) == [10]


def test_the_end_of_an_endless_command_line_is_not_looked_at() -> None:
    endless = process(10, 1, "python", "uvicorn " * 100_000)
    assert len(endless.line) < 20_000


@pytest.mark.parametrize("program", ["bash", "/bin/sh", "-zsh", "vim", "less", "grep", "pgrep", "tail", "tmux", "sudo"])
def test_a_program_that_only_quotes_the_pattern_does_not_belong(program: str) -> None:
    quoting = process(10, 1, program, "-c", "python -u src/train.py --mode full")
    assert quotes(quoting)
    assert found(table(quoting, process(11, 10, "sleep", "9"))) == []


def test_a_shell_that_is_the_parent_of_a_match_belongs() -> None:
    shell = process(10, 1, "bash", "-c", "python -u src/train.py --mode full; echo done")
    between = process(11, 10, "timeout", "9")
    assert found(table(shell, between, process(12, 11, *TRAINING))) == [10, 11, 12]


@pytest.mark.parametrize("program", ["emacs", "vim", "tmux"])
def test_a_program_that_a_person_works_in_does_not_belong_though_it_has_started_a_match(program: str) -> None:
    """Unsaved buffers and the other shells of an editor that compiles were killed with the training."""
    editor = process(10, 1, program, "python -u src/train.py --mode full")
    assert found(table(editor, process(11, 10, *TRAINING), process(12, 10, "bash", cwd="/home/u"))) == [11]


def test_a_launcher_that_quotes_nothing_and_matches_nothing_is_left_alone() -> None:
    assert found(table(process(10, 1, "bash"), process(11, 10, *TRAINING))) == [11]


def test_the_first_role_that_fits_is_the_role() -> None:
    both = process(10, 1, "python", "-u", "src/train.py", "uvicorn", "api.app", "--mode", "full")
    assert members(table(both), (API, TRAIN), ROOT, ())[both.identity].role == "api"
    assert members(table(both), (TRAIN, API), ROOT, ())[both.identity].role == "training"


def test_zombies_are_left_out_and_their_living_children_are_not() -> None:
    snapshot = table(
        process(10, 1, *TRAINING, state="Z"),
        process(11, 1, *TRAINING),
        process(12, 11, state="Z"),
        process(13, 12, "x"),
    )
    assert found(snapshot) == [11, 13]
    assert not any(process(9, 1, state=state).alive for state in "ZXx")
    assert all(process(9, 1, state=state).alive for state in "RSDTtI")


def test_parents_come_before_children_whatever_their_pids() -> None:
    # Pids wrap around, so a child's may be smaller than its parent's.
    snapshot = table(process(900, 1, *TRAINING), process(20, 900, "a"), process(800, 20, "b"), process(15, 800, "c"))
    assert found(snapshot) == [900, 20, 800, 15]


def test_ourselves_our_ancestors_and_pid_1_are_spared_even_if_they_match() -> None:
    snapshot = table(process(10, 1, *TRAINING), process(11, 10, *TRAINING), process(12, 11, *TRAINING))
    spared = protected(snapshot, 12)
    assert spared == {1, 10, 11, 12}
    assert found(snapshot, *spared) == []


def test_a_child_of_a_spared_process_that_matches_is_not_spared() -> None:
    # A regression: the first version spared our own children, and so called a workload contained that still ran.
    snapshot = table(
        process(10, 1, "make", "drill"),
        process(11, 10, "python", "-m", "flows.cli", "drill", cwd="/"),
        process(12, 11, *TRAINING),
        process(13, 12, "worker"),
        process(14, 10, *TRAINING),
    )
    assert found(snapshot, *protected(snapshot, 11)) == [14, 12, 13]


def test_the_workload_under_a_prefect_worker_is_not_spared_and_the_worker_is() -> None:
    snapshot = table(
        process(10, 1, "python", "/opt/venv/bin/prefect", "worker", "start"),
        process(11, 10, "python", "-m", "prefect.engine"),
        process(12, 11, *TRAINING),
        process(20, 1, "python", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "api.app"),
        process(30, 1, "python", "-P", "-m", "flows.deadline"),  # it waits for an answer in place of a run that died
    )
    spared = protected(snapshot, 999)
    assert spared == {1, 10, 11, 20, 30, 999}
    assert found(snapshot, *spared) == [12]


def test_a_process_table_with_a_loop_ends() -> None:
    # Read one by one, a table may show a parent that has been reused meanwhile.
    snapshot = {10: process(10, 11, *TRAINING), 11: process(11, 10, *TRAINING), 12: process(12, 12, *TRAINING)}
    assert sorted(found(snapshot)) == [10, 11, 12]
    assert protected(snapshot, 10) >= {1, 10, 11}
    assert descendants(snapshot, [10]) == {10, 11}


class Counted(Mapping[int, Process]):
    """A snapshot that counts how often it is looked into."""

    def __init__(self, rows: dict[int, Process]) -> None:
        """Nobody has looked yet."""
        self.rows, self.looks = rows, 0

    def __getitem__(self, pid: int) -> Process:
        """Count it."""
        self.looks += 1
        return self.rows[pid]

    def __iter__(self) -> Iterator[int]:
        """Pids; what is looked up by them counts."""
        return iter(self.rows)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.rows)


@pytest.mark.parametrize(
    "command", [TRAINING, ("bash", "-c", " ".join(TRAINING)), ("x",)], ids=["plain", "sh", "other"]
)
@pytest.mark.parametrize(
    "work",
    [
        lambda chain: members(chain, (API, TRAIN), ROOT, protected(chain, 1)),
        lambda chain: survey(chain, (API, TRAIN), ROOT, protected(chain, max(chain)), since=0),
        lambda chain: lineages(chain, list(chain)),
        lambda chain: keeps_only(chain, 1, set(chain)),
    ],
    ids=["members", "survey", "lineages", "keeps_only"],
)
def test_the_work_grows_with_the_number_of_processes_and_not_with_their_depth(
    command: tuple[str, ...], work: Callable[[Counted], object]
) -> None:
    """A chain of eight hundred took the freeze eleven seconds: each was described by all of its ancestors."""

    def looks(length: int) -> int:
        rows = (process(pid, pid - 1, *command) for pid in range(3, length))
        chain = Counted(table(process(2, 1, *TRAINING), *rows, process(length, length - 1, *TRAINING)))
        work(chain)
        return chain.looks

    assert looks(800) < 2.1 * looks(400)


tables = st.lists(
    st.tuples(st.integers(1, 30), st.booleans(), st.booleans(), st.sampled_from("SRTZ")), min_size=1, max_size=29
).map(
    lambda rows: table(
        *(
            process(
                number + 2,
                min(parent, number + 1),
                *(TRAINING if match else ("x",)),
                cwd=str(ROOT) if inside else "/",
                state=state,
            )
            for number, (parent, match, inside, state) in enumerate(rows)
        )
    )
)


@given(tables, st.integers(1, 31))
def test_laws_of_membership(snapshot: dict[int, Process], me: int) -> None:
    spared = protected(snapshot, me)
    pids = found(snapshot, *spared)
    assert len(pids) == len(set(pids))
    assert not spared & set(pids)
    assert all(snapshot[pid].alive for pid in pids)
    assert all(pids.index(snapshot[pid].parent) < pids.index(pid) for pid in pids if snapshot[pid].parent in pids)
    matching = {pid for pid, one in snapshot.items() if one.alive and pid not in spared and TRAIN.recognises(one, ROOT)}
    assert matching <= set(pids)
    assert set(pids) <= matching | descendants(snapshot, matching)


@pytest.mark.parametrize(
    "line",
    [
        "prefect worker start --pool evacuation",
        "/opt/venv/bin/prefect server start",
        "/opt/venv/bin/python /opt/venv/bin/prefect worker start",
        "/opt/venv/bin/python3.11 -m prefect.engine",
        "python -m prefect server start",
        "python -u -m prefect.flow_engine",
        "/opt/venv/bin/python -m uvicorn --app-dir x --factory prefect.server.api.server:create_app",
        "uvicorn --factory prefect.server.api.server:create_app",
    ],
)
def test_prefects_own_programs_are_known(line: str) -> None:
    assert runs_prefect(process(9, 1, *line.split()))


@pytest.mark.parametrize(
    ("executable", "name", "program_of_it"),
    [
        ("/usr/bin/dash", "sh", "dash"),
        ("/usr/bin/vim.basic", "vi", "vim"),
        ("/usr/bin/emacs-nox", "emacs", "emacs"),
        ("/usr/lib/openssh/sshd-session", "sshd: x", "sshd"),
        ("/nix/store/x/bin/.tmux-wrapped", "tmux", "tmux"),
        ("/usr/bin/sudo-rs", "sudo", "sudo"),
        ("/usr/bin/busybox", "tail", "busybox"),
        ("", "tmux: server", "tmux"),
        ("", "bash", "bash"),
    ],
)
def test_a_program_is_known_by_its_file_however_it_is_linked(executable: str, name: str, program_of_it: str) -> None:
    one = replace(process(9, 1, "python", " ".join(TRAINING), executable=executable), name=name)
    assert program(one) == program_of_it
    assert quotes(one)


@pytest.mark.parametrize("name", ["1" * 250 + "x", "bash" + "-1" * 120 + "x", "." * 250, "-rs" * 80 + "x"])
def test_a_hostile_file_name_costs_no_time(name: str) -> None:
    began = time.process_time()
    assert not quotes(process(9, 1, "bash", executable=f"/opt/{name}"))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("executable", ["/opt/cat-train", "/opt/train", "/usr/bin/python3.11", "/opt/watchdog"])
def test_a_program_with_another_name_quotes_nothing(executable: str) -> None:
    assert not quotes(replace(process(9, 1, "bash", executable=executable), name="bash"))


def test_prefects_programs_are_spared_where_they_are_ours_and_members_where_they_match_else() -> None:
    ours, theirs = "/opt/evacuation/bin/python", f"{ROOT}/venv/bin/python"
    engine = ("-m", "prefect.engine")
    same = "/usr/bin/python3.11"
    snapshot = table(
        process(10, 1, ours, "-m", "prefect", "worker", "start", cwd="/", executable=same),
        process(11, 10, ours, *engine, cwd="/", executable=same),
        process(12, 10, ours, *engine, executable=same),
        process(13, 1, theirs, *engine, executable=same),
        process(14, 1, "venv/bin/python", *engine, executable=same),
        process(15, 1, "python", *engine, executable=same),
        process(16, 1, theirs, "-m", "prefect", "server", "start", executable=same),
    )
    spared = protected(snapshot, 11, [16])
    assert spared == {1, 10, 11, 12, 16}
    pattern = (Matcher("training", r"prefect\.engine"),)
    assert [who.pid for who in members(snapshot, pattern, ROOT, spared)] == [13, 14, 15]
    alive = survey(snapshot, pattern, ROOT, spared, since=0).alive
    assert {who.pid for who, reason in alive.items() if reason == "it is protected, and matches"} == {12}


@pytest.mark.parametrize(
    "line",
    [
        "python -W error -m prefect worker start",
        "python -um prefect.engine",
        "python -X dev -m prefect.engine",
    ],
)
def test_options_of_the_interpreter_hide_no_prefect(line: str) -> None:
    assert runs_prefect(process(9, 1, *line.split()))


@pytest.mark.parametrize(
    "line",
    [
        "python -c prefect",
        "python src/train.py -m prefect",
        "python -u src/train.py --mode full prefect worker",
        "python -u src/train.py --mode full -m prefect",
        "python -m uvicorn api.app:app --host 127.0.0.1",
        "uvicorn api.app:app prefect",
        "python -m prefectual.engine",
        "python src/prefect_training.py",
        "vim prefect.yaml",
        "bash -c prefect worker start",
        "",
    ],
)
def test_a_program_that_only_mentions_prefect_is_not_prefect(line: str) -> None:
    assert not runs_prefect(process(9, 1, *line.split()))


def test_a_user_and_a_port_narrow_a_pattern_and_what_they_exclude_is_named() -> None:
    mine = replace(process(10, 1, *TRAINING), user=7)
    other = replace(process(11, 1, *TRAINING), user=8)
    listening = replace(process(12, 1, "uvicorn", "api.app:app"), ports=frozenset({8000}))
    silent = process(13, 1, "uvicorn", "api.app:app")
    narrow = (Matcher("api", API.pattern, port=8000), Matcher("training", TRAIN.pattern, user=7))
    snapshot = table(mine, other, listening, silent)
    assert [who.pid for who in members(snapshot, narrow, ROOT, ())] == [10, 12]
    seen = survey(snapshot, narrow, ROOT, (), since=10**9)
    assert {who.pid for who in seen.alive} == {10, 12}
    assert {left.pid for left in seen.bystanders} == {11, 13}


def test_a_survey_tells_why_each_contradicts() -> None:
    snapshot = table(
        process(10, 1, *TRAINING),
        process(11, 1, *TRAINING),
        replace(process(12, 1, *TRAINING, cwd="", executable=""), placeless=True, user=33),
        process(50, 1, "make", "data"),
        process(13, 1, "bash", "-c", " ".join(TRAINING)),
        process(14, 1, *TRAINING, cwd="/"),
        process(15, 1, *TRAINING, state="Z"),
    )
    seen = survey(snapshot, (API, TRAIN), ROOT, {11}, since=400)
    assert {who.pid: reason for who, reason in seen.alive.items()} == {
        10: "it matches",
        11: "it is protected, and matches",
        12: "it matches, is user 33's, and its working directory is not readable",
        50: "it was started in the root after the freeze",
    }
    assert [left.pid for left in seen.bystanders] == [14]


def test_a_match_in_a_container_that_nobody_named_contradicts_and_the_rest_of_containers_is_left_alone() -> None:
    unnamed, named = "ab" * 32, "cd" * 32
    snapshot = table(
        replace(process(10, 1, *TRAINING), container=unnamed),
        replace(process(11, 1, *TRAINING), container=named),
        replace(process(12, 1, *TRAINING, cwd="/"), container=unnamed),
        replace(process(50, 1, "make", "data"), container=unnamed),
    )
    seen = survey(snapshot, (API, TRAIN), ROOT, (), since=400, containers=(named,))
    assert {who.pid: reason for who, reason in seen.alive.items()} == {
        10: "it matches, in container abababababab, which the workload block does not name; "
        "add it to `containers`: docker ps --filter id=abababababab tells its name"
    }
    assert [left.pid for left in seen.bystanders] == [12, 50]
