"""Ten faults of the changelog's "Fixed", each as the small change that puts it back: they measure the search."""

import importlib
import inspect
import textwrap
from dataclasses import dataclass
from types import CodeType
from typing import Any


@dataclass(frozen=True)
class Fault:
    """A fault that was mended: what the changelog says, and which words of a function the mend has put there."""

    said: str
    where: str
    mended: str
    broken: str

    def put_back(self) -> None:
        """Put it back in this process, for good."""
        self.function.__code__ = self.broken_code

    @property
    def broken_code(self) -> CodeType:
        """The function's code with it. Raises LookupError if the function has no such words any more."""
        function = self.function
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.mended) != 1:
            raise LookupError(f"expected {self.mended!r} once in {self.where}; write this fault anew")
        made: dict[str, Any] = {}
        exec(compile(source.replace(self.mended, self.broken), self.where, "exec"), function.__globals__, made)  # noqa: S102
        changed = made[function.__name__]
        code: CodeType = getattr(changed, "fget", changed).__code__
        return code

    @property
    def function(self) -> Any:
        """The function that it is in; of a property its getter, of a step its body."""
        module, _, name = self.where.partition(":")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return getattr(found, "fget", found)


FAULTS = {
    "restart": Fault(
        "A service that had started the workload and waits to start it again contradicts containment",
        "tasks.host.starter:units",
        'waits = name in started and sub.startswith("auto-restart")',
        "waits = False",
    ),
    "announced": Fault(
        "A process that a run was stopping when it was killed is no longer told as ended by itself by the next run",
        "tasks.containment.stop:StopTarget.signals",
        "(*self.announced, *self.sent)",
        "(*self.sent,)",
    ),
    "grace": Fault(
        "A run that is killed in the grace no longer leaves the workload running under a standing cordon",
        "tasks.guard.__main__:Guard._in_hand",
        "run_lives=partial(at_work, Path(self.orders.evidence))",
        "run_lives=lambda: True",
    ),
    "claim": Fault(
        "A host whose claim the store refused wrote its record into the other's incident",
        "tasks.record.write:_send",
        "claim_object = claim(context.store, context.incident, context.state)\n"
        "    files = [each for each in _list_objects(records, incident) if each[0] not in context.proven_records]",
        "files = [each for each in _list_objects(records, incident) if each[0] not in context.proven_records]\n"
        "    key, path = files[0]\n"
        "    claim_object = one_object(key, path.stat().st_size, digest(path))",
    ),
    "leftover": Fault(
        "What a killed attempt had moved into a supplement's folder was never sealed if the next run found nothing",
        "tasks.evidence.seal:volumes_to_seal",
        "fresh = fresh or any(any(_names(folder)) for folder in _places(directory, own))",
        "pass",
    ),
    "copy": Fault(
        "A copy that was gone from the evidence folder before the seal was left out of the manifest without a word",
        "tasks.evidence.seal:_files",
        "if name not in found:",
        "if False:",
    ),
    "promotion": Fault(
        "A promotion that the store did not allow was cached as done",
        "tasks.latest.promote:_build_unchanged",
        ", again=again)",
        ")",
    ),
    "unknown": Fault(
        "What is in the root and proven harmless by nothing was told in a note under Verified",
        "tasks.custody.incident.verdict:judge",
        "    elif unknown:\n        word = Word.UNANSWERED\n",
        "",
    ),
    "unsent": Fault(
        "An incident whose last run ended Unverified because the store did not get its record is carried on",
        "tasks.incident.last_word:is_finished",
        "_is_sent(home)",
        "True",
    ),
    "stood": Fault(
        "A process that a person had stopped before stays stopped",
        "tasks.containment.freeze:halt",
        'stood=process.state == "T" and before is None',
        "stood=False",
    ),
}
