"""The plan of a dry run: what is said of each entry of its custody log, and in which order."""

from typing import Any

import pytest

from tasks.record.dry_run_plan import as_text, needs_attention, plan

FROZEN = {"action": "frozen", "object": "7", "command": "train.py", "role": "training", "why": "matches"}


def collected(action: str, result: str) -> dict[str, Any]:
    return {"action": action, "object": "§4 collect gpu", "step_id": "collect", "of": "gpu", "result": result}


@pytest.mark.parametrize(
    ("entry", "act", "why"),
    [
        (FROZEN, "would freeze", "training: matches"),
        ({**FROZEN, "ran_seconds": 90061}, "would freeze", "training: matches, has run for 1 day, 1:01:01"),
        (collected("step done", "collected: 1 files, 9 bytes"), "would collect", "collected: 1 files, 9 bytes"),
        (collected("step done", "missing: 0 files, 0 bytes"), "would find nothing of", "missing: 0 files, 0 bytes"),
        (collected("step incomplete", "failed: no"), "would lack", "failed: no"),
        ({"action": "suspect", "object": "8", "command": "x", "why": "maps"}, "would name", "maps"),
        (
            {"action": "suspect", "object": "8", "command": "x", "why": "maps", "line": "worker_pattern = 'x'"},
            "would name",
            "maps; if it belongs to the workload: worker_pattern = 'x'",
        ),
        ({"action": "would", "object": "latest/x", "act": "would delete"}, "would delete", ""),
        (
            {"action": "model judged", "object": "models/m", "result": "models/m is suspect: imports os"},
            "would keep out of latest/ and of recovery",
            "suspect: imports os",
        ),
        (
            {"action": "model judged", "object": "models/m", "result": "models/m is sound"},
            "would let into latest/ if it is proven",
            "sound",
        ),
        (
            {"action": "model judged", "object": "containers/a/m", "result": "containers/a/m is sound", "latest": ""},
            "would keep as evidence, not in latest/,",
            "sound",
        ),
        (
            {"action": "not promoted", "object": "latest/", "act": "add nothing to", "why": "why"},
            "would add nothing to",
            "why",
        ),
    ],
)
def test_each_row_says_what_would_be_done_and_why(entry: dict[str, Any], act: str, why: str) -> None:
    (row,) = plan([entry])
    assert (row["act"], row["why"]) == (act, why)


def test_a_signal_and_another_act_on_a_member_name_it() -> None:
    told = [FROZEN, *({"action": "would", "object": "7", "act": act} for act in ("SIGTERM", "SIGSTOP", "set aside"))]
    assert [(row["act"], row["on"]) for row in plan(told)][1:] == [
        ("would send SIGTERM", "7: train.py"),
        ("would set aside", "7: train.py"),
    ]


def created(key: str, size: int = 1000) -> dict[str, Any]:
    return {"action": "would", "object": key, "act": "create", "size": size}


def test_many_files_of_a_folder_are_one_row_with_their_number_and_size() -> None:
    models = [f"ckpt/{at}.pkl" for at in range(9)]
    judged = ({"action": "model judged", "object": model, "result": f"{model} is sound"} for model in models)
    rows = plan([*(created(f"snapshots/ckpt/{at}.pkl") for at in range(194)), created("snapshots/one.pkl"), *judged])
    assert [(row["act"], row["on"], row["why"]) for row in rows] == [
        ("would create", "snapshots/ckpt/: 194 files, 194,000 bytes: 0.pkl, 1.pkl, 2.pkl, …", ""),
        ("would create", "snapshots/one.pkl", ""),
        ("would let into latest/ if it is proven", "ckpt/: 9 files: 0.pkl, 1.pkl, 2.pkl, …", "sound"),
    ]
    assert list(rows[0]) == ["act", "on", "why"]


def test_what_needs_attention_is_told_one_by_one() -> None:
    torn = [{"action": "model judged", "object": f"m/{at}", "result": f"m/{at} is torn"} for at in range(9)]
    assert len(plan(torn)) == 9


def test_what_needs_attention_comes_first_and_is_marked_and_the_acts_keep_their_order() -> None:
    suspect = {"action": "suspect", "object": "8", "command": "gunicorn", "why": "maps"}
    torn = {"action": "model judged", "object": "models/m", "result": "models/m is torn"}
    kept = {"action": "turn", "object": "1", "left": {"keep": ["latest/notes"]}}
    rows = plan([FROZEN, kept, collected("step incomplete", "failed: no"), torn, suspect])
    assert [row["act"] for row in rows] == [
        "would name",
        "would keep out of latest/ and of recovery",
        "would lack",
        "would freeze",
        "would keep",
    ]
    assert [needs_attention(row) for row in rows] == [True, True, True, False, False]
    assert [line[:2] for line in as_text(rows).splitlines()] == ["! "] * 3 + ["  "] * 2
