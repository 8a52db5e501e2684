"""What an incident makes of latest/: its policy, who came later, who is at work, and what a dry run shows of it."""

import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blocks.directory import DirectoryStore
from blocks.rehearsal import RehearsalStore
from tasks.custody.errors import Denied
from tasks.custody.evidence.acquisition import Seal, StoredFile
from tasks.custody.evidence.keys import snapshot_folder
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.latest import LatestPolicy, Promotion
from tasks.custody.store.manifest import digest_bytes
from tasks.evidence.collect import collect
from tasks.evidence.seal import read_manifest, seal
from tasks.latest.history import read_transaction
from tasks.latest.promote import promote
from tasks.latest.pull import pull
from tasks.latest.rollback import RollbackRequest, lower, rollback
from tasks.latest.transaction import change_latest
from tasks.models import findings
from tasks.models.findings import held_back
from tasks.models.inspect import judge_models
from tasks.record.content import Findings
from tasks.record.dry_run_plan import plan
from tasks.record.findings import notes_of
from tasks.runtime.context import RunContext
from tasks.storage import offload as offloading
from tasks.storage.offload import offload
from tasks.storage.upload_ledger import Ledger
from tasks.system.sandbox import Limits
from tests.support.holdings import SECOND, THIRD, overwrite, snapshot, turn_for
from tests.support.memory_store import MemoryStore
from tests.support.run_context import case_of, key_of, made
from tests.support.workloads import SmallWorkload
from tests.unit.custody.models.test_untrusted_files import GOES, HELD
from tests.unit.latest.test_turns import Killed, KilledAt

VERIFIED = Verdict(Word.VERIFIED, (), (), (), "")
OWN = "latest/models/model_builtin.joblib"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    monkeypatch.setattr(offloading, "claim", lambda *_: None)
    return MemoryStore()


@pytest.fixture
def context(small: SmallWorkload, place: MemoryStore) -> Iterator[RunContext]:
    with case_of(small.block(), place) as context:
        yield context


def sealed(context: RunContext) -> Seal:
    evidence = tuple(made(collect.fn(context, name)) for name in ("logs", "artifacts", "models"))
    judge_models.fn(context, evidence)
    one: Seal = made(seal.fn(context, context.run.volume, evidence))
    offload.fn(context, (one,), one)
    return one


def promoted(
    context: RunContext, one: Seal, policy: LatestPolicy = "guarded", verdict: Verdict = VERIFIED
) -> Promotion:
    done: Promotion = made(promote.fn(context, (one,), verdict, policy))
    return done


@pytest.mark.slow
@pytest.mark.parametrize("word", [word for word in Word if word is not Word.VERIFIED])
def test_only_a_verified_incident_promotes(context: RunContext, place: MemoryStore, word: Word) -> None:
    done = promoted(context, sealed(context), verdict=Verdict(word, (), (), (), ""))
    assert done.summary == f"latest/ was left as it is: the incident is {word}"
    assert done.is_complete
    assert not [*place.list("latest/"), *place.list("promotions/")]


@pytest.mark.slow
@pytest.mark.parametrize("last", ["a,b\n1,2\n", None])
@pytest.mark.parametrize("other", ["a,b\n3,4\n", "a,b\n1,2\n"])
def test_what_two_containers_have_otherwise_under_one_name_is_in_latest_from_none(
    context: RunContext, place: MemoryStore, other: str, last: str | None
) -> None:
    """A third that has it as the first hid the second."""
    folder = context.directory.evidence_dir(1)
    texts = {"artifacts/scores.csv": "a,b\n1,2\n", "containers/web/artifacts/scores.csv": other}
    texts |= {"containers/zoo/artifacts/scores.csv": last} if last else {}
    files = []
    for stored, text in texts.items():
        (folder / stored).parent.mkdir(parents=True)
        (folder / stored).write_text(text)
        note = f"in container {stored.split('/')[1] if stored.startswith('containers/') else 'fit'}"
        sha256 = digest_bytes(text.encode())
        files.append(StoredFile(stored, "/app/artifacts/scores.csv", len(text), sha256, None, note=note))
    evidence = replace(made(collect.fn(context, "logs")), collector="container_files", files=tuple(files))
    one: Seal = made(seal.fn(context, 1, (evidence,)))
    offload.fn(context, (one,), one)
    done = promoted(context, one)
    is_same = len({*texts.values()}) == 1
    assert bool(place.head("latest/artifacts/scores.csv")) == is_same
    assert ("artifacts/scores.csv (in container web it is another" in done.summary) == (not is_same)


