"""Make version_0_1.tar.gz, what version 0.1 leaves on a host and in a store: `python tests/e2e/upgrade/make.py`.

Run as root. The code of that version is taken out of git and evacuates a small workload, without a Prefect server,
in namespaces of its own: the host is called gpu1, and nothing of the machine that makes it is seen. README.md says
what is in it.
"""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Final

CODE: Final = "21735771"
PLACE: Final = Path("/tmp/evacuation-0.1")  # noqa: S108  in the sealed files: a place that every machine has
PORT: Final = 18471
ARCHIVE: Final = Path(__file__).with_name("version_0_1.tar.gz")
HERE: Final = Path(__file__).resolve().parents[3]
HOST: Final = """set -eu
hostname gpu1
for place in $(awk '$2 ~ "^/(mnt|media|run|srv|home)" {print $2}' /proc/self/mounts); do umount --lazy "$place"; done
mount -t tmpfs none /opt
mount -t tmpfs none /dev/shm
mkdir /opt/evacuation /opt/host /opt/bin
git -C "$1" archive "$2" | tar x -C /opt/evacuation
ln -s "$1/.venv" /opt/evacuation/.venv
cp "$1/tests/e2e/upgrade/make.py" /opt/host
echo 'import platform; platform.release = lambda: "6.1.0"' > /opt/host/sitecustomize.py
echo '127.0.0.1 localhost gpu1' > /opt/host/hosts
echo 'Linux version 6.1.0' > /opt/host/version
echo 'quiet' > /opt/host/cmdline
mount --bind /opt/host/hosts /etc/hosts
mount --bind /dev/null /etc/resolv.conf
mount --bind /opt/host/version /proc/version
mount --bind /opt/host/cmdline /proc/cmdline
test ! -e /proc/modules || mount --bind /dev/null /proc/modules
for program in bash df flock git ip lsof ps ss ssh-keygen tee; do ln -s "$(command -v "$program")" /opt/bin; done
ip link set lo up
cd /opt/evacuation
exec env -i PATH=/opt/bin HOME=/opt/host LANG=C.UTF-8 PYTHONPATH=/opt/evacuation:/opt/host PYTHONDONTWRITEBYTECODE=1 \
    .venv/bin/python /opt/host/make.py
"""
HALFWAY: Final = """
import os, signal, sys
from blocks.directory import DirectoryStore
from flows import by_hand
publish, done = DirectoryStore._publish, []
def half(self, written, path, key, sha256, *, replace):
    if len(done) >= 25:
        os.kill(os.getpid(), signal.SIGKILL)
    publish(self, written, path, key, sha256, replace=replace)
    done.append(key)
DirectoryStore._publish = half
by_hand.main(sys.argv[1:])
"""
DIE: Final = "tests/flow/die.py"
PROGRAMS: Final = {"venv", "src", "uvicorn"}
GUARD: Final = """
import sys, tasks.guard, tasks.host
print(*(module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "tasks"), sep="\\n")
"""


def main() -> None:
    """Build a host for it, and keep what comes out."""
    spaces = ("--mount", "--uts", "--ipc", "--net", "--cgroup", "--pid", "--fork", "--mount-proc", "--kill-child")
    PLACE.mkdir(mode=0o700)
    try:
        made = subprocess.run(
            ["unshare", *spaces, "sh", "-c", HOST, "sh", HERE, CODE], stdout=subprocess.PIPE, check=True
        )
    finally:
        shutil.rmtree(PLACE)
    with ARCHIVE.open("wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as packed:
        packed.write(made.stdout)


def inside() -> None:
    """Have each of the incidents, and write an archive of all of it to our standard output."""
    left("verified", "-m", "flows.by_hand", signed=True)
    left("half-sent", "-c", HALFWAY, dies=True)
    left("in-the-grace", DIE, "deviation", "thaw", dies=True)
    left("before-the-freeze", DIE, "step done", "§1 cordon", dies=True)
    keep_code()
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for path in sorted(PLACE.rglob("*")):
            if PROGRAMS.isdisjoint(path.parts):
                archive.add(path, str(path.relative_to(PLACE)), recursive=False, filter=_nobody_s)


def left(name: str, *run: str, signed: bool = False, dies: bool = False) -> None:
    """One incident as its run, which may die, has left it; a newcomer came afterwards, and the guard caught it."""
    workloads = import_module("tests.workloads")  # of that version

    place = PLACE / name
    (place / "store").mkdir(parents=True)
    with workloads.SmallWorkload(place / "root") as small:
        small.port = PORT
        small.start_all()
        file = place / "evacuation.toml"
        file.write_text(described(place, small.api_command))
        given = with_key(file) if signed else file
        ended = subprocess.run([sys.executable, *run, given], check=False, stdout=sys.stderr)
        if ended.returncode != (-signal.SIGKILL if dies else 0):
            raise SystemExit(f"{name}: it ended with {ended.returncode}")
        small.start(WORKERS="0")
        evidence = place / "evidence"
        workloads.wait_until(lambda: "src/train.py" in _text(evidence, "caught-*.jsonl"), what="the guard's catch")
        os.kill(json.loads(_text(evidence, "cordon.json"))["pid"], signal.SIGKILL)


def described(place: Path, api: list[str]) -> str:
    """The file that an operator would have written."""
    return f"""[workload.portfolio]
root = "{place}/root"
host = "gpu1"
lock = "{place}/train.lock"
evidence_dir = "{place}/evidence"
api_command = {json.dumps(api)}
api_url = "http://127.0.0.1:{PORT}"
grace_seconds = 5
watch_seconds = 0.2
recovery_seconds = 20
reserve_mb = 1

[store.portfolio]
folder = "{place}/store"
"""


def with_key(file: Path) -> Path:
    """The same with a key, which is lost afterwards; who may sign is kept."""
    key, identity = Path("/opt/host/key"), "evacuation@gpu1"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", identity, "-f", key], check=True)
    file.with_name("signers").write_text(f"{identity} {key.with_suffix('.pub').read_text()}")
    signing = f"signing = {{identity = {json.dumps(identity)}, private_key = {json.dumps(key.read_text())}}}\n"
    given = key.with_suffix(".toml")
    given.write_text(file.read_text() + signing)
    return given


def keep_code() -> None:
    """Keep the code of the guard and of whoever starts it: one that stands goes on while the host is upgraded."""
    listed = subprocess.run([sys.executable, "-S", "-P", "-c", GUARD], check=True, capture_output=True, text=True)
    with zipfile.ZipFile(PLACE / "guard.zip", "w") as packed:
        for path in sorted(listed.stdout.splitlines()):
            packed.writestr(zipfile.ZipInfo(str(Path(path).relative_to(Path.cwd()))), Path(path).read_bytes())


def _text(folder: Path, pattern: str) -> str:
    return "".join(path.read_text() for path in folder.glob(pattern))


def _nobody_s(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    inside() if os.environ.get("HOME") == "/opt/host" else main()
