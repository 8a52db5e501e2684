"""What `python -m tasks.collectors` is, but with one collector's sources altered: test_collector_conformance runs it.

`altered.py hang|flood TOKEN NAME FOLDER`; the token marks the processes that the altered collector starts.
"""

import sys
from dataclasses import replace

from tasks.acquisition.collector import FunctionOutput, ProgramOutput, Target
from tasks.collectors import find_collector
from tasks.collectors.__main__ import main

_MUCH = 1 << 20


def much(target: Target) -> bytes:
    """More than a test allows."""
    del target
    return b"x" * _MUCH


def altered(how: str, token: str) -> tuple[ProgramOutput | FunctionOutput, ...]:
    """Sources that hang, or that never have enough."""
    if how == "hang":
        return (ProgramOutput(("sh", "-c", f"sleep 600.{token} & sleep 600.{token}"), "hang.txt"),)
    first = ProgramOutput(("yes", f"first {token}"), "first.txt")
    return (FunctionOutput(much, "much.txt"), first)


if __name__ == "__main__":
    _, how, token, name, folder = sys.argv
    sys.argv = ["altered", name, folder]
    main(lambda name: replace(find_collector(name), sources=altered(how, token)))