@pytest.mark.slow
def test_never_is_never(context: RunContext, place: MemoryStore) -> None:
    assert promoted(context, sealed(context), "never").summary == "latest/ was left as it is: the policy is never"
    assert not [*place.list("latest/"), *place.list("promotions/")]


@pytest.mark.slow
def test_guarded_deletes_nothing_and_says_what_a_mirror_would(context: RunContext, place: MemoryStore) -> None:
    overwrite(place, "latest/models/model_old.joblib", "old")
    done = promoted(context, sealed(context))
    assert ", 1 would delete" in done.summary
    assert place.head(OWN)
    assert place.read("latest/models/model_old.joblib") == b"old"


@pytest.mark.slow
def test_an_incident_does_not_overtake_a_later_one_that_was_rolled_back_either(
    context: RunContext, place: MemoryStore
) -> None:
    turn_for(place, snapshot(place, THIRD, model="3"))
    done = promoted(context, sealed(context))
    assert done.summary == f"latest/ was left as it is: {THIRD} is later and has promoted"
    assert done.is_complete
    assert not place.head(OWN)


@pytest.mark.slow
def test_while_another_is_at_work_promotion_waits_for_the_next_run_and_is_not_cached(
    context: RunContext, place: MemoryStore
) -> None:
    other = snapshot(place, "IR-20250102T030405Z", model="1")
    with pytest.raises(Killed):
        change_latest(place, other, KilledAt("turn begun", "promotions/000001/begun.json"), now=datetime.now(UTC))
    state: Any = promote.fn(context, (sealed(context),), VERIFIED, "guarded")
    assert state.is_failed()
    assert "is under way" in state.data.summary
    assert not place.head(OWN)


@pytest.mark.slow
def test_an_incident_run_again_after_all_was_done_tells_of_the_same_turn(context: RunContext) -> None:
    one = sealed(context)
    first, again = promoted(context, one), promoted(context, one)
    assert first.turn == again.turn
    assert [each.key for each in first.objects] == [each.key for each in again.objects]


@pytest.mark.slow
def test_a_dry_run_shows_each_file_of_latest_and_what_would_become_of_it(
    small: SmallWorkload, place: MemoryStore
) -> None:
    (small.root / "models/model_second.joblib").write_bytes((small.root / "models/model_builtin.joblib").read_bytes())
    with case_of(small.block(), place) as context:
        promoted(context, sealed(context))
    overwrite(place, "latest/models/model_old.joblib", "old")
    overwrite(place, "latest/notes.txt", "a person's")
    overwrite(place, "latest/models/model_second.joblib", "another")
    (small.root / "artifacts/summary_new.json").write_text("{}")
    before = {each.key: place.read(each.key) for each in place.list("")}
    with case_of(small.block(), incident=SECOND, dry_run=True) as context:
        context.store.evidence = RehearsalStore(place, context.log)
        promoted(context, sealed(context))
        rows = {row["on"]: row["act"] for row in plan(context.log.entries()) if row["on"].startswith("latest/")}
    assert {each.key: place.read(each.key) for each in place.list("")} == before
    assert rows["latest/artifacts/summary_new.json"] == "would add"
    assert rows["latest/models/model_second.joblib"] == "would replace"
    assert rows[OWN] == "would keep"
    assert rows["latest/notes.txt"] == "would keep"
    assert rows["latest/models/model_old.joblib"] == "would delete"
    assert rows.keys() == {key for key in before if key.startswith("latest/")} | {"latest/artifacts/summary_new.json"}


def rows_of(context: RunContext) -> dict[str, str]:
    return {row["on"]: row["act"] for row in plan(context.log.entries())}


