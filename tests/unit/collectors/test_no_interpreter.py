"""Where the block's interpreter is not there, the reason names the field."""

from pathlib import Path

import pytest

from tasks.acquisition.collector import NothingThere
from tasks.collectors import interpreter, packages
from tests.unit.acquisition.test_acquire import target


@pytest.mark.parametrize("collector", [interpreter, packages])
def test_the_reason_names_the_field_to_set(tmp_path: Path, collector: object) -> None:
    with pytest.raises(NothingThere, match=r"venv.*: set `interpreter` in the workload block"):
        collector.make(target(tmp_path))  # type: ignore[attr-defined]
