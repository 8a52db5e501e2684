"""`python -m benchmarks.offload [SET…] [--rounds N]`: our offload beside the runbook's, s5cmd and rclone.

Each round meets a server that is fresh, and dirty pages are written back before its clock runs. The clients take turns;
medians count. What a client sends is counted by a relay in a run of its own. Ours runs in a process of its own, whose
imports are over when its clock starts, as in a flow that has come so far; the others are timed with their start.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import peers
from benchmarks.datasets import SETS, DataSet
from benchmarks.figures import Figures, growth, profile, rows
from benchmarks.relay import Relay
from benchmarks.rows import RESULTS, Row, read, table, write
from benchmarks.transfer import EVERYTHING, ONE_PREFIX, RESUMED, Done, Job
from tasks.drill.parts import SeaweedFS
from tasks.drill.screen import say
from tasks.drill.vault import credentials

INCIDENTS: Final = {"first": "20260102T030405Z", "second": "20260103T030405Z"}
"""The second has the same content as the first."""
_FIRST: Final = INCIDENTS["first"]
_POLL: Final = 0.02


class Bench:
    """One data set on this disk, and a fresh server for whoever asks."""

    def __init__(self, folder: Path, data: DataSet) -> None:
        """Lay the data out."""
        self.folder, self.data, self.root = folder, data, folder / "work"
        self.figures, self._servers, self._folders = Figures(data.lay_out(self.root)), 0, 0

    @contextmanager
    def server(self) -> Iterator[SeaweedFS]:
        """Fresh, and its data gone afterwards."""
        self._servers += 1
        place = self.folder / f"server-{self._servers}"
        try:
            with SeaweedFS(place) as server:
                _warm_up(server)
                os.sync()
                yield server
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def place(self) -> Path:
        """A folder for evidence that nobody has used."""
        self._folders += 1
        return self.folder / f"evidence-{self._folders}"

    def empty(self, place: Path) -> None:
        """Give back the room of what a round has left, and no inode: beside freed ones ext4 makes files far slower."""
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, 0)

    def ours(
        self, server: SeaweedFS, evidence: Path, stages: Sequence[str], stamp: str = _FIRST, via: str = ""
    ) -> Done:
        """Run our side; what it took."""
        with self.begun(server, evidence, stages, stamp, via) as process:
            told, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"expected {', '.join(stages)} to end well; got exit code {process.returncode}.")
        return Done.from_json(told)

    @contextmanager
    def begun(
        self, server: SeaweedFS, evidence: Path, stages: Sequence[str], stamp: str = _FIRST, via: str = ""
    ) -> Iterator[subprocess.Popen[str]]:
        """Our side while it runs; it ends with us."""
        job = Job(
            str(self.root),
            str(evidence),
            f"IR-{stamp}",
            via or server.endpoint,
            server.bucket,
            server.pid,
            tuple(stages),
        )
        command = [sys.executable, "-m", "benchmarks.transfer", json.dumps(asdict(job))]
        with subprocess.Popen(command, env=peers.environment(server), stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def everything(self) -> None:
        """All three prefixes, and a second incident with the same content: the runbook's way, and ours."""
        for side in (self._typed, self._three_prefixes):
            with self.server() as server:
                side(server)

    def _typed(self, server: SeaweedFS) -> None:
        for name, stamp in INCIDENTS.items():
            evidence = self.place()
            push = partial(peers.runbook_push, self.root, evidence, stamp, server)
            os.sync()
            self.figures.typed[name].append(_timed(push))
            self.empty(evidence)

    def _three_prefixes(self, server: SeaweedFS) -> None:
        evidence = self.place()
        for name, stamp in INCIDENTS.items():
            os.sync()
            self.figures.ours[name].append(self.ours(server, evidence, EVERYTHING, stamp))
        self.empty(evidence)

    def counted(self) -> None:
        """What crosses the wire, of all three prefixes."""
        with self.server() as server:
            self._counted(server)

    def _counted(self, server: SeaweedFS) -> None:
        with Relay(server.ports["s3"]) as relay:
            evidence, before = self.place(), 0
            for name, stamp in INCIDENTS.items():
                self.ours(server, evidence, EVERYTHING, stamp, relay.endpoint)
                self.figures.sent[name], before = relay.sent - before, relay.sent
            self.empty(evidence)

    def one_prefix(self) -> None:
        """The files of one prefix: s5cmd, rclone, and ours, which proves them too."""
        for name, client in (("s5cmd", peers.s5cmd), ("rclone", peers.rclone)):
            if peers.present()[name]:
                with self.server() as server:
                    self.figures.typed[name].append(_timed(partial(client, self.root, "theirs", server)))
        self.alone()

    def alone(self) -> None:
        """The same, ours only."""
        with self._sealed() as evidence, self.server() as server:
            self.figures.ours["one prefix"].append(self.ours(server, evidence, ONE_PREFIX))

    @contextmanager
    def _sealed(self) -> Iterator[Path]:
        """Evidence that is sealed and nowhere else: made once, and given to each run as if it were its own."""
        pristine, evidence = self.folder / "sealed", self.place()
        if not pristine.exists():
            with self.server() as server:
                self.ours(server, pristine, ("copy", "seal"))
        shutil.copytree(pristine, evidence, copy_function=_given)
        yield evidence

    def resumed(self) -> None:
        """A full run from the seal on, and one that goes on after a kill when the store has half of what it gets."""
        with self._sealed() as evidence, self.server() as server:
            self.figures.ours["full"].append(self.ours(server, evidence, RESUMED))
        with self._sealed() as evidence, self.server() as server:
            with self.begun(server, evidence, RESUMED) as process:
                while _stored(server) < self.figures.size:
                    if process.poll() is not None:
                        raise SystemExit("expected a run to be killed at half; it had ended before.")
                    time.sleep(_POLL)
                process.send_signal(signal.SIGKILL)
                process.wait()
            self.figures.ours["resumed"].append(self.ours(server, evidence, RESUMED))


