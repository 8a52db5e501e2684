"""What the offload is compared with: the runbook's own commands as they are typed, and the quickest public clients."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import own_session
from benchmarks.relay import Relay
from tasks.drill.store_and_worker import SeaweedFS

_PUSH: Final = r"""
mkdir -p "$EVD/artifacts"
find artifacts -type f -exec cp -n -t "$EVD/artifacts" {} +
(cd "$EVD" && find artifacts -type f -print0 | xargs -0 sha256sum > SHA256SUMS)
aws s3 sync . "$S3_BUCKET/snapshots/$STAMP/" --only-show-errors
aws s3 sync . "$S3_BUCKET/latest/" --delete --only-show-errors
aws s3 sync "$EVD/" "$S3_BUCKET/incidents/IR-$STAMP/evidence/" --only-show-errors
"""
_RCLONE: Final = (
    "--transfers=16", "--checkers=16", "--s3-chunk-size=16M", "--s3-upload-cutoff=64M", "--s3-upload-concurrency=8",
    "--s3-disable-checksum", "--s3-no-check-bucket", "--s3-no-head", "--no-check-dest", "--ignore-checksum",
)  # fmt: skip


@dataclass(frozen=True)
class Reach:
    """How clients reach a server: its endpoint for them, what stands before a command, and a relay that counts."""

    server: SeaweedFS
    endpoint: str
    before: tuple[str, ...] = ()
    relay: Relay | None = None


def runbook_push(root: Path, evidence: Path, stamp: str, reach: Reach) -> None:
    """Runbook §4 and §5: copy, sum up, and three times `aws s3 sync`. The evidence lies outside of the root."""
    given = {"EVD": str(evidence), "STAMP": stamp, "S3_BUCKET": f"s3://{reach.server.bucket}/typed"}
    _run(["bash", "-euo", "pipefail", "-c", _PUSH], root, reach, given)


def s5cmd(root: Path, prefix: str, reach: Reach) -> None:
    """Its own defaults: 256 workers. No SHA-256."""
    where = f"s3://{reach.server.bucket}/{prefix}/"
    _run([str(_beside("s5cmd")), "--log", "error", "cp", "./", where], root, reach)


def rclone(root: Path, prefix: str, reach: Reach) -> None:
    """Tuned: sixteen files and eight parts at a time, and none of its own checks."""
    remote = f":s3,provider=Other,env_auth=true,endpoint='{reach.endpoint}':{reach.server.bucket}/{prefix}"
    _run(["rclone", "--config", "", "copy", *_RCLONE, ".", remote], root, reach)


def present() -> Mapping[str, bool]:
    """Which of the clients this machine has."""
    return {"s5cmd": _beside("s5cmd").exists(), "rclone": shutil.which("rclone") is not None}


def environment(server: SeaweedFS, endpoint: str = "") -> dict[str, str]:
    """Whom every client of a server speaks for, and to whom: no profile of the user is read, and no TLS is spoken."""
    ours = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint or server.endpoint,
        "S3_ENDPOINT_URL": endpoint or server.endpoint,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"} | ours


def _run(command: Sequence[str], folder: Path, reach: Reach, more: Mapping[str, str] | None = None) -> None:
    """Run a client to its end; whatever it has started ends with us."""
    env = {**environment(reach.server, reach.endpoint), **(more or {})}
    whole = [*reach.before, *command]
    with own_session(whole, cwd=folder, env=env) as client:
        if client.wait():
            raise subprocess.CalledProcessError(client.returncode, whole)


def _beside(program: str) -> Path:
    return Path(sys.executable).parent / program
