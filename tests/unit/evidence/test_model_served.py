"""Which model a container served is what it was started with, by the paths inside it."""

import json
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any

import pytest

from tasks.custody.containment.identity import ContainerIdentity, Identity
from tasks.custody.containment.receipt import Frozen, FrozenContainer
from tasks.custody.evidence.redact import redact
from tasks.custody.models.contract import ServedBefore
from tasks.evidence import model_served as looks
from tasks.evidence.model_served import doubts_of, doubts_since_start, find_change, model_served
from tasks.evidence.staging import put_aside
from tasks.host.process.table import ticks
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload, wait_until

NOW = datetime.now(UTC)
INSIDE, OUTSIDE, OTHER = "/app/models/model_a.joblib", "models/model_a.joblib", "/app/models/model_b.joblib"

MOUNTS = {
    "models": "/data/in",
    ".": "/all",
    "../other": "/all/store/hidden",
    "store/b.joblib": "/one.joblib",
    "../another": "/elsewhere",
}


@pytest.mark.parametrize(
    ("words", "models", "names"),
    [
        ("MODEL_PATH=/app/models/model_a.joblib", {INSIDE: "a", OUTSIDE: "another", OTHER: "b"}, (INSIDE,)),
        ("MODEL_PATH=models/model_a.joblib", {INSIDE: "a", OUTSIDE: "another", OTHER: "b"}, (INSIDE,)),
        ("MODEL_PATH=/app/models/model_a.joblib", {OUTSIDE: "mounted"}, (OUTSIDE,)),
        ("MODEL_FILE=model_a.joblib", {INSIDE: "a", OTHER: "b"}, (INSIDE,)),
        ("--model models/model_a.joblib", {INSIDE: "a", OTHER: "b"}, (INSIDE,)),
        ("--model=models/model_a.joblib", {OUTSIDE: "mounted"}, (OUTSIDE,)),
        ("sh -c 'exec serve models/model_a.joblib'", {INSIDE: "a", OTHER: "b"}, (INSIDE,)),
        ("LANG=C", {INSIDE: "a"}, ()),
    ],
)
def test_a_container_is_asked_for_what_it_names_inside(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, words: str, models: dict[str, str], names: tuple[str, ...]
) -> None:
    found = served_by_a_container(small, monkeypatch, words, models, {})
    assert (found.names, found.contents) == (names, frozenset(models[name] for name in names))


@pytest.mark.parametrize(
    ("words", "models", "names"),
    [
        (
            "BIRD=/data/in/bird v2.joblib",
            {"models/bird v2.joblib": "a", "models/b.joblib": "b"},
            ("models/bird v2.joblib",),
        ),
        ("--model /data/in/b.joblib", {"models/bird v2.joblib": "a", "models/b.joblib": "b"}, ("models/b.joblib",)),
        ("MODEL=/all/store/b.joblib", {"store/b.joblib": "b", "models/b.joblib": "c"}, ("store/b.joblib",)),
        ("MODEL=/all/store/hidden/b.joblib", {"store/hidden/b.joblib": "b"}, ("/all/store/hidden/b.joblib",)),
        ("MODEL=/one.joblib", {"store/b.joblib": "b", "models/b.joblib": "c"}, ("store/b.joblib",)),
        ("MODEL=/elsewhere/b.joblib", {"models/b.joblib": "c"}, ("/elsewhere/b.joblib",)),
    ],
)
def test_a_model_of_the_root_is_named_where_it_is_mounted(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, words: str, models: dict[str, str], names: tuple[str, ...]
) -> None:
    found = served_by_a_container(small, monkeypatch, words, models, MOUNTS)
    assert (found.names, found.contents) == (names, frozenset(models[name] for name in names if name in models))