@pytest.mark.slow
def test_models_that_the_block_names_elsewhere_go_to_latest_under_their_path_and_can_be_taken_back(
    small: SmallWorkload, place: MemoryStore
) -> None:
    shutil.copytree(small.root / "models", small.root / "store")
    shutil.copy(small.root / "models/model_builtin.joblib", small.root / "top.joblib")
    (small.root / "store/notes.joblib.txt").write_text("no model")
    block = small.block(models=["store/*.joblib", "*.joblib"], artifacts=[], logs=[])
    with case_of(block, place, incident=SECOND) as context:
        one = sealed(context)
        done = promoted(context, one)
        assert done.summary == "turn 1: 2 add"
    assert {each.key for each in place.list("latest/")} == {"latest/store/model_builtin.joblib", "latest/top.joblib"}
    assert not [*place.list("snapshots/")]
    (row,) = [row for row in read_transaction(place, 1)[0].rows if row.key == "latest/top.joblib"]
    assert row.after
    assert row.after.key.startswith(f"incidents/{SECOND}/evidence/")
    changed = pickle.dumps({"weights": [2]})
    (small.root / "store/model_builtin.joblib").write_bytes(changed)
    with case_of(block, place, incident=THIRD) as context:
        assert promoted(context, sealed(context), "mirror").summary == "turn 2: 1 replace, 1 keep"
    pull(place, "latest", small.root)
    assert (small.root / "store/model_builtin.joblib").read_bytes() == changed
    assert rollback(place, RollbackRequest("me"), _Deaf()).summary == "turn 3: 1 replace, 1 keep"
    assert rollback(place, RollbackRequest("me", 1), _Deaf()).summary == "turn 4: 2 delete"


class _Deaf:
    def write(self, action: str, subject: str = "", **facts: Any) -> None:
        """Hear nothing."""


@pytest.mark.slow
def test_where_nothing_goes_to_latest_plan_and_promotion_say_so(small: SmallWorkload, place: MemoryStore) -> None:
    (small.root / "models").rename(small.root / "elsewhere")
    block = small.block(models=["store/*.joblib"], artifacts=["elsewhere/*"], logs=[])
    with case_of(block, place) as context:
        done = promoted(context, sealed(context))
        assert done.summary.startswith("turn 1: no file; it sealed nothing in models/, artifacts/ or logs/")
        rows = rows_of(context)
    assert rows["elsewhere/model_builtin.joblib"] == "would keep as evidence, not in latest/,"
    assert rows["latest/"] == "would add nothing to"
    assert notes_of(Findings(promoted=done))[-1].startswith("latest/ holds no file of this incident: it sealed nothing")


@pytest.mark.slow
def test_an_incident_whose_name_is_later_than_its_claim_keeps_nobody_out_of_latest(
    small: SmallWorkload, tmp_path: Path
) -> None:
    place = DirectoryStore(tmp_path)
    with case_of(small.block(), place, incident="IR-20990101T000000Z") as context:
        done = promoted(context, sealed(context))
    assert "from the future" in done.summary
    assert not [*place.list("latest/"), *place.list("promotions/")]
    with case_of(small.block(), place, incident=SECOND) as context:
        assert promoted(context, sealed(context)).is_complete
    assert place.head(OWN)


@pytest.mark.slow
def test_what_an_incident_from_the_future_keeps_out_is_told_how_to_get_in(
    context: RunContext, place: MemoryStore
) -> None:
    turn_for(place, snapshot(place, "IR-20990101T000000Z", model="3"))
    one = sealed(context)
    refused = promoted(context, one)
    assert refused.summary.endswith(
        "is later and has promoted; it is from the future: evacuation rollback --newest-only"
    )
    assert not refused.is_complete, "it would be cached, and the remedy of no avail"
    lower(place, RollbackRequest("root"), context.log)
    assert promoted(context, one).is_complete
    assert place.head(OWN)


