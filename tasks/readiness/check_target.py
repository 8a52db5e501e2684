"""Hold what the checks look at: a workload, its store, and this host as they are now, each read once."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from prefect.client.schemas.responses import DeploymentResponse

from blocks.port import Store, StoredObject
from blocks.store import EvidenceStore, with_usable_key
from blocks.workload import Workload
from blocks.workload_fields import WorkloadFields
from tasks.acquisition.collector import Target
from tasks.acquisition.estimate import estimate
from tasks.acquisition.remainder import RootWalk
from tasks.collectors import discover
from tasks.collectors.code import COLLECTOR, globs_of, survey
from tasks.containment.containers.collected import collected_folders
from tasks.containment.containers.named import find_named
from tasks.containment.members import Snapshot, description_of
from tasks.containment.suspects import roster_now
from tasks.custody.errors import EngineError
from tasks.custody.evidence.keys import CODE, FOLDERS, SNAPSHOT_FOLDERS
from tasks.custody.incident.deployment_names import full_name
from tasks.custody.models.inspection import NONE_SOUND
from tasks.host.container.membership import Container
from tasks.host.container.mounts import ContainerView
from tasks.host.host import LinuxHost
from tasks.host.judgement.roster import Roster
from tasks.host.process.membership import Exceptions, Members
from tasks.host.process.process import Process
from tasks.host.process.table import untouchable
from tasks.host.workload import interpreter_of
from tasks.incident.directory import evidence_of, find_own_places
from tasks.readiness.runs import asking

_OWN_FILES: Final = 1_000
"""An incident's own: journals, receipts, records, the output of collectors."""


def files_target(block: WorkloadFields) -> Target:
    """Return what a collector of files would know of a workload."""
    interpreter = interpreter_of(block.root, block.interpreter)
    largest = block.folder_file_mb and block.folder_file_mb << 20
    facts = str(block.root), interpreter, block.root.stat().st_uid
    return Target("", *facts, globs_of(block), [], apart=find_own_places(block), largest=largest)


@dataclass
class CheckTarget:
    """A workload and its store, by the names and fields of their blocks. `signers` is an auditor's file, or empty.

    `message` asks for a test message to people. What checks leave for later ones: the canary as the store describes it,
    how far the store's clock is from this host's, and whether a model is sound.
    """

    name: str
    workload: Workload
    store: str
    saved: Mapping[str, Any]
    signers: str = ""
    message: bool = False
    seen: StoredObject | None = None
    skew: timedelta | None = None
    unsound: str = NONE_SOUND
    model_cure: str = ""

    @cached_property
    def host(self) -> LinuxHost:
        """This host."""
        return LinuxHost(self.workload.api_port, root=self.workload.root)

    @cached_property
    def snapshot(self) -> Snapshot:
        """All processes."""
        return self.host.snapshot()

    @cached_property
    def members(self) -> Members:
        """Processes that a freeze would find, with their roles."""
        exceptions = Exceptions(frozenset(untouchable(self.snapshot)))
        return Members.of(self.snapshot, description_of(self.workload), exceptions)

    @cached_property
    def roster(self) -> Roster:
        """All processes that are something to the workload, as an evacuation would judge them."""
        container_ids: list[str] | None = None
        shared = list[str]()
        with suppress(EngineError):  # a check of its own tells it
            container_ids = [each.id for each in self.containers]
            shared = collected_folders(self.workload, map(ContainerView.of_container, self.containers))
        return roster_now(self.host, self.workload, container_ids, shared=shared)

    @property
    def processes(self) -> Iterator[Process]:
        """The members' processes."""
        return (self.snapshot[identity.pid] for identity in self.members)

    @property
    def excused_processes(self) -> list[Process]:
        """Processes that the block's bystanders excuse."""
        return [self.snapshot[pid] for pid in sorted(self.members.excused_pids)]

    @cached_property
    def containers(self) -> list[Container]:
        """Living containers of the workload. Raises EngineError if the engine does not tell."""
        return find_named(self.workload)

    @property
    def evidence_place(self) -> Path:
        """The evidence folder, or where it would be made."""
        folder = evidence_of(self.workload)
        return next(each for each in (folder, *folder.parents) if each.is_dir())

    @cached_property
    def root_walk(self) -> RootWalk:
        """What of the root no pattern and no folder of the block names."""
        return survey(self.workload, find_own_places(self.workload))

    @cached_property
    def _copy_sizes(self) -> dict[str, tuple[int, int]]:
        """Bytes and number of the files that each collector would copy, those of code within its bound."""
        target, sizes = files_target(self.workload), dict[str, tuple[int, int]]()
        for name, each in discover().items():
            if facts := estimate(each, target, self.evidence_place):
                sizes[name] = int(str(facts["needed"])), int(str(facts["files"]))
        return sizes | {CODE: (min(self.root_walk.size, COLLECTOR.limit), len(self.root_walk.names))}

    def fits(self, place: Path, reserve: int = 0, *, in_store: bool = False) -> tuple[bool, str]:
        """Return whether the evidence has room on this disk, beside a reserve in bytes, and what was compared.

        A store has what goes to the snapshot and to latest/ there once more each.
        """
        promoted = (*SNAPSHOT_FOLDERS, FOLDERS) if in_store else ()
        times = {name: 3 if name in promoted else 1 for name in self._copy_sizes}
        size, number = (sum(each[part] * times[name] for name, each in self._copy_sizes.items()) for part in (0, 1))
        needed, files, disk = size + reserve, number + _OWN_FILES, os.statvfs(place)
        free, inodes = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else files
        room = f"{free >> 20} MiB and {inodes} inodes free in {place}"
        return needed <= free and files <= inodes, f"about {needed >> 20} MiB in {files} files needed, {room}"

    @cached_property
    def _block_or_problem(self) -> tuple[EvidenceStore, str]:
        return with_usable_key(self.saved)

    @property
    def block(self) -> EvidenceStore:
        """The store's block, without its key if that cannot be used."""
        return self._block_or_problem[0]

    @cached_property
    def writer(self) -> Store:
        """The store, with the credentials that write evidence."""
        return self.block.open()

    @cached_property
    def deployment(self) -> DeploymentResponse:
        """The deployment that evacuates the workload. Raises ObjectNotFound, or Refused if no server is named."""
        with asking() as client:
            return client.read_deployment_by_name(full_name("evacuate", self.name))

    @property
    def key_problem(self) -> str:
        """Why the signing key cannot be used; empty if it can, or if there is none."""
        return self._block_or_problem[1]
