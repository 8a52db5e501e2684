"""Out of the store into a folder: all of it or a reason, proven while it is written, and nothing newer lost."""

import json
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from blocks.directory import DirectoryStore
from blocks.port import Store
from flows.cli import run
from tasks.custody.errors import PermanentStoreError, Refused
from tasks.custody.evidence.keys import begun_key
from tasks.custody.store.manifest import canonical
from tasks.evidence.collect import collect
from tasks.latest.pull import Pull, RestoreOutcome, pull
from tasks.latest.transaction import change_latest
from tasks.models.inspect import judge_models
from tests.support.holdings import FIRST, LOG, MODEL, NOW, SECOND, overwrite, put, snapshot, turn_for
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import evacuated, one_run
from tests.support.workloads import SmallWorkload
from tests.unit.latest.test_turns import Killed, KilledAt

HERE = {MODEL: "models/model_a.joblib", LOG: "logs/train.log"}


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """Where it goes; the name holds a space."""
    folder = tmp_path / "work load"
    folder.mkdir()
    return folder


@pytest.fixture
def filled(place: Store) -> Store:
    """Two files in latest/, by a turn."""
    turn_for(place, snapshot(place, FIRST, model="1", log="1"))
    return place


def outcomes(made: Pull) -> dict[str, RestoreOutcome]:
    return {each.name: each.outcome for each in made.files}


def age(path: Path, days: int) -> None:
    """Make it older, or newer, than now."""
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    os.utime(path, (then, then))


def test_latest_comes_under_the_runbooks_names_and_again_there_is_nothing_to_do(filled: Store, into: Path) -> None:
    made = pull(filled, "latest", into)
    assert (made.is_complete, made.summary) == (True, "latest: 2 new")
    assert {name: (into / name).read_text() for name in HERE.values()} == dict.fromkeys(HERE.values(), "1")
    assert pull(filled, "latest", into).summary == "latest: 2 same"
    assert not list(into.rglob(".pull-*"))


def test_an_older_file_is_replaced_a_newer_one_only_if_it_is_told_to(filled: Store, into: Path) -> None:
    for name, days in ((HERE[MODEL], 3650), (HERE[LOG], -1)):
        (into / name).parent.mkdir()
        (into / name).write_text("here")
        age(into / name, days)
    made = pull(filled, "latest", into)
    known = not isinstance(filled, MemoryStore)  # which does not tell when an object was written
    assert outcomes(made) == {
        HERE[MODEL]: RestoreOutcome.REPLACED if known else RestoreOutcome.LEFT,
        HERE[LOG]: RestoreOutcome.LEFT,
    }
    assert not made.is_complete
    assert "is newer" in next(each.reason for each in made.files if each.name == HERE[LOG])
    assert (into / HERE[LOG]).read_text() == "here"
    assert pull(filled, "latest", into, overwrite=True).is_complete
    assert (into / HERE[LOG]).read_text() == "1"


