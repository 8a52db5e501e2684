"""What the API that is started may read is as it was: real files, a real API of before, and the kernel's word."""

import errno
import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.evidence.acquisition import Seal
from tasks.evidence.collect import collect
from tasks.host.process.table import age_of, start_of, ticks
from tasks.incident.layout import of_boot
from tasks.models.inspect import judge_models
from tasks.recovery.newer import find_newer, find_spans, find_touched, pick_read, watch_newer
from tasks.recovery.outside_files import find_mounted
from tasks.recovery.process_api import ProcessApi
from tasks.recovery.served_model import SealedModels
from tasks.runtime.context import RunContext
from tasks.silence.events import call
from tests.support.run_context import case_of, made
from tests.support.sealed_runs import seal_volumes
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.whole

READS = """
import glob, os, sqlite3, sys
sys.path.insert(0, ".")
import feature
for name in sys.argv[1:]:
    open(name, "rb").close()
visits = open("visits.json").read()
open("visits.json", "w").write(visits + "1")
open("api.pid", "w").write(str(os.getpid()))
held = open("console", "a")
open("logs/api.log", "a").write("up\\n")
with sqlite3.connect("state.db") as state:
    state.execute("select * from visits").fetchall()
open("ready", "w").close()
import time; time.sleep(600)
"""
BY_CHILDREN = """
import subprocess, time
subprocess.run(["sh", "-c", "T=$(cat conf/settings.json); (. ./.env; true)"], check=True)
open("ready", "w").close()
time.sleep(600)
"""
AGAIN = """
import sys, time
while not open(sys.argv[1]).close():
    open(sys.argv[2], "w").close()
    time.sleep(0.1)
"""
IDLE = "open('ready', 'w').close(); import time; time.sleep(600)"
CONF = {
    "conf/settings.json": b'{"scale": 1}',
    "conf/settings.py": b'PASSWORD = "cAnArY-7f1d-Xq9"\nSCALE = 1\n',
    ".env": b"SCALE=1\n",
    "data/scaler.pkl": pickle.dumps([1.0]),
    "data/thresholds.json": b'{"t": 1}',
    "models/scaler.joblib": pickle.dumps([2.0]),
    "requirements.txt": b"numpy\n",
    "feature.py": b"SIZE = 1\n",
}
OUTSIDE = "../etc of it/app.yaml"
RESULTS = {"artifacts/summary_1.json": b"{}", "models/metrics.json": b"{}", "logs/train-1.log": b"step 1\n"}


@contextmanager
def ran(small: SmallWorkload, code: str = READS) -> Iterator[subprocess.Popen[bytes]]:
    """An API that has read all of it, and what a link leads to."""
    (small.root / "ready").unlink(missing_ok=True)
    api = small.start([sys.executable, "-c", code, *CONF, *RESULTS, "now/rules.json", OUTSIDE])
    wait_until((small.root / "ready").exists, what="the API")
    yield api
    api.kill()
    api.wait()


@contextmanager
def stopped(small: SmallWorkload, *late: str) -> Iterator[tuple[RunContext, list[Seal], SealedModels]]:
    """An incident that has frozen the API, ended it and sealed what the root has, after these files were changed."""
    with case_of(small.block(api_environment={"CONFIG": OUTSIDE})) as context, ran(small) as api:
        now, started = datetime.now(UTC), ticks()
        start = start_of(api.pid)
        context.state.frozen.write([Frozen(Identity(api.pid, start), "api", "api", 0, now, now)])
        context.log.write("frozen", str(api.pid), at=str(now), ran_seconds=round(age_of(start)))
        wait_until(lambda: ticks() > started + 1, what="a later time of changes")
        for name in late:
            change(small.root / name)
        write_results(small)
        evidence = [made(collect.fn(context, "tree"))]
        api.kill()
        wait_until(lambda: psutil.Process(api.pid).status() == psutil.STATUS_ZOMBIE, what="its end")
        context.log.write("step done", "stop the workload", step_id="stop")
        ended = ticks()
        wait_until(lambda: ticks() > ended + 1, what="a later time of changes")
        evidence += [made(collect.fn(context, name)) for name in ("code", "models", "lockfiles", "folders")]
        judge_models.fn(context, evidence)
        seals = [*seal_volumes(context, evidence)]
        yield context, seals, SealedModels.read(context.directory, context.workload, seals)


