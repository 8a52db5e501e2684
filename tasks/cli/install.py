"""Install worker, guard and nightly doctor as units of systemd on a workload's host, and take them away again.

See docs/adr/0035.
"""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from socket import gethostname
from typing import Final, TypeAlias
from urllib.parse import quote

from blocks.workload_fields import WorkloadFields
from tasks.cli.next_step import Called
from tasks.cli.workloads import chosen, credentials
from tasks.custody.errors import EvacuationError, Refused
from tasks.custody.incident.description import STATE, place, read_tables
from tasks.custody.visible import say
from tasks.incident.current import at_work_or_left
from tasks.incident.directory import base_of, disks
from tasks.incident.layout import CORDON
from tasks.incident.run_lock import owner
from tasks.system.declarations import FOLDER, declaration
from tasks.system.files.atomic_files import write_whole
from tasks.system.files.ours import find_exposure
from tasks.system.files.shared_files import SHARED
from tasks.system.installation import ETC, NAME, PASSWORD, PROFILE, version
from tasks.system.unit_files import BOOTED, WORKER_UNIT, escape, is_as_written, is_stamped, stamp, unescape

Workloads: TypeAlias = Mapping[Called, WorkloadFields]

_UNITS: Final = SHARED / "examples/systemd"
_PROGRAM: Final = re.compile(r"/opt/evacuation/\.venv/bin/([a-z]+)")
"""How the units name a program of ours."""
_SYSTEM: Final = WORKER_UNIT.parent
_SETTINGS, _OF_SERVER = ETC / "worker.env", ETC / "server.env"
_DATABASE: Final = (Path("/var/lib/evacuation-server"), Path("/var/lib/private/evacuation-server"))
_API: Final = "http://127.0.0.1:4200/api"
_SLICE, _WORKER, _SERVER = "evacuation.slice", WORKER_UNIT.name, "evacuation-server.service"
_GUARD, _DOCTOR = "evacuation-guard@{}.service", "evacuation-doctor@{}.timer"
_DOCTORS: Final = "evacuation-doctor@{}.service"
OF_A_HOST: Final = (_SLICE, _WORKER, _GUARD.format(""), _DOCTOR.format(""), _DOCTORS.format(""))


def declare_by_hand(text: str, *, dry_run: bool) -> int:
    """Write what root declares of a file's workloads, and nothing else; with `dry_run` print it. Needs no systemd."""
    _require_root(dry_run=dry_run)
    here = _of_this_host(text)
    files = _stamp_all(_declarations(here))
    if dry_run:
        print(*(f"# {path}\n{content}" for path, content in files.items()), sep="\n")
        return 0
    _require_trusted(here)
    _write(files, ())
    say(*(f"declared 宣言済み: {called.name}. next: {called.command('status')}" for called in here))
    return 0


def install_by_hand(text: str, *, server: bool, dry_run: bool) -> int:
    """Write, enable and start the units of a file's workloads; with `dry_run` print them. May be repeated.

    The worker is restarted, which leaves its runs alone; a guard that stands is not. Raises Refused before anything is
    written, and EvacuationError if systemd refuses.
    """
    if not dry_run or not _UNITS.is_dir():
        _require_rights()
    here = _of_this_host(text)
    files = {_SYSTEM / name: render_unit(name) for name in (*OF_A_HOST, *([_SERVER] if server else []))}
    once = {_SETTINGS: _settings(), **({} if PASSWORD.exists() else _credentials(server=server))}
    files |= {path: text for path, text in once.items() if not path.exists()}
    files = _stamp_all(files | _declarations(here))
    commands = list(_to_start(here, server=server))
    if dry_run:
        print(*(f"# {path}\n{content}" for path, content in files.items()), *map(shlex.join, commands), sep="\n")
        return 0
    _require_trusted(here)
    _require_as_written(files)
    for called, workload in here.items():
        if purpose := owner(base_of(workload)):
            cure = f"Wait until it has ended, then run this again: {called.command('status')}"
            raise Refused("no run at work, under which its program would change", f"{called.name}: {purpose}", cure)
    _write(files, once)
    for command in commands:
        _tell(command)
    say(f"settings and secrets of the worker: {_SETTINGS}", *credentials())
    for called, workload in here.items():
        stands = at_work_or_left(workload)
        say(f"{called.name}: {stands}. Nothing of it was touched" if stands else f"next: {called.command('doctor')}")
    return 0


