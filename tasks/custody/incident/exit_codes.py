"""Give every state in which a run or a command ends its exit code: 0 only if all that was asked for is proven."""

from typing import Final

EXIT_CODES: Final = {
    "Verified": 0,
    "Recovered": 0,
    "Thawed": 0,
    "DryRun": 0,
    "Proven": 0,
    "Listed": 0,
    "Rehearsed": 0,
    "Written": 0,
    "Mirrored": 0,
    "Ready": 0,
    "Completed": 0,
    "Failed": 1,
    "Crashed": 1,
    "Partial": 3,
    "Unverified": 4,
    "NotContained": 5,
    "Cancelled": 6,
    "Joined": 7,
    "PartlyRecovered": 8,
    "NotRecovered": 9,
    "PartlyThawed": 10,
    "Broken": 11,
    "Indeterminate": 12,
    "NotRehearsed": 13,
    "Refused": 14,
    "Declined": 15,
    "Expired": 16,
    "Silent": 17,
    "Degraded": 18,
    "NotReady": 19,
    "Unanswered": 20,
    "Stale": 21,
    "Finished": 22,
    "Unfinished": 23,
}
"""By the name of the state. Where several states have one code, a script need not tell them apart."""
INCOMPLETE: Final = 1
"""Not everything was done; the output says what is missing."""
REFUSED: Final = 2
"""The command line or its input was refused, or a server or store did not answer."""
NOT_AS_WANTED: Final = 24
"""A dry run was done, and has found that the real one would not end Verified, or might not."""
INTERRUPTED: Final = 130
"""Interrupted before anything was begun: what the command had frozen goes on."""
