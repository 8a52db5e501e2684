"""Decide, word by word, what of a command line is shown; any other word is hidden.

Shown are the program, its script and its subcommands, names of options, numbers, `module:attribute`, host and port,
what names a file that exists, and what is made of harmless words alone.
"""

import ctypes
import os
import re
import struct
from collections.abc import Callable, Collection
from typing import Final

from tasks.custody.evidence.words import all_natural, is_commit, is_harmless, secret_name

_LONGEST, _DEEPEST = 4096, 4
_SYSTEM_CALL: Final = ctypes.CDLL(None).syscall
_HOW: Final = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW, 0, 0x20)  # RESOLVE_CACHED, Linux 5.12
_SHELLS: Final = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "su", "script", "flock", "runuser"})
_RUNS: Final = re.compile(
    r"(?:python|pypy)[\d.]*|torchrun|accelerate|deepspeed|streamlit|perl|ruby|node|Rscript|julia|java|env|nice|nohup|sudo"
)
_TAKES_A_SECRET: Final = re.compile(r"mysql\w*|mariadb[\w-]*|7z\w*|rar|sshpass|zip|unzip")
_OF_A_USER: Final = re.compile(r"--?(?:[\w.]+-)*(?:u|U|user|username|login|account|auth|a|cookie)")
_LINE: Final = re.compile(r"-[a-z]{0,4}c|--command")
_HEADER: Final = re.compile(r"-H|--(?:[\w.]+-)*header")
_HOSTS: Final = re.compile(
    r"--?(?:h|host|hostname|bind|addr(?:ess)?|server-name|master[_-]addr|rdzv[_-](?:endpoint|id))"
)
_TOP: Final = re.compile(r"(?:.*\.)?(?:com|org|net|io|dev|ai|jp|eu|internal|local|lan|cluster|svc|localhost)")
_SCHEMES: Final = re.compile(
    "(?:(?:https?|wss?|tcp|udp|unix|grpc|rediss?|amqps?|mqtt|nats|postgres|postgresql|psycopg|mysql|pymysql|mongodb|s3|gs"
    "|hdfs|file|sqlite|ssh|git|docker|jdbc|mlflow|models|spark)[+:]?)+"
)
_NUMBER: Final = re.compile(
    r"[-+=<>]{0,2}(?:\d{1,12}|0x[0-9a-fA-F]{1,8})(?:[.,:/x*-]\d{1,12}){0,7}\.?(?:e[-+]?\d{1,3})?[A-Za-z%]{0,3}"
)
_PLAIN: Final = re.compile(
    r"\+(?:%[-_0^]?[A-Za-z]|[-_:./TZ ])+|\$(?:[A-Z_]{1,40}|\{[A-Z_]{1,40}\}|[@*#?$!\d])"
    r"|[-$.!\[\]{}*/:;&|()<>+=%@,?~^#]{1,2}"
)
"""A format of date, a shell's variable, or one or two signs, as a shell's `:` and `;`."""
_ASSIGNED: Final = re.compile(r"(?P<name>[+]{0,2}[A-Za-z_][\w./-]{0,127}\+?=)(?P<value>.*)", re.DOTALL)
_OPTION: Final = re.compile(r"(?P<name>--[A-Za-z][\w.-]{0,63}|-[A-Za-z])(?P<value>=.*)?", re.DOTALL)
_MODULE: Final = re.compile(r"(?P<module>[A-Za-z_][\w.]{0,200}):(?P<attribute>[A-Za-z_]\w{1,60})(?:\(\))?")
_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.:-]{0,40})://(?:(?P<user>[^@/?#\s]*)@)?(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[^\s/?#:@]*)"
    r"(?P<port>:\d{1,5})?(?P<rest>[/?#].*)?",
    re.DOTALL,
)
_ADDRESS: Final = re.compile(r"(?P<host>\[?[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}\]?|[\w.-]{1,253})(?::\d{1,5})?")
_SCRIPT: Final = re.compile(r"[\w./-]{1,200}\.(?:py|pyc|pyz|sh|bash|pl|rb|js|mjs|ts|R|r|jl|jar|php|ipynb)")
_SHELL: Final = re.compile(
    r"""(?P<new>\|\|?|&&?|;;?|[\n(`])|(?:\d?>>?(?:&\d?)?|<|\)|[ \t\r\f\v]+)"""
    r"""|(?P<word>(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s|&;()<>"'\\`])+)""",
    re.DOTALL,
)


def exists(path: str, folder: str = "") -> bool:
    """Return whether a path is known to name a file. False for a relative one without a folder.

    Only the kernel's cache of names is asked: a look-up may wait for a network, or for a daemon that is frozen.
    """
    whole = os.path.join(folder, path)  # noqa: PTH118  a word of a command line is no path yet
    if not path or not whole.startswith("/") or len(whole) >= _LONGEST or "\0" in whole:
        return False
    found = _SYSTEM_CALL(437, -100, whole.encode(errors="replace"), _HOW, len(_HOW))  # openat2, from where we are
    if found >= 0:
        os.close(found)
    return bool(found >= 0)


