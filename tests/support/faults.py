"""What goes wrong on a host, in a workload or a store before an evacuation is needed, and what a doctor has to say."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from uuid import uuid4

import pytest

from blocks.signing_key import SigningKey
from tasks.acquisition.collector import NothingThere
from tasks.containment.cordon import IncidentCordon
from tasks.custody.containment.identity import Identity
from tasks.drill.store_and_worker import SeaweedFS
from tasks.host.cgroup.group import Hierarchy
from tasks.host.host import LinuxHost
from tasks.host.process.table import start_of
from tasks.incident.directory import disks
from tasks.incident.layout import CORDON
from tasks.readiness import host as host_checks
from tasks.readiness import store as store_checks
from tasks.readiness.check_target import CheckTarget
from tasks.system.declarations import VARIABLE, declaration
from tests.support.run_context import case_of
from tests.support.small_disks import fill, make_read_only, small_disk
from tests.support.workloads import SmallWorkload, free_port, wait_until

LOSS, FATAL = "loss", "fatal"
HOLD: Final = "import fcntl, sys, time; held = open(sys.argv[1], 'w'); fcntl.flock(held, 2); time.sleep(600)"

EXPIRED: Final = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


@dataclass
class World:
    """A small workload, and the fields of blocks that are sound for it. A fault changes these, or what is there."""

    small: SmallWorkload
    folder: Path
    store: dict[str, Any]
    patch: pytest.MonkeyPatch
    stack: ExitStack
    fields: dict[str, Any] = field(default_factory=dict)
    signers: str = ""
    declares: Mapping[str, Any] | None = field(default_factory=dict)
    """Other fields of what root declares; None if it declares nothing."""

    def __post_init__(self) -> None:
        """Keep evidence beside the workload, on a host whose clock is known to be right."""
        self.patch.setattr(store_checks, "kernel", lambda: {"state": "ok", "synchronised": True})
        self.fields["evidence_dir"] = self.folder / "evidence"
        (self.folder / "hosts.d").mkdir()
        self.patch.setenv(VARIABLE, str(self.folder / "hosts.d"))

    def patient(self) -> CheckTarget:
        """What a doctor looks at."""
        block = self.small.block(**self.fields)
        if self.declares is not None:
            about = {"user": "" if os.geteuid() else "root", **self.declares}
            (own := self.folder / "hosts.d/own.toml").write_text(declaration(block.model_copy(update=about)))
            own.chmod(0o644)
        return CheckTarget("small", block, "store", self.store, self.signers)

    def disk(self, mib: int = 1, inodes: int = 0) -> Path:
        """A small disk that is gone with the test."""
        return self.stack.enter_context(small_disk(self.folder / "disk", mib, inodes))


@dataclass(frozen=True)
class Fault:
    """A fault, and the findings that name it.

    `ends` are the states in one of which an evacuation then ends; none if it is not tried.
    """

    name: str
    breaks: Callable[[World], object]
    weights: Mapping[str, str]
    ends: tuple[str, ...] = ()

    @property
    def needs_canary(self) -> bool:
        """Whether what names it looks at the canary that an earlier check has written."""
        return "store/canary" not in self.weights and bool(
            {"store/lock", "store/clock", "store/sharing"} & {*self.weights}
        )


WORKS: Final = ("Verified", "Partial")
RENAMED: Final = LOSS if os.geteuid() else FATAL
"""What another account can rename: whoever is not root works for one account alone, as a rule."""
FAILS: Final = ("Failed", "NotContained", "Unverified")


def change(**fields: Any) -> Callable[[World], None]:
    """Other fields of the workload."""
    return lambda world: world.fields.update(fields)


def change_store(**fields: Any) -> Callable[[World], None]:
    """Other fields of the store."""
    return lambda world: world.store.update(fields)


def _credentials(**fields: Any) -> Callable[[World], None]:
    return lambda world: world.store.update(credentials={**world.store["credentials"], **fields})


def _apart(world: World, *command: str) -> None:
    """Start a program in the root that is no child of the tests: a doctor's own children are nobody's suspects."""
    world.small.start(["setsid", "--fork", *command])


def _lock_held(world: World) -> None:
    lock = world.small.block().lock
    holder = world.stack.enter_context(subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], cwd="/"))
    world.stack.callback(holder.kill)
    wait_until(lambda: LinuxHost().holder(lock), what="the lock's holder")


def _lock_link(world: World) -> None:
    lock = world.folder / "link.lock"
    lock.symlink_to("/dev/null")
    world.fields["lock"] = lock


def _evidence_file(world: World) -> None:
    world.fields["evidence_dir"].write_text("")


def _evidence_open(world: World) -> None:
    world.fields["evidence_dir"].mkdir()
    world.fields["evidence_dir"].chmod(0o777)


def _evidence_strange(world: World) -> None:
    (world.folder / "theirs/evidence").mkdir(parents=True)
    os.chown(world.folder / "theirs", 12345, -1)
    world.fields["evidence_dir"] = world.folder / "theirs/evidence"


def _evidence_of_a_group(world: World) -> None:
    (world.folder / "shared/evidence").mkdir(parents=True)
    os.chown(world.folder / "shared", -1, 12345)
    (world.folder / "shared").chmod(0o775)
    world.fields["evidence_dir"] = world.folder / "shared/evidence"


def _evidence_linked(world: World) -> None:
    (world.folder / "open").mkdir()
    (world.folder / "open").chmod(0o777)
    world.fields["evidence_dir"].symlink_to(world.folder / "open")


def _evidence_read_only(world: World) -> None:
    make_read_only(disk := world.disk())
    world.fields["evidence_dir"] = disk / "evidence"


def _evidence_full(world: World) -> None:
    fill(disk := world.disk())
    world.fields["evidence_dir"] = disk / "evidence"


def _no_inodes(world: World) -> None:
    world.fields["evidence_dir"] = world.disk(4096, 100) / "evidence"


def _no_reserve(world: World) -> None:
    world.fields.update(evidence_dir=world.disk() / "evidence", reserve_mb=1024, fallback_dir=None)


def _no_spy(world: World) -> None:
    def missing() -> str:
        raise NothingThere("py-spy is not installed")

    world.patch.setattr(host_checks, "find_spy", missing)


def _no_groups(world: World) -> None:
    world.patch.setattr(Hierarchy, "find", classmethod(lambda _: None))


def _open_incident(world: World) -> None:
    home = world.fields["evidence_dir"] / "IR-20260101T000000Z"
    home.mkdir(parents=True, mode=0o700)
    about = {"id": home.name, "workload": "small", "host": "h", "boot": "b", "reason": "", "opened_by": "me"}
    times = {"opened_at": "2026-01-01T00:00:00Z", "detected_at": "2026-01-01T00:00:00Z"}
    for path in (home / "incident.json", home.parent / "open.json"):
        path.write_text(json.dumps(about | times))


def _suspect(world: World) -> None:
    script = "import time; held = open('logs/other.log', 'w'); print('up', flush=True); time.sleep(600)"
    _apart(world, "venv/bin/python", "-c", script)
    wait_until((world.small.root / "logs/other.log").exists, what="the suspect")


def _loop(world: World) -> None:
    _apart(world, "bash", "-c", f"while true; do sleep 600; {' '.join(world.small.training_command)}; done")
    waiting = lambda: any(each.name() == "sleep" for each in world.small.living())  # noqa: E731
    wait_until(waiting, what="the loop's sleep")


def listen(world: World, port: int) -> None:
    """Have another program listen on a port, on an address of its own."""
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.2", str(port)]
    stranger = world.stack.enter_context(subprocess.Popen(server, cwd="/", stderr=subprocess.DEVNULL))
    world.stack.callback(stranger.kill)
    wait_until(lambda: LinuxHost().ports([Identity(stranger.pid, start_of(stranger.pid))]), what="the stranger")


def hold_cordon(world: World) -> None:
    """Have a cordon's guard stand, with its marker on the fallback disk."""
    (fallback := world.folder / "fallback").mkdir()
    world.fields["fallback_dir"] = fallback
    block = world.small.block(**world.fields)
    base = disks(block)[-1]
    base.mkdir(mode=0o700)
    context = world.stack.enter_context(case_of(block))
    context.cordon_files = replace(context.cordon_files, marker=base / CORDON)
    IncidentCordon(context).hold("readiness")
    context.close()
    wait_until(lambda: LinuxHost().guard(base / CORDON), what="the guard")


