"""Retry single S3 requests, so that a step need not repeat all of its requests.

See docs/adr/0021.
"""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from botocore.exceptions import ClientError
from obstore.exceptions import BaseError
from urllib3.exceptions import HTTPError

from blocks.s3.answers import Answers
from blocks.s3.errors import is_transient

T = TypeVar("T")

_WAITS: Final = 0.1, 0.4, 1.6


def with_retries(act: Callable[[], T], answers: Answers, seconds: float) -> T:
    """Call `act`, and retry it up to three times after a transient error. Raises other errors at once.

    The pauses are random, of at most 0.1, 0.4 and 1.6 seconds. Longer faults are left to the step, which knows what is
    already done. `answers` learns what each try has heard, in `seconds` at most.
    """
    with answers.await_answer((len(_WAITS) + 1) * seconds + sum(_WAITS)):
        for wait in _WAITS:
            try:
                return _heard(act, answers)
            except (BaseError, ClientError, HTTPError) as error:
                if not is_transient(error):
                    raise
            time.sleep(random.uniform(0, wait))  # noqa: S311  jitter, not a secret
        return _heard(act, answers)


def _heard(act: Callable[[], T], answers: Answers) -> T:
    try:
        result = act()
    except (BaseError, ClientError, HTTPError) as error:
        answers.judge(error)
        raise
    answers.hear()
    return result
