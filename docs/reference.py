"""Makes docs/reference.md from the code: `make reference`. What has no meaning there is an error, not a gap."""

import importlib
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from prefect import Flow
from prefect.blocks.core import Block
from prefect.utilities.callables import parameter_schema

import blocks
from docs.source import constants, used_actions
from flows.command.commands import app
from tasks.acquisition.collector import MIB, TIB, Collector
from tasks.collectors import discover
from tasks.custody.evidence import keys
from tasks.custody.incident.action import MEANINGS
from tasks.custody.incident.deployment_names import full_name
from tasks.custody.incident.ending import ENDINGS, OF_PREFECT, Ending
from tasks.custody.incident.exit_codes import EXIT_CODES, INCOMPLETE, INTERRUPTED, NOT_AS_WANTED, REFUSED
from tasks.runtime.step import Step
from tasks.system.installation import NAME

PROJECT: Final = Path(__file__).parents[1]
PAGE: Final = PROJECT / "docs/reference.md"
_FILE: Final = re.compile(r"\.?[a-z][\w‹›-]*\.(json|jsonl|md|html|svg|sig)|SHA256SUMS")
_TARGET: Final = re.compile(r"^([a-z-]+):(?:[^\n#=]*##\s*(.*))?[^\n=]*$", re.MULTILINE)
_EXAMPLE: Final = {"incident": "IR-…", "fleet": "FL-…", "snapshot": "…", "stored": "NAME", "name": "NAME", "number": 1}
_HEAD: Final = """# Reference

Made from the code by `make reference`; a test fails when it is stale. How all of it is used: [setup.md](setup.md).
"""


class Undocumented(Exception):
    """Something that an operator meets has no meaning in the code. The message names all such things."""


