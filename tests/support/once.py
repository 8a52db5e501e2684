"""Work that each store and each block repeats, done once a process: botocore's models read, secret fields found."""

from collections.abc import Iterator
from contextlib import contextmanager
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
