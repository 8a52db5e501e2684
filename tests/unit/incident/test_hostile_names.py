"""What another account writes where we look for an id is no path of ours; where incidents lie is ours."""

import json
import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.workload import Workload
from tasks.cli.status import last
from tasks.custody.errors import Refused
from tasks.custody.incident.incident import Incident, known_id
from tasks.custody.incident.verdict import Word, judge
from tasks.deployment.register import save
from tasks.host.process.table import boot_id
from tasks.incident.current import last_incident, note_opened, unfinished_incident
from tasks.incident.directory import base_of, bases, evidence_of, find_home, home_in, homes, make_base, open_directory
from tasks.incident.joining import leave, past
from tasks.incident.layout import CORDON, INCIDENT, OPEN, OWNER
from tasks.incident.run_lock import incident_at_work, sign, take_ownership
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.preflight import open_incident as preflight
from tasks.prestart.freeze import evidence_of as early_evidence
from tasks.prestart.reasons import NotNow
from tests.support.workloads import SmallWorkload

ID, ANOTHER = "IR-20260102T030405Z", 65534
NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOSTILE = ["../../outside", "IR-20260102T030405Z/../../outside", "", ".", "IR-20260102T030405Z\n", 7, None]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="to be several accounts needs root")


@pytest.fixture
def block(small: SmallWorkload, memory: Path) -> Workload:
    """A workload whose incidents lie beside it."""
    assert memory.is_dir()
    return small.block(evidence_dir=small.root.parent / "kept/evidence", reserve_mb=0)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is /var/lib/evacuation on a real host."""
    monkeypatch.setattr("tasks.custody.incident.description.STATE", tmp_path / "state")
    return tmp_path / "state"


def incident(id_: str = ID) -> Incident:
    return Incident(id_, "w", "here", boot_id(), NOW, NOW, "why", "the tests")


def written(**changes: object) -> str:
    return json.dumps({**asdict(incident()), **changes}, default=str)


@pytest.mark.parametrize("id_", HOSTILE)
def test_no_other_word_is_an_id(id_: object) -> None:
    assert known_id(id_) == ""
    with pytest.raises((Refused, TypeError)):
        home_in(Path("/srv/evidence"), id_, dry_run=False)  # type: ignore[arg-type]


def test_an_incident_has_an_id() -> None:
    with pytest.raises(Refused):
        replace(incident(), id="../../x")


@pytest.mark.parametrize("id_", HOSTILE)
def test_an_open_json_that_names_a_path_opens_nothing_there(block: Workload, id_: object, tmp_path: Path) -> None:
    """It made a folder of root's outside of the evidence folder, and root wrote into it."""
    base = make_base(block)
    (base / OPEN).write_text(written(id=id_))
    assert last_incident(block) is unfinished_incident(block) is None
    ownership = take_ownership(base)
    assert ownership
    request = preflight.Request("w", "s", "", None, None, dry_run=False, policy="graceful", run="r", created=NOW)
    context = preflight._open(request, block, SavedStore("s", {"folder": tmp_path / "store"}), None, ownership)
    context.close()
    assert [path.relative_to(base).parts[0] for path in tmp_path.rglob(INCIDENT)] == ["IR-20260102T000000Z"]
    assert not list(tmp_path.rglob("outside*"))


def test_what_we_have_written_is_read_whatever_new_files_of_ours_may_be(block: Workload) -> None:
    before = os.umask(0o002)
    try:
        make_base(block)
        assert note_opened(block, incident())
    finally:
        os.umask(before)
    assert last_incident(block) == ID


@as_root
def test_what_another_account_has_written_into_open_json_is_not_read(block: Workload) -> None:
    base = make_base(block)
    (base / OPEN).write_text(written())
    assert last_incident(block) == ID
    os.chown(base / OPEN, ANOTHER, -1)
    assert last_incident(block) is None


@as_root
def test_what_another_account_has_made_is_no_incident(block: Workload) -> None:
    base = make_base(block)
    for number, owner in ((1, 0), (2, ANOTHER)):
        (home := base / f"IR-2026010{number}T030405Z").mkdir(mode=0o700)
        os.chown(home, owner, -1)
    (base / "IR-20260103T030405Z").symlink_to(base / "IR-20260101T030405Z")
    (base / "IR-x").mkdir(mode=0o700)
    assert [home.name for home in homes(block)] == ["IR-20260101T030405Z"]
    assert [each.incident for each in past(bases(block))] == ["IR-20260101T030405Z"]


def test_a_lock_that_names_a_path_names_no_incident(block: Workload) -> None:
    base = make_base(block)
    mine = take_ownership(base)
    assert mine
    sign(mine, "evacuation", ID)
    assert incident_at_work(base) == ID
    sign(mine, "evacuation", "../../x")
    assert incident_at_work(base) == ""
    os.close(mine)


def test_a_run_whose_id_is_a_path_leaves_nothing_elsewhere(block: Workload, tmp_path: Path) -> None:
    make_base(block)
    open_directory(block, incident(), dry_run=False)
    assert not leave(bases(block), ID, "../../../outside", None)
    assert leave(bases(block), ID, "a-run", None)
    assert [path.name for path in tmp_path.rglob("*.json") if path.parent.name == "triggers"] == ["a-run.json"]
    assert not list(tmp_path.rglob("outside*"))


