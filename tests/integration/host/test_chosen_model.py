"""Which model is brought back: the one that a person names, else what a real process served; never the newest."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from blocks.directory import DirectoryStore
from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Frozen
from tasks.custody.errors import EvacuationError
from tasks.custody.evidence.acquisition import Seal
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.store.manifest import digest
from tasks.evidence.collect import collect
from tasks.evidence.model_served import find_change
from tasks.evidence.seal import check_seal
from tasks.host.process.table import began_at, start_of, ticks
from tasks.models.inspect import judge_models
from tasks.record.dry_run_plan import needs_attention, plan
from tasks.recovery.api_client import NotRecovered
from tasks.recovery.choice import choose, with_former
from tasks.recovery.opened import watch_opens
from tasks.recovery.process_api import ProcessApi
from tasks.recovery.recover import as_it_ran
from tasks.recovery.rehearsal import rehearse_recovery, served_before
from tasks.recovery.served_model import SealedModels
from tasks.runtime.context import RunContext
from tasks.storage.offload import claim_store, offload
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import seal_volumes
from tests.support.workloads import SmallWorkload, wait_until

SERVED, NEWEST, TORN = "models/model_adult.joblib", "models/model_builtin.joblib", "models/model_torn.joblib"
STAMP = INCIDENT.removeprefix("IR-")
VERIFIED = Verdict(Word.VERIFIED, (), (), (), "")


@dataclass
class Case:
    """A sealed incident of a workload with several models."""

    context: RunContext
    seals: Sequence[Seal]
    block: Workload

    def choose(self, model: str = "", *, verdict: Verdict = VERIFIED, **block: Any) -> SealedModels:
        """Choose, with the block as these fields change it."""
        self.context.workload = self.block.model_copy(update=block)
        models = SealedModels.read(self.context.directory, self.context.workload, self.seals)
        models = with_former(self.context, self.seals, models)
        return choose(self.context, models, ProcessApi(self.context).folder, model, verdict)

    def chosen(self, model: str = "", **block: Any) -> tuple[str, bool]:
        """What is chosen, and whether a person has named it."""
        models = self.choose(model, **block)
        return models.chosen, models.named


def lay_out(small: SmallWorkload) -> None:
    """Three models: the newest was never served, and one is torn."""
    for name, content in ((SERVED, "served"), (NEWEST, "newest")):
        (small.root / name).write_bytes(pickle.dumps(content))
    (small.root / TORN).write_bytes(pickle.dumps("torn")[:-1])
    os.utime(small.root / SERVED, (1, 1))


@contextmanager
def sealed(block: Workload, *frozen: int, incident: str = INCIDENT, answer: str = "") -> Iterator[Case]:
    """Seal an incident in which these processes were frozen as the API, whose answer named this, and send it away."""
    (folder := block.root.parent / "store").mkdir(exist_ok=True)
    store = DirectoryStore(folder)
    with case_of(block, store, incident=incident) as context:
        now = datetime.now(UTC)
        context.state.frozen.write([Frozen(Identity(pid, start_of(pid)), "api", "api", 0, now, now) for pid in frozen])
        if answer:
            context.log.write("model named", answer, result="in its answer, at /model")
        evidence = [made(collect.fn(context, name)) for name in ("tree", "models")]
        judge_models.fn(context, evidence)
        seals = seal_volumes(context, evidence)
        claim_store.fn(context)
        offload.fn(context, seals, made(check_seal.fn(context, seals)))
        yield Case(context, seals, block)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """An incident in which no process of the API was seen. No test changes what was sealed."""
    with SmallWorkload(tmp_path_factory.mktemp("chosen") / "work load") as small:
        lay_out(small)
        with sealed(small.block()) as found:
            yield found


@pytest.mark.short(1)
@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("code", "environment", "how"),
    [
        ("held = open({0!r}, 'rb')", {"MODEL_PATH": NEWEST}, "open in its process"),
        (
            "import mmap; file = open({0!r}, 'rb'); held = mmap.mmap(file.fileno(), 0, prot=1); file.close()",
            {},
            "mapped",
        ),
        ("pass", {"MODEL_PATH": SERVED}, "named by its environment"),
        ("pass", {"MODEL_PATH": TORN}, "named by its environment"),
        ("pass", {"GRAPE": SERVED}, "named by its environment"),
        ("pass", {"GRAPE": SERVED.removeprefix("models/")}, "named by its environment"),
    ],
)
def test_what_a_real_process_served_is_brought_back_and_goes_on_record(
    small: SmallWorkload, code: str, environment: dict[str, str], how: str
) -> None:
    lay_out(small)
    (small.root / "ready").unlink(missing_ok=True)
    program = f"{code.format(SERVED)}; open('ready', 'w').close(); import time; time.sleep(600)"
    api = small.start([sys.executable, "-c", program], **environment)
    wait_until((small.root / "ready").exists, what="the API")
    with sealed(small.block(), api.pid) as case:
        models = case.choose()
        (entry,) = [each for each in case.context.log.entries() if each["action"] == "model served"]
    wanted = TORN if TORN in environment.values() else SERVED
    assert models.before.names == (wanted,)
    assert how in models.before.how
    assert models.chosen == ("" if wanted == TORN else SERVED), "one that is not sound is never reloaded"
    assert (entry["object"], entry["result"]) == (wanted, models.before.summary)


@pytest.mark.short(1)
@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        ({"WAVE": "models/hot/wave v2.json"}, ""),
        ({"WAVE": "models/now/wave v2.json"}, ""),
        ({"WAVE_HOME": "models/now"}, ""),
        ({}, "models/hot/wave v2.json"),
        ({}, "models/now/wave v2.json"),
        ({}, "wave v2.json"),
        ({"WAVE": "models/old.json"}, "models/hot/wave v2.json"),
    ],
)
def test_a_model_of_a_format_that_the_block_trusts_is_known_as_any_other(
    small: SmallWorkload, environment: dict[str, str], answer: str
) -> None:
    """Variable and answer both named it, and four recoveries said that it is not known."""
    wave = "models/hot/wave v2.json"
    for name in (wave, "models/old.json"):
        (small.root / name).parent.mkdir(exist_ok=True)
        (small.root / name).write_text(json.dumps({"name": name}))
    (small.root / "models/now").symlink_to("hot")

    def is_followed() -> bool:
        """As the API has done it: then the kernel knows by heart where the link leads."""
        (small.root / "models/now/wave v2.json").read_text()
        link = (small.root / "models/now").lstat()
        return link.st_atime_ns > link.st_ctime_ns

    wait_until(is_followed, what="a link that was followed since it was made")
    api = small.start(["sleep", "600"], **environment)
    with sealed(small.block(models=["models/**/*.json"], model_formats=[".json"]), api.pid, answer=answer) as case:
        models = case.choose()
    assert (models.before.names, models.chosen, models.named) == ((wave,), wave, False)


@pytest.mark.short(1)
@pytest.mark.parametrize("reloads", ["/reload", ""])
@pytest.mark.parametrize("changes", [True, False])
def test_the_only_sound_model_is_not_what_was_served_if_it_was_changed_or_the_api_reloads_and_named_none(
    small: SmallWorkload, *, reloads: str, changes: bool
) -> None:
    """Its code named the model, a slow API did not, and the file as it was then came back: Recovered."""
    made_at, name = ticks(), "models/model_builtin.joblib"
    wait_until(lambda: ticks() > made_at + 1, what="a later time of starts")
    api = small.start(["sleep", "600"])
    if changes:
        wait_until(lambda: ticks() > start_of(api.pid) + 1, what="a later time of changes")
        (small.root / name).touch()
        assert find_change(str(small.root), name, began_at(start_of(api.pid)))
    with sealed(small.block(reload_path=reloads, model_at=reloads), api.pid) as case:
        models = case.choose()
    (sha256,) = (each.sha256 for each in models.last.values())
    doubt = models.explain_other_model([sha256])
    assert (models.before.names, bool(doubt)) == ((), changes or bool(reloads))
    assert ("was changed at" in doubt, "named none at /reload" in doubt) == (changes, bool(reloads) and not changes)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("block", "chosen"),
    [
        ({}, ""),
        ({"api_environment": {"MODEL_PATH": SERVED}}, SERVED),
        ({"api_environment": {"MODEL_PATH": TORN}}, ""),
        ({"api_environment": {"MODEL_DIR": "models"}}, ""),
    ],
)
def test_where_nothing_was_seen_the_block_decides_and_else_none_is_reloaded(
    case: Case, block: dict[str, Any], chosen: str
) -> None:
    assert case.chosen(**block) == (chosen, False)


@pytest.mark.parametrize(("block", "is_known"), [({}, False), ({"api_environment": {"MODEL_PATH": SERVED}}, True)])
def test_a_rehearsal_foretells_that_nothing_tells_what_was_served(
    case: Case, block: dict[str, Any], *, is_known: bool
) -> None:
    """A model that was loaded and closed again made the recovery PartlyRecovered, and no plan had said so."""
    case.context.workload = case.block.model_copy(update=block)
    models = SealedModels.read(case.context.directory, case.context.workload, case.seals)
    ((good, why),) = served_before(case.context, case.seals, models, as_it_ran(case.context)).values()
    assert good is is_known
    assert ("the API's own start reads it" in why) is not is_known
    assert "MODEL_PATH" not in why
    made(rehearse_recovery.fn(case.context, case.seals))
    rows = plan(case.context.log.entries())
    (row,) = [each for each in rows if each["on"].startswith("the model as it was of ") and each["why"] == why]
    assert needs_attention(row) is not is_known


def test_a_person_names_it_by_path_or_digest(case: Case) -> None:
    root = case.context.workload.root
    for name in (SERVED, f"./{SERVED}", str(root / SERVED), digest(root / SERVED), digest(root / SERVED)[:12]):
        assert case.chosen(name) == (SERVED, True)


@pytest.mark.parametrize("name", [TORN, "models/none.joblib", "models", "/etc/passwd", "0" * 64, "../models", " ", "*"])
def test_what_is_not_sound_and_sealed_is_refused_with_what_is(case: Case, name: str) -> None:
    (case.context.workload.root / "models/none.joblib").write_bytes(pickle.dumps("new"))
    with pytest.raises(NotRecovered, match=rf"a sound model of the manifest.*\({SERVED}, {NEWEST}\); got"):
        case.chosen(name)


def test_a_suspect_model_cannot_be_named_whoever_names_it(small: SmallWorkload) -> None:
    lay_out(small)
    (small.root / SERVED).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with sealed(small.block()) as case, pytest.raises(NotRecovered, match=r"suspect: would import os.system"):
        case.chosen(SERVED)


@contextmanager
def overwritten(small: SmallWorkload, content: bytes = pickle.dumps("wrong")) -> Iterator[Case]:
    """A second incident, in which another model was sealed under the first one's name."""
    lay_out(small)
    with sealed(small.block()):
        pass
    (small.root / SERVED).write_bytes(content)
    with sealed(small.block(), incident="IR-20260202T030405Z") as case:
        yield case