def write_results(small: SmallWorkload) -> None:
    """What a training and the API's own writing change while it runs."""
    for name in RESULTS:
        (small.root / name).write_text("late")
    (small.root / "__pycache__/late.pyc").write_text("late")
    (small.root / ".git/index").write_text("late")
    (small.root / "venv/late.json").write_text("late")
    with closing(sqlite3.connect(small.root / "state.db")) as state, state:
        state.execute("insert into visits values (1)")


@pytest.fixture
def house(small: SmallWorkload) -> SmallWorkload:
    """A workload whose API reads all kinds of files at its start, and was laid out some time ago."""
    for name, content in (CONF | RESULTS).items():
        (small.root / name).parent.mkdir(exist_ok=True)
        (small.root / name).write_bytes(content)
    (small.root / OUTSIDE).parent.mkdir()
    (small.root / OUTSIDE).write_text("threshold: 1")
    for folder in (".git", "__pycache__"):
        (small.root / folder).mkdir(exist_ok=True)
    with closing(sqlite3.connect(small.root / "state.db")) as state, state:
        state.execute("create table visits (at integer)")
    (small.root / "visits.json").write_text("1")
    os.mkfifo(small.root / "pipe")
    for name in ("v1", "v2"):
        (small.root / name).mkdir()
        (small.root / name / "rules.json").write_text(name)
    (small.root / "now").symlink_to("v1")
    made_at = ticks()
    wait_until(lambda: ticks() > made_at + 1, what="a later time of starts")
    return small


def tell(  # noqa: PLR0913, PLR0917  what a recovery has, and what its start does
    small: SmallWorkload,
    context: RunContext,
    seals: list[Seal],
    models: SealedModels,
    code: str = READS,
    meanwhile: Callable[[], object] = bool,
) -> dict[str, str]:
    """What a recovery that starts the API tells."""
    touched = find_touched(context, models)
    context.log.write("uncordoned", "")
    newer, since = find_newer(context, models, seals, ProcessApi(context).find_outside()), datetime.now(UTC)
    started = list[Identity]()
    with (
        watch_newer(context.adapters.host, context.workload, newer, lambda: started[0]) as opened,
        ran(small, code) as api,
    ):
        started.append(Identity(api.pid, start_of(api.pid)))
        meanwhile()
        return pick_read(small.root, newer, opened(), since) | touched


