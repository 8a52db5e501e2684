"""Read what starts programs on this host: cron, at, enabled units, supervisors' configurations, and scripts.

Each file is opened without following a link or waiting, must be a regular file of an account that may write there, and
is read up to a limit. How many are read is limited too; whoever calls this limits the time.
"""

import os
import pwd
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from tasks.host.process.process import Process
from tasks.host.starter import Names, Starter, StarterKind, entry
from tasks.system.files.open_beneath import open_regular_at

_MOST: Final = 1 << 16
_SCRIPT: Final = 1 << 14
_FILES: Final = 500
_WORDS: Final = 8
_OFTEN: Final = "etc/cron.hourly/* etc/cron.daily/* etc/cron.weekly/* etc/cron.monthly/*"
_SUPERVISOR: Final = "etc/supervisord.conf etc/supervisor/supervisord.conf etc/supervisor/conf.d/* etc/supervisord.d/*"
_PLACES: Final = (
    (StarterKind.CRON, "sudoedit {path}", "etc/crontab etc/anacrontab etc/cron.d/*"),
    (StarterKind.CRON, "chmod -x {path}", _OFTEN),
    (StarterKind.CRON, "crontab -u {file} -e", "var/spool/cron/crontabs/* var/spool/cron/*"),
    (StarterKind.AT, "atrm {job}", "var/spool/cron/atjobs/* var/spool/at/*"),
    (StarterKind.CONFIGURED, "supervisorctl stop {name}", _SUPERVISOR),
    (StarterKind.CONFIGURED, "circusctl stop {name}", "etc/circus/*.ini etc/circus/conf.d/*"),
    (StarterKind.CONFIGURED, "sv down {folder}", "etc/service/*/run"),
)
_UNITS: Final = (("etc/systemd/system", "systemctl"), ("etc/systemd/user", "systemctl --global"))
_JOB: Final = re.compile(r"[a-z][0-9a-f]{13}")


@dataclass(frozen=True)
class LaunchPlaces:
    """Where to look: the folder that stands for `/`, and the accounts' homes by their user ids."""

    base: Path
    homes: Mapping[int, Path]


def places_of(users: Iterable[int]) -> LaunchPlaces:
    """Return the places of this host, with the homes of these accounts."""
    homes = dict[int, Path]()
    for user in users:
        with suppress(KeyError):
            homes[user] = Path(pwd.getpwuid(user).pw_dir)
    return LaunchPlaces(Path("/"), homes)


class Reading:
    """What was found so far: `entries` that name the workload, and `unread` places that may not be read."""

    def __init__(self, names: Names, units: Collection[str] = ()) -> None:
        """Take what names the workload, and its services that a cordon keeps down."""
        self._names, self._spared = names, units
        self.entries: list[Starter] = []
        self.unread: dict[str, None] = {}

    def look(self, places: LaunchPlaces) -> None:
        """Read all places."""
        for kind, cure, patterns in _PLACES:
            for pattern in patterns.split():
                self._look_into(places.base, pattern, kind, cure)
        for folder, call in _UNITS:
            self._look_for_units(places.base / folder, call, 0)
        for user, home in places.homes.items():
            self._look_into(home, ".pm2/dump.pm2", StarterKind.CONFIGURED, "pm2 stop NAME; pm2 save", user)
            self._look_for_units(home / ".config/systemd/user", "systemctl --user", user)

    def _look_into(self, base: Path, pattern: str, kind: StarterKind, cure: str, user: int = 0) -> None:
        for path in self._list(base, pattern):
            job = int(path.name[1:6], 16) if _JOB.fullmatch(path.name) else path.name
            text = self._read(path, {user}, spooled="spool" in pattern)
            cured = cure.format(path=path, file=path.name, folder=path.parent.name, job=job, name="{name}")
            self.entries += entry(kind, str(path), text, self._names, cured)

    def _look_for_units(self, folder: Path, call: str, user: int) -> None:
        """Find the enabled services that name the workload, or whose timer is enabled."""
        links = {path.name for kind in ("wants", "requires", "upholds") for path in self._list(folder, f"*.{kind}/*")}
        woken = dict[str, str]()
        for timer in (path for path in self._list(folder, "*.timer") if path.name in links):
            named = re.search(r"^Unit=(\S+)", self._read(timer, {user}), re.MULTILINE)
            woken[named[1] if named else f"{timer.stem}.service"] = timer.name
        enabled = links | {re.sub(r"@.*\.", "@.", name) for name in links} | woken.keys()
        for path in self._list(folder, "*.service"):
            if path.name in enabled and path.name not in self._spared and not path.name.startswith("evacuation"):
                stop = f"{call} disable --now {woken.get(path.name, path.name)}"
                self.entries += entry(StarterKind.ENABLED, str(path), self._read(path, {user}), self._names, stop)

    def _list(self, base: Path, pattern: str) -> list[Path]:
        """Return the files and links that a pattern names; of a file system that does not answer, none."""
        folder = (base / pattern.partition("*")[0] / "x").parent
        with self._noting(folder):
            if stat.S_ISDIR(folder.stat().st_mode) and not os.access(folder, os.R_OK | os.X_OK):
                raise PermissionError(folder)
            found = (path for path in islice(base.glob(pattern), _FILES) if not path.name.startswith("."))
            return sorted(path for path in found if path.is_symlink() or not os.path.isdir(path))  # noqa: PTH112  a refusal is named when it is read
        return []

    def _read(self, path: Path, owners: AbstractSet[int], *, spooled: bool = False) -> str:
        """Return the beginning of a file of one of these accounts; of a link only where it leads."""
        with self._noting(path):
            owned = owners | {_account(path)} if spooled else owners
            return str(path.readlink()) if path.is_symlink() else _text(str(path), owned)
        return ""

    @contextmanager
    def _noting(self, path: Path) -> Iterator[None]:
        """Note a path that may not be read, and go on; what is not there is nothing."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError:
            self.unread[str(path)] = None


def _account(path: Path) -> int:
    """Return whose file of a spool it is: a crontab is named after its account, an at job is its owner's."""
    with suppress(KeyError):
        return pwd.getpwnam(path.name).pw_uid
    return path.lstat().st_uid if _JOB.fullmatch(path.name) else 0


def _text(path: str, owners: Collection[int], anybody: int = 0) -> str:
    """Return the beginning of a regular file of these accounts, or of one with a bit of `anybody` in its mode."""
    descriptor = open_regular_at(path)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not (status.st_uid in owners or status.st_mode & anybody):
            raise PermissionError(path)
        return file.read(_MOST).decode(errors="replace")


def named_texts(process: Process) -> str:
    """Return the files that a process names in its command line, as it sees them: scripts, configurations.

    A file that its account may not read is not read for it.
    """
    found, at = list[str](), f"/proc/{process.pid}"
    for word in process.command[1:_WORDS]:
        with suppress(OSError, ValueError):
            path = f"{at}/root{word}" if word.startswith("/") else f"{at}/cwd/{word}"
            found.append(_text(path, {process.user}, stat.S_IROTH)[:_SCRIPT])
    return "\n".join(found)


def on_terminal(process: Process) -> bool:
    """Return whether the process reads from a terminal."""
    with suppress(OSError):
        return str(Path(f"/proc/{process.pid}/fd/0").readlink()).startswith(("/dev/pts/", "/dev/tty"))
    return False


def is_kept_down(process: Process) -> bool:
    """Return whether the supervisor of a single service (runsv) was told to keep it down, by a file of root's."""
    with suppress(OSError):
        return _text(f"/proc/{process.pid}/cwd/supervise/stat", {0}).startswith("down")
    return False
