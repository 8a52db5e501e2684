"""§5, the runbook's --delete: remove from latest/ what the workload no longer has, once a person has approved it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from prefect.artifacts import create_table_artifact

from blocks.port import Store
from tasks.custody.errors import Refused
from tasks.custody.store.latest import Act, ObjectRef, Promotion
from tasks.custody.store.manifest import canonical, digest_bytes
from tasks.custody.visible import visible_rows
from tasks.latest.history import history, present
from tasks.latest.transaction import ChangeRequest, LatestBusy, change_latest
from tasks.prefect_side.saved_blocks import store_to_read
from tasks.runtime.step import step_without_incident

_SHOWN: Final = 50
_HELD: Final = ("incidents/", "snapshots/")


@dataclass(frozen=True)
class Surplus:
    """Files of latest/ that the last promotion did not find in the workload, and that an incident or snapshot holds."""

    turn: int
    incident: str
    files: dict[str, ObjectRef]

    @property
    def key(self) -> str:
        """Identifier of exactly this plan: a changed plan has another key, and a person is asked again."""
        fields = {"turn": self.turn, "files": {key: each.sha256 for key, each in self.files.items()}}
        return f"mirror-{digest_bytes(canonical(fields))[:32]}"

    @property
    def question(self) -> str:
        """Text of the approval form: the files to be deleted, and how to undo that."""
        names = [f"- `{key}` ({each.size} bytes), held as `{each.key}`" for key, each in self.files.items()]
        more = [f"- … and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
        head = f"**{len(names)} files will be deleted from latest/**: {self.incident} no longer has them. 削除の承認。"
        tail = f"`evacuation rollback` takes it back. Without an answer nothing is deleted (turn {self.turn})."
        return "\n".join([head, "", *names[:_SHOWN], *more, "", tail])


class _Unheard:
    """A log that keeps nothing: the transaction is its own record."""

    def write(self, action: str, subject: str = "", **facts: Any) -> None:
        """Discard the entry."""


def surplus(store: Store) -> Surplus:
    """Read the surplus from the last transaction, if it was a promotion under policy mirror.

    LatestBusy while that transaction is not done, Refused if there is none.
    """
    past = history(store)
    if past.last is None:
        raise Refused("a promotion to mirror", f"no turn of latest/ in {store.place}", "Run an evacuation first.")
    if past.open:
        raise LatestBusy("the last turn of latest/ to be done", f"turn {past.number}, which is not", "Run this later.")
    is_mirror = past.last.incident and past.last.policy == "mirror"
    rows = [row for row in past.last.rows if is_mirror and row.act is Act.WOULD_DELETE]
    files = {row.key: row.before for row in rows if row.before and row.before.key.startswith(_HELD)}
    return Surplus(past.number, past.last.incident, files)


def mirror(store: Store, approved: Surplus, by: str) -> Promotion:
    """Delete the approved files that are unchanged and still held elsewhere, in a transaction that can be undone."""
    there = present(store, history(store).last)
    same = {key for key, each in approved.files.items() if key in there and there[key].sha256 == each.sha256}
    request = ChangeRequest({}, f"{by} ({approved.incident})", policy="mirror", remove=same)
    return change_latest(store, request, _Unheard(), now=datetime.now(UTC))


@step_without_incident(
    "plan_mirror", "look for what the workload no longer has", section="§5", retries=2, retry_delay_seconds=2.0
)
def plan_mirror(store: str) -> Surplus:
    """Read the surplus, and show it as a table artifact of the run."""
    found = surplus(store_to_read(store).open_latest())
    rows = [{"delete": key, "bytes": each.size, "held as": each.key} for key, each in found.files.items()]
    shown = visible_rows(rows) or [{"delete": "nothing"}]
    create_table_artifact(shown, key="mirror", description="What a mirror deletes 削除の計画")
    return found


@step_without_incident("mirror_latest", "mirror latest/", section="§5", retries=2, retry_delay_seconds=2.0)
def mirror_latest(store: str, approved: Surplus, by: str) -> Promotion:
    """Delete the approved surplus."""
    return mirror(store_to_read(store).open_latest(), approved, by)
