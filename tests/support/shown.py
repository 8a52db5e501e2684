"""Commands of a page, with what it shows of their output; `…` stands for something."""

import re
from itertools import pairwise
from typing import Final

_BLOCK: Final = re.compile(r"^```(sh)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK: Final = "--- the next block"


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Each command of a page with the output that is shown below it; empty where none is."""
    found = [(match[1], match[2]) for match in _BLOCK.finditer(page)]
    return [(text, "" if kind else shown) for (this, text), (kind, shown) in pairwise([*found, ("sh", "")]) if this]


def script_of(commands: list[tuple[str, str]]) -> str:
    """One script of all commands, that tells where the output of the next begins."""
    return "".join(f"echo '{MARK}'\n{command}" for command, _ in commands)


def as_said(commands: list[tuple[str, str]], output: str) -> None:
    """Compare what the script printed with what the page shows, line by line; `…` alone is any lines or none."""
    for (command, shown), printed in zip(commands, output.split(f"{MARK}\n")[1:], strict=True):
        lines = [
            r"(?:.*\n)*" if line == "…" else f"{re.escape(line).replace('…', '.+')}\n" for line in shown.splitlines()
        ]
        assert re.fullmatch("".join(lines), printed), f"{command}\nprinted\n{printed}\nthe page says\n{shown}"
