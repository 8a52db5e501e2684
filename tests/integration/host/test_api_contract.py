"""What the contract of a workload's block makes of an API's answers and of its model files, on a real HTTP server."""

import json
import os
import pickle
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from blocks.workload import Workload
from tasks.custody.containment.identity import Identity
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.models.contract import ServedBefore
from tasks.custody.models.inspection import OTHER_FORMAT, ModelFinding, Soundness
from tasks.custody.store.manifest import digest_bytes
from tasks.recovery.api_client import Api, NotRecovered
from tasks.recovery.health import wait_healthy
from tasks.recovery.models_folder import HostFolder
from tasks.recovery.prediction import Prediction, predict, try_prediction
from tasks.recovery.process_api import ProcessApi
from tasks.recovery.recover import Revival, _Restart
from tasks.recovery.served_model import SealedModels, Served, prove_served
from tasks.runtime.context import RunContext
from tests.support.answering_api import api_that
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload

KEY: Final = "k3y/of+the=API"
NAMES: Final = ("models/model_new.joblib", "models/model_old.joblib", "models/churn/model.pkl")


def health(api: Api, seconds: float = 0.3) -> tuple[str, str]:
    return wait_healthy(api, lambda: True, lambda: True, seconds, Path("log"))


@dataclass
class Sealed:
    """Models on a disk, as they were sealed."""

    context: RunContext
    folder: HostFolder
    models: SealedModels

    def write(self, name: str, content: object) -> None:
        """Write one that is not sealed."""
        (self.folder.workload / name).write_bytes(pickle.dumps(content))

    def starting(self, *words: str, **block: Any) -> list[str]:
        """What an API may start with whose start has these words."""
        self.context.workload = self.context.workload.model_copy(update=block)
        there = self.folder.list_names(self.models.files)
        folder = replace(self.folder, words=words)
        return self.models.starting(self.context.workload, self.context.state, folder, there)

    def prove(self, api: Api, *names: str, opened: Collection[str] = (), changed: Collection[str] = ()) -> Served:
        """Prove what this API serves, which may have started with these, and was seen to open those."""
        self.context.workload = cast("Workload", api.block)
        since = iter([set(opened)])
        seen = partial(next, since, set())
        return prove_served(self.context, api, self.folder, self.models, names or NAMES, seen, changed)

    def choose(self, path: str, **about: Any) -> None:
        """Have this one chosen."""
        self.models = replace(self.models, chosen=path, **about)


@pytest.fixture
def sealed(small: SmallWorkload) -> Iterator[Sealed]:
    with sealed_in(small) as made:
        yield made


@contextmanager
def sealed_in(small: SmallWorkload) -> Iterator[Sealed]:
    (small.root / "models/model_builtin.joblib").unlink()
    (small.root / "models/churn").mkdir()
    block = small.block(models=["models/model_*.joblib", "models/churn"])
    with case_of(block) as context:
        made = Sealed(
            context, HostFolder(small.root, small.root / "models", tuple(block.models)), SealedModels({}, (), ())
        )
        files = {}
        for number, name in enumerate(NAMES):
            made.write(name, name)
            data = (small.root / name).read_bytes()
            files[name] = StoredFile(name, name, len(data), digest_bytes(data), mtime_ns=9 - number)
        found = tuple(ModelFinding(name, file.sha256, Soundness.SOUND) for name, file in files.items())
        before = ServedBefore(NAMES, frozenset(file.sha256 for file in files.values()), "open in its process")
        made.models = SealedModels(files, tuple(files.values()), found, before=before)
        yield made


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"model": "model_old.joblib"}, "/model"),
        ({"model": "models/model_old.joblib"}, "/model"),
        ({"data": {"model": {"file": "./models/model_old.joblib"}}}, "/data/model/file"),
        ({"models": [{"path": "model_old.joblib"}]}, "/models/0/path"),
    ],
)
def test_an_api_names_its_model_by_path_or_base_name_wherever_that_is(sealed: Sealed, answer: Any, said: str) -> None:
    answers = {"/ping": (200, json.dumps(answer).encode())}
    with api_that(answers, health_path="/ping", model_at=said, reload_path="") as api:
        made = sealed.prove(api)
    assert made == Served(NAMES[1], sealed.models.files[NAMES[1]].sha256)