def test_what_was_pulled_is_as_old_as_in_the_store_so_the_next_promotion_is_newer(into: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    store = DirectoryStore(tmp_path / "disk")
    turn_for(store, snapshot(store, FIRST, model="1"))
    pull(store, "latest", into)
    turn_for(store, snapshot(store, SECOND, model="2"))
    assert outcomes(pull(store, "latest", into)) == {HERE[MODEL]: RestoreOutcome.REPLACED}


def test_what_is_not_what_the_turn_brought_is_not_taken_over(filled: Store, into: Path) -> None:
    overwrite(filled, MODEL, "forged")
    overwrite(filled, "latest/models/by_hand.json", "{}")
    made = pull(filled, "latest", into)
    assert outcomes(made) == {
        HERE[MODEL]: RestoreOutcome.FAILED,
        HERE[LOG]: RestoreOutcome.NEW,
        "models/by_hand.json": RestoreOutcome.UNPROMISED,
    }
    assert not made.is_complete
    assert not (into / "models/by_hand.json").exists()
    assert not (into / HERE[MODEL]).exists()
    assert not list(into.rglob(".pull-*"))


def test_what_is_missing_is_named(into: Path) -> None:
    store = MemoryStore()
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    del store._objects[MODEL]
    made = pull(store, "latest", into)
    assert outcomes(made)[HERE[MODEL]] is RestoreOutcome.MISSING
    assert not made.is_complete


def test_a_turn_that_is_not_done_is_told(into: Path) -> None:
    store = MemoryStore()
    with pytest.raises(Killed):
        change_latest(store, snapshot(store, FIRST, model="1", log="1"), KilledAt("promoted", MODEL), now=NOW)
    made = pull(store, "latest", into)
    assert "turn 1 of latest/ is not done" in made.summary
    assert not made.is_complete


def test_latest_that_changes_meanwhile_is_told(into: Path) -> None:
    class Changing(MemoryStore):
        def stream(self, key: str) -> Iterator[bytes]:
            if key == MODEL and not self.head(begun_key(2)):
                turn_for(self, snapshot(self, SECOND, log="2"))
            return super().stream(key)

    store = Changing()
    turn_for(store, snapshot(store, FIRST, model="1"))
    assert "changed meanwhile" in pull(store, "latest", into).summary


@pytest.mark.parametrize("name", ["models", "models/model_a.joblib"])
def test_no_link_is_followed(filled: Store, into: Path, tmp_path: Path, name: str) -> None:
    (outside := tmp_path / "outside").mkdir()
    (outside / "model_a.joblib").write_text("theirs")
    (into / name).parent.mkdir(exist_ok=True)
    (into / name).symlink_to(outside if name == "models" else outside / "model_a.joblib")
    made = pull(filled, "latest", into, overwrite=True)
    assert (outside / "model_a.joblib").read_text() == "theirs"
    assert [path.name for path in outside.iterdir()] == ["model_a.joblib"]
    assert made.is_complete is (name != "models")


def test_a_key_that_leads_elsewhere_is_no_file(into: Path) -> None:
    store = MemoryStore()
    store._objects["latest/../../outside"] = b"x"
    put(store, "latest/a", "1")
    assert outcomes(pull(store, "latest", into)) == dict.fromkeys(("../../outside", "a"), RestoreOutcome.UNPROMISED)
    assert sorted(path.name for path in into.parent.iterdir() if path.name == "outside") == []


@pytest.mark.parametrize("what", ["latest", FIRST, "20260102T030405Z", "snapshots/20260102T030405Z.2/"])
def test_what_is_not_there_is_refused(place: Store, into: Path, what: str) -> None:
    with pytest.raises(Refused, match="no object of it"):
        pull(place, what, into)


@pytest.mark.parametrize("what", ["", "..", "IR-1", "snapshots/../incidents", "last", "yesterday"])
def test_what_is_nothing_of_ours_is_refused(place: Store, into: Path, what: str) -> None:
    with pytest.raises(Refused) as refused:
        pull(place, what, into)
    shape = "an incident id IR-" if what == "IR-1" else "latest, an incident IR-…, or a snapshot's stamp"
    assert f"expected {shape}" in str(refused.value)


def test_a_folder_is_made_where_there_is_something_to_pull_and_a_place_for_it(filled: Store, into: Path) -> None:
    with pytest.raises(Refused, match="no object of it"):
        pull(filled, "20200102T030405Z", into / "new")
    assert not (into / "new").exists()
    assert pull(filled, "latest", into / "new").is_complete
    (into / "file").write_text("")
    for nowhere in ("not/there", "file", "file/below"):
        with pytest.raises(Refused, match="a folder, or a new one in a folder that exists"):
            pull(filled, "latest", into / nowhere)


def test_a_folder_without_room_is_refused(filled: Store, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(Refused, match="room for 2 bytes"):
        pull(filled, "latest", into)


@pytest.mark.slow
def test_an_incident_and_its_snapshots_come_back_as_their_manifests_say(into: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    evacuated(tmp_path / "small", store, None)
    made = pull(store, INCIDENT, into)
    assert made.is_complete, made.summary
    keys = {each.key.removeprefix("incidents/") for each in store.list("incidents/")}
    assert {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()} == keys
    for what in (f"snapshots/{INCIDENT.removeprefix('IR-')}", f"{INCIDENT.removeprefix('IR-')}.2"):
        (folder := tmp_path / what).mkdir(parents=True)
        assert pull(store, what, folder).is_complete
        assert list(folder.glob("logs/*.log"))
    key = f"incidents/{INCIDENT}/evidence/pip_freeze.txt"
    store._objects[key] = b"forged"
    (third := tmp_path / "forged").mkdir()
    made = pull(store, INCIDENT, third)
    assert [each.name for each in made.files if each.outcome is RestoreOutcome.FAILED] == [
        key.removeprefix("incidents/")
    ]
    store._objects[f"incidents/{INCIDENT}/evidence/manifest.json"] = b"{}"
    with pytest.raises(PermanentStoreError, match="Audit the incident"):
        pull(store, INCIDENT, third)


def test_by_hand_it_names_each_file_and_exits_by_what_came(
    into: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "disk").mkdir()
    store = DirectoryStore(tmp_path / "disk")
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    (file := tmp_path / "store.toml").write_text(f'[store.a]\nfolder = "{tmp_path}/disk"\n')
    (into / "logs").mkdir()
    (into / HERE[LOG]).write_text("newer")
    age(into / HERE[LOG], -1)
    codes = [run(["pull", str(file), str(into), *more]) for more in ([], ["--overwrite"], ["IR-1"])]
    assert codes == [1, 0, 2]
    told = capsys.readouterr()
    assert "left  logs/train.log: what is here is newer" in told.out
    assert "latest: 1 replaced, 1 same" in told.out
    assert "an incident id" in told.err


@pytest.mark.slow
def test_models_that_were_held_back_from_latest_are_named_where_none_comes(into: Path, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    with SmallWorkload(tmp_path / "small") as small:
        (small.root / "models/model_builtin.joblib").unlink()
        for name in ("MLmodel", "b.npz", "a.npz"):
            (small.root / "models" / name).write_bytes(name.encode())
        with case_of(small.block(models=["models/*"], may_be_missing=["models"]), store) as context:
            evidence = [made(collect.fn(context, name)) for name in ("logs", "models")]
            judge_models.fn(context, evidence)
            one_run(context, evidence)
    made_now = pull(store, "latest", into)
    assert (made_now.is_complete, list(into.rglob("*.npz"))) == (True, [])
    assert made_now.held.startswith("not in latest/ 未収録のモデル: 2, which IR-")
    assert "models/a.npz is unknown: of a format that is not read here; models/b.npz is" in made_now.held


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["gpu.2", "10.0.0.7"])
def test_a_snapshot_of_a_host_whose_name_ends_like_a_supplement_is_compared_with_its_manifest(
    into: Path, tmp_path: Path, suffix: str
) -> None:
    incident = f"{INCIDENT}-{suffix}"
    store = MemoryStore()
    with SmallWorkload(tmp_path / "small") as small, case_of(small.block(), store, incident=incident) as context:
        one_run(context, [made(collect.fn(context, name)) for name in ("logs", "models")])
    stamp = incident.removeprefix("IR-")
    whole = pull(store, stamp, into)
    assert whole.is_complete, whole.summary
    forged, gone, *_ = [each.key for each in store.list(f"snapshots/{stamp}/")]
    overwrite(store, forged, "forged")
    del store._objects[gone]
    (second := tmp_path / "second").mkdir()
    found = outcomes(pull(store, stamp, second))
    assert found[forged.removeprefix(f"snapshots/{stamp}/")] is RestoreOutcome.FAILED
    assert found[gone.removeprefix(f"snapshots/{stamp}/")] is RestoreOutcome.MISSING


def test_a_store_of_which_nothing_is_promised_gives_nothing(into: Path) -> None:
    store = MemoryStore()
    put(store, f"snapshots/{INCIDENT.removeprefix('IR-')}/models/added", "1")
    put(store, "latest/models/added", "1")
    for what in (INCIDENT.removeprefix("IR-"), "latest"):
        pulled = pull(store, what, into)
        assert (outcomes(pulled), pulled.is_complete) == ({"models/added": RestoreOutcome.UNPROMISED}, False)
    assert not list(into.iterdir())


PLANTED = (".git/hooks/post-merge", "venv/lib/site-packages/a.pth", "api/app.py", "../escape", "models/../../up", "~")


@pytest.mark.parametrize("when", ["before the turn", "after it"])
def test_only_what_is_promised_is_written_and_the_rest_is_named_and_goes_where_it_is_told(
    into: Path, tmp_path: Path, when: str
) -> None:
    store, texts = MemoryStore(), dict.fromkeys(PLANTED, b"import os")
    (into / "api").mkdir()
    (into / "api/app.py").write_text("ours")
    age(into / "api/app.py", 1)
    planted = {f"latest/{name}": data for name, data in texts.items()}
    if when == "before the turn":
        store._objects.update({key: data for key, data in planted.items() if ".." not in key})
    turn_for(store, snapshot(store, FIRST, model="1", log="1"))
    store._objects.update(planted)
    made = pull(store, "latest", into, overwrite=True)
    assert made.is_complete
    promised = set(HERE.values())
    assert {path.relative_to(into).as_posix() for path in into.rglob("*") if path.is_file()} == {
        *promised,
        "api/app.py",
    }
    assert (into / "api/app.py").read_text() == "ours"
    assert {each.name for each in made.files if "--unpromised" in each.reason} == {*PLANTED}
    (apart := tmp_path / "apart").mkdir()
    made = pull(store, "latest", into, unpromised=apart)
    taken = {path.relative_to(apart).as_posix() for path in apart.rglob("*") if path.is_file()}
    assert taken == {name for name in PLANTED if ".." not in name}
    assert not (tmp_path / "escape").exists()
    assert {each.name for each in made.files if each.outcome is RestoreOutcome.FAILED} == {*PLANTED} - taken


def test_what_is_not_promised_never_goes_among_other_files(filled: Store, into: Path, tmp_path: Path) -> None:
    (full := tmp_path / "full").mkdir()
    (full / "a").touch()
    (into / "below").mkdir()
    for wrong in (into, into / "below", into.parent, full, tmp_path / "nowhere"):
        with pytest.raises(Refused, match="an empty folder of its own"):
            pull(filled, "latest", into, unpromised=wrong)


@pytest.mark.slow
def test_an_object_of_an_incident_that_none_of_its_documents_names_is_not_written(into: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    evacuated(tmp_path / "small", store, None)
    added = [f"{INCIDENT}/{name}" for name in ("evidence/.git/config", "record/001/a.pth", "a", "record/001/b.sig")]
    store._objects.update({f"incidents/{name}": b"theirs" for name in added})
    made = pull(store, INCIDENT, into)
    assert made.is_complete
    assert {each.name for each in made.files if each.outcome is RestoreOutcome.UNPROMISED} == {*added}
    assert not [name for name in added if (into / name).exists()]


@pytest.mark.slow
@pytest.mark.parametrize("content", ["the first one's", "{}", "of another folder"])
def test_an_evidence_folder_that_no_closing_names_is_not_promised_and_changes_no_promise(
    into: Path, tmp_path: Path, content: str
) -> None:
    store = MemoryStore()
    evacuated(tmp_path / "small", store, None)
    before = pull(store, INCIDENT, into)
    assert before.is_complete
    said = json.loads(store._objects[f"incidents/{INCIDENT}/evidence/manifest.json"])
    for item in said["items"]:
        item["sha256"] = "0" * 64
    texts = {"{}": b"{}", "of another folder": canonical({**said, "volume": 9})}
    planted = {"manifest.json": texts.get(content, canonical(said)), "logs/train.log": b"theirs"}
    store._objects.update({f"incidents/{INCIDENT}/evidence.9/{name}": data for name, data in planted.items()})
    made = pull(store, INCIDENT, into)
    assert made.is_complete, made.summary
    names = {each.name for each in made.files if each.outcome is RestoreOutcome.UNPROMISED}
    assert names == {f"{INCIDENT}/evidence.9/{name}" for name in planted}
    assert not (into / INCIDENT / "evidence.9").exists()


@pytest.mark.slow
def test_a_manifest_that_its_closing_does_not_name_promises_nothing(into: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    evacuated(tmp_path / "small", store, None)
    key = f"incidents/{INCIDENT}/evidence/manifest.json"
    said = json.loads(store._objects[key])
    said["items"] = said["items"][1:]
    store._objects[key] = canonical(said)
    with pytest.raises(PermanentStoreError, match="to be the manifest that a closing names"):
        pull(store, INCIDENT, into)


def access(path: Path) -> str:
    """Mode and owner as a manifest has them."""
    status = path.stat()
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"


@pytest.mark.parametrize(("mode", "mask"), [(0o600, 0o022), (0o664, 0o077), (0o750, 0o022)])
def test_a_file_that_replaces_one_keeps_its_owner_and_mode(filled: Store, into: Path, mode: int, mask: int) -> None:
    """A model of an account, for that account alone, became root's and readable for all."""
    (into / "models").mkdir()
    (path := into / HERE[MODEL]).write_text("here")
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, 4711, 4712)
        os.setxattr(path, "user.of", b"ours")
    before, old = access(path), os.umask(mask)
    try:
        made = pull(filled, "latest", into, overwrite=True)
    finally:
        os.umask(old)
    assert outcomes(made)[HERE[MODEL]] is RestoreOutcome.REPLACED
    assert (path.read_text(), access(path)) == ("1", before)
    assert next(each.reason for each in made.files if each.name == HERE[MODEL]) == ""
    assert os.geteuid() or os.getxattr(path, "user.of") == b"ours"


def test_what_of_a_replaced_file_cannot_be_kept_is_told_and_opens_it_to_nobody(
    filled: Store, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    (into / "models").mkdir()
    (path := into / HERE[MODEL]).write_text("here")
    path.chmod(0o664)
    real = os.lstat(path)
    monkeypatch.setattr("tasks.system.files.write_beneath._owner_of", lambda _: (real.st_uid + 7, real.st_gid + 7))
    monkeypatch.setattr(os, "fchown", refuse)
    made = pull(filled, "latest", into, overwrite=True)
    (told,) = [each.reason for each in made.files if each.name == HERE[MODEL]]
    assert f"owner {real.st_uid + 7}:{real.st_gid + 7} not kept: now {real.st_uid}:{real.st_gid}" in told
    assert "mode -rw-rw-r-- not kept: now -rw----r--" in told
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert made.is_complete


def recorded_in(store: Store, small: SmallWorkload, *, mode: int) -> None:
    """An incident, in the store and in latest/, of a workload whose model has this mode, and another account."""
    model = small.root / "models/model_builtin.joblib"
    model.chmod(mode)
    if os.geteuid() == 0:
        os.chown(model, 4711, 4712)
    with case_of(small.block(), store) as context:
        evidence = [made(collect.fn(context, name)) for name in ("logs", "models")]
        judge_models.fn(context, evidence)
        one_run(context, evidence)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["latest", INCIDENT.removeprefix("IR-"), INCIDENT])
def test_a_new_file_has_no_more_rights_than_the_manifest_recorded_and_what_it_lacks_is_told(
    into: Path, tmp_path: Path, what: str
) -> None:
    (tmp_path / "disk").mkdir()
    store = DirectoryStore(tmp_path / "disk")
    with SmallWorkload(tmp_path / "small") as small:
        recorded_in(store, small, mode=0o710)
        owner = access(small.root / "models/model_builtin.joblib").partition(" ")[2]
    result = pull(store, what, into)
    (model,) = into.rglob("model_builtin.joblib")
    (told,) = [each.reason for each in result.files if each.name.endswith("model_builtin.joblib")]
    assert stat.S_IMODE(model.stat().st_mode) == 0o600
    assert result.is_complete
    if what == INCIDENT:
        assert told == ""
    else:
        assert "mode -rwx--x--- not given: now -rw-------" in told
        assert os.geteuid() or f"owner {owner} not given: now 0:0" in told


@pytest.mark.slow
def test_by_hand_what_is_not_kept_is_named_with_what_to_do(
    into: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "disk").mkdir()
    with SmallWorkload(tmp_path / "small") as small:
        recorded_in(DirectoryStore(tmp_path / "disk"), small, mode=0o710)
    (file := tmp_path / "store.toml").write_text(f'[store.a]\nfolder = "{tmp_path}/disk"\n')
    assert run(["pull", str(file), str(into)]) == 0
    told = capsys.readouterr().out
    assert "new  models/model_builtin.joblib: " in told
    assert "next: by chown and chmod give what is named above" in told
    assert run(["pull", str(file), str(into)]) == 0
    assert "next: start what reads it" in capsys.readouterr().out
