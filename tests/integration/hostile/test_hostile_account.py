"""The campaign of the hostile account: it attacks, class by class, while root evacuates its workload by hand.

Nothing of root's may change by its doing, the first signal comes in time, and no word of the run is false.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import pytest

from blocks.workload import Workload
from tasks.incident.layout import EARLY, MEMORY
from tests.e2e.flow.test_by_hand import NOBODY, toml
from tests.support.accounts import PROJECT, Account, listening, own_network
from tests.support.attacks import ATTACKS, PROGRAM, Attack
from tests.support.workloads import SmallWorkload, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root is attacked by another account")

SECONDS = 2.0
BESIDE_OTHERS = 10.0
"""Until the first signal: alone on a machine, and beside other tests."""
SEED = os.environ.get("SEED", "30")
SECRET = "the secret of root's own file"
CONTAINED = {"Verified", "Partial", "Unverified"}


@dataclass
class Scene:
    """A workload of an account, and beside it a folder of root's in which nothing may change."""

    account: Account
    small: SmallWorkload
    block: Workload
    canary: Path
    store: Path
    bystander: psutil.Popen
    attackers: set[int]
    network: list[str]
    """What starts a program in the network that the attackers see."""

    def workload(self) -> dict[int, psutil.Process]:
        """What lives of the account beside the attackers and their children."""
        return {pid: each for pid, each in self.account.processes().items() if _session(pid) not in self.attackers}

    def watched(self) -> dict[str, tuple[int, int, int, str]]:
        """Owner, mode and digest of all in the folder of root's."""
        found = {}
        for path in (self.canary, *sorted(self.canary.rglob("*"))):
            about = path.lstat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = about.st_uid, about.st_gid, about.st_mode, content
        return found


def _session(pid: int) -> int:
    with suppress(ProcessLookupError):
        return os.getsid(pid)
    return 0


@contextmanager
def attacked(folder: Path, chosen: Sequence[Attack]) -> Iterator[Scene]:
    """The workload at work, and each attack begun. Nothing of it is left after."""
    with own_network() as network, Account(folder, network) as account, listening(network) as api:
        os.chown(folder, 0, 0)
        small, canary, store = SmallWorkload(folder / "root"), folder / "roots", folder / "store"
        inside = any(each.inside for each in chosen)
        block = small.block(
            evidence_dir=small.root / "evidence" if inside else folder / "evidence",
            lock=account.passing / "training.lock",
            grace_seconds=1,
            **({"api_port": api.getsockname()[1]} if any(each.kind == "look" for each in chosen) else {}),
        )
        (training,) = [each for each in chosen if each.is_training] or [Attack("", "")]
        (small.root / "src/train.py").write_text(training.source)
        for path in (small.root, *small.root.rglob("*")):
            account.give(path)
        store.mkdir(mode=0o700)
        bystander = _fill(canary)
        try:
            memory = str(MEMORY / f"evacuation-{hashlib.sha256(os.fsencode(block.evidence)).hexdigest()[:16]}")
            places = [small.root, block.evidence, canary, block.lock, account.passing, memory]
            account.start(*_training(small, account, training.program))
            wait_until(lambda: _trains(account), what=f"the training: {account.told()}")
            for each in (each for each in chosen if each.words):
                account.start([sys.executable, "-I", "-c", PROGRAM, *map(str, places), *each.words], Path("/"))
            count = sum(bool(each.words) for each in chosen)
            wait_until(lambda: len(_ready(account)) == count, what=f"attacks at work: {account.told()}")
            attackers = {_session(pid) for pid in _ready(account)}
            yield Scene(account, small, block, canary, store, bystander, attackers, network)
        finally:
            account.end()
            bystander.kill()
            bystander.wait()
            _clear(block, memory)
            subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)  # deeper than pytest can remove


def _fill(canary: Path) -> psutil.Popen:
    """Files of root's, and a process of root's that nothing may signal."""
    (canary / "folder").mkdir(parents=True)
    bystander = psutil.Popen(["sleep", "600"], cwd="/", start_new_session=True)
    for name, text, mode in (("public", "x", 0o644), ("secret", SECRET, 0o600), ("folder/closed", SECRET, 0o600)):
        (canary / name).write_text(text)
        (canary / name).chmod(mode)
    (canary / "pid").write_text(str(bystander.pid))
    return bystander


def _training(small: SmallWorkload, account: Account, program: str) -> tuple[list[str], Path]:
    python = ["venv/bin/python"]
    if program:
        copy = account.passing / program
        shutil.copy(Path(sys.executable).resolve(), copy)
        account.give(copy)
        python = ["env", f"PYTHONHOME={sys.base_prefix}", str(copy)]
    return [*python, *small.training_command[1:]], small.root


def _trains(account: Account) -> bool:
    """Whether its program runs: before that nobody can tell the training from what starts it."""
    return any("src/train.py" in each.cmdline() for each in account.processes().values())


