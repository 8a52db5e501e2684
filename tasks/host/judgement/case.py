"""Define what a process may be to the workload, and what it is judged by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from tasks.custody.containment.identity import Identity
from tasks.custody.visible import visible
from tasks.host.process.handles import Handles
from tasks.host.process.matcher import WorkloadDescription
from tasks.host.process.process import Process


class Kind(StrEnum):
    """What a process is to the workload; the order is that of the law's rows."""

    OURS = "ours"
    MEMBER = "member"
    SUSPECT = "suspect"
    EXCUSED = "excused"
    UNKNOWN = "unknown"
    UNREAD = "unread"
    TOLD = "told"
    APART = "apart"


@dataclass(frozen=True)
class Judgement:
    """What a process is, and the fact that says so.

    `elsewhere` is that fact without the place, of a suspect that nothing ties to the root: many may be alike.
    """

    kind: Kind
    why: str = ""
    elsewhere: str = ""


@dataclass(frozen=True)
class Look:
    """What was read for one look at the host, beside the processes.

    `ancestors` are pids above this run, `own_programs` pids of processes that run our installation, `helpers` are pids
    that this run has started. `containers` are ids that the containers' check answers for, None if the engine did not
    tell them. `listed` are ids of all containers that an engine lists, whose mounts are judged with them; None if that
    is judged elsewhere. `environment` is the folder of an environment that the workload has outside of its root.
    `accounts` are the workload's uids. `shared` are folders of the host, outside of the root, from which models and the
    like are collected by containers of the workload. `sockets` are those at which the workload listened when it was
    frozen.
    """

    handles: Mapping[Identity, Handles] = field(default_factory=dict)
    ancestors: frozenset[int] = frozenset()
    helpers: frozenset[int] = frozenset()
    own_programs: frozenset[int] = frozenset()
    containers: frozenset[str] | None = frozenset()
    listed: frozenset[str] | None = None
    environment: PurePath | None = None
    accounts: frozenset[int] = frozenset()
    shared: tuple[PurePath, ...] = ()
    sockets: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Case:
    """A process before the law, with what the rows need. `member` is the reason why it is one, empty if it is none."""

    process: Process
    handles: Handles
    description: WorkloadDescription
    look: Look
    ours: bool
    member: str
    excused: bool
    in_excused_family: bool
    fits: bool
    has_parent: bool

    @property
    def unread(self) -> str:
        """Why not all of it could be read; empty if it was, or for a lack of rights."""
        why = self.process.unread or self.handles.unread
        return why and f"it could not be looked into: {visible(why)}"

    @property
    def is_listed(self) -> bool:
        """Whether it is in a container that an engine lists, and that is judged by its mounts."""
        listed = self.look.listed
        return bool(self.process.container) and (listed is None or self.process.container in listed)

    def suspect(self, fact: str) -> Judgement:
        """Return that it is a suspect, with the fact that says so, and for one in a container what answers for it."""
        if not self.process.container:
            return Judgement(Kind.SUSPECT, fact)
        short = self.process.container[:12]
        if self.look.containers is None:
            unknown = (
                "whether the workload block names that is not known, the engine does not tell コンテナの所属は不明"
            )
            return Judgement(Kind.SUSPECT, f"{fact}, in container {short}; {unknown}")
        cure = f"add it to `containers`: docker ps --filter id={short} tells its name"
        return Judgement(Kind.SUSPECT, f"{fact}, in container {short}, which the workload block does not name; {cure}")
