"""Do several things with the same bytes at the same time, so that they are read once."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, islice
from typing import Final

BLOCK: Final = 4 << 20
"""Most bytes of a block: fewer cost more in handing them on than in hashing them."""
_AHEAD: Final = 4


def pass_on(blocks: Iterable[bytes], takers: Sequence[Callable[[bytes], object]]) -> None:
    """Give each block to each taker, in order. Each taker has a thread, and at most a few blocks wait for it.

    The first error of a taker, or of the source, is raised. A single block is passed on without any thread.
    """
    source = iter(blocks)
    first = list(islice(source, 2))
    if len(first) < 2:  # noqa: PLR2004
        for taker in takers if first else ():
            taker(first[0])
        return
    with ExitStack() as stack:
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in takers]
        begun = deque[list[Future[object]]]()
        for block in chain(first, source):
            begun.append([thread.submit(taker, block) for thread, taker in zip(threads, takers, strict=True)])
            if len(begun) > _AHEAD:
                _finish(begun.popleft())
        for each in begun:
            _finish(each)


def _finish(begun: Iterable["Future[object]"]) -> None:
    for each in begun:
        each.result()
