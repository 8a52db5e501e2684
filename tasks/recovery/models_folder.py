"""§7: where the API's models lie on this host."""

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.custody.models.content import HEAD, looks_like_a_model
from tasks.custody.models.inspection import named_as_model
from tasks.custody.store.manifest import digest


class ModelFolder(Protocol):
    """Where the API's models lie, and how it knows them."""

    @property
    def root(self) -> str:
        """The folder that its relative names start from."""

    def known_as(self, name: str) -> str:
        """The path by which the API knows a model; empty for what lies elsewhere."""

    def digest(self, name: str) -> str:
        """The sha256 of what lies there now; empty if that is no file of the folder."""

    def listed(self, sealed: Iterable[str]) -> list[str]:
        """Names of the models that are there now, as far as that can be seen; `sealed` are those of the manifests."""

    def appeared(self, before: Collection[str]) -> list[str]:
        """Models, by name or first bytes, that are listed now and were not before, as far as that can be seen."""


@dataclass(frozen=True)
class HostFolder:
    """A folder of models on this host, below the workload's root."""

    workload: Path
    models: Path
    patterns: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        """The workload's."""
        return str(self.workload)

    def real(self, name: str) -> Path | None:
        """The file that a name in the models folder leads to; None if it leads out of the workload or nowhere.

        A link may lead to another folder of the workload, as models/current to ../store/release-3.
        """
        with suppress(OSError, ValueError, RuntimeError):
            path = self.workload / name
            real, named = path.resolve(), Path(os.path.normpath(path)).is_relative_to(self.models)
            there = self.workload if named else self.models
            if real.is_relative_to(there.resolve()) and real.is_file():
                return real
        return None

    def known_as(self, name: str) -> str:
        """By the same name."""
        return name if self.real(name) else ""

    def digest(self, name: str) -> str:
        """Read what is there."""
        return digest(path) if (path := self.real(name)) else ""

    def listed(self, sealed: Iterable[str]) -> list[str]:
        """What the block's patterns match."""
        from tasks.collectors.matching import found

        del sealed
        names, _ = found(os.fsencode(self.workload), self.patterns)
        return [name.decode(errors="backslashreplace") for name in names]

    def appeared(self, before: Collection[str]) -> list[str]:
        """What is new and looks like a model."""
        new = [name for name in self.listed(()) if name not in before]
        return [name for name in new if named_as_model(name) or looks_like_a_model(self._head(name))]

    def _head(self, name: str) -> bytes:
        with suppress(OSError):
            if path := self.real(name):
                with path.open("rb") as opened:
                    return opened.read(HEAD)
        return b""
