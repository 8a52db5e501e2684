"""Where a store is: a bucket or a folder, and nothing beside it that nobody would read."""

from pathlib import Path

import pytest

from blocks.store_fields import StoreFields


def test_a_folder_takes_no_prefix_and_a_bucket_does(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no prefix beside a folder; got 'team/a'.*Give folder='.*/team/a'"):
        StoreFields(folder=tmp_path, prefix="team/a")
    assert StoreFields(folder=tmp_path).place == str(tmp_path)
    assert StoreFields(bucket="evidence", prefix="team/a").place == "s3://evidence/team/a"
