"""The example policies on a real server with versions and Object Lock: what each identity can do, and cannot."""

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks.signing_key import SigningKey
from blocks.store import EvidenceStore
from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import AuditWord
from tasks.custody.audit.signers import read_signers
from tasks.custody.errors import Denied
from tasks.custody.evidence.keys import begun_key
from tasks.custody.incident.verdict import Verdict, Word
from tasks.drill.store_and_worker import SeaweedFS
from tasks.evidence.collect import collect
from tasks.evidence.seal import seal
from tasks.latest.promote import promote
from tasks.latest.pull import pull
from tasks.latest.rollback import RollbackRequest, rollback
from tasks.latest.transaction import NotOurs
from tasks.models.inspect import judge_models
from tasks.readiness.check_target import CheckTarget
from tasks.readiness.examine import PARTS, examine
from tasks.storage.offload import offload
from tests.support.holdings import Unheard, sha
from tests.support.run_context import INCIDENT, case_of, made
from tests.support.sealed_runs import evacuated
from tests.support.workloads import SmallWorkload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.whole

POLICIES = Path(__file__).parents[3] / "examples/policies"
NAMES = ("writer", "promoter", "auditor")
PREFIX = "team/portfolio"
MANIFEST = f"incidents/{INCIDENT}/evidence/manifest.json"


class Guarded(SeaweedFS):
    """A server with identities that may do nothing but what a policy allows them."""

    def __init__(self, folder: Path) -> None:
        """Make up their keys."""
        super().__init__(folder)
        self.keys = {name: (secrets.token_hex(10).upper(), secrets.token_hex(20)) for name in NAMES}

    def _write_identity(self) -> None:
        super()._write_identity()
        path = self.folder / "s3.json"
        known = json.loads(path.read_text())
        known["identities"] += [
            {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": []}
            for name, (key, secret) in self.keys.items()
        ]
        path.write_text(json.dumps(known))


@dataclass
class Place:
    """One bucket, its owner's client, and the credentials of each identity."""

    bucket: str
    endpoint: str
    owner: "S3Client"
    credentials: dict[str, AwsCredentials]

    def client(self, name: str) -> "S3Client":
        """A plain client of an identity."""
        client: S3Client = self.credentials[name].get_boto3_session().client("s3", endpoint_url=self.endpoint)
        return client

    def block(self, name: str, promoter: str = "", **fields: Any) -> EvidenceStore:
        """The store block of an identity."""
        return EvidenceStore(
            bucket=self.bucket,
            prefix=PREFIX,
            endpoint=self.endpoint,
            credentials=self.credentials[name],
            promoter=self.credentials[promoter] if promoter else None,
            **fields,
        )


def policy(bucket: str) -> str:
    """All examples in one bucket policy: this server knows no policies of users, so each names its user."""
    statements = []
    for name in NAMES:
        text = (POLICIES / f"{name}.json").read_text().replace("BUCKET", bucket).replace("PREFIX", PREFIX)
        who = {"AWS": f"arn:aws:iam::000000000000:user/{name}"}
        statements += [{**each, "Sid": name + each["Sid"], "Principal": who} for each in json.loads(text)["Statement"]]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, signing_key: SigningKey) -> Iterator[Place]:
    """A locked bucket with one incident in it, stored by the writer and promoted by the promoter."""
    with Guarded(tmp_path_factory.mktemp("guarded")) as server:
        keys = {"owner": (server.access_key, server.secret_key), **server.keys}
        credentials = {
            name: AwsCredentials(
                aws_access_key_id=key, aws_secret_access_key=SecretStr(secret), region_name="us-east-1"
            )
            for name, (key, secret) in keys.items()
        }
        owner = credentials["owner"].get_boto3_session().client("s3", endpoint_url=server.endpoint)
        owner.create_bucket(Bucket="vault", ObjectLockEnabledForBucket=True)
        owner.put_bucket_policy(Bucket="vault", Policy=policy("vault"))
        made = Place("vault", server.endpoint, owner, credentials)
        block = made.block("writer", "promoter", lock="governance", lock_days=2, signing=signing_key)
        evacuated(tmp_path_factory.mktemp("work") / "load", block.open(), None, block)
        yield made
        owner.close()


