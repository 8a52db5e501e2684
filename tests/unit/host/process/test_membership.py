"""Who belongs to the workload, who only looks like it, and who is never touched."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.place import Place
from tasks.host.judgement.case import Look
from tasks.host.judgement.roster import Roster
from tasks.host.process.known_programs import may_write, program, quotes, runs_prefect
from tasks.host.process.matcher import Matcher, WorkloadDescription
from tasks.host.process.membership import Exceptions, Member, Members, find_excused, find_excused_families
from tasks.host.process.process import Process, ancestry, descendants
from tasks.host.process.source import keeps_only, lineages
from tests.support.places import beside, placed

ROOT = PurePath("/srv/work load")
TRAIN = Matcher("training", r"python\S* -u src/train\.py .*--mode full")
API = Matcher("api", r"uvicorn .*api\.app")
WORKLOAD = WorkloadDescription(str(ROOT), (API, TRAIN))
TRAINING = ("venv/bin/python", "-u", "src/train.py", "--dataset", "adult", "--mode", "full")


def process(
    pid: int, parent: int, *command: str, cwd: str = str(ROOT), executable: str | None = None, state: str = "S"
) -> Process:
    """By default the executable is what the command line says."""
    program = PurePath(command[0].lstrip("-")).name if command else "python3"
    real = f"/usr/bin/{program}" if executable is None else executable
    return Process(Identity(pid, pid * 10), parent, state, command, cwd, real)


def table(*processes: Process) -> dict[int, Process]:
    return placed({one.pid: one for one in (process(1, 0, "/sbin/init", cwd="/"), *processes)}, ROOT)


def members(snapshot: Mapping[int, Process], *spared: int, workload: WorkloadDescription = WORKLOAD) -> Members:
    return Members.of(snapshot, workload, Exceptions(frozenset(spared)))


def found(snapshot: Mapping[int, Process], *spared: int) -> list[int]:
    return [who.pid for who in members(snapshot, *spared)]


def kept_for(snapshot: Mapping[int, Process], me: int) -> set[int]:
    """Pids that are spared if `me` looks: its ancestors are."""
    return {1, me} | ancestry(snapshot, [me])


def test_what_fits_a_pattern_and_was_not_looked_at_beside_the_root_is_not_excused() -> None:
    snapshot = {10: process(10, 1, *TRAINING), 11: process(11, 1, "x")}
    workload = replace(WORKLOAD, bystanders=("^x$", "train"))
    assert find_excused(snapshot, workload, Exceptions()) == {11}


def test_a_process_that_matches_and_works_in_the_root_belongs() -> None:
    snapshot = table(process(10, 1, *TRAINING), process(11, 1, "python", "-m", "uvicorn", "api.app:app"))
    assert members(snapshot) == {
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
    assert beside(process(10, 1, cwd="", executable=inside), ROOT).is_rooted
    assert not beside(process(10, 1, cwd="", executable=""), ROOT).is_rooted


def test_a_process_that_was_not_looked_at_beside_the_root_is_no_answer() -> None:
    with pytest.raises(ValueError, match="expected a process that was looked at beside a root; got 10"):
        members({10: process(10, 1, *TRAINING)})


def test_descendants_belong_whatever_their_command_line_says() -> None:
    snapshot = table(
        process(10, 1, *TRAINING),
        process(11, 10, "sleep", "9", cwd="/"),
        process(12, 11, cwd="/", executable=""),
        process(13, 1, "sleep", "9"),
    )
    roles = members(snapshot)
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


@pytest.mark.parametrize(
    ("words", "belongs"),
    [
        (TRAINING, True),
        (("-n", "5", *TRAINING), True),
        (("--interval=5", "-d", " ".join(TRAINING)), True),
        (("-n5", "-x", "env", "A=1", *TRAINING), True),
        (("-q", "3", f"date; {' '.join(TRAINING)}"), True),
        (("sudo", "-u", "ml", *TRAINING), True),
        (("bash", "-c", " ".join(TRAINING)), True),
        (("-n", "1", "grep", "-c", *TRAINING), False),
        (("ps aux | grep 'python -u src/train.py --mode full' | wc -l",), False),
        (("-t", "/usr/bin/pgrep", "-af", " ".join(TRAINING)), False),
    ],
)
def test_a_watch_belongs_in_its_pauses_too_unless_all_that_it_runs_only_reads(
    words: tuple[str, ...], *, belongs: bool
) -> None:
    """It was a member only while a run of it lived: not frozen in a pause, it started the training again."""
    one = process(10, 1, "watch", *words)
    assert found({10: replace(one, places=frozenset({Place.CWD}))}) == ([10] if belongs else [])
    assert found({10: replace(one, places=frozenset())}) == []


@pytest.mark.parametrize(("program", "belongs"), [("cat", True), ("bash", True), ("tmux", False), ("vim.basic", False)])
def test_a_tool_that_writes_below_the_root_does_not_only_quote(program: str, *, belongs: bool) -> None:
    """Of a program that a person works in it is not looked for: his buffers and shells would end with it."""
    one = process(10, 1, program, "src/train.py", *TRAINING)
    assert may_write(f"/usr/bin/{program}") is belongs
    places = frozenset({Place.CWD, *([Place.OUTPUT] if belongs else [])})
    assert found({10: replace(one, places=places)}) == ([10] if belongs else [])


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
    assert members(table(both))[both.identity].role == "api"
    turned = replace(WORKLOAD, matchers=(TRAIN, API))
    assert members(table(both), workload=turned)[both.identity].role == "training"


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
    spared = kept_for(snapshot, 12)
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
    assert found(snapshot, *kept_for(snapshot, 11)) == [14, 12, 13]


def test_no_program_is_spared_by_its_name() -> None:
    engine = ("-m", "prefect.engine")
    snapshot = table(
        process(10, 1, "python", "/opt/venv/bin/prefect", "worker", "start"),
        process(11, 10, "python", *engine),
        process(12, 1, f"{ROOT}/venv/bin/python", *engine, cwd="/", executable="/usr/bin/python3.11"),
        process(13, 1, "/opt/evacuation/bin/python", *engine, cwd="/"),
    )
    workload = replace(WORKLOAD, matchers=(Matcher("training", r"prefect\.engine"),))
    assert [who.pid for who in members(snapshot, workload=workload)] == [12, 11]
    assert [who.pid for who in members(snapshot, *kept_for(snapshot, 11), workload=workload)] == [12]


def test_a_name_that_its_account_has_given_itself_spares_nobody() -> None:
    """A copy of Python in a folder of its own was called like an editor: the pattern was a text to it."""
    for name in ("tail", "vim", "tmux", "less"):
        plain = process(10, 1, name, *TRAINING, executable=f"/home/ml/{name}")
        assert found(table(plain)) == []
        assert found(table(replace(plain, strange=True))) == [10]


def test_a_process_table_with_a_loop_ends() -> None:
    # Read one by one, a table may show a parent that has been reused meanwhile.
    snapshot = table(process(10, 11, *TRAINING), process(11, 10, *TRAINING), process(12, 12, *TRAINING))
    assert sorted(found(snapshot)) == [10, 11, 12]
    assert ancestry(snapshot, [10]) == {10, 11}
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


EXCUSING = replace(WORKLOAD, bystanders=("^x$",), units=("a.service",))


@pytest.mark.parametrize(
    "command", [TRAINING, ("bash", "-c", " ".join(TRAINING)), ("x",)], ids=["plain", "sh", "other"]
)
@pytest.mark.parametrize(
    "work",
    [
        lambda chain: Members.of(chain, EXCUSING, Exceptions(frozenset({1})), since=0),
        lambda chain: Roster.judge(chain, EXCUSING, Exceptions(frozenset(ancestry(chain, [max(chain)]))), Look()),
        lambda chain: lineages(chain, list(chain)),
        lambda chain: keeps_only(chain, 1, set(chain)),
    ],
    ids=["members", "roster", "lineages", "keeps_only"],
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
    spared = kept_for(snapshot, me)
    pids = found(snapshot, *spared)
    assert len(pids) == len(set(pids))
    assert not spared & set(pids)
    assert all(snapshot[pid].alive for pid in pids)
    assert all(pids.index(snapshot[pid].parent) < pids.index(pid) for pid in pids if snapshot[pid].parent in pids)
    matching = {pid for pid, one in snapshot.items() if one.alive and pid not in spared and TRAIN.recognises(one)}
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


def test_a_user_and_a_port_narrow_a_pattern() -> None:
    mine = replace(process(10, 1, *TRAINING), user=7)
    other = replace(process(11, 1, *TRAINING), user=8)
    listening = replace(process(12, 1, "uvicorn", "api.app:app"), ports=frozenset({8000}))
    silent = process(13, 1, "uvicorn", "api.app:app")
    unread = replace(process(14, 1, "uvicorn", "api.app:app"), placeless=True)
    narrow = (Matcher("api", API.pattern, port=8000), Matcher("training", TRAIN.pattern, user=7))
    snapshot, workload = table(mine, other, listening, silent, unread), replace(WORKLOAD, matchers=narrow)
    assert [who.pid for who in members(snapshot, workload=workload)] == [10, 12, 14]
    assert [pid for pid, one in snapshot.items() if workload.tells_apart(one)] == [11, 13]


SINCE = 400
"""The cordon's time, in ticks: process 40 is the first that is younger."""


