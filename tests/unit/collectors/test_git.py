"""The repository as evidence: told of in full, and whatever is planted in it runs nothing."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tasks.collectors import discover
from tasks.collectors.environment import commit
from tasks.custody.evidence.acquisition import Loss, Outcome
from tasks.custody.evidence.keys import quote
from tests.unit.acquisition.test_acquire import NOBODY, am_root, folder, place, root, taken, target

__all__ = ["folder", "place", "root"]  # fixtures

GIT = (
    "git",
    "-c",
    "user.name=t",
    "-c",
    "user.email=t@t",
    "-c",
    "init.defaultBranch=main",
    "-c",
    "commit.gpgsign=false",
)


def git(at: Path, *words: str) -> None:
    subprocess.run(
        [*GIT, *words], cwd=at, check=True, capture_output=True, env={"PATH": os.environ["PATH"], "HOME": str(at)}
    )


def repository(at: Path) -> None:
    """A repository with a commit, and a change that is not committed."""
    git(at, "init")
    (at / "train.py").write_text("print('one')\n")
    git(at, "add", "train.py")
    git(at, "commit", "-m", "the first commit")
    (at / "train.py").write_text("print('two')\n")


def plant(at: Path, ran: Path) -> None:
    """Give the repository everything by which git is known to run a program; each writes who it ran as."""

    def script(name: str) -> str:
        path = at / f".git/{name}.sh"
        path.write_text(f"#!/bin/sh\necho $(id -u) $(id -g) $(id -G) >> '{ran}/{name}'\ncat\n")
        path.chmod(0o755)
        return f"'{path}'"

    ran.mkdir()
    ran.chmod(0o777)
    names = {
        "core.fsmonitor": "fsmonitor",
        "core.pager": "pager",
        "diff.external": "external",
        "diff.evil.textconv": "textconv",
        "diff.evil.command": "command",
        "gpg.program": "gpg",
        "gpg.ssh.program": "gpg-ssh",
        "filter.evil.clean": "clean",
        "filter.evil.smudge": "smudge",
    }
    for name, about in names.items():
        git(at, "config", name, script(about))
    git(at, "config", "log.showSignature", "true")
    hooks = at / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("post-index-change", "reference-transaction", "post-checkout", "pre-commit"):
        (hooks / hook).write_text(f"#!/bin/sh\nid -u >> '{ran}/hook'\n")
        (hooks / hook).chmod(0o755)
    (at / ".gitattributes").write_text("* filter=evil diff=evil\n")


def give(at: Path, user: int, group: int) -> None:
    for path in [at, *at.rglob("*")]:
        os.chown(path, user, group, follow_symlinks=False)


def ran_as(ran: Path) -> dict[str, set[str]]:
    return {path.name: set(path.read_text().splitlines()) for path in ran.iterdir()}


COLLECT_GIT = discover()["git"]
ANSWERS = {
    *("git_commit.txt", "git_status.txt", "git_diff.txt", "git_untracked.txt", "git_tree.txt"),
    "git_submodules.json",
}


def test_the_repository_is_told_of(root: Path, folder: Path) -> None:
    repository(root)
    files, losses = taken(COLLECT_GIT, target(root), folder)
    assert (set(files), losses) == (ANSWERS, {})
    assert "the first commit" in (folder / "git_commit.txt").read_text()
    assert "train.py" in (folder / "git_status.txt").read_text()
    assert "+print('two')" in (folder / "git_diff.txt").read_text()


CANARY = "Zq7canary!2026"


def collected(root: Path, folder: Path) -> tuple[str, dict[str, str], dict[str, Loss]]:
    """The difference, the changed files that it leaves out, and the losses."""
    files, losses = taken(COLLECT_GIT, target(root), folder)
    path = folder / "git_diff_not_taken.json"
    rows = json.loads(path.read_bytes())["not_taken"] if path.name in files else []
    return (folder / "git_diff.txt").read_text(), {row["name"]: row["reason"] for row in rows}, losses


def test_the_difference_has_no_line_of_a_file_that_would_be_withheld(root: Path, folder: Path) -> None:
    secret = {
        ".env": f"MODE=dev\nSMTP_LOGIN=bob:{CANARY}\nSALT=9f8e7d6c5b4a39281706f5e4d3c2b1a0\n",
        "conf/secrets.yaml": f"smtp: {CANARY}\n",
        "conf/db.yaml": f"db:\n  password:\n    {CANARY}\nuser: bob\n",
        "a*.yaml": "salt: 9f8e7d6c5b4a39281706f5e4d3c2b1a0\n",
        "data.bin": "\x01\x02\x03\0",
    }
    public = {"train.py": "print('two')\n", "ab.yaml": "seed: 2\n", "-odd name.yaml": "seed: 3\n"}
    repository(root)
    (root / "conf").mkdir()
    for name in (*secret, *public, "gone.txt"):
        (root / name).write_text(f"before {name.encode().hex()}\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "all")
    (root / "gone.txt").unlink()
    for name, text in {**secret, **public}.items():
        (root / name).write_text(text)
    diff, rows, losses = collected(root, folder)
    assert rows.keys() == {*map(quote_name, secret), "gone.txt"}
    assert {line[6:].rstrip() for line in diff.splitlines() if line.startswith("--- ")} == {*public}
    for text in public.values():
        assert f"+{text}" in diff
    assert len(re.findall(r"\nindex [0-9a-f]{40}\.\.[0-9a-f]{40}", diff)) == len(public)
    assert rows[".env"].startswith("withheld unread: by its name")
    sha256 = hashlib.sha256(secret["conf/db.yaml"].encode()).hexdigest()
    assert rows["conf/db.yaml"].endswith(f"line 3; {len(secret['conf/db.yaml'])} bytes, sha256 {sha256}")
    assert losses["git_diff.txt"].outcome is Outcome.WITHHELD
    assert "6 changed files" in losses["git_diff.txt"].reason
    kept = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert CANARY.encode() not in kept
    assert b"9f8e7d6c" not in kept


def quote_name(name: str) -> str:
    return quote(name.encode())


def test_a_secret_that_was_taken_out_of_a_file_is_hidden_in_the_difference(root: Path, folder: Path) -> None:
    repository(root)
    (root / "conf.yaml").write_text(f"rate: 3\nlogin: bob:{CANARY}\nsalt: 9f8e7d6c5b4a39281706f5e4d3c2b1a0\n")
    git(root, "add", ".")
    git(root, "commit", "-m", "with it")
    (root / "conf.yaml").write_text("rate: 4\n")
    diff, rows, losses = collected(root, folder)
    assert (rows, losses) == ({}, {})
    assert "-rate: 3\n" in diff
    assert "+rate: 4\n" in diff
    assert CANARY not in diff
    assert "9f8e7d6c" not in diff


def test_where_every_changed_file_is_withheld_none_is_shown(root: Path, folder: Path) -> None:
    repository(root)
    (root / "train.py").write_text(f"connect('{CANARY}')\n")
    diff, rows, _ = collected(root, folder)
    assert (diff, [*rows]) == ("", ["train.py"])


@pytest.mark.slow
def test_a_change_of_the_same_size_within_the_second_of_the_commit_is_seen(root: Path, folder: Path) -> None:
    repository(root)
    index = root / ".git/index"
    while int(index.stat().st_mtime) != int((root / "train.py").stat().st_ctime):
        shutil.rmtree(root / ".git")
        repository(root)
    while time.time() < index.stat().st_mtime + 1:
        time.sleep(0.01)
    taken(COLLECT_GIT, target(root), folder)
    assert "train.py" in (folder / "git_status.txt").read_text()


def test_an_enclosing_repository_is_not_taken_for_the_workloads(root: Path, place: Path, folder: Path) -> None:
    repository(place)
    files, losses = taken(COLLECT_GIT, target(root), folder)
    assert files == {}
    assert {loss.outcome for loss in losses.values()} == {Outcome.MISSING}


def as_a_person_would(root: Path, user: int) -> None:
    """`git status` and `git diff` as the repository is configured: what is planted does run."""
    for words in (("status",), ("diff",)):
        subprocess.run(
            ["git", "-c", f"safe.directory={root}", *words],
            cwd=root,
            check=False,
            capture_output=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
            user=user or None,
            group=user or None,
            extra_groups=[] if user else None,
        )


def outdated(root: Path) -> None:
    """Give every file another time, so that git must read it anew and would ask its filter."""
    for path in root.rglob("*.py"):
        os.utime(path, (1, 1))


@pytest.mark.slow
def test_a_planted_repository_runs_nothing(root: Path, place: Path, folder: Path) -> None:
    repository(root)
    plant(root, place / "ran")
    outdated(root)
    files, losses = taken(COLLECT_GIT, target(root), folder)
    assert (set(files), losses) == (ANSWERS, {})
    assert ran_as(place / "ran") == {}
    assert "+print('two')" in (folder / "git_diff.txt").read_text()
    as_a_person_would(root, 0)
    assert ran_as(place / "ran").keys() >= {"fsmonitor", "clean"}, "without one that runs this test shows nothing"


@pytest.mark.slow
@am_root
@pytest.mark.parametrize("group", [NOBODY, 0])
@pytest.mark.parametrize("user", [NOBODY, 54321])
def test_a_planted_repository_of_another_user_runs_nothing_either(
    root: Path, place: Path, folder: Path, user: int, group: int
) -> None:
    repository(root)
    plant(root, place / "ran")
    outdated(root)
    give(root, user, group)
    files, losses = taken(COLLECT_GIT, target(root), folder)
    assert (set(files), losses) == (ANSWERS, {})
    assert ran_as(place / "ran") == {}
    as_a_person_would(root, user)
    assert ran_as(place / "ran").keys() >= {"fsmonitor", "clean"}, "without one that runs this test shows nothing"


@pytest.mark.slow
@am_root
@pytest.mark.parametrize("theirs", [".git", ".git/config"])
def test_a_repository_of_another_in_a_folder_of_ours_runs_nothing(
    root: Path, place: Path, folder: Path, theirs: str
) -> None:
    repository(root)
    plant(root, place / "ran")
    outdated(root)
    if theirs == ".git":
        give(root / ".git", NOBODY, NOBODY)
    else:
        os.chown(root / theirs, NOBODY, NOBODY)
    taken(COLLECT_GIT, target(root), folder)
    assert ran_as(place / "ran") == {}


@pytest.mark.slow
def test_nothing_of_a_submodules_configuration_is_run_and_its_commit_is_told(
    root: Path, place: Path, folder: Path
) -> None:
    repository(root)
    (place / "library").mkdir()
    repository(place / "library")
    git(root, "-c", "protocol.file.allow=always", "submodule", "add", str(place / "library"), "deps/library")
    git(root, "commit", "-m", "with a library")
    inside = root / "deps/library"
    trap = place / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch '{place}/sprung'\n")
    trap.chmod(0o755)
    git(inside, "config", "core.fsmonitor", f"'{trap}'")
    (inside / "train.py").write_text("print('changed')\n")
    taken(COLLECT_GIT, target(root), folder)
    assert not (place / "sprung").exists()
    (told,) = json.loads((folder / "git_submodules.json").read_text())
    assert told == {"path": "deps/library", "checked_out": commit(place / "library")}
    assert "160000" in (folder / "git_tree.txt").read_text()
    git(root, "status")
    assert (place / "sprung").exists(), "a trap that never springs shows nothing"


@pytest.mark.parametrize("path", ["../other", "/etc", "deps/../../other", "deps/nowhere"])
def test_a_submodule_that_leads_out_of_the_workload_is_not_looked_at(root: Path, folder: Path, path: str) -> None:
    repository(root)
    (root / ".gitmodules").write_text(f'[submodule "x"]\n\tpath = {path}\n\turl = x\n')
    taken(COLLECT_GIT, target(root), folder)
    assert json.loads((folder / "git_submodules.json").read_text()) == [{"path": path, "checked_out": "not known"}]


def test_an_index_that_is_a_link_to_a_secret_gives_nothing_away(root: Path, place: Path, folder: Path) -> None:
    repository(root)
    (place / "secret").write_text("DIRC a secret")
    (root / ".git/index").unlink()
    (root / ".git/index").symlink_to(place / "secret")
    files, losses = taken(COLLECT_GIT, target(root), folder)
    assert files == {}
    assert len(losses) == 1
    assert "a secret" not in str(losses)


def test_an_index_of_rubbish_costs_what_needs_it_and_no_more(root: Path, folder: Path) -> None:
    repository(root)
    (root / ".git/index").write_bytes(b"DIRC" + bytes(range(256)))
    files, losses = taken(COLLECT_GIT, target(root), folder)
    assert set(files) == {"git_commit.txt", "git_submodules.json"}
    assert {loss.outcome for loss in losses.values()} == {Outcome.FAILED}


def test_untracked_files_branch_and_a_detached_head_are_told(root: Path, folder: Path) -> None:
    repository(root)
    (root / "notes").mkdir()
    (root / "notes/a b.txt").write_text("mine")
    taken(COLLECT_GIT, target(root), folder)
    assert (folder / "git_untracked.txt").read_text() == "notes/a b.txt\n"
    assert (folder / "git_status.txt").read_text().startswith("## main\n")
    git(root, "checkout", "--detach")
    taken(COLLECT_GIT, target(root), folder)
    assert (folder / "git_status.txt").read_text().startswith("## HEAD (no branch)\n")


def test_a_repository_of_sha256_is_read_as_well(root: Path, folder: Path) -> None:
    git(root, "init", "--object-format=sha256")
    (root / "train.py").write_text("print('one')\n")
    git(root, "add", "train.py")
    git(root, "commit", "-m", "the first commit")
    files, losses = taken(COLLECT_GIT, target(root), folder)
    assert (set(files), losses) == (ANSWERS, {})
    assert len(commit(root) or "") == 64


def test_no_folder_of_ours_is_left_and_nothing_is_written_into_the_repository(
    root: Path, place: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(root)
    (place / "tmp").mkdir(mode=0o755)
    monkeypatch.setattr("tempfile.tempdir", str(place / "tmp"))
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    taken(COLLECT_GIT, target(root), folder)
    assert {path: path.lstat().st_mtime_ns for path in root.rglob("*")} == before
    assert list((place / "tmp").iterdir()) == []
