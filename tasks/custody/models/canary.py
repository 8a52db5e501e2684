"""Build the row of a test prediction from the columns in the API's /schema."""

from collections.abc import Mapping
from typing import Any, Final

_VALUES: Final[dict[str, Any]] = {"int": 0, "uint": 0, "bool": False} | dict.fromkeys(
    ("num", "float", "double", "decimal"), 0.0
)


def row_of(schema: Any) -> dict[str, Any]:
    """Return a value for each column: 0 or 0.0 for a number, False for a boolean, an empty text for anything else.

    Accepts {"required_columns": [...], "numeric_columns": [...]}, and three more shapes, also nested: {"features":
    ...}, a list of names, and names with types, plain ({"age": "number"}, or float64) or as in JSON Schema
    ({"properties": {"age": {"type": "number"}}}). Names without a type are numbers. Empty if the schema has no columns.
    """
    if isinstance(schema, list):
        return {name: 0.0 for name in schema if isinstance(name, str)}
    if not isinstance(schema, Mapping):
        return {}
    if isinstance(required := schema.get("required_columns"), list):
        numeric = schema.get("numeric_columns")
        numbers = row_of(numeric if isinstance(numeric, list) else required)
        return {name: numbers.get(name, "") for name in required if isinstance(name, str)}
    for wrapper in ("features", "properties", "columns"):
        if isinstance(schema.get(wrapper), list | Mapping):
            return row_of(schema[wrapper])
    return {str(name): _value(kind) for name, kind in schema.items()}


def _value(kind: Any) -> Any:
    if isinstance(kind, Mapping):
        if isinstance(choices := kind.get("enum"), list) and choices:
            return choices[0]
        kind = kind.get("type")
    if isinstance(kind, list):
        kind = next((each for each in kind if each != "null"), None)
    if kind is None:
        return 0.0
    return next((value for prefix, value in _VALUES.items() if str(kind).lower().startswith(prefix)), "")
