"""Code of root's own that an account without a file of it runs: that account is the workload's, too."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tasks.custody.incident.exit_codes import EXIT_CODES
from tests.integration.host.test_false_groups import whole
from tests.integration.host.test_suspects import apart
from tests.support.accounts import PROJECT, Account
from tests.support.workloads import SmallWorkload, open_the_way

PYTHON, NOBODY = "/usr/bin/python3", 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
WATCH = """
import ctypes, sys, time
where, ready = open(sys.argv[1]).read().splitlines()
library = ctypes.CDLL(None)
assert library.inotify_add_watch(library.inotify_init(), where.encode(), 0x100) > 0
open(ready, "w").close()
time.sleep(606)
"""
WRITE = """
import sys, time
place = open(sys.argv[1]).read()
while True:
    open(place, "w").write(str(time.time()))
    time.sleep(0.3)
"""
COMMANDS = """
import json, subprocess, sys
from pathlib import Path
from tests.support.workloads import SmallWorkload
with SmallWorkload(Path(sys.argv[1]) / "work load") as small:
    small.start_all()
    file, store = Path(sys.argv[1]) / "evacuation.toml", Path(sys.argv[1]) / "store"
    store.mkdir()
    block = small.block()
    own = {"root": small.root, "lock": block.lock, "evidence_dir": block.evidence, "api_url": block.api_url}
    own |= {"api_pattern": f"uvicorn .*--port {small.port}", "training_pattern": f"--dataset {small.dataset} "}
    lines = "".join(f"{name} = {json.dumps(str(value))}\\n" for name, value in own.items())
    lines += f"grace_seconds = 5\\nwatch_seconds = 0.2\\napi_command = {json.dumps(small.api_command)}\\n"
    file.write_text(f"[workload.a]\\n{lines}[store.a]\\nfolder = {json.dumps(str(store))}\\n")
    told = {}
    for words in (["plan"], ["run"], ["status"], ["recover", "--model", "models/model_builtin.joblib"]):
        command = [sys.executable, "-m", "flows.cli", words[0], str(file), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True)
        told[words[0]] = done.returncode, done.stdout + done.stderr
    (home,) = block.evidence.glob("IR-*")
    command = [sys.executable, "-m", "flows.cli", "audit", str(store), home.name]
    done = subprocess.run(command, capture_output=True, text=True)
    told["audit"] = done.returncode, done.stdout + done.stderr
    told["incident"] = 0, (home / "incident.json").read_text()
    print(json.dumps(told))
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@pytest.fixture
def open_root(tmp_path: Path) -> Path:
    """Where everybody may write, and that names the root in a file alone."""
    open_the_way(tmp_path)
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", NOBODY, NOBODY)
    return tmp_path / "theirs"


@pytest.mark.short(1)
@pytest.mark.parametrize("known_by", ["the block", "what was frozen", "nothing"])
def test_who_watches_the_root_as_that_account_is_asked_about(
    small: SmallWorkload, open_root: Path, known_by: str
) -> None:
    open_the_way(small.root)
    (open_root / "where").write_text(f"{small.root}\n{open_root}/ready")
    command = [PYTHON, "-c", WATCH, str(open_root / "where")]
    with apart(command, Path("/"), open_root / "ready", by=AS_NOBODY) as watcher:
        if known_by == "what was frozen":
            with apart(small.training_command, small.root, by=AS_NOBODY):
                seen = whole(small)
        else:
            seen = whole(small, **({"user": "nobody"} if known_by == "the block" else {}))
        assert watcher.is_running()
        assert [each.identity.pid for each in seen.unknown] == [watcher.pid] * (known_by != "nothing"), seen.summary


@pytest.mark.whole
def test_who_writes_under_an_editors_name_is_heard(small: SmallWorkload, open_root: Path) -> None:
    (small.root / "data").mkdir()
    os.chown(small.root / "data", NOBODY, NOBODY)
    open_the_way(small.root)
    shutil.copy(os.path.realpath(PYTHON), open_root / "less")
    (open_root / "where").write_text(f"{small.root}/data/state")
    command = [str(open_root / "less"), "-c", WRITE, str(open_root / "where")]
    with apart(command, Path("/"), small.root / "data/state", by=AS_NOBODY) as writer:
        seen = whole(small, watch_seconds=2)
        assert writer.is_running()
        assert any("data/state" in each for each in seen.alive), seen.summary  # heard, or met as it has it open


def test_an_account_without_an_entry_evacuates_looks_recovers_and_audits(tmp_path: Path) -> None:
    """Its number stands for its name. It alone sees a look-up of a name that ends a command."""
    open_the_way(tmp_path)
    with Account(tmp_path / "theirs") as account:
        told = json.loads(account.run([sys.executable, "-c", COMMANDS, str(account.folder)], PYTHONPATH=str(PROJECT)))
    for verb, (_, shown) in told.items():
        assert "Traceback" not in shown, (verb, shown)
    assert told["run"][0] in {EXIT_CODES["Verified"], EXIT_CODES["Partial"], EXIT_CODES["Unverified"]}, told["run"][1]
    assert told["recover"][0] in {EXIT_CODES["Recovered"], EXIT_CODES["PartlyRecovered"]}, told["recover"][1]
    assert json.loads(told["incident"][1])["opened_by"].startswith(f"{account.uid}, flow run")
