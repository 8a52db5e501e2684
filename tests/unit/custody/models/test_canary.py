"""The row that the API is asked to predict, from each shape in which it may tell its columns."""

from typing import Any

import pytest

from tasks.custody.models.canary import row_of


@pytest.mark.parametrize(
    ("schema", "row"),
    [
        ({"required_columns": ["age", "city", 7], "numeric_columns": ["age", "x"]}, {"age": 0.0, "city": ""}),
        ({"required_columns": ["age", "city"]}, {"age": 0.0, "city": 0.0}),
        ({"required_columns": ["age"], "numeric_columns": "age"}, {"age": 0.0}),
        (["age", 7, "city"], {"age": 0.0, "city": 0.0}),
        ({"features": ["age"]}, {"age": 0.0}),
        ({"columns": {"age": "int64", "fee": "Decimal", "on": "boolean"}}, {"age": 0, "fee": 0.0, "on": False}),
        ({"age": "float64", "n": "uint8", "city": "object", "d": "double"}, {"age": 0.0, "n": 0, "city": "", "d": 0.0}),
        ({"properties": {"age": {"type": "number"}, "n": {"type": "integer"}}}, {"age": 0.0, "n": 0}),
        (
            {"properties": {"a": {"type": ["null", "string"]}, "b": {"type": ["null"]}, "c": {}}},
            {"a": "", "b": 0.0, "c": 0.0},
        ),
        ({"properties": {"a": {"enum": ["x", "y"]}, "b": {"enum": [], "type": "string"}}}, {"a": "x", "b": ""}),
        ({"features": "age"}, {"features": ""}),
        ({"age": None}, {"age": 0.0}),
        ("age", {}),
        (None, {}),
    ],
)
def test_each_column_has_a_value_of_its_kind(schema: Any, row: dict[str, Any]) -> None:
    made = row_of(schema)
    assert made == row
    assert [type(value) for value in made.values()] == [type(value) for value in row.values()]
