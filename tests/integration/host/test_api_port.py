"""After the stop nobody else may listen on the API's own port. Who owns the socket counts, not whether it answers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blocks.workload import Workload
from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import Containment
from tasks.custody.incident.readiness import Finding, Weight
from tasks.host.host import LinuxHost
from tasks.host.process.table import start_of
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.workload import check_port
from tasks.record.dry_run_plan import needs_attention, plan
from tasks.runtime.context import RunContext
from tests.integration.host.test_contain import in_a_process_of_its_own
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, free_port, wait_until

LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


@contextmanager
def stranger(port: int) -> Iterator[int]:
    """A program that has nothing to do with the workload but its port."""
    process = subprocess.Popen([sys.executable, "-c", LISTEN, str(port)], cwd="/", start_new_session=True)
    try:
        wait_until(lambda: [each for each in LinuxHost().owners(port) if each.process], what="its port")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def contained(context: RunContext) -> Containment:
    """§1 to §3."""
    cordon.fn(context)
    freeze.fn(context)
    stop.fn(context)
    seen: Containment = made(prove_contained.fn(context))
    return seen


def by_default(small: SmallWorkload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small workload's port be the one that a block has that names none."""
    monkeypatch.setattr(Workload.model_fields["api_command"], "default", small.api_command)


def test_another_program_on_the_apis_port_contradicts_with_its_name(small: SmallWorkload) -> None:
    with stranger(small.port) as pid, case_of(small.block()) as context:
        seen = contained(context)
    assert not seen.is_contained
    (told,) = seen.alive
    assert told.startswith(f"{pid}: ")
    assert " -c import socket" in told
    assert f"it listens on the API's port {small.port}" in told


@pytest.mark.whole
def test_an_api_that_calls_itself_something_else_is_found_by_its_port(small: SmallWorkload) -> None:
    """Gunicorn and celery do: neither pattern knows it, and it works elsewhere."""
    small.start_all()
    with case_of(small.block(api_pattern="no such api", api_port=small.port, root=small.root)) as context:
        seen = contained(context)
        assert [told for told in seen.alive if f"port {small.port}" in told]


@pytest.mark.whole
def test_the_workloads_own_api_is_gone_with_its_port(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block(api_port=small.port)) as context:
        assert contained(context).is_contained


@pytest.mark.whole
def test_a_port_that_nobody_named_is_anybodys_unless_the_workload_listened_there(
    small: SmallWorkload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an API, port 8000 may be anybody's; with one, who takes its place is told."""
    by_default(small, monkeypatch)
    with stranger(small.port), case_of(small.block(api_url="")) as context:
        assert contained(context).is_contained
    small.start_all()
    with case_of(small.block(api_url="")) as context:
        assert contained(context).is_contained
        with stranger(small.port) as pid:
            (told,) = made(prove_contained.fn(context)).alive
            assert told.startswith(f"{pid}: ")


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_api_on_another_port_than_the_blocks_is_told_with_the_field(small: SmallWorkload, *, dry_run: bool) -> None:
    small.start_all()
    wrong = free_port()
    told = (
        f"the workload listens on port {small.port}, not on {wrong}: if that is the API, "
        f'set api_url = "http://127.0.0.1:{small.port}" in the block'
    )
    with case_of(small.block(api_command=["bash", "serve.sh", f"PORT={wrong}"]), dry_run=dry_run) as context:
        cordon.fn(context)
        assert made(freeze.fn(context)).warnings == (told,)
        rows = plan(context.log.entries())
    (row,) = (row for row in rows if row["act"] == "would not check")
    assert needs_attention(row)
    assert (row["on"], row["why"]) == (f"the API's port {wrong}", told)


def test_an_api_on_its_own_port_is_no_alarm(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block(), dry_run=True) as context:
        cordon.fn(context)
        assert made(freeze.fn(context)).warnings == ()


def test_what_our_own_recovery_started_may_listen(small: SmallWorkload) -> None:
    with case_of(small.block()) as context, stranger(small.port) as pid:
        context.state.recovered.write([Identity(pid, start_of(pid))])
        assert made(prove_contained.fn(context)).is_contained


def test_a_rehearsal_takes_the_api_for_stopped(small: SmallWorkload) -> None:
    small.start_all()
    with case_of(small.block(), dry_run=True) as context:
        assert contained(context).is_contained
        assert small.healthy()


@pytest.mark.whole
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to run as root to become somebody else")
def test_where_the_owner_may_not_be_seen_its_user_is_told(small: SmallWorkload) -> None:
    with stranger(small.port):
        alive = in_a_process_of_its_own(
            small,
            "prove_contained.fn(case).data.alive",
            first="os.setgroups([]); os.setgid(65534); os.setuid(65534); from functools import partialmethod\n"
            f"SmallWorkload.block = partialmethod(SmallWorkload.block, api_port={small.port})",
        )
    assert f"a program of user 0 (it listens on the API's port {small.port}" in alive


@pytest.mark.parametrize("excused", [False, True])
def test_a_doctor_of_a_wrong_root_does_not_say_that_nobody_listens_on_the_apis_port(
    small: SmallWorkload, tmp_path: Path, *, excused: bool
) -> None:
    """The API of the right root matched, elsewhere, and counted as named already."""
    (empty := tmp_path / "empty").mkdir()
    fields: dict[str, Any] = {"root": empty, "bystanders": ["uvicorn"] if excused else []}
    block = small.block().model_copy(update=fields)

    def check() -> Finding:
        return check_port(CheckTarget("small", block, "", {}, ""))

    assert check().found == f"nobody listens on port {small.port}"
    small.start(small.api_command)
    wait_until(small.healthy, what="the API's answer")
    found = check()
    assert "nobody" not in found.found
    assert f"port {small.port}" in found.found
    assert (found.weight is Weight.SOUND) is excused
