"""Folded names: every name is in the fold, and no other."""

import re
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from tasks.custody.fleet.host_end import HostEnd, Row
from tasks.custody.fleet.outcome_lines import fold, fold_names

NAMES = st.from_regex(r"[a-z]{1,2}(-?[0-9]{1,3})?(-[a-z])?", fullmatch=True)


def unfolded(text: str) -> Iterator[str]:
    """Read a fold as a person does."""
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,]*)?", text):
        match = re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", part)
        if not match:
            yield part
            continue
        for some in match[2].split(","):
            first, _, last = some.partition("-")
            for number in range(int(first), int(last or first) + 1):
                yield f"{match[1]}{number:0{len(first)}d}{match[3]}"


@given(st.lists(NAMES, unique=True))
def test_a_fold_has_each_name_once_and_no_other(names: list[str]) -> None:
    assert sorted(unfolded(fold_names(names))) == sorted(names)


def test_hosts_of_like_outcome_share_a_line() -> None:
    verified = [Row(f"gpu{number:03d}", end=HostEnd.VERIFIED) for number in range(1, 98)]
    silent = [Row(f"gpu{number:03d}", end=HostEnd.SILENT) for number in (98, 99, 100)]
    lines = fold([*silent, *verified])
    assert [(line.hosts, line.count, line.label) for line in lines] == [
        ("gpu[001-097]", 97, "Verified"),
        ("gpu[098-100]", 3, "Silent, never seen"),
    ]


@given(st.lists(st.tuples(NAMES, st.sampled_from([*HostEnd, None])), unique_by=lambda item: item[0]))
def test_no_host_is_lost_in_the_table(items: list[tuple[str, HostEnd | None]]) -> None:
    lines = fold([Row(name, end=end, doing="begun") for name, end in items])
    assert sorted(name for line in lines for name in unfolded(line.hosts)) == sorted(name for name, _ in items)
    assert sum(line.count for line in lines) == len(items)
