"""Which port is the API's, and who may listen on it."""

import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from blocks.workload import Workload
from tasks.containment.api_port import counted_port, port_of, strangers_on
from tasks.custody.containment.identity import Identity
from tasks.host.host import LinuxHost
from tasks.host.process.process import Listener, Process
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of
from tests.support.workloads import SmallWorkload


def strangers(run: RunContext, ours: Iterable[int], known: Iterable[str]) -> list[tuple[Listener, str]]:
    port = counted_port(run.workload, run.state)
    return strangers_on(port, run.adapters.host, run.workload, ours, known)


def test_a_proxy_counts_unless_the_block_names_containers(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Process(Identity(7, 7), 1, "S", ("docker-proxy",), executable="/usr/bin/docker-proxy")
    inside = Process(Identity(8, 8), 1, "S", ("python",), executable="/usr/bin/python3", container="c" * 64)
    found = [Listener(0, proxy), Listener(0, inside), Listener(33)]
    monkeypatch.setattr(LinuxHost, "owners", lambda *_: found)
    with case_of(small.block()) as context:
        assert [each for each, _ in strangers(context, (), ())] == found
    with case_of(small.block(containers=["name=api"])) as context:
        assert [each for each, _ in strangers(context, (), ["c" * 64])] == [Listener(33)]
        assert [each for each, _ in strangers(context, [8], ())] == [Listener(33)]


@pytest.mark.parametrize(
    ("fields", "port"),
    [
        ({}, 8000),
        ({"api_port": 9}, 9),
        ({"api_port": 9, "api_url": "http://10.9.9.9:1"}, 9),
        ({"api_url": "http://localhost:7"}, 7),
        ({"api_url": "http://[::1]:7"}, 7),
        ({"api_url": "http://0.0.0.0:7"}, 7),
        ({"api_url": f"http://{socket.gethostname()}:7"}, 7),
        ({"api_url": "https://127.0.0.9"}, 443),
        ({"api_url": "http://192.0.2.1:7"}, None),
        ({"api_url": "http://api.example.org:7"}, None),
        ({"api_url": "http://127.0.0.1:777777"}, None),
    ],
)
def test_the_apis_port_is_one_of_this_host(fields: dict[str, object], port: int | None) -> None:
    assert port_of(Workload(root=Path("/srv/x"), **fields)) == port
