"""From a bare host to Ready: a store that locks nothing and tells its clock, a key that is allowed, people who hear."""

import time
from pathlib import Path

import pytest

from blocks.signing_key import SigningKey
from tasks.drill.store_and_worker import SeaweedFS
from tests.integration.systemd.test_installed_units import VENV, Site, bare_host
from tests.support.booted_host import PROJECT, BootedHost
from tests.support.workloads import wait_until

STORE = """
[store.served]
bucket = "{bucket}"
endpoint = "{endpoint}"
allowed_signers = "{allowed}"

[store.served.credentials]
aws_access_key_id = "{access}"
aws_secret_access_key = "{secret}"
region_name = "us-east-1"

[store.served.signing]
identity = "{identity}"
key_file = "/etc/evacuation/signing.key"
"""
PROFILE = "/etc/evacuation/profiles.toml"
RECEIVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Taking(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
HTTPServer(("127.0.0.1", 8099), Taking).serve_forever()
"""
PEOPLE = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook
told = {"text": "{{subject}}: {{body}}"}
Webhook(name="ops", url="http://127.0.0.1:8099/", json_data=told).save("ops")
"""


def start_store(host: BootedHost, folder: Path) -> SeaweedFS:
    """Start an S3 server on the host, as a unit of its own."""
    store = SeaweedFS(folder)
    folder.mkdir()
    store._write_identity()
    host.write("/srv/s3/s3.json", (folder / "s3.json").read_text())
    host.run(["mkdir", "/srv/s3/data"], check=True)
    command = [word.replace(str(folder), "/srv/s3") for word in store.command()]
    host.run(["systemd-run", "--quiet", "--unit=s3", "--property=WorkingDirectory=/srv/s3", *command], check=True)
    asked = ["python3", "-c", "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=5)"]
    wait_until(lambda: not host.run([*asked, f"{store.endpoint}/healthz"]).returncode, what="the store")
    return store


def describe_store(site: Site, store: SeaweedFS, key: SigningKey) -> None:
    """Write the store into the workload's file, in the place of the folder, for root's eyes alone."""
    before = site.host.read(site.workload.file).partition("[store.")[0]
    about = STORE.format(
        bucket=store.bucket,
        endpoint=store.endpoint,
        access=store.access_key,
        secret=store.secret_key,
        allowed=f"evacuation@*,{key.allowed_signers}".replace('"', '\\"'),
        identity=key.identity,
    )
    site.host.write("/etc/evacuation/signing.key", key.private_key.get_secret_value())
    site.host.run(["chmod", "600", "/etc/evacuation/signing.key"], check=True)
    site.host.write(site.workload.file, before + about)
    site.host.run(["chmod", "600", site.workload.file], check=True)


@pytest.mark.soak
def test_a_bare_host_becomes_ready_and_is_then_evacuated(tmp_path: Path, signing_key: SigningKey) -> None:
    with bare_host(tmp_path / "site") as site:
        host, file = site.host, site.workload.file
        describe_store(site, start_store(host, tmp_path / "s3"), signing_key)
        host.run(["ln", "-s", str(PROJECT / ".venv/bin/py-spy"), f"{VENV}/bin/py-spy"], check=True)
        host.run(["systemd-run", "--quiet", "--unit=receiver", "python3", "-c", RECEIVER], check=True)
        began = time.monotonic()
        site.evacuation("install", file, "--server")
        wait_until(site.at_work, 240, what="the worker at its server")
        host.run(
            ["env", "HOME=/root", f"PREFECT_PROFILES_PATH={PROFILE}", f"{VENV}/bin/python", "-c", PEOPLE], check=True
        )
        site.evacuation("deploy", file, "--notify", "custom-webhook/ops")
        assert "DryRun: " in site.evacuation("plan", file, check=False).stdout
        done = site.evacuation("doctor", file, "--message", check=False)
        assert "Ready: " in done.stdout, done.stdout + done.stderr
        assert done.returncode == 0
        print(f"from the bare host to Ready: {time.monotonic() - began:.0f} s")
        ended = site.triggered(reason="a drill")
        assert ended.startswith("Verified: "), ended
