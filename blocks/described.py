"""Describe the fields of a model by the docstrings below them, and say why a value is refused."""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema


def wrong_value(expected: str, got: str, remedy: str) -> ValueError:
    """Return the error for a value that no block may have."""
    return ValueError(f"expected {expected}; got {got}. Nothing was saved. {remedy}")


class Described(BaseModel):
    """A model whose fields are described, in forms and in what `init` writes, by the docstrings below them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema, with each description as one line."""
        for field in cls.model_fields.values():
            field.description = " ".join(field.description.split()) if field.description else None
        return handler(source)
