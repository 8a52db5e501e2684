"""The build step of prefect.yaml, with which `prefect deploy --all` makes what `evacuation deploy` makes."""

import socket
import sys
from functools import cache
from pathlib import Path
from typing import Final

from prefect.client.orchestration import SyncPrefectClient, get_client

from blocks.saved import asking_server
from tasks.custody.errors import EvacuationError, Refused
from tasks.custody.incident.description import FILE as TOML
from tasks.custody.incident.description import place, read_tables
from tasks.custody.incident.exit_codes import REFUSED
from tasks.custody.incident.news import PEOPLE
from tasks.custody.visible import say
from tasks.deployment.register import DeploymentTarget, load_target, prepare, register, save, worker_of

FILE: Final = "evacuation.toml"
NAME: Final = "portfolio"
"""Name of a workload and its store that are to be saved later, as in the examples."""
_CURE: Final = "export EVACUATION_WORKLOAD=NAME, or FILE.toml:NAME; all of a file at once: evacuation deploy FILE.toml"


@cache  # Prefect runs it once for each deployment
def workload(pool: str, name: str = "", store: str = "", python: str = "") -> dict[str, str]:
    """Prepare the server for one workload, and return the values of the variables in prefect.yaml.

    `name` is that of a saved workload, or a TOML file, whose blocks are saved, as FILE or FILE:NAME. If left out: it is
    evacuation.toml in this folder, else the only workload that is saved, else the one of the examples, to be saved
    later. `store` is the saved store, of the same name if left out; `python` the worker's, this one if left out.
    Raises Refused.
    """
    engine = python or sys.executable
    try:
        with asking_server(), get_client(sync_client=True) as client:
            register()
            target = _target(client, name or (FILE if Path(FILE).exists() else ""), store)
            prepare(client, pool, [target.host])
    except (EvacuationError, ValueError, RuntimeError) as error:
        say(*str(error).splitlines(), error=True)
        raise SystemExit(REFUSED) from error  # of any other exception Prefect shows a page of frames
    say(worker_of(target.host, pool, engine, (PEOPLE,)))
    return target.variables(pool, engine)


def _target(client: SyncPrefectClient, name: str, store: str) -> DeploymentTarget:
    file, table = place(name)
    if file.endswith(TOML):
        tables = read_tables(Path(file)).get("workload", {})
        if len(chosen := {table} & {*tables} if table else {*tables}) != 1:
            raise Refused(f"one workload of {file}", f"{table!r} of {', '.join(tables) or 'none'}", _CURE)
        return next(target for target in save(Path(file))[0] if target.workload in chosen)
    names = [name] if name else sorted(str(each.name) for each in client.read_block_documents_by_type("workload"))
    if len(names) > 1:
        raise Refused("one workload, or evacuation.toml in this folder", ", ".join(names), _CURE)
    if names:
        return load_target(names[0], store or names[0])
    say(f"workload/{NAME} and evidence-store/{store or NAME} are not saved yet: until they are, every run is refused")
    return DeploymentTarget(NAME, store or NAME, socket.gethostname())
