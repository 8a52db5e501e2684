"""Two hosts, one id: the second is told at once, and what it has looked at goes along under an id of its own."""

import logging
from errno import ENOSPC
from pathlib import Path

import pytest

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Conflict
from tasks.custody.incident.news import News
from tasks.custody.store.manifest import canonical
from tasks.evidence.collect import collect
from tasks.incident.current import read_incident
from tasks.record.final_state import final_state
from tasks.storage.offload import claim_store
from tests.support.memory_store import MemoryStore
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import NAMES, recorded_run
from tests.support.workloads import SmallWorkload

OWN = f"{INCIDENT}-gpu2"
LATER = INCIDENT.replace("20260102", "20260103")


class Host:
    """One host's runs against a store that others use as well."""

    def __init__(self, small: SmallWorkload, key: SigningKey, folder: Path) -> None:
        """Begin with the id taken."""
        self.small, self.key, self.folder, self.store = small, key, folder, MemoryStore()
        self.fallback: Path | None = None

    def take(self, incident: str, **other: str) -> None:
        """Have another host claim this id."""
        claim = {"incident": incident, "host": "gpu1", "workload": "test", **other}
        self.store._objects[f"incidents/{incident}/claim.json"] = canonical(claim)

    def run(self, incident: str) -> tuple[str, str, list[str]]:
        """Run under an id; return the name of the state, its message, and what is to be known of the run."""
        block = self.small.block(needed=["logs"], fallback_dir=self.fallback)
        with case_of(block, self.store, incident=incident) as context:
            context.incident = read_incident(context.directory.path) or context.incident
            context.store.block = EvidenceStore(folder=self.folder, signing=self.key)
            evidence = [made(collect.fn(context, name)) for name in NAMES]
            (context.directory.evidence_dir(1) / "containers/c1").mkdir(parents=True, exist_ok=True)
            (context.directory.evidence_dir(1) / "containers/c1/top.json").write_text(incident)
            recorded = recorded_run(context, evidence)
            state = final_state(context, recorded.verdict, recorded, None)
            return str(state.name), str(state.message), context.losses

    def brought(self, incident: str, of: str) -> dict[str, bytes]:
        """What is in the store of another incident's look, by its path in that one's folder."""
        prefix = f"incidents/{incident}/evidence/attempt-{of}/"
        return {each.key.removeprefix(prefix): self.store.read(each.key) for each in self.store.list(prefix)}

    def home(self, incident: str) -> Path:
        """Its folder here."""
        return self.small.block().evidence / incident


@pytest.fixture
def host(tmp_path: Path, signing_key: SigningKey, small: SmallWorkload) -> Host:
    return Host(small, signing_key, tmp_path)


@pytest.mark.slow
def test_the_look_of_an_incident_that_was_refused_its_id_goes_along_to_the_next(host: Host) -> None:
    """It ended Verified and empty, and the look stayed behind."""
    host.take(INCIDENT)
    name, told, _ = host.run(INCIDENT)
    assert name == "Unverified"
    assert "incident_suffix" in told.partition("Next: ")[2]
    assert "incident_id=" not in told
    assert [each.key for each in host.store.list("")] == [f"incidents/{INCIDENT}/claim.json"]
    name, _, (note,) = host.run(OWN)
    assert name == "Verified"
    assert f"attempt-{INCIDENT}/" in note
    there = host.brought(OWN, INCIDENT)
    kept = {
        str(path.relative_to(host.home(INCIDENT))): path.read_bytes()
        for path in host.home(INCIDENT).rglob("*")
        if path.is_file() and path.name != "salt"
    }
    assert there.items() <= kept.items()
    assert {"evidence/pip_freeze.txt", "evidence/coverage.json", "evidence/containers/c1/top.json"} <= there.keys()
    assert {"custody.jsonl", "record/001/verdict.json", "record/001/closing.json"} <= there.keys()
    assert not [each for each in there if "/logs/" in each or "/models/" in each]
    audit = verify_incident(host.store, OWN, read_signers(host.key.allowed_signers), deep=True)
    assert audit.word is AuditWord.PROVEN, audit.findings


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fallback", "an older incident"])
def test_it_goes_along_whatever_other_folders_lie_beside(host: Host, tmp_path: Path, name: str) -> None:
    """An incident's folder on a fallback disk holds no incident, and sorts before those of other disks."""
    host.take(INCIDENT)
    host.fallback = tmp_path / "zz fallback" if name == "fallback" else None
    if name == "an older incident":
        host.run("IR-20250101T000000Z")
    host.run(INCIDENT)
    private = host.home(INCIDENT) / "starts.json"
    private.write_text("[1]")
    private.chmod(0o600)
    _, _, (note,) = host.run(OWN)
    assert f"attempt-{INCIDENT}/" in note
    assert (host.home(OWN) / "starts.json").read_text() == "[1]"
    assert not [key for key in host.brought(OWN, INCIDENT) if "starts" in key]


