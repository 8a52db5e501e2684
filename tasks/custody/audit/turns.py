"""Check that each transaction of latest/ by an incident is named by one of its records."""

from collections.abc import Collection, Iterator

from tasks.custody.audit.finding import AuditFinding, broken, note, printable, unclear
from tasks.custody.evidence.keys import begun_key
from tasks.custody.store.latest import LatestTransaction


def turns_hold(incident: str, named: Collection[str], turns: Collection[LatestTransaction]) -> Iterator[AuditFinding]:
    """Yield findings on transactions. `named` are the keys that records name, `turns` all readable transactions."""
    carried_on = {each.carries_on for each in turns if begun_key(each.number) in named}
    numbers = {each.number for each in turns if each.incident == incident}
    for turn in turns:
        key = begun_key(turn.number)
        if key in named and turn.incident != incident:
            yield broken(key, "it is a turn of another incident", incident, printable(turn.incident, 80))
        elif turn.number in numbers and turn.number in carried_on:
            yield note(key, "the run that began this turn died, and a later one has carried it on")
        elif turn.number in numbers and key not in named:
            what = "no record tells of this turn of latest/: its run died, or it was put there"
            yield unclear(key, what, "a record of it", turn.summary)
        elif turn.lowered == incident:
            yield note(key, f"it no longer keeps others out of latest/, lowered by {printable(turn.by, 200)}")
        elif turn.undoes and any(number >= turn.undoes for number in numbers):
            what = f"latest/ was brought back to what it was before turn {turn.undoes}"
            yield note(key, f"{what}, by {printable(turn.by, 200)}")
