"""Which named services a run refuses before anything is touched."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.workload import Workload
from tasks.custody.errors import Refused
from tasks.host.host import LinuxHost
from tasks.host.process.process import Process
from tasks.host.unit.systemd import Systemd
from tasks.preflight.requirements import require_known_units

KNOWN = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running"}
GONE = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead"}


def refusal(monkeypatch: pytest.MonkeyPatch, told: dict[str, dict[str, str]]) -> str:
    """Why a block with these services is refused; empty if it is not."""
    monkeypatch.setattr(Systemd, "show", lambda _, unit: told[unit])
    try:
        require_known_units(Workload(root=Path("/srv/x"), units=list(told)))
    except Refused as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"Id": "api.service", **KNOWN}, ""),
        ({"Id": "api.service", **GONE}, "api.service, which systemd does not know"),
        ({"Id": "api.service", **GONE, "ActiveState": "active"}, ""),
        ({"Id": "portfolio.service", **KNOWN}, "api.service, which is another name of portfolio.service"),
        ({}, ""),
    ],
)
def test_a_service_is_refused_that_systemd_does_not_know_or_that_has_another_name(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, str], why: str
) -> None:
    said = refusal(monkeypatch, {"api.service": told})
    assert why in said
    assert bool(said) == bool(why)
    assert ("units を修正してください" in said) == bool(why)


def test_the_service_in_which_this_run_lives_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(self: LinuxHost) -> dict[int, Process]:
        found = real(self)
        return {pid: Process(each.identity, each.parent, each.state, cgroup=ours) for pid, each in found.items()}

    ours = "0::/system.slice/worker.service"
    real = LinuxHost.snapshot
    monkeypatch.setattr(LinuxHost, "snapshot", here)
    assert "worker.service, in which this run" in refusal(monkeypatch, {"worker.service": {}})
    assert refusal(monkeypatch, {"api.service": {}}) == ""


@pytest.mark.parametrize("name", ["api", "api.socket", "../api.service", "-api.service", "a b.service", ".service"])
def test_only_the_full_name_of_a_service_is_taken(name: str) -> None:
    with pytest.raises(ValidationError, match="expected a systemd service of the workload"):
        Workload(root=Path("/srv/x"), units=[name])


@pytest.mark.parametrize("name", ["api.service", "api@1.service", r"disk\x2d1.service", "A_b.c:d.service"])
def test_instances_and_escaped_names_are_taken(name: str) -> None:
    assert Workload(root=Path("/srv/x"), units=[name]).units == [name]
