"""Collect the state of the workload's repository, read by git through a git directory of our own.

A repository's configuration can make git run programs (fsmonitor, hooks, filters, textconv, diff drivers, those of its
submodules), and a filter cannot be switched off by name. So git never sees that configuration: it gets ours, a copy of
the index, and read access to the workload's objects and files. As root it runs with the owner's rights.

The difference has the lines of those changed files alone that the collector `code` would take; the others are listed.

See docs/adr/0014 and docs/adr/0052.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tasks.acquisition.acquire import take
from tasks.acquisition.collector import (
    MIB,
    Collector,
    FunctionItems,
    FunctionOutput,
    Incomplete,
    Item,
    NothingThere,
    ProgramOutput,
    Target,
)
from tasks.acquisition.command import group_of, output_of, owner, run
from tasks.acquisition.reading import read_below
from tasks.acquisition.remainder import Remainder, document, judge
from tasks.collectors.environment import commit, head
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.redact import redact
from tasks.custody.store.manifest import canonical

_INDEX_BYTES: Final = 256 * MIB
_SHA256_LETTERS: Final = 64
_BRANCH: Final = re.compile(r"refs/heads/[A-Za-z0-9_][\w./+@-]*")
_DIFF: Final = ("diff", "--no-ext-diff", "--no-textconv", "--no-renames", "--ignore-submodules=all")
_DIFF_FILE: Final = "git_diff.txt"
_NOT_TAKEN_FILE: Final = "git_diff_not_taken.json"
_NAMES_BYTES: Final = MIB
_INDEX_LINE: Final = re.compile(r"^(index [0-9a-f]{40,64}\.\.[0-9a-f]{40,64}(?: \d+)?\n)", re.MULTILINE)
_QUESTIONS: Final = {
    "git_commit.txt": ("log", "-1", "--no-show-signature", "--no-mailmap", "--format=fuller"),
    "git_status.txt": ("status", "--porcelain=v1", "--branch", "--ignore-submodules=all"),
    "git_untracked.txt": ("ls-files", "--others", "--exclude-standard"),
    "git_tree.txt": ("ls-files", "--stage"),
}


def gather(target: Target, folder: Path) -> Iterator[Item]:
    """Run each git command, then list the submodules without git: it would run git in them."""
    with _own_repository(target, folder) as (place, objects):
        words = (
            "git",
            f"--git-dir={place}",
            "--work-tree=.",
            "--no-optional-locks",
            "--no-pager",
            "--literal-pathspecs",
        )
        around = (
            *(("GIT_OBJECT_DIRECTORY", objects), ("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", os.devnull)),
            *(("GIT_ATTR_NOSYSTEM", "1"), ("GIT_NO_LAZY_FETCH", "1")),
        )
        commands = [
            ProgramOutput((*words, *question), stored, as_owner=True, environment=around)
            for stored, question in _QUESTIONS.items()
        ]
        private = list[Remainder]()
        ask = ProgramOutput(words, _DIFF_FILE, as_owner=True, environment=around)
        others = (
            FunctionOutput(lambda now: _diff(ask, now, private), _DIFF_FILE),
            FunctionOutput(submodules, "git_submodules.json"),
        )
        yield from take([*commands, *others], target, folder)
        if private:
            yield from take([FunctionOutput(lambda _: canonical(document(private)), _NOT_TAKEN_FILE)], target, folder)
            files = f"{len(private)} changed file{'s'[: len(private) != 1]}"
            reason = f"written without the lines of {files}, which {_NOT_TAKEN_FILE} names"
            yield Loss(_DIFF_FILE, Outcome.WITHHELD, reason)


def _diff(ask: ProgramOutput, target: Target, private: list[Remainder]) -> bytes:
    """Return the difference of the files that are known to be public; the other changed ones go to `private`."""
    found, _, cut = output_of(replace(ask, argv=(*ask.argv, *_DIFF, "--name-only", "-z", "HEAD")), target)
    names, room = found.split(b"\0")[:-1], _NAMES_BYTES
    shown = list[str]()
    for name in names:
        room -= len(name) + 1
        if room < 0:
            private.append(Remainder(name, 1, 0, f"after the first {_NAMES_BYTES} bytes of names"))
        elif withheld := judge(Path(target.root), name):
            private.append(withheld)
        else:
            shown.append(os.fsdecode(name))
    lost = "the names of further changed files: the limit is reached" if cut else ""
    data = b""
    try:
        if shown:  # without a name git would show all
            words = (*ask.argv, *_DIFF, "--full-index", "HEAD", "--", *shown)
            data = run(replace(ask, argv=words, redact=_redact_diff), target)
    except Incomplete as part:
        data, lost = part.data, f"{part}; {lost}".removesuffix("; ")
    if lost:
        raise Incomplete(data, Outcome.TRUNCATED, lost)
    return data


def _redact_diff(text: str) -> str:
    """Return a difference without secrets, which may have been taken out of a file; the two digests of each are shown.

    No line of content begins like theirs.
    """
    return "".join(each if at % 2 else redact(each) for at, each in enumerate(_INDEX_LINE.split(text)))


@contextmanager
def _own_repository(target: Target, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield a git directory that only we can write and the owner can read, and the folder of the workload's objects.

    It lies in the evidence's staging, which is removed however the attempt ends; another user cannot enter that.
    """
    root = Path(target.root)
    full = commit(root)
    if not full:
        raise NothingThere("no repository with a commit that can be read from its files")
    user = owner(target) if os.geteuid() == 0 else None
    place = Path(tempfile.mkdtemp(prefix="evacuation-git-", dir=None if user else folder))
    objects = root / ".git/objects"
    try:
        _furnish(place, root, full)
        if user:
            for path in (place, *place.rglob("*")):
                os.chown(path, 0, group_of(user))
                path.chmod(0o750 if path.is_dir() else 0o640)
        if objects.parent.is_symlink() or objects.is_symlink() or not objects.is_dir():
            raise NothingThere("no folder of objects in .git")
        yield place, str(objects)
    finally:
        shutil.rmtree(place)


