"""Deploy the drill's workload as a user would: blocks, pool, `evacuation deploy`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials

from blocks import EvidenceStore, SigningKey, Workload
from tasks.drill.show_retention import LOCK, credentials, new_key
from tasks.drill.store_and_worker import SeaweedFS
from tasks.prefect_side.own_server import PrefectServer

NAME: Final = "sample"
POOL: Final = "evacuation"


def save_blocks(server: PrefectServer, store: SeaweedFS, workload: Workload) -> SigningKey:
    """Register the block types as a user would, and save them. Only the blocks of credentials and key hold secrets."""
    prefect(server, "block", "register", "-m", "blocks")
    key = new_key()
    with temporary_settings({PREFECT_API_URL: server.api}):
        credentials(store).save(NAME)
        key.save(NAME)
        keys = AwsCredentials.load(NAME)
        place = f"s3://{store.bucket}/drill"
        EvidenceStore(bucket=place, endpoint=store.endpoint, credentials=keys, signing=key, **LOCK).save(NAME)
        workload.save(NAME)
    return key


def deploy(server: PrefectServer, name: str = NAME) -> None:
    """Deploy as `evacuation deploy` does."""
    _run(server, "flows.cli", "deploy", "--name", name, "--pool", POOL)


def prefect(server: PrefectServer, *arguments: str) -> str:
    """Run the Prefect CLI against the drill's server."""
    return _run(server, "prefect", *arguments)


def _run(server: PrefectServer, module: str, *arguments: str) -> str:
    process = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        cwd="/",
        env=server.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        output = f"{process.stdout}{process.stderr}"
        raise RuntimeError(f"{module} {' '.join(arguments)} ended with {process.returncode}:\n{output}")
    return process.stdout


@contextmanager
def client_of(server: PrefectServer) -> Iterator[SyncPrefectClient]:
    """Yield a client of the drill's own server, whatever profile the person uses."""
    with temporary_settings({PREFECT_API_URL: server.api}), get_client(sync_client=True) as client:
        yield client
