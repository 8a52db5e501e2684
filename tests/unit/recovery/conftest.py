"""A start outside of a recovery leaves orphans of this process to nobody, as before."""

from collections.abc import Iterator

import pytest

from tasks.silence.events import call


@pytest.fixture(autouse=True)
def adopts_none_afterwards() -> Iterator[None]:
    """A recovery adopts orphans until it is proven or has failed; what a test only starts is neither."""
    yield
    call("prctl", 36, 0, 0, 0, 0)
