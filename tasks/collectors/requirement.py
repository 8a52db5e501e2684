"""Spell an installed package as `pip freeze` prints it (PEP 610), from files alone: neither pip nor git is run."""

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tasks.collectors.reading import inside_of, read_below, read_inside
from tasks.custody.evidence.redact import redact

_BYTES: Final = 1 << 16
_SCP: Final = re.compile(r"(\w+@)?([^/:]+):(\w[^:]*)")
_REMOTE: Final = re.compile(r'\[remote "(.*)"\]')
_URL: Final = re.compile(r"url\s*=\s*\"?(.*?)\"?")


def requirement(bounds: Path, info: Path, name: str, version: str) -> str:
    """Return the package's lines without an end; `info` is its dist-info, and nothing outside `bounds` is read."""
    pinned = f"{name}=={version}"
    try:
        origin = json.loads(read_inside(bounds, info / "direct_url.json", _BYTES))
        lines = _editable(bounds, origin, name, pinned) if _is_editable(origin) else [f"{name} @ {_reference(origin)}"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return pinned  # pip too takes a package whose origin it cannot read for one of an index
    return redact("\n".join(re.sub(r"\s+", " ", line) for line in lines))


def _is_editable(origin: Any) -> bool:
    return bool(origin.get("dir_info", {}).get("editable"))


def _reference(origin: Any) -> str:
    """Return the URL of a direct reference (PEP 440), as pip writes it."""
    url, fragments = str(origin["url"]), list[str]()
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    if digest := origin.get("archive_info", {}).get("hash"):
        fragments.append(str(digest))
    if below := origin.get("subdirectory"):
        fragments.append(f"subdirectory={below}")
    return f"{url}#{'&'.join(fragments)}" if fragments else url


def _editable(bounds: Path, origin: Any, name: str, pinned: str) -> list[str]:
    """Return the lines of an editable install: by its repository's remote and commit, else by its folder."""
    place = Path(unquote(urlsplit(str(origin["url"])).path))
    if inside_of(bounds, place) is None:
        return [f"# Editable install, its version control was not read ({pinned})", f"-e {place}"]
    repository = next((each for each in _up(bounds, place) if (each / ".git").exists()), None)
    if repository is None:
        return [f"# Editable install with no version control ({pinned})", f"-e {place}"]
    from tasks.collectors.environment import commit  # reads packages too, and so comes after this

    remote, revision = _remote(repository), commit(repository)
    if not remote:
        return [f"# Editable Git install with no remote ({pinned})", f"-e {place}"]
    if not revision:
        return [f"# Editable install, its version control was not read ({pinned})", f"-e {place}"]
    project = next((each for each in _up(repository, place) if _is_project(each)), place)
    below = project.relative_to(repository).as_posix()
    prefix = "" if remote.lower().startswith("git:") else "git+"
    end = "" if below == "." else f"&subdirectory={below}"
    return [f"-e {prefix}{remote}@{revision}#egg={name.replace('-', '_')}{end}"]


def _up(bounds: Path, place: Path) -> Iterator[Path]:
    """Yield a folder and those above it, as far as the bounds."""
    yield from (each for each in (place, *place.parents) if each.is_relative_to(bounds))


def _is_project(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() or (folder / "setup.py").is_file()


def _remote(repository: Path) -> str:
    """Return the URL of origin, else of the first remote, as pip writes it; empty if there is none."""
    found, remote = dict[str, str](), None
    with suppress(OSError):
        for line in map(str.strip, read_below(repository, ".git/config", _BYTES).decode(errors="replace").splitlines()):
            if line.startswith("["):
                remote = _REMOTE.fullmatch(line)
            elif remote and (url := _URL.fullmatch(line)):
                found.setdefault(remote[1], url[1])
    url = found.get("origin") or next(iter(found.values()), "")
    if scp := _SCP.fullmatch(url):
        return f"ssh://{scp[1] or ''}{scp[2]}/{scp[3]}"
    return f"file://{url}" if url.startswith("/") else url
