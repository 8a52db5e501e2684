"""Hosts that a real systemd has booted: one for all tests that leave it up, and a way to get another."""

from collections.abc import Iterator

import pytest

from tests.support.booted_host import BootedHost, missing


@pytest.fixture(scope="session", autouse=True)
def bootable() -> None:
    """Skip, and say why, where no host can be booted."""
    if reason := missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BootedHost]:
    """The host of all tests that leave it up."""
    with BootedHost(tmp_path_factory.mktemp("a host")) as booted:
        yield booted