def _timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def _given(source: str, target: str) -> None:
    """What is sealed is never written to: a second name is enough. The rest is copied."""
    if "/evidence/" in source.partition("/IR-")[2]:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def _warm_up(server: SeaweedFS) -> None:
    """With the first object of a bucket the server makes the files that it keeps objects in: nobody's transfer."""
    client = credentials(server).get_boto3_session().client("s3", endpoint_url=server.endpoint)
    client.put_object(Bucket=server.bucket, Key="first", Body=b"first")
    client.close()


def _stored(server: SeaweedFS) -> int:
    """Bytes of what a server has taken."""
    return sum(path.stat().st_size for path in (server.folder / "data").rglob("*.dat"))


def measure(folder: Path, data: DataSet, rounds: int, *, alone: bool = False) -> Figures:
    """Each thing so many times, in turns; `alone` is the transfer of one prefix, beside nobody."""
    bench = Bench(folder / data.name.replace("/", "-"), data)
    for number in range(1, rounds + 1):
        for act in (bench.alone,) if alone else (bench.everything, bench.one_prefix, bench.resumed):
            act()
            say(f"{data.name}, round {number}: {act.__name__}")
    if not alone:
        bench.counted()
    return bench.figures


def measured(folder: Path, name: str, rounds: int) -> tuple[list[Row], str]:
    """The rows of one set, and where its time went. N, too large for the others, is compared with a tenth of itself."""
    if name == "N":
        tenth, whole = (measure(folder, SETS[each], rounds, alone=True) for each in ("N/10", name))
        return growth(tenth, whole), profile(name, whole)
    seen = measure(folder, SETS[name], rounds)
    return rows(name, seen), profile(name, seen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the sets that are named; the rows of others stay as an earlier run has left them. Exit 0 if all hold."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=["S", "M", "L"], help=f"of {', '.join(SETS)}")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    folder = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    folder.mkdir(parents=True)
    made = [row for row in read("offload") if row.what.partition(":")[0] not in given.sets]
    profiles = list[str]()
    try:
        for name in given.sets:
            found, told = measured(folder, name, given.rounds)
            made += found
            profiles.append(told)
    finally:
        shutil.rmtree(folder)
    absent = [name for name, there in peers.present().items() if not there]
    conditions = f"{os.cpu_count()} processors, server and client share them; medians of {given.rounds}"
    conditions += f"; not installed here: {', '.join(absent)}" if absent else ""
    write("offload", made, conditions)
    say("\n\n".join([table(made), *profiles, conditions]))
    return 0 if all(row.holds for row in made) else 1


if __name__ == "__main__":
    sys.exit(main())