UNSEEN: Final = "which model it serves: it names none, and was not seen to open one"


def test_an_api_that_names_none_is_proven_by_what_it_was_seen_to_open(sealed: Sealed) -> None:
    with api_that({}, model_at="", reload_path="") as api:
        for names in (NAMES[2:], NAMES):
            made = sealed.prove(api, *names, opened=NAMES[2:])
            assert made == Served(NAMES[2], sealed.models.files[NAMES[2]].sha256)
            assert sealed.prove(api, *names) == Served(" or ".join(names), "", (UNSEEN,))
        assert sealed.prove(api, NAMES[0], opened=NAMES[1:]) == Served(NAMES[0], "", (UNSEEN,))
        assert sealed.prove(api, opened=NAMES[:2]) == Served(" or ".join(sorted(NAMES[:2])), "")


def test_one_that_names_none_and_ignores_its_reload_is_not_proven_by_what_it_opened_before(sealed: Sealed) -> None:
    sealed.choose(NAMES[1])
    with api_that({"/reload": (200, b"{}")}, model_at="") as api:
        assert sealed.prove(api, opened=NAMES) == Served(NAMES[1], "", (UNSEEN,))


@pytest.mark.parametrize("outcome", [Soundness.TORN, Soundness.UNKNOWN, None])
def test_one_that_may_serve_a_model_that_is_not_sound_is_not_proven(sealed: Sealed, outcome: Soundness | None) -> None:
    (_, *others) = sealed.models.findings
    found = [replace(sealed.models.findings[0], outcome=outcome)] if outcome else []
    sealed.models = replace(sealed.models, findings=(*found, *others), sound=sealed.models.sound[1:])
    with api_that({}, model_at="", reload_path="") as api:
        made = sealed.prove(api)
        assert sealed.prove(api, NAMES[2], opened=NAMES[2:]).unproven == ()
        assert "not sound" in sealed.prove(api, opened=NAMES[:1]).unproven[0]
    assert made.sha256 == ""
    assert "which model it serves: it may be one that is not sound, models/model_new.joblib" in made.unproven[0]


@pytest.mark.parametrize(
    ("name", "why", "counts"),
    [
        ("MLmodel", "", False),
        ("MLmodel", OTHER_FORMAT, False),
        ("conda.yaml", f"{OTHER_FORMAT}; as a pickle: no", False),
        ("MLmodel", "reading it took more than 3 s", True),
        ("model.onnx", OTHER_FORMAT, True),
        ("other.pkl", "", True),
    ],
)
def test_text_beside_a_model_leaves_nothing_open(sealed: Sealed, name: str, why: str, *, counts: bool) -> None:
    path = f"models/churn/{name}"
    found = [ModelFinding(path, "0" * 64, Soundness.UNKNOWN, why)] if why else []
    files = {**sealed.models.files, path: StoredFile(path, path, 1, "0" * 64)}
    sealed.models = replace(sealed.models, files=files, findings=(*sealed.models.findings, *found))
    with api_that({}, model_at="", reload_path="") as api:
        assert bool(sealed.prove(api, NAMES[2], path, opened=(NAMES[2], path)).unproven) == counts


def test_a_file_counts_as_it_was_sealed_last_and_once(sealed: Sealed) -> None:
    new, old, _ = sealed.models.sound
    replaced = replace(new, sha256="0" * 64)
    files = {**sealed.models.files, NAMES[0]: replaced}
    sealed.models = replace(sealed.models, files=files, sound=(new, old, old))
    assert sealed.models.find_expected(sealed.context.workload, NAMES) == [old]
    with api_that({}, model_at="", reload_path="") as api:
        assert sealed.prove(api, *NAMES[:2], opened=NAMES[:2]).unproven
        assert sealed.prove(api, NAMES[1], opened=NAMES[:2]) == Served(NAMES[1], old.sha256)


def test_a_name_is_compared_as_it_was_said_however_it_is_shown(sealed: Sealed) -> None:
    name = f"models/model_{'x' * 230}.joblib"
    sealed.write(name, name)
    data = (sealed.folder.workload / name).read_bytes()
    file = StoredFile(name, name, len(data), digest_bytes(data))
    sealed.models = replace(sealed.models, files={name: file}, sound=(file,), before=ServedBefore())
    for said in (name, name.partition("/")[2]):
        answers = {"/health": (200, json.dumps({"model": said}).encode())}
        with api_that(answers, reload_path="") as api:
            assert sealed.prove(api, name) == Served(name, file.sha256)


