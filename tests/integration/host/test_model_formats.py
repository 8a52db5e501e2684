"""A model of a format that is not read here is unknown; a block may trust its suffix, but never a pickle behind it."""

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tasks.custody.evidence.acquisition import Evidence, StoredFile
from tasks.custody.evidence.keys import MODELS
from tasks.custody.models.inspection import Inspection, ModelFinding, Soundness
from tasks.evidence.collect import collect
from tasks.models.findings import held_back, sealed_findings
from tasks.models.inspect import judge_again, judge_models
from tasks.recovery.choice import with_former
from tasks.recovery.recover import as_it_ran
from tasks.recovery.rehearsal import served_before
from tasks.recovery.served_model import SealedModels
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

FORMATS = [".json", ".npy", ".npz", ".onnx", ".pt", ".safetensors", ".txt", ".ubj", ".tgz", ".mar"]


def saved(save: Any, *what: Any, **named: Any) -> bytes:
    save(file := io.BytesIO(), *what, **named)
    return file.getvalue()


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return file.getvalue()


def safetensors(size: int) -> bytes:
    return size.to_bytes(8, "little") + b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(size) + bytes(8)


OBJECTS = np.array([{"a": 1}], dtype=object)
PLAIN = {
    "a.npz": saved(np.savez, w=np.eye(9), b=np.array(["é", "b"]), t=np.zeros(2, "M8[ns]"), n=np.array(3)),
    "b.npz": saved(np.savez_compressed, r=np.zeros(2, [("x", "<f4"), ("y", "|u1", (2, 3))])),
    "a.npy": saved(np.save, np.zeros((2, 3), order="F")),
    "a.safetensors": safetensors(88),
    "b.safetensors": safetensors(376),
    "c.safetensors": safetensors(80),
    "d.safetensors": safetensors(640),
    "e.safetensors": safetensors(1408),
    "a.onnx": b"\x08\x07\x12\x07pytorch\x1a\x011" + bytes(range(256)) * 9,
    "a.pt": zipped(weights__0=bytes(64), config_json=b"{}"),
    "a.json": b'{"learner": {}}',
    "a.txt": b"tree\nversion=v3\n",
    "a.ubj": b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{}",
    "A.NPZ": saved(np.savez, w=np.eye(2)),
}
HARMLESS_PICKLE = pickle.dumps({"w": [1.0]})
NOT_PLAIN = {
    "objects.npy": saved(np.save, OBJECTS),
    "objects.npz": saved(np.savez, w=np.eye(9), o=OBJECTS),
    "renamed.npy": saved(np.save, OBJECTS).replace(b"'|O'", b'"|O"'),
    "spelt.npy": saved(np.save, np.zeros(3)).replace(b"'<f8'", b"'ob' "),
    "torch.pt": zipped(archive__data_pkl=HARMLESS_PICKLE, archive__data__0=bytes(64)),
    "hidden.pt": zipped(archive__weights=HARMLESS_PICKLE),
    "inner.mar": zipped(model_pth=zipped(a__data_pkl=HARMLESS_PICKLE)),
    "packed.tgz": gzip.compress(b"no pickle at all"),
    "cut.npz": saved(np.savez, w=np.eye(9))[:-30],
    "empty.npz": b"",
    "cut.json": b'{"learner": ',
    "polyglot.safetensors": safetensors(88) + zipped(archive__data_pkl=HARMLESS_PICKLE),
}


def judged(context: RunContext) -> dict[str, ModelFinding]:
    evidence = made(collect.fn(context, "models"))
    assert isinstance(evidence, Evidence)
    inspection = made(judge_models.fn(context, (evidence,)))
    assert isinstance(inspection, Inspection)
    return {Path(each.stored).name: each for each in inspection.findings}


def write(small: SmallWorkload, files: dict[str, bytes]) -> None:
    (small.root / "models/model_builtin.joblib").unlink(missing_ok=True)
    for name, content in files.items():
        (small.root / "models" / name).write_bytes(content)


@pytest.mark.whole
def test_a_format_that_the_block_trusts_is_sound_and_says_that_it_was_not_read(small: SmallWorkload) -> None:
    write(small, PLAIN)
    with case_of(small.block(models=["models/*"], model_formats=FORMATS, inspect_models=True)) as context:
        found = judged(context)
    assert {name: each.summary.partition(" is ")[2] for name, each in found.items()} == dict.fromkeys(
        PLAIN, "sound: of a format that the block trusts, not read"
    )
    assert not any(each.inspected for each in found.values())


@pytest.mark.whole
def test_one_that_nobody_trusts_is_unknown_without_a_word_of_how_a_pickle_is_read(small: SmallWorkload) -> None:
    write(small, PLAIN)
    with case_of(small.block(models=["models/*"], model_formats=[".other"])) as context:
        found = judged(context)
    assert {each.summary.partition(" is ")[2] for each in found.values()} == {
        "unknown: of a format that is not read here"
    }
    assert found.keys() == PLAIN.keys() - {"a.json"}


