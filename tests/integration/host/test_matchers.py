"""Where the block narrows its patterns by user or port, real processes are told apart by them."""

import os
import pwd
import re
import subprocess

import psutil
import pytest

from tasks.containment.containment_check import prove_contained
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.custody.errors import Refused
from tasks.preflight.requirements import require_known_account
from tasks.runtime.context import RunContext
from tests.support.run_context import case_of, made
from tests.support.workloads import SmallWorkload, free_port, open_the_way, wait_until


def alone(small: SmallWorkload, command: list[str]) -> psutil.Process:
    """Start it so that it is nobody's child: our own children are not told apart."""
    before = {process.pid for process in small.living()}
    small.start(["setsid", "--fork", *command], WORKERS="0").wait()
    wait_until(lambda: len(small.living()) > len(before), what="its start")
    return next(process for process in small.living() if process.pid not in before)


def require_held_against_it_until_excused(context: RunContext, other: psutil.Process) -> None:
    """Who runs the root's program and is not meant is a suspect, which a line of the block excuses."""
    seen = made(prove_contained.fn(context))
    assert [text.partition(":")[0] for text in seen.alive] == [str(other.pid)]
    context.workload.bystanders = [re.escape(" ".join(other.cmdline()))]
    seen = made(prove_contained.fn(context))
    assert seen.is_contained, seen.summary
    assert str(other.pid) in {entry["object"] for entry in context.log.entries() if entry["action"] == "excused"}
    assert other.is_running()


@pytest.mark.whole
def test_only_who_listens_on_the_port_is_the_api_and_the_other_is_named(small: SmallWorkload) -> None:
    api = small.start(small.api_command)
    wait_until(small.healthy, what="the API's answer")
    other = alone(small, [*small.api_command[:-1], str(free_port())])
    with case_of(small.block(api_port=small.port)) as context:
        cordon.fn(context)
        assert [process.identity.pid for process in made(freeze.fn(context)).processes] == [api.pid]
        stop.fn(context)
        require_held_against_it_until_excused(context, other)


@pytest.mark.whole
def test_only_the_named_users_processes_belong_and_the_others_are_named(small: SmallWorkload) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can start a process of somebody else")
    open_the_way(small.root)
    mine = alone(small, small.training_command)
    nobody = pwd.getpwnam("nobody").pw_uid
    theirs = subprocess.Popen(
        ["/usr/bin/python3", *small.training_command[1:]], cwd=small.root, user=nobody, env={"WORKERS": "0"}
    )
    small.started.append(theirs)
    wait_until(lambda: len(small.living()) == 2, what="both trainings")
    with case_of(small.block(user="nobody")) as context:
        cordon.fn(context)
        assert [process.identity.pid for process in made(freeze.fn(context)).processes] == [theirs.pid]
        stop.fn(context)
        require_held_against_it_until_excused(context, mine)


def test_an_account_that_is_not_here_is_refused(small: SmallWorkload) -> None:
    block = small.block(user="no-such-account")
    with pytest.raises(Refused, match="an account of this host"):
        require_known_account(block)
