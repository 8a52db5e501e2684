"""Real parts for the tests: one S3 server and one Prefect server a session, each store empty for each test."""

import gc
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from hypothesis import settings
from xdist.scheduler.loadscope import LoadScopeScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:  # each process of a parallel run imports this, the one that only hands out tests too: 3 s and more
    from prefect_aws import AwsCredentials

    from blocks.port import Store
    from blocks.signing_key import SigningKey
    from blocks.store import EvidenceStore
    from tasks.drill.store_and_worker import SeaweedFS
    from tests.support.docker_engine import DockerDaemon
    from tests.support.time_authority import TimeAuthority
    from tests.support.workloads import SmallWorkload

# A shell that starts the tests with `&` has SIGINT ignored, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A client that knows of no server would start one of its own, which outlives its test. Here each test names its server.
os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "false"

# Whether the machine has a Docker engine, a stopped one or none: tests that need one start their own.
os.environ["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"


TOGETHER = {
    "seed": "the seed's acceptance",
    "drill": "one after the other, so that no two drills compute at once",
    "triggers": "one after the other, so that no two drills compute at once",
    "fleet": "a server with a worker",
    "browser": "a server with a worker",
    "docker": "an engine, and images that are built while its other tests run",
    "plant": "PostgreSQL, Redis, a server of several processes, and hosts",
    "ceph": "a gateway of Ceph",
    "canaries": "a server whose worker has secrets",
    "systemd": "a host that is booted once for most of them",
}
"""Folders whose tests share what is slow to start, and what that is; those of one reason go into one process.

They come in this order: what takes longest begins first, so that no process is left with it alone at the end.
"""
ORDER = [*dict.fromkeys(TOGETHER.values()), "tests/e2e/", "tests/integration/", "tests/"]


# Laws are tried without a time limit an example: two busy cores are no finding. `make test-fast` tries fewer.
settings.register_profile("patient", deadline=None, max_examples=60)
settings.register_profile("fast", deadline=None, max_examples=10)
settings.load_profile("patient")

SERVERS = {"prefect", "s3", "ceph", "docker", "browser", "systemd", "host", "hostile"}


def pytest_configure() -> None:
    """Refuse a file whose tests no command runs, neither `make test` nor `make test-all` nor `make soak`."""
    begins = re.compile(r"^\s*(async )?def test_", re.MULTILINE)
    others = (path for path in Path(__file__).parent.rglob("*.py") if not path.name.startswith("test_"))
    if lost := [str(path) for path in others if begins.search(path.read_text())]:
        raise pytest.UsageError(f"no command runs the tests of {', '.join(lost)}: expected names that begin with test_")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:  # noqa: ARG001  a hook's argument has its name
    """Collect without the garbage collector, which finds nothing then, and have it pass over what was made until now.

    What is imported and collected stays to the end: a million objects, through which it would go again and again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark a test by its folders. One of tests/unit that is marked as needing a server is an integration test."""
    for item in items:
        tier, room = item.path.relative_to(Path(__file__).parent).parts[:2]
        needed = {mark.name for mark in item.iter_markers()} & SERVERS
        item.add_marker("integration" if needed and tier == "unit" else tier)
        if room in SERVERS:
            item.add_marker(room)
    _leave_a_sample(items)


def _leave_a_sample(items: list[pytest.Item]) -> None:
    """Leave n cases of a test marked `sample(n)` to the suites, of one marked `short(n)` to `make test`, drawn by SEED.

    The rest is for `make soak`, or for `make test-all`. With CASES, as of `make test-fast`, leave no more of any test.
    """
    most = int(os.environ.get("CASES", sys.maxsize))
    cases = dict[str, list[pytest.Item]]()
    for item in items:
        if not item.get_closest_marker("soak"):
            cases.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for name, each in cases.items():
        draw = random.Random(f"{os.environ.get('SEED', '1')} {name}")  # noqa: S311  # no secret
        for marker, rest in (("sample", "soak"), ("short", "whole")):
            mark = each[0].get_closest_marker(marker)
            drawn = draw.sample(each, max(0, len(each) - min(most, mark.args[0] if mark else most)))
            for item in drawn:
                item.add_marker(rest)
            each = [item for item in each if item not in drawn]  # noqa: PLW2901  the second draws from what is left


class Together(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Keeps in one process what shares something slow, begins with it, and sends every other test where there is room.

    pytest-xdist's own groups are written into a test's id, where pytest 9 no longer reads them.
    """

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(nodeid.split("/")[2], nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        """Begin with what takes longest; pytest-xdist's own order is that of how many tests there are."""
        if not any(self.assigned_work.values()):
            for scope in sorted(self.workqueue, key=_place_of):
                self.workqueue.move_to_end(scope)
        super()._assign_work_unit(node)


def _place_of(scope: str) -> int:
    return next(place for place, begin in enumerate(ORDER) if scope.startswith(begin))


def _copy_ui_once() -> None:
    """Let Prefect copy its UI in a new environment, before several of its servers begin to do so at the same time.

    They can empty the folder under one another, and then no server starts in this environment any more.
    """
    found = find_spec("prefect")
    if found and found.origin and not Path(found.origin).with_name("server").joinpath("ui_v2_build").exists():
        code = "from prefect.server.api.server import create_ui_app; create_ui_app(ephemeral=False)"
        subprocess.run([sys.executable, "-c", code], check=True)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """The one that `make test` uses. Unit tests share nothing slow, and are handed out sooner without scopes."""
    _copy_ui_once()
    return Together(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture
def small(tmp_path: Path) -> Iterator["SmallWorkload"]:
    """A small workload in a folder whose name holds a space; what it started ends with the test."""
    from tests.support.workloads import SmallWorkload

    with SmallWorkload(tmp_path / "work load") as workload:
        yield workload


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SeaweedFS"]:
    """A real S3 server, in a folder whose name holds a space."""
    from tasks.drill.store_and_worker import SeaweedFS

    with SeaweedFS(tmp_path_factory.mktemp("sea weed")) as server:
        yield server


@pytest.fixture(scope="session")
def credentials(seaweed: "SeaweedFS") -> "AwsCredentials":
    """The server's own credentials."""
    from prefect_aws import AwsCredentials
    from pydantic import SecretStr

    return AwsCredentials(
        aws_access_key_id=seaweed.access_key,
        aws_secret_access_key=SecretStr(seaweed.secret_key),
        region_name="us-east-1",
    )


@pytest.fixture(scope="session")
def signing_key(tmp_path_factory: pytest.TempPathFactory) -> "SigningKey":
    """A key as an operator makes it."""
    from pydantic import SecretStr

    from blocks.signing_key import SigningKey

    path = tmp_path_factory.mktemp("a key") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return SigningKey(private_key=SecretStr(path.read_text()), identity=f"evacuation@{socket.gethostname()}")


@pytest.fixture(scope="session")
def time_authority(tmp_path_factory: pytest.TempPathFactory) -> "TimeAuthority":
    """Who vouches for times."""
    from tests.support.time_authority import TimeAuthority

    return TimeAuthority(tmp_path_factory.mktemp("time authority"))


@pytest.fixture
def s3_block(seaweed: "SeaweedFS", credentials: "AwsCredentials") -> "EvidenceStore":
    """A store block on the real server, with a prefix of its own."""
    from blocks.store import EvidenceStore

    return EvidenceStore(
        bucket=seaweed.bucket, prefix=f"test/{uuid4().hex}", endpoint=seaweed.endpoint, credentials=credentials
    )


@pytest.fixture
def store(s3_block: "EvidenceStore") -> "Store":
    """An empty S3 store on the real server."""
    return s3_block.open()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator["DockerDaemon"]:
    """A real Docker engine with the base image."""
    from tests.support.docker_engine import PROGRAMS, DockerDaemon

    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing or os.geteuid():
        pytest.skip(f"a Docker engine needs root and {', '.join(missing or PROGRAMS)}")
    with DockerDaemon(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _root_may_run_workloads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Small workloads are root's where the tests are; as root on a host where nothing else is declared."""
    folder = tmp_path_factory.mktemp("hosts.d")
    (folder / "any.toml").write_text('user = "root"\n')
    (folder / "any.toml").chmod(0o644)
    with patch.dict(os.environ, {"EVACUATION_HOSTS": str(folder)}):
        yield


@pytest.fixture(scope="session", autouse=True)
def _default_evidence_is_removed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is root's alone lies beside the root, in a folder of the host, if the root is another account's."""
    yield
    from tasks.custody.incident.description import STATE

    ours = STATE.joinpath(*tmp_path_factory.getbasetemp().parts[1:])
    shutil.rmtree(ours, ignore_errors=True)
    with suppress(OSError):  # until one that is another's or holds something
        for folder in ours.parents:
            folder.rmdir()


@pytest.fixture(scope="session", autouse=True)
def _once() -> Iterator[None]:
    """Every S3 client of this process is made of the same models, and what it has detached does not stay a zombie."""
    from tests.support.once import detached_are_reaped, models_read_once

    with models_read_once(), detached_are_reaped():
        yield


@pytest.fixture(scope="session", autouse=True)
def _migrated_servers() -> Iterator[None]:
    """Every Prefect server that a test starts in this process finds its database made."""
    from tasks.prefect_side.own_server import PrefectServer
    from tests.support.migrated import put_database

    start = PrefectServer.start

    def migrated(server: PrefectServer) -> None:
        server.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        put_database(server.folder / "prefect.db")
        start(server)

    with patch.object(PrefectServer, "start", migrated):
        yield


@pytest.fixture(scope="session")
def prefect() -> Iterator[None]:
    """A Prefect server and database that end with the session. Events are passed on; none is kept, and none acts."""
    from prefect.testing.utilities import prefect_test_harness

    from tasks.prefect_side.own_server import IN_BATCHES
    from tests.support.migrated import harness_folder
    from tests.support.once import secrets_found_once

    here = {
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    }
    with (
        patch.dict(os.environ, {**IN_BATCHES, **here}),
        patch("prefect.testing.utilities.mkdtemp", harness_folder),
        secrets_found_once(),
        prefect_test_harness(server_startup_timeout=120),
    ):
        _tell_this_server()
        yield


def _tell_this_server() -> None:
    """A process sends its events to the server of its first event: let that be this one, and none of one module."""
    from prefect.events import emit_event
    from prefect.events.worker import EventsWorker

    EventsWorker.drain_all(timeout=10)
    emit_event("tests.began", {"prefect.resource.id": "tests"})
