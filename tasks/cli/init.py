"""Write a first evacuation.toml for a folder, from what lies and runs there, and tell what it does not say."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, Final

from blocks.file import workloads
from tasks.cli.first_look import Found, ask, look_at
from tasks.cli.output import command
from tasks.custody.errors import Refused
from tasks.custody.incident.description import BUCKET, exported_store, name_for, tables
from tasks.custody.visible import say, visible
from tasks.system.declarations import toml_value
from tasks.system.shared_files import SHARED

EXAMPLES: Final = SHARED / "examples"
_USUAL: Final = ("/health", "/healthz", "/api/health", "/ping", "/status")
_HEALTH: Final = re.compile(r"health|heartbeat|alive|ping$|ready|status", re.IGNORECASE)
_PREDICT: Final = re.compile(r"predict|infer|score|invocations", re.IGNORECASE)
_PATH: Final = re.compile(r"/[\w./-]{1,190}", re.ASCII)


def init_by_hand(root: Path, output: Path, store: str, *, dry_run: bool) -> int:
    """Write the file, or with `dry_run` print it, and print what it lacks. Raises Refused; overwrites nothing."""
    if not (root.is_dir() and str(root).isprintable()):
        raise Refused("a folder, the workload's root", str(root), "As in: evacuation init /srv/house")
    name = name_for(root)
    workloads({"workload": {name: {"root": str(root)}}})
    found = look_at(root)
    if found.port:
        _describe_contract(found, found.port)
    text = written(name, found, _store_of(found, store))
    workloads(tables(str(output), text))  # by the rules of the block
    if dry_run:
        print(text, end="")
    else:
        with _new(output), output.open("x") as file:
            file.write(text)
        say(f"wrote {output}")
    page = (f"  {about}: {why}" for about, why in found.missing.items())
    say("not found 見つからなかったもの:", *page, error=dry_run)
    say(f"next 次: look it through 内容を確認, then {command('plan', str(output))}", error=dry_run)
    return 0


def written(name: str, found: Found, store: dict[str, Any]) -> str:
    """Return the text of the file, with the processes and what is missing as comments."""
    lines = [
        "Made by `evacuation init` of what lay and ran there. Look it through, then: evacuation plan FILE",
        "What a field means: docs/reference.md. What stands here as `not found` is yours to say (要確認).",
        *found.processes,
        *(f"not found: {about}: {why}" for about, why in found.missing.items()),
    ]
    lines = [*(f"# {visible(line)}" for line in lines), "", f"[workload.{name}]"]
    for field, value in found.fields.items():
        literal = field.endswith("_pattern") and "'" not in value
        lines.append(f"{field} = '{value}'" if literal else f"{field} = {toml_value(value)}")
    lines += ["", f"[store.{name}]", *(f"{field} = {toml_value(value)}" for field, value in store.items())]
    return "".join(f"{line}\n" for line in (lines if store else [*lines[:-1], '# bucket = "s3://BUCKET/PREFIX"']))


def _store_of(found: Found, store: str) -> dict[str, Any]:
    if PurePath(store).is_absolute():
        if not Path(store).is_dir():
            found.missing["store"] = f"make the folder {store}"
        return {"folder": store}
    if store or os.environ.get(BUCKET):
        return exported_store(store)
    found.missing["store"] = f"where evidence goes: a [store.NAME] here, or --store, or {BUCKET}"
    return {}


def _describe_contract(found: Found, port: int) -> None:
    """Add what the API says of itself, asked by GET alone. It is never told to reload."""
    _, spec = ask(port, "/openapi.json")
    paths = spec.get("paths") if isinstance(spec, dict) else None
    every = paths.items() if isinstance(paths, dict) else ()
    known = {path: verbs for path, verbs in every if _PATH.fullmatch(path) and isinstance(verbs, dict)}
    posts = [path for path, verbs in known.items() if "post" in verbs]
    gets = [path for path, verbs in known.items() if "get" in verbs and _HEALTH.search(path)]
    answers = ((path, ask(port, path)) for path in gets or _USUAL)
    healthy = next(((path, content) for path, (status, content) in answers if status in range(200, 300)), ("", None))
    models = {path.name for each in found.fields.get("models", ()) for path in Path(found.fields["root"]).glob(each)}
    predict = next((path for path in posts if _PREDICT.search(path)), "")
    contract = {
        "api_url": f"http://127.0.0.1:{port}",
        "health_path": healthy[0],
        "model_at": _pointer(healthy[1], models),
        "reload_path": next((path for path in posts if "reload" in path), ""),
        "predict_path": predict,
    }
    found.fields |= {name: value for name, value in contract.items() if value or name in {"model_at", "reload_path"}}
    if not healthy[0]:
        found.missing["health_path"] = "no path that is usual or described answers with 2xx; a key: api_headers"
    found.missing["canary_request"] = f"a body of POST {predict or 'its predict_path'} and prediction_at"


def _pointer(content: Any, names: set[str], at: str = "") -> str:
    """Return the JSON pointer to the first text that names one of these files; empty if none does."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        here = f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, str) and PurePath(value).name in names:
            return here
        if deeper := _pointer(value, names, here):
            return deeper
    return ""


def copy_example(name: str, folder: Path) -> int:
    """Copy an example whole into a new folder. Raises Refused for an unknown one, or a folder that is there."""
    known = sorted(path.parent.name for path in EXAMPLES.glob("*/evacuation.toml"))
    if name not in known:
        raise Refused(f"one of the examples: {', '.join(known)}", name, "As in: evacuation init --example gunicorn")
    with _new(folder):
        shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
    say(f"wrote {folder}", f"next 次: {folder / 'README.md'}")
    return 0


@contextmanager
def _new(path: Path) -> Iterator[None]:
    """Raise Refused if something has this name, or if it cannot be made there."""
    try:
        yield
    except OSError as error:
        cure = "Nothing is overwritten 上書きしません. Move it away, or name another file: --output FILE."
        raise Refused(
            "a name that is not taken yet, in a folder to write to", f"{path}: {error.strerror}", cure
        ) from error
