"""A workload's tree as an enemy would leave it: hundreds of files, links and names, made by a seed.

Nothing in it may be lost without a reason, nothing outside it may be read, and nothing of it may run.
"""

import hashlib
import os
import pickle
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

KINDS = ("logs", "artifacts", "models")
CANARY = b"canary-content-from-outside"
CANARY_NAME = "canary-name-from-outside"
_NAMES = (
    b"a\nb",
    b"\xff\xfe\x80",
    b" a b ",
    b"%2E%2E",
    b"~",
    b"...",
    b"-rf",
    b"--help",
    b"a\\b",
    b"'\"",
    b"$(touch RAN)",
    b"`touch RAN`",
    b"; touch RAN",
    b"*",
    b"[a]",
    b"\x1b[2J",
    b"manifest.json",
    b"SHA256SUMS",
    b"coverage.json",
    b"attempt-1",
    b".part~",
    "ログ".encode(),
    "e\u0301".encode(),
    "\u202egol".encode(),
)


class Trap:
    """A pickle that leaves a mark when it is loaded."""

    def __init__(self, mark: Path) -> None:
        """Where it would leave it."""
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        """What a loader would run."""
        return os.system, (f"touch '{self.mark}'",)


@dataclass
class Hostile:
    """The tree in `root`, the secrets in `outside`, and the folder in which whatever runs leaves a mark."""

    root: Path
    outside: Path
    marks: Path

    def expected(self) -> Iterator[bytes]:
        """Every name in the three folders that a pattern like logs/** matches: found without any code of the product.

        Folders are no files, and what is hidden is not matched; links count whatever they lead to.
        """
        for kind in KINDS:
            yield from self.below(kind.encode())

    def below(self, place: bytes) -> Iterator[bytes]:
        """Every such name in one folder, which may be a link."""
        for folder, folders, names in os.walk(os.path.join(os.fsencode(self.root), place)):
            folders[:] = [name for name in folders if not name.startswith(b".")]
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            for name in (*names, *links):
                if not name.startswith(b"."):
                    yield os.path.relpath(os.path.join(folder, name), os.fsencode(self.root))

    def linked_folder(self, name: bytes) -> bool:
        """Whether it is a link to a folder of the tree."""
        path = os.path.join(os.fsencode(self.root), name)
        inside = os.path.realpath(path).startswith(os.path.realpath(os.fsencode(self.root)) + b"/")
        return os.path.islink(path) and os.path.isdir(path) and inside

    def digest(self, name: bytes) -> str:
        """SHA-256 of a file, through links."""
        with open(os.path.join(os.fsencode(self.root), name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def ran(self) -> list[Path]:
        """Marks of whatever has run."""
        return [*self.marks.iterdir(), *self.root.rglob("RAN")]


def make_hostile(root: Path, outside: Path, seed: int, count: int = 300) -> Hostile:
    """Fill the three folders of a root. The same seed makes the same tree."""
    dice = random.Random(seed)  # noqa: S311  a repeatable tree, no secret
    marks = outside / "marks"
    marks.mkdir(parents=True)
    (outside / "secret").write_bytes(CANARY)
    (outside / "folder").mkdir()
    (outside / "folder" / CANARY_NAME).write_bytes(CANARY)
    (outside / "onward").symlink_to(outside / "folder" / CANARY_NAME)
    folders = [os.fsencode(root / kind) for kind in KINDS]
    for folder in folders:
        os.makedirs(folder, exist_ok=True)
    made = Hostile(root, outside, marks)
    makers = _makers(made, dice)
    for number in range(count):
        folder = dice.choice(folders)
        name = dice.choice((*_NAMES, b"n" * 255, b"plain", b"model_x.joblib"))
        name += dice.choice((b"", b"%d" % number))
        path = os.path.join(folder, name[:255])
        with suppress(FileExistsError, OSError):
            dice.choice(makers)(path, folders)
    return made


def _makers(made: Hostile, dice: random.Random) -> list[Callable[[bytes, list[bytes]], None]]:  # noqa: C901  one a trap
    """One function for each kind of trap: it makes one at a path, and may add a folder to fill."""
    outside = os.fsencode(made.outside)

    def plain(path: bytes, _: list[bytes]) -> None:
        _new(path, dice.randbytes(dice.choice((0, 1, 4096, 70_000))))

    def sparse(path: bytes, _: list[bytes]) -> None:
        _new(path, b"head")
        os.truncate(path, dice.choice((1 << 20, 5 << 20, 1 << 42)))

    def hard_link(path: bytes, folders: list[bytes]) -> None:
        os.link(_some(folders, dice), path, follow_symlinks=False)

    def inner_link(path: bytes, folders: list[bytes]) -> None:
        os.symlink(os.path.relpath(_some(folders, dice), os.path.dirname(path)), path)

    def absolute_inner_link(path: bytes, folders: list[bytes]) -> None:
        os.symlink(_some(folders, dice), path)

    def folder_link(path: bytes, folders: list[bytes]) -> None:
        os.symlink(os.path.relpath(dice.choice(folders), os.path.dirname(path)), path)

    def outer_link(path: bytes, _: list[bytes]) -> None:
        os.symlink(os.path.join(outside, dice.choice((b"secret", b"onward", b"folder", b"marks"))), path)

    def relative_outer_link(path: bytes, _: list[bytes]) -> None:
        os.symlink(os.path.relpath(os.path.join(outside, b"secret"), os.path.dirname(path)), path)

    def proc_link(path: bytes, _: list[bytes]) -> None:
        os.symlink(dice.choice((b"/proc/self/environ", b"/proc/self/root", b"/dev/zero", b"/proc/kmsg")), path)

    def loop(path: bytes, _: list[bytes]) -> None:
        os.symlink(os.path.basename(path), path)

    def dangling(path: bytes, _: list[bytes]) -> None:
        os.symlink(b"nowhere", path)

    def pipe(path: bytes, _: list[bytes]) -> None:
        os.mkfifo(path)

    def listening(path: bytes, _: list[bytes]) -> None:
        place = os.open(os.path.dirname(path), os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(b"/proc/self/fd/%d/" % place + os.path.basename(path)[:60])
        os.close(place)

    def device(path: bytes, _: list[bytes]) -> None:
        os.mknod(path, 0o020666, os.makedev(1, 5))  # /dev/zero, which never ends; refused to all but root

    def unreadable(path: bytes, _: list[bytes]) -> None:
        _new(path, b"closed")
        os.chmod(path, 0)

    def script(path: bytes, _: list[bytes]) -> None:
        _new(path, f"#!/bin/sh\ntouch '{made.marks}/script'\n".encode())
        os.chmod(path, 0o700)

    def trap(path: bytes, _: list[bytes]) -> None:
        _new(path, pickle.dumps(Trap(made.marks / "pickle")))

    def deep_json(path: bytes, _: list[bytes]) -> None:
        _new(path + b".json", b"[" * 100_000)

    def folder(path: bytes, folders: list[bytes]) -> None:
        os.mkdir(path)
        if path.count(b"/") < 40:
            folders.append(path)

    return [
        *(
            plain,
            plain,
            plain,
            sparse,
            hard_link,
            inner_link,
            folder_link,
            absolute_inner_link,
            outer_link,
            relative_outer_link,
        ),
        *(proc_link, loop, dangling, pipe, listening, device, unreadable, script, trap, deep_json, folder),
    ]


def _new(path: bytes, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)


def _some(folders: list[bytes], dice: random.Random) -> bytes:
    folder = dice.choice(folders)
    return os.path.join(folder, dice.choice(sorted(os.listdir(folder)) or [b"nothing"]))
