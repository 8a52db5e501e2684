"""What a run's steps made is found by their ids, whatever their titles say."""

from concurrent.futures import Future
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.serializers import JSONSerializer
from prefect.states import Completed, Failed

from tasks.collectors import discover
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.pause import Resume
from tasks.custody.containment.receipt import Containment, Freeze, Frozen, Recovery, Stop, Watch
from tasks.custody.containment.thaw import Thawed
from tasks.custody.evidence.acquisition import Outcome, Seal
from tasks.custody.incident.steps import StepId
from tasks.custody.incident.verdict import Verdict, Word
from tasks.custody.models.inspection import Inspection, ModelFinding, Soundness
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.store.sent import Sent
from tasks.record.findings import every_collector, findings_of, verdict_of
from tasks.record.thawed import build_thaw_content
from tasks.runtime.step import StepRunner
from tests.support.report_factory import NOW, WHO, at
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload


def ended(steps: StepRunner, step_id: StepId, state: State[Any]) -> None:
    """As if the step had been submitted under some title and ended so."""
    inner = Future[State[Any]]()
    inner.set_result(state)
    steps.submitted.append((step_id, f"a title of {step_id}", PrefectConcurrentFuture(uuid4(), inner)))


def contained(*alive: str) -> Containment:
    return Containment(datetime.now(UTC), alive, cordoned=True, reason="held")


def test_each_is_what_its_step_made(small: SmallWorkload) -> None:
    freeze, watch = Freeze(NOW, (), settled=True), Watch(NOW, (), (), ())
    seals = (Seal(1, "1" * 64, "2" * 64, 3, 4), Seal(2, "3" * 64, "4" * 64, 5, 6))
    with case_of(small.block()) as context:
        steps = StepRunner(context)
        ended(steps, "freeze", Completed(data=freeze))
        for seal in seals:
            ended(steps, "seal", Completed(data=seal))
        ended(steps, "check_seal", Completed(data=seals[1]))
        ended(steps, "watch", Failed(data=watch))
        ended(steps, "prove_contained", Completed(data=contained("too early")))
        ended(steps, "prove_still_contained", Completed(data=contained()))
        found = findings_of(steps, ())
    assert (found.freeze, found.watch, found.seals) == (freeze, watch, seals)
    assert found.containment
    assert found.containment.alive == ()
    assert (found.stop, found.recovery, found.promoted, found.trouble) == (None, None, None, ())