class CommandWords:
    """One simple command, read from left to right."""

    def __init__(
        self,
        hide: Callable[[str], str],
        public: Collection[str],
        folder: str = "",
        depth: int = 0,
        own: Collection[str] = (),
    ) -> None:
        """Begin before the program. `folder` is where the process works, `public` and `own` are shown."""
        self._hide, self._public, self._folder, self._depth, self._own = hide, public, folder, depth, own
        self._program, self._option = "", ""

    def line(self, text: str) -> str:
        """Return a line for a shell as it is shown. A text that is not understood to its end is hidden whole."""
        if self._depth >= _DEEPEST or len(text) > _LONGEST or "<<" in text:
            return self._hide(text)
        shown, at, inner = list[str](), 0, self._inner()
        while found := _SHELL.match(text, at):
            at = found.end()
            inner = self._inner() if found["new"] else inner
            bare = re.sub(r"""\\(.)|["']""", r"\1", found["word"] or "")
            word = inner.word(bare) if bare else ""
            shown.append(found[0] if word == bare else f"'{word}'" if " " in word else word)
        return "".join(shown) if at == len(text) else self._hide(text)

    def _inner(self) -> "CommandWords":
        return CommandWords(self._hide, self._public, self._folder, self._depth + 1, self._own)

    def word(self, word: str) -> str:
        """Return the next word as it is shown."""
        before, self._option = self._option, ""
        password = before == "-p" and _TAKES_A_SECRET.fullmatch(self._program)
        secret = password or secret_name(before.lstrip("-"), alone=True)
        if len(word) > _LONGEST or (word and secret and not word.startswith("--") and not exists(word, self._folder)):
            return self._hide(word)
        if self._program in _SHELLS and _LINE.fullmatch(before):
            return self.line(word)
        if assigned := _ASSIGNED.fullmatch(word):
            name = assigned["name"].rstrip("+=")
            return self._with_value(assigned, f"--{name}") if all_natural(name) else self._hide(word)
        if word.startswith("-") and (self._program or word[1:] not in _SHELLS) and not _NUMBER.fullmatch(word):
            return self._option_word(word)
        name = word.rpartition("/")[2].lstrip("-")
        if not self._program:
            return self._first(word, name)
        runs = _RUNS.fullmatch(self._program) or self._program in _SHELLS
        if _RUNS.fullmatch(name) or name in _SHELLS:
            self._program = name
        script = runs and all_natural(word) and (_SCRIPT.fullmatch(word) or before == "-m")
        return word if script else self.value(word, before)

    def _first(self, word: str, name: str) -> str:
        """Return the program; in a shell's line only one that is known, because not every first word there is one."""
        self._program = name
        sure = not self._depth or word.startswith(("/usr/", "/opt/", "/srv/")) or exists(f"/usr/bin/{word}")
        return word if all_natural(word) and (sure or _SCRIPT.fullmatch(word)) else self.value(word, "")

    def _option_word(self, word: str) -> str:
        found = _OPTION.fullmatch(word)
        if found and all_natural(found["name"]):
            self._option = "" if found["value"] else word
            return self._with_value(found, found["name"])
        if re.fullmatch(r"-{1,2}|-[A-Za-z]{2,3}", word):
            self._option = word
            return word
        harmless = is_harmless(word, self._public) and not re.search(r"\d{6}", word)
        plain = harmless and not _TAKES_A_SECRET.fullmatch(self._program)
        self._option = "" if "=" in word else word
        if plain or exists(word[2:], self._folder):
            return word
        return self._hide(word) if word.startswith("--") else word[:2] + self._hide(word[2:])

    def _with_value(self, found: re.Match[str], option: str) -> str:
        """Return an option or variable with its value, if that stands in the same word."""
        value = (found["value"] or "").removeprefix("=")
        secret = secret_name(option.lstrip("-"), alone=True) and not exists(value, self._folder)
        shown = self._hide(value) if value and secret else self.value(value, option)
        return f"{found[0].removesuffix(value)}{shown}" if value else found[0]

    def value(self, word: str, option: str = "") -> str:
        """Return a value as it is shown after this option; empty for none."""
        if not word or len(word) > _LONGEST or _HEADER.fullmatch(option):
            return self._hide(word) if word else word
        if re.search(r"\s", word) and not _PLAIN.fullmatch(word) and not exists(word, self._folder):
            return re.sub(r"\S+", lambda found: self.value(found[0], "-"), word)
        if "://" in word:
            return self._url(word) or self._hide(word)
        return word if self._is_shown(word, option) else self._hide(word)

    def _is_shown(self, word: str, option: str) -> bool:
        if _NUMBER.fullmatch(word):
            return option.startswith("--") or not option or not re.search(r"\d{6}", word)
        if _PLAIN.fullmatch(word) or exists(word, self._folder) or word in self._own or is_commit(option, word):
            return True
        if _OF_A_USER.fullmatch(option) and re.search("[:%]", word):
            return False
        found, address = _MODULE.fullmatch(word), _ADDRESS.fullmatch(word)
        module = found and all_natural(found["module"]) and is_harmless(found["attribute"], self._public)
        parts = [part for part in re.split(r"[,:]", word) if part]
        listed = len(parts) > 1 and all(self._is_shown(part, "--") for part in parts)
        host = address and self._is_host(address["host"], option)
        return bool(module or listed or host or is_harmless(word, self._public))

    def _is_host(self, host: str, option: str) -> bool:
        known = _HOSTS.fullmatch(option) or _TOP.fullmatch(host) or is_harmless(host, self._public)
        named = known and all_natural(host) and host.islower()
        return ":" in host or bool(named or re.fullmatch(r"[\d.]+", host))

    def _url(self, word: str) -> str:
        """Return a URL with scheme, host and port; empty if it is none of a known kind."""
        found = _URL.fullmatch(word)
        if not found or not _SCHEMES.fullmatch(found["scheme"].lower()):
            return ""
        user, host, rest = found["user"], found["host"], found["rest"] or ""
        host = host if not host or self._is_host(host, "--host") else self._hide(host)
        if rest[1:] and not is_harmless(rest, self._public) and not exists(rest):
            rest = rest[0] + self._hide(rest[1:])
        return f"{found['scheme']}://{f'{self._hide(user)}@' if user else ''}{host}{found['port'] or ''}{rest}"
