"""The line on the evidence names the store as far as it was proven there, as the message above it says."""

import pytest

from flows.command.by_hand import describe_stored

PLACE = "s3://bucket/incidents/IR-1"


@pytest.mark.parametrize(
    ("proven", "line"),
    [
        ([], f"; nothing of it is proven to be in {PLACE} 保全先は未確認"),
        ([False, False], f"; nothing of it is proven to be in {PLACE} 保全先は未確認"),
        ([True, True], f", and {PLACE} 保全先"),
        ([True, False], f", and {PLACE} 保全先 (1 of 2 objects proven)"),
    ],
)
def test_a_place_stands_alone_only_if_everything_is_proven_there(proven: list[bool], line: str) -> None:
    """After Ctrl-C the screen said "not sent", and a line below where in the store it was."""
    assert describe_stored(PLACE, [{"proven": each, "beside": ""} for each in proven]) == line
    assert describe_stored(PLACE, [{"proven": False, "beside": "x" * each} for each in proven]) == line
