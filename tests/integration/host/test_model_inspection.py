"""Each model is judged in a process of its own, and loaded behind walls only if the block allows it."""

import os
import pickle
import shutil
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from blocks.workload import Workload
from tasks.custody.evidence.acquisition import Evidence
from tasks.custody.evidence.keys import MODELS
from tasks.custody.models.inspection import Inspection, Soundness
from tasks.custody.store.manifest import digest
from tasks.evidence import left_alone
from tasks.evidence.collect import collect
from tasks.models import inspect as inspect_models
from tasks.models.findings import held_back
from tasks.models.inspect import judge_again, judge_models
from tasks.runtime.context import RunContext
from tasks.system.sandbox import Limits
from tests.support.run_context import case_of, made
from tests.support.small_disks import small_disk
from tests.support.workloads import SmallWorkload, open_the_way

MIB = 1 << 20
NOBODY = 65534


class Calls:
    """Has a function called by whoever unpickles it."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        """Say which."""
        self.made = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """As pickle asks."""
        return self.made


def estimator() -> LogisticRegression:
    return LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]], ["no", "no", "yes", "yes"])


def bomb(mebibytes: int = 256) -> bytes:
    """A file of a few MB whose content is one huge list of None."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(b"\x80\x04](")]
    parts += [packer.compress(b"N" * MIB) for _ in range(mebibytes)]
    return b"".join([*parts, packer.compress(b"e."), packer.flush()])


ENDLESS = {"model_bomb.joblib", "model_laughs.joblib", "model_memo.joblib"}
"""Reading them takes minutes: they end at the limit, whatever it is."""


def read_endless_ones_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up sooner where the limit is reached anyway; all others have their usual time."""
    read = inspect_models.read_model

    def briefly(path: str, file: BinaryIO, seconds: float, block: Workload) -> dict[str, Any]:
        return read(path, file, 3.0 if Path(file.name).name in ENDLESS else seconds, block)

    monkeypatch.setattr(inspect_models, "read_model", briefly)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    read_endless_ones_briefly(monkeypatch)


def judged(context: RunContext) -> Inspection:
    evidence = made(collect.fn(context, "models"))
    assert isinstance(evidence, Evidence)
    inspection = made(judge_models.fn(context, (evidence,)))
    assert isinstance(inspection, Inspection)
    return inspection


def outcomes(inspection: Inspection) -> dict[str, str]:
    return {Path(each.stored).stem.removeprefix("model_"): str(each.outcome) for each in inspection.findings}


@pytest.mark.usefixtures("hurried")
def test_each_hostile_model_costs_one_finding_and_is_never_run(small: SmallWorkload, tmp_path: Path) -> None:
    canary, models = tmp_path / "canary", small.root / "models"
    joblib.dump(estimator(), models / "model_sound.joblib")
    whole = (models / "model_sound.joblib").read_bytes()
    (models / "model_torn.joblib").write_bytes(whole[:-100])
    joblib.dump([np.arange(100.0), Calls(os.mknod, str(canary))], models / "model_evil.joblib")
    (models / "model_bomb.joblib").write_bytes(bomb())
    (models / "model_deep.joblib").write_bytes(b"\x80\x04})" + b"\x85" * 3_000_000 + b"Ns.")
    (models / "model_laughs.joblib").write_bytes(b"\x80\x04})" + b"2\x86" * 60 + b"Ns.")
    (models / "model_memo.joblib").write_bytes(b"\x80\x04]" + b"\x94" * 12_000_000 + b".")
    with case_of(small.block()) as context:
        inspection = judged(context)
        kept = Inspection.from_bytes((context.directory.evidence_dir(1) / MODELS).read_bytes())
    assert outcomes(inspection) == {
        "builtin": "sound",
        "sound": "sound",
        "torn": "torn",
        "evil": "suspect",
        "bomb": "unknown",
        "deep": "unknown",
        "laughs": "unknown",
        "memo": "unknown",
    }
    assert not canary.exists()
    assert kept == inspection
    assert all(each.reason for each in inspection.findings if each.outcome is not Soundness.SOUND)
    sound = next(each for each in inspection.findings if each.stored.endswith("model_sound.joblib"))
    assert sound.estimator == "sklearn.linear_model._logistic.LogisticRegression"
    assert sound.features == 2
    assert sound.sklearn
    assert len(inspection.notes) == 6


def test_a_file_that_is_still_written_is_torn_and_one_that_is_gone_says_so(small: SmallWorkload) -> None:
    path = small.root / "models/model_builtin.joblib"
    with case_of(small.block()) as context:
        evidence = made(collect.fn(context, "models"))
        os.utime(path, ns=(1, 1))
        (finding,) = made(judge_models.fn(context, (evidence,))).findings
        assert finding.outcome is Soundness.TORN
        path.unlink()
        (finding,) = made(judge_models.fn(context, (evidence,))).findings
    assert finding.outcome is Soundness.SOUND
    assert "no second look" in finding.warnings[0]


@pytest.mark.whole
def test_by_the_present_rules_a_sealed_model_may_be_judged_otherwise_and_stays_as_it_was_sealed(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    (small.root / "models/model_own.joblib").write_bytes(b"cmine_own\nScaler\n.")
    with case_of(small.block(model_imports=["mine_own"])) as context:
        evidence = made(collect.fn(context, "models"))
        trusting = made(judge_models.fn(context, (evidence,)))
        sealed = (context.directory.evidence_dir(1) / MODELS).read_bytes()
        assert outcomes(trusting) == {"builtin": "sound", "own": "sound"}
        assert judge_again(context, {}, 1, evidence.files) == trusting.findings
        context.workload = small.block()
        assert outcomes(Inspection(judge_again(context, {}, 1, evidence.files))) == {
            "builtin": "sound",
            "own": "suspect",
        }
        told = [each["object"] for each in context.log.entries() if each["action"] == "model judged again"]
        assert told == ["models/model_own.joblib"]
        with monkeypatch.context() as patched:
            judged = dict[Any, Any]()
            once = judge_again(context, judged, 1, evidence.files)
            patched.setattr("tasks.models.inspect.read_model", lambda *_: pytest.fail("it was judged already"))
            assert judge_again(context, judged, 1, evidence.files) == once
        own = context.directory.evidence_dir(1) / told[0]
        own.write_bytes(b"cmine_own\nOther\n.")
        assert judge_again(context, {}, 1, evidence.files) == trusting.findings
        own.unlink()  # as one that was hashed in place may be
        assert judge_again(context, {}, 1, evidence.files) == trusting.findings
        assert (context.directory.evidence_dir(1) / MODELS).read_bytes() == sealed


@pytest.mark.whole
def test_a_model_in_place_is_read_again_only_if_something_was_done_to_it(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, read = small.root / "models/model_big.joblib", list[Path]()
    joblib.dump(np.arange(1_000_000), model)

    def hash_again(path: Path) -> str:
        read.append(path)
        return digest(path)

    monkeypatch.setattr(inspect_models, "digest", hash_again)
    monkeypatch.setattr(left_alone, "_TICK", 0)
    with small_disk(tmp_path / "disk", 8) as disk, case_of(small.block(evidence_dir=disk, reserve_mb=4)) as context:
        evidence = made(collect.fn(context, "models"))
        assert {file.stored for file in evidence.files if file.in_place} == {"models/model_big.joblib"}

        def big() -> str:
            return outcomes(made(judge_models.fn(context, (evidence,))))["big"]

        assert big() == "sound"
        assert not read
        before, data = model.stat(), model.read_bytes()
        model.write_bytes(data[:-1] + b"!")
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert big() == "torn"
        model.write_bytes(data)
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert big() == "sound"
        assert len(read) == 2


def test_a_file_that_changed_while_it_was_copied_is_torn(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        evidence = made(collect.fn(context, "models"))
        changed = replace(evidence.files[0], note="a link to x; it changed while it was read")
        (finding,) = made(judge_models.fn(context, (replace(evidence, files=(changed,)),))).findings
    assert finding.outcome is Soundness.TORN


def test_models_are_known_by_name_by_pattern_and_by_their_first_bytes(small: SmallWorkload) -> None:
    models = small.root / "models"
    (models / "weights.bin").write_bytes(b"no pickle at all")
    (models / "about.json").write_text("{}")
    (small.root / "artifacts/summary_hidden.json").write_bytes(pickle.dumps(Calls(os.system, "true")))
    block = small.block(models=["models/*"])
    with case_of(block) as context:
        evidence = tuple(made(collect.fn(context, name)) for name in ("models", "artifacts"))
        found = {each.stored: each.outcome for each in made(judge_models.fn(context, evidence)).findings}
    assert found == {
        "models/model_builtin.joblib": Soundness.SOUND,
        "models/weights.bin": Soundness.UNKNOWN,
        "artifacts/summary_hidden.json": Soundness.SUSPECT,
    }


def test_what_nobody_has_judged_is_held(small: SmallWorkload) -> None:
    with case_of(small.block()) as context:
        evidence = made(collect.fn(context, "models"))
        (file,) = evidence.files
        assert held_back(context.directory, 1, [file], context.workload) == {file.stored: "nobody has judged it"}
        judge_models.fn(context, (evidence,))
        assert held_back(context.directory, 1, [file], context.workload) == {}
        changed = held_back(context.directory, 1, [replace(file, sha256="0" * 64)], context.workload)
        assert set(changed.values()) == {"nobody has judged it"}


def test_only_judged_models_and_files_that_held_still_may_be_promoted(small: SmallWorkload) -> None:
    hostile, artifacts = b"cos\nsystem\n(S'true'\ntR.", small.root / "artifacts"
    (artifacts / "best.PKL").write_bytes(hostile)
    (artifacts / "best.bin").write_bytes(hostile)
    (artifacts / "packed.txt").write_bytes(zlib.compress(hostile))
    (artifacts / "figure.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (artifacts / "weights.onnx").write_bytes(b"\x08\x07")
    with case_of(small.block(artifacts=["artifacts/*"])) as context:
        evidence = made(collect.fn(context, "artifacts"))
        judge_models.fn(context, (evidence,))
        files = {file.stored.removeprefix("artifacts/"): file for file in evidence.files}
        held = held_back(context.directory, 1, files.values(), context.workload)
        changed = "it was truncated while it was read"
        moved = held_back(context.directory, 1, [replace(files["figure.png"], note=changed)], context.workload)
    assert {stored.removeprefix("artifacts/"): why.partition(" ")[0] for stored, why in held.items()} == {
        "best.PKL": "suspect:",
        "best.bin": "suspect:",
        "packed.txt": "suspect:",
    }
    assert moved == {"artifacts/figure.png": changed}


def test_a_workload_without_models_leaves_no_file(small: SmallWorkload) -> None:
    (small.root / "models/model_builtin.joblib").unlink()
    with case_of(small.block()) as context:
        assert judged(context).findings == ()
        assert not (context.directory.evidence_dir(1) / MODELS).exists()


def test_the_operator_s_own_classes_can_be_allowed(small: SmallWorkload) -> None:
    (small.root / "models/model_builtin.joblib").write_bytes(b"\x80\x04csrc.features\nCleaner\n)R.")
    for own, expected in (([], "suspect"), (["src"], "sound")):
        with case_of(small.block(model_imports=own)) as context:
            assert outcomes(judged(context)) == {"builtin": expected}


@pytest.mark.short(1)
@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("beside", "outcome"),
    [
        ("_loss.py", "suspect"),
        ("_loss/__init__.py", "suspect"),
        ("_loss.cpython-313-x86_64-linux-gnu.so", "suspect"),
        ("joblib.pyc", "suspect"),
        ("sklearn/__init__.py", "suspect"),
        ("lib/numpy.py", "suspect"),
        ("api/numpy.py", "suspect"),
        ("served/_loss.py", "suspect"),
        ("venv/lib/python3.12/_loss.pyc", "suspect"),
        ("venv/lib/python3.12/site-packages/_loss.cpython-312-x86_64-linux-gnu.so", "suspect"),
        ("venv/lib64/python3.12/site-packages/_loss/__init__.py", "suspect"),
        ("elsewhere/_loss.py", "suspect"),
        ("venv/lib/python3.12/site-packages/numpy/__init__.py", "sound"),
        ("venv/lib/python3.12/site-packages/sklearn/_loss/__init__.py", "sound"),
        ("elsewhere/numpy/__init__.py", "sound"),
        ("notes/_loss.py", "sound"),
        ("_loss/notes.txt", "sound"),
        ("_loss.csv", "sound"),
        ("pandas.py", "sound"),
        ("src/numpy.py", "sound"),
    ],
)
def test_a_model_whose_imports_lie_in_the_workload_s_own_folder_is_suspect(
    small: SmallWorkload, beside: str, outcome: str
) -> None:
    shutil.copy(Path(__file__).parents[2] / "support/sklearn-1.7.1.joblib", small.root / "models/model_builtin.joblib")
    packages = small.root / "venv/lib/python3.12/site-packages"
    for folder in (packages, small.root / "api", small.root / "served", (small.root / beside).parent):
        folder.mkdir(parents=True, exist_ok=True)
    (packages / "more.pth").write_text("# where more lies\nimport os\n../../../../elsewhere\n")
    (small.root / "api/app.py").touch()
    (small.root / beside).touch()
    api = {"api_command": ["venv/bin/python", "api/app.py", "--app-dir=served", "--port", "8000"]}
    with case_of(small.block(**api, api_environment={"PYTHONPATH": "lib:/nowhere"})) as context:
        assert outcomes(judged(context)) == {"builtin": outcome}


def test_a_whole_script_among_the_words_of_the_command_costs_no_judgement(small: SmallWorkload) -> None:
    shutil.copy(Path(__file__).parents[2] / "support/sklearn-1.7.1.joblib", small.root / "models/model_builtin.joblib")
    with case_of(small.block(api_command=["sh", "-c", f"exec python app.py # {'x' * 5000}", "a\0b"])) as context:
        assert outcomes(judged(context)) == {"builtin": "sound"}


def test_what_an_operator_trusts_may_lie_there(small: SmallWorkload) -> None:
    (small.root / "models/model_builtin.joblib").write_bytes(b"\x80\x04csrc.features\nCleaner\n)R.")
    (small.root / "src/__init__.py").touch()
    with case_of(small.block(model_imports=["src"])) as context:
        assert outcomes(judged(context)) == {"builtin": "sound"}


@pytest.mark.whole
def test_a_model_that_is_loaded_tells_of_itself(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_models, "_as_workload", lambda _, seconds: Limits(seconds, 8 << 30))
    joblib.dump(estimator(), small.root / "models/model_builtin.joblib")
    with case_of(small.block(inspect_models=True, interpreter=sys.executable)) as context:
        (finding,) = judged(context).findings
    assert (finding.outcome, finding.inspected, finding.classes) == (Soundness.SOUND, True, ("no", "yes"))
    assert finding.features == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_model_is_loaded_as_another_user_and_by_the_workload_s_interpreter(small: SmallWorkload) -> None:
    open_the_way(small.root)
    (small.root / "joblib.py").write_text(
        "import os, pickle\nclass Told:\n    n_features_in_ = 7\n"
        "def load(file):\n    made = Told()\n"
        "    made.classes_ = [os.geteuid(), os.environ.get('AWS_SECRET')]\n    return made\n"
    )
    with case_of(small.block(inspect_models=True, interpreter="/usr/bin/python3", model_imports=["src"])) as context:
        (finding,) = judged(context).findings
    assert finding.inspected, finding
    assert finding.features == 7
    assert finding.classes == (str(NOBODY), "None")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_what_its_own_interpreter_cannot_load_is_not_sound(small: SmallWorkload) -> None:
    open_the_way(small.root)
    with case_of(small.block(inspect_models=True, interpreter="/usr/bin/python3")) as context:
        (finding,) = judged(context).findings
    assert finding.outcome is Soundness.UNKNOWN
    assert "cannot load it: ModuleNotFoundError" in finding.reason


def test_a_suspect_model_is_never_loaded(small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> dict[str, Any]:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(inspect_models, "_load", never)
    joblib.dump(Calls(os.mknod, str(tmp_path / "canary")), small.root / "models/model_builtin.joblib")
    with case_of(small.block(inspect_models=True)) as context:
        assert outcomes(judged(context)) == {"builtin": "suspect"}
    assert not (tmp_path / "canary").exists()
