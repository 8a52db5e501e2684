"""Read how the API runs, so that a recovery starts it so again. Its secrets go into a private file alone.

See docs/adr/0048.
"""

import os
import re
import resource
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import psutil

from blocks.workload_fields import WorkloadFields
from tasks.acquisition.procfs import fields
from tasks.custody.containment.identity import Held, Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.redact import redact
from tasks.custody.visible import visible
from tasks.evidence.group_limits import Place, limits_of, places_of, tell_changes
from tasks.host.cgroup.ownership import INCIDENT_PREFIX
from tasks.host.detached_process import place_of_scope
from tasks.host.process.membership import Member
from tasks.host.process.table import get_process
from tasks.host.rights import effective_capabilities
from tasks.system.accounts import groups_of
from tasks.system.kernel_tables import ENVIRONMENT, read_kernel, read_table

_AT_SECURE: Final = 23
_ENDLESS: Final = 1 << 64
_NICE_RIGHT: Final = 1 << 23
_SCORE_RIGHT: Final = 1 << 24
_NAMESPACES: Final = ("ipc", "mnt", "net", "pid", "user", "uts")
_CONDITIONS: Final = "conditions"
_MOST: Final = 16
_SHELLS_OWN: Final = frozenset({"_", "OLDPWD", "PWD", "SHLVL"})
_GROUP: Final = "limits of its control group"
_OF_EACH_START: Final = re.compile(
    r"INVOCATION_ID|JOURNAL_STREAM|(SYSTEMD_EXEC_|MAIN|MANAGER|LISTEN_|WATCHDOG_)PID|.*PIDFDID|TRIGGER_\w+"
)
"""Variables of which systemd.exec(5) says that they name this one start."""


def read_starts(members: Mapping[Identity, Member | Frozen], moved: Sequence[Held] = ()) -> list[dict[str, Any]]:
    """Return how those of the API run, the oldest first, without those that may not be read or are in a container.

    `moved` says from which control groups the incident has moved processes into its own. Of many, those come first that
    no other of them has started.
    """
    found, apis = list[dict[str, Any]](), [identity for identity, each in members.items() if each.role == "api"]
    above, pids = {each: _parent_of(each.pid) for each in apis}, {each.pid for each in apis}
    first = sorted(apis, key=lambda each: (above[each] in pids, each.start))[:_MOST]
    for identity in sorted(first, key=lambda identity: identity.start):
        with suppress(psutil.Error, OSError, ValueError, LookupError, struct.error):
            at, there, process = Path(f"/proc/{identity.pid}"), get_process(identity), psutil.Process(identity.pid)
            rows = fields((at / "status").read_text(errors="replace"))
            block = read_kernel(f"{at}/environ", ENVIRONMENT)  # a process decides how long it is
            words = [word.split("=", 1) for word in os.fsdecode(block).split("\0") if word.find("=") > 0]
            start = {
                "pid": identity.pid,
                "parent": above[identity],
                "command": [*(there.command if there else ())],
                "variables": dict(reversed(words)),
                "accounts": [*process.uids()],
                "setuid": dict(struct.iter_unpack("NN", (at / "auxv").read_bytes())).get(_AT_SECURE, 1),
                "folder": process.cwd(),
                "umask": int(rows["Umask"], 8),
                "nice": process.nice(),
                "limits": _limits(at),
                _CONDITIONS: _conditions(at, rows, _former_places(identity, above[identity], moved)),
                "outputs": [_output(at, number) for number in (1, 2)],
                "serves": psutil.CONN_LISTEN in {each.status for each in process.net_connections()},
            }
            if there and not there.container and get_process(identity) and len(block) < ENVIRONMENT:
                found.append(start)
    return found


def _parent_of(pid: int) -> int:
    with suppress(psutil.Error):
        return psutil.Process(pid).ppid()
    return 0


def _former_places(identity: Identity, parent: int, moved: Sequence[Held]) -> list[Place]:
    """Return the control groups of a process, that of version 2 from before the incident moved it.

    Of one that was moved in a hurry, or born there, it is that of its parent, or else any that it may be.
    """
    places = places_of(read_table(f"/proc/{identity.pid}/cgroup"))
    if not any(f"/{INCIDENT_PREFIX}" in path for hierarchy, path in places if not hierarchy):
        return places
    rows = [(row.identity, row.group) for row in moved if row.identity]
    own = [group for each, group in rows if each == identity]
    above = [group for each, group in rows if each.pid == parent]
    former = own or above or [group for _, group in rows] or [".."]  # which nobody can read
    return [*(each for each in places if each[0]), *(("", group) for group in former)]


