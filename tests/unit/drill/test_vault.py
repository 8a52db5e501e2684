"""The key of a drill may sign for each host that the drill has."""

import socket

import pytest

from flows.fleet_drill import CONTROL, HOSTS
from tasks.custody.audit.signers import read_signers
from tasks.custody.incident.incident import principal_of
from tasks.drill.show_retention import IDENTITY, allowed_signers, new_key


@pytest.mark.parametrize("hosts", [(CONTROL, *HOSTS), ()])
def test_an_auditor_of_a_drill_allows_its_key_for_each_host_and_no_other(hosts: tuple[str, ...]) -> None:
    (signer,) = read_signers(allowed_signers(new_key(), *hosts))
    expected = {*map(principal_of, hosts or [socket.gethostname()]), IDENTITY}
    assert {*signer.principals.split(",")} == expected
