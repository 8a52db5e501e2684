"""Open the store of a run on first use: its libraries must not delay containment."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.adapters.dry_run import RehearsalStore
from tasks.custody.incident.log import CustodyLog
from tasks.custody.store.latest import LatestPolicy
from tasks.custody.store.retention import NOTHING, Retention

if TYPE_CHECKING:
    from blocks.port import Store
    from blocks.signing_key import SigningKey
    from blocks.store import EvidenceStore

T = TypeVar("T")


class StoreAccess:
    """The store's block by the fields that the server gave before anything was touched, `saved`, and what it opens.

    `block`, `evidence` and `latest` raise what is wrong with the store: the step that needs them fails. What the record
    tells of the store never raises, for the record is written whatever is wrong with it.
    """

    def __init__(self, name: str, saved: Mapping[str, Any], log: CustodyLog, *, dry_run: bool) -> None:
        """Nothing is opened yet."""
        self.name, self.saved, self._log, self._dry_run = name, saved, log, dry_run

    @cached_property
    def _opened(self) -> "tuple[EvidenceStore, str]":
        from blocks.store import with_usable_key

        return with_usable_key(self.saved)

    @cached_property
    def block(self) -> "EvidenceStore":
        """Where evidence goes and who signs it. No server is asked."""
        return self._opened[0]

    @cached_property
    def evidence(self) -> "Store":
        """The store in the name of the writer of evidence."""
        return self._guarded(self.block.open())

    @cached_property
    def latest(self) -> "Store":
        """The store in the name of who changes latest/."""
        return self._guarded(self.block.open_latest()) if self.has_promoter else self.evidence

    def _guarded(self, store: "Store") -> "Store":
        return RehearsalStore(store, self._log, self.block.retention) if self._dry_run else store

    @property
    def has_promoter(self) -> bool:
        """Whether somebody else than the writer of evidence changes latest/."""
        return _told(lambda: self.block.promoter is not None, lambda _: False)

    @property
    def label(self) -> str:
        """Where the store is, for people; a store that cannot be opened is named by its block."""
        return _told(lambda: self.evidence.place, lambda _: f"store block {self.name}")

    def url(self, key: str) -> str:
        """Where a browser finds what is stored; empty if the store cannot be opened."""
        return _told(lambda: self.block.address(key), lambda _: "")

    @property
    def retention(self) -> Retention:
        """What the block asks for. One that cannot be used stores nothing either."""
        return _told(lambda: self.block.retention, lambda _: NOTHING)

    @property
    def latest_policy(self) -> LatestPolicy:
        """Whether latest/ follows, as the block says; of one that cannot be used it never does."""
        return _told(lambda: self.block.latest, lambda _: "never")

    @property
    def signing_key(self) -> "SigningKey | None":
        """The key that signs; None where nobody does, for the reason in `signing_problem`."""
        return _told(lambda: self.block.signing, lambda _: None)

    @property
    def signing_problem(self) -> str:
        """Why nobody signs; empty where somebody does."""
        if self.signing_key:
            return ""
        return _told(
            lambda: self._opened[1] or "no signing key in the store block",
            lambda error: f"the store block cannot be used: {type(error).__name__}",
        )


def _told(read: Callable[[], T], otherwise: Callable[[Exception], T]) -> T:
    """The one error policy of what the record tells."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001  whatever is wrong with the store, the record is written
        return otherwise(error)