def _ready(account: Account) -> list[int]:
    return [int(path.name.rpartition("-")[2]) for path in account.passing.glob("ready-*")]


def _clear(block: Workload, memory: str) -> None:
    """End the guard, wherever its marker lies, and remove what was made in memory."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "tasks.guard" in words and any(words[-1].startswith(str(each)) for each in (block.root.parent, memory)):
                process.kill()
    for path in MEMORY.glob(f"{Path(memory).name}*"):
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Ended:
    """How a run ended, when its first signal came, and all that it said."""

    state: str
    first: float
    text: str


def evacuate(scene: Scene, file: Path, *, cwd: bool = False) -> Ended:
    """Evacuate by hand, as root does whose Prefect server is gone."""
    told = json.loads(scene.block.model_dump_json(exclude_unset=True))
    fields = {name: value for name, value in told.items() if name in Workload.model_fields}
    file.write_text(toml("workload", "hostile", fields) + toml("store", "here", {"folder": str(scene.store)}))
    command = [*scene.network, str(Path(sys.executable).with_name("evacuation")), "run", str(file), "--json"]
    environment = {**os.environ, "PREFECT_API_URL": NOBODY}
    with (file.parent / "said").open("w+") as said, (file.parent / "told").open("w+") as errors:
        before = {pid for pid, each in scene.workload().items() if _stands(each)}
        began = time.monotonic()
        with subprocess.Popen(
            command, cwd=scene.small.root if cwd else "/", env=environment, stdout=said, stderr=errors
        ) as run:
            while run.poll() is None and not _is_signalled(scene, before):
                time.sleep(0.001)
            first = time.monotonic() - began
            run.wait(200)
        said.seek(0)
        errors.seek(0)
        answer, told_besides = said.read(), errors.read()
    state = json.loads(answer)["state"] if answer else f"exit code {run.returncode}"
    return Ended(state, first, answer + told_besides)


def _stands(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}
    return True


def _is_signalled(scene: Scene, before: set[int]) -> bool:
    journal = scene.block.evidence / EARLY  # written in the moment before the signals
    with suppress(OSError):
        if journal.is_file() and journal.lstat().st_uid == 0:
            return True
    return any(_stands(each) for pid, each in scene.workload().items() if pid not in before)


@cache
def usual_seconds() -> float:
    """What the command takes on this machine until its imports are done, without anybody who delays it."""
    began = time.monotonic()
    code = "import flows.command.freeze_before_import, flows.cli"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
    return time.monotonic() - began


def require_nothing_gained(scene: Scene, ended: Ended, before: Mapping[str, object], seconds: float) -> None:
    """Nothing of root's has changed, nothing was delayed, and what was said is true."""
    assert scene.watched() == before, ended.text
    assert scene.bystander.status() == psutil.STATUS_SLEEPING, "a process of root's was signalled"
    assert SECRET.encode() not in b"".join(path.read_bytes() for path in scene.store.rglob("*") if path.is_file())
    assert ended.first <= max(seconds, usual_seconds() + 1.5), f"the first signal came after {ended.first:.2f} s"
    assert ended.state in CONTAINED | {"NotContained", "Unanswered"}, ended.text
    if ended.state in CONTAINED:
        assert not scene.workload(), f"{ended.state}, and there live: {scene.account.told()}: {ended.text}"


def trial(folder: Path, chosen: Sequence[Attack], seconds: float = BESIDE_OTHERS) -> Ended:
    with attacked(folder, chosen) as scene:
        before = scene.watched()
        ended = evacuate(scene, folder.parent / "evacuation.toml", cwd=any(each.stands for each in chosen))
        require_nothing_gained(scene, ended, before, seconds)
    return ended


def sample() -> list[list[str]]:
    """An attack of each class, in runs of several at once."""
    chooser, kinds = random.Random(SEED), dict.fromkeys(each.kind for each in ATTACKS.values())  # noqa: S311
    may = [
        each
        for each in ATTACKS.values()
        if not each.dear and not (each.kind == "signal" and each.is_training)  # a run has one training
    ]
    of_kinds = [[each for each in may if each.kind == kind] for kind in kinds]
    chosen = [chooser.choice(each) for each in of_kinds if each]
    chosen.sort(key=lambda each: not each.is_training)
    return [[str(each) for each in chosen[first::2]] for first in (0, 1)]


@pytest.mark.soak
def test_without_an_attack_it_is_verified(tmp_path: Path) -> None:
    ended = trial(tmp_path / "place", [])
    assert ended.state == "Verified", ended.text


@pytest.mark.sample(1)
@pytest.mark.parametrize("names", sample(), ids=["some", "others"])
def test_an_attack_of_each_class_gains_nothing(tmp_path: Path, names: list[str]) -> None:
    trial(tmp_path / "place", [ATTACKS[name] for name in names])


@pytest.mark.soak
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_gains_anything(tmp_path: Path, name: str) -> None:
    trial(tmp_path / "place", [ATTACKS[name]], SECONDS)
