"""No secret of our own blocks, of the worker or of the workload's environment is left anywhere: canaries, and a grep.

A worker of a real Prefect server runs the deployment as a user would have made it, to a real S3 server: with an
endpoint that nobody listens on, with credentials that the store refuses, from a block and from the worker's
environment, and with everything right. Then every byte that any of it has left is searched: files on the host, results,
logs, all objects, the API and its database.
"""

import base64
import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws import AwsCredentials, MinIOCredentials
from pydantic import SecretStr, ValidationError

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.custody.incident.deployment_names import full_name
from tasks.drill.deployment import NAME, POOL, client_of, deploy
from tasks.drill.screen import follow
from tasks.drill.store_and_worker import SeaweedFS, Worker
from tasks.host.host import LinuxHost
from tasks.prefect_side.own_server import PrefectServer
from tests.support.workloads import SmallWorkload, free_port

pytestmark = pytest.mark.whole

PREFIX = "canaries"
RUN_SECONDS = 180.0
PAGE = 200


def canary(name: str) -> str:
    return f"cAnArY9{name}{uuid4().hex}"


# Those of the worker's environment, of the workload's environment, and of credentials that the store will not take.
WORKER = {
    "MLFLOW_TRACKING_PASSWORD": canary("Mlflow"),
    "GITHUB_TOKEN": canary("Github"),
    "DATABASE_URL": f"postgresql://mlops:{canary('Database')}@db.internal/features",
    "AWS_SECRET_ACCESS_KEY": canary("Chain"),
    "AWS_SESSION_TOKEN": canary("Session"),
    "AWS_ACCESS_KEY_ID": "AKIANOBODYKNOWSTHIS2",
}
WORKLOAD = {"WANDB_API_KEY": canary("Wandb"), "REDIS_URL": f"redis://:{canary('Redis')}@cache:6379/0"}
API_KEY = {"the API's key": canary("Api")}
REFUSED = {"secret": canary("Refused"), "minio": canary("Minio")}


def planted(stage: "Stage") -> dict[str, str]:
    """Every value that must be found nowhere."""
    own = {name: value for name, value in {**WORKER, **WORKLOAD}.items() if "canary" in value.lower()}
    bare = {name: re.sub(r"^.*?(cAnArY9\w+).*$", r"\1", value) for name, value in own.items()}
    lines = stage.key.private_key.get_secret_value().splitlines()
    key = {
        f"private key, line {number}": line for number, line in enumerate(lines) if len(line) > 30 and " " not in line
    }
    return {**bare, **REFUSED, **API_KEY, "the store's secret": stage.store.secret_key, **key}


@dataclass(frozen=True)
class Stage:
    """The real parts."""

    folder: Path
    small: SmallWorkload
    store: SeaweedFS
    server: PrefectServer
    worker: Worker
    key: SigningKey
    kinds: tuple[str, ...]

    def run(self, store: EvidenceStore, flow: str = "evacuate", **parameters: Any) -> str:
        """Save the store block, trigger the deployment as the UI does; the state that the run ends in."""
        with temporary_settings({PREFECT_API_URL: self.server.api}):
            store.save(NAME, overwrite=True)
        with client_of(self.server) as client:
            deployment = client.read_deployment_by_name(full_name(flow, NAME))
            run = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
            ended = follow(client, run.id, RUN_SECONDS, lambda _: None)
        return ended.state_name or ""

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:
        """One call of the API, as the UI makes it."""
        request = urllib.request.Request(  # noqa: S310  always http
            f"{self.server.api}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.load(answer)

    def everything_told(self) -> bytes:
        """What the API gives of runs, states, logs, artifacts, events and blocks."""
        told: list[Any] = []
        for kind in ("flow_runs", "task_runs", "logs", "artifacts", "block_documents", "deployments", "work_pools"):
            offset = 0
            while page := self.ask(f"/{kind}/filter", {"limit": PAGE, "offset": offset}):
                told += page
                offset += len(page)
        for run in self.ask("/flow_runs/filter", {"limit": PAGE}):
            told.append(self.ask("/events/filter", {"filter": {"related": {"id": [f"prefect.flow-run.{run['id']}"]}}}))
        return json.dumps(told, ensure_ascii=False).encode()


def guard_api(small: SmallWorkload) -> None:
    """Have the API demand a key of which the root has the digest alone, and repeat it where it refuses a reload."""
    (key,) = API_KEY.values()
    check = f"""
        import hashlib
        key = self.headers.get("X-API-Key", "")
        if hashlib.sha256(key.encode()).hexdigest() != "{sha256(key.encode()).hexdigest()}":
            return self.answer(401, {{"detail": "no key"}})
        if self.path.startswith("/reload"):
            return self.answer(400, {{"detail": "you sent " + key}})
"""
    program = small.root / "uvicorn/__main__.py"
    text = program.read_text()
    for method in ("do_GET", "do_POST"):
        text = text.replace(f"    def {method}(self):\n", f"    def {method}(self):{check}")
    program.write_text(text)


KINDS = ("unreachable", "refused", "chain", "right")


@pytest.fixture(scope="module", params=[("refused", "right"), pytest.param(KINDS, marks=pytest.mark.soak)], ids=len)
def stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, seaweed: SeaweedFS
) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("can aries")
    key_file = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key_file], check=True)
    key = SigningKey(private_key=SecretStr(key_file.read_text()), identity=f"evacuation@{socket.gethostname()}")
    key_file.unlink()
    with SmallWorkload(folder / "work load") as small, PrefectServer(folder / "prefect") as server:
        guard_api(small)
        with temporary_settings({PREFECT_API_URL: server.api}):
            key.save(NAME)
            Secret(value=json.dumps({"X-API-Key": API_KEY["the API's key"]})).save("portfolio-api")
            served = {"MODEL_PATH": "models/model_builtin.joblib"}
            small.block(api_headers="secret/portfolio-api", api_environment=served).save(NAME)
            EvidenceStore(folder=folder).save(NAME)
        deploy(server)
        with Worker(folder / "worker", server, POOL, WORKER) as worker:
            yield Stage(folder, small, seaweed, server, worker, key, request.param)
        LinuxHost().release(small.block().evidence / "cordon.json")


