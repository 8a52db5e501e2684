"""Check whose incident it is: all its documents are of one host and workload, and persons add nothing to a host's."""

from collections.abc import Collection, Iterator, Mapping

from tasks.custody.audit.finding import AuditFinding, broken, note, printable
from tasks.custody.audit.layout import Layout
from tasks.custody.audit.records import RecordOf
from tasks.custody.incident.incident import Origin
from tasks.custody.incident.verdict import Word
from tasks.custody.store.manifest import Manifest

_WORDS = tuple(Word)


def origin_of(records: Mapping[int, RecordOf], manifests: Mapping[int, Manifest]) -> Origin:
    """Return whose incident it is: as its last closing says, else its last manifest; empty if there is neither."""
    origins = [each.closing.origin for _, each in sorted(records.items()) if each.closing]
    return (origins or [each.origin for _, each in sorted(manifests.items())] or [Origin()])[-1]


def origins_agree(
    layout: Layout, records: Mapping[int, RecordOf], manifests: Mapping[int, Manifest]
) -> Iterator[AuditFinding]:
    """Yield a finding for each document of another host or workload, a note for one that was made for another place."""
    ours = origin_of(records, manifests)
    of_manifests = {layout.manifest(volume): each.origin for volume, each in manifests.items()}
    of_closings = {layout.closing(number): each.closing.origin for number, each in records.items() if each.closing}
    for key, origin in {**of_manifests, **of_closings}.items():
        if (origin.host, origin.workload) != (ours.host, ours.workload):
            yield broken(key, "it is of another host or workload than the last closing", _whose(ours), _whose(origin))
        elif origin.place != ours.place:
            yield note(key, "it was made for another place", printable(ours.place), printable(origin.place))


def people_hold(layout: Layout, records: Mapping[int, RecordOf], by_people: Collection[str]) -> Iterator[AuditFinding]:
    """Yield a finding for each document that persons have signed and that says more than the host's last closing.

    They finish a postmortem, or release; what was collected and how it ended is the host's word.
    """
    for key in sorted({*by_people} & {*map(layout.manifest, layout.volumes)}):
        yield broken(key, "persons have signed it, and only its host may", "evacuation@HOST", "people@…")
    last = None
    for number, each in sorted(records.items()):
        if each.closing is None:
            continue
        if layout.closing(number) not in by_people:
            last = each.closing
        elif last is None or _adds(last.verdict, each.closing.verdict, last.manifests, each.closing.manifests):
            what = "persons have signed it, and it says more than the host's last closing"
            expected = f"{last.verdict} or worse, and no other manifest" if last else "a closing of the host before it"
            yield broken(layout.closing(number), what, expected, each.closing.verdict)


def _adds(word: Word, then: Word, manifests: Mapping[str, str], later: Mapping[str, str]) -> bool:
    return _WORDS.index(then) < _WORDS.index(word) or not later.items() <= manifests.items()


def _whose(origin: Origin) -> str:
    return printable(f"{origin.workload} on {origin.host}", 120)