def change(path: Path) -> None:
    """Change a file and keep its time, as a person may."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"1", b"7") + b"\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_training_and_an_api_that_write_their_own_files_make_no_doubt(house: SmallWorkload) -> None:
    with stopped(house) as (context, seals, models):
        assert tell(house, context, seals, models) == {}


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", CONF)
def test_what_was_changed_after_the_stop_is_told(house: SmallWorkload, name: str) -> None:
    """Configuration, code with a password, and a second model were changed, and the word was Recovered."""
    with stopped(house) as (context, seals, models):
        change(house.root / name)
        told = tell(house, context, seals, models)
        assert {*told} - {"__pycache__/feature.cpython-311.pyc"} == {name}
        assert "after the stop" in told[name]


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", CONF)
def test_what_was_changed_after_the_start_of_the_api_and_before_the_freeze_is_told(
    house: SmallWorkload, name: str
) -> None:
    with stopped(house, name) as (context, seals, models):
        told = tell(house, context, seals, models)
    assert "after the API had started" in " ".join(told.values())
    assert {each.replace("__pycache__/feature.cpython-311.pyc", "feature.py") for each in told} == {name}


@pytest.mark.parametrize("late", [(OUTSIDE,), ()], ids=["before", "after"])
def test_a_file_outside_the_root_that_the_start_names_counts_too(house: SmallWorkload, late: tuple[str, ...]) -> None:
    with stopped(house, *late) as (context, seals, models):
        if not late:
            change(house.root / OUTSIDE)
        ((name, told),) = tell(house, context, seals, models).items()
    assert name == os.path.normpath(house.root / OUTSIDE)
    assert told.startswith(f"{name} was changed at ")


def test_what_was_compiled_of_a_file_outside_the_root_stands_for_it(house: SmallWorkload) -> None:
    """The recovery failed on a path that is not below the root."""
    source = Path(os.path.normpath(house.root / OUTSIDE)).with_name("rules.py")
    source.write_text("SCALE = 1\n")
    made_at = ticks()
    wait_until(lambda: ticks() > made_at + 1, what="a later time of starts")
    with stopped(house) as (context, seals, models):
        assert not {*find_newer(context, models, seals, {str(source)})} & {str(source)}
        change(source)
        subprocess.run([sys.executable, "-m", "compileall", "-q", source.parent], check=True)
        compiled = source.parent / f"__pycache__/rules.{sys.implementation.cache_tag}.pyc"
        newer = find_newer(context, models, seals, {str(source)})
    assert newer[str(source)] == newer[str(compiled)]


def test_what_a_container_mounts_from_outside_the_root_counts_and_what_has_the_root_in_it_does_not(
    house: SmallWorkload,
) -> None:
    folder, file = house.root.parent / "etc of it", os.path.normpath(house.root / OUTSIDE)
    within = [str(house.root), str(house.root / "models"), "", "/", str(house.root.parent)]
    assert find_mounted([str(folder), *within], house.root) == {f"{folder}/"}
    assert find_mounted([file, "/dev/null", f"{folder}/none"], house.root) == {file}


@pytest.mark.parametrize("late", [True, False], ids=["changed", "as it was"])
def test_of_a_folder_that_is_mounted_what_was_changed_counts_and_that_it_has_more_than_is_looked_at(
    house: SmallWorkload, monkeypatch: pytest.MonkeyPatch, *, late: bool
) -> None:
    """Of a mount with more files the rest was left out, and nothing told of it."""
    folder, file = house.root.parent / "etc of it", os.path.normpath(house.root / OUTSIDE)
    with stopped(house, *[OUTSIDE] * late) as (context, seals, models):
        mounted = find_mounted([str(folder)], house.root)
        newer = find_newer(context, models, seals, mounted)
        assert {each for each in newer if each.startswith("/")} == ({file} if late else set())
        (folder / "another").touch()
        monkeypatch.setattr("tasks.recovery.inside_files.MOST_ENTRIES", 1)
        newer = find_newer(context, models, seals, mounted)
        assert "and the rest was not looked at" in newer[f"{folder}/"]


@pytest.mark.parametrize("late", [("conf/settings.json",), (".env",), ()], ids=["read by cat", "by a shell", "none"])
def test_what_a_child_of_the_start_has_read_and_ended_counts(house: SmallWorkload, late: tuple[str, ...]) -> None:
    with stopped(house, *late, "data/scaler.pkl") as (context, seals, models):
        assert {*tell(house, context, seals, models, BY_CHILDREN)} == {*late}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only to root the kernel names who opens a file")
def test_who_stood_before_and_a_training_that_was_let_in_are_not_the_api_and_a_backup_may_be(
    house: SmallWorkload,
) -> None:
    late = ["conf/settings.json", "data/thresholds.json", "data/scaler.pkl"]

    def read(name: str, *words: str) -> None:
        (house.root / "reader.log").unlink(missing_ok=True)
        house.start([sys.executable, "-c", AGAIN, name, "reader.log", *words])
        wait_until((house.root / "reader.log").exists, what="a reader")

    def read_meanwhile() -> None:
        read(late[1], *house.training_command)
        subprocess.run(["sha256sum", "data/scaler.pkl", "feature.py"], cwd=house.root, check=True)

    with stopped(house, *late) as (context, seals, models):
        read(late[0])
        assert {*tell(house, context, seals, models, IDLE, read_meanwhile)} == {late[2]}


PACKAGES = {
    "venv/lib/python3/site-packages/lib/core.py": b"SCALE = 1\n",
    "web/node_modules/scale/index.js": b"scale = 1\n",
    "web/.venv/conda-meta/scale.json": b"[1]\n",
    ".cache/virtualenvs/it/lib/scale.py": b"SCALE = 1\n",
}
IMPORTS = """
import sys, time
sys.path.insert(0, "venv/lib/python3/site-packages")
import lib.core
for name in sys.argv[1:]:
    open(name, "rb").close()