@dataclass(frozen=True)
class Chapter:
    """A heading, a sentence on where its rows come from, and a table."""

    title: str
    about: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def reference(chapters: Iterable[Chapter] | None = None) -> str:
    """The page. Raises Undocumented."""
    told = list(chapters if chapters is not None else everything())
    rows = [(each.title, row) for each in told for row in each.rows]
    gaps = [f"{title}: {' '.join(filter(None, row))}" for title, row in rows if not all(cell.strip() for cell in row)]
    if gaps:
        raise Undocumented(f"expected a meaning in the code for each; got none for {'; '.join(gaps)}. Write it there")
    titles = [each.title.replace("`", "") for each in told]
    anchors = {title: re.sub("[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    contents = "".join(f"- [{title}](#{anchors[title]})\n" for title in titles)
    return "\n".join([_HEAD, contents, *map(written, told)])


def everything() -> Iterator[Chapter]:
    """Every chapter in its order."""
    yield commands()
    yield exit_codes()
    yield targets((PROJECT / "Makefile").read_text())
    yield from (flow_chapter(flow) for flow in flows())
    yield from (block_chapter(getattr(blocks, name)) for name in blocks.__all__)
    yield states()
    yield steps_chapter()
    yield collectors(discover())
    yield object_keys()
    yield files(PROJECT / "tasks")
    yield actions(used_actions(PROJECT / "tasks"))
    yield events(PROJECT / "tasks")


def commands() -> Chapter:
    """What a person types."""
    rows = [(f"`{NAME} {name}`", _first(app[name].default_command)) for name in app if not name.startswith("-")]
    about = f"Each shows its options and examples by `{NAME} COMMAND --help`."
    return Chapter("Commands", about, ("Command", "What it does"), rows)


def exit_codes() -> Chapter:
    """What the commands end with."""
    shared = (
        (INCOMPLETE, "not everything was done"),
        (REFUSED, "the command line or its input was refused, or a server or store did not answer"),
        (NOT_AS_WANTED, "`DryRun`, and the real run would not end `Verified`, or might not"),
        (INTERRUPTED, "interrupted before a run began: what was frozen goes on"),
    )
    named = [(code, f"`{name}`") for name, code in EXIT_CODES.items()] + list(shared)
    codes = sorted({code for code, _ in named})
    rows = [(f"`{code}`", ", ".join(told for each, told in named if each == code)) for code in codes]
    about = f"What `{NAME}` ends with, by the [state](#states). 0: all that was asked for is proven."
    return Chapter("Exit codes", about, ("Code", "It means"), rows)


def targets(makefile: str) -> Chapter:
    """What `make` does: the line of each target's help."""
    found = {name: told or "" for name, told in _TARGET.findall(makefile)}
    rows = [(f"`make {name}`", told) for name, told in found.items()]
    return Chapter("make", "Targets of the [Makefile](../Makefile).", ("Target", "What it does"), rows)


def flows() -> list[Flow[Any, Any]]:
    """Every flow of flows/, the evacuation first."""
    modules = [importlib.import_module(f"flows.{path.stem}") for path in sorted((PROJECT / "flows").glob("[a-z]*.py"))]
    every = {made for module in modules for made in vars(module).values() if isinstance(made, Flow)}
    return sorted(every, key=lambda flow: (flow.name != "evacuate", flow.name))


def flow_chapter(flow: Flow[Any, Any]) -> Chapter:
    """A flow's parameters, as its form shows them."""
    about = f"{_first(flow.fn)} Deployed as `{full_name(flow.name, 'NAME')}`."
    return Chapter(f"Flow `{flow.name}`", about, _FIELDS, list(_fields(parameter_schema(flow).model_dump())))


def block_chapter(block: type[Block]) -> Chapter:
    """A block's fields, as its form shows them."""
    about = f"{_first(block)} Saved as `{block.get_block_type_slug()}/NAME`."
    return Chapter(f"Block `{block.get_block_type_name()}`", about, _FIELDS, list(_fields(block.model_json_schema())))


def states() -> Chapter:
    """How runs end."""
    rows = [(f"`{each.name}`", _type(each), str(EXIT_CODES[each.name]), each.means, each.then) for each in ENDINGS]
    about = "How a run ends; the message of its state says what is safe, what is missing and what to do next."
    return Chapter("States", about, ("State", "Type", "Exit code", "It means", "What to do"), rows)


def steps() -> list[Step[Any, Any]]:
    """Every step, in the order of the runbook's sections."""
    files = [path for folder in ("flows", "tasks") for path in sorted((PROJECT / folder).rglob("*.py"))]
    named = [path.relative_to(PROJECT).with_suffix("") for path in files if "\n@step" in path.read_text()]
    modules = [importlib.import_module(".".join(path.parts)) for path in named]
    every = {each.step_id: each for module in modules for each in vars(module).values() if isinstance(each, Step)}
    return sorted(every.values(), key=lambda each: each.section or "§9")


def steps_chapter() -> Chapter:
    """How each step is tried again, and what its result is cached under."""
    about = (
        "Each is a Prefect task, tagged with its section, `step:ID` and `incident:IR-…`. In a cancelled run none is "
        "retried. Only a complete result is cached, for its incident; steps that look or act anew have none."
    )
    return Chapter("Steps", about, ("Step", "Title", "Retries", "Retried if", "Cached by"), [*map(_step, steps())])


def _step(each: Step[Any, Any]) -> Sequence[str]:
    told = json.dumps(each.retry_delay_seconds).strip("[]").replace(".0", "")
    tried = (f"{each.retries}, after {told} s", _first(each.condition)) if each.retries else ("0", "never")
    return f"`{each.step_id}`", each.name, *tried, _first(each.key) if each.key else "never"


def collectors(found: Mapping[str, Collector]) -> Chapter:
    """What is collected, in the order of volatility."""
    head = ("Order", "Collector", "Answers", "Needed", "While frozen", "Seconds", "MiB")
    ordered = sorted(found.values(), key=lambda each: each.order)
    about = "One file each in [tasks/collectors/](../tasks/collectors), in the order of volatility (RFC 3227 §2.1)."
    return Chapter("Collectors", about, head, [_collector(each) for each in ordered])


def object_keys() -> Chapter:
    """Where objects lie, below the store's bucket and prefix."""
    ends = ("_key", keys.snapshot_folder.__name__)
    made = [each for name, each in vars(keys).items() if name.endswith(ends) and inspect.isfunction(each)]
    rows = [(f"`{_example(each)}`", _first(each)) for each in made]
    return Chapter("Keys in the store", "Below the bucket and prefix, or the folder, of the store's block.", _TWO, rows)


def files(folder: Path) -> Chapter:
    """Files of ours on the host: every public constant that names one."""
    named: dict[str, str] = {}
    for _, value, told in constants(folder):
        if _FILE.fullmatch(value) or told.startswith("In "):
            named[value] = named.get(value) or told
    about = "On the workload's host; ‹boot› is how the boot's id begins. Sealed evidence has the workload's files too."
    return Chapter("Files", about, ("File", "What it is"), [(f"`{name}`", named[name]) for name in sorted(named)])


def actions(used: Iterable[str]) -> Chapter:
    """What the custody log tells."""
    rows = [(f"`{name}`", MEANINGS.get(name, "")) for name in dict.fromkeys([*MEANINGS, *used])]
    about = "Entries of the custody log, by their `action`; their fields are in [custody.md](custody.md)."
    return Chapter("Actions in the custody log", about, ("Action", "What was done"), rows)


def events(folder: Path) -> Chapter:
    """What Prefect's automations may listen to."""
    rows = [(f"`{value}`", told) for name, value, told in constants(folder) if name.startswith("EVENT")]
    return Chapter("Events", "Emitted to the Prefect server.", ("Event", "It says"), rows)


_TWO: Final = ("Key", "What it is")
_FIELDS: Final = ("Name", "Type", "Default", "What it is")


def _type(ending: Ending) -> str:
    return ending.name if ending in OF_PREFECT else "Completed" if ending.completed else "Failed"


def _fields(schema: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    needed = schema.get("required", ())
    for name, field in schema["properties"].items():
        known = f"`{_value(field['default'])}`" if "default" in field else "see there"
        default = "required" if name in needed else known
        yield f"`{name}`", _kind(field, schema), default, field.get("description", "")


def _value(default: object) -> str:
    return "none" if default is None else json.dumps(default, ensure_ascii=False).replace("\\\\", "\\")


def _kind(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """The type in a word, with its limits."""
    if several := field.get("anyOf"):
        return " or ".join(dict.fromkeys(_kind(each, schema) for each in several if each.get("type") != "null"))
    if refers := field.get("$ref") or next((each["$ref"] for each in field.get("allOf", ())), ""):
        return f"block {refers.rpartition('/')[2]}"
    if "enum" in field or "const" in field:
        return " or ".join(f"`{_value(each)}`" for each in field.get("enum", [field.get("const")]))
    if field.get("type") == "array":
        return f"list of {_kind(field['items'], schema)}"
    kind = str(field.get("format") or field.get("type") or "any")
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {field[word]}" for word, sign in words.items() if word in field]
    return ", ".join([kind, *limits])


def _collector(each: Collector) -> Sequence[str]:
    yes = {True: "yes", False: "no"}
    numbers = (f"{each.deadline:g}", f"{each.limit // MIB}" if each.limit < TIB else "no limit")
    needed = "with containers" if each.of_containers else yes[each.needed]
    return str(each.order), f"`{each.name}`", each.answers, needed, yes[each.while_frozen], *numbers


def _example(key: Callable[..., str]) -> str:
    return key(**{name: _EXAMPLE.get(name, 1) for name in inspect.signature(key).parameters})


def _first(thing: object) -> str:
    """The first sentence of a docstring, empty if there is none of its own."""
    return (getattr(thing, "__doc__", None) or "").strip().partition("\n")[0]


def written(chapter: Chapter) -> str:
    """Return a chapter as Markdown."""
    lines = [chapter.head, ["---"] * len(chapter.head), *chapter.rows]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return f"## {chapter.title}\n\n{chapter.about}\n\n{table}\n"


if __name__ == "__main__":
    PAGE.write_text(reference())
    print(f"wrote {PAGE.relative_to(PROJECT)}")
