"""Judge a run of the tests by its report, and try its failed tests once more, alone.

Run by itself after `pytest --cache-clear --junitxml=build/tests.xml`, with that command's exit code:
python -m tests.second_try CODE [--complete]
"""

import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MOST = 5
"""Failures that are tried again: more are no chance."""
FIRST, SECOND = Path("build/tests.xml"), Path("build/again.xml")
_AGAIN = ("tests/alone", "-m", "pytest", "--last-failed", "-m", "", "--junitxml", str(SECOND))
_LINES, _WIDTH = 4, 240  # of a failure's message, so that five of them fit into the last 40 lines


class Report(NamedTuple):
    """The tests of a run by their names, with the messages of those that failed or were skipped."""

    passed: dict[str, str]
    failed: dict[str, str]
    skipped: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "Report":
        """Read a report of JUnit's form, in which a test that fails at its end has two entries."""
        report = cls({}, {}, {})
        for case in ET.parse(path).iter("testcase"):  # noqa: S314  pytest has just written it
            name = f"{case.get('classname')}::{case.get('name')}"
            bad = [entry for entry in case if entry.tag in {"failure", "error"}]
            skips = [entry for entry in case if entry.tag == "skipped" and entry.get("type") != "pytest.xfail"]
            kind = report.failed if bad else report.skipped if skips else report.passed
            kind[name] = next(((entry.get("message") or entry.text or "") for entry in bad or skips), "")
        for name in report.failed:
            report.passed.pop(name, None)
        return report


def judge(first: Report, try_again: Callable[[], Report | None], *, code: int, complete: bool) -> bool:
    """Say on a run's last lines which tests failed and why. Return whether the run is green.

    Up to five failed tests are tried again by `try_again`; what passes then is named as unsteady. `code` is the exit
    code of the first run: a run that failed without a failed test is red. In a `complete` run a skipped test is red.
    """
    second, failed, skipped = None, first.failed, first.skipped if complete else {}
    if 0 < len(failed) <= MOST and not skipped:
        second = try_again()
    steady = {name: failed[name] for name in failed if second is None or name not in second.passed}
    _print("unsteady, it failed first and passed alone:", {name: failed[name] for name in failed if name not in steady})
    _print("failed:", steady)
    _print("skipped:", skipped)
    ended_early = bool(code) and not failed
    if ended_early:
        print(f"the tests ended with exit code {code}, and no test failed: see what stands above")
    return not (steady or skipped or ended_early)


def _print(word: str, tests: dict[str, str]) -> None:
    for name, message in tests.items():
        print(word, name, *(f"\n    {line[:_WIDTH]}" for line in message.splitlines()[:_LINES]))


def _run_again() -> Report | None:
    SECOND.unlink(missing_ok=True)
    subprocess.run(_AGAIN, check=False)
    return Report.read(SECOND) if SECOND.exists() else None


if __name__ == "__main__":
    if not FIRST.exists():
        sys.exit(f"expected the tests' report, {FIRST}; it is not there: the run ended before its tests did")
    is_green = judge(Report.read(FIRST), _run_again, code=int(sys.argv[1]), complete="--complete" in sys.argv[2:])
    sys.exit(not is_green)
