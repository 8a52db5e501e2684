"""Continue the wrappers (sudo, su, runuser, script) that stopped themselves because what is below them was frozen."""

from collections import Counter
from collections.abc import Collection
from signal import SIGCONT, SIGTERM
from typing import Final

from tasks.custody.containment.identity import Identity
from tasks.host.host import Host, send_signal
from tasks.host.process.wrappers import above_held, bereft
from tasks.system.polling import poll_until

_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.05
_QUIET_LOOKS: Final = 10
_TRIES: Final = 3


def continue_above(host: Host, ran: Collection[Identity], held: Collection[Identity] = ()) -> set[Identity]:
    """Continue those of `ran` that stand now; return those that still wait, above something `held`.

    Looks until none stops any more, because one wrapper stops after the other. One that stops again and again waits for
    a terminal that a shell has: it is left to `fg`, but ended if it has lost its child.
    """
    waiting = above_held(host.snapshot(), ran, held)
    free = [identity for identity in ran if identity not in waiting and host.get_process(identity)]
    if not free:
        return waiting
    tries, quiet = Counter[Identity](), 0

    def is_quiet() -> bool:
        nonlocal quiet
        standing = [identity for identity in free if tries[identity] < _TRIES and _stands(host, identity)]
        for identity in standing:
            send_signal(host, identity, SIGCONT)
        tries.update(standing)
        quiet = 0 if standing else quiet + 1
        return quiet >= _QUIET_LOOKS

    poll_until(is_quiet, _SECONDS, _POLL_SECONDS)
    for identity in bereft(host.snapshot(), free):
        send_signal(host, identity, SIGTERM)
        send_signal(host, identity, SIGCONT)
    return waiting


def wake(host: Host, ran: Collection[Identity], held: Collection[Identity]) -> None:
    """Continue each of `ran` once, if it stands and nothing `held` is below: it continues its child, which is to end.

    It hears of the child's end only if it runs by then.
    """
    waiting = above_held(host.snapshot(), ran, held)
    for identity in ran:
        if identity not in waiting and _stands(host, identity):
            send_signal(host, identity, SIGCONT)


def _stands(host: Host, identity: Identity) -> bool:
    process = host.get_process(identity)
    return process is not None and process.state == "T"
