"""A signed evacuation to a real S3 server is audited: proven by the flow and by hand, until an object is changed."""

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import State
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from flows.audit import audit
from flows.command.commands import invoke
from flows.postmortem import postmortem
from flows.recover import recover
from tasks.custody.evidence import part_sizes
from tasks.drill.store_and_worker import SeaweedFS
from tests.support.scenes import Scene
from tests.support.shown import as_said, blocks_of, script_of
from tests.support.time_authority import TimeAuthority

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PROJECT = Path(__file__).parents[3]
EVACUATION = str(Path(sys.executable).with_name("evacuation"))


@pytest.fixture
def signed(scene: Scene, signing_key: SigningKey) -> Scene:
    """A scene whose store block names a key."""
    name = f"{scene.name}k"
    signing_key.save(name)
    block = scene.store_block.model_copy(update={"signing": SigningKey.load(name)})
    scene.save(store=block)
    return scene


@pytest.fixture
def stamped(signed: Scene, time_authority: TimeAuthority) -> Iterator[Scene]:
    """One whose store block names a time-stamp authority as well."""
    with time_authority.serving() as url:
        signed.save(store=signed.store_block.model_copy(update={"timestamp_url": url}))
        yield signed


@pytest.fixture
def known(signing_key: SigningKey, time_authority: TimeAuthority) -> dict[str, str]:
    """Whom an auditor trusts."""
    return {"allowed_signers": f"{signing_key.allowed_signers}\n", "tsa_roots": time_authority.roots}


@pytest.fixture
def client(seaweed: SeaweedFS, credentials: AwsCredentials) -> Iterator["S3Client"]:
    made = credentials.get_boto3_session().client("s3", endpoint_url=seaweed.endpoint)
    yield made
    made.close()


def run(scene: Scene, **parameters: object) -> State[Any]:
    """The flow, here."""
    return audit(scene.name, return_state=True, **parameters)


def artifacts(state: State[Any]) -> dict[str, str]:
    """What lies beside the run in the UI, by key."""
    this = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as server:
        return {str(each.key): str(each.data) for each in server.read_artifacts(artifact_filter=this)}


