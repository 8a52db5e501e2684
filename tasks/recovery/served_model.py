"""§7: prove which model the API serves, by its files before and after the start, and by the API's own answer."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from posixpath import basename
from typing import Final

from blocks.workload import Workload
from tasks.custody.containment.receipt import NOT_AS_BEFORE
from tasks.custody.evidence.acquisition import Seal, StoredFile
from tasks.custody.evidence.artifact import unsteady
from tasks.custody.evidence.keys import unquote
from tasks.custody.evidence.pattern import ends_with
from tasks.custody.evidence.redact import redact
from tasks.custody.incident.description import leads_to
from tasks.custody.models.contract import ServedBefore, find_named_elsewhere, value_at
from tasks.custody.models.inspection import (
    NONE_JUDGED,
    OTHER_FORMAT,
    ModelFinding,
    forbids_start,
    goes_along,
    is_named_as_model,
    line_of_suffixes,
    why_none,
    why_unsound,
)
from tasks.custody.visible import join_some
from tasks.evidence.seal import read_manifest
from tasks.incident.paths import IncidentDirectory
from tasks.models.findings import sealed_findings, sound_models
from tasks.recovery.api_client import Api, ApiResponse, failure, shown_address
from tasks.recovery.container_api import ModelFolder, find_named
from tasks.recovery.models_folder import HostFolder
from tasks.recovery.opened import Opened
from tasks.runtime.context import RunContext
from tasks.runtime.state import IncidentState

_SHOWN: Final = 10
_RELOADS_ONE: Final = (
    'end it, and recover with reload_path = "" and a start of its own that names the model, as examples/gunicorn has it'
)
NAME_IT: Final = "(name as model the one that you know it was; 確認できたら model で指定)"
_ALTERED: Final = ", not as sealed"
"""Ends the name of an opened model that was not as sealed then: what is at its path later was not opened."""
_PUT_BACK: Final = (
    "which it serves was not asked yet; name the one to serve by --model or in the API's own start, or put this one "
    "back from what evacuation pull fetches; --model で指定するか元に戻す"
)


@dataclass(frozen=True)
class Served:
    """Which model the API serves, and what of that is not proven."""

    model: str
    sha256: str
    unproven: tuple[str, ...] = ()


@dataclass(frozen=True)
class SealedModels:
    """Files of the manifests by path (the last sealed one for each), and the findings on their models.

    `first` are the first sealed ones that held still, as they were at the freeze.
    `chosen` is the one to serve, if empty what the API starts with; `named` says that a person chose it.
    """

    files: Mapping[str, StoredFile]
    sound: tuple[StoredFile, ...]
    findings: tuple[ModelFinding, ...]
    chosen: str = ""
    named: bool = False
    before: ServedBefore = field(default_factory=ServedBefore)
    first: Mapping[str, StoredFile] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        directory: IncidentDirectory,
        block: Workload,
        seals: Sequence[Seal],
        judge: Callable[[int, Iterable[StoredFile]], tuple[ModelFinding, ...]] | None = None,
    ) -> "SealedModels":
        """Read manifests and findings, those that were sealed or what `judge` says by the present rules."""
        files, first = dict[str, StoredFile](), dict[str, StoredFile]()
        sound, findings = list[StoredFile](), list[ModelFinding]()
        for volume in (seal.volume for seal in seals):
            sealed = read_manifest(directory, volume).files
            judged = judge(volume, sealed) if judge else sealed_findings(directory, volume)
            own = {path_of(file): file for file in sealed if file.source}
            first = {path: file for path, file in own.items() if not unsteady(file.stored, file.note)} | first
            files |= own
            findings += judged
            for file in sound_models(sealed, judged):
                if file.stored.startswith("models/") or ends_with(path_of(file), block.models):
                    sound.append(file)
        return cls(files, tuple(sound), tuple(findings), first=first)

    @property
    def last(self) -> dict[str, StoredFile]:
        """The sound models by path. Only the file sealed last at a path counts."""
        return {path: file for file in self.sound if self.files[path := path_of(file)].sha256 == file.sha256}

    @property
    def served_at_freeze(self) -> str:
        """The model that was served at the freeze and how that is known, else what its start names; empty if neither.

        The start is as block, unit or image have it: a file may say so and the process have served another.
        """
        if self.before.names or self.named or not self.chosen:
            return self.before.summary
        return f"{self.chosen} (named by its start alone; nothing of its process proves it)"

    def reloads(self, workload: Workload) -> bool:
        """Return whether the API is asked to reload."""
        return bool(workload.reload_path and self.chosen)

    def starting(
        self, block: Workload, state: IncidentState, folder: ModelFolder, names: Sequence[str], *, lives: bool = False
    ) -> list[str]:
        """Return names of the models that the API may load at its start: those that the start names.

        If it names none: those of `names`, which exist, and the one to reload. New ones count too, unless an earlier
        recovery has let training in. For an API that `lives`, the one to reload is enough.
        """
        sound = [path_of(file) for file in self.sound]
        reloaded = [self.chosen] if self.reloads(block) else []
        words = [*folder.words]
        if start_names := find_named(folder, words, names) or find_named(folder, words, sound):
            return start_names
        if lives and reloaded:
            return reloaded
        loadable = [name for name in names if name in self.files or not state.has_let_in]
        return [*loadable, *(name for name in reloaded if name not in loadable)]

    def find_changed(self, folder: ModelFolder, names: Collection[str]) -> dict[str, str]:
        """Return the models beside the chosen one that are not as sealed, with their digests now, empty if gone.

        A training that was let in makes new ones. None where the start names its models, where nobody knows which one
        is wanted, or in a container, where they cannot be read.
        """
        is_known = self.named or (self.chosen and self.last[self.chosen].sha256 in self.before.contents)
        if not is_known or not isinstance(folder, HostFolder) or find_named(folder, folder.words, names):
            return {}
        now = {name: folder.digest(name) for name in names if name != self.chosen}
        sealed = {name: file.sha256 for name, file in self.files.items()}
        return {name: sha256 for name, sha256 in now.items() if sealed.get(name) != sha256}

    def require_unchanged(self, workload: Workload, folder: ModelFolder, names: Sequence[str]) -> None:
        """Raise NotRecovered if one of these files is suspect, was not read whole, or differs from the manifest."""
        url, bad = shown_address(workload), dict[str, ModelFinding]()
        for name in names:
            sealed, now = self.files.get(name), folder.digest(name)
            if sealed is None:
                raise failure(f"the API at {url} to serve a model of the manifest", f"{name}, which is not in it")
            if now != sealed.sha256:
                got = f"{name}: {f'sha256 {now}' if now else 'no such file there (model = SNAPSHOT:path)'}"
                promise = f"each model that the API at {url} may load to be as sealed, sha256 {sealed.sha256} of {name}"
                raise failure(f"{promise} as in the manifest", f"{got} ({_PUT_BACK})")
            bad.update((name, each) for each in self.findings if each.sha256 == now and forbids_start(each))
        if bad:
            reasons = "; ".join(f"{name}: {forbids_start(each)}" for name, each in bad.items())
            cure = _cure(workload, bad.values(), several=len(names) > 1)
            raise failure(f"the API at {url} to start on no suspect model", f"{reasons} ({cure})")

    def require_chosen(self, workload: Workload, names: Sequence[str]) -> None:
        """Raise NotRecovered if a person has named a model, and the API neither reloads nor starts with it."""
        if self.named and not workload.reload_path and self.chosen not in names:
            got = f"{', '.join(names) or 'none'}: name it in api_environment or api_command"
            raise failure(f"the start of an API without reload_path to name {self.chosen}", got)

    def find_wanted(self, workload: Workload) -> StoredFile | None:
        """Return the chosen model if the API reloads it, or a person has named it: no other one is proven."""
        return self.last[self.chosen] if self.named or self.reloads(workload) else None

    def find_expected(self, workload: Workload, names: Sequence[str]) -> list[StoredFile]:
        """Return models that the API may serve: the chosen one if reloaded or named, else the sound ones of `names`."""
        if wanted := self.find_wanted(workload):
            return [wanted]
        return [file for path, file in self.last.items() if path in names]

    def explain_none_expected(self) -> str:
        """Return why none of the sound models is known to be one that the API may load."""
        if not (sound := sorted(self.last)):
            unjudged = "was judged: their formats are not read here 対応外の形式"
            return f"the manifest names none that {unjudged if why_none(self.findings) == NONE_JUDGED else 'is sound'}"
        return (
            f"its start names none of the sound ones of the manifest, and none was found where it runs: "
            f"{join_some(sound, _SHOWN)} "
            "健全なモデルは起動設定にも起動先にもなし (mount its folder there, or start the API as a process)"
        )

    def offer_formats(self, block: Workload, names: Iterable[str]) -> str:
        """Return what would have these models, and that served at the freeze, proven, in brackets; empty if nothing.

        That one need not have been judged: JSON is not, nor what no pattern of the block names.
        """
        served = sorted(name for name in {*self.before.names} & {*self.files} if not is_named_as_model(name))
        stored = {self.files[name].stored for name in (*names, *served) if name in self.files}
        judged = {each.stored: each for each in self.findings}
        others = [name for name in served if self.files[name].stored not in judged]
        unread = [each.stored for name, each in judged.items() if name in stored and each.reason == OTHER_FORMAT]
        unnamed = [escape(name) for name in others if not ends_with(name, block.models)]
        lines = [line_of_suffixes([*unread, *others], block.model_formats)]
        lines += [f"models = {json.dumps([*block.models, *unnamed], ensure_ascii=False)}"] if unnamed else []
        line = " and ".join(filter(None, lines))
        then = "saved, then recover; この形式を信頼するなら追記して recover"
        return f" (if you trust what reads it: {line} in the block, {then})" if line else ""

    def unsound(self, block: Workload, names: Iterable[str]) -> str:
        """Return why the served model is unproven, if one of these models is not sound; else empty."""
        models = self.models_of(names)
        why = {name: why_unsound(file.stored, file.sha256, self.findings) for name, file in models.items()}
        if not (reasons := ", ".join(f"{name} ({reason})" for name, reason in why.items() if reason)):
            return ""
        return f"which model it serves: it may be one that is not sound, {reasons}{self.offer_formats(block, names)}"

    def models_of(self, names: Iterable[str]) -> dict[str, StoredFile]:
        """Return the sealed files of these names that are models, not text beside one."""
        judged = {finding.sha256 for finding in self.findings if not goes_along(finding)}
        files = {name: file for name in names if (file := self.files.get(name))}
        return {name: file for name, file in files.items() if file.sha256 in judged or is_named_as_model(name)}

    def explain_other_model(self, digests: Collection[str]) -> str:
        """Return that these digests are not known to be what was served at the freeze; empty if a person has chosen.

        Where nobody knows what was served, and the block names none, each other sound model may have been it.
        """
        others = {file.sha256 for file in self.last.values()} - set(digests)
        known = self.before.contents & set(digests) if self.before.names else self.chosen or not others
        if self.named:
            return ""
        if known and (self.chosen or not self.before.undecided):
            if not self.before.doubt:
                return ""
            return f"{NOT_AS_BEFORE}: {self.before.doubt} {NAME_IT}"
        if not self.before.names:
            why = "which is not known 不明: nothing that was seen of it leads to a sealed model"
            return f"{NOT_AS_BEFORE}, {why} {NAME_IT}"
        cure = self.before.cure or "name the one that you want as model; 別のモデルは model で指定"
        return f"{NOT_AS_BEFORE}, {self.before.summary} ({cure})"

    def explain_opened(self, url: str, files: Mapping[str, StoredFile], altered: Sequence[str]) -> str:
        """Return why it is not known which of the opened models the API serves; empty if it is.

        Raises NotRecovered if that is none which it is to serve: one that is not as sealed, or not what was named.
        """
        wanted = {
            name for name, file in files.items() if not self.named or file.sha256 == self.last[self.chosen].sha256
        }
        others = [*(name for name in files if name not in wanted), *altered]
        if others and not wanted:
            raise failure(f"the API at {url} to open {self.chosen or 'a model as sealed'}", "; ".join(others))
        return f"which model it serves: it opened {' and '.join([*sorted(wanted), *others])}" if others else ""

    def explain_namesakes(
        self, path: str, base: str, shown: str, elsewhere: Iterable[str], changed: Collection[str] = ()
    ) -> str:
        """Return why a base name is ambiguous, else empty.

        Other files have it, sealed with another content or `changed`, or paths `elsewhere` that the API's start names.
        """
        others = {name for name, file in self.files.items() if file.sha256 != self.files[path].sha256}
        others = {*others, *changed} - {path}
        namesakes = sorted(name for name in others if basename(name) == base)
        namesakes += [f"{name}, which its start names" for name in elsewhere]
        return f"which model it serves: {shown!r} is {path}, or {' or '.join(namesakes)}" if namesakes else ""


def _cure(workload: Workload, suspects: Collection[ModelFinding], *, several: bool) -> str:
    """Return what lets a recovery continue, with the line for the block ready to paste."""
    cures = []
    if all(each.trust for each in suspects):
        names = sorted({name for each in suspects for name in each.trust} - set(workload.model_imports))
        line = json.dumps([*workload.model_imports, *names])
        cures.append(
            f"if you trust what it imports, model_imports = {line} in the block, saved; 自作なら model_imports に追加"
        )
    if several and workload.reload_path:
        cures.append("name the model in the API's own start, where it reads it: api_environment or api_command")
    if several:
        cures.append("take the file away; このファイルを移動してください")
    return "; or ".join(cures) or (
        "no rule of the block can allow it: only another model can be brought back, which a new incident seals; "
        "別のモデルで新しいインシデントとして撤収してください"
    )


def path_of(model: StoredFile) -> str:
    """Return the model's path as the workload knows it."""
    return unquote(model.source).decode(errors="backslashreplace")