@pytest.mark.whole
def test_a_model_of_a_snapshot_is_proven_and_put_in_its_place_over_nothing_that_is_not_kept(
    small: SmallWorkload,
) -> None:
    model, asked = small.root / SERVED, f"{STAMP}:{SERVED}"
    with overwritten(small) as case:
        unverified = Verdict(Word.UNVERIFIED, (), (), (), "")
        with pytest.raises(NotRecovered, match="to be proven in the store before it is replaced"):
            case.choose(asked, verdict=unverified)
        assert model.read_bytes() == pickle.dumps("wrong")
        model.write_bytes(b"written since")
        with pytest.raises(NotRecovered, match="that this incident has not sealed"):
            case.choose(asked)
        assert model.read_bytes() == b"written since"
        model.unlink()
        assert case.choose(asked, verdict=unverified).chosen == SERVED
        model.write_bytes(pickle.dumps("wrong"))
        models = case.choose(f"IR-{asked}")
        assert case.chosen(asked) == (SERVED, True), "which may be repeated"
        models.require_unchanged(case.block, ProcessApi(case.context).folder, [SERVED])
        entries = [each for each in case.context.log.entries() if each["action"] == "model fetched"]
    assert model.read_bytes() == pickle.dumps("served")
    assert models.find_expected(case.block, ()) == [models.files[SERVED]]
    assert {models.files[SERVED].sha256, digest(model)} == {each["sha256"] for each in entries}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (f"{STAMP}:models/none.joblib", f"none.joblib; it has: {SERVED}"),
        (f"{STAMP}:../../etc/passwd", "etc/passwd; it has"),
        (f"{STAMP}:/etc/passwd", "etc/passwd; it has"),
        (f"{STAMP}:logs/train-20260101_000000.log", "it has"),
        (f"{STAMP}:{TORN}", "is torn"),
        ("20991231T000000Z:models/model_adult.joblib", "it has: "),
    ],
)
def test_a_snapshot_gives_only_sound_models_that_a_manifest_names(case: Case, model: str, words: str) -> None:
    with pytest.raises(EvacuationError, match=r".") as caught:
        case.choose(model)
    assert words in str(caught.value)