def test_only_models_that_appear_are_told(sealed: Sealed) -> None:
    before = sealed.folder.list_names(())
    for name, content in (("last_used.json", b"{}"), ("lock", b""), ("python_model.pkl", b""), ("bare", b"\x80\x04")):
        (sealed.folder.workload / "models/churn" / name).write_bytes(content)
    assert len(sealed.folder.list_names(())) == len(before) + 4
    assert sorted(sealed.folder.find_new(before)) == ["models/churn/bare", "models/churn/python_model.pkl"]


@pytest.mark.parametrize("reload", ["", "/reload"])
@pytest.mark.parametrize(
    ("command", "environment", "other"),
    [
        (["serve"], {"MODEL_PATH": "releases/7/model_new.joblib"}, "releases/7/model_new.joblib"),
        (["serve", "--model=/mnt/x/model_new.joblib"], {}, "/mnt/x/model_new.joblib"),
        (["serve", "--old", "/mnt/x/model_old.joblib"], {"MODEL_PATH": NAMES[0]}, ""),
    ],
)
def test_a_base_name_proves_nothing_if_the_start_names_another_file_of_it(
    sealed: Sealed, command: list[str], environment: dict[str, str], other: str, reload: str
) -> None:
    block = {"api_command": command, "api_environment": environment}
    sealed.context.workload = sealed.context.workload.model_copy(update=block)
    sealed.folder = ProcessApi(sealed.context).folder
    for said in ("model_new.joblib", NAMES[0]):
        answers = {"/health": (200, json.dumps({"model": said}).encode()), "/reload": (200, b"{}")}
        told = f"which model it serves: {said!r} is {NAMES[0]}, or {other}, which its start names"
        unproven = (told,) if other and said != NAMES[0] else ()
        with api_that(answers, reload_path=reload) as api:
            assert sealed.prove(api).unproven == unproven


PREFORKED: Final = """
import http.server, os, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"model": "models/model_new.joblib"}')
    do_POST = do_GET
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        server.serve_forever()
print(server.server_port, flush=True)
server.serve_forever() if sys.argv[1] == "0" else signal.pause()
"""


@contextmanager
def preforked(workers: int) -> Iterator[str]:
    """An API of so many workers that share its socket, as gunicorn's do; without any, the process itself serves."""
    command = [sys.executable, "-c", PREFORKED, str(workers)]
    out, err = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdout=out, stderr=err, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("workers", "started", "proven"),
    [(3, "", False), (3, NAMES[1], False), (3, NAMES[0], True), (1, "", True), (0, "", True)],
)
def test_of_several_workers_one_reloads_and_the_others_are_proven_only_if_they_started_with_the_same(
    sealed: Sealed, workers: int, started: str, *, proven: bool
) -> None:
    sealed.folder = replace(sealed.folder, words=(f"MODEL_PATH={started}",))
    sealed.choose(NAMES[0])
    with preforked(workers) as url, Api(Workload(root="/srv/a", api_url=url)) as api:
        made = sealed.prove(api)
    told = 'that every worker reloaded it: one of 3 was asked (end it, and recover with reload_path = "" and a start'
    assert made.unproven == () if proven else made.unproven[0].startswith(told)
    assert bool(made.sha256) is proven


@pytest.mark.parametrize("answer", [b"{}", b'{"model": null}', b'{"model": 7}', b"[]", b"ok", b'{"model": ["a"]}'])
def test_one_that_should_name_its_model_and_does_not_is_not_proven(sealed: Sealed, answer: bytes) -> None:
    with api_that({"/health": (200, answer)}, reload_path="") as api:
        made = sealed.prove(api, NAMES[2])
    assert (made.model, made.sha256) == (NAMES[2], "")
    assert f"nothing at /model (model_at) in {api.url}/health answers HTTP 200" in made.unproven[0]


