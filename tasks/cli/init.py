"""Write a first evacuation.toml for a folder, from what lies and runs there, and tell what it does not say."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import Any, Final

from blocks.file import store_at, workloads
from blocks.store_fields import StoreFields
from blocks.workload_fields import WorkloadFields
from tasks.acquisition.remainder import in_a_line
from tasks.cli.first_files import FILES
from tasks.cli.first_look import MOST, look_at
from tasks.cli.found import Found
from tasks.cli.output import command
from tasks.collectors.code import survey
from tasks.custody.errors import Refused
from tasks.custody.evidence.pattern import literal_folder, matches_any, of_root
from tasks.custody.incident.description import BUCKET, URL, name_for, tables
from tasks.custody.incident.incident import principal_of
from tasks.custody.models.contract import value_at
from tasks.custody.visible import say, visible
from tasks.incident.directory import find_own_places
from tasks.system.declarations import toml_value, why_undeclared
from tasks.system.files.ours import find_exposure, make_folder
from tasks.system.files.shared_files import SHARED
from tasks.system.installation import KEY

EXAMPLES: Final = SHARED / "examples"
_STORE: Final = {
    "bucket": "my-bucket",
    "prefix": "",  # the workload's name
    "endpoint": "https://s3.example:9000",
    "region": "eu-central-1",
    "folder": "/mnt/evidence",
}
"""Fields of a store that are written, each with an example for where nobody knows it."""
_MAY_RELOAD: Final = (
    'can it load another model after its start? the path of POST for that; if it never does, reload_path = "": else a '
    "recovery asks for the model 起動後にモデルを替えられるか"
)
_USUAL: Final = ["/health", "/healthz", "/api/health", "/ping", "/status"]
_PATH: Final = re.compile(r"/[\w./-]{1,190}", re.ASCII)


def init_by_hand(root: Path, output: Path) -> int:
    """Write the file, and print what it lacks. Raises Refused; overwrites nothing."""
    if not (root.is_dir() and str(root).isprintable()):
        raise Refused("a folder, the workload's root", str(root), "As in: evacuation init /srv/house")
    root = root.resolve() if ".." in root.parts else root
    try:
        workloads({"workload": {(name := name_for(root)): {"root": str(root)}}})
    except Refused as error:  # there is no file yet that could be corrected
        raise Refused(error.expected, error.got, "As in: evacuation init /srv/house") from error
    if (found := look_at(root)).port:
        _describe_contract(found)
    if reason := why_undeclared(root):
        found.missing["root"] = reason
    block = WorkloadFields(**found.fields)
    if rest := survey(block, find_own_places(block)).remainders:
        files, size = sum(each.files for each in rest), sum(each.size for each in rest)
        why = f"in {len(rest)} places {files} files of {size:,} bytes, which nothing here names 採取対象外"
        named = in_a_line(rest).partition(": ")[2]
        found.missing["not taken"] = f"{why}: {named}; this lists them: {command('plan', str(output))}"
    text = compose_file(name, found, _known_store())
    workloads(tables(str(output), text))  # by the rules of the block
    with _new(output), open(output, "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(text)  # for our account alone: a person may write credentials into it
    say(f"wrote {output}", "to answer 要確認:", *(f"  {subject}: {why}" for subject, why in found.missing.items()))
    say(f"next 次: look it through 内容を確認, then {command('doctor', str(output))}")
    return 0


def compose_file(name: str, found: Found, store: dict[str, Any]) -> str:
    """Return the text of the file: what a field means, the processes and what is missing are comments."""
    if "bucket" not in store:
        found.missing["store"] = f"where evidence goes: complete [store.{name}], or set {BUCKET} and run this again"
    lines = ["# Written by `evacuation init`. All fields: docs/reference.md", ""]
    lines += [f"# {visible(line)}" for line in found.processes]
    lines += [f"# to answer 要確認: {visible(f'{subject}: {why}')}" for subject, why in found.missing.items()]
    lines += ["", f"[workload.{name}]"]
    for field, value in found.fields.items():
        literal = field.endswith("_pattern") and "'" not in value
        lines += [f"# {WorkloadFields.model_fields[field].description}".partition(". ")[0]]
        lines += [f"{field} = '{value}'" if literal else f"{field} = {toml_value(value)}"]
        if field == "models" and found.formats:
            lines += [f"# {WorkloadFields.model_fields['model_formats'].description}".partition(". ")[0]]
            lines += [f"# model_formats = {toml_value(found.formats)}"]
    return "\n".join([*lines, "", f"[store.{name}]", *_store_lines(name, store), ""])


def _known_store() -> dict[str, Any]:
    """Return what the environment says of the store, by the rules of the block. Raises Refused."""
    bucket = os.environ.get(BUCKET)
    found = store_at(bucket or f"{URL}unknown").model_dump(include={*_STORE}, exclude_defaults=True)
    return {field: value for field, value in found.items() if bucket or field != "bucket"}


def _store_lines(name: str, store: Mapping[str, Any]) -> Iterator[str]:
    """Yield the fields of the store, each after what it means; what a person must say is a comment, with an example."""
    for field, example in _STORE.items():
        if field != "folder" or "bucket" not in store:
            yield f"# {StoreFields.model_fields[field].description}".partition(". ")[0]
            line = f"{field} = {toml_value(store.get(field, example or name))}"
            yield line if field in store else f"# {line}"
    yield "# credentials: by the AWS chain of whoever evacuates (AWS_PROFILE, AWS_ACCESS_KEY_ID, a role)"
    yield "# Who signs, by the key that `evacuation key` makes; without one no audit is PROVEN"
    yield f'# signing = {{ key_file = "{KEY}", identity = "{principal_of(gethostname())}" }}'


def _describe_contract(found: Found) -> None:
    """Add what the API says of itself, asked by GET alone. It is never told to reload."""
    known: list[tuple[str, dict[str, Any]]] = []
    with suppress(AttributeError, KeyError, TypeError):
        paths = found.ask("/openapi.json", found.port).content["paths"].items()
        known = [(path, verbs) for path, verbs in paths if _PATH.fullmatch(path) and isinstance(verbs, dict)]

    def find(verb: str, named: str) -> list[str]:
        return [path for path, verbs in known if verb in verbs and re.search(named, path, re.IGNORECASE)]

    paths_of_health = find("get", "health|heartbeat|alive|ping$|ready|status") or _USUAL
    answers = {path: found.ask(path, found.port) for path in paths_of_health[:MOST]}
    health = next((path for path, answer in answers.items() if answer.good), "")
    reload, predict = ([*find("post", named), ""][0] for named in ("reload", "predict|infer|score|invocations"))
    found.fields["api_url"] = f"http://127.0.0.1:{found.port}"
    found.fields |= {name: path for name, path in (("health_path", health), ("predict_path", predict)) if path}
    content = answers[health].content if health else {}
    found.add("model_at", _point_to(content, lambda text: _names_a_model(text, found)))
    if reload or found.fields.get("model_at"):
        found.fields["reload_path"] = reload
    else:
        found.missing["reload_path"] = _MAY_RELOAD
    if not found.fields.get("model_at") and (at := _point_to(content, lambda text: _names_a_file(text, found))):
        text = value_at(content, at)
        found.missing["model_at"] = (
            f'its answer names the file {text!r} at {at}: if that is the model, model_at = "{at}"'
        )
    if not health:
        found.missing["health_path"] = "no path that is usual or described answers with 2xx; a key: api_headers"
    to_send = f"what to send by POST {predict or 'to predict_path'}, as in {{ rooms = 3 }}"
    found.missing["canary_request"] = f"{to_send}, and prediction_at, where its answer is"


def _point_to(content: Any, is_wanted: Callable[[str], bool], at: str = "") -> str:
    """Return the JSON pointer to the first text that is wanted; empty if none is."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items if not at[200:] else ():
        here = f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, str) and not here[200:] and is_wanted(value):
            return here
        if deeper := _point_to(value, is_wanted, here):
            return deeper
    return ""