def by_hand(scene: Scene, seaweed: SeaweedFS, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The audit as an auditor runs it: a file that names the bucket, credentials of their own, no Prefect server."""
    store = folder / "store.toml"
    store.write_text(
        f'[store.archive]\nbucket = "{seaweed.bucket}"\nprefix = "{scene.store_block.prefix}"\n'
        f'endpoint = "{seaweed.endpoint}"\nsigning = "signing-key/of-the-host"\n'
    )
    keys = {"AWS_ACCESS_KEY_ID": seaweed.access_key, "AWS_SECRET_ACCESS_KEY": seaweed.secret_key}
    nowhere = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "AWS_DEFAULT_REGION": "us-east-1"}
    command = [EVACUATION, "audit", str(store), *arguments]
    environment = {**os.environ, **keys, **nowhere}
    return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)


def test_an_audit_proves_an_evacuation_and_says_which_object_was_changed_afterwards(
    signed: Scene, client: "S3Client", seaweed: SeaweedFS, signing_key: SigningKey, tmp_path: Path
) -> None:
    evacuated = signed.evacuate(reason="loss is NaN")
    assert evacuated.name == "Verified", evacuated.message
    incident, signers = signed.home.name, tmp_path / "allowed signers"
    signers.write_text(signing_key.allowed_signers + "\n")

    state = run(signed, incident_id=incident, allowed_signers=signers.read_text(), deep=True)
    assert (state.type.value, state.name) == ("COMPLETED", "Proven"), state.message
    assert f"signed by evacuation@{socket.gethostname()} (SHA256:" in str(state.message)
    shown = artifacts(state)
    assert shown["audit"].startswith(f"# PROVEN: {incident}")
    assert "nothing found" in shown["audit-findings"]

    done = by_hand(signed, seaweed, tmp_path, incident, "--signers", str(signers), "--deep")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"PROVEN incident={incident} objects=")

    listed = by_hand(signed, seaweed, tmp_path)
    assert listed.returncode == 0, listed.stderr
    heads, row, last, then = listed.stdout.splitlines()
    assert then.startswith(f"next: {shlex.quote(EVACUATION)} audit ")
    assert heads.split() == ["id", "opened", "host", "workload", "verdict", "records", "signed", "objects", "bytes"]
    assert row.split()[0] == incident
    assert row.split()[4:7] == ["VERIFIED", "1", "yes"]
    assert last.startswith("1 incidents")

    key = f"incidents/{incident}/evidence/models/model_builtin.joblib"
    name = f"{signed.store_block.prefix}/{key}"
    content = client.get_object(Bucket=seaweed.bucket, Key=name)["Body"].read()
    client.put_object(Bucket=seaweed.bucket, Key=name, Body=content[:-1] + b"\0", ChecksumAlgorithm="SHA256")

    state = run(signed, incident_id=incident, allowed_signers=signers.read_text())
    assert (state.type.value, state.name) == ("FAILED", "Broken"), state.message
    assert f"1 findings, first: broken: {key}: not what" in str(state.message)
    assert key in artifacts(state)["audit-findings"]
    done = by_hand(signed, seaweed, tmp_path, incident, "--signers", str(signers))
    assert done.returncode != 0
    assert f"broken: {key}: not what incidents/{incident}/evidence/manifest.json names" in done.stdout
    assert done.stdout.splitlines()[-1] == f"BROKEN incident={incident} objects={len(list_of(signed))} findings=1"


def list_of(scene: Scene) -> list[str]:
    """Keys of everything that an audit of the only incident compares."""
    return [each.key for each in scene.store.list("") if not each.key.startswith("latest/")]


@pytest.mark.soak
def test_an_incident_that_was_carried_on_and_then_recovered_is_proven_over_all_its_records(
    signed: Scene, signing_key: SigningKey
) -> None:
    signed.small.start_all()
    assert signed.evacuate(latest="never").name == "Verified"
    incident = signed.home.name
    (signed.small.root / "logs/train-20260101_000000.log").write_text("iteration 1\niteration 2\n")
    assert signed.evacuate(incident_id=incident).name == "Verified"
    back = recover(signed.name, signed.name, incident_id=incident, return_state=True)
    assert back.name == "Recovered", back.message
    state = run(signed, incident_id=incident, allowed_signers=signing_key.allowed_signers, deep=True)
    assert state.name == "Proven", state.message
    assert "VERIFIED (record/003)" in str(state.message)
    assert len(list((signed.home / "record").iterdir())) == 3


@pytest.mark.soak
def test_every_command_of_the_page_prints_what_the_page_says(
    stamped: Scene, seaweed: SeaweedFS, known: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_sizes, "ABOVE", part_sizes.PART // 4)
    (stamped.small.root / "artifacts/large.png").write_bytes(os.urandom(part_sizes.PART + 1))
    evacuated = stamped.evacuate()
    assert evacuated.name == "Verified", evacuated.message
    written = postmortem(stamped.name, stamped.name, by="ana", cause="no quota on the logs", return_state=True)
    assert written.name == "Written", written.message
    (page,) = (text for key, text in artifacts(written).items() if key.startswith("postmortem-"))
    assert "no quota on the logs" in page
    proven = run(stamped, incident_id=stamped.home.name, **known)
    assert proven.name == "Proven", proven.message
    assert "- Time 時刻: 20" in artifacts(proven)["audit"]
    (tmp_path / "allowed_signers").write_text(known["allowed_signers"])
    (tmp_path / "roots.pem").write_text(known["tsa_roots"])
    page = (PROJECT / "conformance/by-hand.md").read_text().partition("## By hand\n")[2].partition("\n## ")[0]
    (example, _), *commands = blocks_of(page)
    values = {
        "export AWS_ENDPOINT_URL": seaweed.endpoint,
        "BUCKET": seaweed.bucket,
        "PREFIX": stamped.store_block.prefix,
        "ID": stamped.home.name,
        "HOST": socket.gethostname(),
        "SIGNERS": "$PWD/allowed_signers",
        "TSA_ROOTS": "$PWD/roots.pem",
    }
    assert [line.split("=")[0] for line in example.splitlines()] == list(values)
    script = [*(f"{name}={value}\n" for name, value in values.items()), script_of(commands)]
    path = f"{PROJECT / '.venv/bin'}:{os.environ['PATH']}"
    keys = {"AWS_ACCESS_KEY_ID": seaweed.access_key, "AWS_SECRET_ACCESS_KEY": seaweed.secret_key}
    environment = {**os.environ, **keys, "PATH": path, "AWS_DEFAULT_REGION": "us-east-1"}
    bash = ["bash", "-euc", "".join(script)]
    done = subprocess.run(bash, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    as_said(commands, done.stdout)


@pytest.mark.whole
def test_a_run_without_an_id_lists_what_the_store_holds_and_an_unknown_id_is_refused(scene: Scene) -> None:
    state = run(scene)
    assert (state.type.value, state.name) == ("COMPLETED", "Listed"), state.message
    assert "none" in artifacts(state)["incidents"]
    refused = run(scene, incident_id="IR-20260102T030405Z")
    assert refused.type.value == "FAILED"
    assert "no object of it" in str(refused.message)
    assert run(scene, incident_id="IR-20260102T030405Z", allowed_signers="nonsense").type.value == "FAILED"


def test_a_store_whose_key_cannot_be_opened_can_still_be_read(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "right word", "-f", path], check=True)
    key = SigningKey.model_construct(
        private_key=SecretStr(path.read_text()), passphrase=SecretStr("wrong word"), identity="x@y"
    )
    key.save(f"{scene.name}k")
    scene.save(store=scene.store_block.model_copy(update={"signing": key}))
    with pytest.raises(RuntimeError, match="failed validation"):
        EvidenceStore.load(scene.name)
    assert run(scene).name == "Listed"
    assert invoke(["audit", scene.name]) == 0