@pytest.mark.parametrize("said", ["model_else.joblib", "/etc/passwd", "models/model_forged.joblib", "\0", ""])
def test_one_that_serves_another_model_is_no_recovery(sealed: Sealed, said: str) -> None:
    sealed.write("models/model_forged.joblib", "forged")
    answers = {"/health": (200, json.dumps({"model": said}).encode()), "/reload": (200, b"{}")}
    for reload in ("", "/reload"):
        sealed.choose(NAMES[0] if reload else "")
        with api_that(answers, reload_path=reload) as api, pytest.raises(NotRecovered):
            sealed.prove(api)


def test_one_that_must_reload_serves_the_chosen_one_and_no_other(sealed: Sealed) -> None:
    sealed.choose(NAMES[0])
    for number, name in enumerate(NAMES[:2]):
        answers = {"/health": (200, json.dumps({"model": name}).encode()), "/reload": (500, b"no such file")}
        with api_that(answers) as api:
            if number:
                with pytest.raises(NotRecovered, match=rf"{api.url} to serve sha256"):
                    sealed.prove(api)
            else:
                assert sealed.prove(api).unproven == (
                    f"that it reloads {name}: {api.url}/reload answers HTTP 500: 'no such file'",
                )


@pytest.mark.parametrize(
    ("words", "reload", "names"),
    [
        (["MODEL_PATH=models/model_old.joblib"], "/reload", [NAMES[1]]),
        (["--model-uri", "models/churn"], "", [NAMES[2]]),
        (["uvicorn", "api.app:app"], "/reload", sorted(NAMES)),
        (["uvicorn", "api.app:app"], "", sorted(NAMES)),
        (["-m", "models/gone.joblib"], "", sorted(NAMES)),
    ],
)
def test_what_it_may_start_with_is_what_its_start_names_else_everything_whatever_it_reloads_later(
    sealed: Sealed, words: list[str], reload: str, names: list[str]
) -> None:
    assert sorted(sealed.starting(*words, reload_path=reload)) == names


def test_one_that_lives_and_reloads_is_asked_for_what_it_reloads_alone(sealed: Sealed) -> None:
    sealed.choose(NAMES[1])
    folder, context = replace(sealed.folder, words=("api",)), sealed.context
    assert sealed.models.starting(context.workload, context.state, folder, NAMES, lives=True) == [NAMES[1]]


def test_an_api_that_was_asked_for_none_keeps_what_it_starts_with_whatever_is_newest(sealed: Sealed) -> None:
    with api_that({"/health": (200, json.dumps({"model": NAMES[1]}).encode()), "/reload": (500, b"asked")}) as api:
        assert sealed.prove(api) == Served(NAMES[1], sealed.models.files[NAMES[1]].sha256)


@pytest.mark.parametrize(("served", "proven"), [(NAMES[0], True), (NAMES[1], False), ("models/lost.joblib", False)])
def test_another_model_than_at_the_freeze_is_told_unless_a_person_has_named_it(
    sealed: Sealed, served: str, *, proven: bool
) -> None:
    file = sealed.models.files.get(served)
    before = ServedBefore((served,), frozenset({file.sha256} if file else ()), "open in its process")
    answers = {"/health": (200, json.dumps({"model": NAMES[0]}).encode()), "/reload": (200, b"{}")}
    for named in (False, True):
        sealed.choose(NAMES[0], before=before, named=named)
        with api_that(answers) as api:
            told = sealed.prove(api).unproven
        assert (told == ()) == (proven or named)
        assert all(f"at the freeze, {served} (open in its process)" in each for each in told)


def test_one_that_nobody_knows_to_be_what_was_served_is_told_where_another_could_have_been(sealed: Sealed) -> None:
    answers = {"/health": (200, json.dumps({"model": NAMES[0]}).encode())}
    with api_that(answers, reload_path="") as api:
        assert sealed.prove(api).unproven == ()
        sealed.models = replace(sealed.models, before=ServedBefore())
        (told,) = sealed.prove(api).unproven
        assert "at the freeze, which is not known" in told
        sealed.models = replace(sealed.models, sound=sealed.models.sound[:1])
        assert sealed.prove(api).unproven == ()


def test_a_model_that_a_person_names_is_refused_where_the_api_can_neither_reload_nor_start_with_it(
    sealed: Sealed,
) -> None:
    sealed.choose(NAMES[1], named=True)
    block = sealed.context.workload
    sealed.models.require_chosen(block, NAMES[:1])
    sealed.models.require_chosen(block.model_copy(update={"reload_path": ""}), NAMES[:2])
    with pytest.raises(NotRecovered, match=r"to name models/model_old.joblib; got models/model_new.joblib: name it in"):
        sealed.models.require_chosen(block.model_copy(update={"reload_path": ""}), NAMES[:1])


