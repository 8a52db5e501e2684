"""A hostile tree goes through the whole flow: contained, accounted for name by name, proven, and nothing of it ran."""

import json
from pathlib import Path

import pytest

from tasks.custody.evidence.keys import unquote
from tests.integration.host.test_hostile_trees import PATTERNS, require_accounted
from tests.support.hostile_trees import CANARY, CANARY_NAME, KINDS, make_hostile
from tests.support.scenes import Scene


@pytest.mark.soak
def test_a_hostile_tree_goes_through_the_whole_flow(scene: Scene, tmp_path: Path) -> None:
    tree = make_hostile(scene.small.root, tmp_path / "outside", seed=4, count=150)
    scene.save(workload=scene.small.block(**PATTERNS))
    scene.small.start_all()
    state = scene.evacuate()
    assert state.name == "Partial", state.message
    assert scene.small.living() == []
    assert tree.ran == []
    verdict = json.loads((scene.home / "record/001/verdict.json").read_bytes())
    assert all(receipt["proven"] for receipt in verdict["objects"])
    of_tree = [item for item in verdict["coverage"] if item["collector"] in KINDS]
    files = {file["stored"] for item in of_tree for file in item["files"]}
    items = json.loads((scene.home / "evidence/manifest.json").read_bytes())["items"]
    stored = {unquote(item["source"]): item["sha256"] for item in items if item["path"] in files}
    require_accounted(tree, stored, (unquote(loss["source"]) for item in of_tree for loss in item["losses"]))
    for each in scene.store.list(""):
        data = scene.store.read(each.key)
        assert CANARY not in data, each.key
        assert CANARY_NAME.encode() not in data, each.key


@pytest.mark.whole
def test_what_a_run_had_no_time_for_before_its_freeze_is_in_its_verdict(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was in a log line alone, under Verified."""
    monkeypatch.setattr("tasks.system.time_limit.SECONDS", 0.0)
    monkeypatch.setattr("tasks.incident.layout.MEMORY", tmp_path / "memory")
    (tmp_path / "memory/evacuation-x").mkdir(parents=True)
    (tmp_path / "memory").chmod(0o1777)
    scene.small.start()
    state = scene.evacuate()
    assert state.name == "Verified", state.message
    verdict = json.loads((scene.home / "record/001/verdict.json").read_bytes())
    notes = verdict["verdict"]["notes"]
    assert any(each.startswith(f"{tmp_path / 'memory'} could not be read to its end in time") for each in notes), notes
