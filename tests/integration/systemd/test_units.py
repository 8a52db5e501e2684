"""Systemd services that the block names: kept down, frozen, stopped and started again, through systemd."""

from pathlib import Path
from typing import Final

from tests.support.booted_host import BootedHost
from tests.support.served_workload import ServedWorkload

WATCHED: Final = """
import os, runpy, socket, sys, threading, time
door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
def beat():
    while True:
        door.sendto(b"READY=1\\nWATCHDOG=1", os.environ["NOTIFY_SOCKET"])
        time.sleep(0.2)
threading.Thread(target=beat, daemon=True).start()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""A program that says to systemd that it lives, as long as it does."""

STEPS: Final = """
import sys, time
from pathlib import Path
from blocks.file import workload_given
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.containment.stop import stop
from tasks.containment.containment_check import prove_contained
from tests.support.run_context import case_of

_, block = workload_given(Path(sys.argv[1]), "")
with case_of(block) as context:
    context.policy = sys.argv[2]
    for verb in (cordon, freeze):
        print(verb.fn(context).message)
    time.sleep(float(sys.argv[3]))
    for verb in (stop, prove_contained):
        print(verb.fn(context).message)
    print(context.notes)
    sys.stdout.flush()
    import os
    os._exit(0)
"""
"""§1 to §3 of an evacuation, which then dies and leaves the cordon; as long as asked between freeze and stop."""


def serve(host: BootedHost, folder: Path, name: str) -> ServedWorkload:
    """An API whose service is started again, watched by systemd, and says in a file when it is stopped."""
    workload = ServedWorkload(host, folder, name, units=[f"{name}-api.service"])
    host.write(f"/srv/{name}.watched", WATCHED)
    first, *rest = workload.small.api_command
    host.write(
        f"/etc/systemd/system/{workload.api}",
        f"[Service]\nType=notify\nWatchdogSec=1\nRestart=always\nRestartSec=0\nWorkingDirectory={workload.root}\n"
        f"ExecStart={workload.root}/{first} /srv/{name}.watched uvicorn/__main__.py {' '.join(rest[1:])}\n"
        f"ExecStop=sh -c 'echo said >>{workload.root}.stopped'\n"
        f"ExecStopPost=sh -c 'echo said >>{workload.root}.stopped'\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    host.run(["systemctl", "daemon-reload"], check=True)
    host.run(["systemctl", "enable", "--quiet", "--now", workload.api], check=True)
    return workload
