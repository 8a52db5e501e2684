"""Headers of a saved Secret block: what is none is refused, and nothing of it is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.custody.errors import Refused
from tasks.prefect_side.saved_blocks import headers_of, secret_headers


def test_they_are_the_json_of_a_mapping() -> None:
    assert headers_of("secret/a", '{"X-API-Key": "k 1", "token": ""}') == {"X-API-Key": "k 1", "token": ""}


def test_no_name_means_none_and_no_server_is_asked() -> None:
    assert secret_headers("") == {}


def test_a_file_is_read_without_a_server(tmp_path: Path) -> None:
    file = tmp_path / "house-headers.json"
    file.write_text('{"token": "S3cret"}\n')
    file.chmod(0o600)
    assert secret_headers(str(file)) == {"token": "S3cret"}


@pytest.mark.parametrize(("mode", "text"), [(0o644, '{"token": "S3cret"}'), (0o600, "S3cret"), (0o600, None)])
def test_a_file_that_others_read_that_is_none_or_no_headers_is_refused_and_not_shown(
    tmp_path: Path, mode: int, text: str | None
) -> None:
    file = tmp_path / "headers.json"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    link = tmp_path / "link-headers.json"
    link.symlink_to(file)
    for each in (file, link):
        with pytest.raises(Refused, match=str(each)) as refused:
            secret_headers(str(each))
        assert "S3cret" not in f"{refused.value!s}{refused.value!r}"


@pytest.mark.parametrize(
    "value",
    [
        "S3cret",
        '{"X-API-Key": "S3cret"',
        {"X-API-Key": "S3cret"},
        ["S3cret"],
        None,
        7,
        *map(
            json.dumps,
            (
                ["S3cret"],
                {"X-API-Key": 7, "token": "S3cret"},
                {"X-API-Key": "S3cret\r\nHost: evil"},
                {"X-API-Key": " S3cret"},
                {"X-API-Key": "S3cret\u00e9"},
                {"X API Key": "S3cret"},
                {"": "S3cret"},
            ),
        ),
    ],
)
def test_what_is_none_is_refused_and_not_shown(value: Any) -> None:
    with pytest.raises(Refused, match="secret/a") as refused:
        headers_of("secret/a", value)
    assert "S3cret" not in f"{refused.value!s}{refused.value!r}"
    assert refused.value.__cause__ is None
    assert ("does not hide" in str(refused.value)) == isinstance(value, dict)