def prove_served(  # noqa: PLR0913, PLR0917
    context: RunContext,
    api: Api,
    folder: ModelFolder,
    models: SealedModels,
    names: Sequence[str],
    opened: Opened,
    changed: Collection[str] = (),
) -> Served:
    """Have the API load the chosen model if it can, ask which one it serves, and compare with the manifest.

    `names` are those that it may have loaded at its start, `changed` others there that are not as sealed. Raises
    NotRecovered if the API serves none of the expected. One that names no model is proven by what it was seen to open,
    after the reload if it was asked for one.
    """
    block = context.workload
    if not (expected := models.find_expected(block, names)):
        context.state.opened.write([f"{name}{_ALTERED}" if name in changed else name for name in sorted(opened())])
        doubt = f"which model it serves{models.offer_formats(block, names)}"
        return Served(f"no known model: {models.explain_none_expected()}", "", (doubt,))
    paths = [path_of(file) for file in expected]
    unproven = []
    if reloads := models.reloads(block):
        opened()
        unproven.append(reload(api, paths[0], expected[0].sha256, folder))
        owners = context.adapters.host.owners(leads_to(block.api_address)[1])
        parents = {each.process.pid: each.process.parent for each in owners if each.process}
        if (workers := sum(parent in parents for parent in parents.values())) > 1:
            may_load = models.starting(block, context.state, folder, folder.list_names(models.files))
            if changed or any(file.sha256 != expected[0].sha256 for file in models.models_of(may_load).values()):
                unproven.append(f"that every worker reloaded it: one of {workers} was asked ({_RELOADS_ONE})")
    digests = {file.sha256: path for file, path in zip(expected, paths, strict=True)}
    if block.model_at:
        answer = api.ask("GET", block.health_path)
        name, silent = parse_model_name(answer, block.model_at)
        if not silent:
            path = find_served(name, paths, folder, answer.redact)
            if (sha256 := folder.digest(path)) not in digests:
                promise = f"the API at {api.url} to serve sha256 {expected[0].sha256}, as in the manifest"
                served = [each for each in models.files if folder.path_in_api(each) == path]
                got = f"{answer.redact(path)}: sha256 {sha256}{models.offer_formats(block, served)}"
                raise failure(promise, got)
            paths = [next((each for each in paths if folder.path_in_api(each) == path), digests[sha256])]
            digests = {sha256: paths[0]}
            known = [path_there for each in names for path_there in folder.paths(each)]
            elsewhere = map(answer.redact, find_named_elsewhere(folder.words, folder.root, name, known))
            unproven.append(models.explain_namesakes(paths[0], name, answer.redact(name), elsewhere, changed))
        else:
            unproven.append(f"which model it serves: {silent}")
    else:
        seen, altered = opened(), set[str]()
        files = models.models_of(sorted(seen.intersection(paths if reloads else names)))
        if not reloads:
            altered = {name for name in seen if name.endswith(_ALTERED)}
            altered |= {f"{name}{_ALTERED}" for name in seen.intersection(changed)}
            unproven.append(models.explain_opened(api.url, files, sorted(altered)))
        context.state.opened.write([*files, *altered])
        unproven.append(models.unsound(block, files or ([] if reloads else names)))
        paths, digests = [*files] or paths, {file.sha256: path for path, file in files.items()} or digests
        unproven.append("" if files else "which model it serves: it names none, and was not seen to open one")
    unproven.append(models.explain_other_model(digests))
    doubts = tuple(filter(None, unproven))
    sha256 = "" if doubts or len(digests) > 1 else next(iter(digests))
    if not doubts:
        context.log.write("model proven", " or ".join(paths), sha256=sha256 or sorted(digests))
    return Served(" or ".join(paths), sha256, doubts)


