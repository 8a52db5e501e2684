"""Read processes from /proc. Unreadable fields are empty."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tasks.custody.containment.identity import NOBODY, Identity
from tasks.custody.containment.place import Place
from tasks.host.cgroup.ownership import unit_of
from tasks.host.cgroup.standpoint import Standpoint
from tasks.host.process.handles import FileId
from tasks.host.process.known_programs import runs_prefect, tells
from tasks.host.process.places import Places, file_id
from tasks.host.process.process import Listener, Masks, Process, ancestry
from tasks.system.kernel_tables import ENVIRONMENT, LARGEST, read_kernel
from tasks.system.look_budget import TooMuchWork

_NAME: Final = -1
_TERMINAL: Final = 4
_THREADS: Final = 17  # by place in what `_stat` returns
_KERNEL_THREAD: Final = 0x00200000
_FORKED: Final = 0x00000040  # PF_FORKNOEXEC: forked, and no exec since
_ASKED: Final = re.compile(rb"^(Tgid|Uid|FDSize|SigBlk|SigIgn|SigCgt|ShdPnd):\t(\w+)", re.MULTILINE)
_STANDS: Final = frozenset({b"T", b"t", b"Z", b"X"})
_TURNS: Final = 32
_MOST: Final = 512
_MOST_BYTES: Final = 1 << 17
_MOST_WORDS: Final = 1024
_FEW_FILES: Final = 256
_TOGETHER: Final = 32
_RELAY_SECONDS: Final = 0.02
GONE: Final = (FileNotFoundError, ProcessLookupError)


def boot_id() -> str:
    """Return the kernel's id of this boot: pids and start times are valid within one boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_of(pid: int) -> int:
    """Return the start time of a process in clock ticks since boot. Raises ProcessLookupError if it has ended."""
    try:
        return int(_stat(pid)[19])
    except GONE as error:
        raise ProcessLookupError(pid) from error


def ticks() -> int:
    """Return the current time in clock ticks since boot, as the kernel counts process starts."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def began() -> datetime:
    """Return when this process was started, by the host's clock."""
    return began_at(start_of(os.getpid()))


def began_at(start: int) -> datetime:
    """Return the time by the host's clock of `start`, given in clock ticks since boot."""
    return datetime.now(UTC) - timedelta(seconds=age_of(start))


def age_of(start: int) -> float:
    """Return the seconds since `start`, given in clock ticks since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")


def flow_run_of(pid: int) -> str:
    """Return the Prefect flow run that a process was started for; empty if none, or if that is not readable."""
    run = variable_of(pid, "PREFECT__FLOW_RUN_ID") or ""
    return run if re.fullmatch(r"[0-9a-f-]{36}", run) else ""


def variable_of(pid: int, name: str) -> str | None:
    """Return a variable of the environment with which a process was started; empty if unset, or if it has ended.

    None if a living process does not let us read it, or if it is not in the first 256 KiB.
    """
    start = f"{name}=".encode()
    try:
        text = _bytes(place_of(pid), "environ", ENVIRONMENT)
    except PermissionError:
        return None
    except OSError:
        return ""
    missing = "" if len(text) < ENVIRONMENT else None
    rows = (row for row in text.split(b"\0") if row.startswith(start))
    return next((row.removeprefix(start).decode(errors="replace") for row in rows), missing)


def listeners(ports: frozenset[int]) -> dict[str, int]:
    """Return the listening sockets of these TCP ports, by their name among a process's open files."""
    return {name: port for name, port, _ in list_listening(ports)}


def owners(port: int) -> list[Listener]:
    """Return the listeners on a TCP port with their processes; without a process if its files are not readable."""
    sockets = {name: user for name, _, user in list_listening(frozenset({port}))}
    found, seen = [], set[str]()
    for pid in (int(name) for name in os.listdir("/proc") if name.isdigit() and sockets):
        if held := sockets.keys() & set(list_open(place_of(pid))):
            seen |= held
            if process := read_process(pid):
                found.append(Listener(process.user, process))
    return [*found, *(Listener(user) for name, user in sockets.items() if name not in seen)]


def unseen_listeners() -> dict[int, int]:
    """Return the TCP ports, with the uid of their socket, on which a process listens whose files we may not read."""
    seen = {name for pid in os.listdir("/proc") if pid.isdigit() for name in list_open(place_of(int(pid)))}
    return {port: user for name, port, user in list_listening() if name not in seen}