def _declarations(here: Workloads) -> dict[Path, str]:
    """Return the files that declare these workloads, without those that a person has changed."""
    files = {FOLDER / f"{quote(called.name, safe='')}.toml": declaration(each) for called, each in here.items()}
    return {path: text for path, text in files.items() if not path.exists() or is_as_written(path.read_text())}


def _stamp_all(files: Mapping[Path, str]) -> dict[Path, str]:
    return {path: stamp(content, f"{NAME} install {version()}") for path, content in files.items()}


def _write(files: Mapping[Path, str], private: Container[Path]) -> None:
    for path, content in files.items():
        if not path.exists() or path.read_text() != content:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_whole(path, content.encode(), 0o600 if path in private else 0o644)
            say(f"wrote {path}")


def uninstall_by_hand() -> int:
    """Stop and disable what was installed, and remove it. The server's database stays, and what a person has changed.

    Raises Refused before anything is touched while an incident of an installed workload is open or its cordon stands.
    """
    _require_rights()
    instances = sorted({link.name for link in _SYSTEM.glob("*.wants/evacuation-*@*")})
    _require_over(instances)
    places = (_SETTINGS, PASSWORD, PROFILE, *sorted(FOLDER.glob("*.toml")), *sorted(_SYSTEM.glob("evacuation*")))
    found = [path for path in places if path.is_file()]
    ours = {path.name for path in found if is_stamped(path.read_text())}
    if units := [name for name in (_WORKER, _SERVER, *instances) if re.sub(r"@.*\.", "@.", name) in ours]:
        _tell(["systemctl", "disable", "--now", *units])
    if _DOCTORS.format("") in ours:
        _tell(["systemctl", "stop", _DOCTORS.format("*")])
    changed = [path for path in found if not is_as_written(path.read_text())]
    used = any(path.suffix == ".service" for path in changed)
    for path in found:
        if path not in changed and not (used and path.name == _SLICE):
            path.unlink()
            say(f"removed {path}")
    if _WORKER in ours or not (_SYSTEM / _WORKER).exists():  # one by hand is at work
        shutil.rmtree(STATE / "prefect", ignore_errors=True)
    for folder in (STATE, FOLDER, ETC):
        with suppress(OSError):  # there is something of a person's in it
            folder.rmdir()
    for verb in (["daemon-reload"], ["reset-failed", "evacuation*"]):
        _tell(["systemctl", *verb])
    for path in (*changed, *_SYSTEM.glob("evacuation*.d"), *_DATABASE):
        if path.exists():
            say(f"left: rm -r {shlex.quote(str(path))}")
    return 0


def _of_this_host(text: str) -> Workloads:
    read_tables(Path(place(text)[0]))  # a folder without a file has no store that a unit would know
    found = {called: workload for called, workload in chosen(text).items() if workload.host == gethostname()}
    if not found:
        raise Refused(f"a workload with host = {gethostname()!r} in {text}", "none", "Run it on the workload's host.")
    return {Called(each.name, os.path.abspath(each.file), each.store): found[each] for each in found}  # noqa: PTH100


def render_unit(name: str) -> str:
    """Return a unit of examples/systemd with the programs of this installation."""
    folder = Path(sys.executable).parent
    text = (_UNITS / name).read_text()
    return _PROGRAM.sub(lambda found: shlex.quote(str(folder / found[1])).replace("%", "%%"), text)


def _settings() -> str:
    return f"""\
# Settings and secrets of the worker and of the nightly doctor. After a change: systemctl restart {_WORKER}
PREFECT_API_URL={os.environ.get("PREFECT_API_URL", _API)}
#AWS_PROFILE=
"""


