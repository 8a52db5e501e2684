"""What is told of a model is plain, and what is not its own word decides."""

import pytest

from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.models.inspection import Inspection, ModelFinding, Soundness, plain
from tasks.evidence.left_alone import steady
from tasks.models.inspect import parse_report
from tests.support.workloads import SmallWorkload


@pytest.mark.parametrize("name", ["os", "subprocess", "builtins", "src.os", "a b", "", "src..x"])
def test_what_can_run_programs_cannot_be_allowed(small: SmallWorkload, name: str) -> None:
    with pytest.raises(ValueError, match="a package, module or class of your own"):
        small.block(model_imports=[name])


def test_the_word_of_a_loaded_model_is_shown_and_never_believed() -> None:
    told = {
        "estimator": "x\n\x1b[31m" + "y" * 999,
        "features": "many",
        "feature_names": "abc",
        "classes": list(range(999)),
    }
    made_of = parse_report(told, made_with="1.2", own_interpreter=True, walls=("no network wall",))
    assert "\n" not in made_of["estimator"]
    assert len(made_of["estimator"]) < 300
    assert made_of["features"] is None
    assert made_of["feature_names"] == ()
    assert made_of["classes"][-1] == "and 799 more"
    assert made_of["warnings"] == ("no network wall",)
    old = parse_report({"sklearn": "1.9.1"}, made_with="1.2", own_interpreter=True, walls=())
    assert old["warnings"] == ("made with scikit-learn 1.2, loaded with 1.9.1",)
    assert plain("a\u202eb") == "a?b"


def test_findings_survive_their_own_bytes() -> None:
    made_of = Inspection((ModelFinding("models/m.pkl", "ab", Soundness.TORN, "cut", ("os.system",), warnings=("w",)),))
    assert Inspection.from_bytes(made_of.to_bytes()) == made_of
    assert Inspection.from_bytes(made_of.to_bytes()).to_bytes() == made_of.to_bytes()


def test_a_source_is_steady_by_size_and_time() -> None:
    file = StoredFile("a", "a", 3, "0", 5)
    assert steady(file, 3, 5)
    assert not steady(file, 4, 5)
    assert not steady(file, 3, 6)
