"""What each client does in its turn: one measurement each, on one data set, at a server that is fresh.

Dirty pages are written back before a clock runs. Ours runs in a process of its own, whose imports are over when its
clock starts, as in a flow that has come so far; the others are timed with their start.
"""

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
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import peers
from benchmarks.datasets import DataSet
from benchmarks.figures import Figures
from benchmarks.line import STORE, Line
from benchmarks.peers import Reach
from benchmarks.plain import Sink
from benchmarks.relay import Relay
from benchmarks.transfer import EVERYTHING, ONE_PREFIX, RESUMED, Done, Job
from tasks.drill.show_retention import credentials
from tasks.drill.store_and_worker import SeaweedFS

INCIDENTS: Final = {"first": "20260102T030405Z", "second": "20260103T030405Z"}
"""The second has the same content as the first."""
_FIRST: Final = INCIDENTS["first"]
_POLL: Final = 0.02


class Bench:
    """One data set on this disk, and a fresh server for each measurement, reached over a line if one is given."""

    def __init__(self, folder: Path, data: DataSet, seen: Figures | None = None, line: Line | None = None) -> None:
        """Lay the data out; what is measured is added to what was seen before."""
        self.folder, self.data, self.line, self.root = folder, data, line, folder / "work"
        self.figures, self._servers, self._folders = seen or Figures(), 0, 0
        self.figures.size = data.lay_out(self.root)

    @contextmanager
    def reach(self, *, counted: bool = False) -> Iterator[Reach]:
        """Start a server and its relay, which a line always has; the server's data is gone afterwards."""
        self._servers += 1
        place = self.folder / f"server-{self._servers}"
        try:
            with SeaweedFS(place) as server:
                # with the first object of a bucket the server makes the files that it keeps objects in
                client = credentials(server).get_boto3_session().client("s3", endpoint_url=server.endpoint)
                client.put_object(Bucket=server.bucket, Key="first", Body=b"first")
                client.close()
                os.sync()
                with self._relay(server.ports["s3"], wanted=counted) as relay:
                    before = self.line.client if self.line else ()
                    yield Reach(server, relay.endpoint if relay else server.endpoint, before, relay)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _relay(self, port: int, *, wanted: bool = True) -> Iterator[Relay | None]:
        if self.line:
            with Relay(port, self.line.delay, STORE, self.line.on("relay")) as relay:
                yield relay
        elif wanted:
            with Relay(port) as relay:
                yield relay
        else:
            yield None

    def place(self) -> Path:
        """A folder for evidence that nobody has used."""
        self._folders += 1
        return self.folder / f"evidence-{self._folders}"

    def empty(self, place: Path) -> None:
        """Give back the room of what a round has left, and no inode: beside freed ones ext4 makes files far slower."""
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.truncate(path, 0)

    def run(self, reach: Reach, evidence: Path, stages: Sequence[str], stamp: str = _FIRST) -> Done:
        """Run our side; what it took."""
        with self.begun(reach, evidence, stages, stamp) as process:
            told, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"expected {', '.join(stages)} to end well; got exit code {process.returncode}.")
        return Done.from_json(told)

    @contextmanager
    def begun(
        self, reach: Reach, evidence: Path, stages: Sequence[str], stamp: str = _FIRST
    ) -> Iterator[subprocess.Popen[str]]:
        """Our side while it runs; it ends with us."""
        server = reach.server
        places = str(self.root), str(evidence), f"IR-{stamp}", reach.endpoint, server.bucket
        job = Job(*places, server.pid, tuple(stages))
        command = [*reach.before, sys.executable, "-m", "benchmarks.transfer", json.dumps(asdict(job))]
        with subprocess.Popen(command, env=peers.environment(server), stdout=subprocess.PIPE, text=True) as process:
            try:
                yield process
            finally:
                process.kill()

    def typed(self) -> None:
        """All three prefixes, the runbook's way; on loopback a second incident with the same content too."""
        with self.reach() as reach:
            for name, stamp in list(INCIDENTS.items())[: 1 if self.line else None]:
                evidence = self.place()
                os.sync()
                self.figures.typed[name].append(_timed(partial(peers.runbook_push, self.root, evidence, stamp, reach)))
                self.empty(evidence)

    def ours(self) -> None:
        """The same, our way; on a line the relay counts what is sent."""
        with self.reach() as reach:
            self._three_prefixes(reach)

    def counted(self) -> None:
        """What crosses the wire, in a run that no clock counts."""
        with self.reach(counted=True) as reach:
            self._three_prefixes(reach, timed=False)

    def _three_prefixes(self, reach: Reach, *, timed: bool = True) -> None:
        evidence, before = self.place(), 0
        for name, stamp in INCIDENTS.items():
            os.sync()
            done = self.run(reach, evidence, EVERYTHING, stamp)
            if timed:
                self.figures.ours[name].append(done)
            if reach.relay:
                sent = reach.relay.sent
                self.figures.sent[name], before = sent - before, sent
        self.empty(evidence)

    def s5cmd(self) -> None:
        """The files of one prefix, by s5cmd."""
        self._by_peer("s5cmd", peers.s5cmd)

    def rclone(self) -> None:
        """The files of one prefix, by rclone."""
        self._by_peer("rclone", peers.rclone)

    def _by_peer(self, name: str, client: Callable[[Path, str, Reach], None]) -> None:
        if peers.present()[name]:
            with self.reach() as reach:
                self.figures.typed[name].append(_timed(partial(client, self.root, "theirs", reach)))

    def alone(self) -> None:
        """The files of one prefix, by us, who prove them too."""
        with self._sealed() as evidence, self.reach() as reach:
            self.figures.ours["one prefix"].append(self.run(reach, evidence, ONE_PREFIX))

    def plain(self) -> None:
        """The same bytes over one TCP connection, without any store: what the line and its relay can do."""
        with Sink() as sink, self._relay(sink.port) as relay:
            if relay and self.line:
                command = [sys.executable, "-m", "benchmarks.plain", STORE, str(relay.port), str(self.root)]
                told = subprocess.run([*self.line.client, *command], capture_output=True, text=True, check=True)
                self.figures.typed["plain"].append(float(told.stdout))

    @contextmanager
    def _sealed(self) -> Iterator[Path]:
        """Evidence that is sealed and nowhere else: made once, and given to each run as if it were its own."""
        pristine, evidence = self.folder / "sealed", self.place()
        if not pristine.exists():
            with self.reach() as reach:
                self.run(reach, pristine, ("copy", "seal"))
        shutil.copytree(pristine, evidence, copy_function=_given)
        yield evidence

    def resumed(self) -> None:
        """A full run from the seal on, and one that goes on after a kill when the store has half of what it gets."""
        with self._sealed() as evidence, self.reach() as reach:
            self.figures.ours["full"].append(self.run(reach, evidence, RESUMED))
        with self._sealed() as evidence, self.reach() as reach:
            with self.begun(reach, evidence, RESUMED) as process:
                while _stored(reach.server) < self.figures.size:
                    if process.poll() is not None:
                        raise SystemExit("expected a run to be killed at half; it had ended before.")
                    time.sleep(_POLL)
                process.send_signal(signal.SIGKILL)
                process.wait()
            self.figures.ours["resumed"].append(self.run(reach, evidence, RESUMED))


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


def _stored(server: SeaweedFS) -> int:
    """Bytes of what a server has taken."""
    return sum(path.stat().st_size for path in (server.folder / "data").rglob("*.dat"))
