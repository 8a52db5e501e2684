"""What no word of a run may claim, by what is true of the world."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.audit.verify import verify_incident
from tasks.custody.audit.finding import Severity
from tasks.custody.containment.identity import Identity
from tasks.custody.containment.receipt import End as Fate
from tasks.custody.evidence.keys import beside_key, record_key
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.log import broken
from tasks.custody.store.manifest import Manifest, digest
from tasks.custody.store.objects import all_objects
from tasks.evidence.signing import read_signature
from tasks.incident.current import read_incident
from tests.simulation.run import End
from tests.simulation.store import Moods
from tests.simulation.world import World

NOT_ALLOWED = "identity that may change latest/"
"""What a verdict says of a promotion that the store did not allow."""
_DONE = frozenset({"Verified", "Partial"})
_PROVEN = _DONE | {"Unanswered"}


def homes(world: World) -> list[Path]:
    """The folders of the incidents."""
    return sorted(world.folder.glob("evidence/IR-*"))


def named(message: str) -> set[int]:
    """The processes that a message names."""
    return {int(pid) for pid in re.findall(r"\b50\d{6}\b", message)}


def seen_alive(world: World) -> dict[int, str]:
    """What lives of the workload, and lived when the run's last check began."""
    host = world.host
    until = int(host.checked_at * 100)
    return {pid: " ".join(each.command) for pid, each in host.workload().items() if each.identity.start < until}


def audit_contradicts(world: World, end: End) -> list[str]:
    """What an audit of the store, every byte of it read, holds against an incident that ended Verified."""
    world.store.moods, world.store.happens = Moods(), len
    found = verify_incident(world.store, end.incident, None, deep=True).findings
    bad = {Severity.BROKEN, Severity.UNSENT}
    return [f"it is Verified, and the audit says {each.summary}" for each in found if each.severity in bad]


def false_words(world: World, end: End) -> list[str]:
    """All that is not so, one line each."""
    return [*_false_words(world, end), *world.host.touched, *world.store.wrong]


def _false_words(world: World, end: End) -> Iterator[str]:
    if end.trouble:
        yield f"{end.name}: {end.trouble[-1500:]}"
        return
    yield from _contained(world, end)
    yield from _stored(world, end)
    for home in homes(world):
        yield from _receipts(world, home)
        yield from _sealed(world, home, end)
    if end.name == "Thawed":
        yield from _thawed(world)


def _contained(world: World, end: End) -> Iterator[str]:
    alive, host = seen_alive(world), world.host
    claims = end.name in _DONE or "the workload is contained" in end.message or "cancelled: contained" in end.message
    if end.completed and end.name not in {"Verified", "Finished", "Thawed", "Joined"}:
        yield f"it is green, and ended {end.name}"
    if claims and alive:
        yield f"it says contained, and there lives {alive}"
    untold = [alive[pid] for pid in alive.keys() - named(end.message)]
    if "everything that is known of the workload is stopped" in end.message and untold:
        yield f"it asks for others, and there lives {untold}"
    if "frozen, not stopped" in end.message and (running := [pid for pid in alive if host.runs(pid)]):
        yield f"it says frozen, and {running} run"
    if end.name == "Verified":
        yield from _brings_again(world, end)


def _brings_again(world: World, end: End) -> Iterator[str]:
    """What will start the workload again under a green word; one that has not yet done so is to be told, no more."""
    host, home = world.host, world.folder / "evidence" / end.incident
    told = named(max(home.glob("record/*/verdict.json")).read_text())
    frozen = {Identity(**row["identity"]) for row in _rows(home, "frozen-*.json")}
    for pid, life in host.lives.items():
        waits = life.brings and host.runs(pid) and life.charge in frozen and not host.get_process(life.charge)
        if waits and pid not in told:
            yield f"it is green, and {host.processes[pid].command} will bring {life.brings} again, and is not told"
    opened = getattr(read_incident(home), "opened_at", datetime.max.replace(tzinfo=UTC))
    rows = [json.loads(line) for path in home.parent.glob("caught-*.jsonl") for line in path.read_text().splitlines()]
    late = (row for row in rows if "identity" in row and datetime.fromisoformat(row["at"]) >= opened)
    met = frozen | {Identity(**row["identity"]) for row in late}
    born = host.ended | {each.identity: host.lives[pid] for pid, each in host.processes.items()}
    seen = {life.unit for who, life in born.items() if who in met}
    for unit, about in host.systemd.units.items():
        if about["ActiveState"] != "inactive" and unit in seen:  # of others nobody can know
            yield f"it is green, and {unit} is {about['ActiveState']} and will bring it again"


def _rows(home: Path, pattern: str) -> list[dict[str, Any]]:
    return [row for path in home.glob(pattern) for row in json.loads(path.read_text())]