def test_an_incident_is_stored_proven_and_promoted_with_no_more_rights_than_these(
    place: Place, signing_key: SigningKey, tmp_path: Path
) -> None:
    auditor = place.block("auditor").open()
    audit = verify_incident(auditor, INCIDENT, read_signers(signing_key.allowed_signers), deep=True)
    assert audit.word is AuditWord.PROVEN, audit.summary
    assert "under governance" in audit.retained
    assert pull(auditor, "latest", tmp_path).is_complete


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("name", "act", "key"),
    [
        ("writer", "put_object", "latest/models/a"),
        ("writer", "put_object", begun_key(9)),
        ("writer", "put_object", "elsewhere"),
        ("writer", "delete_object", MANIFEST),
        ("writer", "delete_object", "latest/models/model_builtin.joblib"),
        ("writer", "get_object", "elsewhere"),
        ("promoter", "put_object", MANIFEST),
        ("promoter", "put_object", "incidents/IR-1/new"),
        ("promoter", "put_object", "snapshots/1/new"),
        ("promoter", "delete_object", MANIFEST),
        ("promoter", "delete_object", begun_key(1)),
        ("auditor", "put_object", "incidents/IR-1/new"),
        ("auditor", "put_object", "latest/models/a"),
        ("auditor", "delete_object", "latest/models/model_builtin.joblib"),
    ],
)
def test_each_is_denied_what_is_not_its_own(place: Place, name: str, act: str, key: str) -> None:
    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(place.client(name), act)(Bucket=place.bucket, Key=f"{PREFIX}/{key}")


@pytest.mark.parametrize("name", NAMES)
def test_none_can_switch_off_what_keeps_evidence(place: Place, name: str) -> None:
    client, key = place.client(name), f"{PREFIX}/{MANIFEST}"
    version = place.owner.head_object(Bucket=place.bucket, Key=key)["VersionId"]
    acts: dict[str, dict[str, Any]] = {
        "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Suspended"}},
        "put_bucket_policy": {"Policy": policy(place.bucket)},
        "delete_object": {"Key": key, "VersionId": version, "BypassGovernanceRetention": True},
    }
    for act, arguments in acts.items():
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(client, act)(Bucket=place.bucket, **arguments)


def test_the_stores_own_words_for_it(place: Place) -> None:
    with pytest.raises(Denied, match="s3:PutObject"):
        place.block("auditor").open().create("incidents/IR-1/new", b"1", sha("1"))


def test_a_writer_alone_skips_promotion_and_says_so(place: Place, small: SmallWorkload) -> None:
    before = place.block("owner").open().list("latest/")
    with case_of(small.block(), place.block("writer").open(), incident="IR-20260202T030405Z") as context:
        context.store.block = place.block("writer")
        made_of = tuple(made(collect.fn(context, name)) for name in ("logs", "models"))
        judge_models.fn(context, made_of)
        seals = (made(seal.fn(context, 1, made_of)),)
        offload.fn(context, seals, seals[0])
        done = made(promote.fn(context, seals, Verdict(Word.VERIFIED, (), (), (), ""), "guarded"))
    assert not done.is_complete, "once the right is granted, the next run of the incident promotes"
    assert "skipped, expected an identity that may change latest/; got AccessDenied" in done.summary
    assert list(place.block("owner").open().list("latest/")) == list(before)
    with pytest.raises(NotOurs, match="promoter"):
        rollback(place.block("writer").open_latest(), RollbackRequest("a writer"), Unheard())
    assert rollback(
        place.block("writer", "promoter").open_latest(), RollbackRequest("a promoter"), Unheard()
    ).is_complete


def test_an_overwritten_object_is_still_there_and_the_audit_names_it(place: Place) -> None:
    key = f"{PREFIX}/{MANIFEST}"
    first = place.owner.get_object(Bucket=place.bucket, Key=key)
    content = first["Body"].read()
    for overwriting in (b"{}", content):
        place.client("writer").put_object(Bucket=place.bucket, Key=key, Body=overwriting)
        audit = verify_incident(place.block("auditor").open(), INCIDENT, None, deep=False)
        assert audit.word is AuditWord.BROKEN
        told = [each.summary for each in audit.findings if each.object == MANIFEST]
        assert any("written or deleted again" in each for each in told)
    kept = place.owner.get_object(Bucket=place.bucket, Key=key, VersionId=first["VersionId"])
    assert kept["Body"].read() == content


def test_a_doctor_needs_no_other_right_than_an_evacuation_and_deletes_nothing(
    place: Place, small: SmallWorkload
) -> None:
    block = place.block("writer", "promoter", lock="governance", lock_days=2)
    saved = {name: getattr(block, name) for name in EvidenceStore.model_fields}
    found = examine(CheckTarget("test", small.block(), "store", saved), {"store": PARTS["store"][:6]})
    assert found.weights == {}, found.message
