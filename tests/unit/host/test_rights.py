"""Whether /proc hides processes from us, by its options and our rights."""

import pytest

from tasks.host.rights import hidden_by

PTRACE = 1 << 19
MOUNTS = """22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw,hidepid=invisible
23 22 0:40 / /proc/sys ro - proc proc rw
30 27 0:22 / /srv/proc rw - proc proc rw,hidepid=2
"""


def mounted(options: str) -> str:
    return f"{MOUNTS}40 22 0:41 / /proc rw,relatime - proc proc {options}\n"


@pytest.mark.parametrize(
    ("options", "hides"),
    [
        ("rw", ""),
        ("rw,hidepid=off", ""),
        ("rw,hidepid=0", ""),
        ("rw,hidepid=1", "hidepid=1"),
        ("rw,hidepid=noaccess", "hidepid=noaccess"),
        ("rw,gid=27,hidepid=invisible", "hidepid=invisible"),
        ("rw,gid=1000,hidepid=invisible", ""),
        ("rw,gid=1000,hidepid=ptraceable", "hidepid=ptraceable"),
        ("rw,gid=1000,hidepid=4", "hidepid=4"),
    ],
)
def test_options_of_the_last_mount_and_our_groups_decide(options: str, hides: str) -> None:
    assert hidden_by(mounted(options), 0, {1000, 1001}) == hides
    assert hidden_by(mounted(options), PTRACE, {1000, 1001}) == ""


def test_the_group_is_roots_unless_the_option_names_another() -> None:
    assert hidden_by(mounted("rw,hidepid=2"), ~PTRACE, {0}) == ""
    assert hidden_by(mounted("rw,hidepid=2,gid=27"), ~PTRACE, {0}) == "hidepid=2"
    assert hidden_by("", 0, {1000}) == ""