def ports_of(pids: Iterable[int]) -> frozenset[int]:
    """Return the TCP ports on which these processes listen, as far as their files are readable."""
    listening = {name: port for name, port, _ in list_listening()}
    return frozenset(port for pid in pids for port in _ports(place_of(pid), listening))


def list_listening(ports: frozenset[int] | None = None, where: int | str = "self") -> Iterator[tuple[str, int, int]]:
    """Yield name, port and uid of each socket that listens on these ports; on any if none are given.

    Read from the tables of a process, which hold numbers alone, all of them the kernel's.
    """
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path(f"/proc/{where}/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                port = int(words[1].rpartition(":")[2], 16)
                if words[3] == "0A" and (ports is None or port in ports):  # TCP_LISTEN
                    yield f"socket:[{words[9]}]", port, int(words[7])


def untouchable(snapshot: Mapping[int, Process], environment: Mapping[str, str] = os.environ) -> set[int]:
    """Return the pids never touched: pid 1, ourselves, our ancestors, and the Prefect server that we use on this host.

    No name protects: any program can call itself Prefect. The server is root's or our own account's. Our descendants
    are not among them: a training that is launched to try the cordon is one.
    """
    kept = {1, os.getpid()} | ancestry(snapshot, [os.getpid()])
    with suppress(ValueError):
        if port := urlsplit(environment.get("PREFECT_API_URL", "")).port:
            sockets = listeners(frozenset({port}))
            near = [(pid, process) for pid, process in snapshot.items() if sockets and not process.foreign]
            prefects = (pid for pid, process in near if runs_prefect(process))
            return kept | {pid for pid in prefects if _ports(pid, sockets)}
    return kept


def read_processes(ports: frozenset[int], places: Places | None = None) -> dict[int, Process]:
    """Read every process once, which listen on these ports, and their `places`. Leaves out those that end meanwhile."""
    listening = listeners(ports) if ports else None
    found = (read_process(int(name), listening, places) for name in os.listdir("/proc") if name.isdigit())
    return {process.pid: process for process in found if process}


def is_part(snapshot: Mapping[int, Process]) -> bool:
    """Return whether the look had no time to read all of each process, or could not."""
    return any(process.unread for process in snapshot.values())


class ProcessTable:
    """The processes of the host, read again where something has changed: a guard looks several times a second.

    A process counts as unchanged while /proc/PID/stat shows the same start, parent, groups, name and stop. One may
    change its working directory or its program without that: each is read anew at the latest every 32 looks.
    """

    def __init__(self, ports: frozenset[int], places: Places) -> None:
        """Take what `read_processes` takes."""
        self._ports, self._places = ports, places
        self._known: dict[int, tuple[tuple[bytes, ...], Process]] = {}
        self._turn = 0

    def look(self, changing: Callable[[Process], bool]) -> dict[int, Process]:
        """Return all processes by pid. Those of which `changing` is true are read anew in any case."""
        listening = listeners(self._ports) if self._ports else None
        self._places.forget()
        self._turn += 1
        found: dict[int, tuple[tuple[bytes, ...], Process]] = {}
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            sign, known = _sign_of(pid), self._known.get(pid)
            is_read = known and not known[1].unread and (pid + self._turn) % _TURNS
            if known and is_read and sign and known[0] == sign and not changing(known[1]):
                found[pid] = known
            elif process := read_process(pid, listening, self._places):
                found[pid] = sign, process
        self._known = found
        return {pid: process for pid, (_, process) in found.items()}


def _sign_of(pid: int) -> tuple[bytes, ...]:
    """Return what of a process's line in /proc tells that it is another, or another program; nothing if unreadable."""
    with suppress(OSError):
        name, _, rest = _bytes(pid, "stat").rpartition(b")")
        words = rest.split(None, 20)
        forked = b"f" if int(words[6]) & _FORKED else b""
        return name, words[0] if words[0] in _STANDS else b"", words[1], words[2], words[3], words[19], forked
    return ()


def get_process(identity: Identity, places: Places | None = None) -> Process | None:
    """Return one process; None if it has ended or its pid was reused."""
    process = read_process(identity.pid, None, places)
    return process if process and process.identity == identity else None


def read_process(pid: int, listening: Mapping[str, int] | None = None, places: Places | None = None) -> Process | None:
    """Return one process from /proc; None if it has ended, or the id is a thread's.

    Of one whose reading fails, `unread` says why, and only what can be read is known. No error of one ends a look.
    """
    try:
        return _read_process(pid, listening, places)
    except Exception as error:  # noqa: BLE001  whatever its account has put there, all others are looked at
        known: Process | None = Process(Identity(pid, NOBODY.start), 0, "R")
        with suppress(Exception):
            known = Process(Identity(pid, int(_stat(pid)[19])), 0, "R")
        with suppress(Exception):
            known = _read_process(pid)
        return known and replace(known, placeless=True, places=frozenset(), unread=f"{type(error).__name__}: {error}")


def _read_process(pid: int, listening: Mapping[str, int] | None = None, places: Places | None = None) -> Process | None:
    with suppress(*GONE, PermissionError):
        stat = _stat(pid)
        if int(stat[6]) & _KERNEL_THREAD:
            return Process(Identity(pid, int(stat[19])), int(stat[1]), stat[0], places=frozenset())
        for where, state in _places(pid, stat):
            with suppress(*GONE):
                process = _read_at(where, state, stat, listening, places)
                if where == pid:
                    if process and _is_headless(stat) and _is_headless(_stat(pid)):  # its own pid shows nothing
                        why = "its main thread has exited, and none of its threads lived long enough to be read"
                        process = replace(process, placeless=True, unread=process.unread or why)
                    return process
                # A thread that has ended meanwhile has shown less than there is.
                if process and (_link(where, "exe") or _is_denied(where)):
                    return process
    return None


def _read_at(
    where: int | str, state: str, stat: Sequence[str], listening: Mapping[str, int] | None, places: Places | None
) -> Process | None:
    """Read a process at one of its threads; None if this is the id of a thread.

    Of its status all lines are the kernel's but Name, in which it escapes a newline. Command line and environment are
    the process's own words, whatever they say.
    """
    pid, status = int(str(where).partition("/")[0]), dict(_ASKED.findall(_bytes(where, "status")))
    command, cwd, executable = _bytes(where, "cmdline"), _link(where, "cwd"), _link(where, "exe")
    if int(status.get(b"Tgid", b"0")) != pid:
        return None
    cgroup = _text(where, "cgroup")
    user = int(status.get(b"Uid", b"-1"))
    *head, rest = command.rstrip(b"\0").split(b"\0", _MOST_WORDS)
    words = tuple(word.decode(errors="backslashreplace") for word in (*head, rest.replace(b"\0", b" ")))
    strange, below, unread = bool(places and user and tells(executable)), frozenset[Place](), ""
    if places:
        try:
            with places.budget.spent_on(user):
                below = places.of(where, words, executable, cwd, int(stat[_THREADS]))
                strange = strange and not places.is_roots_own(where, executable)
        except TooMuchWork as error:
            below, unread = below | error.places, str(error)
    return Process(
        identity=Identity(pid, int(stat[19])),
        parent=int(stat[1]),
        state=state,
        name=stat[_NAME],
        group=int(stat[2]),
        session=int(stat[3]),
        command=words if command else (),
        cwd=cwd,
        executable=executable,
        user=user,
        masks=Masks(*(int(status.get(name, b"0"), 16) for name in (b"SigBlk", b"SigIgn", b"SigCgt", b"ShdPnd"))),
        placeless=bool(unread) or (bool(command) and not cwd and not executable and _is_denied(where)),
        cgroup=cgroup,
        container=_find_container(where, cgroup),
        ports=_ports_within(places, where, listening, user, int(status[b"FDSize"])) if listening else frozenset(),
        forked=bool(int(stat[6]) & _FORKED),
        terminal=stat[_TERMINAL] != "0",
        strange=strange,
        foreign=user not in {0, os.geteuid()},
        places=below if places else None,
        served=int(stat[1]) == 1 and int(stat[3]) == pid and bool(unit_of(cgroup)) and _is_told_to_serve(pid),
        unread=unread,
    )


def _is_told_to_serve(pid: int) -> bool:
    """Return whether systemd has started it as a service's own (systemd.exec(5), since 248), not a process of that."""
    return variable_of(pid, "SYSTEMD_EXEC_PID") == str(pid)


def _is_denied(where: int | str) -> bool:
    """Return whether reading the working directory is denied; False for a process that has ended."""
    try:
        os.readlink(f"/proc/{where}/cwd")
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


def arrivals(last: int, places: Places | None = None) -> tuple[int, list[Process]]:
    """Return the last pid given out, and the processes whose pids were given out after `last`, newest first.

    The kernel reports the last pid in /proc/loadavg, so this costs microseconds, and finds processes that live for a
    millisecond. With a negative `last` no process is read.
    """
    now = int(Path("/proc/loadavg").read_text().split()[-1])
    first = max(last if last < now else 0, now - _MOST) + 1  # after the highest pid the lowest are given out again
    pids = range(now, first - 1, -1) if 0 <= last != now else ()
    return now, [process for pid in pids if (process := read_process(pid, None, places))]


def _find_container(where: int | str, cgroup: str) -> str | None:
    """Return the id of the container that a process is in, None if in none, as one that sees the files that we see.

    A control group alone tells nothing: its creator chose the name, and anybody of root's may move into it.
    """
    found = standpoint().container(cgroup)
    if found in {None, standpoint().own}:
        return found
    alike = any(file_id(f"/proc/{where}/{name}") == known for name, known in _own_files() if known)
    return None if alike else found


@cache
def _own_files() -> tuple[tuple[str, FileId | None], ...]:
    """Return our mount namespace and root folder, constant for the life of this process."""
    return tuple((name, file_id(f"/proc/self/{name}")) for name in ("ns/mnt", "root"))


@cache
def standpoint() -> Standpoint:
    """Return our own container, constant for the life of this process."""
    return Standpoint.of(_text("self", "cgroup"), _text(1, "cgroup"), _text("self", "mountinfo", LARGEST))


def _stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat after the name, all of them the kernel's; the name is last.

    That is of the process, in at most 15 bytes, and may hold all that ends a field: after its last bracket no text is.
    """
    before, _, after = _bytes(pid, "stat").rpartition(b")")
    return [*after.decode().split(), before.partition(b"(")[2].decode(errors="backslashreplace")]


def place_of(pid: int) -> int | str:
    """Return where in /proc to read a process: at another thread if its main thread has exited."""
    with suppress(*GONE):
        return next(_places(pid, _stat(pid)))[0]
    return pid


def _places(pid: int, stat: Sequence[str]) -> Iterator[tuple[int | str, str]]:
    """Yield where in /proc to read a process, with its state there: living threads if its main thread has exited.

    Such a process is no zombie while the kernel counts other threads, but only they show command line, folder and
    program. Each may have ended, and started the next, before it is read. The last place is the process's own.
    """
    headless = _is_headless(stat)
    deadline = time.thread_time() + _RELAY_SECONDS
    while headless and time.thread_time() < deadline:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                where = f"{pid}/task/{thread}"
                with suppress(OSError):
                    if (state := _stat(where)[0]) not in {"Z", "X", "x"}:
                        yield where, state
    yield pid, "R" if headless else stat[0]


def _is_headless(stat: Sequence[str]) -> bool:
    return stat[0] == "Z" and int(stat[_THREADS]) > 1


def _text(pid: int | str, name: str, *limit: int) -> str:
    with suppress(OSError):
        return _bytes(pid, name, *limit).decode(errors="replace")
    return ""


def _bytes(pid: int | str, name: str, limit: int = _MOST_BYTES) -> bytes:
    """Read a file of /proc. Of a longer command line the head is enough: patterns read no more of it."""
    return read_kernel(f"/proc/{pid}/{name}", limit)


def _ports(pid: int | str, listening: Mapping[str, int], check: Callable[[], object] = bool) -> frozenset[int]:
    return frozenset(listening[file] for file in list_open(pid, check) if file in listening)


def _ports_within(
    places: Places | None, where: int | str, listening: Mapping[str, int], user: int, size: int
) -> frozenset[int]:
    """Return the ports on which a process listens; all that are looked for if its account has no more of a look's time.

    `size` is that of its table of open files.
    """
    if not places:
        return _ports(where, listening)
    try:
        with places.budget.spent_on(user):
            if size > _FEW_FILES:
                places.budget.require()
            return _ports(where, listening, places.budget.check_now)
    except TooMuchWork:
        return frozenset(listening.values())


def list_open(pid: int | str, check: Callable[[], object] = bool) -> Iterator[str]:
    """Yield what a process's open files are. `check` is called now and then, and may raise."""
    with suppress(OSError):
        folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(folder) as files:
                for number, file in enumerate(files, 1):
                    with suppress(OSError):
                        yield os.readlink(file.name, dir_fd=folder)
                    if not number % _TOGETHER:
                        check()
        finally:
            os.close(folder)


def _link(pid: int | str, name: str) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/{name}").removesuffix(" (deleted)")
    return ""
