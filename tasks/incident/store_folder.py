"""Tell why a store that is a folder is not trusted: who else can change what lies there.

See docs/adr/0041.
"""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from blocks.port import CANARIES
from tasks.custody.evidence.keys import LATEST, ROTATIONS, SNAPSHOTS, TURNS
from tasks.custody.incident.description import STATE
from tasks.system.accounts import accounts_of
from tasks.system.files.ours import find_exposure

if TYPE_CHECKING:
    from blocks.store_fields import StoreFields
    from blocks.workload_fields import WorkloadFields

_PARTS: Final = ("", ".incoming/", CANARIES, "incidents/", SNAPSHOTS, LATEST, TURNS, ROTATIONS, "fleets/")
"""Of a folder: itself, and what we make in it."""


@dataclass(frozen=True)
class Distrust:
    """Why a folder is no proof as a store, and the cure."""

    why: str
    cure: str

    def __str__(self) -> str:
        """Return both in one line."""
        return f"{self.why}; {self.cure}"


def why_not_trusted(store: "StoreFields", workload: "WorkloadFields") -> Distrust | None:
    """Return which place of the store's folder is not ours alone, and the cure; None if all of it is, or for a bucket.

    The account that the block names in `folder_owner` counts as ours, unless the workload runs as it.
    """
    folder, root = store.folder, Path(os.path.realpath(workload.root))
    if folder is None:
        return None
    accounts = accounts_of(workload.root, workload.user)
    us = "this run's account and root" if os.geteuid() else "root"
    cure = f"give the store a folder outside of {root} in which only {us} can write, as can in all above it"
    if Path(os.path.realpath(folder)).is_relative_to(root):
        return _distrust(folder, f"it lies in the workload's root {root}", cure)
    users = {os.geteuid()}
    if named := store.folder_owner:
        try:
            users.add(owner := int(named) if named.isdigit() else pwd.getpwnam(named).pw_uid)
        except KeyError:
            return _distrust(folder, f"folder_owner names {named}, an account that this host does not know", cure)
        if owner and owner in accounts:
            return _distrust(folder, f"folder_owner names {named}, as which the workload runs", cure)
    places = (find_exposure(folder / part, *users) for part in _PARTS if not part or os.path.lexists(folder / part))
    if place := next(filter(None, places), ""):
        cure += "; for a mount whose owner cannot be changed, name that account in folder_owner of the store's block"
        return _distrust(folder, f"{place}: another account can take away or forge what lies there", cure)
    return None


def note_own_account(store: "StoreFields", workload: "WorkloadFields") -> str:
    """Return a sentence if a run without root keeps evidence in a folder as the account of the workload; else empty."""
    user = os.geteuid()
    if store.folder is None or not user or user not in accounts_of(workload.root, workload.user):
        return ""
    return (
        f"{store.folder} is written as user {user}, as which the workload runs too: what runs there can change what "
        f"lies in it. Run the evacuation as root, with a folder of root's such as {STATE}-store 保全先はワークロードの"
        "アカウントでも変更可能"
    )


def _distrust(folder: Path, why: str, cure: str) -> Distrust:
    japanese = "保全先のフォルダーを信頼できません。他のアカウントが変更できないフォルダーを指定してください"
    return Distrust(f"the store {folder} is not trusted, whatever was proven there: {why}", f"{cure} {japanese}")
