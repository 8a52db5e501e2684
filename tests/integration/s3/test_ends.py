"""The one side or the other ends in the middle: killed, started anew, or out of room."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.directory import DirectoryStore
from blocks.s3.store import S3Store
from tasks.custody.errors import PermanentStoreError, TransientStoreError
from tasks.drill.store_and_worker import SeaweedFS
from tests.integration.s3.proxy import Exchange, Proxy, Rule, meanwhile
from tests.support.deliveries import proven, run_of, sent
from tests.support.small_disks import MIB, fill, small_disk
from tests.support.workloads import SmallWorkload

pytestmark = pytest.mark.whole

CHILD = Path(__file__).with_name("child.py")
REQUESTS = 190
MOMENTS = random.Random(20261125).sample(range(REQUESTS), 20)  # noqa: S311  a sample, not a secret


def kill_and_carry_on(laden: SmallWorkload, proxy: Proxy, seaweed: SeaweedFS, moment: int) -> None:
    """Killed as its so many-th request is under way: every second one is done all the same."""
    prefix, block, children = uuid4().hex, laden.block(), list[subprocess.Popen[bytes]]()
    with run_of(laden, store_of(seaweed, prefix=prefix)):
        pass  # sealed

    def kill(exchange: Exchange) -> None:
        children[0].send_signal(signal.SIGKILL)
        if moment % 2:
            exchange.pass_on(answer=False)
        else:
            exchange.cut()

    proxy.rules = [Rule(kill, ".*", "", skip=moment)]
    command = [sys.executable, "-m", "tests.integration.s3.child", block.model_dump_json()]
    environment = {**os.environ, "KEY": seaweed.access_key, "SECRET": seaweed.secret_key}
    with subprocess.Popen(
        [*command, proxy.endpoint, seaweed.bucket, prefix], env=environment, cwd=CHILD.parents[3]
    ) as child:
        children.append(child)
    assert child.returncode == -signal.SIGKILL
    proxy.rules = []
    store = store_of(seaweed, proxy.endpoint, prefix)
    with run_of(laden, store) as (context, seals):
        sent(context, seals)
        assert proven(context, seals, read_back=True).is_complete
        assert list(store.end_unfinished("incidents/")) == []
    assert max(proxy.stored("").values()) == 1


def store_of(server: SeaweedFS, endpoint: str = "", prefix: str = "") -> S3Store:
    """A store there, by another door if one is given."""
    return S3Store(server.bucket, prefix, credentials=_keys(server), endpoint=endpoint or server.endpoint)


def _keys(server: SeaweedFS) -> AwsCredentials:
    return AwsCredentials(
        aws_access_key_id=server.access_key,
        aws_secret_access_key=SecretStr(server.secret_key),
        region_name="us-east-1",
    )


@pytest.mark.parametrize("moment", MOMENTS[:1])
def test_killed_at_a_seeded_request(laden: SmallWorkload, proxy: Proxy, seaweed: SeaweedFS, moment: int) -> None:
    kill_and_carry_on(laden, proxy, seaweed, moment)


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_twenty_requests(laden: SmallWorkload, proxy: Proxy, seaweed: SeaweedFS, moment: int) -> None:
    kill_and_carry_on(laden, proxy, seaweed, moment)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SeaweedFS]:
    """A server that a test may kill."""
    server = SeaweedFS(tmp_path / "own")
    server.start()
    yield server
    kill(server)


def kill(server: SeaweedFS) -> None:
    """Server, keeper and all."""
    os.killpg(server.pid, signal.SIGKILL)
    server.stop()


@pytest.mark.parametrize("path", [pytest.param("/evidence/logs/", marks=pytest.mark.soak), "partNumber="])
def test_a_server_that_is_killed_in_mid_transfer_gets_only_the_rest_when_it_comes_back(
    laden: SmallWorkload, own: SeaweedFS, path: str
) -> None:
    with Proxy(own.endpoint) as proxy:
        proxy.rules = [Rule(meanwhile(lambda: kill(own)), path=path, skip=2)]
        with run_of(laden, store_of(own, proxy.endpoint)) as (context, seals), pytest.raises(TransientStoreError):
            sent(context, seals)
        own.start()
        with run_of(laden, store_of(own, proxy.endpoint)) as (context, seals):
            sent(context, seals)
            assert proven(context, seals, read_back=True).is_complete
        assert max(proxy.stored("").values()) == 1


@pytest.mark.soak
def test_a_server_without_room_says_so_and_what_is_missing_is_sent_when_it_has_some(
    laden: SmallWorkload, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "server disk", 300) as disk:
        server = SeaweedFS(disk / "own")
        server.start()
        with run_of(laden, store_of(server)) as (context, seals):
            ballast = fill(disk, 8 * MIB)
            with pytest.raises(TransientStoreError, match="that the store has room"):
                sent(context, seals)
        kill(server)
        ballast.unlink()
        server.start()
        with run_of(laden, store_of(server)) as (context, seals):
            sent(context, seals)
            assert proven(context, seals, read_back=True).is_complete
        kill(server)


def test_a_folder_without_room_says_so_and_what_is_missing_is_sent_when_it_has_some(
    laden: SmallWorkload, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "other disk", 30) as disk, run_of(laden, DirectoryStore(disk)) as (context, seals):
        with pytest.raises(PermanentStoreError, match="Free space there"):
            sent(context, seals)
        subprocess.run(["mount", "-o", "remount,size=90m", disk], check=True)
        sent(context, seals)
        assert proven(context, seals, read_back=True).is_complete