@pytest.fixture
def linked(block: Workload) -> Path:
    """Its evidence folder is a link, and this is what it leads to."""
    (there := block.root.parent / "another disk").mkdir()
    block.evidence.parent.mkdir()
    block.evidence.symlink_to(there)
    return there


def described(block: Workload) -> dict[str, object]:
    return {"root": str(block.root), "evidence_dir": str(block.evidence)}


def test_a_link_that_is_ours_is_followed_by_the_start_too(block: Workload, linked: Path) -> None:
    """The incident went into memory and lost the early freeze, under a green word."""
    assert early_evidence(described(block)) == make_base(block) == base_of(block) == block.evidence
    home = open_directory(block, incident(), dry_run=False)
    assert (home.path, home.volatile, home.not_followed) == (block.evidence / ID, False, "")
    assert note_opened(block, incident())
    assert find_home(block, ID) == home.path
    assert {path.name for path in linked.iterdir()} == {ID, OWNER, OPEN}


def test_a_link_into_what_others_can_change_is_not_followed_and_no_verdict_is_verified(
    block: Workload, linked: Path, memory: Path
) -> None:
    linked.chmod(0o777)
    with pytest.raises(NotNow, match=r"is a link .* of mode 0777 can be changed by another account"):
        early_evidence(described(block))
    assert make_base(block).parent == memory
    home = open_directory(block, incident(), dry_run=False)
    assert home.path.parent.parent == memory
    assert "can be changed by another account" in home.not_followed
    assert [*linked.iterdir()] == []
    told = judge(ID, None, (), (), losses=[home.not_followed])
    assert home.not_followed in told.missing


def test_deploy_refuses_such_a_link(block: Workload, linked: Path, tmp_path: Path) -> None:
    linked.chmod(0o777)
    about = f'root = "{block.root}"\nevidence_dir = "{block.evidence}"'
    (file := tmp_path / "w.toml").write_text(f'[workload.w]\n{about}\n[store.w]\nfolder = "{tmp_path}/store"\n')
    with pytest.raises(Refused, match="an evidence folder of w that is the evacuation's own"):
        save(file)


def test_without_an_evidence_dir_incidents_lie_in_a_root_that_is_ours_alone(small: SmallWorkload, state: Path) -> None:
    block = small.block()
    assert evidence_of(block) == block.evidence == small.root / "evidence"
    assert not state.exists()


@as_root
@pytest.mark.parametrize("way", ["owner", "mode"])
def test_root_keeps_the_incidents_of_a_root_that_another_account_can_write_to_elsewhere(
    small: SmallWorkload, state: Path, way: str
) -> None:
    block = small.block(reserve_mb=0)
    os.chown(small.root, ANOTHER, -1) if way == "owner" else small.root.chmod(0o777)
    there = state / small.root.relative_to("/")
    assert evidence_of(block) == block.evidence == make_base(block) == there
    assert early_evidence({"root": str(small.root), "evidence_dir": None}) == there
    assert open_directory(block, incident(), dry_run=False).path == there / ID
    assert not (small.root / "evidence").exists()
    asked = small.root.parent / "asked for"
    assert evidence_of(small.block(evidence_dir=asked)) == asked


def finish(home: Path) -> None:
    (home / "record/001").mkdir(parents=True)
    (home / "record/001/closing.json").write_text(json.dumps({"verdict": "VERIFIED"}))
    (home / "ended.json").write_text('{"record": 1, "end": "Verified"}')


@as_root
def test_what_was_opened_in_the_root_is_carried_on_there_and_the_next_one_is_not(
    small: SmallWorkload, state: Path
) -> None:
    block, former = small.block(reserve_mb=0), small.root / "evidence"
    assert make_base(block) == former
    home = open_directory(block, incident(), dry_run=False).path
    assert note_opened(block, incident())
    os.chown(small.root, ANOTHER, -1)
    assert (evidence_of(block), unfinished_incident(block), find_home(block, ID)) == (former, ID, home)
    assert early_evidence({"root": str(small.root), "evidence_dir": None}) == former
    finish(home)
    (former / CORDON).write_text("{}")
    assert evidence_of(block) == former, "the cordon stands"
    (former / CORDON).unlink()
    there = state / small.root.relative_to("/")
    assert evidence_of(block) == make_base(block) == there
    assert note_opened(block, incident("IR-20260103T030405Z"))
    (home / "record/001/closing.json").unlink()
    assert evidence_of(block) == there, "what comes back into the root later is not followed"


@as_root
def test_a_folder_that_the_workload_has_made_in_its_root_is_never_an_incident_to_carry_on(
    small: SmallWorkload, state: Path
) -> None:
    os.chown(small.root, ANOTHER, -1)
    (base := small.root / "evidence").mkdir()
    (base / OPEN).write_text(written())
    (base / CORDON).write_text("{}")
    os.chown(base, ANOTHER, -1)
    assert evidence_of(small.block()) == state / small.root.relative_to("/")


def test_a_loss_that_is_no_evidence_s_is_partial() -> None:
    assert judge(ID, None, (), ()).word is Word.NOT_CONTAINED


@as_root
def test_a_status_ends_with_no_traceback_where_another_account_has_written_which_incident_is_open(
    block: Workload,
) -> None:
    block.evidence.mkdir(parents=True)
    (block.evidence / OPEN).write_text(written())
    assert last(block) == ID
    os.chown(block.evidence / OPEN, ANOTHER, ANOTHER)
    assert last(block) == ""
