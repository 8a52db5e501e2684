"""Start the workload's own programs as their user with a clean environment, without our rights or secrets."""

import os
import pwd
from contextlib import suppress
from pathlib import Path
from typing import Final

NOGROUP: Final = 65534


def number_of(name: str) -> int | None:
    """Return the uid of an account of this host; None for an empty name. Raises KeyError for an unknown one."""
    return pwd.getpwnam(name).pw_uid if name else None


def account_name(user: int) -> str:
    """Return the name of an account, its number where this host knows no name for it."""
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return str(user)


def accounts_of(root: Path, user: str) -> frozenset[int]:
    """Return the accounts of a workload that are known: the root folder's owner, and the block's `user`."""
    found = set[int]()
    with suppress(OSError):
        found.add(root.stat().st_uid)
    with suppress(KeyError):
        found |= {number for number in [number_of(user)] if number is not None}
    return frozenset(found)


def clean_environment(user: int) -> dict[str, str]:
    """Return the minimal login environment of that user, without any variable of ours."""
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        home, name = "/", str(user)
    else:
        home, name = account.pw_dir, account.pw_name
    return {"PATH": os.defpath, "HOME": home, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8"}


def groups_of(user: int) -> tuple[int, ...]:
    """Return a user's groups, the primary one first; nogroup if there is no such account."""
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        return (NOGROUP,)
    others = os.getgrouplist(account.pw_name, account.pw_gid)
    return tuple(dict.fromkeys([account.pw_gid, *others]))
