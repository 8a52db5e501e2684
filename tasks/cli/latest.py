"""`python -m tasks.cli rollback STORE [TURN]`, `lower STORE [TURN]` and `pull STORE INTO [WHAT]`, without a server.

STORE is a file with one [store.NAME], FILE:NAME where it has several, or the name of a saved block.
"""

import argparse
import getpass
import socket
from pathlib import Path
from typing import Any

from tasks.cli.store_argument import named_store
from tasks.custody.errors import Refused
from tasks.custody.store.latest import Act
from tasks.custody.visible import say
from tasks.storage.latest_history import history
from tasks.storage.restore import RestoreOutcome, pull
from tasks.storage.rollback import Undoing, lower, lowering, plan_of, rollback


class _Screen:
    """A line for each file that changes."""

    def write(self, action: str, subject: str = "", **facts: Any) -> None:
        """Only what changed is shown."""
        if action == "promoted":
            say(_told(subject, facts["act"]))


def rollback_by_hand(arguments: list[str]) -> int:
    """Exit 0 only if latest/ is what it was. Raises EvacuationError."""
    given = _parser("rollback").parse_args(arguments)
    store, asked = named_store(given.store).open_latest(), _asked(given)
    if given.dry_run:
        for row in plan_of(store, asked):
            say(_told(row.key, row.act))
        say(f"nothing was done in {store.place}; without the dry run it would be")
        return 0
    made = rollback(store, asked, _Screen())
    say(f"{store.place}: {made.summary}")
    if made.turn:
        say(f"to take this back: make rollback STORE={given.store}")
        say(f"to have it here: make pull STORE={given.store} INTO=…")
    return 0 if made.is_complete else 1


def lower_by_hand(arguments: list[str]) -> int:
    """Exit 0 only if incidents of today may promote again. Raises EvacuationError."""
    given = _parser("lower").parse_args(arguments)
    store, asked = named_store(given.store).open_latest(), _asked(given)
    past, to = history(store).last, lowering(store, asked).lower_to
    told = f"the newest incident of latest/ from {past.newest if past else 'none'} to {to or 'none'}"
    if given.dry_run:
        say(f"nothing was done in {store.place}; without the dry run it would lower {told}")
        return 0
    made = lower(store, asked, _Screen())
    say(f"{store.place}: {made.summary}; lowered {told}")
    return 0 if made.is_complete else 1


def _asked(given: argparse.Namespace) -> Undoing:
    return Undoing(f"{getpass.getuser()}@{socket.gethostname()}, by hand", given.turn, given.take_over)


def pull_by_hand(arguments: list[str]) -> int:
    """Exit 0 only if all of it is in the folder now. Raises EvacuationError."""
    parser = argparse.ArgumentParser(prog="python -m tasks.cli pull", description=__doc__)
    parser.add_argument("store", help="a TOML file with a [store.NAME], FILE:NAME, or the name of a saved block")
    parser.add_argument("into", help="a folder that exists")
    parser.add_argument("what", nargs="?", default="latest", help="latest, an incident IR-…, or a snapshot's stamp")
    parser.add_argument("--overwrite", action="store_true", help="also replace files that are newer here")
    given = parser.parse_args(arguments)
    store = named_store(given.store)
    if not given.into:
        raise Refused("INTO=, a folder that exists", "none", "As in INTO=/srv/mlops-sklearn-portfolio.")
    made = pull(store.open(), given.what, Path(given.into), overwrite=given.overwrite)
    for each in made.files:
        if each.outcome is not RestoreOutcome.SAME:
            say(f"{each.outcome:>12}  {each.name}{f': {each.reason}' if each.reason else ''}")
    say(f"{made.summary}, in {given.into}")
    again = "mend what is named above, or give OVERWRITE=1 for newer files, and run this again; what is here stays"
    say(f"next: {'start what reads it, or let it load it again' if made.is_complete else again}")
    return 0 if made.is_complete else 1


def _parser(verb: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m tasks.cli {verb}", description=__doc__)
    parser.add_argument("store", help="a TOML file with a [store.NAME], FILE:NAME, or the name of a saved block")
    parser.add_argument("turn", nargs="?", type=int, default=0, help="before which turn; the last one if left out")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")
    parser.add_argument("--take-over", action="store_true", help="a turn is under way, and its run is known to be dead")
    return parser


def _told(key: str, act: Act) -> str:
    return f"{act:>12}  {key}"
