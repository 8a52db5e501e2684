"""Read blocks that people make in the forms of Prefect's UI, which save empty values for fields that nobody filled."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import HttpUrl, ValidationError

from tasks.custody.incident.description import EMPTY

if TYPE_CHECKING:
    from prefect.blocks.core import Block as _Block
else:
    _Block = object


def logo(emoji: str) -> HttpUrl:
    """Return the address of an emoji, by its code point, as the UI shows it beside a block."""
    return HttpUrl(f"https://cdn.jsdelivr.net/gh/jdecked/twemoji@15.1.0/assets/svg/{emoji}.svg")


class FormMade(_Block):
    """Mixin before Block: what nobody gave in a form is left out, as in a file.

    That is an empty value which its field refuses, as "" for a pattern, and {} in the place of a block.
    """

    @classmethod
    def _list_required(cls) -> list[str]:
        """Return the fields that a form must ask for. No server knows a default that each machine finds for itself."""
        return [name for name, field in cls.model_fields.items() if field.is_required() or field.default_factory]

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema, by which the UI makes the form."""
        required = cls._list_required()
        return super().model_json_schema(*args, **kwargs) | ({"required": required} if required else {})

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Validate the fields of a saved block. Raises ValidationError."""
        if not isinstance(obj, Mapping):
            return super().model_validate(obj, **options)
        types = {name: field.annotation for name, field in cls.model_fields.items()}
        blocks = {name for name, kind in types.items() if cls.annotation_refers_to_block_class(kind)}
        fields = {name: value for name, value in obj.items() if value != {} or name not in blocks}
        try:
            block = super().model_validate(fields, **options)
        except ValidationError as error:
            before, fields = fields, _without_empty(fields, [each["loc"] for each in error.errors()])
            if fields == before:
                raise
            block = super().model_validate(fields, **options)
        if missing := [name for name in cls._list_required() if name not in fields]:
            errors: Any = [{"type": "missing", "loc": (name,), "input": None} for name in missing]
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return block


def _without_empty(fields: Mapping[str, Any], places: Sequence[tuple[int | str, ...]]) -> dict[str, Any]:
    """Return the fields without the empty values at these places, and on the way to them."""
    result = dict[str, Any]()
    for name, value in fields.items():
        beyond = [place[1:] for place in places if place[:1] == (name,)]
        if not beyond or value not in EMPTY:
            result[name] = _without_empty(value, beyond) if beyond and isinstance(value, Mapping) else value
    return result
