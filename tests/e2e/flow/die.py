"""Run the evacuation here, and die by SIGKILL at one named entry of the custody log: `die.py ACTION OBJECT NAME`.

NAME is that of saved blocks, or a TOML file: then it is the run by hand that dies.
"""

import os
import signal
import sys
from typing import Any

from flows import by_hand
from flows.evacuate import evacuate
from tasks.custody.incident.log import CustodyLog

MOMENT, OBJECT, name = sys.argv[1:]
write = CustodyLog.write


def write_and_die(self: CustodyLog, action: str, subject: str = "", **facts: Any) -> None:
    """Write the entry, and be gone if it is the one."""
    write(self, action, subject, **facts)
    if action == MOMENT and subject.startswith(OBJECT):
        os.kill(os.getpid(), signal.SIGKILL)


CustodyLog.write = write_and_die  # type: ignore[method-assign]
if name.endswith(".toml"):
    by_hand.main([name])
else:
    evacuate(name, name, return_state=True)
