"""What a process of many tests does once: botocore's models read, secret fields found, detached processes reaped."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any
from unittest.mock import patch


@contextmanager
def models_read_once() -> Iterator[None]:
    """Have botocore read a service's model once a process, and not once a client: a tenth of a second each."""
    from botocore.loaders import JSONFileLoader

    read = cache(JSONFileLoader().load_file)
    with patch.object(JSONFileLoader, "load_file", lambda _, path: read(path)):
        yield


@contextmanager
def secrets_found_once() -> Iterator[None]:
    """Have Prefect ask once a class which fields are secret, and not for each field of each save: half a second."""
    from prefect.blocks.core import Block

    made: dict[tuple[type, str], bool] = {}
    asked: Any = Block._field_has_secrets

    def found(block: Block, field: str) -> bool:
        key = type(block), field
        if key not in made:
            made[key] = asked(block, field)
        return made[key]

    with patch.object(Block, "_field_has_secrets", found):
        yield


@contextmanager
def detached_are_reaped() -> Iterator[None]:
    """Reap what was detached once it has ended. A run ends before its guard; this process would keep it as a zombie.

    Every look at the processes, of every test, guard and run beside it, would read those zombies too.
    """
    from tasks.host import detached_process

    let_go: Any = detached_process._let_go
    detached = set[int]()

    def let_go_and_reap(process: Any) -> Any:
        for pid in [*detached]:
            with suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) == (0, 0):
                    continue
            detached.discard(pid)
        detached.add(process.pid)
        return let_go(process)

    with patch.object(detached_process, "_let_go", let_go_and_reap):
        yield
