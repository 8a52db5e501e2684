"""Process many items in parallel, in order and in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Final, TypeVar

A = TypeVar("A")
B = TypeVar("B")

THREADS: Final = 16
"""Default number of threads: each item may have some MiB in memory."""
QUESTIONS: Final = 128
"""Threads for requests without content, which mostly wait for the network."""
_AHEAD: Final = 4096
_TOGETHER, _ROUNDS = 16, 4
"""Items of a batch, if there are so many batches for each thread: submitting each item would cost more."""


def side_by_side(act: Callable[[A], B], items: Iterable[A], threads: int = THREADS) -> Iterator[B]:
    """Yield `act` of each item, in order. At most four thousand are started ahead; the first error ends it."""
    few = max(1, min(_TOGETHER, len(items) // threads // _ROUNDS)) if isinstance(items, Sized) else 1
    source, failures = iter(items), list[BaseException]()

    def unless_failed(item: A) -> B:
        """After a failure, raise the same error: an earlier item in the order may not have run."""
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