def _stored(world: World, end: End) -> Iterator[str]:
    home = world.folder / "evidence" / end.incident
    incident = read_incident(home) if end.incident and home.exists() else None
    if not incident:
        return
    if end.name in _PROVEN or re.search(r"cancelled: [^.]*(?<!not )stored", end.message):
        lost = last_verdict(world, end).partition('"missing"')[2] if end.name != "Verified" else ""
        for folder in _volumes(home):
            for item in all_objects(Manifest.at(folder / "manifest.json"), incident.snapshot, read_signature(folder)):
                keys = (item.key, beside_key(end.incident, item.sha256))
                held = any(world.store.holds(key, item.sha256) for key in keys)
                if not held and item.key.split("/", 2)[-1] not in lost:
                    yield f"it ended {end.name}, and the store does not have {item.key}"
    if end.name == "Verified":
        yield from _whole(world, home, incident)
    ours = [key for key in world.store.keys(f"incidents/{end.incident}/") if not key.endswith("/claim.json")]
    confirmed = f"incidents/{end.incident}/claim.json" in world.store.forgotten  # to us, and another came later
    if (home / "claimed-by-another.json").exists() and ours and not confirmed:
        yield f"another has this incident's id in the store, and there we wrote {ours[0]}"


def _whole(world: World, home: Path, incident: Incident) -> Iterator[str]:
    for closing in home.glob("record/*/closing.json"):
        for path in closing.parent.iterdir():
            key = record_key(incident.id, int(path.parent.name), path.name)
            if not path.name.startswith(".") and not world.store.holds(key, digest(path)):
                yield f"it is green, and the store does not have {key}"
    for folder in home.glob("evidence*"):
        left = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
        if left and not (folder / "manifest.json").exists():
            yield f"it is green, and {folder.name} was never sealed: {left[0].name}"
    taken = set(world.acquired.get(incident.id, ()))
    told = {file.stored for folder in _volumes(home) for file in Manifest.at(folder / "manifest.json").files}
    verdict = max(home.glob("record/*/verdict.json")).read_text()
    for name in sorted(taken - told):
        if name not in verdict.partition('"missing"')[2]:
            yield f"it is green, and {name}, which was collected, is neither sealed nor told as lost"


def _volumes(home: Path) -> list[Path]:
    return [path.parent for path in sorted(home.glob("evidence*/manifest.json"))]


def _receipts(world: World, home: Path) -> Iterator[str]:
    for row in _rows(home, "stopped-*.json"):
        who = Identity(**row["identity"])
        if world.host.get_process(who):
            yield f"{who.pid} has a receipt ({row['end']}), and lives"
            continue
        fatal = world.host.ended[who].sent if who in world.host.ended else []
        if row["end"] == Fate.GONE and fatal:
            yield f"{who.pid} is told as ended by itself, and was sent {fatal}"
        if row["end"] in {Fate.KILLED, Fate.STOPPED} and not fatal and "announced" not in row["reason"]:
            yield f"{who.pid} is told as {row['end']}, and nobody sent it anything"
        if row["end"] == Fate.STOPPED and "SIGKILL" in fatal and "announced" not in row["reason"]:
            yield f"{who.pid} is told as stopped, and was sent {fatal}"


def _sealed(world: World, home: Path, end: End) -> Iterator[str]:
    for folder in _volumes(home):
        now = digest(folder / "manifest.json")
        if world.sealed.setdefault(str(folder), now) != now:
            yield f"the manifest of {folder.name} has changed"
    log = home / "custody.jsonl"
    lines = log.read_bytes().splitlines(keepends=True) if log.exists() else []
    if end.name == "Killed" and lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    if told := broken(lines):
        yield f"the custody log is broken: {told[0]}"


def _thawed(world: World) -> Iterator[str]:
    for pid, process in world.host.workload().items():
        if process.state == "T" and pid not in world.stood:
            yield f"it says thawed, and {pid} stands"
        if process.state != "T" and pid in world.stood:
            yield f"a person had stopped {pid}, and it runs after the thaw"


def last_verdict(world: World, end: End) -> str:
    """The last verdict of a run's incident, whole."""
    found = sorted(world.folder.glob(f"evidence/{end.incident}/record/*/verdict.json")) if end.incident else []
    return found[-1].read_text() if found else ""


def left_here(world: World) -> list[str]:
    """What the store never got of what was recorded, though the store is well and all was carried on."""
    closed = [each for home in homes(world) for each in home.glob("record/*/closing.json")]
    ours = [each for each in closed if not (each.parents[2] / "claimed-by-another.json").exists()]
    keys = [(record_key(each.parents[2].name, int(each.parent.name), each.name), each) for each in ours]
    return [
        f"{key} is on this host alone, and nobody goes on"
        for key, each in keys
        if not any(world.store.holds(at, digest(each)) for at in (key, beside_key(key.split("/")[1], digest(each))))
    ]


def guarded(world: World) -> list[str]:
    """What runs though a guard stands, of what the incident had frozen."""
    host = world.host
    if not host.keeper or not host.get_process(host.keeper.me):
        return []
    rows = [row for home in homes(world) for row in _rows(home, "frozen-*.json")]
    pids = [row["identity"]["pid"] for row in rows if host.get_process(Identity(**row["identity"]))]
    return [f"the guard stands, no run is at work, and {pid} runs, which was frozen" for pid in pids if host.runs(pid)]