@pytest.mark.slow
def test_what_an_identity_may_not_do_is_done_by_the_next_run_once_it_may(
    context: RunContext, place: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, create = sealed(context), place.create

    def refuse(key: str, *rest: Any, **options: Any) -> None:
        if key.startswith("promotions/"):
            raise Denied("a right", "AccessDenied", "Nothing was written.", "Ask for it.")
        create(key, *rest, **options)

    with monkeypatch.context() as denied:
        denied.setattr(place, "create", refuse)
        refused = promoted(context, one)
    assert "skipped" in refused.summary
    assert not refused.is_complete
    assert promoted(context, one).is_complete
    assert place.head(OWN)


def test_one_bucket_behind_another_endpoint_gets_what_the_first_has_got(small: SmallWorkload) -> None:
    one, keys, places = Seal(1, "1" * 64, "2" * 64, 3, 4), set[str](), list[str]()
    for endpoint in (None, "http://127.0.0.1:1", "http://127.0.0.1:2"):
        saved = {"bucket": "evidence", "endpoint": endpoint}
        with case_of(small.block(), MemoryStore("s3://evidence"), saved=saved) as context:
            keys |= {
                key_of(promote, context, seals=(one,), verdict=VERIFIED, policy="guarded"),
                key_of(offload, context, seals=(one,)),
            }
            ledger = Ledger(context.directory.path, context.store.identity)
            assert ledger.known == {}
            ledger.note("key", "3" * 64)
            places.append(context.store.identity)
    assert len(keys) == 6
    assert places[0] == "s3://evidence", "where no endpoint is named"


@pytest.mark.slow
def test_what_the_workload_has_is_no_surplus_though_latest_may_not_get_it(
    context: RunContext, place: MemoryStore, small: SmallWorkload
) -> None:
    overwrite(place, OWN, "the last good one")
    overwrite(place, "latest/models/model_old.joblib", "old")
    model = small.root / "models/model_builtin.joblib"
    (small.root / "models/model_second.joblib").write_bytes(model.read_bytes())
    model.write_bytes(model.read_bytes()[:-20])
    done = promoted(context, sealed(context), "mirror")
    assert "model_builtin.joblib (torn" in done.summary
    assert "1 would delete" in done.counts
    assert place.head(OWN)


@pytest.mark.slow
def test_an_empty_file_never_takes_the_place_of_a_good_one(
    context: RunContext, place: MemoryStore, small: SmallWorkload
) -> None:
    overwrite(place, "latest/logs/train-20260101_000000.log", "iteration 1")
    (small.root / "logs/train-20260101_000000.log").write_text("")
    (small.root / "artifacts/cv_results_builtin.csv").write_text("")
    done = promoted(context, sealed(context))
    assert done.summary.count("(it is empty)") == 2
    assert place.read("latest/logs/train-20260101_000000.log") == b"iteration 1"
    assert not place.head("latest/artifacts/cv_results_builtin.csv")


@pytest.mark.whole
@pytest.mark.slow
def test_what_may_hold_a_pickle_in_what_it_packs_goes_to_the_snapshot_alone_and_is_named(
    small: SmallWorkload, place: MemoryStore
) -> None:
    files = {f"artifacts/held/{name}": data for name, data in HELD.items()}
    files |= {f"artifacts/goes/{name}": data for name, data in GOES.items()}
    for name, data in files.items():
        (small.root / name).parent.mkdir(exist_ok=True)
        (small.root / name).write_bytes(data)
    block = small.block(artifacts=["artifacts/held/*.zip", "artifacts/goes/*.npz"], needed=["folders", "models"])
    with case_of(block, place) as context:
        evidence = tuple(made(collect.fn(context, name)) for name in ("artifacts", "models", "folders"))
        judge_models.fn(context, evidence)
        one: Seal = made(seal.fn(context, context.run.volume, evidence))
        offload.fn(context, (one,), one)
        held = held_back(context.directory, 1, read_manifest(context.directory, 1).files, context.workload)
        done = promoted(context, one)
    kept = {name for name in files if place.head(f"latest/{name}")}
    assert kept == {f"artifacts/goes/{name}" for name in GOES}
    assert held.keys() == {f"artifacts/held/{name}" for name in HELD}
    assert all(place.head(f"{snapshot_folder('20260102T030405Z')}{name}") for name in files)
    assert done.summary.count("artifacts/held/") == 10, "the others are counted"
    assert f"{len(HELD) - 10} more" in done.summary


@pytest.mark.slow
def test_a_zip_that_breaks_its_reader_is_held_back(
    small: SmallWorkload, place: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small.root / "artifacts/cv_results_builtin.csv").write_bytes(GOES["results.zip"])
    monkeypatch.setattr(findings, "_ZIP_LIMITS", Limits(30.0, 1 << 20))
    with case_of(small.block(), place) as context:
        done = promoted(context, sealed(context))
    assert "cv_results_builtin.csv (reading it broke its reader: it may hold a pickle)" in done.summary
