"""A store that another workload uses too is named by what is in it: one latest/ would be both workloads'."""

import json
from pathlib import Path

import pytest

from blocks.directory import DirectoryStore
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.evidence.claim import other_workloads
from tasks.record.dry_run_plan import needs_attention, plan
from tasks.storage.offload import claim_store
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (place := tmp_path / "store").mkdir()
    return place


def claimed(folder: Path, incident: str, workload: str, host: str = "vm") -> None:
    data = canonical({"incident": incident, "host": host, "workload": workload})
    DirectoryStore(folder).create(f"incidents/{incident}/claim.json", data, digest_bytes(data))


def told(small: SmallWorkload, folder: Path, **fields: str) -> tuple[str, ...]:
    with case_of(small.block(), saved={"folder": str(folder), **fields}) as context:
        return tuple(each for each in made(claim_store.fn(context)).warnings if "is also of" in each)


def test_another_workloads_incidents_are_named(small: SmallWorkload, folder: Path) -> None:
    claimed(folder, "IR-20260101T000000Z", "house")
    claimed(folder, "IR-20260101T000001Z", "house")
    (line,) = told(small, folder)
    assert "is also of house on vm, by the incidents in it" in line
    assert told(small, folder, latest="never") == ()


def test_a_plan_names_them(small: SmallWorkload, folder: Path) -> None:
    claimed(folder, "IR-20260101T000000Z", "house")
    with case_of(small.block(), saved={"folder": str(folder)}, dry_run=True) as context:
        claim_store.fn(context)
        (row,) = [row for row in plan(context.log.entries()) if row["act"] == "would name"]
    assert row["on"] == f"{folder}/latest/"
    assert needs_attention(row)


def test_its_own_incidents_and_those_of_its_copies_are_not(small: SmallWorkload, folder: Path) -> None:
    claimed(folder, "IR-20260101T000000Z", "test")
    claimed(folder, "IR-20260101T000001Z", "test", "another-host")
    (folder / "incidents/IR-20260101T000002Z").mkdir(parents=True)
    (folder / "incidents/IR-20260101T000003Z").mkdir()
    (folder / "incidents/IR-20260101T000003Z/claim.json").write_text(json.dumps(["no", "claim"]))
    assert told(small, folder) == ()
    assert other_workloads(DirectoryStore(folder), "house") == ("test on vm", "test on another-host")
