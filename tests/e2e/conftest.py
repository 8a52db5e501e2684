"""A run of the tests leaves the priority of its session as it was."""

from collections.abc import Iterator

import pytest

from tasks.system.priority import give_way


@pytest.fixture(autouse=True)
def _session_gives_way() -> Iterator[None]:
    """A run that was killed, or one that a worker would have started, leaves its priority to the whole session."""
    yield
    give_way()