def test_after_a_failed_recovery_the_look_that_follows_it_counts_even_if_it_saw_nothing(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        steps = StepRunner(context)
        ended(steps, "prove_still_contained", Completed(data=contained()))
        ended(steps, "check_seal", Completed(data=Seal(1, "1" * 64, "2" * 64, 3, 4)))
        ended(steps, "recover", Failed(data=ValueError("it did not come back")))
        ended(steps, "prove_contained_again", Failed(data=ValueError("nobody could look")))
        found = findings_of(steps, ())
    assert found.containment is None
    assert found.recovery == "it did not come back"
    assert found.trouble == ("a title of prove_contained_again: nobody could look",)


def test_a_recovery_that_was_made_is_found(small: SmallWorkload) -> None:
    back = Recovery(NOW, WHO, "model", "0" * 64)
    with case_of(small.block()) as context:
        steps = StepRunner(context)
        ended(steps, "recover", Completed(data=back))
        assert findings_of(steps, ()).recovery == back


def test_a_collector_that_crashed_leaves_a_failed_attempt(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        steps = StepRunner(context)
        ended(steps, "collect", Failed(data=ValueError("crashed")))
        evidence = every_collector(steps)
        assert findings_of(steps, evidence).evidence is evidence
        assert findings_of(steps, evidence).trouble == ()
    assert [each.collector for each in evidence] == list(discover())
    assert {each.outcome for each in evidence} == {Outcome.FAILED}


def test_that_no_model_is_sound_is_said_first_with_the_line_for_the_block(small: SmallWorkload) -> None:
    ours = ModelFinding("models/a.joblib", "aa", Soundness.SUSPECT, "would import src.a.B", trust=("src.a.B",))
    first = []
    for found in ((ours,), (ours, replace(ours, outcome=Soundness.SOUND))):
        with case_of(small.block(model_imports=["mine"])) as context:
            steps = StepRunner(context)
            ended(steps, "prove_still_contained", Completed(data=contained()))
            ended(steps, "judge_models", Completed(data=Inspection(found)))
            verdict = verdict_of(context, findings_of(steps, ()))
        first.append(verdict.message.partition(". ")[2])
    assert first[0].startswith("First: no model is sound, 健全なモデルなし: ")
    assert 'model_imports = ["mine", "src.a.B"]' in first[0]
    assert "First" not in first[1]


def test_what_the_steps_warn_of_is_a_note_of_the_verdict_in_each_run_that_carries_the_incident_on(
    small: SmallWorkload,
) -> None:
    """A cached stop told nothing of the service that systemd could not stop; nor was told what a person had decided."""
    stop = Stop(NOW, (), warnings=("systemd could not stop it",))
    for run in range(2):
        with case_of(small.block()) as context:
            steps = StepRunner(context)
            ended(steps, "stop", Completed(data=stop, name="Completed" if run == 0 else "Cached"))
            ended(steps, "claim_store", Completed(data=Sent(1, 0, "there", warnings=("not retained",))))
            ended(steps, "prove_still_contained", Completed(data=contained()))
            if run == 0:
                context.log.write("answered", context.incident.id, decision="stop", result="stop: ana: it is bad")
            notes = verdict_of(context, findings_of(steps, ())).notes
        assert {"systemd could not stop it", "not retained"} <= {*notes}
        assert "a person was asked whether to stop or to thaw: stop: ana: it is bad" in notes


def test_a_cached_result_keeps_its_warnings() -> None:
    serializer = JSONSerializer()
    stop = Stop(NOW, (), warnings=("systemd could not stop it",))
    assert serializer.loads(serializer.dumps(stop)) == stop


def test_what_a_thaw_warns_of_is_a_note_once_by_hand_and_in_a_flow(small: SmallWorkload) -> None:
    thawed = Thawed(NOW, (), (), (), (), Resume((), ()), warnings=("systemd could not thaw it",))
    for by_hand in (True, False):
        with case_of(small.block()) as context:
            steps = StepRunner(context)
            if not by_hand:
                ended(steps, "thaw", Completed(data=thawed))
            assert build_thaw_content(steps, thawed).verdict.notes.count("systemd could not thaw it") == 1


def test_the_record_of_a_thaw_keeps_what_an_earlier_one_tells_of_the_freeze(small: SmallWorkload) -> None:
    """One of a run that froze and could not settle it became one that was settled at the moment of the thaw."""
    frozen = Frozen(WHO, "training", "train", 0, NOW, NOW)
    freeze = Freeze(NOW, (frozen,), settled=False)
    thawed = Thawed(at(60), (), (), (), (), Resume(()))
    with case_of(small.block()) as context:
        context.state.frozen.write([frozen])
        folder = context.directory.record_dir(1)
        folder.mkdir(parents=True)
        verdict = canonical({"verdict": asdict(Verdict(Word.NOT_CONTAINED, (), (), (), "")), "freeze": asdict(freeze)})
        (folder / "verdict.json").write_bytes(verdict)
        (folder / "closing.json").write_bytes(canonical({"files": {"verdict.json": digest_bytes(verdict)}}))
        made = build_thaw_content(StepRunner(context), thawed)
        assert (made.findings.freeze, made.facts["freeze"]) == (freeze, asdict(freeze))
        fresh = replace(frozen, identity=Identity(WHO.pid + 1, 5), frozen_at=at(5))
        context.state.frozen.write([frozen, fresh])
        made = build_thaw_content(StepRunner(context), thawed)
        assert made.findings.freeze == Freeze(at(5), (frozen, fresh), settled=False)