def _names_a_model(text: str, found: Found) -> bool:
    """Return whether a text has a model's suffix, or leads to a file that the patterns for models find there."""
    if re.fullmatch(FILES["models"], text):
        return True
    root, patterns = str(found.fields["root"]), of_root(found.fields.get("models", ()))
    for place in dict.fromkeys(["", *map(literal_folder, patterns)]):
        path = os.path.normpath(os.path.join(root, place, text.removeprefix("file://")))  # noqa: PTH118
        with suppress(OSError, ValueError):  # a word of any length and content
            if matches_any(os.path.relpath(path, root), patterns) and os.path.isfile(path):  # noqa: PTH113
                return True
    return False


def _names_a_file(text: str, found: Found) -> bool:
    """Return whether a text names a file below the root that no pattern for logs or artifacts finds."""
    root = str(found.fields["root"])
    path = os.path.normpath(os.path.join(root, text.removeprefix("file://")))  # noqa: PTH118
    name, others = os.path.relpath(path, root), [*found.fields.get("logs", ()), *found.fields.get("artifacts", ())]
    with suppress(OSError, ValueError):  # a word of any length and content
        return not name.startswith("..") and not matches_any(name, of_root(others)) and os.path.isfile(path)  # noqa: PTH113
    return False


def copy_example(name: str, into: Path) -> int:
    """Copy an example whole into a new folder. Raises Refused for an unknown one, or a folder that is there."""
    known, folder = sorted(path.parent.name for path in EXAMPLES.glob("*/evacuation.toml")), into / name
    if name not in known:
        raise Refused(f"one of the examples: {', '.join(known)}", name, "As in: evacuation init --example gunicorn")
    with _new(folder):
        shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    say(f"wrote {folder}", f"next 次: {folder / 'README.md'}")
    return 0


@contextmanager
def _new(path: Path) -> Iterator[None]:
    """Raise Refused if something has this name, if it cannot be made there, or if another could replace root's."""
    try:
        if os.geteuid() == 0 and (place := find_exposure(path.parent)):
            raise PermissionError(0, f"{place} can be changed by another account")
        os.close(make_folder(path.parent))
        yield
    except OSError as error:
        cure = "Nothing is overwritten 上書きしません. Name another: --output /etc/evacuation/evacuation.toml."
        raise Refused("a name that is not taken yet, in a folder of ours", f"{path}: {error.strerror}", cure) from error
