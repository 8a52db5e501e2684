"""Tracebacks and scores: what is picked out of logs and tables that anybody may have written."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.acquisition.collector import NothingThere, Target
from tasks.collectors import scores, tracebacks

PLAIN = """INFO step 1
Traceback (most recent call last):
  File "a.py", line 1, in f
    boom()

  File "b.py", line 2, in boom
    raise ValueError("x")
ValueError: x
INFO step 2
"""
CHAINED = '''joblib.externals.loky.process_executor._RemoteTraceback:
"""
Traceback (most recent call last):
  File "worker.py", line 1, in call
MemoryError
"""

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "train.py", line 9, in <module>
MemoryError: worker
done
'''


def target(root: Path) -> Target:
    globs = {"logs": ["logs/*.log"], "artifacts": ["artifacts/*"], "models": []}
    return Target("IR-20260102T030405Z", str(root), "python", os.geteuid(), globs, [])


def test_a_traceback_ends_with_the_line_that_names_the_exception() -> None:
    (block,) = tracebacks.tracebacks(PLAIN.split("\n"))
    assert block[0].startswith("Traceback")
    assert block[-1] == "ValueError: x"
    assert len(block) == 7


def test_a_chain_is_one_traceback_and_two_errors_are_two() -> None:
    (block,) = tracebacks.tracebacks(CHAINED.split("\n"))
    assert [line for line in block if "MemoryError" in line] == ["MemoryError", "MemoryError: worker"]
    assert block[-1] == "MemoryError: worker"
    assert len(tracebacks.tracebacks((PLAIN + PLAIN).split("\n"))) == 2


@pytest.mark.slow
def test_a_traceback_before_many_empty_lines_costs_linear_time() -> None:
    began = time.process_time()
    tracebacks.tracebacks((PLAIN.replace("INFO step 2", "") + "\n" * 300_000).split("\n"))
    assert time.process_time() - began < 5


def test_a_secret_stays_hidden_however_a_log_spells_it(tmp_path: Path) -> None:
    name, value = "pass" + "word", "Tr0ub4dor9"
    error = f"Traceback (most recent call last):\n  File x\nValueError: {name}={value}"
    escaped = json.dumps({"exception": error}).replace("pass", "p\\u0061ss")
    (tmp_path / "logs").mkdir()
    for written in (escaped.encode(), error.encode().replace(b"Tr0", b"\0Tr0"), error.encode("utf-16")):
        (tmp_path / "logs/train.log").write_bytes(written)
        told = tracebacks.make(target(tmp_path)).decode()
        shown = told.partition("-- the last")[0] if written.startswith(b"{") else told
        assert "ValueError" in shown
        assert value not in shown


def test_one_that_was_cut_off_by_the_stop_is_kept_as_far_as_it_goes() -> None:
    assert tracebacks.tracebacks(PLAIN.split("\n")[:4]) == [PLAIN.split("\n")[1:4]]


def test_a_traceback_in_a_line_of_json_is_told_in_lines() -> None:
    line = json.dumps({"level": "error", "exc_info": PLAIN})
    assert "\n        boom()\n" in tracebacks.excerpt("logs/api.log", line)


def test_the_log_is_told_by_name_with_its_last_lines_and_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/train.log").write_text(PLAIN.replace("x", "password=canary") + "no end" * 1000)
    (tmp_path / "logs/pipe.log").symlink_to("/etc/hostname")
    text = tracebacks.make(target(tmp_path)).decode()
    assert "== logs/train.log\n-- 1 tracebacks, the last 1:\n    Traceback" in text
    assert "== logs/pipe.log\n-- not read: " in text
    assert "canary" not in text
    assert max(map(len, text.split("\n"))) < 2100


def test_where_there_is_no_log_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(NothingThere):
        tracebacks.make(target(tmp_path))


@given(st.text())
def test_no_log_forges_a_heading(text: str) -> None:
    told = tracebacks.excerpt("NAME", text + "\n== logs/other.log\n-- 3 tracebacks, the last 3:\n" + text)
    headings = [line for line in told.split("\n") if line and not line.startswith("    ")]
    assert len(headings) == 3
    assert headings[0] == "== NAME"


def test_hundreds_of_frames_are_shown_from_both_ends() -> None:
    deep = "Traceback (most recent call last):\n" + "  File x\n" * 5000 + "RecursionError: deep\n"
    told = tracebacks.excerpt("x", deep)
    assert "lines left out]" in told
    assert "    RecursionError: deep" in told
    assert told.count("\n") < 600


HALVING = """iter,n_resources,mean_fit_time,params,param_C,param_token,mean_test_score,std_test_score,rank_test_score
0,100,0.5,"{'C': 1}",1,canary,0.95,0.01,1
0,100,0.5,"{'C': 10}",10,canary,,,9
1,300,1.5,"{'C': 1}",1,canary,0.90,0.02,3
1,300,1.5,"{'C': 5}",5,canary,0.91,0.02,2
"""


def test_the_best_rows_are_of_the_last_step() -> None:
    told = scores.summary(HALVING.encode(), whole=True)
    assert told["last_step"] == {"iter": 1, "n_resources": 300, "candidates": 2}
    assert [row["mean_test_score"] for row in told["best"]] == [0.91, 0.90]
    params = told["best"][0]["params"]
    assert (params["param_C"], params["param_token"][:10]) == ("5", "[redacted:")
    assert (told["rows"], told["failed_fits"], told["read"]) == (4, 1, "whole")


def test_a_search_without_steps_is_ranked_as_a_whole_and_one_without_ranks_by_score() -> None:
    told = scores.summary(b"mean_test_score,rank_test_score\n0.1,3\n0.3,1\n0.2,2\n", whole=True)
    assert [row["rank_test_score"] for row in told["best"]] == [1, 2, 3]
    assert told["last_step"] is None
    told = scores.summary(b"mean_test_score\n0.1\n0.3\nnan\n", whole=True)
    assert [row["mean_test_score"] for row in told["best"]] == [0.3, 0.1]
    assert scores.summary(b"a,b\n1,2\n", whole=True)["best"] == []


def test_a_formula_stays_text_and_infinity_is_no_number() -> None:
    data = b'mean_test_score,rank_test_score,param_a\ninf,1,"=HYPERLINK(""http://x"")"\n'
    (best,) = scores.summary(data, whole=True)["best"]
    assert best == {"mean_test_score": None, "rank_test_score": 1, "params": {"param_a": '=HYPERLINK("http://x")'}}


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"\0" * 1000,
        b'"' * 1001,
        b"a," * 3_000_000,
        b"mean_test_score,rank_test_score\n" + b"1,2,3,4\n" * 3,
        b"mean_test_score,mean_test_score,rank_test_score\n1,2,3\n",
        b"mean_test_score,rank_test_score\n\xff\xfe,\xff\n",
        b"iter,mean_test_score\nx,y\n",
        b"mean_test_score,rank_test_score\n1e400,-1e400\n",
        "mean_test_score\u202e,rank_test_score\n1,2\n".encode(),
        b"mean_test_score,rank_test_score\n" + b"0.5,1\n" * 900_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_hostile_table_is_told_or_its_reason_is(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/cv_results_a.csv").write_bytes(data)
    (tmp_path / "artifacts/cv_results_b.csv").write_text(HALVING)
    first, second = json.loads(scores.make(target(tmp_path)))
    assert "not_read" in first or first["read"]
    assert second["best"][0]["mean_test_score"] == 0.91


@given(st.binary(max_size=300))
def test_no_bytes_break_the_summary(data: bytes) -> None:
    from tasks.custody.store.manifest import canonical

    try:
        told = scores.summary(b"iter,mean_test_score,rank_test_score\n" + data, whole=True)
    except ValueError:
        return
    canonical(told)


def test_a_table_that_is_too_large_is_read_in_part_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "_READ", 200)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/cv_results_a.csv").write_text("mean_test_score,rank_test_score\n" + "0.5,1\n" * 100)
    (told,) = json.loads(scores.make(target(tmp_path)))
    assert told["read"] == "only the first part: it is too large"
    assert told["rows"] == 28


def test_a_table_that_is_a_link_out_or_a_pipe_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "secret.csv").write_text("mean_test_score\n0.5\n")
    (tmp_path / "artifacts/cv_results_a.csv").symlink_to("../secret.csv")
    os.mkfifo(tmp_path / "artifacts/cv_results_b.csv")
    assert all("not_read" in told for told in json.loads(scores.make(target(tmp_path))))


def test_where_there_is_no_table_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(NothingThere):
        scores.make(target(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"\n" + b"," * 7_900_000, b'x","\n' + b'","\n' * 1_500_000, b"a\n" + b"," * 3000])
def test_a_table_that_is_too_wide_is_known_before_it_is_made(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="columns, more than"):
        scores.read(data)
    assert time.process_time() - began < 20


def test_lines_before_a_table_and_commas_in_its_cells_do_no_harm() -> None:
    table = b"\n\nmean_test_score,params\n0.9,\"{'a': 1, 'b': 2}\"\n"
    assert (scores.widest(table), scores.widest(b"")) == (2, 1)
    assert scores.summary(table, whole=True)["rows"] == 1
