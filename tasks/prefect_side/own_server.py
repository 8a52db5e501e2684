"""Start a private Prefect server for a drill or a run by hand. Loopback only; it ends with its starter."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tasks.host.process.table import owners
from tasks.system.free_ports import ask, free_ports
from tasks.system.managed_process import ManagedProcess

IN_BATCHES: Final = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
}
"""Settings of a server that writes events in batches; Prefect's default is a transaction for each of some 160 a run."""
_QUIET: Final = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


class PrefectServer(ManagedProcess):
    """A real Prefect server with a UI and its own database."""

    name = "prefect-server"
    ready_seconds = 240.0

    def __init__(self, folder: Path) -> None:
        """Choose a port for the life of this object."""
        super().__init__(folder)
        self.port = free_ports("server")["server"]

    @property
    def ui(self) -> str:
        """URL of the UI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        """URL of the API."""
        return f"{self.ui}/api"

    @property
    def env(self) -> dict[str, str]:
        """Environment of a client of this server. Its home is the server's, so that no profile of the user is read."""
        return {**super().environment(), "PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.folder), **_QUIET}

    def command(self) -> Sequence[str]:
        """Return the command of the server in the foreground, as the keeper needs it.

        Everybody can read a command, and could listen on its port first: that is in the environment.
        """
        return [sys.executable, "-P", "-m", "prefect", "server", "start", "--host", "127.0.0.1"]

    def environment(self) -> Mapping[str, str]:
        """Return the server's environment. Without a UI API URL the page would call port 4200."""
        database = f"sqlite+aiosqlite:///{self.folder / 'prefect.db'}"
        own = {
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
            "PREFECT_UI_API_URL": self.api,
        }
        return {**self.env, **IN_BATCHES, **own}

    def ready(self) -> bool:
        """Return whether the API says that it is healthy, and is a program of our own account."""
        is_healthy = ask(f"{self.api}/health") == b"true"
        return is_healthy and {each.user for each in owners(self.port)} == {os.geteuid()}