@pytest.mark.parametrize("reload", ["", "/reload"])
def test_a_live_api_stays_if_it_cannot_have_the_model_that_a_person_names(sealed: Sealed, reload: str) -> None:
    """An API that an earlier recovery had brought back was ended for a name that no start of it could have."""
    if reload:
        (sealed.folder.workload / NAMES[1]).unlink()
    sealed.choose(NAMES[1], named=True)
    sealed.context.workload = sealed.context.workload.model_copy(update={"reload_path": reload})
    folder = replace(sealed.folder, words=(f"MODEL_PATH={NAMES[0]}",))
    ended: list[bool] = []
    way = cast("Revival", SimpleNamespace(folder=folder, end=lambda: ended.append(True)))
    with pytest.raises(NotRecovered, match="no such file there" if reload else f"to name {NAMES[1]}; got {NAMES[0]}"):
        _Restart(sealed.context, way, sealed.models, {}).prove_again()
    assert ended == []
    sealed.choose("", named=False)
    (sealed.folder.workload / NAMES[0]).write_bytes(b"another")
    with pytest.raises(NotRecovered, match="as in the manifest"):
        _Restart(sealed.context, way, sealed.models, {}).prove_again()
    assert ended == [True], "one that may serve what nobody sealed is ended whatever anybody names"


def test_that_none_is_known_is_told_apart_from_that_none_is_sound(sealed: Sealed) -> None:
    with api_that({}, model_at="", reload_path="") as api:
        made = sealed.prove(api, "models/of_nobody.joblib")
        assert (made.sha256, made.unproven) == ("", ("which model it serves",))
        assert "its start names none of the sound ones of the manifest" in made.model
        assert all(name in made.model for name in NAMES)
        sealed.models = replace(sealed.models, sound=())
        assert sealed.prove(api).model == "no known model: the manifest names none that is sound"


def test_an_api_whose_model_is_not_known_is_asked_by_the_block_s_request_and_its_failure_is_named() -> None:
    request = dict[str, Any](canary_request={"a": 1})
    for answer, block, told in (
        ((200, b'{"pred": 7}'), request, Prediction("7")),
        ((503, b"none"), request, Prediction(unproven="that it predicts: URL/predict answers HTTP 503: 'none'")),
        ((404, b"none"), request, Prediction(unproven="that it predicts: URL/predict answers HTTP 404: 'none'")),
    ):
        with api_that({"/predict": answer}, **block) as api:
            made = try_prediction(api, is_known=False)
            assert replace(made, unproven=made.unproven.replace(api.url, "URL")) == told
    with api_that({}) as api:
        assert "not asked" in try_prediction(api, is_known=False).unproven
    with api_that({"/predict": (503, b"none")}, **request) as api, pytest.raises(NotRecovered):
        try_prediction(api, is_known=True)


def test_an_api_that_serves_what_was_not_judged_beside_a_sound_one_is_refused_with_the_line(sealed: Sealed) -> None:
    (sealed.folder.workload / "models/a.npz").write_bytes(b"\x00")
    files = {**sealed.models.files, "models/a.npz": StoredFile("models/a.npz", "models/a.npz", 1, "0" * 64)}
    found = ModelFinding("models/a.npz", "0" * 64, Soundness.UNKNOWN, OTHER_FORMAT)
    sealed.models = replace(sealed.models, files=files, findings=(*sealed.models.findings, found))
    for name, offered in (("models/a.npz", True), ("models/other.npz", False)):
        (sealed.folder.workload / name).write_bytes(b"\x00")
        answer = {"/health": (200, json.dumps({"model": name}).encode())}
        with api_that(answer, reload_path="") as api, pytest.raises(NotRecovered, match=f"got {name}") as refused:
            sealed.prove(api)
        assert ('model_formats = [".npz"] in the block' in str(refused.value)) is offered


