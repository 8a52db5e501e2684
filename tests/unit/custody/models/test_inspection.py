"""What is said of models: in words that can be shown, and never better than the worst that was found."""

import lzma
import re

import pytest

from tasks.custody.models.content import looks_like_a_model, looks_like_a_pickle
from tasks.custody.models.inspection import Inspection, ModelFinding, Soundness, is_named_as_model, plain, plain_all
from tasks.custody.models.inspection import why_unsound as why

SOUND = ModelFinding("models/a.pkl", "aa", Soundness.SOUND)
TORN = ModelFinding("models/b.pkl", "bb", Soundness.TORN, "cut")
ODD = ModelFinding("models/c.pkl", "aa", Soundness.UNKNOWN)


@pytest.mark.parametrize(("name", "known"), [("a/m.JOBLIB", True), ("m.pkl", True), ("m.pickle", True), ("pkl", False)])
def test_a_model_is_known_by_its_name(name: str, *, known: bool) -> None:
    assert is_named_as_model(name) is known


def test_what_is_found_is_counted_and_what_is_not_sound_is_noted() -> None:
    assert Inspection().summary == "0 models"
    found = Inspection((SOUND, TORN, ODD, TORN))
    assert found.summary == "4 models: 1 sound, 2 torn, 1 unknown"
    assert not any(each.inspected for each in found.findings)
    note = "; it is kept as evidence and was not promoted"
    assert found.notes == tuple(f"{each}{note}" for each in (TORN.summary, ODD.summary, TORN.summary))
    assert (TORN.summary, ODD.summary) == ("models/b.pkl is torn: cut", "models/c.pkl is unknown")


OURS = ModelFinding("models/d.pkl", "dd", Soundness.SUSPECT, "would import src.a.B", trust=("src.a.B", "src.c.D"))


def test_that_no_model_is_sound_is_told_with_the_line_for_the_block() -> None:
    assert Inspection().none_sound([]) == Inspection((SOUND, OURS)).none_sound([]) == ""
    plain = "no model is sound, 健全なモデルなし: none of 1 can be promoted or brought back (models/b.pkl is torn: cut)"
    assert Inspection((TORN,)).none_sound(["mine"]) == plain
    told = Inspection((OURS, TORN)).none_sound(["mine"])
    assert told.startswith(
        "no model is sound, 健全なモデルなし: none of 2 can be promoted or brought back (models/d.pkl is"
    )
    assert told.endswith('If you trust what it imports: model_imports = ["mine", "src.a.B", "src.c.D"] in the block')


def test_findings_that_were_sealed_before_there_was_a_line_for_the_block_are_read() -> None:
    before = re.sub(rb'\s*"trust": \[\],', b"", now := Inspection((SOUND,)).to_bytes())
    assert len(before) < len(now)
    assert Inspection.from_bytes(before) == Inspection((SOUND,))


def test_a_model_is_held_for_the_worst_that_was_found_of_its_bytes_under_its_name() -> None:
    findings = [SOUND, TORN, ODD]
    assert why("models/a.pkl", "aa", findings) == ""
    assert why("models/b.pkl", "bb", findings) == "torn: cut"
    assert why("models/c.pkl", "aa", findings) == "unknown"
    assert why("models/other.pkl", "aa", findings) == "unknown"
    assert why("models/a.pkl", "ff", findings) == why("models/a.pkl", "aa", []) == "nobody has judged it"


def test_what_wants_more_memory_than_a_look_may_take_counts_as_a_packed_pickle() -> None:
    wide = [{"id": lzma.FILTER_LZMA2, "dict_size": 96 << 20, "mode": lzma.MODE_FAST, "nice_len": 64, "mf": lzma.MF_HC3}]
    assert looks_like_a_model(lzma.compress(b"no pickle", filters=wide))
    assert not looks_like_a_model(lzma.compress(b"no pickle"))


def test_words_of_a_hostile_file_are_shown_on_one_line_and_cut() -> None:
    assert plain("a\n\x1b[2Jb") == "a??[2Jb"
    assert plain("x" * 200) == "x" * 200
    assert plain("x" * 201) == f"{'x' * 200}…"


def test_a_long_list_is_counted_and_what_is_no_list_is_none() -> None:
    assert plain_all(range(200)) == tuple(map(str, range(200)))
    assert plain_all(range(202)) == (*map(str, range(200)), "and 2 more")
    assert plain_all(["a\n"]) == ("a?",)
    assert plain_all("abc") == plain_all(b"abc") == plain_all(7) == ()


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b"\x80\x02", True),
        (b"\x80\x05.", True),
        (b"\x80\x02\x00\x00", False),
        (b"\x80\x01", False),
        (b"\x80\x06", False),
        (b"\x80", False),
        (b"\x81\x02", False),
        (b"", False),
    ],
)
def test_a_pickle_is_known_by_its_first_two_bytes(head: bytes, *, known: bool) -> None:
    assert looks_like_a_pickle(head) is known
    assert looks_like_a_model(head) is known
