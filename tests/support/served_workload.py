"""A small workload on a booted host, each part of it a service of systemd, and the file that describes it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.booted_host import PROJECT, BootedHost
from tests.support.workloads import SmallWorkload, wait_until

_LIVING: Final = """
import json, os, sys
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if os.readlink(f"/proc/{pid}/cwd") != sys.argv[1]:
            continue
        state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        words = open(f"/proc/{pid}/cmdline").read().split("\\0")
    except OSError:
        continue
    if state not in "ZX":
        found.append({"pid": int(pid), "state": state, "command": " ".join(words).strip()})
json.dump(found, sys.stdout)
"""


class ServedWorkload:
    """It lies in /srv/NAME, with its evidence, its lock and a folder as store beside it."""

    def __init__(self, host: BootedHost, folder: Path, name: str, **fields: object) -> None:
        """Lay it out, and describe it in /etc/evacuation/NAME.toml; the fields change its block."""
        self.host, self.name, self.root = host, name, f"/srv/{name}"
        self.small = SmallWorkload(folder / name)
        self.evidence, self.store = f"{self.root}.evidence", f"{self.root}.store"
        self.file = f"/etc/evacuation/{name}.toml"
        with subprocess.Popen(["tar", "-C", folder, "-c", name], stdout=subprocess.PIPE) as packed:
            host.run(["tar", "-C", "/srv", "-x"], check=True, stdin=packed.stdout)
        host.run(["mkdir", self.store], check=True)
        workload = {
            "host": host.hostname,
            "root": self.root,
            "lock": f"{self.root}.lock",
            "evidence_dir": self.evidence,
            "api_command": self.small.api_command,
            "grace_seconds": 5,
            "watch_seconds": 1,
            "recovery_seconds": 20,
        }
        text = _table(f"workload.{name}", workload | fields) + _table(f"store.{name}", {"folder": self.store})
        host.write(self.file, text)

    @property
    def training(self) -> str:
        """The unit of its training."""
        return f"{self.name}-training.service"

    @property
    def api(self) -> str:
        """The unit of its API."""
        return f"{self.name}-api.service"

    def start_training(self, *properties: str, workers: int = 2) -> None:
        """Have systemd start the training as a transient service, and wait until its workers are there."""
        command = [f"{self.root}/venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full"]
        told = [f"--property={each}" for each in (*properties, f"WorkingDirectory={self.root}")]
        started = ["systemd-run", "--quiet", f"--unit={self.training}", f"--setenv=WORKERS={workers}", *told]
        self.host.run([*started, *command], check=True)
        wait_until(lambda: len(self.living()) == workers + 1, what="the training's workers")

    def install_api(self, *lines: str) -> None:
        """Install the API as a service that each boot starts, and start it."""
        first, *rest = self.small.api_command
        told = [f"WorkingDirectory={self.root}", f"ExecStart={self.root}/{first} {' '.join(rest)}", *lines]
        text = "\n".join(["[Service]", *told, "[Install]", "WantedBy=multi-user.target", ""])
        self.host.write(f"/etc/systemd/system/{self.api}", text)
        self.host.run(["systemctl", "daemon-reload"], check=True)
        self.host.run(["systemctl", "enable", "--quiet", "--now", self.api], check=True)
        wait_until(self._listens, what="the API")

    def install_guard(self) -> str:
        """Install the guard of examples/systemd for its evidence folder, as docs/speed.md says; the unit's name."""
        for name in ("evacuation.slice", "evacuation-guard@.service"):
            text = (PROJECT / "examples/systemd" / name).read_text().replace("/opt/evacuation", str(PROJECT))
            self.host.write(f"/etc/systemd/system/{name}", text)
        escape = ["systemd-escape", "--path", "--template=evacuation-guard@.service", self.evidence]
        unit = self.host.run(escape, check=True).stdout.strip()
        self.host.run(["systemctl", "daemon-reload"], check=True)
        self.host.run(["systemctl", "enable", "--quiet", unit], check=True)
        return unit

    def _listens(self) -> bool:
        return f":{self.small.port} " in self.host.run(["ss", "-Htln"], check=True).stdout

    def living(self) -> list[dict[str, Any]]:
        """Processes that work in the root, found without any code of the product: pid, state and command."""
        found = json.loads(self.host.run(["python3", "-c", _LIVING, self.root], check=True).stdout)
        assert isinstance(found, list)
        return found

    def states(self) -> set[str]:
        """The states that they are in, as /proc says them."""
        return {each["state"] for each in self.living()}

    def evacuate(self, *more: str) -> subprocess.CompletedProcess[str]:
        """Evacuate it by hand, as a service of its own that ends with the run."""
        started = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit=evacuate-{self.name}"]
        return self.host.run([*started, *self.by_hand(*more)])

    def by_hand(self, *more: str) -> list[str]:
        """The command of an evacuation by hand."""
        return [sys.executable, "-m", "flows.cli", "run", self.file, *more]

    def incident(self) -> str:
        """Id of its only incident."""
        (found,) = self.host.run(["sh", "-c", f"cd {self.evidence} && ls -d IR-*"], check=True).stdout.split()
        return found

    def record(self, number: int = 1) -> dict[str, Any]:
        """The verdict in a record of that incident."""
        verdict = self.host.read(f"{self.evidence}/{self.incident()}/record/{number:03}/verdict.json")
        found = json.loads(verdict)
        assert isinstance(found, dict)
        return found

    def guard(self) -> int:
        """Pid of the guard that the cordon's marker names, which has to live."""
        pid = int(json.loads(self.host.read(f"{self.evidence}/cordon.json"))["pid"])
        assert "tasks.guard" in self.host.read(f"/proc/{pid}/cmdline")
        return pid


def _table(name: str, fields: Mapping[str, object]) -> str:
    """What JSON says of texts, numbers, lists and booleans, TOML says too."""
    return "\n".join([f"[{name}]", *(f"{field} = {json.dumps(value)}" for field, value in fields.items()), ""])
