"""Which model an API served when it was frozen, by what it held and what it was started with."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.models.contract import ServedBefore, served_before

ROOT = "/srv/work load"
A, B, SAME = "models/a.joblib", "models/deep/b.joblib", "models/copy of a.joblib"
MODELS = {A: "aa", B: "bb", SAME: "aa"}


def process(**answers: Any) -> dict[str, Any]:
    """A process that says nothing of a model but for these answers."""
    usual = {"maps": [{"path": "/usr/lib/libc.so.6"}], "open_files": [], "command": ["uvicorn"], "environment": {}}
    return {"pid": 7, "start_ticks": 1, **usual, **answers}


def maps(*paths: str, deleted: bool = False) -> list[dict[str, Any]]:
    return [{"path": f"{ROOT}/{path}", "bytes": 1, "mappings": 1, "deleted": deleted} for path in paths]


def opened(*paths: str) -> list[dict[str, Any]]:
    return [{"descriptor": number, "to": f"{ROOT}/{path}"} for number, path in enumerate(paths)]


@pytest.mark.parametrize(
    ("answers", "names", "how"),
    [
        ({"maps": maps(B), "environment": {"MODEL_PATH": A}}, (B,), "mapped by its process"),
        ({"open_files": opened(B), "environment": {"MODEL_PATH": A}}, (B,), "open in its process"),
        ({"open_files": opened(A, B), "environment": {"MODEL_PATH": B}}, (B,), "named by its environment"),
        ({"command": ["serve", "--model", B], "environment": {"M": A}}, (B,), "named by its command"),
        ({"environment": {"MODEL_PATH": f"{ROOT}/{B}"}}, (B,), "named by its environment"),
        ({"environment": {"MODEL_PATH": SAME}}, (SAME,), "named by its environment"),
        ({"environment": {"MODEL_DIR": "models", "MODEL_PATH": B}}, (B,), "named by its environment"),
        ({"environment": {"MODEL_DIR": "models/deep"}}, (B,), "named by its environment"),
        ({"maps": maps(B, deleted=True), "environment": {"M": A}}, (A,), "named by its environment"),
        ({"maps": {"not read": "denied"}, "environment": {"not read": "gone"}}, (), ""),
        ({"environment": {"PWD": ROOT, "OLDPWD": "/srv"}}, (), ""),
        ({"environment": {"PWD": f"{ROOT}/models/deep", "OLDPWD": f"{ROOT}/models/deep"}}, (), ""),
    ],
)
def test_the_strongest_trace_of_one_model_decides(answers: dict[str, Any], names: tuple[str, ...], how: str) -> None:
    found = served_before([process(), process(**answers)], ROOT, MODELS)
    assert (found.names, found.how) == (names, how)
    assert len(found.contents) == len(names)


@pytest.mark.parametrize(
    ("environment", "names", "contents"),
    [
        ({"MODEL_DIR": "models"}, {A, B, SAME}, {"aa", "bb"}),
        ({"ONE": A, "TWO": B}, {A, B}, {"aa", "bb"}),
        ({"MODEL_PATH": "models/gone.joblib"}, {"models/gone.joblib"}, set()),
        ({"MODEL_PATH": "models/gone.joblib", "OTHER": A}, {A}, {"aa"}),
    ],
)
def test_what_is_not_decided_or_not_sealed_is_told_and_names_no_content(
    environment: dict[str, str], names: set[str], contents: set[str]
) -> None:
    found = served_before([process(environment=environment)], ROOT, MODELS)
    assert (set(found.names), set(found.contents)) == (names, contents)
    assert all(name in found.summary for name in names)


@pytest.mark.parametrize(
    ("answers", "unsealed", "names"),
    [
        ({"environment": {"MODEL_FILE": "a.joblib"}}, (), (A,)),
        ({"environment": {"MODEL_FILE": "deep/b.joblib"}}, (), (B,)),
        ({"environment": {"MODEL_FILE": "deep/b.joblib"}}, (f"{ROOT}/deep/b.joblib",), ("deep/b.joblib",)),
        ({"environment": {"MODEL_FILE": "b.joblib"}, "cwd": f"{ROOT}/models/deep"}, (), (B,)),
        ({"environment": {"MODEL_FILE": "../models/deep/b.joblib"}, "cwd": f"{ROOT}/api"}, (), (B,)),
        ({"environment": {"MODEL_FILE": "a.joblib", "OLD": "deep/b.joblib"}}, (), (A, B)),
        ({"environment": ["MODEL_FILE=a.joblib"]}, (), (A,)),
        ({"environment": {"MODEL_FILE": "b.joblib"}}, (), ("b.joblib",)),
        ({"environment": {"EMPTY": ""}}, (f"{ROOT}/models",), ()),
        ({"environment": {"STAGE": "deep", "URL": "s3://models/a.joblib", "EMPTY": ""}}, (), ("s3://models/a.joblib",)),
    ],
)
def test_a_relative_name_is_looked_for_where_the_process_may_mean_it(
    answers: dict[str, Any], unsealed: tuple[str, ...], names: tuple[str, ...]
) -> None:
    found = served_before([process(**answers)], ROOT, MODELS, ["models"], unsealed.__contains__)
    assert (found.names, found.contents) == (names, frozenset(MODELS[name] for name in names if name in MODELS))


def test_a_name_of_two_sealed_files_is_not_guessed() -> None:
    both = {"models/m.joblib": "aa", "release/m.joblib": "bb"}
    found = served_before([process(environment={"M": "m.joblib"})], ROOT, both, ["models", "release"])
    assert (found.names, found.contents) == (("m.joblib",), frozenset())


def test_a_container_is_asked_for_what_it_was_started_with() -> None:
    words = {"command": ["uvicorn"], "environment": ["PATH=/usr/bin", "MODEL_PATH=/app/models/deep/b.joblib"]}
    assert served_before([words], "/app", MODELS) == ServedBefore((B,), frozenset({"bb"}), "named by its environment")


def test_a_secret_beside_a_name_is_not_shown() -> None:
    url = "https://user:hunter2hunter2@host/m.pkl"
    assert "hunter2" not in served_before([process(environment={"MODEL": url})], ROOT, MODELS).summary


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from([A, f"{ROOT}/{B}", "models"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["path", "to", "deleted"]), inner),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(st.sampled_from(["maps", "open_files", "command", "environment"]), JSON), max_size=3))
def test_whatever_a_process_says_only_sealed_contents_are_named(processes: list[dict[str, Any]]) -> None:
    found = served_before(processes, ROOT, MODELS)
    assert found.contents <= {*MODELS.values()}
    assert found.contents == {MODELS[name] for name in found.names if name in MODELS}


@pytest.mark.parametrize("at", [f"{ROOT}/{A}", f"{ROOT}/{B}"])
def test_the_path_that_was_answered_decides_though_what_the_start_names_has_the_same_bytes_now(at: str) -> None:
    """It had loaded another, whose file was then overwritten with the bytes of its start's: Recovered, with those."""
    found = served_before([process(command=["serve", A])], ROOT, {A: "same", B: "same"}, answer=at)
    assert (found.names, found.answered) == ((at.removeprefix(f"{ROOT}/"),), True)
    assert found.how == ("named by its command" if at.endswith(A) else "named in its answer")


@pytest.mark.parametrize(("to", "how"), [(f"{ROOT}/{A}", "open in its process"), (f"{ROOT}/{A} (deleted)", "")])
def test_an_open_file_that_has_no_name_left_is_not_the_one_at_its_path(to: str, how: str) -> None:
    """Another had been renamed over it, and came back as what the process had open: Recovered."""
    assert served_before([process(open_files=[{"descriptor": 3, "to": to}])], ROOT, MODELS).how == how
