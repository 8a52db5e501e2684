"""Open a run's store on first use, because its libraries must not delay containment."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from blocks.port import Answering, Store
from blocks.rehearsal import RehearsalStore
from tasks.custody.incident.log import CustodyLog
from tasks.custody.store.latest import LatestPolicy
from tasks.custody.store.retention import NOTHING, Retention
from tasks.custody.store.silence import StoreSilence
from tasks.incident.store_folder import note_own_account, why_not_trusted
from tasks.prefect_side.saved_blocks import SavedStore
from tasks.runtime.store_patience import patient

if TYPE_CHECKING:
    from blocks.signing_key import SigningKey
    from blocks.store import EvidenceStore
    from blocks.store_fields import StoreFields
    from blocks.workload_fields import WorkloadFields

T = TypeVar("T")


class StoreAccess:
    """Access to a run's store, by its block as the server gave it at the start; `log` is the run's custody log.

    `block`, `evidence` and `latest` raise if the store cannot be used, so the step that needs them fails. All other
    members never raise, because the record is written in any case.
    """

    def __init__(self, saved: SavedStore, log: CustodyLog, *, dry_run: bool) -> None:
        """Keep the block as saved. Opens nothing."""
        self.saved, self.log, self._dry_run = saved, log, dry_run

    @cached_property
    def _usable_store(self) -> "tuple[EvidenceStore, str]":
        return self.saved.build()

    @cached_property
    def block(self) -> "EvidenceStore":
        """The store's block, made from `saved` without asking the server."""
        return self._usable_store[0]

    @cached_property
    def evidence(self) -> Store:
        """The store, with the credentials that write evidence; it is asked first, and by it a silent one is known."""
        store = self.block.open()
        return self._guard(patient(store) if isinstance(store, Answering) else store)

    @cached_property
    def latest(self) -> Store:
        """The store, with the credentials that change latest/."""
        return self._guard(self.block.open_latest()) if self.has_promoter else self.evidence

    def _guard(self, store: Store) -> Store:
        return RehearsalStore(store, self.log, self.block.retention) if self._dry_run else store

    def find_silence(self) -> StoreSilence | None:
        """Return what the store has not answered; None if it answers, or is not open. Asks and opens nothing."""
        opened = (self.__dict__.get(name) for name in ("evidence", "latest"))
        return next(filter(None, (each.find_silence() for each in opened if isinstance(each, Answering))), None)

    def why_not_trusted(self, workload: "WorkloadFields") -> str:
        """Return why a folder is not trusted as the store, and the cure; empty if it is, or cannot be used anyhow."""
        return _read_or(lambda: self._of_folder(why_not_trusted, workload), lambda _: "")

    def note_own_account(self, workload: "WorkloadFields") -> str:
        """Return a sentence if the workload's account can change a folder that is the store; else empty."""
        return _read_or(lambda: self._of_folder(note_own_account, workload), lambda _: "")

    def _of_folder(self, tell: "Callable[[StoreFields, WorkloadFields], object]", workload: "WorkloadFields") -> str:
        """Return what there is to tell of the folder that is open as the store; empty for any other store."""
        return str((tell(self.block, workload) if self.is_folder else "") or "")

    @property
    def is_folder(self) -> bool:
        """True if the store that is open is a folder; one asks it at no cost."""
        return _read_or(lambda: self.evidence.place == str(self.block.folder), lambda _: False)

    @property
    def has_promoter(self) -> bool:
        """True if latest/ has its own credentials, apart from those that write evidence."""
        return _read_or(lambda: self.block.promoter is not None, lambda _: False)

    @property
    def label(self) -> str:
        """Place of the store, as its block says it if it cannot be opened; the block's name if that is not valid."""
        named = f"store block {self.saved.name}"
        return _read_or(lambda: self.evidence.place, lambda _: _read_or(lambda: self.block.place, lambda _: named))

    @property
    def identity(self) -> str:
        """What ledgers and cached results know the store by: its label, and the endpoint if the block names one."""
        endpoint = _read_or(lambda: self.block.endpoint, lambda _: None)
        return f"{self.label} at {endpoint}" if endpoint else self.label

    def url(self, key: str) -> str:
        """Return the URL of a key for a browser; empty if the store cannot be opened."""
        return _read_or(lambda: self.block.address(key), lambda _: "")

    @property
    def retention(self) -> Retention:
        """Retention that the block asks for; none if the block cannot be used."""
        return _read_or(lambda: self.block.retention, lambda _: NOTHING)

    @property
    def timestamp_url(self) -> str:
        """The time-stamp authority to ask; empty if the block names none or cannot be used, and in a dry run."""
        return "" if self._dry_run else _read_or(lambda: self.block.timestamp_url, lambda _: "")

    @property
    def latest_policy(self) -> LatestPolicy:
        """Whether latest/ is updated, by the block; "never" if the block cannot be used."""
        return _read_or(lambda: self.block.latest, lambda _: "never")

    @property
    def signing_key(self) -> "SigningKey | None":
        """The signing key; None if there is none, for the reason in `signing_problem`."""
        return _read_or(lambda: self.block.signing, lambda _: None)

    @property
    def signing_problem(self) -> str:
        """Why there is no signing key; empty if there is one."""
        if self.signing_key:
            return ""
        return _read_or(
            lambda: self._usable_store[1] or "no signing key in the store block",
            lambda error: f"the store block cannot be used: {type(error).__name__}",
        )


def _read_or(read: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """Return `read()`, or `otherwise(error)` if it raises."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001  whatever is wrong with the store, the record is written
        return otherwise(error)