def newcomers(*processes: Process, helpers: frozenset[int] = frozenset()) -> dict[int, str]:
    found = Members.of(table(*processes), WORKLOAD, Exceptions(helpers=helpers), SINCE)
    return {who.pid: member.why for who, member in found.items()}


INSIDE = str(ROOT / "src/other.py")


@pytest.mark.parametrize(
    ("newcomer", "why"),
    [
        (process(40, 1, "/opt/python", INSIDE, cwd="/"), "its script lies below the root"),
        (process(40, 1, "./run", cwd=str(ROOT)), "the file that it was started by lies below the root"),
        (process(40, 1, "x", cwd="/", executable=str(ROOT / "x")), "its program lies below the root"),
        (process(40, 1, "bash", INSIDE, cwd="/"), "its script lies below the root"),
        (process(40, 1, *TRAINING[:-1], "full", str(ROOT), cwd="/"), "it matches, and names the root"),
        (process(40, 1, "/opt/python", *TRAINING[1:], cwd="/"), ""),
        (process(40, 1, "less", INSIDE), ""),
        (process(40, 1, "make"), ""),
        (process(39, 1, "/opt/python", INSIDE, cwd="/"), ""),
        (process(39, 1, *TRAINING, str(ROOT), cwd="/"), ""),
        (process(40, 1, "/opt/python", f"{ROOT}.old/x.py", cwd="/"), ""),
        (process(40, 1, "vim", "python -u src/train.py --mode full", str(ROOT), cwd="/"), ""),
    ],
    ids=[
        *("its script", "called", "its program", "a shell's script", "matches and names the root"),
        *("matches elsewhere", "read by a pager", "works there", "older", "older, and matches", "beside the root"),
        "quoted by an editor",
    ],
)
def test_what_runs_something_of_the_roots_since_the_cordon_belongs(newcomer: Process, why: str) -> None:
    assert newcomers(newcomer) == ({newcomer.pid: why} if why else {})
    assert newcomers(newcomer, helpers=frozenset({newcomer.pid})) == {}