def served_by_a_container(  # noqa: PLR0913, PLR0917  what a container may say
    small: SmallWorkload,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    models: dict[str, str],
    mounts: dict[str, str],
    named: str = "",
) -> ServedBefore:
    """What one served that was started with these words, a variable or arguments, and `named` one in its answer."""
    identity = ContainerIdentity("0" * 64, "then")
    was = FrozenContainer(identity, "api", "i", "no", auto_remove=False, why="", seen_at=NOW, paused_at=NOW)
    is_variable = words.partition("=")[0].replace("_", "").isupper()
    about = {
        "Path": "uvicorn",
        "Args": ["api.app:app", *([] if is_variable else shlex.split(words))],
        "Config": {"Env": ["PATH=/usr/bin", *([words] if is_variable else [])], "WorkingDir": "/app"},
        "HostConfig": {"NetworkMode": "host"},
        "Mounts": [
            {"Source": f"{small.root}/{source}", "Destination": at, "RW": False} for source, at in mounts.items()
        ],
    }
    for module in ("containment.containers.pause", "evidence.model_served"):
        monkeypatch.setattr(f"tasks.{module}.kept_config", lambda *_: about)
    with case_of(small.block(api_pattern="api.app")) as context:
        context.state.frozen_containers.write([was])
        if named:
            context.log.write("model named", named, result="in its answer, at /model")
        return model_served(context, [], models)


def test_a_look_that_found_the_api_gone_takes_nothing_from_the_look_before(small: SmallWorkload) -> None:
    """A second volume, as after the answer on an unknown process, describes the API's processes no more."""
    api, stranger = Identity(1 << 22, 1), Identity(1 << 22, 2)
    rows = {each: {"pid": each.pid, "start_ticks": each.start} for each in (api, stranger)}
    looks = [
        [{**rows[api], "environment": {"MODEL_PATH": OUTSIDE}, "cwd": str(small.root)}],
        [{**rows[api], "not read": "gone", "children": []}, {**rows[stranger], "command": ["sleep"]}],
    ]
    with case_of(small.block()) as context:
        roles = {api: "api", stranger: "answered"}
        frozen = [Frozen(each, role, role, 0, NOW, NOW) for each, role in roles.items()]
        context.state.frozen.write(frozen)
        for volume, look in enumerate(looks, 1):
            (folder := context.directory.evidence_dir(volume)).mkdir(parents=True, exist_ok=True)
            (folder / "tree.json").write_text(json.dumps(look))
        for volumes in ([1], [1, 2]):
            found = model_served(context, volumes, {OUTSIDE: "a"})
            assert (found.names, found.how) == ((OUTSIDE,), "named by its environment")


@pytest.mark.parametrize("is_again", [False, True])
@pytest.mark.parametrize("later", [{"cwd": "/"}, {"environment": {"MODEL_PATH": "models/b.joblib"}}])
def test_what_a_failed_recovery_has_started_is_not_what_was_served(
    small: SmallWorkload, later: dict[str, Any], *, is_again: bool
) -> None:
    """It was frozen in its first second and had loaded nothing; the verdict said that the model was not known."""
    apis = Identity(1 << 22, 1), Identity(1 << 22, 2)
    answers: list[dict[str, Any]] = [{"environment": {"MODEL_PATH": OUTSIDE}}, later]
    with case_of(small.block()) as context:
        context.state.frozen.write([Frozen(each, "api", "api", 0, NOW, NOW) for each in apis])
        context.state.let_in.write(True)
        for volume, (api, answer) in enumerate(zip(apis, answers, strict=True), 1):
            (folder := context.directory.evidence_dir(volume)).mkdir(parents=True, exist_ok=True)
            row = {"pid": api.pid, "start_ticks": api.start, "cwd": str(small.root), **answer}
            (folder / "tree.json").write_text(json.dumps([row]))
        if is_again:
            context.log.write("recovery ended", context.incident.id)
            os.utime(folder / "tree.json", (time() + 60, time() + 60))
        found = model_served(context, [1, 2], {OUTSIDE: "a", "models/b.joblib": "b"})
    now = ("models/b.joblib",) if "environment" in later else ()
    assert found.names == (now if is_again else (OUTSIDE,))


