"""The custody log: what its chain finds, and what survives a kill."""

import json
import os
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.custody.incident.log import START, CustodyLog, broken, chain_line, head
from tasks.incident.run_lock import take_ownership

ACTOR = {"run": "run-1", "user": "0"}
facts = st.fixed_dictionaries({"action": st.text(max_size=8), "object": st.text(max_size=8)})


def chain(entries: list[dict[str, str]]) -> list[bytes]:
    lines: list[bytes] = []
    for number, fields in enumerate(entries):
        lines.append(chain_line(head(lines[-1]) if lines else START, number, fields))
    return lines


chains = st.lists(facts, min_size=3, max_size=8).map(chain)


@given(chains)
def test_an_untouched_chain_is_whole(lines: list[bytes]) -> None:
    assert broken(lines) == []
    assert broken([]) == []


def test_a_log_of_nothing_but_rubbish_is_told_in_a_few_lines() -> None:
    found = broken([b"\n"] * 100_000)
    assert len(found) == 21
    assert found[-1] == "and more"


@pytest.mark.parametrize(("number", "told"), [(19, 19), (20, 20), (21, 21), (200, 21)])
def test_twenty_breaks_are_told_and_that_there_are_more(number: int, told: int) -> None:
    found = broken([b"rubbish"] * number)
    assert (len(found), "and more" in found) == (told, number > 20)


@given(chains, st.data())
def test_a_dropped_line_is_found(lines: list[bytes], data: st.DataObject) -> None:
    # Not the last one: a chain cannot know its own end. closing.json holds the digest of the whole segment for that.
    del lines[data.draw(st.integers(0, len(lines) - 2))]
    assert broken(lines)


@given(chains, st.data())
def test_two_swapped_lines_are_found(lines: list[bytes], data: st.DataObject) -> None:
    one, other = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]
    assert broken(lines)


@given(chains, st.data())
def test_an_edited_line_is_found(lines: list[bytes], data: st.DataObject) -> None:
    # Any byte of any line but the last, whose hash nothing carries yet; see the next test for that one.
    number = data.draw(st.integers(0, len(lines) - 2))
    edited = bytearray(lines[number])
    edited[data.draw(st.integers(0, len(edited) - 1))] ^= data.draw(st.integers(1, 255))
    lines[number] = bytes(edited)
    assert broken(lines)


@given(chains, facts, facts)
def test_an_edited_last_line_is_found_by_the_segment_that_follows(
    lines: list[bytes], edited: dict[str, str], later: dict[str, str]
) -> None:
    assume(edited.items() != json.loads(lines[-1]).items())
    following = chain_line(head(lines[-1]), len(lines), later)
    assert broken([following], head(lines[-1]), len(lines)) == []
    changed = chain_line(head(lines[-2]), len(lines) - 1, edited)
    assume(changed != lines[-1])
    assert broken([following], head(changed), len(lines))


@given(chains, facts, st.data())
def test_an_inserted_line_is_found_however_well_it_is_made(
    lines: list[bytes], fields: dict[str, str], data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(lines) - 1))
    lines.insert(at, chain_line(head(lines[at - 1]) if at else START, at, fields))
    assert broken(lines)


hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["prev", "seq", "x"]), inner, max_size=3)
    ),
)


@pytest.mark.slow
@given(chains, hostile, st.data())
def test_a_line_of_any_json_is_a_finding_and_never_a_crash(lines: list[bytes], value: Any, data: st.DataObject) -> None:
    lines[data.draw(st.integers(0, len(lines) - 2))] = json.dumps(value).encode() + b"\n"
    assert broken(lines)


