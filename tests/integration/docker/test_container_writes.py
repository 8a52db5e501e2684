"""What a rehearsal says of those who write into the root from a container."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.containment import silence
from tasks.containment.freeze import freeze
from tasks.containment.silence import Writers, rehearse_silence
from tests.support.containers import Containers
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload

pytestmark = [pytest.mark.whole, pytest.mark.skipif(os.geteuid() != 0, reason="only root hears who writes")]
SHORT = "while :; do sh -c 'echo x >>/here/exec.log'; sleep 0.1; done"
LONG = "exec python3 -c \"import time\nwhile 1: open('/here/exec.log', 'a').write('x'); time.sleep(0.1)\""
CHILDREN = "while :; do python3 -c \"open('/here/exec.log', 'a').write('x')\"; done"


@contextmanager
def looping(containers: Containers, script: str) -> Iterator[None]:
    """A script of a person's that uses the engine, such as `docker exec`, whose own end the container's is."""
    environment = {"DOCKER_HOST": containers.engine.host, "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(["sh", "-c", script], env=environment) as process:
        try:
            yield
        finally:
            process.kill()


def heard(small: SmallWorkload, containers: Containers, script: str, **changes: object) -> Writers:
    id_ = containers.run(["sh", "-c", "echo up; exec sleep 600"], binds=[f"{small.root}/logs:/here"])
    command = f"exec docker exec {id_} sh -c {shlex.quote(script)}"
    with looping(containers, command), case_of(containers.block(small, **changes), dry_run=True) as context:
        freeze.fn(context)
        found: Writers = made(rehearse_silence.fn(context))
    return found


@pytest.mark.sample(1)
@pytest.mark.parametrize("script", [SHORT, LONG, CHILDREN])
def test_what_runs_in_a_container_of_the_block_writes_no_more_after_the_stop(
    small: SmallWorkload, containers: Containers, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """The container's shim was named as what starts it, with a kill: that would have torn the container."""
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 3)
    assert heard(small, containers, script).changes == ()


@pytest.mark.sample(1)
@pytest.mark.parametrize("is_named", [True, False])
def test_one_exec_after_another_is_the_containers_own(
    small: SmallWorkload, containers: Containers, monkeypatch: pytest.MonkeyPatch, *, is_named: bool
) -> None:
    """Each has ended before its look, and the shim has started all of them: its end would not end the container."""
    monkeypatch.setattr(silence, "_REHEARSED_SECONDS", 4)
    id_ = containers.run(["sh", "-c", "echo up; exec sleep 600"], binds=[f"{small.root}/logs:/here"])
    loop = f"while :; do docker exec {id_} python3 -c \"open('/here/exec.log', 'a').write('x')\"; done"
    block = containers.block(small, **({} if is_named else {"containers": ["name=another"]}))
    with looping(containers, loop), case_of(block, dry_run=True) as context:
        freeze.fn(context)
        found = made(rehearse_silence.fn(context))
    assert bool(found.changes) is not is_named, found.summary
    assert "kill" not in found.summary
    assert (f"docker stop {id_[:12]}" in found.summary) is not is_named