def _conditions(at: Path, rows: Mapping[str, str], places: Sequence[Place]) -> dict[str, Any]:
    """Return what else a process runs under, by a name for people: by it a start that gives less is told.

    A kernel may lack namespaces.
    """
    there = [name for name in _NAMESPACES if os.path.lexists(f"/proc/self/ns/{name}")]
    return {
        "account": [*map(int, rows["Uid"].split())],
        "group": [*map(int, rows["Gid"].split())],
        "groups": sorted(map(int, rows["Groups"].split())),
        "capabilities": rows["CapEff"],
        "no_new_privs": rows.get("NoNewPrivs", ""),
        "seccomp": rows.get("Seccomp", ""),
        "processors": rows.get("Cpus_allowed_list", ""),
        "memory nodes": rows.get("Mems_allowed_list", ""),
        "oom_score_adj": (at / "oom_score_adj").read_text().strip(),
        "namespaces": [name for name in there if (at / f"ns/{name}").readlink() != _usual(name)],
        "root of its files": str((at / "root").readlink()),
        _GROUP: limits_of(places),
    }


def _usual(namespace: str) -> Path:
    """Return the namespace of the host's first process: its number lasts no longer than the boot. Or else our own."""
    with suppress(PermissionError):
        return Path(f"/proc/1/ns/{namespace}").readlink()
    return Path(f"/proc/self/ns/{namespace}").readlink()


def _limits(at: Path) -> list[tuple[str, ...]]:
    """Return name, soft and hard value of each limit, -1 for none, in the order of the kernel's numbers."""
    lines = (at / "limits").read_text().replace("unlimited", "-1").splitlines()[1:]
    return [(line[:26].strip(), *line[26:].split()[:2]) for line in lines]


def _output(at: Path, number: int) -> str:
    """Return the path of what is open to be written; empty if it has none. The file is not asked: it may not answer."""
    with suppress(FileNotFoundError):
        path, flags = str((at / f"fd/{number}").readlink()), (at / f"fdinfo/{number}").read_text().split()[3]
        if path.startswith("/") and not path.endswith(" (deleted)") and int(flags, 8) & os.O_ACCMODE:
            return path
    return ""


def former(starts: Iterable[Mapping[str, Any]], user: int, block: WorkloadFields) -> Mapping[str, Any]:
    """Return whose place the block's command takes, which root starts as `user`, anybody else as itself; or nothing.

    Only what ran as that account counts: another's variables are another's word. First comes what ran this very
    command, then what serves, then the oldest.
    """
    own = [each for each in starts if {*each["accounts"]} == {os.geteuid() or user} and not each["setuid"]]
    return first_of(own, block)


def first_of(starts: Iterable[Mapping[str, Any]], block: WorkloadFields) -> Mapping[str, Any]:
    """Return what ran the block's command, or else what serves, or else the oldest; or nothing."""
    return min(starts, key=lambda each: (each["command"] != block.api_command, not each["serves"]), default={})


def lacking(starts: Sequence[Mapping[str, Any]], user: int, block: WorkloadFields) -> list[str]:
    """Return by name, and no value, what a start as `user` lacks: another account's variables, limits of root's.

    Also each other condition that such a start would not give back.
    """
    was, ours = former(starts, user, block), _limits(Path("/proc/self"))
    rows = [row for each in starts for row in zip(each["limits"], ours, strict=True) if os.geteuid() or not was]
    limits = {name for (name, _, hard), (*_, most) in rows if int(hard) % _ENDLESS > int(most) % _ENDLESS}
    variables = {name for each in starts for name in each["variables"] if not was} - block.api_environment.keys()
    kept = was or first_of(starts, block)
    others = _other_conditions(kept, _foresee(kept, user, is_given=bool(was))) if _CONDITIONS in kept else []
    return [*(redact(name) for name in (*sorted(variables), *sorted(limits))), *others]


