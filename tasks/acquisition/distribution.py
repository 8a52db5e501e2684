"""Read an installed package's dist-info (PEP 376, PEP 610) and compare it with the files that lie there now."""

import base64
import csv
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tasks.acquisition.reading import digest_in_time, open_regular, read_below
from tasks.custody.evidence.redact import redact, redact_fields

_RECORD_BYTES: Final = 32 << 20
_SMALL: Final = 1 << 16
_SHOWN: Final = 50


@dataclass(frozen=True)
class Distribution:
    """One dist-info folder in a site-packages folder."""

    site: Path
    info: str

    @cached_property
    def record(self) -> bytes | None:
        """RECORD as it is; None if there is none, as in packages that apt installs."""
        with suppress(OSError):
            return read_below(self.site, f"{self.info}/RECORD", _RECORD_BYTES)
        return None

    @cached_property
    def files(self) -> dict[str, str]:
        """SHA-256 in hex by file, from RECORD; empty for a file without a digest."""
        lines = (self.record or b"").decode(errors="surrogateescape").splitlines()
        with suppress(csv.Error):
            return {row[0]: _hex(row[1]) for row in csv.reader(lines) if len(row) >= 2}  # noqa: PLR2004
        return {}

    def summary(self, until: float) -> dict[str, Any]:
        """Return where it came from, and which of its files differ from what was installed."""
        name, _, version = self.info.removesuffix(".dist-info").partition("-")
        verdicts = dict(self._compare(until))
        words = set(verdicts.values())
        by = {word: sorted(file for file, verdict in verdicts.items() if verdict == word) for word in words}
        return {
            "name": name,
            "version": version,
            "record_sha256": hashlib.sha256(self.record).hexdigest() if self.record is not None else "no RECORD",
            "installer": self._small("INSTALLER"),
            "direct_url": self._origin(),
            "files": len(verdicts),
            "differ": by.get("differs", [])[:_SHOWN],
            "gone": by.get("gone", [])[:_SHOWN],
            "differ_count": len(by.get("differs", [])),
            "gone_count": len(by.get("gone", [])),
            "not_read": len(by.get("not read", [])),
            "not_checked": len(by.get("not checked", [])),
        }

    def _compare(self, until: float) -> Iterator[tuple[str, str]]:
        """Compare the files inside the folder only: RECORD may name any file of the host."""
        for name, sha in self.files.items():
            path = PurePosixPath(name)
            if sha and not path.is_absolute() and ".." not in path.parts:
                yield _printable(name), self._verdict(name, sha, until)

    def _verdict(self, name: str, sha: str, until: float) -> str:
        if time.monotonic() > until:
            return "not checked"
        try:
            with open_regular(self.site, name) as descriptor:
                found = digest_in_time(descriptor, until)
        except FileNotFoundError:
            return "gone"
        except (OSError, ValueError):
            return "not read"
        if found is None:
            return "not checked"
        return "same" if found == sha else "differs"

    def _small(self, name: str) -> str:
        try:
            return read_below(self.site, f"{self.info}/{name}", _SMALL).decode(errors="backslashreplace").strip()
        except OSError:
            return ""

    def _origin(self) -> Any:
        text = self._small("direct_url.json")
        with suppress(ValueError, RecursionError):
            return redact_fields(json.loads(text), digests=True) if text else None
        return redact(text, digests=True)


def find_unclaimed(site: Path, packages: Iterable[Distribution]) -> list[str]:
    """Return entries of the folder that no RECORD names: put there by hand, or by a package manager without RECORD."""
    claimed = {PurePosixPath(name).parts[0] for package in packages for name in package.files if name}
    own = {package.info for package in packages} | {"__pycache__"}
    return sorted(_printable(name) for name in set(os.listdir(site)) - claimed - own)  # noqa: PTH208


def _hex(written: str) -> str:
    """Turn RECORD's URL-safe base64 without padding into hex; empty for other algorithms than SHA-256."""
    kind, _, value = written.partition("=")
    with suppress(ValueError):
        return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).hex() if kind == "sha256" else ""
    return ""


def _printable(name: str) -> str:
    return os.fsencode(name).decode(errors="backslashreplace")
