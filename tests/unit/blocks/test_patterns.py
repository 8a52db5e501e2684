"""What a block's glob patterns may be: below the root, and below that of a container where some are named."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from blocks.workload_fields import WorkloadFields

FIELDS = ["logs", "artifacts", "models"]


def described(field: str, pattern: str, **more: object) -> WorkloadFields:
    return WorkloadFields.model_validate({"root": Path("/srv/x"), field: [pattern], **more})


@pytest.mark.parametrize("field", FIELDS)
def test_a_pattern_from_the_root_of_a_container_needs_a_container_and_a_folder(field: str) -> None:
    named = {"containers": ["name=a"]}
    assert getattr(described(field, "/data/*/m.onnx", **named), field) == ["/data/*/m.onnx"]
    with pytest.raises(ValidationError, match="where containers are named"):
        described(field, "/data/*/m.onnx")
    for pattern in ("/m.onnx", "/**/m.onnx", "/*/m.onnx"):
        with pytest.raises(ValidationError, match="names a folder of the container first"):
            described(field, pattern, **named)
    with pytest.raises(ValidationError, match=r"without '\.\.'"):
        described(field, "/data/../etc/m", **named)


@pytest.mark.parametrize("pattern", ["/data/m.onnx", "../m.onnx", "a/../../m", ""])
def test_a_pattern_of_the_root_leads_nowhere_else(pattern: str) -> None:
    with pytest.raises(ValidationError, match="relative to the root"):
        described("models", pattern)