open("ready", "w").close()
time.sleep(600)
"""


@pytest.fixture
def furnished(house: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> SmallWorkload:
    """A workload with packages, which its API has read."""
    for name, content in PACKAGES.items():
        (house.root / name).parent.mkdir(parents=True)
        (house.root / name).write_bytes(content)
        monkeypatch.setitem(CONF, name, content)
    for place in ("venv", ".cache/virtualenvs/it"):
        (house.root / place / "pyvenv.cfg").write_text("home = /usr/bin\n")
    made_at = ticks()
    wait_until(lambda: ticks() > made_at + 1, what="a later time of starts")
    return house


@pytest.mark.parametrize("late", [(), *((each,) for each in PACKAGES)], ids=["none", *PACKAGES])
def test_a_package_that_was_upgraded_after_the_start_of_the_api_is_told(
    furnished: SmallWorkload, late: tuple[str, ...]
) -> None:
    with stopped(furnished, *late) as (context, seals, models):
        assert {*tell(furnished, context, seals, models)} == {*late}


@pytest.mark.parametrize("is_upgraded", [True, False])
def test_what_was_compiled_since_the_start_counts_only_if_its_source_was_changed(
    furnished: SmallWorkload, monkeypatch: pytest.MonkeyPatch, *, is_upgraded: bool
) -> None:
    (source,) = (each for each in PACKAGES if each.endswith("core.py"))
    for name in [*CONF]:
        monkeypatch.delitem(CONF, name)
    with stopped(furnished, *[source] * is_upgraded) as (context, seals, models):
        subprocess.run([sys.executable, "-m", "compileall", "-q", furnished.root / "venv"], check=True)
        told = tell(furnished, context, seals, models, IMPORTS)
    compiled = f"{Path(source).parent}/__pycache__/core.{sys.implementation.cache_tag}.pyc"
    assert {*told} == ({compiled} if is_upgraded else set())


def test_an_environment_that_was_put_in_the_place_of_another_is_told_and_one_beside_it_is_not(
    furnished: SmallWorkload,
) -> None:
    root = furnished.root
    subprocess.run(["cp", "-a", root / "venv", root / "venv.new"], check=True)
    made_at = ticks()
    wait_until(lambda: ticks() > made_at + 1, what="a later time of starts")
    with stopped(furnished) as (context, seals, models):
        subprocess.run(["cp", "-a", root / "venv", root / "venv.train"], check=True)
        assert {*tell(furnished, context, seals, models)} == set()
        (root / "venv").rename(root / "venv.old")
        (root / "venv.new").rename(root / "venv")
        assert {*tell(furnished, context, seals, models)} == {each for each in PACKAGES if each.startswith("venv/")}


def test_a_folder_of_packages_that_is_too_large_to_be_looked_at_is_told(
    furnished: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.recovery.inside_files.MOST_ENTRIES", 5)
    with stopped(furnished) as (context, seals, models):
        told = {*tell(furnished, context, seals, models)}
        assert {each for each in told if not each.startswith("/")} == {"venv/"}


@pytest.fixture
def linked(house: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package of an environment out of the root to which a link of the root leads, and which its API has read."""
    place, name = house.root.parent / "environments/house", ".venv/lib/python3/site-packages/lib/core.py"
    (house.root / ".venv").symlink_to("../environments/house")
    (place / "lib/python3/site-packages/lib").mkdir(parents=True)
    (place / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (house.root / name).write_bytes(b"SCALE = 1\n")
    monkeypatch.setitem(CONF, name, b"SCALE = 1\n")
    made_at = ticks()
    wait_until(lambda: ticks() > made_at + 1, what="a later time of starts")
    return name


@pytest.mark.parametrize("within", ["environments", ".cache/virtualenvs"])
@pytest.mark.parametrize("names_it", ["by its program", "by its folder", "not"])
def test_a_package_of_an_environment_out_of_the_root_is_told_if_the_start_names_that(
    house: SmallWorkload, monkeypatch: pytest.MonkeyPatch, linked: str, names_it: str, within: str
) -> None:
    """Only the program and the files at its top counted, and a package that was upgraded came back as Recovered.

    So it did where the environment lies in a folder that is a cache by its name.
    """
    place = house.root.parent / within / "house"
    package = str(place / Path(linked).relative_to(".venv"))
    place.parent.mkdir(parents=True, exist_ok=True)
    (house.root.parent / "environments/house").rename(place)
    (house.root / ".venv").unlink()
    monkeypatch.delitem(CONF, linked)
    start = {"by its program": f"{place}/bin/gunicorn", "by its folder": str(place), "not": f"{place}.toml"}[names_it]
    with stopped(house, package) as (context, seals, models):
        context.workload.api_environment = {"START": start}
        told = tell(house, context, seals, models, f"open({package!r}, 'rb').close()\n{IDLE}")
        assert {*told} == (set() if names_it == "not" else {package})


def test_configuration_in_a_folder_behind_a_link_out_of_the_root_is_told(
    house: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link to such a file was followed, and one to its folder was not."""
    (house.root / "etc").symlink_to("../etc of it")
    monkeypatch.setitem(CONF, "etc/app.yaml", b"threshold: 1")
    with stopped(house, OUTSIDE) as (context, seals, models):
        assert "etc/app.yaml" in tell(house, context, seals, models)
    (house.root / "parent").symlink_to("../../..")
    with stopped(house) as (context, seals, models):
        assert not any(each.startswith("parent") for each in find_newer(context, models, seals))


@pytest.mark.parametrize("when", ["before the freeze", "after the stop", "never"])
def test_a_package_of_an_environment_behind_a_link_out_of_the_root_is_told(
    house: SmallWorkload, linked: str, when: str
) -> None:
    """Nothing behind such a link was looked at, and the API came back as Recovered with another package."""
    with stopped(house, *[linked] * (when == "before the freeze")) as (context, seals, models):
        if when == "after the stop":
            change(house.root / linked)
        assert {*tell(house, context, seals, models)} == (set() if when == "never" else {linked})


def reboot(context: RunContext) -> None:
    """Have what the incident has frozen be of another boot."""
    path = context.state.frozen.path
    path.rename(path.with_name(of_boot(path.name, "00000001")))
    context.state.frozen = type(context.state)(context.directory).frozen
    assert not context.state.frozen.read()


@pytest.mark.parametrize("late", [("conf/settings.json",), ()], ids=["edited", "as it was"])
def test_what_was_changed_before_a_reboot_and_after_the_start_of_the_api_is_told(
    house: SmallWorkload, late: tuple[str, ...]
) -> None:
    laid_out = ticks()
    wait_until(lambda: ticks() > laid_out + 110, what="a second, to which the log rounds how long it had run")
    with stopped(house, *late) as (context, seals, models):
        reboot(context)
        told = tell(house, context, seals, models)
    assert {*told} == {*late}
    assert all("after the API had started (" in each for each in told.values())


def test_if_the_log_has_lost_when_the_api_had_started_before_a_reboot_all_that_it_reads_counts(
    house: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stopped(house, "conf/settings.json") as (context, seals, models):
        reboot(context)
        rows = [each for each in context.log.entries() if each["action"] != "frozen"]
        monkeypatch.setattr(context.log, "entries", lambda: rows)
        told = tell(house, context, seals, models)
        assert CONF.keys() - told.keys() <= {"feature.py"}
        assert "when the API had started is not known" in told["conf/settings.json"]


@contextmanager
def on_overlay(root: Path) -> Iterator[None]:
    """The root with all that is in it lies on an overlay, as in a container."""
    parts = {name: root.parent / f"overlay-{name}" for name in ("lowerdir", "upperdir", "workdir")}
    for each in parts.values():
        each.mkdir()
    subprocess.run(["cp", "-a", f"{root}/.", parts["upperdir"]], check=True)
    options = ",".join(f"{name}={path}" for name, path in parts.items())
    if subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", root], check=False).returncode:
        pytest.skip("no overlay can be mounted here")
    made_at = ticks()
    wait_until(lambda: ticks() > made_at + 1, what="a later time of starts")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it mounts")
@pytest.mark.parametrize("late", [("conf/settings.json",), ()], ids=["edited", "as it was"])
def test_what_the_api_reads_on_an_overlay_counts_too(house: SmallWorkload, late: tuple[str, ...]) -> None:
    with on_overlay(house.root), stopped(house, *late) as (context, seals, models):
        assert {*tell(house, context, seals, models)} == {*late}


@pytest.mark.parametrize("late", [("conf/settings.json",), ()], ids=["edited", "as it was"])
def test_where_the_kernel_watches_no_file_a_newer_one_counts_as_read(
    house: SmallWorkload, monkeypatch: pytest.MonkeyPatch, late: tuple[str, ...]
) -> None:
    def refuse(name: str, *given: object) -> int:
        if name == "fanotify_mark":
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        return call(name, *given)

    monkeypatch.setattr("tasks.recovery.opened.call", refuse)
    with stopped(house, *late) as (context, seals, models):
        assert {*tell(house, context, seals, models)} - {"venv/late.json"} == {*late}


@pytest.mark.parametrize("name", ["conf/settings.json", "feature.py"])
def test_what_is_gone_since_the_stop_is_told_and_again_by_the_next_recovery(house: SmallWorkload, name: str) -> None:
    with stopped(house) as (context, _, models):
        (house.root / name).unlink()
        assert find_touched(context, models) == {name: f"{name} is gone since it was taken 採取後に消失"}
        context.state.let_in.write(True)
        assert find_touched(context, models) == {}
        context.state.newer.write([f"{name} is gone since it was taken 採取後に消失"])
        assert [*find_touched(context, models)] == [name]


def test_what_is_changed_once_training_was_let_in_counts_only_if_the_api_reads_it(house: SmallWorkload) -> None:
    (house.root / "notes.json").write_text("{}")
    with stopped(house) as (context, seals, models):
        assert tell(house, context, seals, models) == {}
        change(house.root / "notes.json")
        assert tell(house, context, seals, models) == {}
        change(house.root / "conf/settings.json")
        assert [*tell(house, context, seals, models)] == ["conf/settings.json"]


def test_a_new_file_that_nothing_reads_does_not_count_and_a_link_that_was_switched_leads_to_others(
    house: SmallWorkload,
) -> None:
    with stopped(house) as (context, seals, models):
        (house.root / "notes.txt").write_text("what we did")
        (house.root / "models/model_unread.joblib").write_bytes(pickle.dumps("unread"))
        change(house.root / "models/model_builtin.joblib")
        assert tell(house, context, seals, models) == {}
        (house.root / "now").unlink()
        (house.root / "now").symlink_to("v2")
        assert [*tell(house, context, seals, models)] == ["now/rules.json"]


def test_what_was_changed_before_the_freeze_that_counts_is_what_the_api_has_read(house: SmallWorkload) -> None:
    with stopped(house) as (context, *_):
        assert len(find_spans(context.log)) == 1
        for action, number in (("uncordoned", 1), ("contained again", 2), ("uncordoned", 2), ("recovery ended", 0)):
            context.log.write(action, "")
            assert len(find_spans(context.log)) == number
