"""Make the pattern of a process of whole words of its command line, as a person would write it."""

import re
from pathlib import PurePath
from typing import Final

from tasks.custody.containment.process import Process
from tasks.custody.containment.program import runs_inline_code
from tasks.custody.containment.suspect import TELLING
from tasks.custody.evidence.redact import redact_command

_ADDRESS: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""module:attribute, by which a server is told what to serve."""
_CLASS_PATH: Final = frozenset({"-cp", "-classpath", "--class-path"})


def whole_words(process: Process, root: str) -> str:
    """Return a regular expression of the words that tell a process's program; empty if no such word may be shown.

    They are the module that it runs, or else the first file that it names, and a server's module:attribute. Only whole
    words match, whatever folder stands before them. A program from outside of the root tells least.
    """
    if runs_inline_code(process.command):
        return ""
    shown = redact_command(process.command, process.cwd)
    words = [
        (before, part.strip("[](){}\"',;:"))
        for before, word, seen in zip(("", *process.command), process.command, shown, strict=False)
        for part, same in zip(word.split(), seen.split(), strict=False)
        if part == same and before not in _CLASS_PATH
    ]
    modules = [word for before, word in words if before == "-m" and TELLING.fullmatch(word)]
    files = [word for _, word in words if TELLING.fullmatch(word) and re.search("[./:]", word)]
    program = process.command[0] if process.command else ""
    outside = PurePath(program).is_absolute() and not PurePath(program).is_relative_to(root)
    files.sort(key=lambda word: outside and word == program)
    every = [*dict.fromkeys((*modules, *files))]
    chosen = every[:1] + [word for word in every[1:] if _ADDRESS.fullmatch(word)][:1]
    made = ".*".join(f"{_beginning(word, root)}(?![\\w./-])" for word in chosen)
    return made if made and re.search(made, process.line) else ""


def _beginning(word: str, root: str) -> str:
    """Return the pattern of a word: of a file by its path below the root or whole, of a program by its name alone."""
    below = word.removeprefix(f"{root}/").removeprefix("./")
    name = re.escape(PurePath(below).name if "/bin/" in f"/{below}" else below).replace("\\-", "-")
    if "/bin/" in f"/{below}" or below.startswith("/") or _ADDRESS.fullmatch(word) or not re.search(r"/|\.\w+$", word):
        return rf"(?<![\w.-]){name}"
    return rf"(?<![\w./-])(\./|{re.escape(root)}/)?{name}".replace("\\-", "-")
