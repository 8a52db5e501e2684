"""The journals of an incident on a disk that takes nothing for a while."""

import pytest

from tasks.custody.containment.identity import Identity
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload


def test_what_a_full_disk_did_not_take_is_written_with_the_next_journal(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Receipts of a stop on a full disk were lost with its run: the next told who was killed as ended by itself."""
    with case_of(small.block()) as run:
        with monkeypatch.context() as full:
            full.setattr(type(run.directory), "write", lambda *_: (_ for _ in ()).throw(OSError("full")))
            run.state.above.write([Identity(41, 7)])
            run.state.since.write(3)
            run.state.since.write(5)
        assert not run.state.above.path.exists()
        run.state.listened.write(True)
        read = [each.path.read_text() for each in (run.state.above, run.state.since, run.state.listened)]
        assert [*map("".join, map(str.split, read))] == ['[{"pid":41,"start":7}]', "5", "true"]