@pytest.mark.parametrize("line", [b"", b"\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b'{"prev": 5, "seq": []}\n'])
def test_a_line_of_rubbish_is_a_finding_and_never_a_crash(line: bytes) -> None:
    assert broken([line])


def test_a_second_log_carries_the_chain_on(tmp_path: Path) -> None:
    path = tmp_path / "custody.jsonl"
    first = CustodyLog(path, ACTOR)
    first.write("opened", "IR", reason="線が\r\n切れた\u2028", seconds=1.5)
    first.write("frozen", "1")
    second = CustodyLog(path, {"run": "run-2"})
    second.write("stopped", "1")
    first_lines, second_lines = second.lines()[:2], second.lines(2)
    assert broken(second.lines()) == []
    assert broken(second_lines, head(first_lines[-1]), 2) == []
    assert [entry["seq"] for entry in second.entries()] == [0, 1, 2]
    assert [entry["actor"]["run"] for entry in second.entries()] == ["run-1", "run-1", "run-2"]
    assert second.entries()[0]["reason"] == "線が\r\n切れた\u2028"


def test_an_entry_says_when_in_utc_by_which_zone_and_by_a_clock_that_nobody_sets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    log = CustodyLog(tmp_path / "custody.jsonl", ACTOR)
    try:
        log.write("opened", "IR", result="done")
        log.write("frozen", "1")
    finally:
        monkeypatch.undo()
        time.tzset()
    first, second = log.entries()
    assert first["zone"] == "JST +0900"
    assert datetime.fromisoformat(first["utc"]).utcoffset() == timedelta(0)
    assert second["monotonic"] >= first["monotonic"]
    assert (first["actor"], first["action"], first["object"], first["result"]) == (ACTOR, "opened", "IR", "done")


def test_the_log_is_for_its_owner_only_and_does_not_follow_a_link(tmp_path: Path) -> None:
    path = tmp_path / "custody.jsonl"
    CustodyLog(path, ACTOR).write("opened")
    assert path.stat().st_mode & 0o777 == 0o600
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "somewhere")
    log = CustodyLog(link, ACTOR)
    log.write("opened")
    with pytest.raises(OSError, match="symbolic links"):
        log.sync()
    assert not (tmp_path / "somewhere").exists()


@given(st.integers(1, 10_000))
def test_a_torn_last_line_is_set_aside_and_the_chain_stays_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("log") / "custody.jsonl"
    log = CustodyLog(path, ACTOR)
    log.write("opened")
    log.write("frozen")
    whole, torn = log.lines()
    torn = torn[: 1 + cut % (len(torn) - 1)]
    path.write_bytes(whole + torn)
    again = CustodyLog(path, ACTOR)
    again.write("carried on")
    assert broken(again.lines()) == []
    assert [entry["action"] for entry in again.entries()] == ["opened", "carried on"]
    assert path.with_suffix(".torn").read_bytes() == torn + b"\n"


def test_a_second_torn_line_is_kept_beside_the_first(tmp_path: Path) -> None:
    path = tmp_path / "custody.jsonl"
    for torn in (b"one", b"two"):
        with path.open("ab") as file:
            file.write(torn)
        CustodyLog(path, ACTOR)
    assert path.with_suffix(".torn").read_bytes() == b"one\ntwo\n"


def test_parallel_threads_never_interleave(tmp_path: Path) -> None:
    log = CustodyLog(tmp_path / "custody.jsonl", ACTOR)
    together = threading.Barrier(8)

    def work(name: int) -> None:
        together.wait()
        for number in range(40):
            log.write("act", f"{name}.{number}", filler="x" * 3000)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken(log.lines()) == []
    assert {entry["object"] for entry in log.entries()} == {
        f"{name}.{number}" for name in range(8) for number in range(40)
    }


@pytest.mark.slow
def test_whoever_reads_while_others_write_gets_each_line_once(tmp_path: Path) -> None:
    log, done = CustodyLog(tmp_path / "custody.jsonl", ACTOR), threading.Event()

    def work() -> None:
        for number in range(1500):
            log.write("act", str(number))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    seen = 0
    while not done.is_set() or seen == 0:
        lines = log.lines()
        assert broken(lines) == []
        seen = len(lines)
    thread.join()


SECOND = """
import sys
from pathlib import Path
from tasks.incident.run_lock import take_ownership
print(take_ownership(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_a_second_process_does_not_get_to_write_while_the_first_does(tmp_path: Path) -> None:
    def second() -> str:
        command = [sys.executable, "-c", SECOND, str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    ownership = take_ownership(tmp_path)
    assert ownership is not None
    assert second() == "None"
    os.close(ownership)
    assert second().isdigit()


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tasks.custody.incident.log import CustodyLog
log = CustodyLog(Path(sys.argv[1]), {"run": "1"})
log.write("opened")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = Path(sys.argv[1]).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
log.write("waits")
try:
    log.sync()
except OSError as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.write("there is space again")
"""


def test_what_a_full_disk_does_not_take_waits_and_stops_nobody(tmp_path: Path) -> None:
    path = tmp_path / "custody.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=True)
    assert done.stdout == "refused\n"
    log = CustodyLog(path, ACTOR)
    assert broken(log.lines()) == []
    assert [entry["action"] for entry in log.entries()] == ["opened", "waits", "there is space again"]


def test_what_was_written_can_be_made_durable(tmp_path: Path) -> None:
    log = CustodyLog(tmp_path / "custody.jsonl", ACTOR)
    log.write("opened")
    log.sync()
    assert len(log.lines()) == 1
