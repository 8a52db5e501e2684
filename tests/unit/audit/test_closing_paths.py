"""Which manifest a closing's path means: only names that an evacuation gives its folders."""

import pytest

from tasks.custody.audit.records import volume_of


@pytest.mark.parametrize(
    ("path", "volume"),
    [
        ("evidence/manifest.json", 1),
        ("evidence.2/manifest.json", 2),
        ("evidence.10/manifest.json", 10),
        ("evidence.0/manifest.json", None),
        ("evidence.1/manifest.json", None),
        ("evidence.02/manifest.json", None),
        ("evidence.-2/manifest.json", None),
        ("evidence.2/manifest.json.sig", None),
        ("evidence.2", None),
        ("x/manifest.json", None),
    ],
)
def test_a_path_means_the_volume_whose_folder_has_that_name(path: str, volume: int | None) -> None:
    assert volume_of(path) == volume