def _credentials(*, server: bool) -> dict[Path, str]:
    """Return the files with the API's password: what a person has set, else this shell's, else one for a new server."""
    texts = "".join(path.read_text() for path in (_OF_SERVER, _SETTINGS) if os.access(path, os.R_OK))
    found = re.search(r"^PREFECT_(?:SERVER_)?API_AUTH_STRING=[\"']?([^\"'\n]+)", texts, re.MULTILINE)
    password = found[1] if found else os.environ.get("PREFECT_API_AUTH_STRING", "")
    if not password and server:
        password = f"{NAME}:{secrets.token_urlsafe(32)}"
    names = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")
    profile = {"PREFECT_API_URL": os.environ.get("PREFECT_API_URL", _API), names[1]: password}
    settings = "".join(f"{name} = {json.dumps(value)}\n" for name, value in profile.items())
    files = {
        PASSWORD: "".join(f"{name}={password}\n" for name in names),
        PROFILE: f'active = "{NAME}"\n[profiles.{NAME}]\n{settings}',
    }
    return files if password else {}


def _to_start(here: Workloads, *, server: bool) -> Iterator[list[str]]:
    units = [_SERVER, _WORKER] if server else [_WORKER]
    guards = [_GUARD.format(escape(folder)) for workload in here.values() for folder in disks(workload)]
    doctors = [_DOCTOR.format(escape(Path(called.file))) for called in here]
    yield ["systemctl", "daemon-reload"]
    yield ["systemctl", "enable", *units, *guards]
    yield ["systemctl", "restart", *units]
    yield ["systemctl", "enable", "--now", *doctors]


def _tell(command: Sequence[str]) -> None:
    """Run a command. Raises EvacuationError with what it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        expected, state = f"{shlex.join(command)} to succeed", "What was written is left as it is."
        raise EvacuationError(expected, done.stderr.strip(), state, "Cure that, then run this again.")


def _require_rights() -> None:
    if not BOOTED.is_dir():
        cure = (
            "Have your own supervisor keep `evacuation worker` running. In a container nothing is installed: the "
            "image's command is the worker, and its engine restarts it (docs/setup.md, 'Accounts and containers'). "
            f"To declare the workload alone: {NAME} install FILE --declare."
        )
        raise Refused("a host that systemd has booted", f"no {BOOTED}", cure)
    _require_root(dry_run=False)


def _require_root(*, dry_run: bool) -> None:
    if os.geteuid() and not dry_run:
        raise Refused("root", f"user {os.geteuid()}", f"Run it as root; {NAME} install --dry-run shows what it does.")


def _require_trusted(here: Workloads) -> None:
    """Refuse what another account could change: root will run it, and do as the file says."""
    files = {Path(called.file.removesuffix(f":{called.name}")) for called in here}
    for path in (Path(sys.executable), Path(sys.executable).resolve(), Path(__file__), *files):
        if strange := find_exposure(path, 0):
            cure = "Install the wheel as root (pipx install --global), and keep the file in /etc/evacuation."
            raise Refused("programs and a file that only root can change", f"{path} lies in {strange}", cure)


def _require_as_written(files: Mapping[Path, str]) -> None:
    if changed := [str(path) for path in files if path.exists() and not is_as_written(path.read_text())]:
        cure = "Move your changes into drop-ins (systemctl edit UNIT), which stay; remove the files; run this again."
        raise Refused("files as install writes them", f"changed, or by hand: {', '.join(changed)}", cure)


def _require_over(instances: Sequence[str]) -> None:
    """Refuse while an incident of an installed workload is open, or a cordon stands, also of one no file names now."""
    for name, file in _instances_of(_DOCTOR, instances):
        try:
            found = chosen(str(file))
        except Refused as error:
            cure = f"Put it back; or, if nothing of it is cordoned, systemctl disable --now {shlex.quote(name)}."
            raise Refused("the file of an installed workload", error.got, cure) from error
        for called, workload in found.items():
            if stands := at_work_or_left(workload):
                cure = f"End it first, as this says, then run this again: {called.command('status')}"
                raise Refused("no open incident and no cordon", f"{called.name}: {stands}", cure)
    for _, folder in _instances_of(_GUARD, instances):
        if (marker := Path(folder, CORDON)).exists():
            cure = f"Put its workload back into a file, then: {NAME} status FILE; {NAME} uncordon FILE."
            raise Refused("no open incident and no cordon", f"a cordon stands: {marker}", cure)


def _instances_of(unit: str, instances: Sequence[str]) -> Iterator[tuple[str, PurePath]]:
    """Yield the instances of a unit, and the paths that they are named by."""
    before, after = unit.split("{}")
    for name in instances:
        if name.startswith(before):
            yield name, unescape(name.removeprefix(before).removesuffix(after))
