"""Hold what one run of one incident works with: places, log, adapters, stores."""

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from pydantic import TypeAdapter

from tasks.adapters.container_engine import DockerEngine, Engine
from tasks.adapters.dry_run import RehearsalHost, RehearsalScheduler, RehearsalStore
from tasks.adapters.dry_run_engine import RehearsalEngine
from tasks.adapters.host import Host, LinuxHost
from tasks.adapters.prefect_scheduler import PrefectScheduler, Scheduler
from tasks.custody.containment.container import ContainerIdentity
from tasks.custody.containment.process import Identity
from tasks.custody.evidence.acquisition import StoredFile
from tasks.custody.evidence.keys import MANIFEST, SEGMENT, unquote, volume_folder
from tasks.custody.incident.incident import Incident
from tasks.custody.incident.log import CustodyLog
from tasks.custody.store.latest import LatestPolicy
from tasks.custody.store.retention import NOTHING, Retention
from tasks.incident.directory import base_of, cordon_dir, fallback_home, open_home
from tasks.incident.layout import (
    CAUGHT,
    CORDON,
    CUSTODY_LOG,
    EARLY,
    RECORD,
    RECOVERED,
    RECOVERED_CONTAINERS,
    RESERVE,
    RESULTS,
    manifests,
)
from tasks.runtime.actor import BY_HAND, actor
from tasks.runtime.freeze_budget import LOOK_SECONDS, FreezeBudget
from tasks.system.atomic_files import read_private, write_whole
from tasks.system.cancellation import Cancellation, still_acts
from tasks.system.disk_reserve import give, give_all, with_reserve
from tasks.system.open_beneath import real_file

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture

    from blocks.port import Store
    from blocks.store import EvidenceStore
    from blocks.workload import Workload
    from tasks.custody.incident.steps import StepId
    from tasks.runtime.artifact import PrefectArtifact

logger = logging.getLogger(__name__)


Policy: TypeAlias = Literal["graceful", "kill"]
Suspects: TypeAlias = Literal["name", "include"]

T = TypeVar("T")