def _furnish(place: Path, root: Path, full: str) -> None:
    for folder in ("objects", "refs"):
        (place / folder).mkdir()
    sha256 = len(full) == _SHA256_LETTERS
    extension = "[extensions]\n\tobjectformat = sha256\n" if sha256 else ""
    (place / "config").write_text(f"[core]\n\trepositoryformatversion = {int(sha256)}\n\tbare = false\n{extension}")
    branch = head(root) or ""
    if _BRANCH.fullmatch(branch) and not {"..", "//", "@{"} & {branch[at : at + 2] for at in range(len(branch))}:
        (place / "packed-refs").write_text(f"{full} {branch}\n")
        (place / "HEAD").write_text(f"ref: {branch}\n")
    else:
        (place / "HEAD").write_text(f"{full}\n")
    # with its time: git trusts a file's size and time only if the index is a second younger
    written = (root / ".git/index").lstat().st_mtime_ns
    index = read_below(root, ".git/index", _INDEX_BYTES)
    if not index.startswith(b"DIRC"):
        raise NothingThere("the repository's index is not valid")
    (place / "index").write_bytes(index)
    os.utime(place / "index", ns=(written, written))


def submodules(target: Target) -> bytes:
    """Return each submodule of .gitmodules below the root, and the commit that is checked out there."""
    root = Path(target.root)
    try:
        named = read_below(root, ".gitmodules", MIB).decode(errors="backslashreplace")
    except FileNotFoundError:
        return canonical([])
    paths = [line.partition("=")[2].strip() for line in named.splitlines() if line.strip().startswith("path")]
    return canonical([{"path": path, "checked_out": _stands_at(root, path) or "not known"} for path in paths])


def _stands_at(root: Path, path: str) -> str | None:
    """Return the commit of a submodule, whose repository lies in its own folder or below the root's .git."""
    if Path(path).is_absolute() or ".." in Path(path).parts:
        return None
    try:
        inside = (root / path / ".git").lstat()
    except OSError:
        return None
    if stat.S_ISDIR(inside.st_mode):
        return commit(root / path)
    words = read_below(root, f"{path}/.git", MIB).decode(errors="replace").strip()
    there = Path(os.path.normpath(Path(path) / words.removeprefix("gitdir: ")))
    return commit(root, str(there)) if there.parts[:1] == (".git",) else None


COLLECTOR = Collector(
    name="git",
    answers="Which code was checked out, and what was changed by hand?",
    order=52,
    sources=(FunctionItems(gather, "git_commit.txt"),),
    deadline=60.0,
    stalled=60.0,
    limit=64 * MIB,
)