def test_a_suspect_beside_others_is_refused_with_the_ways_to_go_on(sealed: Sealed) -> None:
    (first, *others) = sealed.models.findings
    bad = replace(first, outcome=Soundness.SUSPECT, reason="would import os.system")
    sealed.models = replace(sealed.models, findings=(bad, *others), sound=sealed.models.sound[1:])
    names = sealed.starting("api", reload_path="/reload")
    with pytest.raises(
        NotRecovered,
        match=r"model_new.joblib: would import os.system \(name the model in the API's own.*take the file away",
    ):
        sealed.models.require_unchanged(sealed.context.workload, sealed.folder, names)
    sealed.models.require_unchanged(sealed.context.workload, sealed.folder, sealed.starting(f"MODEL_PATH={NAMES[1]}"))


@pytest.mark.parametrize(
    ("outcome", "reason", "starts"),
    [
        (Soundness.UNKNOWN, "an array of the unknown dtype 'x'", False),
        (Soundness.UNKNOWN, "reading it took more than 3 s", False),
        (Soundness.UNKNOWN, "", False),
        (Soundness.UNKNOWN, OTHER_FORMAT, True),
        (Soundness.UNKNOWN, f"{OTHER_FORMAT}; as a pickle: no", True),
        (Soundness.TORN, "it ends 3 bytes too early", True),
    ],
)
def test_a_pickle_of_which_a_part_was_not_seen_is_started_as_little_as_a_suspect_one(
    sealed: Sealed, outcome: Soundness, reason: str, *, starts: bool
) -> None:
    first, *others = sealed.models.findings
    found = (replace(first, outcome=outcome, reason=reason), *others)
    sealed.models = replace(sealed.models, findings=found, sound=sealed.models.sound[1:])
    require = partial(sealed.models.require_unchanged, sealed.context.workload, sealed.folder)
    require(sealed.starting(f"MODEL_PATH={NAMES[1]}"))
    if starts:
        require(sealed.starting("api"))
        return
    told = rf"model_new.joblib: unknown, so it may call what was not seen: {reason} \("
    with pytest.raises(NotRecovered, match=rf"{told}.*take the file away; このファイル"):
        require(sealed.starting("api"))
    with pytest.raises(NotRecovered, match=rf"{told}no rule of the block can allow it"):
        require(NAMES[:1])


def test_no_start_on_a_model_that_is_new_changed_gone_or_suspect(sealed: Sealed) -> None:
    def check(*words: str) -> None:
        sealed.models.require_unchanged(sealed.context.workload, sealed.folder, sealed.starting(*words, reload_path=""))

    check()
    sealed.write("models/churn/python_model.pkl", "new")
    for words in ((), ("-m", "models/churn")):
        with pytest.raises(NotRecovered, match=r"http://127.0.0.1:\d+ .*python_model.pkl, which is not in it"):
            check(*words)
    check(NAMES[1])
    sealed.write(NAMES[1], "changed")
    with pytest.raises(NotRecovered, match=r"as in the manifest; got models/model_old.joblib: sha256 "):
        check(NAMES[1])
    (sealed.folder.workload / NAMES[1]).unlink()
    with pytest.raises(NotRecovered, match="no such file"):
        check(NAMES[1])
    (first, *others) = sealed.models.findings
    bad = replace(first, outcome=Soundness.SUSPECT, reason="would import os.system")
    sealed.models = replace(sealed.models, findings=(bad, *others))
    with pytest.raises(NotRecovered, match="no rule of the block can allow it: only another model"):
        check(NAMES[0])
    told = r"no suspect model; got models/model_new.joblib: would import os.system"
    with pytest.raises(NotRecovered, match=told):
        check(NAMES[0])
    sealed.models = replace(sealed.models, sound=())
    (sealed.folder.workload / "models/churn/python_model.pkl").unlink()
    with pytest.raises(NotRecovered, match=told):
        sealed.models.require_unchanged(
            sealed.context.workload, sealed.folder, sealed.starting("api", reload_path="/reload")
        )


def change_others(sealed: Sealed, **chosen: Any) -> set[str]:
    """Have one chosen; then a training makes a new one and changes another. Return those that are not as sealed."""
    sealed.choose(NAMES[0], **chosen)
    sealed.write("models/churn/step 3.pkl", "new")
    sealed.write(NAMES[1], "changed")
    return {"models/churn/step 3.pkl", NAMES[1]}