@pytest.mark.whole
def test_no_pickle_and_nothing_that_may_hold_one_is_sound_by_its_suffix(small: SmallWorkload) -> None:
    write(small, NOT_PLAIN)
    with case_of(small.block(models=["models/*"], model_formats=FORMATS)) as context:
        found = judged(context)
    assert {name: each.outcome for name, each in found.items()} == dict.fromkeys(NOT_PLAIN, Soundness.UNKNOWN)
    reasons = {name: each.reason.removeprefix("of a format that is not read here; ") for name, each in found.items()}
    assert reasons["torch.pt"] == "archive/data.pkl in it: it is a pickle by its name"
    assert reasons["hidden.pt"] == "archive/weights in it: it may be a pickle"
    assert reasons["objects.npz"] == "o.npy in it: its array may hold pickled objects"
    assert reasons["empty.npz"] == "it is empty"
    assert all(reasons.values())


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (pickle.dumps({"w": 1}), Soundness.SOUND),
        (pickle.dumps({"w": 1})[:-1], Soundness.TORN),
        (b"cos\nsystem\n(S'true'\ntR.", Soundness.SUSPECT),
        (b"cos\nsystem\n(S'true'\ntR" + b"\xff" * 99, Soundness.SUSPECT),
        (b"(lp0\nI1\na", Soundness.UNKNOWN),
    ],
)
def test_a_pickle_with_such_a_suffix_is_judged_as_one(small: SmallWorkload, content: bytes, outcome: Soundness) -> None:
    write(small, {"a.npz": content})
    for formats in ([], [".npz"]):
        with case_of(small.block(models=["models/*"], model_formats=formats)) as context:
            (found,) = judged(context).values()
        assert found.outcome is outcome
        assert "trusts" not in found.reason


def test_only_what_the_patterns_name_is_trusted_and_a_twin_of_it_is_not(small: SmallWorkload) -> None:
    write(small, dict.fromkeys(("a.npz", "twin.dat", "twin.joblib"), PLAIN["a.onnx"]))
    with case_of(small.block(models=["models/*"], model_formats=[".npz"])) as context:
        found = {name: each.outcome for name, each in judged(context).items()}
    assert found == {"a.npz": Soundness.SOUND, "twin.dat": Soundness.UNKNOWN, "twin.joblib": Soundness.TORN}


@pytest.mark.parametrize("suffix", ["", "npz", ".NPZ", "*.npz", ".tar.gz", ".joblib", ".pkl", ".pickle", ". npz"])
def test_what_is_no_suffix_of_another_format_is_refused_with_its_cure(small: SmallWorkload, suffix: str) -> None:
    with pytest.raises(ValueError, match=r"the suffix of a model's format .*got '.*'.*Write it like .npz"):
        small.block(model_formats=[suffix])


def sealed(context: RunContext) -> tuple[list[StoredFile], Inspection]:
    evidence = made(collect.fn(context, "models"))
    judged_now = made(judge_models.fn(context, (evidence,)))
    return list(evidence.files), judged_now


def test_what_was_sealed_before_is_judged_by_the_formats_that_the_block_trusts_now(small: SmallWorkload) -> None:
    names = ("a.npz", "a.json", "torch.pt")
    write(small, {name: (PLAIN | NOT_PLAIN)[name] for name in names})
    with case_of(small.block(models=["models/*"])) as context:
        files, _ = sealed(context)
        before = (context.directory.evidence_dir(1) / MODELS).read_bytes()
        context.workload = small.block(models=["models/*"], model_formats=[".npz", ".json", ".pt"])
        again = {Path(each.stored).name: each for each in judge_again(context, {}, 1, files)}
        entries = [each["result"] for each in context.log.entries() if each["action"] == "model judged again"]
        assert (context.directory.evidence_dir(1) / MODELS).read_bytes() == before
    assert {name: each.outcome for name, each in again.items()} == {
        "a.npz": Soundness.SOUND,
        "a.json": Soundness.SOUND,
        "torch.pt": Soundness.UNKNOWN,
    }
    assert [each.partition("not read; ")[2] for each in entries] == ["sealed as unknown", "sealed unjudged"]


def test_what_was_sealed_as_trusted_is_unknown_where_the_block_trusts_it_no_more(small: SmallWorkload) -> None:
    write(small, {"a.npz": PLAIN["a.npz"]})
    with case_of(small.block(models=["models/*"], model_formats=[".npz"])) as context:
        files, found = sealed(context)
        assert held_back(context.directory, 1, files, context.workload) == {}
        context.workload = small.block(models=["models/*"])
        (again,) = judge_again(context, {}, 1, files)
    assert [each.outcome for each in (*found.findings, again)] == [Soundness.SOUND, Soundness.UNKNOWN]


