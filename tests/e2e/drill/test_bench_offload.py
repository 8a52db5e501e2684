"""The offload bench measures what it says, on a data set that is small: nothing here is a figure."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from threading import Thread

import psutil
import pytest

from benchmarks import peers
from benchmarks.datasets import SETS
from benchmarks.figures import Figures, profile, rows
from benchmarks.offload import main
from benchmarks.plain import Sink, send
from benchmarks.relay import Relay
from benchmarks.transfer import EVERYTHING, Done, Stage
from benchmarks.turns import Bench
from tasks.drill.store_and_worker import SeaweedFS
from tests.support.workloads import wait_until, words_of

ELSEWHERE = """
import sys
from pathlib import Path
from benchmarks import offload, rows
offload.RESULTS = rows.RESULTS = Path(sys.argv[1])
sys.exit(offload.main(sys.argv[2:]))
"""
MAY_NOT = subprocess.run(["unshare", "--net", "tc", "-V"], capture_output=True, check=False).returncode
needs_network = pytest.mark.skipif(bool(MAY_NOT), reason="network namespaces need root, and tc")


def command(folder: Path, *arguments: str) -> Sequence[str]:
    """The bench in a process of its own, which may leave our network; its results go to the folder."""
    return [sys.executable, "-c", ELSEWHERE, str(folder), "tiny", "--rounds", "1", *arguments]


def keys_of(server: SeaweedFS) -> set[str]:
    """What lies there by the public client's word."""
    listed = subprocess.run(
        ["aws", "s3api", "list-objects-v2", "--bucket", server.bucket, "--output", "json"],
        env=peers.environment(server),
        capture_output=True,
        check=True,
    )
    return {each["Key"] for each in json.loads(listed.stdout)["Contents"]}


@pytest.mark.soak
def test_the_runbook_and_we_leave_the_same_files_in_three_places(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SETS["tiny"])
    files = {str(path.relative_to(bench.root)) for path in bench.root.rglob("*") if path.is_file()}
    places = ("snapshots/20260102T030405Z/", "latest/", "incidents/IR-20260102T030405Z/evidence/")
    with bench.reach(counted=True) as reach:
        peers.runbook_push(bench.root, bench.place(), "20260102T030405Z", reach)
        typed = reach.relay.sent if reach.relay else 0
        bench._three_prefixes(reach)
        there = keys_of(reach.server)
    for side in ("typed/", "ours/"):
        for place in places:
            assert {f"{side}{place}{name}" for name in files} <= there
    size = bench.figures.size
    assert size == sum((bench.root / name).stat().st_size for name in files)
    assert size < bench.figures.sent["first"] - typed < 1.3 * size
    assert bench.figures.sent["second"] < size / 4


@pytest.mark.soak
def test_the_whole_bench_on_a_small_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.offload.RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.rows.RESULTS", tmp_path)
    main(["tiny", "--rounds", "1"])
    told = json.loads((tmp_path / "offload.json").read_text())["rows"]
    assert len(told) >= 8
    assert all(row["ours"] > 0 for row in told)


@needs_network
@pytest.mark.soak
def test_over_a_line_in_its_smallest_form_a_round_is_added_to_what_is_kept(tmp_path: Path) -> None:
    before = Figures(100, typed={"plain": [0.5]})
    before.keep(tmp_path / "offload-net-tiny.json")
    done = subprocess.run(command(tmp_path, "--net", "--keep", "--only", "ours", "plain"), check=False)
    assert done.returncode in {0, 1}  # whether the goals hold is a question for a machine at rest
    seen = Figures.kept(tmp_path / "offload-net-tiny.json")
    assert len(seen.typed["plain"]) == 2
    assert seen.typed["plain"][1] > seen.size / 25e6  # 200 Mbit/s
    assert seen.ours["first"][0].seconds("offload") > seen.size / 25e6
    assert seen.size < seen.sent["first"] < 1.3 * seen.size
    assert seen.sent["second"] < seen.size / 10
    assert "200 Mbit/s" in json.loads((tmp_path / "offload-net.json").read_text())["conditions"]


@pytest.mark.soak
@needs_network
def test_nothing_is_left_when_it_is_interrupted(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path, "--net", "--only", "ours"), start_new_session=True) as bench:
        us = psutil.Process(bench.pid)
        wait_until(lambda: "benchmarks.transfer" in chain(*map(words_of, us.children())), what="our client")
        family = us.children(recursive=True)
        assert any("sleep" in each.name() for each in family)
        bench.send_signal(signal.SIGINT)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert bench.returncode
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_who_is_not_root_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="expected root"):
        main(["tiny", "--net"])


