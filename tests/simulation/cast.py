"""Who lives on the host: the workload in many shapes, what starts it, and neighbours that look like it."""

from random import Random
from signal import SIGINT, SIGTERM
from typing import Any

from tasks.host.process.handles import Handles
from tasks.host.process.process import Masks, Process
from tests.simulation.world import KINDS, SimHost

TRAIN = ("venv/bin/python", "-u", "src/train.py", "--dataset", "builtin", "--mode", "full")
SERVE = ("venv/bin/python", "-m", "uvicorn", "api.app:app", "--host", "127.0.0.1", "--port", "8000")
_DEAF = Masks(ignored=1 << (SIGINT - 1) | 1 << (SIGTERM - 1))


class _Kind:
    """A way to be: `life` and `about` are fields of Life and Process, in which `{root}` is the workload's folder."""

    def __init__(self, *command: str, workers: int = 0, tty: str = "", life: Any = None, **about: Any) -> None:
        self.command, self.workers, self.tty, self.life, self.about = command, workers, tty, life or {}, about

    def __call__(self, host: SimHost, parent: int) -> Process:
        def told(value: Any) -> Any:
            return value.format(root=host.root) if isinstance(value, str) else value

        about = {name: told(value) for name, value in ({"cwd": "{root}"} | self.about).items()}
        made = host.born(self.life, [told(word) for word in self.command], parent, **about)
        for _ in range(self.workers):
            host.born(self.life, made.command, made.pid, cwd=made.cwd, group=made.pid, session=made.pid)
        if self.tty:
            host.held[made.pid] = Handles(trusted=True, resolved=True, stdin=self.tty)
        if brings := host.lives[made.pid].brings:
            host.lives[made.pid].charge = KINDS[brings](host, made.pid).identity
        return made


class _Unit(_Kind):
    """A service that systemd starts again, in whose properties stands what it runs."""

    def __init__(self, name: str, runs: str) -> None:
        super().__init__(*SERVE, life=_OURS | {"unit": name}, cgroup=f"0::/system.slice/{name}\n")
        self.name, self.runs = name, runs

    def __call__(self, host: SimHost, parent: int) -> Process:
        del parent
        if self.name not in host.systemd.units:
            about = {"Id": self.name, "Restart": "always", "ExecStart": self.runs.format(root=host.root), "missed": ""}
            about["RestartSec"] = "0.5"
            host.systemd.units[self.name] = {**about, "ActiveState": "active", "SubState": "running"}
        return super().__call__(host, 1)


_OURS = {"workload": True}
_WORKLOAD = {
    "api": _Kind(*SERVE, life=_OURS, ports=frozenset({8000})),
    "training": _Kind(*TRAIN, workers=2, life=_OURS | {"writes": 0.4}),
    "deaf": _Kind(*TRAIN, life=_OURS | {"heeds": None}, masks=_DEAF),
    "slow": _Kind(*TRAIN, life=_OURS | {"heeds": 60, "writes": 0.3}),
    "forker": _Kind(*TRAIN, life=_OURS | {"forks": 1.5}),
    "elsewhere": _Kind("{root}/venv/bin/python", "{root}/src/train.py", "--mode", "full", life=_OURS, cwd="/"),
    "stood": _Kind(*TRAIN, life=_OURS, state="T"),
}
_NEIGHBOURS = {
    "other_training": _Kind(*TRAIN, cwd="/srv/other"),
    "database": _Kind("postgres", "-D", "/var/lib/pg", cwd="/var/lib/pg", executable="/usr/lib/postgresql/postgres"),
    "tail": _Kind("tail", "-f", "logs/train.log", executable="/usr/bin/tail"),
    "editor": _Kind("vim", "src/train.py", executable="/usr/bin/vim", terminal=True, tty="/dev/pts/0"),
    "shell": _Kind("-bash", executable="/usr/bin/bash", terminal=True, tty="/dev/pts/1"),
}
_RARE = {
    "renamed": _Kind("gunicorn: worker", life=_OURS | {"writes": 2}, executable="{root}/bin/serve", strange=True),
    "mystery": _Kind("/usr/bin/python3.11", "-c", "import job; job.run()", life=_OURS),
    "copier": _Kind("/opt/tools/packer", "--all", executable="/opt/tools/packer"),
    "keeper": _Kind("/opt/keeper", "--serve", life={"brings": "api"}, cwd="/", executable="/opt/keeper"),
    "late_keeper": _Kind(
        "/opt/keeper", "--late", life={"brings": "training", "delay": 8.0}, cwd="/", executable="/opt/keeper"
    ),
    "ml-api.service": _Unit("ml-api.service", "{{ argv[]={root}/venv/bin/python -m uvicorn api.app:app }}"),
    "start-all.service": _Unit("start-all.service", "{{ argv[]=/opt/bin/start-all }}"),
}
KINDS |= _WORKLOAD | _NEIGHBOURS | _RARE


def people(host: SimHost, rng: Random) -> None:
    """Let a drawn few live there, and more come later."""
    for name in (*rng.sample([*_NEIGHBOURS], rng.randint(0, 3)), *rng.sample([*_WORKLOAD], rng.randint(1, 3))):
        KINDS[name](host, 1)
    if rng.random() < 0.15:
        leader = KINDS["training"](host, 1)
        about = {"cwd": str(host.root), "session": leader.pid}
        host.born(_OURS, ("python", "-c", "work()"), 1, **about)  # its parent is gone
    for name in _RARE:
        if rng.random() < (0.25 if name == "start-all.service" else 0.12):
            KINDS[name](host, 1)
    for unit in host.systemd.units.values():
        unit["RestartSec"] = rng.choice(("0.1", "0.5", "6", "30"))
    for _ in range(rng.choice((0, 0, 1, 2))):
        host.later.append((host.clock.now + rng.uniform(0.2, 30), rng.choice(("training", "copier", "api"))))
