"""Show with public tools that the drill's bucket keeps its objects, and that its signatures hold."""

import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks import SigningKey
from tasks.custody.evidence.keys import MANIFEST, SIGNATURE
from tasks.custody.fleet.frame import NAMESPACE
from tasks.custody.incident.incident import principal_of
from tasks.custody.store.signature import signer_line
from tasks.drill.store_and_worker import SeaweedFS
from tasks.system.installation import FLEET_KEY, FLEET_SIGNERS

LOCK: Final[dict[str, Any]] = {"lock": "governance", "lock_days": 1}
ALLOWED: Final = "allowed_signers"
IDENTITY: Final = "evacuation@drill"


def credentials(store: SeaweedFS) -> AwsCredentials:
    """Return those of the store's only user, who may do anything that a lock does not forbid."""
    secret = SecretStr(store.secret_key)
    return AwsCredentials(aws_access_key_id=store.access_key, aws_secret_access_key=secret, region_name="us-east-1")


def lock_bucket(store: SeaweedFS) -> None:
    """Enable Object Lock, which needs versions."""
    client = _client(store)
    client.put_bucket_versioning(Bucket=store.bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object_lock_configuration(Bucket=store.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"})
    client.close()


def new_key() -> SigningKey:
    """Return a key as `ssh-keygen -t ed25519` makes it, for the life of the drill's Prefect server."""
    text = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return SigningKey(private_key=SecretStr(text.decode()), identity=IDENTITY)


def write_frame_keys(folder: Path) -> None:
    """Write the key that signs frames of fleets, and who may: where the hosts of a drill look for them."""
    key = new_key()
    (folder / FLEET_KEY.name).touch(0o600)
    (folder / FLEET_KEY.name).write_text(key.private_key.get_secret_value())
    (folder / FLEET_SIGNERS.name).write_text(f"{signer_line('fleet@*', key.public_key, NAMESPACE)}\n")


def allowed_signers(key: SigningKey, *hosts: str) -> str:
    """Return the line by which an auditor allows the drill's key to sign for these hosts, or for this one."""
    return ",".join([*map(principal_of, hosts or [socket.gethostname()]), key.allowed_signers])


def refuses_deletion(store: SeaweedFS, key: str) -> bool:
    """Return whether even the store's own user cannot delete the object."""
    with closing(_client(store)) as client:
        try:
            version = client.head_object(Bucket=store.bucket, Key=key)["VersionId"]
            client.delete_object(Bucket=store.bucket, Key=key, VersionId=version)
        except ClientError as error:
            return error.response["Error"].get("Code") == "AccessDenied"
    return False


def proven_by_ssh_keygen(evidence: Path, signers: Path) -> str | None:
    """Return what `ssh-keygen -Y verify` prints of the manifest; None without that program, empty if it refuses."""
    if not (program := shutil.which("ssh-keygen")):
        return None
    command = [program, "-Y", "verify", "-f", str(signers), "-I", IDENTITY, "-n", "evacuation"]
    command += ["-s", str(evidence / SIGNATURE)]
    with (evidence / MANIFEST).open("rb") as manifest:
        process = subprocess.run(command, stdin=manifest, capture_output=True, text=True, check=False)
    return "" if process.returncode else process.stdout.strip()


def _client(store: SeaweedFS) -> Any:
    return credentials(store).get_boto3_session().client("s3", endpoint_url=store.endpoint)
