"""From a foreign service to Verified by the file that `evacuation init` writes, with a store that is a folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.whole

EVACUATION = Path(sys.executable).with_name("evacuation")
SERVE = """
import http.server, sys
handler = http.server.SimpleHTTPRequestHandler
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), handler).serve_forever()
"""
LOOP = "while :; do venv/bin/python jobs/fit.py --rounds 9; sleep 0.2; done"


def ended(*words: object) -> subprocess.CompletedProcess[str]:
    """Type a command, and let it end."""
    environment = {name: value for name, value in os.environ.items() if name != "S3_BUCKET"}
    command = [str(EVACUATION), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)


def test_a_service_of_another_kind_is_evacuated_by_its_first_file(small: SmallWorkload, tmp_path: Path) -> None:
    file, store = tmp_path / "house.toml", tmp_path / "store"
    for name, text in {"gate/serve.py": SERVE, "jobs/fit.py": "import time; time.sleep(0.5)", "all.sh": LOOP}.items():
        (small.root / name).parent.mkdir(exist_ok=True)
        (small.root / name).write_text(text)
    store.mkdir()
    small.start(["venv/bin/python", "gate/serve.py", str(small.port)])
    small.start(["sh", "all.sh"])
    wait_until(small.healthy, what="the API's answer")
    done = ended("init", small.root, "--output", file)
    assert done.returncode == 0, done.stderr
    named = f'root = "{small.root}"'
    text = file.read_text().replace(named, f'{named}\nlock = "{tmp_path}/lock"', 1)
    file.write_text(text.replace('# folder = "/mnt/evidence"', f'folder = "{store}"'))
    done = ended("run", file, "--reason", "a disk alarm")
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "Verified"), done
    assert small.living() == []
    assert ended("uncordon", file).returncode == 0
