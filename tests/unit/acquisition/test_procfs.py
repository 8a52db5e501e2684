"""The kernel's tables as data: each table as it stands in the kernel's documentation, and hostile lines."""

import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.acquisition.procfs import limits, printable, signal_names, signals, summarize_maps
from tasks.collectors.sockets import Socket, address, inet
from tasks.system.unix_sockets import inode_of

MAPS = """\
00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/a program
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/a program
00e03000-00e24000 rw-p 00000000 00:00 0           [heap]
35b1800000-35b1820000 r-xp 00000000 08:02 135522  /usr/lib/gone.so (deleted)
7f0000000000-7f0000001000 rw-p 00000000 00:00 0
"""
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1677 1 0 100 0 0 10 0
   1: 0100007F:1F90 0200007F:0016 01 00000000:00000000 00:00000000 00000000     0        0 1678 1 0 100 0 0 10 0
"""


def test_the_signals_of_a_mask_have_names() -> None:
    assert signal_names(0) == []
    assert signal_names(1 << 1 | 1 << 14) == ["SIGINT", "SIGTERM"]
    assert signal_names(1 << 63) == ["SIGRTMAX"]
    assert signal_names(1 << 31) == ["32"]
    assert signal_names(1 << 34) == ["SIGRTMIN+1"]


@given(st.sets(st.sampled_from(list(signal.Signals))))
def test_no_signal_of_a_mask_is_lost(chosen: set[signal.Signals]) -> None:
    assert set(signal_names(sum(1 << (number - 1) for number in chosen))) == {number.name for number in chosen}


def test_pending_blocked_ignored_and_caught_are_told_both_ways() -> None:
    told = signals("Name:\tx\nSigQ:\t1/2\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001000\n")
    assert told == {
        "queued": "1/2",
        "SigBlk": {"mask": "0000000000000002", "names": ["SIGINT"]},
        "SigIgn": {"mask": "0000000000001000", "names": ["SIGPIPE"]},
    }


def test_limits_are_told_by_name() -> None:
    told = limits(Path("/proc/self/limits").read_text())
    assert told["Max open files"]["unit"] == "files"
    assert told["Max nice priority"]["unit"] == ""
    assert len(told) == 16


def test_mappings_are_summed_up_by_file_and_a_deleted_one_says_so() -> None:
    assert summarize_maps(MAPS) == [
        {"path": "/usr/bin/a program", "bytes": 0x53000, "mappings": 2, "deleted": False},
        {"path": "[heap]", "bytes": 0x21000, "mappings": 1, "deleted": False},
        {"path": "/usr/lib/gone.so", "bytes": 0x20000, "mappings": 1, "deleted": True},
        {"path": "[anonymous]", "bytes": 0x1000, "mappings": 1, "deleted": False},
    ]


def test_a_files_name_cannot_break_the_table() -> None:
    assert [one["path"] for one in summarize_maps("0-1 r-xp 0 0:0 1 /a\x1cb\x85c\n")] == ["/a\x1cb\x85c"]


def test_what_is_mapped_adds_up_to_the_whole_of_the_process() -> None:
    table = Path("/proc/self/maps").read_text()
    spans = [line.split()[0].split("-") for line in table.splitlines()]
    assert sum(one["bytes"] for one in summarize_maps(table)) == sum(
        int(last, 16) - int(first, 16) for first, last in spans
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0100007F:1F90", "127.0.0.1:8080"),
        ("00000000:0000", "0.0.0.0:0"),
        ("00000000000000000000000001000000:0016", "[::1]:22"),
        ("B80D01200000000067452301EFCDAB89:01BB", "[2001:db8::123:4567:89ab:cdef]:443"),
    ],
)
def test_an_address_is_shown_as_people_write_it(text: str, shown: str) -> None:
    assert address(text) == shown


def test_sockets_are_told_by_inode_with_state_and_peer() -> None:
    assert inet("tcp", TCP) == {
        1677: Socket("tcp", "listening", "127.0.0.1:8080", "0.0.0.0:0"),
        1678: Socket("tcp", "established", "127.0.0.1:8080", "127.0.0.2:22"),
    }
    assert inet("udp", TCP.replace(" 0A ", " 07 "))[1677].state == "unconnected"


def test_only_a_socket_has_an_inode_among_sockets() -> None:
    assert [inode_of(link) for link in ("socket:[17]", "pipe:[17]", "/a socket:[17]", "/dev/null")] == [17, None] + [
        None
    ] * 2


@given(st.lists(st.text(max_size=20)))
def test_no_words_can_break_a_line_or_colour_it(words: list[str]) -> None:
    assert printable(words).isprintable()
    assert len(printable(words)) == len(" ".join(words))