def reload(api: Api, path: str, sha256: str, folder: ModelFolder) -> str:
    """Have the API load one file of the models folder, by name only: /reload opens any path that it is given.

    Returns why that is not proven if the API refuses. Raises NotRecovered if the file differs from the manifest.
    """
    api_path = folder.path_in_api(path)
    if not api_path:
        raise failure(f"the model to be a file of the models folder of {api.url}", path)
    if (now := folder.digest(path)) != sha256:
        raise failure(f"{path} to have sha256 {sha256}, as in the manifest, for {api.url}", now)
    answer = api.ask("POST", api.block.reload_path, params={"path": api_path})
    return "" if answer.good else f"that it reloads {path}: {answer.summary}"


def parse_model_name(health: ApiResponse, pointer: str) -> tuple[str, str]:
    """Return the model that the API's answer names, or why it names none."""
    name = value_at(health.content, pointer) if health.good else None
    return (name, "") if isinstance(name, str) else ("", f"nothing at {pointer} (model_at) in {health.summary}")


def find_served(answer: str, expected: Sequence[str], folder: ModelFolder, shown: Callable[[str], str] = redact) -> str:
    """Return the file that the API named by path or base name; NotRecovered if it is not a file of the folder."""
    name = next((each for each in expected if answer == basename(each)), answer)
    path = folder.path_in_api(name)
    if not path:
        raise failure(f"the API to serve {expected[0]}, or another model of the workload", repr(shown(answer)))
    return path