def _lose_guard(world: World) -> None:
    hold_cordon(world)
    marker = disks(world.patient().workload)[-1] / CORDON
    before = marker.read_text()
    LinuxHost().release(marker)
    marker.write_text(before)


def _renamed(world: World) -> None:
    world.fields["api_pattern"] = "serve-nothing"
    _suspect(world)


def _link_out(world: World) -> None:
    (world.folder / "elsewhere").mkdir()
    (world.small.root / "more").symlink_to(world.folder / "elsewhere")
    world.fields["logs"] = ["logs/*.log", "more/*.log"]


def _model(content: bytes) -> Callable[[World], object]:
    return lambda world: (world.small.root / "models/model_bad.joblib").write_bytes(content)


class _Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("true",)


def _folder(world: World, folder: Path) -> None:
    kept = {name: world.store[name] for name in ("signing", "allowed_signers")}
    world.store.clear()
    world.store.update(folder=str(folder), **kept)


def _store_strange(world: World) -> None:
    (vault := world.folder / "vault").mkdir()
    os.chown(vault, 12345, -1)
    _folder(world, vault)


def _store_in_root(world: World) -> None:
    (vault := world.small.root / "vault").mkdir()
    _folder(world, vault)


def _store_ours(world: World) -> None:
    (vault := world.folder / "vault").mkdir()
    _folder(world, vault)


