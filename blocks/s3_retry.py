"""Try single requests to S3 again, after which pauses and how often, so that a step need not ask for all again."""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from botocore.exceptions import ClientError
from obstore.exceptions import BaseError
from urllib3.exceptions import HTTPError

from blocks.s3_errors import is_transient

T = TypeVar("T")

_WAITS: Final = 0.1, 0.4, 1.6


def patiently(act: Callable[[], T]) -> T:
    """Try again what may pass, three times, after pauses that grow and are never the same; the rest is raised at once.

    They are short: what lasts longer is for the step to try again, which knows what has been done.
    """
    for wait in _WAITS:
        try:
            return act()
        except (BaseError, ClientError, HTTPError) as error:
            if not is_transient(error):
                raise
        time.sleep(random.uniform(0, wait))  # noqa: S311  no secret: only to keep many from coming back at once
    return act()