@pytest.mark.parametrize("chosen", [{"named": True}, {}], ids=["named", "as at the freeze"])
def test_another_model_that_is_not_as_sealed_does_not_hold_up_a_recovery_whose_model_is_known(
    sealed: Sealed, chosen: dict[str, Any]
) -> None:
    """A training ran on after an uncordon, and the model that a person had named could not be brought back."""
    others = change_others(sealed, **chosen)
    names = sealed.starting("api", reload_path="")
    assert set(sealed.models.find_changed(sealed.folder, names)) == others
    (sealed.folder.workload / NAMES[1]).unlink()
    assert sealed.models.find_changed(sealed.folder, NAMES) == {NAMES[1]: ""}
    sealed.write(NAMES[0], "changed")
    assert NAMES[0] not in sealed.models.find_changed(sealed.folder, NAMES), "the chosen one is never let off"


def test_a_model_that_may_be_served_unseen_is_never_let_off(sealed: Sealed) -> None:
    change_others(sealed, named=True)
    assert not sealed.models.find_changed(replace(sealed.folder, words=(f"MODEL_PATH={NAMES[1]}",)), NAMES)
    sealed.choose(NAMES[0], named=False, before=ServedBefore())
    assert not sealed.models.find_changed(sealed.folder, NAMES)
    sealed.choose("", named=False)
    assert not sealed.models.find_changed(sealed.folder, NAMES)


@pytest.mark.parametrize(
    ("model_at", "served", "opened", "end"),
    [
        ("/model", NAMES[0], [], ""),
        ("/model", NAMES[1], [], "NotRecovered"),
        ("/model", "models/churn/step 3.pkl", [], "NotRecovered"),
        ("", "", [NAMES[0]], ""),
        ("", "", [NAMES[1]], "NotRecovered"),
        ("", "", [NAMES[2]], "NotRecovered"),
        ("", "", [NAMES[0], NAMES[1]], f"it opened {NAMES[0]} and {NAMES[1]}, not as sealed"),
        ("", "", [NAMES[0], NAMES[2]], f"it opened {NAMES[0]} and {NAMES[2]}"),
        ("", "", [], "was not seen to open one"),
    ],
)
def test_an_api_that_serves_another_than_the_named_one_has_never_recovered(
    sealed: Sealed, model_at: str, served: str, opened: list[str], end: str
) -> None:
    changed = change_others(sealed, named=True)
    answers = {"/health": (200, json.dumps({"model": served}).encode())}
    same = [name for name in NAMES if name not in changed]
    with api_that(answers, reload_path="", model_at=model_at) as api:
        if end == "NotRecovered":
            with pytest.raises(NotRecovered):
                sealed.prove(api, *same, opened=opened, changed=changed)
            return
        (*unproven,) = sealed.prove(api, *same, opened=opened, changed=changed).unproven
    assert bool(unproven) is bool(end)
    assert all(end in each for each in unproven)


@pytest.mark.parametrize("named", [True, False])
def test_a_changed_model_that_was_opened_and_is_put_back_is_not_forgotten(sealed: Sealed, *, named: bool) -> None:
    """A second proof of the same API would have taken what it still has in memory for what was sealed."""
    changed = change_others(sealed, named=named)
    with api_that({"/health": (200, b"{}")}, reload_path="", model_at="") as api:
        assert sealed.prove(api, NAMES[0], opened=[NAMES[0], NAMES[1]], changed=changed).unproven
        sealed.write(NAMES[1], NAMES[1])
        (unproven,) = sealed.prove(api, *NAMES, opened=sealed.context.state.opened.read()).unproven
    assert f"{NAMES[1]}, not as sealed" in unproven


def test_a_base_name_that_a_changed_model_has_too_proves_none(sealed: Sealed) -> None:
    sealed.choose(NAMES[0], named=True)
    changed = {"models/churn/model_new.joblib"}
    answers = {"/health": (200, json.dumps({"model": "model_new.joblib"}).encode())}
    with api_that(answers, reload_path="") as api:
        (unproven,) = sealed.prove(api, changed=changed).unproven
    assert "or models/churn/model_new.joblib" in unproven


def test_after_an_earlier_recovery_a_new_model_is_the_workloads_own_business(sealed: Sealed) -> None:
    sealed.write("models/model_trained.joblib", "trained since")
    assert "models/model_trained.joblib" in sealed.starting(reload_path="")
    sealed.context.state.recovered.write([Identity(1, 1)])
    assert sorted(sealed.starting(reload_path="")) == sorted(NAMES)


