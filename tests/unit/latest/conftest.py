"""Places where latest/ lies: in memory, in a folder, and on a real S3 server."""

from pathlib import Path

import pytest

from blocks.directory import DirectoryStore
from blocks.port import Store
from tests.support.memory_store import MemoryStore


@pytest.fixture(params=["memory", "directory", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "s3":
        found: Store = request.getfixturevalue("store")
        return found
    return MemoryStore() if request.param == "memory" else DirectoryStore(tmp_path)
