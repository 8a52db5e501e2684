"""What version 0.1 left, unpacked where it was made: incidents on a host and in a store, and its guard (README.md)."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import psutil

from blocks.directory import DirectoryStore
from blocks.file import workload_given
from blocks.workload import Workload
from tasks.system.processes import boot_id
from tests.e2e.upgrade.make import ARCHIVE, PLACE, PORT
from tests.support.workloads import SmallWorkload, wait_until

HOST: Final = "gpu1"
INCIDENTS: Final = ("verified", "half-sent", "in-the-grace", "before-the-freeze")
_ANOTHER_BOOT: Final = "0" * 8
_HOLD: Final = """
import sys
from tasks.host import LinuxHost
from tasks.orders import Orders
LinuxHost().hold(Orders.from_bytes(sys.stdin.buffer.read()))
"""


@dataclass(frozen=True)
class Left:
    """One workload with one incident. `file` is the operator's, with the workload and the store in it."""

    file: Path
    workload: Workload
    small: SmallWorkload
    home: Path
    store: DirectoryStore

    @property
    def incident(self) -> str:
        """Its id."""
        return self.home.name

    @property
    def marker(self) -> Path:
        """The cordon's; its guard is dead."""
        return self.workload.evidence / "cordon.json"

    def journal(self, name: str) -> Any:
        """What a journal of the incident says, as JSON: `frozen`, `stopped`."""
        (path,) = self.home.glob(f"{name}-????????.json")
        return json.loads(path.read_bytes())

    def guards(self) -> list[psutil.Process]:
        """All that stand for its marker, found without any code of the product."""
        every = psutil.process_iter(["cmdline"])
        return [each for each in every if str(self.marker) in (each.info["cmdline"] or [])]

    def stand_guard(self) -> psutil.Process:
        """Have the old version start its guard again, with the orders that it had. `left` ends it."""
        told = json.loads(self.marker.read_bytes())
        watches = told.pop("watches")
        matchers = [dict(zip(("role", "pattern", "user", "port"), each, strict=True)) for each in watches["patterns"]]
        (caught,) = self.workload.evidence.glob("caught-*.jsonl")
        orders = {
            **{name: told[name] for name in ("incident", "reason", "since", "lock")},
            "marker": str(self.marker),
            "caught": str(caught),
            "root": watches["root"],
            "matchers": matchers,
            "known": [str(self.home / f"frozen-{boot_id()[:8]}.json"), str(self.home / "recovered.json")],
            "spared": [],
            "containers": [],
            "known_containers": [],
            "docker_host": "",
        }
        old = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PLACE / "guard.zip")}
        command = [sys.executable, "-S", "-P", "-c", _HOLD]
        subprocess.run(command, input=json.dumps(orders).encode(), env=old, cwd="/", check=True)
        (guard,) = self.guards()
        return guard

    def end_guards(self) -> None:
        """Whichever code they are of."""
        for guard in self.guards():
            with suppress(psutil.NoSuchProcess):
                guard.kill()
        wait_until(lambda: not self.guards(), what="the end of the guards")


@contextmanager
def left(name: str, *, rebooted: bool = False) -> Iterator[Left]:
    """One of INCIDENTS, on a host that has been upgraded since, and rebooted or not; it is removed at the end."""
    with (
        _alone(),
        SmallWorkload(PLACE / name / "root") as small,
        patch("socket.gethostname", return_value=HOST),
    ):
        small.port = PORT
        _unpack(("guard.zip", name))
        file = PLACE / name / "evacuation.toml"
        workload = workload_given(file)[1]
        (home,) = workload.evidence.glob("IR-*")
        _boot(workload.evidence, _ANOTHER_BOOT if rebooted else boot_id()[:8])
        it = Left(file, workload, small, home, DirectoryStore(PLACE / name / "store"))
        it.end_guards()  # of a test that was killed
        try:
            yield it
        finally:
            it.end_guards()


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until nobody else on this machine has the place. What a killed test has left there is removed."""
    while True:
        PLACE.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(PLACE, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), PLACE.stat()):
                break
        os.close(descriptor)
    try:
        for rest in PLACE.iterdir():
            shutil.rmtree(rest) if rest.is_dir() else rest.unlink()
        yield
    finally:
        shutil.rmtree(PLACE)
        os.close(descriptor)


def _boot(evidence: Path, boot: str) -> None:
    """Journals are named after the boot that their processes belong to."""
    (caught,) = evidence.glob("caught-*.jsonl")
    then = caught.stem.removeprefix("caught-")
    for path in [*evidence.rglob(f"*-{then}.json*")]:
        path.rename(path.with_name(path.name.replace(then, boot)))


def _unpack(wanted: tuple[str, ...]) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = lambda member, _: member  # it is ours, and its modes count
        for member in archive:
            if member.name.startswith(wanted):
                archive.extract(member, PLACE)
