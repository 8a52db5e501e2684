"""A red run's second try: what passes then is named and green, and whatever else happened is red."""

import pytest

from tests.second_try import Report, judge

ONE, MANY = {"t::a": "assert 1 == 2"}, {f"t::{number}": "boom" for number in range(6)}


def report(passed: str = "", failed: dict[str, str] | None = None, skipped: str = "") -> Report:
    """Return a report in which these tests ended so."""
    return Report(dict.fromkeys(passed.split(), ""), failed or {}, dict.fromkeys(skipped.split(), "no engine"))


@pytest.mark.parametrize(
    ("first", "second", "code", "is_green", "words"),
    [
        pytest.param(report("t::a"), None, 0, True, "", id="green"),
        pytest.param(report(failed=ONE), report("t::a"), 1, True, "unsteady", id="passed alone"),
        pytest.param(report(failed=ONE), report(failed=ONE), 1, False, "failed:", id="failed twice"),
        pytest.param(report(failed=ONE), report("t::b"), 1, False, "failed:", id="not tried again"),
        pytest.param(report(failed=ONE), report(skipped="t::a"), 1, False, "failed:", id="skipped alone"),
        pytest.param(report(failed=ONE), None, 1, False, "failed:", id="second run without a report"),
        pytest.param(report(failed=MANY), report(" ".join(MANY)), 1, False, "failed:", id="too many"),
        pytest.param(report("t::a", skipped="t::b"), None, 0, False, "skipped:", id="skipped"),
        pytest.param(report("t::a"), None, 2, False, "exit code 2", id="ended early"),
    ],
)
def test_only_a_test_that_passes_alone_is_excused(  # noqa: PLR0913  a row of the table
    first: Report, second: Report | None, code: int, words: str, capsys: pytest.CaptureFixture[str], *, is_green: bool
) -> None:
    assert judge(first, lambda: second, code=code, complete=True) is is_green
    assert words in capsys.readouterr().out


def test_more_than_five_failures_are_not_tried_again() -> None:
    def try_again() -> Report | None:
        pytest.fail("they were")

    assert not judge(report(failed=MANY), try_again, code=1, complete=True)
