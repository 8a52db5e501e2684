"""Read and parse the kernel's tables under /proc/PID. Lines end only at a newline: names may hold other separators."""

import os
import re
import signal
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from tasks.custody.evidence.redact import redact
from tasks.host.process.table import start_of

_WORDS: Final = 64
_NAMES: Final = {number.value: number.name for number in signal.Signals} | {
    signal.SIGRTMIN + more: f"SIGRTMIN+{more}" for more in range(1, signal.SIGRTMAX - signal.SIGRTMIN)
}
_LIMIT: Final = re.compile(r"(?P<name>\S+(?: \S+)*)\s{2,}(?P<soft>\S+)\s+(?P<hard>\S+)\s*(?P<unit>\S*)\s*")
_DELETED: Final = " (deleted)"


def text(pid: int, name: str) -> str:
    """Return a table of a process; bytes that are not UTF-8 become escapes."""
    return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="backslashreplace")


def link(pid: int, name: str) -> str:
    """Return the target of a link of a process."""
    return os.fsencode(Path(f"/proc/{pid}/{name}").readlink()).decode(errors="backslashreplace")


def folder_of(pid: int) -> str:
    """Return the working directory of a process; empty if it may not be read."""
    with suppress(OSError):
        return link(pid, "cwd")
    return ""


def numbers(folder: str) -> list[int]:
    """Return the numeric entries of a folder below /proc: processes, threads, descriptors."""
    return sorted(int(entry.name) for entry in Path("/proc", folder).iterdir() if entry.name.isdigit())


def fields(status: str) -> dict[str, str]:
    """Return the lines of /proc/PID/status or fdinfo by name; of several the first.

    The kernel writes all but the name of the process, in which it escapes a newline. What drivers add to fdinfo comes
    last, and may hold an account's text with newlines, as the name of a dma-buf does.
    """
    lines = (line.partition(":") for line in reversed(status.split("\n")) if line)
    return {key: value.strip() for key, _, value in lines}


def signal_names(mask: int) -> list[str]:
    """Return the signals of a mask by name; bit 0 is signal 1."""
    numbers = [bit + 1 for bit in range(_WORDS) if mask >> bit & 1]
    return [_NAMES.get(number, str(number)) for number in numbers]


def signals(status: str) -> dict[str, Any]:
    """Return what is pending, blocked, ignored and caught, as the kernel's mask and by name."""
    values = fields(status)
    names = ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt")
    masks: dict[str, str] = {name: values[name] for name in names if name in values}
    named = {name: {"mask": mask, "names": signal_names(int(mask, 16))} for name, mask in masks.items()}
    return {"queued": values.get("SigQ")} | named


def limits(table: str) -> dict[str, dict[str, str]]:
    """Return /proc/PID/limits by name: all of it is the kernel's."""
    rows = (_LIMIT.fullmatch(line) for line in table.split("\n")[1:])
    return {row["name"]: {part: row[part] for part in ("soft", "hard", "unit")} for row in rows if row}


def summarize_maps(table: str) -> list[dict[str, Any]]:
    r"""Return /proc/PID/maps summed up by mapped file, the largest first. The file may have been deleted.

    All fields are the kernel's but the last, the name of a file (a newline is \012 there) or of memory (printable).
    """
    sizes, counts = Counter[str](), Counter[str]()
    for line in filter(None, table.split("\n")):
        span, *_, path = [*line.split(maxsplit=5), "", ""][:6]
        first, _, last = span.partition("-")
        name = path.strip() or "[anonymous]"
        sizes[name] += int(last, 16) - int(first, 16)
        counts[name] += 1
    return [
        {
            "path": name.removesuffix(_DELETED),
            "bytes": size,
            "mappings": counts[name],
            "deleted": name.endswith(_DELETED),
        }
        for name, size in sizes.most_common()
    ]


def printable(words: Iterable[str]) -> str:
    """Return the text on one line, without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(words))


def tables(places: Iterable[str]) -> bytes:
    """Return the kernel's own tables one after the other, redacted; one that cannot be read says so in its place."""
    return "".join(f"== {place}\n{_table(Path(place))}\n" for place in places).encode(errors="backslashreplace")


def _table(place: Path) -> str:
    try:
        return redact(place.read_bytes().decode(errors="backslashreplace"), digests=True)
    except FileNotFoundError:
        return "not on this kernel"
    except OSError as error:
        return f"not read: {error.strerror}"


def each_namespace(kind: str, frozen: Iterable[tuple[int, int]]) -> dict[str, int]:
    """Return the namespaces of one kind that frozen processes live in, each with one of them; ours comes first."""
    found: dict[str, int] = {}
    for pid in (os.getpid(), *(pid for pid, start in frozen if still(pid, start))):
        with suppress(OSError):
            found.setdefault(link(pid, f"ns/{kind}"), pid)
    return found


def still(pid: int, start: int) -> bool:
    """Return whether the pid still belongs to that process."""
    with suppress(OSError):
        return start_of(pid) == start
    return False
