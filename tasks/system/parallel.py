"""Work on many items in parallel, in their order and in bounded memory; how many at a time."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

A = TypeVar("A")
B = TypeVar("B")

THREADS: Final = 16
"""Contents at a time: each of them may have some MiB in memory."""
QUESTIONS: Final = 64
"""Requests at a time that carry next to nothing: over a network they do little but wait for their answer."""
_AHEAD: Final = 1024
_TOGETHER, _ROUNDS = 16, 4
"""How many a thread takes at once, where there are so many times as many as threads: each handing over costs."""


def side_by_side(act: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> Iterator[B]:
    """Do it for many, in their order; only a thousand are begun ahead. The first error ends it, and begins no more."""
    few = max(1, min(_TOGETHER, len(items) // threads // _ROUNDS)) if isinstance(items, Sized) else 1
    source, failures = iter(items), list[BaseException]()

    def unless_failed(item: A) -> B:
        """What is left out fails as the first did: one that came before it may not have got as far as its act."""
        if failures:
            raise failures[0]
        try:
            return act(item)
        except BaseException as error:
            failures.append(error)
            raise

    def together(some: list[A]) -> list[B]:
        return [unless_failed(item) for item in some]

    batches = iter(lambda: [*islice(source, few)], [])
    with ThreadPoolExecutor(threads) as pool:
        begun = deque(pool.submit(together, some) for some in islice(batches, _AHEAD // few))
        try:
            while begun:
                yield from begun.popleft().result()
                begun.extend(pool.submit(together, some) for some in islice(batches, 1))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
