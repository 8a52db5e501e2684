"""Which incidents a run without an id carries on, by what their last run has left on this host."""

import json
from pathlib import Path

import pytest

from tasks.incident.last_word import is_finished
from tasks.incident.layout import ENDED, RECOVERED

CANCELLED = "cancelled: its record is on this host only"
API = [{"pid": 41, "start": 7}]


@pytest.mark.parametrize(
    ("word", "ended", "recovered", "finished"),
    [
        ("VERIFIED", (2, "Verified"), [], True),
        ("PARTIAL", (2, "Partial"), [], True),
        ("UNVERIFIED", (2, "Unverified"), [], False),
        ("VERIFIED", (2, "Unverified"), [], False),
        ("VERIFIED", (2, CANCELLED), [], False),
        ("PARTIAL", (2, CANCELLED), [], False),
        ("VERIFIED", (1, "Verified"), [], False),  # the end of an earlier run: the last was killed after its closing
        ("PARTIAL", (1, "Partial"), API, True),
        ("VERIFIED", (2, "Unverified"), API, True),  # in a later emergency the API is to be contained too
        ("THAWED", (2, CANCELLED), [], True),
    ],
)
def test_a_record_that_may_not_be_in_the_store_is_unfinished_work(
    tmp_path: Path, word: str, ended: tuple[int, str], recovered: list[dict[str, int]], *, finished: bool
) -> None:
    for number, verdict in ((1, "NOTCONTAINED"), (2, word)):
        (tmp_path / f"record/{number:03d}").mkdir(parents=True)
        (tmp_path / f"record/{number:03d}/closing.json").write_text(json.dumps({"verdict": verdict}))
    (tmp_path / ENDED).write_text(json.dumps(dict(zip(("record", "end"), ended, strict=True))))
    (tmp_path / RECOVERED).write_text(json.dumps(recovered))
    assert is_finished(tmp_path) is finished


@pytest.mark.parametrize("ended", ["", "[", "{}", '{"record": 1}', '{"record": 1, "end": "Unverified"}'])
def test_without_a_word_of_its_end_it_is_unfinished(tmp_path: Path, ended: str) -> None:
    """A run was killed between its closing and its end: its record stayed on the host, and nobody went on."""
    assert not is_finished(tmp_path)
    (tmp_path / "record/001").mkdir(parents=True)
    (tmp_path / "record/001/closing.json").write_text('{"verdict": "VERIFIED"}')
    if ended:
        (tmp_path / ENDED).write_text(ended)
    assert not is_finished(tmp_path)
