"""Spell an installed package as `pip freeze` prints it (PEP 610), from files alone: neither pip nor git is run."""

import json
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tasks.acquisition.reading import inside_of, read_below, read_inside
from tasks.custody.evidence.redact import redact

_BYTES: Final = 1 << 16
_SCP: Final = re.compile(r"(\w+@)?([^/:]+):(\w[^:]*)")
_REMOTE: Final = re.compile(r'^\[remote "([^"]*)"\][^\[]*?^\s*url\s*=\s*(\S+)', re.MULTILINE)


def requirement(bounds: Path, info: Path, name: str, version: str) -> str:
    """Return the package's lines without an end; `info` is its dist-info, and nothing outside `bounds` is read."""
    pinned = f"{name}=={version}"
    try:
        origin = json.loads(read_inside(bounds, info / "direct_url.json", _BYTES))
        editable = origin.get("dir_info", {}).get("editable")
        lines = _editable(bounds, origin, name, pinned) if editable else [f"{name} @ {_reference(origin)}"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return pinned  # as pip has it of an origin that it cannot read
    return redact("\n".join(" ".join(line.split()) for line in lines), digests=True)


def _reference(origin: Any) -> str:
    vcs, url = origin.get("vcs_info"), origin["url"]
    whole = f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else str(url)
    below = origin.get("subdirectory")
    ends = [origin.get("archive_info", {}).get("hash"), below and f"subdirectory={below}"]
    end = "&".join(str(each) for each in ends if each)
    return f"{whole}#{end}" if end else whole


def _editable(bounds: Path, origin: Any, name: str, pinned: str) -> list[str]:
    """Return the lines of an editable install: its repository's remote and commit, else its folder."""
    from tasks.collectors.environment import commit  # which imports packages, and so this module

    place, remote = Path(unquote(urlsplit(origin["url"]).path)), ""
    above = [each for each in (place, *place.parents) if inside_of(bounds, each) is not None]
    if repository := next((each for each in above if (each / ".git").exists()), None):
        remotes = _REMOTE.findall(read_below(repository, ".git/config", _BYTES).decode(errors="replace"))
        url = dict(remotes).get("origin") or next((url for _, url in remotes), "")
        scp = _SCP.fullmatch(url)
        remote = f"ssh://{scp[1] or ''}{scp[2]}/{scp[3]}" if scp else url
    if not (remote and repository and (revision := commit(repository))):
        why = " Git install with no remote" if repository else " install with no version control"
        return [f"# Editable{why if above else ' install, not read'} ({pinned})", f"-e {place}"]
    projects = (each for each in above if (each / "pyproject.toml").is_file() or (each / "setup.py").is_file())
    below = next(projects, repository).relative_to(repository).as_posix()
    end = "" if below == "." else f"&subdirectory={below}"
    return [f"-e git+{remote}@{revision}#egg={name.replace('-', '_')}{end}"]