@pytest.mark.parametrize("delay", [0.0, 0.01])
def test_a_relay_passes_all_on_counts_it_and_ends_connections(delay: float, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(9 << 20))
    with Sink() as sink, Relay(sink.port, delay) as relay:
        taken = send("127.0.0.1", relay.port, tmp_path)
        assert relay.sent == 9 << 20
        assert taken >= 4 * delay  # a handshake, there, and back
        inside = psutil.Process(relay._process.pid)
        wait_until(lambda: len(inside.net_connections("tcp")) == 1, what="the end of the connection")


def test_a_relay_changes_nothing_and_keeps_the_order() -> None:
    sent = os.urandom(1 << 20)
    pieces = [sent[at : at + 999] for at in range(0, len(sent), 999)]
    with socket.create_server(("127.0.0.1", 0)) as listener, Relay(listener.getsockname()[1], 0.001) as relay:
        client = socket.create_connection(("127.0.0.1", relay.port))
        server, _ = listener.accept()
        with client, server:
            Thread(target=lambda: deque(map(client.sendall, pieces), maxlen=0)).start()
            got = bytearray()
            while len(got) < len(sent):
                got += server.recv(1 << 16)
    assert got == sent


def figures(ours: float, theirs: float) -> Figures:
    """Made up: each of our runs takes so long, and each of theirs."""
    seen = Figures(100 << 20, sent={"first": 101 << 20, "second": 6 << 20}, strangers={"typed": 0.2})
    for run, stages in (
        ("first", EVERYTHING),
        ("second", EVERYTHING),
        ("full", ("offload",)),
        ("resumed", ("offload",)),
    ):
        seen.ours[run] = [Done({stage: Stage(ours / len(stages), 0.1, 0.3) for stage in stages}, 300 << 20)] * 3
    seen.ours["one prefix"] = [Done({"one prefix": Stage(1, 0.1, 0.2), "proven": Stage(0.5, 0.1, 0.2)}, 401 << 20)]
    for run in ("first", "second", "s5cmd", "plain"):
        seen.typed[run] = [theirs, 1000, theirs]
    return seen


def test_goals_over_a_line_are_judged_by_medians_and_the_highest_peak() -> None:
    made = {row.what.partition(": ")[2]: row for row in rows("S", figures(1.5, 6), net=True)}
    three = made["copy, sums, three prefixes, proven, s"]
    assert (three.holds, three.ratio, three.strangers) == (True, 4.0, 0.2)
    assert made["one prefix, beside s5cmd, s"].ratio == 0.17
    assert made["one prefix, every object proven, beside s5cmd, s"].ours == 1.5
    assert not any("rclone" in what for what in made)
    assert not made["the same content again, beside the first time, s"].holds
    assert not made["peak memory, MiB"].holds
    again = "the same content again, MiB sent, beside the first time"
    assert made[again].goal == "none"
    assert not rows("S", figures(1.6, 6), net=True)[0].holds
    large = {row.what.partition(": ")[2]: row for row in rows("L", figures(2.2, 6), net=True)}
    assert large["copy, sums, three prefixes, proven, s"].holds
    assert not large[again].holds
    assert large["one prefix, beside one plain TCP stream, s"].holds
    assert "one prefix, proven" in profile("S", figures(2, 6))


def test_where_the_store_shares_our_processors_time_has_no_goal() -> None:
    made = rows("S", figures(9, 6))
    assert [row.what for row in made if not row.holds] == ["S: peak memory, MiB"]
    assert made[0].goal == "none; the store used 75% of the processor time"
    assert len(rows("S", Figures())) == 0


def test_ten_times_as_many_files_may_cost_eleven_times_as_much() -> None:
    tenth, whole = figures(1, 1), figures(1, 1)
    whole.ours["one prefix"] = [Done({"one prefix": Stage(11, 1, 1), "proven": Stage(1, 1, 1)}, 1 << 20)]
    time = rows("N", whole, tenth)[-1]
    assert (time.ratio, time.holds) == (11, True)
    whole.ours["one prefix"] = [Done({"one prefix": Stage(11.1, 1, 1), "proven": Stage(1, 1, 1)}, 401 << 20)]
    assert not rows("N", whole, tenth)[-1].holds


def test_the_sets_are_what_they_say(tmp_path: Path) -> None:
    assert SETS["tiny"].lay_out(tmp_path / "a") == SETS["tiny"].lay_out(tmp_path / "b")
    sizes = [path.stat().st_size for path in (tmp_path / "a/artifacts").glob("small-*")]
    assert (len(sizes), min(sizes) >= 4096, max(sizes) <= 65536) == (60, True, True)
