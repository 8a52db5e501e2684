"""Run a program for its output: no shell, redacted, bounded, and with root's rights only if they are needed.

Only whole lines are kept: half a secret on a cut line would not be recognised.
"""

import os
import selectors
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tasks.acquisition.collector import Incomplete, NothingThere, ProgramOutput, Target, Unanswered
from tasks.custody.evidence.acquisition import Outcome, worst
from tasks.custody.evidence.redact import redact
from tasks.system.accounts import NOGROUP, groups_of
from tasks.system.programs import trusted_path

_WORDS: Final = 300
_COMPLAINT: Final = 4096
_BLOCK: Final = 1 << 16
_DENIED: Final = ("not permitted", "permission denied")
_NOT_THERE: Final = (
    "not a git repository",
    "not been booted with systemd",
    "cannot talk to daemon",
    "no files found for",
)
_PARTLY: Final = "not seeing messages from other users"  # journalctl shows what it may and exits with 0


def output_of(command: ProgramOutput, target: Target) -> tuple[bytes, str, bool]:
    """Return the program's output as it is, what it complained of, and whether the limit has cut the output."""
    if not shutil.which(command.argv[0], path=trusted_path()):
        raise NothingThere(f"{command.argv[0]} is not installed")
    with _start(command, target) as process:
        output, complaint, cut = _listen(process, command, target.limit)
    complained = complaint.decode(errors="replace").strip()
    if process.returncode and not cut:
        raise _refusal((complained or output.decode(errors="replace").strip()).partition("\n")[0][:_WORDS])
    return output, complained, cut


def run(command: ProgramOutput, target: Target) -> bytes:
    """Return the program's output, redacted. What is only a part raises Incomplete with all that it lacks."""
    output, complained, cut = output_of(command, target)
    if cut:
        output = output[: output.rfind(b"\n") + 1] if command.keep == "first" else output.partition(b"\n")[2]
    text = command.redact(output.decode(errors="backslashreplace"))
    data = "".join(text.splitlines(keepends=True)[-command.last :]).encode(errors="backslashreplace")
    lost = [(Outcome.TRUNCATED, command.omission)] if command.omission else []
    if cut or output.count(b"\n") >= command.max_lines:
        amount = f"{target.limit} bytes" if cut else f"{command.max_lines} lines"
        lost.append((Outcome.TRUNCATED, f"its {command.keep} {amount}: the limit is reached"))
    if _PARTLY in complained:
        lost.append((Outcome.DENIED, complained.partition("\n")[0][:_WORDS]))
    if lost:
        raise Incomplete(data, worst(outcome for outcome, _ in lost), "; ".join(reason for _, reason in lost))
    return data


def _start(command: ProgramOutput, target: Target) -> subprocess.Popen[bytes]:
    user = owner(target) if command.as_owner and os.geteuid() == 0 else None
    return subprocess.Popen(
        command.argv,
        cwd=target.root if command.as_owner else "/",
        env={"PATH": trusted_path(), "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"} | dict(command.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=user,
        group=user and group_of(user),
        extra_groups=[] if user else None,
    )


def _listen(process: subprocess.Popen[bytes], command: ProgramOutput, limit: int) -> tuple[bytes, bytes, bool]:
    """Return its output, its errors, and whether something was left out. A program that exceeds the limit is ended."""
    output, complaint, cut = bytearray(), bytearray(), False
    for voice, block in _blocks(process):
        if voice is process.stderr:
            complaint += block[: _COMPLAINT - len(complaint)]
            continue
        output += block
        if len(output) > limit:
            cut = True
            if command.keep == "first":
                process.kill()
                break
            del output[: len(output) - limit]
    return bytes(output[:limit]), bytes(complaint), cut


def _blocks(process: subprocess.Popen[bytes]) -> Iterator[tuple[Any, bytes]]:
    with selectors.DefaultSelector() as voices:
        for voice in (process.stdout, process.stderr):
            if voice:
                voices.register(voice, selectors.EVENT_READ)
        while voices.get_map():
            for key, _ in voices.select():
                if block := os.read(key.fd, _BLOCK):
                    yield key.fileobj, block
                else:
                    voices.unregister(key.fileobj)


def owner(target: Target) -> int | None:
    """Return the user as whom root runs a program of the repository: the first of its owners who is not root."""
    root = Path(target.root)
    places = (place for place in (root / ".git", root / ".git/config") if place.exists())
    return next((user for user in (target.owner, *(place.stat().st_uid for place in places)) if user), None)


def group_of(user: int) -> int:
    """Return the user's own group, never root's: a folder of a user may belong to root's group."""
    return groups_of(user)[0] or NOGROUP


def _refusal(message: str) -> Exception:
    words = redact(message)
    lower = words.lower()
    if any(text in lower for text in _DENIED):
        return Unanswered(Outcome.DENIED, words)
    if any(text in lower for text in _NOT_THERE):
        return NothingThere(words)
    return Unanswered(Outcome.FAILED, words or "no message")