@pytest.mark.parametrize(
    ("status", "why"), [(401, "does it want a key"), (403, "does it want a key"), (404, "HTTP 404"), (307, "HTTP 307")]
)
def test_one_that_answers_and_wants_another_path_or_a_key_is_up_and_not_proven_healthy(status: int, why: str) -> None:
    with api_that({"/health": (status, b"no")}) as api:
        told, unhealthy = health(api)
    assert told == f"{api.url}/health answers HTTP {status}: 'no'"
    assert why in unhealthy


def test_one_that_is_broken_is_no_recovery() -> None:
    with (
        api_that({"/health": (500, b"boom")}) as api,
        pytest.raises(NotRecovered, match=rf"{api.url}/health in 0\.3 s"),
    ):
        health(api)


@pytest.mark.parametrize(
    ("contract", "path", "answer", "found"),
    [
        ({"predict_path": "/invocations"}, "/invocations", {"predictions": [0.5]}, "[0.5]"),
        (
            {"predict_path": "/v2/infer", "prediction_at": "/outputs/0/data"},
            "/v2/infer",
            {"outputs": [{"data": [1]}]},
            "[1]",
        ),
        ({"prediction_at": "/0/score"}, "/predict", [{"score": 0.5}], "0.5"),
    ],
)
def test_a_canary_is_asked_and_read_as_the_contract_says(
    contract: dict[str, Any], path: str, answer: object, found: str
) -> None:
    block: dict[str, Any] = {"canary_request": {"inputs": [[1.0]]}, **contract}
    with api_that({path: (200, json.dumps(answer).encode())}, **block) as api:
        assert predict(api).answer == found
    with api_that({path: (200, b'{"detail": "wrong"}')}, **block) as api:
        assert predict(api).unproven.startswith(f"that it predicts: {api.url}{path} answers HTTP 200")
    with api_that({path: (422, b"no")}, **block) as api:
        assert "it refuses canary_request" in predict(api).unproven


ECHOES: Final = {
    "/health": (200, json.dumps({"model": f"Bearer {KEY}"}).encode()),
    "/predict": (200, json.dumps({"pred": f"for {KEY}"}).encode()),
    "/reload": (400, f"Authorization: Bearer {KEY}".encode()),
}


def test_the_key_goes_along_and_without_it_the_api_is_up_and_not_proven() -> None:
    answers = {"/health": (200, b"{}"), "/predict": (200, b'{"pred": 1}'), "/schema": (404, b"")}
    with api_that(answers, {"X-API-Key": KEY}, ("X-API-Key", KEY)) as api:
        assert health(api)[1] == ""
        assert predict(api).answer == "1"
    with api_that(answers, key=("X-API-Key", KEY)) as api:
        assert "401" in health(api)[1]
        assert "api_headers" in predict(api).unproven


@pytest.mark.parametrize("header", [f"Bearer {KEY}", KEY, "Basic " + b64encode(f"somebody:{KEY}".encode()).decode()])
def test_what_an_answer_repeats_of_a_key_is_not_shown(sealed: Sealed, header: str) -> None:
    with api_that(ECHOES, {"Authorization": header}, reload_path="", canary_request={}) as api:
        refused = api.ask("POST", "/reload")
        shown = [predict(api).answer, refused.summary, repr(refused)]
        with pytest.raises(NotRecovered) as caught:
            sealed.prove(api)
    assert "[redacted:" in shown[0]
    assert not [each for each in [*shown, str(caught.value), repr(caught.value)] if KEY in each]


@pytest.mark.parametrize(
    ("patterns", "folder"),
    [
        (["models/model_*.joblib"], "models"),
        (["models/churn", "models/old/*.pkl"], "models"),
        (["mlruns/**/model.pkl"], "mlruns"),
        (["**/model.pkl"], ""),
        (["model.joblib"], ""),
        (["models/*.joblib", "store/*.joblib"], ""),
        ([], "models"),
    ],
)
def test_models_are_believed_below_the_folder_that_all_patterns_share(
    small: SmallWorkload, patterns: list[str], folder: str
) -> None:
    with case_of(small.block(models=patterns)) as context:
        assert ProcessApi(context).folder.models == small.root / folder
