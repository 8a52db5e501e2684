"""What a file says of a workload is what its block would say, and what the block refuses freezes nothing."""

import pytest

from blocks.workload import Workload
from tasks.custody.description import one, place, recognisable, tables
from tasks.custody.errors import Refused

ROOT = {"root": "/srv/portfolio"}


def test_what_is_left_out_has_the_value_of_the_block() -> None:
    block = Workload(**ROOT)
    for field, value in recognisable(ROOT, block.host).items():
        assert value == (ROOT["root"] if field == "root" else getattr(block, field)), field


@pytest.mark.parametrize(
    "wrong", [{"root": "/"}, {"root": "srv"}, {"api_pattern": ""}, {"worker_pattern": "("}, {"training_pattern": ".*"}]
)
def test_what_the_block_refuses_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="expected"):
        recognisable(ROOT | wrong, "here")
    with pytest.raises(ValueError, match="expected"):
        Workload(**(ROOT | wrong))


def test_a_workload_without_a_root_is_refused() -> None:
    with pytest.raises(KeyError):
        recognisable({}, "here")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.toml", ("a.toml", "")),
        ("a.toml:b", ("a.toml", "b")),
        ("/x:y/a.toml", ("/x:y/a.toml", "")),
        ("name", ("name", "")),
        ("a:b", ("a:b", "")),
    ],
)
def test_a_file_and_the_name_in_it(text: str, found: tuple[str, str]) -> None:
    assert place(text) == found


def test_the_table_that_is_meant() -> None:
    found = tables("f", "[workload.a]\nx = 1\n[store.b]\ny = 2\n[store.c]\ny = 3")
    assert one(found, "workload", "f") == ("a", {"x": 1})
    assert one(found, "store", "f", "c") == ("c", {"y": 3})
    for name, words in (("", "got b, c"), ("a", "'a' of b, c")):
        with pytest.raises(Refused, match=words):
            one(found, "store", "f", name)


@pytest.mark.parametrize("text", ["", "workload = 1", "[workload]\nroot = '/srv/a'", "[other.a]", "["])
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="Start from examples"):
        tables("f", text)
