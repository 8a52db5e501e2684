"""No command starts Prefect's temporary server where none is named, nor leaves a process: it says what it needs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from blocks.directory import DirectoryStore
from flows.command import commands
from tasks.cli.thaw import thaw_by_hand
from tasks.containment.cordon import cordon
from tasks.containment.freeze import freeze
from tasks.custody.incident.exit_codes import EXIT_CODES, INCOMPLETE, REFUSED
from tasks.host.detached_process import GUARD
from tasks.host.host import LinuxHost
from tasks.incident.layout import PRIOR
from tests.support.holdings import FIRST, snapshot, turn_for
from tests.support.run_context import INCIDENT, case_of
from tests.support.workloads import SmallWorkload, wait_until

TYPED: Mapping[str, tuple[str, int | None]] = {
    "worker": ("worker", REFUSED),
    "run": ("run FILE --reason why", EXIT_CODES["Verified"]),
    "plan": ("plan FILE", EXIT_CODES["DryRun"]),
    "recover": ("recover FILE", REFUSED),
    "answer": ("answer FILE INCIDENT 7 end", REFUSED),
    "postmortem": ("postmortem FILE INCIDENT --title why", REFUSED),
    "postmortem shown": ("postmortem FILE INCIDENT", 0),
    "status": ("status FILE", 0),
    "doctor": ("doctor FILE --message", None),
    "thaw": ("thaw FILE", EXIT_CODES["Thawed"]),
    "thaw of what is thawed": ("thaw FILE", 0),
    "uncordon": ("uncordon FILE", INCOMPLETE),
    "audit": ("audit FILE", EXIT_CODES["Listed"]),
    "audit of saved credentials": ("audit CREDENTIALS", REFUSED),
    "audit of a saved store": ("audit saved-store", REFUSED),
    "rotate": ("rotate FILE KEY", REFUSED),
    "pull": ("pull FILE INTO", 0),
    "pull with saved credentials": ("pull CREDENTIALS INTO", REFUSED),
    "rollback": ("rollback FILE", 0),
    "rollback with saved credentials": ("rollback CREDENTIALS", REFUSED),
    "fleet run": ("fleet run lab", REFUSED),
    "fleet retry": ("fleet retry lab", REFUSED),
    "fleet status": ("fleet status lab", REFUSED),
    "fleet cancel": ("fleet cancel lab", REFUSED),
    "fleet thaw": ("fleet thaw lab", REFUSED),
    "deploy": ("deploy FILE", REFUSED),
    "deploy of what is saved": ("deploy --name test", REFUSED),
    "install": ("install FILE --dry-run", 0),
    "init": ("init ROOT --output NEW", 0),
    "key": ("key NEW", 0),
    "version": ("version", 0),
}
"""What is typed where no server is named, and its exit code; None if that depends on the machine."""
NEEDS_ITS_SERVER = {name for name in TYPED if name.startswith(("worker", "fleet", "deploy")) or "saved" in name}
SAMPLE = {
    "run",
    "recover",
    "thaw",
    "thaw of what is thawed",
    "uncordon",
    "audit of saved credentials",
    "fleet run",
    "deploy",
}
"""What the suite types; the soak types all."""
ALONE = {"drill": "starts servers of its own, and ends them", "uninstall": "would uninstall what this machine has"}


def test_every_command_is_here() -> None:
    every = {name for name in commands.app if not name.startswith("-")}
    assert {words.split()[0] for words, _ in TYPED.values()} | {*ALONE} == every - {"evacuate"} - synonyms()


def synonyms() -> set[str]:
    """The second names of commands."""
    acts = {name: commands.app[name].default_command for name in commands.app if not name.startswith("-")}
    first = dict[object, str]()
    return {name for name, act in acts.items() if first.setdefault(act, name) != name}


def left_in(home: Path) -> list[psutil.Process]:
    """The processes whose PREFECT_HOME is this folder, but for guards, which outlive a run by their purpose."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT_HOME") == str(home) and GUARD not in process.cmdline():
                found.append(process)
    return found


@pytest.fixture
def prefect_home(tmp_path: Path) -> Iterator[Path]:
    """A home of Prefect's without a profile, as on a host where nobody has ever set a server up."""
    yield (home := tmp_path / "prefect")
    for process in left_in(home):
        process.kill()


@pytest.mark.whole
@pytest.mark.sample(1)
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in SAMPLE else pytest.mark.soak) for each in TYPED]
)
def test_it_starts_no_server_and_leaves_no_process(
    small: SmallWorkload, tmp_path: Path, prefect_home: Path, name: str
) -> None:
    block, (words, code) = small.block(), TYPED[name]
    (folder := tmp_path / "store").mkdir()
    turn_for(DirectoryStore(folder), snapshot(DirectoryStore(folder), FIRST, model="1"))
    (into := tmp_path / "into").mkdir()
    file, saved = tmp_path / "evacuation.toml", tmp_path / "saved.toml"
    own = f"api_pattern = 'port {small.port}$'\ntraining_pattern = 'seed {small.port}$'\nworker_pattern = 'none'\n"
    table = f'[workload.test]\n{own}root = "{block.root}"\nlock = "{block.lock}"\nevidence_dir = "{block.evidence}"\n'
    store = f'{table}pause_deployments = ["train/nightly"]\n' if name.startswith("uncordon") else table
    file.write_text(f'{store}[store.test]\nfolder = "{folder}"\n')
    saved.write_text(f'{table}[store.test]\nbucket = "s3://b/p"\ncredentials = "aws-credentials/x"\n')
    if name.startswith(("thaw", "uncordon", "answer", "postmortem")):
        opened(small, twice=name == "thaw of what is thawed", file=file)
    if name == "uncordon":
        rows = [{"kind": "deployment", "name": "train/nightly", "paused_before": False}]
        (block.evidence / PRIOR).write_text(json.dumps(rows))
    named = {"FILE": file, "CREDENTIALS": saved, "INTO": into, "KEY": tmp_path / "k", "ROOT": block.root}
    named["NEW"] = tmp_path / "new"
    typed = [str(named.get(word, INCIDENT if word == "INCIDENT" else word)) for word in words.split()]
    environment = {each: value for each, value in os.environ.items() if not each.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(prefect_home), "PREFECT_PROFILES_PATH": str(prefect_home / "profiles.toml")}
    environment |= {"DO_NOT_TRACK": "1", "PREFECT_SERVER_EPHEMERAL_ENABLED": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", *typed],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
    )
    told = done.stdout + done.stderr
    LinuxHost().release(block.evidence / "cordon.json")
    assert code in {None, done.returncode}, told
    assert [path.name for path in prefect_home.glob("*.db*")] == [], told
    assert "temporary server" not in told
    assert "Traceback" not in told
    assert ("PREFECT_API_URL" in told) >= (name in NEEDS_ITS_SERVER), told
    wait_until(lambda: not left_in(prefect_home), 10, what=f"the end of what was started: {left_in(prefect_home)}")


def opened(small: SmallWorkload, *, twice: bool, file: Path) -> None:
    """An incident that a run has frozen and left; thawed by hand, if it is thawed `twice`."""
    block = small.block()
    small.start_all()
    with case_of(block) as context:
        (block.evidence / "open.json").write_bytes((context.directory.path / "incident.json").read_bytes())
        cordon.fn(context)
        freeze.fn(context)
    if twice:
        assert thaw_by_hand(str(file)) == 0