@pytest.mark.whole
def test_a_recovery_offers_the_line_that_has_the_model_proven(small: SmallWorkload) -> None:
    write(small, {name: (PLAIN | NOT_PLAIN)[name] for name in ("a.npz", "b.npz", "a.onnx", "torch.pt", "a.txt")})
    with case_of(small.block(models=["models/*"], model_formats=[".ubj"])) as context:
        files, found = sealed(context)
        models = SealedModels({f"models/{Path(each.stored).name}": each for each in files}, (), found.findings)
        told = models.offer_formats(context.workload, ["models/b.npz", "models/torch.pt"])
        assert 'model_formats = [".ubj", ".npz"] in the block' in told
        assert models.offer_formats(context.workload, ["models/torch.pt"]) == ""
        row = served_before(context, (), models, cast("Any", None))["the model as it was"]
        assert (row[0], 'model_formats = [".ubj", ".npz", ".onnx"] in the block' in row[1]) == (False, True)
        first = found.none_sound((), context.workload.model_formats)
    assert first.startswith("no model was judged, 未判定: their formats are not read here")
    line = first.rpartition("model_formats = ")[2].removesuffix(" in the block")
    assert json.loads(line) == [".ubj", ".npz", ".onnx"]


@pytest.mark.short(1)
@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("name", "fields", "line"),
    [
        ("models/gust.json", {"models": ["models/*"]}, 'model_formats = [".json"]'),
        (
            "src/gust.json",
            {"models": ["models/*"]},
            'model_formats = [".json"] and models = ["models/*", "src/gust.json"]',
        ),
        (
            "src/gust.bin",
            {"models": ["models/*"]},
            'model_formats = [".bin"] and models = ["models/*", "src/gust.bin"]',
        ),
        ("src/gust.bin", {"models": ["*/*.bin"]}, 'model_formats = [".bin"]'),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_of_what_the_api_named_that_nobody_judges_the_line_is_told_and_it_holds(
    small: SmallWorkload, name: str, fields: dict[str, Any], line: str, *, whole: bool
) -> None:
    """A recovery said that no model is known, without what mends it, though the API had named a sealed file."""
    (small.root / name).write_bytes(b'{"learner": {}}')
    with case_of(small.block(**fields)) as context:
        context.log.write("model named", str(small.root / name) if whole else Path(name).name, at="/model")
        evidence = [made(collect.fn(context, each)) for each in ("models", "code")]
        made(judge_models.fn(context, evidence))
        files = [file for each in evidence for file in each.files]
        sealed_files = {each.path: each for each in files}
        findings = sealed_findings(context.directory, 1)
        models = with_former(context, [], SealedModels(sealed_files, (), findings))
        assert models.before.names == (name,)
        assert f"{line} in the block" in models.offer_formats(context.workload, [])
        row = served_before(context, (), SealedModels(sealed_files, (), findings), cast("Any", None))
        assert f"{line} in the block" in row["the model as it was"][1]
        trusting = fields | {"model_formats": [Path(name).suffix], "models": [*fields["models"], name]}
        context.workload = small.block(**trusting)
        (again,) = [each for each in judge_again(context, {}, 1, files) if each.stored == sealed_files[name].stored]
        assert again.outcome is Soundness.SOUND
        assert models.offer_formats(context.workload, []) == ""


def test_a_plan_has_the_line_for_the_model_that_was_served_beside_a_sound_one(small: SmallWorkload) -> None:
    """It said to name the one that is wanted, or to name it in the API's start, and the recovery had the right line."""
    write(small, {"a.npz": PLAIN["a.npz"]})
    (small.root / "src/gust.bin").write_bytes(b"weights")
    with case_of(small.block(models=["models/*"], model_formats=[".npz"])) as context:
        context.log.write("model named", "src/gust.bin", at="/model")
        evidence = [made(collect.fn(context, each)) for each in ("models", "code")]
        judge_models.fn(context, evidence)
        files = {each.path: each for item in evidence for each in item.files}
        sealed_now = sealed_findings(context.directory, 1)
        models = SealedModels(files, (files["models/a.npz"],), sealed_now)
        row = served_before(context, (), models, as_it_ran(context))["the model as it was"]
    line = 'model_formats = [".npz", ".bin"] and models = ["models/*", "src/gust.bin"] in the block'
    assert (row[0], line in row[1], "api_environment" in row[1]) == (False, True, False)


def test_what_is_not_judged_is_kept_out_of_latest_whether_or_not_a_pattern_names_it(small: SmallWorkload) -> None:
    """A pattern kept a model out, and without it the same file went in."""
    write(small, {"net.bin": b"weights", "config.json": b"{}", "readme.md": b"text"})
    with case_of(small.block(models=["models/*.joblib"])) as context:
        evidence = made(collect.fn(context, "folders"))
        judge_models.fn(context, (evidence,))
        held = held_back(context.directory, 1, evidence.files, context.workload)
    assert {name: why for name, why in held.items() if name.startswith("models/")} == {
        "models/net.bin": "unknown: of a format that is not read here"
    }
