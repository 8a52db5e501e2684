"""Start the workload's own programs as their user, with a clean environment. Never with our rights or our secrets."""

import os
import pwd
from typing import Any, Final

_NOGROUP: Final = 65534


def number_of(name: str) -> int | None:
    """Number of an account of this host; None for no name. KeyError if there is none of that name."""
    return pwd.getpwnam(name).pw_uid if name else None


def clean_environment(user: int) -> dict[str, str]:
    """What a login of that user would have at the least, and nothing of ours."""
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        home, name = "/", str(user)
    else:
        home, name = account.pw_dir, account.pw_name
    return {"PATH": os.defpath, "HOME": home, "USER": name, "LOGNAME": name, "LANG": "C.UTF-8"}


def groups_of(user: int) -> tuple[int, ...]:
    """A user's groups, its own first. Without an account, no group."""
    try:
        account = pwd.getpwuid(user)
    except KeyError:
        return (_NOGROUP,)
    others = os.getgrouplist(account.pw_name, account.pw_gid)
    return tuple(dict.fromkeys([account.pw_gid, *others]))


def as_user(user: int) -> dict[str, Any]:
    """Arguments for Popen: as root that user with its own groups, else ourselves. Without an account, no group."""
    if os.geteuid() != 0 or user <= 0:
        return {}
    own, *_ = groups = groups_of(user)
    return {"user": user, "group": own, "extra_groups": [] if own == _NOGROUP else list(groups)}
