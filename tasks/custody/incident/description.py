"""Define a workload's description: default patterns, ports, and refused values. Used before Prefect is imported."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from tasks.custody.errors import Refused

Tables: TypeAlias = dict[str, dict[str, dict[str, Any]]]

FILE: Final = ".toml"
KINDS: Final = ("workload", "store", "fleet")
STATE: Final = Path("/var/lib/evacuation")
BUCKET: Final = "S3_BUCKET"
"""Environment variable of the runbook: the store, where no file names one."""
URL: Final = "s3://"
HERE: Final = "."
"""The current folder, which is the workload if no file is given."""
USUAL_TRAINING: Final = "src/train.py"
"""The runbook's own, which the default pattern names."""
_MARKS: Final = (USUAL_TRAINING, "api/app.py")
_AWS: Final = {"endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), "region": ("AWS_REGION", "AWS_DEFAULT_REGION")}
"""What the AWS command line takes from the environment and boto3 does not, not for us, or not in a service."""

EMPTY: Final[tuple[Any, ...]] = ("", None, {}, [])
"""What the forms of Prefect's UI save for a field that nobody filled, or that somebody has cleared."""
API: Final = r"uvicorn .*api\.app"
TRAINING: Final = r"(^|[\s/])src/train\.py(\s|$)"
NOTHING: Final = "(?!)"
"""A pattern that matches no command line: for a workload that has no such process."""
WORKER: Final = r"joblib\.externals\.loky|multiprocessing\.(resource_tracker|spawn|forkserver)"
_UNRELATED: Final = ("", "bash", "/sbin/init", "/usr/sbin/sshd -D", "/usr/lib/systemd/systemd-journald", "vi notes.txt")
_PATTERNS: Final = {"api_pattern": API, "training_pattern": TRAINING, "worker_pattern": WORKER}
_PORT: Final = re.compile(
    r"^(?:(?:UVICORN_)?PORT=|--port[=\n]|-p[=\n]?|(?:--bind|-b)[=\n]?\S*:)(\d{1,5})$", re.MULTILINE
)
_REST: Final[dict[str, Any]] = {
    "user": "",
    "api_port": None,
    "evidence_dir": None,
    "units": [],
    "bystanders": [],
    "interpreter": "",
}
_SERVICE: Final = re.compile(r"[\w:.@\\][\w:.@\\-]*\.service", re.ASCII)
_FIRST_FILE: Final = "`evacuation init FOLDER` writes a first file 最初のファイルを作成."
_NOBODYS_UNIT: Final = re.compile(
    r"(?:evacuation|systemd-|user@|getty@|sshd?@).*"
    r"|(?:sshd?|crond?|anacron|atd|dbus|dbus-broker|docker|containerd|supervisord?|slurmd)\.service"
)
"""Our services, and those in which programs of any kind run."""


def place(text: str) -> tuple[str, str]:
    """Split FILE or FILE:NAME into a file and the name of a table; the name is empty for FILE."""
    file, _, name = text.rpartition(":")
    return (file, name) if file.endswith(FILE) else (text, "")


def read_tables(path: Path) -> Tables:
    """Read the tables of a TOML file. Raises Refused, also if the file cannot be read."""
    try:
        return tables(str(path), path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Refused("a TOML file", f"{path}: {error}", f"Check the path パスを確認. {_FIRST_FILE}") from error


def read_description(path: Path, kind: str) -> Tables:
    """Read the tables of a TOML file. A folder is a workload by the runbook's defaults, and its store is $S3_BUCKET.

    Raises Refused, for a folder only for what it lacks of this kind.
    """
    if not path.is_dir():
        return read_tables(path)
    root = workload_folder(path) if kind == "workload" else path.absolute()
    name = name_for(root)
    return {"workload": {name: {"root": str(root)}}, "store": {name: exported_store() if kind == "store" else {}}}


def name_for(root: Path) -> str:
    """Return the name of a workload that nobody has named: its folder's, as blocks are named."""
    return re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-") or "workload"


def workload_folder(folder: Path) -> Path:
    """Return the whole path of a folder that holds the runbook's training or API. Raises Refused for another one."""
    if not any(_is_file(folder / mark) for mark in _MARKS):
        expected = f"a TOML file, or a folder with {' or '.join(_MARKS)}"
        cure = f"Change to the workload's folder ワークロードのフォルダーで実行. {_FIRST_FILE}"
        raise Refused(expected, f"the folder {folder.absolute()}", cure)
    return folder.absolute()


def _is_file(path: Path) -> bool:
    with suppress(OSError):  # as of a folder that we may not look into
        return path.is_file()
    return False


def exported_store(url: str = "") -> dict[str, Any]:
    """Return the fields of the store at this URL, or at $S3_BUCKET. Raises Refused if there is no URL of a bucket."""
    bucket = url or os.environ.get(BUCKET, "")
    if not bucket.removeprefix(URL).strip("/") or not bucket.startswith(URL):
        cure = f"export {BUCKET}=s3://BUCKET/PREFIX, or name a file that has the store. {BUCKET} を設定してください。"
        raise Refused(f"{BUCKET} in the form s3://BUCKET/PREFIX", repr(bucket) if bucket else "nothing", cure)
    found = {field: [os.environ[name] for name in names if os.environ.get(name)] for field, names in _AWS.items()}
    return {"bucket": bucket, **{field: values[0] for field, values in found.items() if values}}


def tables(file: str, text: str) -> Tables:
    """Parse the tables [workload.NAME], [store.NAME] and [fleet.NAME] of TOML text. Raises Refused."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Refused("a TOML file", f"{file}: {error}", "Correct it there. その行を直してください。") from error
    unknown = [*(found.keys() - set(KINDS)), *(kind for kind in found if not _is_named(found[kind]))]
    if unknown or not found:
        got = ", ".join(sorted(unknown)) if found else "nothing"
        raise Refused("tables [workload.NAME], [store.NAME] and [fleet.NAME]", got, _FIRST_FILE)
    return found


def _is_named(table: object) -> bool:
    return isinstance(table, dict) and all(isinstance(fields, dict) for fields in table.values())


def one(found: Tables, kind: str, file: str, name: str = "") -> tuple[str, dict[str, Any]]:
    """Return name and fields of the named table, or of the only one if no name is given. Raises Refused."""
    named = found.get(kind, {})
    chosen = [name] if name in named else list(named) if not name else []
    if len(chosen) != 1:
        known = ", ".join(named) or "none"
        cure = f"Name it: {file}:NAME." if named else f"Add a [{kind}.NAME], or give the file that has one (--{kind})."
        raise Refused(f"one {kind} in {file}", f"{name!r} of {known}" if name else known, cure)
    return chosen[0], named[chosen[0]]


def pattern(text: str) -> str:
    """Return a valid regular expression for command lines. Raises ValueError if it is invalid or too general."""
    try:
        compiled = re.compile(text)
    except re.error as error:
        cure = "Escape special letters with a backslash, as in api\\.app"
        raise _not_saved("a regular expression", f"{text!r} ({error})", cure) from error
    if any(compiled.search(line) for line in _UNRELATED):
        cure = "Name the program and its arguments, as in uvicorn .*api\\.app"
        raise _not_saved("a pattern that matches this workload only", f"{text!r}, which matches everything", cure)
    return text


def _not_saved(expected: str, got: str, cure: str) -> ValueError:
    return ValueError(f"expected {expected}; got {got}. Nothing was saved. {cure}")


def bystander(text: str) -> str:
    """Return an entry of `bystanders`: a pattern, or exe=, cwd= or unit=. Raises ValueError if it names nothing.

    A program and a folder are named by their whole path, a service by its name.
    """
    kind, _, value = text.partition("=")
    if kind not in {"exe", "cwd", "unit"}:
        return pattern(text)
    if not (_SERVICE.fullmatch(value) if kind == "unit" else PurePath(value).is_absolute() and value != "/"):
        expected = "exe=PROGRAM or cwd=FOLDER with a whole path, or unit=NAME.service"
        cure = "Write it like exe=/usr/bin/tensorboard, cwd=/srv/app/notebooks or unit=filebeat.service"
        raise _not_saved(expected, repr(text), cure)
    return text


def unit(text: str) -> str:
    """Return the name of a systemd service of the workload. Raises ValueError if it is none, ours, or a shared one."""
    if not _SERVICE.fullmatch(text) or _NOBODYS_UNIT.fullmatch(text):
        raise _not_saved("a systemd service of the workload's own", repr(text), "Name it like portfolio-api.service")
    return text


def address(command: Iterable[str], environment: Mapping[str, str]) -> str:
    """Return the URL of a server on this host by its command and environment: the last port named, else 8000."""
    return f"http://127.0.0.1:{['8000', *find_ports(command, environment)][-1]}"


def find_ports(command: Iterable[str], environment: Mapping[str, str]) -> list[str]:
    """Return the ports that a server's command and environment name; the last one counts."""
    words = " ".join([*(f"{name}={value}" for name, value in environment.items()), *command]).split()
    return [str(port) for port in _PORT.findall("\n".join(words))]


def leads_to(url: str) -> tuple[str, int]:
    """Return host and port of a URL; the host is empty if it names none. Raises ValueError for an invalid port."""
    where = urlsplit(url)
    return where.hostname or "", where.port or {"https": 443}.get(where.scheme, 80)


def absolute(path: Path) -> Path:
    """Return an absolute path below /, without "..". Raises ValueError for other paths."""
    if not path.is_absolute() or ".." in path.parts or path == Path("/"):
        cure = "Give the whole path, as in /srv/mlops-sklearn-portfolio"
        raise _not_saved("an absolute path below /, without '..'", repr(str(path)), cure)
    return path


def default_evidence(root: Path) -> Path:
    """Return where the incidents of a workload are kept unless its block says so: in `evidence` in its root.

    Another account that owns the root, or may write to it, could take that away from root. Root has a folder of its
    own, by the path of the root: file, block and early start find it without the name of the workload, and two blocks
    of one root share its lock.
    """
    with suppress(OSError):
        status = root.stat()
        if os.geteuid() == 0 and (status.st_uid or status.st_mode & 0o022):
            return STATE / root.relative_to("/")
    return root / "evidence"


def recognisable(fields: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the fields that recognise a workload, with the block's defaults for missing ones.

    Raises ValueError or KeyError if a field that decides which processes are frozen is invalid, by the block's rules.
    """
    complete = {"host": host, **_PATTERNS, **_REST, **fields}
    for name in _PATTERNS:
        pattern(complete[name])
    for each in complete["bystanders"]:
        bystander(each)
    for each in complete["units"]:
        unit(each)
    absolute(Path(complete["root"]))
    return complete
