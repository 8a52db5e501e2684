"""§7: find the files of the API's models on this host."""

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.custody.models.content import HEAD, looks_like_a_model
from tasks.custody.models.inspection import is_named_as_model
from tasks.custody.store.manifest import digest


@dataclass(frozen=True)
class HostFolder:
    """A folder of models on this host, below the workload's root."""

    workload: Path
    models: Path
    patterns: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    @property
    def root(self) -> str:
        """The workload's root."""
        return str(self.workload)

    def real(self, name: str) -> Path | None:
        """Resolve a name to its file; None if that is outside the workload or missing.

        A link may lead to another folder of the workload, as models/current to ../store/release-3.
        """
        with suppress(OSError, ValueError, RuntimeError):
            path = self.workload / name
            real, is_model = path.resolve(), Path(os.path.normpath(path)).is_relative_to(self.models)
            parent = self.workload if is_model else self.models
            if real.is_relative_to(parent.resolve()) and real.is_file():
                return real
        return None

    def paths(self, name: str) -> list[str]:
        """Return the name itself, whether it is there or not."""
        return [name]

    def path_in_api(self, name: str) -> str:
        """Return the name itself."""
        return name if self.real(name) else ""

    def digest(self, name: str) -> str:
        """Hash the file."""
        return digest(path) if (path := self.real(name)) else ""

    def list_names(self, sealed: Iterable[str]) -> list[str]:
        """Return the files that match the block's patterns."""
        from tasks.acquisition.matching import find_names

        del sealed
        names, _ = find_names(os.fsencode(self.workload), self.patterns)
        return [name.decode(errors="backslashreplace") for name in names]

    def find_new(self, before: Collection[str]) -> list[str]:
        """Return new files that look like models."""
        new = [name for name in self.list_names(()) if name not in before]
        named = {name for name in new if is_named_as_model(name) or name.lower().endswith(self.formats)}
        return [name for name in new if name in named or looks_like_a_model(self._head(name))]

    def _head(self, name: str) -> bytes:
        with suppress(OSError):
            if path := self.real(name):
                with path.open("rb") as stream:
                    return stream.read(HEAD)
        return b""