class RunContext:
    """Not a dataclass: Prefect walks those, and this one holds locks and open files.

    On disk, below the workload's evidence folder: open.json (the open incident), cordon.json (the
    cordon's marker), and a private folder for each incident: evidence/ (and evidence.N/), record/NNN/,
    custody.jsonl, journals named after the boot, results/ (cached results).
    """

    def __init__(  # noqa: PLR0913  the things that make a run of an incident
        self,
        incident: Incident,
        workload: "Workload",
        store: str,
        run: str,
        *,
        dry_run: bool,
        ownership: int,
        saved: Mapping[str, Any],
        policy: Policy = "graceful",
        suspects: Suspects | None = None,
        trigger: str = BY_HAND,
    ) -> None:
        """Make the incident's private folder if this run opens it, and carry its custody log on.

        `saved` are the fields of the store's block, as the server gave them before anything was touched.
        """
        self.incident, self.workload, self.store_name = incident, workload, store
        self.run, self.dry_run, self.policy = run, dry_run, policy
        self.suspects = suspects
        self._ownership: int | None = ownership
        self._saved = saved
        self.base = base_of(workload)
        self.directory = open_home(workload, incident, dry_run=dry_run)
        self.home = self.directory.path
        self.cordon_dir = self.home if dry_run or not self.directory.real else cordon_dir(workload, self.home)
        self.reserve = self.home / RESERVE
        self.log = CustodyLog(
            self.home / CUSTODY_LOG,
            actor(run, trigger),
            make_room=lambda size: give(self.reserve, size),
        )
        self.number = 1 + max((int(path.name) for path in self.home.glob(f"{RECORD}/*")), default=0)
        self.volume = next(n for n in range(1, 1000) if not (self.folder(n) / MANIFEST).exists())
        self.guard: Identity | None = None
        self.stopped_at: float | None = None
        self.artifacts: Sequence[PrefectArtifact] = ()
        self.keyless = ""
        self.freeze_budget = FreezeBudget(LOOK_SECONDS)
        self._facts: dict[str, Any] = {}
        self.notes: list[str] = []
        self.cancelled = Cancellation()
        self.steps: list[tuple[StepId, str, PrefectFuture[Any]]] = []

    @property
    def includes_suspects(self) -> bool:
        """Whether suspects are frozen and ended as well: as was asked, else under policy kill."""
        return (self.suspects or ("include" if self.policy == "kill" else "name")) == "include"

    @cached_property
    def host(self) -> Host:
        """The door to the host; in a dry run one that only records."""
        host = LinuxHost(self.workload.api_port)
        return RehearsalHost(host, self.log) if self.dry_run else host

    @cached_property
    def engine(self) -> Engine:
        """The door to the container engine; in a dry run one that only records."""
        engine = DockerEngine(self.workload.docker_host)
        return RehearsalEngine(engine, self.log) if self.dry_run else engine

    @cached_property
    def scheduler(self) -> Scheduler:
        """The door to Prefect's own side."""
        return RehearsalScheduler(PrefectScheduler(), self.log) if self.dry_run else PrefectScheduler()

    @cached_property
    def block(self) -> "EvidenceStore":
        """Where evidence goes and who signs it. Made late, for its libraries, of what is known: no server is asked."""
        from blocks.store import with_usable_key

        store, self.keyless = with_usable_key(self._saved)
        return store

    @cached_property
    def store(self) -> "Store":
        """The door to the store."""
        store = self.block.open()
        return RehearsalStore(store, self.log, self.block.retention) if self.dry_run else store

    @cached_property
    def latest_store(self) -> "Store":
        """The same in the name of who changes latest/."""
        if not self.has_promoter:
            return self.store
        store = self.block.open_latest()
        return RehearsalStore(store, self.log, self.block.retention) if self.dry_run else store

    @property
    def saved(self) -> Mapping[str, Any]:
        """The fields of the store's block, secrets too."""
        return self._saved

    @property
    def has_promoter(self) -> bool:
        """Whether somebody else than the writer of evidence changes latest/."""
        try:
            return self.block.promoter is not None
        except Exception:  # noqa: BLE001  the record is written whatever is wrong with the store
            return False

    @property
    def place(self) -> str:
        """Where the store is, for people; a store that cannot be opened is named by its block."""
        try:
            return self.store.place
        except Exception:  # noqa: BLE001  the record is written whatever is wrong with the store
            return f"store block {self.store_name}"

    def address(self, key: str) -> str:
        """Where a browser finds what is stored; nowhere if the store cannot be opened."""
        try:
            return self.block.address(key)
        except Exception:  # noqa: BLE001  the same
            return ""

    @property
    def retention(self) -> Retention:
        """What the store's block asks for. One that cannot be used stores nothing either."""
        try:
            return self.block.retention
        except Exception:  # noqa: BLE001  the same
            return NOTHING

    @property
    def latest(self) -> LatestPolicy:
        """Whether latest/ follows, as the store's block says; of one that cannot be used it never does."""
        try:
            return self.block.latest
        except Exception:  # noqa: BLE001  the same
            return "never"

    def folder(self, volume: int) -> Path:
        """Evidence folder of a volume."""
        return self.home / volume_folder(volume)

    def path_of(self, volume: int, file: StoredFile) -> Path:
        """Where the bytes of a file of evidence lie on this host. FileNotFoundError for one in place that is gone.

        In place means in the workload's hands: whoever relies on its bytes compares the digest, as `offload` does.
        """
        if file.in_place:
            return real_file(os.fsencode(self.root), unquote(file.source))
        return (Path(file.where) if file.where else self.folder(volume)) / file.stored

    @cached_property
    def fallback(self) -> Path | None:
        """The incident's folder on the fallback disk, for what does not fit."""
        return fallback_home(self.workload, self.home, dry_run=self.dry_run)

    def fallback_volume(self, volume: int) -> Path | None:
        """Where files of a volume lie for which its folder had no room, on the fallback disk."""
        return self.fallback / volume_folder(volume) if self.fallback else None

    @property
    def results(self) -> Path:
        """Cached results of the incident's steps."""
        return self.home / RESULTS

    @property
    def record(self) -> Path:
        """Folder of this run's record."""
        return self.home / RECORD / f"{self.number:03d}"

    @property
    def marker(self) -> Path:
        """The cordon's marker."""
        return self.cordon_dir / CORDON

    @property
    def caught(self) -> Path:
        """Where the guard writes down the newcomers that it has frozen."""
        return self.cordon_dir / CAUGHT

    @property
    def early(self) -> Path:
        """Whom the start of this run has frozen before it imported anything."""
        return (self.home if self.dry_run else self.base) / EARLY

    @cached_property
    def root(self) -> PurePath:
        """The root as the kernel names it: a root that is a link shows in no process's working directory."""
        return PurePath(os.path.realpath(self.workload.root))

    def journal(self, name: str, kind: type[T], value: T | None = None) -> T | None:
        """Keep a small fact of the incident beside its evidence, whole or not at all; without a value, read it.

        A disk that takes nothing does not stop a containment: the fact then lives as long as this run.
        """
        path = self.home / name
        adapter = TypeAdapter(kind)
        if value is None:
            kept: T | None = self._facts.get(name)
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                return kept if kept is not None else adapter.validate_json(read_private(path))
            return None
        self._facts[name] = value
        try:
            self.write(path, adapter.dump_json(value, indent=1))
        except OSError as error:
            logger.error("%s could not be kept on disk: %s. This run goes on without it.", path, error)  # noqa: TRY400
        return value

    def write(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all; a full disk gives way, as long as the reserve lasts."""
        with_reserve(self.reserve, len(data), lambda: write_whole(path, data))

    def recovered(self) -> frozenset[Identity]:
        """Processes that this incident's own recovery started: they are no new life of the workload."""
        return frozenset(self.journal(RECOVERED, list[Identity]) or [])

    def recovered_containers(self) -> list[ContainerIdentity]:
        """The same for containers."""
        return self.journal(RECOVERED_CONTAINERS, list[ContainerIdentity]) or []

    def segments_end(self) -> int:
        """How many lines of the custody log lie in segments that will not be written again."""
        sealed = [manifest.with_name(SEGMENT) for manifest in manifests(self.home)]
        segments = [*sealed, *self.home.glob(f"{RECORD}/*/{SEGMENT}")]
        return sum(segment.read_bytes().count(b"\n") for segment in segments)

    def close(self) -> None:
        """Let another run have the workload, and others have the room. Done twice it is done once.

        While a step of a cancelled run still acts, no other run may: the workload is given up when this process ends.
        """
        give_all(self.reserve)
        if engine := self.__dict__.pop("engine", None):
            engine.close()
        if self._ownership is not None and not still_acts():
            os.close(self._ownership)
            self._ownership = None
