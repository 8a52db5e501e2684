"""Look at the files of a repository, and write patterns for its models, logs and results: for `evacuation init`."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from glob import escape
from itertools import islice
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import Final

from blocks.workload_fields import WorkloadFields
from tasks.cli.found import Found
from tasks.custody.evidence.keys import placed_name
from tasks.custody.evidence.pattern import matches_any
from tasks.custody.models.inspection import BESIDE, SUFFIXES, formats_of, holds_a_model
from tasks.host.host import Host
from tasks.host.process.process import Process
from tasks.system.files.open_beneath import real_name

FILES: Final = {
    "models": f".*({'|'.join(map(re.escape, SUFFIXES))})",
    "logs": r".*\.log",
    "artifacts": r"(artifacts?|outputs?|results?|reports?|metrics)/.*\.(json|csv|png|html)",
}
_USUAL_FOLDERS: Final = {
    "models": "models",
    "logs": "logs",
    "artifacts": "artifacts?|outputs?|results?|reports?|metrics",
}
_NO_PRODUCT: Final = re.compile(
    r"\.(git|nfs).*|\.(keep|placeholder|DS_Store)|(?i:README|LICENSE)(\..*)?|.*\.(py|pyc|pyi|lock|pid)"
)
_SUFFIX: Final = re.compile(r"\.[a-z][a-z0-9]{0,11}", re.ASCII | re.IGNORECASE)
_AROUND_PICKLES: Final = frozenset({".ckpt", ".pt", ".pth"})
MOST_NAMES: Final = 100_000
_MOST_ALONE: Final = 20
_DATA: Final = frozenset({"data", "dataset", "datasets"})
_PASSED_OVER: Final = re.compile(r"\..*|v?env|node_modules|site-packages|__pycache__|evidence")


def held_open(found: Found, host: Host, processes: Sequence[Process]) -> list[PurePath]:
    """Return the files below the root that these processes write to now, without locks and our own."""
    real, held = os.path.realpath(found.fields["root"]), set[str]()
    handles = host.handles(processes).values()
    for each in handles:
        held |= {file for file in each.written & each.below if file.startswith(f"{real}/")}
    if denied := sum(each.denied for each in handles):
        found.missing["open files"] = f"of {denied} processes we may not read which they write to: run this as root"
    names = sorted(PurePath(each).relative_to(real) for each in held if Path(each).is_file())
    return [name for name in names if name.parts[0] != "evidence" and name.suffix not in {".lock", ".pid"}]


def models_open(found: Found, host: Host, processes: Sequence[Process]) -> list[PurePath]:
    """Return the files below the root that these processes hold open, and that are models by their name."""
    real = os.path.realpath(found.fields["root"])
    held = {file for each in host.handles(processes).values() for file in each.below - each.written}
    names = [PurePath(each).relative_to(real) for each in sorted(held) if each.startswith(f"{real}/")]
    own = [each for each in names if each.parts[0] not in _DATA and not any(map(_PASSED_OVER.fullmatch, each.parts))]
    return [each for each in own if holds_a_model(str(each)) and Path(real, each).is_file()]


def globs_of(name: PurePath) -> dict[str, str]:
    """Return a pattern by each kind of file that a name is of."""
    return {kind: _glob_of(name) for kind, named in FILES.items() if re.fullmatch(named, str(name))}


def name_files(
    found: Found,
    held: Sequence[PurePath],
    opened: Sequence[PurePath] = (),
    mounted: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> None:
    """Add patterns for the models, logs and results that lie there, and the folders that hold them.

    In a folder of a usual name lies what it is named for, whatever the suffix. What no pattern names is counted. `held`
    is open for writing, `opened` are models; `mounted` are patterns for what containers have outside the root.
    """
    root, unread = Path(found.fields["root"]), list[OSError]()
    names, folders = [*islice(_files(str(root), unread), MOST_NAMES)], set[str]()
    recognised = {name.parent for name in names if re.fullmatch(FILES["models"], str(name))}
    globs, others, hidden, models = {kind: set[str]() for kind in FILES}, Counter[str](), 0, list[str]()
    for name in names:
        shown, is_link = str(name).isprintable(), (root / name).is_symlink()
        usual = _usual_kind(name.parts[0]) if name.parts[1:] or is_link else ""
        kinds = [kind for kind, named in FILES.items() if shown and re.fullmatch(named, str(name))]
        named = {kind: _glob_of(name) for kind in kinds}
        is_text = usual == "models" and name.suffix.lower() in BESIDE and name.parent in recognised and not is_link
        if usual and not (kinds or is_text) and _is_of_folder(name):
            named = {usual: _glob_in_folder(name, usual)}
        hidden += not (named or shown) and bool(re.fullmatch("|".join(FILES.values()), str(name), re.DOTALL))
        others[usual] += usual not in named
        models += [str(name)] * ("models" in named)
        for kind, pattern_of_name in named.items():
            globs[kind].add(pattern_of_name)
        folders |= {name.parts[0]} if named and (name.parts[1:] or usual) else set()
    models += map(str, opened)
    found.formats = sorted(formats_of(models) - _AROUND_PICKLES)
    _add_open(globs, held, opened)
    for kind, of_kind in mounted.items():
        globs[kind].update(of_kind)
    for kind, patterns in globs.items():
        if patterns:
            found.fields[kind] = _without_covered(patterns)
        else:
            _name_none(found, kind, others[kind], unread)
    able = {name for name in folders if placed_name(f"{name}/x".encode(errors="surrogateescape")) == f"{name}/x"}
    if able:
        found.fields["folders"] = sorted({*WorkloadFields.model_fields["folders"].default, *able})
    _name_unlooked(found, folders - able, unread, hidden, full=len(names) == MOST_NAMES)


def _add_open(globs: Mapping[str, set[str]], held: Sequence[PurePath], opened: Sequence[PurePath]) -> None:
    for name in held:
        if str(name).isprintable() and not matches_any(str(name), (each for kind in globs.values() for each in kind)):
            globs[_usual_kind(name.parts[0]) or "logs"].add(_glob_of_held(name))
    for name in opened:
        if str(name).isprintable() and not matches_any(str(name), globs["models"]):
            globs["models"].add(_glob_of(name))


def _without_covered(patterns: Collection[str]) -> list[str]:
    """Return patterns without those that one of a whole folder covers, as one of models/ covers very many."""
    alone = {each for each in patterns if each.startswith("models/") and "/**" not in each}
    kept = {*patterns} if len(alone) <= _MOST_ALONE else {*patterns, "models/**"} - alone
    whole = tuple(each.removesuffix("**") for each in kept if each.endswith("/**"))
    return sorted(each for each in kept if each.endswith(("/**", "/.*")) or not each.startswith(whole))


def _name_none(found: Found, kind: str, others: int, unread: Sequence[OSError]) -> None:
    """Say that nothing of a kind is seen; it may be missing only where that is known."""
    tops = {PurePath(os.path.relpath(error.filename, found.fields["root"])).parts[:1] for error in unread}
    if any(top and _usual_kind(top[0]) == kind for top in tops):
        found.missing[kind] = "its folder may not be read, so what lies there is not known: run this as who may read it"
        return
    if found.fields.get("containers"):
        where = (
            "none lie in the root now, nor in a mount that was looked into; what the containers hold was not looked at"
        )
        found.missing[kind] = f"{where}: name them in {kind}, or {kind} in may_be_missing if there are none"
        return
    found.fields.setdefault("may_be_missing", []).append(kind)
    but = (
        f" but {others} file{'s'[: others != 1]} in its folder, source code, hidden or of another kind"
        if others
        else ""
    )
    found.missing[kind] = f"none lie here now{but}"


def _name_unlooked(found: Found, unable: set[str], unread: Sequence[OSError], hidden: int, *, full: bool) -> None:
    """Count what was not looked at, or gets no pattern or folder for its name."""
    reasons = [f"only the first {MOST_NAMES} names were looked at"] if full else []
    reasons += [f"{len(unread)} folders may not be read, as {unread[0].filename}"] if unread else []
    reasons += [f"{hidden} files have names that cannot be shown, so no pattern names them"] if hidden else []
    if unable:
        reasons += [f"{len(unable)} folders have names that `folders` does not take, as {min(unable)}"]
    if reasons:
        found.missing["files"] = "; ".join(reasons)


def _usual_kind(top: str) -> str:
    """Return of which kind the files of a folder in the root are by its name; empty if it says nothing."""
    return next((kind for kind, named in _USUAL_FOLDERS.items() if re.fullmatch(named, top)), "")


def _is_of_folder(name: PurePath) -> bool:
    """Return whether a pattern may name it for its folder: no source code, nothing that keeps a folder in git."""
    above = name.parts[1:-1]
    return not (_NO_PRODUCT.fullmatch(name.name) or any(each.startswith(".") for each in above))


def _glob_of(name: PurePath) -> str:
    return "/".join([*map(escape, name.parts[:-1][:1]), *["**"][: len(name.parts) - 1], f"*{name.suffix}"])


def _glob_in_folder(name: PurePath, kind: str) -> str:
    """Return a pattern for one of a usual folder. A suffix that counts or dates, or none, is no pattern.

    Of models then that file alone: what a pattern of models names is judged as one.
    """
    if name.name.startswith(".") and name.parts[1:]:
        return f"{name.parts[0]}/**/.*"
    if name.parts[1:] and _SUFFIX.fullmatch(name.suffix):
        return _glob_of(name)
    return _glob_of_held(name) if kind == "models" and str(name).isprintable() else f"{name.parts[0]}/**"


def _glob_of_held(name: PurePath) -> str:
    """Return a pattern for one file alone, whatever its numbers are: another start may choose others."""
    return re.sub(r"[0-9]+", "[0-9]*", "/".join(map(escape, name.parts)))


def _files(root: str, unread: list[OSError]) -> Iterator[PurePath]:
    """Yield the files by name, those of usual folders first; there a link to elsewhere too, which is not followed."""
    tops = sorted(each.name for each in Path(root).iterdir() if _usual_kind(each.name) and _is_folder(each))
    for top in tops:
        if (real := _real(root, top)) is None:
            yield PurePath(top)
            continue
        for folder, below, files in os.walk(Path(root, top), onerror=unread.append):
            here = PurePath(folder).relative_to(root)
            links = [each for each in below if Path(folder, each).is_symlink()]
            elsewhere = [each for each in links if not f"{_real(root, str(here / each))}/".startswith(f"{real}/")]
            yield from (here / each for each in (*files, *elsewhere))
    for folder, below, files in os.walk(root, onerror=unread.append):
        known = tops if folder == root else []
        below[:] = [each for each in below if not (_PASSED_OVER.fullmatch(each) or each in known)]
        yield from (PurePath(folder, each).relative_to(root) for each in files)


def _is_folder(path: Path) -> bool:
    with suppress(OSError):  # a link to where we may not look
        return path.is_dir()
    return False


def _real(root: str, name: str) -> str | None:
    """Return where a name leads below the root; None if out of it, or nowhere."""
    with suppress(OSError):
        real = real_name(os.fsencode(root), os.fsencode(name))
        return None if real is None else os.fsdecode(real)
    return None