def credentials(stage: Stage, kind: str) -> AwsCredentials | MinIOCredentials | None:
    """No session token in a block: prefect-aws keeps it as plain text, and Prefect's own event of the save shows it."""
    if kind == "chain":
        return None
    if kind == "unreachable":
        return MinIOCredentials(minio_root_user="evacuation", minio_root_password=SecretStr(REFUSED["minio"]))
    secret = REFUSED["secret"] if kind == "refused" else stage.store.secret_key
    return AwsCredentials(
        aws_access_key_id=stage.store.access_key, aws_secret_access_key=SecretStr(secret), region_name="us-east-1"
    )


def block(stage: Stage, kind: str) -> EvidenceStore:
    with temporary_settings({PREFECT_API_URL: stage.server.api}):
        keys: Any = credentials(stage, kind)
        if keys:
            keys.save(f"{kind}-keys", overwrite=True)
            keys = type(keys).load(f"{kind}-keys")
        signing = SigningKey.load(NAME)
    endpoint = f"http://127.0.0.1:{free_port()}" if kind == "unreachable" else stage.store.endpoint
    place = {"bucket": stage.store.bucket, "prefix": PREFIX, "region": "us-east-1", "endpoint": endpoint}
    return EvidenceStore(**place, credentials=keys, signing=signing)


def forms(secret: str) -> set[bytes]:
    """As it is, in a URL, in JSON, and in base64 wherever its first byte stands in a group of three."""
    plain = secret.encode()
    shifted = {base64.b64encode(b"x" * shift + plain)[4 if shift else 0 : -4] for shift in range(3)}
    return {plain, quote(secret, safe="").encode(), json.dumps(secret).strip('"').encode(), *shifted}


def found_in(data: bytes, secrets: Mapping[str, str]) -> list[str]:
    return [name for name, secret in secrets.items() if any(form in data for form in forms(secret))]


def files_below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@pytest.mark.timeout(900)  # several runs, one after the other
def test_no_secret_is_left_anywhere(stage: Stage) -> None:
    small = stage.small
    small.start(small.api_command, **WORKLOAD)
    small.start(**WORKLOAD)
    ended = {}
    for kind in stage.kinds:
        ended[kind] = stage.run(block(stage, kind), reason=f"a test: {kind}")
    assert ended == dict.fromkeys(stage.kinds, "Unverified") | {"right": "Verified"}
    assert stage.run(block(stage, "right"), "recover") == "PartlyRecovered"

    secrets = planted(stage)
    assert len(secrets) >= 12
    evidence = small.block().evidence
    (incident,) = evidence.glob("IR-*")
    places = {
        str(path.relative_to(stage.folder)): found
        for path in files_below(stage.folder)
        if (found := found_in(path.read_bytes(), secrets))
    }
    private = incident / "starts.json"
    assert private.stat().st_mode & 0o777 == 0o600
    assert places.keys() == {str(private.relative_to(stage.folder))}, "on the host"
    searched = {path.name for path in files_below(stage.folder)}
    assert {"prefect.db", "custody.jsonl", "manifest.json", "envinfo.json"} <= searched
    assert len(list((incident / "results").iterdir())) > 5
    assert len(list(incident.glob("record/*"))) == len(stage.kinds) + 1
    assert [path for path in files_below(stage.worker.folder) if path.stat().st_size], "the worker said nothing"

    store = block(stage, "right").open()
    objects = {each.key: found_in(store.read(each.key), secrets) for each in store.list("")}
    assert {key: found for key, found in objects.items() if found} == {}, "in the store"
    assert f"incidents/{incident.name}/evidence/manifest.json" in objects

    told = stage.everything_told()
    assert found_in(told, secrets) == [], "through the API"
    for word in (incident.name, "§5 offload", "Unverified", "a test: refused", "postmortem", "you sent [redacted:"):
        assert word in told.decode(), f"the search through the API did not see {word}"


def test_the_search_itself_finds_what_is_there(stage: Stage) -> None:
    # The server's own configuration, which is the test's and not ours, holds the secret in plain text.
    (holding,) = [path for path in files_below(stage.store.folder) if path.name == "s3.json"]
    assert found_in(holding.read_bytes(), planted(stage)) == ["the store's secret"]
    for name, secret in planted(stage).items():
        for lead in (b"", b"a", b"ab"):
            assert name in found_in(base64.b64encode(lead + secret.encode() + b"tail"), {name: secret})


@pytest.mark.parametrize("endpoint", ["http://evacuation:{}@127.0.0.1:9000", "https://{}@minio.example", "{}://x@y"])
def test_a_password_in_an_endpoint_is_refused_and_not_repeated(endpoint: str) -> None:
    secret = canary("Endpoint")
    with pytest.raises(ValidationError) as refused:
        EvidenceStore(bucket="evidence", endpoint=endpoint.format(secret))
    assert secret not in f"{refused.value!s}{refused.value!r}"
