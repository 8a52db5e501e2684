"""A workload of very many files: what is written of them can be read back, and takes no more memory than said."""

import subprocess
import sys
from pathlib import Path

import pytest

MOST_MIB = 400
COMMON = """
import sys
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from blocks.directory import DirectoryStore
from tasks.custody.audit.untrusted import read_manifest
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import begun_key, evidence_key
from tasks.custody.store.manifest import Manifest, digest
from tasks.custody.store.latest import Act, LatestRow, LatestTransaction, ObjectRef
from tasks.latest.transaction import _create
from tasks.latest.history import history
from tasks.system.files.atomic_files import write_whole
count, folder, run = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
store, path = DirectoryStore(folder / "store"), folder / "manifest.json"
def sha(n): return sha256(str(n).encode()).hexdigest()
def name(n): return f"artifacts/{run}-{n // 1000:06d}/fold-{n % 1000:03d}/predictions-of-the-day.parquet"
def held(n, where): return ObjectRef(sha(n), n, where)
def row(n):
    old = held(-n, f"snapshots/20251231T030405Z/{name(n)}")
    return LatestRow(f"latest/{name(n)}", Act.REPLACE, old, held(n, f"snapshots/20260102T030405Z/{name(n)}"))
"""
STEPS = {
    "the manifest is written": """
files = tuple(StoredFile(name(n), name(n), n, sha(n), n, access="-rw-r--r-- 1000:1000") for n in range(count))
manifest = Manifest("IR-20260102T030405Z", 1, "2026-01-02T03:04:05Z", files)
write_whole(path, manifest.pieces())
assert manifest.digest_and_size == (digest(path), path.stat().st_size)
assert manifest.sums().count(b"\\n") == count + 1
""",
    "it is read on the host": "assert len(Manifest.at(path).files) == count",
    "it comes to the store": 'store.create(evidence_key("IR-20260102T030405Z", 1, path.name), path, digest(path))',
    "it is read as an auditor and a pull read it": """
files = read_manifest(store.stream(evidence_key("IR-20260102T030405Z", 1, path.name))).files
assert [(files[n].stored, files[n].sha256) for n in (0, count - 1)] == [(name(n), sha(n)) for n in (0, count - 1)]
""",
    "the turn is written": """
rows = tuple(map(row, range(count)))
at = datetime(2026, 1, 2, tzinfo=UTC)
_create(store, begun_key(1), LatestTransaction(1, "IR-20260102T030405Z", "guarded", "run", at, rows))
""",
    "the next turn reads it": """
last = history(store).last
assert (len(last.rows), last.rows[-1]) == (count, row(count - 1))
""",
}
PEAK = """
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) // 1024)
"""  # not ru_maxrss: that counts the memory of whoever started the process


def peaks(count: int, folder: Path, run: str = "run") -> dict[str, int]:
    """Do it all, each step in a process of its own; the most memory that each had, in MiB."""
    (folder / "store").mkdir()
    found = {}
    for what, step in STEPS.items():
        command = [sys.executable, "-c", COMMON + step + PEAK, str(count), str(folder), run]
        found[what] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


@pytest.mark.soak
def test_three_hundred_thousand_files_are_written_and_read_back_in_bounded_memory(tmp_path: Path) -> None:
    found = peaks(300_000, tmp_path)
    assert max(found.values()) < MOST_MIB, found


@pytest.mark.soak
def test_more_files_than_once_could_be_read_back(tmp_path: Path) -> None:
    """Above 59,000 files a turn, above 109,000 a manifest, was longer than the 32 MiB that were read of it.

    With longer names it is so with fewer files.
    """
    found = peaks(50_000, tmp_path, "run" * 80)
    assert (tmp_path / "manifest.json").stat().st_size > 32 << 20
    assert max(found.values()) < MOST_MIB, found