RELEASES = {"models/v6/m.joblib": "6", "models/v7/tide m.joblib": "7", "models/two/a.pkl": "8", "models/two/b.pkl": "9"}


@pytest.mark.parametrize(
    ("answers", "names"),
    [
        ({"environment": {"TIDE_DIR": "models/current"}}, ("models/v7/tide m.joblib",)),
        ({"environment": {"TIDE_DIR": "{root}/models/next/"}}, ("models/v7/tide m.joblib",)),
        ({"environment": {"TIDE": "models/current/tide m.joblib"}}, ("models/v7/tide m.joblib",)),
        ({"environment": {"TIDE": "models/prod.bin"}}, ("models/v6/m.joblib",)),
        ({"environment": {"TIDE": "../models/prod.bin"}, "cwd": "{root}/src"}, ("models/v6/m.joblib",)),
        ({"environment": {"TIDE": "../models/v6"}, "cwd": "{root}/src"}, ("models/v6/m.joblib",)),
        ({"command": ["serve", "--from=models/current"]}, ("models/v7/tide m.joblib",)),
        ({"command": ["serve", "models/v6"]}, ("models/v6/m.joblib",)),
        ({"environment": {"TIDE_DIR": "models/pair"}}, ("models/two/a.pkl", "models/two/b.pkl")),
        (
            {"environment": {"TIDE_DIR": "models/current", "OLD": "models/v6"}},
            ("models/v6/m.joblib", "models/v7/tide m.joblib"),
        ),
        ({"environment": {"TIDE_DIR": "models/out"}}, ()),
        ({"environment": {"TIDE_DIR": "models/loop"}}, ()),
        ({"environment": {"TIDE_DIR": "models/changed"}}, ()),
        ({"environment": {"LONG": "models/" + "x" * 300, "MANY": "a/" * 4000, "NOTHING": ""}}, ()),
    ],
)
def test_a_word_of_the_start_that_leads_to_the_folder_of_one_model_names_it(
    small: SmallWorkload, answers: dict[str, Any], names: tuple[str, ...]
) -> None:
    """A folder by its link named nothing, so no recovery was proven to serve what was served."""
    for name in RELEASES:
        (path := small.root / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    ends = {"current": "v7", "next": "current", "prod.bin": "v6/m.joblib", "pair": "two", "out": "/", "loop": "loop"}
    for name, end in ends.items():
        (small.root / "models" / name).symlink_to(end)
    api, then, changed = Identity(1 << 22, 1), datetime.now(UTC), small.root / "models/changed"

    def is_changed() -> bool:
        changed.unlink(missing_ok=True)
        changed.symlink_to("v7")
        return changed.lstat().st_ctime > then.timestamp()

    row = json.dumps([{"pid": api.pid, "start_ticks": api.start, **answers}]).replace("{root}", str(small.root))
    with case_of(small.block()) as context:
        context.state.frozen.write([Frozen(api, "api", "api", 0, then, then)])
        wait_until(is_changed, what="a link of after the freeze")
        (folder := context.directory.evidence_dir(1)).mkdir(parents=True)
        (folder / "tree.json").write_text(row)
        found = model_served(context, [1], RELEASES)
    assert found.names == names
    assert len(found.contents) == len(names)


@pytest.mark.parametrize(
    ("later", "names"),
    [
        ({"not read": "gone"}, (OUTSIDE,)),
        ({"state": "T (stopped)", "cwd": "/"}, (OUTSIDE,)),
        ({"environment": {"MODEL_PATH": OUTSIDE}}, (OUTSIDE,)),
        ({"open_files": [{"to": "models/b.joblib"}]}, ("models/b.joblib",)),
    ],
)
@pytest.mark.parametrize("is_thawed", [False, True])
def test_the_look_of_a_cancelled_run_counts_beside_that_of_the_run_that_goes_on(
    small: SmallWorkload, later: dict[str, object], names: tuple[str, ...], *, is_thawed: bool
) -> None:
    """The stop was cancelled when the API had been asked to end: the next look found it gone, or its model closed."""
    api = Identity(1 << 22, 1)
    row = {"pid": api.pid, "start_ticks": api.start}
    with case_of(small.block()) as context:
        context.state.frozen.write([Frozen(api, "api", "api", 0, NOW, NOW)])
        (folder := context.directory.evidence_dir(1)).mkdir(parents=True)
        (folder / "tree.json").write_text(json.dumps([{**row, "environment": {"MODEL_PATH": OUTSIDE}}]))
        if is_thawed:
            context.log.write("thawed", context.incident.id)
        put_aside(folder, "tree.json")
        (folder / "tree.json").write_text(json.dumps([{**row, **later}]))
        found = model_served(context, [1], {OUTSIDE: "a", "models/b.joblib": "b"})
        lost = is_thawed and OUTSIDE not in str(later) and "models/b.joblib" not in str(later)
        assert found.names == (() if lost else names)


TWO = {"models/a/m.json": "a", "models/b/m.json": "b", "models/c d.json": "c"}


@pytest.mark.parametrize(
    ("named", "answers", "names", "how"),
    [
        ("models/c d.json", {}, ("models/c d.json",), "named in its answer"),
        ("models/c d.json", {"environment": {"OLD": "models/b/m.json"}}, ("models/c d.json",), "named in its answer"),
        (
            "models/c d.json",
            {"environment": {"M": "models/c d.json"}},
            ("models/c d.json",),
            "named by its environment",
        ),
        ("c d.json", {"open_files": [{"to": "models/b/m.json"}]}, ("models/c d.json",), "named in its answer"),
        ("file://{root}/models/a/m.json", {}, ("models/a/m.json",), "named in its answer"),
        ("b/m.json", {}, ("models/b/m.json",), "named in its answer"),
        ("models/now/m.json", {}, ("models/b/m.json",), "named in its answer"),
        ("models/now", {}, ("models/b/m.json",), "named in its answer"),
        ("m.json", {"environment": {"M": "models/b/m.json"}}, ("models/b/m.json",), "named by its environment"),
        ("m.json", {"environment": {"M": "models/c d.json"}}, ("models/a/m.json", "models/b/m.json"), "in its answer"),
        ("m.json", {}, ("models/a/m.json", "models/b/m.json"), "named in its answer"),
        ("gone.joblib", {"environment": {"M": "models/b/m.json"}}, ("gone.joblib",), "named in its answer"),
        ("v7", {"environment": {"M": "models/b/m.json"}}, ("models/b/m.json",), "named by its environment"),
        ("model", {}, (), ""),
    ],
)
def test_what_the_api_named_before_its_freeze_is_what_it_served(
    small: SmallWorkload, named: str, answers: dict[str, Any], names: tuple[str, ...], how: str
) -> None:
    """The custody log had its answer, and each recovery said that what it served was not known."""
    for name in TWO:
        (path := small.root / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (small.root / "models/now").symlink_to("b")
    api = Identity(1 << 22, 1)
    with case_of(small.block()) as context:
        then = datetime.now(UTC)
        context.state.frozen.write([Frozen(api, "api", "api", 0, then, then)])
        context.log.write("model named", named.format(root=small.root), result="in its answer, at /model")
        if answers:  # else nobody has looked at its process
            (folder := context.directory.evidence_dir(1)).mkdir(parents=True)
            row = {"pid": api.pid, "start_ticks": api.start, "cwd": str(small.root), **answers}
            (folder / "tree.json").write_text(json.dumps([row]))
        found = model_served(context, [1], TWO)
    assert found.names == names
    assert how in found.how
    assert found.contents == {TWO[name] for name in names if name in TWO}


def test_a_name_that_was_hidden_in_the_log_is_found_again(small: SmallWorkload) -> None:
    name = "models/aB3xK9Qw7LmN2pZ.json"
    with case_of(small.block()) as context:
        shown = redact(name, digests=True)
        assert shown != name
        context.state.frozen.write([Frozen(Identity(1 << 22, 1), "api", "api", 0, NOW, NOW)])
        context.log.write("model named", shown, result="in its answer, at /model")
        assert model_served(context, [1], {name: "a", "models/b.json": "b"}).names == (name,)


def test_what_was_named_before_a_recovery_is_not_what_was_served_after_it(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        context.state.frozen.write([Frozen(Identity(1 << 22, 1), "api", "api", 0, NOW, NOW)])
        context.log.write("model named", "a/m.json", result="in its answer, at /model")
        context.state.let_in.write(True)
        assert model_served(context, [1], TWO).names == ("models/a/m.json",)
        context.log.write("recovery ended", context.incident.id)
        assert model_served(context, [1], TWO).names == ()
        context.log.write("model named", "b/m.json", result="in its answer, at /model")
        assert model_served(context, [1], TWO).names == ("models/b/m.json",)


@pytest.mark.parametrize("named", ["model_a.joblib", "/app/models/model_a.joblib", "models/model_a.joblib"])
def test_what_the_api_of_a_container_named_is_what_it_served(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    found = served_by_a_container(small, monkeypatch, "LANG=C", {INSIDE: "a", OTHER: "b"}, {}, named)
    assert (found.names, found.how) == ((INSIDE,), "named in its answer")


@pytest.mark.parametrize(
    ("how", "name", "seconds", "is_told"),
    [
        ("named by its environment", "models/a.bin", 60.0, True),
        ("named in its answer", "models/a.bin", -60.0, False),
        ("open in its process", "models/a.bin", 60.0, True),  # it has that file, and may have read it before
        ("mapped by its process", "models/a.bin", 60.0, True),
        ("open in its process", "models/a.bin", -60.0, False),
        ("mapped by its process", "models/a.bin", -60.0, False),
        ("named by its environment", "/models/a.bin", 60.0, False),  # a container's own
        ("named by its environment", "models/gone.bin", 60.0, False),
    ],
)
def test_a_file_that_was_changed_after_the_api_had_started_is_told(  # noqa: PLR0913  its cases
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch, how: str, name: str, seconds: float, *, is_told: bool
) -> None:
    (small.root / "models/a.bin").touch()
    changed_at = (small.root / "models/a.bin").stat().st_ctime
    monkeypatch.setattr(looks, "began_at", lambda _: datetime.fromtimestamp(changed_at - seconds, UTC))
    served = ServedBefore((name,), frozenset({"a"}), how)
    with case_of(small.block(reload_path="", model_at="")) as context:
        assert not doubts_since_start(context, served, [1]), "nobody was frozen"
        context.state.frozen.write([Frozen(Identity(1 << 22, 2), "api", "api", 0, NOW, NOW)])
        found = doubts_since_start(context, served, [1])
        assert [*found] == ([name] if is_told else [])
        assert all("after the API had started (" in change for change in found.values())


def test_what_was_forked_by_one_that_has_ended_may_have_read_its_model_at_any_time(small: SmallWorkload) -> None:
    """A worker of a master that was killed had the model in memory, was forked after it was replaced: Recovered."""
    (small.root / "models/a.bin").touch()
    served = ServedBefore(("models/a.bin",), frozenset({"a"}), "named by its environment")
    for since, is_told in ((0, False), (1, True)):
        with case_of(small.block(reload_path="", model_at="")) as context:
            started = Identity(1 << 22, ticks() + 100)
            context.state.frozen.write([Frozen(started, "api", "api", 0, NOW, NOW, since=since)])
            found = doubts_since_start(context, served, [1])
        assert ["when it read it is not known" in each for each in found.values()] == [True] * is_told


@pytest.mark.parametrize("how", ["named by its environment", "named by its command", "mapped by its process"])
@pytest.mark.parametrize("name", ["models/a.bin", "/models/a.bin"])
@pytest.mark.parametrize("reloads", ["/reload", ""])
@pytest.mark.parametrize("model_at", ["/model", ""])
@pytest.mark.parametrize("answered", [True, False])
def test_what_reloads_and_did_not_answer_may_have_reloaded_another(  # noqa: PLR0913  its cases
    small: SmallWorkload, how: str, name: str, reloads: str, model_at: str, *, answered: bool
) -> None:
    """It had loaded another model, was too slow to name it, and its start's came back: Recovered."""
    served = ServedBefore((name,), frozenset({"a"}), how, answered=answered)
    with case_of(small.block(reload_path=reloads, model_at=model_at)) as context:
        context.state.frozen.write([Frozen(Identity(1 << 22, 1), "api", "api", 0, NOW, NOW)])
        found = doubts_since_start(context, served, [1])
    is_sure = answered or not (reloads or model_at) or how.startswith("mapped")
    assert [*found] == ([] if is_sure else [name])
    assert all(("names none" if not model_at else "/model") in doubt for doubt in found.values())


def test_what_was_changed_before_a_recovery_let_it_in_says_nothing_of_what_runs_since(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        context.log.write("model unsure", "models/a.bin", result="it was changed")
        assert doubts_of(context.log, ["models/b.bin", "models/a.bin"]) == "it was changed"
        assert doubts_of(context.log, ["models/b.bin"]) == ""
        context.state.let_in.write(True)
        assert doubts_of(context.log, ["models/a.bin"]) == "it was changed", "the recovery failed"
        context.log.write("recovery ended", context.incident.id)
        assert doubts_of(context.log, ["models/a.bin"]) == ""


@pytest.mark.parametrize(
    "way", ["none", "an entry", "written", "moved", "folder", "link", "link to a folder", "touched"]
)
def test_a_path_is_changed_by_its_file_by_a_folder_that_was_renamed_and_by_a_link_on_the_way(
    tmp_path: Path, way: str
) -> None:
    """A folder that lay ready was renamed, and a link switched, after the API had started: Recovered, with another."""
    for place in ("models/r1", "models/r2", "ready/r1"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "a.bin").write_text(place)
    (tmp_path / "models/now.bin").symlink_to("r1/a.bin")
    (tmp_path / "models/now").symlink_to("r1")
    (tmp_path / "models/new.bin").write_text("ready")
    began = datetime.now(UTC)
    wait_until(lambda: _is_later(tmp_path / "clock", began), what="a later time of the file system")
    name, changes = "models/r1/a.bin", way not in {"none", "an entry"}
    if way == "an entry":
        (tmp_path / "models/r1/b.bin").touch()
        (tmp_path / "models/c.bin").touch()
    elif way == "written":
        (tmp_path / name).write_text("other")
    elif way == "moved":
        (tmp_path / "models/new.bin").rename(tmp_path / name)
    elif way == "folder":
        (tmp_path / "models").rename(tmp_path / "old")
        (tmp_path / "ready").rename(tmp_path / "models")
    elif way.startswith("link"):
        name = "models/now.bin" if way == "link" else "models/now/a.bin"
        switched = tmp_path / ("models/now.bin" if way == "link" else "models/now")
        switched.unlink()
        switched.symlink_to("r2/a.bin" if way == "link" else "r2")
    elif way == "touched":
        (tmp_path / name).write_text("other")
        os.utime(tmp_path / name, (1, 1))
    assert bool(find_change(str(tmp_path), name, began)) is changes


def _is_later(path: Path, began: datetime) -> bool:
    path.touch()
    return path.stat().st_ctime > began.timestamp()
