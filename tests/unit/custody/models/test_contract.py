"""Where in an answer a value is, whether it is a prediction, and which models a start names."""

from typing import Any

import pytest

from tasks.custody.models.contract import find_named_elsewhere, find_named_models, prediction_in, value_at

NESTED = {"data": {"model": {"file": "a.joblib", "a/b": 1, "m~n": 2, "": 3}}, "outputs": [{"data": [[0.5]]}, 7]}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", NESTED),
        ("/data/model/file", "a.joblib"),
        ("/data/model/a~1b", 1),
        ("/data/model/m~0n", 2),
        ("/data/model/", 3),
        ("/outputs/0/data", [[0.5]]),
        ("/outputs/1", 7),
        ("/outputs/2", None),
        ("/outputs/-1", None),
        ("/outputs/00", None),
        ("/outputs/²", None),
        (f"/outputs/{'9' * 5000}", None),
        ("/outputs/data", None),
        ("/data/model/file/0", None),
        ("/data/none/file", None),
    ],
)
def test_a_pointer_leads_to_the_value_or_to_nothing(pointer: str, value: Any) -> None:
    assert value_at(NESTED, pointer) == value


@pytest.mark.parametrize("document", [None, 7, "text", [], {}])
def test_in_what_is_no_such_answer_there_is_nothing(document: Any) -> None:
    assert value_at(document, "/model") is None
    assert prediction_in(document, "") is None
    assert prediction_in(document, "/outputs/0") is None


@pytest.mark.parametrize(
    ("document", "pointer", "found"),
    [
        ({"pred_proba": 0.0}, "", 0.0),
        ({"prediction": None, "pred": 0}, "", 0),
        ({"prediction": False}, "", False),
        ({"predictions": [[0.1, None]]}, "", [[0.1, None]]),
        ({"predictions": [], "pred": [1]}, "", [1]),
        ({"median": 252025}, "/median", 252025),
        ({"median": 252025}, "", None),
        ({"pred": 1}, "/median", None),
        (NESTED, "/outputs/0/data", [[0.5]]),
        ([0.25], "/0", 0.25),
        ({"predictions": [[None], {"a": ""}]}, "", None),
        ({"prediction": ""}, "", None),
        ({"detail": "no model"}, "", None),
    ],
)
def test_a_prediction_holds_a_value(document: Any, pointer: str, found: Any) -> None:
    assert prediction_in(document, pointer) == found


A, B, FOLDER = "models/a.joblib", "models/b.joblib", "models/churn/model.pkl"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["models/a.joblib"], [A]),
        (["./models/../models/a.joblib"], [A]),
        (["/srv/p/models/a.joblib"], [A]),
        (["MODEL_PATH=models/b.joblib", "--model=models/a.joblib"], [A, B]),
        (["sh", "-c", "exec serve --model models/b.joblib --port 8000"], [B]),
        (["serve", "-m", "models/churn"], [FOLDER]),
        (["serve", "-m", "models/churn/"], [FOLDER]),
        (["models"], [A, B, FOLDER]),
        (["sh", "-c", "MODEL='models/a.joblib' exec serve \"models/b.joblib\""], [A, B]),
        (["--models=x=models/a.joblib,y=models/b.joblib;"], [A, B]),
        (["MODEL_URI=file:///srv/p/models/a.joblib", "-m", "file://models/b.joblib"], [A, B]),
        (["models/chur", "a.joblib", "/models/a.joblib", "models/c.joblib"], []),
        ([".", "/", "/srv", "/srv/p", "--app-dir=.", ""], []),
        ([], []),
    ],
)
def test_a_start_names_models_by_path_or_by_a_folder_below_the_root(words: list[str], named: list[str]) -> None:
    assert find_named_models(words, "/srv/p", [A, B, FOLDER]) == named


@pytest.mark.parametrize(
    ("words", "elsewhere"),
    [
        (["releases/7/a.joblib"], ["releases/7/a.joblib"]),
        (["MODEL_PATH=/mnt/x/a.joblib"], ["/mnt/x/a.joblib"]),
        (["--model=models/a.joblib,/mnt/x/a.joblib"], ["/mnt/x/a.joblib"]),
        (["sh", "-c", "M='file:///m/a.joblib' serve s3://b/a.joblib"], ["file:///m/a.joblib", "s3://b/a.joblib"]),
        (["a.joblib"], ["a.joblib"]),
        (["models/a.joblib", "--model=./models/a.joblib", "M='/srv/p/models/a.joblib'", "file://models/a.joblib"], []),
        (["MODEL_PATH=models/day=7/a.joblib", "models/b.joblib", "/mnt/x/b.joblib", "/mnt/x", "models"], []),
    ],
)
def test_a_start_may_name_another_file_of_a_models_base_name(words: list[str], elsewhere: list[str]) -> None:
    assert find_named_elsewhere(words, "/srv/p", "a.joblib", [A, B, "models/day=7/a.joblib"]) == elsewhere


@pytest.mark.parametrize("word", ["/srv/a p/models/a.joblib", "MODEL=/srv/a p/models/a.joblib"])
def test_a_blank_in_the_path_of_a_known_file_makes_no_other_file_of_it(word: str) -> None:
    names = ["models/a.joblib"]
    assert find_named_models([word], "/srv/a p", names) == names
    assert find_named_elsewhere([word], "/srv/a p", "a.joblib", names) == []
    other = word.replace("models", "old")
    assert find_named_elsewhere([other], "/srv/a p", "a.joblib", names), "another file is another one"


def test_a_container_names_them_by_its_own_paths() -> None:
    names = ["/app/models/a.joblib", "/app/models/b.joblib"]
    assert find_named_models(["MODEL_PATH=models/a.joblib"], "/app", names) == names[:1]
    assert find_named_models(["/app/models/b.joblib"], "/app", names) == names[1:]