def _foresee(was: Mapping[str, Any], user: int, *, is_given: bool) -> dict[str, Any]:
    """Return the conditions that a start as `user` would have, as `tasks.system.start_as` makes them of ours."""
    here, kept = Path("/proc/self"), was[_CONDITIONS]
    rows = fields((here / "status").read_text())
    places = place_of_scope(places_of(read_table(here / "cgroup")))
    ours, nice = _conditions(here, rows, places), max(0, os.getpriority(os.PRIO_PROCESS, 0))
    score, allowed = max(0, int(ours["oom_score_adj"])), effective_capabilities()
    if is_given and (int(kept["oom_score_adj"]) >= score or allowed & _SCORE_RIGHT):
        score = int(kept["oom_score_adj"])
    ours |= {"oom_score_adj": str(score), "root of its files": "/"}
    if os.geteuid():
        ours["capabilities"] = rows["CapAmb"]
    elif is_given or user:
        groups = groups_of(user)
        ours |= {"account": [user] * 4, "group": groups[:1] * 4, "groups": sorted(groups)}
        ours |= {name: kept[name] for name in ("group", "groups") if is_given}
        if user:
            ours["capabilities"] = "0" * len(ours["capabilities"])
    if was["setuid"]:  # its program's file gives it these again
        ours |= {name: kept[name] for name in ("account", "group", "capabilities")}
    least = 20 - resource.getrlimit(resource.RLIMIT_NICE)[0]
    if is_given and (was["nice"] >= min(nice, least) or allowed & _NICE_RIGHT):
        nice = was["nice"]
    return {"umask": was["umask"] if is_given else int(rows["Umask"], 8), "nice": nice, _CONDITIONS: ours}


def differing(
    was: Mapping[str, Any], now: Mapping[str, Any], block: WorkloadFields, *, is_given: bool = True
) -> list[str]:
    """Return by name, and no secret value, what a process that was started does not have as it was kept.

    If that was given to it, another value of a variable is its program's own word: a wrapper makes some.
    """
    before, after = was["variables"], now["variables"]
    gone = before.keys() - after.keys() if is_given else {name for name in before if before[name] != after.get(name)}
    gone -= block.api_environment.keys()
    folder = ["folder"] if was["command"] == block.api_command and was["folder"] != now["folder"] else []
    return [*map(redact, sorted(gone)), *_other_limits(was, now), *folder, *_other_conditions(was, now)]


def differing_in_unit(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return by name, and no secret value, what systemd has started otherwise than it was kept: its unit was changed.

    What systemd gives anew to each start does not count.
    """
    before, after = was["variables"], now["variables"]
    others = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    names = sorted(name for name in others if not _OF_EACH_START.fullmatch(name))
    folder = ["folder"] if was["folder"] != now["folder"] else []
    return [*map(redact, names), *_other_limits(was, now), *folder, *_other_conditions(was, now)]


def differing_beside(was: Mapping[str, Any], now: Mapping[str, Any], block: WorkloadFields) -> list[str]:
    """Return by name what a process that the start was not for does not have as it was kept: values, folder, outputs.

    What a shell between notes of itself does not count.
    """
    variables = {name: value for name, value in was["variables"].items() if name not in _SHELLS_OWN}
    outputs = [path for path, there in zip(was["outputs"], now["outputs"], strict=True) if path not in {"", there}]
    folder = ["folder"] if was["folder"] != now["folder"] else []
    lost = [visible(f"output {redact(path)}") for path in outputs if path != os.devnull]
    names = differing({**was, "variables": variables}, now, block, is_given=False)
    return [*dict.fromkeys([*names, *folder, *lost])]


def _other_limits(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [name for (name, *values), row in zip(was["limits"], now["limits"], strict=True) if [*row[1:]] != values]


def _other_conditions(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    if _CONDITIONS not in was:
        return ["conditions that were not kept, as its groups"]
    kept, there = was[_CONDITIONS], now[_CONDITIONS]
    others = {name for name in kept if name != _GROUP and kept[name] != there.get(name)}
    groups = tell_changes(kept[_GROUP], there[_GROUP]) if _GROUP in kept else [f"{_GROUP}, which were not kept"]
    lost = ", ".join(str(each) for each in kept["groups"] if each not in there["groups"])
    plain = [name for name in ("umask", "nice") if was[name] != now[name]]
    more = [f"groups {lost}" if name == "groups" and lost else name for name in kept if name in others]
    return [*plain, *more, *groups]
