"""Describe the fields of a model by the docstrings below them, and say why a value is refused."""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema


def wrong_value(expected: str, got: str, remedy: str) -> ValueError:
    """Return the error for a value that no block may have."""
    return ValueError(f"expected {expected}; got {got}. Nothing was saved. {remedy}")


@cache
def _descriptions(model: type) -> dict[str, str]:
    """Return the docstrings below a model's own fields, each as one line; none where its source is not there.

    What pydantic does for `use_attribute_docstrings` takes several times as long, whenever a process starts.
    """
    try:
        module = ast.parse(inspect.getsource(sys.modules[model.__module__]))
    except OSError:
        return {}
    found = dict[str, str]()
    for each in (each for each in module.body if isinstance(each, ast.ClassDef) and each.name == model.__name__):
        for pair in pairwise(each.body):
            match pair:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


class Described(BaseModel):
    """A model whose fields are described, in forms and in what `init` writes, by the docstrings below them."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema, with the descriptions."""
        for name, description in _descriptions(cls).items():
            cls.model_fields[name].description = description
        return handler(source)