def test_a_helper_of_ours_is_a_newcomer_only_if_it_matches_in_the_root() -> None:
    assert newcomers(process(40, 1, *TRAINING), helpers=frozenset({40})) == {40: "matches the training pattern"}


def test_an_orphan_in_a_session_that_a_member_leads_belongs() -> None:
    """What a training has started outlives its parent."""
    leader = replace(process(10, 1, *TRAINING), session=10)
    orphan, below = (replace(process(pid, up, "x", cwd="/"), session=10) for pid, up in ((11, 1), (12, 11)))
    child = replace(process(13, 14, "x", cwd="/"), session=10)
    parent = replace(process(14, 1, "bash", cwd="/"), session=10)
    others = replace(process(15, 1, "x", cwd="/"), session=9)
    snapshot = table(leader, orphan, below, others)
    assert {who.pid: member.why for who, member in members(snapshot).items() if member.role == "session"} == {
        11: "its parent is gone, and process 10 leads its session",
        12: "child of 11",
    }
    assert found(table(replace(leader, session=9), orphan)) == [10]
    assert found(table(replace(leader, state="Z"), orphan)) == []
    assert found(table(leader, child, parent)) == [10, 14, 13]
    assert found(table(leader, orphan), 11) == [10]


def test_what_a_bystander_has_started_is_of_its_family_and_what_may_be_the_workloads_is_not() -> None:
    snapshot = table(
        process(10, 1, "x"),
        process(11, 10, "y", cwd="/"),
        process(12, 11, "z"),
        process(13, 10, *TRAINING),
    )
    excused = Exceptions(excused=frozenset({Identity(10, 100)}))
    assert find_excused_families(snapshot, WORKLOAD, excused) == {10, 11, 12}
    assert find_excused_families(snapshot, WORKLOAD, Exceptions()) == frozenset()


def test_an_answer_of_a_person_ends_a_process_and_its_descendants_and_excuses_another() -> None:
    snapshot = table(
        process(10, 1, "x"), process(11, 10, "y", cwd="/"), process(12, 1, *TRAINING), process(13, 12, "z")
    )
    ended, matching = Identity(10, 100), Identity(12, 120)
    assert Members.of(snapshot, WORKLOAD, Exceptions(ended=frozenset({ended}))) == {
        ended: Member("answered", "a person answered that it is to be ended"),
        Identity(11, 110): Member("answered", "child of 10"),
        matching: Member("training", "matches the training pattern"),
        Identity(13, 130): Member("training", "child of 12"),
    }
    assert Members.of(snapshot, WORKLOAD, Exceptions(excused=frozenset({matching}))).keys() == {
        matching,
        Identity(13, 130),
    }, "an excused process may become the training"
    assert Members.of(snapshot, WORKLOAD, Exceptions(ended=frozenset({replace(ended, start=7)}))).keys() == {
        matching,
        Identity(13, 130),
    }
