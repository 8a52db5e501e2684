"""A training that holds a GPU after its end, by a stand-in for nvidia-smi; and the same that lets go."""

from functools import partial
from pathlib import Path

import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.system.gpu import compute_apps
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload


@pytest.mark.whole
@pytest.mark.parametrize("holds", [True, False])
def test_a_pid_that_holds_on_is_not_contained(
    small: SmallWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, holds: bool
) -> None:
    training = small.start()
    program = tmp_path / "nvidia-smi"
    ended = "" if holds else f"[ -e /proc/{training.pid} ] || exit 0\n"
    program.write_text(f"#!/bin/sh\n{ended}echo '{training.pid}, 8123, python'\n")
    program.chmod(0o755)
    monkeypatch.setattr("tasks.system.gpu.compute_apps", partial(compute_apps, str(tmp_path)))
    with case_of(small.block()) as context:
        cordon.fn(context)
        frozen = made(freeze.fn(context))
        stopped = made(stop.fn(context))
        training.wait()
        found = made(prove_contained.fn(context))
    line = f"process {training.pid} still holds 8123 MiB of a GPU"
    assert "may still finish" in frozen.summary
    assert found.is_contained is not holds
    assert (line in found.alive) is holds
    if holds:
        assert stopped.gpu
        assert stopped.gpu.held == (line,)
