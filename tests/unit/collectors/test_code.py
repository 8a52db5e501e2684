"""What no pattern names in the root is saved or named: no byte of it is passed over in silence."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.acquisition import remainder
from tasks.acquisition.matching import INSTEAD
from tasks.acquisition.remainder import (
    Remainder,
    RootWalk,
    describe_not_taken,
    document,
    in_a_line,
    read_other_list,
)
from tasks.custody.evidence.acquisition import Evidence, Outcome
from tasks.custody.evidence.keys import NOT_TAKEN, unquote
from tasks.evidence.collect import collect
from tasks.incident.layout import CAUGHT
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.small_disks import small_disk
from tests.support.workloads import SmallWorkload

GLOBS = {"logs": ["logs/*.log"], "artifacts": [], "models": ["best.joblib"], "folders": ["models"]}
LATER = "IR-20260103T030405Z"
SECRET = 'password = "Zq7canaryX"\n'
TREE = {
    "app.py": "serve()\n",
    "src/features.py": "def f(): ...\n",
    "conf/prod.yaml": "rate: 3\n",
    ".hidden/settings.ini": "[a]\n",
    "gunicorn.conf.py": "workers = 2\n",
    ".env": "TOKEN=1\n",
    "token.txt": "abc\n",
    "conf/headers.json": "{}\n",
    "settings.py": SECRET,
    "old.joblib": "no pattern names it",
    "best.joblib": "a model that a pattern names",
    "models/a.bin": "a named folder",
    "logs/a.log": "a pattern names it",
    "logs/a.txt": "no pattern names it",
    "requirements.txt": "scikit-learn\n",
    "data/train.csv": "1,2\n",
    ".git/HEAD": "ref\n",
    "venv/pyvenv.cfg": "",
    "venv/lib/x.py": "x\n",
    ".cache/x": "x\n",
    "src/__pycache__/features.pyc": "x\n",
}
IN_OUR_FOLDERS = (
    "evidence/study/result.csv",
    "evidence/top.txt",
    "evidence/IR-20250101T000000Z/notes.txt",
    "evidence/dry-run/IR-20250101T000000Z/notes.txt",
    "evidence/reserve",
    "evidence/.top.txt.0123456789abcdef.new",
    "spare/mine.txt",
)
SAVED = {"app.py", "src/features.py", "conf/prod.yaml", ".hidden/settings.ini", "gunicorn.conf.py"}
BY_OTHERS = {"best.joblib", "models/a.bin", "logs/a.log", "requirements.txt"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in TREE.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    return tmp_path / "root"


def walked(root: Path, **more: Any) -> RootWalk:
    return RootWalk(os.fsencode(root), GLOBS, others=("requirements*.txt",), **more).walk()


def remainders_of(walk: RootWalk) -> dict[str, Remainder]:
    return {os.fsdecode(each.name): each for each in walk.remainders}


@pytest.fixture
def context(root: Path) -> Iterator[RunContext]:
    with SmallWorkload(root) as small, case_of(small.block(**GLOBS)) as context:
        yield context


@pytest.mark.slow
def test_every_file_is_copied_or_named_alone_or_by_a_folder_above_it(context: RunContext) -> None:
    found: Evidence = made(collect.fn(context, "code"))
    told = json.loads((context.directory.locate(1, found.files[-1])).read_bytes())["not_taken"]
    saved = {file.path for file in found.files if file.source}
    assert saved >= SAVED
    assert not saved & BY_OTHERS
    for name in TREE.keys() - SAVED - BY_OTHERS:
        assert any(name == row["name"] or (row["name"][-1] == "/" and name.startswith(row["name"])) for row in told)
    assert not found.lost
    assert found.outcome is Outcome.COLLECTED
    assert [loss.source for loss in found.losses] == [NOT_TAKEN]


@pytest.mark.slow
def test_no_secret_goes_along_though_nobody_asked_for_the_file(context: RunContext) -> None:
    found: Evidence = made(collect.fn(context, "code"))
    kept = b"".join(context.directory.locate(1, file).read_bytes() for file in found.files)
    assert b"Zq7canaryX" not in kept
    assert b"TOKEN=1" not in kept
    rows = {row["name"]: row["reason"] for row in json.loads(kept[kept.rindex(b'{\n  "not_taken"') :])["not_taken"]}
    assert rows["settings.py"].startswith("withheld: value of a secret-looking name in line 1; 24 bytes, sha256 ")
    assert rows[".env"].startswith("withheld unread")


def listed(context: RunContext, found: Evidence) -> dict[str, str]:
    rows = json.loads((context.directory.locate(1, found.files[-1])).read_bytes())["not_taken"]
    return {row["name"]: row["reason"] for row in rows}


UNKNOWN = {
    ".bash_history": b"mysql -u root -pZq7canary!X db\n",
    "conf/rclone.conf": b"[x]\npass = Zq7canary!X\n",
    "src/connect.py": b'engine = connect("bob", "Zq7canary!X")\n',
    "backup.tgz": gzip.compress(b"harmless"),
    "access.db": b"SQLite format 3\0" + bytes(range(32)) * 64,
    "docker-compose.yml": b"environment:\n  POSTGRES_PASSWORD: Zq7canary!X\n",
    "requirements/dev.txt": b"--extra-index-url https://bob:Zq7canary!X@pypi.example.org/simple\nnumpy\n",
    "Dockerfile": b'CMD ["login", "-p", "Zq7canary!X"]\n',
}


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_what_nobody_named_and_is_not_known_to_be_public_is_named_and_not_kept(root: Path, *, in_place: bool) -> None:
    for name, content in UNKNOWN.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    with SmallWorkload(root) as small, case_of(small.block(**GLOBS)) as context:
        if in_place:
            context.directory = replace(context.directory, volatile=True)
        code, locks = (made(collect.fn(context, name)) for name in ("code", "lockfiles"))
        rows, saved = listed(context, code), {file.path for file in (*code.files, *locks.files)}
        kept = b"".join(path.read_bytes() for path in context.directory.path.rglob("*") if path.is_file())
    assert rows.keys() >= UNKNOWN.keys()
    for name, content in UNKNOWN.items():
        assert rows[name].endswith(f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")
    assert saved >= {*SAVED, "requirements.txt"}
    assert not saved & UNKNOWN.keys()
    assert {file.in_place for file in (*code.files, *locks.files) if file.path in SAVED} == {in_place}
    assert {each.source for each in locks.losses} == {"docker-compose.yml", "requirements/dev.txt", "Dockerfile"}
    assert (code.lost, locks.lost) == (False, False)
    assert b"Zq7canary!X" not in kept


@pytest.mark.slow
def test_what_a_pattern_names_is_taken_as_the_block_says_whoever_else_would_take_it(root: Path) -> None:
    for name, content in UNKNOWN.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    globs = {**GLOBS, "artifacts": [*UNKNOWN]}
    with SmallWorkload(root) as small, case_of(small.block(**globs)) as context:
        code, locks, artifacts = (made(collect.fn(context, name)) for name in ("code", "lockfiles", "artifacts"))
        rows = listed(context, code)
    assert {file.path for file in artifacts.files} == UNKNOWN.keys()
    assert not rows.keys() & UNKNOWN.keys()
    assert locks.losses == ()


@pytest.mark.slow
def test_what_a_named_folder_holds_above_the_size_that_goes_along_is_named(root: Path) -> None:
    """3 GB were in no sum of what was not taken."""
    for name in ("models/large.bin", "models/best.bin", "models/small.bin"):
        with (root / name).open("wb") as file:
            file.truncate((2 << 20) + (name != "models/small.bin"))
    globs = {**GLOBS, "models": ["models/best.bin"]}
    with SmallWorkload(root) as small, case_of(small.block(**globs, folder_file_mb=2)) as context:
        code: Evidence = made(collect.fn(context, "code"))
        told = json.loads((context.directory.locate(1, code.files[-1])).read_bytes())["not_taken"]
    (row,) = [row for row in told if row["name"].startswith("models/")]
    assert (row["name"], row["bytes"]) == ("models/large.bin", (2 << 20) + 1)
    assert "above the 2097152 bytes that the block lets go along (folder_file_mb)" in row["reason"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_dry_run_leaves_no_copy_of_the_workloads_files(root: Path, *, dry_run: bool) -> None:
    """Each plan left as much as an evacuation, of which nobody spoke, on the disk that the evacuation needs."""
    with SmallWorkload(root) as small, case_of(small.block(**GLOBS), dry_run=dry_run) as context:
        made(collect.fn(context, "code"))
        context.log.write("plan", "x")
        assert [*context.directory.path.glob("evidence*")]
        context.close()
        assert bool([*context.directory.path.glob("evidence*")]) is not dry_run
        assert (context.directory.path / "custody.jsonl").exists()


HIDDEN = "left out, a link to {}, which is withheld unread: by its name it may hold a secret"


@pytest.mark.parametrize(
    ("link", "to", "name", "real"),
    [
        ("models/conf", "../etc", "models/conf/prod.env", "etc/prod.env"),
        ("models/conf/deep", "../../etc", "models/conf/deep/prod.env", "etc/prod.env"),
        ("models/config", "../.env", "models/config", ".env"),
        ("logs/x.log", "../token.txt", "logs/x.log", "token.txt"),
    ],
)
def test_a_link_brings_no_file_along_that_is_withheld_by_its_own_name(
    root: Path, link: str, to: str, name: str, real: str
) -> None:
    """What the account of the workload links in a named folder nobody has named; it lay in the store by that name."""
    (root / "etc").mkdir()
    (root / "etc/prod.env").write_text("TOKEN=1\n")
    (root / link).parent.mkdir(exist_ok=True)
    (root / link).symlink_to(to)
    field = link.partition("/")[0] if link.startswith("logs") else "folders"
    with SmallWorkload(root) as small:
        with case_of(small.block(**GLOBS)) as context:
            found: Evidence = made(collect.fn(context, field))
        assert name not in {file.path for file in found.files}
        (loss,) = [each for each in found.losses if each.source == name]
        assert (loss.outcome, loss.reason) == (Outcome.WITHHELD, HIDDEN.format(real))
        with case_of(small.block(**GLOBS | {"artifacts": [real]}), incident=LATER) as context:
            found = made(collect.fn(context, field))
        assert name in {file.path for file in found.files}, "the block names it by its own name"


def test_what_is_withheld_and_yet_taken_by_another_name_says_so(root: Path) -> None:
    os.link(root / ".env", root / "models/settings")
    (root / "models/settings.py").symlink_to("../settings.py")
    with SmallWorkload(root) as small, case_of(small.block(**GLOBS)) as context:
        code: Evidence = made(collect.fn(context, "code"))
        told = json.loads((context.directory.locate(1, code.files[-1])).read_bytes())["not_taken"]
        taken = {file.path for file in made(collect.fn(context, "folders")).files}
    rows = {row["name"]: row["reason"].partition("; taken as ")[2] for row in told}
    assert rows[".env"] == "models/settings, which the block names: the same file"
    assert rows["settings.py"] == "models/settings.py, which the block names: the same file"
    assert {"models/settings", "models/settings.py"} <= taken
    assert rows["token.txt"] == ""


def test_a_named_folder_that_is_a_link_is_told_by_its_own_collector_alone(root: Path) -> None:
    """One into the root was taken, and called not taken; one out of it was lost with its reason, and told twice."""
    (root / "inside").symlink_to("src")
    (root / "outside").symlink_to("/etc")
    (root / "other").symlink_to("/etc")
    globs = {**GLOBS, "folders": ["models", "inside", "outside"]}
    names = {os.fsdecode(each.name) for each in RootWalk(os.fsencode(root), globs).walk().remainders}
    assert {"inside", "outside", "other"} & names == {"other"}
    with SmallWorkload(root) as small, case_of(small.block(**globs)) as context:
        found: Evidence = made(collect.fn(context, "folders"))
    assert [file.path for file in found.files if file.path.startswith(("inside/", "outside/"))] == [
        "inside/__pycache__/features.pyc",
        "inside/features.py",
        "inside/train.py",
    ]
    (loss,) = [each for each in found.losses if each.source == "outside"]
    assert (loss.outcome, found.lost) == (Outcome.DENIED, True)
    assert loss.reason == f"a folder that is a link leading out of the workload, to /etc: {INSTEAD}"


def test_a_link_whose_folder_is_taken_by_another_name_is_named(root: Path) -> None:
    """By `models/current` a service finds its model; no copy has the link, and no list named it."""
    (root / "models/v7").mkdir()
    (root / "models/v7/m.bin").write_text("7")
    (root / "models/current").symlink_to("v7")
    (root / "logs/today").symlink_to("../conf")
    (root / "conf/again").symlink_to(".")
    globs = {**GLOBS, "logs": ["logs/*"]}
    rows = {os.fsdecode(each.name): each for each in RootWalk(os.fsencode(root), globs).walk().remainders}
    assert rows["models/current"].reason == (
        "a link to v7: it leads to the folder models/v7, which is taken by another name"
    )
    assert rows["logs/today"].reason == "a link to ../conf, a folder, which this pattern does not take"
    assert "models/v7/m.bin" not in rows
    with SmallWorkload(root) as small, case_of(small.block(**globs)) as context:
        found: Evidence = made(collect.fn(context, "code"))
        listed = json.loads((context.directory.locate(1, found.files[-1])).read_bytes())["not_taken"]
    assert {"models/current", "logs/today"} <= {row["name"] for row in listed}
    line = in_a_line([rows["models/current"]])
    assert line == "not taken 未採取: 1 link, to be made again by hand (models/current)"
    assert not found.lost


def test_a_link_under_whose_name_its_folder_is_taken_is_not_named(root: Path) -> None:
    (root / "models/current").symlink_to("../src")
    walk = RootWalk(os.fsencode(root), {**GLOBS, "models": ["models/*"]}).walk()
    assert "models/current" not in {os.fsdecode(each.name) for each in walk.remainders}


def test_whole_folders_are_counted_and_what_is_usual_comes_last_in_the_line(root: Path) -> None:
    walk = walked(root)
    remainders = remainders_of(walk)
    assert (remainders["venv/"].files, remainders["data/"].size, remainders["logs/"].files) == (2, 4, 1)
    line = in_a_line([*walk.remainders])
    assert line.startswith(
        "not taken 未採取: 4 files (.env, conf/headers.json, old.joblib, token.txt), data/ 1 file 4 bytes, logs/ 1 file"
    )
    assert "venv/ 2 files" in in_a_line([remainders["venv/"], remainders["data/"]])
    assert "1 more in not_taken.json" in line
    assert in_a_line([]) == ""


def test_a_walk_that_ends_early_says_so_and_goes_on_to_name_what_it_has_not_seen(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remainder, "MOST_ENTRIES", 20)
    remainders = remainders_of(walked(root))
    unseen = [each for each in remainders.values() if not each.complete]
    assert unseen
    assert "not counted (not looked into)" in in_a_line(unseen)
    assert " 0 files" not in in_a_line(unseen)
    rows = document(unseen)["not_taken"]
    assert {row["counted"] for row in rows} == {"not counted to its end"}


@pytest.mark.parametrize(("bound", "value", "words"), [("MOST_FILES", 2, "after the first 2"), ("LARGEST", 9, "above")])
def test_what_exceeds_a_bound_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int, words: str
) -> None:
    monkeypatch.setattr(remainder, bound, value)
    walk = walked(root)
    beyond = {each.name for each in walk.remainders if each.reason.startswith(words)}
    assert beyond
    assert {os.fsencode(name) for name in SAVED} <= beyond | {*walk.names}


def test_nothing_outside_the_root_nor_our_own_is_read_or_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/private").write_text("x")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "evidence").mkdir()
    (root / "evidence/x.json").write_text("{}")
    os.mkfifo(root / "pipe")
    walk = walked(root, apart=[str(root / "evidence")])
    remainders = remainders_of(walk)
    assert remainders["out"].reason.startswith("a link to ")
    assert "no content" in remainders["pipe"].reason
    assert not [
        name for name in [*map(os.fsencode, remainders), *walk.names] if b"private" in name or b"evidence" in name
    ]


@pytest.mark.slow
@pytest.mark.parametrize("theirs", [IN_OUR_FOLDERS, ()])
def test_of_our_folders_in_the_root_all_that_is_not_ours_is_the_workloads(root: Path, theirs: tuple[str, ...]) -> None:
    for name in ("spare/", *theirs):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch() if name in theirs else (root / name).mkdir()
    with SmallWorkload(root) as small:
        block = small.block(**GLOBS, fallback_dir=root / "spare")
        for dry_run in (True, False):
            with case_of(block, incident=LATER, dry_run=dry_run) as context:
                made(collect.fn(context, "code"))
        with case_of(block) as context:
            for name in ("open.json", "early-0badb007.json", CAUGHT, ".cordon.json.0123456789abcdef.new"):
                (root / "evidence" / name).write_text("{}")
            found: Evidence = made(collect.fn(context, "code"))
            told = json.loads((context.directory.locate(1, found.files[-1])).read_bytes())["not_taken"]
    assert [*(root / "spare").glob("evacuation-*/IR-*")], "ours lies there too"
    names = [*(file.path for file in found.files), *(unquote(row["name"]).decode() for row in told)]
    assert sorted(name for name in names if name.startswith(("evidence", "spare"))) == sorted(theirs)
    assert not found.lost


def test_of_very_many_rows_the_rest_is_added_up() -> None:
    told = document([Remainder(b"f%d" % at, 1, 2, "why") for at in range(1_200)])
    assert len(told["not_taken"]) == 1_000
    assert told["more"] == {"rows": 200, "files": 200, "bytes": 400}


def test_how_much_was_left_is_told_by_the_last_list(tmp_path: Path) -> None:
    """A screen of Verified did not tell that `.env` and a linked folder were not taken."""
    assert describe_not_taken(tmp_path) == ""
    rows = [Remainder(b".env", 1, 9, "withheld"), *(Remainder(b"%d/" % each, 2, 1000, "data") for each in range(1200))]
    for folder, remainders in (("evidence.2", []), ("evidence.10", rows), ("evidence", rows[:1])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "not_taken.json").write_text(json.dumps(document(remainders)))
        if folder == "evidence.2":
            assert describe_not_taken(tmp_path) == ""
    last = tmp_path / "evidence.10/not_taken.json"
    assert describe_not_taken(tmp_path) == f"2401 files of 1,200,009 bytes; {last} lists what and why"
    last.write_text("[]")
    assert describe_not_taken(tmp_path) == ""


def test_what_is_left_of_containers_is_counted_apart_and_asks_for_no_pattern(tmp_path: Path) -> None:
    image = Remainder(b"containers/c/image", 0, 0, "by sha256:0", reproducible=True, elsewhere=True, image=True)
    volume = Remainder(b"containers/c/v/", 0, 0, "a volume", complete=False, elsewhere=True)
    file = Remainder(b"containers/c/a b", 1, 9, "why", elsewhere=True)
    for rows, line in (
        ([image], "the files of 1 image"),
        ([image, volume], "containers/c/v/, not counted (a volume), the files of 1 image"),
        ([image, volume, file], "1 file of 9 bytes, containers/c/v/, not counted (a volume), the files of 1 image"),
        (
            [file, *[volume] * 5],
            f"1 file of 9 bytes, {', '.join(['containers/c/v/, not counted (a volume)'] * 3)}, 2 more, not counted",
        ),
    ):
        (tmp_path / "evidence/containers/c").mkdir(parents=True, exist_ok=True)
        listed = tmp_path / "evidence/containers/c/not_taken.json"
        listed.write_text(json.dumps(document(rows)))
        assert {*read_other_list(listed)} == {*rows}
        (tmp_path / "evidence/not_taken.json").write_text(listed.read_text())
        assert describe_not_taken(tmp_path) == f"{line}; {tmp_path}/evidence/not_taken.json lists what and why"
    assert in_a_line([volume]) == "not taken 未採取: containers/c/v/, not counted (a volume)"
    assert in_a_line([image, file]) == "not taken 未採取: 1 file (containers/c/a b), containers/c/image (by sha256:0)"
    assert in_a_line([image, Remainder(b"x", 1, 9, "why")]).endswith(
        "name what is needed in logs, artifacts, models or folders"
    )
    listed.write_text(json.dumps(document([file] * 1_200)))
    more = Remainder(b"containers/c/", 200, 1800, "more than are listed", elsewhere=True)
    assert read_other_list(listed)[-1] == more


def test_a_list_of_a_container_that_cannot_be_read_is_a_loss(context: RunContext) -> None:
    folder = context.directory.evidence_dir(1) / "containers/c"
    folder.mkdir(parents=True)
    (folder / NOT_TAKEN).write_text('{"not_taken": [{}]}')
    found: Evidence = made(collect.fn(context, "code"))
    assert found.lost
    assert "containers/c/not_taken.json" in [loss.source for loss in found.losses]


def test_the_last_list_may_lie_on_the_fallback_disk(tmp_path: Path) -> None:
    """Of a full evidence disk neither the message nor the screen told what was not taken."""
    home, fallback = tmp_path / "disk", tmp_path / "fallback"
    for place, size in ((fallback / "evidence", 1), (home / "evidence.2", 2), (fallback / "evidence.10", 3)):
        place.mkdir(parents=True)
        (place / "not_taken.json").write_text(json.dumps(document([Remainder(b".env", 1, size, "withheld")])))
    last = fallback / "evidence.10/not_taken.json"
    for homes in ((home, fallback), (fallback, home)):
        assert describe_not_taken(*homes) == f"1 file of 3 bytes; {last} lists what and why"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_lies_behind_a_link_out_of_the_root_is_said_to_be_unknown(root: Path, tmp_path: Path, kind: str) -> None:
    """It was one file of no bytes, and the advice, to name it, ended as denied."""
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer/a.ini").write_text("[a]")
    (tmp_path / "outer/b.ini").write_text("[b]")
    (root / "linked").symlink_to("../outer" if kind == "folder" else "../outer/a.ini")
    (root / "within").symlink_to("src")
    found = remainders_of(walked(root))
    link = found["linked"]
    (row,) = document([link])["not_taken"]
    assert row == {"name": "linked", "files": 0, "bytes": 0, "reason": link.reason, "counted": "not counted to its end"}
    assert INSTEAD in link.reason
    assert (found["within"].files, found["within"].complete) == (1, True)
    assert (
        in_a_line([link])
        == f"not taken 未採取: 1 link out of the root, not counted (linked); of a link out of the root, {INSTEAD}"
    )
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence/not_taken.json").write_text(json.dumps(document([link])))
    assert describe_not_taken(tmp_path).startswith("linked, not counted (a link to ../outer")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a disk")
def test_the_advice_for_a_link_out_of_the_root_works(root: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as disk:
        (disk / "a.ini").write_text("[a]")
        shutil.copytree(disk, root / "copied")
        (root / "linked").symlink_to(disk)
        globs = {**GLOBS, "folders": ["models", "linked"]}
        with SmallWorkload(root) as small:
            with case_of(small.block(**globs)) as context:
                assert "copied/a.ini" in {file.path for file in made(collect.fn(context, "code")).files}
                assert made(collect.fn(context, "folders")).lost
            (root / "linked").unlink()
            (root / "linked").mkdir()
            subprocess.run(["mount", "--bind", disk, root / "linked"], check=True)
            try:
                with case_of(small.block(**globs), incident=LATER) as context:
                    found: Evidence = made(collect.fn(context, "folders"))
            finally:
                subprocess.run(["umount", root / "linked"], check=True)
    assert "linked/a.ini" in {file.path for file in found.files}
    assert not found.lost
