"""Containers of one test."""

from collections.abc import Iterator

import pytest

from tasks.drill.engine import Engine
from tests.containers import Containers, containers_of


@pytest.fixture
def containers(engine: Engine) -> Iterator[Containers]:
    """They end with the test."""
    with containers_of(engine) as containers:
        yield containers
