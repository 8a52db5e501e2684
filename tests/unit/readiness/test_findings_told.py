"""How findings are told in a terminal."""

from tasks.custody.incident.readiness import Readiness, fatal, loss, sound
from tasks.readiness.report import lines


def test_what_several_checks_in_a_row_found_is_told_once_with_their_names() -> None:
    silent = loss("not looked at: no server", "it may be broken", "name one")
    found = [sound("fine").of("host", "disk"), sound("fine").of("host", "lock")]
    found += [silent.of("prefect", each) for each in ("saved", "queue", "worker")]
    found += [
        fatal("not looked at: no server", "it may be broken", "name one").of("people", "drill"),
        silent.of("x", "y"),
    ]
    told = [line.split() for line in lines(Readiness(tuple(found)))]
    assert [words[1] for words in told if words[0] in "●◐○"] == [
        "host/disk",
        "host/lock",
        "prefect/saved",
        "people/drill",
        "x/y",
    ]
    assert [words for words in told if words[:2] == ["so", "also"]] == [
        ["so", "also", "prefect/queue,", "prefect/worker"]
    ]
    assert [words[0] for words in told].count("cure") == 3
    assert told[-1][:3] == ["NotReady:", "7", "checks,"]