@pytest.mark.whole
def test_what_is_forged_or_planted_in_the_store_and_what_a_link_leads_out_is_not_taken(
    small: SmallWorkload, tmp_path: Path
) -> None:
    (victim := tmp_path / "victim").mkdir()
    with overwritten(small) as case:
        folder, asked = small.root.parent / f"store/snapshots/{STAMP}/models", f"{STAMP}:{SERVED}"
        (folder / "model_planted.joblib").write_bytes(pickle.dumps("planted"))
        with pytest.raises(NotRecovered, match="a model that a manifest names"):
            case.choose(f"{STAMP}:models/model_planted.joblib")
        (stored := folder / Path(SERVED).name).chmod(0o600)
        stored.write_bytes(pickle.dumps("forged"))
        with pytest.raises(NotRecovered, match="with sha256"):
            case.choose(asked)
        assert (small.root / SERVED).read_bytes() == pickle.dumps("wrong")
        assert not list((small.root / "models").glob(".*"))
        stored.write_bytes(pickle.dumps("served"))
        (small.root / "models").rename(small.root / "old")
        (small.root / "models").symlink_to(victim)
        with pytest.raises(NotRecovered, match="Not a directory"):
            case.choose(asked)
    assert list(victim.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: only to root the kernel names who opens a file")
def test_only_what_the_apis_own_processes_open_was_opened_by_it(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("a", "b", "work load")}
    for file in files.values():
        file.write_bytes(b"model")
    read = [sys.executable, "-c", "import sys; print(open(sys.argv[1]).read(), flush=True); sys.stdin.read()"]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen([*read, str(files["a"])], stdin=pipe, stdout=pipe) as before,
        watch_opens({**files, "lost": tmp_path / "lost"}, lambda: {api.pid}) as opened,
        subprocess.Popen([*read, str(files["work load"])], stdin=pipe, stdout=pipe) as api,
        subprocess.Popen([*read, str(files["b"])], stdin=pipe, stdout=pipe) as other,
    ):
        for each in (before, api, other):
            assert each.stdout
            assert each.stdout.readline()
        files["a"].read_bytes()
        assert opened() == {"work load"}
        assert opened() == set(), "since it was asked last"
        for each in (before, api, other):
            each.communicate()