def _store_shared(world: World) -> None:
    _store_ours(world)
    claim = {"incident": "IR-20260101T000000Z", "host": "vm", "workload": "another"}
    (path := world.folder / "vault/incidents" / claim["incident"] / "claim.json").parent.mkdir(parents=True)
    path.write_text(json.dumps(claim))


def _gone(world: World) -> None:
    _folder(world, world.folder / "not mounted")


def _full(world: World) -> None:
    fill(disk := world.disk())
    _folder(world, disk)


def _little_room(world: World) -> None:
    (world.small.root / "logs/long.log").write_bytes(os.urandom(3 << 20))
    _folder(world, world.disk(2))


def _answers(status: int, body: bytes) -> Callable[[World], None]:
    class Refusing(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT  # noqa: N815  the server's own names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    def serve(world: World) -> None:
        server = world.stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Refusing))
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        world.stack.callback(server.shutdown)
        world.store["endpoint"] = f"http://127.0.0.1:{server.server_port}"

    return serve


def _clock(ahead: timedelta) -> Callable[[World], None]:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + ahead

    return lambda world: world.patch.setattr(store_checks, "datetime", Wrong)


def _no_clock(world: World) -> None:
    world.patch.setattr(store_checks, "kernel", lambda: {"state": "not synchronised", "synchronised": False})
    (world.folder / "disk").mkdir()
    _folder(world, world.folder / "disk")


def _other_signer(world: World) -> None:
    world.signers = "evacuation@test ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIG2YFlCoX5dcqZs20cYN3u+HgCVUiSXSd6nLU6Uv3tJH"


def _no_command(world: World) -> None:
    command = ["venv/bin/gone", *world.small.api_command[1:]]
    world.fields.update(api_command=command)


def _no_key(world: World) -> None:
    del world.store["signing"]


def _key_in_block(world: World) -> None:
    text = Path(world.store["signing"].pop("key_file")).read_text()
    world.store["signing"]["private_key"] = text


def _open_key(world: World) -> None:
    Path(world.store["signing"]["key_file"]).chmod(0o640)


def _declare(fields: Mapping[str, Any] | None) -> Callable[[World], None]:
    def change(world: World) -> None:
        world.declares = fields

    return change


def _declare_exposed(fields: Mapping[str, Any] | None) -> Callable[[World], None]:
    """Declare so for an API of which another account can change a file: root starts it by no word of the block."""

    def change(world: World) -> None:
        _declare(fields)(world)
        (world.small.root / "uvicorn/__main__.py").chmod(0o666)

    return change


