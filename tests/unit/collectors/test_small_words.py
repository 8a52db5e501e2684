"""What the runbook's §0 and §4 print, printed so here, and a dead mount that costs two seconds."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tasks.acquisition.acquire import take
from tasks.acquisition.collector import Incomplete, Target
from tasks.collectors import discover, disk, environment, memory, packages
from tasks.custody.evidence.acquisition import Loss, Outcome, StoredFile

PEOPLE = {
    f"GIT_{who}_{what}": f"{what.lower()}@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}
LIB = "lib/python3.11/site-packages"


def target(root: Path) -> Target:
    return Target("IR-20260102T030405Z", str(root), "venv/bin/python", os.geteuid(), {}, [])


def git(folder: Path, *words: str) -> str:
    told = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, env={**os.environ, **PEOPLE}
    )
    return told.stdout.strip()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    made = tmp_path / "work load/venv" / LIB
    made.mkdir(parents=True)
    return made


def install(site: Path, name: str, origin: object = None, version: str = "1.0") -> None:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if origin is not None:
        (info / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))


def editable(folder: Path) -> dict[str, object]:
    return {"url": folder.as_uri(), "dir_info": {"editable": True}}


def project(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text("[project]\n")
    return folder


def repository(folder: Path, remotes: dict[str, str]) -> Path:
    project(folder)
    git(folder, "init", "-q")
    for name, url in remotes.items():
        git(folder, "remote", "add", name, url)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


def as_pip_says(site: Path) -> str:
    asked = [sys.executable, "-m", "pip", "freeze", "--all", "--disable-pip-version-check", "--path", str(site)]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout


def ours(site: Path) -> str:
    return packages.make(target(site.parents[3])).decode()


@pytest.mark.slow
def test_the_list_is_what_pip_prints(site: Path) -> None:
    root = site.parents[3]
    https = repository(root / "with-https", {"other": "https://b.example/x.git", "origin": "https://a.example/x.git"})
    install(site, "PyYAML", version="6.0")
    install(site, "zope.interface")
    install(site, "attrs")
    install(site, "from-git", {"url": "https://g.example/r", "vcs_info": {"vcs": "git", "commit_id": "a" * 40}})
    vcs = {"vcs": "git", "commit_id": "b" * 40, "requested_revision": "main"}
    install(site, "from-below", {"url": "https://g.example/r", "vcs_info": vcs, "subdirectory": "python"})
    digest = "sha256=" + "0" * 64
    install(site, "wheel-of-ours", {"url": "file:///srv/w-1.0-py3-none-any.whl", "archive_info": {"hash": digest}})
    install(site, "bare-archive", {"url": "https://a.example/x.zip", "archive_info": {}})
    install(site, "folder", {"url": "file:///srv/folder", "dir_info": {}})
    install(site, "torn", "{")
    install(site, "no-vcs", editable(project(root / "no vcs")))
    install(site, "https-remote", editable(https))
    install(site, "below-it", editable(project(https / "packages/inner")))
    install(site, "scp", editable(repository(root / "scp", {"up": "git@github.com:someone/some.git"})))
    install(site, "no-remote", editable(repository(root / "no-remote", {})))
    assert ours(site) == as_pip_says(site)
    assert ours(site).count("-e git+") == 3
    assert " @ git+https://g.example/r@" in ours(site)


def test_a_password_in_an_origin_is_not_shown_and_nothing_outside_is_read(site: Path, tmp_path: Path) -> None:
    outside = repository(tmp_path / "outside", {"origin": "https://private.example/x.git"})
    install(site, "away", editable(outside))
    secret = {"url": "https://someone:canary-word@g.example/r", "vcs_info": {"vcs": "git", "commit_id": "a" * 40}}
    install(site, "secret", secret)
    told = ours(site)
    assert "private.example" not in told
    assert f"-e {outside}" in told
    assert "canary-word" not in told


@pytest.mark.parametrize(
    "origin",
    ["[]", "null", '{"url": 3, "vcs_info": []}', '{"dir_info": 5}', '{"url": "x\\ny", "dir_info": {}}', "[" * 99_999],
)
def test_a_hostile_origin_is_one_line(site: Path, origin: str) -> None:
    install(site, "odd", origin)
    (line,) = ours(site).splitlines()
    assert line.startswith("odd")


def test_the_environment_is_taken_at_once_and_its_time_is_utc_with_z(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    told = json.loads(environment.make(target(tmp_path)))["ts_utc"]
    assert told.endswith("Z")
    assert datetime.fromisoformat(told).utcoffset() == timedelta(0)
    early = [each for each in discover().values() if each.early]
    assert [each.name for each in early] == ["environment"]
    later = [each.order for each in discover().values() if not (each.while_frozen or each.early)]
    assert early[0].order < min(later)


def test_memory_is_what_free_prints_with_the_tables_beside_it(tmp_path: Path) -> None:
    assert [source.stored for source in memory.COLLECTOR.sources] == ["mem.txt", "mem_tables.txt"]  # type: ignore[union-attr]
    files = {item.stored: item for item in take(memory.COLLECTOR.sources, target(tmp_path), tmp_path)}  # type: ignore[union-attr]
    assert isinstance(files["mem.txt"], StoredFile)
    assert (tmp_path / "mem.txt").read_text().split()[:3] == ["total", "used", "free"]
    assert "== /proc/meminfo" in (tmp_path / "mem_tables.txt").read_text()


NETWORKED = """21 1 8:1 / / rw - ext4 /dev/sda1 rw
22 21 0:40 / /mnt/nfs\\040share rw shared:1 - nfs4 server:/export rw
23 21 0:41 / /mnt/win rw - cifs //nas/share rw
24 21 0:42 / /mnt/ssh rw - fuse.sshfs someone@host:/srv rw
25 21 8:2 / /mnt/ntfs rw - fuseblk /dev/sdb1 rw
26 21 0:5 / /proc rw - proc proc rw
27 21 0:6 / /mnt/odd\x0bname\u2028 rw - tmpfs none rw
"""


def test_what_waits_for_another_host_is_known_by_the_mount_table() -> None:
    assert disk.find_remote_mounts(NETWORKED) == ["/mnt/nfs share", "/mnt/win", "/mnt/ssh"]


DF = """#!/bin/sh
case "$*" in
*"nfs share"*) exec sleep 600 ;;
*/mnt/win*) printf 'Filesystem Size Used Avail Use%% Mounted on\\n//nas/share 9G 1G 8G 12%% /mnt/win\\n' ;;
*/mnt/ssh*) exec sleep 600 ;;
*) printf 'local %s\\n' "$*" ;;
esac
"""


@pytest.mark.slow
def test_a_dead_mount_costs_two_seconds_for_all_and_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "df").write_text(DF)
    (tmp_path / "df").chmod(0o755)
    (tmp_path / "mounts").write_text(NETWORKED)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "mounts")
    began = time.monotonic()
    with pytest.raises(Incomplete) as found:
        disk.make(target(tmp_path))
    assert time.monotonic() - began < 15
    assert found.value.outcome is Outcome.TIMED_OUT
    assert "/mnt/nfs share" in str(found.value)
    assert "/mnt/win" not in str(found.value)
    local, *rows = found.value.data.decode().splitlines()
    assert local == "local -h -l"
    assert rows == [
        "- - - - - /mnt/nfs share: no answer in 2 s",
        "//nas/share 9G 1G 8G 12% /mnt/win",
        "- - - - - /mnt/ssh: no answer in 2 s",
    ]
    (tmp_path / "mounts").write_text(NETWORKED.splitlines()[2])
    assert disk.make(target(tmp_path)).decode().splitlines()[1:] == ["//nas/share 9G 1G 8G 12% /mnt/win"]


def test_without_free_the_tables_are_there_and_the_loss_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lost, tables = take(memory.COLLECTOR.sources, target(tmp_path), tmp_path)
    assert isinstance(lost, Loss)
    assert (lost.source, lost.outcome) == ("mem.txt", Outcome.MISSING)
    assert isinstance(tables, StoredFile)