@pytest.mark.slow
def test_what_cannot_be_brought_is_told_and_the_rest_is_sealed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.take(INCIDENT)
    host.run(INCIDENT)

    def full(*paths: Path) -> None:
        raise OSError(ENOSPC, "No space left on device", str(paths[-1]))

    monkeypatch.setattr("shutil.copyfile", full)
    state, _, (note, *left) = host.run(OWN)
    assert state == "Verified"
    assert "is in attempt-" in note
    assert left
    assert all("custody.jsonl: " in each and "No space left" in each for each in left)


@pytest.mark.slow
def test_what_was_brought_stays_as_it_was_when_the_refused_incident_goes_on(host: Host) -> None:
    host.take(INCIDENT)
    for incident in (INCIDENT, OWN, INCIDENT):
        host.run(incident)
    assert host.run(OWN)[0] == "Verified"


@pytest.mark.slow
def test_a_claim_that_was_put_right_is_said_no_more(host: Host) -> None:
    host.take(INCIDENT)
    host.run(INCIDENT)
    del host.store._objects[f"incidents/{INCIDENT}/claim.json"]
    name, told, _ = host.run(INCIDENT)
    assert (name, "incident_suffix" in told) == ("Verified", False)


@pytest.mark.slow
def test_what_is_brought_is_what_was_refused_since_the_last_incident_and_no_more(host: Host) -> None:
    host.take(INCIDENT)
    host.take(OWN)
    host.run(INCIDENT)
    host.run(OWN)
    assert len(host.run(LATER)[2]) == 2
    assert host.brought(LATER, INCIDENT)
    assert host.brought(LATER, OWN)
    after = f"{LATER}-gpu2"
    assert host.run(after)[2] == []
    assert not host.brought(after, INCIDENT)


@pytest.mark.slow
def test_the_same_without_another_host(host: Host) -> None:
    assert host.run(INCIDENT)[0] == "Verified"
    name, _, notes = host.run(OWN)
    assert (name, notes) == ("Verified", [])


@pytest.mark.parametrize(("other", "suffix"), [({"host": "gpu1"}, None), ({"workload": "another", "host": ""}, "test")])
def test_the_second_is_told_at_once_with_what_to_set(
    host: Host,
    other: dict[str, str],
    suffix: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = list[News]()
    monkeypatch.setattr("tasks.storage.offload.announce", lambda _run, _name, news, **_: told.append(news))
    with case_of(host.small.block(), host.store) as context:
        owner = {name: value or context.incident.host for name, value in other.items()}
        host.take(INCIDENT, **owner)
        suffix = suffix or context.incident.host.partition(".")[0].lower()
        with pytest.raises(Conflict, match=f'incident_suffix = "{suffix}"'), caplog.at_level(logging.ERROR):
            claim_store.fn(context)
    (news,) = told
    assert news.message.startswith(f"{INCIDENT}: expected ")
    assert " to be of test on " in news.message
    assert "incident_suffix" in news.message
    assert "incident_suffix" in caplog.text