def sound_store(seaweed: SeaweedFS, key: SigningKey, folder: Path) -> dict[str, Any]:
    """Fields of a store block as a server gives them, with a prefix of its own, and the key in that folder."""
    (file := folder / "signing.key").write_text(key.private_key.get_secret_value())
    file.chmod(0o600)
    signing = {"key_file": str(file), "identity": key.identity}
    keys = {"aws_access_key_id": seaweed.access_key, "aws_secret_access_key": seaweed.secret_key}
    place = {"bucket": seaweed.bucket, "prefix": f"ready/{uuid4().hex}", "endpoint": seaweed.endpoint}
    signed = {"signing": signing, "allowed_signers": key.allowed_signers}
    return {**place, "credentials": {**keys, "region_name": "us-east-1"}, **signed}


_WRONG: Final = {"aws_access_key_id": "nobody", "aws_secret_access_key": "wrong", "region_name": "us-east-1"}

_UNDECLARED: Final = {"host/preflight": FATAL, "workload/declared": LOSS, "workload/restart": LOSS}

FAULTS: Final = (
    Fault("another host", change(host="elsewhere"), {"host/preflight": FATAL}, FAILS),
    Fault("an unknown collector", change(needed=["nothing"]), {"host/preflight": FATAL}, FAILS),
    Fault("no control groups", _no_groups, {"host/groups": LOSS}),
    Fault("the lock is a link", _lock_link, {"host/lock": FATAL}, FAILS),
    Fault("the lock's folder is gone", change(lock=Path("/nowhere/lock")), {"host/lock": FATAL}, FAILS),
    Fault("the lock is another's", _lock_held, {"host/lock": FATAL}),
    Fault("evidence is a file", _evidence_file, {"host/evidence": LOSS}, WORKS),
    Fault("anybody writes evidence", _evidence_open, {"host/evidence": RENAMED}, WORKS),
    Fault("evidence in strange hands", _evidence_strange, {"host/evidence": RENAMED}, WORKS),
    Fault("evidence in a folder of a group", _evidence_of_a_group, {"host/evidence": RENAMED}, WORKS),
    Fault("evidence behind a link", _evidence_linked, {"host/evidence": FATAL}, ("Partial",)),
    Fault("evidence is read-only", _evidence_read_only, {"host/evidence": LOSS, "host/room": LOSS}, WORKS),
    Fault("evidence is full", _evidence_full, {"host/room": LOSS}, WORKS),
    Fault("the fallback is not mounted", change(fallback_dir=Path("/nowhere")), {"host/fallback": LOSS}, WORKS),
    Fault("no room for the reserve", _no_reserve, {"host/room": LOSS}),
    Fault("no inodes", _no_inodes, {"host/room": LOSS}),
    Fault(
        "no engine",
        change(containers=["image=x"], docker_host="unix:///nowhere/docker.sock"),
        {"host/engine": FATAL},
        FAILS,
    ),
    Fault("no py-spy", _no_spy, {"host/spy": LOSS}),
    Fault("an incident is open", _open_incident, {"host/incident": LOSS}),
    Fault(
        "the API was renamed",
        _renamed,
        {"workload/members": LOSS, "workload/suspects": FATAL},
        FAILS,
    ),
    Fault("a cordon that a reboot left without its guard", _lose_guard, {"host/incident": FATAL}),
    Fault(
        "another program on the API's port",
        lambda world: listen(world, world.small.port),
        {"workload/port": FATAL},
        FAILS,
    ),
    Fault("training_command is gone", change(training_command=["venv/bin/gone"]), {"workload/launch": FATAL}, FAILS),
    Fault("training_command is in no PATH", change(training_command=["gone"]), {"workload/launch": FATAL}, FAILS),
    Fault("a suspect", _suspect, {"workload/suspects": FATAL}, FAILS),
    Fault("a loop that sleeps", _loop, {"workload/starters": FATAL}, FAILS),
    Fault(
        "the API is down",
        lambda world: world.fields.update(api_url=f"http://127.0.0.1:{free_port()}"),
        {"workload/api": LOSS},
        WORKS,
    ),
    Fault("the API moved its health", change(health_path="/healthy"), {"workload/api": LOSS}, WORKS),
    Fault("a missing pattern", change(logs=["log/*.txt"]), {"workload/files": LOSS}, ("Partial",)),
    Fault("a link that leads out", _link_out, {"workload/files": LOSS}, ("Partial",)),
    Fault("a suspect model", _model(pickle.dumps(_Evil())), {"workload/models": LOSS}, WORKS),
    Fault("a torn model", _model(pickle.dumps(list(range(500)))[:-9]), {"workload/models": LOSS}, WORKS),
    Fault("api_command is gone", _no_command, {"workload/restart": LOSS}),
    Fault("the key is unknown", _credentials(**_WRONG), {"store/canary": FATAL, "store/promoter": FATAL}, FAILS),
    Fault(
        "the secret is wrong",
        _credentials(aws_secret_access_key="wrong"),
        {"store/canary": FATAL, "store/promoter": FATAL},
        FAILS,
    ),
    Fault("the key has expired", _answers(400, EXPIRED), {"store/canary": FATAL, "store/promoter": FATAL}, FAILS),
    Fault(
        "no such bucket", change_store(bucket="nosuchbucket"), {"store/canary": FATAL, "store/promoter": FATAL}, FAILS
    ),
    Fault("a store in strange hands", _store_strange, {"store/folder": FATAL}, ("Unverified",)),
    Fault("a store in the root", _store_in_root, {"store/folder": FATAL}, ("Unverified",)),
    Fault("a store of another workload", _store_shared, {"store/sharing": LOSS}, WORKS),
    Fault("the store is not mounted", _gone, {"store/canary": FATAL, "store/promoter": FATAL}, FAILS),
    Fault("the store is full", _full, {"store/canary": FATAL, "store/room": FATAL}, FAILS),
    Fault("a store with too little room", _little_room, {"store/room": FATAL}, FAILS),
    Fault("a bucket that cannot lock", change_store(lock="governance", lock_days=1), {"store/lock": FATAL}, FAILS),
    Fault("a wrong promoter", change_store(promoter=_WRONG), {"store/promoter": FATAL}, FAILS),
    Fault("a clock that is off", _clock(timedelta(minutes=-2)), {"store/clock": LOSS}),
    Fault("a clock that the store refuses", _clock(timedelta(minutes=20)), {"store/clock": FATAL}),
    Fault("a clock that nothing is compared with", _no_clock, {"store/clock": LOSS}),
    Fault("no signing key", _no_key, {"store/signature": LOSS}, WORKS),
    Fault("a key in the block", _key_in_block, {"store/signature": LOSS}, WORKS),
    Fault("a key that others can read", _open_key, {"store/signature": LOSS}, WORKS),
    Fault("nothing declared", _declare_exposed(None), {"workload/declared": LOSS, "workload/restart": LOSS}, WORKS),
    Fault("another root declared", _declare({"root": "/srv/other"}), _UNDECLARED, FAILS),
    Fault("another command declared", _declare({"api_command": ["sh"]}), {"workload/restart": LOSS}, WORKS),
    Fault("commands as root", _declare_exposed({"user": ""}), {"workload/restart": LOSS}, WORKS),
    Fault(
        "a key that is none", change_store(signing={"private_key": "x", "identity": "a@b"}), {"store/signature": LOSS}
    ),
    Fault(
        "a time-stamp authority that is gone",
        change_store(timestamp_url="http://127.0.0.1:9/tsr"),
        {"store/time_stamp": LOSS},
        WORKS,
    ),
    Fault("another auditor's file", _other_signer, {"store/signature": LOSS}),
    Fault("no auditor's file", change_store(allowed_signers=""), {"store/signature": LOSS}, WORKS),
    Fault("an auditor's file that is none", change_store(allowed_signers="nobody"), {"store/signature": LOSS}, WORKS),
)

SOUND: Final[Mapping[str, Callable[[World], object]]] = {
    "store/folder": _store_ours,
    "workload/port": lambda world: listen(world, free_port()),
    "workload/launch": change(training_command=["make", "nothing"]),
}
"""The scenes of some faults without the fault, by what looks at them."""
