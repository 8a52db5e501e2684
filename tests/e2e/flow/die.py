"""Run the evacuation here, and die by SIGKILL at one named entry of the custody log: `die.py ACTION OBJECT NAME`.

Or right after a signal of ours: `die.py SIGCONT 2 NAME`, as soon as the second one is sent. NAME is that of saved
blocks, or a TOML file: then it is the run by hand that dies. The variable POLICY says how the workload is stopped.
"""

import os
import signal
import sys
from typing import Any

from flows import cli
from flows.evacuate import evacuate
from tasks.custody.containment.identity import Identity
from tasks.custody.incident.log import CustodyLog
from tasks.host.host import LinuxHost

MOMENT, OBJECT, name = sys.argv[1:]
write, send = CustodyLog.write, LinuxHost.signal
sent = list[signal.Signals]()


def write_and_die(self: CustodyLog, action: str, subject: str = "", **facts: Any) -> None:
    """Write the entry, and be gone if it is the one."""
    write(self, action, subject, **facts)
    if action == MOMENT and subject.startswith(OBJECT):
        os.kill(os.getpid(), signal.SIGKILL)


def signal_and_die(self: LinuxHost, identity: Identity, number: signal.Signals) -> None:
    """Send it, and be gone if it is the one."""
    send(self, identity, number)
    if number.name == MOMENT:
        sent.append(number)
        if len(sent) == int(OBJECT):
            os.kill(os.getpid(), signal.SIGKILL)


CustodyLog.write = write_and_die  # type: ignore[method-assign]
LinuxHost.signal = signal_and_die  # type: ignore[method-assign]
policy = os.environ.get("POLICY", "graceful")
if name.endswith(".toml"):
    cli.run(["run", name, "--policy", policy])
else:
    evacuate(name, name, policy=policy, return_state=True)
